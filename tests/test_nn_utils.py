"""nn.init and nn.utils."""

import copy
import math

import numpy as np
import pytest

import autograd_core as ag
import nn
from nn.utils import parametrizations, parametrize, prune
from nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence, unpad_sequence


def x(*shape):
    return ag.tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))


# ------------------------------------------------------------------------------------------------ init


def test_gains():
    assert nn.init.calculate_gain("relu") == math.sqrt(2)
    assert nn.init.calculate_gain("tanh") == 5 / 3
    assert nn.init.calculate_gain("leaky_relu", 0.2) == math.sqrt(2 / 1.04)
    assert nn.init.calculate_gain("conv2d") == 1
    with pytest.raises(ValueError, match="Unsupported nonlinearity swish"):
        nn.init.calculate_gain("swish")


@pytest.mark.parametrize(("function", "spread"), [
    (nn.init.xavier_uniform_, math.sqrt(2 / 900)), (nn.init.xavier_normal_, math.sqrt(2 / 900)),
    (nn.init.kaiming_uniform_, math.sqrt(2 / 600)), (nn.init.kaiming_normal_, math.sqrt(2 / 600)),
    (nn.init.normal_, 1), (nn.init.uniform_, math.sqrt(1 / 12)), (nn.init.orthogonal_, math.sqrt(1 / 600)),
])  # fmt: skip
def test_spread_of_random_values(function, spread):
    tensor = ag.empty(300, 600)
    assert function(tensor) is tensor
    assert tensor.std().item() == pytest.approx(spread, rel=0.02)


def test_fans_of_convolutions():
    tensor = ag.empty(8, 4, 5, 5)
    nn.init.kaiming_uniform_(tensor, mode="fan_out", nonlinearity="relu")
    assert tensor.abs().max().item() == pytest.approx(math.sqrt(6 / 200), rel=0.05)
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        nn.init.xavier_normal_(ag.empty(3))
    with pytest.raises(ValueError, match="Mode sideways"):
        nn.init.kaiming_normal_(tensor, mode="sideways")


def test_orthogonal_values():
    for shape in ((3, 5), (5, 3), (4, 2, 3)):
        matrix = nn.init.orthogonal_(ag.empty(*shape, dtype=ag.float64), gain=2).numpy().reshape(shape[0], -1)
        small = matrix @ matrix.T if matrix.shape[0] < matrix.shape[1] else matrix.T @ matrix
        np.testing.assert_allclose(small, 4 * np.eye(len(small)), atol=1e-12)


@pytest.mark.parametrize(("low", "high"), [(-2, 2), (0.5, 0.7), (1, 8), (-3, -1.8)])
def test_truncated_normal_values(low, high):
    stats = pytest.importorskip("scipy.stats", reason="the reference distribution")
    values = nn.init.trunc_normal_(ag.empty(20_000, dtype=ag.float64), a=low, b=high).numpy()
    assert low <= values.min() < values.max() <= high
    assert stats.kstest(values, stats.truncnorm(low, high).cdf).pvalue > 1e-3


def test_fixed_values():
    assert nn.init.eye_(ag.empty(2, 3)).tolist() == [[1, 0, 0], [0, 1, 0]]
    assert nn.init.constant_(ag.empty(2), 3).tolist() == [3, 3]
    assert nn.init.ones_(ag.empty(1)).tolist() == [1]
    assert nn.init.zeros_(ag.empty(1)).tolist() == [0]
    passed = nn.functional.conv1d(x(1, 4, 6), nn.init.dirac_(ag.empty(4, 2, 3), groups=2), padding=1, groups=2)
    np.testing.assert_array_equal(passed.numpy(), x(1, 4, 6).numpy())
    sparse = nn.init.sparse_(ag.empty(10, 4), 0.3)
    assert (sparse == 0).sum(0).tolist() == [3] * 4


def test_parameters_can_be_filled_and_stay_leaves():
    parameter = nn.Parameter(ag.zeros(3, 3))
    nn.init.xavier_normal_(parameter)
    assert parameter.is_leaf
    assert parameter.requires_grad
    with pytest.warns(FutureWarning, match="xavier_normal_"):
        nn.init.xavier_normal(parameter)


def test_the_same_generator_gives_the_same_values():
    values = [nn.init.normal_(ag.empty(5), generator=ag.Generator().manual_seed(3)).tolist() for _ in range(2)]
    assert values[0] == values[1]


# ------------------------------------------------------------------------------------------------ gradients


def _with_gradients():
    layer = nn.Linear(2, 1)
    layer.weight.grad, layer.bias.grad = ag.tensor([[3.0, 0.0]]), ag.tensor([-4.0])
    return layer


def test_clipping_by_norm():
    layer = _with_gradients()
    assert nn.utils.clip_grad_norm_(layer.parameters(), 10).item() == 5
    assert layer.bias.grad.item() == -4
    assert nn.utils.clip_grad_norm_(layer.parameters(), 1).item() == 5
    np.testing.assert_allclose(layer.weight.grad.numpy(), [[0.6, 0]], rtol=1e-5)
    assert nn.utils.clip_grad_norm_(layer.bias, 1, float("inf")).item() == pytest.approx(0.8, rel=1e-5)
    layer.bias.grad.fill_(float("nan"))
    with pytest.raises(RuntimeError, match="non-finite"):
        nn.utils.clip_grad_norm_(layer.parameters(), 1, error_if_nonfinite=True)


def test_clipping_by_value():
    layer = _with_gradients()
    nn.utils.clip_grad_value_(layer.parameters(), 3.5)
    assert layer.bias.grad.item() == -3.5
    assert layer.weight.grad.tolist() == [[3, 0]]
    assert nn.utils.get_total_norm([layer.weight.grad], 1).item() == 3


def test_vectors():
    layer = nn.Linear(2, 3)
    vector = nn.utils.parameters_to_vector(layer.parameters())
    assert vector.shape == (9,)
    nn.utils.vector_to_parameters(vector * 2, layer.parameters())
    np.testing.assert_allclose(nn.utils.parameters_to_vector(layer.parameters()).numpy(force=True),
                               2 * vector.numpy(force=True))  # fmt: skip


def test_skip_init_draws_nothing():
    before = ag.get_rng_state()
    layer = nn.utils.skip_init(nn.Linear, 300, 400)
    assert type(layer) is nn.Linear
    assert layer.weight.shape == (400, 300)
    np.testing.assert_array_equal(np.asarray(ag.get_rng_state()), np.asarray(before))


def test_functional_call():
    net = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False))
    net[1].weight = net[0].weight
    weight = ag.tensor([[3.0]], requires_grad=True)
    out = nn.utils.stateless.functional_call(net, {"0.weight": weight}, (ag.ones(1, 1),))
    assert out.item() == 9
    out.sum().backward()
    assert weight.grad.item() == 6
    assert net[0].weight.grad is None
    with pytest.raises(AttributeError, match="nothing"):
        nn.utils.stateless.functional_call(net, {"nothing": weight}, (ag.ones(1, 1),))


# ------------------------------------------------------------------------------------------------ sequences


@pytest.mark.parametrize("batch_first", [False, True])
def test_packing_and_padding_are_inverse(batch_first):
    sequences = [x(n, 2) for n in (2, 4, 1)]
    padded = pad_sequence(sequences, batch_first)
    assert padded.shape == ((3, 4, 2) if batch_first else (4, 3, 2))
    packed = pack_padded_sequence(padded, [2, 4, 1], batch_first, enforce_sorted=False)
    assert packed.batch_sizes.tolist() == [3, 2, 1, 1]
    assert packed.sorted_indices.tolist() == [1, 0, 2]
    again, lengths = pad_packed_sequence(packed, batch_first)
    assert lengths.tolist() == [2, 4, 1]
    np.testing.assert_array_equal(again.numpy(), padded.numpy())
    for back, sequence in zip(unpad_sequence(again, lengths, batch_first), sequences, strict=True):
        np.testing.assert_array_equal(back.numpy(), sequence.numpy())
    longer, _ = pad_packed_sequence(packed, batch_first, padding_value=-1, total_length=6)
    assert longer.numpy().min() == -1 or longer.shape[1 if batch_first else 0] == 6


def test_gradients_pass_packing():
    data = x(4, 3, 2).requires_grad_()
    packed = pack_padded_sequence(data, [4, 2, 1])
    assert packed.data.shape == (7, 2)
    padded, _ = pad_packed_sequence(packed)
    padded.sum().backward()
    assert data.grad.sum((0, 2)).tolist() == [8, 4, 2]


def test_packing_errors():
    with pytest.raises(RuntimeError, match="sorted in decreasing order"):
        pack_sequence([x(1, 2), x(3, 2)])
    with pytest.raises(RuntimeError, match="batch_size"):
        pack_padded_sequence(x(4, 3, 2), [4, 2])
    with pytest.raises(RuntimeError, match="greater than 0"):
        pack_padded_sequence(x(4, 2, 2), [4, 0])
    with pytest.raises(ValueError, match="total_length"):
        pad_packed_sequence(pack_sequence([x(3, 2)]), total_length=2)
    assert pad_sequence([x(1, 1), x(2, 1)], True, 9, "left")[0].flatten()[0].item() == 9


# ------------------------------------------------------------------------------------------------ parametrisations


class Symmetric(nn.Module):
    def forward(self, matrix):
        return matrix.triu() + matrix.triu(1).mT

    def right_inverse(self, matrix):
        return matrix.triu()


class Doubled(nn.Module):
    def forward(self, matrix):
        return 2 * matrix


def test_parametrisations_can_be_stacked_assigned_and_removed():
    layer = nn.Linear(3, 3)
    original = layer.weight
    parametrize.register_parametrization(layer, "weight", Symmetric())
    assert type(layer).__name__ == "ParametrizedLinear"
    assert isinstance(layer, nn.Linear)
    assert parametrize.is_parametrized(layer, "weight")
    assert layer.parametrizations.weight.original is original
    assert [n for n, _ in layer.named_parameters()] == ["bias", "parametrizations.weight.original"]
    np.testing.assert_array_equal(layer.weight.numpy(force=True), layer.weight.mT.numpy(force=True))
    symmetric = x(3, 3) + x(3, 3).mT
    layer.weight = symmetric
    np.testing.assert_allclose(layer.weight.numpy(force=True), symmetric.numpy())
    layer(x(2, 3)).sum().backward()
    assert original.grad.tril(-1).abs().sum().item() == 0
    parametrize.register_parametrization(layer, "weight", Doubled())
    np.testing.assert_allclose(layer.weight.numpy(force=True), 2 * symmetric.numpy())
    with pytest.raises(RuntimeError, match="right_inverse"):
        layer.weight = symmetric
    with parametrize.cached():
        assert layer.weight is layer.weight
    copied = copy.deepcopy(layer)
    np.testing.assert_array_equal(copied.weight.numpy(force=True), layer.weight.numpy(force=True))
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert layer.weight is original
    np.testing.assert_allclose(layer.weight.numpy(force=True), 2 * symmetric.numpy())


def test_parametrisations_are_checked():
    class Flat(nn.Module):
        def forward(self, matrix):
            return matrix.flatten()

    with pytest.raises(ValueError, match="may not change the shape"):
        parametrize.register_parametrization(nn.Linear(2, 2), "weight", Flat())
    with pytest.raises(ValueError, match="does not have a parameter"):
        parametrize.register_parametrization(nn.Linear(2, 2), "width", Doubled())


@pytest.mark.parametrize("orthogonal_map", parametrizations.MAPS)
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
@pytest.mark.parametrize("trivial", [True, False])
def test_orthogonal_weights(orthogonal_map, shape, trivial):
    layer = nn.Linear(*shape, bias=False).double()
    parametrizations.orthogonal(layer, orthogonal_map=orthogonal_map, use_trivialization=trivial)
    for _ in range(2):
        weight = layer.weight
        small = weight @ weight.mT if weight.shape[0] < weight.shape[1] else weight.mT @ weight
        np.testing.assert_allclose(small.numpy(force=True), np.eye(len(small)), atol=1e-10)
        layer(x(5, shape[0]).double()).square().sum().backward()
        with ag.no_grad():
            for parameter in layer.parameters():
                parameter -= 0.1 * parameter.grad


def test_weight_norm_splits_length_and_direction():
    for apply, names in ((parametrizations.weight_norm, ["bias", "parametrizations.weight.original0",
                                                         "parametrizations.weight.original1"]),
                         (nn.utils.weight_norm, ["bias", "weight_g", "weight_v"])):  # fmt: skip
        layer = nn.Linear(3, 2)
        before = layer.weight.numpy(force=True).copy()
        apply(layer)
        np.testing.assert_allclose(layer.weight.numpy(force=True), before, rtol=1e-6)
        assert list(layer.state_dict()) == names
        layer(x(4, 3)).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())
    older = layer.state_dict()
    newer = parametrizations.weight_norm(nn.Linear(3, 2))
    newer.load_state_dict(older)
    np.testing.assert_allclose(newer.weight.numpy(force=True), before, rtol=1e-6)
    nn.utils.remove_weight_norm(layer)
    assert sorted(layer.state_dict()) == ["bias", "weight"]


@pytest.mark.parametrize("apply", [parametrizations.spectral_norm, nn.utils.spectral_norm])
def test_spectral_norm_brings_the_largest_singular_value_to_one(apply):
    layer = apply(nn.Conv2d(3, 4, 2))
    for _ in range(60):
        layer(x(1, 3, 4, 4))
    layer.eval()(x(1, 3, 4, 4))
    values = np.linalg.svd(layer.weight.numpy(force=True).reshape(4, -1), compute_uv=False)
    assert values[0] == pytest.approx(1, rel=1e-3)


# ------------------------------------------------------------------------------------------------ pruning


def test_pruning_holds_elements_at_zero():
    layer = nn.Linear(4, 3)
    prune.l1_unstructured(layer, "weight", amount=0.5)
    assert [n for n, _ in layer.named_parameters()] == ["bias", "weight_orig"]
    assert (layer.weight_mask == 0).sum().item() == 6
    kept = layer.weight_orig.abs()[layer.weight_mask == 1]
    assert kept.min().item() >= layer.weight_orig.abs()[layer.weight_mask == 0].max().item()
    layer(x(2, 4)).sum().backward()
    assert layer.weight_orig.grad[layer.weight_mask == 0].abs().sum().item() == 0
    prune.l1_unstructured(layer, "weight", amount=2)
    assert (layer.weight_mask == 0).sum().item() == 8
    assert prune.is_pruned(layer)
    prune.remove(layer, "weight")
    assert sorted(n for n, _ in layer.named_parameters()) == ["bias", "weight"]
    assert (layer.weight == 0).sum().item() == 8
    assert not prune.is_pruned(layer)


def test_pruning_whole_channels_and_many_layers():
    layer = prune.ln_structured(nn.Conv2d(2, 4, 3), "weight", amount=1, n=2, dim=0)
    assert sorted(layer.weight_mask.sum((1, 2, 3)).tolist()) == [0, 18, 18, 18]
    prune.random_structured(layer, "weight", amount=1, dim=0)
    assert sorted(layer.weight_mask.sum((1, 2, 3)).tolist()) == [0, 0, 18, 18]
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    prune.global_unstructured([(net[0], "weight"), (net[1], "weight")], prune.L1Unstructured, amount=0.25)
    assert sum((layer.weight_mask == 0).sum().item() for layer in net) == 8
    with pytest.raises(ValueError, match="must be a share"):
        prune.random_unstructured(nn.Linear(2, 2), "weight", amount=1.5)
    with pytest.raises(ValueError, match="is not pruned"):
        prune.remove(nn.Linear(2, 2), "weight")


# ------------------------------------------------------------------------------------------------ fusion


def _statistics(norm):
    nn.init.uniform_(norm.running_mean, -1, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    nn.init.uniform_(norm.weight, 0.5, 2)
    return norm.eval()


@pytest.mark.parametrize(("layer", "norm", "shape", "transpose"), [
    (nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), (2, 3, 5, 5), False),
    (nn.ConvTranspose1d(3, 4, 3), nn.BatchNorm1d(4), (2, 3, 5), True),
])  # fmt: skip
def test_fusing_convolution_and_batch_norm(layer, norm, shape, transpose):
    layer, norm = layer.eval(), _statistics(norm)
    fused = nn.utils.fuse_conv_bn_eval(layer, norm, transpose)
    np.testing.assert_allclose(fused(x(*shape)).numpy(force=True), norm(layer(x(*shape))).numpy(force=True), rtol=1e-4,
                               atol=1e-5)  # fmt: skip
    with pytest.raises(AssertionError, match="eval"):
        nn.utils.fuse_conv_bn_eval(layer.train(), norm)


def test_fusing_linear_and_batch_norm():
    layer, norm = nn.Linear(3, 4).eval(), _statistics(nn.BatchNorm1d(4))
    fused = nn.utils.fuse_linear_bn_eval(layer, norm)
    np.testing.assert_allclose(fused(x(5, 3)).numpy(force=True), norm(layer(x(5, 3))).numpy(force=True), rtol=1e-4,
                               atol=1e-5)  # fmt: skip
