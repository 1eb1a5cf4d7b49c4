"""Fourier transforms with real results."""
