"""Distances between all pairs of rows of two matrices (cdist), or of one (pdist), and their gradients.

Forward, the rows of the second matrix are packed into panels, feature by feature: two vectors hold one feature of as
many rows, and are compared with four rows of the first matrix at a time. Backward, vectors hold the features of four
rows, and every row of the other matrix pulls at them with its weight. Sums over features and over rows are taken in
blocks, whose results are added up: rounding errors grow with the blocks' length and number, not with their product.
"""
from __future__ import annotations

import math

import numpy as np

from autograd_core.kernels import distances_product, host
from autograd_core.kernels.lazy import simd, vmath
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, is_c_ordered, out, scratch
from autograd_core.kernels.runner import RangeKernel, range_kernel
from autograd_core.kernels.runs import is_flat, reader, served

ROWS = 4  # of the first matrix that are worked on together
BLOCK = 64  # features, or rows, that one sum goes over
WORK = 1 << 18  # differences of a chunk
GRAIN = 16384  # elements of a chunk of weights


def kind_of(p: float) -> str:
    """Which formula serves the order ``p``: "0", "1", "2", "inf", "-inf", or "p" for all others."""
    return {0: "0", 1: "1", 2: "2", math.inf: "inf", -math.inf: "-inf"}.get(p, "p")


def metric(kind: str):
    """(device functions: a sum with one more difference, two sums joined, the distance of a sum; where sums begin)."""
    plus, same = simd.device(lambda a, b: a + b), simd.device(lambda total, root: total)
    if kind == "0":
        return simd.device(lambda total, d, p: simd.where(d != 0, total + 1, total)), plus, same, 0.0
    if kind == "1":
        return simd.device(lambda total, d, p: total + simd.absolute(d)), plus, same, 0.0
    if kind == "2":
        root = simd.device(lambda total, root: simd.sqrt(total))
        return simd.device(lambda total, d, p: total + d * d), plus, root, 0.0
    if kind == "inf":
        return simd.device(lambda total, d, p: simd.maximum(total, simd.absolute(d))), simd.maximum, same, 0.0
    if kind == "-inf":
        return simd.device(lambda total, d, p: simd.minimum(total, simd.absolute(d))), simd.minimum, same, math.inf
    pow = vmath.pow
    return (simd.device(lambda total, d, p: total + pow(simd.absolute(d), p)), plus,
            simd.device(lambda total, root: pow(total, root)), 0.0)  # noqa: PLW0108 (a device function is a function)


def _call(kernel: RangeKernel, context: tuple[int | Ref, ...], units: int, each: int) -> Call:
    """A call whose units take so many differences each; chunks of several use what is in the cache more than once."""
    return Call(kernel, context, units, max(1, WORK // each, min(8, units // 16)))


# ------------------------------------------------------------------------------------------------------------- forward


@range_kernel
def pack(dtype, lanes):
    """Panels of two vectors of rows, feature by feature; the last row is repeated. A unit is (matrix, panel).

    Context: x, panels, features, rows, panels of a matrix.
    """
    V, W, S = simd.vector(dtype, lanes), simd.vector(np.int64, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        features, rows, panels = w[2], w[3], w[4]
        for unit in range(start, stop):
            matrix = unit // panels
            j = (unit - matrix * panels) * 2 * lanes
            x = simd.advance(simd.pointer(w[0], S), matrix * rows * features)
            target = simd.advance(simd.pointer(w[1], S), unit * features * 2 * lanes)
            first = simd.minimum(simd.iota(W) + j, rows - 1) * features
            second = simd.minimum(simd.iota(W) + (j + lanes), rows - 1) * features
            for k in range(features):
                simd.store(target, k * 2 * lanes, simd.gather(x, first + k, V))
                simd.store(target, k * 2 * lanes + lanes, simd.gather(x, second + k, V))

    return kernel


@range_kernel
def pairs(dtype, lanes, kind, triangle):
    """Distances of rows to packed ones; a unit is (matrix, block of rows). ``triangle``: only to later rows, densely.

    Context: x, panels, out, features, rows, columns, panels of a matrix, blocks of a matrix, p, 1 / p.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    add, join, close, _ = metric(kind)

    @simd.device
    def put(target, i, j, columns, value):
        low, base = 0, i * columns
        if triangle:
            low, base = i + 1, i * (columns - 1) - i * (i - 1) // 2 - i - 1
        if j >= low and j + lanes <= columns:
            simd.store(target, base + j, value)
        else:
            for k in range(max(low - j, 0), min(columns - j, lanes)):
                target[base + j + k] = simd.lane(value, k)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, rows, columns, panels, blocks = w[3], w[4], w[5], w[6], w[7]
        p, root = S(simd.real(w[8])), S(simd.real(w[9]))
        zero = simd.full(S(0), V)
        for panel in range(panels):
            for unit in range(start, stop):
                matrix = unit // blocks
                i0 = (unit - matrix * blocks) * ROWS
                if triangle and (panel + 1) * 2 * lanes <= i0 + 1:
                    continue
                i1, i2, i3 = min(i0 + 1, rows - 1), min(i0 + 2, rows - 1), min(i0 + 3, rows - 1)
                x = simd.advance(simd.pointer(w[0], S), matrix * rows * n)
                x0, x1 = simd.advance(x, i0 * n), simd.advance(x, i1 * n)
                x2, x3 = simd.advance(x, i2 * n), simd.advance(x, i3 * n)
                t = simd.advance(simd.pointer(w[1], S), (matrix * panels + panel) * n * 2 * lanes)
                a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
                for first in range(0, n, BLOCK):
                    c0, c1, c2, c3, d0, d1, d2, d3 = zero, zero, zero, zero, zero, zero, zero, zero
                    for k in range(first, min(first + BLOCK, n)):
                        u, v = simd.load(t, k * 2 * lanes, V), simd.load(t, k * 2 * lanes + lanes, V)
                        c0, d0 = add(c0, u - x0[k], p), add(d0, v - x0[k], p)
                        c1, d1 = add(c1, u - x1[k], p), add(d1, v - x1[k], p)
                        c2, d2 = add(c2, u - x2[k], p), add(d2, v - x2[k], p)
                        c3, d3 = add(c3, u - x3[k], p), add(d3, v - x3[k], p)
                    a0, a1, a2, a3 = join(a0, c0), join(a1, c1), join(a2, c2), join(a3, c3)
                    b0, b1, b2, b3 = join(b0, d0), join(b1, d1), join(b2, d2), join(b3, d3)
                target, j = simd.advance(simd.pointer(w[2], S), matrix * rows * columns), panel * 2 * lanes
                put(target, i0, j, columns, close(a0, root))
                put(target, i1, j, columns, close(a1, root))
                put(target, i2, j, columns, close(a2, root))
                put(target, i3, j, columns, close(a3, root))
                put(target, i0, j + lanes, columns, close(b0, root))
                put(target, i1, j + lanes, columns, close(b1, root))
                put(target, i2, j + lanes, columns, close(b2, root))
                put(target, i3, j + lanes, columns, close(b3, root))

    return kernel


def _pairs(x: Array, y: Array, at: Ref, p: float, shape: tuple[int, ...], triangle: bool) -> Plan:
    """The plan of distances of rows of input 0 to rows of the input ``at``."""
    dtype, lanes, n = x.dtype, host.lanes(x.dtype), x.shape[-1]
    rows, columns, matrices = x.shape[-2], y.shape[-2], math.prod(x.shape[:-2])
    panels, blocks = -(-columns // (2 * lanes)), -(-rows // ROWS)
    room = matrices * panels * n * 2 * lanes * dtype.itemsize
    packing = Call(pack(dtype, lanes), (at, scratch(0), n, columns, panels), matrices * panels,
                   max(1, GRAIN // (n * 2 * lanes)))  # fmt: skip
    kind = kind_of(p)
    context = (inp(0), scratch(0), out(0), n, rows, columns, panels, blocks, bits(p), bits(1 / p if p else 1))
    work = _call(pairs(dtype, lanes, kind, triangle), context, matrices * blocks, ROWS * columns * n)
    return Plan((Spec(shape, dtype),), (packing, work), (room,))


def cdist(x1: Array, x2: Array, *, p: float, product: bool = False) -> Plan | None:
    """Plan the distances between rows of C-ordered (..., P, M) and (..., R, M), as (..., P, R).

    ``product`` allows a matrix product where ``p`` is 2 and there is much to do.
    """
    if not served(x1, x2) or x1.shape[:-2] != x2.shape[:-2] or 0 in x1.shape or 0 in x2.shape:
        return None
    if product and p == 2 and distances_product.serves(x1, x2):
        return distances_product.cdist(x1, x2)
    return _pairs(x1, x2, inp(1), p, (*x1.shape[:-1], x2.shape[-2]), False)


def pdist(x: Array, *, p: float) -> Plan | None:
    """Plan the distances between rows of a C-ordered matrix: (0, 1), (0, 2), ..., (1, 2), ..."""
    count = x.shape[0]
    if not served(x) or count < 2 or 0 in x.shape:
        return None
    return _pairs(x, x, inp(0), p, (count * (count - 1) // 2,), True)


# ------------------------------------------------------------------------------------------------------------ backward


def _share(kind: str):
    """Device function: what a pair's gradient is multiplied with for each feature, but for the feature's difference."""
    if kind == "2":
        return simd.device(lambda g, far, power: simd.where(far == 0, 0, g / far))
    if kind == "p":
        pow = vmath.pow
        return simd.device(lambda g, far, power: simd.where(far == 0, 0, g / pow(far, power)))
    return simd.device(lambda g, far, power: g)


def _pull(kind: str):
    """Device function: a sum with the pull of one more row: its difference ``d``, weight ``w``, distance ``far``."""
    if kind == "2":
        return simd.device(lambda total, d, w, far, power: total + d * w)
    if kind == "1":
        return simd.device(lambda total, d, w, far, power:
                           total + simd.where(d > 0, w, simd.where(d < 0, -w, d * 0)))
    if kind == "inf":
        return simd.device(lambda total, d, w, far, power: simd.where(
            (simd.absolute(d) == far) & (d != 0), simd.where(d > 0, total + w, total - w), total))
    pow = vmath.pow
    return simd.device(lambda total, d, w, far, power: simd.where(  # a root of 0 takes long
        d == 0, total, total + simd.copysign(pow(simd.where(d == 0, 1, simd.absolute(d)), power), d) * w))


@range_kernel
def shares(dtype, lanes, kind, flat, triangle):
    """The weights of pairs. A unit is one vector or, of a ``triangle``, one row, whose weights go to both triangles.

    Context: g, distances, weights, pairs, rows, p - 1, distances of the whole square or 0.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    get, share = reader(dtype, lanes, flat)[1], _share(kind)

    def kernel(context, start, stop):
        w = simd.words(context)
        g, far, weights = simd.pointer(w[0], S), simd.pointer(w[1], S), simd.pointer(w[2], S)
        rows, power = w[4], S(simd.real(w[5]))
        for unit in range(start, stop):
            if not triangle:
                i, left = unit * lanes, w[3] - unit * lanes
                value = share(get(g, i, left), simd.load_part(far, i, left, V), power)
                simd.store_part(weights, i, value, left)
                continue
            weights[unit * rows + unit] = S(0)
            base = unit * (rows - 1) - unit * (unit - 1) // 2 - unit - 1
            for j in range(unit + 1, rows, lanes):
                left = min(rows - j, lanes)
                d = simd.load_part(far, base + j, left, V)
                value = share(get(g, base + j, left), d, power)
                simd.store_part(weights, unit * rows + j, value, left)
                for k in range(left):
                    weights[(j + k) * rows + unit] = simd.lane(value, k)
                if w[6] != 0:
                    square = simd.pointer(w[6], S)
                    simd.store_part(square, unit * rows + j, d, left)
                    for k in range(left):
                        square[(j + k) * rows + unit] = simd.lane(d, k)

    return kernel


@range_kernel
def slabs(dtype, lanes):
    """Slabs of two vectors of features, row by row, zeros after the last one. A unit is (matrix, slab).

    Context: x, slabs, features, rows, slabs of a matrix.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, rows = w[2], w[3]
        for unit in range(start, stop):
            matrix = unit // w[4]
            k = (unit - matrix * w[4]) * 2 * lanes
            x = simd.advance(simd.pointer(w[0], S), matrix * rows * n + k)
            target = simd.advance(simd.pointer(w[1], S), unit * rows * 2 * lanes)
            for row in range(rows):
                simd.store(target, row * 2 * lanes, simd.load_part(x, row * n, n - k, V))
                simd.store(target, row * 2 * lanes + lanes, simd.load_part(x, row * n + lanes, n - k - lanes, V))

    return kernel


@range_kernel
def pulls(dtype, lanes, kind):
    """Gradients of rows: the sum of the pulls of all rows of the other matrix. A unit is (matrix, block of rows).

    Context: x, slabs of the other matrix, weights, distances, out, features, rows, other rows, blocks, elements of
    ``weights`` from row to row, from other row to other row, p - 1.
    """
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    pull = _pull(kind)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, rows, others, blocks, down, along, power = w[5], w[6], w[7], w[8], w[9], w[10], S(simd.real(w[11]))
        zero, slabs_of_one = simd.full(S(0), V), (n + 2 * lanes - 1) // (2 * lanes)
        for c in range(0, n, 2 * lanes):  # outside so that these features of the other matrix stay in the cache
            here, there, left, more = c, c + lanes, n - c, n - c - lanes
            for unit in range(start, stop):
                matrix = unit // blocks
                i0 = (unit - matrix * blocks) * ROWS
                i1, i2, i3 = min(i0 + 1, rows - 1), min(i0 + 2, rows - 1), min(i0 + 3, rows - 1)
                x = simd.advance(simd.pointer(w[0], S), matrix * rows * n)
                y = simd.advance(simd.pointer(w[1], S), (matrix * slabs_of_one * 2 * lanes + c) * others)
                target = simd.advance(simd.pointer(w[4], S), matrix * rows * n)
                weights = simd.advance(simd.pointer(w[2], S), matrix * rows * others)
                far = simd.advance(simd.pointer(w[3], S), matrix * rows * others)
                x0, x1 = simd.load_part(x, i0 * n + here, left, V), simd.load_part(x, i1 * n + here, left, V)
                x2, x3 = simd.load_part(x, i2 * n + here, left, V), simd.load_part(x, i3 * n + here, left, V)
                y0, y1 = simd.load_part(x, i0 * n + there, more, V), simd.load_part(x, i1 * n + there, more, V)
                y2, y3 = simd.load_part(x, i2 * n + there, more, V), simd.load_part(x, i3 * n + there, more, V)
                a0, a1, a2, a3, b0, b1, b2, b3 = zero, zero, zero, zero, zero, zero, zero, zero
                for first in range(0, others, BLOCK):
                    c0, c1, c2, c3, d0, d1, d2, d3 = zero, zero, zero, zero, zero, zero, zero, zero
                    for j in range(first, min(first + BLOCK, others)):
                        u, v = simd.load(y, j * 2 * lanes, V), simd.load(y, j * 2 * lanes + lanes, V)
                        p0, p1 = i0 * down + j * along, i1 * down + j * along
                        p2, p3 = i2 * down + j * along, i3 * down + j * along
                        c0 = pull(c0, x0 - u, weights[p0], far[p0], power)
                        d0 = pull(d0, y0 - v, weights[p0], far[p0], power)
                        c1 = pull(c1, x1 - u, weights[p1], far[p1], power)
                        d1 = pull(d1, y1 - v, weights[p1], far[p1], power)
                        c2 = pull(c2, x2 - u, weights[p2], far[p2], power)
                        d2 = pull(d2, y2 - v, weights[p2], far[p2], power)
                        c3 = pull(c3, x3 - u, weights[p3], far[p3], power)
                        d3 = pull(d3, y3 - v, weights[p3], far[p3], power)
                    a0, a1, a2, a3 = a0 + c0, a1 + c1, a2 + c2, a3 + c3
                    b0, b1, b2, b3 = b0 + d0, b1 + d1, b2 + d2, b3 + d3
                simd.store_part(target, i0 * n + here, a0, left)
                simd.store_part(target, i1 * n + here, a1, left)
                simd.store_part(target, i2 * n + here, a2, left)
                simd.store_part(target, i3 * n + here, a3, left)
                simd.store_part(target, i0 * n + there, b0, more)
                simd.store_part(target, i1 * n + there, b1, more)
                simd.store_part(target, i2 * n + there, b2, more)
                simd.store_part(target, i3 * n + there, b3, more)

    return kernel


def _pulls(x: Array, y: Array, places: tuple[Ref, Ref], work: tuple[Ref, Ref], far: Ref, target: Ref,
           steps: tuple[int, int], p: float) -> tuple[Call, Call]:  # fmt: skip
    """The calls for the gradient of the rows of x: its place and that of y, slabs and weights, distances, result."""
    dtype, lanes, (rows, n), others = x.dtype, host.lanes(x.dtype), x.shape[-2:], y.shape[-2]
    matrices = math.prod(x.shape[:-2])
    blocks, each = -(-rows // ROWS), -(-n // (2 * lanes))
    packing = Call(slabs(dtype, lanes), (places[1], work[0], n, others, each), matrices * each,
                   max(1, GRAIN // (others * 2 * lanes)))  # fmt: skip
    context = (places[0], *work, far, target, n, rows, others, blocks, *steps, bits(p - 1))
    return packing, _call(pulls(dtype, lanes, kind_of(p)), context, matrices * blocks, ROWS * others * n)


def _room(x: Array) -> int:
    """Bytes of the slabs of a matrix."""
    width = 2 * host.lanes(x.dtype)
    return math.prod(x.shape[:-1]) * -(-x.shape[-1] // width) * width * x.dtype.itemsize


def cdist_backward(g: Array, x1: Array, x2: Array, far: Array, *, p: float,
                   needs: tuple[bool, bool] = (True, True)) -> Plan | None:  # fmt: skip
    """Plan the gradients of `cdist` in both matrices, or those that are needed; ``far`` are the distances."""
    flat = is_flat(g)
    if not served(x1, x2, far) or g.dtype != x1.dtype or not (flat or is_c_ordered(g)) or 0 in far.shape:
        return None
    if x1.shape[:-2] != x2.shape[:-2] or 0 in x1.shape or not p:
        return None
    dtype, lanes, size = x1.dtype, host.lanes(x1.dtype), math.prod(far.shape)
    columns = far.shape[-1]
    calls = [Call(shares(dtype, lanes, kind_of(p), flat, False),
                  (inp(0), inp(3), scratch(0), size, 0, bits(p - 1), 0), -(-size // lanes), GRAIN // lanes)]
    work = scratch(1), scratch(0)
    if needs[0]:
        calls += _pulls(x1, x2, (inp(1), inp(2)), work, inp(3), out(0), (columns, 1), p)
    if needs[1]:
        calls += _pulls(x2, x1, (inp(2), inp(1)), work, inp(3), out(1), (1, columns), p)
    specs = tuple([Spec(x.shape, dtype) if need else None for x, need in zip((x1, x2), needs, strict=True)])
    return Plan(specs, tuple(calls), (size * dtype.itemsize, max(_room(x1), _room(x2))))


def pdist_backward(g: Array, x: Array, far: Array, *, p: float) -> Plan | None:
    """Plan the gradient of `pdist`; ``far`` are the distances."""
    flat, count = is_flat(g), x.shape[0]
    if not served(x, far) or g.dtype != x.dtype or not (flat or is_c_ordered(g)) or 0 in (*far.shape, *x.shape, p):
        return None
    dtype, kind, square = x.dtype, kind_of(p), count * count * x.dtype.itemsize
    whole = scratch(2) if kind == "inf" else None
    context = (inp(0), inp(2), scratch(0), 0, count, bits(p - 1), whole or 0)
    weigh = Call(shares(dtype, host.lanes(dtype), kind, flat, True), context, count, max(1, GRAIN // count))
    work = _pulls(x, x, (inp(1), inp(1)), (scratch(1), scratch(0)), whole or scratch(0), out(0), (count, 1), p)
    return Plan((Spec(x.shape, dtype),), (weigh, *work), (square, _room(x), square if whole else 0))
