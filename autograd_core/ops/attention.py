"""Scaled dot-product attention and its multi-head form."""
