"""Plans of real Fourier transforms in several dimensions: from a real half spectrum to the signal, and the adjoint.

Each dimension is a pass of `fourier_lines` over the whole array; a few long lines are transformed by `fourier_long`.
Tables (turns, chirps) depend on the lengths alone and are worked out in double precision. The error, as a part of the
root mean square of the result, is 1.2e-7 in float32, twice that where a chirp is needed (2e-16 and 4e-16 in float64).
"""
from __future__ import annotations

import functools
import math

import numpy as np

from autograd_core.kernels import fourier_long, host
from autograd_core.kernels.fourier_lines import lines
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, is_c_ordered, out, scratch

CHUNKS = 8  # of a pass: each has scratch memory of its own
LONGEST = 2 << 20  # bytes of a block of lines: it has to stay in the cache
LARGEST = 1 << 27  # bytes of an array, and 16 times those of a line: its tables take a multiple
POINTS = 8192  # of a chunk that works on one after the other

# ------------------------------------------------------------------------------------------------------------- tables


def radices(n: int) -> list[int] | None:
    """The factors of a transform in the order of its passes, fours at the end; None where there are others."""
    found = []
    for r in (5, 3, 2):
        while n % r == 0:
            n //= r
            found.append(r)
    twos = found.count(2)
    return [r for r in found if r != 2] + [2] * (twos % 2) + [4] * (twos // 2) if n == 1 else None


def smooth(least: int) -> int:
    """The smallest length from ``least`` on that is a power of two times 1, 3, 5, 9 or 15."""
    return min(odd << max(0, (-(-least // odd) - 1).bit_length()) for odd in (1, 3, 5, 9, 15))


def waves(numerator: np.ndarray, n: int) -> np.ndarray:
    """cos and -sin of 2 pi times whole numbers over ``n``, side by side."""
    quarters = 4 * (numerator.astype(np.int64) % n)
    whole = (2 * quarters + n) // (2 * n)  # the nearest ones: small angles have small errors
    angle = (quarters - whole * n) * (math.pi / (2 * n))
    return (np.exp(-1j * angle) * np.array([1, -1j, -1, 1j])[whole % 4]).view(np.float64)


def turns(n: int) -> np.ndarray:
    """What each pass of a transform of ``n`` points multiplies by."""
    found, m = [np.empty(0)], n
    for r in radices(n) or ():
        step, m = m, m // r
        found.append(waves(np.outer(np.arange(m), np.arange(1, r)).ravel(), step))
    return np.concatenate(found)


def turns_in(n: int) -> int:
    """How many floats `turns` holds."""
    found, m = 0, n
    for r in radices(n) or ():
        m //= r
        found += 2 * m * (r - 1)
    return found


def chirp(n: int) -> np.ndarray:
    """exp(-pi i k^2 / n)."""
    k = np.arange(n, dtype=np.int64)
    return waves(k * k, 2 * n)


def chirp_spectrum(n: int, length: int) -> np.ndarray:
    """The transform of the conjugate chirp, laid around ``length`` points, over ``length``."""
    k, wave = np.arange(n), chirp(n).reshape(-1, 2) @ [1, -1j]
    laid = np.zeros(length, np.complex128)
    laid[k] = laid[-k] = wave
    return (np.fft.fft(laid) / length).view(np.float64)


def in_planes(points: np.ndarray) -> np.ndarray:
    """Real parts, then imaginary ones, of points side by side."""
    return np.concatenate([points[::2], points[1::2]])


def turning(rows: int, columns: int) -> np.ndarray:
    """What a matrix of points multiplies by between the transforms of its columns and of its rows."""
    return in_planes(waves(np.outer(np.arange(rows), np.arange(columns)).ravel(), rows * columns))


class Line:
    """The transform of lines of ``points``: complex points, convolution (0: none), and where its tables lie, by name.

    ``matrix`` are the rows and columns that a single long line becomes.
    """

    def __init__(self, kind: str, points: int, matrix: tuple[int, int] | None = None) -> None:
        self.kind, self.points, self.matrix = kind, points, matrix
        self.even = kind != "complex" and points % 2 == 0
        self.complex = points // 2 if self.even else points
        self.chirp = 0 if radices(self.complex) is not None else smooth(2 * self.complex - 1)
        self.length = self.chirp or self.complex
        self.room = 2 * max(self.length, self.complex + 1)  # rows of vectors
        lengths = {"turns": turns_in(self.length)}
        if matrix is not None:
            lengths = {"turns": turns_in(matrix[0]), "row turns": turns_in(matrix[1]), "turning": 2 * self.length}
        if self.even:
            lengths["waves"] = 2 * (self.complex + 1)
        if self.chirp:
            lengths |= {"chirp": 2 * self.complex, "spectrum": 2 * self.chirp}
        ends = np.cumsum([*lengths.values()]).tolist()
        self.offsets, self.size = dict(zip(lengths, [0, *ends], strict=False)), ends[-1]

    def table(self) -> np.ndarray:
        """The tables one after the other."""
        if self.matrix is None:
            parts = [turns(self.length)]
        else:
            parts = [turns(self.matrix[0]), turns(self.matrix[1]), turning(*self.matrix)]
        if self.even:
            parts.append(waves(np.arange(self.complex + 1), self.points))
        if self.chirp:
            spectrum = chirp_spectrum(self.complex, self.chirp)
            parts += [chirp(self.complex), spectrum if self.matrix is None else in_planes(spectrum)]
        return np.concatenate(parts)

    @property
    def frequencies(self) -> int:
        """Points of the half spectrum of a real line."""
        return self.points // 2 + 1


@functools.lru_cache(256)
def line(kind: str, points: int, single: bool, lanes: int) -> Line | None:
    """The `Line` of so many points; None for a ``single`` long one that cannot be divided."""
    made = Line(kind, points)
    if not single:
        return made
    matrix = fourier_long.divided(made.length, lanes)
    return None if matrix is None else Line(kind, points, matrix)


def steps(shape: tuple[int, ...], sizes: tuple[int, ...], dims: tuple[int, ...], back: bool, dtype: np.dtype,
          lanes: int) -> list[tuple[int, Line]] | None:
    """(dimension, transform) in order: the halved dimension is the last, or the first on the way ``back``.

    None where a dimension is not served. ``shape`` is that of the input.
    """
    found = []
    kinds = ["complex"] * (len(dims) - 1) + ["from real" if back else "to real"]
    for d, points, kind in zip(dims, sizes, kinds, strict=True):
        along = d == len(shape) - 1
        beside = math.prod(shape[:d] if along else shape[d + 1 :])
        if max(beside, 16) * points * dtype.itemsize > LARGEST:
            return None
        made = line(kind, points, False, lanes)
        if made is None or beside < lanes // 2 or 2 * made.room * lanes * dtype.itemsize > LONGEST:
            made = line(kind, points, True, lanes) if along and len(dims) == 1 else None
        if made is None:
            return None
        found.append((d, made))
    return found[-1:] + found[:-1] if back else found


def tables(shape: tuple[int, ...], sizes: tuple[int, ...], dims: tuple[int, ...], back: bool, dtype: np.dtype,
           ) -> np.ndarray | None:
    """The tables of all dimensions, which a plan takes as its second input; None where there is no plan."""
    return _tables(shape, sizes, dims, back, dtype, host.lanes(dtype))


@functools.lru_cache(8)
def _tables(shape, sizes, dims, back, dtype, lanes):
    found = steps(shape, sizes, dims, back, dtype, lanes)
    return None if found is None else np.concatenate([step.table() for _, step in found]).astype(dtype)


# -------------------------------------------------------------------------------------------------------------- plans


def plan_fourier(x: Array, table: Array, *, sizes: tuple[int, ...], dims: tuple[int, ...], scale: float, back: bool,
                 ) -> Plan | None:
    """Plan `ops.signal_from_half`, or ``back``: `ops.half_from_signal`, of an input that needs no cutting or filling.

    ``sizes`` are those of the signal along ``dims``; ``table`` comes from `tables`.
    """
    if x.dtype.char not in "fd" or not is_c_ordered(x) or 0 in x.shape:
        return None
    found = steps(x.shape, sizes, dims, back, x.dtype, host.lanes(x.dtype))
    if found is None:
        return None
    shape = list(x.shape)
    for d, step in found:
        shape[d] = shape[d] if step.kind == "complex" else step.frequencies if back else step.points
    edge, inside = (bits(scale), bits(2 * scale)) if back else (bits(scale), bits(scale))
    result = Spec(tuple(shape), x.dtype)
    plan = _plan_lines if found[0][1].matrix is None else _plan_long
    return plan(x, found, result, edge, inside)


def _plan_lines(x: Array, found: list[tuple[int, Line]], result: Spec, edge: int, inside: int) -> Plan:
    """A pass over the array for each dimension; planes of real and of imaginary parts between them."""
    shape, size, lanes = list(x.shape), x.dtype.itemsize, host.lanes(x.dtype)
    plane = size * max(math.prod(x.shape[:d] + result.shape[d:]) for d in range(len(shape) + 1)) * (len(found) > 1)
    calls, offset, room = [], 0, 0
    for number, (d, step) in enumerate(found):
        before, shape[d] = shape[d], result.shape[d]
        outer, inner, along = math.prod(shape[:d]), math.prod(shape[d + 1 :]), d == len(shape) - 1
        outer, inner = (1, outer) if along else (outer, inner)
        blocks, floats = outer * -(-inner // lanes), step.room * lanes
        grain = -(-blocks // CHUNKS)
        room = max(room, -(-blocks // grain) * 2 * floats * size)
        of = (inp(0), 0) if number == 0 else (scratch(0), scratch(0, plane))
        to = (out(), 0) if number == len(found) - 1 else (scratch(0), scratch(0, plane))
        places = [step.offsets.get(name, 0) for name in ("waves", "chirp", "spectrum")]
        stages = radices(step.length) or []
        context = (*of, *to, inp(1, offset), scratch(1), floats, grain, inner, before, shape[d], step.points,
                   step.complex, step.chirp, edge, inside, *places, len(stages), *stages)  # fmt: skip
        calls.append(Call(lines(step.kind, along, x.dtype, lanes), context, blocks, grain))
        offset += step.size * size
    return Plan((result,), tuple(calls), (2 * plane, room))


def _plan_long(x: Array, found: list[tuple[int, Line]], result: Spec, edge: int, inside: int) -> Plan:
    """Single long lines: see `fourier_long`."""
    (_, step), size, lanes, dtype = found[0], x.dtype.itemsize, host.lanes(x.dtype), x.dtype
    assert step.matrix is not None  # the caller has looked
    (high, wide), count = step.matrix, math.prod(x.shape[:-1])
    plane, table = count * step.length * size, {name: inp(1, at * size) for name, at in step.offsets.items()}
    re, im, other_re, other_im = (scratch(0, i * plane) for i in range(4))
    floats, blocks = 2 * max(high, wide) * lanes, (count * -(-wide // lanes), count * -(-high // lanes))
    grains = [-(-n // CHUNKS) for n in blocks]
    room = max(-(-n // grain) for n, grain in zip(blocks, grains, strict=True)) * 2 * floats * size
    of_columns, of_rows = radices(high) or [], radices(wide) or []
    turning, second = inp(1, step.offsets["turning"] * size), step.length * size
    scale, half = (edge if step.kind == "to real" else bits(1.0)), step.complex

    def columns(back: bool) -> Call:
        context: tuple[Ref | int, ...] = (
            re, im, scratch(1), floats, grains[0], turning, inp(1, turning.offset + second), high, wide, back,
            table["turns"], len(of_columns), *of_columns)  # fmt: skip
        return Call(fourier_long.columns(dtype, lanes), context, blocks[0], grains[0])

    spectrum = table.get("spectrum", inp(1))
    waved: Ref | int = table.get("waves", 0)
    chirped: Ref | int = table.get("chirp", 0)
    across: tuple[Ref | int, ...] = (
        re, im, other_re, other_im, scratch(1), floats, grains[1], spectrum, inp(1, spectrum.offset + second), high,
        wide, 2 if step.chirp else 1, table["row turns"], len(of_rows), *of_rows)  # fmt: skip
    calls = [
        Call(fourier_long.begin(step.kind, dtype),
             (inp(0), re, im, waved, chirped, step.points, half, step.length, x.shape[-1], scale),
             count * step.length, POINTS),
        columns(False),
        Call(fourier_long.rows(dtype, lanes), across, blocks[1], grains[1]),
    ]  # fmt: skip
    if step.chirp:
        calls.append(columns(True))
        re, im = im, re  # as the convolution leaves them
    else:
        re, im = other_re, other_im
    pairs = result.shape[-1] // 2 if step.kind == "to real" and step.points % 2 == 0 else result.shape[-1]
    calls.append(Call(fourier_long.finish(step.kind, dtype),
                      (re, im, out(), waved, chirped, step.points, half, step.length, pairs, edge, inside),
                      count * pairs, POINTS))  # fmt: skip
    return Plan((result,), tuple(calls), (4 * plane, room))
