"""Matrix products: C = activation(alpha * A @ B + bias + residual), any strides, batches broadcast.

A register tile of C (:mod:`~autograd_core.kernels.tiles`) reads A where it lies, element by element, and B as rows of
vectors: where it lies, or copied into panels as wide as the tile, each contiguous. The first tile of a column of tiles
makes such a copy on its way, unless that takes a transposition or B is too large for the cache. The last tile of a row
or column of tiles overlaps the one before instead of being cut. A long inner dimension is cut into blocks whose panel
stays in the second-level cache, with the tiles kept between blocks in scratch memory, so they are always added in the
same order.
Products with few rows and both operands contiguous along the inner dimension are dot products of vectors.

Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.lazy import atomics, simd, tiles
from autograd_core.kernels.plan import Array, Call, Plan, Ref, Spec, bits, inp, out, scratch
from autograd_core.kernels.runner import range_kernel

CHUNK = 2_000_000  # floating-point operations of a chunk at least: some 20 us of one core
MOST_CHUNKS = 96
EAGER_LEAST = 1_500_000  # operations from which an eager call gains more from this kernel than it loses by its launch
EAGER_LINEAR = 200_000  # the same where BLAS finds B turned and a bias is added in a pass of its own
PANEL_PART = 4
MOST_ROOMS = 62  # threads that copy panels at once; others wait
TALL = 20  # tiles below each other that share the copy which the first of them makes of a panel of B
FEW_CHUNKS = 8  # where there would not be so many chunks, half as many tiles share it
COPIED_PART = 2  # B is copied so where it fits this part (one half) of the second-level cache
PACK_ROWS = 65  # from this many rows of C on, a copy of B in panels pays for a call of its own
LONG_ROWS = 32  # from this many rows of A on, a product of its own costs no more than its share of a longer one
UNUSUAL = 1.1  # what a shape of tiles must gain to have machine code of its own
DOT_ROWS = 16  # up to this many rows of C, a B that lies along the inner dimension is not copied


# -------------------------------------------------------------------------------------------------------- the problem


@dataclass(frozen=True)
class Product:
    """A batch of products C[m, n] = A[m, k] @ B[k, n]: sizes, and strides in elements.

    ``batch`` has rows (length, stride of A, stride of B, strides of the addends...), outermost dimension first; C lies
    in C order. ``added`` are (input, row stride, column stride) of the bias and the residual.
    """

    m: int
    n: int
    k: int
    a_row: int
    a_step: int
    b_step: int
    b_column: int
    batch: tuple[tuple[int, ...], ...]
    added: tuple[tuple[int, int, int], ...]
    a: Ref
    b: Ref
    a_tile: int = 0  # elements between copies of tiles of A, panels of B; 0 where they are read as they lie
    b_panel: int = 0

    @property
    def matrices(self) -> int:
        """How many products there are."""
        return math.prod(row[0] for row in self.batch)


def _strides(x: Array, shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Strides in elements of ``x`` broadcast to ``shape``; None where they are not whole."""
    if any(s % x.dtype.itemsize for s in x.strides):
        return None
    own = tuple(0 if n == 1 else s // x.dtype.itemsize for n, s in zip(x.shape, x.strides, strict=True))
    return (0,) * (len(shape) - len(own)) + own


def describe(a: Array, b: Array, bias: Array | None = None, residual: Array | None = None,
             ) -> tuple[Product, tuple[int, ...]] | None:
    """Return the product and the shape of its result; None if an operand has strides that kernels cannot take."""
    vector_a, vector_b = len(a.shape) == 1, len(b.shape) == 1
    if vector_a:
        a = Array((1, *a.shape), (0, *a.strides), a.dtype)
    if vector_b:
        b = Array((*b.shape, 1), (*b.strides, 0), b.dtype)
    (m, k), (inner, n) = a.shape[-2:], b.shape[-2:]
    if k != inner:
        raise ValueError(f"gemm: inner dimensions of a {a.shape} and b {b.shape} differ; they need to be equal")
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    added = []
    for index, x in ((2, bias), (3, residual)):
        if x is not None:  # seen with the dimensions of length 1 that a vector operand has dropped
            if vector_b:
                x = Array((*x.shape, 1), (*x.strides, 0), x.dtype)
            if vector_a and x.shape:
                x = Array((*x.shape[:-1], 1, x.shape[-1]), (*x.strides[:-1], 0, x.strides[-1]), x.dtype)
            added.append((index, x))
    shapes = [(a, (*batch, m, k)), (b, (*batch, k, n)), *((x, (*batch, m, n)) for _, x in added)]
    operands = [strides for x, shape in shapes if (strides := _strides(x, shape)) is not None]
    if len(operands) < len(shapes):
        return None
    rows = tuple((length, *(strides[d] for strides in operands)) for d, length in enumerate(batch) if length != 1)
    (a_row, a_step), (b_step, b_column) = operands[0][-2:], operands[1][-2:]
    product = Product(m, n, k, a_row, a_step, b_step, b_column, rows,
                      tuple((index, s[-2], s[-1]) for (index, _), s in zip(added, operands[2:], strict=True)),
                      inp(0), inp(1))
    return product, (*batch, *(() if vector_a else (m,)), *(() if vector_b else (n,)))


def simplify(p: Product) -> Product:
    """The same work with a matrix times a vector seen as a vector times a matrix, and batches over one B as rows."""
    if p.n == 1 and p.m > 1:
        batch = tuple((length, b, a, *rest) for length, a, b, *rest in p.batch)
        added = tuple((index, column, row) for index, row, column in p.added)
        p = replace(p, m=1, n=p.m, a_row=p.b_column, a_step=p.b_step, b_step=p.a_step, b_column=p.a_row, batch=batch,
                    added=added, a=p.b, b=p.a)
    while p.batch and p.batch[-1][2] == 0:
        length, a_batch, _, *added_batch = p.batch[-1]
        rows = [p.a_row, *(row for _, row, _ in p.added)]
        if p.m == 1:
            rows = [a_batch, *added_batch]
        if any(stride != p.m * row for stride, row in zip([a_batch, *added_batch], rows, strict=True) if p.m > 1):
            break
        added = tuple((index, row, column) for (index, _, column), row in zip(p.added, rows[1:], strict=True))
        p = replace(p, m=p.m * length, a_row=rows[0], batch=p.batch[:-1], added=added)
    return p


# ---------------------------------------------------------------------------------------------------------- the kernels


(A, B, C, HELD, M, N, K, DEEP, A_TILE, A_FIRST, A_ROW, A_STEP, B_PANEL, B_FIRST, B_COLUMN, B_STEP, BLOCK_TILES,
 BLOCK_PANELS, ROW_BLOCKS, COLUMN_BLOCKS, ROOMS, TAKEN, PLAIN, ALPHA, LEAST, ADDED, DIMENSIONS) = *range(26), 31
BATCH = 32  # length, strides of A, B and the addends: 5 words a dimension


def _finisher(S, T, narrow: int, ending: str):
    """Device function that scales a tile, adds the addends, limits it or applies the ending, and writes it to C.

    Of a ``narrow`` tile only so many columns, which may be beyond C, are its own: next to it another thread writes.
    """
    from autograd_core.kernels import vmath

    rows, function = T.rows, getattr(vmath, ending, None)

    @simd.device
    def finish(t, c, w, first, second, i, j):
        n = w[N]
        if w[PLAIN] == 0:
            t = tiles.scale(t, simd.real(w[ALPHA]))
        for at in range(ADDED, DIMENSIONS, 3):
            if w[at] != 0:
                x = simd.advance(simd.pointer(w[at], S), i * w[at + 1] + (first if at == ADDED else second))
                if w[at + 2] == 0:
                    t = tiles.add_rows(t, x, w[at + 1])
                elif narrow:
                    t = tiles.add(t, tiles.load_part(simd.advance(x, j), w[at + 1], n - j, T))
                else:
                    t = tiles.add(t, tiles.load(simd.advance(x, j), w[at + 1], T))
        if function is not None:
            t = tiles.apply(function, t)
        elif w[PLAIN] == 0:
            t = tiles.at_least(t, simd.real(w[LEAST]))
        if narrow:
            tiles.store_part(t, simd.advance(c, i * n + j), n, rows, min(n - j, narrow))
        else:
            tiles.store(t, simd.advance(c, i * n + j), n)

    return finish


def _room_taker():
    """Device function that takes the first free room: few threads at work write to few places, which stay in caches."""

    @simd.device
    def take_room(w):
        while True:
            taken, room = atomics.read(w, TAKEN), 0
            while room < MOST_ROOMS and (taken >> room) & 1:
                room += 1
            if room < MOST_ROOMS and atomics.swap(w, TAKEN, taken, taken | (1 << room)):
                return room
            atomics.pause()

    return take_room


@range_kernel
def multiply(dtype, lanes, rows, vectors, dots, ending):
    """Blocks of C; a unit is (matrix, block of columns, block of rows), the last fastest.

    Context: addresses, sizes, strides of A between tiles, their first rows, the rows of one, and steps, those of B
    between panels, their first columns, columns (with ``dots``, where the vectors run along the inner dimension) and
    steps, the blocks, rooms for copies of a panel (or 0), those taken (as bits), whether results are neither scaled nor
    limited, by what they are, from below, (address, row stride, column stride 0 or 1) of two addends, batch dimensions.
    Whether an operand was copied before is so but a matter of strides. ``ending`` is a function of vmath or "".
    """
    S, V = simd.scalar(dtype), simd.vector(dtype, lanes)
    T, width = simd.tile(V, rows, vectors), vectors if dots else vectors * lanes
    take_room = _room_taker()
    finish = _finisher(S, simd.tile(V, rows, 1) if dots else T, width if dots or vectors == 1 else 0, ending)

    def kernel(context, start, stop):
        w = simd.words(context)
        m, n, k, deep = w[M], w[N], w[K], w[DEEP]
        panels, row_tiles = (n + width - 1) // width, (m + rows - 1) // rows
        copying, room = w[ROOMS] != 0, 0
        if copying:
            room = take_room(w)
        copied = simd.advance(simd.pointer(w[ROOMS], S), room * deep * width)
        for unit in range(start, stop):
            rest = unit // w[ROW_BLOCKS]
            first_tile, matrix = (unit - rest * w[ROW_BLOCKS]) * w[BLOCK_TILES], rest // w[COLUMN_BLOCKS]
            first_panel = (rest - matrix * w[COLUMN_BLOCKS]) * w[BLOCK_PANELS]
            a, b = simd.pointer(w[A], S), simd.pointer(w[B], S)
            c = simd.advance(simd.pointer(w[C], S), matrix * m * n)
            held = simd.advance(simd.pointer(w[HELD], S), unit * w[BLOCK_PANELS] * w[BLOCK_TILES] * rows * width)
            first, second = 0, 0
            for d in range(w[DIMENSIONS] - 1, -1, -1):
                at = BATCH + 5 * d
                i, matrix = matrix % w[at], matrix // w[at]
                a, b = simd.advance(a, i * w[at + 1]), simd.advance(b, i * w[at + 2])
                first, second = first + i * w[at + 3], second + i * w[at + 4]
            last_tile = min(first_tile + w[BLOCK_TILES], row_tiles)
            last_panel = min(first_panel + w[BLOCK_PANELS], panels)
            from_k = 0
            while from_k == 0 or from_k < k:
                depth, place = min(deep, k - from_k), held
                for panel in range(first_panel, last_panel):
                    j = panel * width
                    if not dots:
                        j = max(min(j, n - width), 0)
                    right = simd.advance(b, panel * w[B_PANEL] + j * w[B_FIRST] + from_k * w[B_STEP])
                    right_step = w[B_STEP]
                    for tile in range(first_tile, last_tile):
                        i = min(tile * rows, m - rows)
                        left = simd.advance(a, tile * w[A_TILE] + i * w[A_FIRST] + from_k * w[A_STEP])
                        t = tiles.zeros(T)
                        if from_k > 0:
                            t = tiles.load(place, width, T)
                        if dots:
                            f = tiles.sums(tiles.add_dots(t, depth, left, w[A_ROW], right, w[B_COLUMN]))
                        elif copying and tile == first_tile:  # those below read what this one copies on its way
                            t = tiles.add_products_copying(t, depth, left, w[A_ROW], w[A_STEP], right, right_step,
                                                           copied)  # fmt: skip
                            f, right, right_step = t, copied, width
                        else:
                            t = tiles.add_products(t, depth, left, w[A_ROW], w[A_STEP], right, right_step)
                            f = t
                        if from_k + deep < k:
                            tiles.store(t, place, width)
                        else:
                            finish(f, c, w, first, second, i, j)
                        place = simd.advance(place, rows * width)
                from_k += deep
        if copying:
            atomics.add(w, TAKEN, -(1 << room))

    return kernel


PIECE = 256  # steps of the inner dimension that one unit of packing copies
GROUP = 8  # tiles of rows that it copies: their panels and the lines it reads from share the first-level cache


@range_kernel
def pack(dtype, lanes):
    """Copy B into panels [matrix, panel, k, width]; a unit is (matrix, panel, PIECE steps), the last fastest.

    Context: B, panels, n, k, strides of B (step, column), panels of a matrix, pieces of a panel, width (a multiple of
    ``lanes``), batch dimensions, then length and stride of each. Columns that B lacks are zeros.
    """
    rows, columns, elements = _copiers(dtype, lanes)
    S = simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        n, k, step, column, width = w[2], w[3], w[4], w[5], w[8]
        for unit in range(start, stop):
            whole = unit // w[7]
            begin, matrix = (unit - whole * w[7]) * PIECE, whole // w[6]
            j = (whole - matrix * w[6]) * width
            if n >= width:
                j = min(j, n - width)
            b = simd.advance(simd.pointer(w[0], S), begin * step + j * column)
            for d in range(w[9] - 1, -1, -1):
                b = simd.advance(b, matrix % w[10 + 2 * d] * w[11 + 2 * d])
                matrix //= w[10 + 2 * d]
            target, count = simd.advance(simd.pointer(w[1], S), (whole * k + begin) * width), min(PIECE, k - begin)
            if column == 1 and n >= width:
                rows(b, target, count, step, width)
            elif step == 1 and n >= width:
                columns(b, target, count, column, width)
            else:
                elements(b, target, count, step, column, n - j, width)

    return kernel


def _copiers(dtype, lanes: int):
    """Device functions that copy steps of a panel: from contiguous rows, from contiguous columns, from any order."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)
    square = simd.tile(V, lanes, 1)

    @simd.device
    def rows(b, target, count, step, width):
        for i in range(count):
            for v in range(0, width, lanes):
                simd.store(target, i * width + v, simd.load(b, i * step + v, V))

    @simd.device
    def columns(b, target, count, column, width):
        for i in range(0, count, lanes):
            for v in range(0, width, lanes):
                source, place = simd.advance(b, i + v * column), simd.advance(target, i * width + v)
                if count - i >= lanes:
                    tiles.store(tiles.transpose(tiles.load(source, column, square)), place, width)
                else:
                    t = tiles.transpose(tiles.load_part(source, column, count - i, square))
                    tiles.store_part(t, place, width, count - i, lanes)

    @simd.device
    def elements(b, target, count, step, column, left, width):
        for i in range(count):
            for v in range(width):
                target[i * width + v] = b[i * step + v * column] if v < left else S(0)

    return rows, columns, elements


@range_kernel
def pack_columns(dtype, rows):
    """Copy A with contiguous columns into panels [matrix, tile, k, rows]; a unit is (matrix, GROUP tiles, PIECE steps).

    Context: A, panels, m, k, stride of a step of A, distance of panels, groups of a matrix, pieces of a group, batch
    dimensions, then length and stride of each.
    """
    V, S = simd.vector(dtype, rows), simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        m, k, step, panel = w[2], w[3], w[4], w[5]
        row_tiles = (m + rows - 1) // rows
        for unit in range(start, stop):
            group = unit // w[7]
            begin, matrix = (unit - group * w[7]) * PIECE, group // w[6]
            first = (group - matrix * w[6]) * GROUP
            target = simd.advance(simd.pointer(w[1], S), matrix * row_tiles * panel)
            source = simd.pointer(w[0], S)
            for d in range(w[8] - 1, -1, -1):
                next_matrix = matrix // w[9 + 2 * d]
                source = simd.advance(source, (matrix - next_matrix * w[9 + 2 * d]) * w[10 + 2 * d])
                matrix = next_matrix
            end, last = min(begin + PIECE, k), min(first + GROUP, row_tiles)
            for from_k in range(begin, end, 4):
                if from_k + 4 <= end:
                    for tile in range(first, last):
                        x = simd.advance(source, from_k * step + min(tile * rows, m - rows))
                        y = simd.advance(target, tile * panel + from_k * rows)
                        for i in range(4):
                            simd.store(y, i * rows, simd.load(x, i * step, V))
                else:
                    for tile in range(first, last):
                        for at in range(from_k, end):
                            value = simd.load(source, at * step + min(tile * rows, m - rows), V)
                            simd.store(target, tile * panel + at * rows, value)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plan


@functools.cache
def tile_shape(m: int, n: int, lanes: int, registers: int) -> tuple[int, int]:
    """Return rows and vectors of the tile that wastes the least: estimated cycles a step of the inner dimension.

    A step of a tile takes as long as its multiply-adds, its loads or their latency, whichever is longest, for two units
    that do one vector a cycle each. Wide tiles are preferred where equal: they read A less often. So are a few shapes
    that others are hardly better than: each further one is compiled.
    """
    best = (math.inf, 0, 0)
    for vectors in (8, 4, 3, 2, 1):
        width = vectors * lanes
        if (width > n and vectors > 1) or (vectors == 8 and m > 1):
            continue
        fitting = [x for x in (8, 6, 4, 2, 1) if x * vectors + vectors + (registers < 32) <= registers]
        for rows in (x for x in fitting if x <= m):
            step = max(rows * vectors / 2, (rows + vectors) / 2, 4) + 1 / vectors
            cycles = -(-m // rows) * -(-n // width) * step * (1 if rows == fitting[0] and vectors != 3 else UNUSUAL)
            best = min(best, (cycles, -vectors, -rows))
    return -best[2], -best[1]


def _copies(p: Product, operand: int, size: int) -> tuple[list[int], tuple[tuple[int, ...], ...], int]:
    """Batch dimensions that copies of operand 0 (A) or 1 (B), of so many elements each, need.

    Returns the context words of those that the operand has (what serves many products is copied once), the batch with
    its new strides, and the number of copies.
    """
    copies, at = 1, 1 + operand
    words: list[int] = []
    batch: list[tuple[int, ...]] = []
    for row in reversed(p.batch):
        batch.append((*row[:at], copies * size if row[at] else 0, *row[at + 1:]))
        if row[at]:
            copies *= row[0]
            words = [row[0], row[at], *words]
    return [len(words) // 2, *words], tuple(reversed(batch)), copies


def _pack_b(p: Product, dtype: np.dtype, width: int, target: Ref) -> tuple[Call, Product, int]:
    """The call that copies B into panels at ``target``, the product that reads them, the bytes they take."""
    lanes, panels, pieces = host.lanes(dtype), -(-p.n // width), -(-p.k // PIECE)
    words, batch, copies = _copies(p, 1, panels * p.k * width)
    units = copies * panels * pieces
    context: tuple[int | Ref, ...] = (p.b, target, p.n, p.k, p.b_step, p.b_column, panels, pieces, width,
                                     *words)
    call = Call(pack(dtype, lanes), context, units, max(1, min(8, units // 4)))
    size = copies * panels * p.k * width * dtype.itemsize
    return call, replace(p, b=target, b_step=width, b_panel=p.k * width, batch=batch), size


def _pack_a(p: Product, dtype: np.dtype, rows: int, target: Ref) -> tuple[Call, Product, int]:
    """As :func:`_pack_b`, for an A whose columns are contiguous: a panel holds the rows of a tile, step by step."""
    tiles_, pieces = -(-p.m // rows), -(-p.k // PIECE)
    panel = p.k * rows + host.lanes(dtype)  # panels a power of two apart would compete for the same lines of the cache
    words, batch, copies = _copies(p, 0, tiles_ * panel)
    groups = -(-tiles_ // GROUP)
    units = copies * groups * pieces
    context: tuple[int | Ref, ...] = (p.a, target, p.m, p.k, p.a_step, panel, groups, pieces, *words)
    call = Call(pack_columns(dtype, rows), context, units, max(1, min(4, units // 4)))
    p = replace(p, a=target, a_tile=panel, a_row=1, a_step=rows, batch=batch)
    return call, p, copies * tiles_ * panel * dtype.itemsize


@dataclass(frozen=True)
class Blocks:
    """How a product is divided: tiles of rows and panels of a block, blocks of a chunk, and blocks of a matrix."""

    tiles: int
    panels: int
    grain: int
    row_blocks: int
    column_blocks: int


def _blocks(p: Product, rows: int, width: int, tall: bool) -> Blocks:
    """Chunks of some CHUNK operations; with ``tall`` as few as can be read each panel of B."""
    tiles_, panels = -(-p.m // rows), -(-p.n // width)
    operations = 2 * p.m * p.n * max(p.k, 1)
    wanted = max(1, min(MOST_CHUNKS, operations * p.matrices // CHUNK))
    if p.matrices >= wanted:
        return Blocks(tiles_, panels, -(-p.matrices // wanted), 1, 1)
    block_tiles, block_panels = tiles_, panels
    if tall:
        block_panels = -(-panels * p.matrices // wanted)
        beside = -(-panels // block_panels) * p.matrices
        parts = min(-(-wanted // beside), max(tiles_ // TALL, min(-(-FEW_CHUNKS // beside), 2 * tiles_ // TALL)))
        block_tiles = -(-tiles_ // max(parts, 1))
        wanted = 1
    while -(-tiles_ // block_tiles) * -(-panels // block_panels) * p.matrices < wanted:
        if block_tiles > 1 and (block_panels == 1 or block_tiles > 4 * block_panels):
            block_tiles = -(-block_tiles // 2)
        elif block_panels > 1:
            block_panels = -(-block_panels // 2)
        else:
            break
    return Blocks(block_tiles, block_panels, 1, -(-tiles_ // block_tiles), -(-panels // block_panels))


@dataclass(frozen=True)
class Feeding:
    """How tiles get their operands: their shape, whether they are dot products, how many steps at once.

    ``copying``: the first tile of a block leaves a copy of the panel that it reads for those below it. ``calls`` copy
    operands beforehand, to ``pieces`` of scratch memory.
    """

    product: Product
    rows: int
    vectors: int
    width: int
    deep: int
    blocks: Blocks
    dots: bool = False
    copying: bool = False
    calls: tuple[Call, ...] = ()
    pieces: tuple[int, ...] = ()


def _even(k: int, deepest: int) -> int:
    """The length of the fewest blocks of at most ``deepest`` steps that make up ``k``."""
    return max(1, -(-k // max(1, -(-k // deepest))))


def _feeding(p: Product, dtype: np.dtype) -> Feeding:
    """Choose tiles, blocks and the way of reading the operands."""
    lanes, cache = host.lanes(dtype), host.caches()[1]
    if p.b_step == 1 and p.a_step == 1 and p.b_column != 1 and p.m <= DOT_ROWS:
        rows = next(x for x in (4, 2, 1) if x <= p.m)
        columns = next(x for x in (8, 4, 2, 1) if x <= min(p.n, lanes, 8 // rows if rows < 4 else 4))
        return Feeding(p, rows, columns, columns, max(p.k, 1), _blocks(p, rows, columns, False), dots=True)
    rows, vectors = tile_shape(p.m, p.n, lanes, host.registers())
    width = vectors * lanes
    deepest = max(64, cache // PANEL_PART // (width * dtype.itemsize))
    calls, pieces, copying = [], [], False
    as_rows = p.b_column == 1 and p.n >= width
    if as_rows and (p.m <= 2 * rows or p.b_step == p.n == width):
        pass  # B is read where it lies: too seldom for a copy, or as a panel that it is already
    elif as_rows and p.k * p.b_step * dtype.itemsize < cache // COPIED_PART:
        copying = True
        deepest //= 2
    elif not as_rows or p.m >= PACK_ROWS:
        call, p, size = _pack_b(p, dtype, width, scratch(0))
        calls, pieces = [call], [size]
    if p.m >= PACK_ROWS and p.a_row == 1 and p.a_step != 1 and p.k * p.a_step * dtype.itemsize > cache // 3:
        call, p, size = _pack_a(p, dtype, rows, scratch(len(pieces)))
        calls, pieces = [*calls, call], [*pieces, size]
    return Feeding(p, rows, vectors, width, _even(p.k, deepest), _blocks(p, rows, width, copying), False, copying,
                   tuple(calls), tuple(pieces))


def gemm(a: Array, b: Array, bias: Array | None = None, residual: Array | None = None, *, alpha: float = 1.0,
         activation: str = "") -> Plan | None:
    """Plan ``activation(alpha * a @ b + bias + residual)`` with the shapes of ``numpy.matmul``.

    ``bias`` and ``residual`` broadcast to the result. float32 and float64, one dtype for all. ``activation`` is "",
    "relu" or a function of :mod:`~autograd_core.kernels.vmath`.
    """
    present = [x for x in (a, b, bias, residual) if x is not None]
    dtype = a.dtype
    if dtype.char not in "fd" or any(x.dtype != dtype or not x.dtype.isnative for x in present):
        return None
    found = describe(a, b, bias, residual)
    if found is None or any(column not in (0, 1) for _, _, column in simplify(found[0]).added):
        return None
    product, shape = simplify(found[0]), found[1]
    outputs = (Spec(shape, dtype),)
    if 0 in shape:
        return Plan(outputs, ())
    lanes = host.lanes(dtype)
    f = _feeding(product, dtype)
    p, blocks, tile, pieces = f.product, f.blocks, f.rows * f.width * dtype.itemsize, list(f.pieces)
    units = p.matrices * blocks.row_blocks * blocks.column_blocks
    held: int | Ref = 0
    rooms: int | Ref = 0
    if p.k > f.deep:
        held = scratch(len(pieces))
        pieces.append(units * blocks.tiles * blocks.panels * tile)
    if f.copying and blocks.tiles > 1:
        rooms = scratch(len(pieces))
        pieces.append(min(MOST_ROOMS, -(-units // blocks.grain)) * f.deep * f.width * dtype.itemsize)
    least = 0.0 if activation == "relu" else -math.inf
    added = [word for index, row, column in p.added for word in (inp(index), row, column)] + [0] * 6
    context = (
        p.a, p.b, out(0), held, p.m, p.n, p.k, f.deep, p.a_tile, 0 if p.a_tile else p.a_row, p.a_row, p.a_step,
        p.b_panel, 0 if p.b_panel else p.b_column, p.b_column, p.b_step, blocks.tiles, blocks.panels, blocks.row_blocks,
        blocks.column_blocks, rooms, 0, int(alpha == 1 and activation != "relu"), bits(alpha), bits(least),
        *added[:6], len(p.batch), *(x for row in p.batch for x in (*row, 0, 0)[:5]))  # fmt: skip
    kernel = multiply(dtype, lanes, f.rows, f.vectors, f.dots, "" if activation == "relu" else activation)
    return Plan(outputs, (*f.calls, Call(kernel, context, units, blocks.grain)), tuple(pieces))


def _in_order(x: Array, plan_rows: Callable[[Array], Plan | None]) -> Plan | None:
    """``plan_rows(x)``, a product of every row of x, with the leading dimensions in the order that they have in memory.

    The result lies in that order, too. So a batch that was transposed is still one long product.
    """
    lead = len(x.shape) - 1
    order = sorted(range(lead), key=lambda d: (-x.strides[d], d))
    if order == list(range(lead)) or 0 in x.shape:
        return plan_rows(x)
    plan = plan_rows(Array((*(x.shape[d] for d in order), x.shape[-1]), (*(x.strides[d] for d in order), x.strides[-1]),
                           x.dtype))  # fmt: skip
    if plan is None or plan.outputs[0] is None:
        return None
    width = plan.outputs[0].shape[-1]
    shape, strides, step = (*x.shape[:-1], width), [x.dtype.itemsize] * len(x.shape), width * x.dtype.itemsize
    for d in reversed(order):
        strides[d] = step
        step *= x.shape[d]
    return replace(plan, outputs=(Spec(shape, x.dtype, tuple(strides)),))


def gemm_in_order(a: Array, b: Array, bias: Array | None = None, residual: Array | None = None, *, alpha: float = 1.0,
                  activation: str = "") -> Plan | None:
    """As :func:`gemm`; where every row of ``a`` meets the same ``b``, the result lies as the rows of ``a`` do.

    A batch whose dimensions were exchanged is then still one long product, not many short ones. Where those are not
    short, the result is in C order.
    """
    plain = residual is not None or (bias is not None and len(bias.shape) > 1)
    if plain or len(b.shape) != 2 or len(a.shape) < 3 or a.shape[-2] >= LONG_ROWS:
        return gemm(a, b, bias, residual, alpha=alpha, activation=activation)
    return _in_order(a, lambda rows: gemm(rows, b, bias, alpha=alpha, activation=activation))


def matmul(a: Array, b: Array) -> Plan | None:
    """Plan ``numpy.matmul(a, b)`` for an eager call: None where one thread of BLAS, which NumPy calls, is faster."""
    operations = 2 * math.prod(a.shape) * (b.shape[-1] if len(b.shape) > 1 else 1)
    return None if operations < EAGER_LEAST else gemm_in_order(a, b)


def linear(x: Array, weight: Array, bias: Array | None = None) -> Plan | None:
    """Plan ``x @ weight.T + bias`` for an eager call, as :func:`matmul`."""
    if 2 * math.prod(x.shape) * weight.shape[0] < EAGER_LINEAR:
        return None
    return gemm_in_order(x, Array(weight.shape[::-1], weight.strides[::-1], weight.dtype), bias)


def matmul_added(input: Array, left: Array, right: Array) -> Plan | None:
    """Plan ``input + left @ right`` for an eager call, as :func:`matmul`."""
    if 2 * math.prod(left.shape) * right.shape[-1] < EAGER_LEAST:
        return None
    return gemm(left, right, residual=input)
