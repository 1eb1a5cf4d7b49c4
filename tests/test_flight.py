"""ag.record_step and ag.replay: a step in one file, which gives the same bits without the code that made it."""

import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from subjects import SUBJECTS, Cube, training_step, without_kernels  # noqa: F401 (a fixture that every test here uses)

import autograd_core as ag
import nn
import optim
from autograd_core.ops.samples import build
from autograd_core.seeing import bundles

F = nn.functional


def rewritten(path, change):
    """The bundle with its JSON changed."""
    with zipfile.ZipFile(path) as bundle:
        files = {name: bundle.read(name) for name in bundle.namelist()}
    step = json.loads(files["step.json"])
    change(step)
    files["step.json"] = json.dumps(step).encode()
    with zipfile.ZipFile(path, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)


@pytest.mark.parametrize("name", SUBJECTS)
def test_a_step_gives_the_same_bits(name, tmp_path):
    """Parameters after the update, gradients, buffers, the loss; with dropout and a loop that depends on values."""
    model, loss_fn, x, y = SUBJECTS[name]()
    optimizer = optim.Adam(model.parameters(), lr=1e-2)
    with ag.record_step(tmp_path / "step.zip"):
        loss = loss_fn(model(x), y)
        loss.backward()
        optimizer.step()
    again = ag.replay(tmp_path / "step.zip")
    assert again.same, again
    for known, tensor in model.named_parameters():
        assert np.array_equal(again.values[known], tensor.array), known
        assert np.array_equal(again.values[f"{known}.grad"], tensor.grad.array), known
    for known, tensor in model.named_buffers():
        if tensor.array.dtype.kind == "f":
            assert np.array_equal(again.values[known], tensor.array), known
    assert again.values["loss"] == loss.array
    assert np.array_equal(again.values["x"], x.array)


def test_a_compiled_step_is_recorded_as_its_operations(tmp_path):
    model, _, x, _ = SUBJECTS["branching"]()
    forward = ag.compile(lambda v: (v * model.scale).sin().sum(), disable=["native", "fusion"])
    forward(x)
    with ag.record_step(tmp_path / "step.zip"):
        loss = forward(x)
        loss.backward()
    again = ag.replay(tmp_path / "step.zip")
    assert again.same
    assert again.operations >= 5


def test_recording_leaves_no_copy_of_the_users_variables(tmp_path):
    with ag.record_step(tmp_path / "step.zip"):
        made = ag.ones(3) * 2
    alone = object()
    assert sys.getrefcount(made) == sys.getrefcount(alone)


REPLAY = """
import sys
import numpy as np
import autograd_core as ag
again = ag.replay(sys.argv[1])
print(again.same, again.values["result"].item().hex())
assert "subjects" not in sys.modules and "nn.models" not in sys.modules
"""


def test_in_another_process_without_the_code(tmp_path):
    model, loss_fn, x, y = SUBJECTS["transformer"]()
    step, _ = training_step(model, loss_fn)
    recorded = ag.record_step(tmp_path / "step.zip")(step)
    recorded(x, y)
    loss = recorded(x, y)
    done = subprocess.run(
        [sys.executable, "-c", REPLAY, tmp_path / "step.zip"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", loss.item().hex()], "the last call is the one that is kept"


def test_it_says_at_which_operation_it_differs(tmp_path, monkeypatch):
    model, loss_fn, x, y = SUBJECTS["transformer"]()
    with ag.record_step(tmp_path / "step.zip", values=True):
        loss_fn(model(x), y).backward()
    before = ag.softmax.record.run
    monkeypatch.setattr(ag.softmax.record, "run", lambda *args, **settings: np.nextafter(before(*args, **settings), 1))
    again = ag.replay(tmp_path / "step.zip")
    assert not again.same
    assert again.first.op == "softmax"
    assert "self_attn" in again.first.scope
    assert 0 < again.first.ulp <= 1
    text = str(again)
    assert "results differ; the first is" in text
    assert "operation" in text
    assert "softmax -> float32[" in text
    assert "up to 1 ulp away from what was recorded" in text
    assert "other values at the end:" in text


def test_a_gradient_that_differs_names_the_operation_of_the_forward(tmp_path):
    x = ag.randn(4, requires_grad=True)
    with ag.record_step(tmp_path / "step.zip"):
        x.sigmoid().sum().backward()

    def change(step):
        last = next(row for row in reversed(step["rows"]) if "op" in row and "backward_of" in row)
        last["outs"][0]["checksum"] += 1

    rewritten(tmp_path / "step.zip", change)
    again = ag.replay(tmp_path / "step.zip")
    assert "(in the gradient of sigmoid)" in again.first.op
    assert "x.sigmoid().sum().backward()" in again.first.place


def test_other_machines_are_named(tmp_path):
    with ag.record_step(tmp_path / "step.zip"):
        ag.ones(3).exp()

    def change(step):
        step["environment"]["processor"] = "another one"
        next(row for row in step["rows"] if row.get("op") == "exp")["outs"][0]["checksum"] += 1

    rewritten(tmp_path / "step.zip", change)
    text = str(ag.replay(tmp_path / "step.zip"))
    assert "it was recorded elsewhere:\n  processor: another one then, " in text


def test_memory_that_is_shared_and_written(tmp_path):
    """Views, writes in place, writes past the engine, aliases from outside, masks, numbers, other layouts."""
    w, x = ag.arange(4.0), ag.arange(6.0).reshape(2, 3)
    outside = w.view(2, 2)
    with ag.record_step(tmp_path / "step.zip") as recorder:
        w.add_(1)
        a = outside * 2
        w.numpy()[0] = 9
        b = outside + w.view(2, 2)
        part = w[1:]
        part.mul_(3)
        c = w + part.double().sum()
        d = x.t()[::2].expand(2, 2, 2) * 1
        w[0] = 7
        e = w[w > 4]
        f = ag.from_numpy(a.numpy() * 5) + ag.rand(2, 2)
        if e.sum() > 3:
            g = ag.tensor(e.tolist()).flip(0)
        recorder.name(kept=b)
    again = ag.replay(tmp_path / "step.zip")
    assert again.same, again
    for known, tensor in {"a": a, "b": b, "kept": b, "c": c, "d": d, "e": e, "f": f, "g": g, "w": w}.items():
        assert np.array_equal(again.values[known], tensor.array), known
    assert np.array_equal(again.values["outside"], outside.array)


def test_a_function_of_the_users_and_checkpoint(tmp_path):
    x = ag.randn(3, requires_grad=True)
    with ag.record_step(tmp_path / "step.zip"):
        y = ag.checkpoint(lambda v: F.dropout(Cube.apply(v), 0.5).sin(), x)
        y.sum().backward()
    again = ag.replay(tmp_path / "step.zip")
    assert again.same
    assert np.array_equal(again.values["x.grad"], x.grad.array)


def test_the_file_is_written_when_the_block_fails_and_whole_or_not_at_all(tmp_path):
    path = tmp_path / "step.zip"
    x = ag.ones(3)
    with pytest.raises(ag.OpError), ag.record_step(path):
        y = x.exp()
        y @ ag.ones(4)
    again = ag.replay(path)
    assert again.operations == 2
    assert "the recorded block ended with OpError: matmul: the sizes that are summed over differ" in str(again)
    before = path.read_bytes()
    recorder = ag.record_step(path)
    with pytest.raises(TypeError), recorder:
        x.log()
        recorder.rows.append({"never": object()})
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["step.zip"]


def test_nothing_in_it_can_run(tmp_path):
    """JSON and arrays, read without pickle."""
    model, loss_fn, x, y = SUBJECTS["branching"]()
    with ag.record_step(tmp_path / "step.zip"):
        loss_fn(model(x), y).backward()
    with zipfile.ZipFile(tmp_path / "step.zip") as bundle:
        for name in bundle.namelist():
            content = bundle.read(name)
            if name == "step.json":
                step = json.loads(content)
            else:
                assert content.startswith(b"\x93NUMPY")
                assert b"'O'" not in content[:128]
    assert step["format"] == "autograd-core step"
    assert step["generator"]["seed"] == 0


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip"])
def test_what_is_no_recorded_step_is_refused(content, tmp_path):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match="is not a recorded step"):
        ag.replay(tmp_path / "file")


def test_other_versions_and_unknown_operations_are_refused(tmp_path):
    with ag.record_step(tmp_path / "step.zip"):
        ag.ones(2).exp()
    rewritten(tmp_path / "step.zip", lambda step: step["rows"][-1].update(op="exq"))
    with pytest.raises(KeyError, match="needs the operation exq, which this version does not have"):
        ag.replay(tmp_path / "step.zip")
    rewritten(tmp_path / "step.zip", lambda step: step.update(version=99))
    with pytest.raises(ValueError, match=r"version 99; this version reads 'autograd-core step', version 1"):
        ag.replay(tmp_path / "step.zip")


SETTINGS = [None, True, 3, -2.5, float("inf"), "a", (1, (2, None)), [1.5], {"k": (0,)}, slice(1, None, 2), ...,
            np.float32(1.1), np.int64(3)]  # fmt: skip


@pytest.mark.parametrize("value", SETTINGS, ids=repr)
def test_settings_come_back(value):
    back = bundles.decode(json.loads(json.dumps(bundles.encode(value, None))), None)
    assert back == value
    assert type(back) is type(value)


def test_settings_that_are_types_records_arrays_or_nothing():
    assert bundles.decode(bundles.encode(np.float32, None), None) == np.float32
    assert bundles.decode(bundles.encode(ag.int64, None), None) == np.int64
    assert np.isnan(bundles.decode(bundles.encode(float("nan"), None), None))
    assert bundles.decode(bundles.encode(ag.exp.record, None), None) is ag.exp.record
    assert bundles.decode(bundles.encode(ag.ones(2), lambda t: 7), lambda n: n * 2) == 14
    with pytest.raises(bundles.Unwritable, match="a function cannot be written down"):
        bundles.encode(build, None)


LAYOUTS = {"dense": lambda a: a, "turned": lambda a: a.T, "backwards": lambda a: a[::-1, ::-2],
           "gaps": lambda a: a[:, ::2], "broadcast": lambda a: np.broadcast_to(a[:, :1, None], (4, 6, 5)),
           "empty": lambda a: a[:0], "scalar": lambda a: a[1, 2]}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_arrays_come_back_with_their_strides(name):
    array = np.asarray(LAYOUTS[name](np.arange(24.0).reshape(4, 6)))
    back = bundles.unpacked(*bundles.packed(array))
    assert np.array_equal(back, array)
    assert back.strides == array.strides or not array.size
    assert back.flags.writeable
