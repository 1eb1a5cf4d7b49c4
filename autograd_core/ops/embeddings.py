"""Rows of a table, and sums over bags of them."""
