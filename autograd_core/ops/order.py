"""Sorting and searching: sort, topk, median, unique, searchsorted."""
