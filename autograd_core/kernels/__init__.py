"""Kernels in machine code: arrays and integers only, nothing about tensors. How to write one: ``README.md`` beside."""
