"""Pooling: largest, mean, adaptive, fractional; and unpooling."""
