"""What the elements of an array are like: worked out when somebody looks, not when it is recorded."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import provenance, storage

BINS = 32
CHUNK = 1 << 20
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
    parts = [flat[i : i + CHUNK].astype(np.float64) for i in range(0, flat.size, CHUNK)]
    if array.dtype.kind == "f":
        found["nan"] = int(sum([np.isnan(part).sum() for part in parts]))
        found["inf"] = int(sum([np.isinf(part).sum() for part in parts]))
        if found["nan"] or found["inf"]:
            parts = [part[np.isfinite(part)] for part in parts]
    count = sum([part.size for part in parts])
    if not count:
        return found | dict.fromkeys(("min", "max", "mean", "std", "norm", "absolute", "histogram"))
    low, high = min([p.min() for p in parts if p.size]), max([p.max() for p in parts if p.size])
    scale = float(max(abs(low), abs(high))) or 1.0  # squares and ranges of what is scaled do not overflow
    parts = [part / scale for part in parts]
    mean = sum([part.sum() for part in parts]) / count
    spread = sum([np.square(part - mean).sum() for part in parts]) / count
    squares = sum([np.square(part).sum() for part in parts])
    absolute = sum([np.abs(part).sum() for part in parts]) / count
    measures = {"min": low, "max": high, "mean": mean * scale, "std": math.sqrt(spread) * scale,
                "norm": math.sqrt(squares) * scale, "absolute": absolute * scale}  # fmt: skip
    found |= {key: float(value) for key, value in measures.items()}
    return found | {"histogram": _histogram(parts, float(low), float(high), scale)}


def _histogram(parts, low, high, scale):
    """Counts between edges at equal distances from ``low`` to ``high``; the parts were divided by ``scale``."""
    count = sum([part.size for part in parts])
    if low == high:
        return {"edges": [low, high], "counts": [count]}
    bins = min(BINS, count)
    start, width = low / scale, (high / scale - low / scale) / bins
    counts = np.zeros(bins, np.int64)
    for part in parts:
        counts += np.bincount(np.clip((part - start) / width, 0, bins - 1).astype(np.int64), minlength=bins)
    edges = (start + width * np.arange(bins + 1)) * scale
    edges[0], edges[-1] = low, high
    return {"edges": edges.tolist(), "counts": counts.tolist()}
