"""Layout choice: images with channels last between convolutions, where that pays, and the same numbers."""

import numpy as np
import pytest

import autograd_core as ag
import nn
import nn.functional as F
import optim
from autograd_core import layouts
from autograd_core.program import Program


class Block(nn.Module):
    """Two convolutions with batch norm beside a shortcut."""

    def __init__(self, channels):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.conv2, self.norm2 = nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels)

    def forward(self, x):
        return F.relu(self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x))))) + x)


def train(make, steps=3, **options):
    """(losses, parameters, compiled step) of a small network."""
    ag.manual_seed(0)
    model = make()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step(x, y):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    run = ag.compile(step, **options)
    rng = np.random.default_rng(0)
    x, y = ag.tensor(rng.standard_normal((4, 3, 6, 6)).astype("f")), ag.tensor(rng.integers(0, 4, 4))
    return [run(x, y).item() for _ in range(steps)], [p.detach().numpy() for p in model.parameters()], run


def residual():
    return nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), Block(16), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(16, 4))  # fmt: skip


def names(run):
    return [row.op.name for row in run.program().instructions]


@pytest.fixture(scope="module")
def chosen():
    return train(residual)


def test_images_are_turned_at_the_ends_alone(chosen):
    found = names(chosen[2])
    convolutions = [n for n in found if n in ("convolution_last", "convolution_input_last", "convolution_weight_last")]
    assert len(convolutions) == 6
    assert found.count("channels_last") == found.count("channels_first") == 2
    assert "f32[4, 6, 6, 16] = convolution_last(" in str(chosen[2].program())


def test_the_pass_changes_nothing_beyond_rounding(chosen):
    losses, parameters, run = train(residual, disable=["layout"])
    assert not [n for n in names(run) if n.endswith(("_last", "_first"))]
    np.testing.assert_allclose(losses, chosen[0], rtol=1e-5)
    for before, now in zip(parameters, chosen[1], strict=True):
        np.testing.assert_allclose(before, now, rtol=1e-3, atol=2e-5)


def test_without_native_segments(chosen):
    np.testing.assert_allclose(train(residual, 2, disable=["native", "fusion"])[0], chosen[0][:2], rtol=1e-5)


@pytest.mark.parametrize("make", [
    lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Conv2d(5, 6, 3), nn.Flatten(), nn.Linear(24, 4)),
    lambda: nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(16, 16, 3, padding=1),
                          nn.MaxPool2d(3), nn.Flatten(), nn.Linear(16, 4)),
])  # fmt: skip
def test_networks_that_would_gain_nothing_stay_as_they_are(make):
    assert not [n for n in names(train(make, 2)[2]) if n.endswith(("_last", "_first"))]


def test_wrong_shapes_are_found(chosen):
    program = chosen[2].program()
    row = next(r for r in program.instructions if r.op.name == "convolution_last")
    wrong = layouts.replace(row, static={"padding": (0, 0)})
    with pytest.raises(AssertionError, match="convolution_last makes f32"):
        layouts.check(Program("wrong", [], [], [wrong], []))
