"""Matrix functions: solve, inverse, factorisations; LAPACK through NumPy and SciPy."""
