"""Whole sequences through one recurrent layer: LSTM, GRU and plain RNN, with backward through time in one operation.

Sequences are (T, B, I), the state (B, H). ``batch_sizes`` says how many rows live at each step (the longest sequences
first): dead rows keep their state and give zeros. ``reverse`` runs from the last step to the first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .. import ops
from ..registry import Kernel, network, op
from ..shapes import same_dtype
from .samples import real, sample
from .second_order import gradient_of

# ---------------------------------------------------------------------------------------------------- cells


class Cell(NamedTuple):
    """One step of a recurrent layer and its adjoint, on arrays.

    ``step(gi, gh, states)``: the new states and what to save, from the input's and the hidden state's share of the
    gates. ``back(grads, saved, states)``: gradients of gi, gh and of the states, from those of the new states.
    ``formula(gi, gh, states)``: the new states in the op language.
    """

    step: Callable
    back: Callable
    formula: Callable


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _lstm_step(gi, gh, states):
    gates = gi + gh
    i, f, g, o = np.split(gates, 4, axis=1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c = f * states[1] + i * g
    return (o * np.tanh(c), c), (i, f, g, o, c)


def _lstm_back(grads, saved, states):
    i, f, g, o, c = np.split(saved, 5, axis=1)
    squashed = np.tanh(c)
    dc = grads[1] + grads[0] * o * (1 - squashed * squashed)
    do = grads[0] * squashed
    gates = np.concatenate(
        [dc * g * i * (1 - i), dc * states[1] * f * (1 - f), dc * i * (1 - g * g), do * o * (1 - o)], 1
    )
    return gates, gates, (0, dc * f)


def _lstm_formula(gi, gh, states):
    i, f, g, o = _parts(gi + gh, 4)
    c = ops.sigmoid(f) * states[1] + ops.sigmoid(i) * ops.tanh(g)
    return ops.sigmoid(o) * ops.tanh(c), c


def _gru_step(gi, gh, states):
    (ri, zi, ni), (rh, zh, nh) = np.split(gi, 3, axis=1), np.split(gh, 3, axis=1)
    r, z = _sigmoid(ri + rh), _sigmoid(zi + zh)
    n = np.tanh(ni + r * nh)
    return (n + z * (states[0] - n),), (r, z, n, nh)


def _gru_back(grads, saved, states):
    r, z, n, nh = np.split(saved, 4, axis=1)
    dn = grads[0] * (1 - z) * (1 - n * n)
    dz = grads[0] * (states[0] - n) * z * (1 - z)
    dr = dn * nh * r * (1 - r)
    return np.concatenate([dr, dz, dn], 1), np.concatenate([dr, dz, dn * r], 1), (grads[0] * z,)


def _gru_formula(gi, gh, states):
    (ri, zi, ni), (rh, zh, nh) = _parts(gi, 3), _parts(gh, 3)
    z = ops.sigmoid(zi + zh)
    n = ops.tanh(ni + ops.sigmoid(ri + rh) * nh)
    return (n + z * (states[0] - n),)


def _tanh_back(grads, saved, states):
    gates = grads[0] * (1 - saved * saved)
    return gates, gates, (0,)


def _relu_back(grads, saved, states):
    gates = np.where(saved > 0, grads[0], grads[0].dtype.type(0))
    return gates, gates, (0,)


def _twice(h):
    return (h,), (h,)


LSTM = Cell(_lstm_step, _lstm_back, _lstm_formula)
GRU = Cell(_gru_step, _gru_back, _gru_formula)
RNN = {
    "tanh": Cell(lambda gi, gh, _: _twice(np.tanh(gi + gh)), _tanh_back, lambda gi, gh, _: (ops.tanh(gi + gh),)),
    "relu": Cell(lambda gi, gh, _: _twice(np.maximum(gi + gh, 0)), _relu_back, lambda gi, gh, _: (ops.relu(gi + gh),)),
}


def _parts(gates, count):
    size = gates.shape[1] // count
    return [gates[:, k * size : (k + 1) * size] for k in range(count)]


# ---------------------------------------------------------------------------------------------------- scans


def _steps(length, batch, reverse, batch_sizes):
    """(step, rows that live in it) in the order of time."""
    sizes = (batch,) * length if batch_sizes is None else batch_sizes
    every = list(zip(range(length), sizes, strict=True))
    return every[::-1] if reverse else every


def _linear(x, weight, bias):
    out = x @ weight.T
    return out if bias is None else np.add(out, bias, out=out)


def _scan(cell, input, states, w_ih, w_hh, b_ih, b_hh, w_hr, reverse, batch_sizes):
    """(outputs (T, B, H), last states, saved (T, B, ...))."""
    length, batch = input.shape[:2]
    gates = _linear(input.reshape(length * batch, -1), w_ih, b_ih).reshape(length, batch, -1)
    states = [s.copy() for s in states]
    out = np.zeros((length, batch, states[0].shape[1]), input.dtype)
    saved = None
    for t, live in _steps(length, batch, reverse, batch_sizes):
        now = [s[:live] for s in states]
        fresh, kept = cell.step(gates[t, :live], _linear(now[0], w_hh, b_hh), now)
        if w_hr is not None:
            fresh = (fresh[0] @ w_hr.T, *fresh[1:])
        for state, value in zip(now, fresh, strict=True):
            state[...] = value
        out[t, :live] = fresh[0]
        if saved is None:
            width = [k.shape[1] for k in kept]
            saved = np.zeros((length, batch, sum(width)), input.dtype)
        np.concatenate(kept, 1, out=saved[t, :live])
    return out, states, np.zeros((0, batch, 0), input.dtype) if saved is None else saved


def _before(t, live, steps, history, initial):
    """The states after step ``t``; the initial ones for rows that were not alive then."""
    if t not in steps:
        return [s[:live] for s in initial]
    known = min(steps[t], live)
    return [np.concatenate([h[t, :known], s[known:live]]) for h, s in zip(history, initial, strict=True)]


def _scan_back(cell, input, states, w_ih, w_hh, b_ih, b_hh, w_hr, out, saved, grads, reverse, batch_sizes, needs):
    """Gradients of input, states and weights, from those of the outputs and the last states (None: zero)."""
    length, batch = input.shape[:2]
    steps = _steps(length, batch, reverse, batch_sizes)
    lives = dict(steps)
    hidden = saved[..., -states[-1].shape[1] :]  # an LSTM saves its cell state last
    history = (out, hidden)[: len(states)]
    held = [np.zeros_like(s) if g is None else g.copy() for s, g in zip(states, grads[1:], strict=True)]
    of_input = np.zeros((length, batch, len(w_ih)), input.dtype)
    of_hidden = np.zeros((length, batch, len(w_ih)), input.dtype)
    begun = np.zeros((length, batch, states[0].shape[1]), input.dtype)
    d_hr = None if w_hr is None else np.zeros_like(w_hr)
    for t, live in reversed(steps):
        before = _before(t + 1 if reverse else t - 1, live, lives, history, states)
        begun[t, :live] = before[0]
        now = [h[:live] if k or grads[0] is None else h[:live] + grads[0][t, :live] for k, h in enumerate(held)]
        if w_hr is not None:
            d_hr += now[0].T @ _unprojected(saved[t, :live])
            now[0] = now[0] @ w_hr
        of_input[t, :live], of_hidden[t, :live], rest = cell.back(now, saved[t, :live], before)
        for state, value in zip(held, rest, strict=True):
            state[:live] = value
        held[0][:live] += of_hidden[t, :live] @ w_hh
    flat_input, flat_hidden = [g.reshape(length * batch, -1) for g in (of_input, of_hidden)]
    first = len(held) + 1
    return (
        (flat_input @ w_ih).reshape(input.shape) if needs[0] else None,
        *held,
        flat_input.T @ input.reshape(length * batch, -1) if needs[first] else None,
        flat_hidden.T @ begun.reshape(length * batch, -1) if needs[first + 1] else None,
        None if b_ih is None else flat_input.sum(0),
        None if b_hh is None else flat_hidden.sum(0),
        d_hr,
    )


def _unprojected(saved):
    """The output of an LSTM step before its projection."""
    *_, o, c = np.split(saved, 5, axis=1)
    return o * np.tanh(c)


def _scan_formula(cell, input, states, w_ih, w_hh, b_ih, b_hh, w_hr, reverse, batch_sizes):
    """What `_scan` computes, in the op language."""
    length, batch = input.shape[:2]
    gates = input @ ops.transpose(w_ih, 0, 1)
    gates = gates if b_ih is None else gates + b_ih
    rows: list = [None] * length
    for t, live in _steps(length, batch, reverse, batch_sizes):
        now = [s[:live] for s in states]
        share = now[0] @ ops.transpose(w_hh, 0, 1)
        fresh = cell.formula(gates[t, :live], share if b_hh is None else share + b_hh, now)
        if w_hr is not None:
            fresh = (fresh[0] @ ops.transpose(w_hr, 0, 1), *fresh[1:])
        rows[t] = fresh[0] if live == batch else ops.cat([fresh[0], ops.zeros_like(states[0][live:])])
        states = fresh if live == batch else [ops.cat([v, s[live:]]) for v, s in zip(fresh, states, strict=True)]
    return ops.stack(rows), *states


# ---------------------------------------------------------------------------------------------------- layers

SETTINGS = {"reverse": False, "batch_sizes": None}
RAGGED = {"reverse": True, "batch_sizes": (2, 2, 1)}


def _weights(gates, inputs=3, hidden=2):
    return real(gates * hidden, inputs), real(gates * hidden, hidden), real(gates * hidden), real(gates * hidden)


def _check_sizes(arrays, settings):
    sizes = settings["batch_sizes"]
    if sizes is not None:
        sizes = tuple([int(n) for n in sizes])
        length, batch = arrays[0].shape[:2]
        if len(sizes) != length or list(sizes) != sorted(sizes, reverse=True) or (sizes and not 0 < sizes[0] <= batch):
            raise RuntimeError(f"batch_sizes must be {length} sizes that do not grow, at most {batch}, got {sizes}")
    return {**settings, "batch_sizes": sizes}


@op(
    network,
    namespace="internal",
    outputs="out h c",
    hidden=("saved",),
    promote=same_dtype,
    prepare=_check_sizes,
    kernel=Kernel("recurrent:lstm", above=1024),
    vjp=lambda gs, input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, out, saved, reverse, batch_sizes, needs: (
        ops.lstm_backward(
            input,
            h0,
            c0,
            w_ih,
            w_hh,
            b_ih,
            b_hh,
            w_hr,
            out,
            saved,
            *gs,
            reverse=reverse,
            batch_sizes=batch_sizes,
            needs=needs,
        )
    ),
    samples=[
        sample(real(3, 2, 3), real(2, 2), real(2, 2), *_weights(4), **SETTINGS),
        sample(real(3, 2, 3), real(2, 1), real(2, 2), real(8, 3), real(8, 1), None, None, real(1, 2), **RAGGED),
    ],
)
def lstm_layer(input, h0, c0, w_ih, w_hh, b_ih=None, b_hh=None, w_hr=None, *, reverse=False, batch_sizes=None):
    """A layer of long short-term memory over a sequence (T, B, I): outputs (T, B, H), last hidden and cell state.

    Gates in the order i, f, g, o: c' = sigmoid(f) c + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(c'). ``w_hr`` projects
    h'.
    """
    out, (h, c), saved = _scan(LSTM, input, (h0, c0), w_ih, w_hh, b_ih, b_hh, w_hr, reverse, batch_sizes)
    return out, h, c, saved


def _lstm_gradient(
    input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, out, saved, g_out, g_h, g_c, *, reverse, batch_sizes, needs
):
    return gradient_of(lambda x, h, c, *w: _scan_formula(LSTM, x, (h, c), *w, reverse, batch_sizes), (g_out, g_h, g_c),
                       (input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr), needs)  # fmt: skip


@op(
    network,
    namespace="internal",
    vjp=(),
    composite=_lstm_gradient,
    kernel=Kernel("recurrent:lstm_backward", above=1024),
    samples=[
        sample(
            real(3, 2, 3),
            real(2, 2),
            real(2, 2),
            *_weights(4),
            None,
            real(3, 2, 2),
            real(3, 2, 10),
            real(3, 2, 2),
            None,
            None,
            needs=(True,) * 7 + (False,),
            **SETTINGS,
        )
    ],
)
def lstm_backward(
    input, h0, c0, w_ih, w_hh, b_ih, b_hh, w_hr, out, saved, g_out, g_h, g_c, *, reverse, batch_sizes, needs
):
    """The gradients of `lstm_layer` in all its inputs, by one pass back through time."""
    return _scan_back(
        LSTM, input, (h0, c0), w_ih, w_hh, b_ih, b_hh, w_hr, out, saved, (g_out, g_h, g_c), reverse, batch_sizes, needs
    )


@op(network, namespace="internal", outputs="out h", hidden=("saved",), promote=same_dtype, prepare=_check_sizes,
    kernel=Kernel("recurrent:gru", above=1024),
    vjp=lambda gs, input, h0, w_ih, w_hh, b_ih, b_hh, out, saved, reverse, batch_sizes, needs: ops.gru_backward(
        input, h0, w_ih, w_hh, b_ih, b_hh, out, saved, *gs, reverse=reverse, batch_sizes=batch_sizes, needs=needs),
    samples=[sample(real(3, 2, 3), real(2, 2), *_weights(3), **SETTINGS),
             sample(real(3, 2, 3), real(2, 2), *_weights(3), **RAGGED)])  # fmt: skip
def gru_layer(input, h0, w_ih, w_hh, b_ih=None, b_hh=None, *, reverse=False, batch_sizes=None):
    """A layer of gated recurrent units over a sequence (T, B, I): outputs (T, B, H) and the last hidden state.

    Gates in the order r, z, n: n = tanh(n_i + sigmoid(r) n_h), h' = (1 - sigmoid(z)) n + sigmoid(z) h.
    """
    out, (h,), saved = _scan(GRU, input, (h0,), w_ih, w_hh, b_ih, b_hh, None, reverse, batch_sizes)
    return out, h, saved


def _gru_gradient(input, h0, w_ih, w_hh, b_ih, b_hh, out, saved, g_out, g_h, *, reverse, batch_sizes, needs):
    return _one_state_gradient(GRU, (input, h0, w_ih, w_hh, b_ih, b_hh), (g_out, g_h), reverse, batch_sizes, needs)


def _one_state_gradient(cell, inputs, grads, reverse, batch_sizes, needs):
    return gradient_of(
        lambda x, h, *w: _scan_formula(cell, x, (h,), *w, None, reverse, batch_sizes), grads, inputs, needs
    )


@op(
    network,
    namespace="internal",
    vjp=(),
    composite=_gru_gradient,
    kernel=Kernel("recurrent:gru_backward", above=1024),
    samples=[
        sample(
            real(3, 2, 3),
            real(2, 2),
            *_weights(3),
            real(3, 2, 2),
            real(3, 2, 8),
            real(3, 2, 2),
            real(2, 2),
            needs=(True,) * 6,
            **SETTINGS,
        )
    ],
)
def gru_backward(input, h0, w_ih, w_hh, b_ih, b_hh, out, saved, g_out, g_h, *, reverse, batch_sizes, needs):
    """The gradients of `gru_layer` in all its inputs, by one pass back through time."""
    return _scan_back(GRU, input, (h0,), w_ih, w_hh, b_ih, b_hh, None, out, saved, (g_out, g_h), reverse, batch_sizes,
                      needs)[:6]  # fmt: skip


@op(
    network,
    namespace="internal",
    outputs="out h",
    promote=same_dtype,
    prepare=_check_sizes,
    kernel=Kernel("recurrent:rnn", above=1024),
    vjp=lambda gs, input, h0, w_ih, w_hh, b_ih, b_hh, out, nonlinearity, reverse, batch_sizes, needs: ops.rnn_backward(
        input,
        h0,
        w_ih,
        w_hh,
        b_ih,
        b_hh,
        out,
        *gs,
        nonlinearity=nonlinearity,
        reverse=reverse,
        batch_sizes=batch_sizes,
        needs=needs,
    ),
    samples=[
        sample(real(3, 2, 3), real(2, 2), *_weights(1), nonlinearity="tanh", **RAGGED),
        sample(real(3, 2, 3), real(2, 2), *_weights(1), nonlinearity="relu", **SETTINGS),
    ],
)
def rnn_layer(input, h0, w_ih, w_hh, b_ih=None, b_hh=None, *, nonlinearity="tanh", reverse=False, batch_sizes=None):
    """A plain recurrent layer over a sequence (T, B, I): outputs (T, B, H) and the last hidden state.

    h' = tanh(w_ih x + b_ih + w_hh h + b_hh), or relu.
    """
    out, (h,), _ = _scan(RNN[nonlinearity], input, (h0,), w_ih, w_hh, b_ih, b_hh, None, reverse, batch_sizes)
    return out, h


def _rnn_gradient(input, h0, w_ih, w_hh, b_ih, b_hh, out, g_out, g_h, *, nonlinearity, reverse, batch_sizes, needs):
    return _one_state_gradient(
        RNN[nonlinearity], (input, h0, w_ih, w_hh, b_ih, b_hh), (g_out, g_h), reverse, batch_sizes, needs
    )


@op(
    network,
    namespace="internal",
    vjp=(),
    composite=_rnn_gradient,
    kernel=Kernel("recurrent:rnn_backward", above=1024),
    samples=[
        sample(
            real(3, 2, 3),
            real(2, 2),
            *_weights(1),
            real(3, 2, 2),
            real(3, 2, 2),
            None,
            nonlinearity="relu",
            needs=(True,) * 6,
            **SETTINGS,
        )
    ],
)
def rnn_backward(input, h0, w_ih, w_hh, b_ih, b_hh, out, g_out, g_h, *, nonlinearity, reverse, batch_sizes, needs):
    """The gradients of `rnn_layer` in all its inputs, by one pass back through time, from its output alone."""
    return _scan_back(RNN[nonlinearity], input, (h0,), w_ih, w_hh, b_ih, b_hh, None, out, out, (g_out, g_h), reverse,
                      batch_sizes, needs)[:6]  # fmt: skip
