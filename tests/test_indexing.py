"""Indexing against NumPy: ints, slices, None and ... first, as a view; then what arrays pick from it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import autograd_core as ag

RNG = np.random.default_rng(0)
PARTS = {
    "int": 1,
    "negative": -1,
    "slice": slice(0, 2),
    "step": slice(None, None, 2),
    "all": slice(None),
    "none": None,
    "list": [1, 0],
    "rows": np.array([0, 1, 1]),
    "grid": np.array([[1, 0], [-1, 1]]),
    "mask": "mask",
    "true": True,
}
PAIRS = list(itertools.product(PARTS, repeat=2))


def filled(names, shape):
    """An index of the named parts, masks fitted to the dimension that they stand for."""
    index, dim = [], 0
    for name in names:
        part = PARTS[name]
        if name == "mask":
            part = np.arange(shape[dim]) % 2 == 0
        index.append(part)
        dim += part is not None and part is not True
    return tuple(index)


def twin(array, index):
    """The basic parts first, then the arrays, each in two plain steps of NumPy."""
    basic, later = [], []
    for part in index:
        if part is True:
            basic.append(None)
            later.append(np.zeros(1, int))
        elif isinstance(part, (list, np.ndarray)):
            basic.append(slice(None))
            later.append(part)
        else:
            basic.append(part)
            later += [slice(None)] * (not isinstance(part, int))
    return array[tuple(basic)], tuple(later)


@pytest.mark.parametrize(("first", "second"), PAIRS)
@pytest.mark.parametrize(
    "wrap", [tuple, lambda parts: tuple(ag.tensor(p) if isinstance(p, np.ndarray) else p for p in parts)]
)
def test_two_parts(first, second, wrap):
    values = RNG.normal(size=(3, 4, 2))
    index = filled((first, second), values.shape)
    view, later = twin(values.copy(), index)
    try:
        expected = view[later]
    except IndexError:
        with pytest.raises(IndexError):
            ag.tensor(values)[wrap(index)]
        return
    leaf = ag.tensor(values, requires_grad=True)
    got = leaf[wrap(index)]
    np.testing.assert_array_equal(got.detach().numpy(), expected)
    weights = RNG.normal(size=expected.shape)
    (got * ag.tensor(weights)).sum().backward()
    counted = np.zeros_like(values)
    np.add.at(twin(counted, index)[0], later, weights)
    np.testing.assert_allclose(leaf.grad.numpy(), counted)


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_assignment(first, second):
    values = RNG.normal(size=(3, 4, 2))
    index = filled((first, second), values.shape)
    expected = values.copy()
    view, later = twin(expected, index)
    try:
        shape = view[later].shape
    except IndexError:
        with pytest.raises((IndexError, RuntimeError)):
            ag.tensor(values)[index] = 1.0
        return
    new = RNG.normal(size=shape[1:])
    view[later] = new
    for track in (False, True):
        target, value = ag.tensor(values) * 1, ag.tensor(new, requires_grad=track)
        target[index] = value
        np.testing.assert_array_equal(target.detach().numpy(), expected)
        if track:
            target.sum().backward()
            assert value.grad.sum().item() == pytest.approx(np.prod(shape))


def test_casts_as_pytorch():
    whole = ag.arange(4)
    whole[1] = 2.9
    whole[ag.tensor([True, False, False, True])] = ag.tensor(7.5)
    assert whole.tolist() == [7, 2, 2, 7]


def test_bytes_are_masks():
    assert ag.arange(3)[ag.tensor([1, 0, 1], dtype=ag.uint8)].tolist() == [0, 2]


@pytest.mark.parametrize("index", [[0.5], "a", (0, 0, 0), np.array([0.0]), 5, np.array([4]), (..., ..., [0]), object()])
def test_wrong_indices(index):
    with pytest.raises((IndexError, TypeError, RuntimeError)):
        ag.zeros(3, 2)[index]


def test_index_of_a_0d_tensor():
    number = ag.tensor(3.0)
    with pytest.raises(IndexError, match="item"):
        number[0]
    assert number[...].shape == ()
    assert number[None].shape == (1,)
    assert number[True].shape == (1,)


def test_scatter_with_reductions():
    base, index = ag.tensor([1.0, 5.0, 2.0]), ag.tensor([0, 0, 2])
    source = ag.tensor([3.0, 3.0, 0.0], requires_grad=True)
    results = {"sum": [7, 5, 2], "prod": [9, 5, 0], "mean": [7 / 3, 5, 1], "amax": [3, 5, 2], "amin": [1, 5, 0]}
    for reduce, expected in results.items():
        np.testing.assert_allclose(base.scatter_reduce(0, index, source, reduce).detach().numpy(), expected, rtol=1e-6)
    base.scatter_reduce(0, index, source, "amax").sum().backward()
    assert source.grad.tolist() == [0.5, 0.5, 0]


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.gather(0, ag.tensor([[3]])),
        lambda x: x.gather(0, ag.tensor([0])),
        lambda x: x.index_select(0, ag.tensor([-1])),
        lambda x: x.scatter(0, ag.tensor([[0]]), ag.ones(1, 1, dtype=ag.float64)),
        lambda x: x.index_add(0, ag.tensor([0]), ag.ones(2)),
        lambda x: x.masked_fill(ag.tensor([1, 0]), 0.0),
        lambda x: x.masked_scatter(x == x, ag.ones(1)),
        lambda x: x.take(ag.tensor([9])),
    ],
)
def test_errors(call):
    with pytest.raises((RuntimeError, IndexError)):
        call(ag.ones(3, 2))
