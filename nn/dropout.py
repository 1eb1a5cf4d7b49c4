"""Dropout: random zeros in training, nothing in use."""

from __future__ import annotations

from . import functional as F
from .wrapper import Wrapper


class _Dropout(Wrapper, p=0.5, inplace=False):
    def __init__(self, p=0.5, inplace=False):
        super().__init__(p, inplace)
        if not 0 <= p <= 1:
            raise ValueError(f"{type(self).__name__}: dropout probability has to be between 0 and 1, but got {p}")

    def forward(self, input):
        """Draw which elements to drop, in training."""
        return getattr(F, self._function)(input, self.p, self.training, self.inplace)

    def extra_repr(self):
        """The settings."""
        return f"p={self.p}, inplace={self.inplace}"


class Dropout(_Dropout, function="dropout"):
    """Elements are set to zero with probability ``p``, the others divided by 1 − p (Hinton et al., 2012)."""


class Dropout1d(_Dropout, function="dropout1d"):
    """Whole channels of (N, C, L) or (C, L) are set to zero with probability ``p``."""


class Dropout2d(_Dropout, function="dropout2d"):
    """Whole channels of images (N, C, H, W) are set to zero with probability ``p`` (Tompson et al., 2015)."""


class Dropout3d(_Dropout, function="dropout3d"):
    """Whole channels of volumes (N, C, D, H, W) are set to zero with probability ``p``."""


class AlphaDropout(_Dropout, function="alpha_dropout"):
    """Dropout that keeps mean and variance behind a SELU: dropped elements take its negative limit."""


class FeatureAlphaDropout(_Dropout, function="feature_alpha_dropout"):
    """`AlphaDropout` of whole channels."""
