"""Special functions, with SciPy behind them; their gradients are ours."""
