"""Imports that are watched: modules under PyTorch's names, and einops, which is told about Tensors.

``import autograd_core.nn as nn`` gives `nn` itself (not a copy of it), ``autograd_core.utils.data`` is `nn.data`, and
so on. einops looks for a backend among the subclasses of its `AbstractBackend`, before it touches the tensor; so ours
must stand there by then, and must not import einops itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import ModuleSpec

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


PLACES = {"nn": "nn", "optim": "optim", "utils.data": "nn.data"}
"""Where a module of ``autograd_core`` stands in truth; `namespaces` makes the others that are no files."""


class _Elsewhere:
    """The loader of a module that is another one."""

    def __init__(self, name: str):
        self.name = name

    def create_module(self, spec):
        """None: the machinery makes a module, which is replaced."""

    def exec_module(self, module):
        """Put the other module in its place."""
        found = import_module(self.name)
        if self.name != "autograd_core.namespaces":
            sys.modules[module.__name__] = found
        elif sys.modules[module.__name__] is module:
            raise ModuleNotFoundError(f"No module named {module.__name__!r}", name=module.__name__)


def _spec(fullname, place):
    return ModuleSpec(fullname, _Elsewhere(place))  # type: ignore[arg-type]  # a loader by its methods


class _Watch:
    """Finds the modules of `PLACES` and `namespaces`, and adds our backend to einops' when they are imported."""

    def find_spec(self, fullname, path=None, target=None):
        """The spec of a module that is watched; None for everything else."""
        package, _, rest = fullname.partition(".")
        if package == "autograd_core":
            return self._own(fullname, rest)
        return self._einops(fullname) if fullname == BACKENDS else None

    def _own(self, fullname, rest):
        for known, place in PLACES.items():
            if rest == known or rest.startswith(known + "."):
                return _spec(fullname, place + rest[len(known) :])
        first = rest.partition(".")[0]
        return _spec(fullname, "autograd_core.namespaces") if first in MADE else None

    def _einops(self, fullname):
        from importlib.util import find_spec

        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        sys.meta_path.insert(0, self)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            register(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


MADE = {"accelerator", "amp", "autograd", "backends", "cuda", "mps", "random", "utils", "xpu"}


def watch() -> None:
    """Look at every import from now on, and at einops now if it is loaded."""
    if BACKENDS in sys.modules:
        register(sys.modules[BACKENDS])
    sys.meta_path.insert(0, _Watch())


def register(backends) -> None:
    """Define our backend as a subclass of einops' own; that it exists is all that einops asks for."""
    _alive.append(type("Backend", (_Backend, backends.AbstractBackend), {}))


_alive: list[type] = []  # a class knows its subclasses by weak references
