"""What looking at a computation costs: ``python -m benchmarks.watching``.

Two numbers that have limits: what every operation pays for knowing its line (at most 10 % of an XOR training step,
against the same engine with that call stubbed), and recording a step of LeNet-5 at batch 128 with all values (at most
twice the step). Single-threaded CPU time, minima of interleaved rounds.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import process_time_ns

import autograd_core as ag
import nn
import nn.functional as F
import optim
from autograd_core import provenance, tensor
from nn.models.lenet5 import LeNet5


def xor_step() -> Callable:
    """A training step of a 2-8-1 network on the four inputs."""
    x, y = ag.tensor([[0.0, 0], [0, 1], [1, 0], [1, 1]]), ag.tensor([[0.0], [1], [1], [0]])
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid())
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        F.mse_loss(model(x), y).backward()
        optimizer.step()

    return step


def least(runs: dict[str, Callable], rounds: int, repeat: int) -> dict[str, float]:
    """Microseconds of each, taken in turns."""
    found: dict[str, float] = {}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            start = process_time_ns()
            for _ in range(repeat):
                run()
            found[name] = min(found.get(name, 1e12), (process_time_ns() - start) / repeat / 1e3)
    return found


def provenance_share() -> float:
    """How much longer an XOR step takes than with the search for the user's line stubbed, as a fraction."""
    step, real = xor_step(), provenance.site

    def stubbed():
        provenance.site = tensor.site = lambda depth=2: None
        try:
            step()
        finally:
            provenance.site = tensor.site = real

    times = least({"with": step, "without": stubbed}, 300, 20)
    return times["with"] / times["without"] - 1


def capture_ratios() -> dict[str, float]:
    """Times of ``ag.record`` and ``ag.graph`` of a step of LeNet-5 at batch 128, over that of the step."""
    model, images, labels = LeNet5(), ag.randn(128, 1, 28, 28), ag.randint(0, 10, (128,))

    def step():
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()

    def recorded():
        with ag.record():
            step()

    runs = {"step": step, "ag.record": recorded,
            "ag.graph": lambda: ag.graph(model, images, loss=lambda out: F.cross_entropy(out, labels))}  # fmt: skip
    times = least(runs, 30, 2)
    return {name: times[name] / times["step"] for name in ("ag.record", "ag.graph")}


if __name__ == "__main__":
    ag.set_num_threads(1)
    gc.disable()
    print(f"provenance: {provenance_share():.1%} of an XOR step (limit 10 %)")
    for known, ratio in capture_ratios().items():
        print(f"{known} of LeNet-5 at batch 128: {ratio:.2f} times the step (limit 2)")
