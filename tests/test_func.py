"""``ag.func``: against formulas, nested in each other, with nested arguments, and connected where they should be."""

import numpy as np
import pytest

import autograd_core as ag
import nn
from autograd_core import func


def vector(seed=0, size=3):
    return ag.tensor(np.random.default_rng(seed).uniform(0.5, 2, size))


def same(found, expected):
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-10)


def test_gradients_of_gradients():
    x = ag.tensor(1.5, dtype=ag.float64)
    same(func.grad(lambda t: t**3)(x), 3 * 1.5**2)
    same(func.grad(func.grad(lambda t: t**3))(x), 6 * 1.5)
    same(func.grad(func.grad(func.grad(lambda t: t**4)))(x), 24 * 1.5)


def test_results_have_a_history_only_where_the_caller_has_a_part():
    x, w = vector(), vector(1).requires_grad_()
    assert not func.grad(lambda t: (t**3).sum())(x).requires_grad
    assert not func.jacrev(lambda t: t**3)(x).requires_grad
    assert not func.jvp(lambda t: t**3, (x,), (x,))[1].requires_grad
    assert func.grad(lambda t: (t**3 * w).sum())(x).requires_grad
    assert func.grad(lambda t: (t**3).sum())(w).requires_grad
    with ag.no_grad():
        assert not func.grad(lambda t: (t**3).sum())(w).requires_grad
    (second,) = ag.grad(func.grad(lambda t: (t**3).sum())(w).sum(), w)
    same(second, 6 * w.detach().numpy())


def test_arguments_by_number_and_nested():
    x, y = vector(), vector(1)
    first, second = func.grad(lambda a, b: (a * b * b).sum(), argnums=(0, 1))(x, y)
    same(first, y.numpy() ** 2)
    same(second, 2 * x.numpy() * y.numpy())
    same(func.grad(lambda a, b: (a * b).sum(), argnums=-1)(x, y), x.numpy())
    found = func.grad(lambda d: (d["w"][0] ** 2 * d["k"]).sum())({"w": [x], "k": y})
    same(found["w"][0], 2 * x.numpy() * y.numpy())
    jacobian = func.jacrev(lambda d: d["w"] ** 2)({"w": x})
    same(jacobian["w"], np.diag(2 * x.numpy()))


def test_aux_and_values():
    x = vector()
    grads, aux = func.grad(lambda t: ((t**2).sum(), t + 1), has_aux=True)(x)
    same(grads, 2 * x.numpy())
    same(aux, x.numpy() + 1)
    grads, value = func.grad_and_value(lambda t: (t**2).sum())(x)
    same(value, (x.numpy() ** 2).sum())
    jacobian, aux = func.jacrev(lambda t: (t**2, t + 1), has_aux=True)(x)
    same(jacobian, np.diag(2 * x.numpy()))
    assert not aux.requires_grad
    with pytest.raises(RuntimeError, match="has_aux"):
        func.grad(lambda t: t.sum(), has_aux=True)(x)


def test_products_and_jacobians():
    x, v = vector(), vector(1)
    out, pull = func.vjp(lambda t: t**2, x)
    same(out, x.numpy() ** 2)
    for _ in range(2):
        same(pull(v)[0], 2 * x.numpy() * v.numpy())
    same(func.jvp(lambda t: t**2, (x,), (v,))[1], 2 * x.numpy() * v.numpy())
    out, push = func.linearize(lambda t: t**2, x)
    same(push(v), 2 * x.numpy() * v.numpy())
    same(func.jacfwd(lambda t: t**2)(x), np.diag(2 * x.numpy()))
    same(func.hessian(lambda t: (t**3).sum())(x), np.diag(6 * x.numpy()))
    first, second = func.jacrev(lambda t: (t**2, t.sum()))(x)
    same(first, np.diag(2 * x.numpy()))
    same(second, np.ones(3))


def test_gradients_of_each_sample():
    layer = nn.Linear(3, 2)
    parameters = {name: p.detach() for name, p in layer.named_parameters()}
    batch = ag.tensor(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))

    def loss(given, row):
        return func.functional_call(layer, given, (row,)).pow(2).sum()

    found = func.vmap(func.grad(loss), in_dims=(None, 0))(parameters, batch)
    assert found["weight"].shape == (4, 2, 3)
    layer.zero_grad()
    layer(batch).pow(2).sum().backward()
    np.testing.assert_allclose(found["weight"].numpy().sum(0), layer.weight.grad.numpy(), rtol=1e-5)


def test_vmap_of_an_ensemble_and_of_nothing():
    weights, biases = ag.tensor(np.random.default_rng(1).normal(size=(5, 2, 3))), ag.tensor(np.ones((5, 2)))
    x = ag.tensor(np.random.default_rng(2).normal(size=(4, 3)))
    found = ag.vmap(nn.functional.linear, in_dims=(None, 0, 0))(x, weights, biases)
    same(found, np.einsum("nk,emk->enm", x.numpy(), weights.numpy()) + 1)
    assert ag.vmap(lambda t: t * 2)(ag.ones(0, 3)).shape == (0, 3)
