"""Random numbers: the bits of Philox, the mapping from elements to counters, distributions, generators."""

import math

import numpy as np
import pytest
from naive import philox

import autograd_core as ag
from autograd_core import generator as source
from autograd_core.ops import random as draws

SIZE = 40_000


@pytest.fixture(autouse=True)
def seeded():
    with ag.random.fork_rng():
        ag.manual_seed(7)
        yield


# ---------------------------------------------------------------------------------------------------- bits


@pytest.mark.parametrize(("counter", "key", "expected"), [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
])  # fmt: skip
def test_philox_gives_the_published_words(counter, key, expected):
    c, k, e = ([int(w, 16) for w in text.split()] for text in (counter, key, expected))
    even, odd = np.array([[c[0]], [c[2]]], np.uint64), np.array([[c[1]], [c[3]]], np.uint64)
    assert [int(w[0]) for w in source._rounds(k[0] | k[1] << 32, even, odd)] == e


SEED, OFFSET = 0x1234_5678_9ABC_DEF0, (1 << 32) - 40
"""An offset whose counters cross the border of 32 bits."""


@pytest.mark.parametrize("element", [0, 1, 15, 16, 40, 63, 64, 200, 299])
def test_each_element_follows_from_its_own_counter(element):
    tile, rest = divmod(element, 64)
    word = philox(SEED, OFFSET + 16 * tile + rest % 16)[rest // 16]
    found = draws.uniform01.record.function(shape=(300,), dtype=np.float32, seed=SEED, offset=OFFSET)
    assert found.dtype == np.float32
    assert found[element] == (word >> 8) / 2**24

    tile, rest = divmod(element, 32)
    words = philox(SEED, OFFSET + 16 * tile + rest % 16)
    word = words[2 * (rest // 16)] << 32 | words[2 * (rest // 16) + 1]
    found = draws.uniform01.record.function(shape=(300,), dtype=np.float64, seed=SEED, offset=OFFSET)
    assert found[element] == (word >> 11) / 2**53
    found = draws.integers.record.function(shape=(300,), low=-5, high=10**15, dtype=np.int64, seed=SEED, offset=OFFSET)
    assert found[element] == -5 + (word * (10**15 + 5) >> 64)


def test_normal_pairs_share_radius_and_angle():
    found = draws.normal01.record.function(shape=(64,), dtype=np.float32, seed=SEED, offset=0)
    for lane in (0, 9):
        words = philox(SEED, lane)
        for j in (0, 2):
            radius = math.sqrt(-2 * math.log((words[j] + 1) / 2**32))
            angle = math.pi * (words[j + 1] - (words[j + 1] >> 31 << 32)) / 2**31
            pair = found[[16 * j + lane, 16 * j + 16 + lane]]
            np.testing.assert_allclose(pair, [radius * math.cos(angle), radius * math.sin(angle)], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize(("function", "dtype", "per_tile"), [
    (draws.uniform01, np.float32, 64), (draws.normal01, np.float32, 64), (draws.normal01, np.float64, 32),
    (draws.exponential01, np.float64, 32), (draws.uniform01, np.float16, 64)])  # fmt: skip
def test_a_draw_does_not_depend_on_how_it_is_split(function, dtype, per_tile, monkeypatch):
    body = function.record.function
    whole = body(shape=(50, 61), dtype=dtype, seed=3, offset=100)
    cut = 17 * per_tile
    parts = [body(shape=(cut,), dtype=dtype, seed=3, offset=100),
             body(shape=(50 * 61 - cut,), dtype=dtype, seed=3, offset=100 + 17 * 16)]  # fmt: skip
    assert np.array_equal(np.concatenate(parts), whole.ravel())
    monkeypatch.setattr(source, "CHUNK", 5)
    assert np.array_equal(body(shape=(50, 61), dtype=dtype, seed=3, offset=100), whole)


@pytest.mark.parametrize("draw", [
    lambda: ag.rand(3, 4), lambda: ag.randn(5), lambda: ag.randint(-3, 1 << 40, (7,)), lambda: ag.randperm(9),
    lambda: ag.zeros(3, dtype=ag.float64).normal_(), lambda: ag.nn.functional.dropout(ag.ones(70), 0.3)])  # fmt: skip
def test_small_draws_are_the_same_when_they_were_made_ahead(draw):
    source._blocks.clear()
    state = ag.get_rng_state()
    alone = []
    for _ in range(30):
        alone.append(draw().numpy())
        source._blocks.clear()
    after = ag.get_rng_state()
    ag.set_rng_state(state)
    for number, expected in enumerate(alone):
        found = draw()
        assert np.array_equal(found.numpy(), expected), number
        found.fill_(0)  # its memory is its own
        if number == 7:  # others draw in between, other kinds, other generators, other seeds
            other = ag.Generator().manual_seed(7)
            with ag.random.fork_rng():
                ag.manual_seed(8)
                ag.rand(2), draw()
            ag.rand_like(ag.zeros(2), generator=other)
    assert np.array_equal(ag.get_rng_state().numpy(), after.numpy())
    ag.set_rng_state(state)
    assert np.array_equal(draw().numpy(), alone[0])


def test_poisson_does_not_depend_on_how_it_is_split():
    body = draws.poisson_counts.record.function
    rates = np.linspace(0.1, 40, 100)
    whole = body(rates, seed=3, offset=9)
    parts = [body(rates[:33], seed=3, offset=9), body(rates[33:], seed=3, offset=42)]
    assert np.array_equal(np.concatenate(parts), whole)


# ---------------------------------------------------------------------------------------------------- distributions


def distance(values, cumulative):
    """The Kolmogorov-Smirnov distance from a continuous distribution."""
    ordered = np.sort(np.asarray(values, np.float64).ravel())
    expected = cumulative(ordered)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    return max(np.max(steps[1:] - expected), np.max(expected - steps[:-1]))


LIMIT = 2.2 / math.sqrt(SIZE)
"""A distance that one sample in 10,000 exceeds; the seed is fixed."""

normal_cdf = np.vectorize(lambda z: 0.5 * math.erfc(-z / math.sqrt(2)))


@pytest.mark.parametrize("dtype", [ag.float32, ag.float64])
@pytest.mark.parametrize(("draw", "cumulative"), [
    (lambda t: t.uniform_(-2, 3), lambda x: (x + 2) / 5),
    (lambda t: t.normal_(1, 2), lambda x: normal_cdf((x - 1) / 2)),
    (lambda t: t.exponential_(0.5), lambda x: 1 - np.exp(-x / 2)),
    (lambda t: t.log_normal_(0.5, 0.7), lambda x: normal_cdf((np.log(x) - 0.5) / 0.7)),
    (lambda t: t.cauchy_(1, 2), lambda x: np.arctan((x - 1) / 2) / math.pi + 0.5),
    (ag.rand_like, lambda x: x),
    (ag.randn_like, normal_cdf),
    (lambda t: ag.normal(t, 3.0), lambda x: normal_cdf(x / 3)),
], ids=["uniform", "normal", "exponential", "log_normal", "cauchy", "rand_like", "randn_like", "ag.normal"])
def test_continuous_distributions(draw, cumulative, dtype):
    filled = draw(ag.zeros(SIZE, dtype=dtype))
    assert filled.dtype == dtype
    assert distance(filled.numpy(), cumulative) < LIMIT


@pytest.mark.parametrize("dtype", [ag.float32, ag.float64])
def test_normal_elements_are_uncorrelated(dtype):
    z = ag.randn(SIZE, dtype=dtype).numpy()
    for lag in (1, 16, 32, 48, 64):
        assert abs(np.corrcoef(z[:-lag], z[lag:])[0, 1]) < 4 / math.sqrt(SIZE)
        assert abs(np.corrcoef(z[:-lag] ** 2, z[lag:] ** 2)[0, 1]) < 4 / math.sqrt(SIZE)


def close_to_chances(counts, chances):
    """Whether counts fit the chances: the chi-squared statistic stays within 5 deviations."""
    expected = np.asarray(chances) * np.sum(counts)
    statistic = np.sum((counts - expected) ** 2 / expected)
    return statistic < len(counts) + 5 * math.sqrt(2 * len(counts))


@pytest.mark.parametrize(("low", "high"), [(0, 10), (-7, 6), (0, 2**40 - 1), (-(2**63), 2**63 - 1), (0, 70_000)])
def test_randint_is_even(low, high):
    found = ag.randint(low, high, (SIZE,)).numpy()
    assert found.min() >= low
    assert found.max() < high
    spread = min(high - low, 50)
    slots = np.array([(int(v) - low) * spread // (high - low) for v in found])
    edges = np.array([-(-k * (high - low) // spread) / (high - low) for k in range(spread + 1)])
    assert close_to_chances(np.bincount(slots, minlength=spread), np.diff(edges))


def test_randint_forms_and_bounds():
    assert ag.randint(3, (2, 4)).shape == (2, 4)
    assert ag.randint(low=1, high=2, size=(3,)).tolist() == [1, 1, 1]
    assert ag.randint(5, (2,), dtype=ag.float32).dtype == ag.float32
    assert set(ag.randint(0, 2, (50,), dtype=ag.bool).tolist()) == {False, True}
    assert ag.randint_like(ag.zeros(2, 3, dtype=ag.int8), 100).dtype == ag.int8
    with pytest.raises(RuntimeError, match="low"):
        ag.randint(3, 3, (2,))
    with pytest.raises(RuntimeError, match="out of bounds"):
        ag.randint(0, 300, (2,), dtype=ag.uint8)
    with pytest.raises(RuntimeError, match="negative"):
        ag.randint(3, (-1,))


def test_randperm_is_an_even_permutation():
    assert sorted(ag.randperm(1000).tolist()) == list(range(1000))
    assert ag.randperm(0).tolist() == []
    assert ag.randperm(1).tolist() == [0]
    firsts = np.bincount([ag.randperm(5).tolist()[0] for _ in range(2000)], minlength=5)
    assert close_to_chances(firsts, np.full(5, 0.2))


def test_bernoulli_and_masks():
    chances = ag.tensor([0.0, 0.1, 0.5, 1.0]).expand(SIZE // 4, 4)
    found = ag.bernoulli(chances)
    assert found.dtype == ag.float32
    np.testing.assert_allclose(found.numpy().mean(0), [0, 0.1, 0.5, 1], atol=0.025)
    mask = draws.keep_mask((200, 100), 0.9)
    assert mask.dtype == ag.bool
    assert abs(mask.numpy().mean() - 0.9) < 0.01
    assert draws.keep_mask((3,), 1.0).numpy().all()
    assert not draws.keep_mask((3,), 0.0).numpy().any()
    assert abs(ag.zeros(SIZE, dtype=ag.int32).bernoulli_(0.3).numpy().mean() - 0.3) < 0.01
    with pytest.raises(RuntimeError, match="probabilities"):
        ag.bernoulli(ag.tensor([1.5]))


@pytest.mark.parametrize("rate", [0.0, 0.5, 4.0, 9.9, 10.0, 25.0, 1000.0])
def test_poisson(rate):
    found = ag.poisson(ag.full((SIZE,), rate, dtype=ag.float64)).numpy()
    assert abs(found.mean() - rate) <= 4 * math.sqrt(rate / SIZE)
    assert abs(found.var() - rate) <= 8 * max(rate, 1) * math.sqrt(1 / SIZE)
    if 0 < rate < 100:
        chances = np.array([math.exp(k * math.log(rate) - rate - math.lgamma(k + 1)) for k in range(80)])
        frequent = chances * SIZE > 5
        counts = np.bincount(found.astype(int), minlength=80)[:80][frequent]
        assert close_to_chances(counts, chances[frequent] / chances[frequent].sum())


def test_geometric():
    found = ag.zeros(SIZE).geometric_(0.3).numpy()
    counts = np.bincount(found.astype(int), minlength=11)
    assert counts[0] == 0
    assert close_to_chances(counts[1:11], 0.3 * 0.7 ** np.arange(10) / (1 - 0.7**10))
    assert ag.zeros(4, dtype=ag.int64).geometric_(0.5).dtype == ag.int64


def test_multinomial():
    weights = ag.tensor([[1.0, 0.0, 3.0, 6.0], [5.0, 5.0, 0.0, 0.0]])
    found = ag.multinomial(weights, 5000, replacement=True).numpy()
    assert found.shape == (2, 5000)
    assert close_to_chances(np.bincount(found[0], minlength=4)[[0, 2, 3]], [0.1, 0.3, 0.6])
    assert set(found[1].tolist()) == {0, 1}
    without = [tuple(ag.multinomial(weights[0], 2).tolist()) for _ in range(2000)]
    assert all(len(set(pair)) == 2 and 1 not in pair for pair in without)
    assert close_to_chances(np.bincount([pair[0] for pair in without], minlength=4)[[0, 2, 3]], [0.1, 0.3, 0.6])
    for wrong, count in ((weights, 5), (ag.tensor([-1.0, 2.0]), 1), (ag.tensor([0.0, 0.0]), 1), (ag.tensor([1, 2]), 1),
                         (ag.tensor([math.nan]), 1), (weights, 0), (ag.ones(1, 1, 1), 1)):  # fmt: skip
        with pytest.raises(RuntimeError):
            ag.multinomial(wrong, count)


def test_random_fills_with_all_that_the_type_counts():
    assert ag.zeros(SIZE, dtype=ag.uint8).random_().numpy().mean() == pytest.approx(127.5, abs=2)
    assert ag.zeros(SIZE).random_().numpy().max() > 2**23
    assert set(ag.zeros(100, dtype=ag.bool).random_().tolist()) == {False, True}
    assert set(ag.zeros(500).random_(3).tolist()) == {0, 1, 2}
    assert set(ag.zeros(500, dtype=ag.int16).random_(-1, 2).tolist()) == {-1, 0, 1}


# ---------------------------------------------------------------------------------------------------- forms


def test_sizes_types_and_options():
    assert ag.rand(2, 3).shape == ag.rand((2, 3)).shape == ag.rand(size=[2, 3]).shape == (2, 3)
    assert ag.randn(()).shape == ag.rand().shape == ()
    assert ag.rand(0, 3).numpy().shape == (0, 3)
    assert ag.rand(5, dtype=ag.float16).dtype == ag.float16
    assert float(ag.rand(10_000, dtype=ag.float16).max()) < 1
    assert ag.randn(3, requires_grad=True).requires_grad
    target = ag.empty(4, dtype=ag.float64)
    assert ag.rand(4, out=target) is target
    for wrong in (lambda: ag.rand(2, dtype=ag.int64), lambda: ag.rand(-1), lambda: ag.rand(2, device="cuda"),
                  lambda: ag.zeros(2, dtype=ag.int64).uniform_(), lambda: ag.zeros(2).uniform_(2, 1),
                  lambda: ag.zeros(2).exponential_(0), lambda: ag.zeros(2).geometric_(1.0), lambda: ag.randperm(-1),
                  lambda: ag.zeros(2).normal_(0, -1), lambda: ag.zeros(2).cauchy_(0, 0), lambda: ag.normal(0.0, 1.0),
                  lambda: ag.normal(ag.zeros(2), -1.0)):  # fmt: skip
        with pytest.raises((RuntimeError, TypeError)):
            wrong()
    with pytest.raises(TypeError, match="generator"):
        ag.rand(2, generator=3)


def test_normal_in_its_forms():
    mean, std = ag.zeros(3, 1), ag.ones(4, dtype=ag.float64)
    assert ag.normal(mean, std).shape == (3, 4)
    assert ag.normal(2.0, std).dtype == ag.float64
    assert ag.normal(mean).shape == (3, 1)
    assert ag.normal(2.0, 3.0, (5,)).dtype == ag.float32
    assert float(ag.normal(2.0, 0.0, (1,))) == 2


def test_gradients_of_draws_are_zero():
    p = ag.full((5,), 0.5, requires_grad=True)
    drawn = ag.bernoulli(p)
    assert drawn.requires_grad
    drawn.sum().backward()
    assert p.grad.tolist() == [0] * 5
    mean, std = ag.zeros(3, 1, requires_grad=True), ag.ones(4, requires_grad=True)
    ag.normal(mean, std).sum().backward()
    assert mean.grad.tolist() == [[0]] * 3
    assert std.grad.tolist() == [0] * 4
    x = ag.ones(3, requires_grad=True)
    y = x * 2
    y.uniform_()
    y.sum().backward()
    assert x.grad.tolist() == [0] * 3
    with pytest.raises(RuntimeError, match="leaf"):
        x.normal_()
    with ag.no_grad():
        assert x.normal_() is x


# ---------------------------------------------------------------------------------------------------- generators


def test_seeds_states_and_forks():
    ag.manual_seed(3)
    first = ag.rand(5).tolist()
    state = ag.get_rng_state()
    second = ag.randn(5).tolist()
    ag.set_rng_state(state)
    assert ag.randn(5).tolist() == second
    assert ag.manual_seed(3) is ag.default_generator
    assert ag.rand(5).tolist() == first != ag.rand(5).tolist()
    with ag.random.fork_rng():
        inside = ag.rand(5).tolist()
    assert ag.rand(5).tolist() == inside
    assert ag.initial_seed() == ag.random.initial_seed() == 3
    assert ag.seed() == ag.initial_seed()


def test_generators_are_independent_of_each_other():
    one, other = ag.Generator().manual_seed(5), ag.Generator(device="cpu").manual_seed(5)
    expected = ag.rand(3, generator=one).tolist()
    ag.rand(100)
    assert ag.rand(3, generator=other).tolist() == expected
    one.set_state(other.get_state())
    assert ag.randperm(20, generator=one).tolist() == ag.randperm(20, generator=other).tolist()
    assert one.device.type == "cpu"
    assert one.manual_seed(-1).initial_seed() == 2**64 - 2
    with pytest.raises(RuntimeError):
        one.manual_seed(2**64)
    with pytest.raises(RuntimeError):
        one.set_state(ag.zeros(3, dtype=ag.uint8))
    with pytest.raises(TypeError):
        one.set_state(b"")
    assert one.clone_state().initial_seed() == one.initial_seed()


def test_a_generator_advances_by_size_alone():
    generator = ag.Generator().manual_seed(1)
    for draw in (lambda: ag.rand(100, generator=generator), lambda: ag.randn(10, 10, generator=generator),
                 lambda: ag.zeros(100).exponential_(generator=generator)):  # fmt: skip
        before = generator.reserve(0)[1]
        draw()
        assert generator.reserve(0)[1] - before == 32
    before = generator.reserve(0)[1]
    ag.poisson(ag.full((30,), 50.0), generator=generator)
    assert generator.reserve(0)[1] - before == 30


def test_counters_wrap_around_at_the_end():
    body = draws.uniform01.record.function
    across = body(shape=(128,), dtype=np.float32, seed=3, offset=2**64 - 16)
    assert np.array_equal(across[64:], body(shape=(64,), dtype=np.float32, seed=3, offset=0))
