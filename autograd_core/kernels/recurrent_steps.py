"""Kernels of recurrent layers: the steps of a cell, forward and back through time, over some rows of a batch."""
from __future__ import annotations

from typing import NamedTuple

from autograd_core.kernels.lazy import simd, tiles, vmath
from autograd_core.kernels.runner import range_kernel
from autograd_core.kernels.runs import access, copier, eraser


class Cell(NamedTuple):
    """Sizes of a kind of layer, in hidden sizes: gates, what is saved a step, states; vectors a gate in a tile."""

    gates: int
    saved: int
    states: int
    vectors: int


CELLS = {"lstm": Cell(4, 5, 2, 1), "gru": Cell(3, 4, 1, 1), "tanh": Cell(1, 0, 1, 4), "relu": Cell(1, 0, 1, 4)}
HEAD = 20  # words of the contexts of scan and scan_back before the numbers of living rows


def _step(cell: str, dtype, lanes: int, partial: bool, gap: int):
    """Device function that finishes one vector of hidden units of one row.

    ``z`` is the hidden state's share of the gates, ``gap`` elements from gate to gate; all other pointers are at the
    vector's first hidden unit, with ``hidden`` elements from gate to gate.
    """
    V = simd.vector(dtype, lanes)
    get, put = access(dtype, lanes, partial)
    sigmoid, tanh, where = vmath.sigmoid, vmath.tanh, simd.where
    if cell == "lstm":
        def step(z, x, h, c, new, saved, hidden, count):
            i = sigmoid(get(x, 0, count) + simd.load(z, 0, V))
            f = sigmoid(get(x, hidden, count) + simd.load(z, gap, V))
            g = tanh(get(x, 2 * hidden, count) + simd.load(z, 2 * gap, V))
            o = sigmoid(get(x, 3 * hidden, count) + simd.load(z, 3 * gap, V))
            state = f * get(c, 0, count) + i * g
            put(saved, 0, i, count)
            put(saved, hidden, f, count)
            put(saved, 2 * hidden, g, count)
            put(saved, 3 * hidden, o, count)
            put(saved, 4 * hidden, state, count)
            put(new, 0, o * tanh(state), count)
    elif cell == "gru":
        def step(z, x, h, c, new, saved, hidden, count):
            r = sigmoid(get(x, 0, count) + simd.load(z, 0, V))
            u = sigmoid(get(x, hidden, count) + simd.load(z, gap, V))
            share = simd.load(z, 2 * gap, V)
            n = tanh(get(x, 2 * hidden, count) + r * share)
            put(saved, 0, r, count)
            put(saved, hidden, u, count)
            put(saved, 2 * hidden, n, count)
            put(saved, 3 * hidden, share, count)
            put(new, 0, n + u * (get(h, 0, count) - n), count)
    elif cell == "tanh":
        def step(z, x, h, c, new, saved, hidden, count):
            put(new, 0, tanh(get(x, 0, count) + simd.load(z, 0, V)), count)
    else:
        def step(z, x, h, c, new, saved, hidden, count):
            v = get(x, 0, count) + simd.load(z, 0, V)
            put(new, 0, where(v < 0, 0, v), count)
    return simd.device(step)


def _step_back(cell: str, dtype, lanes: int, partial: bool):
    """Device function: the gradients of the gates of one vector of hidden units of one row.

    ``grad`` is the gradient of the new state; ``direct`` is where what passes straight to the state before goes (LSTM:
    the cell state's gradient, read before; GRU: the hidden state's). ``gx``, ``gh`` are where the gradients of both
    shares of the gates go; ``sums`` adds them up over rows.
    """
    get, put = access(dtype, lanes, partial)

    def add(sums, i, value, count):
        put(sums, i, get(sums, i, count) + value, count)

    add, tanh, where = simd.device(add), vmath.tanh, simd.where
    if cell == "lstm":
        def step(grad, direct, new, saved, before, gx, gh, sums, hidden, count):
            i, f = get(saved, 0, count), get(saved, hidden, count)
            g, o = get(saved, 2 * hidden, count), get(saved, 3 * hidden, count)
            squashed = tanh(get(saved, 4 * hidden, count))
            dc = get(direct, 0, count) + grad * o * (1 - squashed * squashed)
            put(direct, 0, dc * f, count)
            di, df = dc * g * i * (1 - i), dc * get(before, 0, count) * f * (1 - f)
            dg, do = dc * i * (1 - g * g), grad * squashed * o * (1 - o)
            put(gx, 0, di, count)
            put(gx, hidden, df, count)
            put(gx, 2 * hidden, dg, count)
            put(gx, 3 * hidden, do, count)
            add(sums, 0, di, count)
            add(sums, hidden, df, count)
            add(sums, 2 * hidden, dg, count)
            add(sums, 3 * hidden, do, count)
    elif cell == "gru":
        def step(grad, direct, new, saved, before, gx, gh, sums, hidden, count):
            r, z = get(saved, 0, count), get(saved, hidden, count)
            n, share = get(saved, 2 * hidden, count), get(saved, 3 * hidden, count)
            put(direct, 0, grad * z, count)
            dn = grad * (1 - z) * (1 - n * n)
            dz = grad * (get(before, 0, count) - n) * z * (1 - z)
            dr, dh = dn * share * r * (1 - r), dn * r
            put(gx, 0, dr, count)
            put(gx, hidden, dz, count)
            put(gx, 2 * hidden, dn, count)
            put(gh, 0, dr, count)
            put(gh, hidden, dz, count)
            put(gh, 2 * hidden, dh, count)
            add(sums, 0, dr, count)
            add(sums, hidden, dz, count)
            add(sums, 2 * hidden, dn, count)
            add(sums, 3 * hidden, dh, count)
    elif cell == "tanh":
        def step(grad, direct, new, saved, before, gx, gh, sums, hidden, count):
            value = get(new, 0, count)
            d = grad * (1 - value * value)
            put(gx, 0, d, count)
            add(sums, 0, d, count)
    else:
        def step(grad, direct, new, saved, before, gx, gh, sums, hidden, count):
            d = where(get(new, 0, count) > 0, grad, 0)
            put(gx, 0, d, count)
            add(sums, 0, d, count)
    return simd.device(step)


def _row_back(cell: str, dtype, lanes: int):
    """Device function: :func:`_step_back` along a row, the gradient of its new state being that of later steps plus
    that of its output (if ``sent_too``) plus, in a GRU, what passes straight.
    """
    V, gru = simd.vector(dtype, lanes), cell == "gru"
    step, last_step = _step_back(cell, dtype, lanes, False), _step_back(cell, dtype, lanes, True)

    def row_back(own, sent, sent_too, straight, new, saved, before, gx, gh, sums, hidden):
        whole = hidden // lanes * lanes
        for j in range(0, whole, lanes):
            grad = simd.load(own, j, V)
            if sent_too:
                grad += simd.load(sent, j, V)
            if gru:
                grad += simd.load(straight, j, V)
            step(grad, simd.advance(straight, j), simd.advance(new, j), simd.advance(saved, j), simd.advance(before, j),
                 simd.advance(gx, j), simd.advance(gh, j), simd.advance(sums, j), hidden, lanes)
        if whole < hidden:
            j, count = whole, hidden - whole
            grad = simd.load_part(own, j, count, V)
            if sent_too:
                grad += simd.load_part(sent, j, count, V)
            if gru:
                grad += simd.load_part(straight, j, count, V)
            last_step(grad, simd.advance(straight, j), simd.advance(new, j), simd.advance(saved, j),
                      simd.advance(before, j), simd.advance(gx, j), simd.advance(gh, j), simd.advance(sums, j), hidden,
                      count)

    return simd.device(row_back)


@range_kernel
def pack(dtype, lanes, gates, vectors):
    """Copy weights into panels [panel][1 + steps][gate][vectors * lanes], the bias (or zeros) as the first row.

    A panel holds the columns j to j + vectors * lanes of every gate. Context: weights, bias or 0, panels, columns of a
    gate, steps, strides in elements of a column, of a step, of the bias. A unit is a panel.
    """
    S, square = simd.scalar(dtype), simd.tile(simd.vector(dtype, lanes), lanes, 1)
    width = vectors * lanes

    def kernel(context, start, stop):
        w = simd.words(context)
        columns, steps, column, step = w[3], w[4], w[5], w[6]
        source, bias = simd.pointer(w[0], S), simd.pointer(w[1], S)
        for panel in range(start, stop):
            j = panel * width
            if columns >= width:
                j = min(j, columns - width)
            target = simd.advance(simd.pointer(w[2], S), panel * (steps + 1) * gates * width)
            for gate in range(gates):
                for i in range(width):
                    value = S(0)
                    if w[1] != 0 and j + i < columns:
                        value = bias[(gate * columns + j + i) * w[7]]
                    target[gate * width + i] = value
            for gate in range(gates):
                for v in range(vectors):
                    first = gate * columns + j + v * lanes
                    place = simd.advance(target, gates * width + gate * width + v * lanes)
                    count = min(lanes, columns - j - v * lanes)
                    k = 0
                    if step == 1 and count == lanes:
                        while k + lanes <= steps:
                            block = tiles.load(simd.advance(source, first * column + k), column, square)
                            tiles.store(tiles.transpose(block), simd.advance(place, k * gates * width), gates * width)
                            k += lanes
                    while k < steps:
                        for i in range(lanes):
                            value = S(0)
                            if i < count:
                                value = source[(first + i) * column + k * step]
                            place[k * gates * width + i] = value
                        k += 1

    return kernel


@range_kernel
def scan(cell, dtype, lanes, rows, vectors, partial, looked_up):
    """All steps of some rows; a unit is ``chunk`` rows.

    Context: input's share of the gates, panels of recurrent weights, initial h and c, outputs, saved, last h and c (the
    running states), room for a tile a unit, T, B, H, chunk, first step, direction, whether rows end early, where the
    input's share of each row is ``looked_up`` the indices and their strides of a step and a row, and then how many live
    in each step.
    """
    gates, kept, states, _ = CELLS[cell]
    S, width = simd.scalar(dtype), vectors * lanes
    line = gates * width
    T = simd.tile(simd.vector(dtype, lanes), rows, gates * vectors)
    step, copy, erase = _step(cell, dtype, lanes, partial, width), copier(dtype, lanes), eraser(dtype, lanes)
    has_c = states == 2

    def kernel(context, start, stop):
        w = simd.words(context)
        T_, B, H, chunk, turn = w[9], w[10], w[11], w[12], w[14]
        shares, h, c = simd.pointer(w[0], S), simd.pointer(w[6], S), simd.pointer(w[7], S)
        indices, past, beside = simd.words(w[16]), w[17], w[18]
        for unit in range(start, stop):
            low, high = unit * chunk, min(unit * chunk + chunk, B)
            room = simd.advance(simd.pointer(w[8], S), unit * rows * line)
            copy(simd.advance(h, low * H), simd.advance(simd.pointer(w[2], S), low * H), (high - low) * H)
            if has_c:
                copy(simd.advance(c, low * H), simd.advance(simd.pointer(w[3], S), low * H), (high - low) * H)
            for s in range(T_):
                t = w[13] + s * turn
                live = high
                if w[15] != 0:
                    live = min(high, w[HEAD + t])
                x = shares if looked_up else simd.advance(shares, t * B * gates * H)
                new = simd.advance(simd.pointer(w[4], S), t * B * H)
                saved = simd.advance(simd.pointer(w[5], S), t * B * kept * H)
                for j0 in range(0, H, width):
                    j = j0 if partial else min(j0, H - width)
                    panel = simd.advance(simd.pointer(w[1], S), j0 * (H + 1) * gates)
                    for i0 in range(low, live, rows):
                        i = min(i0, B - rows)
                        tile = tiles.load(panel, 0, T)  # the bias
                        tile = tiles.add_products(tile, H, simd.advance(h, i * H), H, 1,
                                                  simd.advance(panel, line), line)
                        tiles.store(tile, room, line)
                        for r in range(i0, min(i0 + rows, live)):
                            z, source = simd.advance(room, (r - i) * line), r
                            if looked_up:
                                source = indices[t * past + r * beside]
                            for v in range(vectors):
                                at = j + v * lanes
                                step(simd.advance(z, v * lanes), simd.advance(x, source * gates * H + at),
                                     simd.advance(h, r * H + at), simd.advance(c, r * H + at),
                                     simd.advance(new, r * H + at), simd.advance(saved, r * kept * H + at), H, H - at)
                for r in range(low, live):
                    copy(simd.advance(h, r * H), simd.advance(new, r * H), H)
                    if has_c:
                        copy(simd.advance(c, r * H), simd.advance(saved, (r * kept + kept - 1) * H), H)
                for r in range(max(low, live), high):
                    erase(simd.advance(new, r * H), H)
                    erase(simd.advance(saved, r * kept * H), kept * H)

    return kernel


@range_kernel
def scan_back(cell, dtype, lanes, rows, vectors, partial):  # noqa: C901 (its branches are the cells' differences)
    """All steps of some rows back through time; a unit is ``chunk`` rows.

    Context: gradient of the outputs or 0 with strides of a step and a row, panels of recurrent weights, outputs, saved,
    initial h and c, gradients of h and c (begun with those of the last states), direct share of the gradient of h,
    gradients of the input's and of the hidden state's share of the gates, their sums over a unit's rows and steps, room
    for a tile a unit; T, B, H, chunk, first step, direction, whether rows end early,
    and then how many live in each step.
    """
    gates, kept, states, _ = CELLS[cell]
    S, width = simd.scalar(dtype), vectors * lanes
    T = simd.tile(simd.vector(dtype, lanes), rows, vectors)
    row_back = _row_back(cell, dtype, lanes)
    copy, erase, gru = copier(dtype, lanes), eraser(dtype, lanes), cell == "gru"
    terms = gates + gru
    history = kept if states == 2 else 1

    def kernel(context, start, stop):
        w = simd.words(context)
        T_, B, H, chunk, turn = w[15], w[16], w[17], w[18], w[20]
        carry, direct = simd.pointer(w[8], S), simd.pointer(w[10 if gru else 9], S)
        past = simd.pointer(w[5 if states == 2 else 4], S)
        for unit in range(start, stop):
            low, high = unit * chunk, min(unit * chunk + chunk, B)
            sums = simd.advance(simd.pointer(w[13], S), unit * terms * H)
            room = simd.advance(simd.pointer(w[14], S), unit * rows * width)
            erase(sums, terms * H)
            if gru:
                erase(simd.advance(direct, low * H), (high - low) * H)
            for s in range(T_ - 1, -1, -1):
                t = w[19] + s * turn
                live, known = high, high
                if w[21] != 0:
                    live = min(high, w[HEAD + 2 + t])
                    if s > 0:
                        known = min(high, w[HEAD + 2 + t - turn])
                if s == 0:
                    known = low
                gx = simd.advance(simd.pointer(w[11], S), t * B * gates * H)
                gh = simd.advance(simd.pointer(w[12], S), t * B * gates * H)
                for r in range(low, live):
                    new = simd.advance(simd.pointer(w[4], S), (t * B + r) * H)
                    saved = simd.advance(simd.pointer(w[5], S), (t * B + r) * kept * H)
                    before = simd.advance(past, (((t - turn) * B + r) * history + history - 1) * H)
                    if r >= known:
                        before = simd.advance(simd.pointer(w[7 if states == 2 else 6], S), r * H)
                    own, straight = simd.advance(carry, r * H), simd.advance(direct, r * H)
                    sent = simd.advance(simd.pointer(w[0], S), t * w[1] + r * w[2])
                    x, y = simd.advance(gx, r * gates * H), simd.advance(gh, r * gates * H)
                    row_back(own, sent, w[0] != 0, straight, new, saved, before, x, y, sums, H)
                for r in range(max(low, live), high):
                    erase(simd.advance(gx, r * gates * H), gates * H)
                    erase(simd.advance(gh, r * gates * H), gates * H)
                for j0 in range(0, H, width):
                    j = j0 if partial else min(j0, H - width)
                    panel = simd.advance(simd.pointer(w[3], S), (j0 // width) * (gates * H + 1) * width)
                    for i0 in range(low, live, rows):
                        i = min(i0, B - rows)
                        tile = tiles.load(panel, 0, T)  # zeros
                        tile = tiles.add_products(tile, gates * H, simd.advance(gh, i * gates * H), gates * H, 1,
                                                  simd.advance(panel, width), width)
                        tiles.store(tile, room, width)
                        for r in range(i0, min(i0 + rows, live)):
                            copy(simd.advance(carry, r * H + j), simd.advance(room, (r - i) * width),
                                 min(width, H - j))
            if gru:  # what passed straight to the initial state
                for i in range(low * H, high * H):
                    carry[i] += direct[i]

    return kernel


@range_kernel
def begin(dtype, lanes):
    """Copy x, or zeros where its address is 0, to y: where the gradients of the states begin. Context: x, y."""
    S, copy, erase = simd.scalar(dtype), copier(dtype, lanes), eraser(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        target = simd.advance(simd.pointer(w[1], S), start)
        if w[0] == 0:
            erase(target, stop - start)
        else:
            copy(target, simd.advance(simd.pointer(w[0], S), start), stop - start)

    return kernel


@range_kernel
def sum_biases(dtype):
    """Add up units' sums of gradients in order: the gradients of both biases, which differ for the GRU's last gate.

    Context: sums [unit][terms], gradients of the two biases or 0, units, terms, hidden size, whether it is a GRU.
    """
    S = simd.scalar(dtype)

    def kernel(context, start, stop):
        w = simd.words(context)
        sums, terms = simd.pointer(w[0], S), w[4]
        for j in range(start, stop):
            total = S(0)
            for unit in range(w[3]):
                total += sums[unit * terms + j]
            last = w[6] != 0 and j >= 3 * w[5]
            if w[1] != 0 and not last:
                simd.pointer(w[1], S)[j] = total
            if w[2] != 0 and (w[6] == 0 or last or j < 2 * w[5]):
                simd.pointer(w[2], S)[j - w[5] if last else j] = total

    return kernel


@range_kernel
def lay_rows(dtype, lanes):
    """Copy rows (t, b) that lie anywhere to rows some way apart.

    Context: x, copy, B, length, strides of t and b, of a row of the copy.
    """
    S, copy = simd.scalar(dtype), copier(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        x, target, B, length = simd.pointer(w[0], S), simd.pointer(w[1], S), w[2], w[3]
        for unit in range(start, stop):
            t = unit // B
            copy(simd.advance(target, unit * w[6]), simd.advance(x, t * w[4] + (unit - t * B) * w[5]), length)

    return kernel


@range_kernel
def lay_before(dtype, lanes):
    """Copy the hidden state that each step (t, b) began with to rows some way apart.

    Context: outputs, initial h, copy, T, B, H, stride of a row of the copy, direction, whether rows end early, and then
    how many live in each step.
    """
    S, copy = simd.scalar(dtype), copier(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        outputs, first, target, B, H = simd.pointer(w[0], S), simd.pointer(w[1], S), simd.pointer(w[2], S), w[4], w[5]
        for unit in range(start, stop):
            t = unit // B
            row, before = unit - t * B, t - w[7]
            known = before >= 0 and before < w[3]
            if known and w[8] != 0:
                known = row < w[9 + before]
            source = simd.advance(outputs, (before * B + row) * H) if known else simd.advance(first, row * H)
            copy(simd.advance(target, unit * w[6]), source, H)

    return kernel
