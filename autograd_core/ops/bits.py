"""Integers and bits: and, or, shifts, gcd, bincount."""
