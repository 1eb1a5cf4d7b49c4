"""Draws from a counter-based generator."""
