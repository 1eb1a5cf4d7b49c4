"""Padding: borders of a constant, or of values from inside."""

from __future__ import annotations

from . import functional as F
from .module import Module


class _Pad(Module):
    """Pads the last dimensions by one size for all sides, or (before, after) pairs, last dimension first."""

    _dims = 0
    _mode = ""

    def __init__(self, padding):
        super().__init__()
        self.padding = tuple(padding) if isinstance(padding, (tuple, list)) else (padding,) * (2 * self._dims)

    def forward(self, input):
        """Pad."""
        if input.ndim not in (self._dims + 1, self._dims + 2):
            raise ValueError(f"{type(self).__name__}: expected {self._dims + 1}D or {self._dims + 2}D input "
                             f"(got {input.ndim}D input of shape {list(input.shape)})")  # fmt: skip
        return F.pad(input, self.padding, self._mode)

    def extra_repr(self):
        """The sizes."""
        return f"{self.padding}"


class _ConstantPad(_Pad):
    def __init__(self, padding, value):
        super().__init__(padding)
        self.value = value

    def forward(self, input):
        """Pad with the value."""
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self):
        """The sizes and the value."""
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A border of ``value`` around the last dimension."""

    _dims = 1


class ConstantPad2d(_ConstantPad):
    """A border of ``value`` around the last two dimensions."""

    _dims = 2


class ConstantPad3d(_ConstantPad):
    """A border of ``value`` around the last three dimensions."""

    _dims = 3


class _ZeroPad(_ConstantPad):
    def __init__(self, padding):
        super().__init__(padding, 0.0)

    extra_repr = _Pad.extra_repr


class ZeroPad1d(_ZeroPad, ConstantPad1d):
    """A border of zeros around the last dimension."""


class ZeroPad2d(_ZeroPad, ConstantPad2d):
    """A border of zeros around the last two dimensions."""


class ZeroPad3d(_ZeroPad, ConstantPad3d):
    """A border of zeros around the last three dimensions."""


class ReflectionPad1d(_Pad):
    """A border that mirrors the inside of the last dimension, without the edge itself."""

    _dims, _mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """A border that mirrors the inside of the last two dimensions, without the edge itself."""

    _dims, _mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """A border that mirrors the inside of the last three dimensions, without the edge itself."""

    _dims, _mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """A border that repeats the edges of the last dimension."""

    _dims, _mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """A border that repeats the edges of the last two dimensions."""

    _dims, _mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """A border that repeats the edges of the last three dimensions."""

    _dims, _mode = 3, "replicate"


class CircularPad1d(_Pad):
    """A border that continues the last dimension from its other end."""

    _dims, _mode = 1, "circular"


class CircularPad2d(_Pad):
    """A border that continues the last two dimensions from their other ends."""

    _dims, _mode = 2, "circular"


class CircularPad3d(_Pad):
    """A border that continues the last three dimensions from their other ends."""

    _dims, _mode = 3, "circular"
