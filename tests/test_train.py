"""The training loop, its callbacks, the command line, and what a run leaves."""

import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import autograd_core as ag
import nn
import optim
from nn.cli import main


def task(count=64):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(count, 2)).astype(np.float32)
    labels = (points[:, 0] * points[:, 1] > 0).astype(np.int64)
    return nn.data.TensorDataset(ag.tensor(points), ag.tensor(labels))


def network():
    ag.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2))


def fit(model, epochs=3, **settings):
    loader = nn.data.DataLoader(task(), 16, shuffle=True, generator=ag.Generator().manual_seed(0))
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    return nn.train.fit(model, loader, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=epochs, **settings)


def test_fit_learns_and_repeats_itself_exactly():
    model = network()
    history = fit(model, 30, metrics={"accuracy": nn.train.accuracy})
    assert history["accuracy"][-1] > 0.9
    again = fit(network(), 30)
    assert history["loss"] == again["loss"]


def test_early_stopping_puts_the_best_weights_back():
    model = network()
    losses = iter([3.0, 1.0, 2.0, 2.5, 4.0])
    weights = []

    class Watch(nn.train.Callback):
        def on_epoch_end(self, run):
            run.logs["val_loss"] = next(losses)
            weights.append(run.model[0].weight.detach().clone())

    history = fit(model, 9, callbacks=[Watch(), nn.train.EarlyStopping(patience=2)])
    assert len(weights) == 4
    assert len(history) == 4
    assert np.array_equal(model[0].weight.detach().numpy(), weights[1].numpy())


def test_an_interrupt_ends_cleanly_with_the_best_weights():
    class Interrupt(nn.train.Callback):
        def on_batch_end(self, run):
            if run.epoch == 2 and run.step == 2:
                raise KeyboardInterrupt

    stopping = nn.train.EarlyStopping("loss")
    history = fit(network(), 9, callbacks=[stopping, Interrupt()])
    assert history.interrupted
    assert len(history) == 1


def test_evaluate_is_the_mean_over_samples_not_batches():
    model = network()
    whole = nn.train.evaluate(model, nn.data.DataLoader(task(), 64), loss=nn.CrossEntropyLoss())
    parts = nn.train.evaluate(model, nn.data.DataLoader(task(), 25), loss=nn.CrossEntropyLoss())
    assert whole["loss"] == pytest.approx(parts["loss"], rel=1e-6)
    assert model.training


def test_checkpoint_and_schedules(tmp_path):
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    loader = nn.data.DataLoader(task(), 16)
    schedule = optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    nn.train.fit(model, loader, loss=nn.CrossEntropyLoss(), optimizer=optimizer, epochs=2, scheduler=schedule,
                 schedule="epoch", callbacks=[nn.train.Checkpoint(tmp_path / "w.safetensors")])  # fmt: skip
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01)
    loaded = nn.load(tmp_path / "w.safetensors")
    for name, value in model.state_dict().items():
        assert np.array_equal(loaded[name].numpy(), value.numpy())


def test_the_command_line_trains_and_leaves_everything(tmp_path, capsys):
    assert main(["train", "xor", "--epochs", "60", "--out", str(tmp_path)]) == 0
    last = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.fullmatch(r"test accuracy: [01]\.\d{4}", last)
    pages = ("graph.svg", "graph.html", "report.html")
    for name in (*pages, "curves.png", "gradients.txt", "model.safetensors", "metrics.jsonl"):
        assert (tmp_path / name).stat().st_size > 0
    metrics = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(metrics) == 60
    assert {"epoch", "loss", "accuracy", "val_loss"} <= set(json.loads(metrics[0]))
    worst = float(re.search(r"largest relative error: (\S+)", (tmp_path / "gradients.txt").read_text()).group(1))
    assert worst < 1e-5
    page = (tmp_path / "report.html").read_text()
    assert "<svg" in page
    assert 'srcdoc="&lt;!doctype html&gt;' in page
    assert "data:image/png" in page


def test_the_same_seed_gives_the_same_run(tmp_path, capsys):
    for name in ("a", "b"):
        main(["train", "xor", "--epochs", "20", "--seed", "3", "--out", str(tmp_path / name)])
    keep = [
        [{k: v for k, v in json.loads(line).items() if "second" not in k} for line in
         (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("a", "b")
    ]  # fmt: skip
    assert keep[0] == keep[1]


def test_other_commands(tmp_path, capsys):
    assert main(["train", "--list"]) == 0
    assert "lenet5" in capsys.readouterr().out
    assert main(["graph", "mlp", "--out", str(tmp_path / "mlp.svg")]) == 0
    assert "fc" in (tmp_path / "mlp.svg").read_text() or "layers" in (tmp_path / "mlp.svg").read_text()
    assert main(["check", "xor"]) == 0
    assert "largest relative error" in capsys.readouterr().out
    assert main(["doctor"]) == 0
    assert "numpy" in capsys.readouterr().out


def test_bad_commands_say_what_is_wrong(capsys):
    assert main(["train", "resnet9000"]) == 1
    assert "lenet5" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "xor", "--epochs", "0"])
    assert "at least 1" in capsys.readouterr().err
    assert main([]) == 2
    for command in ([], ["train"], ["graph"], ["check"], ["doctor"]):
        with pytest.raises(SystemExit) as stop:
            main([*command, "--help"])
        assert stop.value.code == 0


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no SIGINT to one child")
def test_ctrl_c_leaves_a_report(tmp_path):
    arguments = ["train", "xor", "--epochs", "1000000", "--out", str(tmp_path)]
    code = (
        "import signal, sys; from nn.cli import main; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); "  # a shell's background jobs ignore it
        f"sys.exit(main({arguments!r}))"
    )
    with subprocess.Popen([sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True) as child:
        for line in child.stdout:
            if line.startswith("epoch  5"):
                break
        child.send_signal(signal.SIGINT)
        lines = child.stdout.read().strip().splitlines()
        assert child.wait(timeout=120) == 130
    assert lines[-1].startswith("test accuracy:")
    assert (tmp_path / "model.safetensors").exists()
