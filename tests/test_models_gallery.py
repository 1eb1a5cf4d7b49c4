"""The models of the gallery: what they compute, against formulas, and that every recipe can be trained."""

import datetime as dt
import math

import numpy as np
import pytest

import autograd_core as ag
import nn
import nn.functional as F
import optim
from nn import models
from nn.models import RECIPES, dates
from nn.models.recurrent import KINDS


@pytest.fixture(autouse=True)
def _seed():
    ag.manual_seed(0)


NAMES = ("autoencoder", "dates", "dbn", "factorisation", "gpt", "lstm", "perceptron", "recommender", "vae", "vowels")


@pytest.mark.parametrize("name", NAMES)
def test_a_few_steps_of_a_recipe_lower_its_loss(name):
    recipe = RECIPES[name]
    model = recipe.model().train()
    *inputs, target = recipe.sample(3)
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        ag.manual_seed(1)  # the same noise at each step
        output = model(*inputs)
        loss = recipe.loss(output, target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert all(math.isfinite(float(metric(output, target))) for metric in recipe.metrics.values())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_packed_sequences_are_read_to_their_own_end(kind):
    model = models.SequenceClassifier(3, 5, 4, kind, bidirectional=True)
    sequences = [ag.randn(steps, 3) for steps in (4, 6, 2)]
    padded = nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=99.0)
    together = model(padded, ag.tensor([4, 6, 2]))
    alone = ag.cat([model(sequence.unsqueeze(0)) for sequence in sequences])
    np.testing.assert_allclose(together.detach(), alone.detach(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="kind must be one of RNN, LSTM, GRU, got 'Elman'"):
        models.SequenceClassifier(3, 5, 4, "Elman")


def test_text_is_generated_as_the_scores_say():
    for model in (models.CharLSTM(7, 4, 6, layers=2), models.GPT(7, 5, 8, 2, 1)):
        prompt = ag.tensor([1, 2, 3])
        drawn = model.generate(prompt, 6, temperature=1e-4)
        assert drawn.shape == (6,)
        text = prompt
        for code in drawn:  # so cold that always the likeliest is drawn
            scores = model(text[-5:].unsqueeze(0) if isinstance(model, models.GPT) else text.unsqueeze(0))
            assert scores[0, -1].argmax().item() == code.item()
            text = ag.cat([text, code.unsqueeze(0)])


def test_a_gpt_looks_back_only():
    model = models.GPT(9, 6, 8, 2, 2)
    text = ag.randint(0, 9, (1, 6))
    other = text.clone()
    other[0, 4] = (text[0, 4] + 1) % 9
    first, second = model(text).detach(), model(other).detach()
    np.testing.assert_array_equal(first[:, :4], second[:, :4])
    assert not np.allclose(first[:, 4:], second[:, 4:])
    with pytest.raises(ValueError, match="got 7 characters, needs at most the context, 6"):
        model(ag.zeros((1, 7), dtype=ag.int64))


def test_seq2seq_ignores_padding_and_shows_where_it_looks():
    model = models.Seq2Seq(12, 8, longest=9, width=8, heads=2, layers=2).eval()
    source = ag.tensor([[3, 4, 5, 0, 0], [6, 7, 8, 9, 10]])
    target = ag.tensor([[1, 2, 3], [1, 4, 5]])
    short = model(source[:1, :3], target[:1]).detach()
    np.testing.assert_allclose(model(source, target)[:1].detach(), short, rtol=1e-4, atol=1e-5)
    maps = model.attention(source, target)
    assert [tuple(m.shape) for m in maps] == [(2, 2, 3, 5)] * 2
    np.testing.assert_allclose(maps[0].sum(-1), 1, rtol=1e-5)
    assert float(maps[1][0, :, :, 3:].abs().max()) == 0
    assert not model.transformer.decoder.layers[0].multihead_attn._forward_pre_hooks
    written = model.rewrite(source, 1, 4)
    again = ag.cat([ag.ones((2, 1), dtype=ag.int64), written], 1)
    np.testing.assert_array_equal(model(source, again[:, :-1]).argmax(-1), written)


def test_dates_are_spelled_and_coded():
    day = dt.date(2003, 5, 22)
    made = [dates.spell(day, kind) for kind in range(len(dates.SPELLINGS))]
    assert made == ["22 May 2003", "22 May 2003", "May 22, 2003", "May 22, 03", "Thursday, 22 May 2003",
                    "the 22nd of May 2003", "22.5.2003", "22.05.03", "5/22/2003", "05/22/03",
                    "2003 May 22"]  # fmt: skip
    longest = [dates.spell(dt.date(1999, 9, 22), kind) for kind in range(len(dates.SPELLINGS))]
    assert max(map(len, longest)) == dates.LONGEST
    parts = dates.date_parts([40, 10], seed=3)
    assert [len(part) for part in parts] == [40, 10]
    assert not set(parts[0].dates) & set(parts[1].dates)
    spelling, given, wanted = parts[0][:]
    assert dates.decode(spelling, dates.INPUTS) == parts[0].spellings
    assert dates.decode(wanted, dates.OUTPUTS) == parts[0].dates
    assert dates.decode(given, dates.OUTPUTS) == ["\n" + date[:-1] for date in parts[0].dates]
    assert all(ag.equal(a[7], b) for a, b in zip(parts[0][:], parts[0][7], strict=True))


def test_the_variational_bound_is_its_formula():
    model = models.VariationalAutoencoder((6, 5, 2))
    pictures = ag.rand(4, 1, 2, 3)
    scores, mean, log_variance = model.eval()(pictures)
    codes = np.random.default_rng(0).standard_normal((400_000, 2)) * np.exp(log_variance.detach().numpy()[0] / 2)
    codes += mean.detach().numpy()[0]
    m, v = mean.detach().numpy()[0], np.exp(log_variance.detach().numpy()[0])
    estimate = (-0.5 * ((codes - m) ** 2 / v + np.log(v)) + 0.5 * codes**2).sum(1).mean()
    one = (scores[:1], mean[:1], log_variance[:1])
    divergence = (models.negative_elbo(one, pictures[:1]) - models.reconstruction_loss(scores[:1], pictures[:1])).item()
    assert divergence == pytest.approx(estimate, abs=3e-3)
    p = F.sigmoid(scores[0]).detach().numpy()
    x = pictures[0].numpy().ravel()
    assert models.reconstruction_loss(scores[:1], pictures[:1]).item() == pytest.approx(
        -(x * np.log(p) + (1 - x) * np.log(1 - p)).sum(), rel=1e-5)  # fmt: skip
    assert model.sample(3).shape == (3, 6)
    assert not ag.equal(model.train()(pictures)[0], model(pictures)[0])


def test_free_energy_sums_over_all_hidden_states():
    machine = models.RBM(3, 2).double()
    with ag.no_grad():
        for parameter in machine.parameters():
            parameter.copy_(ag.randn_like(parameter))
    visible = ag.tensor([[0.0, 1, 1], [1, 0, 1]], dtype=ag.float64)
    w, b, a = (p.detach().numpy() for p in (machine.weight, machine.hidden_bias, machine.visible_bias))
    states = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    for v, found in zip(visible.numpy(), machine.free_energy(visible), strict=True):
        energies = -(v @ a) - states @ b - states @ (w @ v)
        assert found.item() == pytest.approx(-np.log(np.exp(-energies).sum()))
        weights = np.exp(-energies) / np.exp(-energies).sum()
        np.testing.assert_allclose(machine(ag.tensor(v))[0].detach().numpy(), (weights @ states)[0])


def test_contrastive_divergence_is_hintons_rule():
    machine = models.RBM(5, 4).double()
    data = ag.bernoulli(ag.full((8, 5), 0.5, dtype=ag.float64))
    ag.manual_seed(3)
    chain = machine.gibbs(data, 2)
    ag.manual_seed(3)
    machine.contrastive_divergence(data, 2).backward()
    with ag.no_grad():
        rule = (machine(data).T @ data - machine(chain).T @ chain) / 8
        np.testing.assert_allclose(machine.weight.grad, -rule, atol=1e-12)
        np.testing.assert_allclose(machine.visible_bias.grad, (chain - data).mean(0), atol=1e-12)


def test_pretraining_teaches_the_machines_what_they_see():
    patterns = ag.tensor(np.kron(np.eye(4), np.ones((1, 5))), dtype=ag.float32)
    data = patterns[ag.randint(0, 4, (400,))]
    network = models.DeepBeliefNetwork((20, 12, 6), classes=4)
    seen = []
    models.pretrain(network, data, epochs=10, batch_size=20, watch=lambda *row: seen.append(row))
    assert [row[:2] for row in seen] == [(depth, epoch) for depth in (0, 1) for epoch in range(1, 11)]
    assert seen[9][2] < 0.1 * seen[0][2]
    drawn = network.sample(data[:50], steps=20).round()
    distance = (drawn[:, None] - patterns[None]).abs().sum(-1).min(1)[0]
    assert float((distance <= 1).float().mean()) > 0.8  # samples are patterns
    assert network(data[:3]).shape == (3, 4)


def test_recommenders_are_their_formulas():
    pairs = ag.tensor([[0, 2], [1, 0]])
    model = models.MatrixFactorisation(2, 3, width=4, mean=3.5)
    with ag.no_grad():
        model.user_bias.weight.copy_(ag.tensor([[0.25], [-0.5]]))
    dot = (model.user.weight[pairs[:, 0]] * model.item.weight[pairs[:, 1]]).sum(1)
    np.testing.assert_allclose(model(pairs).detach(), (3.5 + ag.tensor([0.25, -0.5]) + dot).detach(), rtol=1e-6)
    neural = models.NeuralRecommender(2, 3, width=4, hidden=5, mean=3.5).eval()
    row = ag.cat([neural.user.weight[0], neural.item.weight[2], neural.user.weight[0] * neural.item.weight[2]])
    expected = 3.5 + neural.out(F.relu(neural.hidden(row)))
    np.testing.assert_allclose(neural(pairs)[:1].detach(), expected.detach(), rtol=1e-6)


def test_a_network_without_skips_has_the_same_layers_but_shortcuts():
    plain, residual = (models.ResNet((2, 2), (4, 8), 10, small=True, channels=1, skips=s) for s in (False, True))
    names = {name for name, _ in plain.named_parameters()}
    more = {name for name, _ in residual.named_parameters()} - names
    assert more
    assert all("downsample" in name for name in more)
    pictures = ag.rand(2, 1, 12, 12)
    block = plain.layer1[1].eval()
    x = F.relu(plain.bn1(plain.conv1(pictures)))
    expected = F.relu(block.bn2(block.conv2(F.relu(block.bn1(block.conv1(x))))))
    np.testing.assert_allclose(block(x).detach(), expected.detach(), atol=1e-6)


def test_zeros_and_ones_are_points():
    digits, _ = nn.data.digits(normalize=False)
    points, sides = models.zeros_and_ones(digits)[:]
    assert sorted(set(sides.tolist())) == [0, 1]
    first = digits.images[digits.labels == sides[0].item()][0] / 16
    np.testing.assert_allclose(points[0], [first[2:6, 3:5].mean(), first.mean()], rtol=1e-6)
    splits = RECIPES["perceptron"].data()
    assert splits.source == "8x8 digits of this package"
    assert len(splits.train) > 4 * len(splits.validation) > 0


def test_padded_batches_say_how_long_their_sequences_are():
    train, _ = nn.data.japanese_vowels(embedded=True)
    padded, lengths, labels = models.Padded(train).get_batch([0, 40, 80])
    assert padded.shape == (3, int(lengths.max()), 12)
    np.testing.assert_array_equal(lengths, train.lengths[[0, 40, 80]])
    np.testing.assert_array_equal(labels, train.labels[[0, 40, 80]])
    assert float(padded[0, int(lengths[0]) :].abs().sum()) == 0
