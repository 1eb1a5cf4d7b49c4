"""Graphs go with their last tensor, without the garbage collector, and backward frees what it has passed."""

import gc
import tracemalloc

import numpy as np
import pytest
from subjects import Cube, Exp

import autograd_core as ag
import nn
import nn.functional as F
from autograd_core.tensor import Node


def leaf(*shape):
    return ag.tensor(np.ones(shape), requires_grad=True)


class Doubling(ag.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.mark_dirty(x.mul_(2))
        return x

    @staticmethod
    def backward(ctx, g):
        return g * 2


def written():
    y = leaf(4, 4) * 1
    row, column = y[1], y.t()[0]
    row.mul_(2)
    column.add_(1)
    y[0] = 3.0
    return row + column + y[2]


def hooked():
    y = leaf(3) * 1
    y.register_hook(lambda g: g * 2)
    y.retain_grad()
    return y


def buffer():
    b = ag.zeros(3, dtype=ag.float64)
    b[0] = leaf(3)[0]
    return b


MODULES = {"mlp": nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), "batch norm": nn.BatchNorm1d(3),
           "lstm": nn.LSTM(3, 5)}  # fmt: skip

PROGRAMS = {
    "operations": lambda: (leaf(3) * 2).exp().sum(),
    "several outputs": lambda: leaf(4, 3).topk(2)[0],
    "a decomposition": lambda: ag.linalg.svd(leaf(3, 3))[1],
    "views": lambda: (leaf(4) * 1)[1:].view(3, 1),
    "unbind": lambda: leaf(4, 3).unbind(0)[2],
    "in place": written, "hooks": hooked, "buffer": buffer,
    "Function": lambda: Cube.apply(leaf(3)),
    "Function with a saved output": lambda: Exp.apply(leaf(3)),
    "Function that writes": lambda: Doubling.apply(leaf(3) * 1),
    "checkpoint": lambda: ag.checkpoint(lambda t: t.exp() * 2, leaf(3)),
    "vmap": lambda: ag.vmap(lambda t: t.exp().sum())(leaf(3, 2)),
    "gradient": lambda: ag.grad((leaf0**3).sum(), leaf0, create_graph=True)[0],
    "gradient of a Function": lambda: ag.grad(Exp.apply(leaf0).sum(), leaf0, create_graph=True)[0],
    "gradient of a checkpoint": lambda: ag.grad(ag.checkpoint(ag.exp, leaf0).sum(), leaf0, create_graph=True)[0],
    "jacobian": lambda: ag.jacobian(lambda t: t**2, leaf0, create_graph=True),
    "hessian": lambda: ag.hessian(lambda t: (t**3).sum(), leaf0, create_graph=True),
    "cross-entropy": lambda: F.cross_entropy(leaf(3, 4), ag.tensor([0, 1, 2])),
    "mlp": lambda: MODULES["mlp"](ag.ones(2, 3)), "batch norm": lambda: MODULES["batch norm"](ag.rand(4, 3)),
    "lstm": lambda: MODULES["lstm"](ag.ones(2, 1, 3))[0],
}  # fmt: skip
leaf0 = leaf(3)


def nodes():
    return sum(type(thing) is Node for thing in gc.get_objects())


@pytest.mark.parametrize("after_backward", [False, True])
@pytest.mark.parametrize("name", PROGRAMS)
def test_no_circle_keeps_a_graph(name, after_backward):
    PROGRAMS[name]()  # what is made once, at first use
    gc.collect()
    gc.disable()
    try:
        before = nodes()
        out = PROGRAMS[name]()
        assert nodes() > before
        if after_backward:
            out.sum().backward()
        leaf0.grad = None
        for module in MODULES.values():
            module.zero_grad()
        del out
        assert nodes() == before
    finally:
        gc.enable()


def test_an_error_keeps_no_graph():
    gc.collect()
    before = nodes()
    y = leaf(3) * 1
    with pytest.raises(RuntimeError):
        y @ ag.zeros(5)
    del y
    gc.collect()
    assert nodes() == before


SIZE = 4000  # small enough to stay with NumPy: loading kernels takes memory, too
DEPTH = 100


STEPS = {"sin": lambda y: y.sin(), "mul": lambda y: y * y, "Function": Cube.apply,
         "several": lambda y: y.exp().clamp(0, 1)}


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_backward_frees_what_it_has_passed(step):
    """Going back through a deep net needs a few arrays more than going forward did, not one a layer."""
    x = ag.tensor(np.full(SIZE, 0.5), requires_grad=True)
    step(x).sum().backward()
    x.grad = None
    tracemalloc.start()
    try:
        y = x
        for _ in range(DEPTH):
            y = step(y)
        out = y.sum()
        del y
        before = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        out.backward()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    unit = x.nbytes
    assert before > DEPTH * unit * 0.9
    assert peak - before < 8 * unit
    assert now < before / 4


def test_long_lists_leave_nothing_behind():
    """What is kept for a set of inputs is kept for short lists alone: sequences come in too many lengths."""
    record = ag.ops.join.record
    for length in (100, 200, 300):
        ag.cat([leaf(1) for _ in range(length)]).sum().backward()
    assert all(count <= 64 for _, count in record.plans)


def test_a_checkpoint_keeps_its_inputs_alone():
    x = ag.tensor(np.full(SIZE, 0.5), requires_grad=True)

    def block(t):
        for _ in range(10):
            t = t.sin()
        return t

    ag.checkpoint(block, x).sum().backward()
    tracemalloc.start()
    try:
        y = x
        for _ in range(5):
            y = ag.checkpoint(block, y)
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 8 * x.nbytes
