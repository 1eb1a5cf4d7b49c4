"""Activation functions: relu and its relatives."""
