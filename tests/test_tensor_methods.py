"""What a Tensor can do besides its operations: operators, new tensors, types, text, NumPy's and DLPack's protocols."""

from __future__ import annotations

import operator

import numpy as np
import pytest

import autograd_core as ag

BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow,
          operator.lt, operator.le, operator.gt, operator.ge, operator.eq, operator.ne]  # fmt: skip
INTEGER = [operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift]
IN_PLACE = [
    operator.iadd,
    operator.isub,
    operator.imul,
    operator.itruediv,
    operator.ifloordiv,
    operator.imod,
    operator.ipow,
]


@pytest.mark.parametrize("call", BINARY, ids=lambda f: f.__name__)
def test_operators(call):
    a, b = np.array([3.5, 1.0, 2.0]), np.array([2.0, 1.0, 4.0])
    for ours, theirs in (
        (ag.tensor(a), ag.tensor(b)),
        (ag.tensor(a), 2),
        (3, ag.tensor(b)),
        (a, ag.tensor(b)),
        (ag.tensor(a), b),
    ):
        plain = [v.numpy() if isinstance(v, ag.Tensor) else v for v in (ours, theirs)]
        got = call(ours, theirs)
        assert isinstance(got, ag.Tensor)
        np.testing.assert_allclose(got.numpy(), call(*plain))


@pytest.mark.parametrize("call", INTEGER, ids=lambda f: f.__name__)
def test_integer_operators(call):
    a, b = np.array([5, 6, 7]), np.array([1, 2, 3])
    np.testing.assert_array_equal(call(ag.tensor(a), ag.tensor(b)).numpy(), call(a, b))
    np.testing.assert_array_equal(call(9, ag.tensor(b)).numpy(), call(9, b))


@pytest.mark.parametrize("call", IN_PLACE, ids=lambda f: f.__name__)
def test_in_place_operators_keep_the_tensor(call):
    x = ag.tensor([3.5, 1.0, 2.0])
    expected = call(x.numpy().copy(), np.float32(2))
    same = x
    same = call(same, 2)
    assert same is x
    np.testing.assert_allclose(x.numpy(), expected)


class Foreign:
    """A class that knows how to be added to tensors."""

    def __radd__(self, other):
        return "added"


def test_foreign_operands():
    x = ag.ones(2)
    assert x + Foreign() == "added"
    assert (x == "text") is False
    assert (x != None) is True  # noqa: E711 (the comparison is what is tested)
    for wrong in ("text", None, [1, 2], object()):
        with pytest.raises(TypeError, match="unsupported operand"):
            x + wrong


def test_weak_numbers():
    assert (ag.ones(2) * 2.5).dtype is ag.float32
    assert (np.float64(2.5) * ag.ones(2)).dtype is ag.float32
    assert (ag.ones(()) * np.float64(2.5)).dtype is (np.float64(2.5) + ag.ones(())).dtype is ag.float32
    assert (ag.ones(2, dtype=ag.int64) + 0.5).dtype is ag.float32
    assert (ag.ones(2) + np.ones(2)).dtype is ag.float64


def test_creation():
    assert ag.zeros(2, 3).shape == ag.zeros((2, 3)).shape == ag.zeros(size=(2, 3)).shape == (2, 3)
    assert ag.full((2,), 3).dtype is ag.int64
    assert ag.full((2,), True).dtype is ag.bool
    assert ag.arange(3).dtype is ag.int64
    assert ag.arange(0.0, 1.0, 0.25).tolist() == [0, 0.25, 0.5, 0.75]
    assert ag.linspace(0, 1, 3, dtype=ag.float64, requires_grad=True).requires_grad
    assert ag.tensor([1.0]).dtype is ag.float32
    assert ag.tensor(np.array([1.0])).dtype is ag.float64
    assert isinstance(ag.zeros_like(np.ones(3)), ag.Tensor | np.ndarray)
    x = ag.ones(2, dtype=ag.float64)
    assert x.new_zeros(3).dtype is ag.float64
    assert x.new_full((2,), 7).tolist() == [7, 7]
    assert x.new_tensor([1, 2]).dtype is ag.float64
    out = ag.empty(3)
    assert ag.arange(3, out=out) is out
    assert out.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    "call",
    [
        lambda: ag.zeros(-1),
        lambda: ag.arange(0, 3, -1),
        lambda: ag.arange(0, 3, 0),
        lambda: ag.eye(-1),
        lambda: ag.linspace(0, 1, -1),
        lambda: ag.ones(2, device="cuda"),
        lambda: ag.ones(2, dtype=ag.int64, requires_grad=True),
        lambda: ag.ones(2).cuda(),
        lambda: ag.ones(2).to("cuda:0"),
        lambda: ag.meshgrid(ag.ones(2, 2)),
        lambda: ag.signal.windows.gaussian(5, std=0),
    ],
)
def test_creation_errors(call):
    with pytest.raises(RuntimeError):
        call()


def test_sharing_and_copying():
    array = np.ones(3)
    assert ag.from_numpy(array).array is array or np.shares_memory(ag.from_numpy(array).array, array)
    assert np.shares_memory(ag.as_tensor(array).array, array)
    assert not np.shares_memory(ag.tensor(array).array, array)
    assert not np.shares_memory(ag.asarray(array, copy=True).array, array)
    t = ag.ones(2)
    assert ag.as_tensor(t) is t
    assert t.to("cpu") is t
    assert t.float() is t
    assert t.contiguous() is t
    assert t.cpu() is t
    assert np.shares_memory(np.from_dlpack(t), t.array)
    assert np.shares_memory(ag.from_dlpack(array).array, array)
    with pytest.raises(BufferError):
        np.from_dlpack(ag.ones(2, requires_grad=True))


def test_types():
    x = ag.tensor([1.5, -2.5], requires_grad=True)
    assert x.double().dtype is ag.float64
    assert x.long().tolist() == [1, -2]
    assert x.type() == "ag.FloatTensor"
    assert x.type(ag.int32).dtype is x.to(ag.ones(1, dtype=ag.int32)).dtype is x.type("ag.IntTensor").dtype is ag.int32
    x.double().sum().backward()
    assert x.grad.dtype is ag.float32
    assert x.grad.tolist() == [1, 1]


def test_attributes():
    x = ag.zeros(2, 3, dtype=ag.float64)
    assert (x.dim(), x.numel(), x.element_size(), x.stride(), x.size(-1)) == (2, 6, 8, (3, 1), 3)
    assert x[1].storage_offset() == 3
    assert x.T.stride() == (1, 3)
    assert not x.T.is_contiguous()
    assert x.device == ag.device("cpu")
    assert not x.is_cuda
    assert not ag.cuda.is_available()
    assert x.is_floating_point()
    assert x.data_ptr() == x.view(-1).data_ptr()
    assert ag.finfo(x.dtype).bits == 64
    assert ag.iinfo(ag.int8).max == 127


def test_numpy_functions_stay_differentiable():
    x = ag.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    loss = np.sum(np.concatenate([np.sin(x), np.ones((1, 2), np.float32) * x[:1]]), axis=0)
    assert isinstance(loss, ag.Tensor)
    np.mean(loss).backward()
    np.testing.assert_allclose(x.grad.numpy(), (np.cos(x.detach().numpy()) + np.array([[1, 1], [0, 0]])) / 2, rtol=1e-6)


@pytest.mark.parametrize(
    "call",
    [
        lambda v: np.max(v, axis=1),
        lambda v: np.var(v, ddof=1),
        np.cumsum,
        np.transpose,
        lambda v: np.tile(v, 2),
        lambda v: np.expand_dims(v, (0, 3)),
        lambda v: np.where(v > 2, v, 0.0),
        lambda v: np.prod(v, axis=(0, 1)),
        lambda v: np.sort(v, axis=0),
        lambda v: np.einsum("ij,kj->ik", v, v),
        lambda v: np.add.reduce(v, 1),
        lambda v: np.split(v, 2)[1],
        lambda v: np.clip(v, 2, 3),
        lambda v: np.stack([v, v], 1),
        lambda v: np.dot(v, v),
        np.linalg.norm,
        lambda v: np.take(v, [1, 0], axis=1),
        lambda v: np.repeat(v, 2, axis=0),
        np.flip,
        lambda v: np.mean(v, axis=0, keepdims=True),
        lambda v: np.power(v, 2),
    ],
)
def test_numpy_functions(call):
    values = np.array([[1.0, 4.0], [3.0, 2.0]])
    got = call(ag.tensor(values))
    assert isinstance(got, ag.Tensor)
    np.testing.assert_allclose(got.numpy(), call(values))


def test_numpy_functions_without_counterpart():
    x = ag.tensor([1.0, 2.0])
    assert type(np.convolve(x, [1.0, 1.0])) is np.ndarray
    with pytest.raises(TypeError, match="no differentiable counterpart"):
        np.convolve(x.requires_grad_(), [1.0, 1.0])
    with pytest.raises(RuntimeError, match="detach"):
        np.asarray(x)
    array = np.zeros(2)
    array += x.detach()
    assert array.tolist() == [1, 2]


TEXTS = [
    (ag.tensor([[1.0, 2.0], [3.0, 4.0]]), "tensor([[1., 2.],\n        [3., 4.]])"),
    (ag.tensor([1.5, float("nan"), -float("inf")]), "tensor([1.5000,    nan,   -inf])"),
    (ag.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    (ag.tensor([1, 20]), "tensor([ 1, 20])"), (ag.tensor([True, False]), "tensor([ True, False])"),
    (ag.tensor(2.0, dtype=ag.float64), "tensor(2., dtype=ag.float64)"), (ag.tensor([]), "tensor([])"),
    (ag.zeros(2, 0), "tensor([], size=(2, 0))"), (ag.ones(1, requires_grad=True), "tensor([1.], requires_grad=True)"),
    (ag.ones(1, requires_grad=True).sin(), "tensor([0.8415], grad_fn=<SinBackward>)"),
    (ag.arange(2000), "tensor([   0,    1,    2,  ..., 1997, 1998, 1999])"),
]  # fmt: skip


@pytest.mark.parametrize(("tensor", "text"), TEXTS, ids=[str(k) for k in range(len(TEXTS))])
def test_text(tensor, text):
    assert repr(tensor) == str(tensor) == text


def test_print_options():
    x = ag.tensor([1.23456, 2.0])
    try:
        ag.set_printoptions(precision=2)
        assert repr(x) == "tensor([1.23, 2.00])"
        ag.set_printoptions(sci_mode=True)
        assert repr(x) == "tensor([1.23e+00, 2.00e+00])"
    finally:
        ag.set_printoptions(profile="default")
    with pytest.raises(ValueError, match="profile"):
        ag.set_printoptions(profile="wide")
