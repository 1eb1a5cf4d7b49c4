"""Where PyTorch keeps its layers: ``nn.modules.batchnorm._BatchNorm`` and the like, for scripts that look there."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from itertools import repeat
from types import ModuleType

import nn as _nn

from . import (  # fmt: skip
    activation,
    container,
    conv,
    dropout,
    embedding,
    lazy,
    linear,
    loss,
    module,
    norm,
    padding,
    pool,
    recurrent,
    reshaping,
    transformer,
)


def _ntuple(count):
    """A function that makes a tuple of ``count`` equal values of one, and leaves a sequence as it is."""

    def tupled(x):
        return tuple(x) if isinstance(x, Iterable) else tuple(repeat(x, count))

    return tupled


_utils = ModuleType("nn.modules.utils", "Sizes for each dimension.")
_utils.__dict__.update(_ntuple=_ntuple, _single=_ntuple(1), _pair=_ntuple(2), _triple=_ntuple(3), _quadruple=_ntuple(4))

_PLACES = {
    "activation": activation, "batchnorm": norm, "channelshuffle": reshaping, "container": container, "conv": conv,
    "distance": reshaping, "dropout": dropout, "flatten": reshaping, "fold": reshaping, "instancenorm": norm,
    "lazy": lazy, "linear": linear, "loss": loss, "module": module, "normalization": norm, "padding": padding,
    "pixelshuffle": reshaping, "pooling": pool, "rnn": recurrent, "sparse": embedding, "transformer": transformer,
    "upsampling": reshaping, "utils": _utils,
}  # fmt: skip

__path__: list[str] = []  # importing what stands inside looks for this
globals().update({name: known for name, known in vars(_nn).items() if isinstance(known, type)})
for _name, _known in _PLACES.items():
    globals()[_name] = sys.modules[f"{__name__}.{_name}"] = _known
