"""Recurrent layers against the slow twin: cells, ragged batches, directions, lanes, threads; gradients as slopes."""
import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

from autograd_core.kernels import recurrent
from autograd_core.kernels.plan import execute

GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
RAGGED = (17, 9, 9, 4, 1)
# Hidden size 11 is less than a vector of 16 lanes, and one and a half or more of 8 and 4; 17 rows make two units.
T, B, IN, H = 5, 17, 6, 11


def layer(cell, dtype, bias=True, seed=0):
    draw = np.random.default_rng(seed)
    sizes = [(T, B, IN), *[(B, H)] * (1 + (cell == "lstm")), (GATES[cell] * H, IN), (GATES[cell] * H, H)]
    sizes += [(GATES[cell] * H,)] * 2
    arrays = [(0.5 * draw.standard_normal(size)).astype(dtype) for size in sizes]
    return arrays if bias else [*arrays[:-2], None, None]


def planners(cell):
    name = cell if cell in ("lstm", "gru") else "rnn"
    extra = {} if cell in ("lstm", "gru") else {"nonlinearity": cell}
    return getattr(recurrent, name), getattr(recurrent, name + "_backward"), extra


def twin(cell, arrays, reverse, sizes):
    states = arrays[1:3] if cell == "lstm" else arrays[1:2]
    return naive.recurrent(cell, arrays[0], states, *arrays[1 + len(states):], reverse, sizes)


def close(got, expected, dtype, factor=100):
    bound = factor * np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, rtol=bound, atol=bound)


@pytest.mark.parametrize(("cell", "dtype", "lanes"), [
    ("lstm", np.float32, (4, 8, 16)), ("gru", np.float32, (8,)), ("tanh", np.float32, (8,)),
    ("relu", np.float64, (8,))])  # those of test_gradients are in double precision
def test_forward(cell, dtype, lanes):
    plan, _, extra = planners(cell)
    for reverse, sizes, bias in ((False, None, True), (True, RAGGED, True), (False, RAGGED, False)):
        arrays = layer(cell, dtype, bias)
        expected = twin(cell, arrays, reverse, sizes)
        given = [*arrays, *[None] * (cell == "lstm")]
        for _, got in run_everywhere(plan, given, lanes=lanes, reverse=reverse, batch_sizes=sizes, **extra):
            for x, y in zip(got, expected, strict=False):  # what is saved comes behind
                close(x, y, dtype)


@pytest.mark.parametrize(("cell", "lanes"), [("lstm", (16,)), ("gru", (16,)), ("relu", (8,))])
@pytest.mark.parametrize(("reverse", "sizes"), [(False, None), (True, RAGGED), (False, RAGGED)])
def test_gradients_are_slopes_of_the_twin(cell, lanes, reverse, sizes):
    plan, back, extra = planners(cell)
    arrays, draw = layer(cell, np.float64), np.random.default_rng(1)
    states, settings = 1 + (cell == "lstm"), {"reverse": reverse, "batch_sizes": sizes, **extra}
    sent = [draw.standard_normal(size) for size in [(T, B, H), *[(B, H)] * states]]
    given, needs = [*arrays, *[None] * (cell == "lstm")], (True,) * len(arrays) + (False,) * (cell == "lstm")
    results = execute(plan, given, **settings)
    saved = [results[0], *results[1 + states:]]
    for _, got in run_everywhere(back, [*given, *saved, *sent], lanes=lanes, needs=needs, **settings):
        for k, x in enumerate(arrays):
            def loss(value, k=k):
                found = twin(cell, [*arrays[:k], value, *arrays[k + 1:]], reverse, sizes)
                return sum(np.sum(a * b) for a, b in zip(found, sent, strict=True))

            direction = draw.standard_normal(x.shape)
            expected = naive.slope(loss, x, direction)
            np.testing.assert_allclose(np.sum(got[k] * direction), expected, rtol=1e-6, atol=1e-6)


def test_float32_gradients_are_those_of_float64():
    needs = (True,) * 7 + (False,)
    found = {}
    for dtype in (np.float32, np.float64):
        arrays = [*layer("lstm", np.float32), None]
        arrays = [a if a is None else a.astype(dtype) for a in arrays]
        out, _, _, saved = execute(recurrent.lstm, arrays, reverse=False, batch_sizes=None)
        g = np.random.default_rng(2).standard_normal((T, B, H)).astype(np.float32).astype(dtype)
        lanes = (4, 8, 16) if dtype == np.float32 else (16,)
        found[dtype] = [got for _, got in run_everywhere(
            recurrent.lstm_backward, [*arrays, out, saved, g, None, None], lanes=lanes, reverse=False,
            batch_sizes=None, needs=needs)]
    for got in found[np.float32]:
        for x, y in zip(got[:-1], found[np.float64][0][:-1], strict=True):
            close(x, y, np.float32, 400)


def test_strided_sequences_and_gradients_that_are_not_wanted():
    arrays = [*layer("lstm", np.float64), None]
    turned = np.ascontiguousarray(arrays[0].swapaxes(0, 1)).swapaxes(0, 1)  # as a batch-first sequence lies
    settings = {"reverse": False, "batch_sizes": None}
    results = execute(recurrent.lstm, arrays, **settings)
    for x, y in zip(execute(recurrent.lstm, [turned, *arrays[1:]], **settings), results, strict=True):
        close(x, y, np.float64)
    tail = [results[0], results[3], np.ones((T, B, H)), None, None]
    needs = (True,) * 7 + (False,)
    whole = execute(recurrent.lstm_backward, [*arrays, *tail], needs=needs, **settings)
    for x, y in zip(execute(recurrent.lstm_backward, [turned, *arrays[1:], *tail], needs=needs, **settings)[:-1], whole,
                    strict=False):
        close(x, y, np.float64)
    needs = (False, False, False, True, *[False] * 4)
    few = execute(recurrent.lstm_backward, [*arrays, *tail], needs=needs, **settings)
    assert [x is None for x in few] == [True, False, False, False, True, True, True, True]
    close(few[3], whole[3], np.float64)


def test_what_is_not_served():
    arrays = layer("lstm", np.float32)
    settings = {"reverse": False, "batch_sizes": None}
    assert execute(recurrent.lstm, [*arrays, np.ones((2, H), np.float32)], **settings) is NotImplemented
    assert execute(recurrent.lstm, [arrays[0].astype(np.float64), *arrays[1:], None], **settings) is NotImplemented


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("steps_first", [False, True])
def test_rows_of_a_table_need_not_be_looked_up(cell, steps_first):
    """The products of a table's rows, looked up, are those of the rows; so are the gradients, but for their order."""
    plan, back, extra = planners(cell)
    arrays, draw = layer(cell, np.float64), np.random.default_rng(3)
    table, others = draw.standard_normal((4, IN)), [*arrays[1:], *[None] * (cell == "lstm")]
    indices = draw.integers(0, 4, (T, B) if steps_first else (B, T))
    indices = indices if steps_first else indices.T
    settings, states = {"reverse": False, "batch_sizes": None, **extra}, 1 + (cell == "lstm")
    results = execute(plan, [table[indices], *others], **settings)
    for _, got in run_everywhere(plan, [table, *others, indices], lanes=(8,), **settings):
        for x, y in zip(got, results, strict=True):
            close(x, y, np.float64)
    saved = [results[0], results[1 + states], draw.standard_normal((T, B, H)), *[None] * states]
    needs = (True,) * len(arrays) + (False,) * (cell == "lstm")
    expected = list(execute(back, [table[indices], *others, *saved], needs=needs, **settings))
    of_table = np.zeros_like(table)
    np.add.at(of_table, indices, expected[0])
    of_table[1] = 0
    for _, got in run_everywhere(back, [table, *others, *saved, indices], lanes=(8,), needs=needs, padding_idx=1,
                                 **settings):  # fmt: skip
        for x, y in zip(got[:len(arrays)], [of_table, *expected[1:]], strict=False):
            close(x, y, np.float64)
