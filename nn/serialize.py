"""Saving and loading tensors as safetensors files, which hold numbers only and cannot run code.

A flat dictionary of tensors (a ``state_dict``) gives a plain file that any safetensors reader takes. Anything nested,
such as ``{"model": ..., "optimizer": ..., "epoch": 3}``, keeps its shape as text in the file's metadata.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np

from autograd_core import Tensor, files
from autograd_core.shapes import DType
from autograd_core.tensor import wrap

from .module import Module
from .parameter import check_device

STRUCTURE = "autograd_core.structure"
"""The metadata key under which the shape of a nested object is kept."""

_TYPES = {"F64": "f8", "F32": "f4", "F16": "f2", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1",
          "U64": "u8", "U32": "u4", "U16": "u2", "U8": "u1", "BOOL": "?"}  # fmt: skip


class CheckpointError(RuntimeError, ValueError):
    """A file that cannot be read as a checkpoint, or an object that cannot be written as one."""


def _safetensors():
    try:
        import safetensors
    except ImportError:
        raise ImportError("nn.save and nn.load need the package safetensors: pip install safetensors") from None
    return safetensors


def save(obj, f, metadata: dict[str, str] | None = None) -> None:
    """Write a module, a state dict, or nested dictionaries and lists of tensors and plain values, to the file ``f``.

    A file is written under another name, flushed to the disk and then renamed, so that a crash leaves the old file or
    the new one. ``f`` may also be an object with ``write``. ``metadata``: further texts to be kept in the file.
    """
    if isinstance(obj, Module):
        obj = obj.state_dict()
    arrays: dict[str, np.ndarray] = {}
    structure = _flatten(obj, "", arrays)
    notes = dict(metadata or {})
    if any(not isinstance(v, str) for v in notes.values()):
        raise TypeError(f"save: metadata must map strings to strings, got {notes!r}")
    if not (isinstance(structure, dict) and all(v == {"$": k} for k, v in structure.items())) or not structure:
        notes[STRUCTURE] = json.dumps(structure)
    from safetensors.numpy import save as encode

    data = encode({k: _writable(a) for k, a in arrays.items()}, notes or None)
    if hasattr(f, "write"):
        f.write(data)
    else:
        files.write(f, data)


def load(f, map_location=None, *, weights_only=True) -> Any:
    """Read what `save` wrote, or any safetensors file: an ordered dictionary of tensors, or the nested object.

    ``f`` is a path, or an object with ``read``. ``map_location`` may be "cpu". bfloat16 tensors come as float32.
    """
    if not callable(map_location) and not isinstance(map_location, dict):
        check_device(map_location)
    data = f.read() if hasattr(f, "read") else Path(f).read_bytes()
    name = getattr(f, "name", "the given bytes") if hasattr(f, "read") else str(f)
    tensors = _decode(data, name)
    structure = load_metadata_of(data).get(STRUCTURE)
    if structure is None:
        return tensors
    try:
        return _rebuild(json.loads(structure), tensors)
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"load: {name} describes a structure that does not fit its tensors ({error!r})") from None


def load_metadata(f) -> dict[str, str]:
    """The texts kept in a safetensors file beside its tensors."""
    data = Path(f).read_bytes()
    _decode(data, str(f))
    return {k: v for k, v in load_metadata_of(data).items() if k != STRUCTURE}


def load_metadata_of(data: bytes) -> dict[str, str]:
    """The metadata in the header of a safetensors file that has been checked already."""
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]).get("__metadata__") or {}


def _writable(array):
    """``array`` as safetensors wants it: contiguous (it saves others wrongly, without a word) and little-endian."""
    if array.dtype.byteorder == ">" or (array.dtype.byteorder == "=" and not np.little_endian):
        array = array.astype(array.dtype.newbyteorder("<"))
    return array if array.flags.c_contiguous else array.copy(order="C")


def _flatten(value, path, arrays):
    """A description of ``value`` for JSON; its tensors go into ``arrays`` by their path."""
    if isinstance(value, (Tensor, np.ndarray)):
        name = path or "tensor"
        while name in arrays:
            name += "_"
        arrays[name] = value.array if isinstance(value, Tensor) else value
        if arrays[name].dtype.kind not in "fiub":
            raise CheckpointError(f"save: {name} has dtype {arrays[name].dtype}, which cannot be saved")
        return {"$": name}
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, DType):
        return {"$dtype": value.name}
    if isinstance(value, dict):
        parts = [(k, _flatten(v, f"{path}.{k}" if path else str(k), arrays)) for k, v in value.items()]
        if all(isinstance(k, str) and not k.startswith("$") for k, _ in parts):
            return dict(parts)
        return {"$dict": [[_flatten(k, path, arrays), v] for k, v in parts]}
    if isinstance(value, (list, tuple)):
        parts = [_flatten(v, f"{path}.{i}" if path else str(i), arrays) for i, v in enumerate(value)]
        return {"$tuple": parts} if isinstance(value, tuple) else parts
    raise CheckpointError(f"save: cannot save a {type(value).__name__} (at {path or 'the top'}); tensors, numbers, "
                          "strings, None, and dictionaries, lists and tuples of these can be saved")  # fmt: skip


def _rebuild(structure, tensors):
    if isinstance(structure, list):
        return [_rebuild(v, tensors) for v in structure]
    if not isinstance(structure, dict):
        return structure
    if len(structure) == 1:
        ((key, value),) = structure.items()
        if key == "$":
            return tensors[value]
        if key == "$dtype":
            return DType._of[np.dtype(value)]
        if key == "$tuple":
            return tuple(_rebuild(v, tensors) for v in value)
        if key == "$dict":
            return {_rebuild(k, tensors): _rebuild(v, tensors) for k, v in value}
    return {k: _rebuild(v, tensors) for k, v in structure.items()}


def _decode(data, name):
    safetensors = _safetensors()
    try:
        entries = safetensors.deserialize(bytes(data))
    except safetensors.SafetensorError as error:
        if data[:2] == b"PK" or data[:1] == b"\x80":
            raise CheckpointError(f"load: {name} looks like a pickle of PyTorch; only safetensors files are read. "
                                  "Convert it where PyTorch is installed: safetensors.torch.save_file(torch.load(...), "
                                  "...)") from None  # fmt: skip
        raise CheckpointError(f"load: {name} is not a safetensors file, or is cut off or damaged ({error})") from None
    tensors: OrderedDict[str, Tensor] = OrderedDict()
    for key, entry in entries:
        kind, raw = entry["dtype"], entry["data"]
        if kind == "BF16":
            array = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif kind in _TYPES:
            array = np.frombuffer(raw, np.dtype(_TYPES[kind]).newbyteorder("<")).astype(_TYPES[kind])
        else:
            raise CheckpointError(f"load: {name}: tensor {key} has type {kind}, which is not supported")
        tensors[key] = wrap(array.reshape(entry["shape"]))
    return tensors
