"""PyTorch's value and gradient beside ours, operation by operation, by name; PyTorch is used if it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..shapes import dtype_of, ndarray
from .calls import Call


@dataclass(frozen=True)
class Comparison:
    """One operation here and in PyTorch: distances of values and gradients in ulp, or why there is nothing to compare.

    An ulp here is the distance of neighbouring numbers at the size of the element, or of the array's root mean square
    where the element is smaller: elements that are sums of many that cancel have no better scale of their own.
    """

    call: Call
    value: float | None = None
    gradient: float | None = None
    why: str = ""


def is_installed() -> bool:
    """Whether PyTorch can be imported."""
    return importlib.util.find_spec("torch") is not None


def compare(calls: list[Call]) -> list[Comparison]:
    """Each call by PyTorch's operation of the same name, on the same inputs and with the same incoming gradients."""
    torch = importlib.import_module("torch")
    return [_compared(torch, call) for call in calls]


def _compared(torch, call) -> Comparison:
    try:
        args = [_tensor(torch, a, i in call.tracked) for i, a in enumerate(call.args)]
        found = _run(torch, call, args)
        found = found if isinstance(found, tuple) else (found,)
    except (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError, NotImplementedError) as error:
        return Comparison(call, why=str(error).strip().splitlines()[0][:80] if str(error).strip() else "not comparable")
    pairs = [(o, t) for o, t in zip(call.outs, found, strict=False) if o is not None and torch.is_tensor(t)]
    if any(o.shape != tuple(t.shape) for o, t in pairs):
        return Comparison(call, why="the shapes of the results differ")
    value = max([ulps(t.detach().numpy(), o) for o, t in pairs], default=0.0)
    return Comparison(call, value, _gradient(torch, call, args, found))


def _gradient(torch, call, args, found):
    given = [(t, g) for t, g in zip(found, call.gradients, strict=False)
             if g is not None and torch.is_tensor(t) and t.requires_grad]  # fmt: skip
    wanted = [i for i in call.returned if torch.is_tensor(args[i]) and args[i].requires_grad]
    if not given or not wanted:
        return None
    weights = [torch.from_numpy(np.array(g, order="C")) for _, g in given]
    theirs = torch.autograd.grad([t for t, _ in given], [args[i] for i in wanted], weights, allow_unused=True)
    distances = [ulps(np.zeros_like(call.returned[i]) if t is None else t.numpy(), call.returned[i])
                 for i, t in zip(wanted, theirs, strict=True)]  # fmt: skip
    return max(distances, default=None)


def ulps(theirs: ndarray, ours: ndarray) -> float:
    """The largest distance in ulp (see `Comparison`); infinity where one alone is finite."""
    if ours.dtype.kind != "f":
        return 0.0 if np.array_equal(theirs, ours) else float("inf")
    if not ours.size:
        return 0.0
    a, b = theirs.astype(np.float64), ours.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    if not np.array_equal(np.where(finite, 0, a), np.where(finite, 0, b), equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = np.maximum(np.abs(b), np.sqrt(np.mean(np.square(b[finite]))))[finite].astype(ours.dtype)
    return float((np.abs(a - b)[finite] / np.spacing(np.maximum(scale, np.finfo(ours.dtype).tiny))).max())


def _tensor(torch, value, tracked):
    if not isinstance(value, ndarray):
        return value
    made = torch.from_numpy(np.array(value))
    return made.requires_grad_() if tracked and made.is_floating_point() else made


# ---------------------------------------------------------------------------------------------------- by name


def _run(torch, call, args):
    if call.op is None:
        raise NotImplementedError("an operation of the user's")
    own = _OWN.get(call.name.removeprefix("internal."))
    static = {k: _setting(torch, v) for k, v in call.static.items() if not k.startswith("_")}
    if own is not None:
        return own(torch, args, static)
    function = _function(torch, call.name)
    names = call.op.parameters
    starred = {k: v for k, v in static.items() if f"*{k}" in call.op.signature}
    if starred:
        ((_, sizes),) = starred.items()
        sizes = sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
        return function(*args, sizes)
    if call.op.variadic:
        return function(*args, **static)
    given = dict(zip(names, args, strict=False)) | static
    try:
        return function(**given)
    except TypeError:
        return function(*args, **{k: v for k, v in static.items() if v is not None})


def _function(torch, qualified) -> Callable:
    space: Any = torch
    *path, name = qualified.split(".")
    for part in path:
        space = getattr(space, part, None)
        if space is None:
            break
    for place in (space, torch.nn.functional, torch.Tensor):
        if hasattr(place, name):
            return getattr(place, name)
    raise NotImplementedError("an operation that PyTorch does not have by this name")


def _setting(torch, value):
    if isinstance(value, (np.dtype, type)) or type(value).__name__ == "DType":
        return getattr(torch, dtype_of(value).name if hasattr(dtype_of(value), "name") else str(dtype_of(value))[3:])
    if isinstance(value, tuple):
        return tuple([_setting(torch, v) for v in value])
    return value


def _spatial(name):
    def run(torch, args, static):
        count = args[0].dim() - 2
        return getattr(torch.nn.functional, f"{name}{count}d")(*args, **static)

    return run


def _picked(torch, args, static):
    rest = iter(args[1:])
    return args[0][tuple([slice(None) if part is None else next(rest) for part in static["spec"]])]


def _weighted_sum(torch, args, static):
    x, tables = args[0], static["tables"]
    for dim, table in enumerate(tables, x.dim() - len(tables)):
        if table is not None:
            rows = torch.arange(table.out).repeat_interleave(torch.as_tensor(table.starts).diff())
            weights = torch.as_tensor(table.ones_or_weights(), dtype=x.dtype)
            matrix = torch.zeros(table.out, table.size, dtype=x.dtype)
            matrix = matrix.index_put((rows, torch.as_tensor(table.positions)), weights, accumulate=True)
            x = torch.tensordot(x, matrix, ([dim], [1])).movedim(-1, dim)
    return x


def _standardized(torch, args, static):
    x, weight, bias = args
    dims, eps = static["dims"], static["eps"]
    if not static["centred"]:
        raise NotImplementedError("a root-mean-square norm")
    if static["seen"] is not None:  # groups of channels are the second dimension
        return torch.nn.functional.group_norm(x, static["seen"][0][1], weight, bias, eps)
    if tuple(dims) == tuple(range(x.dim() - len(dims), x.dim())):
        shape = tuple(x.shape[d] for d in dims)
        flat = [None if v is None else v.expand(shape) if v.dim() <= len(shape) else v.reshape(shape)
                for v in (weight, bias)]  # fmt: skip
        return torch.nn.functional.layer_norm(x, shape, *flat, eps=eps)
    if tuple(dims) == (0, *range(2, x.dim())):
        flat = [None if v is None else v.reshape(-1) for v in (weight, bias)]
        return torch.nn.functional.batch_norm(x, None, None, *flat, training=True, eps=eps)
    raise NotImplementedError("a norm over other dimensions")


def _layer(name):
    def run(torch, args, static):
        if static["reverse"] or static["batch_sizes"] is not None or (name == "lstm" and args[7] is not None):
            raise NotImplementedError("a layer that runs backwards, on packed input or with a projection")
        x, *rest = args
        state = tuple([h[None] for h in rest[: 2 if name == "lstm" else 1]])
        weights = [w for w in rest[len(state) : len(state) + 4] if w is not None]
        function = getattr(torch, name if name != "rnn" else f"rnn_{static.get('nonlinearity', 'tanh')}")
        out, *ends = function(
            x, state if name == "lstm" else state[0], weights, len(weights) == 4, 1, 0.0, False, False, False
        )
        return (out, *[end[0] for end in ends])

    return run


_OWN: dict[str, Callable] = {
    "alias": lambda torch, args, static: args[0] * 1,
    "bernoulli_nll": lambda torch, args, static: torch.nn.functional.binary_cross_entropy(*args, reduction="none"),
    "convolution": _spatial("conv"),
    "gru_layer": _layer("gru"),
    "join": lambda torch, args, static: torch.cat(args, static["dim"]),
    "logistic_nll": lambda torch, args, static: torch.nn.functional.binary_cross_entropy_with_logits(
        *args, reduction="none"),
    "lookup": lambda torch, args, static: torch.nn.functional.embedding(args[0], args[1]),
    "lstm_layer": _layer("lstm"),
    "by_statistics": lambda torch, args, static: torch.nn.functional.batch_norm(*args, eps=static["eps"]),
    "largest_of_windows": _spatial("max_pool"),
    "max_pool": _spatial("max_pool"),
    "pick": _picked,
    "take_slices": lambda torch, args, static: args[0][(slice(None),) * static["dim"] + (args[1],)],
    "pile": lambda torch, args, static: torch.stack(args, static["dim"]),
    "rearrange": lambda torch, args, static: args[0].reshape(static["split"]).permute(static["order"]).reshape(
        static["shape"]),
    "rnn_layer": _layer("rnn"),
    "sample_at": lambda torch, args, static: torch.nn.functional.grid_sample(*args, **static),
    "slice_view": lambda torch, args, static: args[0][static["index"]],
    "softmax_nll": lambda torch, args, static: torch.nn.functional.cross_entropy(*args, **static),
    "split_at": lambda torch, args, static: torch.split(args[0], list(static["sizes"]), static["dim"]),
    "standardize": _standardized,
    "weighted_sum": _weighted_sum,
    "to": lambda torch, args, static: args[0].to(static["dtype"]),
}  # fmt: skip
"""How PyTorch says what has no public name here."""
