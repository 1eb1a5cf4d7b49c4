"""Learning-rate schedules: closed formulas, exact sequences of PyTorch, chaining, restarts, momentum, saved states."""

import copy
import math
import warnings

import pytest

import autograd_core as ag
import optim
from optim import lr_scheduler as schedules
from optim.swa_utils import SWALR

WITHOUT_TORCH = "compares with PyTorch, which is not a dependency of the tests: pip install torch==2.13.0"
BASE = 0.5


def optimizer(kind="SGD", groups=1, lr=BASE, library=ag, package=optim):
    made = [{"params": [library.zeros(1, requires_grad=True)]} for _ in range(groups)]
    if groups == 2:
        made[1]["lr"] = lr / 10
    return getattr(package, kind)(made, lr=lr, **({"momentum": 0.9} if kind == "SGD" else {}))


def rates(make, steps=30, kind="SGD"):
    """The learning rate before each step."""
    o = optimizer(kind)
    schedule, found = make(o), []
    for _ in range(steps):
        found.append(o.param_groups[0]["lr"])
        assert schedule.get_last_lr() == [g["lr"] for g in o.param_groups]
        o.step()
        schedule.step()
    return found


def triangle(t, up, down):
    place = t % (up + down)
    return place / up if place <= up else (up + down - place) / down


FORMULAS = {
    "StepLR": (lambda o: schedules.StepLR(o, 7, 0.3), lambda t: BASE * 0.3 ** (t // 7)),
    "MultiStepLR": (lambda o: schedules.MultiStepLR(o, [3, 10, 10, 20], 0.3),
                    lambda t: BASE * 0.3 ** ((t >= 3) + 2 * (t >= 10) + (t >= 20))),
    "ConstantLR": (lambda o: schedules.ConstantLR(o, 0.25, 6), lambda t: BASE * (0.25 if t < 6 else 1)),
    "LinearLR": (lambda o: schedules.LinearLR(o, 0.2, 0.9, 13), lambda t: BASE * (0.2 + 0.7 * min(t, 13) / 13)),
    "ExponentialLR": (lambda o: schedules.ExponentialLR(o, 0.9), lambda t: BASE * 0.9**t),
    "PolynomialLR": (lambda o: schedules.PolynomialLR(o, 15, 2.0), lambda t: BASE * (1 - min(t, 15) / 15) ** 2),
    "LambdaLR": (lambda o: schedules.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: BASE / (1 + t)),
    "MultiplicativeLR": (lambda o: schedules.MultiplicativeLR(o, lambda t: 0.95), lambda t: BASE * 0.95**t),
    "CosineAnnealingLR": (lambda o: schedules.CosineAnnealingLR(o, 9, 0.01),
                          lambda t: 0.01 + (BASE - 0.01) * (1 + math.cos(math.pi * t / 9)) / 2),
    "CosineAnnealingWarmRestarts": (lambda o: schedules.CosineAnnealingWarmRestarts(o, 5),
                                    lambda t: BASE * (1 + math.cos(math.pi * (t % 5) / 5)) / 2),
    "CyclicLR": (lambda o: schedules.CyclicLR(o, 0.1, 0.5, 5, 8), lambda t: 0.1 + 0.4 * triangle(t, 5, 8)),
    "CyclicLR-2": (lambda o: schedules.CyclicLR(o, 0.1, 0.5, 5, mode="triangular2"),
                   lambda t: 0.1 + 0.4 * triangle(t, 5, 5) / 2 ** (t // 10)),
    "CyclicLR-3": (lambda o: schedules.CyclicLR(o, 0.1, 0.5, 5, mode="exp_range", gamma=0.9),
                   lambda t: 0.1 + 0.4 * triangle(t, 5, 5) * 0.9**t),
    "OneCycleLR": (lambda o: schedules.OneCycleLR(o, 0.7, total_steps=31, pct_start=11 / 31, anneal_strategy="linear"),
                   lambda t: 0.028 + 0.672 * t / 10 if t <= 10 else 0.7 + (0.028e-4 - 0.7) * (t - 10) / 20),
    "SequentialLR": (lambda o: schedules.SequentialLR(o, [schedules.LinearLR(o, 0.1, 1.0, 5),
                                                          schedules.ExponentialLR(o, 0.9)], [5]),
                     lambda t: BASE * (0.1 + 0.9 * t / 5 if t < 5 else 0.9 ** (t - 5))),
    "ChainedScheduler": (lambda o: schedules.ChainedScheduler([schedules.ConstantLR(o, 0.1, 4),
                                                               schedules.StepLR(o, 5, 0.5)]),
                         lambda t: BASE * (0.1 if t < 4 else 1) * 0.5 ** (t // 5)),
    "SWALR": (lambda o: SWALR(o, 0.1, anneal_epochs=10, anneal_strategy="linear"),
              lambda t: BASE + (0.1 - BASE) * min(t, 10) / 10),
}  # fmt: skip


@pytest.mark.parametrize("name", list(FORMULAS))
def test_schedules_follow_their_formula(name):
    make, formula = FORMULAS[name]
    assert rates(make) == pytest.approx([formula(t) for t in range(30)], rel=1e-9, abs=1e-12)


MAKERS = {
    "LambdaLR": lambda S, o, W: S.LambdaLR(o, lambda t: 0.95**t),
    "MultiplicativeLR": lambda S, o, W: S.MultiplicativeLR(o, [lambda t: 0.95, lambda t: 1.01][: len(o.param_groups)]),
    "StepLR": lambda S, o, W: S.StepLR(o, 7, 0.3),
    "MultiStepLR": lambda S, o, W: S.MultiStepLR(o, [3, 10, 10, 20], 0.3),
    "ConstantLR": lambda S, o, W: S.ConstantLR(o, 0.3, 6),
    "LinearLR": lambda S, o, W: S.LinearLR(o, 0.2, 0.9, 13),
    "ExponentialLR": lambda S, o, W: S.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda S, o, W: S.PolynomialLR(o, 15, 2.0),
    "CosineAnnealingLR": lambda S, o, W: S.CosineAnnealingLR(o, 9, 0.01),
    "CosineAnnealingWarmRestarts": lambda S, o, W: S.CosineAnnealingWarmRestarts(o, 5, 2, 0.01),
    "CyclicLR": lambda S, o, W: S.CyclicLR(o, 0.01, 0.5, 5, 8, mode="triangular2"),
    "CyclicLR-own": lambda S, o, W: S.CyclicLR(o, 0.01, 0.5, 5, scale_fn=lambda x: 1 / x, cycle_momentum=False),
    "CyclicLR-exp": lambda S, o, W: S.CyclicLR(o, 0.01, 0.5, 5, mode="exp_range", gamma=0.97),
    "OneCycleLR": lambda S, o, W: S.OneCycleLR(o, 0.7, total_steps=45),
    "OneCycleLR-3": lambda S, o, W: S.OneCycleLR(o, 0.7, epochs=5, steps_per_epoch=9, three_phase=True),
    "SequentialLR": lambda S, o, W: S.SequentialLR(
        o, [S.LinearLR(o, 0.1, 1.0, 5), S.CosineAnnealingLR(o, 10), S.ExponentialLR(o, 0.9)], [5, 17]),
    "SequentialLR-nested": lambda S, o, W: S.SequentialLR(
        o, [S.SequentialLR(o, [S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9)], [5]), S.StepLR(o, 4)], [11]),
    "SequentialLR-chained": lambda S, o, W: S.SequentialLR(
        o, [S.ChainedScheduler([S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9)], o), S.StepLR(o, 4)], [8]),
    "ChainedScheduler": lambda S, o, W: S.ChainedScheduler(
        [S.ConstantLR(o, 0.1, 4), S.ExponentialLR(o, 0.9), S.StepLR(o, 5)]),
    "SWALR": lambda S, o, W: W.SWALR(o, 0.03, anneal_epochs=7),
    "SWALR-0": lambda S, o, W: W.SWALR(o, 0.03, anneal_epochs=0, anneal_strategy="linear"),
    "ReduceLROnPlateau": lambda S, o, W: S.ReduceLROnPlateau(o, patience=2, cooldown=1, min_lr=1e-3),
    "ReduceLROnPlateau-max": lambda S, o, W: S.ReduceLROnPlateau(
        o, "max", factor=0.5, patience=1, threshold_mode="abs", threshold=0.1),
}  # fmt: skip
"""Schedules by name, made of (the module of schedules, an optimizer, the module of weight averaging)."""

COMBINED = ("SequentialLR", "ChainedScheduler", "ReduceLROnPlateau")


def history(name, library, package, kind, groups, tensor=False, jumps=False, reload_at=None, steps=40):
    """All that a schedule sets, step by step, and the keys of its state dict at the end."""
    from importlib import import_module

    S, W = (import_module(f"{package.__name__}.{part}") for part in ("lr_scheduler", "swa_utils"))
    lr = library.tensor(BASE, dtype=library.float64) if tensor else BASE
    o = optimizer(kind, groups, lr, library, package)
    schedule, seen = MAKERS[name](S, o, W), []
    for t in range(steps):
        seen += [(float(g["lr"]), float(g["betas"][0] if "betas" in g else g["momentum"])) for g in o.param_groups]
        seen.append([float(v) for v in schedule.get_last_lr()])
        o.step()
        if name.startswith("ReduceLROnPlateau"):
            schedule.step(math.sin(t) * 2 / (1 + t))
        elif jumps and t in (5, 20):
            schedule.step({5: 12, 20: 3}[t])
        else:
            schedule.step()
        if t == reload_at:
            kept, optimizer_state = copy.deepcopy(schedule.state_dict()), o.state_dict()
            o = optimizer(kind, groups, lr, library, package)
            schedule = MAKERS[name](S, o, W)
            o.load_state_dict(optimizer_state)
            schedule.load_state_dict(kept)
    return seen, schedule.state_dict().keys()


@pytest.mark.parametrize("name", list(MAKERS))
@pytest.mark.filterwarnings("ignore:The epoch parameter", "ignore:Detected call of")
def test_exactly_the_sequences_of_pytorch(name):
    torch = pytest.importorskip("torch", reason=WITHOUT_TORCH)
    for kind in ("SGD", "AdamW"):
        for groups in (1, 2):
            for tensor in (False, True):
                for jumps in (False, True):
                    if jumps and name.startswith(COMBINED):
                        continue  # these take no epoch
                    options = {"tensor": tensor, "jumps": jumps, "reload_at": 11 if groups == 2 else None}
                    expected, keys = history(name, torch, torch.optim, kind, groups, **options)
                    found, own_keys = history(name, ag, optim, kind, groups, **options)
                    assert found == expected
                    assert own_keys == keys


@pytest.mark.parametrize("name", list(MAKERS))
def test_saved_schedules_go_on_as_if_nothing_had_happened(name):
    for groups in (1, 2):
        expected, _ = history(name, ag, optim, "SGD", groups)
        assert history(name, ag, optim, "SGD", groups, reload_at=11)[0] == expected


@pytest.mark.parametrize("name", [n for n in MAKERS if not n.startswith((*COMBINED, "MultiplicativeLR", "SWALR"))])
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_jumping_to_an_epoch_gives_its_learning_rate(name):
    o = optimizer()
    schedule = MAKERS[name](schedules, o, optim.swa_utils)
    visited = []
    for _ in range(14):
        visited.append(o.param_groups[0]["lr"])
        o.step()
        schedule.step()
    other = optimizer()
    jumping = MAKERS[name](schedules, other, optim.swa_utils)
    for epoch in (13, 2, 7):
        other.step()
        jumping.step(epoch)
        assert other.param_groups[0]["lr"] == pytest.approx(visited[epoch], rel=1e-9)


def test_momentum_moves_against_the_learning_rate():
    for kind, key in (("SGD", "momentum"), ("Adam", "betas")):
        o = optimizer(kind)
        schedule = schedules.OneCycleLR(o, 0.7, total_steps=20, pct_start=0.3, base_momentum=0.8, max_momentum=0.95)
        seen = []
        for _ in range(20):
            value = o.param_groups[0][key]
            seen.append(value[0] if key == "betas" else value)
            o.step()
            if len(seen) < 20:
                schedule.step()
        assert seen[0] == seen[-1] == 0.95
        assert min(seen) == seen[5] == pytest.approx(0.8)
    with pytest.raises(ValueError, match="momentum"):
        schedules.OneCycleLR(optim.Adagrad([ag.zeros(1, requires_grad=True)]), 0.1, total_steps=5)


def test_plateau():
    o = optimizer(groups=2)
    schedule = schedules.ReduceLROnPlateau(o, factor=0.1, patience=1, cooldown=2, min_lr=[1e-3, 1e-9], eps=1e-6)
    lrs = []
    for value in (1.0, 0.9, 0.9, ag.tensor(0.9), 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9):
        schedule.step(value)
        lrs.append(o.param_groups[0]["lr"])
    assert lrs == pytest.approx([0.5] * 3 + [0.05] * 4 + [5e-3] * 4 + [1e-3] * 7)
    assert schedule.get_last_lr() == [g["lr"] for g in o.param_groups]
    o.add_param_group({"params": [ag.zeros(1, requires_grad=True)]})
    with pytest.raises(RuntimeError, match="min_lrs"):
        for _ in range(9):
            schedule.step(1.0)


def test_a_learning_rate_that_is_a_tensor_keeps_its_identity():
    lr = ag.tensor(1.0)
    o = optim.SGD([ag.zeros(1, requires_grad=True)], lr=lr)
    schedule = schedules.StepLR(o, 1, 0.5)
    kept = schedule.get_last_lr()[0]
    o.step()
    schedule.step()
    assert o.param_groups[0]["lr"] is lr
    assert lr.item() == 0.5
    assert kept.item() == 1.0


def test_schedules_of_ones_own():
    class Warmup(schedules.LRScheduler):
        def get_lr(self):
            return [base * min(1, (self.last_epoch + 1) / 4) for base in self.base_lrs]

    assert rates(Warmup, 6) == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5, 0.5])


def test_callable_objects_are_saved_with_lambda_lr():
    class Decay:
        def __init__(self, rate):
            self.rate = rate

        def __call__(self, epoch):
            return self.rate**epoch

    for kind in (schedules.LambdaLR, schedules.MultiplicativeLR):
        state = kind(optimizer(), Decay(0.5)).state_dict()
        assert state["lr_lambdas"] == [{"rate": 0.5}]
        other = kind(optimizer(), Decay(0.1))
        other.load_state_dict(state)
        assert other.lr_lambdas[0].rate == 0.5
        assert kind(optimizer(), lambda _: 1).state_dict()["lr_lambdas"] == [None]


def test_warnings():
    o = optimizer()
    schedule = schedules.ExponentialLR(o, 0.9)
    with pytest.warns(UserWarning, match=r"before `optimizer\.step\(\)`"):
        schedule.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        schedule.step(3)
    with pytest.warns(UserWarning, match="get_last_lr"):
        schedule.get_lr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rates(lambda o: schedules.StepLR(o, 2))


def test_resuming_needs_the_first_learning_rate():
    o = optimizer()
    with pytest.raises(KeyError, match="initial_lr"):
        schedules.StepLR(o, 3, last_epoch=4)
    o.param_groups[0]["initial_lr"] = BASE
    schedule = schedules.CosineAnnealingLR(o, 10, last_epoch=4)
    assert schedule.last_epoch == 5


@pytest.mark.parametrize(("make", "error"), [
    (lambda o: schedules.StepLR("o", 3), TypeError), (lambda o: schedules.ConstantLR(o, 1.5), ValueError),
    (lambda o: schedules.LinearLR(o, 0.0), ValueError), (lambda o: schedules.LinearLR(o, 0.5, 2.0), ValueError),
    (lambda o: schedules.LambdaLR(o, [abs, abs]), ValueError), (lambda o: schedules.MultiplicativeLR(o, 3), TypeError),
    (lambda o: schedules.CyclicLR(o, 0.1, 0.2, mode="square"), ValueError),
    (lambda o: schedules.CyclicLR(o, [0.1, 0.2], 0.2), ValueError),
    (lambda o: schedules.OneCycleLR(o, 0.1), ValueError),
    (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=-1), ValueError),
    (lambda o: schedules.OneCycleLR(o, 0.1, epochs=2), ValueError),
    (lambda o: schedules.OneCycleLR(o, 0.1, epochs=2, steps_per_epoch=1.5), ValueError),
    (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=9, pct_start=2.0), ValueError),
    (lambda o: schedules.OneCycleLR(o, 0.1, total_steps=9, anneal_strategy="sine"), ValueError),
    (lambda o: schedules.CosineAnnealingWarmRestarts(o, 0), ValueError),
    (lambda o: schedules.CosineAnnealingWarmRestarts(o, 2, 0.5), ValueError),
    (lambda o: schedules.CosineAnnealingWarmRestarts(o, 2).step(-1), ValueError),
    (lambda o: schedules.ReduceLROnPlateau(o, "least"), ValueError),
    (lambda o: schedules.ReduceLROnPlateau(o, factor=1.0), ValueError),
    (lambda o: schedules.ReduceLROnPlateau(o, threshold_mode="x"), ValueError),
    (lambda o: schedules.ReduceLROnPlateau(o, min_lr=[0, 0]), ValueError),
    (lambda o: schedules.SequentialLR(o, [], []), ValueError),
    (lambda o: schedules.SequentialLR(o, ["step"], []), TypeError),
    (lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 2)], [3]), ValueError),
    (lambda o: schedules.SequentialLR(o, [schedules.StepLR(optimizer(), 2)], []), ValueError),
    (lambda o: schedules.ChainedScheduler([]), ValueError),
    (lambda o: schedules.ChainedScheduler([schedules.ReduceLROnPlateau(o)]), ValueError),
    (lambda o: SWALR(o, 0.1, anneal_strategy="x"), ValueError), (lambda o: SWALR(o, 0.1, anneal_epochs=-1), ValueError),
    (schedules.LRScheduler, NotImplementedError),
])  # fmt: skip
def test_wrong_arguments_are_refused(make, error):
    with pytest.raises(error):
        make(optimizer())


def test_one_cycle_ends():
    o = optimizer()
    schedule = schedules.OneCycleLR(o, 0.1, total_steps=3)
    for _ in range(3):
        o.step()
        schedule.step()
    with pytest.raises(ValueError, match="3"):
        schedule.step()
