"""New tensors: zeros, arange, linspace, the *_like and new_* forms, triangles of indices; tensors from other data."""

from __future__ import annotations

from functools import lru_cache
from math import ceil, isfinite

import numpy as np

from .. import ops, provenance
from ..convert import as_array
from ..errors import EXPLAINED, placing
from ..info import check_device, check_layout
from ..inplace import write_out
from ..modes import state
from ..registry import creation, op
from ..shapes import as_shape, default_dtype, ndarray, numpy_dtype
from ..tensor import Tensor, apply, wrap
from .samples import integer, real, sample

INT64, FLOAT64 = np.dtype(np.int64), np.dtype(np.float64)

OPTIONS = "dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False"
"""What every function that makes a tensor accepts. There is one layout, one device and no pinned memory."""


def creator(signature, *, samples, prepare, quick=None, like=False, namespace=""):
    """Register a function of settings (and of an ``input`` whose shape it takes) whose body makes an array.

    The public function has ``signature`` and `OPTIONS`; it passes the door: recorders see where memory is new. Where
    nobody watches and no option but ``dtype`` is given, ``quick`` of the same values may make the array instead: what
    it answers with None or an error goes the longer way.
    """

    def register(function):
        record = op(creation, samples=samples, prepare=prepare, method=False, namespace=namespace)(function).record
        more = f"{OPTIONS}, memory_format=None" if like else OPTIONS if namespace else f"out=None, {OPTIONS}"
        record.signature = f"{signature}, {'' if '*' in signature else '*, '}{more}"
        values = {n: n for n in record.settings}
        if "*sizes" in signature:  # f(2, 3), f((2, 3)) and f(size=(2, 3)) alike
            values["size"] = "sizes if size is None else (size,)"
        settings = ", ".join(f"{n!r}: {v}" for n, v in values.items())
        inputs, out = "input, " if like else "", "None" if like or namespace else "out"
        text = f"def {record.name}({record.signature}):\n"
        if quick is not None:
            text += QUICK.format(out=out, values=inputs + ", ".join(values.values()))
        text += f"    return make(record, ({inputs}), {{{settings}}}, {out}, layout, device, requires_grad)"
        space = {"make": make, "record": record, "quick": quick, "state": state, "new": object.__new__,
                 "Tensor": Tensor, "EXPLAINED": EXPLAINED}  # fmt: skip
        exec(compile(text, f"{provenance.GENERATED}{record.name}>", "exec"), space)  # noqa: S102 (our own text)
        record.public = record.public_call = public = space[record.name]
        public.__doc__, public.__module__, public.record = function.__doc__, "autograd_core", record
        return public

    return register


QUICK = """
    if layout is None and device is None and {out} is None and state.watch is None:
        try:
            array = quick({values})
        except EXPLAINED:
            array = None
        if array is not None:
            made = new(Tensor)
            made.array = array
            return made.requires_grad_() if requires_grad else made
"""


def make(record, args, settings, out, layout, device, requires_grad):
    """Run a creation record, then do with the result what the options say."""
    if device is not None:
        check_device(device)
    if layout is not None:
        check_layout(layout)
    if args and not isinstance(args[0], Tensor) and (state.watch is None or not state.watch.steers):
        return record.plain(args, settings)
    result = apply(record, args, settings)
    if out is not None:
        return write_out(out, result)
    return result.requires_grad_() if requires_grad else result


def _number(value):
    """A Python number from a number or a tensor of one element."""
    return value.item() if hasattr(value, "item") else value


def size_of(size, name):
    """``size`` as a shape without negative numbers."""
    shape = as_shape(size)
    if any(n < 0 for n in shape):
        raise RuntimeError(f"{name}: sizes must not be negative, got {list(shape)}")
    return shape


def _sized(arrays, settings):
    return {**settings, "size": size_of(settings["size"], "size"), "dtype": numpy_dtype(settings["dtype"])}


def _as_input(arrays, settings):
    return {**settings, "dtype": numpy_dtype(settings["dtype"], np.asarray(arrays[0]).dtype)}


def _dtype_of_number(*values):
    if any([isinstance(v, float) for v in values]):
        return default_dtype()
    return np.dtype(bool) if all([isinstance(v, bool) for v in values]) else INT64


# ---------------------------------------------------------------------------------------------------- constant

SIZES = [sample(2, 3), sample((2, 3)), sample(0, dtype="int64")]


def _holds(value):
    """Whether a value is a number that no type of floats overflows: then NumPy has nothing to warn of."""
    return type(value) in (float, int, bool) and abs(value) <= 65504


def remembered(function, small, dtype=None):
    """``function`` of settings for small results, which are kept: tables and windows are asked for again and again.

    ``small(*settings)`` says which they are. The last setting is the dtype, by default ``dtype`` or the default one.
    """
    known = lru_cache(64, typed=True)(function)

    def quick(*settings):
        return known(*settings[:-1], numpy_dtype(settings[-1], dtype)).copy() if small(*settings) else None

    return quick


def _ofsize_of(function):
    """``function(shape, dtype)`` for sizes as they were given."""

    def quick(size, dtype):
        return function(size[0] if len(size) == 1 else size, default_dtype() if dtype is None else numpy_dtype(dtype))

    return quick


def _of_shape(function):
    """``function(shape, dtype)`` for the shape of a tensor."""

    def quick(input, dtype):
        if isinstance(input, Tensor):
            array = input.array
            return function(array.shape, array.dtype if dtype is None else numpy_dtype(dtype))
        return None

    return quick


def _filled_with(value, shape, dtype):
    """As `numpy.full`, which takes five times as long for small arrays and is not shared by threads for large ones."""
    made = np.empty(shape, dtype)
    if made.nbytes >= LARGE:
        from ..kernels.constant import plan_constant
        from ..kernels.plan import execute

        one = np.empty((), dtype)
        one.fill(value)
        return execute(plan_constant, (one,), shape=made.shape)
    made.fill(value)
    return made


LARGE = 256 << 10
"""Bytes from which an array of one value is filled by a kernel."""


def _ones(shape, dtype):
    return _filled_with(1, shape, dtype)


@creator("*sizes, size=None", samples=SIZES, prepare=_sized, quick=_ofsize_of(np.zeros))
def zeros(*, size, dtype):
    """A tensor of zeros."""
    return np.zeros(size, dtype)


@creator("*sizes, size=None", samples=SIZES, prepare=_sized, quick=_ofsize_of(_ones))
def ones(*, size, dtype):
    """A tensor of ones."""
    return _ones(size, dtype)


@creator("*sizes, size=None", samples=[sample(0, 3)], prepare=_sized, quick=_ofsize_of(np.empty))
def empty(*, size, dtype):
    """A tensor whose values are whatever the memory held."""
    return np.empty(size, dtype)


def _filled(arrays, settings):
    value = _number(settings["fill_value"])
    if not isinstance(value, (int, float)):
        raise TypeError(f"full: fill_value must be a number, got {value!r}")
    return {"size": size_of(settings["size"] if hasattr(settings["size"], "__len__") else (settings["size"],), "full"),
            "fill_value": value, "dtype": numpy_dtype(settings["dtype"], _dtype_of_number(value))}  # fmt: skip


def _quick_full(size, fill_value, dtype):
    if not _holds(fill_value) or size is None:
        return None
    return _filled_with(fill_value, size, _dtype_of_number(fill_value) if dtype is None else numpy_dtype(dtype))


@creator("size, fill_value", samples=[sample((2, 3), 1.5), sample((2,), 7), sample((2,), True)], prepare=_filled,
         quick=_quick_full)  # fmt: skip
def full(*, size, fill_value, dtype):
    """A tensor of ``fill_value`` everywhere; its type is that of the number unless ``dtype`` is given."""
    return _filled_with(fill_value, size, dtype)


LIKE = [real(2, 3), sample(integer(2, 3), dtype="float32")]


@creator("input", samples=LIKE, prepare=_as_input, like=True, quick=_of_shape(np.zeros))
def zeros_like(input, *, dtype):
    """Zeros of the shape and type of ``input``."""
    return np.zeros(np.shape(input), dtype)


@creator("input", samples=LIKE, prepare=_as_input, like=True, quick=_of_shape(_ones))
def ones_like(input, *, dtype):
    """Ones of the shape and type of ``input``."""
    return _ones(np.shape(input), dtype)


@creator("input", samples=[real(0, 3)], prepare=_as_input, like=True, quick=_of_shape(np.empty))
def empty_like(input, *, dtype):
    """A tensor of the shape and type of ``input``, with whatever the memory held."""
    return np.empty(np.shape(input), dtype)


def _filled_like(arrays, settings):
    return {**_as_input(arrays, settings), "fill_value": _number(settings["fill_value"])}


def _quick_full_like(input, fill_value, dtype):
    if not _holds(fill_value) or not isinstance(input, Tensor):
        return None
    return _filled_with(fill_value, input.array.shape, input.array.dtype if dtype is None else numpy_dtype(dtype))


@creator("input, fill_value", samples=[sample(real(2, 3), 1.5), sample(integer(2), 2)], prepare=_filled_like, like=True,
         quick=_quick_full_like)  # fmt: skip
def full_like(input, *, fill_value, dtype):
    """``fill_value`` everywhere, in the shape and type of ``input``."""
    return _filled_with(fill_value, np.shape(input), dtype)


@op(creation, vjp=[lambda g: ops.zeros_like(g), lambda g: g], inplace=True, method=True, out=False,
    samples=[sample(real(2, 3), 1.5), sample(real(2, 3), real())])  # fmt: skip
def fill(input, value):
    """``value`` (a number or a 0-d tensor) everywhere, in the shape and type of the input."""
    if np.ndim(value):
        raise RuntimeError(f"fill: only 0-d tensors can be filled in, got shape {list(np.shape(value))}")
    return _filled_with(value, input.shape, input.dtype)


# ---------------------------------------------------------------------------------------------------- ranges


def _range(arrays, settings):
    start, end, step = (_number(settings[k]) for k in ("start", "end", "step"))
    if end is None:
        start, end = 0, start
    if step == 0:
        raise RuntimeError("arange: step must be nonzero")
    if not (isfinite(start) and isfinite(end)):
        raise RuntimeError(f"arange: unsupported range: {start} -> {end}")
    if (end - start) * step < 0:
        raise RuntimeError(
            f"arange: upper bound and lower bound inconsistent with step sign, got {start} -> {end} by {step}"
        )
    return {
        "start": start,
        "end": end,
        "step": step,
        "dtype": numpy_dtype(settings["dtype"], _dtype_of_number(start, end, step, 0)),
    }


def _quick_range(start, end, step, dtype):
    if end is None:
        start, end = 0, start
    if dtype is None and type(start) is type(end) is type(step) is int and step * (end - start) > 0:
        return np.arange(start, end, step, INT64)
    if not (_holds(start) and _holds(end) and _holds(step)) or step == 0 or (end - start) * step < 0:
        return None
    dtype = _dtype_of_number(start, end, step, 0) if dtype is None else numpy_dtype(dtype)
    return _numbers_from(start, end, step, dtype)


def _numbers_from(start, end, step, dtype):
    if dtype.kind in "iu":
        return np.arange(int(start), int(end), int(step), INT64).astype(dtype, copy=False)
    found = np.arange(ceil((end - start) / step), dtype=np.float64)
    if step != 1:
        found *= step
    if start != 0:
        found += start
    return found.astype(dtype, copy=False)


@creator("start, end=None, step=1", samples=[sample(5), sample(1, 10, 3), sample(1.0, 0.0, -0.25)], prepare=_range,
         quick=_quick_range)  # fmt: skip
def arange(*, start, end, step, dtype):
    """Numbers from ``start`` (0) up to but not including ``end``, ``step`` apart; ``arange(end)`` counts from zero."""
    return _numbers_from(start, end, step, dtype)


def _spaced(arrays, settings):
    given = {k: _number(v) for k, v in settings.items() if k != "dtype"}
    if type(given["steps"]) is not int:
        raise TypeError(f"linspace: steps must be an int, got {given['steps']!r}")
    if given["steps"] < 0:
        raise RuntimeError(f"linspace: number of steps must be non-negative, got {given['steps']}")
    for end in ("start", "end"):
        value = settings[end]
        if isinstance(value, (Tensor, ndarray)) and value.ndim:
            raise RuntimeError(f"linspace: {end} must be a number or a 0-d tensor, got shape {list(value.shape)}")
    return {**given, "dtype": numpy_dtype(settings["dtype"])}


def _even(start, end, steps, dtype):
    """From both ends towards the middle, so that both ends are exact and the values are symmetric; float64."""
    if steps == 1:
        return np.full(1, start, np.float64)
    step = (end - start) / max(steps - 1, 1)
    if dtype.kind in "iu":
        step = float(np.float32(end - start) / np.float32(max(steps - 1, 1))) if dtype.itemsize < 8 else step
    found, middle = np.arange(steps, dtype=np.float64), steps // 2
    found[middle:] -= steps - 1
    found *= step
    found[:middle] += start
    found[middle:] += end
    return found


def _even_numbers(start, end, steps, dtype):
    return _even(start, end, steps, dtype).astype(dtype)


def _powers(start, end, steps, base, dtype):
    return np.power(float(base), _even(start, end, steps, FLOAT64)).astype(dtype)


def _few_numbers(start, end, steps, *_):
    return type(steps) is int and 0 <= steps <= 1024 and _holds(start) and _holds(end) and end != 0  # 0.0 equals -0.0


@creator(
    "start, end, steps",
    samples=[sample(0, 1, 5), sample(-2.0, 3.0, 1), sample(3, 10, 4, dtype="int64"), sample(-1.5, 2.0, 30)],
    prepare=_spaced,
    quick=remembered(_even_numbers, _few_numbers),
)
def linspace(*, start, end, steps, dtype):
    """``steps`` numbers, evenly spaced, from ``start`` to ``end`` inclusive."""
    return _even_numbers(start, end, steps, dtype)


def _few_powers(start, end, steps, base, dtype):
    small = type(base) in (int, float) and 0 < base <= 16 and dtype is None
    return small and _few_numbers(start, end, steps) and abs(start) <= 30 >= abs(end)


@creator("start, end, steps, base=10.0", samples=[sample(0, 2, 5), sample(-1.0, 1.0, 3, base=2)], prepare=_spaced,
         quick=remembered(_powers, _few_powers))  # fmt: skip
def logspace(*, start, end, steps, base, dtype):
    """``base`` to the power of ``steps`` numbers evenly spaced from ``start`` to ``end`` inclusive."""
    return _powers(start, end, steps, base, dtype)


def _matrix(arrays, settings):
    n, m = settings["n"], settings["m"]
    return {
        "n": n,
        "m": m if m is not None else n,
        "dtype": numpy_dtype(settings["dtype"]),
        **dict(zip("nm", size_of((n, n if m is None else m), "eye"), strict=True)),
    }


def _quick_eye(n, m, dtype):
    return _identity(n, n if m is None else m, default_dtype() if dtype is None else numpy_dtype(dtype))


def _identity(n, m, dtype):
    """As `numpy.eye`, which takes twice as long for small matrices."""
    made = np.zeros((n, m), dtype)
    made.reshape(-1)[: min(n, m) * (m + 1) : m + 1] = 1
    return made


@creator("n, m=None", samples=[sample(3), sample(2, 4), sample(4, 2)], prepare=_matrix, quick=_quick_eye)
def eye(*, n, m, dtype):
    """A matrix with ones on the diagonal and zeros elsewhere."""
    return _identity(n, m, dtype)


def _scalar(arrays, settings):
    value = _number(settings["s"])
    return {"s": value, "dtype": numpy_dtype(settings["dtype"])}


def _quick_scalar(s, dtype):
    return np.array(s, default_dtype() if dtype is None else numpy_dtype(dtype)) if _holds(s) else None


@creator("s", samples=[sample(1.5), sample(2)], prepare=_scalar, quick=_quick_scalar)
def scalar_tensor(*, s, dtype):
    """A 0-d tensor of the number ``s``."""
    return np.array(s, dtype)


# ---------------------------------------------------------------------------------------------------- from other data


@placing
def tensor(data, *, dtype=None, device=None, requires_grad=False, pin_memory=False) -> Tensor:
    """A new tensor that holds a copy of ``data``: a number, a (nested) sequence, an array or another tensor."""
    check_device(device)
    return Tensor(data, dtype, requires_grad)


def as_tensor(data, dtype=None, device=None) -> Tensor:
    """``data`` as a tensor that shares its memory where it can; a tensor of the right type is returned as it is."""
    check_device(device)
    if isinstance(data, Tensor):
        return data if dtype is None else data.to(dtype)
    return wrap(np.asarray(as_array(data, dtype)))


def asarray(obj, *, dtype=None, device=None, copy=None, requires_grad=False) -> Tensor:
    """``obj`` as a tensor, sharing memory unless ``copy`` is True; ``copy=False`` raises where it cannot."""
    check_device(device)
    if isinstance(obj, Tensor):
        found = obj if dtype is None else obj.to(dtype)
        if copy is False and found.array is not obj.array:
            raise ValueError(f"asarray: can't change {obj.dtype} to {dtype} without a copy")
        found = found.clone() if copy and found is obj else found
        return found if requires_grad or not found.requires_grad else found.detach()
    if copy is False and not isinstance(obj, (ndarray, np.generic)) and not hasattr(obj, "__array_interface__"):
        raise ValueError(f"asarray: can't alias the values of a {type(obj).__name__}")
    found = wrap(np.asarray(as_array(obj, dtype, copy)))
    return found.requires_grad_() if requires_grad else found


@placing
def from_numpy(ndarray) -> Tensor:
    """A tensor that shares the memory of a NumPy array: what is written into one shows in the other."""
    if not isinstance(ndarray, np.ndarray):
        raise TypeError(f"from_numpy: expected an np.ndarray, got {type(ndarray).__name__}")
    return wrap(as_array(ndarray))


def from_dlpack(ext_tensor) -> Tensor:
    """A tensor that shares the memory of another library's array, by the DLPack protocol."""
    if not hasattr(ext_tensor, "__dlpack__"):
        raise TypeError(f"from_dlpack: expected an array with the method __dlpack__, got {type(ext_tensor).__name__}")
    try:
        array = np.from_dlpack(ext_tensor)
    except RuntimeError as error:
        kind = getattr(ext_tensor, "dtype", "its")
        raise TypeError(f"from_dlpack: cannot take elements of type {kind} ({error})") from None
    return wrap(as_array(array))
