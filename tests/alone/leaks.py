"""ag.leaks: who keeps which graph alive, and the line that made it."""

import gc
import re
import sys
import weakref

import numpy as np
import pytest
from subjects import SUBJECTS, without_kernels  # noqa: F401 (a fixture that every test here uses)

import autograd_core as ag
import nn

kept: list = []


@pytest.fixture(autouse=True)
def _nothing_is_left():
    kept.clear()
    yield
    kept.clear()
    assert not new()


class Trainer:
    def __init__(self):
        self.history = {}


def loss_of(model):
    return (model(ag.ones(2, 3)) ** 2).mean()


def new():
    """The graphs that this file holds."""
    return [held for held in ag.leaks() if "leaks" in "".join(held.references)]


def test_a_list_of_losses():
    model = nn.Linear(3, 1)
    for _ in range(5):
        kept.append(loss_of(model))
    found = ag.leaks()
    mine = [held for held in found if "leaks" in held.references[0]]
    assert len(mine) == 5
    assert sorted(held.references[0] for held in mine) == [f"the global kept[{i}] of leaks" for i in range(5)]
    assert all("return (model(ag.ones(2, 3)) ** 2).mean()" in held.place for held in mine)
    assert all(held.nodes == 3 and held.bytes > 0 for held in mine)
    assert "5 graphs made by one line: keep loss.item() or loss.detach() instead" in str(found)
    assert "and 4 more like it" in str(found)


def test_variables_attributes_and_entries():
    model = nn.Linear(3, 1)
    trainer = Trainer()
    trainer.history["last"] = loss_of(model)
    trainer.best = loss_of(model)
    pair = (1, [loss_of(model)])
    references = sorted(r for held in new() for r in held.references)
    line = r"leaks\.py:\d+"
    for name, wanted in zip(
        references, (r"pair\[1\]\[0\]", r"trainer\.best", r"trainer\.history\['last'\]"), strict=True
    ):
        assert re.fullmatch(f"the variable {wanted} of test_variables_\\w+ \\({line}\\)", name)
    assert pair


def test_a_total_that_grows_is_one_long_graph():
    w = ag.ones(2, requires_grad=True)
    total = 0
    for _ in range(600):
        total = total + (w * 2).sum()
    (held,) = new()
    assert held.nodes == 1800
    assert held.references[0].startswith("the variable total of test_a_total")
    assert "the longest graph has 1800 operations: a value that is carried from step to step needs detach()" in str(
        ag.leaks()
    )


def test_closures_generators_nodes_and_errors():
    model = nn.Linear(3, 1)

    def close():
        inside = loss_of(model)
        return lambda: inside

    def generate():
        waiting = loss_of(model)
        yield 1
        yield waiting

    def fail():
        local = loss_of(model)
        raise ValueError(local.shape)

    closure, generator, node = close(), generate(), loss_of(model).grad_fn
    next(generator)
    try:
        fail()
    except ValueError as caught:
        error = caught
    text = "\n".join(reference for held in new() for reference in held.references)
    assert "the variable inside of a closure, " in text
    assert "the generator " in text
    assert "which is not finished" in text
    assert "the variable node of test_closures" in text
    assert "the variable local of fail" in text
    assert "by an error's traceback" in text
    assert all([closure, generator, node, error])


def test_what_backward_has_freed_costs_nothing():
    model = nn.Linear(3, 1)
    loss = loss_of(model)
    loss.backward()
    (held,) = new()
    assert held.bytes == 0
    assert "3 operations, freed" in str(held)
    assert not [h for h in ag.leaks(minimum=1) if h.tensor is loss]


def test_the_report_keeps_nothing_alive():
    loss = loss_of(nn.Linear(3, 1))
    report = new()
    del loss
    gc.collect()
    assert report[0].tensor is None
    assert "mean float32[]" in str(report[0])


def test_looking_leaves_no_copy_of_variables():
    """Up to Python 3.12 the dict that a look at a frame makes would hold what a variable held before."""
    value = loss_of(nn.Linear(3, 1))
    ag.leaks()
    count = sys.getrefcount(value)
    ag.leaks()
    alone = object()
    assert sys.getrefcount(value) == count == sys.getrefcount(alone)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_computation(name):
    model, loss_fn, x, y = SUBJECTS[name]()
    output = loss_fn(model(x), y)
    found = new()
    assert [held.tensor for held in found] == [output]
    assert found[0].bytes > x.nbytes / 2
    assert found[0].references[0].startswith("the variable output of test_every_computation")
    output.backward()
    assert new()[0].bytes == 0
    model.zero_grad()


def test_saved_memory_counts_once():
    x = ag.ones(1000, requires_grad=True)
    loss = (x * x * x).sum()
    (held,) = [h for h in ag.leaks() if h.tensor is loss]
    assert held.bytes == np.zeros(1000, np.float32).nbytes * 2


def test_dead_proxies_elsewhere_do_no_harm():
    class Thing:
        pass

    gone = weakref.proxy(Thing())
    loss = loss_of(nn.Linear(3, 1))
    assert [held.tensor for held in new()] == [loss]
    assert type(gone) is weakref.ProxyType
