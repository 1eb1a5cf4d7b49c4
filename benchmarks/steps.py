"""Rows of whole training steps, eager and compiled."""

from __future__ import annotations

from dataclasses import replace

from autograd_core.ops.samples import real, sample

from . import networks
from .cases import Case, FunctionCase, StepCase

EAGER = ("ours", "torch")
COMPILED = ("ours-compiled", "torch", "torch-compile", "jax")


def _classes(*shape, classes=10):
    """Random pictures (or rows) and their classes."""
    return lambda rng, n: (rng.standard_normal((n, *shape)), rng.integers(0, classes, n))


def _cross_entropy(lib, model, x, target):
    return lib.nn.functional.cross_entropy(model(x), target)


def _logits(lib, model, x, target):
    return lib.nn.functional.binary_cross_entropy_with_logits(model(x), target)


def _next_characters(lib, model, text, following):
    return lib.nn.functional.cross_entropy(model(text).flatten(0, 1), following.flatten())


def _squares(lib, model, x, target):
    return lib.nn.functional.mse_loss(model(x), target)


def _layers(F, p, x, activation):
    """A `perceptron` as a function of its parameters."""
    numbers = sorted({int(name.split(".")[0]) for name in p})
    for number in numbers:
        x = F.linear(x, p[f"{number}.weight"], p[f"{number}.bias"])
        x = x if number == numbers[-1] else activation(x)
    return x


def _lenet5(F, p, x, target):
    for number, padding in ((0, 2), (3, 0)):
        x = F.max_pool2d(F.relu(F.conv2d(x, p[f"{number}.weight"], p[f"{number}.bias"], padding)), 2)
    linear = {name: value for name, value in p.items() if int(name.split(".")[0]) > 6}
    return F.cross_entropy(_layers(F, linear, x.reshape(len(x), -1), F.relu), target)


def _char_lstm(F, p, text, following):
    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    x = F.lstm(p["embedding.weight"][text], *[p[f"lstm.{name}"] for name in names])
    return F.cross_entropy(F.linear(x, p["head.weight"], p["head.bias"]), following)


def _encoder_layer(F, p, x, target):
    attended = F.self_attention(x, 4, p["self_attn.in_proj_weight"], p["self_attn.in_proj_bias"],
                                p["self_attn.out_proj.weight"], p["self_attn.out_proj.bias"])  # fmt: skip
    x = F.layer_norm(x + attended, p["norm1.weight"], p["norm1.bias"])
    hidden = F.relu(F.linear(x, p["linear1.weight"], p["linear1.bias"]))
    x = F.layer_norm(x + F.linear(hidden, p["linear2.weight"], p["linear2.bias"]), p["norm2.weight"], p["norm2.bias"])
    return F.mse_loss(x, target)


XOR = StepCase(
    group="steps", name="XOR 2-4-1, SGD", batch=4,
    model=lambda lib: networks.perceptron(lib, (2, 4, 1), "Sigmoid"), optimizer=("SGD", {"lr": 1e-4}),
    data=lambda rng, n: (rng.integers(0, 2, (n, 2)).astype(float), rng.integers(0, 2, (n, 1)).astype(float)),
    loss=_logits,
    functional=lambda F, p, x, y: F.binary_cross_entropy_with_logits(_layers(F, p, x, F.sigmoid), y),
)  # fmt: skip
LOGISTIC = StepCase(
    group="steps", name="logistic regression, 20 features, batch 32, SGD", batch=32,
    model=lambda lib: networks.perceptron(lib, (20, 1)), optimizer=("SGD", {"lr": 1e-4}),
    data=lambda rng, n: (rng.standard_normal((n, 20)), rng.integers(0, 2, (n, 1)).astype(float)), loss=_logits,
    functional=lambda F, p, x, y: F.binary_cross_entropy_with_logits(_layers(F, p, x, F.relu), y),
)  # fmt: skip
MLP = StepCase(
    group="steps", name="MLP 784-256-256-10, batch 128, Adam", batch=128,
    model=lambda lib: networks.perceptron(lib, (784, 256, 256, 10)), data=_classes(784), loss=_cross_entropy,
    functional=lambda F, p, x, y: F.cross_entropy(_layers(F, p, x, F.relu), y),
    flops=128 * 2 * (2 * 784 * 256 + 3 * (256 * 256 + 256 * 10)),
)  # fmt: skip
AUTOENCODER = StepCase(
    group="steps", name="autoencoder 784-128-32-128-784, batch 128, Adam", batch=128,
    model=lambda lib: networks.perceptron(lib, (784, 128, 32, 128, 784)),
    data=lambda rng, n: (rng.random((n, 784)),),
    loss=lambda lib, model, x: lib.nn.functional.mse_loss(model(x), x),
    functional=lambda F, p, x: F.mse_loss(_layers(F, p, x, F.relu), x),
    flops=128 * 2 * (2 * 784 * 128 + 3 * (2 * 128 * 32 + 128 * 784)),
)  # fmt: skip
LENET5 = StepCase(
    group="steps", name="LeNet-5, batch 128, Adam", batch=128, model=networks.lenet5, data=_classes(1, 28, 28),
    loss=_cross_entropy, functional=_lenet5,
    flops=128 * 2 * (2 * 784 * 6 * 25 + 3 * (100 * 16 * 150 + 400 * 120 + 120 * 84 + 840)),
)  # fmt: skip
CHAR_LSTM = StepCase(
    group="steps", name="char LSTM, batch 32, 64 steps, hidden 128, Adam", batch=32, model=networks.char_lstm,
    data=lambda rng, n: tuple(rng.integers(0, 65, (2, n, 64))), loss=_next_characters, functional=_char_lstm,
    flops=32 * 64 * 2 * 3 * (2 * 128 * 512 + 128 * 65),
)  # fmt: skip
RESNET20 = StepCase(
    group="steps", name="ResNet-20, 32x32, batch 64, SGD with momentum", batch=64, model=networks.resnet20,
    data=_classes(3, 32, 32), loss=_cross_entropy, optimizer=("SGD", {"lr": 1e-5, "momentum": 0.9}),
    flops=64 * 2 * 3 * 40.8e6,
)  # fmt: skip
ENCODER = StepCase(
    group="steps", name="transformer encoder layer, batch 8, 128 tokens, width 256, 4 heads, Adam", batch=8,
    model=networks.encoder_layer, data=lambda rng, n: tuple(rng.standard_normal((2, n, 128, 256))), loss=_squares,
    functional=_encoder_layer, flops=8 * 128 * 2 * 3 * (4 * 256 * 256 + 2 * 256 * 1024 + 2 * 128 * 256),
)  # fmt: skip

ADD = FunctionCase(
    group="steps", name="add + sum + backward, 4x4", function=lambda lib, a, b: (a + b).sum(), backward=True,
    inputs=sample(real(4, 4), real(4, 4)), aim=1.5,
)  # fmt: skip


def chain(lib, x, y):
    """Twelve elementwise operations and a sum."""
    z = lib.tanh(x * y + 0.5) - x
    z = lib.sqrt(z * z + 1) / (lib.abs(y) + 1)
    return (lib.exp(z) - y).sum()


CHAIN = FunctionCase(
    group="compiled", name="elementwise chain of 12 operations with its gradient, 1 M elements", function=chain,
    backward=True, inputs=sample(real(1000, 1000), real(1000, 1000)), bytes=6 * 4e6, aim=1.2, contestants=COMPILED,
)  # fmt: skip

AIMS = {XOR: 2.5, MLP: 1.3, LENET5: 1.5, CHAR_LSTM: 1.3, RESNET20: 1.3, ENCODER: 1.1}
COMPILED_AIMS = {
    XOR: 5, LOGISTIC: 1.0, MLP: 1.3, AUTOENCODER: 1.3, LENET5: 3, RESNET20: 1.6, CHAR_LSTM: 1.7, ENCODER: 1.4,
}  # fmt: skip


def eager() -> list[Case]:
    """Steps against PyTorch, both eager."""
    return [ADD, *(replace(case, aim=aim, contestants=EAGER) for case, aim in AIMS.items())]


def compiled() -> list[Case]:
    """Steps compiled, against the best of PyTorch eager, torch.compile and JAX jit."""
    rows = [replace(case, group="compiled", aim=aim, contestants=COMPILED) for case, aim in COMPILED_AIMS.items()]
    return [*rows, CHAIN]
