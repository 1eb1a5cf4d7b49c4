"""The file of a recorded step: a zip of one JSON text and arrays in NumPy's format, nothing that could run.

``step.json`` holds rows in the order in which things happened; arrays are named by number. Settings are written as
JSON, with a tag where JSON has no such value. An array keeps its strides: what a copy would change, a replay must not.
"""

from __future__ import annotations

import io
import json
import math
import platform
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .. import files
from ..registry import OPS, Op
from ..shapes import DType, numpy_dtype

FORMAT = "autograd-core step"
VERSION = 1


class Unwritable(TypeError):
    """A setting that JSON cannot hold, such as a function."""


# ---------------------------------------------------------------------------------------------------- settings


def encode(value: Any, refer: Callable[[Any], int]) -> Any:
    """A setting or an operand as JSON; ``refer`` gives the number of an array (or Tensor)."""
    if value is None or type(value) in (bool, int, str):
        return value
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if math.isfinite(value) else {"float": repr(value)}
    if isinstance(value, np.generic):
        return {"scalar": value.item() if value.dtype.kind != "f" else float(value).hex(), "dtype": value.dtype.str}
    if isinstance(value, (tuple, list)):
        return {type(value).__name__ if type(value) is list else "tuple": [encode(v, refer) for v in value]}
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: encode(v, refer) for k, v in value.items()}}
    if isinstance(value, slice):
        return {"slice": [encode(v, refer) for v in (value.start, value.stop, value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, Op):
        return {"op": value.qualified}
    if isinstance(value, (DType, np.dtype, type)):
        return {"type": _dtype_name(value)}
    if isinstance(value, np.ndarray) or hasattr(value, "array"):
        return {"array": refer(value)}
    raise Unwritable(f"a {type(value).__name__} cannot be written down")


def _dtype_name(value):
    try:
        return numpy_dtype(value).str
    except (TypeError, ValueError) as error:
        raise Unwritable(f"{value!r} cannot be written down") from error


def decode(value: Any, find: Callable[[int], Any]) -> Any:
    """What `encode` wrote; ``find`` gives the array of a number."""
    if not isinstance(value, dict):
        return value
    if "scalar" in value:
        dtype = np.dtype(value["dtype"])
        return dtype.type(float.fromhex(value["scalar"]) if dtype.kind == "f" else value["scalar"])
    ((kind, held),) = value.items()
    if kind in ("tuple", "list"):
        return (tuple if kind == "tuple" else list)([decode(v, find) for v in held])
    if kind == "dict":
        return {k: decode(v, find) for k, v in held.items()}
    if kind == "slice":
        return slice(*[decode(v, find) for v in held])
    simple: dict[str, Callable] = {"float": float, "ellipsis": lambda _: Ellipsis, "op": operation, "type": np.dtype,
                                   "array": find}  # fmt: skip
    return simple[kind](held)


def operation(qualified: str) -> Op:
    """The record of that name."""
    if qualified not in OPS:
        import nn  # noqa: F401 (some records are defined there)
    if qualified not in OPS:
        raise KeyError(f"the recorded step needs the operation {qualified}, which this version does not have")
    return OPS[qualified]


# ---------------------------------------------------------------------------------------------------- arrays


def packed(array: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
    """The elements in the order of memory, and how to lay them out again."""
    wide = [n for n, s in enumerate(array.strides) if s != 0 or array.shape[n] == 1]
    order = sorted(wide, key=lambda n: -abs(array.strides[n]))
    part = array[tuple([slice(None) if n in wide else 0 for n in range(array.ndim)])] if array.size else array
    if not array.size:
        return np.ascontiguousarray(array), {"shape": list(array.shape), "strides": None, "order": None}
    turned = part.transpose([wide.index(n) for n in order])
    return np.ascontiguousarray(turned).copy(), {"shape": list(array.shape), "strides": list(array.strides),
                                                 "order": order}  # fmt: skip


def unpacked(data: np.ndarray, layout: dict[str, Any]) -> np.ndarray:
    """The array that `packed` took apart: the same elements in the same places of memory."""
    shape, strides, order = tuple(layout["shape"]), layout["strides"], layout["order"]
    if strides is None:
        return data.reshape(shape)
    span = sum(abs(s) * (n - 1) for s, n in zip(strides, shape, strict=True)) + data.itemsize
    first = sum(-s * (n - 1) for s, n in zip(strides, shape, strict=True) if s < 0)
    memory = np.zeros(span, np.uint8)
    owner = np.ndarray((1,), data.dtype, memory.data, first)
    made = as_strided(owner, shape, strides)
    target = as_strided(owner, [shape[n] for n in order], [strides[n] for n in order])
    np.copyto(target, data.reshape(target.shape))
    return np.array(made, order="C") if made.flags.c_contiguous else made


# ---------------------------------------------------------------------------------------------------- the file


def environment() -> dict[str, Any]:
    """What the bits of a result may depend on."""
    from importlib.metadata import version

    from .. import __version__
    from ..kernels import host

    return {"autograd-core": __version__, "python": platform.python_version(), "numpy": np.__version__,
            "numba": version("numba"), "system": f"{platform.system()} {platform.machine()}",
            "processor": host.cpu()[0], "lanes": host.lanes()}  # fmt: skip


def save(path, step: dict[str, Any], arrays: list[np.ndarray]) -> None:
    """Write a bundle, whole or not at all."""
    with files.writing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as bundle:
        bundle.writestr("step.json", json.dumps({"format": FORMAT, "version": VERSION, **step}, indent=1))
        for number, array in enumerate(arrays):
            held = io.BytesIO()
            np.lib.format.write_array(held, array, allow_pickle=False)
            bundle.writestr(f"arrays/{number}.npy", held.getvalue())


def load(path) -> tuple[dict[str, Any], Callable[[int], np.ndarray]]:
    """The JSON of a bundle, and a function that reads an array of it by number."""
    with open(path, "rb") as file:
        content = io.BytesIO(file.read())
    try:
        bundle = zipfile.ZipFile(content)
        step = json.loads(bundle.read("step.json"))
    except (zipfile.BadZipFile, KeyError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"replay: {path} is not a recorded step") from error
    if step.get("format") != FORMAT or step.get("version") != VERSION:
        raise ValueError(f"replay: {path} has format {step.get('format')!r}, version {step.get('version')!r}; this "
                         f"version reads {FORMAT!r}, version {VERSION}")  # fmt: skip

    def read(number):
        return np.lib.format.read_array(io.BytesIO(bundle.read(f"arrays/{number}.npy")), allow_pickle=False)

    return step, read
