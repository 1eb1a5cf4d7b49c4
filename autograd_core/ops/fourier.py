"""Fourier transforms of real tensors with real results: irfft, hfft and their kin in several dims, fftshift.

Input and result are real, so a transform is one real linear map; its adjoint is a record of its own, and each is the
other's gradient.
"""

from __future__ import annotations

from math import prod, sqrt

import numpy as np

from .. import ops
from ..inplace import write_out
from ..registry import composite, contraction, op
from ..shapes import default_dtype, normalize_dim
from .samples import real, sample

# ---------------------------------------------------------------------------------------------------- the two maps


def _fitted(x, sizes, dims):
    """``x`` cut, or filled up with zeros, to ``sizes`` along ``dims``."""
    if [x.shape[d] for d in dims] == list(sizes):
        return x
    wanted = dict(zip(dims, sizes, strict=True))
    cut = x[tuple(slice(0, wanted.get(d)) for d in range(x.ndim))]
    widths = [(0, max(0, wanted.get(d, n) - n)) for d, n in enumerate(cut.shape)]
    return np.pad(cut, widths) if any(w for _, w in widths) else cut


LARGE = 1 << 14
"""Elements from which a kernel is worth loading."""


def _by_kernel(x, sizes, dims, scale, back):
    """Either map by its kernel; None where the array is small or of a kind that it does not serve."""
    if x.size < LARGE or x.dtype.char not in "fd":
        return None
    from ..kernels import fourier
    from ..kernels.plan import execute

    tables = fourier.tables(x.shape, sizes, dims, back, x.dtype)
    if tables is None:
        return None
    found = execute(fourier.plan_fourier, (np.ascontiguousarray(x), tables), sizes=sizes, dims=dims, scale=scale,
                    back=back)  # fmt: skip
    return None if found is NotImplemented else found


@op(contraction, namespace="internal", promote=False,
    samples=[sample(real(3, 5), sizes=(3, 8), dims=(0, 1), scale=1.0)],
    vjp=[lambda g, input_shape, sizes, dims, scale: ops.half_from_signal(
        g, sizes=tuple(input_shape[d] for d in dims), dims=dims, scale=scale)])  # fmt: skip
def signal_from_half(input, *, sizes, dims, scale):
    """``scale`` times the signal (a plain sum) whose spectrum has ``input`` as its half along the last of ``dims``."""
    half = (*sizes[:-1], sizes[-1] // 2 + 1)
    spectrum = _fitted(input, half, dims)
    found = _by_kernel(spectrum, sizes, dims, scale, False)
    if found is not None:
        return found
    if len(dims) > 1:
        spectrum = np.fft.ifftn(spectrum, axes=dims[:-1], norm="forward")
    return np.fft.irfft(spectrum, sizes[-1], dims[-1], "forward") * input.dtype.type(scale)


@op(contraction, namespace="internal", promote=False,
    samples=[sample(real(3, 8), sizes=(3, 5), dims=(0, 1), scale=1.0)],
    vjp=[lambda g, input_shape, sizes, dims, scale: ops.signal_from_half(
        g, sizes=tuple(input_shape[d] for d in dims), dims=dims, scale=scale)])  # fmt: skip
def half_from_signal(input, *, sizes, dims, scale):
    """The adjoint: the real part of the half spectrum, with what stands for two conjugate frequencies counted twice."""
    size = input.shape[dims[-1]]
    found = _by_kernel(input, tuple(input.shape[d] for d in dims), dims, scale, True)
    if found is not None:
        return _fitted(found, sizes, dims)
    spectrum = np.fft.rfft(input, axis=dims[-1])
    twice = np.full(size // 2 + 1, 2 * scale, input.dtype)
    twice[0] = scale
    if size % 2 == 0:
        twice[-1] = scale
    spectrum *= twice.reshape([-1 if d == dims[-1] else 1 for d in range(input.ndim)])
    if len(dims) > 1:
        spectrum = np.fft.fftn(spectrum, axes=dims[:-1])
    return np.ascontiguousarray(_fitted(spectrum.real, sizes, dims))


# ---------------------------------------------------------------------------------------------------- arguments


def _scale(name, norm, count, forward):
    """The factor of a transform over ``count`` points in direction ``forward``."""
    if norm not in (None, "backward", "forward", "ortho"):
        raise RuntimeError(f"fft.{name}: norm must be 'forward', 'backward' or 'ortho', got {norm!r}")
    if norm == "ortho":
        return 1 / sqrt(count)
    return 1 / count if (norm == "forward") == forward else 1.0


def _dims_and_sizes(name, input, s, dim):
    """Dims as a tuple, and the sizes of the result along them: by default those that the half spectrum stands for."""
    if dim is None:
        count = input.ndim if s is None else len(s)
        if count > input.ndim:
            raise RuntimeError(f"fft.{name}: s has {count} sizes for an input of {input.ndim} dimensions")
        dims = tuple(range(input.ndim - count, input.ndim))
    else:
        dims = tuple(normalize_dim(d, input.ndim) for d in dim)
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"fft.{name}: dims must be unique, got {tuple(dim)}")
        if s is not None and len(s) != len(dims):
            raise RuntimeError(f"fft.{name}: when given, dim and s must have one length, got {len(dims)} and {len(s)}")
    if not dims:
        raise RuntimeError(f"fft.{name}: needs at least one dimension to transform, got shape {list(input.shape)} "
                           f"and dim={dim}")  # fmt: skip
    wanted = [-1] * len(dims) if s is None else [int(n) for n in s]
    own = [input.shape[d] for d in dims]
    own[-1] = 2 * (own[-1] - 1)
    sizes = tuple(have if n == -1 else n for n, have in zip(wanted, own, strict=True))
    if any(n < 1 for n in sizes):
        raise RuntimeError(f"fft.{name}: invalid number of data points ({min(sizes)}) specified")
    return dims, sizes


def _transform(name, input, s, dim, norm, out, forward):
    """Both families: for a real spectrum, reversing the direction (hfft) changes nothing but the factor."""
    if input.ndim == 0:
        raise IndexError(f"fft.{name}: the input must have at least 1 dimension, got a 0-d tensor")
    dims, sizes = _dims_and_sizes(name, input, s, dim)
    kind = np.dtype(getattr(input.dtype, "dtype", input.dtype))
    if kind.itemsize == 2 and kind.kind == "f":
        raise RuntimeError(f"fft.{name}: expected float32 or float64, got {input.dtype}")
    x = input if kind.kind == "f" else ops.to(input, dtype=default_dtype())
    result = ops.signal_from_half(x, sizes=sizes, dims=dims, scale=_scale(name, norm, prod(sizes), forward))
    return result if out is None else write_out(out, result)


def _one(value):
    return None if value is None else (value,)


# ---------------------------------------------------------------------------------------------------- public

ONE = [real(5), sample(real(3, 5), 7), sample(real(4, 3), 6, 0, "ortho")]
TWO = [real(3, 5), sample(real(2, 3, 4), (2, 5), norm="forward"), sample(real(4, 3), dim=(1, 0))]


@op(composite, namespace="fft", samples=ONE)
def irfft(input, n=None, dim=-1, norm=None, *, out=None):
    """The real signal of ``n`` points (by default 2 (size - 1)) from one half of its spectrum."""
    return _transform("irfft", input, _one(n), _one(dim), norm, out, False)


@op(composite, namespace="fft", samples=TWO)
def irfft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`irfft` in two dims; the last of ``dim`` is the halved one."""
    return _transform("irfft2", input, s, _listed(dim), norm, out, False)


@op(composite, namespace="fft", samples=TWO)
def irfftn(input, s=None, dim=None, norm=None, *, out=None):
    """`irfft` in several dims (all by default); the last of ``dim`` is the halved one."""
    return _transform("irfftn", input, s, _listed(dim), norm, out, False)


@op(composite, namespace="fft", samples=ONE)
def hfft(input, n=None, dim=-1, norm=None, *, out=None):
    """The real spectrum of ``n`` points (by default 2 (size - 1)) of a Hermitian signal given by one half."""
    return _transform("hfft", input, _one(n), _one(dim), norm, out, True)


@op(composite, namespace="fft", samples=TWO)
def hfft2(input, s=None, dim=(-2, -1), norm=None, *, out=None):
    """`hfft` in two dims; the last of ``dim`` is the halved one."""
    return _transform("hfft2", input, s, _listed(dim), norm, out, True)


@op(composite, namespace="fft", samples=TWO)
def hfftn(input, s=None, dim=None, norm=None, *, out=None):
    """`hfft` in several dims (all by default); the last of ``dim`` is the halved one."""
    return _transform("hfftn", input, s, _listed(dim), norm, out, True)


def _listed(dim):
    return (dim,) if hasattr(dim, "__index__") else dim


def _shifted(input, dim, up):
    dims = tuple(normalize_dim(d, input.ndim) for d in (range(input.ndim) if dim is None else _listed(dim)))
    sizes = [input.shape[d] for d in dims]
    return ops.roll(input, tuple((n + up) // 2 for n in sizes), dims) if dims else input


@op(composite, namespace="fft", samples=[real(5), sample(real(3, 4), 1), sample(real(3, 4), (0, 1))])
def fftshift(input, dim=None):
    """Moves frequency 0 to the middle along ``dim`` (all by default)."""
    return _shifted(input, dim, 0)


@op(composite, namespace="fft", samples=[real(5), sample(real(3, 4), 1), sample(real(3, 4), (0, 1))])
def ifftshift(input, dim=None):
    """Moves frequency 0 from the middle back to the front: undoes `fftshift`."""
    return _shifted(input, dim, 1)
