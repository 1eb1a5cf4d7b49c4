"""Grids of pixels: interpolation, grid_sample, pixel shuffles, padding, fold and unfold."""
