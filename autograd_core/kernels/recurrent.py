"""LSTM, GRU and plain recurrent layers over whole sequences, forward and back through time.

Rows of a batch do not depend on one another, so a unit of work is a few rows over *all* steps: nothing waits between
steps. The hidden state's share of the gates is a register tile whose columns are the same hidden units of every gate;
the gates are finished, and the new states stored, while the tile is still in the first-level cache. The input's share
comes from one product for all steps; so do the gradients of input and weights, from the gates' gradients of all steps.

An input that is rows of a table, looked up by indices (T, B), need not be made: the products are of the table, and the
gates' gradients of equal indices are added up before they meet it. For few rows this is most of the work.

Layouts: sequences (T, B, ...), the state (B, H), gates in PyTorch's order. Saved for backward: LSTM i, f, g, o, c;
GRU r, z, n, and the hidden state's share of n before the gate r; the plain layer nothing but its output.
"""
from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from autograd_core.kernels import host
from autograd_core.kernels.assembly import Assembly
from autograd_core.kernels.embedding import scatter
from autograd_core.kernels.gemm import gemm
from autograd_core.kernels.plan import Array, Plan, Ref, Spec, inp, is_c_ordered, out
from autograd_core.kernels.recurrent_steps import CELLS, begin, lay_before, lay_rows, pack, scan, scan_back, sum_biases

UNIT = 8  # rows of a unit of work, at least: fewer read the weights too often
PARTS = 4  # units that a batch is cut into where it has the rows


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


def _layer(cell: str, reverse: bool, batch_sizes: tuple[int, ...] | None, input: Array, indices: Array | None,
           states: tuple[Array, ...], *others: Array | None) -> Layer | None:
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
    if indices is not None and (indices.dtype != np.int64 or _lines(indices) is None):
        return None
    length, batch = (input if indices is None else indices).shape[:2]
    chunk = -(-batch // max(-(-batch // 16), min(PARTS, batch // UNIT), 1))
    sizes = () if batch_sizes is None or set(batch_sizes) == {batch} else batch_sizes
    return Layer(cell, dtype, length, batch, hidden, chunk, -1 if reverse else 1, sizes)


def _lines(indices: Array) -> tuple[int, int, bool] | None:
    """Indices (T, B) as they lie: lines, their length, whether a line is a step; None where there are gaps."""
    (T, B), size = indices.shape, indices.dtype.itemsize
    if indices.strides == (B * size, size):
        return T, B, True
    return (B, T, False) if indices.strides == (size, T * size) else None


def _transposed(x: Array) -> Array:
    return Array(x.shape[::-1], x.strides[::-1], x.dtype)


def _forward(cell: str, input: Array, states: tuple[Array, ...], w_ih: Array, w_hh: Array, b_ih: Array | None,
             b_hh: Array | None, indices: Array | None, at: int, reverse: bool, batch_sizes: tuple[int, ...] | None,
             ) -> Plan | None:
    """The plan of a forward; with ``indices``, argument ``at``, the input is rows of the table ``input``."""
    layer = _layer(cell, reverse, batch_sizes, input, indices, states, w_ih, w_hh, b_ih, b_hh)
    if layer is None:
        return None
    kind, lanes, H, B, T = CELLS[cell], host.lanes(layer.dtype), layer.hidden, layer.batch, layer.length
    vectors = max(v for v in (1, 2, 4) if v == 1 or (v <= kind.vectors and v * lanes <= H))
    width, partial = vectors * lanes, vectors * lanes > H
    rows, panels = _rows(layer.chunk, B, kind.gates * vectors), -(-H // width)
    first = len(states)  # position of the weights is 1 + this
    work = Assembly()
    share = work.memory(layer.bytes(*input.shape[:-1], kind.gates * H))
    looked_up: tuple[int | Ref, ...] = (0, 0, 0)
    if indices is not None:
        looked_up = (inp(at), *[s // indices.dtype.itemsize for s in indices.strides])
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
    work.call(scan(cell, layer.dtype, lanes, rows, vectors, partial, indices is not None),
              (share, weights, inp(1), inp(2) if lstm else 0, out(0), out(1 + first) if kind.saved else 0, out(1),
               out(2) if lstm else 0, room, T, B, H, *layer.times, *looked_up, 0, *layer.sizes), layer.units)
    return work.plan(results)


def lstm(input: Array, h0: Array, c0: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None,
         w_hr: Array | None, indices: Array | None = None, *, reverse: bool, batch_sizes: tuple[int, ...] | None,
         ) -> Plan | None:
    """Plan an LSTM layer: outputs, last h and c, saved; None with a projection.

    With ``indices`` (T, B), which must be rows of it, ``input`` is a table.
    """
    if w_hr is not None:
        return None
    return _forward("lstm", input, (h0, c0), w_ih, w_hh, b_ih, b_hh, indices, 8, reverse, batch_sizes)


def gru(input: Array, h0: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None,
        indices: Array | None = None, *, reverse: bool, batch_sizes: tuple[int, ...] | None) -> Plan | None:
    """Plan a GRU layer: outputs, last h, saved. ``indices``: see :func:`lstm`."""
    return _forward("gru", input, (h0,), w_ih, w_hh, b_ih, b_hh, indices, 6, reverse, batch_sizes)


def rnn(input: Array, h0: Array, w_ih: Array, w_hh: Array, b_ih: Array | None, b_hh: Array | None,
        indices: Array | None = None, *, nonlinearity: str, reverse: bool, batch_sizes: tuple[int, ...] | None,
        ) -> Plan | None:
    """Plan a plain recurrent layer: outputs, last h. ``indices``: see :func:`lstm`."""
    return _forward(nonlinearity, input, (h0,), w_ih, w_hh, b_ih, b_hh, indices, 6, reverse, batch_sizes)


class Source(NamedTuple):
    """An input of a plan: where it is and what it looks like."""

    at: Ref
    x: Array


def _sources(arrays: tuple[Array | None, ...]) -> list[Any]:
    return [None if x is None else Source(inp(i), x) for i, x in enumerate(arrays)]


def _back(cell: str, input: Source, states: list[Source], w_ih: Source, w_hh: Source, biases: tuple[bool, bool],
          results: Source, saved: Source | None, grads: list[Source | None], needs: tuple[bool, ...], reverse: bool,
          batch_sizes: tuple[int, ...] | None, padding_idx: int = -1) -> Plan | None:
    """The plan of a backward; outputs: input, states, w_ih, w_hh, b_ih, b_hh. Indices may stand behind the grads."""
    indices = grads[1 + len(states)] if len(grads) > 1 + len(states) else None
    grads = grads[: 1 + len(states)]
    given = [x.x for x in (results, saved, *grads[1:]) if x is not None]
    layer = _layer(cell, reverse, batch_sizes, input.x, indices and indices.x, tuple(s.x for s in states), w_ih.x,
                   w_hh.x, *given, grads[0] and grads[0].x)
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
    terms = gates + (cell == "gru")
    sums = work.memory(layer.bytes(layer.units, terms * H))
    _add_scan_back(work, layer, w_hh, states, results, saved, grads[0], of_input, of_hidden, sums)
    at = 1 + n
    d_input, d_ih, d_hh = out(0), out(at), out(at + 1)
    if indices is not None:
        if not _add_table(work, layer, input, indices, w_ih, of_input, d_input if needs[0] else None,
                          d_ih if needs[at] else None, padding_idx):  # fmt: skip
            return None
    elif needs[0] and not work.include(gemm(layer.array(T * B, gates * H), w_ih.x), (of_input, w_ih.at), d_input):
        return None
    if indices is None and cell != "gru" and needs[at] and needs[at + 1] and input.x.strides[2] == size:
        _add_all_weights(work, layer, input, results.at, states[0].at, of_input, d_ih, d_hh)
    elif indices is None and needs[at] and not _add_input_weights(work, layer, input, of_input, gates, d_ih):
        return None
    elif needs[at + 1]:
        before = work.memory(layer.bytes(T, B, H))
        _lay_before(work, layer, results.at, states[0].at, before, H)
        work.include(gemm(_transposed(layer.array(T * B, gates * H)), layer.array(T * B, H)), (of_hidden, before), d_hh)
    wanted = [b and need for b, need in zip(biases, needs[at + 2:], strict=False)]
    if any(wanted):
        work.call(sum_biases(layer.dtype), (sums, *(out(at + 2 + k) if b else 0 for k, b in enumerate(wanted)),
                                            layer.units, terms * H, H, int(cell == "gru")), terms * H, 1 << 14)
    spec = [layer.spec(*input.x.shape), *[layer.spec(B, H)] * n, layer.spec(*w_ih.x.shape), layer.spec(*w_hh.x.shape),
            layer.spec(gates * H), layer.spec(gates * H)]
    kept = [needs[0], *[True] * n, needs[at], needs[at + 1], *wanted]
    return work.plan([s if keep else None for s, keep in zip(spec, kept, strict=True)])


def _add_scan_back(work: Assembly, layer: Layer, w_hh: Source, states: list[Source], results: Source,
                   saved: Source | None, sent: Source | None, of_input: Ref, of_hidden: Ref, sums: Ref) -> None:
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
               sums, room, layer.length, B, H, *layer.times, *layer.sizes), layer.units)


def _add_table(work: Assembly, layer: Layer, table: Source, indices: Source, w_ih: Source, of_input: Ref,
               d_table: Ref | None, d_ih: Ref | None, padding_idx: int) -> bool:
    """The gradients of a table whose rows were the input, and of w_ih: the gates' gradients added up by index first."""
    (rows, width), gates, size = table.x.shape, w_ih.x.shape[0], layer.dtype.itemsize
    lanes, lines = host.lanes(layer.dtype), _lines(indices.x)
    if lines is None:
        return False
    count, length, steps = lines
    by_row = work.memory(layer.bytes(rows, gates))
    work.call(begin(layer.dtype, lanes), (0, by_row), rows * gates, 1 << 16)
    far, near = layer.batch * gates, gates
    context = (indices.at, of_input, by_row, rows, gates, count, -1, length, far if steps else near,
               near if steps else far)  # fmt: skip
    vectors = -(-gates // lanes)
    work.call(scatter(layer.dtype, lanes), context, vectors, max(-(-vectors // 8), 2))
    sums = layer.array(rows, gates)
    if d_ih is not None and not work.include(gemm(_transposed(sums), table.x), (by_row, table.at), d_ih):
        return False
    if d_table is None:
        return True
    if not work.include(gemm(sums, w_ih.x), (by_row, w_ih.at), d_table):
        return False
    if padding_idx >= 0:
        place = replace(d_table, offset=d_table.offset + padding_idx * width * size)
        work.call(begin(layer.dtype, lanes), (0, place), width, 1 << 16)
    return True


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
        _lay_rows(work, layer, input, at, width)
        x = layer.array(T * B, width)
    else:
        return False
    return work.include(gemm(_transposed(layer.array(T * B, gates * layer.hidden)), x), (of_input, at), target)


def _lay_rows(work: Assembly, layer: Layer, x: Source, target: Ref, row: int) -> None:
    """The call that copies the rows of a sequence (T, B, ...) to rows of so many elements."""
    outer, inner, _ = (s // layer.dtype.itemsize for s in x.x.strides)
    width = x.x.shape[2]
    work.call(lay_rows(layer.dtype, host.lanes(layer.dtype)), (x.at, target, x.x.shape[1], width, outer, inner, row),
              math.prod(x.x.shape[:2]), max(1, 16384 // width))


def _lay_before(work: Assembly, layer: Layer, results: Ref, h0: Ref, target: Ref, row: int) -> None:
    """The call that copies the hidden states before each step to rows of so many elements."""
    context: tuple[int | Ref, ...] = (results, h0, target, layer.length, layer.batch, layer.hidden, row, layer.turn,
                                      int(bool(layer.sizes)), *layer.sizes)  # fmt: skip
    work.call(lay_before(layer.dtype, host.lanes(layer.dtype)), context, layer.length * layer.batch,
              max(1, 16384 // layer.hidden))


def _add_all_weights(work: Assembly, layer: Layer, input: Source, results: Ref, h0: Ref, of_gates: Ref, d_ih: Ref,
                     d_hh: Ref) -> None:
    """The gradients of both weights as one product: rows of input and hidden state side by side."""
    (T, B, width), H, size = input.x.shape, layer.hidden, layer.dtype.itemsize
    gates, both = CELLS[layer.cell].gates, width + H
    rows, product = work.memory(layer.bytes(T, B, both)), work.memory(layer.bytes(gates * H, both))
    _lay_rows(work, layer, input, rows, both)
    _lay_before(work, layer, results, h0, replace(rows, offset=width * size), both)
    work.include(gemm(_transposed(layer.array(T * B, gates * H)), layer.array(T * B, both)), (of_gates, rows), product)
    for part, first, target in ((width, 0, d_ih), (H, width, d_hh)):
        shape, strides = (gates, H, part), (H * both * size, both * size, size)
        _lay_rows(work, layer, Source(replace(product, offset=first * size), Array(shape, strides, layer.dtype)),
                  target, part)  # fmt: skip


def lstm_backward(*arrays: Array | None, reverse: bool, batch_sizes: tuple[int, ...] | None,
                  needs: tuple[bool, ...], padding_idx: int = -1) -> Plan | None:
    """Plan the gradients of :func:`lstm` in all its inputs. Of a table, row ``padding_idx`` gets none."""
    input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, result, saved, *grads = _sources(arrays)
    if w_hr is not None:
        return None
    plan = _back("lstm", input, [h0, c0], w_ih, w_hh, (b_ih is not None, b_hh is not None), result, saved, grads,
                 needs, reverse, batch_sizes, padding_idx)
    return plan and Plan((*plan.outputs, None), plan.calls, plan.scratch)


def gru_backward(*arrays: Array | None, reverse: bool, batch_sizes: tuple[int, ...] | None,
                 needs: tuple[bool, ...], padding_idx: int = -1) -> Plan | None:
    """Plan the gradients of :func:`gru` in all its inputs. Of a table, row ``padding_idx`` gets none."""
    input, h0, w_ih, w_hh, b_ih, b_hh, result, saved, *grads = _sources(arrays)
    return _back("gru", input, [h0], w_ih, w_hh, (b_ih is not None, b_hh is not None), result, saved, grads, needs,
                 reverse, batch_sizes, padding_idx)


def rnn_backward(*arrays: Array | None, nonlinearity: str, reverse: bool, batch_sizes: tuple[int, ...] | None,
                 needs: tuple[bool, ...], padding_idx: int = -1) -> Plan | None:
    """Plan the gradients of :func:`rnn` in all its inputs. Of a table, row ``padding_idx`` gets none."""
    input, h0, w_ih, w_hh, b_ih, b_hh, result, *grads = _sources(arrays)
    return _back(nonlinearity, input, [h0], w_ih, w_hh, (b_ih is not None, b_hh is not None), result, None, grads,
                 needs, reverse, batch_sizes, padding_idx)
