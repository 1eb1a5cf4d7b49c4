"""``ag.find_nan``: run at full speed, and go back to the step, then the operation, that made the first bad value."""

from __future__ import annotations

import functools
import random
import sysconfig
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from .. import provenance, storage
from ..generator import Generator, default_generator
from ..tensor import Node, Tensor
from .debugging import Finding, NonFiniteError, debug

MOST_OBJECTS = 200_000
"""Objects that a step may hold before looking for its state is given up."""


def find_nan(step: Callable, batches: Iterable | None = None, *, steps: int = 1000, every: int = 16) -> Finding | None:
    """Run ``step`` until it makes a value that is not finite; the operation that made it first, or None.

        found = ag.find_nan(train_step, loader)     # train_step(x, y) may be compiled
        print(found)

    ``step`` is called with each of ``batches`` (a tuple is spread over its arguments), or ``steps`` times with nothing.
    It runs as it always does; what it returns is looked at after each call, what it holds after ``every`` calls.
    Once something there has become NaN or infinite, the last good state comes back, the calls since are run again one
    by one, and the bad one under ``ag.debug``. Afterwards everything is as it was before the bad step.

    What ``step`` holds is found through its closure, the globals that it names, and the attributes of what is there:
    tensors and their gradients, modules, optimizers, lists, dicts, numbers, and generators of random numbers. Files and
    iterators that it moves on itself do not go back.
    """
    if not callable(step):
        raise TypeError(f"find_nan: step must be a function, got {type(step).__name__}")
    before, waiting = State(step), []
    for number, given in enumerate(_arguments(batches, steps)):
        waiting.append((number, given))
        bad = _is_bad(step(*given))
        if not bad and len(waiting) < every:
            continue
        if bad or before.has_gone_bad():
            return _narrow(step, before, waiting)
        before, waiting = State(step), []
    return _narrow(step, before, waiting) if waiting and before.has_gone_bad() else None


def _arguments(batches, steps) -> Iterator[tuple]:
    if batches is None:
        return repeat((), steps)
    return (tuple(batch) if isinstance(batch, (tuple, list)) else (batch,) for batch in batches)


def _narrow(step, before, waiting) -> Finding | None:
    """The first bad call of those that wait, and its first bad operation."""
    before.restore()
    for number, given in waiting:
        good = State(step)
        if _is_bad(step(*given)) or good.has_gone_bad():
            good.restore()
            found = _examine(step, given, good)
            good.restore()
            found.step = number
            return found
    return None


def _examine(step, given, good) -> Finding:
    try:
        with debug():
            step(*given)
    except NonFiniteError as error:
        return error.finding
    array = next((a for a in _arrays(step, given, good) if not np.isfinite(a).all()), np.array(np.nan))
    return Finding("step", "forward", "the step makes a value that is not finite; its operations one by one do not",
                   array, [], None, remarks=_blame(step, given, good))  # fmt: skip


def _arrays(step, given, good):
    """What a call returns and leaves behind, floats alone; the state is the good one again afterwards."""
    good.restore()
    found = [*_floats(step(*given)), *good.floats()]
    copies = [a.copy() for a in found]
    good.restore()
    return copies


def _blame(step, given, good) -> list[str]:
    """Which pass of a compiled step makes the difference."""
    from .. import compiler
    from ..passes import NATIVE, PASSES

    if not isinstance(step, compiler.Compiled):
        return ["it is made outside of operations, or by how an optimizer's update is rounded when it is fused"]
    for name in (NATIVE, *PASSES):
        other = compiler.compile(step.function, disable=[name])
        good.restore()
        other(*given)  # records
        if all(np.isfinite(a).all() for a in _arrays(other, given, good)):
            return [f"the compiled program makes it; compiled with disable=[{name!r}] it does not"]
    return ["the compiled program makes it, whichever pass is left out"]


def _floats(value) -> list[np.ndarray]:
    if isinstance(value, (Tensor, np.ndarray, np.generic, float)):
        array = np.asarray(value.array if isinstance(value, Tensor) else value)
        return [array] if array.dtype.kind == "f" else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [a for part in parts for a in _floats(part)]


def _is_bad(result) -> bool:
    return not all(np.isfinite(a).all() for a in _floats(result))


# ---------------------------------------------------------------------------------------------------- state


class State:
    """What a function holds, as it is now: `restore` puts it back."""

    def __init__(self, function: Any):
        self.tensors: list[tuple[Tensor, np.ndarray, np.ndarray, Tensor | None]] = []
        self.arrays: list[tuple[np.ndarray, np.ndarray]] = []
        self.containers: list[tuple[Any, Any]] = []
        self.names: list[tuple[dict, str, Any]] = []
        self.cells: list[tuple[Any, Any]] = []
        self.generators: list[tuple[Any, Any]] = []
        self._seen: dict[int, Any] = {}
        self._walk(function)
        self._walk(default_generator)
        self.finite = [bool(np.isfinite(copy).all()) for copy in self._copies()]

    # -------------------------------------------------- taking it

    def _walk(self, start):
        stack = [start]
        while stack:
            thing = stack.pop()
            if id(thing) in self._seen or type(thing) in _WEAK or isinstance(thing, _PLAIN):
                continue
            self._seen[id(thing)] = thing
            if len(self._seen) > MOST_OBJECTS:
                raise RuntimeError(f"find_nan: the step holds more than {MOST_OBJECTS:,} objects; let it hold the "
                                   "model and the optimizer, and get its data as arguments")  # fmt: skip
            stack.extend(self._take(thing))

    def _take(self, thing) -> list:
        if isinstance(thing, Tensor):
            self.tensors.append((thing, thing.array, thing.array.copy(), thing._grad))
            return [thing._grad]
        if isinstance(thing, np.ndarray):
            self.arrays.append((thing, thing.copy()))
        elif isinstance(thing, Generator):
            self.generators.append((thing, (thing._seed, thing._offset)))
        elif isinstance(thing, np.random.Generator):
            self.generators.append((thing, thing.bit_generator.state))
        elif isinstance(thing, random.Random):
            self.generators.append((thing, thing.getstate()))
        elif isinstance(thing, FunctionType):
            return self._of_function(thing)
        elif isinstance(thing, MethodType):
            return [thing.__self__, thing.__func__]
        elif isinstance(thing, functools.partial):
            return [thing.func, thing.args, thing.keywords]
        elif isinstance(thing, (dict, list, set, deque)):
            self.containers.append((thing, thing.copy()))
            return [*(thing.values() if isinstance(thing, dict) else thing)]
        elif isinstance(thing, tuple):
            return list(thing)
        elif type(thing).__name__ == "Compiled" and hasattr(thing, "function"):
            return [thing.function]
        elif hasattr(thing, "__dict__"):
            return [thing.__dict__, *[f for f in vars(type(thing)).values() if isinstance(f, FunctionType)]]
        return []

    def _of_function(self, function):
        """What the user's function holds; of others, which may wrap one of the user's, the functions in it alone."""
        if not _is_users(function.__code__):
            contents = [_content(cell) for cell in function.__closure__ or ()]
            return [c for c in contents if isinstance(c, (FunctionType, MethodType)) or hasattr(c, "named_parameters")]
        found = [function.__defaults__, function.__kwdefaults__]
        for cell in function.__closure__ or ():
            if (content := _content(cell)) is not _EMPTY:
                self.cells.append((cell, content))
                found.append(content)
        space = function.__globals__
        for name in _names_in(function.__code__):
            if name in space and not isinstance(space[name], (ModuleType, type)):
                self.names.append((space, name, space[name]))
                found.append(space[name])
        return found

    # -------------------------------------------------- looking at it

    def _copies(self):
        return [c for _, _, c, _ in self.tensors if c.dtype.kind == "f"]

    def floats(self) -> list[np.ndarray]:
        """The floating-point tensors as they are now."""
        return [t.array for t, _, c, _ in self.tensors if c.dtype.kind == "f"]

    def modules(self) -> list[Any]:
        """The modules that are held."""
        return [thing for thing in self._seen.values() if hasattr(type(thing), "named_parameters")]

    def has_gone_bad(self) -> bool:
        """Whether a tensor that was finite is not finite any more, or has got a gradient that is not."""
        known = [(tensor, before) for tensor, _, copy, before in self.tensors if copy.dtype.kind == "f"]
        bad = {id(tensor) for (tensor, _), good in zip(known, self.finite, strict=True) if not good}
        for tensor, before in known:
            fresh = tensor._grad
            if id(tensor) not in bad and not np.isfinite(tensor.array).all():
                return True
            if (
                fresh is not None
                and fresh is not before
                and id(before) not in bad
                and not np.isfinite(fresh.array).all()
            ):
                return True
        return False

    # -------------------------------------------------- putting it back

    def restore(self) -> None:
        """Put everything back."""
        for tensor, array, copy, gradient in self.tensors:
            if not np.array_equal(array, copy, equal_nan=array.dtype.kind == "f"):
                np.copyto(array, copy)
                storage.log_write(array)
            tensor.array, tensor._grad = array, gradient
        for array, copy in self.arrays:
            if array.flags.writeable:
                np.copyto(array, copy)
        for thing, copy in self.containers:
            _refill(thing, copy)
        for cell, content in self.cells:
            cell.cell_contents = content
        for space, name, value in self.names:
            space[name] = value
        for generator, known in self.generators:
            if isinstance(generator, Generator):
                generator._seed, generator._offset = known
            elif isinstance(generator, np.random.Generator):
                generator.bit_generator.state = known
            else:
                generator.setstate(known)


_WEAK = (weakref.ProxyType, weakref.CallableProxyType, weakref.ref)
_PLAIN = (int, float, str, bytes, bool, type(None), ModuleType, type, BuiltinFunctionType, Node, np.dtype, np.generic)


_EMPTY = object()
_INSTALLED = tuple({sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib")})


def _is_users(code: CodeType) -> bool:
    """Whether code is neither of this library nor of one that is installed."""
    return provenance.written_by_user(code.co_filename) and not code.co_filename.startswith(_INSTALLED)


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # nothing assigned yet
        return _EMPTY


def _names_in(code: CodeType) -> list[str]:
    """The names that a function and those defined inside it look up."""
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            names += _names_in(constant)
    return list(dict.fromkeys(names))


def _refill(thing, copy):
    if isinstance(thing, dict):
        if thing.keys() != copy.keys() or any(thing[k] is not copy[k] for k in copy):
            thing.clear()
            thing.update(copy)
    elif isinstance(thing, list):
        thing[:] = copy
    else:
        thing.clear()
        (thing.update if isinstance(thing, set) else thing.extend)(copy)
