"""Other arrangements of the same values: flatten, fold, shuffle, resize; and distances between vectors."""

from __future__ import annotations

from . import functional as F
from .module import Module
from .wrapper import NEEDED, Wrapper


class Flatten(Wrapper, start_dim=1, end_dim=-1):
    """The dimensions from ``start_dim`` to ``end_dim`` become one."""

    def forward(self, input):
        """Flatten."""
        return input.flatten(self.start_dim, self.end_dim)


class Unflatten(Wrapper, dim=NEEDED, unflattened_size=NEEDED):
    """The dimension ``dim`` becomes several, of ``unflattened_size``."""

    def __init__(self, dim, unflattened_size):
        super().__init__(dim, unflattened_size)
        if isinstance(dim, str):
            raise TypeError("Unflatten: dimensions have no names here; give dim as an int")
        if not isinstance(unflattened_size, (tuple, list)) or not all(isinstance(s, int) for s in unflattened_size):
            raise TypeError(f"unflattened_size must be a tuple of ints, but found {type(unflattened_size).__name__} "
                            f"{unflattened_size}")  # fmt: skip

    def forward(self, input):
        """Unflatten."""
        return input.unflatten(self.dim, self.unflattened_size)


class Fold(Wrapper, function="fold", output_size=NEEDED, kernel_size=NEEDED, dilation=1, padding=0, stride=1):
    """Adds blocks (N, C·K, L) up into images (N, C, *output_size), each at its place: the adjoint of `Unfold`."""


class Unfold(Wrapper, function="unfold", kernel_size=NEEDED, dilation=1, padding=0, stride=1):
    """All blocks that a window of ``kernel_size`` cuts out of images (N, C, H, W), as columns (N, C·K, L)."""


class PixelShuffle(Wrapper, function="pixel_shuffle", upscale_factor=NEEDED):
    """(*, C·r², H, W) becomes (*, C, H·r, W·r): channels become pixels (Shi et al., 2016)."""


class PixelUnshuffle(Wrapper, function="pixel_unshuffle", downscale_factor=NEEDED):
    """(*, C, H·r, W·r) becomes (*, C·r², H, W): the inverse of `PixelShuffle`."""


class ChannelShuffle(Wrapper, function="channel_shuffle", groups=NEEDED):
    """The channels of (N, C, *) dealt out from ``groups`` in turn (Zhang et al., 2018)."""


class Upsample(Module):
    """Resizes sequences, images or volumes to ``size`` or by ``scale_factor``.

    ``mode``: "nearest", "linear" (3D input), "bilinear" and "bicubic" (4D), "trilinear" (5D); ``align_corners`` puts
    the corner values of input and output on one another.
    """

    def __init__(self, size=None, scale_factor=None, mode="nearest", align_corners=None, recompute_scale_factor=None):
        super().__init__()
        self.name = type(self).__name__
        self.size = size
        if isinstance(scale_factor, (tuple, list)):
            self.scale_factor = tuple(float(factor) for factor in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.mode, self.align_corners, self.recompute_scale_factor = mode, align_corners, recompute_scale_factor

    def forward(self, input):
        """Resize."""
        return F.interpolate(input, self.size, self.scale_factor, self.mode, self.align_corners,
                             self.recompute_scale_factor)  # fmt: skip

    def extra_repr(self):
        """The new size and the mode."""
        what = f"size={self.size!r}" if self.scale_factor is None else f"scale_factor={self.scale_factor!r}"
        return f"{what}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """Resizes images; every new pixel takes the nearest old one."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """Resizes images by bilinear interpolation with aligned corners."""

    def __init__(self, size=None, scale_factor=None):
        super().__init__(size, scale_factor, "bilinear", align_corners=True)


class CosineSimilarity(Wrapper, function="cosine_similarity", shown="", dim=1, eps=1e-8):
    """Cosine of the angle between vectors along ``dim``: x₁·x₂ / max(‖x₁‖·‖x₂‖, eps)."""

    def forward(self, x1, x2):
        """Compare."""
        return F.cosine_similarity(x1, x2, self.dim, self.eps)


class PairwiseDistance(Module):
    """‖x₁ − x₂ + eps‖ₚ over the last dimension."""

    def __init__(self, p=2.0, eps=1e-6, keepdim=False):
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1, x2):
        """Measure."""
        return F.pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)
