"""The functions of neural networks, with PyTorch's names and signatures. Use it as ``import nn.functional as F``.

Nothing is written here: the functions are the records of ``autograd_core.ops`` whose namespace is ``nn.functional``,
those of the main namespace that PyTorch shows here too, and in-place forms of activations. ``__all__`` lists them.
"""

from __future__ import annotations

from autograd_core.inplace import in_place
from autograd_core.registry import namespace

_SHARED = ("sigmoid", "tanh")
_IN_PLACE = ("celu", "elu", "hardtanh", "leaky_relu", "relu", "rrelu", "selu", "threshold")

_main = namespace("")
_functions = {name: _main[name] for name in _SHARED} | namespace("nn.functional")
_functions |= {f"{name}_": in_place(_functions[name], name) for name in _IN_PLACE}
globals().update(_functions)

__all__ = sorted(_functions)  # noqa: PLE0605 (the names are those of the registry)
