"""Convolutions in one, two and three dimensions, and their transposes."""
