"""The pool that large outputs of kernels come from: reuse, zeros, resizing, what it may hold."""
import subprocess
import sys

import numpy as np
import pytest

from autograd_core.kernels import memory
from autograd_core.kernels.plan import Plan, Spec, execute

SIZE = memory.LEAST


def empty(size=SIZE):
    return memory.pooled(lambda: np.empty(size, np.uint8))


@pytest.fixture
def words():
    """The pool's state, with nothing kept; the limit is put back."""
    state = memory.state()
    limit, state[memory.LIMIT] = state[memory.LIMIT], 0
    empty()  # given back under a limit of 0, it makes the pool release what it keeps
    assert state[memory.KEPT] == state[memory.COUNT] == 0
    state[memory.LIMIT] = limit
    yield state
    state[memory.LIMIT] = limit


def test_memory_that_was_given_back_is_used_again_for_much_the_same_size(words):
    first = empty()
    assert first.base is None
    assert first.flags.owndata
    assert first.ctypes.data % 64 == 0
    address = first.ctypes.data
    del first
    assert words[memory.KEPT] >= SIZE
    second, third = empty(SIZE - 100), empty()
    assert second.ctypes.data == address != third.ctypes.data
    assert words[memory.KEPT] == 0


def test_zeros_are_zeros_in_used_memory_and_resizing_keeps_values(words):
    used = empty()
    used[:] = 7
    del used
    zeros = memory.pooled(lambda: np.zeros(SIZE, np.uint8))
    assert not zeros.any()
    zeros[:5] = 3
    zeros.resize(4 * SIZE, refcheck=False)
    assert zeros[:5].tolist() == [3] * 5
    assert not zeros[5:].any()
    zeros.resize(16, refcheck=False)
    assert zeros[:5].tolist() == [3] * 5


def test_no_more_is_held_than_was_in_use_at_a_time_nor_than_the_limit(words):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(2000):
        held.append(empty(SIZE + 4096 * int(rng.integers(200))))
        del held[:-5], held[: rng.integers(3)]
        assert words[memory.LIVE] + words[memory.KEPT] <= words[memory.PEAK]
    words[memory.LIMIT] = 3 * SIZE
    held.clear()
    assert words[memory.KEPT] <= 3 * SIZE


def test_too_much_is_a_memory_error(words):
    live = words[memory.LIVE]
    with pytest.raises(MemoryError):
        empty(1 << 60)
    assert words[memory.LIVE] == live


def test_large_outputs_come_from_the_pool_and_other_arrays_do_not(words):
    def planner(*, size, zero):
        return Plan((Spec((size,), np.float32),), (), zero=(0,) if zero else ())

    live = words[memory.LIVE]
    small, other = execute(planner, (), size=100, zero=False), np.empty(SIZE)
    assert words[memory.LIVE] == live
    large = execute(planner, (), size=SIZE, zero=True)
    assert words[memory.LIVE] >= live + 4 * SIZE
    assert not large.any()
    assert len(small) + len(other) == 100 + SIZE


def test_arrays_that_outlive_the_interpreter_are_given_back_quietly():
    code = ("import sys, numpy as np; from autograd_core.kernels import memory; "
            "sys.kept = memory.pooled(lambda: np.ones(1 << 20)); sys.loop = [sys.kept]; sys.loop.append(sys.loop)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_kept_memory_is_given_back_when_asked():
    arrays = [memory.pooled(lambda: np.empty(memory.LEAST, np.uint8)) for _ in range(3)]
    del arrays
    assert memory.state()[memory.KEPT] >= 3 * memory.LEAST
    memory.give_back()
    assert memory.state()[memory.KEPT] == memory.state()[memory.COUNT] == 0
    assert memory.pooled(lambda: np.ones(memory.LEAST, np.uint8)).all()
