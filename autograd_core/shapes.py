"""Dtypes, promotion, dimensions and broadcasting: the arithmetic of array descriptions, without any arrays' values."""

from __future__ import annotations

from math import prod
from operator import index as as_index
from typing import Any, ClassVar

import numpy as np

from . import provenance

ndarray = np.ndarray


class DType:
    """A data type with PyTorch's attributes, accepted wherever NumPy accepts a dtype."""

    _of: ClassVar[dict[np.dtype, DType]] = {}

    def __init__(self, name: str, supported: bool = True):
        self.name = name
        self.dtype = np.dtype(name)
        if supported:
            DType._of[self.dtype] = self

    is_complex = property(lambda self: self.dtype.kind == "c")
    is_floating_point = property(lambda self: self.dtype.kind == "f")
    is_signed = property(lambda self: self.dtype.kind in "fic")
    itemsize = property(lambda self: self.dtype.itemsize)

    def __repr__(self):
        return f"ag.{self.name}"

    def __hash__(self):
        return hash(self.dtype)

    def __eq__(self, other):
        if isinstance(other, DType):
            return self is other
        try:
            return self.dtype == np.dtype(other)
        except TypeError:
            return False

    def __reduce__(self):
        return dtype_of, (self.name,)

    def __copy__(self):
        return self

    def __deepcopy__(self, memo):
        return self


float16, float32, float64 = DType("float16"), DType("float32"), DType("float64")
int8, int16, int32, int64 = DType("int8"), DType("int16"), DType("int32"), DType("int64")
uint8, uint16, uint32, uint64 = DType("uint8"), DType("uint16"), DType("uint32"), DType("uint64")
bool_ = DType("bool")

COMPLEX = {t.dtype: t for t in (DType("complex64", False), DType("complex128", False))}
"""What the types of complex arrays are called; there are no operations on them."""

DTYPES = {
    "float16": float16, "half": float16, "float32": float32, "float": float32, "float64": float64, "double": float64,
    "int8": int8, "char": int8, "int16": int16, "short": int16, "int32": int32, "int": int32,
    "int64": int64, "long": int64, "uint8": uint8, "byte": uint8, "uint16": uint16, "uint32": uint32,
    "uint64": uint64, "bool": bool_,
}  # fmt: skip
"""Every dtype by the names that it has in ``ag``."""

_default = np.dtype("float32")


def dtype_of(dtype: Any) -> DType:
    """The `DType` of anything that names one: a DType, a NumPy dtype, ``float``, ``"int64"``."""
    if type(dtype) is DType:
        return dtype
    try:
        found = DType._of.get(np.dtype(dtype))
    except TypeError:
        found = None
    if found is None:
        known = ", ".join(sorted(t.name for t in DType._of.values()))
        raise TypeError(named(f"dtype {dtype!r} is not supported; supported are {known}"))
    return found


def named(text: str) -> str:
    """``text`` with the name of the function that the user has called in front, where there is one."""
    name = provenance.entrance(3)
    return f"{name}: {text}" if name and name != "method" and not name.startswith(("_", "<")) else text


def numpy_dtype(dtype: Any, default: np.dtype | None = None) -> np.dtype:
    """The NumPy dtype of anything that names one; ``default`` for None."""
    if dtype is None:
        return default if default is not None else _default
    return dtype_of(dtype).dtype


def default_dtype() -> np.dtype:
    """The NumPy dtype of new floating-point tensors (float32 unless set otherwise)."""
    return _default


def set_default_dtype(dtype) -> None:
    """Make ``dtype`` (a floating-point type) the type of tensors made from Python floats."""
    global _default
    chosen = dtype_of(dtype)
    if not chosen.is_floating_point:
        raise TypeError(f"set_default_dtype: only floating-point types can be the default, got {chosen}")
    _default = chosen.dtype


def get_default_dtype() -> DType:
    """The type of tensors made from Python floats."""
    return dtype_of(_default)


# ---------------------------------------------------------------------------------------------------- promotion

_CATEGORY = {"b": 0, "i": 1, "u": 1, "f": 2, "c": 3}  # complex arrays occur inside gradcheck alone


def promote_types(first, second) -> DType:
    """The smallest type that holds both, by PyTorch's table: a float type wins over any integer type."""
    return dtype_of(_promote_pair(numpy_dtype(first), numpy_dtype(second)))


def _promote_pair(first, second):
    if first is second or second is None:
        return first
    if first is None:
        return second
    if (first.kind in "fc") != (second.kind in "fc"):
        return first if first.kind in "fc" else second
    return np.promote_types(first, second)


def _scalar_dtype(value):
    if isinstance(value, (bool, np.bool_)):
        return np.dtype(bool)
    if isinstance(value, (int, np.integer)):
        return np.dtype(np.int64)
    if isinstance(value, (float, np.floating)):
        return _default
    raise TypeError(f"expected a tensor or a number, got {type(value).__name__}")


def common_dtype(values) -> np.dtype:
    """PyTorch's result type of arrays and numbers.

    Arrays with dimensions decide; 0-d arrays, then Python numbers, only lift the kind (bool < integer < float).
    """
    shaped = zero_d = number = None
    for value in values:
        if isinstance(value, (ndarray, np.generic)):  # a generic is what NumPy makes of a 0-d result
            if value.ndim:
                shaped = _promote_pair(value.dtype, shaped)
            else:
                zero_d = _promote_pair(value.dtype, zero_d)
        elif value is not None:
            number = _promote_pair(_scalar_dtype(value), number)
    result: Any = None
    for weaker in (number, zero_d, shaped):
        if result is None or (weaker is not None and _CATEGORY[weaker.kind] >= _CATEGORY[result.kind]):
            result = weaker if weaker is not None else result
    return result


def promote(values: list) -> list:
    """Cast arrays and numbers to their common type. Equal types and numbers of no higher kind pass untouched."""
    dtype = getattr(values[0], "dtype", None) or getattr(values[-1], "dtype", None)
    if dtype is not None and dtype.char in "fdeFD":
        for value in values:
            kind = type(value)
            if kind is ndarray:
                if value.dtype is not dtype:
                    break
            elif kind is not float and kind is not int and value is not None and kind is not bool:
                break
        else:
            return values
    return cast_all(values, common_dtype(values))


def promote_to_float(values: list) -> list:
    """As `promote`, with integers and booleans turned into the default floating-point type."""
    if len(values) == 1:
        array = values[0]
        if type(array) is ndarray and array.dtype.kind in "fc":
            return values
    common = common_dtype(values)
    if common.kind in "fc":
        return promote(values)
    return cast_all(values, _default)


def same_dtype(values: list) -> list:
    """Raise unless all arrays have one type, which is what products of matrices ask for."""
    kinds = {v.dtype for v in values if isinstance(v, ndarray)}
    if len(kinds) > 1:
        raise RuntimeError(
            f"expected all tensors to have the same dtype, got {', '.join(sorted(k.name for k in kinds))}"
        )
    return values


def cast_all(values, dtype):
    """Arrays and numbers as arrays of ``dtype``; floats stay Python numbers where they are weak anyway."""
    return [None if v is None else v if type(v) is ndarray and v.dtype == dtype else _cast(v, dtype) for v in values]


def _cast(value, dtype):
    if isinstance(value, ndarray):
        return value.astype(dtype)
    if isinstance(value, np.generic):
        value = value.item()
    if dtype.kind in "iu" and type(value) is int:
        return np.array(value, np.int64 if abs(value) < 1 << 63 else object).astype(dtype)  # wraps, as in C
    return np.array(value, dtype)


def can_cast(source, target) -> bool:
    """Whether a value of type ``source`` may be written into ``target``: never from a higher kind to a lower one."""
    return _CATEGORY[numpy_dtype(source).kind] <= _CATEGORY[numpy_dtype(target).kind]


# ---------------------------------------------------------------------------------------------------- shapes


class Size(tuple):
    """A shape: a tuple of ints that knows its number of elements."""

    __slots__ = ()

    def numel(self) -> int:
        """The product of the sizes (1 for a 0-d shape)."""
        return prod(self)

    def __repr__(self):
        return f"ag.Size({list(self)})"

    def __add__(self, other):
        return Size(tuple.__add__(self, tuple(other)))

    def __getitem__(self, item):
        found = tuple.__getitem__(self, item)
        return Size(found) if isinstance(item, slice) else found


def normalize_dim(dim, ndim: int, what: str = "dim") -> int:
    """``dim`` counted from the front; a 0-d tensor is treated as having one dimension, as PyTorch does."""
    limit = ndim or 1
    if type(dim) is int and -limit <= dim < limit:
        return dim if dim >= 0 else dim + limit
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(named(f"{what} must be an int, got {type(dim).__name__}"))
    dim = as_index(dim)
    if not -limit <= dim < limit:
        raise IndexError(named(
            f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {dim})"))  # fmt: skip
    return dim % limit


def normalize_dims(dims, ndim: int, what: str = "dim") -> tuple[int, ...]:
    """A tuple of distinct dims counted from the front; None or () stands for all of them."""
    if dims is None:
        return tuple(range(ndim))
    if not isinstance(dims, (tuple, list)):
        return (normalize_dim(dims, ndim, what),)
    if len(dims) == 0:
        return tuple(range(ndim))
    found = tuple([normalize_dim(d, ndim, what) for d in dims])
    if len(set(found)) != len(found):
        raise RuntimeError(named(f"{what} appears multiple times in the list of dims: {tuple(dims)}"))
    return found if ndim else ()


def as_shape(sizes) -> tuple[int, ...]:
    """The shape that ``f(2, 3)``, ``f((2, 3))`` or ``f([2, 3])`` name alike."""
    if len(sizes) == 1 and type(sizes[0]) is not int and not hasattr(sizes[0], "__index__"):
        sizes = sizes[0]
    try:
        return tuple(map(as_index, sizes))
    except TypeError:
        raise TypeError(named(f"a shape must be ints, got {tuple(sizes)!r}")) from None


def infer_size(shape, numel: int) -> tuple[int, ...]:
    """``shape`` with its one -1 replaced so that it holds ``numel`` elements."""
    if -1 in shape:
        known = prod(s for s in shape if s != -1)
        if shape.count(-1) > 1:
            raise RuntimeError(f"only one dimension can be inferred, got shape {list(shape)}")
        if known == 0:
            raise RuntimeError(
                f"cannot reshape tensor of {numel} elements into shape {list(shape)}: the -1 is ambiguous"
            )
        if numel % known == 0:
            shape = tuple(numel // known if s == -1 else s for s in shape)
    if prod(shape) != numel or (shape and min(shape) < 0):
        raise RuntimeError(named(f"shape '{list(shape)}' is invalid for input of size {numel}"))
    return tuple(shape)


def broadcast_shapes(*shapes) -> Size:
    """The shape that all the given shapes (tuples or ints) broadcast to."""
    each = [(s,) if hasattr(s, "__index__") else tuple(s) for s in shapes]
    try:
        return Size(np.broadcast_shapes(*each))
    except ValueError:
        raise RuntimeError(named(broadcast_text(each))) from None


def broadcast_view(array: ndarray, shape) -> ndarray:
    """``array`` repeated to ``shape`` without copying: `np.broadcast_to`, but writable and seven times as fast."""
    if prod(shape) == array.size:
        return array.reshape(shape)
    own = array.shape
    if array.flags.c_contiguous and array.size:
        steps, new = array.strides, len(shape) - len(own)
        strides = [0] * new + [step if n == want else 0 for n, want, step in zip(own, shape[new:], steps, strict=True)]
        return ndarray(shape, array.dtype, array, 0, strides)
    found = np.broadcast_to(array, shape)
    found.flags.writeable = array.flags.writeable
    return found


def broadcast_nbytes(arrays) -> int:
    """Bytes of what arrays broadcast to, in the type of the widest; 0 for none."""
    sizes: tuple[int, ...] = ()
    for array in arrays:
        shape = array.shape
        if shape != sizes:
            shape, sizes = (shape, sizes) if len(shape) >= len(sizes) else (sizes, shape)
            front = len(shape) - len(sizes)
            sizes = (*shape[:front], *map(max, shape[front:], sizes))
    return prod(sizes) * max([a.itemsize for a in arrays], default=0)


def broadcast_text(shapes) -> str:
    """A sentence on shapes that do not broadcast: which they are, and where they differ."""
    listed = " and ".join(str(list(s)) for s in shapes)
    for dim in range(1, max(map(len, shapes)) + 1):
        sizes = sorted({s[-dim] for s in shapes if len(s) >= dim and s[-dim] != 1})
        if len(sizes) > 1:
            return f"shapes {listed} cannot be broadcast to a single shape: sizes {sizes} at dim {-dim}"
    return f"shapes {listed} cannot be broadcast to a single shape"


def reduced_dims(shape, target) -> tuple[int, ...]:
    """The dims to sum over to bring a broadcast ``shape`` back to ``target``."""
    extra = len(shape) - len(target)
    return tuple(range(extra)) + tuple(
        i + extra for i, size in enumerate(target) if size == 1 and shape[i + extra] != 1
    )
