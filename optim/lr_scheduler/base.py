"""The base class of learning-rate schedules, and how a group gets its learning rate."""

from __future__ import annotations

import warnings
from typing import Any

from autograd_core.storage import log_write
from autograd_core.tensor import Tensor

from ..optimizer import Optimizer

EPOCH_WARNING = ("The epoch parameter of scheduler.step() is deprecated: call scheduler.step() once an epoch. "
                 "With an epoch, the closed form of the schedule is used where there is one.")  # fmt: skip


def copied(value):
    """The value, or a copy where it is a Tensor, which might be changed in place."""
    return value.clone() if isinstance(value, Tensor) else value


def values_of(optimizer: Optimizer, key: str) -> list:
    """Copies of what the groups hold under ``key``."""
    return [copied(group[key]) for group in optimizer.param_groups]


def set_lr(group: dict[str, Any], value) -> None:
    """Give a group its learning rate; one that is a Tensor keeps its identity."""
    lr = group["lr"]
    if isinstance(lr, Tensor):
        lr.array[...] = float(value)
        log_write(lr.array)
    else:
        group["lr"] = value


def per_group(name: str, optimizer: Optimizer, value) -> list:
    """One value for each group: those listed, or the same for all."""
    count = len(optimizer.param_groups)
    if isinstance(value, (list, tuple)):
        if len(value) != count:
            raise ValueError(f"{name} must have the same length as optimizer.param_groups: "
                             f"{name} has {len(value)} values, param_groups has {count}")  # fmt: skip
        return [copied(v) for v in value]
    return [copied(value) for _ in range(count)]


def check_optimizer(optimizer) -> None:
    """Raise TypeError for what is not an Optimizer."""
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")


class LRScheduler:
    """The base class of schedules: a subclass defines ``get_lr``, the groups' learning rates at ``last_epoch``.

    ``last_epoch``: -1 starts anew; another number resumes, with ``initial_lr`` in the optimizer's groups.
    """

    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        check_optimizer(optimizer)
        self.optimizer = optimizer
        for number, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(f"param 'initial_lr' is not specified in param_groups[{number}] when resuming with "
                               f"last_epoch={last_epoch}: load the optimizer's state first, or use -1")  # fmt: skip
        self.base_lrs = values_of(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        self._initial_step()

    def _initial_step(self):
        self._step_count = 0
        self._is_initial = True
        stepped, self.optimizer._opt_called = self.optimizer._opt_called, True  # schedules within are not to warn
        try:
            self.step()
        finally:
            self._is_initial = False
            self.optimizer._opt_called = stepped

    def get_last_lr(self) -> list:
        """The learning rates that the last ``step`` set, one a group."""
        return self._last_lr

    def get_lr(self) -> list:
        """The learning rates at ``last_epoch``, one a group; called by ``step``."""
        raise NotImplementedError(f"{type(self).__name__} must define get_lr")

    def step(self, epoch: int | None = None) -> None:
        """Go to the next epoch (or to ``epoch``, deprecated) and set the learning rates; after the optimizer's step."""
        if self._step_count == 1 and not self.optimizer._opt_called and "step" not in self.optimizer.__dict__:
            warnings.warn("Detected call of `lr_scheduler.step()` before `optimizer.step()`: call them in the opposite "
                          "order, or the first value is skipped", UserWarning, stacklevel=2)  # fmt: skip
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_WARNING, UserWarning, stacklevel=2)
        self._update_lr(epoch)

    def _update_lr(self, epoch=None):
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        closed = getattr(self, "_get_closed_form_lr", None) if epoch is not None else None
        self._apply(closed or self.get_lr)

    def _apply(self, rule):
        self._get_lr_called_within_step = True
        try:
            values = rule()
        finally:
            self._get_lr_called_within_step = False
        for group, lr in zip(self.optimizer.param_groups, values, strict=True):
            set_lr(group, lr)
        self._last_lr = values_of(self.optimizer, "lr")

    def _warn_outside_step(self):
        if not self._get_lr_called_within_step:
            warnings.warn("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
                          UserWarning, stacklevel=3)  # fmt: skip

    def state_dict(self) -> dict[str, Any]:
        """All attributes but the optimizer."""
        return {k: v for k, v in self.__dict__.items() if k != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned."""
        self.__dict__.update(state_dict)


_LRScheduler = LRScheduler  # its name in older programs
