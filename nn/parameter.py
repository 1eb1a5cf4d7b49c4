"""Parameters and buffers: the tensors that a `Module` finds by itself when they are assigned to an attribute."""

from __future__ import annotations

import numpy as np

from autograd_core import Tensor
from autograd_core.convert import as_array
from autograd_core.shapes import as_shape, numpy_dtype


def check_device(device) -> None:
    """Raise unless ``device`` names the CPU, the only device there is; None does too."""
    kind = getattr(device, "type", device)
    if kind is not None and not (isinstance(kind, str) and kind.split(":")[0] == "cpu"):
        raise RuntimeError(f"device: got {device!r}, the only device is 'cpu'")


def empty(shape, device=None, dtype=None) -> Tensor:
    """A tensor of ``shape`` whose values are whatever lies in memory."""
    check_device(device)
    out = object.__new__(Tensor)
    sizes = as_shape(tuple(shape)) if shape != () else ()
    if any(n < 0 for n in sizes):
        raise RuntimeError(f"sizes of a parameter must not be negative, got {list(sizes)}")
    out.array = np.empty(sizes, numpy_dtype(dtype))
    return out


class Parameter(Tensor):
    """A tensor to be trained: assigned to an attribute of a `Module`, it shows up in `Module.parameters`.

    It shares the memory of ``data``; ``requires_grad`` says whether it gets a gradient (default: yes).
    """

    def __init__(self, data=None, requires_grad=True):
        self.array = np.empty(0, numpy_dtype(None)) if data is None else as_array(data)
        if requires_grad:
            self.requires_grad_()

    def __repr__(self):
        return "Parameter containing:\n" + super().__repr__()


class Buffer(Tensor):
    """A tensor that belongs to a `Module`'s state without being trained, such as a running mean.

    A buffer that is not ``persistent`` stays out of the ``state_dict``.
    """

    def __init__(self, data=None, *, persistent=True):
        self.array = np.empty(0, numpy_dtype(None)) if data is None else as_array(data)
        self.persistent = persistent

    def __repr__(self):
        return "Buffer containing:\n" + super().__repr__()


class _Uninitialized:
    """What lazy parameters and buffers share: no shape until ``materialize``."""

    _becomes: type
    array: np.ndarray

    def materialize(self, shape, device=None, dtype=None) -> None:
        """Give the tensor ``shape`` (and ``dtype``); its values are not set."""
        self.array = empty(shape, device, self.array.dtype if dtype is None else dtype).array
        self.__class__ = self._becomes

    @property
    def shape(self):
        """Not known yet: reading it is an error."""
        raise RuntimeError("an uninitialized parameter or buffer has no shape yet; call the module on a batch first, "
                           "so that it can infer its sizes")  # fmt: skip

    def __repr__(self):
        return f"<{type(self).__name__}>"

    def __deepcopy__(self, memo):
        made = object.__new__(type(self))
        made.__dict__.update(self.__dict__, array=self.array.copy())
        memo[id(self)] = made
        return made


class UninitializedParameter(_Uninitialized, Parameter):
    """A parameter whose shape a lazy module fills in at its first call."""

    _becomes = Parameter

    def __init__(self, requires_grad=True, device=None, dtype=None):
        super().__init__(empty((0,), device, dtype), requires_grad)


class UninitializedBuffer(_Uninitialized, Tensor):
    """A buffer whose shape a lazy module fills in at its first call."""

    _becomes = Tensor

    def __init__(self, requires_grad=False, device=None, dtype=None):
        super().__init__(empty((0,), device, dtype), None, requires_grad)


def is_lazy(tensor) -> bool:
    """Whether ``tensor`` still waits for its shape."""
    return isinstance(tensor, _Uninitialized)


def new_parameter(*shape, device=None, dtype=None) -> Parameter:
    """A parameter of ``shape`` whose values are still to be set."""
    return Parameter(empty(shape, device, dtype))


def add_parameters(module, shapes, *, weight=True, bias=True, device=None, dtype=None) -> None:
    """Register a parameter for every name in ``shapes``; None for a ``weight`` or ``bias`` that is switched off."""
    off = {"weight": not weight, "bias": not bias}
    for name, shape in shapes.items():
        value = None if off.get(name) else new_parameter(*shape, device=device, dtype=dtype)
        module.register_parameter(name, value)
