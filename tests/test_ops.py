"""Every record of the registry, through everything that is derived from it. One more op costs no test here."""

import functools
import inspect
import json
import os
from pathlib import Path

import numpy as np
import pytest
from record_kit import for_every_sample

import autograd_core as ag
from autograd_core.gradient_check import gradcheck, gradgradcheck
from autograd_core.ops.samples import build
from autograd_core.registry import FAMILIES
from autograd_core.support import NOT_THE_DERIVATIVE, RECORDS, Call, tensors
from autograd_core.tensor import Tensor
from autograd_core.transforms import jvp

CASES = [(name, number) for name, record in sorted(RECORDS.items()) for number in range(len(record.samples))]
DIFFERENTIABLE = [
    case for case in CASES if RECORDS[case[0]].differentiable or RECORDS[case[0]].family.name == "composite"
]
REFERENCES = Path(__file__).with_name("references.json")



@functools.cache
def references():
    """PyTorch's results by sample."""
    return json.loads(REFERENCES.read_text())


def floats(result):
    """The floating-point tensors among results, in order."""
    return [t for t in tensors(result) if t.array.dtype.kind == "f"]


def needs(record, call):
    """Skip what has no gradient to check, saying why; inputs without a gradient (rule None) become constants."""
    key = f"{record.qualified}-{call.number}"
    if key in NOT_THE_DERIVATIVE:
        pytest.skip(NOT_THE_DERIVATIVE[key])
    if record.family.name == "random" or record.qualified.startswith("Tensor."):
        pytest.skip("a draw has no gradient to compare with differences")
    if not call.leaves:
        pytest.skip("no floating-point input in this sample")
    if not call.smooth():
        pytest.skip("no output of this sample carries a gradient")
    try:
        if not call.keep_differentiable():
            pytest.skip("no input of this sample has a gradient")
    except NotImplementedError as error:
        pytest.skip(f"PyTorch has no gradient either: {error}")


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_is_complete(name):
    record = RECORDS[name]
    assert record.doc.strip(), "a record needs a docstring"
    assert record.doc.strip().splitlines()[0].endswith((".", ":")), "the docstring starts with a sentence"
    assert record.samples, "a record needs samples"
    assert record.family.name in FAMILIES


@for_every_sample(CASES)
def test_values(name, number):
    """Outputs agree with PyTorch's, which are stored (this file run as a program makes them); inputs are unchanged."""
    call = Call(name, number)
    before = [t.array.copy() for t in tensors(call.args)]
    outputs = tensors(call())
    for array, tensor in zip(before, tensors(call.args), strict=True):
        if name.startswith("Tensor.") and tensor is call.args[0]:
            continue  # it works in place
        assert np.array_equal(array, tensor.array, equal_nan=True), "an input was modified"
    stored = references().get(f"{name}-{number}")
    if stored is None:
        return
    assert len(stored) == len(outputs)
    for (shape, dtype, checksum), out in zip(stored, outputs, strict=True):
        assert list(out.shape) == shape
        assert str(out.array.dtype) == dtype
        tolerance = 1e-9 if "64" in dtype else 1e-5
        assert checksum_of(out.array) == pytest.approx(checksum, rel=tolerance, abs=tolerance, nan_ok=True)


def checksum_of(array):
    """A number that changes when any element does."""
    flat = np.asarray(array, np.float64).reshape(-1)
    return float(flat @ np.cos(np.arange(flat.size) * 0.7 + 0.3)) if flat.size else 0.0


@for_every_sample(DIFFERENTIABLE)
def test_gradient(name, number):
    call = Call(name, number)
    needs(call.record, call)
    gradcheck(call.smooth, tuple(call.leaves), atol=1e-5, rtol=1e-4)


@for_every_sample(DIFFERENTIABLE)
def test_second_gradient(name, number):
    call = Call(name, number)
    needs(call.record, call)
    if getattr(call.record.function, "once_differentiable", False):
        pytest.skip("PyTorch has no second derivative here either")
    first = ag.grad(call.smooth(), call.leaves, [ag.ones_like(t) for t in call.smooth()], create_graph=True,
                    allow_unused=True)  # fmt: skip
    if not any(g is not None and g.requires_grad for g in first):
        return  # linear: the second derivative is zero
    gradgradcheck(call.smooth, tuple(call.leaves), atol=1e-4, rtol=1e-3, fast_mode=True)


@for_every_sample(DIFFERENTIABLE)
def test_forward_mode(name, number):
    call = Call(name, number)
    needs(call.record, call)
    rng = np.random.default_rng(0)
    directions = [rng.standard_normal(t.array.shape) for t in call.leaves]
    _, found = jvp(call.smooth, tuple(call.leaves), tuple(ag.tensor(d) for d in directions))
    step = 1e-6

    def moved(sign):
        points = [t.array + sign * step * d for t, d in zip(call.leaves, directions, strict=True)]
        return [t.array for t in call.smooth(*[ag.tensor(p, requires_grad=True) for p in points])]

    for derivative, up, down in zip(found if isinstance(found, tuple) else (found,), moved(1), moved(-1), strict=True):
        assert np.allclose(derivative.array, (up - down) / (2 * step), rtol=1e-4, atol=1e-5, equal_nan=True)


@for_every_sample(DIFFERENTIABLE)
def test_both_ways_of_backward_agree(name, number):
    """Rules on plain arrays and rules on Tensors (create_graph) give the same gradients."""
    call = Call(name, number)
    needs(call.record, call)

    def gradients(create_graph):
        outs = call.smooth()
        return ag.grad(outs, call.leaves, [ag.ones_like(o) for o in outs], create_graph=create_graph, allow_unused=True)

    for plain, lifted in zip(gradients(False), gradients(True), strict=True):
        assert (plain is None) == (lifted is None)
        if plain is not None:
            assert plain.array.dtype == lifted.array.dtype
            assert np.allclose(plain.array, lifted.array, rtol=1e-9, atol=1e-12, equal_nan=True)


@for_every_sample(DIFFERENTIABLE)
def test_float32_stays_float32(name, number):
    call = Call(name, number, np.float32)
    outputs = tensors(call())
    wide = tensors(Call(name, number)())
    narrow = call.leaves and "dtype" not in call.kwargs and name not in ALWAYS_DOUBLE
    for out, reference in zip(outputs, wide, strict=True):
        if narrow and reference.array.dtype == np.float64:
            assert out.array.dtype == np.float32
    outs = [t for t in floats(outputs) if t.requires_grad]
    if outs and call.leaves:
        needs(call.record, call)
        outs = [t for t in floats(call()) if t.requires_grad]
        found = ag.grad(outs, call.leaves, [ag.ones_like(o) for o in outs], allow_unused=True)
        assert all(g is None or g.array.dtype == leaf.array.dtype for g, leaf in zip(found, call.leaves, strict=True))


ALWAYS_DOUBLE = {"float_power"}


@for_every_sample(CASES)
def test_strided_inputs_give_the_same(name, number):
    """Negative and gapped strides change nothing."""
    call = Call(name, number)
    if not call.leaves or name in LAYOUT_MATTERS or name.startswith("Tensor."):
        pytest.skip(LAYOUT_MATTERS.get(name, "no floating-point input in this sample"))
    expected = [t.array.copy() for t in tensors(call())]

    def strided(array):
        if not array.ndim:
            return array.copy()
        wide = np.zeros(tuple(2 * s for s in array.shape), array.dtype)
        view = wide[tuple(slice(None, None, -2) for _ in array.shape)]
        view[...] = array
        return view

    leaves = []
    for leaf in call.leaves:
        made = Tensor.__new__(Tensor)
        made.array = strided(leaf.array)
        leaves.append(made.requires_grad_())
    for out, reference in zip(tensors(call(*leaves)), expected, strict=True):
        assert np.allclose(out.array, reference, rtol=1e-9, atol=1e-11, equal_nan=True)


LAYOUT_MATTERS = {
    "view": "a view in another shape needs its elements in order",
    "view_as": "a view in another shape needs its elements in order",
}

RAGGED = "the shape of the result depends on the values"


@pytest.mark.parametrize("name", sorted(n for n, r in RECORDS.items() if r.samples))
def test_vmap_is_the_loop(name):
    """``vmap`` over three draws of the first sample gives what calling the function three times gives."""
    record = RECORDS[name]
    if record.family.name in ("random", "creation") or record.qualified.startswith("Tensor."):
        pytest.skip("draws and new tensors have no batch to compare")
    samples = [build(record.samples[0], seed=seed) for seed in range(3)]
    rows, kwargs = [lifted(args) for args, _ in samples], samples[0][1]
    if not tensors(rows[0]):
        pytest.skip("no tensor in this sample")

    def call(*args):
        ag.manual_seed(7)
        return record.public(*args, **kwargs)

    expected = [tensors(call(*row)) for row in rows]
    if not expected[0]:
        pytest.skip("it returns no tensor")
    if any(len({t.shape for t in column}) > 1 for column in zip(*expected, strict=True)):
        pytest.skip(RAGGED)
    found = tensors(ag.vmap(call, in_dims=dims_of(rows[0]), randomness="same")(*stacked(rows)))
    assert len(found) == len(expected[0])
    for whole, column in zip(found, zip(*expected, strict=True), strict=True):
        assert np.allclose(whole.array, np.stack([t.array for t in column]), rtol=1e-9, atol=1e-12, equal_nan=True)
        assert whole.dtype == column[0].dtype


def lifted(value):
    """Arrays as Tensors, in nested lists and tuples too."""
    if isinstance(value, np.ndarray):
        return ag.tensor(value)
    return type(value)(lifted(v) for v in value) if isinstance(value, (list, tuple)) else value


def stacked(rows):
    """Equally nested arguments with their tensors stacked."""
    if isinstance(rows[0], Tensor):
        return ag.stack(rows)
    if isinstance(rows[0], (list, tuple)):
        return type(rows[0])(stacked(list(column)) for column in zip(*rows, strict=True))
    return rows[0]


def dims_of(value):
    """0 where there is a tensor, None elsewhere."""
    if isinstance(value, (list, tuple)):
        return tuple(dims_of(v) for v in value)
    return 0 if isinstance(value, Tensor) else None


SAME_SHAPE = ("elementwise", "arithmetic", "comparison")


@pytest.mark.parametrize("name", sorted(n for n, r in RECORDS.items() if r.family.name in SAME_SHAPE))
def test_zero_size_inputs(name):
    record = RECORDS[name]
    call = Call(name, 0)
    arrays = [ag.zeros(0, 3, dtype=t.dtype) for t in tensors(call.args)]
    it = iter(arrays)
    args = [next(it) if isinstance(a, Tensor) else a for a in call.args]
    if any(isinstance(a, (list, tuple)) for a in args):
        pytest.skip("takes a sequence of tensors")
    for out in tensors(record.public(*args, **call.kwargs)):
        assert out.shape == (0, 3)


@pytest.mark.parametrize("name", sorted(n for n, r in RECORDS.items() if r.inplace))
def test_in_place_forms(name):
    record = RECORDS[name]
    for number in range(len(record.samples)):
        call = Call(name, number)
        if not call.args or not isinstance(call.args[0], Tensor):
            continue
        with ag.no_grad():
            expected = call()
            target = call.args[0].clone()
            if not isinstance(expected, Tensor) or expected.shape != target.shape:
                continue
            if expected.array.dtype.kind == "f" and target.array.dtype.kind != "f":
                continue
            ag.manual_seed(7)
            returned = getattr(target, record.name + "_")(*call.args[1:], **call.kwargs)
        assert returned is target
        assert np.allclose(target.array, expected.array, equal_nan=True)


TAKES_OUT = [
    (name, number)
    for name, number in CASES
    if "out" in inspect.signature(RECORDS[name].public).parameters
    and RECORDS[name].namespace != "internal"
    and (name, number) != ("nonzero", 1)  # a tuple of unknown length: as_tuple=True excludes out=
]


@for_every_sample(TAKES_OUT)
def test_out(name, number):
    """``out=`` is filled, whatever its size was, and returned."""
    call = Call(name, number)
    with ag.no_grad():
        expected = call()
        out = [ag.empty(0, dtype=t.dtype) for t in tensors(expected)]
        call.kwargs["out"] = out[0] if isinstance(expected, Tensor) else tuple(out)
        assert call() is call.kwargs["out"]
    for filled, reference in zip(out, tensors(expected), strict=True):
        assert np.array_equal(filled.array, reference.array, equal_nan=True)


NO_ONE_RESULT = {
    "linalg.eigh": "vectors are known up to their sign",
    "linalg.svd": "as eigh",
    "empty": "whatever lies in memory",
    "empty_like": "as empty",
}


def torch_result(function, record, number):
    """Shape, dtype and checksum of each result of PyTorch's ``function`` on one sample."""
    import torch

    def lift(value):
        if isinstance(value, (np.ndarray, np.generic)):
            return torch.tensor(value)
        return type(value)(lift(v) for v in value) if isinstance(value, (list, tuple)) else value

    def arrays(value):
        if isinstance(value, torch.Tensor):
            return [value.detach().numpy()]
        return [a for v in value for a in arrays(v)] if isinstance(value, (list, tuple)) else []

    args, kwargs = build(record.samples[number], seed=number)
    if "dtype" in kwargs:
        kwargs["dtype"] = getattr(torch, str(kwargs["dtype"]).removeprefix("ag."))
    result = function(*[lift(a) for a in args], **{k: lift(v) for k, v in kwargs.items()})
    return json.dumps([[list(a.shape), str(a.dtype), checksum_of(a)] for a in arrays(result)])


def torch_results():
    """The results of PyTorch, as text, for every sample of a public record that it knows by name, but for draws."""
    import torch

    found = {}
    for name, number in CASES:
        record = RECORDS[name]
        if record.namespace == "internal" or record.family.name == "random" or name in NO_ONE_RESULT:
            continue
        function = torch
        for part in name.split("."):
            function = getattr(function, part, None)
        function = function or getattr(torch.Tensor, name, None)
        if function is None:
            continue
        try:
            results = {torch_result(function, record, number) for _ in range(5)}
        except (TypeError, RuntimeError, ValueError) as error:
            print(f"{name}-{number}: {str(error).splitlines()[0]}")  # noqa: T201 (this part is a command line)
        else:
            if len(results) == 1:
                found[f"{name}-{number}"] = results.pop()
    return found


if __name__ == "__main__":
    lines = [f"{json.dumps(key)}: {result}" for key, result in sorted(torch_results().items())]
    temporary = REFERENCES.with_suffix(".tmp")
    temporary.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    os.replace(temporary, REFERENCES)
