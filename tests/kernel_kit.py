"""What tests of kernels share: run a planner with every number of lanes and threads, and ask for the same bits."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from autograd_core.kernels import host, threads
from autograd_core.kernels.plan import execute


@contextlib.contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Let kernels use ``count`` threads inside the ``with`` block."""
    before = threads.get_num_threads()
    threads.set_num_threads(count)
    try:
        yield
    finally:
        threads.set_num_threads(before)


def run_everywhere(planner, arrays, *, lanes=(4, 8, 16), **static):
    """Yield (lanes, result) for each number of lanes; the result has the same bits with 1, 2 and 4 threads.

    ``arrays`` are not to be written to by the kernel. A result of several outputs is a tuple.
    """
    for count in lanes:
        with host.using_lanes(count):
            results = []
            for thread_count in (1, 2, 4):
                with using_threads(thread_count):
                    results.append(execute(planner, arrays, **static))
            for other in results[1:]:
                for x, y in zip(*(r if isinstance(r, tuple) else (r,) for r in (results[0], other)), strict=True):
                    same = x is y is None or x.tobytes() == y.tobytes()
                    assert same, f"{count} lanes: the bits depend on the number of threads"
            yield count, results[0]


def strided_like(x: np.ndarray, kind: str) -> np.ndarray:
    """The same values with other strides: C, F (transposed), gaps (every second and third), reversed, offset."""
    if kind == "F":
        return np.asfortranarray(x)
    if kind == "gaps":
        wide = np.repeat(np.repeat(x, 2, axis=-2), 3, axis=-1)
        return wide[..., ::2, ::3]
    if kind == "reversed":
        return np.ascontiguousarray(x[..., ::-1, ::-1])[..., ::-1, ::-1]
    if kind == "offset":
        room = np.empty((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
        room[..., 2:-1] = x
        return room[..., 2:-1]
    return np.ascontiguousarray(x)
