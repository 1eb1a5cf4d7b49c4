"""The networks of the training steps, written for PyTorch's names: ``lib`` is ``torch`` or ``autograd_core``."""

from __future__ import annotations

from itertools import pairwise


def perceptron(lib, sizes, activation="ReLU"):
    """Linear layers with an activation in between."""
    layers = []
    for before, after in pairwise(sizes):
        layers += [lib.nn.Linear(before, after), getattr(lib.nn, activation)()]
    return lib.nn.Sequential(*layers[:-1])


def lenet5(lib):
    """LeNet-5 with ReLU and largest-value pooling, for pictures of 1 x 28 x 28."""
    nn = lib.nn
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip


def resnet20(lib):
    """ResNet-20 of He et al. (2016) for pictures of 3 x 32 x 32; shortcuts that change shape are 1x1 convolutions."""
    nn = lib.nn

    class Block(nn.Module):
        def __init__(self, before, after, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(after)
            self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(after)
            self.shortcut = nn.Sequential()
            if stride != 1 or before != after:
                self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))
            self.relu = nn.ReLU()

        def forward(self, x):
            out = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(out)) + self.shortcut(x))

    layers = [nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    for before, after in ((16, 16), (16, 32), (32, 64)):
        layers += [Block(before, after, 1 if before == after else 2), Block(after, after, 1), Block(after, after, 1)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


def char_lstm(lib, characters=65, width=128):
    """Characters in, scores of the next character out, by one LSTM layer."""
    nn = lib.nn

    class CharLSTM(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(characters, width)
            self.lstm = nn.LSTM(width, width, batch_first=True)
            self.head = nn.Linear(width, characters)

        def forward(self, text):
            return self.head(self.lstm(self.embedding(text))[0])

    return CharLSTM()


def encoder_layer(lib):
    """A transformer's encoder layer of width 256 with 4 heads; no dropout, so that gradients can be compared."""
    return lib.nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
