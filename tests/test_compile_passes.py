"""What the compiler makes of programs: passes, checks, native draws, memory, machine code on disk."""

import os
import subprocess
import sys

import numpy as np
import pytest

import autograd_core as ag
import nn
import nn.functional as F
import optim
from autograd_core.ops.random import coins, uniform01
from autograd_core.passes import IN_PLACE, NATIVE, PASSES
from autograd_core.recomputing import _Liveness
from autograd_core.storage import version


def network():
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 8), nn.Tanh(),
                         nn.Dropout(0.25), nn.Linear(8, 4))  # fmt: skip


def train(steps=3, model=network, optimizer=optim.Adam, **options):
    """(losses, compiled step) of a small network that has something for every pass."""
    ag.manual_seed(3)
    model = model()
    optimizer = optimizer(model.parameters(), lr=0.01)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = ag.compile(step, **options) if options.pop("compiled", True) else step
    rng = np.random.default_rng(1)
    data = [(ag.tensor(rng.standard_normal((4, 1, 8, 8)).astype("f")), ag.tensor(rng.integers(0, 4, 4)))
            for _ in range(steps)]  # fmt: skip
    return [run(x, y).item() for x, y in data], run


@pytest.fixture(scope="module")
def whole():
    return train()


@pytest.mark.parametrize("off", [*PASSES, IN_PLACE, NATIVE])
def test_a_pass_that_is_switched_off_changes_nothing_beyond_rounding(off, whole):
    losses, step = train(disable=[off] if off in (IN_PLACE, NATIVE) else [off, NATIVE])
    np.testing.assert_allclose(losses, whole[0], rtol=3e-6)
    assert len(step.program().instructions) >= len(whole[1].program().instructions)


def test_the_number_of_threads_changes_no_bit():
    before, losses = ag.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            ag.set_num_threads(threads)
            losses.append(train()[0])
    finally:
        ag.set_num_threads(before)
    assert losses[0] == losses[1] == losses[2]


def test_without_any_pass(whole):
    losses, _ = train(passes=())
    np.testing.assert_allclose(losses, whole[0], rtol=3e-6)


# ---------------------------------------------------------------------------------------------------- epilogues


def names(compiled):
    return [row.op.name for row in compiled.program().instructions]


def test_products_take_in_what_follows():
    x, w, b, r = ag.randn(5, 6), ag.randn(4, 6), ag.randn(4), ag.randn(5, 4)
    f = ag.compile(lambda x: ((F.linear(x, w, b) + r).relu() * 2, (x @ w.t() * 0.5 + b).sigmoid()))
    for k in range(2):
        for found, expected in zip(f(x + k), f.function(x + k), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-6, atol=1e-6)
    assert "linear+add+relu" in names(f)
    assert "matmul+mul+add+sigmoid" in names(f)


def test_convolutions_end_with_relu():
    x, b = ag.randn(2, 3, 9, 9), ag.randn(4)
    for weight, padding in ((ag.randn(4, 3, 3, 3), 1), (ag.randn(4, 3, 1, 1), 0)):
        f = ag.compile(lambda x, w=weight, p=padding: F.conv2d(x, w, b, padding=p).relu())
        f(x)
        np.testing.assert_allclose(f(x).numpy(), f.function(x).numpy(), rtol=1e-5, atol=1e-5)
        assert names(f) == ["convolution+relu"]


def test_what_others_read_is_no_epilogue():
    w = ag.randn(4, 4)

    @ag.compile
    def f(x):
        y = x @ w
        return y, y.relu()

    f(ag.ones(2, 4))
    assert "matmul" in names(f)


def test_a_loss_and_its_gradient_are_one_loop():
    x, y = ag.randn(5, 7, requires_grad=True), ag.randn(5, 7)

    def gradient(x, y, after):
        loss = F.mse_loss(x, y)
        (g,) = ag.grad(loss, [x])
        return loss.detach(), g * after(loss.detach())

    f = ag.compile(gradient)
    for after, count in ((lambda loss: 2.0, 1), (lambda loss: loss.exp(), 2)):  # what waits for the sum cannot be in it
        f(x, y, after)
        for found, expected in zip(f(x, y, after), gradient(x, y, after), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=2e-6)
        assert len([name for name in names(f) if "squared_error" in name or "mul" in name]) == count, names(f)


@pytest.mark.parametrize("batch_first", [True, False])
def test_layers_work_on_the_tables_that_their_input_is_rows_of(batch_first):
    ag.manual_seed(0)
    table, layer = nn.Embedding(20, 8, padding_idx=3), nn.LSTM(8, 16, batch_first=batch_first)
    parameters = [*table.parameters(), *layer.parameters()]

    def gradients(text):
        return ag.grad((layer(table(text))[0] ** 2).sum(), parameters)

    text = ag.randint(0, 20, (4, 12))
    run, plain = ag.compile(gradients), ag.compile(gradients, disable=["tables", NATIVE])
    for f in (run, ag.compile(gradients, disable=[NATIVE]), plain):
        f(text)
        for found, expected in zip(f(text), gradients(text), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-4, atol=1e-5)
    made = ["lookup+lstm_layer", "lookup+lstm_backward+embedding_backward"]
    assert [name for name in names(run) if "lstm" in name] == made
    assert "lstm_layer" in names(plain)
    with pytest.raises(IndexError, match="20 is out of range"):
        run(text * 0 + 20)


def test_a_table_with_more_rows_than_are_looked_up_stays_as_it_is():
    table, layer = nn.Embedding(50, 8), nn.LSTM(8, 16)
    f = ag.compile(lambda text: layer(table(text))[0])
    f(ag.randint(0, 50, (12, 4)))
    assert "lstm_layer" in names(f)


# ---------------------------------------------------------------------------------------------------- what is asked for


def test_nan_names_the_operation_and_the_line():
    layer = nn.Linear(2, 1)
    optimizer = optim.Adam(layer.parameters())
    with ag.no_grad():
        layer.weight.fill_(1.0)
        layer.bias.fill_(1.0)

    @ag.compile(check_nan=True)
    def step(x):
        optimizer.zero_grad()
        loss = layer(x).log().mean()
        loss.backward()
        optimizer.step()
        return loss

    step(ag.ones(3, 2))
    before = layer.weight.tolist()
    with pytest.raises(FloatingPointError, match=r"log gives NaN \(3 of 3 elements\).*\n?.*test_compile_passes.py"):
        step(-ag.ones(3, 2))
    assert layer.weight.tolist() == before
    assert optimizer.state[layer.weight]["step"].item() == 1
    assert np.isfinite(step(ag.ones(3, 2)).item())


def test_an_index_out_of_range_writes_nothing():
    table = nn.Embedding(5, 3)
    optimizer = optim.Adam(table.parameters())

    @ag.compile
    def step(rows, target):
        optimizer.zero_grad()
        F.cross_entropy(table(rows), target).backward()
        optimizer.step()

    good, target = ag.tensor([1, 4]), ag.tensor([0, -100])
    step(good, target)
    step(good, target)
    before = table.weight.tolist()
    with pytest.raises(IndexError, match="5 is out of range for 5 rows"):
        step(ag.tensor([0, 5]), target)
    with pytest.raises(IndexError, match="target 3 is out of bounds for 3 classes") as caught:
        step(good, ag.tensor([0, 3]))
    assert "softmax_nll" in caught.value.__notes__[0]
    assert table.weight.tolist() == before
    assert optimizer.state[table.weight]["step"].item() == 2


# ---------------------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize("shape", [(3, 5), (64,), (700, 60)])
def test_native_draws_have_the_bits_of_eager_ones(shape):
    body = ag.compile(lambda: (ag.rand(*shape), F.dropout(ag.ones(*shape), 0.3), ag.rand(*shape) < 0.5))
    ag.manual_seed(-5)
    found = [[t.numpy() for t in body()] for _ in range(3)]
    ag.manual_seed(-5)
    for run in found:
        for a, b in zip(run, body.function(), strict=True):
            np.testing.assert_array_equal(a, b.numpy())
    assert "= uniform01" not in body.source()  # no line of Python draws
    assert "= coins" not in body.source()


@pytest.mark.parametrize("dtype", [ag.float32, ag.float64])
def test_native_draws_of_other_distributions_are_eager_ones_to_rounding(dtype):
    def draw():
        return (ag.randn(9, 11, dtype=dtype), ag.empty(70, dtype=dtype).exponential_(), ag.rand(5, dtype=dtype),
                ag.randn_like(ag.empty(64, dtype=dtype)))  # fmt: skip

    run = ag.compile(draw)
    ag.manual_seed(3)
    found = [run() for _ in range(3)]
    ag.manual_seed(3)
    for made in found:
        for a, b in zip(made, draw(), strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=8 * np.finfo(a.numpy().dtype).eps)
    assert "(Python)" not in run.table()


@pytest.mark.parametrize("record", [coins.record, uniform01.record])
def test_large_draws_continue_small_ones(record):
    """The kernel and NumPy give the same numbers at the size from which the kernel is used."""
    given = (0.3,) if record is coins.record else ()
    draws = [record.function(*given, shape=(n,), dtype=np.dtype("f"), seed=9, offset=1 << 40) for n in (1000, 40_000)]
    np.testing.assert_array_equal(draws[0], draws[1][:1000])


# ---------------------------------------------------------------------------------------------------- memory


def test_results_that_are_held_are_not_written_again():
    w = ag.ones(40, 40, requires_grad=True)

    @ag.compile
    def f(x):
        w.grad = None
        y = w * x
        y.sum().backward()
        return y.detach()

    f(ag.ones(40, 40))
    held, arrays, grads = [], [], []
    for k in range(4):
        held.append(f(ag.ones(40, 40) * k))
        arrays.append(held[-1].numpy())
        grads.append(w.grad.numpy())
    del held
    assert [a.max() for a in arrays] == [0, 1, 2, 3]
    assert [a.min() for a in grads] == [0, 1, 2, 3]


def peak(compiled):
    """The largest sum of bytes between two instructions."""
    return max(_Liveness(compiled.program()).sizes)


def deep():
    layers = [nn.Sequential(nn.Linear(16, 64), nn.Tanh(), nn.Linear(64, 16), nn.GELU(), nn.Dropout(0.1))
              for _ in range(4)]  # fmt: skip
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), *layers, nn.Linear(16, 4))


def test_loops_write_over_what_nobody_reads_again():
    """Results take the place of operands that die, never of one that is read later, through a view or as a result."""

    @ag.compile
    def f(x):
        a = x.cos()
        turned, flat = a.t(), a.t().reshape(-1)
        b = a @ a
        c = (b.exp() - 1) @ a  # exp may write over b
        d = (c * 2) @ b.t()
        return turned, flat, c, d.sum(0)

    for k in range(3):
        x = ag.linspace(0, 1, 4900).reshape(70, 70) * 0.01 + k
        for found, expected in zip(f(x), f.function(x), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-5)


def test_the_updates_of_all_parameters_are_one_launch(whole):
    """As many chunks as they had before; rows that read what others write stay rows of their own."""
    _, step = whole
    lines = [line for line in step.table().splitlines() if line.startswith("sub+mul+add")]
    assert len(lines) == 1
    assert lines[0].count("captured memory") == 3 * 6
    chain = ag.compile(lambda x: ((x @ x).tanh() @ x).tanh())
    chain(ag.randn(4, 4))
    apart = ag.compile(lambda x: [y.tanh() for y in ((x @ x)[:3], (x @ x.t())[:2])])
    for f in (chain, apart):
        for _ in range(3):
            x = ag.randn(4, 4)
            for a, b in zip(f(x), f.function(x), strict=True):
                np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


def test_a_memory_budget_is_kept_and_changes_no_bit():
    kept, whole = train(model=deep, disable=[NATIVE])
    needed = peak(whole)
    again, small = train(model=deep, disable=[NATIVE], memory_budget=int(0.8 * needed))
    assert again == kept
    assert peak(small) <= 0.8 * needed
    assert len(small.program().instructions) > len(whole.program().instructions)
    native, least = train(model=deep, memory_budget=0)  # as little as can be
    np.testing.assert_allclose(native, kept, rtol=3e-6)
    assert peak(least) < 0.8 * needed


def test_writes_of_programs_count_as_writes():
    w = ag.ones(3)
    f = ag.compile(w.add_)
    f(ag.ones(3))
    before = version(w.array)
    f(ag.ones(3))
    assert version(w.array) == before + 1
    w.add_(1)
    assert version(w.array) == before + 2


def test_counts_of_an_optimizer_are_seen_by_everybody():
    """A program keeps the counts of all parameters in one array; eager steps and other programs go on with it."""
    model = nn.Linear(3, 2)
    optimizer = optim.Adam(model.parameters())

    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    compiled = ag.compile(step)
    for run, rows in ((compiled, 2), (compiled, 2), (step, 2), (compiled, 5), (compiled, 5), (compiled, 2)):
        run(ag.ones(rows, 3))
    assert [s["step"].item() for s in optimizer.state.values()] == [6, 6]
    optimizer.load_state_dict(optimizer.state_dict())
    compiled(ag.ones(2, 3))
    assert [s["step"].item() for s in optimizer.state.values()] == [7, 7]


# ---------------------------------------------------------------------------------------------------- guards


def test_settings_are_looked_up_when_they_change():
    w = ag.zeros(1, requires_grad=True)
    optimizer = optim.SGD([w], lr=1.0)

    @ag.compile
    def step():
        optimizer.zero_grad()
        w.sum().backward()
        optimizer.step()

    for lr, expected in ((1.0, -1), (1.0, -2), (0.5, -2.5), (0.5, -3.0), (2.0, -5.0)):
        optimizer.param_groups[0]["lr"] = lr
        step()
        assert w.item() == expected
    optimizer.param_groups[0]["momentum"] = 0.9
    for _ in range(3):
        step()
    assert w.item() == pytest.approx(-5 - 2 - 2 * 1.9 - 2 * 2.71)


def test_arguments_of_every_kind():
    f = ag.compile(lambda x, k, pair, *, flag=True: x * k + pair[0] if flag else x - pair["b"])
    x = ag.ones(2)
    for _ in range(2):
        assert f(x, 2, [x, 1]).tolist() == [3, 3]
        assert f(x, 2.5, [x, 1]).tolist() == [3.5, 3.5]
        assert f(x, 2, {"b": x}, flag=False).tolist() == [0, 0]
        assert f(x[:1], True, (x,)).tolist() == [2, 2]
    assert f.recordings == 4
    g = ag.compile(lambda x, y: x * y)
    assert g(x, x * 3).tolist() == [3, 3]
    assert g(x, x).tolist() == [1, 1]
    assert g(x, ag.ones(2) * 4).tolist() == [4, 4]
    assert g.recordings == 2
    view = ag.ones(2, 2)[0]
    base = ag.ones(4)
    assert g(view, base[:2]).tolist() == [1, 1]
    base.mul_(5)
    assert g(view, base[:2]).tolist() == [5, 5]


# ---------------------------------------------------------------------------------------------------- to look at


def test_the_texts_of_a_program_refer_to_each_other():
    f = ag.compile(lambda x: (x.tanh() * 2 + 1).sum())
    f(ag.ones(5))
    assert "tanh" in str(f.program())
    assert any("tanh" in text and "def kernel" in text for text in f.loops().values())
    assert all(name in f.table() for name in f.loops())
    assert "native_0" in f.source()


# ---------------------------------------------------------------------------------------------------- machine code

SCRIPT = """
import autograd_core as ag
from autograd_core.kernels.runner import RangeKernel
compiled = []
original = RangeKernel._compile
RangeKernel._compile = lambda self: compiled.append(self.name) or original(self)
f = ag.compile(lambda x: ((x * 2 - 1).tanh() + x).sum())
for _ in range(3):
    f(ag.ones(3, 2))
print(len(compiled))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    """All machine code of the first process is found on disk."""
    counts = []
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True,
                              env={**os.environ, "AG_CACHE": str(tmp_path)})  # fmt: skip
        counts.append(int(done.stdout))
    assert counts[0] > 0
    assert counts[1] == 0


# ---------------------------------------------------------------------------------------------------- indices


PICKED = {
    "rows": lambda y, i, j: y[i],
    "columns": lambda y, i, j: y[:, i],
    "pairs": lambda y, i, j: y[i, j],
    "inner pairs": lambda y, i, j: y[:, i, j],
    "each": lambda y, i, j: y.gather(1, j.expand(5, 2, 2, 3).reshape(5, 4, 3)),
    "computed": lambda y, i, j: y[(i + j) % 5],
}


@pytest.mark.parametrize("name", PICKED)
def test_indexing_by_tensors_is_native(name):
    y = ag.randn(5, 4, 3, requires_grad=True)

    def f(y, i, j):
        picked = PICKED[name](y, i, j)
        return picked.detach(), ag.grad((picked**2).sum(), [y])[0]

    run, i = ag.compile(f), ag.tensor([[3, -1, 0], [-4, 1, 1]])
    for j in (ag.tensor([[0, 2, 1], [2, 2, 0]]), ag.tensor([[1, 1, 1], [0, 2, 2]])):
        run(y, i, j)
        for found, expected in zip(run(y, i, j), f(y, i, j), strict=True):
            np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-6)
    assert name == "computed" or "(Python)" not in run.table()


@pytest.mark.parametrize("wrong", [(4, 0), (-5, 0), (0, 3)])
def test_indices_out_of_range_are_eagers_error(wrong):
    y, i, j = ag.randn(4, 3), ag.tensor([0, 1]), ag.tensor([2, 0])
    run = ag.compile(lambda y, i, j: y[i, j])
    run(y, i, j)
    with pytest.raises(IndexError, match="out of bounds") as caught:
        run(y, i * 0 + wrong[0], j * 0 + wrong[1])
    assert "compiled run of pick" in caught.value.__notes__[0]
    for pick in (lambda y, j: y[j + 0], lambda y, j: y.gather(0, (j + 0)[None, :, None].expand(1, 2, 3)[0])):
        run = ag.compile(pick)
        run(y, j)
        with pytest.raises(IndexError, match="out of bounds") as caught:
            run(y, j + 2 + 2 * wrong[1])
        assert "in a compiled run of" in caught.value.__notes__[0]


def test_clipping_by_the_norm_of_all_gradients_is_native():
    def made():
        ag.manual_seed(0)
        layer = nn.Linear(6, 3)
        optimizer = optim.SGD(layer.parameters(), lr=0.1)

        def step(x):
            optimizer.zero_grad()
            loss = (layer(x) ** 2).mean()
            loss.backward()
            norm = nn.utils.clip_grad_norm_(layer.parameters(), 0.1)
            optimizer.step()
            return loss.detach(), norm

        return step

    x, run, step = ag.randn(4, 6), ag.compile(made()), made()
    for _ in range(3):
        np.testing.assert_allclose([t.item() for t in run(x)], [t.item() for t in step(x)], rtol=1e-5)
    assert "(Python)" not in run.table()


def test_nan_is_found_while_it_is_recorded():
    run = ag.compile(lambda x: (x - 2).log().sum(), check_nan=True)
    with pytest.raises(FloatingPointError, match="log gives NaN"):
        run(ag.ones(3))


def test_a_picture_shows_what_a_profile_has_measured():
    run, x = ag.compile(lambda x: (x @ x).tanh().sum()), ag.randn(9, 9)
    run(x)
    assert run.graph().seconds is None
    found = run.profile(x, repeat=2)
    assert run.graph().seconds == pytest.approx(sum(event.seconds for event in found.events))
    assert run.graph().total("flops")


def test_warnings_name_the_users_line():
    eager, plain = ag.compile(lambda x: x * x.sum().item(), fallback="eager"), ag.compile(lambda x, n: x * n)
    with pytest.warns(UserWarning, match="it runs eagerly") as found:
        [eager(ag.ones(size)) for size in (2, 3)]
    assert [w.filename for w in found] == [__file__]
    with pytest.warns(UserWarning, match="argument 1 keeps changing") as found:
        [plain(ag.ones(2), n) for n in range(9)]
    assert [w.filename for w in found] == [__file__]
