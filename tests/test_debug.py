"""ag.debug and ag.find_nan: the first bad value is found where it is made, and costs nothing when nobody looks."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from subjects import SUBJECTS, arrays_of, training_step, without_kernels  # noqa: F401 (a fixture that every test here uses)

import autograd_core as ag
import nn
import optim
from autograd_core.modes import state
from autograd_core.seeing.searching import State

F = nn.functional


def found_by(function):
    """The finding of the error that ``function`` raises under ag.debug."""
    with pytest.raises(ag.NonFiniteError) as caught, ag.debug():
        function()
    return caught.value.finding


# ---------------------------------------------------------------------------------------------------- what is found


def test_an_infinity_of_the_forward():
    x = ag.tensor([[1.0, 0.0, 2.0]], requires_grad=True)

    def forward():
        h = x * 2
        return h.log().sum()

    found = found_by(forward)
    assert (found.op, found.phase) == ("log", "forward")
    assert "log: made 1 infinite value from finite values" in str(found)
    assert "input: float32[1, 3] from 0 to 4, mean 2; 1 zeros of 3" in str(found)
    assert "return h.log().sum()" in found.line
    assert [step.name for step in found.chain] == ["mul", "log"], "the chain that led there"
    assert (found.chain[0].low, found.chain[0].high) == (0, 4)


def test_a_gradient_names_the_line_of_the_forward():
    x = ag.tensor([1.0, 0.0, 2.0], requires_grad=True)

    def step():
        loss = x.sqrt().sum()
        loss.backward()

    found = found_by(step)
    assert (found.op, found.phase) == ("sqrt", "backward")
    text = str(found)
    assert "backward of sqrt: the gradient of input holds 1 infinite value" in text
    assert "loss = x.sqrt().sum()" in found.made
    assert "loss.backward()" in found.line
    assert "first inside the rule: true_divide: made 1 infinite value from finite values" in text
    assert "saved output: float32[3] from 0 to 1.41421" in text


def test_a_nan_that_came_from_outside_is_said_to():
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    model[2].weight.array[0, 0] = np.nan
    found = found_by(lambda: model(ag.ones(1, 3)))
    assert found.what == "linear: weight holds NaN already"
    assert found.scope == "2"
    assert "no operation inside ag.debug() made weight" in str(found)


def test_nan_that_is_written():
    x = ag.ones(3)

    def write():
        x[1] = float("nan")

    assert "NaN is written into a tensor" in str(found_by(write))
    assert "NaN" in str(found_by(lambda: x.fill_(float("nan"))))


def test_inside_a_function_of_the_users():
    class Inverse(ag.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return 1 / x

        @staticmethod
        def backward(ctx, g):
            return g.log()

    assert "return 1 / x" in found_by(lambda: Inverse.apply(ag.zeros(2))).line
    x = ag.ones(2, requires_grad=True)
    found = found_by(lambda: (Inverse.apply(x) * -1).sum().backward())
    assert "Inverse" in found.what
    assert found.phase == "backward"


def test_the_update_of_an_optimizer():
    weight = nn.Parameter(ag.full((2,), 3e38))
    optimizer = optim.SGD([weight], lr=1e30)
    weight.grad = ag.full((2,), -1e30)
    assert "infinite" in found_by(optimizer.step).what


@pytest.mark.parametrize("name", SUBJECTS)
def test_nothing_is_wrong_with_right_computations(name):
    model, loss_fn, x, y = SUBJECTS[name]()
    step, _ = training_step(model, loss_fn)
    with ag.debug():
        step(x, y)
        step(x, y)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_planted_nan_is_found_in_every_computation(name):
    model, loss_fn, x, y = SUBJECTS[name]()
    parameter = list(model.parameters())[-1]
    parameter.array[...] = np.nan
    found = found_by(lambda: loss_fn(model(x), y))
    assert "holds NaN already" in found.what


def test_infinities_on_purpose_are_no_alarm():
    scores = ag.randn(2, 4, 4, requires_grad=True)
    hidden = ag.ones(4, 4).tril() == 0
    with ag.debug():
        masked = scores.masked_fill(hidden, float("-inf"))
        loss = masked.softmax(-1).square().sum() + masked.logsumexp(-1).sum()
        loss.backward()
        mask = ag.full((4, 4), float("-inf")).triu(1)
        F.scaled_dot_product_attention(scores, scores, scores, attn_mask=mask).sum().backward()
        ag.empty(3)
        (scores.detach() / float("inf")).max()


def test_values_inside_a_rule_are_judged_by_what_it_returns():
    """The gradient of x ** y for y needs log(x), which is -inf at 0 and is not used there."""
    x, y = ag.tensor([0.0, 2.0], requires_grad=True), ag.tensor([2.0, 3.0], requires_grad=True)
    with ag.debug():
        (x**y).sum().backward()
    assert np.isfinite(y.grad.numpy()).all()


# ---------------------------------------------------------------------------------------------------- where it stops


def test_the_traceback_ends_in_the_users_code():
    """So a debugger opens there, with the variables of the line that failed."""

    def forward(x):
        hidden = x - 1
        return hidden.log()

    try:
        with ag.debug():
            forward(ag.ones(2))
    except ag.NonFiniteError as error:
        trace = error.__traceback__
        while trace.tb_next is not None:
            trace = trace.tb_next
    assert trace.tb_frame.f_code is forward.__code__
    assert np.array_equal(trace.tb_frame.f_locals["hidden"].numpy(), [0, 0])
    assert trace.tb_lineno == forward.__code__.co_firstlineno + 2


def test_a_debugger_opens_in_the_users_frame(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import autograd_core as ag

        def forward(x):
            secret = x - 1
            return secret.log()

        with ag.debug():
            forward(ag.ones(2))
    """)
    )
    done = subprocess.run([sys.executable, "-m", "pdb", "-c", "continue", script], input="p secret.tolist()\nq\n",
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert "[0.0, 0.0]" in done.stdout
    assert "return secret.log()" in done.stdout


def test_as_a_decorator_and_nested():
    @ag.debug()
    def forward(x):
        return x.log()

    with pytest.raises(ag.NonFiniteError):
        forward(ag.zeros(2))
    with ag.debug():
        forward(ag.ones(2))
        with pytest.raises(ag.NonFiniteError):
            ag.zeros(2).log()
    assert state.watch is None


def test_under_pytorchs_names():
    with pytest.raises(RuntimeError, match="log: made 2 infinite values"), ag.autograd.detect_anomaly():
        ag.zeros(2).log()
    ag.autograd.set_detect_anomaly(True)
    with pytest.raises(RuntimeError, match="log: made 2 infinite values"):
        ag.zeros(2).log()
    ag.autograd.set_detect_anomaly(False)
    assert state.watch is None
    with ag.autograd.set_detect_anomaly(True), pytest.raises(ag.NonFiniteError):
        ag.zeros(2).log()
    assert state.watch is None


# ---------------------------------------------------------------------------------------------------- writes


def test_a_write_through_numpy_is_noticed_with_the_line_that_saved():
    x, w = ag.tensor([1.0, 2.0, 3.0]), ag.ones(3, requires_grad=True)
    message = r"(?s)mul saved.* changed through a NumPy array.*float32\[3\].*saved by mul.*loss = \(x \* w\)\.exp"
    with pytest.raises(ag.OpError, match=message), ag.debug():
        loss = (x * w).exp().sum()
        x.numpy()[0] = 5
        loss.backward()


def test_in_place_operations_keep_their_own_error_under_debug():
    w = ag.ones(3, requires_grad=True)
    x = ag.ones(3)
    with pytest.raises(ag.OpError, match=r"modified by an in-place operation(.|\n)*x\.add_\(1\)"), ag.debug():
        loss = (x * w).sum()
        x.add_(1)
        loss.backward()


def test_writes_alone():
    with ag.debug(check_nan=False):
        assert ag.zeros(2).log().isinf().all()


# ---------------------------------------------------------------------------------------------------- cost

COUNT = """
import sys
import autograd_core as ag, nn, optim
model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
optimizer = optim.SGD(model.parameters(), lr=0.1)
x, y = ag.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), ag.tensor([[0.0], [1], [1], [0]])
def step():
    optimizer.zero_grad()
    loss = nn.functional.binary_cross_entropy_with_logits(model(x), y)
    loss.backward()
    optimizer.step()
def calls():
    seen = []
    sys.setprofile(lambda frame, event, arg: seen.append(event))
    step()
    sys.setprofile(None)
    return len(seen)
step(); step()
print(calls())
print("autograd_core.seeing.debugging" in sys.modules)
with ag.debug():
    step()
print(calls())
"""


def test_it_costs_nothing_when_it_is_not_entered():
    """Not a call more in a training step, whether it was never used or has been left; and it is not even loaded."""
    done = subprocess.run([sys.executable, "-c", COUNT], capture_output=True, text=True, check=True)
    before, loaded, after = done.stdout.split()
    assert loaded == "False"
    assert before == after


def test_it_leaves_nothing_behind():
    w = ag.ones(2, requires_grad=True)
    with ag.debug():
        (w * 2).sum().backward()
    assert state.watch is None
    assert (w * 2).sum().grad_fn.hooks is None


# ---------------------------------------------------------------------------------------------------- find_nan


def exploding(compiled=False):
    """A step whose learning rate is far too large, with data and model."""
    ag.manual_seed(1)
    model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = optim.SGD(model.parameters(), lr=3.0)
    history = []

    def step(x, y):
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        if not compiled:
            history.append(loss.item())
        return loss

    data = [(ag.randn(4, 3), ag.randn(4, 1)) for _ in range(60)]
    return model, ag.compile(step, disable=["native", "fusion"]) if compiled else step, data, history


def first_bad_step():
    model, step, data, history = exploding()
    for number, batch in enumerate(data):
        before = arrays_of(model)
        step(*batch)
        if not np.isfinite(history[-1]) or not all(np.isfinite(a).all() for a in arrays_of(model).values()):
            return number, before
    raise AssertionError("it does not explode")


@pytest.mark.parametrize("every", [1, 7, 100])
def test_find_nan_goes_back_to_the_first_bad_operation(every):
    number, before = first_bad_step()
    model, step, data, history = exploding()
    found = ag.find_nan(step, data, every=every)
    assert found.step == number
    assert str(found).startswith(f"step {number}: ")
    assert "made" in found.what or "holds" in found.what
    assert "loss" in found.line
    after = arrays_of(model)
    assert all(np.array_equal(before[k], after[k]) for k in before), "all is as before the bad step"
    assert len(history) == number, "lists that the step fills are set back, too"


def test_find_nan_in_a_compiled_run():
    number, _ = first_bad_step()
    _, step, data, _ = exploding(compiled=True)
    found = ag.find_nan(step, data)
    assert found.step == number
    assert found.op in ("pow", "sub", "linear", "mean", "mul", "relu", "mse_loss", "square")


def test_find_nan_looks_at_gradients_that_nothing_uses_yet():
    weight = ag.zeros(2, requires_grad=True)
    found = ag.find_nan(lambda: weight.sqrt().sum().backward(), steps=1)
    assert (found.op, found.phase) == ("sqrt", "backward")
    assert weight.grad is None


def test_findings_name_what_the_user_called():
    x = ag.ones(1, 1, 2, 2) * np.nan
    with pytest.raises(ag.NonFiniteError, match=r"^conv2d: input holds NaN already"), ag.debug():
        nn.functional.conv2d(x, ag.ones(1, 1, 1, 1))


def test_find_nan_finds_nothing_where_nothing_is():
    model, loss_fn, x, y = SUBJECTS["branching"]()
    step, _ = training_step(model, loss_fn)
    assert ag.find_nan(step, [(x, y)] * 5) is None
    assert ag.find_nan(lambda: ag.ones(2), steps=3) is None


def test_find_nan_sets_random_numbers_and_counters_back():
    seen = []
    weight = ag.ones(2)
    count = 0

    def step():
        nonlocal count
        count += 1
        drawn = ag.rand(2)
        seen.append(drawn.tolist())
        weight.mul_(1e9)

    found = ag.find_nan(step, steps=100, every=10)
    assert found.op == "mul"
    assert found.step == 4, "1e9 ** 5 is too large"
    assert count == 4
    following = ag.rand(2).tolist()
    ag.manual_seed(0)
    assert [ag.rand(2).tolist() for _ in range(5)] == [*seen, following]


def test_what_a_step_holds():
    """Through wrappers, closures, methods and globals; but nothing of this library's own."""
    weight, other = ag.ones(2), ag.ones(3)

    class Stepper:
        def __init__(self):
            self.parts = {"deep": [other]}

        def help(self):
            return third

        @ag.no_grad()
        def step(self):
            nonlocal best
            best = self.help()
            return weight + len(self.parts)

    best, third = None, ag.ones(4)
    held = State(Stepper().step)
    assert {id(tensor) for tensor, *_ in held.tensors} == {id(weight), id(other), id(third)}
    best = third
    held.restore()
    assert best is None
    held = State(F.cross_entropy)
    assert not held.tensors
    assert not held.names
    assert len(held._seen) < 10


def test_find_nan_says_what_it_needs():
    with pytest.raises(TypeError, match="find_nan: step must be a function, got int"):
        ag.find_nan(3)
