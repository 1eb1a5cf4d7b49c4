"""Averages of a model's weights along its training: stochastic weight averaging (SWA) and exponential averages (EMA).

Models are known by what they can do, not by their class: this file imports no `nn`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import cache
from itertools import chain
from typing import Any

import numpy as np

from autograd_core.modes import no_grad
from autograd_core.storage import log_write
from autograd_core.tensor import Tensor, wrap

from .lr_scheduler.base import LRScheduler, per_group

__all__ = [
    "SWALR", "AveragedModel", "get_ema_avg_fn", "get_ema_multi_avg_fn", "get_swa_avg_fn", "get_swa_multi_avg_fn",
    "update_bn",
]  # fmt: skip


def _write(target: Tensor, values) -> None:
    target.array[...] = values.array if isinstance(values, Tensor) else values
    log_write(target.array)


def _check_decay(decay):
    if not 0 <= decay <= 1:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


def get_ema_avg_fn(decay: float = 0.999) -> Callable:
    """The ``avg_fn`` of an exponential average: decay * average + (1 - decay) * current."""
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param, current_param, num_averaged):
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn() -> Callable:
    """The ``avg_fn`` of an equally weighted average."""

    @no_grad()
    def swa_update(averaged_param, current_param, num_averaged):
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


def _multi(weight: Callable[[Any], float]) -> Callable:
    """A ``multi_avg_fn`` that moves each average by a share of its distance from the current value."""

    @no_grad()
    def update(averaged_param_list, current_param_list, num_averaged):
        share = weight(num_averaged)
        for average, current in zip(averaged_param_list, current_param_list, strict=True):
            _write(average, average.array + (current.array - average.array) * share)

    return update


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable:
    """The ``multi_avg_fn`` of an exponential average; works in place on lists of tensors."""
    _check_decay(decay)
    return _multi(lambda _: 1 - decay)


def get_swa_multi_avg_fn() -> Callable:
    """The ``multi_avg_fn`` of an equally weighted average; works in place on lists of tensors."""
    return _multi(lambda count: 1 / (float(count) + 1))


def _module_class(model):
    for kind in type(model).__mro__:
        if kind.__name__ == "Module" and hasattr(kind, "register_buffer"):
            return kind
    raise TypeError(f"AveragedModel: model must be an nn.Module, got {type(model).__name__}")


@cache
def _as_module(kind, base):
    """``kind`` as a subclass of ``base``, the Module class of the model that it wraps."""
    return type(kind.__name__, (kind, base), {"__module__": kind.__module__, "__qualname__": kind.__qualname__,
                                              "__doc__": kind.__doc__, "made_from": (kind, base)})  # fmt: skip


def _empty(kind, base):
    return object.__new__(_as_module(kind, base))


class AveragedModel:
    """A copy of ``model`` (as ``module``) whose parameters are an average of those that `update_parameters` is shown.

    ``avg_fn(average, current, count)`` returns the new average of a parameter, ``multi_avg_fn(averages, currents,
    count)`` changes lists of them in place; by default all have the same weight. ``use_buffers`` averages buffers as
    well, which are copied otherwise. It is a Module itself, of the same class of Modules as ``model``.

    Source: P. Izmailov et al., "Averaging weights leads to wider optima and better generalization", 2018.
    """

    made_from: tuple | None = None

    def __new__(cls, model=None, *args, **kwargs):
        return object.__new__(cls) if cls.made_from else _empty(cls, _module_class(model))

    def __reduce__(self):
        return _empty, self.made_from, self.__dict__

    def __init__(self, model, device=None, avg_fn: Callable | None = None, multi_avg_fn: Callable | None = None,
                 use_buffers: bool = False):  # fmt: skip
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module: Any = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", wrap(np.array(0, np.int64)))  # type: ignore[attr-defined]
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args, **kwargs):
        """The averaged model's output."""
        return self.module(*args, **kwargs)

    def update_parameters(self, model) -> None:
        """Take the present parameters of ``model`` into the average; the first time they are copied."""
        count = self.n_averaged  # type: ignore[attr-defined]
        averages, currents = ([t.detach() for t in chain(m.parameters(), m.buffers() if self.use_buffers else ())]
                              for m in (self.module, model))  # fmt: skip
        pairs = list(zip(averages, currents, strict=True))
        if not count.item():
            for average, current in pairs:
                _write(average, current)
        elif self.avg_fn is not None:
            for average, current in pairs:
                _write(average, self.avg_fn(average, current, count))
        else:
            update = self.multi_avg_fn or get_swa_multi_avg_fn()
            for dtype in dict.fromkeys(average.array.dtype for average in averages):
                chosen = [pair for pair in pairs if pair[0].array.dtype == dtype]
                update([a for a, _ in chosen], [c for _, c in chosen], count)
        if not self.use_buffers:
            for average, current in zip(self.module.buffers(), model.buffers(), strict=True):
                _write(average, current)
        _write(count, count.array + 1)


@no_grad()
def update_bn(loader: Iterable, model, device=None) -> None:
    """Work out the running statistics of a model's batch normalisations anew, in one pass over ``loader``.

    A batch is a tensor, or a list or tuple whose first element is one.
    """
    norms = [m for m in model.modules() if any("BatchNorm" in kind.__name__ for kind in type(m).__mro__)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    was_training = model.training
    model.train()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
    for batch in loader:
        batch = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(batch if device is None else batch.to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """Goes from the present learning rate to ``swa_lr`` (one, or one a group) in ``anneal_epochs``, and stays there.

    ``anneal_strategy``: "cos" or "linear".
    """

    def __init__(self, optimizer, swa_lr, anneal_epochs: int = 10, anneal_strategy: str = "cos", last_epoch: int = -1):
        for lr, group in zip(per_group("swa_lr", optimizer, swa_lr), optimizer.param_groups, strict=True):
            group["swa_lr"] = lr
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, share: float) -> float:
        """How far the learning rate has come after a share of the way."""
        return share if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * share)) / 2

    def get_lr(self) -> list:
        """The learning rates at this step, from those of the step before."""
        self._warn_outside_step()
        step, span = self._step_count - 1, max(1, self.anneal_epochs)
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = (self.anneal_func(max(0, min(1, s / span))) for s in (step - 1, step))
        found = []
        for group in self.optimizer.param_groups:
            target = group["swa_lr"]
            start = target if before == 1 else (group["lr"] - before * target) / (1 - before)
            found.append(target * now + start * (1 - now))
        return found
