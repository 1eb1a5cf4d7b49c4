"""Register tiles: the micro-kernels of matmul and convolution as values that a kernel can hold, change and store.

``T = simd.tile(V, rows, vectors)`` is a type of ``rows`` x ``vectors * lanes`` accumulators. A kernel makes one with
:func:`zeros`, :func:`load` or :func:`columns`, adds products to it as often as it likes, finishes it (bias, activation)
and stores it; it stays in registers throughout. Functions exist while a kernel is being compiled, like those of
:mod:`~autograd_core.kernels.simd`. Strides and offsets count elements.

Blocking follows Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008, and BLIS.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from autograd_core.kernels import simd
from autograd_core.kernels.simd import I64, _call, _llvm, _load, _splat, _store, _store_part


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
def columns(typingctx, source, kind):
    """A tile whose every row is the ``vectors * lanes`` elements at ``source``: a bias along the columns."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        to, step = _llvm(wanted.vector), wanted.vector.lanes
        row = [_load(builder, args[0], ir.Constant(I64, v * step), to, wanted.vector.dtype)
               for v in range(wanted.vectors)]
        return _pack(builder, wanted, [row] * wanted.rows)

    return signature(wanted, source, kind), codegen


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


def _accumulate(builder, kind, tile, depth, a_row, operands):
    """Loop ``depth`` times: tile[r, :] += broadcast(a[a_at + r * a_row]) * b[b_at : + vectors * lanes].

    ``operands(k)`` gives (a, a_at, b, b_at) in step k. The accumulators are phi nodes, so they stay in registers.
    """
    vector, lanes, element = _llvm(kind.vector), kind.vector.lanes, kind.vector.dtype
    initial = _unpack(builder, kind, tile)
    head, body = builder.append_basic_block("depth.head"), builder.append_basic_block("depth.body")
    after = builder.append_basic_block("depth.after")
    before = builder.block
    builder.branch(head)
    builder.position_at_end(head)
    k = builder.phi(I64)
    k.add_incoming(ir.Constant(I64, 0), before)
    sums = [[builder.phi(vector) for _ in row] for row in initial]
    builder.cbranch(builder.icmp_signed("<", k, depth), body, after)
    builder.position_at_end(body)
    a, a_at, b, b_at = operands(k)
    right = [_load(builder, b, builder.add(b_at, ir.Constant(I64, v * lanes)), vector, element)
             for v in range(kind.vectors)]
    updated = []
    for r in range(kind.rows):
        place = builder.add(a_at, builder.mul(a_row, ir.Constant(I64, r)))
        left = _splat(builder, builder.load(builder.gep(a, [place])), vector)
        updated.append([_call(builder, "fma", vector, [left, right[v], sums[r][v]]) for v in range(kind.vectors)])
    k.add_incoming(builder.add(k, ir.Constant(I64, 1)), builder.block)
    for r in range(kind.rows):
        for v in range(kind.vectors):
            sums[r][v].add_incoming(initial[r][v], before)
            sums[r][v].add_incoming(updated[r][v], builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return _pack(builder, kind, sums)


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
def combine(typingctx, function, tile, other):
    """Tile of ``function(x, y)`` over the vectors of two tiles of one type; ``function`` is a ``simd.device``."""
    vector = tile.vector
    inner = function.get_call_type(typingctx, (vector, vector), {})

    def codegen(context, builder, sig, args):
        call = context.get_function(function, inner)
        pairs = [_unpack(builder, tile, args[1]), _unpack(builder, tile, args[2])]
        rows = [[call(builder, (x, y)) for x, y in zip(*row, strict=True)] for row in zip(*pairs, strict=True)]
        return _pack(builder, tile, rows)

    return signature(tile, function, tile, tile), codegen


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
    """The tile with ``source[r * step]`` added to row r: a bias along the rows. It reads ``rows`` elements."""

    def codegen(context, builder, sig, args):
        value, pointer, step = args
        rows = []
        for r, row in enumerate(_unpack(builder, tile, value)):
            place = builder.gep(pointer, [builder.mul(step, ir.Constant(I64, r))])
            added = _splat(builder, builder.load(place), _llvm(tile.vector))
            rows.append([builder.fadd(x, added) for x in row])
        return _pack(builder, tile, rows)

    return signature(tile, tile, source, types.int64), codegen


@intrinsic
def scale(typingctx, tile, factor):
    """The tile times a scalar."""

    def codegen(context, builder, sig, args):
        factor_ = simd._as(context, builder, args[1], factor, tile.vector)
        rows = [[builder.fmul(x, factor_) for x in row] for row in _unpack(builder, tile, args[0])]
        return _pack(builder, tile, rows)

    return signature(tile, tile, factor), codegen
