"""A schedule that follows a metric."""

from __future__ import annotations

import math
import warnings

from .base import EPOCH_WARNING, LRScheduler, check_optimizer, per_group, set_lr, values_of


class ReduceLROnPlateau(LRScheduler):
    """Multiplies by ``factor`` when a metric has not improved for more than ``patience`` epochs.

    ``mode``: "min" or "max" is better. An improvement is one by more than ``threshold``, of the best value
    (``threshold_mode`` "rel") or absolute ("abs"). After a reduction, ``cooldown`` epochs are not counted. ``min_lr``,
    one or one a group, bounds the learning rate; changes below ``eps`` are left out.
    """

    def __init__(self, optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10, threshold: float = 1e-4,
                 threshold_mode: str = "rel", cooldown: int = 0, min_lr: float | list[float] = 0,
                 eps: float = 1e-8):  # fmt: skip
        if factor >= 1.0:
            raise ValueError(f"Factor should be < 1.0, got {factor}.")
        if mode not in ("min", "max"):
            raise ValueError(f"mode {mode} is unknown!")
        if threshold_mode not in ("rel", "abs"):
            raise ValueError(f"threshold mode {threshold_mode} is unknown!")
        check_optimizer(optimizer)
        self.factor, self.optimizer = factor, optimizer
        self.default_min_lr = None if isinstance(min_lr, (list, tuple)) else min_lr
        self.min_lrs = per_group("min_lr", optimizer, min_lr)
        self.patience, self.cooldown, self.eps = patience, cooldown, eps
        self.last_epoch = 0
        self._last_lr = values_of(optimizer, "lr")
        self.mode, self.threshold, self.threshold_mode = mode, threshold, threshold_mode
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self._reset()

    def _reset(self):
        self.best, self.cooldown_counter, self.num_bad_epochs = self.mode_worse, 0, 0

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs are not counted for now."""
        return self.cooldown_counter > 0

    def _is_better(self, value, best):
        sign = 1 if self.mode == "max" else -1
        limit = best * (1.0 + sign * self.threshold) if self.threshold_mode == "rel" else best + sign * self.threshold
        return value > limit if self.mode == "max" else value < limit

    def step(self, metrics, epoch: int | None = None) -> None:  # type: ignore[override]
        """Count an epoch that ended with the value ``metrics``, and reduce the learning rates where it is time."""
        if epoch is not None:
            warnings.warn(EPOCH_WARNING, UserWarning, stacklevel=2)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        current = float(metrics)
        if self._is_better(current, self.best):
            self.best, self.num_bad_epochs = current, 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce_lr()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._last_lr = values_of(self.optimizer, "lr")

    def _reduce_lr(self):
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise RuntimeError(f"The optimizer has {len(groups)} param groups, {len(self.min_lrs)} when the "
                                   "ReduceLROnPlateau was made: set `min_lrs` to one value a group")  # fmt: skip
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, least in zip(groups, self.min_lrs, strict=True):
            old = float(group["lr"])
            new = max(old * self.factor, least)
            if old - new > self.eps:
                set_lr(group, new)
