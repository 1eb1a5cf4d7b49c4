"""Optimizers: formulas, every option against PyTorch, groups, hooks, state dicts, differentiable steps, averages."""

import copy
import itertools
import math
import pickle

import numpy as np
import pytest

import autograd_core as ag
import nn
import optim
from optim.swa_utils import AveragedModel, get_ema_avg_fn, get_ema_multi_avg_fn, get_swa_avg_fn, update_bn

WITHOUT_TORCH = "compares with PyTorch, which is not a dependency of the tests: pip install torch==2.13.0"
SHAPES = [(3, 4), (5,), (2, 3, 2), ()]


def gradient(shape, step, which=0):
    """A gradient that changes from step to step, the same on every machine."""
    k = np.arange(math.prod(shape)).reshape(shape)
    return np.sin(1 + 3 * k + 0.7 * step + 5 * which) * (1 + 0.1 * step)


def start(shape, which=0):
    return np.cos(2 * np.arange(math.prod(shape)).reshape(shape) + which)


def parameters(shapes=SHAPES, dtype=ag.float64):
    return [ag.tensor(start(s, i), dtype=dtype).requires_grad_() for i, s in enumerate(shapes)]


def give_gradients(params, step):
    for i, p in enumerate(params):
        p.grad = ag.tensor(gradient(tuple(p.shape), step, i), dtype=p.dtype)


def after(optimizer, params, steps=20):
    for step in range(steps):
        give_gradients(params, step)
        optimizer.step()
    return [p.detach().numpy().copy() for p in params]


# ---------------------------------------------------------------------------------------------------- formulas


def sgd(p, g, s, t, lr, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False):
    g = g + weight_decay * p
    if momentum:
        s["b"] = g if t == 1 else momentum * s["b"] + (1 - dampening) * g
        g = g + momentum * s["b"] if nesterov else s["b"]
    return p - lr * g


def adam(p, g, s, t, lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, amsgrad=False, decoupled=False):
    p, g = (p * (1 - lr * weight_decay), g) if decoupled else (p, g + weight_decay * p)
    s["m"] = betas[0] * s.get("m", 0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0) + (1 - betas[1]) * g * g
    v = s["top"] = np.maximum(s.get("top", 0), s["v"]) if amsgrad else s["v"]
    return p - lr * s["m"] / (1 - betas[0] ** t) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)


def rmsprop(p, g, s, t, lr, alpha=0.99, eps=1e-8, momentum=0.0, centered=False):
    s["v"] = alpha * s.get("v", 0) + (1 - alpha) * g * g
    s["m"] = alpha * s.get("m", 0) + (1 - alpha) * g
    s["b"] = momentum * s.get("b", 0) + g / (np.sqrt(s["v"] - centered * s["m"] ** 2) + eps)
    return p - lr * s["b"]


def adagrad(p, g, s, t, lr, lr_decay=0.0, eps=1e-10, initial_accumulator_value=0.0):
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (np.sqrt(s["sum"]) + eps)


def lion(p, g, s, t, lr, betas=(0.9, 0.99), weight_decay=0.0):
    m = s.get("m", 0)
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p * (1 - lr * weight_decay) - lr * np.sign(betas[0] * m + (1 - betas[0]) * g)


FORMULAS = [
    ("SGD", sgd, {"lr": 0.1}), ("SGD", sgd, {"lr": 0.1, "momentum": 0.9}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    ("SGD", sgd, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("Adam", adam, {"lr": 0.01}), ("Adam", adam, {"lr": 0.01, "weight_decay": 0.1, "amsgrad": True}),
    ("Adam", adam, {"lr": 0.01, "betas": (0.5, 0.6), "eps": 1e-3}),
    ("AdamW", lambda *a, **k: adam(*a, decoupled=True, **k), {"lr": 0.01, "weight_decay": 0.1}),
    ("RMSprop", rmsprop, {"lr": 0.01}), ("RMSprop", rmsprop, {"lr": 0.01, "momentum": 0.9, "centered": True}),
    ("Adagrad", adagrad, {"lr": 0.1}),
    ("Adagrad", adagrad, {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    ("Lion", lion, {"lr": 0.01}), ("Lion", lion, {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "formula", "settings"), FORMULAS)
@pytest.mark.parametrize("maximize", [False, True])
def test_steps_follow_the_formula(name, formula, settings, maximize):
    params = parameters()
    found = after(getattr(optim, name)(params, maximize=maximize, **settings), params)
    for i, shape in enumerate(SHAPES):
        p, state = start(shape, i), {}
        for t in range(1, 21):
            g = gradient(shape, t - 1, i)
            p = formula(p, -g if maximize else g, state, t, **settings)
        np.testing.assert_allclose(found[i], p, rtol=1e-12, atol=1e-13)


RECORDED = [
    ("NAdam", {"lr": 0.01, "weight_decay": 0.1}, (3,), [0.9645168134, -0.3878617019, -0.6687840347]),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.1}, (3,), [0.9577209443, -0.3766015549, -0.686933447]),
    ("RAdam", {"lr": 0.01, "betas": (0.9, 0.6)}, (3,), [0.9683397779, -0.3836391334, -0.6863481632]),
    ("Adamax", {"lr": 0.01}, (3,), [0.9678520186, -0.3825184918, -0.6893884153]),
    ("Adadelta", {"lr": 1.0, "weight_decay": 0.1}, (3,), [0.9859352522, -0.4051304631, -0.6587424238]),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1}, (2, 2), [0.7373977786, -0.2563244298, -0.6201464198, 0.868112144]),
    ("Adafactor", {"lr": 0.1}, (3,), [0.8749799321, -0.2989215138, -0.764000952]),
    ("ASGD", {"lr": 0.02, "lambd": 0.1, "t0": 5}, (3,), [0.897902511, -0.3445897665, -0.6747387309]),
    ("Rprop", {"lr": 0.01}, (3,), [0.9554268752, -0.3715737117, -0.6982167457]),
    ("Muon", {"lr": 0.01}, (2, 3),
     [0.9856129302, -0.3960867886, -0.668485877, 0.9697399731, -0.1517563196, -0.8317647478]),
]
"""Parameters after 20 steps from `start` with the gradients above, in float64, made with PyTorch 2.13."""


@pytest.mark.parametrize(("name", "settings", "shape", "expected"), RECORDED)
def test_steps_give_the_recorded_values(name, settings, shape, expected):
    params = parameters([shape])
    found = after(getattr(optim, name)(params, **settings), params)[0]
    np.testing.assert_allclose(found.ravel(), expected, atol=1e-4 if name == "Muon" else 2e-8)  # Muon: bfloat16 inside


CASES = {
    "SGD": {"momentum": [0, 0.9], "dampening": [0, 0.1], "weight_decay": [0, 0.1], "nesterov": [False, True]},
    "Adam": {"weight_decay": [0, 0.1], "amsgrad": [False, True], "decoupled_weight_decay": [False, True],
             "betas": [(0.9, 0.999), (0.4, 0.3)]},
    "AdamW": {"weight_decay": [0, 0.1], "amsgrad": [False, True]},
    "NAdam": {"weight_decay": [0, 0.1], "momentum_decay": [4e-3, 0.1], "decoupled_weight_decay": [False, True]},
    "RAdam": {"weight_decay": [0, 0.1], "decoupled_weight_decay": [False, True], "betas": [(0.9, 0.999), (0.9, 0.6)]},
    "Adamax": {"weight_decay": [0, 0.1]},
    "RMSprop": {"weight_decay": [0, 0.1], "momentum": [0, 0.9], "centered": [False, True]},
    "Adagrad": {"lr_decay": [0, 0.1], "weight_decay": [0, 0.1], "initial_accumulator_value": [0, 0.3]},
    "Adadelta": {"weight_decay": [0, 0.1], "rho": [0.9, 0.5]},
    "Adafactor": {"weight_decay": [0, 0.1], "d": [1.0, 1.5], "eps": [(None, 1e-3), (1e-3, 0.1)],
                  "beta2_decay": [-0.8, -0.5]},
    "ASGD": {"lambd": [1e-4, 0.1], "t0": [1e6, 5], "weight_decay": [0, 0.1], "alpha": [0.75, 0.5]},
    "Rprop": {"etas": [(0.5, 1.2), (0.3, 2.0)], "step_sizes": [(1e-6, 50), (1e-3, 0.02)]},
    "Muon": {"weight_decay": [0, 0.1], "nesterov": [False, True], "adjust_lr_fn": [None, "match_rms_adamw"]},
    "Lion": {"weight_decay": [0, 0.1]},
}  # fmt: skip
"""Every option of every optimizer that has `init` and `update`."""


def combinations(name):
    for values in itertools.product(*CASES[name].values()):
        settings = {"lr": 0.03, **dict(zip(CASES[name], values, strict=True))}
        if settings.get("nesterov") and name == "SGD" and (not settings["momentum"] or settings["dampening"]):
            continue
        yield settings
        if name != "Muon":
            yield {**settings, "maximize": True}


def shapes_for(name):
    return [(4, 6), (5, 3)] if name == "Muon" else SHAPES


def all_cases():
    return [pytest.param(name, s, id=f"{name}-{i}") for name in CASES for i, s in enumerate(combinations(name))]


@pytest.mark.parametrize("name", [n for n in CASES if n != "Lion"])  # PyTorch has no Lion
@pytest.mark.parametrize("dtype", [ag.float32, ag.float64])
def test_every_option_gives_the_values_of_pytorch(name, dtype):
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    near = 2e-6 if dtype == ag.float32 else 1e-7  # step counts and learning rates that are tensors are float32 there
    near = 3e-4 if name == "Muon" else near  # bfloat16 inside
    for settings, as_tensor in itertools.product(combinations(name), (False, True)):
        params = parameters(shapes_for(name), dtype)
        theirs = [torch.tensor(p.detach().numpy()).requires_grad_() for p in params]
        lr = settings["lr"]
        mine = getattr(optim, name)(params, **{**settings, "lr": ag.tensor(lr) if as_tensor else lr})
        other = getattr(torch.optim, name)(theirs, **{**settings, "lr": torch.tensor(lr) if as_tensor else lr})
        for step in range(20):
            give_gradients(params, step)
            if step % 3 == 0:
                params[1].grad = None
            for p, q in zip(params, theirs, strict=True):
                q.grad = None if p.grad is None else torch.tensor(p.grad.numpy())
            mine.step()
            other.step()
        for p, q in zip(params, theirs, strict=True):
            found, expected = p.detach().numpy(), q.detach().numpy()
            np.testing.assert_allclose(found, expected, rtol=near, atol=near, err_msg=str(settings))
        compare_state_dicts(mine.state_dict(), other.state_dict(), near)


def compare_state_dicts(mine, other, near):
    assert mine["state"].keys() == other["state"].keys()
    for number, expected in other["state"].items():
        found = mine["state"][number]
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert (found[key] is None) == (value is None)
            if value is not None:
                assert found[key].numpy().dtype == value.numpy().dtype
                np.testing.assert_allclose(found[key].numpy(), value.numpy(), rtol=near, atol=near)
    for found, expected in zip(mine["param_groups"], other["param_groups"], strict=True):
        assert found.keys() == expected.keys()


# ---------------------------------------------------------------------------------------------------- ways to step


@pytest.mark.parametrize(("name", "settings"), all_cases())
def test_arrays_and_tensors_give_the_same_step(name, settings):
    plain, recorded = parameters(shapes_for(name)), parameters(shapes_for(name))
    one, other = getattr(optim, name)(plain, **settings), getattr(optim, name)(recorded, **settings)
    for step in range(7):
        give_gradients(plain, step)
        give_gradients(recorded, step)
        one.step()
        with ag.no_grad():
            other._step_tensors(other.param_groups[0])
    for p, q in zip(plain, recorded, strict=True):
        assert q.is_leaf
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in CASES if n not in ("Adafactor", "Muon")])
def test_large_parameters_are_updated_in_pieces_with_the_same_result(name, monkeypatch):
    settings = next(combinations(name))
    whole = parameters([(37, 11)])
    expected = after(getattr(optim, name)(whole, **settings), whole, 4)[0]
    monkeypatch.setattr(optim.optimizer, "CHUNK", 50)
    pieces = parameters([(37, 11)])
    np.testing.assert_array_equal(after(getattr(optim, name)(pieces, **settings), pieces, 4)[0], expected)
    turned = parameters([(37, 11)])
    turned[0].data = ag.tensor(np.asfortranarray(turned[0].detach().numpy()))
    turned[0].array = np.asfortranarray(turned[0].array)
    np.testing.assert_array_equal(after(getattr(optim, name)(turned, **settings), turned, 4)[0], expected)


@pytest.mark.parametrize(("name", "settings"), [
    ("SGD", {"momentum": 0.9, "weight_decay": 0.1}), ("Adam", {"amsgrad": True}), ("AdamW", {}), ("NAdam", {}),
    ("RAdam", {}), ("Adamax", {}), ("RMSprop", {"centered": True, "momentum": 0.5}), ("Adagrad", {}), ("Adadelta", {}),
    ("ASGD", {})])  # fmt: skip
def test_differentiable_steps(name, settings):
    """The gradient of what three steps lead to, with respect to the start, the gradients and the learning rate."""
    p0, lr0 = start((4,)), 0.05

    def run(p, g, lr):
        q = p.clone()
        optimizer = getattr(optim, name)([q], lr=lr, differentiable=True, **settings)
        for step in range(3):
            q.grad = g * (1 + step)
            optimizer.step()
        return (q * q * q).sum()

    values = [p0, gradient((4,), 0), np.array(lr0)]
    if name == "ASGD":
        values.pop()  # its learning rate is a number in the state
    def call(*arrays):
        tensors = [ag.tensor(a).requires_grad_() for a in arrays]
        return run(*tensors, *([lr0] if len(tensors) == 2 else [])), tensors

    out, tensors = call(*values)
    found = ag.grad(out, tensors)
    for which, value in enumerate(values):
        for index in np.ndindex(value.shape):
            ends = []
            for sign in (1, -1):
                moved = [v.copy() for v in values]
                moved[which][index] += sign * 1e-6
                ends.append(call(*moved)[0].item())
            assert found[which].numpy()[index] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_learning_rates_may_be_tensors_and_change():
    params, others = parameters(), parameters()
    lr = ag.tensor(0.1, dtype=ag.float64)
    one, other = optim.Adam(params, lr=lr), optim.Adam(others, lr=0.1)
    for step in range(6):
        if step == 3:
            lr.fill_(0.01)
            other.param_groups[0]["lr"] = np.float64(0.01)  # a NumPy number must not widen float32 either
        for optimizer, group in ((one, params), (other, others)):
            give_gradients(group, step)
            optimizer.step()
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("name", [n for n in CASES if n != "Muon"])
def test_state_keeps_the_dtype_of_the_parameter(name):
    for dtype in (ag.float16, ag.float32):
        params = parameters([(3, 2)], dtype)
        optimizer = getattr(optim, name)(params, lr=np.float64(0.01))
        after(optimizer, params, 2)
        assert params[0].dtype == dtype
        tensors = {k: v for k, v in optimizer.state[params[0]].items() if v is not None and k not in optimizer.scalars}
        assert all(v.dtype == dtype for v in tensors.values())


def test_a_step_is_an_in_place_change():
    w = ag.ones(3, requires_grad=True)
    view = w.detach()
    loss = (w * w).sum()
    w.grad = ag.ones(3)
    optim.SGD([w], lr=0.5).step()
    assert view.tolist() == [0.5] * 3
    with pytest.raises(RuntimeError, match=r"in-place[\s\S]*changed at .*test_optim.py"):
        loss.backward()


def test_training_reaches_the_minimum():
    target = ag.tensor([1.0, -2.0, 3.0])
    for name, lr, steps in (("SGD", 0.1, 100), ("Adam", 0.1, 300), ("RMSprop", 0.05, 300), ("Rprop", 0.1, 100),
                            ("Lion", 0.01, 800), ("Adagrad", 1.0, 200), ("Adamax", 0.1, 300),
                            ("NAdam", 0.1, 300)):  # fmt: skip
        w = ag.zeros(3, requires_grad=True)
        optimizer = getattr(optim, name)([w], lr=lr)
        for _ in range(steps):
            optimizer.zero_grad()
            ((w - target) ** 2).sum().backward()
            optimizer.step()
        np.testing.assert_allclose(w.detach().numpy(), target.numpy(), atol=0.05, err_msg=name)


# ---------------------------------------------------------------------------------------------------- L-BFGS


def rosenbrock(w):
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


@pytest.mark.parametrize("settings", [{}, {"history_size": 2}])
def test_lbfgs_finds_the_bottom_of_the_valley(settings):
    w = ag.tensor([-1.2, 1.0], dtype=ag.float64).requires_grad_()
    optimizer = optim.LBFGS([w], max_iter=30, tolerance_change=1e-14, line_search_fn="strong_wolfe", **settings)
    calls = 0

    def closure():
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = rosenbrock(w)
        loss.backward()
        return loss

    for _ in range(6):
        first = optimizer.step(closure)
    np.testing.assert_allclose(w.detach().numpy(), [1, 1], atol=1e-5)
    assert float(first.detach()) < 1e-6
    assert optimizer.state[w]["func_evals"] == calls


@pytest.mark.parametrize("settings", [
    {}, {"lr": 0.1}, {"line_search_fn": "strong_wolfe"}, {"max_iter": 4, "history_size": 2, "lr": 0.3},
    {"line_search_fn": "strong_wolfe", "max_iter": 5, "history_size": 3}])  # fmt: skip
def test_lbfgs_takes_the_steps_of_pytorch(settings):
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    results = []
    for library, maker in ((torch, torch.optim.LBFGS), (ag, optim.LBFGS)):
        w, b = (library.tensor(start(s, 1)).requires_grad_() for s in ((5,), (1,)))
        a, y = library.tensor(gradient((30, 5), 0)), library.tensor(gradient((30,), 3))
        optimizer = maker([w, b], **settings)

        def closure(w=w, b=b, a=a, y=y, optimizer=optimizer):
            optimizer.zero_grad()
            loss = ((a @ w + b - y) ** 2).sum() + ((w * w - 1) ** 2).sum() * 3
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(3)]
        results.append((*losses, *w.detach().numpy(), *b.detach().numpy()))
    np.testing.assert_allclose(results[1], results[0], rtol=1e-9)


def test_lbfgs_state_survives_saving():
    def problem():
        w = ag.tensor([-1.2, 1.0], dtype=ag.float64).requires_grad_()
        optimizer = optim.LBFGS([w], max_iter=5)

        def closure():
            optimizer.zero_grad()
            loss = ((w - 3) ** 4).sum()
            loss.backward()
            return loss

        return w, optimizer, closure

    w, optimizer, closure = problem()
    optimizer.step(closure)
    v, other, again = problem()
    with ag.no_grad():
        v.copy_(w)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    optimizer.step(closure)
    other.step(again)
    np.testing.assert_array_equal(v.detach().numpy(), w.detach().numpy())
    with pytest.raises(ValueError, match="groups"):
        optim.LBFGS([{"params": [w]}, {"params": [v]}])
    with pytest.raises(RuntimeError, match="strong_wolfe"):
        optim.LBFGS([w], line_search_fn="armijo").step(closure)


# ---------------------------------------------------------------------------------------------------- groups and state


def test_groups_have_their_own_settings():
    a, b, c = parameters([(2,), (2,), (2,)])
    optimizer = optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5, "momentum": 0.9}], lr=0.1)
    optimizer.add_param_group({"params": [c], "weight_decay": 0.1})
    assert [g["lr"] for g in optimizer.param_groups] == [0.1, 0.5, 0.1]
    before = [p.detach().numpy().copy() for p in (a, b, c)]
    give_gradients([a, b, c], 0)
    optimizer.step()
    for p, old, lr in zip((a, b, c), before, (0.1, 0.5, 0.1), strict=True):
        g = p.grad.numpy() + (0.1 * old if p is c else 0)
        np.testing.assert_allclose(p.detach().numpy(), old - lr * g, rtol=1e-12)
    assert "SGD (" in repr(optimizer)
    assert "Parameter Group 2" in repr(optimizer)


def test_parameters_may_have_names():
    model = nn.Linear(2, 3)
    optimizer = optim.AdamW(model.named_parameters())
    assert optimizer.param_groups[0]["param_names"] == ["weight", "bias"]
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight", "bias"]
    with pytest.raises(ValueError, match="names"):
        optimizer.add_param_group({"params": [ag.ones(1, requires_grad=True)]})


@pytest.mark.parametrize("name", list(CASES))
def test_saved_state_goes_on_as_if_nothing_had_happened(name):
    settings = list(combinations(name))[-1]
    make = getattr(optim, name)
    params = parameters(shapes_for(name))
    optimizer = make(params, **settings)
    after(optimizer, params, 5)
    saved = pickle.loads(pickle.dumps(optimizer.state_dict()))  # noqa: S301 (our own bytes)
    others = [p.detach().clone().requires_grad_() for p in params]
    other = make(others, **{**settings, "lr": 123.0})
    other.load_state_dict(saved)
    assert other.param_groups[0]["lr"] == settings["lr"]
    after(optimizer, params, 5)
    after(other, others, 5)
    for p, q in zip(params, others, strict=True):
        np.testing.assert_array_equal(p.detach().numpy(), q.detach().numpy())


@pytest.mark.parametrize("name", [n for n in CASES if n != "Lion"])
def test_state_goes_to_and_from_pytorch(name):
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    settings = list(combinations(name))[-1]
    params = parameters(shapes_for(name))
    theirs = [torch.tensor(p.detach().numpy()).requires_grad_() for p in params]
    mine, other = getattr(optim, name)(params, **settings), getattr(torch.optim, name)(theirs, **settings)

    def step(number):
        give_gradients(params, number)
        for p, q in zip(params, theirs, strict=True):
            q.grad = torch.tensor(p.grad.numpy())

    for number in range(3):
        step(number)
        other.step()
    for p, q in zip(params, theirs, strict=True):
        p.data = ag.tensor(q.detach().numpy())
    mine.load_state_dict(other.state_dict())
    for number in range(3, 6):
        step(number)
        mine.step()
        other.step()
    state = mine.state_dict()
    state["state"] = {k: {n: torch.tensor(v.numpy()) for n, v in s.items()} for k, s in state["state"].items()}
    other.load_state_dict(state)
    for number in range(6, 9):
        step(number)
        mine.step()
        other.step()
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), atol=3e-4 if name == "Muon" else 1e-7)


def test_loading_checks_the_groups():
    params = parameters()
    optimizer = optim.SGD(params)
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match="number of parameter groups"):
        optim.SGD([{"params": params[:2]}, {"params": params[2:]}]).load_state_dict(state)
    with pytest.raises(ValueError, match="size of"):
        optim.SGD(params[:2]).load_state_dict(state)
    assert state["state"] == {}
    assert state["param_groups"][0]["params"] == [0, 1, 2, 3]


def test_optimizers_can_be_copied_and_pickled():
    params = parameters()
    optimizer = optim.Adam(params)
    after(optimizer, params, 2)
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):  # noqa: S301 (our own bytes)
        theirs = twin.param_groups[0]["params"]
        assert theirs[0] is not params[0]
        assert twin.state[theirs[0]]["step"].item() == 2
        twin.step()
        twin.register_step_post_hook(lambda *_: None)


def test_zero_grad():
    params = parameters()
    optimizer = optim.SGD(params)
    give_gradients(params, 0)
    kept = params[0].grad
    optimizer.zero_grad(set_to_none=False)
    assert not params[0].grad.numpy().any()
    assert not kept.numpy().any()
    optimizer.zero_grad()
    assert params[0].grad is None
    optimizer.step()  # nothing to do
    optim.SGD(parameters(), foreach=True)
    optim.Adam(parameters(), fused=True, capturable=True)


# ---------------------------------------------------------------------------------------------------- hooks


def test_hooks_and_closures():
    w = ag.ones(2, requires_grad=True)
    optimizer = optim.SGD([w], lr=0.1)
    calls = []
    handles = [optimizer.register_step_pre_hook(lambda o, args, kwargs: calls.append("pre")),
               optimizer.register_step_post_hook(lambda o, args, kwargs: calls.append("post")),
               optim.optimizer.register_optimizer_step_pre_hook(lambda o, args, kwargs: calls.append("all")),
               optim.optimizer.register_optimizer_step_post_hook(lambda *_: calls.append("after all"))]  # fmt: skip

    def closure():
        calls.append("closure")
        assert ag.is_grad_enabled()
        optimizer.zero_grad()
        loss = (w * w).sum()
        loss.backward()
        return loss

    with ag.no_grad():
        assert optimizer.step(closure).item() == 2
    assert calls == ["all", "pre", "closure", "post", "after all"]
    for handle in handles:
        handle.remove()
    optimizer.step(closure)
    assert calls[5:] == ["closure"]
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, closure), {}))
    assert optimizer.step().item() == pytest.approx((w * w).sum().item() / 0.64)


def test_state_dict_hooks():
    optimizer = optim.SGD(parameters(), lr=0.1)
    calls = []
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("second"))
    optimizer.register_state_dict_pre_hook(lambda o: calls.append("first"), prepend=True)
    optimizer.register_state_dict_post_hook(lambda o, d: {**d, "extra": 1})
    state = optimizer.state_dict()
    assert calls == ["first", "second"]
    assert state["extra"] == 1
    faster = [{**state["param_groups"][0], "lr": 7.0}]
    optimizer.register_load_state_dict_pre_hook(lambda o, d: {**d, "param_groups": faster})
    optimizer.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    optimizer.load_state_dict(state)
    assert optimizer.param_groups[0]["lr"] == 7.0
    assert calls[-1] == "loaded"


def test_an_optimizer_of_ones_own():
    class SignDescent(optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def update(self, parameter, gradient, state, group):
            return parameter - ag.ops.sign(gradient) * group["lr"], {}

    class Classic(optim.Optimizer):
        def __init__(self, params, lr=optim.optimizer.required):
            super().__init__(params, {"lr": lr})

        @ag.no_grad()
        def step(self, closure=None):
            for group in self.param_groups:
                for p in group["params"]:
                    self.state[p]["seen"] = self.state[p].get("seen", 0) + 1
                    p.add_(p.grad, alpha=-group["lr"])

    for make in (SignDescent, lambda p: Classic(p, lr=0.1)):
        w = ag.ones(2, requires_grad=True)
        w.grad = ag.tensor([1.0, -1.0])
        optimizer = make([w])
        seen = []
        optimizer.register_step_post_hook(lambda *_, seen=seen: seen.append(1))
        optimizer.step()
        np.testing.assert_allclose(w.detach().numpy(), [0.9, 1.1], rtol=1e-6)
        assert seen == [1]
    with pytest.raises(ValueError, match="required"):
        Classic([w])
    with pytest.raises(NotImplementedError):
        optim.Optimizer([w], {"lr": 1}).step()


# ---------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(("name", "settings"), [
    ("SGD", {"lr": -1}), ("SGD", {"momentum": -1}), ("SGD", {"weight_decay": -1}), ("SGD", {"nesterov": True}),
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}), ("SGD", {"lr": math.nan}),
    ("Adam", {"betas": (1.0, 0.9)}), ("Adam", {"betas": (0.9, -0.1)}), ("Adam", {"eps": -1}),
    ("AdamW", {"weight_decay": -1}), ("NAdam", {"momentum_decay": -1}), ("RAdam", {"lr": -1}), ("Adamax", {"eps": -1}),
    ("RMSprop", {"alpha": -1}), ("Adagrad", {"lr_decay": -0.5}), ("Adadelta", {"rho": 1.1}),
    ("Adafactor", {"beta2_decay": 1}), ("Adafactor", {"d": 0.5}), ("Adafactor", {"eps": (-1, 1)}),
    ("Adafactor", {"eps": (None, -1)}), ("ASGD", {"weight_decay": -0.5}),
    ("Rprop", {"etas": (1.0, 0.5)}), ("Lion", {"betas": (0.9, 1.0)}), ("LBFGS", {"lr": -1}), ("Muon", {"lr": -1}),
    ("Muon", {"adjust_lr_fn": "other"}), ("Muon", {"ns_steps": 100}), ("SGD", {"lr": ag.ones(2)}),
])  # fmt: skip
def test_wrong_settings_are_refused(name, settings):
    with pytest.raises(ValueError, match=r"\w"):
        getattr(optim, name)(parameters([(2, 2)]), **settings)


def test_wrong_parameters_are_refused():
    w = ag.ones(2, requires_grad=True)
    twice = [{"params": [w]}, {"params": [w]}]
    for params, error in (([], ValueError), (w, TypeError), ([1.0], TypeError), ([w * 2], ValueError),
                          ([{"params": {w}}], TypeError), (twice, ValueError),
                          ([("w", w), ag.ones(1)], ValueError)):  # fmt: skip
        with pytest.raises(error):
            optim.SGD(params)
    with pytest.warns(UserWarning, match="duplicate"):
        optim.SGD([w, w])
    with pytest.raises(RuntimeError, match="fused"):
        optim.SGD([w], fused=True, differentiable=True)
    with pytest.raises(RuntimeError, match="foreach"):
        optim.Adam([w], fused=True, foreach=True)
    with pytest.raises(ValueError, match="2D"):
        optim.Muon([w])
    with pytest.raises(TypeError, match="dict"):
        optim.SGD([w]).add_param_group([w])


# ---------------------------------------------------------------------------------------------------- averages


def small_model():
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))


@pytest.mark.parametrize(("arguments", "weight"), [
    ({}, lambda n: 1 / (n + 1)), ({"avg_fn": get_swa_avg_fn()}, lambda n: 1 / (n + 1)),
    ({"avg_fn": get_ema_avg_fn(0.9)}, lambda n: 0.1), ({"multi_avg_fn": get_ema_multi_avg_fn(0.9)}, lambda n: 0.1),
    ({"use_buffers": True}, lambda n: 1 / (n + 1))])  # fmt: skip
def test_averages_of_models(arguments, weight):
    model = small_model()
    average = AveragedModel(model, **arguments)
    assert isinstance(average, nn.Module)
    assert isinstance(average, AveragedModel)
    expected = None
    for count in range(4):
        with ag.no_grad():
            for p in model.parameters():
                p.add_(ag.randn_like(p))
        average.update_parameters(model)
        now = model[0].weight.detach().numpy().copy()
        expected = now if count == 0 else expected + (now - expected) * weight(count)
    np.testing.assert_allclose(average.module[0].weight.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    assert average.n_averaged.item() == 4
    assert set(average.state_dict()) == {"n_averaged", *[f"module.{k}" for k in model.state_dict()]}
    assert average(ag.randn(5, 3)).shape == (5, 1)
    twin = copy.deepcopy(average)
    assert twin.n_averaged.item() == 4
    with pytest.raises(AssertionError):
        AveragedModel(model, avg_fn=get_swa_avg_fn(), multi_avg_fn=get_ema_multi_avg_fn())
    with pytest.raises(ValueError, match="decay"):
        get_ema_multi_avg_fn(1.5)
    with pytest.raises(TypeError, match="Module"):
        AveragedModel(3)


def test_update_bn_works_out_the_statistics_of_the_data():
    model = small_model().eval()
    data = ag.randn(40, 3)
    update_bn([(data[:20], None), (data[20:], None)], model)
    hidden = model[0](data).detach().numpy()
    halves = hidden[:20], hidden[20:]
    np.testing.assert_allclose(model[1].running_mean.numpy(), hidden.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(model[1].running_var.numpy(), np.mean([h.var(0, ddof=1) for h in halves], 0), rtol=1e-4)
    assert model[1].momentum == 0.1
    assert not model.training
