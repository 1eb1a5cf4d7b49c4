"""What a Tensor can do besides its operations: operators, conversions, new_* and NumPy's protocols."""
