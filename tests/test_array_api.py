"""The Python Array API standard 2024.12: every function, over dtypes and shapes, against NumPy, which follows it."""

import inspect
import itertools
import math
import subprocess
import sys
from operator import attrgetter

import numpy as np
import pytest

import autograd_core as ag

xp = ag.array_api

SIGNATURES = """
arange(start, /, stop=None, step=1, *, dtype=None, device=None)
asarray(obj, /, *, dtype=None, device=None, copy=None)
empty(shape, *, dtype=None, device=None)
empty_like(x, /, *, dtype=None, device=None)
eye(n_rows, n_cols=None, /, *, k=0, dtype=None, device=None)
from_dlpack(x, /, *, device=None, copy=None)
full(shape, fill_value, *, dtype=None, device=None)
full_like(x, /, fill_value, *, dtype=None, device=None)
linspace(start, stop, /, num, *, dtype=None, device=None, endpoint=True)
meshgrid(*arrays, indexing='xy')
ones(shape, *, dtype=None, device=None)
ones_like(x, /, *, dtype=None, device=None)
tril(x, /, *, k=0)
triu(x, /, *, k=0)
zeros(shape, *, dtype=None, device=None)
zeros_like(x, /, *, dtype=None, device=None)
astype(x, dtype, /, *, copy=True, device=None)
can_cast(from_, to, /)
finfo(type, /)
iinfo(type, /)
isdtype(dtype, kind)
result_type(*arrays_and_dtypes)
clip(x, /, min=None, max=None)
take(x, indices, /, *, axis=None)
take_along_axis(x, indices, /, *, axis=-1)
matmul(x1, x2, /)
matrix_transpose(x, /)
tensordot(x1, x2, /, *, axes=2)
vecdot(x1, x2, /, *, axis=-1)
broadcast_arrays(*arrays)
broadcast_to(x, /, shape)
concat(arrays, /, *, axis=0)
expand_dims(x, /, *, axis=0)
flip(x, /, *, axis=None)
moveaxis(x, source, destination, /)
permute_dims(x, /, axes)
repeat(x, repeats, /, *, axis=None)
reshape(x, /, shape, *, copy=None)
roll(x, /, shift, *, axis=None)
squeeze(x, /, axis)
stack(arrays, /, *, axis=0)
tile(x, repetitions, /)
unstack(x, /, *, axis=0)
argmax(x, /, *, axis=None, keepdims=False)
argmin(x, /, *, axis=None, keepdims=False)
count_nonzero(x, /, *, axis=None, keepdims=False)
nonzero(x, /)
searchsorted(x1, x2, /, *, side='left', sorter=None)
where(condition, x1, x2, /)
unique_all(x, /)
unique_counts(x, /)
unique_inverse(x, /)
unique_values(x, /)
argsort(x, /, *, axis=-1, descending=False, stable=True)
sort(x, /, *, axis=-1, descending=False, stable=True)
cumulative_prod(x, /, *, axis=None, dtype=None, include_initial=False)
cumulative_sum(x, /, *, axis=None, dtype=None, include_initial=False)
max(x, /, *, axis=None, keepdims=False)
mean(x, /, *, axis=None, keepdims=False)
min(x, /, *, axis=None, keepdims=False)
prod(x, /, *, axis=None, dtype=None, keepdims=False)
std(x, /, *, axis=None, correction=0.0, keepdims=False)
sum(x, /, *, axis=None, dtype=None, keepdims=False)
var(x, /, *, axis=None, correction=0.0, keepdims=False)
all(x, /, *, axis=None, keepdims=False)
any(x, /, *, axis=None, keepdims=False)
diff(x, /, *, axis=-1, n=1, prepend=None, append=None)
linalg.cholesky(x, /, *, upper=False)
linalg.cross(x1, x2, /, *, axis=-1)
linalg.det(x, /)
linalg.diagonal(x, /, *, offset=0)
linalg.eigh(x, /)
linalg.eigvalsh(x, /)
linalg.inv(x, /)
linalg.matmul(x1, x2, /)
linalg.matrix_norm(x, /, *, keepdims=False, ord='fro')
linalg.matrix_power(x, n, /)
linalg.matrix_rank(x, /, *, rtol=None)
linalg.matrix_transpose(x, /)
linalg.outer(x1, x2, /)
linalg.pinv(x, /, *, rtol=None)
linalg.qr(x, /, *, mode='reduced')
linalg.slogdet(x, /)
linalg.solve(x1, x2, /)
linalg.svd(x, /, *, full_matrices=True)
linalg.svdvals(x, /)
linalg.tensordot(x1, x2, /, *, axes=2)
linalg.trace(x, /, *, offset=0, dtype=None)
linalg.vecdot(x1, x2, /, *, axis=-1)
linalg.vector_norm(x, /, *, axis=None, keepdims=False, ord=2)
fft.fftfreq(n, /, *, d=1.0, dtype=None, device=None)
fft.fftshift(x, /, *, axes=None)
fft.ifftshift(x, /, *, axes=None)
fft.rfftfreq(n, /, *, d=1.0, dtype=None, device=None)
"""
"""The standard's signatures. A function that is not among them is an elementwise one: f(x, /) or f(x1, x2, /)."""

COMPLEX_ONLY = ["fft", "ifft", "fftn", "ifftn", "rfft", "irfft", "rfftn", "irfftn", "hfft", "ihfft"]
"""Functions of the extension ``fft`` that take or give complex arrays, which do not exist here."""

FLOATS, SIGNED, UNSIGNED = (
    ("float32", "float64"),
    ("int8", "int16", "int32", "int64"),
    ("uint8", "uint16", "uint32", "uint64"),
)
INTEGERS = SIGNED + UNSIGNED
NUMBERS = INTEGERS + FLOATS
EVERY = ("bool", *NUMBERS)

KINDS = {"floats": FLOATS, "numbers": NUMBERS, "integers": INTEGERS, "bits": ("bool", *INTEGERS), "bool": ("bool",),
         "every": EVERY}  # fmt: skip


def table(text):
    """The dtypes of each function of lines such as ``floats: acos acosh``."""
    lines = [line.split() for line in text.strip().splitlines()]
    return {name: KINDS[kind.strip(":")] for kind, *names in lines for name in names}


UNARY = table("""
floats: acos acosh asin asinh atan atanh cos cosh exp expm1 log log10 log1p log2 reciprocal signbit sin sinh sqrt tan
floats: tanh
numbers: abs ceil conj floor isfinite isinf isnan negative positive real round sign square trunc
bits: bitwise_invert
bool: logical_not
""")
BINARY = table("""
floats: atan2 copysign divide hypot logaddexp nextafter
numbers: add floor_divide greater greater_equal less less_equal maximum minimum multiply pow remainder subtract
bits: bitwise_and bitwise_or bitwise_xor
integers: bitwise_left_shift bitwise_right_shift
every: equal not_equal
bool: logical_and logical_or logical_xor
""")
"""The dtypes for which the standard says what each elementwise function does."""


def values_of(dtype, rng, small=False):
    """Numbers of a dtype, its extremes and special values among them."""
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return np.array([True, False, True, True, False])
    if kind.kind in "iu":
        drawn = rng.integers(0 if kind.kind == "u" else -5, 6, 7)
        edges = [] if small else [np.iinfo(kind).min, np.iinfo(kind).max]
        return np.array([*drawn, 0, 1, *edges], kind)
    special = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0]
    return np.array([*rng.uniform(-4, 4, 7), *special, *([] if small else [np.inf, -np.inf, np.nan])], kind)


def oracle(function, *args, **kwargs):
    with np.errstate(all="ignore"):
        return function(*args, **kwargs)


def agrees(found, expected, exact=False):
    """Same shape and dtype, same numbers; zeros of the same sign."""
    expected = np.asarray(expected)
    assert isinstance(found, ag.Tensor)
    assert tuple(found.shape) == expected.shape
    assert str(found.array.dtype) == str(expected.dtype)
    if expected.dtype.kind == "f" and not exact:
        near = 1e-5 if expected.dtype == np.float32 else 1e-12
        np.testing.assert_allclose(found.array, expected, rtol=near, atol=near)
        zero = expected == 0
        assert np.array_equal(np.signbit(found.array[zero]), np.signbit(expected[zero]))
    else:
        assert np.array_equal(found.array, expected, equal_nan=expected.dtype.kind == "f")


def shapes_of(flat):
    """The numbers as a vector, a matrix with gaps and reversed rows, a 0-d and an empty array."""
    n = len(flat) // 2 * 2
    yield flat
    yield np.repeat(flat[:n].reshape(2, -1), 2, 1)[::-1, ::2]
    yield flat[:1].reshape(())
    yield flat[:0].reshape(0, 3)


# ---------------------------------------------------------------------------------------------------- names


def test_every_signature_is_the_standards():
    listed = {line[: line.index("(")]: line for line in SIGNATURES.strip().splitlines()}
    for path, line in listed.items():
        found = str(inspect.signature(attrgetter(path)(xp))).partition(" ->")[0]
        assert path + found == line
    for name in [*UNARY, "imag"]:
        assert str(inspect.signature(getattr(xp, name))) == "(x, /)"
    for name in BINARY:
        assert str(inspect.signature(getattr(xp, name))) == "(x1, x2, /)"
    public = {n for n in dir(xp) if inspect.isfunction(getattr(xp, n))}
    assert public == {path for path in listed if "." not in path} | set(UNARY) | set(BINARY) | {"imag"}
    assert not any(hasattr(xp.fft, name) for name in COMPLEX_ONLY)


def test_attributes_and_methods():
    x = xp.ones((2, 3))
    assert x.__array_namespace__() is xp
    assert x.__array_namespace__(api_version="2023.12") is xp
    with pytest.raises(ValueError, match=r"api_version must be one of .*2024.12, got '1999.12'"):
        x.__array_namespace__(api_version="1999.12")
    assert x.size == 6
    assert x.size() == (2, 3)
    assert x.size(0) == 2
    assert ag.Tensor.size(x, 1) == 3
    assert isinstance(x.size, int)
    assert x.to_device(x.device) is x
    assert (x.ndim, tuple(x.shape), tuple(x.T.shape), tuple(x.mT.shape)) == (2, (2, 3), (3, 2), (3, 2))
    assert x.dtype == xp.float32
    assert complex(xp.asarray(1.5)) == 1.5 + 0j
    assert (xp.e, xp.pi, xp.inf, xp.newaxis) == (math.e, math.pi, math.inf, None)
    assert math.isnan(xp.nan)


def test_what_the_namespace_says_about_itself():
    info = xp.__array_namespace_info__()
    assert info.default_device() in info.devices()
    assert info.default_dtypes()["real floating"] == xp.float32
    assert set(info.dtypes()) == set(EVERY)
    assert set(info.dtypes(kind="unsigned integer")) == set(UNSIGNED)
    assert set(info.dtypes(kind=("bool", "real floating"))) == {"bool", *FLOATS}
    assert info.dtypes(kind="complex floating") == {}
    assert not any(hasattr(xp, name) for name in ("complex64", "complex128"))
    assert info.capabilities()["boolean indexing"] is True


def test_it_is_loaded_when_it_is_used():
    check = "import sys, autograd_core as ag; assert 'autograd_core.array_api' not in sys.modules; ag.array_api.ones(2)"
    subprocess.run([sys.executable, "-c", check], check=True)


# ---------------------------------------------------------------------------------------------------- elementwise


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_array(name):
    rng = np.random.default_rng(0)
    for dtype in UNARY[name]:
        for x in shapes_of(values_of(dtype, rng)):
            agrees(getattr(xp, name)(xp.asarray(x)), oracle(getattr(np, name), x))


OPEN = {
    "pow": "negative exponents",
    "bitwise_left_shift": "shifts beyond the width",
    "bitwise_right_shift": "shifts beyond the width",
    "floor_divide": "division by zero",
    "remainder": "division by zero",
}
"""What the standard leaves open for integers."""


def divisors(name, x):
    """``x`` without what the standard leaves open for the second argument of ``name``."""
    if x.dtype.kind not in "iu" or name not in OPEN:
        return x
    return np.where(x == 0, x.dtype.type(3), x) if "zero" in OPEN[name] else np.abs(x) % x.dtype.type(4)


@pytest.mark.parametrize("name", BINARY)
def test_functions_of_two_arrays(name):
    rng = np.random.default_rng(0)
    function, reference = getattr(xp, name), getattr(np, name)
    for first, second in itertools.product(BINARY[name], repeat=2):
        if not promotable(first, second):
            continue
        small = name == "pow" or "shift" in name
        left, right = values_of(first, rng, small), divisors(name, values_of(second, rng, small))
        for a, b in ((left[:, None], right), (left[:1].reshape(()), right), (left, right[:1].reshape(())),
                     (left[:0], right[:1])):  # fmt: skip
            agrees(function(xp.asarray(a), xp.asarray(b)), oracle(reference, a, b))


def promotable(first, second):
    kinds = {np.dtype(first).kind, np.dtype(second).kind}
    return (len(kinds) == 1 or kinds == {"i", "u"}) and not ("uint64" in (first, second) and "i" in kinds)


@pytest.mark.parametrize("name", BINARY)
def test_arrays_and_python_numbers(name):
    for dtype in BINARY[name]:
        kind = np.dtype(dtype).kind
        x = values_of(dtype, np.random.default_rng(0), small=True)
        numbers = [True] if kind == "b" else [2, 3] if kind in "iu" else [2, 2.5]
        for number in numbers:
            agrees(getattr(xp, name)(xp.asarray(x), number), oracle(getattr(np, name), x, number))
            if name != "pow" and "shift" not in name:
                y = divisors(name, x)
                agrees(getattr(xp, name)(number, xp.asarray(y)), oracle(getattr(np, name), number, y))
    with pytest.raises(TypeError, match=f"{name}: at least one argument must be a Tensor"):
        getattr(xp, name)(1, 2)


def test_clip():
    for dtype in NUMBERS:
        x = values_of(dtype, np.random.default_rng(0))
        t = xp.asarray(x)
        for low, high in ((1, 3), (None, 2), (2, None), (None, None), (x[:1], None), (x[:1] * 0, 2)):
            lifted = [xp.asarray(v) if isinstance(v, np.ndarray) else v for v in (low, high)]
            agrees(xp.clip(t, *lifted), np.clip(x, low, high) if low is not None or high is not None else x)
    assert xp.clip(xp.ones(3), xp.zeros((), dtype=xp.float64)).dtype == xp.float32


def test_imag_says_that_there_are_no_complex_numbers():
    with pytest.raises(TypeError, match=r"imag: needs a complex array, got ag\.float32"):
        xp.imag(xp.ones(2))


# ---------------------------------------------------------------------------------------------------- creation, dtypes


def test_creation():
    for dtype in EVERY:
        ours, theirs = getattr(xp, dtype), np.dtype(dtype)
        for shape in ((), 3, (2, 3), (0, 2)):
            agrees(xp.zeros(shape, dtype=ours), np.zeros(shape, theirs))
            agrees(xp.ones(shape, dtype=ours, device=xp.ones(1).device), np.ones(shape, theirs))
            agrees(xp.full(shape, 1, dtype=ours), np.full(shape, 1, theirs))
            assert tuple(xp.empty(shape, dtype=ours).shape) == np.empty(shape).shape
        x = np.ones((2, 3), theirs)
        for name in ("zeros_like", "ones_like"):
            agrees(getattr(xp, name)(xp.asarray(x)), getattr(np, name)(x))
        agrees(xp.full_like(xp.asarray(x), 1), np.full_like(x, 1))
        agrees(xp.astype(xp.empty_like(xp.asarray(x), dtype=xp.int8) * 0, ours), np.zeros((2, 3), theirs))
        for k in (-4, -1, 0, 1, 5):
            agrees(xp.eye(3, 4, k=k, dtype=ours), np.eye(3, 4, k=k, dtype=theirs))
            agrees(xp.tril(xp.asarray(x), k=k), np.tril(x, k))
            agrees(xp.triu(xp.asarray(x), k=k), np.triu(x, k))
    assert xp.full(2, True).dtype == xp.bool
    assert xp.full(2, 7).dtype == xp.int64
    assert xp.full(2, 7.0).dtype == xp.float32
    agrees(xp.full((), 2**64 - 1, dtype=xp.uint64), np.full((), 2**64 - 1, np.uint64))
    agrees(xp.eye(2), np.eye(2, dtype=np.float32))


def test_ranges():
    for start, stop, step in (
        (5, None, 1),
        (2, 9, 3),
        (9, 2, -3),
        (2, 9, -1),
        (0, 0, 1),
        (1.0, 2.0, 0.25),
        (1, 0, 0.5),
    ):
        expected = np.arange(start, stop, step) if stop is not None else np.arange(start)
        expected = expected.astype(np.float32) if expected.dtype == np.float64 else expected
        agrees(xp.arange(start, stop, step), expected)
    for dtype in INTEGERS:
        agrees(xp.arange(2, 9, dtype=getattr(xp, dtype)), np.arange(2, 9, dtype=dtype))
    agrees(xp.arange(2**64 - 3, 2**64 - 1, dtype=xp.uint64), np.arange(2**64 - 3, 2**64 - 1, dtype=np.uint64))
    for endpoint, num in itertools.product((True, False), (0, 1, 2, 7)):
        agrees(xp.linspace(-1, 2, num, endpoint=endpoint, dtype=xp.float64), np.linspace(-1, 2, num, endpoint=endpoint))
    for indexing in ("xy", "ij"):
        axes = np.arange(3.0), np.arange(2.0), np.arange(4.0)
        for count in (1, 2, 3):
            found = xp.meshgrid(*map(xp.asarray, axes[:count]), indexing=indexing)
            for one, expected in zip(found, np.meshgrid(*axes[:count], indexing=indexing), strict=True):
                agrees(one, expected)


def test_asarray():
    assert xp.asarray(True).dtype == xp.bool
    assert xp.asarray([1, 2]).dtype == xp.int64
    assert xp.asarray([[1.0], [2]]).dtype == xp.float32
    assert xp.asarray([xp.asarray(1.0), xp.asarray(2.0)]).shape == (2,)
    x = xp.asarray([1.0, 2.0])
    assert xp.asarray(x) is x
    assert xp.asarray(x, copy=True) is not x
    assert xp.asarray(x, dtype=xp.float64).dtype == xp.float64
    with pytest.raises(ValueError, match="without a copy"):
        xp.asarray(x, dtype=xp.float64, copy=False)
    with pytest.raises(ValueError, match="can't alias the values of a list"):
        xp.asarray([1.0], copy=False)
    array = np.arange(3.0)
    assert np.shares_memory(xp.asarray(array).array, array)
    assert np.shares_memory(xp.from_dlpack(array).array, array)
    assert not np.shares_memory(xp.from_dlpack(array, copy=True).array, array)
    assert xp.asarray([2**63 + 1, 1], dtype=xp.uint64)[0] == 2**63 + 1
    assert xp.asarray(1j).dtype.is_complex
    assert xp.isdtype(xp.asarray(1j).dtype, "complex floating")


def test_dtypes():
    for first, second in itertools.product(EVERY, repeat=2):
        ours = getattr(xp, first), getattr(xp, second)
        if promotable(first, second):
            assert str(xp.result_type(*ours).dtype) == np.promote_types(first, second).name
            assert xp.can_cast(*ours) == (np.promote_types(first, second).name == second)
        assert str(xp.astype(xp.ones(2, dtype=ours[0]), ours[1]).array.dtype) == second
    assert xp.result_type(xp.ones(2, dtype=xp.float32), xp.ones((), dtype=xp.float64)) == xp.float64
    assert xp.result_type(xp.ones(2, dtype=xp.float32), 1.0) == xp.float32
    assert not xp.can_cast(xp.float64, xp.int64)
    x = xp.ones(2)
    assert xp.astype(x, xp.float32, copy=False) is x
    assert xp.astype(x, xp.float32) is not x
    assert xp.isdtype(xp.uint8, ("bool", "integral"))
    assert xp.isdtype(xp.uint8, xp.uint8)
    assert not xp.isdtype(xp.float32, "complex floating")
    with pytest.raises(ValueError, match=r"isdtype: kind must be .*got 'word'"):
        xp.isdtype(xp.uint8, "word")
    assert xp.finfo(x).dtype == xp.float32
    assert xp.finfo(xp.float64).eps == np.finfo(np.float64).eps
    assert (xp.iinfo(xp.int8).min, xp.iinfo(xp.int8).max, xp.iinfo(xp.int8).bits) == (-128, 127, 8)


# ---------------------------------------------------------------------------------------------------- arrangement


@pytest.mark.parametrize("dtype", EVERY)
def test_arrangement(dtype):
    x = np.resize(values_of(dtype, np.random.default_rng(0), small=True), (2, 3, 4))
    t = xp.asarray(x)
    for one, expected in zip(xp.broadcast_arrays(t, t[:1, :, :1], t[0, 0]),
                             np.broadcast_arrays(x, x[:1, :, :1], x[0, 0]), strict=True):  # fmt: skip
        agrees(one, expected)
    agrees(xp.broadcast_to(t[0, 0], (5, 4)), np.broadcast_to(x[0, 0], (5, 4)))
    for axis in (None, 0, -1):
        agrees(xp.concat([t, t], axis=axis), np.concatenate([x, x], axis=axis))
        agrees(xp.flip(t, axis=axis), np.flip(x, axis=axis))
        agrees(xp.repeat(t, 2, axis=axis), np.repeat(x, 2, axis=axis))
        agrees(xp.roll(t, -2, axis=axis), np.roll(x, -2, axis=axis))
    agrees(xp.flip(t, axis=(0, 2)), np.flip(x, axis=(0, 2)))
    agrees(xp.repeat(t, xp.asarray([1, 0, 2]), axis=1), np.repeat(x, [1, 0, 2], axis=1))
    agrees(xp.roll(t, (1, 2), axis=(0, 1)), np.roll(x, (1, 2), axis=(0, 1)))
    for axis in range(-4, 4):
        agrees(xp.expand_dims(t, axis=axis), np.expand_dims(x, axis))
    for axis in range(-3, 3):
        assert len(xp.unstack(t, axis=axis)) == x.shape[axis]
        agrees(xp.unstack(t, axis=axis)[1], np.take(x, 1, axis))
        agrees(xp.stack([t, t], axis=axis), np.stack([x, x], axis=axis))
        agrees(xp.take(t, xp.asarray([1, 0, 0]), axis=axis), np.take(x, [1, 0, 0], axis))
        order = np.argsort(x, axis=axis, kind="stable")
        agrees(xp.take_along_axis(t, xp.asarray(order), axis=axis), np.take_along_axis(x, order, axis))
    agrees(xp.moveaxis(t, (0, 1), (-1, 0)), np.moveaxis(x, (0, 1), (-1, 0)))
    agrees(xp.permute_dims(t, (2, 0, 1)), np.transpose(x, (2, 0, 1)))
    agrees(xp.reshape(t, (4, -1)), x.reshape(4, -1))
    agrees(xp.reshape(t, (4, 6), copy=False), x.reshape(4, 6))
    assert not np.shares_memory(xp.reshape(t, (4, 6), copy=True).array, t.array)
    agrees(xp.squeeze(t[:1, :, :1], (0, 2)), x[0, :, 0])
    for repetitions in ((2,), (2, 1, 3), (2, 1, 1, 1), ()):
        agrees(xp.tile(t, repetitions), np.tile(x, repetitions))
    with pytest.raises(ValueError, match=r"squeeze: axis 1 must have size 1, got shape \[2, 3, 4\]"):
        xp.squeeze(t, 1)
    with pytest.raises(ValueError, match="take: axis must be given"):
        xp.take(t, xp.asarray([0]))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_search_and_sort(dtype):
    rng = np.random.default_rng(0)
    x = np.resize(values_of(dtype, rng), (3, 7))
    t = xp.asarray(x)
    for axis, keepdims in itertools.product((None, 0, -1), (False, True)):
        for name in ("argmax", "argmin"):
            agrees(
                getattr(xp, name)(t, axis=axis, keepdims=keepdims), getattr(np, name)(x, axis=axis, keepdims=keepdims)
            )
        agrees(xp.count_nonzero(t, axis=axis, keepdims=keepdims), np.count_nonzero(x, axis=axis, keepdims=keepdims))
    finite = np.resize(values_of(dtype, rng, small=True), (3, 7))
    for axis, descending in itertools.product((0, -1), (False, True)):
        sign = -1.0 if descending else 1.0
        expected = np.argsort(sign * finite.astype(np.float64), axis=axis, kind="stable")
        agrees(xp.argsort(xp.asarray(finite), axis=axis, descending=descending), expected)
        agrees(
            xp.sort(xp.asarray(finite), axis=axis, descending=descending), np.take_along_axis(finite, expected, axis)
        )
    for one, expected in zip(xp.nonzero(t), np.nonzero(x), strict=True):
        agrees(one, expected)
    line = np.sort(finite.reshape(-1))
    for side in ("left", "right"):
        agrees(xp.searchsorted(xp.asarray(line), t, side=side), np.searchsorted(line, x, side=side))
    order = rng.permutation(line.size)
    found = xp.searchsorted(xp.asarray(line[order]), t, sorter=xp.asarray(np.argsort(line[order], kind="stable")))
    agrees(found, np.searchsorted(line, x))
    agrees(xp.where(t > 1, t, xp.asarray(finite)), np.where(x > 1, x, finite))
    agrees(xp.where(t > 1, t, 1), np.where(x > 1, x, 1).astype(dtype))


@pytest.mark.parametrize("dtype", EVERY)
def test_sets(dtype):
    x = np.resize(values_of(dtype, np.random.default_rng(0)), (4, 5))
    values, first, inverse, counts = np.unique(x, True, True, True, equal_nan=False)
    found = xp.unique_all(xp.asarray(x))
    assert found._fields == ("values", "indices", "inverse_indices", "counts")
    for one, expected in zip(found, (values, first, inverse.reshape(x.shape), counts), strict=True):
        agrees(one, expected)
    agrees(xp.unique_values(xp.asarray(x)), values)
    agrees(xp.unique_counts(xp.asarray(x)).counts, counts)
    agrees(xp.unique_inverse(xp.asarray(x)).inverse_indices, inverse.reshape(x.shape))


# ---------------------------------------------------------------------------------------------------- statistics

AXES = [None, 0, -1, (0, 2), (1,), (), (-1, 0, 1)]


@pytest.mark.parametrize("dtype", NUMBERS)
def test_reductions(dtype):
    x = np.resize(values_of(dtype, np.random.default_rng(0), small=True), (2, 3, 4))
    t = xp.asarray(x)
    wide = {"u": np.uint64, "i": np.int64}.get(x.dtype.kind, x.dtype)
    for axis, keepdims in itertools.product(AXES, (False, True)):
        settings = {"axis": axis, "keepdims": keepdims}
        for name in ("sum", "prod"):
            agrees(getattr(xp, name)(t, **settings), getattr(np, name)(x, dtype=wide, **settings))
            agrees(
                getattr(xp, name)(t, dtype=xp.float64, **settings), getattr(np, name)(x, dtype=np.float64, **settings)
            )
        for name in ("max", "min", "all", "any"):
            agrees(getattr(xp, name)(t, **settings), getattr(np, name)(x, **settings))
        if x.dtype.kind == "f":
            agrees(xp.mean(t, **settings), x.mean(dtype=np.float64, **settings).astype(dtype))
            for name in ("var", "std"):
                exact = getattr(np, name)(x.astype(np.float64), **settings).astype(dtype)
                agrees(getattr(xp, name)(t, **settings), exact)
                if axis in (None, 0, -1):
                    exact = getattr(np, name)(x.astype(np.float64), ddof=1, **settings).astype(dtype)
                    agrees(getattr(xp, name)(t, correction=1, **settings), exact)
    for name in ("sum", "prod", "max", "min"):
        agrees(getattr(xp, name)(t[0, 0, 0]), getattr(np, name)(x[0, 0, 0], keepdims=False).astype(
            wide if name in ("sum", "prod") else dtype))  # fmt: skip


@pytest.mark.parametrize("dtype", NUMBERS)
def test_running_totals(dtype):
    x = np.resize(values_of(dtype, np.random.default_rng(0), small=True), (2, 3, 4))
    wide = {"u": np.uint64, "i": np.int64}.get(x.dtype.kind, x.dtype)
    for name, axis, initial in itertools.product(("cumulative_sum", "cumulative_prod"), range(-3, 3), (False, True)):
        expected = getattr(np, name)(x, axis=axis, dtype=wide, include_initial=initial)
        agrees(getattr(xp, name)(xp.asarray(x), axis=axis, include_initial=initial), expected)
    agrees(xp.cumulative_sum(xp.asarray(x[0, 0])), np.cumsum(x[0, 0], dtype=wide))
    with pytest.raises(ValueError, match="cumulative_sum: axis must be given"):
        xp.cumulative_sum(xp.asarray(x))
    edge = x[:, :1]
    for axis, n in itertools.product((0, 1, -1), (0, 1, 2)):
        agrees(xp.diff(xp.asarray(x), axis=axis, n=n), np.diff(x, n, axis))
    agrees(xp.diff(xp.asarray(x), axis=1, prepend=xp.asarray(edge)), np.diff(x, axis=1, prepend=edge))


def test_all_and_any_of_every_type():
    for dtype in EVERY:
        x = np.array([[0, 1], [0, 0]], dtype)
        for axis in (None, 0, 1, (0, 1), ()):
            agrees(xp.all(xp.asarray(x), axis=axis), np.all(x, axis=axis))
            agrees(xp.any(xp.asarray(x), axis=axis), np.any(x, axis=axis))


# ---------------------------------------------------------------------------------------------------- linear algebra


@pytest.mark.parametrize("dtype", NUMBERS)
def test_products(dtype):
    rng = np.random.default_rng(0)

    def drawn(*shape):
        return np.abs(np.resize(values_of(dtype, rng, small=True), shape))

    for left, right in (((2, 3), (3, 4)), ((3,), (3,)), ((5, 2, 3), (3, 2)), ((3,), (5, 3, 2)), ((5, 2, 3), (3,))):
        a, b = drawn(*left), drawn(*right)
        agrees(xp.matmul(xp.asarray(a), xp.asarray(b)), a @ b)
    a, b = drawn(2, 3, 4), drawn(3, 4, 2)
    for axes in (0, 1, 2, ((1, 2), (0, 1)), ([2], [1])):
        if axes == 1:
            continue  # 4 against 3
        agrees(xp.tensordot(xp.asarray(a), xp.asarray(b), axes=axes), np.tensordot(a, b, axes))
    agrees(xp.vecdot(xp.asarray(a), xp.asarray(a[:1])), np.vecdot(a, a[:1]))
    agrees(xp.vecdot(xp.asarray(a), xp.asarray(a), axis=-2), np.vecdot(a, a, axis=-2))
    agrees(xp.matrix_transpose(xp.asarray(a)), np.swapaxes(a, -1, -2))
    agrees(xp.linalg.outer(xp.asarray(a[0, 0]), xp.asarray(a[1, 1])), np.outer(a[0, 0], a[1, 1]))
    threes = a[:, :, :2].mT
    agrees(xp.linalg.cross(xp.asarray(threes), xp.asarray(b[:, :2].T[:2])), np.cross(threes, b[:, :2].T[:2]))
    agrees(xp.linalg.cross(xp.asarray(a), xp.asarray(a[::-1]), axis=1), np.cross(a, a[::-1], axis=1))
    wide = {"u": np.uint64, "i": np.int64}.get(a.dtype.kind, a.dtype)
    for offset in (-1, 0, 2):
        agrees(xp.linalg.diagonal(xp.asarray(a), offset=offset), np.diagonal(a, offset, -2, -1))
        agrees(xp.linalg.trace(xp.asarray(a), offset=offset), np.diagonal(a, offset, -2, -1).sum(-1, dtype=wide))
    other = {"i": "int64", "u": "uint64"}.get(a.dtype.kind, "float64")
    mixed = drawn(3, 4).astype(other)
    agrees(xp.matmul(xp.asarray(a[:, :, :3].copy()), xp.asarray(mixed)), a[:, :, :3] @ mixed)


@pytest.mark.parametrize("dtype", FLOATS)
def test_factorisations(dtype):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((2, 4, 4)).astype(dtype)
    spd = (a @ a.mT + 4 * np.eye(4)).astype(dtype)
    t, s, la = xp.asarray(a), xp.asarray(spd), np.linalg

    def close(found, expected):
        assert str(found.array.dtype) == str(np.asarray(expected).dtype)
        np.testing.assert_allclose(found.array, expected, rtol=2e-4 if dtype == "float32" else 1e-9, atol=1e-4)

    for name in ("det", "inv"):
        close(getattr(xp.linalg, name)(t), getattr(la, name)(a))
    for upper in (False, True):
        close(xp.linalg.cholesky(s, upper=upper), la.cholesky(spd, upper=upper))
    close(xp.linalg.eigvalsh(s), la.eigvalsh(spd))
    close(xp.linalg.eigh(s).eigenvalues, la.eigh(spd).eigenvalues)
    close(xp.linalg.svdvals(t), la.svdvals(a))
    for mode in ("reduced", "complete"):
        found = xp.linalg.qr(t[:, :, :2], mode=mode)
        close(found.Q @ found.R, a[:, :, :2])
        assert found.Q.shape == la.qr(a[:, :, :2], mode=mode).Q.shape
    for full in (True, False):
        found = xp.linalg.svd(t[:, :, :2], full_matrices=full)
        assert [tuple(v.shape) for v in found] == [v.shape for v in la.svd(a[:, :, :2], full_matrices=full)]
        close(found.U[..., :2] * found.S[:, None, :] @ found.Vh, a[:, :, :2])
    close(xp.linalg.slogdet(t).logabsdet, la.slogdet(a).logabsdet)
    for right in (a, a[0], a[0, 0], a[..., :1]):
        close(xp.linalg.solve(s, xp.asarray(right)), la.solve(spd, right))
    close(xp.linalg.solve(s, xp.asarray(a[0, :, :2])), la.solve(spd, a[0, :, :2]))
    for n in (-2, 0, 1, 3):
        close(xp.linalg.matrix_power(s / 8, n), la.matrix_power(spd / 8, n))
    assert xp.linalg.matrix_rank(t).array.tolist() == la.matrix_rank(a).tolist()
    close(xp.linalg.pinv(t[:, :, :2]), la.pinv(a[:, :, :2]))
    for order, keepdims in itertools.product(("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf), (False, True)):
        close(xp.linalg.matrix_norm(t, ord=order, keepdims=keepdims), la.matrix_norm(a, ord=order, keepdims=keepdims))
    for order, axis, keepdims in itertools.product((0, 1, 2, 3.5, -1, np.inf), (None, 0, (0, 2)), (False, True)):
        close(xp.linalg.vector_norm(t, ord=order, axis=axis, keepdims=keepdims),
              la.vector_norm(a, ord=order, axis=axis, keepdims=keepdims).astype(dtype))  # fmt: skip


def test_frequencies():
    for n in (1, 4, 5):
        agrees(xp.fft.fftfreq(n, d=0.5, dtype=xp.float64), np.fft.fftfreq(n, 0.5))
        agrees(xp.fft.rfftfreq(n, d=0.5, dtype=xp.float64), np.fft.rfftfreq(n, 0.5))
    x = np.arange(20.0).reshape(4, 5)
    for axes in (None, 0, (0, 1)):
        agrees(xp.fft.fftshift(xp.asarray(x), axes=axes), np.fft.fftshift(x, axes))
        agrees(xp.fft.ifftshift(xp.asarray(x), axes=axes), np.fft.ifftshift(x, axes))


# ---------------------------------------------------------------------------------------------------- the array object


@pytest.mark.parametrize("dtype", EVERY)
def test_indexing(dtype):
    x = np.resize(values_of(dtype, np.random.default_rng(0)), (3, 4, 5))
    t = xp.asarray(x)
    mask = x.astype(bool)
    for key in (0, -1, (1, -2), slice(None, None, -1), (slice(2, None, -2), ..., slice(4, 0, -3)), ..., (), None,
                (None, 1, ..., None), (slice(0, 0),), (1, 2, 3), (..., 0)):  # fmt: skip
        agrees(t[key], x[key], exact=True)
    agrees(t[xp.asarray(mask)], x[mask], exact=True)
    agrees(t[xp.asarray(mask[:, 0, 0])], x[mask[:, 0, 0]], exact=True)
    agrees(t[xp.asarray(True)], x[np.True_], exact=True)
    where = np.array([2, 0, -1])
    agrees(t[xp.asarray(where), xp.asarray(where), 0], x[where, where, 0], exact=True)
    for key, value in ((0, 1), ((..., slice(None, None, -1)), 0), ((1, 2, 3), 1)):
        ours, theirs = xp.asarray(x, copy=True), x.copy()
        ours[key] = theirs[key] = value
        agrees(ours, theirs, exact=True)
    ours, theirs = xp.asarray(x, copy=True), x.copy()
    ours[xp.asarray(mask)] = 0
    theirs[mask] = 0
    agrees(ours, theirs, exact=True)
    if dtype in INTEGERS:
        top = np.iinfo(dtype).max
        ours[0, 0, 0] = top
        assert int(ours[0, 0, 0]) == top
        assert [10, 11, 12, 13][xp.asarray(2, dtype=getattr(xp, dtype))] == 12


OPERATORS = {
    "__add__": "add", "__sub__": "subtract", "__mul__": "multiply", "__floordiv__": "floor_divide",
    "__mod__": "remainder",
    "__lt__": "less", "__le__": "less_equal", "__gt__": "greater", "__ge__": "greater_equal", "__eq__": "equal",
    "__ne__": "not_equal", "__and__": "bitwise_and", "__or__": "bitwise_or", "__xor__": "bitwise_xor",
    "__truediv__": "divide", "__pow__": "pow", "__lshift__": "bitwise_left_shift", "__rshift__": "bitwise_right_shift",
}  # fmt: skip


@pytest.mark.parametrize("symbol", OPERATORS)
def test_operators(symbol):
    """As the functions, for arrays that all have dimensions (0-d ones follow PyTorch) and for Python numbers."""
    name = OPERATORS[symbol]
    for first, second in itertools.product(BINARY[name], repeat=2):
        if promotable(first, second):
            a, b = (np.abs(values_of(d, np.random.default_rng(0), small=True))[:4] for d in (first, second))
            b = divisors(name, b)
            agrees(getattr(xp.asarray(a), symbol)(xp.asarray(b)), oracle(getattr(np, name), a, b))
    for dtype in BINARY[name]:
        x = np.abs(values_of(dtype, np.random.default_rng(0), small=True))
        number = {"b": True, "f": 2.5}.get(x.dtype.kind, 2)
        agrees(getattr(xp.asarray(x), symbol)(number), oracle(getattr(np, name), x, number))


def test_gradients_pass():
    x = xp.asarray(np.linspace(0.1, 1, 6).reshape(2, 3))
    x.requires_grad_()

    def loss(t):
        parts = xp.concat([xp.sin(t), xp.astype(t, xp.float64) * 2], axis=0)
        return xp.sum(xp.multiply(parts, 3.0)) + xp.linalg.vector_norm(t) + xp.sum(xp.unique_values(t)) + xp.var(t)

    assert ag.gradcheck(loss, (x,))
