"""Checkpoints of PyTorch load by name and give PyTorch's outputs: LeNet, ResNets, an LSTM language model, Transformers.

Weights and inputs follow a formula, so that PyTorch's outputs can be stored (``checkpoints.json``, made by running this
file where PyTorch is installed) and compared everywhere. Where it is installed, its own files are exchanged, too.
"""

import inspect
import json
import math
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from subjects import without_kernels  # noqa: F401 (a fixture that every test here uses)

import autograd_core as ag
import nn
import optim
from nn.models import lenet5, resnet

STORED = Path(__file__).with_name("checkpoints.json")


def language_model(torch):
    """An LSTM over embedded words, whose output layer shares the embedding's weight."""
    nn = torch.nn

    class LanguageModel(nn.Module):
        def __init__(self, words=20, width=12):
            super().__init__()
            self.encoder = nn.Embedding(words, width)
            self.rnn = nn.LSTM(width, width, 2, batch_first=True, dropout=0.2)
            self.decoder = nn.Linear(width, words)
            self.decoder.weight = self.encoder.weight

        def forward(self, tokens):
            return self.decoder(self.rnn(self.encoder(tokens))[0])

    return LanguageModel()


def translator(torch):
    """A Transformer with masks, after embeddings with positions."""
    nn = torch.nn

    class Translator(nn.Module):
        def __init__(self, words=15, width=16):
            super().__init__()
            self.source, self.target = nn.Embedding(words, width), nn.Embedding(words, width)
            self.positions = nn.Parameter(torch.zeros(10, width))
            self.transformer = nn.Transformer(width, 4, 2, 2, 32, activation="gelu", batch_first=True, norm_first=True)
            self.out = nn.Linear(width, words)

        def forward(self, source, target):
            mask = self.transformer.generate_square_subsequent_mask(target.shape[1])
            hidden = self.transformer(
                self.source(source) + self.positions[: source.shape[1]],
                self.target(target) + self.positions[: target.shape[1]],
                tgt_mask=mask,
                src_key_padding_mask=source == 0,
                memory_key_padding_mask=source == 0,
                tgt_is_causal=True,
            )
            return self.out(hidden)

    return Translator()


def encoder(torch):
    """A Transformer encoder in PyTorch's default arrangement: sequence first, normalisation after, ReLU."""
    nn = torch.nn
    return nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32), 2)


def ours_or(torch, module, name):
    """The class ``name`` of a file of `nn.models`: ours, or the same text run with PyTorch's ``nn``."""
    if torch is OURS:
        return getattr(module, name)
    space = {"__name__": "translated"}
    text = inspect.getsource(module).replace("import nn\n", "import torch.nn as nn\n")
    exec(compile(text, module.__file__, "exec"), space)  # noqa: S102 (our own file)
    return space[name]


OURS = SimpleNamespace(nn=nn, zeros=ag.zeros)


def tokens(*shape):
    """Word numbers by a formula; the last one of every second row is padding."""
    found = (np.arange(math.prod(shape)) * 7 % 13 + 1).reshape(shape)
    found[::2, -1] = 0
    return found


def pictures(*shape):
    return np.cos(np.arange(math.prod(shape)) * 0.37).astype(np.float32).reshape(shape)


MODELS = {
    "lenet5": (lambda torch: ours_or(torch, lenet5, "LeNet5")(), lambda: [pictures(4, 1, 28, 28)]),
    "resnet18": (lambda torch: ours_or(torch, resnet, "resnet18")(), lambda: [pictures(2, 3, 64, 64)]),
    "resnet20": (lambda torch: ours_or(torch, resnet, "resnet20")(), lambda: [pictures(2, 3, 32, 32)]),
    "language model": (language_model, lambda: [tokens(3, 7)]),
    "translator": (translator, lambda: [tokens(2, 6), tokens(2, 5)]),
    "encoder": (encoder, lambda: [pictures(5, 3, 16)]),
}
"""Each model as a function of the library, and its inputs."""

models = pytest.mark.parametrize("name", MODELS)


def weights(shapes):
    """Numbers for every entry of a state dict, of a size that keeps activations near 1."""
    made = {}
    for number, (key, shape) in enumerate(sorted(shapes.items())):
        count = math.prod(shape)
        wave = np.cos(np.arange(count) * 0.7 + number)
        if key.endswith("num_batches_tracked"):
            made[key] = np.array(3)
            continue
        if key.endswith("running_var"):
            wave = 1 + 0.5 * wave
        elif len(shape) > 1:
            wave *= math.sqrt(2 / math.prod(shape[1:]))
        elif "norm" in key or "bn" in key or "downsample.1" in key:
            wave = 1 + 0.2 * wave if key.endswith("weight") else 0.1 * wave
        made[key] = wave.astype(np.float32).reshape(shape)
    return made


def shapes_of(model):
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def filled(name, path):
    """Our model with the weights of the formula, loaded from a file of plain arrays."""
    from safetensors.numpy import save_file

    model = MODELS[name][0](OURS).eval()
    save_file(weights(shapes_of(model)), path)
    assert str(model.load_state_dict(nn.load(path))) == "<All keys matched successfully>"
    return model


@models
def test_the_outputs_are_the_stored_ones_of_pytorch(name, tmp_path):
    found = filled(name, tmp_path / "model.safetensors")(*map(ag.tensor, MODELS[name][1]())).detach().numpy()
    stored = json.loads(STORED.read_text())[name]
    assert list(found.shape) == stored["shape"]
    flat = found.reshape(-1).astype(np.float64)
    assert np.abs(flat).max() > 0.1
    np.testing.assert_allclose(flat[: len(stored["values"])], stored["values"], rtol=1e-4, atol=1e-5)
    assert flat @ np.cos(np.arange(flat.size)) == pytest.approx(stored["checksum"], rel=1e-3, abs=1e-4)


@pytest.mark.filterwarnings("ignore:enable_nested_tensor")  # PyTorch says that it takes its slower path
@models
def test_files_of_pytorch_load_by_name(name, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from safetensors.torch import load_file, save_model

    torch.manual_seed(0)
    theirs = MODELS[name][0](torch).eval()
    save_model(theirs, str(tmp_path / "theirs.safetensors"))  # keeps one name of weights that are shared
    ours = MODELS[name][0](OURS).eval()
    missing, unexpected = ours.load_state_dict(nn.load(tmp_path / "theirs.safetensors"), strict=False)
    shared = {"decoder.weight", "encoder.weight"} if name == "language model" else set()
    assert set(missing) <= shared
    assert unexpected == []

    inputs = MODELS[name][1]()
    expected = theirs(*map(torch.tensor, inputs))
    found = ours(*map(ag.tensor, inputs))
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-4, atol=1e-5)

    train = name not in ("translator", "encoder", "language model")  # not with dropout: draws differ
    inputs = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in inputs]
    weight = np.cos(np.arange(found.numel())).reshape(found.shape)
    for model, library in ((ours, ag), (theirs, torch)):
        out = model.train(train).double()(*map(library.tensor, inputs))
        (out * library.tensor(weight)).sum().backward()
    for (key, one), (other_key, other) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert key == other_key
        np.testing.assert_allclose(one.grad.numpy(), other.grad.numpy(), rtol=1e-5, atol=1e-7, err_msg=key)

    nn.save(ours.state_dict(), tmp_path / "ours.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "ours.safetensors"))


def test_resnets_are_those_of_the_paper():
    model = resnet.resnet18()
    assert sum(p.numel() for p in model.parameters()) == 11_689_512
    keys = list(model.state_dict())
    assert keys[:4] == ["conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean"]
    assert keys[-2:] == ["fc.weight", "fc.bias"]
    assert len(keys) == 122
    assert {"layer1.0.conv1.weight", "layer2.0.downsample.0.weight", "layer4.1.bn2.num_batches_tracked"} <= set(keys)
    with ag.no_grad():
        assert model.eval()(ag.zeros(1, 3, 64, 64)).shape == (1, 1000)
    small = resnet.resnet20()
    assert sum(p.numel() for p in small.parameters()) == 272_474
    convolutions = [m for n, m in small.named_modules() if isinstance(m, nn.Conv2d) and "downsample" not in n]
    assert len(convolutions) + 1 == 20
    with ag.no_grad():
        assert small.layer3(small.layer2(small.layer1(ag.zeros(1, 16, 32, 32)))).shape == (1, 64, 8, 8)


def test_a_resnet_learns():
    model = resnet.ResNet((1, 1), (4, 8), classes=2, small=True)
    x, y = ag.randn(16, 3, 8, 8), ag.arange(16) % 2
    x[y == 1] += 1
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(10):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.3 * losses[0]


def store():
    """Write PyTorch's outputs."""
    import torch

    found = {}
    for name, (make, inputs) in MODELS.items():
        model = make(torch).eval()
        model.load_state_dict({k: torch.from_numpy(v) for k, v in weights(shapes_of(model)).items()})
        with torch.no_grad():
            out = model(*map(torch.tensor, inputs())).numpy()
        flat = out.reshape(-1).astype(np.float64)
        found[name] = {"shape": list(out.shape), "values": [round(float(v), 7) for v in flat[:8]],
                       "checksum": float(flat @ np.cos(np.arange(flat.size)))}  # fmt: skip
    temporary = STORED.with_suffix(".tmp")
    temporary.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(temporary, STORED)


if __name__ == "__main__":
    store()
