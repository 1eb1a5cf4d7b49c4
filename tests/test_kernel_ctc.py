"""Connectionist temporal classification: kernels against a slow twin, PyTorch's edge cases, and the plain formula."""

import naive
import numpy as np
import pytest
from kernel_kit import run_everywhere

import autograd_core as ag
import nn.functional as F
from autograd_core.kernels import ctc

STEPS, LENGTHS = np.array([9, 7, 3, 0, 9, 4, 0]), np.array([4, 3, 3, 0, 0, 1, 2])


def cases(dtype):
    """Log-probabilities (T, N, C), targets, steps and lengths: repeated labels, impossible and empty samples."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((9, len(STEPS), 5)).astype(dtype)
    targets = rng.integers(1, 5, (len(STEPS), 4))
    targets[0], targets[2] = (1, 1, 2, 2), (3, 3, 4, -7)  # what stands behind a target's end is never looked at
    return x - np.log(np.exp(x).sum(2, keepdims=True)), targets, STEPS, LENGTHS


def slow(x, targets, steps, lengths, blank=0):
    """The loss of each sample by the twin."""
    x = x.astype(np.float64)
    return np.array([naive.ctc(x[: steps[n], n], targets[n, : lengths[n]].tolist(), blank) for n in range(x.shape[1])])


@pytest.mark.parametrize(("dtype", "lanes", "bound"), [(np.float32, (4, 16), 2e-6), (np.float64, (16,), 1e-14)])
def test_losses_and_reductions(dtype, lanes, bound):
    given = cases(dtype)
    expected = slow(*given)
    assert np.isinf(expected).sum() == 2
    zeroed = np.where(np.isinf(expected), 0, expected)
    wanted = {"none": zeroed, "sum": zeroed.sum(), "mean": (zeroed / np.maximum(LENGTHS, 1)).mean()}
    for reduction, value in wanted.items():
        settings = {"blank": 0, "reduction": reduction, "zero_infinity": True}
        for _, (loss, _, losses) in run_everywhere(ctc.plan_ctc, given, lanes=lanes, **settings):
            np.testing.assert_allclose(loss, value, rtol=bound)
            np.testing.assert_allclose(losses, expected, rtol=bound)


@pytest.mark.parametrize(("dtype", "lanes", "bound"), [(np.float32, (4, 16), 3e-6), (np.float64, (16,), 1e-8)])
def test_gradients_agree_with_differences_of_the_twin(dtype, lanes, bound):
    x, *rest = cases(dtype)
    wide = np.asfortranarray(x)  # any strides are served
    g = np.linspace(0.5, 2, len(STEPS), dtype=dtype)
    settings = {"blank": 0, "reduction": "none", "zero_infinity": True}
    expected = np.zeros(x.shape)
    for place in np.ndindex(*x.shape):
        around = []
        for step in (1e-6, -1e-6):
            moved = x.astype(np.float64)
            moved[place] += step
            found = slow(moved, *rest)[place[1]]
            around.append(0 if np.isinf(found) else found)
        expected[place] = (around[0] - around[1]) / 2e-6 * g[place[1]]
    for _, (_, paths, losses) in run_everywhere(ctc.plan_ctc, (wide, *rest), lanes=lanes, **settings):
        given = (g, wide, *rest, paths, losses)
        for _, found in run_everywhere(ctc.plan_ctc_backward, given, lanes=lanes[-1:], **settings):
            np.testing.assert_allclose(found, expected, atol=bound, rtol=bound)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_large_and_small_inputs_take_different_ways_to_the_same_values(reduction):
    x, targets, steps, lengths = cases(np.float64)
    many = np.concatenate([x] * 6, 1)  # large enough for the kernel
    settings = {"reduction": reduction, "zero_infinity": True}

    def found(x, *rest):
        leaf = ag.tensor(x, requires_grad=True)
        loss = F.ctc_loss(leaf, *rest, **settings)
        (first,) = ag.grad([loss.sum()], [leaf], create_graph=True)
        (second,) = ag.grad([(first**2).sum()], [leaf])
        return loss.detach().numpy(), first.detach().numpy(), second.numpy()

    loss, first, second = found(x, targets, steps, lengths)
    losses, firsts, seconds = found(many, np.tile(targets, (6, 1)), np.tile(steps, 6), np.tile(lengths, 6))
    share = {"none": 1, "mean": 6, "sum": 1}[reduction]
    np.testing.assert_allclose(losses[:7] if reduction == "none" else losses, loss * (6 if reduction == "sum" else 1))
    np.testing.assert_allclose(firsts[:, :7] * share, first, atol=1e-12)
    np.testing.assert_allclose(seconds[:, :7] * share**2, second, atol=1e-10)


def test_targets_in_one_row_and_what_does_not_fit():
    x, targets, steps, lengths = cases(np.float32)
    row = np.concatenate([targets[n, :length] for n, length in enumerate(lengths)])
    for many in (1, 6):
        wide, one = ag.tensor(np.concatenate([x] * many, 1)), np.tile(row, many)
        args = np.tile(steps, many), np.tile(lengths, many)
        expected = F.ctc_loss(wide, np.tile(targets, (many, 1)), *args, reduction="none")
        assert ag.equal(F.ctc_loss(wide, one, *args, reduction="none"), expected)
        with pytest.raises(RuntimeError, match="do not fit"):
            F.ctc_loss(wide, one[:-1], *args)
        with pytest.raises(IndexError, match="labels must be classes from 0 to 4"):
            F.ctc_loss(wide, np.tile(targets, (many, 1)) + 1, *args)
        with pytest.raises(RuntimeError, match="input_lengths must lie between 0 and 9, got 0 to 10"):
            F.ctc_loss(wide, one, args[0] + (args[0] == 9), args[1])
        with pytest.raises(RuntimeError, match="target_lengths must lie between 0 and 4, got 0 to 5"):
            F.ctc_loss(wide, np.tile(targets, (many, 1)), args[0], args[1] + (args[1] == 4))


def test_compiled_programs_read_labels_and_lengths_at_each_run():
    x, targets, steps, lengths = cases(np.float32)
    given = [np.concatenate([x] * 6, 1), np.tile(targets, (6, 1)), np.tile(steps, 6), np.tile(lengths, 6)]
    run = ag.compile(lambda *a: F.ctc_loss(*a, reduction="none", zero_infinity=True))
    for shift in (0, 1):
        args = [ag.tensor(np.roll(a, shift, 1 if a.ndim == 3 else 0)) for a in given]
        expected = F.ctc_loss(*args, reduction="none", zero_infinity=True)
        np.testing.assert_array_equal(run(*args).numpy(), expected.numpy())
