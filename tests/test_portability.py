"""What scripts written for PyTorch ask for besides tensors: modules by their names, accelerators, switches."""

import subprocess
import sys

import numpy as np
import pytest

import autograd_core as ag
import nn
import optim

MODULES = """
import autograd_core.nn as a
import autograd_core.nn.functional as F
import autograd_core.optim.lr_scheduler as schedules
import autograd_core.utils.data
import autograd_core.backends.cudnn as cudnn
from autograd_core.autograd import Function
from autograd_core.autograd.functional import hessian
from autograd_core.cuda.amp import GradScaler
from autograd_core.func import grad
from autograd_core.linalg import inv
from autograd_core.nn.modules.batchnorm import _BatchNorm
from autograd_core.nn.modules.utils import _pair
from autograd_core.nn.utils.rnn import pad_sequence
from autograd_core.testing import assert_close
from autograd_core.utils.checkpoint import checkpoint
from autograd_core.utils.data.sampler import RandomSampler
import autograd_core as ag, nn, optim
assert a is nn and F is nn.functional and schedules is optim.lr_scheduler
assert ag.utils.data is nn.data and ag.utils.checkpoint.checkpoint is checkpoint
assert issubclass(nn.BatchNorm2d, _BatchNorm) and _pair(3) == (3, 3) and nn.modules.Linear is nn.Linear
assert issubclass(nn.MSELoss, nn.modules.loss._Loss)
assert a.Linear is nn.Linear and pad_sequence is nn.utils.rnn.pad_sequence
"""


def test_modules_have_pytorchs_places():
    subprocess.run([sys.executable, "-W", "error", "-c", MODULES], check=True)


@pytest.mark.parametrize("name", ["nn.nothing", "autograd.nothing", "nothing"])
def test_other_modules_are_not_found(name):
    with pytest.raises(
        ModuleNotFoundError, match=r"No module named '(autograd_core|nn)\..*nothing'|named 'nn.nothing'"
    ):
        __import__(f"autograd_core.{name}")


def test_there_is_no_accelerator():
    for place in (ag.cuda, ag.accelerator, ag.mps, ag.xpu, ag.backends.mps, ag.backends.cudnn, ag.backends.mkldnn):
        assert place.is_available() is False
    assert ag.accelerator.current_accelerator() is None
    assert ag.get_default_device() == ag.device("cpu")
    ag.set_default_device("cpu")
    with pytest.raises(RuntimeError, match="device: only 'cpu' is available, got 'cuda'"):
        ag.set_default_device("cuda")


def test_mixed_precision_is_off():
    model = nn.Linear(2, 1)
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    scaler = ag.amp.GradScaler()
    before = model.weight.detach().clone()
    with ag.autocast(device_type="cuda", dtype=ag.float16):
        loss = model(ag.ones(3, 2)).sum()
    assert loss.dtype == ag.float32
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)
    scaler.step(optimizer)
    scaler.update()
    assert not ag.equal(model.weight, before)
    scaler.load_state_dict(scaler.state_dict())
    assert scaler.get_scale() == 1
    assert not scaler.is_enabled()
    with ag.autocast("cpu", enabled=False):
        pass
    assert ag.amp.autocast("cuda")(lambda x: x + 1)(1) == 2
    with pytest.raises(RuntimeError, match="autocast: mixed precision on the CPU needs bfloat16"):
        ag.autocast("cpu")


def test_switches():
    ag.use_deterministic_algorithms(True)
    assert ag.are_deterministic_algorithms_enabled()
    ag.set_float32_matmul_precision("high")
    assert ag.get_float32_matmul_precision() == "high"
    ag.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match=r"got 'low', needs 'highest', 'high' or 'medium'"):
        ag.set_float32_matmul_precision("low")
    assert not ag.is_complex(ag.ones(1))
    assert ag.typename(ag.ones(1)) == "ag.FloatTensor"
    assert ag.typename(nn.Linear(1, 1)) == "nn.linear.Linear"
    assert (ag.inf, ag.pi, ag.newaxis) == (np.inf, np.pi, None)


def test_older_names():
    assert ag.FloatTensor(2, 3).shape == (2, 3)
    assert ag.LongTensor([1, 2]).dtype == ag.int64
    assert ag.DoubleTensor(np.ones(2, np.float32)).dtype == ag.float64
    assert ag.ByteTensor().shape == (0,)
    assert isinstance(ag.ones(2), ag.FloatTensor)
    assert not isinstance(ag.ones(2), ag.LongTensor)
    with pytest.raises(
        TypeError, match="FloatTensor: takes sizes, or one sequence or array of values, got 2 arguments"
    ):
        ag.FloatTensor([1.0], [2.0])
    assert ag.autograd.Variable(ag.ones(2), requires_grad=True).requires_grad
    try:
        ag.set_default_tensor_type(ag.DoubleTensor)
        assert ag.tensor(1.0).dtype == ag.float64
    finally:
        ag.set_default_tensor_type("torch.FloatTensor")
    with pytest.raises(TypeError, match="set_default_tensor_type: got 'Number', needs a type such as"):
        ag.set_default_tensor_type("Number")


def test_assert_close():
    close = ag.testing.assert_close
    close(ag.ones(3), ag.ones(3) + 1e-7)
    close({"a": [ag.ones(2), 1.0]}, {"a": [np.ones(2, np.float32), 1.0]})
    close(ag.tensor([ag.nan]), ag.tensor([ag.nan]), equal_nan=True)
    close(ag.ones(2), ag.ones(2, dtype=ag.float64), check_dtype=False)
    close(ag.ones(2), ag.ones(2) + 0.1, rtol=0, atol=0.2)
    close(3, 3)
    for one, other, problem in [
        (ag.ones(3), ag.ones(2), r"shapes differ: \[3\] and \[2\]"),
        (ag.ones(2), ag.ones(2, dtype=ag.float64), "dtypes differ: float32 and float64"),
        ([ag.ones(2, 2)], [ag.full((2, 2), 2.0)], r"at \[0\]: 4 of 4 elements differ; the greatest difference is 1 at"),
        (ag.tensor([1, 2]), ag.tensor([1, 4]), r"1 of 2 elements differ; the greatest difference is 2 at \(1,\)"),
        (ag.tensor([ag.nan]), ag.tensor([ag.nan]), "1 of 1 elements differ"),
        ({"a": 1}, {"b": 1}, r"keys differ: \['a', 'b'\]"),
        ([1], [1, 2], "lengths differ: 1 and 2"),
        (ag.ones(1), None, "one is None"),
        (ag.ones(2, 3), ag.ones(3, 2).T, None),
    ]:
        if problem is None:
            close(one, other)
            problem = "strides differ"
        with pytest.raises(AssertionError, match=problem):
            close(one, other, check_stride=problem == "strides differ")
    with pytest.raises(AssertionError, match=r"^mine$"):
        close(1, 2, msg="mine")
    with pytest.raises(ValueError, match="rtol and atol must be given together"):
        close(1, 1, rtol=1e-3)


def test_anomaly_detection_is_a_statement_and_a_context():
    x = ag.tensor([0.0], requires_grad=True)
    ag.autograd.set_detect_anomaly(True)
    try:
        assert ag.is_anomaly_enabled()
        with pytest.raises(RuntimeError, match="log"):
            (x - 1).log()
    finally:
        ag.autograd.set_detect_anomaly(False)
    assert (x - 1).log().isnan().item()
    with ag.autograd.set_detect_anomaly(True), pytest.raises(RuntimeError, match="log"):
        (x - 1).log()
    assert not ag.is_anomaly_enabled()
    with ag.autograd.detect_anomaly(), pytest.raises(RuntimeError, match="sqrt"):
        x.sqrt().backward()
    x.sqrt()


def test_in_place_methods_are_functions_too():
    x = ag.tensor([-1.0, 2.0])
    assert ag.relu_(x) is x
    assert x.tolist() == [0.0, 2.0]
    assert ag.zeros(3, 2).fill_diagonal_(4).tolist() == [[4.0, 0.0], [0.0, 4.0], [0.0, 0.0]]
