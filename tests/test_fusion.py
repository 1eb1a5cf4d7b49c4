"""Fused loops: the language, the generated kernels over shapes, strides, lanes and threads, and what eager does."""
from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from kernel_kit import run_everywhere, strided_like
from naive import fused_loop

import autograd_core as ag
import nn.functional as F
import optim
from autograd_core import fusion, registry
from autograd_core.kernels import cache, plan
from autograd_core.kernels.elementwise import plan_loop
from autograd_core.modes import Watcher
from autograd_core.ops.samples import build
from autograd_core.symbolic import NotFusable, Trace, loop_from_text
from optim import optimizer

SIZES = (1, 3, 16, 37, 4096, 5000, 40_001)


def draw(*shape, dtype="float32", seed=0):
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "b":
        return rng.random(shape) < 0.5
    if np.dtype(dtype).kind in "iu":
        return rng.integers(0, 20, shape).astype(dtype)
    return rng.uniform(0.2, 3, shape).astype(dtype)


def close(found, expected, dtype, factor=16):
    tolerance = factor * np.finfo(dtype).eps if np.dtype(dtype).kind == "f" else 0
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


# ---------------------------------------------------------------------------------------------------- generated kernels


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_flat_loop(dtype):
    text = "s = 1 / (1 + exp(-x)); y = x * s * rate if x > w else sqrt(abs(w))"
    loop = loop_from_text(text, {"x": dtype, "w": dtype}, {"rate": 0.5}, ["s", "y"])
    for size in SIZES:
        x, w = draw(size, dtype=dtype) - np.dtype(dtype).type(1.5), draw(size, dtype=dtype, seed=1)
        expected = fused_loop(loop, (x, w), (0.5,))
        for _, found in run_everywhere(plan_loop, (x, w, np.array([0.5])), loop=loop):
            close(found[0], expected[0], dtype)
            close(found[1], expected[1], dtype)
            assert found[0].dtype == dtype


@pytest.mark.parametrize("shapes", [((5, 7), (7,)), ((5, 1), (5, 7)), ((4, 1, 33), (2, 1), ()), ((3, 5, 40), (5, 1)),
                                    ((0, 4), (4,)), ((2, 3, 4, 5), (3, 1, 5)), ((600, 1), (1, 50))])  # fmt: skip
def test_broadcasting(shapes):
    names = "abc"[: len(shapes)]
    loop = loop_from_text(f"y = exp({' - '.join(names)})", dict.fromkeys(names, "float32"), {}, ["y"])
    arrays = [draw(*shape, seed=i) for i, shape in enumerate(shapes)]
    (expected,) = fused_loop(loop, arrays)
    for _, found in run_everywhere(plan_loop, arrays, loop=loop):
        assert found.shape == expected.shape
        close(found, expected, "float32")


@pytest.mark.parametrize("kinds", [("C", "F"), ("F", "F"), ("gaps", "C"), ("reversed", "offset")])
def test_strides(kinds):
    loop = loop_from_text("y = a * b + a", {"a": "float64", "b": "float64"}, {}, ["y"])
    a, b = (strided_like(draw(7, 37, dtype="float64", seed=i), kind) for i, kind in enumerate(kinds))
    for _, found in run_everywhere(plan_loop, (a, b), loop=loop):
        close(found, a * b + a, "float64", 2)
    refused = plan.execute(plan_loop, (a, b), loop=loop, gather=False)
    assert (refused is NotImplemented) == (kinds[0] != kinds[1])


def test_dtypes_and_masks():
    text = "big = x > n and not_small; y = (x + n) if big else n * 2; z = mask if n == 3 else mask != mask"
    kinds = {"x": "float32", "n": "int32", "not_small": "bool", "mask": "bool"}
    loop = loop_from_text(text, kinds, {}, ["big", "y", "z"])
    arrays = [draw(101, dtype=d, seed=i) * (8 if d == "float32" else 1) for i, d in enumerate(kinds.values())]
    arrays = [a.astype(d) for a, d in zip(arrays, kinds.values(), strict=True)]
    x, n, not_small, mask = arrays
    for _, (big, y, z) in run_everywhere(plan_loop, arrays, loop=loop):
        np.testing.assert_array_equal(big, (x > n) & not_small)
        close(y, np.where((x > n) & not_small, x + n, n * 2), "float32", 2)
        np.testing.assert_array_equal(z, np.where(n == 3, mask, False))
        assert (big.dtype, y.dtype, z.dtype) == (bool, np.float32, bool)


@pytest.mark.parametrize("dtype", ["int32", "int64"])
def test_whole_numbers(dtype):
    text = "y = a << b; z = a >> b; v = gcd(a, b); w = lcm(a, b); n = ~a"
    loop = loop_from_text(text, {"a": dtype, "b": dtype}, {}, ["y", "z", "v", "w", "n"])
    rng = np.random.default_rng(0)
    a, b = rng.integers(-99, 99, (2, 517)).astype(dtype)
    a[:5], b[2:7] = 0, 0
    for _, (y, z, v, w, n) in run_everywhere(plan_loop, (a, b), lanes=(4, 16), loop=loop):
        np.testing.assert_array_equal(y, np.left_shift(a, b))
        np.testing.assert_array_equal(z, np.right_shift(a, b))
        np.testing.assert_array_equal(v, np.gcd(a, b))
        np.testing.assert_array_equal(w, np.lcm(a, b))
        np.testing.assert_array_equal(n, ~a)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_remainders_and_neighbours(dtype):
    names = ["fmod", "remainder", "floor_divide", "nextafter", "hypot", "atan2"]
    text = "; ".join([f"{n}_ = {n}(a, b)" for n in names])
    loop = loop_from_text(text, {"a": dtype, "b": dtype}, {}, [f"{n}_" for n in names])
    rng, kind = np.random.default_rng(0), np.finfo(dtype)
    special = [0, -0.0, 1, -1, np.inf, -np.inf, np.nan, kind.max, kind.tiny, kind.smallest_subnormal, 7, 1e-3]
    with np.errstate(all="ignore"):
        some = [np.repeat(special, len(special)), rng.uniform(-50, 50, 700), 10 ** rng.uniform(-30, 30, 300),
                rng.integers(-9, 9, 300)]  # fmt: skip
        others = [np.tile(special, len(special)), rng.uniform(-5, 5, 700), 10 ** rng.uniform(-30, 30, 300),
                  rng.integers(-4, 4, 300)]  # fmt: skip
        a, b = np.concatenate(some).astype(dtype), np.concatenate(others).astype(dtype)
        expected = [np.fmod(a, b), np.remainder(a, b), np.floor_divide(a, b), np.nextafter(a, b), np.hypot(a, b),
                    np.arctan2(a, b)]  # fmt: skip
    for _, found in run_everywhere(plan_loop, (a, b), lanes=(4, 16), loop=loop):
        for name, got, wanted in zip(names, found, expected, strict=True):
            bound = {"hypot": 1, "atan2": 2}.get(name, 0)
            np.testing.assert_allclose(got, wanted, rtol=bound * kind.eps, err_msg=name)
            if name in ("fmod", "remainder", "nextafter", "atan2"):
                signs = np.signbit(got) == np.signbit(wanted)
                assert (signs | np.isnan(wanted)).all(), name


def test_integers():
    text = "y = a * 3 - b; z = a if a > b else b; w = a & b"
    loop = loop_from_text(text, {"a": "int64", "b": "int64"}, {}, ["y", "z", "w"])
    a, b = draw(1003, dtype="int64"), draw(1003, dtype="int64", seed=1)
    for _, (y, z, w) in run_everywhere(plan_loop, (a, b), loop=loop):
        np.testing.assert_array_equal(y, a * 3 - b)
        np.testing.assert_array_equal(z, np.maximum(a, b))
        np.testing.assert_array_equal(w, a & b)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min"])
@pytest.mark.parametrize(("shape", "axes"), [((5000,), 1), ((3, 1000), 1), ((7, 33, 5), 2), ((40_001,), 1),
                                             ((4, 2500), 2), ((6, 1), 1)])  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_reductions(reduce, shape, axes, dtype):
    loop = loop_from_text("y = x * x - 1", {"x": dtype}, {}, ["y", "y"], [reduce, ""])
    x = draw(*shape, dtype=dtype)
    over = tuple(range(len(shape) - axes, len(shape)))
    expected = getattr(np, reduce)(x.astype(np.float64) ** 2 - 1, axis=over)
    lanes = (4, 8, 16) if (reduce, dtype) == ("sum", "float32") else (16,)  # the lanes' part is the same in all
    for _, (total, y) in run_everywhere(plan_loop, (x,), lanes=lanes, loop=loop, axes=axes):
        close(total, expected, dtype, 8)
        close(y, x * x - 1, dtype, 4)
        assert total.shape == shape[: len(shape) - axes]


def test_reduction_of_broadcast_rows():
    loop = loop_from_text("y = exp(x - m)", {"x": "float32", "m": "float32"}, {}, ["y"], ["sum"])
    x, m = draw(6, 5, 2000), draw(5, 1, seed=1)
    for _, found in run_everywhere(plan_loop, (x, m), loop=loop, axes=2):
        close(found, np.exp(x - m).sum((1, 2), dtype=np.float64), "float32")


def test_nan_and_infinity():
    x = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1] * 9, np.float32)
    loop = loop_from_text("y = x if x > 0 else 0.5 * x; m = max(x, 0)", {"x": "float32"}, {}, ["y", "m"])
    y, m = plan.execute(plan_loop, (x,), loop=loop)
    np.testing.assert_array_equal(y, np.where(x > 0, x, np.float32(0.5) * x))
    np.testing.assert_array_equal(m, np.maximum(x, 0))
    sums = loop_from_text("y = x", {"x": "float32"}, {}, ["y"] * 3, ["max", "min", "sum"])
    assert np.isnan(plan.execute(plan_loop, (x,), loop=sums, axes=1)).all()


def test_equal_steps_are_written_once():
    loop = loop_from_text("a = exp(x) + 1; b = (exp(x) + 1) * exp(x); c = log(x)", {"x": "float32"}, {}, ["b"])
    assert [step[0] for step in loop.steps] == ["exp", "+", "*"]


def test_what_the_language_cannot_say():
    with pytest.raises(NotFusable):
        loop_from_text("y = 2 ** n", {"n": "int64"}, {}, ["y"])
    with pytest.raises(NotFusable):
        loop_from_text("y = n << 2", {"n": "float32"}, {}, ["y"])
    trace = Trace()
    with pytest.raises(NotFusable):
        bool(trace.input("float32") > 0)
    with pytest.raises(NotFusable):
        float(trace.number(2.0))


def test_numbers_leave_guards():
    trace = Trace()
    n = trace.number(2.0)
    assert n > 1
    assert 1 - n != 0
    holds = fusion.guard(trace)
    assert holds([3.0])
    assert not holds([0.5])
    assert not holds([1.0])


# ---------------------------------------------------------------------------------------------------- the disk cache

SECOND_PROCESS = """
import sys
import numpy as np
from autograd_core import fusion
from autograd_core.registry import OPS
record = OPS["nn.functional.softplus"]
x = np.linspace(-3, 3, 300_000, dtype=np.float32)
found = fusion.fused_op(record)(x, 1.0, 20.0)
assert found is not NotImplemented
assert np.allclose(found, np.log1p(np.exp(x)), atol=1e-6)
print("numba" in sys.modules)
"""


def test_a_second_process_compiles_nothing(tmp_path):
    environment = {**os.environ, "AG_CACHE": str(tmp_path)}

    def run():
        done = subprocess.run([sys.executable, "-c", SECOND_PROCESS], env=environment, capture_output=True, text=True,
                              check=True)  # fmt: skip
        return done.stdout.strip()

    assert run() == "True"
    (file,) = tmp_path.rglob("loop-*.py")
    text = file.read_text(encoding="utf-8")
    assert text.startswith("# nn.functional.softplus(input, beta, threshold) = input if input * beta > threshold")
    assert run() == "False"
    assert re.fullmatch(r"loop-[0-9a-f]{16}\.py", file.name)
    assert cache.folder() is not None


# ---------------------------------------------------------------------------------------------------- traces of records

ELEMENTWISE = {name: op for name, op in sorted(registry.OPS.items())
               if op.family in (*registry.FUSED, registry.comparison) and name == op.qualified}  # fmt: skip


def arguments_of(op, number):
    """The arrays (float32) and settings of a sample, as the body gets them."""
    args, kwargs = build(op.samples[number], seed=number, dtype=np.float32)
    seen = []

    class Look(Watcher):
        def call(self, called, given, settings):
            if called is op and not seen:
                arrays = [g.array if isinstance(g, ag.Tensor) else g for g in given]
                settings = op.prepare(arrays, settings) if op.prepare else settings
                seen.append((op.promote(arrays) if op.promote else arrays, settings))
            return super().call(called, given, settings)

    with Look():
        op.public(*[ag.tensor(a) if isinstance(a, np.ndarray) else a for a in args], **kwargs)
    return seen[0] if seen else ([], {})


def values_of(fused, arguments):
    """What the loop of a function works out for these arguments, step by step; None if there is none."""
    written = fused.trace(arguments)
    if written is None:
        return None
    return fused_loop(written[1], [a for a in arguments if type(a) is np.ndarray], fused.numbers(arguments))[0]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_records_and_their_gradients_as_loops(name):
    """Every scalar expression says what the body does, and traced gradient rules what the rules do."""
    op, tried = ELEMENTWISE[name], 0
    for number in range(len(op.samples)):
        arrays, settings = arguments_of(op, number)
        if not any(type(a) is np.ndarray for a in arrays):
            continue
        with np.errstate(all="ignore"):
            expected = op.function(*arrays, **settings)
        found = values_of(fusion.fused_op(op), (*arrays, *settings.values())) if op.scalar else None
        if found is not None:
            tried += 1
            assert found.dtype == expected.dtype
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        if op.outputs is not None or not isinstance(expected, np.ndarray):
            continue
        known = dict(zip(op.parameters, arrays, strict=True)) | settings | {"out": expected, "g": draw(*expected.shape)}
        for rule, array in zip(op.vjp or (), arrays, strict=False):
            names = rule.__code__.co_varnames[: rule.__code__.co_argcount] if rule else ()
            if type(array) is not np.ndarray or array.dtype.kind != "f" or not names or not known.keys() >= set(names):
                continue
            given = [known[n] for n in names]
            found = values_of(fusion.fused_rule(op, rule), given)
            if found is not None:
                tried += 1
                with np.errstate(all="ignore"):
                    expected_gradient = np.broadcast_to(rule(*given), found.shape)
                np.testing.assert_allclose(found, expected_gradient, rtol=1e-5, atol=1e-6)
    if not tried:
        pytest.skip("integers alone, or nothing of it is elementwise arithmetic")


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0, -0.0, 1, -1, 1e30, -1e30, 1e-30, 1e-42, -1e-42, 3e38, -3e38, 100, -100,
                    20.5, -20.5, 0.5, -0.5], np.float32)  # fmt: skip


OF_BITS = ("bitwise", "gcd", "lcm")  # which fractions have none of


@pytest.mark.parametrize("name", [n for n, op in ELEMENTWISE.items() if op.scalar and not n.startswith(OF_BITS)])
def test_scalar_expressions_at_special_values(name):
    op = ELEMENTWISE[name]
    parameters = inspect.signature(eval(f"lambda {op.signature}: 0")).parameters  # noqa: S307 (the record's own text)
    without = 2 if name == "polygamma" else 0.3  # whose order is whole
    settings = {k: without if parameters[k].default is inspect.Parameter.empty else parameters[k].default
                for k in op.settings}  # fmt: skip
    arrays = [a.ravel() for a in np.meshgrid(*[SPECIAL] * len(op.parameters))]
    if name == "where":
        arrays[0] = arrays[0] > 0
    with np.errstate(all="ignore"):
        expected = op.function(*arrays, **settings)
        found = values_of(fusion.fused_op(op), (*arrays, *settings.values()))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-44)


# ---------------------------------------------------------------------------------------------------- eager


def plainly(monkeypatch):
    monkeypatch.setattr(fusion.Fused, "__call__", lambda self, *arguments: NotImplemented)


LARGE = [
    lambda x, y: F.gelu(x), lambda x, y: F.gelu(x, "tanh") * y, lambda x, y: F.silu(x) - 2.5,
    lambda x, y: ag.tanh(x) / y,
    lambda x, y: F.softplus(x, 2.0) + y[0], lambda x, y: F.elu(x, 0.5), lambda x, y: ag.where(x > 0.3, x * x, y**2),
    lambda x, y: ag.erf(x) * y[:, :1], lambda x, y: ag.clamp(x, -0.5, 0.5) * x.T.contiguous().T,
]  # fmt: skip


@pytest.mark.parametrize(("call", "dtype"), [
    *((call, "float32") for call in LARGE), *((call, "float64") for call in LARGE[::4])])  # fmt: skip
def test_large_ops_and_gradients(call, dtype, monkeypatch):
    """Forward, gradient and second gradient of large arrays, against the same functions without fused loops."""
    results = []
    for fused in (True, False):
        if not fused:
            plainly(monkeypatch)
        x, y = (ag.tensor(draw(300, 1000, dtype=dtype, seed=s), requires_grad=True) for s in (0, 1))
        out = call(x - 1.5, y)
        gx, gy = ag.grad(out, (x, y), ag.ones_like(out), create_graph=True, allow_unused=True)
        (again,) = ag.grad(gx, x, ag.ones_like(gx), allow_unused=True)
        results.append([r for r in (out, gx, gy, again) if r is not None])
    for found, expected in zip(*results, strict=True):
        assert found.dtype == expected.dtype
        close(found.detach().numpy(), expected.detach().numpy(), dtype, 64)


def test_large_arrays_are_fused_and_errors_stay():
    x = ag.tensor(draw(400, 1000), requires_grad=True)
    record = registry.OPS["nn.functional.gelu"]
    fused = fusion.fused_op(record)
    assert fused(x.array, "none") is not NotImplemented
    assert fused(x.array[:, ::2], "none") is NotImplemented
    assert fused(x.array.astype(np.float16), "none") is NotImplemented
    with pytest.raises(RuntimeError, match="approximate"):
        F.gelu(x, approximate="other")
    with pytest.raises(RuntimeError, match="lambd"):
        F.softshrink(x, -1.0)
    F.softshrink(x, 1.0)
    with pytest.raises(RuntimeError, match="lambd"):
        F.softshrink(x, -2.0)


def loops_of(fused):
    return {variant.loop for variants in fused.variants.values() for variant in variants}


def test_numbers_do_not_make_new_loops():
    fused = fusion.fused_op(registry.OPS["mul"])
    x = draw(400, 1000)
    for factor in (0.5, 3, 1e-3, 7.25):
        np.testing.assert_array_equal(fused(x, factor), x * np.float32(factor))
    assert len(loops_of(fused)) == 1
    powers = fusion.fused_op(registry.OPS["pow"])
    for exponent in (2, 3, 0.5, 2.5, 1.5, 0.3):
        close(powers(x, exponent), x**exponent, "float32")
    assert len(loops_of(powers)) == 4


# ---------------------------------------------------------------------------------------------------- optimizers

ALGORITHMS = [
    ("SGD", {}), ("SGD", {"momentum": 0.9}), ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("Adam", {}), ("Adam", {"weight_decay": 0.1, "maximize": True}), ("AdamW", {"amsgrad": True}), ("NAdam", {}),
    ("RAdam", {}), ("Adamax", {}), ("RMSprop", {}), ("RMSprop", {"centered": True, "momentum": 0.5}), ("Adagrad", {}),
    ("Adadelta", {}), ("ASGD", {}), ("Rprop", {}), ("Lion", {"weight_decay": 0.1}),
]  # fmt: skip


def steps(name, settings, monkeypatch, together, dtype="float32"):
    monkeypatch.setattr(optimizer, "TOGETHER", together)
    shapes = [(100, 70), (70,), (1,), (5000,), (3, 4, 5), (12_000,)]
    params = [ag.tensor(draw(*s, dtype=dtype, seed=i), requires_grad=True) for i, s in enumerate(shapes)]
    params.append(ag.tensor(np.asfortranarray(draw(40, 30, dtype=dtype)), requires_grad=True))
    made = getattr(optim, name)(params, **settings)
    for step in range(8):
        made.param_groups[0]["lr"] = 0.01 / (1 + step)
        for i, p in enumerate(params):
            p.grad = None if (i, step) == (1, 3) else ag.tensor(draw(*p.shape, dtype=dtype, seed=100 * step + i) - 1)
        made.step()
    return made, [p.detach().numpy() for p in params]


@pytest.mark.parametrize(("name", "settings", "dtype"), [
    *((*a, "float32") for a in ALGORITHMS), *((*a, "float64") for a in ALGORITHMS[2::4])
], ids=lambda v: v if isinstance(v, str) else "-".join(v))  # fmt: skip
def test_optimizers_in_one_launch(name, settings, dtype, monkeypatch):
    made, found = steps(name, settings, monkeypatch, 1, dtype)
    variants = [v for group in made._fused.variants.values() for v in group]
    assert any(v.planner is not None for v in variants)
    assert len(variants) <= 6
    other, expected = steps(name, settings, monkeypatch, 1 << 60, dtype)
    assert other._fused is None
    for x, y in zip(found, expected, strict=True):
        close(x, y, dtype, 64)
    for p, q in zip(made.param_groups[0]["params"], other.param_groups[0]["params"], strict=True):
        for key, value in made.state[p].items():
            close(value.numpy(), other.state[q][key].numpy(), dtype, 64)


def test_a_parameter_that_a_graph_saved_is_seen_to_change():
    w = ag.tensor(draw(200, 200), requires_grad=True)
    out = (w * w).sum()
    out.backward(retain_graph=True)
    optim.Adam([w]).step()
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        out.backward()
