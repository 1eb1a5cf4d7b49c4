"""Convolutions over sequences, images and volumes, their transposes, and their lazy forms."""

from __future__ import annotations

import math

from . import functional as F
from . import init
from .lazy import LazyModuleMixin
from .module import Module
from .parameter import add_parameters

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def spread(value, dims):
    """``value`` for each of ``dims`` dimensions."""
    return tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims


class _Conv(Module):
    """What all convolutions share: their settings, parameters and initial values."""

    _dims = 0
    _transposed = False

    def __init__(self, in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
                 padding_mode, device, dtype):  # fmt: skip
        super().__init__()
        name = type(self).__name__
        if groups <= 0:
            raise ValueError(f"{name}: groups must be a positive integer, got {groups}")
        for what, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name}: {what} must be divisible by groups, got {channels} and {groups}")
        if isinstance(padding, str) and padding not in ("same", "valid"):
            raise ValueError(f"{name}: invalid padding string {padding!r}, should be one of 'same', 'valid'")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"{name}: padding_mode must be one of {PADDING_MODES}, but got "
                             f"padding_mode='{padding_mode}'")  # fmt: skip
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = spread(kernel_size, self._dims)
        self.stride = spread(stride, self._dims)
        self.padding = padding if isinstance(padding, str) else spread(padding, self._dims)
        self.dilation = spread(dilation, self._dims)
        self.transposed = self._transposed
        self.output_padding = spread(output_padding, self._dims)
        self.groups = groups
        self.padding_mode = padding_mode
        if padding == "same" and any(step != 1 for step in self.stride):
            raise ValueError(f"{name}: padding='same' is not supported for strided convolutions")
        add_parameters(self, self._parameter_shapes(), bias=bias, device=device, dtype=dtype)
        self.reset_parameters()

    def _parameter_shapes(self):
        first, second = self.out_channels, self.in_channels
        if self.transposed:
            first, second = second, first
        return {"weight": (first, second // self.groups, *self.kernel_size), "bias": (self.out_channels,)}

    def reset_parameters(self):
        """Draw new values, evenly within ±1/√(in_channels/groups · kernel elements)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = init._calculate_fan_in_and_fan_out(self.weight)[0]
            if fan_in:
                init.uniform_(self.bias, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))

    @property
    def _reversed_padding_repeated_twice(self):
        """The padding as `nn.functional.pad` wants it: before and after, last dimension first."""
        if not isinstance(self.padding, str):
            return [size for size in reversed(self.padding) for _ in range(2)]
        if self.padding == "valid":
            return [0] * (2 * self._dims)
        totals = [step * (size - 1) for step, size in zip(self.dilation, self.kernel_size, strict=True)]
        return [part for total in reversed(totals) for part in (total // 2, total - total // 2)]

    def extra_repr(self):
        """The channels, the kernel, and what is not as by default."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        usual = {"padding": (0,) * len(self.padding), "dilation": (1,) * self._dims, "output_padding": (0,
                                                                                                        ) * self._dims,
                 "groups": 1}  # fmt: skip
        for name, value in usual.items():
            if getattr(self, name) != value:
                text += f", {name}={getattr(self, name)}"
        if self.bias is None:
            text += ", bias=False"
        return text if self.padding_mode == "zeros" else f"{text}, padding_mode={self.padding_mode}"


class _Convolution(_Conv):
    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", device=None, dtype=None):  # fmt: skip
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias,
                         padding_mode, device, dtype)  # fmt: skip

    def _conv_forward(self, input, weight, bias):
        function = getattr(F, f"conv{self._dims}d")
        if self.padding_mode == "zeros":
            return function(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        padded = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return function(padded, weight, bias, self.stride, 0, self.dilation, self.groups)

    def forward(self, input):
        """Convolve."""
        return self._conv_forward(input, self.weight, self.bias)


class Conv1d(_Convolution):
    """Cross-correlation of a sequence (N, C, L) or (C, L) with learned filters (out, in/groups, K).

    ``padding`` is a number, one for each dimension, "valid" or "same"; ``padding_mode`` "zeros", "reflect",
    "replicate" or "circular".
    """

    _dims = 1


class Conv2d(_Convolution):
    """Cross-correlation of images (N, C, H, W) or (C, H, W) with learned filters (out, in/groups, KH, KW).

    ``padding`` is a number, one for each dimension, "valid" or "same"; ``padding_mode`` "zeros", "reflect",
    "replicate" or "circular".
    """

    _dims = 2


class Conv3d(_Convolution):
    """Cross-correlation of volumes (N, C, D, H, W) or (C, D, H, W) with learned filters (out, in/groups, KD, KH, KW).

    ``padding`` is a number, one for each dimension, "valid" or "same"; ``padding_mode`` "zeros", "reflect",
    "replicate" or "circular".
    """

    _dims = 3


class _ConvTranspose(_Conv):
    _transposed = True

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1,
                 bias=True, dilation=1, padding_mode="zeros", device=None, dtype=None):  # fmt: skip
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups,
                         bias, padding_mode, device, dtype)  # fmt: skip

    def _output_padding_for(self, input, output_size):
        """The ``output_padding`` that makes the output exactly ``output_size``."""
        if output_size is None:
            return self.output_padding
        dims = self._dims
        sizes = tuple(output_size)[-dims:]
        if len(tuple(output_size)) not in (dims, input.ndim) or input.ndim < dims + 1:
            raise ValueError(f"{type(self).__name__}: for {input.ndim}D input, output_size must have {dims} or "
                             f"{input.ndim} elements (got {len(tuple(output_size))})")  # fmt: skip
        smallest = [(input.shape[d - dims] - 1) * self.stride[d] - 2 * self.padding[d]
                    + self.dilation[d] * (self.kernel_size[d] - 1) + 1 for d in range(dims)]  # fmt: skip
        largest = [size + step - 1 for size, step in zip(smallest, self.stride, strict=True)]
        if not all(low <= size <= high for low, size, high in zip(smallest, sizes, largest, strict=True)):
            raise ValueError(f"requested an output size of {tuple(output_size)}, but valid sizes range from {smallest} "
                             f"to {largest} (for an input of {list(input.shape[-dims:])})")  # fmt: skip
        return tuple([size - low for size, low in zip(sizes, smallest, strict=True)])

    def forward(self, input, output_size=None):
        """Convolve; ``output_size`` chooses among the sizes that a stride above 1 leaves open."""
        padding = self._output_padding_for(input, output_size)
        function = getattr(F, f"conv_transpose{self._dims}d")
        return function(input, self.weight, self.bias, self.stride, self.padding, padding, self.groups, self.dilation)


class ConvTranspose1d(_ConvTranspose):
    """The transpose of a convolution of a sequence, which makes it longer; filters (in, out/groups, K)."""

    _dims = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of a convolution of images, which makes them larger; filters (in, out/groups, KH, KW)."""

    _dims = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of a convolution of volumes, which makes them larger; filters (in, out/groups, KD, KH, KW)."""

    _dims = 3


class _Lazy(LazyModuleMixin):
    """A convolution that takes ``in_channels`` from its first input."""

    _size_name = "in_channels"
    _dims: int

    @property
    def _size_dim(self):
        return -self._dims - 1

    def _check_input_dim(self, input):
        if input.ndim not in (self._dims + 1, self._dims + 2):
            raise RuntimeError(f"Expected {self._dims + 1}D (unbatched) or {self._dims + 2}D (batched) input to "
                               f"{type(self).__name__}, but got input of size: {input.shape}")  # fmt: skip

    def _wait_for_input(self, out_channels, bias, device, dtype):
        self.out_channels = out_channels
        self._wait(["weight", "bias"] if bias else ["weight"], device=device, dtype=dtype)


class _LazyConvolution(_Lazy):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True,
                 padding_mode="zeros", device=None, dtype=None):  # fmt: skip
        super().__init__(0, 0, kernel_size, stride, padding, dilation, groups, False, padding_mode)
        self._wait_for_input(out_channels, bias, device, dtype)


class _LazyConvTranspose(_Lazy):
    def __init__(self, out_channels, kernel_size, stride=1, padding=0, output_padding=0, groups=1, bias=True,
                 dilation=1, padding_mode="zeros", device=None, dtype=None):  # fmt: skip
        super().__init__(0, 0, kernel_size, stride, padding, output_padding, groups, False, dilation, padding_mode)
        self._wait_for_input(out_channels, bias, device, dtype)


class LazyConv1d(_LazyConvolution, Conv1d):
    """A `Conv1d` that takes ``in_channels`` from its first input."""

    cls_to_become = Conv1d


class LazyConv2d(_LazyConvolution, Conv2d):
    """A `Conv2d` that takes ``in_channels`` from its first input."""

    cls_to_become = Conv2d


class LazyConv3d(_LazyConvolution, Conv3d):
    """A `Conv3d` that takes ``in_channels`` from its first input."""

    cls_to_become = Conv3d


class LazyConvTranspose1d(_LazyConvTranspose, ConvTranspose1d):
    """A `ConvTranspose1d` that takes ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose1d


class LazyConvTranspose2d(_LazyConvTranspose, ConvTranspose2d):
    """A `ConvTranspose2d` that takes ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose2d


class LazyConvTranspose3d(_LazyConvTranspose, ConvTranspose3d):
    """A `ConvTranspose3d` that takes ``in_channels`` from its first input."""

    cls_to_become = ConvTranspose3d
