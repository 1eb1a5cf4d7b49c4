"""Recurrent networks: plain RNN, LSTM and GRU over sequences, and their single steps (cells)."""

from __future__ import annotations

import math
import warnings

import autograd_core as ag
from autograd_core import ops

from . import functional as F
from . import init
from .module import Module
from .parameter import new_parameter
from .utils.rnn import PackedSequence, _integers, _packed_order

GATES = {"RNN_TANH": 1, "RNN_RELU": 1, "LSTM": 4, "GRU": 3}
"""How many rows of weights a hidden unit has."""


def _run_layer(mode, input, states, weights, **settings):
    """One layer in one direction over (T, N, I): the outputs, and a tuple of the last states."""
    if mode == "LSTM":
        out, *last = ops.lstm_layer(input, *states, *weights, **settings)
    elif mode == "GRU":
        out, *last = ops.gru_layer(input, *states, *weights, **settings)
    else:
        out, *last = ops.rnn_layer(input, *states, *weights, nonlinearity=mode[4:].lower(), **settings)
    return out, tuple(last)


def _uniform(module):
    bound = 1 / math.sqrt(module.hidden_size) if module.hidden_size > 0 else 0
    for parameter in module.parameters():
        init.uniform_(parameter, -bound, bound)


class RNNBase(Module):
    """What RNN, LSTM and GRU share: weights by layer and direction, packed and unbatched input, dropout between layers.

    Layer ``k`` has ``weight_ih_lk``, ``weight_hh_lk``, ``bias_ih_lk``, ``bias_hh_lk`` (and ``weight_hr_lk`` with a
    projection), with ``_reverse`` behind the names of the backward direction. All start evenly within ±1/√hidden_size.
    """

    def __init__(self, mode, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, proj_size=0, device=None, dtype=None):  # fmt: skip
        super().__init__()
        if mode not in GATES:
            raise ValueError(f"Unrecognized RNN mode: {mode}")
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        self._check_sizes(sizes, {"bias": bias, "batch_first": batch_first})
        self._check(hidden_size, num_layers, dropout, proj_size, mode)
        self.mode, self.input_size, self.hidden_size, self.num_layers = mode, input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size = bidirectional, proj_size
        self._all_names: list[list[str]] = []
        out_size = proj_size or hidden_size
        rows = GATES[mode] * hidden_size
        for layer in range(num_layers):
            in_size = input_size if layer == 0 else out_size * (2 if bidirectional else 1)
            shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, in_size), "weight_hh": (rows, out_size)}
            if bias:
                shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
            if proj_size:
                shapes["weight_hr"] = (proj_size, hidden_size)
            for direction in ("", "_reverse") if bidirectional else ("",):
                names = {f"{name}_l{layer}{direction}": shape for name, shape in shapes.items()}
                for name, shape in names.items():
                    setattr(self, name, new_parameter(*shape, device=device, dtype=dtype))
                self._all_names.append(list(names))
        self.reset_parameters()

    @staticmethod
    def _check_sizes(sizes, switches):
        for wanted, values in ((int, sizes), (bool, switches)):
            for name, value in values.items():
                if not isinstance(value, wanted):
                    raise TypeError(f"{name} should be of type {wanted.__name__}, got: {type(value).__name__}")
        for name, size in sizes.items():
            if size <= 0:
                raise ValueError(f"{name} must be greater than zero, got {size}")

    def _check(self, hidden_size, num_layers, dropout, proj_size, mode):
        if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0 <= dropout <= 1:
            raise ValueError(f"{mode}: dropout should be a number in range [0, 1] representing the probability of an "
                             f"element being zeroed, got {dropout!r}")  # fmt: skip
        if dropout > 0 and num_layers == 1:
            warnings.warn(f"dropout={dropout} has no effect: it acts between layers, there is one", stacklevel=4)
        if proj_size < 0:
            raise ValueError(f"proj_size should be a positive integer or zero to disable projections, got {proj_size}")
        if proj_size and mode != "LSTM":
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if proj_size >= hidden_size:
            raise ValueError(f"proj_size has to be smaller than hidden_size, got {proj_size} and {hidden_size}")

    def reset_parameters(self):
        """Draw new values."""
        _uniform(self)

    def flatten_parameters(self):
        """Nothing to do: the weights need no common memory here."""

    @property
    def all_weights(self):
        """The parameters: one list for each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_names]

    @property
    def _flat_weights(self):
        return [weight for weights in self.all_weights for weight in weights]

    def _weights(self, index):
        """What layer and direction ``index`` takes: two weights, two biases (or None), an LSTM's projection."""
        held = [getattr(self, name) for name in self._all_names[index]]
        projection = [held.pop()] if self.proj_size else []
        return [*held, *([] if self.bias else [None, None]), *projection]

    @property
    def _state_sizes(self):
        return (self.proj_size or self.hidden_size, self.hidden_size) if self.mode == "LSTM" else (self.hidden_size,)

    def forward(self, input, hx=None):
        """Outputs at every step, and the last states of every layer and direction; see the class."""
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        name = type(self).__name__
        if input.ndim not in (2, 3):
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.ndim}D instead")
        batched, batch_dim = input.ndim == 3, 0 if self.batch_first else 1
        if not batched:
            input = input.unsqueeze(batch_dim)
        states = self._states(hx, batched, input.shape[batch_dim], input.dtype)
        self._check_input(input)
        steps = input.transpose(0, 1) if self.batch_first else input
        out, states = self._run(steps, states, None)
        out = out.transpose(0, 1) if self.batch_first else out
        if not batched:
            out, states = out.squeeze(batch_dim), tuple(s.squeeze(1) for s in states)
        return out, self._hidden(states)

    def _forward_packed(self, packed, hx):
        """Run on packed sequences: spread over a padded batch whose dead rows the layers skip."""
        data, batch_sizes, sorted_indices, unsorted_indices = packed
        sizes = _integers(batch_sizes)
        states = self._states(hx, True, int(sizes[0]), data.dtype)
        if hx is not None and sorted_indices is not None:
            states = tuple(s.index_select(1, sorted_indices) for s in states)
        self._check_input(data)
        sequence, step = (ag.tensor(i) for i in _packed_order((sizes[:, None] > range(int(sizes[0]))).sum(0)))
        steps = ag.zeros((len(sizes), int(sizes[0]), data.shape[1]), dtype=data.dtype).index_put((step, sequence), data)
        out, states = self._run(steps, states, tuple(sizes.tolist()))
        if unsorted_indices is not None:
            states = tuple(s.index_select(1, unsorted_indices) for s in states)
        return PackedSequence(out[step, sequence], batch_sizes, sorted_indices, unsorted_indices), self._hidden(states)

    def _run(self, steps, states, batch_sizes):
        directions = 2 if self.bidirectional else 1
        last = []
        for layer in range(self.num_layers):
            outs = []
            for direction in range(directions):
                index = layer * directions + direction
                out, found = _run_layer(self.mode, steps, [s[index] for s in states], self._weights(index),
                                        reverse=direction == 1, batch_sizes=batch_sizes)  # fmt: skip
                outs.append(out)
                last.append(found)
            steps = outs[0] if directions == 1 else ag.cat(outs, 2)
            if self.dropout and layer < self.num_layers - 1:
                steps = F.dropout(steps, self.dropout, self.training)
        return steps, tuple(ag.stack(column) for column in zip(*last, strict=True))

    def _hidden(self, states):
        return states if self.mode == "LSTM" else states[0]

    def _check_input(self, input):
        weight = getattr(self, self._all_names[0][0])
        if input.dtype != weight.dtype:
            raise ValueError(f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert "
                             f"input: input.to({weight.dtype}), or convert model: model.to({input.dtype})")  # fmt: skip
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"{self.mode}: input.size(-1) must be equal to input_size. Expected {self.input_size}, "
                               f"got {input.shape[-1]}")  # fmt: skip

    def _states(self, hx, batched, batch, dtype):
        """The initial states (layers · directions, N, H): zeros, or those given, checked."""
        count = self.num_layers * (2 if self.bidirectional else 1)
        if hx is None:
            return tuple(ag.zeros((count, batch, size), dtype=dtype) for size in self._state_sizes)
        given = tuple(hx) if self.mode == "LSTM" else (hx,)
        kind = "batched 3-D" if batched else "unbatched 2-D"
        dims = 3 if batched else 2
        if any(state.ndim != dims for state in given):
            raise RuntimeError(f"{self.mode}: For {kind} input, hx should also be {dims}-D but got "
                               f"({', '.join(f'{state.ndim}-D' for state in given)}) tensor")  # fmt: skip
        if not batched:
            given = tuple(state.unsqueeze(1) for state in given)
        for number, (state, size) in enumerate(zip(given, self._state_sizes, strict=True)):
            if tuple(state.shape) != (count, batch, size):
                which = f"hidden[{number}]" if self.mode == "LSTM" else "hidden"
                raise RuntimeError(f"Expected {which} size {(count, batch, size)}, got {list(state.shape)}")
        return given

    def extra_repr(self):
        """The sizes, and what is not as by default."""
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0,
                 "bidirectional": False}  # fmt: skip
        named = [f", {k}={getattr(self, k)}" for k, v in usual.items() if getattr(self, k) != v]
        return f"{self.input_size}, {self.hidden_size}" + "".join(named)


class RNN(RNNBase):
    """A plain recurrent network: h' = tanh(W_ih·x + b_ih + W_hh·h + b_hh), or ReLU with ``nonlinearity="relu"``.

    ``rnn(input, h0=None)`` gives ``output, h_n``. Input (T, N, I), with ``batch_first`` (N, T, I), without a batch
    (T, I), or a `PackedSequence`; output (T, N, D·H) for D directions; states (D·num_layers, N, H).
    """

    def __init__(self, input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False,
                 dropout=0.0, bidirectional=False, device=None, dtype=None, **more):  # fmt: skip
        if "proj_size" in more:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.__dict__["nonlinearity"] = nonlinearity
        super().__init__(f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, device=device, dtype=dtype, **more)  # fmt: skip


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997), with gates in the order i, f, g, o.

    ``lstm(input, (h0, c0)=None)`` gives ``output, (h_n, c_n)``; shapes as for `RNN`. c' = f·c + i·g and
    h' = o·tanh(c'), projected to ``proj_size`` where that is given.
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, proj_size=0, device=None, dtype=None):  # fmt: skip
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         proj_size, device, dtype)  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent units (Cho et al., 2014), with gates in the order r, z, n.

    ``gru(input, h0=None)`` gives ``output, h_n``; shapes as for `RNN`. n = tanh(W_in·x + b_in + r·(W_hn·h + b_hn)) and
    h' = (1 − z)·n + z·h.
    """

    def __init__(self, input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0,
                 bidirectional=False, device=None, dtype=None, **more):  # fmt: skip
        if "proj_size" in more:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         device=device, dtype=dtype, **more)  # fmt: skip


class RNNCellBase(Module):
    """What the cells share: their weights, and one step for (N, I) or (I) input."""

    def __init__(self, input_size, hidden_size, bias, num_chunks, device=None, dtype=None):
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        if hidden_size <= 0:
            raise ValueError(f"hidden_size must be greater than zero, got {hidden_size}")
        rows = num_chunks * hidden_size
        self.weight_ih = new_parameter(rows, input_size, device=device, dtype=dtype)
        self.weight_hh = new_parameter(rows, hidden_size, device=device, dtype=dtype)
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, new_parameter(rows, device=device, dtype=dtype) if bias else None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw new values."""
        _uniform(self)

    def _step(self, mode, input, states):
        """The new states, from those given or from zeros."""
        name = type(self).__name__
        if input.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        if input.shape[-1] != self.input_size:
            raise RuntimeError(f"{name}: input has inconsistent input_size: got {input.shape[-1]} expected "
                               f"{self.input_size}")  # fmt: skip
        batched = input.ndim == 2
        rows = input if batched else input.unsqueeze(0)
        if states[0] is None:
            states = [ag.zeros((len(rows), self.hidden_size), dtype=input.dtype) for _ in states]
        else:
            states = [self._checked(name, state, rows, batched) for state in states]
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        _, found = _run_layer(mode, rows.unsqueeze(0), states, weights)
        return found if batched else tuple(state.squeeze(0) for state in found)

    def _checked(self, name, state, rows, batched):
        if state.ndim not in (1, 2):
            raise ValueError(f"{name}: Expected hidden to be 1D or 2D, got {state.ndim}D instead")
        state = state if batched else state.unsqueeze(0)
        if tuple(state.shape) != (len(rows), self.hidden_size):
            raise RuntimeError(f"{name}: hidden has shape {list(state.shape)}, expected "
                               f"{[len(rows), self.hidden_size]}")  # fmt: skip
        return state

    def extra_repr(self):
        """The sizes, and what is not as by default."""
        text = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias is True else f", bias={self.bias}")
        nonlinearity = self.__dict__.get("nonlinearity", "tanh")
        return text if nonlinearity == "tanh" else f"{text}, nonlinearity={nonlinearity}"


class RNNCell(RNNCellBase):
    """One step of an `RNN`: ``h' = cell(x, h)``."""

    def __init__(self, input_size, hidden_size, bias=True, nonlinearity="tanh", device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input, hx=None):
        """The new state; ``hx`` defaults to zeros."""
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        return self._step(f"RNN_{self.nonlinearity.upper()}", input, [hx])[0]


class LSTMCell(RNNCellBase):
    """One step of an `LSTM`: ``h', c' = cell(x, (h, c))``."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input, hx=None):
        """The new states; ``hx`` defaults to zeros."""
        return self._step("LSTM", input, [None, None] if hx is None else list(hx))


class GRUCell(RNNCellBase):
    """One step of a `GRU`: ``h' = cell(x, h)``."""

    def __init__(self, input_size, hidden_size, bias=True, device=None, dtype=None):
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input, hx=None):
        """The new state; ``hx`` defaults to zeros."""
        return self._step("GRU", input, [hx])[0]
