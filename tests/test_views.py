"""In-place changes through views: values against the same steps in NumPy, gradients against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import autograd_core as ag


def halves(x, w):
    first, second = x.chunk(2)
    first.mul_(w[2:])
    second.add_(first)
    return x


def halves_twin(x, w):
    x[:2] *= w[2:]
    x[2:] += x[:2]
    return x


def through_unbind(x, w):
    rows = x.unbind(0)
    rows[1].mul_(w[0])
    rows[3].copy_(rows[1])
    return x


def unbind_twin(x, w):
    x[1] *= w[0]
    x[3] = x[1]
    return x


def base_after_view(x, w):
    row = x[1]
    x.mul_(2)
    x[0] = row * w[0]
    return x + row


def base_after_view_twin(x, w):
    x *= 2
    x[0] = x[1] * w[0]
    return x + x[1]


def sibling(x, w):
    left, right = x[:, :2], x[:, 1:]
    left.mul_(w[:, :2])
    return right * right


def sibling_twin(x, w):
    x[:, :2] *= w[:, :2]
    return x[:, 1:] ** 2


def swap_rows(x, w):
    top = x[0].clone()
    x[0] = x[1]
    x[1] = top * w[1]
    return x


def swap_rows_twin(x, w):
    x[0], x[1] = x[1].copy(), x[0] * w[1]
    return x


def of_untracked(x, w):
    buffer = ag.zeros(4, 3, dtype=ag.float64)
    view = buffer[1:3]
    view[0] = x[0]
    buffer[:, 2] += w[:, 0]
    return buffer * view[0]


def of_untracked_twin(x, w):
    buffer = np.zeros((4, 3))
    buffer[1] = x[0]
    buffer[:, 2] += w[:, 0]
    return buffer * buffer[1]


def steps(*pairs):
    """A program of statements, each a function of (x, w) in Tensors and its twin in arrays; the result is x."""

    def run(x, w):
        for ours, _ in pairs:
            ours(x, w)
        return x

    def twin(x, w):
        for _, theirs in pairs:
            theirs(x, w)
        return x

    return run, twin


def put(index, value):
    """``x[index] = value(x, w)``, the same for Tensors and arrays."""

    def run(x, w):
        x[index] = value(x, w)

    return run, run


def times(look, numpy_look=None):
    """Multiply a view of x in place by the matching view of w."""

    def ours(x, w):
        look(x).mul_(look(w))

    def theirs(x, w):
        part = (numpy_look or look)(x)
        part *= (numpy_look or look)(w).copy()

    return ours, theirs


def chained(x, w):
    x[0][1:3] += w[0][1:3]
    x[:, ::2][1] *= w[1][::2]
    x[-1, ...] -= 1


PROGRAMS = {
    "chain of indices": steps((chained, chained)),
    "transpose": steps(times(lambda t: t.T)),
    "transpose then row": steps(times(lambda t: t.T[1])),
    "reshape": steps(times(lambda t: t.reshape(2, 6)[1])),
    "view and select": steps(times(lambda t: t.view(2, 2, 3).select(1, 0), lambda a: a.reshape(2, 2, 3)[:, 0])),
    "narrow": steps(times(lambda t: t.narrow(0, 1, 2), lambda a: a[1:3])),
    "squeeze of unsqueeze": steps(times(lambda t: t.unsqueeze(1)[2:].squeeze(1), lambda a: a[2:])),
    "permute": steps(times(lambda t: t.permute(1, 0)[:2], lambda a: a.T[:2])),
    "movedim": steps(times(lambda t: t.movedim(0, 1)[0], lambda a: a.T[0])),
    "diagonal": steps(times(lambda t: t.diagonal(-1), lambda a: a.reshape(-1)[3::4])),
    "expand of one": steps(times(lambda t: t[:, None].expand(4, 1, 3), lambda a: a[:, None])),
    "flatten": steps(times(lambda t: t.flatten()[::5], lambda a: a.reshape(-1)[::5])),
    "unflatten": steps(times(lambda t: t.unflatten(0, (2, 2))[1], lambda a: a.reshape(2, 2, 3)[1])),
    "split": steps(times(lambda t: t.split([1, 3])[1], lambda a: a[1:])),
    "tensor_split": steps(times(lambda t: t.tensor_split(3)[0], lambda a: a[:2])),
    "negative step": steps(times(lambda t: t[::-2])),
    "one element": steps(times(lambda t: t[1, 2].view(1), lambda a: a[1, 2:])),
    "windows without overlap": steps(times(lambda t: t.unfold(0, 2, 2)[1], lambda a: a[2:].T)),
    "assign number": steps(put((slice(None), 1), lambda x, w: 2.0)),
    "assign broadcast": steps(put(slice(1, 3), lambda x, w: w[0] * 2)),
    "assign from itself": steps(put(0, lambda x, w: x[1] * w[0])),
    "assign by integers": steps(put((np.array([0, 2]), np.array([1, 1])), lambda x, w: w[0, :2])),
    "assign by list and slice": steps(put(([3, 1], slice(0, 2)), lambda x, w: w[:2, :2])),
    "assign by mask": steps(put(np.arange(12).reshape(4, 3) % 3 == 0, lambda x, w: w[:, 0])),
    "assign through a view": steps((lambda x, w: x[1:].__setitem__(0, w[0]), lambda x, w: x[1:].__setitem__(0, w[0]))),
    "assign, then more": steps(put(0, lambda x, w: w[0]), times(lambda t: t), put((1, 1), lambda x, w: x[0, 0])),
    "chunk": (halves, halves_twin), "unbind": (through_unbind, unbind_twin), "sibling": (sibling, sibling_twin),
    "base after view": (base_after_view, base_after_view_twin), "swapped rows": (swap_rows, swap_rows_twin),
    "buffer without gradient": (of_untracked, of_untracked_twin),
}  # fmt: skip


def drawn():
    rng = np.random.default_rng(3)
    return rng.uniform(0.5, 2, (4, 3)), rng.uniform(0.5, 2, (4, 3)), rng.normal(size=(4, 3))


def result_of(program, x, w, weights, track):
    x, w = ag.tensor(x, requires_grad=track), ag.tensor(w, requires_grad=track)
    out = program(x * 1, w)
    return out, (out * ag.tensor(weights[:, : out.shape[1]])).sum(), x, w


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_those_of_numpy(name):
    program, twin = PROGRAMS[name]
    x, w, weights = drawn()
    expected = twin(x.copy(), w.copy())
    for track in (False, True):
        np.testing.assert_allclose(result_of(program, x, w, weights, track)[0].detach().numpy(), expected, rtol=1e-14)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients_are_finite_differences(name):
    program, _ = PROGRAMS[name]
    x, w, weights = drawn()
    _, loss, tx, tw = result_of(program, x, w, weights, True)
    got = ag.grad(loss, [tx, tw], allow_unused=True, materialize_grads=True)
    for which, values in enumerate((x, w)):
        expected = np.zeros_like(values)
        for place in np.ndindex(values.shape):
            pair = []
            for step in (1e-6, -1e-6):
                moved = values.copy()
                moved[place] += step
                args = (moved, w) if which == 0 else (x, moved)
                pair.append(result_of(program, *args, weights, False)[1].item())
            expected[place] = (pair[0] - pair[1]) / 2e-6
        np.testing.assert_allclose(got[which].numpy(), expected, rtol=1e-6, atol=1e-7)


VIEWS = {
    "reshape": lambda t: t.reshape(3, 4),
    "view": lambda t: t.view(-1),
    "T": lambda t: t.T,
    "mT": lambda t: t.mT,
    "squeeze": lambda t: t.squeeze(),
    "unsqueeze": lambda t: t.unsqueeze(0),
    "flatten": lambda t: t.flatten(),
    "expand": lambda t: t.expand(2, 4, 3),
    "permute": lambda t: t.permute(1, 0),
    "select": lambda t: t.select(0, 1),
    "narrow": lambda t: t.narrow(1, 0, 2),
    "diagonal": lambda t: t.diagonal(),
    "unfold": lambda t: t.unfold(0, 2, 1),
    "chunk": lambda t: t.chunk(2)[1],
    "split": lambda t: t.split(1)[2],
    "unbind": lambda t: t.unbind(1)[0],
    "index": lambda t: t[1:, None, ..., -1],
    "one element": lambda t: t[1, 2],
    "detach": lambda t: t.detach(),
    "view as bytes": lambda t: t.view(ag.uint8),
    "swapaxes": lambda t: t.swapaxes(0, 1),
    "hsplit": lambda t: t.hsplit(3)[1],
    "broadcast_to": lambda t: t.broadcast_to((2, 4, 3)),
    "atleast_3d": ag.atleast_3d,
    "unflatten": lambda t: t.unflatten(0, (2, 2)),
    "from 0-d integer": lambda t: t[ag.tensor(1)],
}


@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name):
    base = ag.ones(4, 3)
    look = VIEWS[name](base)
    assert np.shares_memory(look.array, base.array)
    base.zero_()
    assert not look.array.any()


COPIES = {
    "clone": lambda t: t.clone(),
    "flip": lambda t: t.flip(0),
    "roll": lambda t: t.roll(1),
    "integers": lambda t: t[[0, 1]],
    "mask": lambda t: t[t > 0],
    "repeat": lambda t: t.repeat(1, 1),
    "tile": lambda t: t.tile(1),
    "cat": lambda t: ag.cat([t]),
    "diag": lambda t: t.diag(),
    "contiguous": lambda t: t.T.contiguous(),
    "tril": lambda t: t.tril(),
    "to": lambda t: t.to(ag.float32, copy=True),
}


@pytest.mark.parametrize("name", COPIES)
def test_copies_do_not(name):
    base = ag.ones(4, 3)
    assert not np.shares_memory(COPIES[name](base).array, base.array)


def test_leaves_are_protected():
    x = ag.ones(3, requires_grad=True)
    for change in (
        lambda: x.mul_(2),
        lambda: x[0].mul_(2),
        lambda: x.__setitem__(0, 1.0),
        lambda: x.view(3).__setitem__(0, 1.0),
    ):
        with pytest.raises(RuntimeError, match="leaf"):
            change()
    with ag.no_grad():
        x[0] = 5.0
    assert x.tolist() == [5, 1, 1]


def test_saved_values_are_protected():
    x = ag.ones(4, requires_grad=True)
    y = x * 1
    z = (y * y).sum()
    y[:2].mul_(3)
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        z.backward()


def test_overwritten_factor_is_an_error():
    x = ag.ones(2, 2, requires_grad=True)
    y = x * 1
    y[0] = y[1] * y[0]
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        y.sum().backward()


def test_disjoint_writes_raise_no_alarm():
    x = ag.ones(4, requires_grad=True)
    y = x * 1
    z = (y[:2] * y[:2]).sum()
    y[2:].mul_(3)
    z.backward()
    assert x.grad.tolist() == [2, 2, 0, 0]


def test_expanded_memory_is_not_written():
    x = ag.ones(3, 1)
    with pytest.raises(RuntimeError, match="share one memory location"):
        x.expand(3, 4).add_(1)
    with pytest.raises(RuntimeError, match="share one memory location"):
        ag.ones(4).unfold(0, 2, 1).mul_(2)
    x.expand(3, 4)[:, :1].add_(1)
    assert x.tolist() == [[2], [2], [2]]


def test_view_needs_the_memory_to_allow_it():
    with pytest.raises(RuntimeError, match="reshape"):
        ag.ones(3, 4).T.view(12)


def test_shape_in_place():
    x = ag.arange(6.0).reshape(2, 3).requires_grad_()
    y = x * 1
    y.t_().mul_(2).unsqueeze_(0)
    assert y.shape == (1, 3, 2)
    y.sum().backward()
    assert x.grad.tolist() == [[2, 2, 2], [2, 2, 2]]
    z = ag.ones(2, 3)
    row = z[0]
    z.t_()
    with pytest.raises(RuntimeError, match="make the view anew"):
        row + 1


def test_second_derivative_through_a_view():
    x = ag.tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = x * x
    y[1:].mul_(x[:2])
    (first,) = ag.grad(y.sum(), x, create_graph=True)  # x0^2 + x0 x1^2 + x1 x2^2
    np.testing.assert_allclose(first.detach().numpy(), [2 * 1 + 4, 2 * 1 * 2 + 9, 2 * 2 * 3])
    (second,) = ag.grad(first[2], x)
    np.testing.assert_allclose(second.numpy(), [0, 6, 4])
