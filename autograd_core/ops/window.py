"""Windows of signal processing: weights that fall off towards both ends of ``M`` samples.

With k = 0 ... M - 1 and N = M - 1 (``sym=True``, for filters) or N = M (``sym=False``, for the Fourier transform).
Definitions: Harris, "On the use of windows for harmonic analysis with the discrete Fourier transform", 1978.
"""

from __future__ import annotations

import numpy as np

from ..registry import OPS, composite, op
from ..shapes import numpy_dtype
from .create import creator, remembered
from .samples import sample

PLAIN = [sample(7), sample(6, sym=False), sample(1)]


def window(signature="M, *, sym=True", samples=PLAIN, check=None):
    """Register a window; ``check(settings)`` raises for settings that make no sense."""

    def prepare(arrays, settings):
        length, kind = settings["M"], numpy_dtype(settings["dtype"])
        if not hasattr(length, "__index__") or length < 0:
            raise RuntimeError(f"M must be a non-negative int, got {length!r}")
        if kind.kind != "f" or kind.itemsize < 4:
            raise RuntimeError(f"dtype must be float32 or float64, got {kind.name}")
        if check is not None:
            check(settings)
        return {**settings, "dtype": kind}

    def register(function):
        names = function.__code__.co_varnames[: function.__code__.co_kwonlyargcount]

        def weighted(*values):
            return function(**prepare((), dict(zip(names, values, strict=True))))

        quick = remembered(weighted, lambda M, *_: type(M) is int and M <= 4096)
        return creator(signature, samples=samples, prepare=prepare, quick=quick, namespace="signal.windows")(function)

    return register


def weights(formula, M, sym, dtype):
    """``formula(k, N)`` for all samples; a window of one sample is 1."""
    if M < 2:
        return np.ones(M, dtype)
    return formula(np.arange(M, dtype=np.float64), M - 1 if sym else M).astype(dtype)


def cosines(a, M, sym, dtype):
    """a[0] - a[1] cos(2 pi k / N) + a[2] cos(4 pi k / N) - ..."""
    return weights(
        lambda k, N: sum((-1) ** i * c * np.cos(2 * np.pi * i * k / N) for i, c in enumerate(a)), M, sym, dtype
    )


@window()
def bartlett(*, M, sym, dtype):
    """Bartlett window: a triangle, 1 - |2 k / N - 1|."""
    return weights(lambda k, N: 1 - np.abs(2 * k / N - 1), M, sym, dtype)


@window()
def blackman(*, M, sym, dtype):
    """Blackman window: 0.42 - 0.5 cos(2 pi k / N) + 0.08 cos(4 pi k / N)."""
    return cosines((0.42, 0.5, 0.08), M, sym, dtype)


@window()
def cosine(*, M, sym, dtype):
    """Half a period of a sine: sin(pi (k + 1/2) / (N + 1))."""
    return weights(lambda k, N: np.sin(np.pi * (k + 0.5) / (N + 1)), M, sym, dtype)


@window()
def hamming(*, M, sym, dtype):
    """Hamming window: 0.54 - 0.46 cos(2 pi k / N)."""
    return cosines((0.54, 1 - 0.54), M, sym, dtype)


@window()
def hann(*, M, sym, dtype):
    """Hann window: (1 - cos(2 pi k / N)) / 2."""
    return cosines((0.5, 0.5), M, sym, dtype)


@window()
def nuttall(*, M, sym, dtype):
    """Nuttall's minimum 4-term Blackman-Harris window."""
    return cosines((0.3635819, 0.4891775, 0.1365995, 0.0106411), M, sym, dtype)


@window("M, *, alpha=0.54, sym=True", [*PLAIN, sample(7, alpha=0.7)])
def general_hamming(*, M, alpha, sym, dtype):
    """alpha - (1 - alpha) cos(2 pi k / N)."""
    return cosines((alpha, 1 - alpha), M, sym, dtype)


def _check_terms(settings):
    if not isinstance(settings["a"], (list, tuple)):
        raise TypeError(f"general_cosine: a must be a list of numbers, got {type(settings['a']).__name__}")
    if not settings["a"]:
        raise RuntimeError("general_cosine: a must not be empty")


@window("M, *, a, sym=True", [sample(7, a=[0.5, 0.3, 0.2])], _check_terms)
def general_cosine(*, M, a, sym, dtype):
    """A sum of cosines with weights ``a``: a[0] - a[1] cos(2 pi k / N) + a[2] cos(4 pi k / N) - ..."""
    return cosines(a, M, sym, dtype)


def _check_decay(settings):
    if settings["tau"] <= 0:
        raise RuntimeError(f"exponential: tau must be positive, got {settings['tau']}")
    if settings["sym"] and settings["center"] is not None:
        raise RuntimeError("exponential: center must be None for symmetric windows")


@window(
    "M, *, center=None, tau=1.0, sym=True", [*PLAIN, sample(7, tau=2.0), sample(7, center=2, sym=False)], _check_decay
)
def exponential(*, M, center, tau, sym, dtype):
    """exp(-|k - center| / tau), by default around the middle."""
    return weights(lambda k, N: np.exp(-np.abs(k - (N / 2 if center is None else center)) / tau), M, sym, dtype)


def _check_width(settings):
    if settings["std"] <= 0:
        raise RuntimeError(f"gaussian: std must be positive, got {settings['std']}")


@window("M, *, std=1.0, sym=True", [*PLAIN, sample(7, std=2.0)], _check_width)
def gaussian(*, M, std, sym, dtype):
    """exp(-((k - N / 2) / std)^2 / 2)."""
    return weights(lambda k, N: np.exp(-0.5 * ((k - N / 2) / std) ** 2), M, sym, dtype)


def _check_beta(settings):
    if settings["beta"] < 0:
        raise RuntimeError(f"kaiser: beta must be non-negative, got {settings['beta']}")


@window("M, *, beta=12.0, sym=True", [*PLAIN, sample(7, beta=4.0)], _check_beta)
def kaiser(*, M, beta, sym, dtype):
    """I0(beta sqrt(1 - (2 k / N - 1)^2)) / I0(beta), with I0 the modified Bessel function."""

    def formula(k, N):
        return np.i0(beta * np.sqrt(np.clip(1 - (2 * k / N - 1) ** 2, 0, None))) / np.i0(np.float64(beta))

    return weights(formula, M, sym, dtype)


# ---------------------------------------------------------------------------------------------------- older names


def _older(known):
    windows = OPS[f"signal.windows.{known}"].public

    def make(window_length, periodic=True, *, dtype=None, layout=None, device=None, requires_grad=False):
        return windows(
            window_length, sym=not periodic, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad
        )

    make.__name__ = make.__qualname__ = f"{known}_window"
    make.__doc__ = f"`signal.windows.{known}`, for the Fourier transform (``periodic``) or for filters."
    return op(composite, samples=[sample(6), sample(7, False)], method=False)(make)


bartlett_window, blackman_window, hann_window = _older("bartlett"), _older("blackman"), _older("hann")


@op(composite, samples=[sample(6), sample(7, False, 4.0)], method=False)
def kaiser_window(
    window_length, periodic=True, beta=12.0, *, dtype=None, layout=None, device=None, requires_grad=False
):
    """`signal.windows.kaiser`, for the Fourier transform (``periodic``) or for filters."""
    return kaiser(window_length, beta=beta, sym=not periodic, dtype=dtype, layout=layout, device=device,
                  requires_grad=requires_grad)  # fmt: skip


@op(composite, samples=[sample(6), sample(7, False, 0.5, 0.5)], method=False)
def hamming_window(window_length, periodic=True, alpha=0.54, beta=0.46, *, dtype=None, layout=None, device=None,
                   requires_grad=False):  # fmt: skip
    """alpha - beta cos(2 pi k / N), for the Fourier transform (``periodic``) or for filters."""
    return general_cosine(window_length, a=(alpha, beta), sym=not periodic, dtype=dtype, layout=layout, device=device,
                          requires_grad=requires_grad)  # fmt: skip
