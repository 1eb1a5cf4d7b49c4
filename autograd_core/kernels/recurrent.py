"""LSTM, GRU and plain recurrent layers over whole sequences, forward and back through time.

Rows of a batch do not depend on one another, so a unit of work is a few rows over *all* steps: nothing waits between
steps. The hidden state's share of the gates is a register tile whose columns are the same hidden units of every gate;
the gates are finished, and the new states stored, while the tile is still in the first-level cache. The input's share
comes from one product for all steps; so do the gradients of input and weights, from the gates' gradients of all steps.

Layouts: sequences (T, B, ...), the state (B, H), gates in PyTorch's order. Saved for backward: LSTM i, f, g, o, c;
GRU r, z, n, and the hidden state's share of n before the gate r; the plain layer nothing but its output.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.assembly import Assembly
from autograd_core.kernels.gemm import gemm
from autograd_core.kernels.lazy import simd, tiles, vmath
from autograd_core.kernels.plan import Array, Plan, Ref, Spec, inp, is_c_ordered, out
from autograd_core.kernels.runner import range_kernel


class Cell(NamedTuple):
    """Sizes of a kind of layer, in hidden sizes: gates, what is saved a step, states; vectors a gate in a tile."""

    gates: int
    saved: int
    states: int
    vectors: int


CELLS = {"lstm": Cell(4, 5, 2, 1), "gru": Cell(3, 4, 1, 1), "tanh": Cell(1, 0, 1, 4), "relu": Cell(1, 0, 1, 4)}
UNIT = 8  # rows of a unit of work, at least: fewer read the weights too often
PARTS = 4  # units that a batch is cut into where it has the rows


# ------------------------------------------------------------------------------------------------- one step of a cell


def _access(dtype, lanes: int, partial: bool):
    """Device functions (get, put) of one vector; only its first ``count`` lanes if ``partial``."""
    V = simd.vector(dtype, lanes)
    if partial:
        return (simd.device(lambda x, i, count: simd.load_part(x, i, count, V)),
                simd.device(lambda x, i, value, count: simd.store_part(x, i, value, count)))
    return (simd.device(lambda x, i, count: simd.load(x, i, V)),
            simd.device(lambda x, i, value, count: simd.store(x, i, value)))


def _step(cell: str, dtype, lanes: int, partial: bool, gap: int):
    """Device function that finishes one vector of hidden units of one row.

    ``z`` is the hidden state's share of the gates, ``gap`` elements from gate to gate; all other pointers are at the
    vector's first hidden unit, with ``hidden`` elements from gate to gate.
    """
    V = simd.vector(dtype, lanes)
    get, put = _access(dtype, lanes, partial)
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
    get, put = _access(dtype, lanes, partial)

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


def _copier(dtype, lanes: int):
    """Device function that copies ``count`` elements, or writes zeros if ``clear``."""
    V = simd.vector(dtype, lanes)

    def copy(target, source, count):
        whole = count // lanes * lanes
        for i in range(0, whole, lanes):
            simd.store(target, i, simd.load(source, i, V))
        simd.store_part(target, whole, simd.load_part(source, whole, count - whole, V), count - whole)

    return simd.device(copy)


def _eraser(dtype, lanes: int):
    """Device function that writes ``count`` zeros."""
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def erase(target, count):
        nothing = simd.full(S(0), V)
        whole = count // lanes * lanes
        for i in range(0, whole, lanes):
            simd.store(target, i, nothing)
        simd.store_part(target, whole, nothing, count - whole)

    return simd.device(erase)


# ---------------------------------------------------------------------------------------------------------- the kernels


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


HEAD = 20  # words of the contexts of scan and scan_back before the numbers of living rows


@range_kernel
def scan(cell, dtype, lanes, rows, vectors, partial):
    """All steps of some rows; a unit is ``chunk`` rows.

    Context: input's share of the gates, panels of recurrent weights, initial h and c, outputs, saved, last h and c (the
    running states), room for a tile a unit, T, B, H, chunk, first step, direction, whether rows end early, and then how
    many live in each step.
    """
    gates, kept, states, _ = CELLS[cell]
    S, width = simd.scalar(dtype), vectors * lanes
    line = gates * width
    T = simd.tile(simd.vector(dtype, lanes), rows, gates * vectors)
    step, copy, erase = _step(cell, dtype, lanes, partial, width), _copier(dtype, lanes), _eraser(dtype, lanes)
    has_c = states == 2

    def kernel(context, start, stop):
        w = simd.words(context)
        T_, B, H, chunk, turn = w[9], w[10], w[11], w[12], w[14]
        shares, h, c = simd.pointer(w[0], S), simd.pointer(w[6], S), simd.pointer(w[7], S)
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
                x = simd.advance(shares, t * B * gates * H)
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
                            z = simd.advance(room, (r - i) * line)
                            for v in range(vectors):
                                at = j + v * lanes
                                step(simd.advance(z, v * lanes), simd.advance(x, r * gates * H + at),
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
def scan_back(cell, dtype, lanes, rows, vectors, partial):
    """All steps of some rows back through time; a unit is ``chunk`` rows.

    Context: gradient of the outputs or 0 with strides of a step and a row, panels of recurrent weights, outputs, saved,
    initial h and c, gradients of h and c (begun with those of the last states), direct share of the gradient of h,
    gradients of the input's and of the hidden state's share of the gates, those of each row's first step, their sums
    over a unit's rows and steps, room for a tile a unit; T, B, H, chunk, first step, direction, whether rows end early,
    and then how many live in each step.
    """
    gates, kept, states, _ = CELLS[cell]
    S, V, width = simd.scalar(dtype), simd.vector(dtype, lanes), vectors * lanes
    T = simd.tile(V, rows, vectors)
    whole_step, last_step = _step_back(cell, dtype, lanes, False), _step_back(cell, dtype, lanes, True)
    copy, erase, gru = _copier(dtype, lanes), _eraser(dtype, lanes), cell == "gru"
    terms = gates + gru
    history = kept if states == 2 else 1

    def kernel(context, start, stop):
        w = simd.words(context)
        T_, B, H, chunk, turn = w[16], w[17], w[18], w[19], w[21]
        carry, direct = simd.pointer(w[8], S), simd.pointer(w[10 if gru else 9], S)
        past = simd.pointer(w[5 if states == 2 else 4], S)
        for unit in range(start, stop):
            low, high = unit * chunk, min(unit * chunk + chunk, B)
            sums = simd.advance(simd.pointer(w[14], S), unit * terms * H)
            room = simd.advance(simd.pointer(w[15], S), unit * rows * width)
            erase(sums, terms * H)
            erase(simd.advance(simd.pointer(w[13], S), low * gates * H), (high - low) * gates * H)
            if gru:
                erase(simd.advance(direct, low * H), (high - low) * H)
            for s in range(T_ - 1, -1, -1):
                t = w[20] + s * turn
                live, known = high, high
                if w[22] != 0:
                    live = min(high, w[HEAD + 4 + t])
                    if s > 0:
                        known = min(high, w[HEAD + 4 + t - turn])
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
                    whole = H // lanes * lanes
                    for j in range(0, whole, lanes):
                        grad = simd.load(own, j, V)
                        if w[0] != 0:
                            grad += simd.load(sent, j, V)
                        if gru:
                            grad += simd.load(straight, j, V)
                        whole_step(grad, simd.advance(straight, j), simd.advance(new, j), simd.advance(saved, j),
                                   simd.advance(before, j), simd.advance(x, j), simd.advance(y, j),
                                   simd.advance(sums, j), H, H - j)
                    if whole < H:
                        grad = simd.load_part(own, whole, H - whole, V)
                        if w[0] != 0:
                            grad += simd.load_part(sent, whole, H - whole, V)
                        if gru:
                            grad += simd.load_part(straight, whole, H - whole, V)
                        last_step(grad, simd.advance(straight, whole), simd.advance(new, whole),
                                  simd.advance(saved, whole), simd.advance(before, whole), simd.advance(x, whole),
                                  simd.advance(y, whole), simd.advance(sums, whole), H, H - whole)
                    if r >= known:
                        copy(simd.advance(simd.pointer(w[13], S), r * gates * H), y, gates * H)
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
    S, copy, erase = simd.scalar(dtype), _copier(dtype, lanes), _eraser(dtype, lanes)

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
    """Copy rows (t, b) that lie anywhere one after the other; context: x, copy, B, length, strides of t and b."""
    S, copy = simd.scalar(dtype), _copier(dtype, lanes)

    def kernel(context, start, stop):
        w = simd.words(context)
        x, target, B, length = simd.pointer(w[0], S), simd.pointer(w[1], S), w[2], w[3]
        for unit in range(start, stop):
            t = unit // B
            copy(simd.advance(target, unit * length), simd.advance(x, t * w[4] + (unit - t * B) * w[5]), length)

    return kernel


# ------------------------------------------------------------------------------------------------------------ the plans


def _rows(chunk: int, batch: int, vectors: int) -> int:
    """Rows of the tile for so many rows: estimated cycles, as ``gemm.tile_shape``."""
    best = (math.inf, 1)
    for rows in (8, 6, 5, 4, 3, 2, 1):
        if rows <= batch and rows * vectors + vectors + (host.registers() < 32) <= host.registers():
            best = min(best, (-(-chunk // rows) * (max(rows * vectors / 2, (rows + vectors) / 2, 4) + 0.25), rows))
    return best[1]


class Layer(NamedTuple):
    """What forward and backward derive from the descriptions of their inputs."""

    cell: str
    dtype: np.dtype
    length: int
    batch: int
    hidden: int
    chunk: int
    turn: int
    sizes: tuple[int, ...]

    @property
    def units(self) -> int:
        return -(-self.batch // self.chunk)

    @property
    def times(self) -> tuple[int, ...]:
        """The end of a scan's context."""
        first = 0 if self.turn == 1 else self.length - 1
        return self.chunk, first, self.turn, int(bool(self.sizes))

    def spec(self, *shape: int) -> Spec:
        return Spec(shape, self.dtype)

    def bytes(self, *shape: int) -> int:
        return math.prod(shape) * self.dtype.itemsize

    def array(self, *shape: int) -> Array:
        """A C-ordered array."""
        strides = [self.dtype.itemsize * math.prod(shape[i + 1:]) for i in range(len(shape))]
        return Array(shape, tuple(strides), self.dtype)


def _layer(cell: str, reverse: bool, batch_sizes: tuple[int, ...] | None, input: Array, states: tuple[Array, ...],
           *others: Array | None) -> Layer | None:
    """Describe the layer; None if it is not served: other dtypes, states that are not C-ordered, nothing to do."""
    given = [x for x in (input, *states, *others) if x is not None]
    dtype, hidden = input.dtype, states[0].shape[1]
    size = dtype.itemsize
    if dtype.char not in "fd" or any(x.dtype != dtype or not x.dtype.isnative for x in given):
        return None
    if not all(map(is_c_ordered, states)) or 0 in input.shape or not hidden:
        return None
    if any(s % size for x in given for s in x.strides):
        return None
    length, batch = input.shape[:2]
    chunk = -(-batch // max(-(-batch // 16), min(PARTS, batch // UNIT), 1))
    sizes = () if batch_sizes is None or set(batch_sizes) == {batch} else batch_sizes
    return Layer(cell, dtype, length, batch, hidden, chunk, -1 if reverse else 1, sizes)


def _transposed(x: Array) -> Array:
    return Array(x.shape[::-1], x.strides[::-1], x.dtype)


def _forward(cell: str, input: Array, states: tuple[Array, ...], w_ih: Array, w_hh: Array, b_ih: Array | None,
             b_hh: Array | None, reverse: bool, batch_sizes: tuple[int, ...] | None) -> Plan | None:
    layer = _layer(cell, reverse, batch_sizes, input, states, w_ih, w_hh, b_ih, b_hh)
    if layer is None:
        return None
    kind, lanes, H, B, T = CELLS[cell], host.lanes(layer.dtype), layer.hidden, layer.batch, layer.length
    vectors = max(v for v in (1, 2, 4) if v == 1 or (v <= kind.vectors and v * lanes <= H))
    width, partial = vectors * lanes, vectors * lanes > H
    rows, panels = _rows(layer.chunk, B, kind.gates * vectors), -(-H // width)
    first = len(states)  # position of the weights is 1 + this
    work = Assembly()
    share = work.memory(layer.bytes(T, B, kind.gates * H))
    inputs = (inp(0), inp(1 + first), inp(3 + first))
    if not work.include(gemm(input, _transposed(w_ih), b_ih), inputs, share):
        return None
    weights = work.memory(layer.bytes(panels, H + 1, kind.gates * width))
    size = layer.dtype.itemsize
    column, step = (s // size for s in w_hh.strides)
    work.call(pack(layer.dtype, lanes, kind.gates, vectors),
              (inp(2 + first), 0 if b_hh is None else inp(4 + first), weights, H, H, column, step,
               0 if b_hh is None else b_hh.strides[0] // size), panels, max(1, -(-panels // 8)))
    lstm = first == 2
    room = work.memory(layer.bytes(layer.units, rows, kind.gates * width))
    results = [layer.spec(T, B, H), *[layer.spec(B, H)] * first]
    if kind.saved:
        results.append(layer.spec(T, B, kind.saved * H))
    work.call(scan(cell, layer.dtype, lanes, rows, vectors, partial),
              (share, weights, inp(1), inp(2) if lstm else 0, out(0), out(1 + first) if kind.saved else 0, out(1),
               out(2) if lstm else 0, room, T, B, H, *layer.times, 0, 0, 0, 0, *layer.sizes), layer.units)
    return work.plan(results)


def lstm(input: Array, h0: Array, c0: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None,
         w_hr: Array | None, *, reverse: bool, batch_sizes: tuple[int, ...] | None) -> Plan | None:
    """Plan an LSTM layer: outputs, last h and c, saved; None with a projection."""
    if w_hr is not None:
        return None
    return _forward("lstm", input, (h0, c0), w_ih, w_hh, b_ih, b_hh, reverse, batch_sizes)


def gru(input: Array, h0: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None, *, reverse: bool,
        batch_sizes: tuple[int, ...] | None) -> Plan | None:
    """Plan a GRU layer: outputs, last h, saved."""
    return _forward("gru", input, (h0,), w_ih, w_hh, b_ih, b_hh, reverse, batch_sizes)


def rnn(input: Array, h0: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None, *,
        nonlinearity: str, reverse: bool, batch_sizes: tuple[int, ...] | None) -> Plan | None:
    """Plan a plain recurrent layer: outputs, last h."""
    return _forward(nonlinearity, input, (h0,), w_ih, w_hh, b_ih, b_hh, reverse, batch_sizes)


class Source(NamedTuple):
    """An input of a plan: where it is and what it looks like."""

    at: Ref
    x: Array


def _sources(arrays: tuple[Array | None, ...]) -> list[Source | None]:
    return [None if x is None else Source(inp(i), x) for i, x in enumerate(arrays)]


def _back(cell: str, input: Source, states: list[Source], w_ih: Source, w_hh: Source, biases: tuple[bool, bool],
          results: Source, saved: Source | None, grads: list[Source | None], needs: tuple[bool, ...], reverse: bool,
          batch_sizes: tuple[int, ...] | None) -> Plan | None:
    """The plan of a backward; outputs: input, states, w_ih, w_hh, b_ih, b_hh."""
    given = [x.x for x in (results, saved, *grads[1:]) if x is not None]
    layer = _layer(cell, reverse, batch_sizes, input.x, tuple(s.x for s in states), w_ih.x, w_hh.x, *given,
                   grads[0] and grads[0].x)
    size = input.x.dtype.itemsize
    if layer is None or not all(map(is_c_ordered, given)):
        return None
    if grads[0] is not None and layer.hidden > 1 and grads[0].x.strides[2] != size:
        return None
    kind, lanes, H, B, T = CELLS[cell], host.lanes(layer.dtype), layer.hidden, layer.batch, layer.length
    gates, n = kind.gates, len(states)
    work = Assembly()
    for k in range(n):
        g = grads[1 + k]
        work.call(begin(layer.dtype, lanes), (0 if g is None else g.at, out(1 + k)), B * H, 1 << 16)
    of_input = work.memory(layer.bytes(T, B, gates * H))
    of_hidden = work.memory(layer.bytes(T, B, gates * H)) if cell == "gru" else of_input
    first = work.memory(layer.bytes(B, gates * H))
    terms = gates + (cell == "gru")
    sums = work.memory(layer.bytes(layer.units, terms * H))
    _add_scan_back(work, layer, w_hh, states, results, saved, grads[0], of_input, of_hidden, first, sums)
    at = 1 + n
    d_input, d_ih, d_hh = out(0), out(at), out(at + 1)
    if needs[0] and not work.include(gemm(layer.array(T * B, gates * H), w_ih.x), (of_input, w_ih.at), d_input):
        return None
    if needs[at] and not _add_input_weights(work, layer, input, of_input, gates, d_ih):
        return None
    if needs[at + 1]:
        _add_hidden_weights(work, layer, results.at, states[0].at, of_hidden, first, gates, d_hh)
    wanted = [b and need for b, need in zip(biases, needs[at + 2:], strict=False)]
    if any(wanted):
        work.call(sum_biases(layer.dtype), (sums, *(out(at + 2 + k) if b else 0 for k, b in enumerate(wanted)),
                                            layer.units, terms * H, H, int(cell == "gru")), terms * H, 1 << 14)
    spec = [layer.spec(*input.x.shape), *[layer.spec(B, H)] * n, layer.spec(*w_ih.x.shape), layer.spec(*w_hh.x.shape),
            layer.spec(gates * H), layer.spec(gates * H)]
    kept = [needs[0], *[True] * n, needs[at], needs[at + 1], *wanted]
    return work.plan([s if keep else None for s, keep in zip(spec, kept, strict=True)])


def _add_scan_back(work: Assembly, layer: Layer, w_hh: Source, states: list[Source], results: Source,
                   saved: Source | None, sent: Source | None, of_input: Ref, of_hidden: Ref, first: Ref,
                   sums: Ref) -> None:
    """The calls that go back through time."""
    lanes, H, B, size = host.lanes(layer.dtype), layer.hidden, layer.batch, layer.dtype.itemsize
    gates = CELLS[layer.cell].gates
    vectors = next((v for v in (4, 2, 1) if v * lanes <= H), 1)
    width = vectors * lanes
    rows, panels = _rows(layer.chunk, B, vectors), -(-H // width)
    weights = work.memory(layer.bytes(panels, gates * H + 1, width))
    step, column = (s // size for s in w_hh.x.strides)
    work.call(pack(layer.dtype, lanes, 1, vectors), (w_hh.at, 0, weights, H, gates * H, column, step, 0), panels)
    direct = work.memory(layer.bytes(B, H)) if layer.cell == "gru" else 0
    room = work.memory(layer.bytes(layer.units, rows, width))
    strides = (0, 0) if sent is None else tuple(s // size for s in sent.x.strides[:2])
    lstm = len(states) == 2
    work.call(scan_back(layer.cell, layer.dtype, lanes, rows, vectors, width > H),
              (0 if sent is None else sent.at, *strides, weights, results.at, 0 if saved is None else saved.at,
               states[0].at, states[1].at if lstm else 0, out(1), out(2) if lstm else 0, direct, of_input, of_hidden,
               first, sums, room, layer.length, B, H, *layer.times, 0, *layer.sizes), layer.units)


def _add_input_weights(work: Assembly, layer: Layer, input: Source, of_input: Ref, gates: int, target: Ref) -> bool:
    """The product that is the gradient of w_ih; its second operand is copied unless it is one matrix as it lies."""
    T, B, width, size = layer.length, layer.batch, input.x.shape[2], layer.dtype.itemsize
    strides, at = input.x.strides, input.at
    if B == 1 or T == 1:
        x = Array((T * B, width), (strides[0 if B == 1 else 1], strides[2]), layer.dtype)
    elif strides[0] == B * strides[1]:
        x = Array((T * B, width), strides[1:], layer.dtype)
    elif strides[2] == size:
        at = work.memory(layer.bytes(T, B, width))
        work.call(lay_rows(layer.dtype, host.lanes(layer.dtype)),
                  (input.at, at, B, width, strides[0] // size, strides[1] // size), T * B, max(1, 16384 // width))
        x = layer.array(T * B, width)
    else:
        return False
    return work.include(gemm(_transposed(layer.array(T * B, gates * layer.hidden)), x), (of_input, at), target)


def _add_hidden_weights(work: Assembly, layer: Layer, results: Ref, h0: Ref, of_hidden: Ref, first: Ref, gates: int,
                        target: Ref) -> None:
    """The products that are the gradient of w_hh: of all steps but rows' first with the outputs before, then those."""
    T, B, H = layer.length, layer.batch, layer.hidden
    begun = gemm(_transposed(layer.array(B, gates * H)), layer.array(B, H))
    if T == 1:
        work.include(begun, (first, h0), target)
        return
    held = work.memory(layer.bytes(gates * H, H))
    work.include(begun, (first, h0), held)
    grads, outputs = (layer.bytes(B, gates * H), 0) if layer.turn == 1 else (0, layer.bytes(B, H))
    left, right = layer.array((T - 1) * B, gates * H), layer.array((T - 1) * B, H)
    plan = gemm(_transposed(left), right, None, layer.array(gates * H, H))
    work.include(plan, (Ref(of_hidden.kind, of_hidden.index, grads), Ref(results.kind, results.index, outputs), None,
                        held), target)


def lstm_backward(*arrays: Array | None, reverse: bool, batch_sizes: tuple[int, ...] | None,
                  needs: tuple[bool, ...]) -> Plan | None:
    """Plan the gradients of :func:`lstm` in all its inputs."""
    input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, result, saved, *grads = _sources(arrays)
    if w_hr is not None:
        return None
    plan = _back("lstm", input, [h0, c0], w_ih, w_hh, (b_ih is not None, b_hh is not None), result, saved, grads,
                 needs, reverse, batch_sizes)
    return plan and Plan((*plan.outputs, None), plan.calls, plan.scratch)


def gru_backward(*arrays: Array | None, reverse: bool, batch_sizes: tuple[int, ...] | None,
                 needs: tuple[bool, ...]) -> Plan | None:
    """Plan the gradients of :func:`gru` in all its inputs."""
    input, h0, w_ih, w_hh, b_ih, b_hh, result, saved, *grads = _sources(arrays)
    return _back("gru", input, [h0], w_ih, w_hh, (b_ih is not None, b_hh is not None), result, saved, grads, needs,
                 reverse, batch_sizes)


def rnn_backward(*arrays: Array | None, nonlinearity: str, reverse: bool, batch_sizes: tuple[int, ...] | None,
                 needs: tuple[bool, ...]) -> Plan | None:
    """Plan the gradients of :func:`rnn` in all its inputs."""
    input, h0, w_ih, w_hh, b_ih, b_hh, result, *grads = _sources(arrays)
    return _back(nonlinearity, input, [h0], w_ih, w_hh, (b_ih is not None, b_hh is not None), result, None, grads,
                 needs, reverse, batch_sizes)
