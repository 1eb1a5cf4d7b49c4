"""Machine code of kernels on disk, so that a second process compiles nothing.

One folder holds the code for one processor and one set of versions; its name is their hash. An entry's name holds the
hash of the sources it came from. It is one object file, written beside and renamed into place, so that two processes
never see half of it, and checked by its digest when read. Anything that goes wrong (read-only folder, full disk, a
folder that others may write to) is said once as a warning; kernels are then compiled anew in each process.
"""
from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

from autograd_core.files import user_cache
from autograd_core.kernels import host

_DIGEST = 32
_warned = False


def _give_up(reason: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"autograd_core: kernels are not cached on disk: {reason}; set AG_CACHE to a folder of your own",
                      RuntimeWarning, stacklevel=2)


def root() -> Path:
    """Return the folder for all machine code: ``AG_CACHE``, or ``kernels`` in the program's cache folder."""
    if os.environ.get("AG_CACHE"):
        return Path(os.environ["AG_CACHE"]).expanduser()
    return user_cache() / "kernels"


@functools.cache
def fingerprint() -> str:
    """Return the hash of what machine code depends on beside its sources: versions, Python, processor."""
    digest = hashlib.sha256()
    for fact in (version("numba"), version("llvmlite"), sys.version, platform.platform(), *host.cpu()):
        digest.update(fact.encode() + b"\0")
    return digest.hexdigest()[:16]


@functools.cache
def sources(path: str) -> str:
    """Return the hash of a Python file and of the modules of ``kernels/`` that it imports, directly or not.

    An edit of a kernel's helper so makes new machine code of that kernel, and of no other.
    """
    found, waiting = {}, [Path(path)]
    while waiting:
        file = waiting.pop()
        if file.name not in found:
            text = file.read_text(encoding="utf-8")
            found[file.name] = text
            imports = " ".join(re.findall(r"^[ \t]*(?:from|import) [^\n(]*(?:\([^)]*\))?", text, re.MULTILINE))
            waiting += [_MODULES[name] for name in set(re.findall(r"\w+", imports)) if name in _MODULES]
    text = "\0".join(f"{name}\0{found[name]}" for name in sorted(found))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


_MODULES = {file.stem: file for file in Path(__file__).parent.glob("*.py") if file.stem not in ("__init__", "lazy")}


@functools.cache
def folder() -> Path | None:
    """Return this state's folder, made if need be and the user's alone; None where there cannot be one."""
    path = root() / fingerprint()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = path.stat()
    except OSError as error:
        _give_up(f"{path}: {error.strerror}")
        return None
    if hasattr(os, "getuid") and (facts.st_uid != os.getuid() or facts.st_mode & 0o022):
        _give_up(f"{path} belongs to another user or others may write to it")
        return None
    return path


def _path(name: str) -> Path | None:
    """Where the entry ``name`` lies: a readable beginning, then the hash that tells it from others."""
    where = folder()
    readable = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:80]
    return where and where / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:16]}.o"


def load(name: str) -> bytes | None:
    """Return what was stored under ``name``, or None (also if the file is damaged)."""
    path = _path(name)
    try:
        data = path.read_bytes() if path else b""
    except OSError:
        return None
    content = data[_DIGEST:]
    return content if content and hashlib.sha256(content).digest() == data[:_DIGEST] else None


def store(name: str, content: bytes) -> None:
    """Store ``content`` under ``name``; a failure warns once and is otherwise ignored."""
    path = _path(name)
    if path is None:
        return
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(hashlib.sha256(content).digest() + content)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
    except OSError as error:
        _give_up(f"{path.parent}: {error.strerror}")
