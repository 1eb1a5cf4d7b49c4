"""The training loop: `fit`, `evaluate`, and callbacks that watch it.

    history = nn.train.fit(model, loader, loss=nn.CrossEntropyLoss(), optimizer=optim.Adam(model.parameters()),
                           epochs=5, validation=held_out, metrics={"accuracy": nn.train.accuracy},
                           callbacks=[nn.train.ProgressBar(), nn.train.EarlyStopping(patience=2)])

Ctrl-C ends a run cleanly: the epochs so far are in the history, and the best weights are kept.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sized
from pathlib import Path
from typing import Any

import autograd_core as ag

from .utils import clip_grad_norm_

Metric = Callable[[ag.Tensor, ag.Tensor], Any]


def accuracy(output, target):
    """The share of rows whose largest score is at the target's class; of one score a row, on its side of 0."""
    if output.shape == target.shape:
        return ((output > 0) == (target > 0.5)).float().mean()
    return (output.argmax(1) == target).float().mean()


class Run:
    """What callbacks see of a training run: model, optimizer, epoch, step and the numbers of the epoch so far."""

    def __init__(self, model, optimizer, epochs, steps_per_epoch):
        self.model = model
        self.optimizer = optimizer
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.epoch = 0
        self.step = 0
        self.logs: dict[str, float] = {}
        self.samples = 0
        self.stop = False
        self.interrupted = False


class Callback:
    """Watches a run. Override what you need; ``run.stop = True`` ends the training after the epoch."""

    def on_train_begin(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_begin(self, run: Run) -> None:
        """Before an epoch."""

    def on_batch_end(self, run: Run) -> None:
        """After an optimizer step; ``run.logs`` holds running means."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch and its validation."""

    def on_train_end(self, run: Run) -> None:
        """After the last epoch, also when the run was interrupted."""


class History(Callback):
    """The numbers of every epoch: ``history["loss"]`` is a list, ``history.epochs`` a list of dicts.

    path: a file to which each epoch is added as a line of JSON.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None):
        self.path = None if path is None else Path(path)
        self.epochs: list[dict[str, float]] = []
        self.interrupted = False

    def on_train_begin(self, run):
        """Start the file anew."""
        if self.path is not None:
            self.path.write_text("")

    def on_epoch_end(self, run):
        """Keep the epoch's numbers."""
        self.epochs.append({"epoch": run.epoch, **run.logs})
        if self.path is not None:
            with self.path.open("a") as file:
                file.write(json.dumps(self.epochs[-1]) + "\n")

    def on_train_end(self, run):
        """Note whether the run came to its end."""
        self.interrupted = run.interrupted

    def __getitem__(self, name):
        return [epoch[name] for epoch in self.epochs if name in epoch]

    def __len__(self):
        return len(self.epochs)

    def __repr__(self):
        last = ", ".join(f"{k}={v:.4g}" for k, v in (self.epochs[-1] if self.epochs else {}).items())
        return f"History({len(self)} epochs{': ' + last if last else ''})"


class EarlyStopping(Callback):
    """Stop when ``monitor`` has not improved for ``patience`` epochs; the best weights are put back at the end.

    mode: "min" or "max"; by default "max" for names that hold "accuracy", else "min". min_delta: what counts as better.
    """

    def __init__(self, monitor="val_loss", patience=3, *, mode=None, min_delta=0.0, restore_best=True):
        self.monitor, self.patience, self.min_delta, self.restore_best = monitor, patience, min_delta, restore_best
        self.sign = 1 if (mode or ("max" if "accuracy" in monitor else "min")) == "min" else -1
        self.best = math.inf
        self.best_epoch = 0
        self._state: dict[str, Any] | None = None

    def on_epoch_end(self, run):
        """Compare, remember, or stop."""
        if self.monitor not in run.logs:
            raise KeyError(
                f"EarlyStopping watches {self.monitor!r}, which is not among {sorted(run.logs)}; "
                "give fit(validation=...) or another monitor"
            )
        value = self.sign * run.logs[self.monitor]
        if value < self.best - self.min_delta:
            self.best, self.best_epoch = value, run.epoch
            self._state = {k: v.clone() for k, v in run.model.state_dict().items()}
        elif run.epoch - self.best_epoch >= self.patience:
            run.stop = True

    def on_train_end(self, run):
        """Put the best weights back."""
        if self.restore_best and self._state is not None:
            run.model.load_state_dict(self._state)


class Checkpoint(Callback):
    """Save the model's ``state_dict`` as safetensors after each epoch, or only when ``monitor`` has improved."""

    def __init__(self, path: str | os.PathLike[str], monitor: str | None = None, *, mode: str = "min"):
        self.path, self.monitor = path, monitor
        self.sign = 1 if mode == "min" else -1
        self.best = math.inf

    def on_epoch_end(self, run):
        """Save."""
        from .serialize import save

        if self.monitor is not None:
            value = self.sign * run.logs[self.monitor]
            if value >= self.best:
                return
            self.best = value
        save(run.model.state_dict(), self.path)


class ProgressBar(Callback):
    """A bar an epoch: loss, metrics, samples a second, time left; plain lines where there is no terminal (rich)."""

    def __init__(self, console=None):
        self.console = console
        self.progress = None

    def on_train_begin(self, run):
        """Open the display."""
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = self.console or Console()
        self.progress = Progress(
            TextColumn("epoch {task.fields[epoch]:>2}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
        )
        if self.console.is_terminal:
            self.progress.start()

    def on_epoch_begin(self, run):
        """Start a bar."""
        self.started = time.perf_counter()
        self.task = self.progress.add_task("", total=run.steps_per_epoch, epoch=run.epoch, numbers="")
        self.shown = 0.0

    def on_batch_end(self, run):
        """Move the bar, ten times a second."""
        now = time.perf_counter()
        if now - self.shown > 0.1:
            self.shown = now
            rate = run.samples / max(now - self.started, 1e-9)
            numbers = "  ".join(f"{k} {v:.4f}" for k, v in run.logs.items()) + f"  {rate:,.0f}/s"
            self.progress.update(self.task, completed=run.step, numbers=numbers)

    def on_epoch_end(self, run):
        """Leave one line for the epoch."""
        self.progress.remove_task(self.task)
        numbers = "  ".join(f"{k} {v:.4f}" for k, v in run.logs.items() if k not in ("seconds", "samples_per_second"))
        line = f"epoch {run.epoch:>2}/{run.epochs}  {numbers}  {run.logs['samples_per_second']:,.0f}/s"
        self.console.print(f"{line}  {run.logs['seconds']:.1f} s", highlight=False)

    def on_train_end(self, run):
        """Close the display."""
        if self.progress.live.is_started:
            self.progress.stop()
        if run.interrupted:
            self.console.print("interrupted: the best weights so far are kept", highlight=False)


class _Means:
    """Running means of numbers over batches of different sizes."""

    def __init__(self):
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values, size):
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * size
        self.count += size

    def read(self, prefix=""):
        return {prefix + name: total / max(self.count, 1) for name, total in self.sums.items()}


def _split(batch):
    """The model's arguments, and the target behind them."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise TypeError(f"fit: a batch must be (inputs, targets), got {type(batch).__name__}")
    *inputs, target = batch
    return inputs, target


def _detached(output):
    return tuple([o.detach() for o in output]) if isinstance(output, tuple) else output.detach()


def _size(target):
    return len(target) if target.ndim else 1


def fit(
    model, loader: Iterable, *, loss: Metric, optimizer, epochs: int = 1, validation: Iterable | None = None,
    metrics: Mapping[str, Metric] | None = None, scheduler=None, schedule: str = "batch",
    callbacks: Iterable[Callback] = (), max_grad_norm: float | None = None, compile: bool = False,
) -> History:  # fmt: skip
    """Train ``model`` on the batches ``(inputs, targets)`` of ``loader``; returns the `History`.

    A model of several inputs takes batches ``(first, second, ..., targets)``. loss: a function of (output, target).
    validation: batches on which loss and metrics are measured after each epoch, as ``val_...``. scheduler: a
    learning-rate schedule, stepped after each ``schedule``: "batch" or "epoch" (one that takes a metric, as
    ReduceLROnPlateau, gets the validation loss after each epoch). max_grad_norm: clip to this norm. compile: run the
    training step through `ag.compile`.
    """
    metrics = dict(metrics or {})
    listed = list(callbacks)
    history = next((c for c in listed if isinstance(c, History)), None)
    if history is None:
        history = History()
        listed.insert(0, history)
    run = Run(model, optimizer, epochs, len(loader) if isinstance(loader, Sized) else None)

    def tell(event):
        for callback in listed:
            getattr(callback, event)(run)

    def step(inputs, target):
        optimizer.zero_grad()
        output = model(*inputs)
        value = loss(output, target)
        value.backward()
        if max_grad_norm is not None:
            clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()
        return output, value

    if compile:
        step = ag.compile(step)
    was_training = model.training
    tell("on_train_begin")
    try:
        for run.epoch in range(1, epochs + 1):
            _epoch(run, loader, step, metrics, tell, scheduler if schedule == "batch" else None)
            if validation is not None:
                run.logs |= evaluate(model, validation, loss=loss, metrics=metrics, prefix="val_")
            if scheduler is not None and schedule == "epoch":
                _step_schedule(scheduler, run.logs)
            tell("on_epoch_end")
            if run.stop:
                break
    except KeyboardInterrupt:
        run.interrupted = True
    finally:
        tell("on_train_end")
        model.train(was_training)
    return history


def _epoch(run, loader, step, metrics, tell, scheduler):
    run.model.train()
    run.step, run.samples, run.logs = 0, 0, {}
    means, started = _Means(), time.perf_counter()
    tell("on_epoch_begin")
    for batch in loader:
        inputs, target = _split(batch)
        output, value = step(inputs, target)
        if scheduler is not None:
            scheduler.step()
        size = _size(target)
        with ag.no_grad():
            means.add({"loss": value.item(), **{k: m(_detached(output), target) for k, m in metrics.items()}}, size)
        run.step += 1
        run.samples += size
        run.logs = means.read()
        tell("on_batch_end")
    seconds = time.perf_counter() - started
    run.logs["seconds"] = seconds
    run.logs["samples_per_second"] = run.samples / max(seconds, 1e-9)


def _step_schedule(scheduler, logs):
    from optim.lr_scheduler import ReduceLROnPlateau

    if isinstance(scheduler, ReduceLROnPlateau):
        scheduler.step(logs.get("val_loss", logs["loss"]))
    else:
        scheduler.step()


def evaluate(
    model,
    loader: Iterable,
    *,
    loss: Metric | None = None,
    metrics: Mapping[str, Metric] | None = None,
    prefix: str = "",
) -> dict[str, float]:
    """Means of ``loss`` and ``metrics`` over the batches of ``loader``, in evaluation mode and without gradients."""
    means = _Means()
    was_training = model.training
    model.eval()
    try:
        with ag.no_grad():
            for batch in loader:
                inputs, target = _split(batch)
                output = model(*inputs)
                values = {} if loss is None else {"loss": loss(output, target).item()}
                means.add(values | {k: m(output, target) for k, m in (metrics or {}).items()}, _size(target))
    finally:
        model.train(was_training)
    return means.read(prefix)


def predict(model, loader: Iterable) -> ag.Tensor:
    """The model's outputs for all batches (inputs, or (inputs, targets)) of ``loader``, one after the other."""
    was_training = model.training
    model.eval()
    try:
        with ag.no_grad():
            outputs = []
            for batch in loader:
                row = batch if isinstance(batch, (tuple, list)) else [batch]
                outputs.append(model(*(row[:-1] or row)))
    finally:
        model.train(was_training)
    return ag.cat(outputs)
