"""Module, containers, hooks, and every layer."""

import copy
import importlib
import inspect
import warnings
from collections import OrderedDict

import numpy as np
import pytest

import autograd_core as ag
import nn
from autograd_core.modes import state as thread


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(2, 3), nn.Tanh())
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.ModuleDict({"a": nn.Linear(3, 3)})])
        self.head = nn.Linear(3, 1)
        self.register_buffer("scale", ag.tensor([2.0]))
        self.register_buffer("scratch", ag.tensor([0.0]), persistent=False)

    def forward(self, x):
        x = self.layers[1]["a"](self.layers[0](self.encoder(x)))
        return self.head(x) * self.scale


def x(*shape):
    return ag.tensor(np.random.default_rng(0).normal(size=shape).astype(np.float32))


# ------------------------------------------------------------------------------------------------ the tree


def test_members_by_name():
    net = Net()
    assert [n for n, _ in net.named_children()] == ["encoder", "layers", "head"]
    assert [n for n, _ in net.named_modules()] == ["", "encoder", "encoder.0", "encoder.1", "layers", "layers.0",
                                                   "layers.1", "layers.1.a", "head"]  # fmt: skip
    assert [n for n, _ in net.named_parameters()][:3] == ["encoder.0.weight", "encoder.0.bias", "layers.0.weight"]
    assert [n for n, _ in net.named_parameters("net", recurse=False)] == []
    assert [n for n, _ in net.named_buffers()] == ["scale", "scratch"]
    assert next(iter(net.state_dict())) == "scale"
    assert "scratch" not in net.state_dict()
    assert net.get_submodule("layers.1.a") is net.layers[1]["a"]
    assert net.get_parameter("head.bias") is net.head.bias
    assert net.get_buffer("scale") is net.scale
    for call in (lambda: net.get_submodule("layers.9"), lambda: net.get_parameter("scale"),
                 lambda: net.get_buffer("head.bias")):  # fmt: skip
        with pytest.raises(AttributeError):
            call()
    net.set_submodule("layers.0", nn.Identity())
    assert isinstance(net.layers[0], nn.Identity)


def test_shared_parameters_are_counted_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert len(list(net.parameters())) == 3
    assert len(list(net.named_parameters(remove_duplicate=False))) == 4
    assert len(net.state_dict()) == 4
    twice = nn.Sequential(net[0], net[0])
    assert [n for n, _ in twice.named_modules()] == ["", "0"]
    assert [n for n, _ in twice.named_modules(remove_duplicate=False)] == ["", "0", "1"]


def test_assigning_attributes():
    layer = nn.Linear(2, 2)
    with pytest.raises(TypeError, match="cannot assign 'int' as parameter 'weight'"):
        layer.weight = 3
    with pytest.raises(TypeError, match="as parameter 'weight'"):
        layer.weight = ag.zeros(2, 2)
    layer.bias = None
    assert [n for n, _ in layer.named_parameters()] == ["weight"]
    layer.weight = nn.Parameter(ag.ones(1, 2))
    assert layer.weight.shape == (1, 2)
    layer.extra = nn.ReLU()
    with pytest.raises(TypeError, match="as child module 'extra'"):
        layer.extra = 3
    layer.extra = nn.Parameter(ag.ones(1))
    assert "extra" not in layer._modules
    del layer.extra
    with pytest.raises(AttributeError, match="'Linear' object has no attribute 'extra'"):
        layer.extra
    layer.buffer = nn.Buffer(ag.ones(1), persistent=False)
    layer.buffer = ag.zeros(1)
    assert layer.buffer.item() == 0
    assert "buffer" not in layer.state_dict()
    assert {"weight", "buffer", "train"} <= set(dir(layer))


def test_registration_is_checked():
    module = nn.Module()
    for name, error in ((3, TypeError), ("a.b", KeyError), ("", KeyError), ("train", KeyError)):
        with pytest.raises(error):
            module.register_buffer(name, ag.zeros(1))
        with pytest.raises(error):
            module.register_parameter(name, nn.Parameter(ag.zeros(1)))
        with pytest.raises(error):
            module.add_module(name, nn.ReLU())
    with pytest.raises(TypeError, match="not a Module"):
        module.add_module("a", 3)
    with pytest.raises(ValueError, match="non-leaf"):
        leaf = nn.Parameter(ag.zeros(1))
        made = leaf * 2
        made.__class__ = nn.Parameter
        module.register_parameter("a", made)

    class Early(nn.Module):
        def __init__(self):
            self.weight = nn.Parameter(ag.zeros(1))

    with pytest.raises(AttributeError, match=r"before Module.__init__\(\) call"):
        Early()
    with pytest.raises(NotImplementedError, match="forward"):
        nn.Module()(1)


def test_modes_and_gradients():
    net = Net()
    assert net.eval() is net
    assert not net.layers[1]["a"].training
    assert net.train().head.training
    net(x(4, 2)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net.zero_grad(set_to_none=False)
    assert net.head.weight.grad.abs().sum().item() == 0
    net.zero_grad()
    assert net.head.weight.grad is None
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())
    names = []
    net.apply(lambda module: names.append(type(module).__name__))
    assert names[0] == "Linear"
    assert names[-1] == "Net"


def test_changing_types():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net(x(4, 2)).sum().backward()
    weight = net[0].weight
    assert net.double() is net
    assert net[0].weight is weight
    assert weight.dtype == weight.grad.dtype == net[1].running_mean.dtype == ag.float64
    assert net[1].num_batches_tracked.dtype == ag.int64
    assert net.half()[0].bias.dtype == ag.float16
    assert net.to("cpu", ag.float32)[0].bias.dtype == ag.float32
    assert net.to(ag.zeros(1, dtype=ag.float64))[0].bias.dtype == ag.float64
    assert weight.requires_grad
    assert weight.is_leaf
    with pytest.raises(TypeError, match="floating point"):
        net.to(ag.int64)
    with pytest.raises(RuntimeError, match="cpu"):
        net.to("cuda")


def test_text():
    assert repr(Net()) == """Net(
  (encoder): Sequential(
    (0): Linear(in_features=2, out_features=3, bias=True)
    (1): Tanh()
  )
  (layers): ModuleList(
    (0): Linear(in_features=3, out_features=3, bias=True)
    (1): ModuleDict(
      (a): Linear(in_features=3, out_features=3, bias=True)
    )
  )
  (head): Linear(in_features=3, out_features=1, bias=True)
)"""
    assert repr(nn.ModuleList([nn.ReLU(), nn.ReLU(),
                               nn.Tanh()])) == "ModuleList(\n  (0-1): 2 x ReLU()\n  (2): Tanh()\n)"  # fmt: skip


# ------------------------------------------------------------------------------------------------ names in errors


def test_errors_name_the_module_as_the_user_knows_it():
    net = Net()
    net.layers[1]["a"] = nn.Linear(5, 1)
    with pytest.raises(RuntimeError, match=r"in module: layers\.1\.a"):
        net(x(4, 2))
    with pytest.raises(RuntimeError, match="in module: Linear"):
        nn.Linear(2, 2)(x(4, 3))
    assert thread.scope is None


def test_names_follow_late_additions():
    net = nn.Module()
    net.blocks = nn.ModuleList()
    net.blocks.append(nn.Sequential(nn.Linear(1, 1)))
    seen = []
    net.blocks[0][0].register_forward_hook(lambda *_: seen.append(thread.scope))
    net.blocks[0](x(1, 1))
    copy.deepcopy(net).blocks[0](x(1, 1))
    assert seen[0] == "blocks.0.0"


# ------------------------------------------------------------------------------------------------ containers


def test_sequential_is_a_list():
    net = nn.Sequential(nn.ReLU(), nn.Tanh()).append(nn.Sigmoid()).insert(1, nn.ELU()).extend([nn.SELU()])
    names = [type(m).__name__ for m in net]
    assert names == ["ReLU", "ELU", "Tanh", "Sigmoid", "SELU"]
    assert [k for k, _ in net[1:3].named_children()] == ["1", "2"]
    assert isinstance(net[-1], nn.SELU)
    assert isinstance(net.pop(1), nn.ELU)
    del net[0]
    assert [k for k, _ in net.named_children()] == ["0", "1", "2"]
    net[0] = nn.Identity()
    net += nn.Sequential(nn.GELU())
    assert len(net + net) == 8
    assert len(net * 2) == 8
    with pytest.raises(IndexError):
        net[9]
    with pytest.raises(ValueError, match="Non-positive"):
        net * 0
    named = nn.Sequential(OrderedDict(first=nn.Linear(1, 2), second=nn.Linear(2, 3)))
    assert named.second is named[1]
    assert named(x(4, 1)).shape == (4, 3)


def test_module_list_and_dict():
    blocks = nn.ModuleList([nn.Linear(1, 1) for _ in range(3)])
    blocks.append(nn.ReLU())
    blocks.insert(0, nn.Tanh())
    assert len(blocks + nn.ModuleList([nn.ReLU()])) == 6
    assert len(blocks[1:3]) == 2
    assert len(list(blocks.parameters())) == 6
    named = nn.ModuleDict({"a": nn.ReLU()})
    named.update([("b", nn.Linear(1, 1))])
    named["c"] = nn.Tanh()
    assert list(named) == ["a", "b", "c"]
    assert "b" in named
    assert isinstance(named.pop("a"), nn.ReLU)
    with pytest.raises(ValueError, match="2 is required"):
        named.update([[1]])


def test_parameter_containers():
    held = nn.ParameterList([ag.ones(2), nn.Parameter(ag.zeros(1)), "text"])
    held.append(ag.ones(3))
    assert [type(v).__name__ for v in held] == ["Parameter", "Parameter", "str", "Parameter"]
    assert list(held.state_dict()) == ["0", "1", "3"]
    assert len(held[1:]) == 3
    named = nn.ParameterDict({"b": ag.ones(2), "a": ag.zeros(1)})
    assert list(named) == ["a", "b"]
    named |= {"c": ag.ones(1)}
    assert named.pop("c").item() == 1
    assert named.get("z") is None
    with pytest.raises(KeyError):
        named["z"]
    assert "Parameter containing: [ag.float32 of size 2]" in repr(named)


# ------------------------------------------------------------------------------------------------ hooks


def test_forward_hooks():
    net, seen = nn.Linear(2, 1), []
    handles = [
        net.register_forward_pre_hook(lambda m, args: seen.append("first")),
        net.register_forward_pre_hook(lambda m, args, kwargs: ((args[0] * 0,), kwargs), with_kwargs=True, prepend=True),
        net.register_forward_hook(lambda m, args, out: seen.append(args[0].abs().sum().item())),
        net.register_forward_hook(lambda m, args, kwargs, out: out + 10, with_kwargs=True),
    ]
    assert net(x(1, 2)).item() == pytest.approx(net.bias.item() + 10, abs=1e-5)
    assert seen == ["first", 0]
    for handle in handles:
        handle.remove()
    net(x(1, 2))
    assert len(seen) == 2


def test_hooks_that_are_always_called():
    class Broken(nn.Module):
        def forward(self, value):
            raise ValueError("broken")

    seen, module = [], Broken()
    module.register_forward_hook(lambda m, args, out: seen.append(out), always_call=True)
    module.register_forward_hook(lambda m, args, out: seen.append("not this one"))
    with pytest.raises(ValueError, match="broken"):
        module(1)
    assert seen == [None]


def test_backward_hooks():
    net, seen = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1, bias=False)), []
    data = x(3, 2).requires_grad_()
    net[1].register_full_backward_pre_hook(lambda m, grad_output: (grad_output[0] * 2,))
    net[1].register_full_backward_hook(lambda m, grad_input, grad_output: seen.append((grad_input, grad_output)))
    net[0].register_full_backward_hook(lambda m, grad_input, grad_output: (grad_input[0] * 0,))
    net(data).sum().backward()
    (grad_input,), (grad_output,) = seen[0]
    np.testing.assert_allclose(grad_output.numpy(), np.full((3, 1), 2))
    np.testing.assert_allclose(grad_input.numpy(), 2 * np.repeat(net[1].weight.numpy(force=True), 3, 0), rtol=1e-6)
    assert data.grad.abs().sum().item() == 0


def test_backward_hooks_where_the_input_wants_no_gradient():
    net, seen = nn.Linear(2, 1), []
    net.register_full_backward_hook(lambda m, grad_input, grad_output: seen.append((grad_input, grad_output[0].item())))
    net(x(1, 2)).sum().backward()
    assert seen == [((None,), 1)]


def test_backward_hooks_in_second_derivatives():
    net = nn.Linear(1, 1)
    net.register_full_backward_hook(lambda m, grad_input, grad_output: (grad_input[0] * 3,))
    data = ag.ones(1, 1, requires_grad=True)
    (first,) = ag.grad(net(data).sum(), data, create_graph=True)
    (second,) = ag.grad(first.sum(), net.weight)
    assert second.item() == 3


def test_hooks_for_all_modules():
    seen = []
    handles = [
        nn.register_module_forward_pre_hook(lambda m, args: seen.append("pre")),
        nn.register_module_forward_hook(lambda m, args, out: seen.append("post")),
        nn.register_module_full_backward_hook(lambda m, grad_input, grad_output: seen.append("back")),
        nn.register_module_parameter_registration_hook(lambda m, name, value: seen.append(name)),
    ]
    nn.Linear(1, 1)(x(1, 1)).sum().backward()
    for handle in handles:
        handle.remove()
    nn.Linear(1, 1)(x(1, 1)).sum().backward()
    assert seen == ["weight", "bias", "pre", "post", "back"]


def test_a_hook_that_returns_the_wrong_number_of_gradients():
    net = nn.Bilinear(1, 1, 1)
    net.register_full_backward_hook(lambda m, grad_input, grad_output: (grad_input[0],))
    with pytest.raises(RuntimeError, match="1 gradients, but expected 2"):
        net(x(1, 1).requires_grad_(), x(1, 1).requires_grad_()).sum().backward()


# ------------------------------------------------------------------------------------------------ layers

SMALL = [
    (nn.Linear(3, 2), (4, 3), (4, 2)), (nn.Conv1d(3, 4, 3, padding="same"), (2, 3, 6), (2, 4, 6)),
    (nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2, padding_mode="reflect"), (2, 2, 7, 7), (2, 4, 4, 4)),
    (nn.Conv3d(1, 2, 2), (1, 3, 3, 3), (2, 2, 2, 2)), (nn.ConvTranspose2d(2, 3, 3, 2, 1), (1, 2, 4, 4), (1, 3, 7, 7)),
    (nn.BatchNorm2d(2), (3, 2, 4, 4), (3, 2, 4, 4)), (nn.InstanceNorm1d(2), (3, 2, 4), (3, 2, 4)),
    (nn.LayerNorm((2, 4)), (3, 2, 4), (3, 2, 4)), (nn.GroupNorm(2, 4), (3, 4, 5), (3, 4, 5)),
    (nn.RMSNorm(4), (3, 4), (3, 4)), (nn.LocalResponseNorm(2), (1, 4, 5, 5), (1, 4, 5, 5)),
    (nn.MaxPool2d(2), (1, 6, 6), (1, 3, 3)), (nn.AvgPool1d(3, 1), (1, 1, 6), (1, 1, 4)),
    (nn.AdaptiveAvgPool2d((None, 2)), (1, 1, 6, 6), (1, 1, 6, 2)), (nn.LPPool2d(2, 2), (1, 1, 4, 4), (1, 1, 2, 2)),
    (nn.FractionalMaxPool2d(2, output_ratio=0.5), (1, 1, 6, 6), (1, 1, 3, 3)),
    (nn.Dropout(0.2), (3, 4), (3, 4)), (nn.PReLU(2), (3, 2), (3, 2)), (nn.RReLU(), (3,), (3,)),
    (nn.GLU(), (3, 4), (3, 2)),
    (nn.Softmax2d(), (3, 2, 2), (3, 2, 2)), (nn.Flatten(), (2, 3, 4), (2, 12)),
    (nn.Unflatten(1, (2, 3)), (4, 6), (4, 2, 3)),
    (nn.Unfold(2), (1, 2, 3, 3), (1, 8, 4)), (nn.Fold((3, 3), 2), (1, 8, 4), (1, 2, 3, 3)),
    (nn.PixelShuffle(2), (1, 4, 2, 2), (1, 1, 4, 4)), (nn.Upsample(scale_factor=2), (1, 1, 2, 2), (1, 1, 4, 4)),
    (nn.ZeroPad2d((1, 2, 0, 1)), (1, 2, 2), (1, 3, 5)), (nn.CircularPad1d(1), (1, 1, 3), (1, 1, 5)),
    (nn.MultiheadAttention(4, 2), None, None), (nn.Transformer(4, 2, 1, 1, 8), None, None),
]  # fmt: skip


@pytest.mark.parametrize("layer", [s for s in SMALL if s[1]], ids=lambda s: type(s[0]).__name__)
def test_shapes_types_and_gradients(layer):
    module, shape, expected = layer
    data = x(*shape).requires_grad_()
    out = module(data)
    assert out.shape == expected
    assert out.dtype == ag.float32
    out.sum().backward()
    assert data.grad.shape == shape
    for parameter in module.parameters():
        assert parameter.grad.shape == parameter.shape
        assert parameter.grad.dtype == ag.float32
    assert copy.deepcopy(module).state_dict().keys() == module.state_dict().keys()


def test_every_module_has_a_signature_and_a_docstring():
    for name in dir(nn):
        kind = getattr(nn, name)
        if inspect.isclass(kind) and issubclass(kind, nn.Module):
            assert inspect.getdoc(kind), name
            loose = ("Module", "Identity", "RNN", "GRU", "TripletMarginWithDistanceLoss")
            assert "kwargs" not in str(inspect.signature(kind)) or name in loose, name
    assert str(inspect.signature(nn.ELU)) == "(alpha=1.0, inplace=False)"
    with pytest.raises(TypeError, match=r"ELU.__init__\(\) .*it takes \(alpha=1.0, inplace=False\)"):
        nn.ELU(beta=1)
    with pytest.raises(TypeError, match="kernel_size"):
        nn.MaxPool2d()


def test_default_initialisation_has_the_right_spread():
    ag.manual_seed(0)
    linear, conv = nn.Linear(400, 300), nn.Conv2d(16, 64, 5)
    for parameter, fan_in in ((linear.weight, 400), (linear.bias, 400), (conv.weight, 400), (conv.bias, 400)):
        bound = fan_in**-0.5
        assert parameter.abs().max().item() <= bound
        assert parameter.abs().max().item() > 0.9 * bound
    lstm = nn.LSTM(5, 64)
    assert 0.9 / 8 < max(p.abs().max().item() for p in lstm.parameters()) <= 1 / 8
    assert nn.Embedding(500, 100).weight.std().item() == pytest.approx(1, abs=0.02)
    attention = nn.MultiheadAttention(64, 4)
    assert attention.in_proj_bias.abs().sum().item() == 0
    assert 0.9 * (6 / 256) ** 0.5 < attention.in_proj_weight.abs().max().item() <= (6 / 256) ** 0.5


def test_lazy_layers_become_ordinary_ones():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(RuntimeError, match="no shape yet"):
        net[0].weight.shape
    copied = copy.deepcopy(net).double()
    net(x(2, 3, 5, 5))
    assert [type(m).__name__ for m in net] == ["Conv2d", "BatchNorm2d", "Flatten", "Linear"]
    assert net[3].in_features == 36
    copied.load_state_dict(net.state_dict())
    assert copied[0].weight.shape == (4, 3, 3, 3)
    assert copied(x(2, 3, 5, 5).double()).dtype == ag.float64


def test_batch_norm_statistics():
    layer, data = nn.BatchNorm1d(2), x(8, 2)
    layer(data)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * data.numpy().mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * data.numpy().var(0, ddof=1), rtol=1e-5)
    assert layer.num_batches_tracked.item() == 1
    average = nn.BatchNorm1d(2, momentum=None)
    average(data)
    average(data * 3)
    np.testing.assert_allclose(average.running_mean.numpy(), 2 * data.numpy().mean(0), rtol=1e-5)
    with pytest.raises(ValueError, match="expected 2D or 3D input"):
        layer(x(2, 2, 2, 2))


@pytest.mark.parametrize("kind", ["RNN", "GRU", "LSTM"])
def test_recurrent_layers_agree_with_their_cells(kind):
    layer, cell = getattr(nn, kind)(3, 4, batch_first=True).double(), getattr(nn, kind + "Cell")(3, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.state_dict().items()})
    data, state, outs = x(2, 5, 3).double(), None, []
    for t in range(5):
        state = cell(data[:, t], state)
        outs.append(state[0] if kind == "LSTM" else state)
    out, last = layer(data)
    np.testing.assert_allclose(out.numpy(force=True), ag.stack(outs, 1).numpy(force=True), atol=1e-12)
    last = last[0] if kind == "LSTM" else last
    np.testing.assert_allclose(last[0].numpy(force=True), outs[-1].numpy(force=True), atol=1e-12)
    single, _ = layer(data[0])
    np.testing.assert_allclose(single.numpy(force=True), out[0].numpy(force=True), atol=1e-12)


@pytest.mark.parametrize("settings", [{}, {"bidirectional": True, "num_layers": 2}, {"proj_size": 2}], ids=str)
def test_packed_sequences_give_what_each_sequence_gives_alone(settings):
    layer = nn.LSTM(3, 4, **settings).double()
    sequences = [x(length, 3).double() for length in (2, 5, 3)]
    packed = nn.utils.rnn.pack_sequence(sequences, enforce_sorted=False)
    out, (h, c) = layer(packed)
    for number, alone in enumerate(nn.utils.rnn.unpack_sequence(out)):
        expected, (h1, c1) = layer(sequences[number])
        np.testing.assert_allclose(alone.numpy(force=True), expected.numpy(force=True), atol=1e-12)
        np.testing.assert_allclose(h[:, number].numpy(force=True), h1.numpy(force=True), atol=1e-12)
        np.testing.assert_allclose(c[:, number].numpy(force=True), c1.numpy(force=True), atol=1e-12)


def test_recurrent_errors():
    with pytest.raises(ValueError, match="only supported for LSTM"):
        nn.GRU(2, 3, proj_size=1)
    with pytest.raises(RuntimeError, match=r"Expected hidden\[0\] size \(1, 2, 4\), got \[1, 3, 4\]"):
        nn.LSTM(3, 4)(x(5, 2, 3), (x(1, 3, 4), x(1, 3, 4)))
    with pytest.raises(ValueError, match="dtype"):
        nn.LSTM(3, 4)(x(5, 2, 3).double())


def test_attention_hides_what_masks_hide():
    layer = nn.MultiheadAttention(4, 2, batch_first=True)
    data = x(2, 5, 4)
    padding = ag.tensor([[False] * 5, [False, False, True, True, True]])
    out, weights = layer(data, data, data, key_padding_mask=padding)
    assert out.shape == (2, 5, 4)
    assert weights.shape == (2, 5, 5)
    assert weights[1, :, 2:].sum().item() == 0
    np.testing.assert_allclose(weights.sum(2).numpy(force=True), 1, rtol=1e-5)
    causal = nn.Transformer.generate_square_subsequent_mask(5)
    _, each = layer(data, data, data, attn_mask=causal, average_attn_weights=False)
    assert each.shape == (2, 2, 5, 5)
    assert each.triu(1).sum().item() == 0


def test_a_causal_transformer_does_not_look_ahead():
    model = nn.Transformer(4, 2, 1, 2, 8, batch_first=True).eval()
    source, target = x(1, 3, 4), x(1, 5, 4)
    mask = model.generate_square_subsequent_mask(5)
    first = model(source, target, tgt_mask=mask)
    changed = target.clone()
    changed[:, 3:] = 0
    second = model(source, changed, tgt_mask=mask)
    np.testing.assert_allclose(first[:, :3].numpy(force=True), second[:, :3].numpy(force=True), atol=1e-6)


def test_adaptive_softmax_is_a_softmax():
    layer = nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10], div_value=2).double()
    data, target = x(30, 8).double(), ag.tensor(np.arange(30) % 20)
    found = layer(data, target)
    full = layer.log_prob(data)
    np.testing.assert_allclose(full.exp().sum(1).numpy(force=True), 1)
    np.testing.assert_allclose(found.output.numpy(force=True), full.numpy(force=True)[np.arange(30),
                                                                                      np.arange(30) % 20])  # fmt: skip
    assert found.loss.item() == pytest.approx(-found.output.mean().item())
    assert layer.predict(data).shape == (30,)
    with pytest.raises(RuntimeError, match="Target values"):
        layer(data, target + 1)


# ------------------------------------------------------------------------------------------------ PyTorch


def _torch():
    return pytest.importorskip("torch", reason="compares with PyTorch where it is installed")


def _database():
    """The module samples of PyTorch's own tests."""
    _torch()
    pytest.importorskip("expecttest", reason="needed by PyTorch's test library")
    pytest.importorskip("hypothesis", reason="needed by PyTorch's test library")
    return importlib.import_module("torch.testing._internal.common_modules").module_db


def _ours(value, torch):
    if isinstance(value, torch.Tensor):
        return ag.tensor(value.detach().numpy().copy(), requires_grad=value.requires_grad)
    if isinstance(value, (list, tuple)):
        return type(value)(_ours(v, torch) for v in value)
    if isinstance(value, torch.dtype):
        return getattr(ag, str(value).removeprefix("torch."))
    if type(value).__name__ in ("TransformerEncoderLayer", "TransformerDecoderLayer"):
        attention = value.self_attn
        return getattr(nn, type(value).__name__)(attention.embed_dim, attention.num_heads, value.linear1.out_features,
                                                 value.dropout.p, value.activation.__name__, value.norm1.eps,
                                                 attention.batch_first, value.norm_first,
                                                 value.linear1.bias is not None)  # fmt: skip
    if callable(value) and str(getattr(value, "__module__", "")).startswith("torch"):
        return getattr(nn.functional, value.__name__)
    return value


def _tensors(value, kind):
    if isinstance(value, kind):
        return [value]
    return [t for v in value for t in _tensors(v, kind)] if isinstance(value, (list, tuple)) else []


RANDOM = ("Dropout", "RReLU", "FractionalMaxPool")


@pytest.mark.filterwarnings("ignore")  # PyTorch's own
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_modules_do_what_pytorchs_do(training):
    torch = _torch()
    for info in _database():
        name = info.module_cls.__name__
        if not hasattr(nn, name) or name.startswith(RANDOM) or "Lazy" in name:
            continue
        samples = info.module_inputs_func(info, device="cpu", dtype=torch.float64, requires_grad=True,
                                          training=training)  # fmt: skip
        for entry in samples[:4]:
            _compare(torch, name, info.module_cls, entry.constructor_input, entry.forward_input, training)


def _compare(torch, name, kind, made_of, given, training):
    theirs = kind(*made_of.args, **made_of.kwargs).double().train(training)
    made_kwargs = {k: _ours(v, torch) for k, v in made_of.kwargs.items()}
    ours = getattr(nn, name)(*_ours(made_of.args, torch), **made_kwargs).double().train(training)
    assert repr(ours) == repr(theirs)
    state = theirs.state_dict()
    assert list(ours.state_dict()) == list(state), name
    ours.load_state_dict({k: v.numpy() for k, v in state.items()})
    expected = _tensors(theirs(*given.args, **given.kwargs), torch.Tensor)
    found = _tensors(ours(*_ours(given.args, torch), **{k: _ours(v, torch) for k, v in given.kwargs.items()}),
                     ag.Tensor)  # fmt: skip
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(force=True), b.detach().numpy(), rtol=1e-8, atol=1e-9, err_msg=name)
    roots = [(a, b) for a, b in zip(found, expected, strict=True) if b.requires_grad]
    if roots:
        sum([(b * b).sum() for _, b in roots]).backward()
        sum([(a * a).sum() for a, _ in roots]).backward()
        for (key, a), b in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            if b.grad is not None:
                np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-7, atol=1e-8,
                                           err_msg=f"{name} {key}")  # fmt: skip


def _image_net(lib):
    return lib.Sequential(
        lib.Conv2d(1, 4, 3, padding=1), lib.BatchNorm2d(4), lib.ReLU(), lib.MaxPool2d(2), lib.Flatten(),
        lib.Linear(64, 16), lib.LayerNorm(16), lib.GELU(), lib.Linear(16, 5))  # fmt: skip


class _Language:
    """An embedding, an LSTM and a linear map, for either library."""

    def __new__(cls, lib):
        class Model(lib.Module):
            def __init__(self):
                super().__init__()
                self.table = lib.Embedding(7, 6)
                self.lstm = lib.LSTM(6, 8, 2, batch_first=True)
                self.out = lib.Linear(8, 5)

            def forward(self, tokens):
                return self.out(self.lstm(self.table(tokens))[0][:, -1])

        return Model()


@pytest.mark.parametrize(("build", "shape"), [(_image_net, (6, 1, 8, 8)), (_Language, (6, 4))])
def test_twenty_steps_of_training_end_where_pytorch_ends(build, shape):
    torch = _torch()
    theirs, ours = build(torch.nn).double(), build(nn).double()
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    rng = np.random.default_rng(0)
    for _ in range(20):
        data = rng.normal(size=shape) if len(shape) == 4 else rng.integers(0, 7, shape)
        target = rng.integers(0, 5, shape[0])
        for lib, net, library in ((torch, theirs, torch.nn), (ag, ours, nn)):
            net.zero_grad()
            library.CrossEntropyLoss(label_smoothing=0.1)(net(lib.tensor(data)), lib.tensor(target)).backward()
            library.utils.clip_grad_norm_(net.parameters(), 1.0)
            with lib.no_grad():
                for parameter in net.parameters():
                    parameter -= 0.1 * parameter.grad
    for (name, value), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(value.numpy(), expected.numpy(), rtol=1e-7, atol=1e-9, err_msg=name)
