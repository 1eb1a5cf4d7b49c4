"""The foundation of the kernels: plans, runner, threads, vectors, cache of machine code."""
import ctypes
import gc
import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from kernel_kit import run_everywhere, using_threads

from autograd_core import kernels
from autograd_core.kernels import blas, cache, host, lazy, runner, threads
from autograd_core.kernels.lazy import simd, tiles
from autograd_core.kernels.plan import Call, Plan, Program, Spec, bits, execute, inp, out, scratch
from autograd_core.kernels.runner import range_kernel


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


def scaled_sum_planner(x, y, *, factor=2.5, grain=4096):
    kernel = scaled_sum(x.dtype, host.lanes(x.dtype))
    return Plan((Spec(x.shape, x.dtype),), (Call(kernel, (inp(0), inp(1), out(0), bits(factor)), x.shape[0], grain),))


@range_kernel
def partial_sums(dtype, lanes):
    V, S = simd.vector(dtype, lanes), simd.scalar(dtype)

    def kernel(context, start, stop):
        a = simd.words(context)
        x, parts = simd.pointer(a[0], S), simd.pointer(a[1], S)
        total = simd.full(0, V)
        for i in range(start, stop, lanes):
            total += simd.load_part(x, i, stop - i, V)
        parts[start // a[2]] = simd.reduce_add(total)

    return kernel


def sum_planner(x, *, grain):
    """Partial sums by chunk into scratch memory, then their sum in order."""
    kernel, size = partial_sums(x.dtype, host.lanes(x.dtype)), x.shape[0]
    chunks = -(-size // grain)
    first = Call(kernel, (inp(0), scratch(0), grain), size, grain)
    second = Call(kernel, (scratch(0), out(0), chunks), chunks, chunks)
    return Plan((Spec((), x.dtype),), (first, second), (8 * chunks,), zero=(0,))


# ------------------------------------------------------------------------------------------------------ plans and runs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 1000, 100_003])
def test_kernel_gives_numpys_result_for_all_lanes_and_threads(dtype, size):
    x, y = np.random.default_rng(0).standard_normal((2, size)).astype(dtype)
    for _, got in run_everywhere(scaled_sum_planner, (x, y), factor=2.5):
        np.testing.assert_allclose(got, x * dtype(2.5) + y, rtol=1e-5, atol=1e-6)


def test_partial_sums_have_the_same_bits_for_any_number_of_threads():
    x = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    for _, got in run_everywhere(sum_planner, (x,), grain=1000):
        np.testing.assert_allclose(got, x.sum(dtype=np.float64), rtol=1e-4)


def test_call_refuses_chunks_that_are_none():
    for size, grain in ((10, 0), (-1, 4)):
        with pytest.raises(ValueError, match="Call: "):
            Call(scaled_sum(np.float32, 4), (), size, grain)


def test_planner_that_does_not_serve_a_case_gives_not_implemented():
    def planner(x):
        return None

    assert execute(planner, (np.zeros(3),)) is NotImplemented


def test_absent_inputs_reach_the_planner_as_none():
    seen = []

    def planner(x, y, z):
        seen.append((x.shape, y, z.dtype))
        return Plan((Spec((2,), np.float32),), (), zero=(0,))

    got = execute(planner, (np.zeros(3), None, np.zeros(2, np.int32)))
    assert seen == [((3,), None, np.dtype(np.int32))]
    np.testing.assert_array_equal(got, [0, 0])


def test_outputs_have_the_strides_asked_for():
    def planner(*, zero):
        return Plan((Spec((2, 3, 4), np.float32, (48, 4, 12)), Spec((5,), np.int64)), (), zero=zero)

    image, other = execute(planner, (), zero=(0,))
    assert image.strides == (48, 4, 12)
    assert not image.any()
    assert other.shape == (5,)


def test_program_runs_many_plans_at_fixed_addresses_and_rebinds():
    x, y = np.random.default_rng(0).standard_normal((2, 50)).astype(np.float32)
    middle, result = np.empty_like(x), np.empty_like(x)
    places = [{"input": [x, y], "output": [middle]}, {"input": [middle, y], "output": [result]}]
    plan = scaled_sum_planner(x, y, grain=7)
    program = Program([(plan, lambda ref, p=p: p[ref.kind][ref.index].ctypes.data + ref.offset) for p in places])
    program.run()
    expected = (x * np.float32(2.5) + y) * np.float32(2.5) + y
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    before, places[1]["output"][0] = result.copy(), np.empty_like(x)
    result[:] = 0
    program.rebind()
    program.run()
    np.testing.assert_array_equal(places[1]["output"][0], before)
    assert not result.any()


def test_example_of_the_readme_runs(tmp_path, monkeypatch):
    text = (Path(kernels.__file__).parent / "README.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "readme_example.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    from readme_example import scaled_relu

    x = np.random.default_rng(0).standard_normal((33, 7)).astype(np.float32)
    x[3, 3] = np.nan
    np.testing.assert_array_equal(scaled_relu(x, 2.0), np.maximum(x * np.float32(2), 0))
    assert scaled_relu(x.T, 2.0) is NotImplemented


def test_kernel_that_can_raise_is_refused():
    @range_kernel
    def raising():
        def kernel(context, start, stop):
            if start < 0:
                raise ValueError

        return kernel

    @range_kernel
    def power():  # of integers: Numba writes it in Python, and it refuses large exponents
        def kernel(context, start, stop):
            simd.words(context)[0] = start**stop

        return kernel

    for made in (raising(), power()):
        with pytest.raises(TypeError, match="can raise"):
            _ = made.address


def test_kernel_is_one_function_whatever_it_calls():
    lazy.load()

    @simd.device
    def least(x, y):
        return min(x, y) if x > 0 else max(x, y)

    def kernel(context, start, stop):
        a = simd.words(context)
        for i in range(start, stop):
            a[i] = least(a[i], stop)

    module = lazy.pipeline.translate(kernel, "alone", False)
    machine = runner._linker()[1]
    before = {f.name for f in module.functions if not f.is_declaration}
    lazy.pipeline.optimise(module, machine)
    assert len(before) >= 3  # entry, kernel, least; some releases make functions of min and max too
    assert [f.name for f in module.functions if not f.name.startswith("llvm.")] == ["alone"]
    assert gc.isenabled()


# -------------------------------------------------------------------------------------------------------------- vectors


@range_kernel
def one_of_each(lanes):
    """Functions of vectors that have no other test, each result stored in its own row of the output."""
    S, I = simd.scalar("float32"), simd.scalar("int32")  # noqa: E741
    V, W = simd.vector("float32", lanes), simd.vector("int32", lanes)

    def kernel(context, start, stop):
        a = simd.words(context)
        x, y, out = simd.pointer(a[0], S), simd.pointer(a[1], S), simd.pointer(a[2], S)
        u, v = simd.load(x, 0, V), simd.load(y, 0, V)
        simd.store(out, 0, simd.maximum(u, v))
        simd.store(out, lanes, simd.minimum(u, v))
        simd.store(out, 2 * lanes, simd.sqrt(simd.absolute(u)))
        simd.store(out, 3 * lanes, simd.floor(u))
        simd.store(out, 4 * lanes, simd.rint(u))
        simd.store(out, 5 * lanes, simd.copysign(u, v))
        simd.store(out, 6 * lanes, simd.where((u < v) & (u != 0), 1, simd.convert(simd.iota(W), S)))
        simd.store(out, 7 * lanes, simd.bitcast((simd.bitcast(u, I) ^ -1) & 0x7FFFFFFF, S))
        simd.store(out, 8 * lanes, 1 / v - u * 2)
        simd.store(out, 9 * lanes, simd.gather(x, lanes - 1 - simd.iota(W), V))
        simd.store(out, 10 * lanes, simd.full(simd.reduce_max(u) + simd.lane(v, 1), V))

    return kernel


@pytest.mark.parametrize("lanes", [4, 8, 16])
def test_functions_of_vectors_keep_nan_infinity_and_numpys_values(lanes):
    rng = np.random.default_rng(0)
    x, y = 3 * rng.standard_normal((2, 16)).astype(np.float32)[:, :lanes]
    x[0], y[2], y[3], x[3] = 2.5, np.inf, np.nan, -0.0
    x, y = x.copy(), y.copy()

    def planner(x, y):
        return Plan((Spec((11, lanes), np.float32),), (Call(one_of_each(lanes), (inp(0), inp(1), out(0)), 1, 1),))

    got = execute(planner, (x, y))
    expected = [
        np.maximum(x, y), np.minimum(x, y), np.sqrt(np.abs(x)), np.floor(x), np.rint(x), np.copysign(x, y),
        np.where((x < y) & (x != 0), 1, np.arange(lanes)), ((x.view(np.int32) ^ -1) & 0x7FFFFFFF).view(np.float32),
        1 / y - x * 2, x[::-1], np.full(lanes, x.max() + y[1])]
    for row, wanted in zip(got, expected, strict=True):
        np.testing.assert_allclose(row, wanted, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(1 / y[2], 0)


@range_kernel
def transposer(dtype, lanes):
    S, T = simd.scalar(dtype), simd.tile(simd.vector(dtype, lanes), lanes, 1)

    def kernel(context, start, stop):
        a = simd.words(context)
        tiles.store(tiles.transpose(tiles.load(simd.pointer(a[0], S), lanes, T)), simd.pointer(a[1], S), lanes)

    return kernel


@pytest.mark.parametrize(("dtype", "lanes"), [(np.float32, 4), (np.float32, 8), (np.float32, 16), (np.float64, 2)])
def test_transpose_of_a_tile(dtype, lanes):
    def planner(x):
        return Plan((Spec(x.shape, x.dtype),), (Call(transposer(x.dtype, lanes), (inp(0), out(0)), 1, 1),))

    x = np.arange(lanes * lanes, dtype=dtype).reshape(lanes, lanes)
    np.testing.assert_array_equal(execute(planner, (x,)), x.T)


# -------------------------------------------------------------------------------------------------------------- threads


def test_python_threads_may_launch_at_once():
    x, y = np.random.default_rng(0).standard_normal((2, 50_000)).astype(np.float32)
    expected = execute(scaled_sum_planner, (x, y), grain=500)
    wrong = []

    def launch():
        for _ in range(200):
            if not np.array_equal(execute(scaled_sum_planner, (x, y), grain=500), expected):
                wrong.append(1)

    with using_threads(4):
        launchers = [threading.Thread(target=launch) for _ in range(3)]
        for t in launchers:
            t.start()
        for count in (2, 3, 4):
            threads.set_num_threads(count)
        for t in launchers:
            t.join()
    assert not wrong


def test_launches_after_a_pause_wake_sleeping_threads():
    x, y = np.random.default_rng(0).standard_normal((2, 50_000)).astype(np.float32)
    with using_threads(4):
        expected = execute(scaled_sum_planner, (x, y), grain=500)
        for i in range(50):
            threading.Event().wait(0.001 * (i % 3))
            np.testing.assert_array_equal(execute(scaled_sum_planner, (x, y), grain=500), expected)


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "2"])
def test_set_num_threads_refuses_what_is_no_number_of_threads(wrong):
    with pytest.raises(ValueError, match="set_num_threads: n is"):
        threads.set_num_threads(wrong)


def _python(code: str, **environment: str) -> subprocess.CompletedProcess:
    folder = Path(__file__).parent
    paths = os.pathsep.join([str(folder), str(folder.parent)])
    return subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths, **environment},
                          capture_output=True, text=True, timeout=120, check=False)


LAUNCH = """
import numpy as np
from test_kernel_runner import execute, scaled_sum_planner, threads
threads.set_num_threads(4)
x, y = np.ones((2, 50_000), np.float32)
def launch():
    return float(execute(scaled_sum_planner, (x, y), grain=500).sum())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_forked_child_launches_too_and_both_end():
    done = _python(LAUNCH + """
import os, warnings
warnings.simplefilter("ignore")  # Python warns of forks in processes with threads
launch()
child = os.fork()
print(launch(), flush=True)
if child:
    print(os.waitpid(child, 0)[1])
""")
    assert (done.returncode, sorted(done.stdout.split())) == (0, ["0", "175000.0", "175000.0"]), done.stderr


def test_budget_comes_from_the_environment():
    show = "from autograd_core.kernels import threads; print(threads.get_num_threads())"
    assert _python(show, AG_NUM_THREADS="3").stdout == "3\n"
    refused = _python(show, AG_NUM_THREADS="many")
    assert "AG_NUM_THREADS is 'many'" in refused.stderr


@pytest.mark.parametrize("package", ["numpy", "scipy"])
def test_blas_is_kept_on_one_thread(package):
    pytest.importorskip(package, reason=f"{package} is not installed")
    if not blas.blas_one_thread(package):
        pytest.skip("this BLAS takes no orders, which is no error")
    library = ctypes.CDLL(importlib.import_module(blas._USERS[package]).__file__)
    getters = [name.replace("set", "get") for name in blas._SETTERS]
    assert {getattr(library, name)() for name in getters if hasattr(library, name)} <= {1}


# ---------------------------------------------------------------------------------------------------------------- cache


def test_second_process_compiles_nothing_and_never_imports_numba(tmp_path):
    code = LAUNCH + "import sys\nprint(launch(), 'numba' in sys.modules)"
    first, second = (_python(code, AG_CACHE=str(tmp_path)) for _ in range(2))
    assert first.stdout.split() == ["175000.0", "True"], first.stderr
    assert second.stdout.split() == ["175000.0", "False"], second.stderr
    made = list(tmp_path.rglob("*.o"))
    assert made
    if os.name == "posix":
        assert made[0].parent.stat().st_mode & 0o777 == 0o700


def test_any_kernel_may_be_the_first_to_be_compiled(tmp_path):
    done = _python("from autograd_core.kernels import plan; print(plan.walker() > 0, len(plan._entries()))",
                   AG_CACHE=str(tmp_path))
    assert done.stdout == "True 3\n", done.stderr


def test_damaged_entries_are_made_anew(tmp_path):
    code = LAUNCH + "import sys\nprint(launch(), 'numba' in sys.modules)"
    _python(code, AG_CACHE=str(tmp_path))
    for entry in tmp_path.rglob("*.o"):
        entry.write_bytes(entry.read_bytes()[:-7])
    assert _python(code, AG_CACHE=str(tmp_path)).stdout.split() == ["175000.0", "True"]
    assert _python(code, AG_CACHE=str(tmp_path)).stdout.split() == ["175000.0", "False"]


def test_two_processes_fill_one_cache(tmp_path):
    code = LAUNCH + "print(launch())"
    results = []
    processes = [threading.Thread(target=lambda: results.append(_python(code, AG_CACHE=str(tmp_path)))) for _ in (0, 1)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
    assert [r.stdout for r in results] == ["175000.0\n"] * 2
    assert not [f for f in tmp_path.rglob("*") if f.is_file() and f.suffix != ".o"]


def test_cache_that_cannot_be_written_is_said_once_and_done_without(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("a file stands where the folder should be")
    done = _python(LAUNCH + "print(launch())", AG_CACHE=str(blocked))
    assert done.stdout == "175000.0\n"
    assert done.stderr.count("kernels are not cached on disk") == 1


def test_full_disk_is_said_once_and_done_without(tmp_path, monkeypatch):
    monkeypatch.setenv("AG_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "_warned", False)
    cache.folder.cache_clear()

    def full(*names):
        raise OSError(28, "No space left on device")

    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", full)
            with pytest.warns(RuntimeWarning, match="No space left on device"):
                cache.store("name", b"content")
            cache.store("name", b"content")
        assert cache.load("name") is None
        assert not [f for f in tmp_path.rglob("*") if f.is_file()]
        cache.store("name", b"content")
        assert cache.load("name") == b"content"
    finally:
        monkeypatch.undo()
        cache.folder.cache_clear()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="POSIX permissions")
def test_folder_that_others_may_write_to_is_not_trusted(tmp_path):
    code = "from autograd_core.kernels import cache; print(cache.folder())"
    folder = Path(_python(code, AG_CACHE=str(tmp_path)).stdout.strip())
    folder.chmod(0o777)
    done = _python(code, AG_CACHE=str(tmp_path))
    assert done.stdout == "None\n"
    assert "others may write to it" in done.stderr


def test_fingerprint_depends_on_the_processor(monkeypatch):
    before = cache.fingerprint()
    cache.fingerprint.cache_clear()
    monkeypatch.setattr(host, "cpu", lambda: ("another", "+features"))
    assert cache.fingerprint() != before
    monkeypatch.undo()
    cache.fingerprint.cache_clear()
    assert cache.fingerprint() == before


def test_sources_of_a_kernel_are_its_file_and_what_it_imports_from_kernels(tmp_path, monkeypatch):
    (tmp_path / "simd.py").write_text("x = 1")
    (tmp_path / "other.py").write_text("x = 1")
    (tmp_path / "vmath.py").write_text("from autograd_core.kernels.lazy import (\n    simd,\n)")
    (tmp_path / "mine.py").write_text("import numpy\nfrom autograd_core.kernels import vmath")
    modules = {name: tmp_path / f"{name}.py" for name in ("simd", "other", "vmath", "mine")}
    monkeypatch.setattr(cache, "_MODULES", modules)

    def digest():
        cache.sources.cache_clear()
        return cache.sources(str(modules["mine"]))

    try:
        before = digest()
        modules["other"].write_text("x = 2")
        assert digest() == before
        for name in ("simd", "mine", "vmath"):
            modules[name].write_text(modules[name].read_text() + "\n# changed")
            before, earlier = digest(), before
            assert before != earlier
    finally:
        cache.sources.cache_clear()
