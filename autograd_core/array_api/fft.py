"""What the standard's Fourier functions come to without complex numbers: ``array_api.fft``."""

from __future__ import annotations

import numpy as np

from ..info import check_device
from ..registry import namespace
from ..shapes import numpy_dtype
from ..tensor import wrap

_ours = namespace("fft")


def fftfreq(n, /, *, d=1.0, dtype=None, device=None):
    """The frequencies of a transform of ``n`` samples, ``d`` apart."""
    check_device(device)
    return wrap(np.fft.fftfreq(n, d).astype(numpy_dtype(dtype)))


def rfftfreq(n, /, *, d=1.0, dtype=None, device=None):
    """The frequencies of a transform of ``n`` real samples, ``d`` apart."""
    check_device(device)
    return wrap(np.fft.rfftfreq(n, d).astype(numpy_dtype(dtype)))


def fftshift(x, /, *, axes=None):
    """Frequency zero moved to the middle of the axes (all of them by default)."""
    return _ours["fftshift"](x, axes)


def ifftshift(x, /, *, axes=None):
    """The reverse of `fftshift`."""
    return _ours["ifftshift"](x, axes)
