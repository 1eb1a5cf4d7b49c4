"""Writes the ``.pyi`` stubs by which editors and type checkers see what is made from records.

Run ``python -m autograd_core.stubs`` after adding or changing an op; a test fails while they are stale.
"""

from __future__ import annotations

import inspect
import keyword
import re
from pathlib import Path
from typing import Any

import autograd_core as ag

from . import files
from .ops.samples import build
from .portability import TENSOR_TYPES
from .registry import OPS, Op
from .shapes import DTYPES, DType
from .tensor import Tensor

_ROOT = Path(__file__).parent
HEAD = "# Made by `python -m autograd_core.stubs` from the records; do not edit.\n"
_PLAIN = {"bool": "bool", "int": "int", "float": "float", "str": "str", "NoneType": "None"}


def main() -> None:
    """Write all stubs."""
    for path, text in stubs().items():
        files.write(path, text)
        print(path)  # noqa: T201 (a command line)


def stubs() -> dict[Path, str]:
    """The text of every stub, by path."""
    return {
        _ROOT / "__init__.pyi": _package(),
        _ROOT.parent / "nn" / "functional.pyi": _functional(),
    }


def _package() -> str:
    lines = [HEAD, _IMPORTS, *_dtypes(), "", *_tensor_class(), ""]
    shown = set()
    for name in sorted(n for n, r in OPS.items() if "." not in n and r.namespace == ""):
        lines += _function(name, OPS[name])
        shown.add(name)
    lines += _other_functions(shown)
    for space in ("linalg", "special", "fft", "signal.windows"):
        lines += _namespace(space)
    return "\n".join(lines) + "\n"


_IMPORTS = """from builtins import bool as _bool
from builtins import float as _float
from builtins import int as _int
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from .compiler import compile as compile
from .function import Function as Function
from .function import checkpoint as checkpoint
from .generator import Generator as Generator
from .generator import default_generator as default_generator
from .generator import fork_rng as fork_rng
from .generator import get_rng_state as get_rng_state
from .generator import initial_seed as initial_seed
from .generator import manual_seed as manual_seed
from .generator import seed as seed
from .generator import set_rng_state as set_rng_state
from . import ops as ops
from .info import device as device
from .info import finfo as finfo
from .info import iinfo as iinfo
from .kernels.threads import get_num_threads as get_num_threads
from .kernels.threads import set_num_threads as set_num_threads
from .shapes import DType as dtype
from .shapes import Size as Size
from .tensor import Node as Node
from .errors import OpError as OpError
from .modes import enable_grad as enable_grad
from .modes import inference_mode as inference_mode
from .modes import no_grad as no_grad
from .modes import scope as scope
from .modes import set_grad_enabled as set_grad_enabled
from .tracing import CompileError as CompileError
from .seeing.export import load_graph as load_graph
from .seeing.graphs import Graph as Graph
from .seeing.making import draw as draw
from .seeing.making import graph as graph
from .seeing.making import record as record
from .seeing.pictures import Drawing as Drawing
from .seeing.profiler import profile as profile
from .seeing.tables import summary as summary
from .portability import autocast as autocast

__version__: str
_Number: TypeAlias = _float | _int | _bool
_Data: TypeAlias = "Tensor | np.ndarray[Any, Any] | _Number"
autograd: ModuleType
func: ModuleType
utils: ModuleType
random: ModuleType
cuda: ModuleType
accelerator: ModuleType
amp: ModuleType
array_api: ModuleType
backends: ModuleType
testing: ModuleType
nn: ModuleType
optim: ModuleType
inf: _float
nan: _float
pi: _float
e: _float
newaxis: None
strided: Any
contiguous_format: Any
channels_last: Any
preserve_format: Any
"""


def _dtypes():
    return [f"{name}: dtype" for name, value in sorted(DTYPES.items()) if isinstance(value, DType)]


def _tensor_class() -> list[str]:
    lines = ["class Tensor:", "    array: np.ndarray[Any, Any]"]
    for name, member in sorted(vars(Tensor).items()):
        if name in _HAND or (name.startswith("_") and not re.fullmatch(r"__\w+__|_version", name)):
            continue
        record = getattr(member, "record", None)
        if isinstance(member, property):
            lines += ["    @property", f"    def {name}(self) -> {_annotation(member.fget)}: ..."]
            if member.fset is not None:
                lines += [f"    @{name}.setter", f"    def {name}(self, value: Any) -> None: ..."]
        elif record is not None and name not in _OPERATORS:
            lines += ["    " + line for line in _function(name, record, method=True)]
        elif inspect.isfunction(member):
            lines.append(f"    def {name}({_parameters(member)}) -> {_returned(name, member)}: ...")
        elif name not in ("__doc__", "__module__", "__dict__", "__weakref__", "__hash__", "__annotations__"):
            lines.append(f"    {name}: Any")
    override = {"__eq__": "  # type: ignore[override]", "__ne__": "  # type: ignore[override]"}
    lines += [f"    def {name}{text}: ...{override.get(name, '')}" for name, text in sorted(_HAND.items())]
    return lines


_OPERATORS = {
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__truediv__", "__rtruediv__", "__floordiv__",
    "__rfloordiv__", "__mod__", "__rmod__", "__pow__", "__rpow__", "__and__", "__rand__", "__or__", "__ror__",
    "__xor__", "__rxor__", "__lshift__", "__rlshift__", "__rshift__", "__rrshift__", "__lt__", "__le__", "__gt__",
    "__ge__",
}  # fmt: skip
_HAND: dict[str, str] = {
    "__new__": "(cls, *args: Any, **kwargs: Any) -> Tensor",
    "__init__": "(self, data: Any = ..., dtype: Any = ..., requires_grad: _bool = ...) -> None",
    **dict.fromkeys(_OPERATORS, "(self, other: Any) -> Tensor"),
    "__matmul__": "(self, other: Any) -> Tensor",
    "__rmatmul__": "(self, other: Any) -> Tensor",
    "__eq__": "(self, other: object) -> Tensor",
    "__ne__": "(self, other: object) -> Tensor",
    "__neg__": "(self) -> Tensor",
    "__pos__": "(self) -> Tensor",
    "__invert__": "(self) -> Tensor",
    "__abs__": "(self) -> Tensor",
    "__getitem__": "(self, index: Any) -> Tensor",
    "__setitem__": "(self, index: Any, value: Any) -> None",
    "__iter__": "(self) -> Iterator[Tensor]",
    "__len__": "(self) -> _int",
    "__bool__": "(self) -> _bool",
    "__float__": "(self) -> _float",
    "__int__": "(self) -> _int",
    "__index__": "(self) -> _int",
}


def _returned(name, member):
    found = _annotation(member)
    return "Tensor" if found == "Any" and name.endswith("_") and not name.startswith("_") else found


def _annotation(function) -> str:
    text = (
        str(getattr(function, "__annotations__", {}).get("return", "Any")).removeprefix("<class '").removesuffix("'>")
    )
    text = text.replace("ndarray", "np.ndarray[Any, Any]") if "np." not in text else text
    return _PLAIN_TYPE.sub(lambda m: f"_{m.group(0)}", text) if text not in ("Any", "None") else text


_PLAIN_TYPE = re.compile(r"\b(bool|int|float)\b")
_STARS: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


def _parameters(function) -> str:
    words = []
    star = False
    for p in inspect.signature(function).parameters.values():
        if p.kind is p.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        star |= p.kind is p.VAR_POSITIONAL
        lead = _STARS.get(p.kind, "")
        kind = "" if p.name in ("self", "cls") and not lead else ": Any"
        words.append(f"{lead}{p.name}{kind}{' = ...' if p.default is not p.empty else ''}")
    return ", ".join(words)


def _function(name: str, record: Op, method=False) -> list[str]:
    if keyword.iskeyword(name):
        return []
    words, star = [], False
    for number, p in enumerate(inspect.signature(record.public).parameters.values()):
        if method and number == 0:
            words.append("self")
            continue
        if p.kind is p.KEYWORD_ONLY and not star:
            words.append("*")
            star = True
        star |= p.kind is p.VAR_POSITIONAL
        lead = _STARS.get(p.kind, "")
        primitive = record.family.name != "composite"
        kind = "_Data" if primitive and p.name in record.parameters and not lead else "Any"
        if p.default is None and kind != "Any":
            kind += " | None"
        words.append(f"{lead}{p.name}: {kind}{' = ...' if p.default is not p.empty else ''}")
    return [f"def {name}({', '.join(words)}) -> {_result_type(record)}: ..."]


_types: dict[str, str] = {}


def _result_type(record: Op) -> str:
    """What the function returns, found by calling it on its first sample."""
    if record.qualified not in _types:
        _types[record.qualified] = _type_text(_first_result(record))
    return _types[record.qualified]


def _first_result(record: Op) -> Any:
    if not record.samples:
        return None
    args, kwargs = build(record.samples[0])
    ag.manual_seed(0)

    def lift(value):
        if isinstance(value, ag.ops.create.np.ndarray):
            return ag.tensor(value)
        return type(value)(lift(v) for v in value) if isinstance(value, (list, tuple)) else value

    return record.public(*[lift(a) for a in args], **kwargs)


def _type_text(result) -> str:
    if isinstance(result, Tensor):
        return "Tensor"
    if isinstance(result, (tuple, list)) and result and all(isinstance(r, Tensor) for r in result):
        return "Any" if hasattr(result, "_fields") else "list[Tensor]" if type(result) is list else "tuple[Tensor, ...]"
    name = type(result).__name__
    return f"_{name}" if name in ("bool", "int", "float") else "Any"


def _other_functions(shown) -> list[str]:
    lines = []
    for name in sorted(dir(ag)):
        if name in shown or name.startswith("_") or name in _IMPORTED:
            continue
        member = getattr(ag, name)
        if name in TENSOR_TYPES:
            lines.append(f"{name}: Any")
        elif inspect.isfunction(member):
            lines.append(f"def {name}({_parameters(member)}) -> {_FUNCTIONS.get(name, 'Any')}: ...")
    return lines


_IMPORTED = set(re.findall(r"as (\w+)$", _IMPORTS, re.MULTILINE))
_FUNCTIONS = dict.fromkeys(("tensor", "as_tensor", "asarray", "from_numpy", "from_dlpack"), "Tensor") | {
    "is_grad_enabled": "_bool", "gradcheck": "_bool", "gradgradcheck": "_bool", "grad": "tuple[Tensor, ...]",
    "backward": "None", "get_default_dtype": "dtype", "broadcast_shapes": "Size",
}  # fmt: skip


def _namespace(space: str) -> list[str]:
    outer, _, inner = space.partition(".")
    title = "_" + space.replace(".", "_")
    lines = ["", f"class {title}:"]
    for name, record in sorted(OPS.items()):
        if name.startswith(space + ".") and "." not in name[len(space) + 1 :]:
            lines += ["    @staticmethod", *["    " + line for line in _function(name.rpartition(".")[2], record)]]
    if inner:
        return [*lines, f"class _{outer}:", f"    {inner}: {title}", f"{outer}: _{outer}"]
    return [*lines, f"{space}: {title}"]


def _functional() -> str:
    from nn import functional

    lines = [HEAD, "from typing import Any, TypeAlias\n", "import numpy as np\n", "from autograd_core import Tensor\n",
             "_bool: TypeAlias = bool\n_float: TypeAlias = float\n_int: TypeAlias = int",
             "_Data: TypeAlias = Tensor | np.ndarray[Any, Any] | float | int | bool\n",
             "__all__: list[str]\n"]  # fmt: skip
    for name in sorted(functional.__all__):
        member = getattr(functional, name)
        if hasattr(member, "record"):
            lines += _function(name, member.record)
        else:
            lines.append(f"def {name}({_parameters(member)}) -> Any: ...")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
