"""State dicts, and saving and loading them as safetensors."""

import copy
import json
import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

import autograd_core as ag
import nn
from nn.serialize import CheckpointError, load_metadata


def net():
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Linear(3, 1))


def same(first, second):
    assert list(first) == list(second)
    for key in first:
        np.testing.assert_array_equal(first[key].numpy(), second[key].numpy())


def test_names_order_and_versions():
    state = net().state_dict()
    assert list(state) == ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var",
                           "1.num_batches_tracked", "3.weight", "3.bias"]  # fmt: skip
    assert state._metadata["1"] == {"version": 2}
    assert not state["0.weight"].requires_grad
    assert net().state_dict(keep_vars=True)["0.weight"].requires_grad
    assert all(key.startswith("model.") for key in net().state_dict(prefix="model."))


def test_a_state_dict_shares_the_memory_of_its_module():
    model = nn.Linear(1, 1)
    state = model.state_dict()
    with ag.no_grad():
        model.weight.fill_(7)
    assert state["weight"].item() == 7


def test_loading_copies_into_the_parameters_that_optimizers_know():
    first, second = net(), net()
    before = second[0].weight
    assert repr(second.load_state_dict(first.state_dict())) == "<All keys matched successfully>"
    assert second[0].weight is before
    same(first.state_dict(), second.state_dict())
    with ag.no_grad():
        first[0].weight.fill_(0)
    assert second[0].weight.abs().sum().item() > 0


def test_assign_takes_the_tensors_themselves():
    model = nn.Linear(2, 2)
    state = {k: v.double() for k, v in nn.Linear(2, 2).state_dict().items()}
    model.load_state_dict(state, assign=True)
    assert model.weight.dtype == ag.float64
    assert isinstance(model.weight, nn.Parameter)
    assert model.weight.requires_grad
    assert np.shares_memory(model.weight.array, state["weight"].array)


def test_all_that_is_wrong_is_said_at_once():
    model = net()
    state = OrderedDict(model.state_dict())
    del state["0.bias"]
    state["0.extra"], state["4.weight"] = ag.zeros(1), ag.zeros(1)
    state["3.weight"] = ag.zeros(2, 2)
    with pytest.raises(RuntimeError) as caught:
        model.load_state_dict(state)
    text = str(caught.value)
    assert text.startswith("Error(s) in loading state_dict for Sequential:")
    assert 'Missing key(s) in state_dict: "0.bias"' in text
    assert 'Unexpected key(s) in state_dict: "4.weight", "0.extra"' in text
    assert "size mismatch for 3.weight" in text
    state["3.weight"] = ag.zeros(1, 3)
    found = model.load_state_dict(state, strict=False)
    assert found.missing_keys == ["0.bias"]
    assert sorted(found.unexpected_keys) == ["0.extra", "4.weight"]


def test_wrong_kinds_are_refused():
    with pytest.raises(TypeError, match="dict-like"):
        net().load_state_dict([1])
    with pytest.raises(RuntimeError, match="expected a Tensor"):
        nn.Linear(1, 1).load_state_dict({"weight": "text", "bias": ag.zeros(1)})


def test_arrays_can_be_loaded():
    model = nn.Linear(2, 1)
    model.load_state_dict({"weight": np.ones((1, 2)), "bias": np.zeros(1)})
    assert model.weight.tolist() == [[1, 1]]
    assert model.weight.dtype == ag.float32


def test_batch_norm_of_a_checkpoint_that_did_not_count():
    model = nn.BatchNorm1d(2)
    state = dict(model.state_dict())
    del state["num_batches_tracked"]
    model.load_state_dict(state)
    assert model.num_batches_tracked.item() == 0


class Counter(nn.Module):
    def __init__(self, value=0):
        super().__init__()
        self.value = value

    def get_extra_state(self):
        return {"value": self.value}

    def set_extra_state(self, state):
        self.value = state["value"]


def test_extra_state():
    state = nn.Sequential(Counter(7)).state_dict()
    assert state == {"0._extra_state": {"value": 7}}
    other = nn.Sequential(Counter())
    other.load_state_dict(state)
    assert other[0].value == 7
    with pytest.raises(RuntimeError, match="_extra_state"):
        nn.Sequential(nn.ReLU()).load_state_dict(state)


def test_hooks_around_state_dicts():
    seen = []
    model = net()
    model.register_state_dict_pre_hook(lambda module, prefix, keep: seen.append(("before", prefix)))
    model[0].register_state_dict_post_hook(lambda module, state, prefix, meta: state.__delitem__(prefix + "bias"))
    state = model.state_dict()
    assert "0.bias" not in state
    model.register_load_state_dict_pre_hook(lambda module, state, *rest: state.update({"0.bias": ag.zeros(3)}))
    model.register_load_state_dict_post_hook(lambda module, keys: seen.append(("after", list(keys.missing_keys))))
    model.load_state_dict(state)
    assert seen == [("before", ""), ("after", [])]
    assert model[0].bias.tolist() == [0, 0, 0]


def test_copies_and_pickles():
    model = net()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):  # noqa: S301 (our own bytes)
        same(model.state_dict(), other.state_dict())
        assert other[0].weight is not model[0].weight
        assert isinstance(other[0].weight, nn.Parameter)
        assert repr(other) == repr(model)


# ------------------------------------------------------------------------------------------------ files


def test_a_file_gives_the_same_state(tmp_path):
    model = net()
    nn.save(model, tmp_path / "model.safetensors")
    state = ag.load(tmp_path / "model.safetensors")
    other = net()
    other.load_state_dict(state)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), other.state_dict()[key].numpy())


def test_layouts_and_types_survive(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    given = {"turned": ag.tensor(base).permute(2, 0, 1), "reversed": base[:, ::-1], "scalar": ag.tensor(3.0),
             "empty": ag.zeros(0, 3), "half": ag.ones(2).half(), "flag": ag.tensor([True, False]),
             "small": ag.tensor([1, 2], dtype=ag.uint8), "big": base.astype(">f8")}  # fmt: skip
    ag.save(given, tmp_path / "a")
    found = nn.load(tmp_path / "a", map_location="cpu")
    for key, value in given.items():
        value = value.numpy() if isinstance(value, ag.Tensor) else value
        np.testing.assert_array_equal(found[key].numpy(), value)
        assert found[key].shape == value.shape
        assert found[key].numpy().dtype == value.dtype.newbyteorder("=")


def test_a_flat_state_dict_is_a_plain_safetensors_file(tmp_path):
    from safetensors.numpy import load_file

    nn.save(nn.Linear(2, 1).state_dict(), tmp_path / "a", metadata={"format": "pt"})
    assert sorted(load_file(tmp_path / "a")) == ["bias", "weight"]
    assert load_metadata(tmp_path / "a") == {"format": "pt"}


def test_nested_objects(tmp_path):
    given = {"model": nn.Linear(1, 2).state_dict(), "optimizer": {"state": {0: {"step": ag.tensor(3.0)}, 1: {}},
             "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "name": None, "params": [0, 1]}]}, "epoch": 3,
             "best": float("inf"), "on": True, "type": ag.float16, "list": [np.ones(2), "text"],
             "model.weight": ag.zeros(1), "empty": {}}  # fmt: skip
    nn.save(given, tmp_path / "run")
    found = nn.load(tmp_path / "run")
    assert list(found) == list(given)
    assert found["optimizer"]["state"][0]["step"].item() == 3
    assert found["optimizer"]["state"][1] == {}
    assert found["optimizer"]["groups"] == given["optimizer"]["groups"]
    assert (found["epoch"], found["best"], found["on"], found["type"]) == (3, float("inf"), True, ag.float16)
    assert found["list"][1] == "text"
    assert found["model.weight"].shape == (1,)
    same(found["model"], given["model"])


def test_what_cannot_be_saved_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="cannot save a function"):
        nn.save({"a": {"b": same}}, tmp_path / "a")
    with pytest.raises(CheckpointError, match="complex"):
        nn.save({"a": np.zeros(2, complex)}, tmp_path / "a")
    with pytest.raises(TypeError, match="metadata"):
        nn.save({"a": ag.zeros(1)}, tmp_path / "a", metadata={"epoch": 3})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("damage", [lambda d: d[:-3], lambda d: d[:5], lambda d: b"", lambda d: b"PK\x03\x04" + d,
                                    lambda d: b"\x80\x02" + d, lambda d: d + b"x",
                                    lambda d: struct.pack("<Q", 1 << 60) + d[8:]])  # fmt: skip
def test_damaged_and_foreign_files_are_clear_errors(tmp_path, damage):
    path = tmp_path / "model.safetensors"
    nn.save(nn.Linear(2, 2), path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        nn.load(path)


def test_bfloat16_comes_as_float32(tmp_path):
    header = json.dumps({"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    bits = (np.array([1.5, -2.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "a").write_bytes(struct.pack("<Q", len(header)) + header + bits)
    assert nn.load(tmp_path / "a")["a"].tolist() == [1.5, -2.0]


def test_a_crash_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.safetensors"
    nn.save({"a": ag.ones(1)}, path)

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        nn.save({"a": ag.zeros(1)}, path)
    monkeypatch.undo()
    assert nn.load(path)["a"].item() == 1
    assert [p.name for p in tmp_path.iterdir()] == ["model.safetensors"]


def test_files_that_are_open_already(tmp_path):
    with open(tmp_path / "a", "wb") as file:
        nn.save({"a": ag.ones(2)}, file)
    with open(tmp_path / "a", "rb") as file:
        assert nn.load(file)["a"].tolist() == [1, 1]


def test_a_checkpoint_of_pytorch_loads_by_name(tmp_path):
    torch = pytest.importorskip("torch", reason="compares with PyTorch where it is installed")
    safetensors_torch = pytest.importorskip("safetensors.torch", reason="as above")

    def build(lib):
        return lib.Sequential(lib.Conv2d(1, 3, 3), lib.BatchNorm2d(3), lib.ReLU(), lib.Flatten(), lib.Linear(108, 4))

    theirs, ours = build(torch.nn).eval(), build(nn).eval()
    safetensors_torch.save_file(theirs.state_dict(), tmp_path / "theirs.safetensors")
    ours.load_state_dict(nn.load(tmp_path / "theirs.safetensors"))
    x = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    with torch.no_grad():
        expected = theirs(torch.tensor(x)).numpy()
    np.testing.assert_allclose(ours(ag.tensor(x)).detach().numpy(), expected, rtol=1e-4, atol=1e-5)
    nn.save(ours, tmp_path / "ours.safetensors")
    theirs.load_state_dict(safetensors_torch.load_file(tmp_path / "ours.safetensors"))
