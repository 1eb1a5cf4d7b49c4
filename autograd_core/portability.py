"""What scripts written for PyTorch ask for besides tensors: accelerators that are not there, and switches.

Everything here says truthfully what a CPU without accelerators has to say, so that such scripts run unchanged.
"""

from __future__ import annotations

import sys
import threading
from functools import wraps
from types import ModuleType
from typing import Any

from . import info, ops
from .registry import namespace
from .shapes import DTYPES, set_default_dtype
from .tensor import Tensor


def module(name: str, **members: Any) -> ModuleType:
    """A namespace ``ag.name`` that can also be imported."""
    made = ModuleType(f"autograd_core.{name}", f"``ag.{name}``")
    made.__path__ = []  # importing what stands inside it looks for this
    made.__dict__.update(members)
    sys.modules[made.__name__] = made
    return made


# ---------------------------------------------------------------------------------------------------- accelerators


def _absent(name, **members):
    """The namespace of a device or library that is not there."""
    return module(name, is_available=lambda: False, is_built=lambda: False, **members)


accelerator = _absent("accelerator", device_count=lambda: 0, current_accelerator=lambda check_available=False: None)
mps = _absent("mps", device_count=lambda: 0)
xpu = _absent("xpu", device_count=lambda: 0)
backends = module(
    "backends",
    cudnn=_absent("backends.cudnn", benchmark=False, deterministic=False, enabled=False, version=lambda: None),
    cuda=_absent("backends.cuda", matmul=module("backends.cuda.matmul", allow_tf32=False)),
    mps=_absent("backends.mps"),
    mkldnn=_absent("backends.mkldnn"),
)


class autocast:
    """Mixed precision, which there is none of: a context manager and a decorator that changes nothing.

    ``device_type="cuda"`` is off where there is no such device, as in PyTorch; asking for it on the CPU is an error.
    """

    def __init__(self, device_type="cuda", dtype=None, enabled=True, cache_enabled=None):
        if device_type == "cpu" and enabled:
            raise RuntimeError("autocast: mixed precision on the CPU needs bfloat16, which is not supported; got "
                               "device_type='cpu', needs enabled=False")  # fmt: skip

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def __call__(self, function):
        @wraps(function)
        def same(*args, **kwargs):
            return function(*args, **kwargs)

        return same


class GradScaler:
    """The scaling of losses for float16 gradients, off: losses and steps pass as they are."""

    def __init__(self, device="cuda", init_scale=2.0**16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000,
                 enabled=True):  # fmt: skip
        del device, init_scale, growth_factor, backoff_factor, growth_interval, enabled

    def scale(self, outputs):
        """The loss as it is."""
        return outputs

    def unscale_(self, optimizer) -> None:
        """Nothing: no gradient was scaled."""

    def step(self, optimizer, *args, **kwargs):
        """A step of the optimizer."""
        return optimizer.step(*args, **kwargs)

    def update(self, new_scale=None) -> None:
        """Nothing: the scale stays 1."""

    def get_scale(self) -> float:
        """The scale: 1."""
        return 1.0

    def is_enabled(self) -> bool:
        """Whether losses are scaled: no."""
        return False

    def state_dict(self) -> dict:
        """What there is to save: nothing."""
        return {}

    def load_state_dict(self, state_dict) -> None:
        """Take over what `state_dict` returned."""


amp = module("amp", autocast=autocast, GradScaler=GradScaler)
info.cuda.__dict__["amp"] = module("cuda.amp", autocast=autocast, GradScaler=GradScaler)
info.cuda.__path__ = []

# ---------------------------------------------------------------------------------------------------- switches

_switches: dict[str, Any] = {"deterministic": True, "precision": "highest"}


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Nothing to switch: the same seeds give the same numbers, for any number of threads."""
    _switches["deterministic"] = bool(mode)


def are_deterministic_algorithms_enabled() -> bool:
    """What `use_deterministic_algorithms` was told; True before."""
    return _switches["deterministic"]


def set_float32_matmul_precision(precision: str) -> None:
    """Accept "highest", "high" or "medium"; products are always worked out in the full precision of their type."""
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"set_float32_matmul_precision: got {precision!r}, needs 'highest', 'high' or 'medium'")
    _switches["precision"] = precision


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was told."""
    return _switches["precision"]


def set_default_device(device) -> None:
    """Accept the CPU, the only device."""
    info.check_device(device)


def get_default_device():
    """Where new tensors live: the CPU."""
    return info.CPU


def set_default_tensor_type(t) -> None:
    """The older form of `set_default_dtype`: takes ``ag.DoubleTensor`` or its name."""
    name = t if isinstance(t, str) else t.__name__
    found = TENSOR_TYPES.get(name.rpartition(".")[2])
    if found is None:
        raise TypeError(f"set_default_tensor_type: got {t!r}, needs a type such as ag.DoubleTensor")
    set_default_dtype(found.of)


def is_complex(input) -> bool:
    """Whether a tensor holds complex numbers: never."""
    return input.is_complex()


def typename(obj) -> str:
    """The name of the type of an object; for a tensor, of its elements' type too."""
    if isinstance(obj, Tensor):
        return obj.type()
    return f"{type(obj).__module__}.{type(obj).__qualname__}".removeprefix("builtins.")


# ---------------------------------------------------------------------------------------------------- anomalies


def detect_anomaly(check_nan: bool = True):
    """PyTorch's name for `ag.debug`."""
    from .seeing.debugging import debug

    return debug(check_nan)


class _Anomalies(threading.local):
    watching: Any = None


_anomalies = _Anomalies()


class set_detect_anomaly:
    """Turn `ag.debug` on or off in this thread: as a statement or a context manager."""

    def __init__(self, mode: bool, check_nan: bool = True):
        self.before = _anomalies.watching
        self._switch(detect_anomaly(check_nan) if mode else None)

    @staticmethod
    def _switch(wanted):
        if _anomalies.watching is not None:
            _anomalies.watching.__exit__(None, None, None)
        _anomalies.watching = wanted
        if wanted is not None:
            wanted.__enter__()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._switch(self.before)


def is_anomaly_enabled() -> bool:
    """Whether ``set_detect_anomaly(True)`` is in force."""
    return _anomalies.watching is not None


# ---------------------------------------------------------------------------------------------------- older names


class _TypedTensor(type):
    """``ag.FloatTensor(2, 3)``, ``ag.FloatTensor([1, 2])``, ``isinstance(x, ag.FloatTensor)``."""

    of: Any

    def __call__(cls, *args):
        if all(isinstance(a, int) for a in args):
            return ops.empty(args or (0,), dtype=cls.of)
        if len(args) != 1:
            raise TypeError(
                f"{cls.__name__}: takes sizes, or one sequence or array of values, got {len(args)} arguments"
            )
        return Tensor(args[0], cls.of)

    def __instancecheck__(cls, value):
        return isinstance(value, Tensor) and value.dtype == cls.of


_KINDS = {"Half": "half", "Float": "float", "Double": "double", "Char": "char", "Short": "short", "Int": "int",
          "Long": "long", "Byte": "byte", "Bool": "bool"}  # fmt: skip
TENSOR_TYPES: dict[str, Any] = {
    f"{known}Tensor": _TypedTensor(f"{known}Tensor", (), {"of": DTYPES[short], "__doc__": f"Tensors of {short}."})
    for known, short in _KINDS.items()
}


def Variable(data, requires_grad=False):
    """The older name for a tensor that takes part in differentiation: the tensor itself."""
    return data.requires_grad_(True) if requires_grad else data


_functional = namespace("nn.functional")

NAMES: dict[str, Any] = {
    **TENSOR_TYPES,
    **{member.__name__: member for member in (
        autocast, use_deterministic_algorithms, are_deterministic_algorithms_enabled, set_float32_matmul_precision,
        get_float32_matmul_precision, set_default_device, get_default_device, set_default_tensor_type, is_complex,
        typename, is_anomaly_enabled)},
    **{name: _functional[name] for name in (
        "adaptive_avg_pool1d", "adaptive_max_pool1d", "avg_pool1d", "max_pool1d", "max_pool2d", "max_pool3d",
        "bilinear")},
    **{name: getattr(Tensor, name) for name in dir(Tensor) if name in ("detach", "is_signed", "get_device")
       or (name[0] != "_" and name.endswith("_") and hasattr(ops, name[:-1]))},  # ag.exp_(x) and the like
    **{known.__name__.partition(".")[2]: known for known in (accelerator, amp, backends, mps, xpu)},
}  # fmt: skip
"""What ``ag`` has from here."""
