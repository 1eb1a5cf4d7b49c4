"""What a Tensor can do besides its operations: operators, conversions, new_* and NumPy's protocols."""

from __future__ import annotations

from math import prod

import numpy as np

from .. import ops, storage
from ..errors import placed
from ..info import CPU, LAYOUTS, check_device
from ..modes import state
from ..registry import OPS
from ..shapes import DTYPES, DType, common_dtype, dtype_of, normalize_dim, numpy_dtype
from ..tensor import Tensor

# ---------------------------------------------------------------------------------------------------- operators

BINARY_OPERATORS = {
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "truediv": "true_divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}
"""The operations behind ``+``, ``-`` and so on, by the name of the special method without its underscores."""

COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")
UNARY_OPERATORS = {"neg": "neg", "pos": "positive", "abs": "abs", "invert": "bitwise_not"}


def _default_settings(record):
    """The settings of a call that gives none."""
    code, defaults = record.public.__code__, record.public.__defaults__ or ()
    given = dict(zip(code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True))
    given.update(record.public.__kwdefaults__ or {})
    return {name: given[name] for name in record.settings}


def _is_operand(value):
    return isinstance(value, (Tensor, np.ndarray, np.generic, int, float))


def _operator(known, symbol, reflected=False):
    """The special method of two operands: straight to the door, and NotImplemented for what no operation can take."""
    record = OPS[known]
    if record.family.name == "composite":

        def method(self, other):
            if not _is_operand(other):
                return NotImplemented
            return record.public(other, self) if reflected else record.public(self, other)
    else:
        settings = _default_settings(record)
        if reflected:

            def method(self, other):
                if other is None:
                    return NotImplemented
                try:
                    door = record.door
                    return door(settings, other, self)
                except TypeError:
                    if _is_operand(other):
                        raise
                    return NotImplemented
        else:

            def method(self, other):
                if other is None:
                    return NotImplemented
                try:
                    door = record.door
                    return door(settings, self, other)
                except TypeError:
                    if _is_operand(other):
                        raise
                    return NotImplemented

    method.__name__ = method.__qualname__ = f"__{symbol}__"
    method.__doc__ = f"See `{known}`."
    return method


def _in_place_operator(known, symbol):
    def method(self, other):
        return getattr(self, known + "_")(other) if _is_operand(other) else NotImplemented

    method.__name__ = method.__qualname__ = f"__{symbol}__"
    method.__doc__ = f"See `{known}`; writes into this tensor."
    return method


def attach_operators():
    """Give Tensor its operators; called when all records stand."""
    for symbol, known in BINARY_OPERATORS.items():
        setattr(Tensor, f"__{symbol}__", _operator(known, symbol))
        setattr(Tensor, f"__r{symbol}__", _operator(known, "r" + symbol, reflected=True))
        if known != "matmul":  # its result has another shape
            setattr(Tensor, f"__i{symbol}__", _in_place_operator(known, "i" + symbol))
    for known in COMPARISONS:
        setattr(Tensor, f"__{known}__", _operator(known, known))
    for symbol, known in UNARY_OPERATORS.items():
        setattr(Tensor, f"__{symbol}__", OPS[known].public)
    for older, symbol in (("__div__", "__truediv__"), ("__rdiv__", "__rtruediv__"), ("__idiv__", "__itruediv__")):
        setattr(Tensor, older, getattr(Tensor, symbol))


def method(function):
    """Make a function of a tensor a Tensor method of the same name."""
    function.__qualname__ = f"Tensor.{function.__name__}"
    setattr(Tensor, function.__name__, function)
    return function


def attach(**members):
    """Give Tensor the members, by name."""
    for known, member in members.items():
        setattr(Tensor, known, member)


# ---------------------------------------------------------------------------------------------------- what it is

attach(
    T=property(lambda self: ops.permute(self, tuple(range(self.ndim))[::-1]), doc="The dimensions in reverse order."),
    mT=property(lambda self: _matrix_transpose(self, "mT"), doc="The last two dimensions exchanged."),
    mH=property(lambda self: _matrix_transpose(self, "mH"), doc="As `mT`, for real tensors."),
    H=property(lambda self: _transpose(self), doc="A matrix transposed, for real tensors."),
    device=property(lambda self: CPU, doc="Where the tensor lives: the CPU."),
    layout=property(lambda self: LAYOUTS["strided"], doc="How it lies in memory: ``ag.strided``."),
    is_cpu=True,
)


def _matrix_transpose(self, name):
    if self.ndim < 2:
        raise RuntimeError(f"{name}: only supported on matrices or batches of matrices, got {self.ndim} dimension(s)")
    return ops.transpose(self, -2, -1)


def _transpose(self):
    if self.ndim not in (0, 2):
        raise RuntimeError(f"H: only supported on matrices (2-d tensors), got {self.ndim} dimension(s)")
    return ops.transpose(self, 0, 1) if self.ndim else self


@method
def dim(self) -> int:
    """The number of dimensions."""
    return self.array.ndim


def _size(self, dim=None):
    """The sizes of the dimensions, or of dimension ``dim``."""
    shape = self.shape
    if dim is None:
        return shape
    if not shape:
        raise IndexError("size: dimension specified as 0 but the tensor has no dimensions")
    return shape[normalize_dim(dim, len(shape))]


class _Count(int):
    """The number of elements of a tensor, which NumPy calls ``x.size``; called, the sizes, as PyTorch has them."""

    tensor: Tensor

    def __call__(self, dim=None):
        return _size(self.tensor, dim)


class _SizeOf:
    """What ``Tensor.size`` is: a function of a tensor on the class, a `_Count` on a tensor."""

    __doc__ = _size.__doc__

    def __get__(self, tensor, kind=None):
        if tensor is None:
            return _size
        count = _Count(prod(tensor.shape))
        count.tensor = tensor
        return count


attach(size=_SizeOf())


@method
def numel(self) -> int:
    """The number of elements."""
    return self.array.size


@method
def element_size(self) -> int:
    """Bytes of one element."""
    return self.array.itemsize


@method
def stride(self, dim=None):
    """How many elements lie between neighbours along each dimension, or along ``dim``."""
    strides = tuple([s // self.array.itemsize for s in self.array.strides])
    return strides if dim is None else strides[normalize_dim(dim, self.array.ndim)]


@method
def data_ptr(self) -> int:
    """The address of the first element."""
    return self.array.__array_interface__["data"][0]


@method
def storage_offset(self) -> int:
    """How many elements lie before the first one in the memory that the tensor looks at."""
    owner = storage.owner_of(self.array)
    return (data_ptr(self) - owner.__array_interface__["data"][0]) // self.array.itemsize


@method
def is_contiguous(self, memory_format=LAYOUTS["contiguous_format"]) -> bool:
    """Whether the elements lie in row-major order (or with channels last, if that is the ``memory_format``)."""
    if memory_format.name.startswith("channels_last"):
        return self.array.ndim > 2 and np.moveaxis(self.array, 1, -1).flags.c_contiguous
    return self.array.flags.c_contiguous


@method
def is_floating_point(self) -> bool:
    """Whether the elements are floating-point numbers."""
    return self.array.dtype.kind == "f"


@method
def is_complex(self) -> bool:
    """Whether the elements are complex numbers: never."""
    return False


@method
def is_signed(self) -> bool:
    """Whether the type has negative numbers."""
    return self.array.dtype.kind in "if"


@method
def is_set_to(self, tensor) -> bool:
    """Whether both look at the same memory in the same way."""
    mine, other = self.array, tensor.array
    return (data_ptr(self), mine.shape, mine.strides, mine.dtype) == (
        data_ptr(tensor),
        other.shape,
        other.strides,
        other.dtype,
    )


@method
def is_nonzero(self) -> bool:
    """Whether the one element of the tensor is not zero."""
    return bool(self)


@method
def is_inference(self) -> bool:
    """Whether the tensor was made in inference mode: never."""
    return False


@method
def is_pinned(self, device=None) -> bool:
    """Whether the memory is pinned: never."""
    return False


@method
def pin_memory(self, device=None):
    """The tensor itself: there is no other device to copy to."""
    return self


@method
def is_shared(self) -> bool:
    """Whether other processes see the memory: never."""
    return False


@method
def share_memory_(self):
    """The tensor itself: workers get copies."""
    return self


@method
def get_device(self) -> int:
    """The number of the device: -1, the CPU."""
    return -1


attach(ndimension=dim, nelement=numel)


def is_tensor(obj) -> bool:
    """Whether ``obj`` is a Tensor."""
    return isinstance(obj, Tensor)


def result_type(tensor1, tensor2):
    """The dtype of an arithmetic operation on two tensors or numbers."""
    return dtype_of(common_dtype([v.array if isinstance(v, Tensor) else v for v in (tensor1, tensor2)]))


# ---------------------------------------------------------------------------------------------------- other types


def _is_dtype(value):
    return isinstance(value, (DType, np.dtype, type))


@method
def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    """The tensor in another type: ``to(dtype)``, ``to(other)``, ``to("cpu", dtype)``; itself where nothing changes."""
    flags = []
    for arg in args:
        if isinstance(arg, Tensor):
            dtype = arg.array.dtype
        elif _is_dtype(arg):
            dtype = arg
        elif isinstance(arg, bool):
            flags.append(arg)
        else:
            device = arg
    copy = flags[1] if len(flags) > 1 else copy
    if device is not None:
        check_device(device)
    wanted = self.array.dtype if dtype is None else numpy_dtype(dtype)
    if wanted != self.array.dtype:
        return ops.to(self, dtype=wanted)
    if copy:
        return ops.clone(self)
    return ops.contiguous(self) if memory_format is LAYOUTS["contiguous_format"] else self


@method
def cpu(self, memory_format=None):
    """The tensor itself."""
    return self


@method
def cuda(self, device=None, non_blocking=False, memory_format=None):
    """An error: there is no CUDA device."""
    raise RuntimeError("cuda: no CUDA device, tensors live on the CPU")


def _conversion(known):
    wanted = DTYPES[known].dtype

    def convert(self, memory_format=None):
        return self if self.array.dtype == wanted else ops.to(self, dtype=wanted)

    convert.__name__ = known
    convert.__doc__ = f"The tensor as {DTYPES[known].name}; itself if it is that already."
    return method(convert)


for _known in ("half", "float", "double", "char", "short", "int", "long", "byte", "bool"):
    _conversion(_known)

_TYPE_NAMES = {"half": "Half", "float": "Float", "double": "Double", "char": "Char", "short": "Short", "int": "Int",
               "long": "Long", "byte": "Byte", "bool": "Bool"}  # fmt: skip
_TYPES = {DTYPES[k]: f"ag.{v}Tensor" for k, v in _TYPE_NAMES.items()}


def _type(self, dtype=None, non_blocking=False):
    """The name of the tensor's type, or the tensor in another one (a dtype, or a name such as ``"ag.FloatTensor"``)."""
    if dtype is None:
        return _TYPES.get(self.dtype, repr(self.dtype))
    if isinstance(dtype, str):
        found = next((k for k, v in _TYPES.items() if v.partition(".")[2] == dtype.rpartition(".")[2]), None)
        if found is None:
            raise ValueError(f"type: invalid type {dtype!r}")
        dtype = found
    return self.to(dtype)


_type.__name__ = "type"  # not defined by that name: the module needs the builtin
method(_type)


@method
def type_as(self, other):
    """The tensor in the type of ``other``."""
    return self.to(other.array.dtype)


# ---------------------------------------------------------------------------------------------------- new tensors


def _new(known):
    make = getattr(ops, known)

    def method(self, *size, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False, **more):
        return make(*size, dtype=self.dtype if dtype is None else dtype, layout=layout, device=device,
                    requires_grad=requires_grad, **more)  # fmt: skip

    method.__name__ = method.__qualname__ = "new_" + known
    method.__doc__ = f"As `{known}`, by default in the type of this tensor."
    setattr(Tensor, method.__name__, method)


@method
def new_tensor(self, data, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """A tensor that holds a copy of ``data``, by default in the type of this one."""
    check_device(device)
    return Tensor(data, self.dtype if dtype is None else dtype, requires_grad)


# ---------------------------------------------------------------------------------------------------- written in place


@method
def copy_(self, src, non_blocking=False):
    """Write ``src``, broadcast to this shape and cast to this type, into this tensor; gradients pass to ``src``."""
    src = src if isinstance(src, Tensor) else Tensor(src)
    self._check_writable("copy_")
    if src is self:
        return self
    pairs = zip(reversed(src.array.shape), reversed(self.array.shape), strict=False)
    if src.array.ndim > self.array.ndim or any(given not in (1, size) for given, size in pairs):
        wrong = RuntimeError(f"copy_: src of shape {list(src.shape)} cannot be broadcast to {list(self.shape)}")
        raise placed(wrong, [self, src])
    value = ops.to(src, dtype=self.array.dtype) if src.array.dtype != self.array.dtype else ops.alias(src)
    return self._become(
        ops.expand(value, self.array.shape) if value.array.shape != self.array.shape else value, "copy_"
    )


@method
def zero_(self):
    """Write zeros into this tensor."""
    return self.fill_(0)


@method
def fill_diagonal_(self, fill_value, wrap=False):
    """Write ``fill_value`` where all indices are equal; ``wrap`` begins again below the bottom of a tall matrix."""
    if self.ndim < 2 or (self.ndim > 2 and len(set(self.shape)) > 1):
        raise RuntimeError(f"fill_diagonal_: needs a matrix, or more dims of equal sizes, got shape {list(self.shape)}")
    mask = np.zeros(self.shape, bool)
    np.fill_diagonal(mask, True, wrap)
    return self.masked_fill_(Tensor(mask), fill_value)


def _relaid(known):
    """The in-place form of a view: the tensor itself gets another shape on the same memory."""

    def change(self, *args, **kwargs):
        self._check_writable(known + "_")
        fresh = getattr(ops, known)(self, *args, **kwargs)
        self.array, self.node, self.index, self.tracks = fresh.array, fresh.node, fresh.index, fresh.tracks
        if self.base is None:
            self.edition += 1
            self.relaid = self.edition
        else:
            self.recipe, self.edition = fresh.recipe, fresh.edition
        if state.watch is not None:
            state.watch.alias(self, fresh)
        return self

    change.__name__ = known + "_"
    change.__doc__ = f"In-place form of `{known}`: this tensor gets the new shape, on the same memory."
    method(change)


@method
def where(self, condition, other):
    """Elements of this tensor where ``condition`` holds, of ``other`` elsewhere."""
    return ops.where(condition, self, other)


def attach_methods():
    """Give Tensor the methods that are made from records; called when all records stand."""
    for known in ("zeros", "ones", "empty", "full"):
        _new(known)
    for known in ("squeeze", "unsqueeze", "transpose", "swapaxes", "swapdims", "t"):
        _relaid(known)


# ---------------------------------------------------------------------------------------------------- protocols


@method
def __repr__(self):
    from ..printing import tensor_text

    return tensor_text(self)


attach(__str__=__repr__)


@method
def __reversed__(self):
    return ops.flip(self, 0) if self.array.ndim else self


@method
def __array__(self, dtype=None, copy=None):
    return np.array(self.numpy(), dtype, copy=copy)


@method
def __array_ufunc__(self, ufunc, kind, *inputs, **kwargs):
    from ..numpy_protocol import call_ufunc

    return call_ufunc(ufunc, kind, inputs, kwargs)


@method
def __array_function__(self, function, types, args, kwargs):
    from ..numpy_protocol import call_function

    return call_function(function, args, kwargs)


@method
def __array_namespace__(self, *, api_version=None):
    from .. import array_api

    if api_version is not None and api_version not in array_api.VERSIONS:
        raise ValueError(f"__array_namespace__: api_version must be one of {', '.join(array_api.VERSIONS)}, "
                         f"got {api_version!r}")  # fmt: skip
    return array_api


@method
def to_device(self, device, *, stream=None):
    """The tensor itself: the CPU is the only device."""
    check_device(device)
    if stream is not None:
        raise ValueError(f"to_device: the CPU has no streams, got stream={stream!r}")
    return self


@method
def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
    if self.requires_grad:
        raise BufferError("a tensor that requires grad cannot be exported; use tensor.detach()")
    if stream is not None:
        raise BufferError(f"__dlpack__: the CPU has no streams, got {stream!r}")
    return self.numpy().__dlpack__(max_version=max_version, dl_device=dl_device, copy=copy)


@method
def __dlpack_device__(self):
    return self.array.__dlpack_device__()
