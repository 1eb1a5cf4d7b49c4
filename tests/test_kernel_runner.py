"""The foundation of the kernels: plans, runner, threads, vectors, cache."""
from pathlib import Path

import numpy as np
import pytest

from autograd_core import kernels
from autograd_core.kernels import host, threads
from autograd_core.kernels.lazy import simd
from autograd_core.kernels.plan import Call, Plan, Spec, bits, execute, inp, out
from autograd_core.kernels.runner import range_kernel


@pytest.fixture
def using_threads():
    before = threads.get_num_threads()
    yield threads.set_num_threads
    threads.set_num_threads(before)


@range_kernel
def scaled_sum(dtype, lanes):
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        a = simd.words(context)
        x, y, out = simd.pointer(a[0], S), simd.pointer(a[1], S), simd.pointer(a[2], S)
        factor = simd.full(simd.real(a[3]), V)
        for i in range(start, stop, lanes):
            count = stop - i
            if count >= lanes:
                simd.store(out, i, simd.fma(simd.load(x, i, V), factor, simd.load(y, i, V)))
            else:
                simd.store_part(out, i, simd.load_part(x, i, count, V) * factor + simd.load_part(y, i, count, V), count)

    return kernel


def scaled_sum_planner(x, y, *, factor, grain=4096):
    lanes = host.lanes(x.dtype)
    size = int(np.prod(x.shape))
    call = Call(scaled_sum(x.dtype, lanes), (inp(0), inp(1), out(0), bits(factor)), size, grain)
    return Plan((Spec(x.shape, x.dtype),), (call,))


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kernel_gives_numpys_result_for_all_lanes_and_thread_counts(lanes, dtype, using_threads):
    rng = np.random.default_rng(0)
    for size in (0, 1, 15, 16, 17, 1000, 100_003):
        x, y = rng.standard_normal((2, size)).astype(dtype)
        expected = x * dtype(2.5) + y
        for count in (1, 2, 4):
            using_threads(count)
            with host.using_lanes(lanes):
                got = execute(scaled_sum_planner, (x, y), factor=2.5)
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_example_of_the_readme_runs(tmp_path, monkeypatch):
    text = (Path(kernels.__file__).parent / "README.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "readme_example.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    from readme_example import scaled_relu

    x = np.random.default_rng(0).standard_normal((33, 7)).astype(np.float32)
    x[3, 3] = np.nan
    np.testing.assert_array_equal(scaled_relu(x, 2.0), np.maximum(x * np.float32(2), 0))
    assert scaled_relu(x.T, 2.0) is NotImplemented
