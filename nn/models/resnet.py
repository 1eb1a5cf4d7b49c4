"""Residual networks of He, Zhang, Ren and Sun (2015), with torchvision's names, so that its weights load by name."""

from __future__ import annotations

import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: ``relu(x + f(x))``; a 1x1 convolution fits x where the shape changes.

    ``skip=False`` leaves the shortcut out, for comparison: ``relu(f(x))``.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, skip: bool = True):
        super().__init__()
        self.skip = skip
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.downsample = None
        if skip and (stride != 1 or inputs != outputs):
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        """Pictures (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        if self.skip:
            out = out + (x if self.downsample is None else self.downsample(x))
        return self.relu(out)


class ResNet(nn.Module):
    """A stem, stages of blocks that halve the picture and widen it, the mean over the picture, and a linear layer.

    ``blocks`` and ``widths`` hold one number a stage. ``small``: the stem is one 3x3 convolution, for pictures of about
    32 x 32; else a 7x7 convolution with stride 2 and a pooling layer, for pictures of about 224 x 224. Stages are
    ``layer1``, ``layer2``, ...; weights start as in the second paper (He et al., "Delving deep into rectifiers").
    ``channels`` of the pictures; ``skips=False`` makes the plain network of the same layers.

    Source: "Deep residual learning for image recognition", CVPR 2016.
    """

    def __init__(self, blocks=(2, 2, 2, 2), widths=(64, 128, 256, 512), classes: int = 1000, small: bool = False,
                 channels: int = 3, skips: bool = True):  # fmt: skip
        super().__init__()
        width = widths[0]
        kernel, stride = (3, 1) if small else (7, 2)
        self.conv1 = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if small else nn.MaxPool2d(3, 2, padding=1)
        self.stages = []
        for number, (count, outputs) in enumerate(zip(blocks, widths, strict=True), 1):
            first = BasicBlock(width, outputs, stride=1 if number == 1 else 2, skip=skips)
            rest = [BasicBlock(outputs, outputs, skip=skips) for _ in range(count - 1)]
            stage = nn.Sequential(first, *rest)
            setattr(self, f"layer{number}", stage)
            self.stages.append(f"layer{number}")
            width = outputs
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        """Scores of the classes (N, classes) for pictures (N, channels, H, W)."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for name in self.stages:
            x = getattr(self, name)(x)
        return self.fc(self.avgpool(x).flatten(1))


def resnet18(classes: int = 1000) -> ResNet:
    """ResNet-18 for pictures of about 224 x 224: four stages of two blocks, 11,689,512 parameters."""
    return ResNet((2, 2, 2, 2), (64, 128, 256, 512), classes)


def resnet20(classes: int = 10, channels: int = 3, skips: bool = True) -> ResNet:
    """ResNet-20 for pictures of about 32 x 32 (CIFAR): three stages of three blocks, 272,474 parameters.

    Shortcuts that change the shape are 1x1 convolutions (the paper's option B; its CIFAR networks pad with zeros).
    """
    return ResNet((3, 3, 3), (16, 32, 64), classes, small=True, channels=channels, skips=skips)
