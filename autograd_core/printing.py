"""Tensors as text, in PyTorch's form: aligned columns, large ones summarised, then dtype and history."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from .shapes import default_dtype, dtype_of


@dataclass(frozen=True)
class Options:
    """What `set_printoptions` sets."""

    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


PROFILES = {"default": Options(), "short": Options(precision=2, edgeitems=2), "full": Options(threshold=float("inf"))}
_options = PROFILES["default"]


def set_printoptions(
    precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None
) -> None:
    """How tensors are printed.

    ``precision``: digits behind the point; ``threshold``: elements from which the middle is left out, all but
    ``edgeitems`` at each end; ``linewidth``: characters a line; ``profile``: ``"default"``, ``"short"`` or ``"full"``;
    ``sci_mode``: powers of ten always (True), never (False) or where the values ask for it (None, which resets it).
    """
    global _options
    if profile is not None:
        if profile not in PROFILES:
            raise ValueError(f"set_printoptions: profile must be one of {list(PROFILES)}, got {profile!r}")
        _options = PROFILES[profile]
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options = replace(_options, **{k: v for k, v in given.items() if v is not None}, sci_mode=sci_mode)


class _Style:
    """The width and form that all elements of a tensor share."""

    def __init__(self, values: np.ndarray):
        self.width = 1
        self.form = "plain"
        if values.dtype.kind != "f":
            self.width = max([len(str(v)) for v in values.tolist()], default=1)
            return
        finite = values[np.isfinite(values) & (values != 0)].astype(np.float64)
        self.form = self._form_for(finite)
        if _options.sci_mode is not None and finite.size:
            self.form = "scientific" if _options.sci_mode else "integral" if self.integral else "fixed"
        self.width = max([len(self._text(v)) for v in finite.tolist()], default=1)

    def _form_for(self, finite):
        self.integral = bool((finite == np.ceil(finite)).all())
        if not finite.size:
            return "integral"
        small, large = np.abs(finite).min(), np.abs(finite).max()
        if large / small > 1000 or large > 1e8 or (small < 1e-4 and not self.integral):
            return "scientific"
        return "integral" if self.integral else "fixed"

    def _text(self, value):
        if self.form == "scientific":
            return f"{value:.{_options.precision}e}"
        if self.form == "fixed":
            return f"{value:.{_options.precision}f}"
        if self.form == "integral":
            return f"{value:.0f}" + ("." if np.isfinite(value) else "")
        return str(value)

    def text(self, value) -> str:
        return self._text(value).rjust(self.width)


def _edges(array, summarize):
    """The first and last parts of ``array`` with None for what is left out between them."""
    edge = _options.edgeitems
    if summarize and len(array) > 2 * edge:
        return [*array[:edge], None, *(array[-edge:] if edge else ())]
    return list(array)


def _shown(array, summarize):
    """The elements that will be seen, flat: they decide on the style."""
    if summarize:
        edge = _options.edgeitems
        for axis, size in enumerate(array.shape):
            if size > 2 * edge:
                array = np.take(array, [*range(edge), *range(size - edge, size)], axis)
    return array.reshape(-1)


def _nested(array, indent, summarize, style):
    if array.ndim == 0:
        return style.text(array.item())
    if array.ndim == 1:
        texts = [" ..." if v is None else style.text(v.item()) for v in _edges(array, summarize)]
        a_line = max(1, (_options.linewidth - indent) // (style.width + 2))
        lines = [", ".join(texts[i : i + a_line]) for i in range(0, len(texts), a_line)]
        return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"
    parts = ["..." if a is None else _nested(a, indent + 1, summarize, style) for a in _edges(array, summarize)]
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def tensor_text(tensor) -> str:
    """What ``repr(tensor)`` and ``str(tensor)`` show."""
    array, prefix, suffixes = tensor.array, "tensor(", []
    if array.size:
        summarize = array.size > _options.threshold
        body = _nested(array, len(prefix), summarize, _Style(_shown(array, summarize)))
        usual = array.dtype in (default_dtype(), np.int64, np.bool_)
    else:
        body = "[]"
        if array.ndim != 1:
            suffixes.append(f"size={tuple(array.shape)}")
        usual = array.dtype == default_dtype()
    if not usual:
        suffixes.append(f"dtype={dtype_of(array.dtype)}")
    if tensor.grad_fn is not None:
        suffixes.append(f"grad_fn={tensor.grad_fn!r}")
    elif tensor.requires_grad:
        suffixes.append("requires_grad=True")
    return _with_suffixes(prefix + body, suffixes, len(prefix))


def _with_suffixes(text, suffixes, indent):
    length = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if length + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            length = indent + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"
