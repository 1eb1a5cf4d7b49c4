"""Register tiles over windows: the inner loops of convolution, for kernels that are being compiled.

As :mod:`~autograd_core.kernels.tiles`, but the rows of a tile form a grid of ``rows // fast`` x ``fast`` places of an
image (pixels, or elements of the filter), and its columns may be stored as rows.
"""
# Intrinsics are called with one argument less than they are written with; Numba types them.
# mypy: ignore-errors
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from autograd_core.kernels.simd import (
    I32,
    I64,
    _at,
    _bytes,
    _call,
    _llvm,
    _load,
    _load_part,
    _splat,
    _store,
    _store_part,
)
from autograd_core.kernels.tiles import _loop, _pack, _shuffle, _unpack


def _whole(value):
    return ir.Constant(I64, value)


def _literal(kind):
    return kind.literal_value


def _grid(builder, kind, fast, slow_step, fast_step):
    """Element offset of each row of a tile: (offset of the slow dimension, constant offset within it)."""
    slow = [builder.mul(slow_step, _whole(i)) for i in range(kind.rows // fast)]
    return [(slow[r // fast], r % fast * fast_step) for r in range(kind.rows)]


def _add_outer(builder, kind, sums, a, grid, columns):
    """sums[r, :] + a[grid[r]] * columns, the fused multiply-adds of one step."""
    vector = _llvm(kind.vector)
    rows = []
    for row, (slow, fast) in zip(sums, grid, strict=True):
        place = builder.gep(builder.gep(a, [slow]), [_whole(fast)])
        left = _splat(builder, builder.load(place), vector)
        rows.append([_call(builder, "fma", vector, [left, y, z]) for y, z in zip(columns, row, strict=True)])
    return rows


def _columns(builder, kind, b, at):
    """The vectors of one step of the right operand, from element ``at`` on."""
    step = kind.vector.lanes
    return [_load(builder, b, builder.add(at, _whole(v * step)), _llvm(kind.vector), kind.vector.dtype)
            for v in range(kind.vectors)]


@intrinsic(prefer_literal=True)
def add_taps(typingctx, tile, count, a, table, fast, slow_step, fast_step, taps, tap_step, b):
    """Return the tile plus, for e < count and t < taps, the image's pixels at ``table[e] + t * tap_step`` times row
    ``e * taps + t`` of the panel ``b`` of weights, which is as wide as the tile.

    Rows of the tile are pixels, columns channels. ``fast``, ``fast_step``, ``taps`` and ``tap_step`` are literals.
    """
    fast_, fast_step_, taps_, tap_step_ = map(_literal, (fast, fast_step, taps, tap_step))
    width = tile.vectors * tile.vector.lanes

    def codegen(context, builder, sig, args):
        value, count, a, table, _, slow_step, _, _, _, b = args
        grid = _grid(builder, tile, fast_, slow_step, fast_step_)

        def entry(sums, e):
            base = builder.gep(a, [builder.load(builder.gep(table, [e]))])
            panel = builder.gep(b, [builder.mul(e, _whole(taps_ * width))])
            for t in range(taps_):
                place = builder.gep(base, [_whole(t * tap_step_)])
                sums = _add_outer(builder, tile, sums, place, grid, _columns(builder, tile, panel, _whole(t * width)))
            return sums

        return _pack(builder, tile, _loop(builder, _unpack(builder, tile, value), count, 1, entry))

    integer = types.int64
    arguments = [tile, integer, types.unliteral(a), table, fast, integer, fast_step, taps, tap_step, types.unliteral(b)]
    return signature(tile, *arguments), codegen


@intrinsic(prefer_literal=True)
def add_pixels(typingctx, tile, lines, line_step, count, step, a, fast, slow_step, fast_step, b):
    """Return the tile plus, over ``lines`` x ``count`` pixels, the image's elements under each tap times the gradient.

    Rows of the tile are taps of the filter, columns output channels; pixel (l, i) is at ``a + l * line_step + i *
    step`` and in row ``l * count + i`` of ``b``, which is as wide as the tile. ``step``, ``fast`` and ``fast_step`` are
    literals.
    """
    step_, fast_, fast_step_ = map(_literal, (step, fast, fast_step))
    width = tile.vectors * tile.vector.lanes

    def codegen(context, builder, sig, args):
        value, lines, line_step, count, _, a, _, slow_step, _, b = args
        grid = _grid(builder, tile, fast_, slow_step, fast_step_)

        def line(sums, i):
            base = builder.gep(a, [builder.mul(i, line_step)])
            panel = builder.gep(b, [builder.mul(builder.mul(i, count), _whole(width))])

            def pixel(sums, k):
                place = builder.gep(base, [builder.mul(k, _whole(step_))])
                columns = _columns(builder, tile, panel, builder.mul(k, _whole(width)))
                return _add_outer(builder, tile, sums, place, grid, columns)

            return _loop(builder, sums, count, 1, pixel)

        return _pack(builder, tile, _loop(builder, _unpack(builder, tile, value), lines, 1, line))

    integer = types.int64
    arguments = [tile, integer, integer, integer, step, types.unliteral(a), fast, integer, fast_step,
                 types.unliteral(b)]
    return signature(tile, *arguments), codegen


def _turned(builder, rows):
    """The transpose of as many vectors as they have lanes."""
    lanes, step = len(rows), 1
    rows = list(rows)
    while step < lanes:  # exchange the off-diagonal blocks of 2 x 2 blocks, blocks twice as large each time
        upper = [j if not j & step else lanes + j - step for j in range(lanes)]
        lower = [j + step if not j & step else lanes + j for j in range(lanes)]
        for i in range(lanes):
            if not i & step:
                a, b = rows[i], rows[i + step]
                rows[i], rows[i + step] = (_shuffle(builder, a, b, order) for order in (upper, lower))
        step *= 2
    return rows


@intrinsic
def turn(typingctx, source, tile, target, column_step, columns):
    """Write the first ``columns`` columns of a tile that lies at ``source`` as rows, ``column_step`` apart.

    From memory, not from registers: what shuffling needs would push accumulators of the loop before out of these.
    """
    kind = tile.instance_type
    lanes, width = kind.vector.lanes, kind.vectors * kind.vector.lanes

    def codegen(context, builder, sig, args):
        source, _, pointer, step, columns = args
        vector, element = _llvm(kind.vector), kind.vector.dtype
        blank = ir.Constant(vector, ir.Undefined)
        for v in range(kind.vectors):
            with builder.if_then(builder.icmp_signed("<", _whole(v * lanes), columns)):
                for first in range(0, kind.rows, lanes):
                    count = min(lanes, kind.rows - first)
                    block = [_load(builder, source, _whole((first + r) * width + v * lanes), vector, element)
                             for r in range(count)]
                    block = _turned(builder, block + [blank] * (lanes - count))
                    for c in range(lanes):
                        column = _whole(v * lanes + c)
                        with builder.if_then(builder.icmp_signed("<", column, columns)):
                            line = builder.gep(pointer, [builder.mul(step, column)])
                            if count == lanes:
                                _store(builder, block[c], line, _whole(first), element)
                            else:
                                _store_part(builder, block[c], line, _whole(first), _whole(count))
        return context.get_dummy_value()

    return signature(types.void, source, tile, target, types.int64, types.int64), codegen


@intrinsic(prefer_literal=True)
def add_image(typingctx, tile, count, a, b, table, across, line_step, taps, tap_step):
    """Return the tile plus, for e < count and t < taps, row ``e * taps + t`` of the packed weights ``a`` (an element a
    row of the tile) times the image's pixels from ``table[e] + t * tap_step`` on.

    Rows of the tile are channels, columns pixels: ``across`` vectors of each of several lines, ``line_step`` apart.
    ``across``, ``taps`` and ``tap_step`` are literals.
    """
    across_, taps_, tap_step_ = map(_literal, (across, taps, tap_step))

    def codegen(context, builder, sig, args):
        value, count, a, b, table, _, line_step, _, _ = args
        grid = [(_whole(0), r) for r in range(tile.rows)]
        vector, lanes = _llvm(tile.vector), tile.vector.lanes
        lines = [builder.mul(line_step, _whole(i)) for i in range(tile.vectors // across_)]

        def entry(sums, e):
            base = builder.gep(b, [builder.load(builder.gep(table, [e]))])
            weights = builder.gep(a, [builder.mul(e, _whole(taps_ * tile.rows))])
            starts = [builder.gep(base, [line]) for line in lines]
            for t in range(taps_):
                columns = [_load(builder, start, _whole(t * tap_step_ + v * lanes), vector, tile.vector.dtype)
                           for start in starts for v in range(across_)]
                sums = _add_outer(builder, tile, sums, builder.gep(weights, [_whole(t * tile.rows)]), grid, columns)
            return sums

        return _pack(builder, tile, _loop(builder, _unpack(builder, tile, value), count, 1, entry))

    integer = types.int64
    arguments = [tile, integer, types.unliteral(a), types.unliteral(b), table, across, integer, taps, tap_step]
    return signature(tile, *arguments), codegen


@intrinsic
def turn_rows(typingctx, source, row_step, rows, count, target, width, stored, kind):
    """Write ``count`` columns of ``rows`` rows of ``source`` as rows of ``target``, ``width`` apart.

    Of each the first ``stored`` elements; where there are fewer rows than lanes of the vector type ``kind`` the last
    one is repeated.
    """
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        source, row_step, rows, count, target, width, stored, _ = args
        vector, lanes, loaded = _llvm(wanted), wanted.lanes, []
        last = builder.sub(rows, _whole(1))
        for r in range(lanes):
            row = builder.select(builder.icmp_signed("<", _whole(r), last), _whole(r), last)
            loaded.append(_load_part(builder, source, builder.mul(row, row_step), count, vector))
        for r, row in enumerate(_turned(builder, loaded)):
            with builder.if_then(builder.icmp_signed("<", _whole(r), count)):
                _store_part(builder, row, target, builder.mul(width, _whole(r)), stored)
        return context.get_dummy_value()

    integer = types.int64
    return signature(types.void, source, integer, integer, integer, target, integer, integer, kind), codegen


@intrinsic(prefer_literal=True)
def load_every(typingctx, source, first, size, fill, step, kind):
    """Elements ``first``, ``first + step``, ... of a row of ``size`` elements; ``fill`` where the row has none.

    ``step`` is a literal. Only memory between 0 and ``size`` is read.
    """
    wanted, step_ = kind.instance_type, _literal(step)

    def codegen(context, builder, sig, args):
        source, first, size, fill, _, _ = args
        vector, lanes = _llvm(wanted), wanted.lanes
        wide = ir.VectorType(I64, lanes)
        blank, result = _splat(builder, fill, vector), None
        for j in range(step_):
            start = builder.add(first, _whole(j * lanes))
            places = builder.add(_splat(builder, start, wide), ir.Constant(wide, list(range(lanes))))
            inside = builder.and_(builder.icmp_signed(">=", places, ir.Constant(wide, None)),
                                  builder.icmp_signed("<", places, _splat(builder, size, wide)))
            part = _call(builder, "masked.load", vector, [_at(builder, source, start, vector), _bytes(vector.element),
                                                          inside, blank], [vector, "p0"])
            own = {i: i * step_ - j * lanes for i in range(lanes) if i * step_ // lanes == j}
            order = [lanes + own[i] if i in own else i for i in range(lanes)]
            result = _shuffle(builder, part if result is None else result, part, order)
        return result

    return signature(wanted, source, types.int64, types.int64, wanted.dtype, step, kind), codegen


@intrinsic
def add_dots_at(typingctx, tile, lines, count, a, a_row, a_line, b, b_line, table):
    """Return the tile plus, lane by lane, the products of row r of ``a`` and row c of ``b`` over lines of ``count``.

    Row r of ``a`` begins ``r * a_row`` elements on, row c of ``b`` at ``table[c]``; lines are ``a_line`` and ``b_line``
    apart. No memory beyond a line is read. ``tiles.sums`` adds up the lanes.
    """

    def codegen(context, builder, sig, args):
        value, lines, count, a, a_row, a_line, b, b_line, table = args
        kind, lanes, element = _llvm(tile.vector), tile.vector.lanes, tile.vector.dtype
        left = [builder.gep(a, [builder.mul(a_row, _whole(r))]) for r in range(tile.rows)]
        right = [builder.gep(b, [builder.load(builder.gep(table, [_whole(c)]))]) for c in range(tile.vectors)]
        full = builder.sub(count, builder.srem(count, _whole(lanes)))

        def line(sums, i):
            at_a, at_b = builder.mul(i, a_line), builder.mul(i, b_line)

            def step(sums, k, load):
                x = [load(p, builder.add(at_a, k)) for p in left]
                y = [load(p, builder.add(at_b, k)) for p in right]
                return [[_call(builder, "fma", kind, [u, v, z]) for v, z in zip(y, row, strict=True)]
                        for u, row in zip(x, sums, strict=True)]

            def whole(pointer, place):
                return _load(builder, pointer, place, kind, element)

            def part(pointer, place):
                return _load_part(builder, pointer, place, builder.sub(count, full), kind)

            sums = _loop(builder, sums, full, lanes, lambda t, k: step(t, k, whole))
            return _loop(builder, sums, count, lanes, lambda t, k: step(t, k, part), full)

        return _pack(builder, tile, _loop(builder, _unpack(builder, tile, value), lines, 1, line))

    integer, word = types.int64, types.CPointer(types.int64)
    arguments = [tile, integer, integer, a, integer, integer, b, integer, word]
    return signature(tile, *arguments), codegen


def _around(builder, kind, step, row, height, column, width, checked, masked, count=None):
    """Function (source, line, shift) -> the vector of a plane's pixels from (row + line, column + shift) on.

    Pixels around the plane are zeros: if ``masked`` those left and right of it, if ``checked`` those of lines above and
    below; the caller vouches for the others. Lanes from ``count`` on are zeros, too.
    """
    vector, lanes = _llvm(kind.vector), kind.vector.lanes
    narrow = ir.VectorType(I32, lanes)
    iota = ir.Constant(narrow, list(range(lanes)))
    masks: dict[int, ir.Value] = {}

    def mask(shift):
        if shift not in masks:
            first = builder.trunc(builder.add(column, _whole(shift)), I32)
            places = builder.add(_splat(builder, first, narrow), iota)
            masks[shift] = builder.icmp_unsigned("<", places, _splat(builder, builder.trunc(width, I32), narrow))
            if count is not None:
                most = _splat(builder, builder.trunc(count, I32), narrow)
                masks[shift] = builder.and_(masks[shift], builder.icmp_signed("<", iota, most))
        return masks[shift]

    def load(source, line, shift):
        y = builder.add(row, _whole(line))
        place = builder.add(builder.mul(y, step), builder.add(column, _whole(shift)))
        if not masked:
            return _load(builder, source, place, vector, kind.vector.dtype)
        inside = mask(shift)
        if checked:
            inside = builder.and_(inside, _splat(builder, builder.icmp_unsigned("<", y, height), inside.type))
        arguments = [_at(builder, source, place, vector), _bytes(vector.element), inside, ir.Constant(vector, None)]
        return _call(builder, "masked.load", vector, arguments, [vector, "p0"])

    return load


@intrinsic(prefer_literal=True)
def add_stencil(typingctx, tile, source, step, row, height, column, width, weights, high, wide, checked, masked):
    """Return a tile of lines of one vector plus the pixels around them times ``weights``, a tile of a tap a row.

    The filter's first pixel on the first line is (row, column) of the plane at ``source``, of which pixels outside are
    zeros (see :func:`_around`). ``high``, ``wide``, ``checked`` and ``masked`` are literals.
    """
    high_, wide_, checked_, masked_ = map(_literal, (high, wide, checked, masked))

    def codegen(context, builder, sig, args):
        value, source, step, row, height, column, width, weights_ = args[:8]
        sums = [line[0] for line in _unpack(builder, tile, value)]
        taps = [line[0] for line in _unpack(builder, weights, weights_)]
        load = _around(builder, tile, step, row, height, column, width, checked_, masked_)
        for i in range(tile.rows + high_ - 1):
            for shift in range(wide_):
                pixels = load(source, i, shift)
                for line in range(max(0, i - high_ + 1), min(tile.rows, i + 1)):
                    tap = taps[(i - line) * wide_ + shift]
                    sums[line] = _call(builder, "fma", pixels.type, [pixels, tap, sums[line]])
        return _pack(builder, tile, [[x] for x in sums])

    integer = types.int64
    arguments = [tile, types.unliteral(source), *[integer] * 5, weights, high, wide, checked, masked]
    return signature(tile, *arguments), codegen


@intrinsic(prefer_literal=True)
def add_filter_gradient(typingctx, tile, source, step, row, height, column, width, gradient, gradient_step, count,
                        lines, wide):
    """Return a tile of a tap a row, lane by lane, plus the products of ``lines`` of a gradient and the pixels there.

    As :func:`add_stencil`; of the gradient's lines the first ``count`` elements. ``lines`` and ``wide`` are literals.
    """
    lines_, wide_ = map(_literal, (lines, wide))
    high = tile.rows // wide_

    def codegen(context, builder, sig, args):
        value, source, step, row, height, column, width, gradient, gradient_step, count = args[:10]
        sums = [line[0] for line in _unpack(builder, tile, value)]
        slopes = [_load_part(builder, gradient, builder.mul(gradient_step, _whole(i)), count, _llvm(tile.vector))
                  for i in range(lines_)]
        load = _around(builder, tile, step, row, height, column, width, True, True, count)
        for i in range(lines_ + high - 1):
            for shift in range(wide_):
                pixels = load(source, i, shift)
                for line in range(max(0, i - high + 1), min(lines_, i + 1)):
                    tap = (i - line) * wide_ + shift
                    sums[tap] = _call(builder, "fma", pixels.type, [pixels, slopes[line], sums[tap]])
        return _pack(builder, tile, [[x] for x in sums])

    integer = types.int64
    sources, pointer = [types.unliteral(source), *[integer] * 5], types.unliteral(gradient)
    return signature(tile, tile, *sources, pointer, integer, integer, lines, wide), codegen
