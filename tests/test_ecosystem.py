"""Tensors and modules among other libraries: DLPack, einops, pickle, copy, and Python's own protocols."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import autograd_core as ag
import nn
import optim


def roundtrip(value):
    return pickle.loads(pickle.dumps(value))  # noqa: S301 (our own bytes)


COPIES = pytest.mark.parametrize("duplicate", [copy.deepcopy, roundtrip], ids=["deepcopy", "pickle"])

# ---------------------------------------------------------------------------------------------------- DLPack


def test_numpy_shares_memory_both_ways():
    t = ag.arange(6.0).reshape(2, 3)
    np.from_dlpack(t)[0, 0] = 7
    assert t[0, 0] == 7
    array = np.arange(4.0)
    ag.from_dlpack(array).mul_(2)
    assert array.tolist() == [0, 2, 4, 6]
    assert ag.from_dlpack(np.arange(6).reshape(2, 3).T).stride() == (1, 3)
    assert ag.from_dlpack(t).data_ptr() == t.data_ptr()


def test_what_dlpack_refuses():
    with pytest.raises(BufferError, match=r"requires grad cannot be exported; use tensor\.detach\(\)"):
        np.from_dlpack(ag.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match="from_dlpack: expected an array with the method __dlpack__, got list"):
        ag.from_dlpack([1.0])
    array = np.arange(3.0)
    array.flags.writeable = False
    with pytest.raises(RuntimeError, match="add_: the memory of the tensor is read-only"):
        ag.from_numpy(array).add_(1)


def test_pytorch_shares_memory_both_ways():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    t = ag.arange(6.0).reshape(2, 3)
    torch.from_dlpack(t)[0, 0] = 7
    assert t[0, 0] == 7
    theirs = torch.arange(4.0).reshape(2, 2).T
    ours = ag.from_dlpack(theirs)
    assert (ours.data_ptr(), ours.stride()) == (theirs.data_ptr(), theirs.stride())
    for dtype in ("float64", "float16", "int8", "int64", "uint8", "bool"):
        assert str(ag.from_dlpack(torch.ones(2, dtype=getattr(torch, dtype))).array.dtype) == dtype
    with pytest.raises(TypeError, match=r"from_dlpack: cannot take elements of type torch\.bfloat16"):
        ag.from_dlpack(torch.ones(2, dtype=torch.bfloat16))


def test_jax_shares_memory_both_ways():
    jnp = pytest.importorskip("jax.numpy", reason="JAX is not installed")
    theirs = jnp.arange(4.0)
    assert ag.from_dlpack(theirs).data_ptr() == theirs.unsafe_buffer_pointer()
    raw = np.zeros(64 + 15, np.float32)  # JAX shares what starts at a multiple of 64 bytes, and copies other memory
    start = -raw.ctypes.data % 64 // 4
    aligned = ag.from_numpy(raw[start : start + 16])
    assert jnp.from_dlpack(aligned, copy=False).unsafe_buffer_pointer() == aligned.data_ptr()


# ---------------------------------------------------------------------------------------------------- einops

EINOPS = """
{first}
import numpy as np
{second}
from einops import einsum, pack, rearrange, reduce, repeat, unpack

def everything(x):
    whole, shapes = pack([x, x[:, :, 0]], "b c *")
    parts = unpack(whole, shapes, "b c *")
    return (rearrange(x, "b c (h p) w -> b (c p) h w", p=2).square().sum()
            + (reduce(x, "b c h w -> b c", "max") * repeat(x[:, 0, 0, 0], "b -> b c", c=3)).sum()
            + sum(reduce(x, "b c h (w 2) -> c", kind).sum() for kind in ("min", "sum", "mean", "prod"))
            + einsum(x, x, "b c h w, b c h v -> c v w").sum() + (parts[0] * 2).sum()
            + rearrange([x, x], "n b ... -> b n ...").sum())

x = ag.tensor(np.random.default_rng(0).random((2, 3, 2, 4)), requires_grad=True)
assert ag.gradcheck(everything, (x,))
assert reduce(ag.ones(2, 3) > 0, "a b -> a", "all").tolist() == [True, True]
"""


@pytest.mark.parametrize("order", [1, -1], ids=["einops first", "einops later"])
def test_einops_works_and_is_differentiable(order):
    pytest.importorskip("einops", reason="einops is not installed")
    first, second = ("import einops", "import autograd_core as ag")[::order]
    subprocess.run([sys.executable, "-c", EINOPS.format(first=first, second=second)], check=True)


def test_einops_is_told_about_tensors_without_being_imported():
    """A stand-in with einops' interface: the backend registers itself, whichever is imported first."""
    script = """
import sys, types, importlib.machinery
import autograd_core as ag
assert "einops" not in sys.modules
class Finder:
    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name == "einops._backends" else None
    def create_module(self, spec):
        return None
    def exec_module(self, module):
        module.AbstractBackend = type("AbstractBackend", (), {})
sys.meta_path.append(Finder())
sys.modules["einops"] = package = types.ModuleType("einops")
package.__path__ = []
import einops._backends as backends
(backend,) = backends.AbstractBackend.__subclasses__()
assert backend.framework_name in sys.modules
assert backend().is_appropriate_type(ag.ones(2)) and not backend().is_appropriate_type(1)
assert backend().reduce(ag.ones(2, 3), "prod", (0, 1)).item() == 1
"""
    subprocess.run([sys.executable, "-c", script], check=True)


# ---------------------------------------------------------------------------------------------------- copies


class Tied(nn.Module):
    """Shared weights, buffers and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embedding.weight
        self.norm = nn.BatchNorm1d(3)
        self.rnn = nn.LSTM(3, 3)

    def forward(self, x):
        return self.out(self.rnn(self.norm(self.embedding(x)))[0])


@COPIES
def test_modules_keep_their_shared_weights(duplicate):
    model = Tied()
    twin = duplicate(model)
    assert twin.out.weight is twin.embedding.weight
    assert isinstance(twin.out.weight, nn.Parameter)
    assert twin.out.weight is not model.out.weight
    assert len(list(twin.parameters())) == len(list(model.parameters()))
    x = ag.tensor([1, 4, 2])
    model.eval()
    twin.eval()
    assert np.array_equal(model(x).detach(), twin(x).detach())
    with ag.no_grad():
        twin.out.weight.add_(1)
    assert not np.array_equal(model(x).detach(), twin(x).detach())


@COPIES
def test_a_model_and_its_optimizer_together(duplicate):
    model = Tied()
    optimizer = optim.Adam(model.parameters())
    model(ag.tensor([1, 2])).sum().backward()
    optimizer.step()
    twin, other = duplicate((model, optimizer))
    assert other.param_groups[0]["params"][0] is twin.embedding.weight
    assert twin.embedding.weight in other.state
    twin(ag.tensor([1, 2])).sum().backward()
    other.step()


@COPIES
def test_tensors(duplicate):
    t = ag.tensor([1.0, 2.0], requires_grad=True)
    twin = duplicate(t)
    assert twin.requires_grad
    assert twin.is_leaf
    assert np.array_equal(twin.detach(), t.detach())
    assert not np.shares_memory(twin.detach(), t.detach())
    both = duplicate({"a": t, "b": t})
    assert both["a"] is both["b"]
    assert isinstance(duplicate(nn.Parameter(ag.ones(2))), nn.Parameter)
    assert duplicate(ag.float32) is ag.float32
    assert duplicate(ag.Size([2, 3])) == (2, 3)
    assert duplicate(ag.device("cpu")) == ag.device("cpu")
    with pytest.raises(RuntimeError, match=r"detach\(\) first"):
        duplicate(t * 2)


def test_shallow_copy_shares_memory():
    t = ag.tensor([1.0, 2.0])
    twin = copy.copy(t)
    assert twin is not t
    twin[0] = 5
    assert t[0] == 5


# ---------------------------------------------------------------------------------------------------- Python


def test_formatting():
    loss = (ag.tensor(3.14159, requires_grad=True) * 1).sum()
    assert f"{loss:.2f} {loss.item():.2f}" == "3.14 3.14"
    assert f"{ag.tensor(3):03d}" == "003"
    assert "%.3f" % ag.tensor(2.5) == "2.500"  # noqa: UP031 (what is tested)
    assert f"{ag.tensor([1.0, 2.0])}" == "tensor([1., 2.])"
    assert format(ag.tensor(True)) == "True"
    with pytest.raises(
        TypeError, match=r"the format '\.2f' is for tensors without dimensions, this one has shape \[2\]"
    ):
        f"{ag.tensor([1.0, 2.0]):.2f}"


def test_iteration_and_numbers():
    t = ag.arange(6).reshape(3, 2)
    assert len(t) == 3
    assert [row.tolist() for row in t] == [[0, 1], [2, 3], [4, 5]]
    first, *rest = t
    assert first.tolist() == [0, 1]
    assert len(rest) == 2
    assert sum(ag.tensor([1.0, 2.0])) == 3
    assert max(ag.tensor([1.0, 3.0, 2.0])).item() == 3
    assert list(range(10))[ag.tensor(4)] == 4
    assert round(float(ag.tensor(1.26)), 1) == 1.3
    assert 2 in ag.tensor([1, 2])
    assert dict(zip(t[:, 0].tolist(), t, strict=True))[4][1] == 5
    with pytest.raises(TypeError, match=r"len\(\) of a 0-d tensor"):
        len(ag.tensor(1))
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        iter(ag.tensor(1))
