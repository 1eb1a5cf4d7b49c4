"""New tensors: zeros, arange, linspace, triangles of indices; windows of signal processing."""
