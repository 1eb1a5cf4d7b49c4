"""Compiled functions: the same numbers as eager ones, guards, and errors that name the line."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from record_kit import for_every_sample
from subjects import run_bodies

import autograd_core as ag
import nn
import nn.functional as F
import optim
from autograd_core.ops.samples import build
from autograd_core.passes import NATIVE
from autograd_core.registry import OPS
from autograd_core.tensor import Tensor
from nn.models import RECIPES

RECORDS = {record.qualified: record for record in OPS.values()}


# ---------------------------------------------------------------------------------------------------- whole steps


class CharLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.lstm, self.out = nn.Embedding(20, 8), nn.LSTM(8, 16, batch_first=True), nn.Linear(16, 20)

    def forward(self, x):
        return self.out(self.lstm(self.embed(x))[0]).flatten(0, 1)


def mlp():
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 10))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2, bias=False), nn.BatchNorm2d(6), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5),
        nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10),
    )  # fmt: skip


def vectors(rng):
    return ag.tensor(rng.standard_normal((8, 20)).astype("f")), ag.tensor(rng.integers(0, 10, 8))


def pictures(rng):
    return ag.tensor(rng.standard_normal((4, 1, 28, 28)).astype("f")), ag.tensor(rng.integers(0, 10, 4))


def letters(rng):
    text = rng.integers(0, 20, (4, 13))
    return ag.tensor(text[:, :-1].copy()), ag.tensor(text[:, 1:].reshape(-1).copy())


def momentum(parameters):
    return optim.SGD(parameters, lr=0.02, momentum=0.9, weight_decay=1e-3, nesterov=True)


def train(model, data, make_optimizer, compiled, steps=20, schedule=True, **options):
    """(losses, model, compiled function) of a few steps, with a learning rate that changes at each."""
    ag.manual_seed(1)
    model = model()
    optimizer = make_optimizer(model.parameters())
    scheduler = optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps + 1) if schedule else None

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = ag.compile(step, **options) if compiled else step
    losses, rng = [], np.random.default_rng(0)
    for _ in range(steps):
        losses.append(run(*data(rng)).item())
        if scheduler is not None:
            scheduler.step()
    return losses, model, run


STEPS = {
    "mlp-adam": (mlp, vectors, optim.Adam),
    "mlp-momentum": (mlp, vectors, momentum),
    "mlp-amsgrad": (mlp, vectors, lambda p: optim.AdamW(p, amsgrad=True)),
    "lenet-momentum": (lenet, pictures, momentum),
    "lenet-adam": (lenet, pictures, optim.Adam),
    "lstm-adam": (CharLSTM, letters, optim.Adam),
}


@pytest.mark.parametrize("case", STEPS)
def test_a_training_step_gives_the_losses_of_eager(case):
    eager, first, _ = train(*STEPS[case], compiled=False)
    found, second, step = train(*STEPS[case], compiled=True)
    np.testing.assert_allclose(found, eager, rtol=2e-5)
    for (name, a), b in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=1e-3, atol=2e-5, err_msg=name)
    assert step.recordings <= 2  # momentum begins with the second step


OPTIMIZERS = {
    "Adadelta": optim.Adadelta, "Adagrad": optim.Adagrad, "Adamax": optim.Adamax, "NAdam": optim.NAdam,
    "RAdam": optim.RAdam, "RMSprop": lambda p: optim.RMSprop(p, momentum=0.5, centered=True), "Rprop": optim.Rprop,
    "ASGD": optim.ASGD, "Lion": optim.Lion, "Adafactor": optim.Adafactor,
    "maximize": lambda p: optim.Adam(p, maximize=True),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_compiles(name):
    eager, _, _ = train(mlp, vectors, OPTIMIZERS[name], compiled=False, steps=10, schedule=False)
    found, _, step = train(mlp, vectors, OPTIMIZERS[name], compiled=True, steps=10, schedule=False)
    np.testing.assert_allclose(found, eager, rtol=2e-5)
    assert step.recordings <= 3


@pytest.mark.parametrize("off", ["dead_code", "constants", "common"])
def test_a_pass_that_is_switched_off_changes_nothing(off):
    whole, _, first = train(lenet, pictures, optim.Adam, compiled=True, steps=4)
    without, _, second = train(lenet, pictures, optim.Adam, compiled=True, steps=4, disable=[off])
    np.testing.assert_allclose(without, whole, rtol=1e-5)
    assert len(second.program().instructions) >= len(first.program().instructions)


def test_a_learning_rate_schedule_needs_one_recording():
    _, _, step = train(mlp, vectors, optim.Adam, compiled=True)
    assert step.recordings == 1


# ---------------------------------------------------------------------------------------------------- every record


def tensors(result):
    if isinstance(result, Tensor):
        return [result]
    return [t for r in result for t in tensors(r)] if isinstance(result, (list, tuple)) else []


def lifted(value, leaves):
    if isinstance(value, np.ndarray):
        leaves.append(ag.tensor(value))
        return leaves[-1]
    return type(value)(lifted(v, leaves) for v in value) if isinstance(value, (list, tuple)) else value


def filled(value, leaves):
    if isinstance(value, np.ndarray):
        return next(leaves)
    return type(value)(filled(v, leaves) for v in value) if isinstance(value, (list, tuple)) else value


CASES = [(name, number) for name, record in sorted(RECORDS.items()) for number in range(len(record.samples))
         if record.family.name != "random"]  # fmt: skip


def results(function, values, wanted=True):
    """What ``function`` of lists of leaves, one for each list of ``values``, gives, and the leaves themselves then."""
    ag.manual_seed(3)
    groups: list[list] = [[] for _ in values]
    for leaves, group in zip(groups, values, strict=True):
        for value in group:
            lifted(value, leaves)
    leaves = [leaf for group in groups for leaf in group]
    for leaf in leaves:
        leaf.requires_grad_(wanted and leaf.is_floating_point())
    return [t.detach().numpy() for t in [*function(*leaves), *leaves]]


def call_and_gradients(record, args, settings, leaves):
    """The outputs of a record, and the gradients of its floating-point inputs."""
    out = record.public(*[filled(a, given) for given in [iter(leaves)] for a in args], **settings)
    ends = [t for t in tensors(out) if t.requires_grad]
    if not ends:
        return tensors(out)
    wanted = [leaf for leaf in leaves if leaf.requires_grad]
    return [*tensors(out), *ag.grad(ends, wanted, [t * 0 + 0.5 for t in ends], materialize_grads=True)]


def same(found, expected):
    for run, (a, b) in enumerate(zip(found, expected, strict=True)):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5, err_msg=f"run {run}")  # sums in another order


@for_every_sample(CASES)
def test_a_program_gives_what_eager_gives_for_other_values(name, number):
    """Forward and gradients of every record, recorded with one set of values and run with another."""
    record = RECORDS[name]
    (args, settings), (others, _) = [
        build(record.samples[number], seed=s, dtype=np.float32) for s in (number, number + 99)
    ]

    def call(*leaves):
        return call_and_gradients(record, args, settings, leaves)

    wanted = not name.startswith("Tensor.")
    try:
        expected = [results(call, [args], wanted), results(call, [others], wanted)]
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        pytest.skip(f"eager refuses other values, or has no gradient: {error}")
    # machine code for one sample of each kernel: making it for all takes minutes; loops follow all together
    compiled = ag.compile(call, disable=("fusion",) if number == 0 and record.kernel else ("native", "fusion"))
    try:
        found = [results(compiled, [args], wanted), results(compiled, [others], wanted)]
    except ag.CompileError as error:
        pytest.skip(f"not for programs: {error}")
    same(found, expected)


SCALARS = [record for _, record in sorted(RECORDS.items()) if record.scalar and record.family.name != "random"]


@pytest.mark.parametrize("part", range(8))
def test_loops_of_many_records_give_what_eager_gives(part):
    """All scalar expressions as machine code, many in one loop: one loop each would take minutes to compile."""
    records = SCALARS[part::8]
    samples = [build(record.samples[0], seed=0, dtype=np.float32) for record in records]
    counts = [len(lifted_leaves(args)) for args, _ in samples]
    smooth = [gradient_is_known(*each) for each in zip(records, samples, strict=True)]

    def call(*leaves):
        given, out = iter(leaves), []
        for record, (args, settings), count, known in zip(records, samples, counts, smooth, strict=True):
            own = [next(given) for _ in range(count)]
            out += call_and_gradients(record, args, settings, own if known else [leaf.detach() for leaf in own])
        return out

    values = [args for args, _ in samples]
    same([results(ag.compile(call), values)], [results(call, values)])


def gradient_is_known(record, sample):
    """Whether there are rules for all inputs: that of igamma has none for its first."""
    args, settings = sample
    try:
        results(lambda *leaves: call_and_gradients(record, args, settings, leaves), [args])
    except NotImplementedError:
        return False
    return True


def lifted_leaves(args):
    leaves: list = []
    for value in args:
        lifted(value, leaves)
    return leaves


# ---------------------------------------------------------------------------------------------------- memory


def test_views_and_writes_in_place():
    @ag.compile
    def f(x):
        y = x * 2
        row = y[1]
        row += 1
        turned = y.t()
        y[0, 0] = 7
        y.mul_(10)
        return y, turned.sum(), row

    def g(x):
        y = x * 2
        row = y[1]
        row += 1
        turned = y.t()
        y[0, 0] = 7
        y.mul_(10)
        return y, turned.sum(), row

    for k in range(3):
        x = ag.arange(6.0).reshape(2, 3) + k
        for a, b in zip(f(x), g(x), strict=True):
            assert a.tolist() == b.tolist()
    assert f.recordings == 1


def test_running_statistics_and_counters_are_written_where_they_lie():
    norms = [nn.BatchNorm1d(3), nn.BatchNorm1d(3)]
    runs = [ag.compile(norms[0]), norms[1]]
    for _ in range(3):
        x = ag.randn(5, 3)
        np.testing.assert_allclose(runs[0](x).detach().numpy(), runs[1](x).detach().numpy(), rtol=1e-6, atol=1e-6)
    for a, b in zip(norms[0].buffers(), norms[1].buffers(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6, atol=1e-7)
    assert norms[0].num_batches_tracked.item() == 3


def test_results_and_gradients_own_their_memory():
    w = ag.ones(3, requires_grad=True)

    @ag.compile
    def f(x):
        w.grad = None
        (w * x).sum().backward()
        return x * 2

    f(ag.ones(3))
    first, before = f(ag.ones(3)), w.grad
    f(ag.zeros(3))
    assert first.tolist() == [2, 2, 2]
    assert before.tolist() == [1, 1, 1]
    assert w.grad.tolist() == [0, 0, 0]


def test_threads_may_run_one_program():
    w = ag.randn(50, 50)
    f = ag.compile(lambda x: (x @ w).tanh() @ w)
    inputs = [ag.randn(40, 50) for _ in range(4)]
    f(inputs[0])  # recorded, with the products of the eager call
    expected = [f(x).tolist() for x in inputs]

    def work(number):
        return all(f(inputs[number]).tolist() == expected[number] for _ in range(50))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))


def test_gradients_accumulate_without_zero_grad():
    w = ag.ones(2, requires_grad=True)

    @ag.compile
    def f(x):
        (w * x).sum().backward()

    for k in range(1, 5):
        f(ag.tensor([1.0, 2.0]))
        assert w.grad.tolist() == [k, 2 * k]
    assert f.recordings == 2  # the first one had no gradient to add to


def test_replaced_data_is_read():
    w = ag.ones(2)
    f = ag.compile(lambda x: x * w)
    assert f(ag.ones(2)).tolist() == [1, 1]
    w.data = ag.tensor([3.0, 4.0])
    assert f(ag.ones(2)).tolist() == [3, 4]
    assert f.recordings == 1


def test_a_step_written_by_hand_with_data():
    w = ag.ones(2, requires_grad=True)

    @ag.compile
    def f(x):
        w.grad = None
        (w * w * x).sum().backward()
        w.data = w.data - 0.1 * w.grad
        with ag.no_grad():
            w.sub_(0.1 * w.grad)

    expected = np.ones(2, np.float32)
    for _ in range(3):
        gradient = 2 * expected * np.float32([1, 2])
        f(ag.tensor([1.0, 2.0]))
        expected = expected - 2 * np.float32(0.1) * gradient
        np.testing.assert_allclose(w.detach().numpy(), expected, rtol=1e-6)


# ---------------------------------------------------------------------------------------------------- guards


def test_new_shapes_and_settings_record_again():
    f = ag.compile(lambda x, power=2: x**power)
    assert f(ag.ones(2) * 3).tolist() == [9, 9]
    assert f(ag.ones(3) * 3).tolist() == [9, 9, 9]
    assert f(ag.ones(3) * 3, power=3).tolist() == [27, 27, 27]
    assert f(ag.ones(2) * 2).tolist() == [4, 4]
    assert f.recordings == 3


def test_modes_of_modules_are_guards():
    model = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5))
    f = ag.compile(model)
    x = ag.ones(4, 3)
    assert (f(x) == 0).any()
    model.eval()
    assert f(x).tolist() == model(x).tolist()
    model.train()
    f(x)
    assert f.recordings == 2


def test_attributes_of_modules_are_guards():
    model = nn.Dropout(0.5)
    f = ag.compile(model)
    x = ag.ones(100)
    f(x)
    model.p = 0.0
    assert f(x).tolist() == [1.0] * 100


def test_a_replaced_parameter_is_seen():
    model = nn.Linear(2, 1, bias=False)
    f = ag.compile(model)
    f(ag.ones(1, 2))
    model.weight = nn.Parameter(ag.tensor([[5.0, 6.0]]))
    assert f(ag.ones(1, 2)).item() == 11


def test_names_from_around_are_guards():
    scale = 2.0

    def f(x):
        return x * scale

    g = ag.compile(f)
    assert g(ag.ones(1)).item() == 2
    scale = 3.0
    assert g(ag.ones(1)).item() == 3


def test_grad_mode_is_a_guard():
    f = ag.compile(lambda x: (x * 2, ag.is_grad_enabled()))
    assert f(ag.ones(1))[1]
    with ag.no_grad():
        assert not f(ag.ones(1))[1]


def test_a_loaded_optimizer_state_is_used():
    model = nn.Linear(2, 1)
    optimizer = optim.Adam(model.parameters())

    @ag.compile
    def step(x):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()

    for _ in range(3):
        step(ag.ones(1, 2))
    optimizer.load_state_dict(optimizer.state_dict())
    step(ag.ones(1, 2))
    assert optimizer.state[model.weight]["step"].item() == 4
    assert step.recordings == 2


def test_many_signatures_warn_and_name_the_argument():
    f = ag.compile(lambda x, n: x * n)
    for n in range(7):
        f(ag.ones(2), n)
    with pytest.warns(UserWarning, match="argument 1 keeps changing"):
        f(ag.ones(2), 7)


# ---------------------------------------------------------------------------------------------------- random draws


def test_draws_differ_from_run_to_run_and_equal_eagers():
    f = ag.compile(lambda x: F.dropout(x, 0.5) + ag.rand(4))
    ag.manual_seed(5)
    found = [f(ag.ones(4)).tolist() for _ in range(3)]
    ag.manual_seed(5)
    expected = [(F.dropout(ag.ones(4), 0.5) + ag.rand(4)).tolist() for _ in range(3)]
    assert found == expected
    assert found[0] != found[1]


def test_a_generator_of_ones_own():
    source = ag.Generator().manual_seed(3)
    f = ag.compile(lambda: ag.rand(2, generator=source) + ag.rand(2))
    ag.manual_seed(1)
    found = [f().tolist() for _ in range(3)]
    source.manual_seed(3)
    ag.manual_seed(1)
    assert found == [(ag.rand(2, generator=source) + ag.rand(2)).tolist() for _ in range(3)]


# ---------------------------------------------------------------------------------------------------- what is refused


def refused(function, *args):
    with pytest.raises(ag.CompileError) as caught:
        ag.compile(function)(*args)
    assert "test_compile.py" in str(caught.value)
    return str(caught.value)


def test_control_flow_on_values():
    def f(x):
        if x.sum() > 0:
            return x
        return -x

    assert "if x.sum() > 0" in refused(f, ag.ones(2))


def test_numbers_and_arrays_of_values():
    assert ".item()" in refused(lambda x: x * x.mean().item(), ag.ones(2))
    refused(lambda x: x.numpy() + 1, ag.ones(2))
    refused(lambda x: x.tolist(), ag.ones(2))
    refused(lambda x: ag.tensor([x[0], x[1]]), ag.ones(2))


def test_numpy_arrays_from_outside():
    weights = np.ones(2, np.float32)
    assert "NumPy" in refused(lambda x: x * weights, ag.ones(2))
    assert "NumPy" in refused(lambda x: F.mse_loss(x, weights), ag.ones(2))
    assert "NumPy" in refused(lambda x: x * ag.tensor(weights), ag.ones(2))


def test_a_numpy_argument_is_an_argument():
    f = ag.compile(lambda x, w: x * w + ag.tensor(w))
    assert f(ag.ones(2), np.float32([1, 2])).tolist() == [2, 4]
    assert f(ag.ones(2), np.float32([3, 4])).tolist() == [6, 8]


def test_effects_in_python():
    losses = []
    model = nn.Linear(2, 1)

    def appends(x):
        losses.append(x.sum())

    def sets(x):
        model.last = model(x)

    def seeds(x):
        ag.manual_seed(0)
        return x + ag.rand(2)

    def schedules(x):
        model(x).sum().backward()
        optimizer.step()
        optimizer.param_groups[0]["lr"] *= 0.5

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    said = {appends: "list 'losses' is changed", sets: "attribute 'last'", seeds: "a generator is seeded",
            schedules: "the setting 'lr' of an optimizer", lambda x: float(x.shape[0]): "returns a float"}  # fmt: skip
    for function, words in said.items():
        assert words in refused(function, ag.ones(2))


def test_a_shape_that_depends_on_values():
    assert "depends on values" in refused(lambda x: x[x > 0], ag.ones(2))


def test_fallback_runs_eagerly_and_says_so_once():
    f = ag.compile(lambda x: x * x.max().item(), fallback="eager")
    with pytest.warns(UserWarning, match="runs eagerly"):
        assert f(ag.tensor([1.0, 2.0])).tolist() == [2, 4]
    assert f(ag.tensor([1.0, 3.0])).tolist() == [3, 9]


def test_an_error_in_a_run_names_the_operation():
    f = ag.compile(lambda table, row: table[row])
    f(ag.ones(3), ag.tensor([1]))
    with pytest.raises(IndexError) as caught:
        f(ag.ones(3), ag.tensor([7]))
    assert any("take_slices" in note and "test_compile.py" in note for note in caught.value.__notes__)


def test_wrong_options():
    with pytest.raises(ValueError, match="fallback"):
        ag.compile(lambda: 0, fallback="slow")
    with pytest.raises(ValueError, match="no pass 'magic'"):
        ag.compile(lambda: 0, disable=["magic"])
    with pytest.raises(TypeError, match="function or a module"):
        ag.compile(3)


# ---------------------------------------------------------------------------------------------------- derivatives


def test_derivatives_inside():
    def f(x):
        return (x**3).sum()

    x = ag.tensor([1.0, 2.0])
    for derived in (ag.func.grad(f), lambda x: ag.hessian(f, x), ag.vmap(ag.func.grad(lambda r: r**3))):
        compiled = ag.compile(derived)
        compiled(x + 1)
        np.testing.assert_allclose(compiled(x).detach().numpy(), derived(x).detach().numpy(), rtol=1e-6)
        assert compiled.recordings == 1


def test_gradients_flow_through_a_compiled_module():
    ag.manual_seed(2)
    model, twin = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)) for _ in range(2)]
    twin.load_state_dict(model.state_dict())
    compiled = ag.compile(model)
    for k in range(3):
        x, w = ag.randn(5, 3, requires_grad=True), ag.randn(5, 2)
        losses = [(run(x * 2) * w).sum() for run in (compiled, twin)]
        expected = ag.grad(losses[1], [x, *twin.parameters()])
        found = ag.grad(losses[0], [x, *model.parameters()])
        assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
        for number, (a, b) in enumerate(zip(found, expected, strict=True)):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5, err_msg=f"run {k}, {number}")
    assert compiled.recordings == 1
    assert losses[0].grad_fn is not None


def test_second_derivatives_through_a_compiled_function():
    f = ag.compile(lambda x: (x**3).sum())
    f(ag.ones(2, requires_grad=True))
    x = ag.tensor([1.0, 2.0], requires_grad=True)
    (first,) = ag.grad(f(x), x, create_graph=True)
    (second,) = ag.grad(first.sum(), x)
    assert first.tolist() == [3, 12]
    assert second.tolist() == [6, 12]


def test_backward_through_a_compiled_function_sees_changes_in_place():
    w = ag.ones(2, requires_grad=True)
    f = ag.compile(lambda x: (w * w * x).sum())
    f(ag.ones(2))
    loss = f(ag.ones(2))
    with ag.no_grad():
        w += 1
    with pytest.raises(RuntimeError, match="modified by an in-place operation"):
        loss.backward()


def test_second_order_inside():
    @ag.compile
    def f(x):
        x = x.detach().requires_grad_()
        (first,) = ag.grad((x**3).sum(), x, create_graph=True)
        (second,) = ag.grad(first.sum(), x)
        return first, second

    f(ag.ones(2))
    first, second = f(ag.tensor([2.0, 3.0]))
    assert first.tolist() == [12, 27]
    assert second.tolist() == [12, 18]


def test_a_users_function_inside():
    class Double(ag.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 5 + ctx.saved_tensors[0]

    @ag.compile
    def f(x):
        x = x.detach().requires_grad_()
        return ag.grad(Double.apply(x).sum(), x)[0]

    assert f(ag.ones(2)).tolist() == [6, 6]
    assert f(ag.ones(2) * 3).tolist() == [8, 8]


# ---------------------------------------------------------------------------------------------------- to look at


def test_the_program_is_readable():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    f = ag.compile(lambda x: model(x).sum())
    f(ag.ones(4, 2))
    text = str(f.program())
    assert "%0.weight: f32[3, 2] captured" in text
    assert "linear+tanh(%x, %0.weight, %0.bias, None)" in text
    assert "test_compile.py:" in text
    f.program().check()


def test_a_profile_lists_the_rows_and_takes_real_steps():
    model = nn.Linear(3, 2)
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    @ag.compile
    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        optimizer.step()
        return loss

    step(ag.ones(4, 3))
    before = model.weight.detach().clone()
    profile = step.profile(ag.ones(4, 3), repeat=3)
    assert any(row.name == "linear" and row.flops == 2 * 4 * 2 * 3 for row in profile.events)
    assert "linear" in str(profile)
    assert not ag.equal(before, model.weight)


def test_a_compiled_function_is_drawn():
    model = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
    f = ag.compile(lambda x: model(x).sum())
    f(ag.ones(4, 2))
    text = ag.draw(f).source
    assert "linear" in text
    assert "0.weight" in text


def test_fit_compiles_its_step():
    losses = []
    for compiled in (False, True):
        ag.manual_seed(4)
        model = mlp()
        data = nn.data.TensorDataset(ag.randn(20, 20), ag.randint(0, 10, (20,)))
        loader, optimizer = nn.data.DataLoader(data, batch_size=8), optim.Adam(model.parameters())
        history = nn.train.fit(model, loader, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=3,
                               max_grad_norm=0.5, compile=compiled)  # fmt: skip
        losses.append(history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)


def test_a_look_at_outside_memory_is_read_where_that_memory_lies():
    table, order = nn.Embedding(8, 4), ag.arange(8)

    @ag.compile
    def f(rows, x):
        return table(order[2:5]).sum() + (table(rows[1:3]) * x).sum() + ag.cat([x[:1], x[1:]]).sum()

    for _ in range(4):
        rows, x = ag.randint(0, 8, (5000,)), ag.randn(2, 4)
        with ag.no_grad():
            expected = table.weight[2:5].sum() + (table.weight[rows[1:3]] * x).sum() + x.sum()
        np.testing.assert_allclose(f(rows, x).detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_model_of_the_gallery_trains_compiled_as_it_does_eagerly(name, monkeypatch):
    """The same losses, instruction by instruction; native code is compared in the tests of steps and records."""
    run_bodies(monkeypatch)
    recipe, losses = RECIPES[name], []
    for compiled in (False, True):
        ag.manual_seed(0)
        model = recipe.model().train()
        optimizer = optim.Adam(model.parameters())
        *inputs, target = recipe.sample(2)

        def step(*inputs, model=model, optimizer=optimizer, target=target):
            optimizer.zero_grad()
            loss = recipe.loss(model(*inputs), target)
            loss.backward()
            optimizer.step()
            return loss

        run = ag.compile(step, disable=[NATIVE]) if compiled else step
        losses.append([run(*inputs).item() for _ in range(3)])
    np.testing.assert_allclose(losses[1], losses[0], rtol=3e-5)
