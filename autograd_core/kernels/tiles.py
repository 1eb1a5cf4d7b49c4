"""Register tiles: the micro-kernels of matmul and convolution as values that a kernel can hold, change and store.

``T = simd.tile(V, rows, vectors)`` is a type of ``rows`` x ``vectors * lanes`` accumulators. A kernel makes one with
:func:`zeros` or :func:`load` (stride 0 repeats one row: a bias along the columns), adds products to it as often as it
likes, finishes it (bias, activation) and stores it; it stays in registers throughout. Functions exist while a kernel is
being compiled, like those of :mod:`~autograd_core.kernels.simd`. Strides and offsets count elements.

Blocking follows Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008, and BLIS.
"""
# Intrinsics are called with one argument less than they are written with; Numba types them.
# mypy: ignore-errors
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from autograd_core.kernels import simd
from autograd_core.kernels.simd import EXACT, I32, I64, _call, _llvm, _load, _load_part, _splat, _store, _store_part


def _unpack(builder, kind, value):
    """The rows x vectors LLVM vectors of a tile."""
    return [[builder.extract_value(value, r * kind.vectors + v) for v in range(kind.vectors)] for r in range(kind.rows)]


def _pack(builder, kind, rows):
    value = ir.Constant(ir.ArrayType(_llvm(kind.vector), kind.rows * kind.vectors), ir.Undefined)
    for i, vector in enumerate(v for row in rows for v in row):
        value = builder.insert_value(value, vector, i)
    return value


def _places(builder, kind, stride):
    """Element offset of each vector of a tile whose rows lie ``stride`` apart."""
    step = kind.vector.lanes
    return [[builder.add(builder.mul(stride, ir.Constant(I64, r)), ir.Constant(I64, v * step))
             for v in range(kind.vectors)] for r in range(kind.rows)]


@intrinsic
def zeros(typingctx, kind):
    """A tile of zeros."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        zero = ir.Constant(_llvm(wanted.vector), None)
        return _pack(builder, wanted, [[zero] * wanted.vectors] * wanted.rows)

    return signature(wanted, kind), codegen


@intrinsic
def load(typingctx, source, stride, kind):
    """The tile in memory at ``source``, its rows ``stride`` apart."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        to = _llvm(wanted.vector)
        places = _places(builder, wanted, args[1])
        return _pack(builder, wanted, [[_load(builder, args[0], p, to, wanted.vector.dtype) for p in row]
                                       for row in places])

    return signature(wanted, source, types.int64, kind), codegen


@intrinsic
def load_part(typingctx, source, stride, width, kind):
    """As :func:`load`, but only the first ``width`` columns of each row; 0 in the others."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        source, stride, width, _ = args
        to, step, rows = _llvm(wanted.vector), wanted.vector.lanes, []
        for line in _places(builder, wanted, stride):
            counts = [builder.sub(width, ir.Constant(I64, v * step)) for v in range(wanted.vectors)]
            rows.append([_load_part(builder, source, p, count, to) for p, count in zip(line, counts, strict=True)])
        return _pack(builder, wanted, rows)

    return signature(wanted, source, types.int64, types.int64, kind), codegen


@intrinsic
def store(typingctx, tile, target, stride):
    """Write a tile, its rows ``stride`` apart."""

    def codegen(context, builder, sig, args):
        places = _places(builder, tile, args[2])
        for row, line in zip(_unpack(builder, tile, args[0]), places, strict=True):
            for vector, place in zip(row, line, strict=True):
                _store(builder, vector, args[1], place, tile.vector.dtype)
        return context.get_dummy_value()

    return signature(types.void, tile, target, types.int64), codegen


@intrinsic
def store_part(typingctx, tile, target, stride, rows, width):
    """Write the first ``rows`` rows and ``width`` columns of a tile; no memory beyond them is touched."""

    def codegen(context, builder, sig, args):
        value, pointer, stride, rows, width = args
        places, step = _places(builder, tile, stride), tile.vector.lanes
        for r, row in enumerate(_unpack(builder, tile, value)):
            with builder.if_then(builder.icmp_signed("<", ir.Constant(I64, r), rows)):
                for v, vector in enumerate(row):
                    count = builder.sub(width, ir.Constant(I64, v * step))
                    _store_part(builder, vector, pointer, places[r][v], count)
        return context.get_dummy_value()

    return signature(types.void, tile, target, types.int64, types.int64, types.int64), codegen


def _loop(builder, tile, stop, step, body, start=None):
    """Loop k from ``start`` (0) to ``stop`` by ``step``: tile = body(tile, k), the tile's vectors held by phi nodes."""
    before = builder.block
    head, inside, after = (builder.append_basic_block(f"depth.{name}") for name in ("head", "body", "after"))
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(I64)
    k.add_incoming(ir.Constant(I64, 0) if start is None else start, before)
    held = [[builder.phi(x.type) for x in row] for row in tile]
    builder.cbranch(builder.icmp_signed("<", k, stop), inside, after)
    builder.position_at_end(inside)
    updated = body(held, k)
    k.add_incoming(builder.add(k, ir.Constant(I64, step)), builder.block)
    for row, initial, final in zip(held, tile, updated, strict=True):
        for phi, first, last in zip(row, initial, final, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return held


def _accumulate(builder, kind, tile, depth, a_row, operands, copy=None):
    """Loop ``depth`` times: tile[r, :] += broadcast(a[a_at + r * a_row]) * b[b_at : + vectors * lanes].

    ``operands(k)`` gives (a, a_at, b, b_at) in step k. What is read of b is written to ``copy``, row by row.
    """
    vector, lanes, element = _llvm(kind.vector), kind.vector.lanes, kind.vector.dtype

    def step(sums, k):
        a, a_at, b, b_at = operands(k)
        right = [_load(builder, b, builder.add(b_at, ir.Constant(I64, v * lanes)), vector, element)
                 for v in range(kind.vectors)]
        if copy is not None:
            row_of_copy = builder.mul(k, ir.Constant(I64, kind.vectors * lanes))
            for v, read in enumerate(right):
                _store(builder, read, copy, builder.add(row_of_copy, ir.Constant(I64, v * lanes)), element)
        updated = []
        for r, row in enumerate(sums):
            place = builder.add(a_at, builder.mul(a_row, ir.Constant(I64, r)))
            left = _splat(builder, builder.load(builder.gep(a, [place])), vector)
            updated.append([_call(builder, "fma", vector, [left, y, z]) for y, z in zip(right, row, strict=True)])
        return updated

    return _pack(builder, kind, _loop(builder, _unpack(builder, kind, tile), depth, 1, step))


@intrinsic(prefer_literal=True)
def add_products(typingctx, tile, depth, a, a_row, a_step, b, b_step):
    """Return ``tile[r, :] + sum over k < depth of a[k * a_step + r * a_row] * b[k * b_step : + vectors * lanes]``.

    Write ``a_row`` and ``a_step`` as literals where they are known (packed panels: 1 and rows), so that the addresses
    are constants in the instructions instead of registers.
    """

    def codegen(context, builder, sig, args):
        value, depth, a, a_row, a_step, b, b_step = args

        def operands(k):
            return a, builder.mul(k, a_step), b, builder.mul(k, b_step)

        return _accumulate(builder, tile, value, depth, a_row, operands)

    integer = types.int64
    return signature(tile, tile, integer, types.unliteral(a), integer, integer, types.unliteral(b), integer), codegen


@intrinsic
def add_products_copying(typingctx, tile, depth, a, a_row, a_step, b, b_step, copy):
    """As :func:`add_products`; the rows that are read of b are written to ``copy``, which costs nothing beside."""

    def codegen(context, builder, sig, args):
        value, depth, a, a_row, a_step, b, b_step, copy = args

        def operands(k):
            return a, builder.mul(k, a_step), b, builder.mul(k, b_step)

        return _accumulate(builder, tile, value, depth, a_row, operands, copy)

    integer = types.int64
    return signature(tile, tile, integer, a, integer, integer, b, integer, copy), codegen


@intrinsic(prefer_literal=True)
def add_products_at(typingctx, tile, depth, a, a_offsets, a_row, b, b_offsets):
    """As :func:`add_products`, but step k is at ``a_offsets[k]`` and ``b_offsets[k]``, both pointers to int64.

    One tile so serves convolution without im2col: over pixels (b the padded image), over channels (a the image).
    """

    def codegen(context, builder, sig, args):
        value, depth, a, a_table, a_row, b, b_table = args

        def operands(k):
            return a, builder.load(builder.gep(a_table, [k])), b, builder.load(builder.gep(b_table, [k]))

        return _accumulate(builder, tile, value, depth, a_row, operands)

    table, integer = types.CPointer(types.int64), types.int64
    return signature(tile, tile, integer, a, table, integer, b, table), codegen


@intrinsic
def add_dots(typingctx, tile, depth, a, a_row, b, b_row):
    """Return ``tile[r, c] + the products of a[r * a_row + k] and b[c * b_row + k]`` over k < depth, lane by lane.

    Here the vectors run along the depth, so both operands are read as they lie when it is their last dimension.
    :func:`sums` adds up the lanes.
    """

    def codegen(context, builder, sig, args):
        value, depth, a, a_row, b, b_row = args
        kind, lanes = _llvm(tile.vector), tile.vector.lanes
        full = builder.sub(depth, builder.srem(depth, ir.Constant(I64, lanes)))

        def step(tile_value, k, load):
            left = [load(a, builder.add(k, builder.mul(a_row, ir.Constant(I64, r)))) for r in range(tile.rows)]
            right = [load(b, builder.add(k, builder.mul(b_row, ir.Constant(I64, c)))) for c in range(tile.vectors)]
            return [[_call(builder, "fma", kind, [x, y, z]) for y, z in zip(right, row, strict=True)]
                    for x, row in zip(left, tile_value, strict=True)]

        def whole(pointer, place):
            return _load(builder, pointer, place, kind, tile.vector.dtype)

        def part(pointer, place):
            return _load_part(builder, pointer, place, builder.sub(depth, full), kind)

        accumulated = _loop(builder, _unpack(builder, tile, value), full, lanes, lambda t, k: step(t, k, whole))
        accumulated = _loop(builder, accumulated, depth, lanes, lambda t, k: step(t, k, part), full)
        return _pack(builder, tile, accumulated)

    return signature(tile, tile, types.int64, a, types.int64, b, types.int64), codegen


@intrinsic
def sums(typingctx, tile):
    """Tile of one vector a row: lane c of row r is the sum of the lanes of tile[r, c], halves first."""
    result = simd.Tile(tile.vector, tile.rows, 1)
    if tile.vectors > tile.vector.lanes:
        raise TypingError(f"tiles.sums: {tile} has more columns than lanes")

    def codegen(context, builder, sig, args):
        def total(x):
            return simd._halves(builder, x, lambda y, z: builder.fadd(y, z, flags=EXACT))

        rows = []
        for row in _unpack(builder, tile, args[0]):
            vector = ir.Constant(_llvm(tile.vector), None)
            for c, x in enumerate(row):
                vector = builder.insert_element(vector, total(x), ir.Constant(I32, c))
            rows.append([vector])
        return _pack(builder, result, rows)

    return signature(result, tile), codegen


@intrinsic
def apply(typingctx, function, tile):
    """Tile of ``function(x)`` over the vectors of a tile: an activation; ``function`` is a ``simd.device``."""
    inner = function.get_call_type(typingctx, (tile.vector,), {})

    def codegen(context, builder, sig, args):
        call = context.get_function(function, inner)
        return _pack(builder, tile, [[call(builder, (x,)) for x in row] for row in _unpack(builder, tile, args[1])])

    return signature(tile, function, tile), codegen


@intrinsic
def add_rows(typingctx, tile, source, step):
    """The tile with ``source[r * step]`` added to row r: a bias along the rows."""

    def codegen(context, builder, sig, args):
        value, pointer, step = args
        rows = []
        for r, row in enumerate(_unpack(builder, tile, value)):
            place = builder.gep(pointer, [builder.mul(step, ir.Constant(I64, r))])
            added = _splat(builder, builder.load(place), _llvm(tile.vector))
            rows.append([builder.fadd(x, added, flags=EXACT) for x in row])
        return _pack(builder, tile, rows)

    return signature(tile, tile, source, types.int64), codegen


@intrinsic
def add(typingctx, tile, other):
    """The sum of two tiles of one type."""

    def codegen(context, builder, sig, args):
        pairs = [_unpack(builder, tile, value) for value in args]
        rows = zip(*pairs, strict=True)
        return _pack(builder, tile, [[builder.fadd(x, y, flags=EXACT) for x, y in zip(*r, strict=True)] for r in rows])

    return signature(tile, tile, other), codegen


@intrinsic
def scale(typingctx, tile, factor):
    """The tile times a scalar."""

    def codegen(context, builder, sig, args):
        factor_ = simd._as(context, builder, args[1], factor, tile.vector)
        rows = [[builder.fmul(x, factor_, flags=EXACT) for x in row] for row in _unpack(builder, tile, args[0])]
        return _pack(builder, tile, rows)

    return signature(tile, tile, factor), codegen


@intrinsic
def at_least(typingctx, tile, least):
    """The tile with ``least``, a scalar, for what is less; NaN stays, and -0 where that is 0."""

    def codegen(context, builder, sig, args):
        least_ = simd._as(context, builder, args[1], least, tile.vector)
        rows = [[builder.select(builder.fcmp_ordered("<", x, least_, flags=EXACT), least_, x) for x in row]
                for row in _unpack(builder, tile, args[0])]
        return _pack(builder, tile, rows)

    return signature(tile, tile, least), codegen


@intrinsic
def substitute(typingctx, tile, corner, row, step, unit):
    """Rows x of ``L x = -tile`` for the lower triangle L at ``corner``: element (r, s) at r * row + s * step.

    With ``unit`` not 0 the diagonal is taken as ones. Rows are multiplied by the reciprocal of their diagonal element.
    """

    def codegen(context, builder, sig, args):
        value, corner, row, step, unit = args
        kind = _llvm(tile.vector)
        one, unit = ir.Constant(kind.element, 1.0), builder.icmp_signed("!=", unit, ir.Constant(I64, 0))

        def element(r, s):
            place = builder.add(builder.mul(row, ir.Constant(I64, r)), builder.mul(step, ir.Constant(I64, s)))
            return builder.load(builder.gep(corner, [place]))

        rows = _unpack(builder, tile, value)
        for r in range(tile.rows):
            inverse = builder.select(unit, one, builder.fdiv(one, element(r, r), flags=EXACT))
            zero = ir.Constant(kind, None)
            taken = [builder.fsub(zero, x, flags=EXACT) for x in rows[r]]  # 0 - x, so that no 0 becomes -0
            rows[r] = [builder.fmul(x, _splat(builder, inverse, kind), flags=EXACT) for x in taken]
            for s in range(r + 1, tile.rows):
                factor = _splat(builder, element(s, r), kind)
                rows[s] = [_call(builder, "fma", kind, [factor, x, y]) for x, y in zip(rows[r], rows[s], strict=True)]
        return _pack(builder, tile, rows)

    integer = types.int64
    return signature(tile, tile, corner, integer, integer, integer), codegen


@intrinsic
def transpose(typingctx, tile):
    """The transpose of a square tile, ``lanes`` rows of one vector."""
    lanes = tile.vector.lanes

    def codegen(context, builder, sig, args):
        rows = [row[0] for row in _unpack(builder, tile, args[0])]
        step = 1
        while step < lanes:  # exchange the off-diagonal blocks of 2 x 2 blocks, blocks twice as large each time
            upper = [j if not j & step else lanes + j - step for j in range(lanes)]
            lower = [j + step if not j & step else lanes + j for j in range(lanes)]
            for i in range(lanes):
                if not i & step:
                    a, b = rows[i], rows[i + step]
                    rows[i], rows[i + step] = (_shuffle(builder, a, b, order) for order in (upper, lower))
            step *= 2
        return _pack(builder, tile, [[row] for row in rows])

    return signature(tile, tile), codegen


def _shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(order)), order))
