"""A flight recorder: everything a step did to its arrays in one file, which runs again without the user's code.

The recorder writes down what happens, in order: arrays that come in, operations, writes in place. A replay does the
same to memory of the same layout, so that views and aliases are what they were, and compares each result's checksum.
"""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Any
from zlib import crc32

import numpy as np

from .. import generator, provenance, storage
from ..modes import QUIET, BackwardScope, Watcher, quiet_off, quiet_on, state
from ..shapes import ndarray
from ..tensor import Tensor, apply, wrap
from . import bundles
from .leaks import variables_of


def _checksum(array):
    return crc32(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")


class _Known:
    """An array that the recorder has a number for; it stays alive, so that its id stays its own.

    ``home``: the number of the array whose memory it looks at in a replay, too.
    """

    __slots__ = ("array", "checksum", "home", "number", "writes")

    def __init__(self, array, number, home, writes):
        self.array, self.number, self.home, self.writes = array, number, home, writes
        self.checksum = _checksum(array)


class record_step(Watcher):
    """Record what happens inside into one file: inputs, seeds, parameters and every operation on them.

        with ag.record_step("step.zip"):
            loss = loss_fn(model(x), y)
            loss.backward()
            optimizer.step()

    Also a decorator; each call writes the file anew. ``ag.replay("step.zip")`` runs it again, without this code. The
    file is a zip of JSON and NumPy arrays; it is written when the block ends, whole or not at all, and also when the
    block ends with an error. Values of operations go in with ``values=True``; else their checksums alone do.

    Arrays that the user's code makes between operations go in by their values, as does whatever else the recorder
    cannot follow (a function as a setting). Compiled functions run eagerly inside.
    """

    def __init__(self, path: str | os.PathLike[str], *, values: bool = False):
        self.path, self.values = path, values
        self._begin()

    def _begin(self):
        self.rows: list[dict[str, Any]] = []
        self.arrays: list[ndarray] = []
        self.known: dict[int, _Known] = {}
        self.count = 0
        self.writes: dict[int, int] = {}  # by home: how often it was written
        self.names: dict[str, int] = {}  # numbers of arrays
        self.leaves: dict[int, Tensor] = {}
        self.frames: list[tuple] = []
        self.wrapped: dict[int, Any] = {}

    def __enter__(self):
        self._begin()
        self.seeds = {"seed": generator.default_generator._seed, "offset": generator.default_generator._offset}
        return super().__enter__()

    def __exit__(self, kind=None, error=None, trace=None):
        super().__exit__(kind, error, trace)
        self._name_variables(sys._getframe(1))
        self._write_file(error)

    def __call__(self, function):
        @wraps(function)
        def wrapped(*args, **kwargs):
            with record_step(self.path, values=self.values) as recorder:
                result = function(*args, **kwargs)
                recorder.name(**_named_results(result))
            return result

        return wrapped

    def name(self, **tensors: Tensor) -> None:
        """Give tensors names by which a replay hands their values out (variables of the block have theirs already)."""
        for name, tensor in tensors.items():
            self.names[name] = self._known(tensor.array).number

    # -------------------------------------------------- arrays

    def _known(self, array) -> _Known:
        found = self.known.get(id(array))
        if found is None:
            return self._take(array)
        writes = self.writes.get(found.home, 0)
        if found.writes != writes:  # by an operation that was recorded
            found.checksum, found.writes = _checksum(array), writes
        elif (now := _checksum(array)) != found.checksum:  # past the engine
            self.rows.append({"set": found.number, "value": self._keep(array)})
            self._written(found)
            found.checksum, found.writes = now, self.writes[found.home]
        return found

    def _number(self, array, home=None) -> _Known:
        home = self.count if home is None else home
        made = self.known[id(array)] = _Known(array, self.count, home, self.writes.get(home, 0))
        self.count += 1
        return made

    def _take(self, array) -> _Known:
        """An array that nobody has seen: it comes in by its values."""
        made = self._number(array)
        self.rows.append({"in": made.number, "value": self._keep(array)})
        return made

    def _keep(self, array):
        data, layout = bundles.packed(array)
        self.arrays.append(data)
        return {"array": len(self.arrays) - 1, **layout}

    def _written(self, known):
        self.writes[known.home] = self.writes.get(known.home, 0) + 1

    def _refer(self, value) -> int:
        return self._known(value.array if hasattr(value, "array") else value).number

    # -------------------------------------------------- operations

    def call(self, op, args, static):
        """Run an operation through a copy of its record that writes down what the body gives."""
        self.frames.append((args, static, []))
        try:
            return apply(self._through(op), args, static, watched=False)
        finally:
            self.frames.pop()

    def _through(self, op):
        made = self.wrapped.get(id(op))
        if made is None:
            made = self.wrapped[id(op)] = copy.copy(op)
            made.plans = op.plans
            made.run = lambda *arrays, **static: self._run(op, arrays, static)
        return made

    def _run(self, op, arrays, static):
        args, given, _ = self.frames[-1]
        plain = [a.array if isinstance(a, Tensor) else a for a in args]
        try:
            row = {"op": op.qualified, "args": [bundles.encode(a, self._refer) for a in plain],
                   "static": {k: bundles.encode(v, self._refer) for k, v in given.items()}}  # fmt: skip
        except bundles.Unwritable:
            row = {}
        result = op.run(*arrays, **static)
        several = type(result) is tuple
        results = tuple([None if r is None else np.asarray(r) for r in result]) if several else (np.asarray(result),)
        if row and any([r is not None and id(r) not in self.known for r in results]):
            self._note(row, plain, arrays, results)
        return results if several else results[0]

    def _note(self, row, plain, arrays, results):
        """Number the results, and the arrays that promotion has made on the way."""
        cast = {}
        if len(plain) == len(arrays):
            for position, (before, after) in enumerate(zip(plain, arrays, strict=True)):
                if after is not before and isinstance(after, ndarray) and id(after) not in self.known:
                    cast[position] = self._number(after).number
        given = [a for a in plain if isinstance(a, ndarray)]
        homes = {id(storage.owner_of(a)): self.known[id(a)].home for a in given}
        outs = []
        for result in results:
            fresh = result is not None and id(result) not in self.known
            outs.append(self._out(result, homes.get(id(storage.owner_of(result)))) if fresh else None)
        scope = state.scope
        forward = scope.forward() if isinstance(scope, BackwardScope) else None
        place = forward.site if forward is not None else provenance.site(4)
        self.rows.append(row | {"cast": cast, "outs": outs, "scope": str(scope or ""),
                                "place": provenance.describe(place)}
                         | ({"backward_of": forward.op.name} if forward is not None else {}))  # fmt: skip

    def _out(self, result, home):
        made = self._number(result, home)
        out = {"number": made.number, "type": f"{result.dtype.name}{list(result.shape)}", "checksum": made.checksum}
        return out | ({"value": self._keep(result)} if self.values else {})

    # -------------------------------------------------- other things that happen to arrays

    def call_function(self, function, args, kwargs):
        """A user's Function: its operations are recorded one by one."""
        return function._apply(args, kwargs)

    def write(self, target, result):
        """``result`` goes into the memory of ``target``."""
        source = result.array if isinstance(result, Tensor) else np.asarray(result)
        known = self._known(target.array)
        self.rows.append({"write": known.number, "source": self._known(source).number,
                          "place": provenance.describe(provenance.site())})  # fmt: skip
        self._written(known)
        after = np.empty_like(target.array)
        np.copyto(after, source, casting="unsafe")
        known.checksum, known.writes = _checksum(after), self.writes[known.home]

    def copied(self, source, made):
        """The engine has copied an array."""
        self.rows.append({"copy": self._known(source).number, "made": self._number(made).number})

    def convert(self, data, made):
        """A tensor was made of ``data``."""
        source = data.array if isinstance(data, Tensor) else data
        if isinstance(source, ndarray) and id(source) in self.known and id(made) not in self.known:
            self.rows.append({"copy": self._known(source).number, "made": self._number(made).number,
                              "dtype": made.dtype.str})  # fmt: skip

    def accumulate(self, leaf, gradient):
        """Backward adds to the ``grad`` of a leaf: by operations, which are seen."""
        self.leaves[id(leaf)] = leaf
        if leaf._grad is not None:
            leaf._grad = leaf._grad + gradient
        elif gradient.tracks:
            leaf._grad = gradient
        else:
            leaf._grad = wrap(gradient.array.copy())
            self.copied(gradient.array, leaf._grad.array)
        for hook in list((leaf.after_hooks or {}).values()):
            hook(leaf)
        return True

    def enter(self, module):
        """A module is called: its parameters and buffers lend their names."""
        if hasattr(module, "named_parameters"):
            for name, tensor in (*module.named_parameters(), *module.named_buffers()):
                self.leaves.setdefault(id(tensor), tensor)
                if id(tensor.array) not in self.known:
                    self.names.setdefault(name, self._known(tensor.array).number)

    # -------------------------------------------------- the end

    def _name_variables(self, frame):
        """Variables of the user's code that hold tensors of the step, and the gradients of named leaves."""
        held = variables_of(frame) if provenance.written_by_user(frame.f_code.co_filename) else []
        for name, value in held:
            if isinstance(value, Tensor) and id(value.array) in self.known:
                self.names.setdefault(name, self.known[id(value.array)].number)
                self.leaves.setdefault(id(value), value)
        numbers = {number: name for name, number in reversed(self.names.items())}
        for leaf in self.leaves.values():
            known = self.known.get(id(leaf.array))
            own = numbers.get(known.number) if known is not None else None
            if own and leaf._grad is not None and id(leaf._grad.array) in self.known:
                self.names.setdefault(f"{own}.grad", self.known[id(leaf._grad.array)].number)

    def _write_file(self, error):
        arrays = {known.number: known.array for known in self.known.values()}
        for number in self.names.values():
            self._known(arrays[number])  # what has changed past the engine since it was last read
        finals = {
            name: {"number": number, "checksum": _checksum(arrays[number])} for name, number in self.names.items()
        }
        step: dict[str, Any] = {"environment": bundles.environment(), "generator": self.seeds, "names": finals,
                                "rows": self.rows}  # fmt: skip
        if error is not None:
            step["error"] = f"{type(error).__name__}: {error}"
        bundles.save(self.path, step, self.arrays)
        self.known.clear()
        self.wrapped.clear()


def _named_results(result):
    if isinstance(result, Tensor):
        return {"result": result}
    pairs = (
        result.items() if isinstance(result, dict) else enumerate(result) if isinstance(result, (tuple, list)) else ()
    )
    return {f"result_{key}": value for key, value in pairs if isinstance(value, Tensor)}


# ---------------------------------------------------------------------------------------------------- replay


@dataclass(frozen=True)
class Difference:
    """A result that is not what was recorded: at which row, by which operation, how far away where values are kept."""

    row: int
    op: str
    type: str
    scope: str
    place: str
    ulp: float | None = None

    def __str__(self):
        parts = [f"operation {self.row}: {self.op} -> {self.type}"]
        parts += [f"in module: {self.scope}"] if self.scope else []
        parts += [f"at {self.place}"] if self.place else []
        parts += [f"up to {self.ulp:.3g} ulp away from what was recorded"] if self.ulp is not None else []
        return "\n    ".join(parts)


@dataclass
class Replay:
    """What a replay found. ``values``: arrays by name at the end; ``differences``: results with other bits."""

    path: str
    operations: int = 0
    values: dict[str, ndarray] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def same(self) -> bool:
        """Whether every bit is what it was."""
        return not self.differences and not self.changed

    @property
    def first(self) -> Difference | None:
        """The first operation that gave other bits."""
        return self.differences[0] if self.differences else None

    def __str__(self):
        lines = [f"{self.path}: {self.operations} operations run again"]
        if self.same:
            lines.append(f"every result has the same bits; values of {len(self.values)} names")
        if self.first is not None:
            lines += [f"{len(self.differences)} results differ; the first is", f"  {self.first}"]
        if self.changed:
            lines.append(f"other values at the end: {', '.join(self.changed)}")
        if not self.same and self.elsewhere:
            lines += ["it was recorded elsewhere:", *[f"  {line}" for line in self.elsewhere]]
        if self.error:
            lines.append(f"the recorded block ended with {self.error}")
        return "\n".join(lines)

    __repr__ = __str__


def replay(path: str | os.PathLike[str]) -> Replay:
    """Run a file of `record_step` again, without the code that made it, and compare every result bit by bit.

    Gives the same bits on a machine of the same kind (processor, versions); where it does not, the result says at which
    operation first. ``replay(path).values`` holds inputs, parameters, gradients and variables by name, as they were at
    the end of the step.
    """
    step, read = bundles.load(path)
    found = Replay(os.fspath(path), error=step.get("error"))
    here = bundles.environment()
    found.elsewhere = [f"{key}: {value} then, {here.get(key)} now" for key, value in step["environment"].items()
                       if here.get(key) != value]  # fmt: skip
    memory: dict[int, ndarray] = {}
    token = quiet_on(QUIET)
    try:
        for number, row in enumerate(step["rows"]):
            found.differences += _again(row, number, memory, read)
            found.operations += "op" in row
    finally:
        quiet_off(token)
    for name, final in step["names"].items():
        found.values[name] = memory[final["number"]]
        if _checksum(memory[final["number"]]) != final["checksum"]:
            found.changed.append(name)
    return found


def _again(row, number, memory, read) -> Iterator[Difference]:
    """Do what a row says; the results that differ."""
    if "in" in row or "set" in row:
        array = bundles.unpacked(read(row["value"]["array"]), row["value"])
        if "in" in row:
            memory[row["in"]] = array
        else:
            np.copyto(memory[row["set"]], array)
    elif "write" in row:
        np.copyto(memory[row["write"]], memory[row["source"]], casting="unsafe")
    elif "copy" in row:
        made = np.array(memory[row["copy"]])
        memory[row["made"]] = made.astype(row["dtype"]) if "dtype" in row else made
    else:
        yield from _run_again(row, number, memory, read)


def _run_again(row, number, memory, read):
    op = bundles.operation(row["op"])
    arrays = [bundles.decode(a, memory.__getitem__) for a in row["args"]]
    static = {k: bundles.decode(v, memory.__getitem__) for k, v in row["static"].items()}
    if op.prepare is not None:
        static = op.prepare(arrays, static)
    if op.promote is not None:
        arrays = op.promote(arrays)
    for position, place in row["cast"].items():
        memory[place] = arrays[int(position)]
    result = op.run(*arrays, **static)
    for out, array in zip(row["outs"], result if type(result) is tuple else (result,), strict=True):
        if out is None:
            continue
        array = memory[out["number"]] = np.asarray(array)
        if f"{array.dtype.name}{list(array.shape)}" != out["type"] or _checksum(array) != out["checksum"]:
            name = f"{row['op']} (in the gradient of {row['backward_of']})" if "backward_of" in row else row["op"]
            ulp = None
            if "value" in out:
                ulp = most_ulp(array, bundles.unpacked(read(out["value"]["array"]), out["value"]))
            yield Difference(number, name, out["type"], row["scope"], row["place"], ulp)


def most_ulp(first: ndarray, second: ndarray) -> float:
    """The largest difference in units of the last place of the larger value; infinity where only one is finite."""
    if first.shape != second.shape or first.dtype.kind != "f":
        return float("inf") if first.shape != second.shape else float(np.abs(first - second).max(initial=0))
    a, b = first.astype(np.float64), second.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(all="ignore"):
        unit = np.spacing(np.maximum(np.abs(first), np.abs(second)).astype(first.dtype)).astype(np.float64)
        gap = np.where(same, 0.0, np.abs(a - b) / unit)
    return float(np.where(np.isnan(gap), np.inf, gap).max(initial=0.0))
