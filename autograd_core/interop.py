"""einops on Tensors: when einops is imported, before or after this package, it is told about them.

einops looks for a backend among the subclasses of its `AbstractBackend`, before it touches the tensor; so ours must
stand there by then, and must not import einops itself.
"""

from __future__ import annotations

import sys

from . import ops
from .tensor import Tensor

BACKENDS = "einops._backends"


class _Backend:
    """What einops asks of a backend."""

    framework_name = "autograd_core"

    def is_appropriate_type(self, tensor):
        return isinstance(tensor, Tensor)

    def from_numpy(self, x):
        return Tensor(x, requires_grad=x.dtype.kind == "f")

    def to_numpy(self, x):
        return x.detach().numpy()

    def arange(self, start, stop):
        return ops.arange(start, stop)

    def transpose(self, x, axes):
        return ops.permute(x, tuple(axes))

    def reduce(self, x, operation, axes):
        operation = {"min": "amin", "max": "amax"}.get(operation, operation)
        if operation == "prod":
            for axis in sorted(axes, reverse=True):
                x = ops.prod(x, axis)
            return x
        return getattr(ops, operation)(x, tuple(axes))

    def stack_on_zeroth_dimension(self, tensors):
        return ops.stack(tensors)

    def add_axis(self, x, new_position):
        return ops.unsqueeze(x, new_position)

    def tile(self, x, repeats):
        return ops.tile(x, tuple(repeats))

    def concat(self, tensors, axis):
        return ops.cat(tensors, axis)

    def is_float_type(self, x):
        return x.is_floating_point()

    def einsum(self, pattern, *x):
        return ops.einsum(pattern, *x)


class _Watch:
    """Lets the import of einops' backends pass, and adds ours when it is done."""

    def find_spec(self, fullname, path=None, target=None):
        """The spec of ``einops._backends``, whose loader then calls `register`; None for everything else."""
        if fullname != BACKENDS:
            return None
        from importlib.util import find_spec

        sys.meta_path.remove(self)  # type: ignore[arg-type]
        spec = find_spec(fullname)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            register(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def watch() -> None:
    """Register with einops now if it is loaded, else when it is."""
    if BACKENDS in sys.modules:
        register(sys.modules[BACKENDS])
    else:
        sys.meta_path.insert(0, _Watch())  # type: ignore[arg-type]


def register(backends) -> None:
    """Define our backend as a subclass of einops' own; that it exists is all that einops asks for."""
    _alive.append(type("Backend", (_Backend, backends.AbstractBackend), {}))


_alive: list[type] = []  # a class knows its subclasses by weak references
