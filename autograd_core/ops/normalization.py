"""Normalisation over batches, layers, groups and roots of squares; softmax."""
