"""``ag.vmap``: a function of one sample as a function of many, without writing the batch dimension.

The function runs once on `Batched` tensors, which show the shape of one sample and carry all of them. Each operation is
turned into one on whole batches where a rule says how (by family, or ``batch=`` in the record), else done sample by
sample. Where the function looks at values, differentiates inside, or changes something in place, it is run as it
stands for each sample instead.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import numpy as np

from . import ops
from .modes import Watcher, state
from .shapes import as_shape
from .tensor import Tensor, new


class _NeedLoop(Exception):
    """The function does something that cannot be done for all samples at once."""


class Batched(Tensor):
    """All samples in ``full``, batch dimension first; to the function it looks like one of them."""

    full: Tensor
    level: _Vmap

    @property
    def array(self):  # type: ignore[override]  # reading it is what must be seen
        """Values cannot be looked at for all samples at once."""
        raise _NeedLoop

    shape = property(lambda self: self.full.shape[1:])
    ndim = property(lambda self: self.full.ndim - 1)
    dtype = property(lambda self: self.full.dtype)
    requires_grad = property(lambda self: self.full.requires_grad)
    tracks = property(lambda self: self.full.tracks)

    def __len__(self):
        return len(self.full[0])

    def _one_by_one(self, *args: Any, **kwargs: Any) -> Any:
        """Differentiating and changing in place inside is done sample by sample."""
        raise _NeedLoop

    requires_grad_ = detach = backward = _become = __setitem__ = _one_by_one


def _batched(full, level):
    made = new(Batched)
    made.full, made.level = full, level
    return made


def vmap(func, in_dims=0, out_dims=0, randomness="error", *, chunk_size=None):
    """A function that maps ``func`` over dimension ``in_dims`` of its arguments and stacks the results at ``out_dims``.

    in_dims: an int for all arguments, or one (or None: not mapped) for each; arguments may be nested. randomness:
    "error", "different" (a draw for each sample) or "same". chunk_size: samples at a time.
    """

    @wraps(func)
    def wrapped(*args, **kwargs):
        dims = in_dims if isinstance(in_dims, (tuple, list)) else (in_dims,) * len(args)
        if len(dims) != len(args):
            raise ValueError(f"vmap: in_dims has {len(dims)} entries for {len(args)} arguments")
        flat: list[tuple[Tensor, int | None]] = []
        structure = [_flatten(a, d, flat) for a, d in zip(args, dims, strict=True)]
        sizes = {t.shape[d] for t, d in flat if d is not None}
        if len(sizes) != 1:
            raise ValueError(f"vmap: the mapped dimensions must exist and have one size, got {sorted(sizes) or 'none'}")
        (size,) = sizes
        moved = [t if d is None else ops.movedim(t, d, 0) for t, d in flat]
        mapped = [d is not None for _, d in flat]
        step = chunk_size or size
        parts = [_run(func, structure, moved, mapped, slice(k, k + step), min(step, size - k), kwargs, randomness)
                 for k in range(0, max(size, 1), step or 1)]  # fmt: skip
        joined = parts[0] if len(parts) == 1 else _combine(parts, ops.cat)
        return _place(joined, out_dims)

    return wrapped


def _flatten(value, dim, flat):
    """A copy of nested arguments with the tensors' positions in ``flat`` in their place."""
    if isinstance(value, Tensor):
        flat.append((value, None if dim is None else dim % value.ndim))
        return _Slot(len(flat) - 1)
    if isinstance(value, dict):
        return {k: _flatten(v, dim[k] if isinstance(dim, dict) else dim, flat) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        inner = dim if isinstance(dim, (list, tuple)) else (dim,) * len(value)
        return type(value)(_flatten(v, d, flat) for v, d in zip(value, inner, strict=True))
    return value


class _Slot(int):
    __slots__ = ()


def _fill(value, tensors):
    if isinstance(value, _Slot):
        return tensors[value]
    if isinstance(value, dict):
        return {k: _fill(v, tensors) for k, v in value.items()}
    return type(value)(_fill(v, tensors) for v in value) if isinstance(value, (list, tuple)) else value


def _run(func, structure, tensors, mapped, rows, size, kwargs, randomness):
    """All samples of ``rows``, results with the batch dimension first."""
    level = _Vmap(size, randomness)
    parts = [t[rows] if m else t for t, m in zip(tensors, mapped, strict=True)]
    lifted = [_batched(t, level) if m else t for t, m in zip(parts, mapped, strict=True)]
    try:
        with level:
            result = func(*_fill(structure, lifted), **kwargs)
        return _combine([result], lambda pieces: _full(pieces[0], size, level))
    except _NeedLoop:
        if not size:
            raise ValueError("vmap: what is done here works sample by sample, and there are none") from None
        rows = []
        for k in range(size):
            one = [t[k] if m else t for t, m in zip(parts, mapped, strict=True)]
            rows.append(func(*_fill(structure, one), **kwargs))
        return _combine(rows, lambda pieces: ops.stack([_as_tensor(p) for p in pieces]))


def _as_tensor(value):
    if not isinstance(value, Tensor):
        raise TypeError(f"vmap: the function must return Tensors, got {type(value).__name__}")
    return value


def _combine(results, join):
    """``join`` applied to the tensors at each place of equally nested results."""
    first = results[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return {k: _combine([r[k] for r in results], join) for k in first}
    if isinstance(first, (list, tuple)):
        parts = [_combine(list(column), join) for column in zip(*results, strict=True)]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return join([_as_tensor(r) for r in results])


def _full(value, size, level):
    """The whole batch of a result; one that does not depend on the sample is repeated."""
    if isinstance(value, Batched) and value.level is level:
        return value.full
    return ops.expand(value, (size, *value.shape))


def _place(result, out_dims):
    if result is None:
        return None
    if isinstance(result, (list, tuple)):
        dims = out_dims if isinstance(out_dims, (list, tuple)) else (out_dims,) * len(result)
        placed = [_place(r, d) for r, d in zip(result, dims, strict=True)]
        return type(result)(*placed) if hasattr(result, "_fields") else type(result)(placed)
    if isinstance(result, dict):
        return {k: _place(v, out_dims) for k, v in result.items()}
    return ops.movedim(result, 0, out_dims) if out_dims else result


class _Vmap(Watcher):
    """Does each operation for all samples at once."""

    def __init__(self, size, randomness):
        self.size, self.randomness = size, randomness

    def mine(self, value):
        """Whether ``value`` carries this vmap's samples."""
        return isinstance(value, Batched) and value.level is self

    def call(self, op, args, static):
        """An operation on one sample becomes one on all of them."""
        if op.family.name == "random" and self.randomness != "same":
            if self.randomness == "error":
                raise RuntimeError("vmap: the function draws random numbers; say randomness='different' or 'same'")
            raise _NeedLoop
        if not any(self.mine(a) for a in args):
            return super().call(op, args, static)
        state.watch = self.outer
        try:
            rule = op.batch or _RULES.get(op.name) or _BY_FAMILY.get(op.family.name)
            result = rule(self, op, args, dict(static)) if rule is not None else None
            if result is None:
                result = self.one_by_one(op, args, static)
        finally:
            state.watch = self
        if isinstance(result, tuple):
            outs = [None if r is None else _batched(r, self) for r in result]
            return op.outputs(*outs) if op.outputs is not None else tuple(outs)
        return _batched(result, self)

    def one_by_one(self, op, args, static):
        """The operation on each sample, results stacked: right for every op."""
        rows = []
        for k in range(self.size):
            one = [a.full[k] if self.mine(a) else a for a in args]
            rows.append(call_record(op, one, static))
        if isinstance(rows[0], tuple):
            return tuple([None if c[0] is None else ops.stack(list(c)) for c in zip(*rows, strict=True)])
        return ops.stack(rows)

    def call_function(self, function, args, kwargs):
        """What a user's Function does inside is not known."""
        raise _NeedLoop

    def write(self, target, result):
        """Nothing is changed in place for many samples at once."""
        raise _NeedLoop

    def aligned(self, args):
        """The arguments with all batch dimensions in front and sample dimensions lined up for broadcasting."""
        most = max([a.ndim for a in args if isinstance(a, (Tensor, np.ndarray))])

        def lined_up(value):
            return ops.reshape(value.full, (self.size, *(1,) * (most - value.ndim), *value.shape))

        return [lined_up(a) if self.mine(a) else a for a in args]


    def repeated(self, args):
        """The arguments with the batch dimension in front; what is the same for all samples is expanded."""
        return [a.full if self.mine(a) else ops.expand(_tensor(a), (self.size, *a.shape)) for a in args]

    def composed(self, function):
        """The whole batch of what ``function`` makes of this vmap's tensors by other operations."""
        state.watch = self
        try:
            return function().full
        finally:
            state.watch = self.outer


def _tensor(value):
    return value if isinstance(value, Tensor) else Tensor(value)


def call_record(op, args, static):
    """Call an operation through the door with positional arrays and settings, whatever its public signature."""
    from .tensor import apply

    return apply(op, tuple(args), dict(static))


def _broadcasting(level, op, args, static):
    return call_record(op, level.aligned(args), static)


def _shifted(level, op, args, static):
    """Operations of one batched input whose settings are dims: the same one dimension further back."""
    first = args[0]
    if not level.mine(first) or any(level.mine(a) for a in args[1:]) or not first.ndim:
        return None
    if op.family.name == "reduction" and not _DIMS & static.keys():
        return None  # it takes all elements together
    if op.prepare is not None:
        stand_in = np.broadcast_to(np.empty((), first.dtype.dtype), first.shape)
        static = op.prepare([stand_in, *args[1:]], static)
    moved = {}
    for name, value in static.items():
        if name in _DIMS:
            moved[name] = _shift(value, first.ndim)
        elif name in _SHAPES:
            moved[name] = (level.size, *value)
        elif name in _NEUTRAL:
            moved[name] = value
        else:
            return None
        if moved[name] is _UNKNOWN:
            return None
    return call_record(op, [first.full, *args[1:]], moved)


_DIMS, _SHAPES = {"dim", "dims", "dim0", "dim1", "dim2"}, {"shape", "size"}
_NEUTRAL = {"keepdim", "dtype", "correction", "unbiased", "alpha", "descending", "stable", "largest", "sorted", "k",
            "offset", "shifts", "sizes", "memory_format", "diagonal", "ignore_nan", "ord"}  # fmt: skip
_UNKNOWN = object()


def _shift(value, ndim):
    if isinstance(value, tuple):
        return tuple(v % ndim + 1 for v in value) if value else _UNKNOWN
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        return value % ndim + 1
    return _UNKNOWN


def _matrices(level, op, args, static):
    """Products of matrices and vectors; a vector becomes a matrix for as long as the product takes."""
    first, second = args
    vectors = first.ndim == 1, second.ndim == 1
    most = max(first.ndim, second.ndim, 2)

    def lined_up(value, own):
        shape = (*(1,) * (most - len(own)), *own)
        return ops.reshape(value.full, (level.size, *shape)) if level.mine(value) else ops.reshape(value, shape)

    out = ops.matmul(lined_up(first, (1, *first.shape) if vectors[0] else tuple(first.shape)),
                     lined_up(second, (*second.shape, 1) if vectors[1] else tuple(second.shape)))  # fmt: skip
    shape = tuple(out.shape)
    kept = shape[:-2] + shape[-2:-1] * (not vectors[0]) + shape[-1:] * (not vectors[1])
    return ops.reshape(out, kept) if any(vectors) else out


def _linear(level, op, args, static):
    input, weight, bias = args
    if level.mine(input) and not level.mine(weight) and not level.mine(bias):
        return call_record(op, [input.full, weight, bias], static)
    return level.composed(lambda: ops.matmul(input, weight.T) + (0 if bias is None else bias))


def _masked_fill(level, op, args, static):
    input, mask, value = args
    value = value.to(input.dtype) if isinstance(value, Tensor) else value
    return level.composed(lambda: ops.where(mask, value, input))


def _leading(level, op, args, static):
    """Functions of matrices take any number of dimensions in front of them."""
    return call_record(op, [args[0].full], static) if len(args) == 1 else None


def _slice(level, op, args, static):
    return call_record(op, [args[0].full], {"index": (slice(None), *static["index"])})


def _pick(level, op, args, static):
    """Indexing by arrays that are the same for all samples and stand side by side (else NumPy moves dimensions)."""
    places = [k for k, part in enumerate(static["spec"]) if type(part) in (str, int)]
    if not level.mine(args[0]) or any(level.mine(a) for a in args[1:]) or places[-1] - places[0] >= len(places):
        return None
    return call_record(op, [args[0].full, *args[1:]], {**static, "spec": (None, *static["spec"])})


def _take(level, op, args, static):
    """Slices that indices name which are the same for all samples."""
    if not level.mine(args[0]) or level.mine(args[1]) or not args[0].ndim:
        return None
    return call_record(op, [args[0].full, args[1]], {"dim": static["dim"] % args[0].ndim + 1})


def _gather(level, op, args, static):
    dim = static["dim"] % max(args[0].ndim, 1) + 1
    if not args[0].ndim or not args[1].ndim:
        return None
    return call_record(op, level.repeated(args), {**static, "dim": dim})


def _cat(level, op, args, static):
    return call_record(op, level.repeated(args), {**static, "dim": static["dim"] % args[0].ndim + 1})


def _stack(level, op, args, static):
    return call_record(op, level.repeated(args), {**static, "dim": static["dim"] % (args[0].ndim + 1) + 1})


def _convolution(level, op, args, static):
    """The samples' batches as one batch."""
    image = args[0]
    if not level.mine(image) or any(level.mine(a) for a in args[1:]):
        return None
    merged = ops.reshape(image.full, (level.size * image.shape[0], *image.shape[1:]))
    out = call_record(op, [merged, *args[1:]], static)
    return ops.reshape(out, (level.size, image.shape[0], *out.shape[1:]))


def _permute(level, op, args, static):
    dims = [d % args[0].ndim + 1 for d in as_shape(static["dims"])]
    return call_record(op, [args[0].full], {"dims": (0, *dims)})


def _expand(level, op, args, static):
    first = args[0]
    stand_in = np.broadcast_to(np.empty((), first.dtype.dtype), first.shape)
    size = op.prepare([stand_in], static)["size"]
    full = ops.reshape(first.full, (level.size, *(1,) * (len(size) - first.ndim), *first.shape))
    return call_record(op, [full], {"size": (level.size, *size)})


_BY_FAMILY = {"elementwise": _broadcasting, "arithmetic": _broadcasting, "comparison": _broadcasting,
              "reduction": _shifted}  # fmt: skip
_RULES = {
    "matmul": _matrices, "mm": _matrices, "bmm": _matrices, "mv": _matrices, "dot": _matrices, "linear": _linear,
    "convolution": _convolution, "permute": _permute, "expand": _expand, "masked_fill": _masked_fill,
    **dict.fromkeys(("inv", "svd", "eigh", "cholesky", "qr", "det", "slogdet", "lu_factor", "lu", "matrix_exp",
                     "unpack_factors", "factors_of", "cholesky_inverse", "eigenvalues_of", "singular_values_of",
                     "powers"), _leading),
    **dict.fromkeys(("solve_substitution", "solve_definite"), _broadcasting),
    "slice_view": _slice, "pick": _pick, "take_slices": _take, "index_select": _take,
    "gather": _gather, "join": _cat, "pile": _stack,
    **dict.fromkeys(("reshape", "transpose", "movedim", "softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp",
                     "flip", "sort", "topk", "to", "clone", "alias", "roll", "diagonal", "split_at", "unbind", "tril",
                     "triu", "argsort", "kthvalue", "median_along"), _shifted),
}  # fmt: skip
