"""Changes in place: what has a right result gets it, what would give a silently wrong one is a clear error."""

import numpy as np
import pytest

import autograd_core as ag
import nn.functional as F


def leaf(*shape):
    return ag.tensor(np.random.default_rng(len(shape) + sum(shape)).uniform(0.5, 2, shape), requires_grad=True)


def overwritten_factor(x):
    y = x * 2
    y *= y
    return y


def chained(x):
    return (x * 1).exp_().sin_().mul_(3)


def value_used_by_its_own_update(x):
    y = x + 5
    y /= y.sum()
    y -= y.mean()
    return y * x


def rows_of_a_recurrence(x):
    h = ag.zeros(3, dtype=ag.float64)
    for i in range(5):
        h = h.clone()
        h[i % 3] = h[(i + 1) % 3] * x[i % 3] + x[(i + 1) % 3]
    return h


def views_of_views(x):
    y = (x * 1).repeat(4, 1)
    part, row = y[1:][:, 2], y[2]
    part.mul_(3)
    return row * row


def swapped(x):
    y = x * 1
    y[[0, 1]] = y[[1, 0]]
    return y * x


def activation(x):
    return F.relu(x * 1 - 1, inplace=True) + 1


PROGRAMS = [overwritten_factor, chained, value_used_by_its_own_update, rows_of_a_recurrence, views_of_views, swapped,
            activation]  # fmt: skip


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda f: f.__name__)
def test_first_and_second_derivatives(program):
    assert ag.gradcheck(program, (leaf(3),))
    assert ag.gradgradcheck(program, (leaf(3),))


def refused(match, program):
    with pytest.raises(RuntimeError, match=match):
        program()


def test_a_view_made_without_grad_does_not_bypass_the_history():
    x = leaf(4)
    y = x * 1
    with ag.no_grad():
        of_result, of_leaf = y[:2], x[:2]
    for change in (lambda: of_result.mul_(2), lambda: of_result[0].mul_(2), lambda: of_result.__setitem__(0, 1.0)):
        refused("made under no_grad", change)
    refused("leaf", lambda: of_leaf.mul_(2))


def test_a_leaf_is_protected_through_views_made_before_it_was_one():
    b = ag.zeros(4)
    view = b[:2]
    b.requires_grad_()
    refused("view of a leaf", lambda: view.add_(1))
    assert b.tolist() == [0, 0, 0, 0]


def test_a_kept_gradient_is_that_of_the_new_value():
    x = leaf(3)
    y = x * 2
    y.retain_grad()
    y.mul_(3)
    y.sum().backward()
    assert y.grad.tolist() == [1, 1, 1]
    assert x.grad.tolist() == [6, 6, 6]
    base = x * 2
    base.retain_grad()
    base[0].mul_(5)
    base.sum().backward()
    assert base.grad.tolist() == [1, 1, 1]


def identity():
    class Identity(ag.autograd.Function):
        forward = staticmethod(lambda ctx, x: x)
        backward = staticmethod(lambda ctx, g: g * 2)

    return Identity.apply


def as_a_row():
    class Row(ag.autograd.Function):
        forward = staticmethod(lambda ctx, x: x.view(1, -1))
        backward = staticmethod(lambda ctx, g: g.view(-1) * 2)

    return Row.apply


@pytest.mark.parametrize("make", [identity, as_a_row])
def test_what_a_function_returns_of_its_input_is_not_written(make):
    """Its history is the user's: a change could neither reach the input's nor be told from it."""
    x = leaf(3)
    z = x * 1
    y = make()(z)
    refused("shares its input's memory", lambda: y.mul_(2))
    z.mul_(3)
    refused("shares its input's memory", y.sum)


def test_what_a_function_made_itself_may_be_written_through_a_view():
    class Doubled(ag.autograd.Function):
        forward = staticmethod(lambda ctx, x: (x * 2).view(1, -1))
        backward = staticmethod(lambda ctx, g: g.view(-1) * 2)

    x = leaf(3)
    Doubled.apply(x).mul_(3).sum().backward()
    assert x.grad.tolist() == [6, 6, 6]


class Doubling(ag.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        x.mul_(2)
        ctx.mark_dirty(x)
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2


def test_a_function_that_writes_its_input():
    x = leaf(4)
    y = x * 1
    view = y[:2]
    assert Doubling.apply(y) is y
    view.sum().backward()
    assert x.grad.tolist() == [2, 2, 0, 0]
    x.grad = None
    y = x * 1
    Doubling.apply(y[:2])
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 1, 1]
    refused("leaf", lambda: Doubling.apply(leaf(4)))


def test_checkpoint_refuses_inputs_that_were_changed():
    x, w = leaf(3), leaf(3)
    h = x * 1
    y = ag.checkpoint(lambda t: t * t, h)
    h.mul_(2)
    refused("input of a checkpointed function", lambda: y.sum().backward())
    y = ag.checkpoint(lambda t: t * w, x)
    with ag.no_grad():
        w.mul_(2)
    refused("input of a checkpointed function", lambda: y.sum().backward())


def test_checkpoint_hands_views_on():
    x = leaf(3)
    h = x * 1
    y = ag.checkpoint(lambda t: (t.view(3, 1), t * t), h)[0]
    y.mul_(2)
    (h.sum() + y.sum()).backward()
    assert x.grad.tolist() == [4, 4, 4]


def test_writes_through_data_and_detach_are_seen():
    for alias in (lambda t: t.data, lambda t: t.detach()):
        x = leaf(3)
        y = x * 1
        z = y * y
        alias(y).add_(1)
        refused("modified by an in-place operation", lambda z=z: z.sum().backward())


def test_optimizer_steps_between_two_backwards():
    w, v = leaf(3), leaf(3)
    fake = w * 2
    (fake * v).sum().backward(retain_graph=True)
    before = v.detach().clone()
    with ag.no_grad():
        v -= 0.1 * v.grad
    (fake * v).sum().backward()  # recorded with the new v: the first use is not walked again
    assert np.allclose(w.grad.numpy(), 2 * (before + v.detach()).numpy())
    stale = (w * v).exp().sum()
    with ag.no_grad():
        v.mul_(2)
    refused("modified by an in-place operation", stale.backward)


def test_writing_the_output_of_one_view_keeps_the_others_current():
    x = leaf(6)
    y = x * 1
    first, second = y.chunk(2)
    inner = second[1:]
    y.mul_(2)
    first.add_(second)
    inner.mul_(10)
    ((first * inner[0]) + second).sum().backward()

    def twin(a):
        a = a * 2
        top, low = a[:3] + a[3:], np.array([a[3], a[4] * 10, a[5] * 10])
        return (top * low[1] + low).sum()

    base, step = x.detach().numpy(), 1e-6
    numeric = [(twin(base + step * e) - twin(base - step * e)) / (2 * step) for e in np.eye(6)]
    assert np.allclose(x.grad.numpy(), numeric)


def test_the_history_of_a_written_base_costs_no_copy_of_it():
    """The values of the base are there already: only the node is made."""
    import tracemalloc

    x, base = leaf(1), ag.zeros(200_000, dtype=ag.float64)
    base[0] = x[0]
    tracemalloc.start()
    base[1] = x[0]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < base.nbytes / 10


def test_writes_through_numpy_are_found_when_asked_for():
    x, w = ag.tensor(np.ones(3)), leaf(3)
    with ag.autograd.detect_writes():
        loss = (x * w).exp().sum()
        x.numpy()[0] = 5
    refused(r"(?s)mul saved.*changed through a NumPy array.*saved by mul.*x \* w", loss.backward)
    with ag.autograd.detect_writes():
        loss = (x * w).exp().sum()
    loss.backward()
    assert np.allclose(w.grad.numpy(), (x * (x * w).exp()).detach().numpy())


def test_large_arrays_are_written_where_they_lie():
    rng = np.random.default_rng(0)
    values, others = rng.standard_normal((2, 300, 1000)).astype(np.float32)
    for name, args in (("relu_", ()), ("mul_", (2.5,)), ("add_", (ag.tensor(others),)), ("exp_", ()),
                       ("clamp_", (-0.5, 0.5)), ("sub_", (ag.tensor(others[:1]),))):  # fmt: skip
        x = ag.tensor(values.copy())
        array, expected = x.array, getattr(ag.tensor(values), name[:-1])(*args)
        assert getattr(x, name)(*args) is x
        assert x.array is array
        np.testing.assert_array_equal(array, expected.numpy())


def test_large_arrays_that_share_memory_with_an_operand():
    values = np.random.default_rng(0).standard_normal((600, 600)).astype(np.float32)
    x = ag.tensor(values.copy())
    x.add_(x.t())
    np.testing.assert_array_equal(x.numpy(), values + values.T)
    line = ag.tensor(values.ravel().copy())
    line[1:].add_(line[:-1])
    np.testing.assert_array_equal(line.numpy()[1:], values.ravel()[1:] + values.ravel()[:-1])
    x = ag.tensor(values.copy(), requires_grad=True)
    y = x * 2
    y.mul_(y)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 8 * values, rtol=1e-5)
