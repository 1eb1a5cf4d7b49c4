"""Pooling: the maximum, mean or norm over windows, and its inverse."""

from __future__ import annotations

from . import functional as F
from .module import Module
from .wrapper import NEEDED, Wrapper


class _Pool(Wrapper):
    """Pooling over windows of ``kernel_size``, a ``stride`` apart (the window's size by default)."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        if self.stride is None:
            self.stride = self.kernel_size


_MAX = {"kernel_size": NEEDED, "stride": None, "padding": 0, "dilation": 1, "return_indices": False, "ceil_mode": False}
_MAX_SHOWN = "kernel_size stride padding dilation ceil_mode"


class MaxPool1d(_Pool, function="max_pool1d", shown=_MAX_SHOWN, **_MAX):
    """Maximum over windows of a sequence (N, C, L) or (C, L)."""


class MaxPool2d(_Pool, function="max_pool2d", shown=_MAX_SHOWN, **_MAX):
    """Maximum over windows of an image (N, C, H, W) or (C, H, W)."""


class MaxPool3d(_Pool, function="max_pool3d", shown=_MAX_SHOWN, **_MAX):
    """Maximum over windows of a volume (N, C, D, H, W) or (C, D, H, W)."""


_AVG = {"kernel_size": NEEDED, "stride": None, "padding": 0, "ceil_mode": False, "count_include_pad": True}
_AVG_SHOWN = "kernel_size stride padding"


class _OneSize(_Pool):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        for name in ("kernel_size", "stride", "padding"):
            value = getattr(self, name)
            setattr(self, name, tuple(value) if isinstance(value, (tuple, list)) else (value,))


class AvgPool1d(_OneSize, function="avg_pool1d", **_AVG, shown="kernel_size stride padding ceil_mode "
                "count_include_pad"):  # fmt: skip
    """Mean over windows of a sequence (N, C, L) or (C, L)."""

    def extra_repr(self):
        """The window."""
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(_Pool, function="avg_pool2d", shown=_AVG_SHOWN, **_AVG, divisor_override=None):
    """Mean over windows of an image (N, C, H, W) or (C, H, W)."""


class AvgPool3d(_Pool, function="avg_pool3d", shown=_AVG_SHOWN, **_AVG, divisor_override=None):
    """Mean over windows of a volume (N, C, D, H, W) or (C, D, H, W)."""


_LP = {"norm_type": NEEDED, "kernel_size": NEEDED, "stride": None, "ceil_mode": False}


class LPPool1d(Wrapper, function="lp_pool1d", **_LP):
    """p-norm over windows of a sequence: (Σ xᵖ)^(1/p) with p = ``norm_type``."""


class LPPool2d(Wrapper, function="lp_pool2d", **_LP):
    """p-norm over windows of an image."""


class LPPool3d(Wrapper, function="lp_pool3d", **_LP):
    """p-norm over windows of a volume."""


class AdaptiveAvgPool1d(Wrapper, function="adaptive_avg_pool1d", output_size=NEEDED):
    """Mean over as many windows as make a sequence of ``output_size``."""


class AdaptiveAvgPool2d(Wrapper, function="adaptive_avg_pool2d", output_size=NEEDED):
    """Mean over as many windows as make an image of ``output_size``; None keeps a size."""


class AdaptiveAvgPool3d(Wrapper, function="adaptive_avg_pool3d", output_size=NEEDED):
    """Mean over as many windows as make a volume of ``output_size``; None keeps a size."""


class AdaptiveMaxPool1d(Wrapper, function="adaptive_max_pool1d", shown="output_size", output_size=NEEDED,
                        return_indices=False):  # fmt: skip
    """Maximum over as many windows as make a sequence of ``output_size``."""


class AdaptiveMaxPool2d(Wrapper, function="adaptive_max_pool2d", shown="output_size", output_size=NEEDED,
                        return_indices=False):  # fmt: skip
    """Maximum over as many windows as make an image of ``output_size``; None keeps a size."""


class AdaptiveMaxPool3d(Wrapper, function="adaptive_max_pool3d", shown="output_size", output_size=NEEDED,
                        return_indices=False):  # fmt: skip
    """Maximum over as many windows as make a volume of ``output_size``; None keeps a size."""


class _Unpool(_Pool):
    """Puts maxima back where they came from; zeros elsewhere. Takes the indices that max pooling returns."""

    _dims = 0

    def __init__(self, kernel_size, stride=None, padding=0):
        super().__init__(kernel_size, stride, padding)
        for name in ("kernel_size", "stride", "padding"):
            value = getattr(self, name)
            setattr(self, name, tuple(value) if isinstance(value, (tuple, list)) else (value,) * self._dims)

    def forward(self, input, indices, output_size=None):
        """Put ``input`` at ``indices`` of a tensor of ``output_size`` (worked out from the window by default)."""
        return getattr(F, self._function)(input, indices, self.kernel_size, self.stride, self.padding, output_size)


_UNPOOL = {"kernel_size": NEEDED, "stride": None, "padding": 0}


class MaxUnpool1d(_Unpool, function="max_unpool1d", **_UNPOOL):
    """The partial inverse of `MaxPool1d`."""

    _dims = 1


class MaxUnpool2d(_Unpool, function="max_unpool2d", **_UNPOOL):
    """The partial inverse of `MaxPool2d`."""

    _dims = 2


class MaxUnpool3d(_Unpool, function="max_unpool3d", **_UNPOOL):
    """The partial inverse of `MaxPool3d`."""

    _dims = 3


class _FractionalMaxPool(Module):
    """Maximum over windows drawn at random (Graham, 2014); give ``output_size`` or ``output_ratio``."""

    _dims = 0

    def __init__(self, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
        super().__init__()
        self.kernel_size = self._spread(kernel_size)
        self.return_indices = return_indices
        self.output_size = None if output_size is None else self._spread(output_size)
        self.output_ratio = None if output_ratio is None else self._spread(output_ratio)
        self.register_buffer("_random_samples", _random_samples)
        name = type(self).__name__
        if output_size is None and output_ratio is None:
            raise ValueError(f"{name} requires specifying either an output size, or a pooling ratio")
        if output_size is not None and output_ratio is not None:
            raise ValueError(f"{name}: only one of output_size and output_ratio may be specified")
        if self.output_ratio is not None and not all(0 < r < 1 for r in self.output_ratio):
            raise ValueError(f"{name}: output_ratio must be between 0 and 1 (got {output_ratio})")

    def _spread(self, value):
        return tuple(value) if isinstance(value, (tuple, list)) else (value,) * self._dims

    def forward(self, input):
        """Draw windows (unless samples were given) and take their maxima."""
        function = getattr(F, f"fractional_max_pool{self._dims}d")
        return function(input, self.kernel_size, self.output_size, self.output_ratio, self.return_indices,
                        self._random_samples)  # fmt: skip


class FractionalMaxPool2d(_FractionalMaxPool):
    """Maximum over windows of an image whose places are drawn at random."""

    _dims = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """Maximum over windows of a volume whose places are drawn at random."""

    _dims = 3
