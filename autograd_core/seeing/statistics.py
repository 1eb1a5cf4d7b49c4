"""What the elements of an array are like: worked out when somebody looks, not when it is recorded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import provenance, storage

BINS = 32
CHUNK = 1 << 15
"""Elements that are looked at together: temporary arrays stay small."""


class Kept:
    """An array that a graph holds by reference, as it was at one moment.

    A later in-place write, by an operation or an optimizer, is known from the log of writes: then the value is gone and
    `array` is None, never the wrong number. Writes while the graph is being recorded are no loss: `keep` copies what
    they are about to change. Writes through plain NumPy arrays are seen by nobody.
    """

    __slots__ = ("_array", "_number", "_statistics")

    def __init__(self, array: np.ndarray, number: int):
        self._array = array
        self._number = number
        self._statistics: dict[str, Any] | None = None

    @property
    def raw(self) -> np.ndarray:
        """The array itself, whatever it holds now."""
        return self._array

    @property
    def array(self) -> np.ndarray | None:
        """The values, or None where they were overwritten since."""
        return self._array if storage.write_since(self._array, self._number) is None else None

    @property
    def lost(self) -> str:
        """Where the values were overwritten, or an empty string."""
        write = storage.write_since(self._array, self._number)
        return "" if write is None else provenance.describe(write.site) or "by a compiled program"

    def keep(self) -> None:
        """Make a copy, if the values are still there: they are about to be changed."""
        if (found := self.array) is not None:
            self._array = found.copy()

    def norm(self) -> float | None:
        """The root of the sum of squares; None where it is unknown, or nothing is finite."""
        known = self.statistics()
        return known["norm"] if known else None

    def has_nan(self) -> bool:
        """Whether an element is known to be NaN."""
        array = self.array
        if self._statistics is None and array is not None:
            return array.dtype.kind == "f" and bool(np.isnan(array).any())
        return bool(self._statistics and self._statistics["nan"])

    def statistics(self) -> dict[str, Any] | None:
        """Count, extremes, mean, spread, norm and histogram; None where the values are gone or no numbers."""
        if self._statistics is None and (array := self.array) is not None:
            self._statistics = statistics(array)
        return self._statistics


def statistics(array: np.ndarray) -> dict[str, Any] | None:
    """Statistics of the elements, of the finite ones but for the counts; None for complex numbers and objects.

    count, nan, inf, zeros: counts. min, max, mean, std, norm (root of the sum of squares), absolute (mean of ``|x|``)
    and a histogram with (up to) 32 bins of equal width; these are None where no element is finite.
    """
    if array.dtype.kind not in "fiub":
        return None
    flat = array.reshape(-1)
    found: dict[str, Any] = {"count": flat.size, "nan": 0, "inf": 0, "zeros": int(flat.size - np.count_nonzero(flat))}
    if flat.size and array.dtype.kind == "f" and not (np.isfinite(flat.min()) and np.isfinite(flat.max())):
        found["nan"], found["inf"] = int(np.isnan(flat).sum()), int(np.isinf(flat).sum())
        flat = flat[np.isfinite(flat)]
    if not flat.size:
        return found | dict.fromkeys(("min", "max", "mean", "std", "norm", "absolute", "histogram"))
    return found | _moments(flat, float(flat.min()), float(flat.max()))


def _moments(flat, low, high):
    """The measures of finite elements, chunk by chunk, which stays in the cache."""
    scale = max(abs(low), abs(high)) or 1.0  # squares and ranges of what is scaled do not overflow
    bins = min(BINS, flat.size) if low < high else 1
    start, width = low / scale, (high / scale - low / scale) / bins or 1.0
    counts = np.zeros(bins, np.int64)
    seen = total = spread = squares = absolute = 0.0
    for at in range(0, flat.size, CHUNK):
        part = (
            flat[at : at + CHUNK] / scale if flat.dtype == np.float64 else flat[at : at + CHUNK].astype(float) / scale
        )
        own = part.sum()
        apart = part - own / part.size
        if seen:  # spreads of two parts, and of their means (Chan, Golub and LeVeque 1983)
            spread += (total / seen - own / part.size) ** 2 * seen * part.size / (seen + part.size)
        spread += apart @ apart
        squares += part @ part
        absolute += np.abs(part).sum()
        seen, total = seen + part.size, total + own
        part -= start
        part /= width
        counts += np.bincount(np.clip(part, 0, bins - 1).astype(np.intp), minlength=bins)
    edges = (start + width * np.arange(bins + 1)) * scale
    edges[0], edges[-1] = low, high
    return {"min": low, "max": high, "mean": float(total / seen * scale), "std": math.sqrt(spread / seen) * scale,
            "norm": math.sqrt(squares) * scale, "absolute": float(absolute / seen * scale),
            "histogram": {"edges": edges.tolist(), "counts": counts.tolist()}}  # fmt: skip
