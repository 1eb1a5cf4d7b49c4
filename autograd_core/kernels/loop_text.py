"""The text of fused elementwise loops: a list of typed assignments becomes a readable Python file.

A :class:`Loop` says what is worked out for one element. Its *values* are numbered: the inputs, then the run-time
numbers (float64), then the steps. A step is ``(function, operands, dtype)``; an operand is the number of a value, or
the text of a constant. ``dtype`` is a NumPy name, or :data:`NUMBER` for what depends on run-time numbers alone and is
worked out once, in double precision, before the loop.

Two drivers call the body: *flat* goes through segments of contiguous memory (one array, or all the parameters of an
optimizer), *rows* through any strides and broadcasting, and closes with sums, means or extremes along the rows.
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from autograd_core.kernels import host

NUMBER = "number"

OPERATORS = frozenset(["+", "-", "*", "/", "&", "|", "^", "<<", ">>", "<", "<=", "==", "!=", ">=", ">"])
SIMD = {"where": "where", "minimum": "minimum", "maximum": "maximum", "abs": "absolute", "sqrt": "sqrt",
        "floor": "floor", "ceil": "ceil", "trunc": "trunc", "rint": "rint", "copysign": "copysign"}  # fmt: skip
LANEWISE = frozenset(["acosh", "asinh", "atanh", "cosh", "pow", "sinh"])
"""Functions that the C library works out lane by lane (`pow` in float64 alone): no quicker than NumPy's."""

SPECIAL = {
    "vmath_arithmetic": ["fmod", "remainder", "floor_divide", "nextafter", "hypot", "gcd", "lcm"],
    "vmath_inverse": ["atan", "atan2", "asin", "acos"],
    "vmath_error": ["erfc", "erfcx", "erfinv", "log_ndtr", "ndtr", "ndtri"],
    "vmath_gamma": ["lgamma", "digamma", "trigamma", "polygamma", "zeta"],
    "vmath_incomplete": ["igamma", "igammac"],
    "vmath_bessel": ["i0", "i0e", "i1", "i1e"],
}
"""Functions that NumPy lacks, or does one element after the other, by the module that holds them."""

PLAIN = {"exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "gelu_slope", "sin", "cos", "rsqrt",
         "tan", "exp2", "log2", "log10"}
VMATH = dict.fromkeys([*sorted(LANEWISE), *sorted(PLAIN)], "vmath") | {f: m for m, fs in SPECIAL.items() for f in fs}
"""The module of each function of vectors."""

REDUCTIONS = ("sum", "mean", "max", "min")


class Output(NamedTuple):
    """One result of a loop: a value, and how it is reduced over the last dimensions ("" for not at all)."""

    value: int
    reduce: str = ""


class Loop(NamedTuple):
    """What is worked out for one element; see the module's docstring. ``title`` and ``names`` are for the reader."""

    title: str
    names: tuple[str, ...]
    inputs: tuple[str, ...]
    numbers: int
    steps: tuple[tuple[str, tuple[int | str, ...], str], ...]
    outputs: tuple[Output, ...]

    @property
    def dtypes(self) -> tuple[str, ...]:
        """The dtype of every value."""
        return (*self.inputs, *[NUMBER] * self.numbers, *[step[2] for step in self.steps])

    @property
    def lanes(self) -> int:
        """Elements of one vector: as many as the narrowest floating-point type fills a register with."""
        if not set(self.dtypes) - {"bool", "uint8"}:
            return host.lanes(np.uint8)
        narrow = "float32" in self.dtypes or ("float64" not in self.dtypes and "int64" not in self.dtypes)
        return host.lanes(np.float32 if narrow else np.float64)


# ------------------------------------------------------------------------------------------------------ the loop's body


class _Writer:
    """Writes the Python text of a loop's steps."""

    def __init__(self, loop: Loop) -> None:
        self.loop, self.dtypes = loop, loop.dtypes
        first = len(loop.inputs)
        named = list(loop.names) if len(set(loop.names)) == first else [f"x{i}" for i in range(first)]
        self.names = [*named, *[f"n{i}" for i in range(loop.numbers)], *[f"v{i}" for i in range(len(loop.steps))]]

    def step(self, number: int) -> str:
        """The assignment of a step."""
        function, operands, dtype = self.loop.steps[number]
        name = self.names[len(self.loop.inputs) + self.loop.numbers + number]
        texts = [self.names[o] if isinstance(o, int) else o for o in operands]
        return f"{name} = {self._expression(function, texts, operands, dtype)}"

    def _expression(self, function: str, texts: list[str], operands: Sequence[int | str], dtype: str) -> str:
        if function in OPERATORS:
            return f"{texts[0]} {function} {texts[1]}"
        if function == "neg":
            return f"-{texts[0]}"
        if function == "not":
            return f"~{texts[0]}"
        if function == "convert":
            return f"simd.convert({texts[0]}, {type_name(dtype)})"
        if function == "full":
            return f"simd.full({texts[0]}, {vector_name(dtype)})"
        if function == "where" and dtype != NUMBER and not any(self._is_vector(o) for o in operands[1:]):
            texts[2] = f"simd.full({texts[2]}, {vector_name(dtype)})"
        module = VMATH.get(function, "simd")
        return f"{module}.{SIMD.get(function, function)}({', '.join(texts)})"

    def _is_vector(self, operand: int | str) -> bool:
        return isinstance(operand, int) and self.dtypes[operand] != NUMBER

    def body(self) -> list[str]:
        """The function of one vector of each input that returns the outputs."""
        loop = self.loop
        numbers = [self.names[i] for i in self.numbers_used()]
        lines = ["@simd.device", f"def element({', '.join([*self.names[: len(loop.inputs)], *numbers])}):"]
        lines += [f"    {self.step(i)}" for i, step in enumerate(loop.steps) if step[2] != NUMBER]
        results = [self.names[output.value] for output in loop.outputs]
        return [*lines, f"    return {', '.join(results)}{',' if len(results) == 1 else ''}"]

    def numbers_used(self) -> list[int]:
        """The values worked out before the loop that the body needs."""
        used = {o for _, operands, dtype in self.loop.steps if dtype != NUMBER for o in operands if isinstance(o, int)}
        return [i for i in sorted(used) if self.dtypes[i] == NUMBER]

    def call(self, vectors: Sequence[str]) -> str:
        """The call of ``element`` with these texts of its vectors."""
        return f"element({', '.join([*vectors, *[self.names[i] for i in self.numbers_used()]])})"

    def before(self) -> list[str]:
        """Reading the run-time numbers and what depends on them alone."""
        if not self.loop.numbers:
            return []
        first = len(self.loop.inputs)
        lines = ["numbers = simd.pointer(a[0], FLOAT64)"]
        lines += [f"{self.names[first + i]} = numbers[{i}]" for i in range(self.loop.numbers)]
        return lines + [self.step(i) for i, step in enumerate(self.loop.steps) if step[2] == NUMBER]


def type_name(dtype: str) -> str:
    """The name that a scalar type has in a generated file; booleans are bytes in memory and masks in registers."""
    return dtype.upper()


def vector_name(dtype: str) -> str:
    """The name that a vector type has in a generated file."""
    return f"V_{dtype.upper()}"


def _in_memory(dtype: str) -> str:
    return "uint8" if dtype == "bool" else dtype


def _loaded(text: str, dtype: str) -> str:
    return f"{text} != 0" if dtype == "bool" else text


def _stored(text: str, dtype: str) -> str:
    return f"simd.convert({text}, UINT8)" if dtype == "bool" else text


IMPORT = "from autograd_core.kernels.lazy import "


def _header(loop: Loop, lanes: int) -> list[str]:
    kinds = sorted({_in_memory(d) for d in loop.dtypes if d != NUMBER} | {"float64", "int64"})
    given = ", ".join(f"{n} {d}" for n, d in zip(_Writer(loop).names, loop.inputs, strict=False))
    lines = [f"# {line}" for line in loop.title.splitlines()]
    lines += [f"# inputs: {given}" + (f"; run-time numbers: {loop.numbers}" if loop.numbers else "")]
    modules = sorted({"simd", *[VMATH[step[0]] for step in loop.steps if step[0] in VMATH]})
    lines += ["import numpy as np", "", f"{IMPORT}{', '.join(modules)}", "", f"LANES = {lanes}"]
    for kind in kinds:
        lines += [f"{type_name(kind)} = simd.scalar(np.{kind})",
                  f"{vector_name(kind)} = simd.vector(np.{kind}, LANES)"]  # fmt: skip
    if "bool" in loop.dtypes:
        lines += ["V_BOOL = simd.vector(np.bool_, LANES)"]
    return [*lines, "", ""]


# ------------------------------------------------------------------------------------------------------- flat segments

FLAT_HEAD = 3  # words before the segments: numbers, segments, block


def flat_source(loop: Loop, lanes: int, targets: tuple[int | None, ...]) -> str:
    """The file of a loop over segments of contiguous memory.

    Context: address of the numbers, how many segments, elements a unit; then for each segment its first unit, its
    length, the addresses of the inputs and of the outputs that are not written over an input (``targets``: which).
    """
    writer, first = _Writer(loop), 2 + len(loop.inputs)
    fresh = [i for i, target in enumerate(targets) if target is None]
    width = first + len(fresh)
    names = writer.names[: len(loop.inputs)]
    lines = [*_header(loop, lanes), *writer.body(), "", "", "def kernel(context, start, stop):",
             "    a = simd.words(context)", *[f"    {line}" for line in writer.before()],
             "    segments, block = a[1], a[2]",
             "    segment, beyond = 0, segments",
             "    while beyond - segment > 1:",
             "        middle = (segment + beyond) >> 1",
             f"        if a[{FLAT_HEAD} + {width} * middle] <= start:",
             "            segment = middle",
             "        else:",
             "            beyond = middle",
             "    for unit in range(start, stop):",
             f"        while segment + 1 < segments and a[{FLAT_HEAD} + {width} * (segment + 1)] <= unit:",
             "            segment += 1",
             f"        at = {FLAT_HEAD} + {width} * segment",
             "        begin = (unit - a[at]) * block",
             "        end = min(begin + block, a[at + 1])"]  # fmt: skip
    for i, (name, dtype) in enumerate(zip(names, loop.inputs, strict=True)):
        lines += [f"        p_{name} = simd.pointer(a[at + {2 + i}], {type_name(_in_memory(dtype))})"]
    places = []
    for i, target in enumerate(targets):
        dtype = _in_memory(loop.dtypes[loop.outputs[i].value])
        places.append(f"p_{names[target]}" if target is not None else f"o_{i}")
        if target is None:
            lines += [f"        o_{i} = simd.pointer(a[at + {first + fresh.index(i)}], {type_name(dtype)})"]
    kinds = [vector_name(_in_memory(d)) for d in loop.inputs]
    loads = [(f"simd.load(p_{n}, i, {k})", f"simd.load_part(p_{n}, i, end - i, {k})")
             for n, k in zip(names, kinds, strict=True)]  # fmt: skip
    stores = []
    for i, output in enumerate(loop.outputs):
        value = _stored(f"r{i}", loop.dtypes[output.value])
        stores.append((f"simd.store({places[i]}, i, {value})", f"simd.store_part({places[i]}, i, {value}, end - i)"))
    lines += [f"        {line}" for line in _vectors(loop, writer, loads, stores)]
    return "\n".join(lines) + "\n"


def _vectors(loop: Loop, writer: _Writer, loads: Sequence[tuple[str, str]], stores: Sequence[tuple[str, str]],
             ) -> list[str]:  # fmt: skip
    """The loop over the vectors from ``begin`` to ``end``; of ``loads`` and ``stores`` the second is for a last part.

    What is worked out stands in it once, or there would be twice as much to compile.
    """
    names, results = writer.names[: len(loop.inputs)], [f"r{i}" for i in range(len(loop.outputs))]

    def chosen(pairs: Sequence[tuple[str, str]]) -> list[str]:
        same, other = [a for a, b in pairs if a == b], [(a, b) for a, b in pairs if a != b]
        if not other:
            return same
        return [*same, "if i + LANES <= end:", *[f"    {a}" for a, _ in other],
                "else:", *[f"    {b}" for _, b in other]]  # fmt: skip

    given = [_loaded(f"x_{name}", dtype) for name, dtype in zip(names, loop.inputs, strict=True)]
    body = [*chosen([(f"x_{n} = {a}", f"x_{n} = {b}") for n, (a, b) in zip(names, loads, strict=True)]),
            f"{', '.join(results)}{',' if len(results) == 1 else ''} = {writer.call(given)}",
            *chosen(stores)]  # fmt: skip
    return ["for i in range(begin, end, LANES):", *[f"    {line}" for line in body]]


# ------------------------------------------------------------------------------------------------------ any strides

ROWS_HEAD = 4  # words before the sizes: numbers, length of a row, block, blocks a row
IDENTITY = {"sum": "0", "mean": "0", "max": "-np.inf", "min": "np.inf"}


def _identity(reduce: str, dtype: str) -> str:
    if dtype.startswith("float") or reduce in ("sum", "mean"):
        return IDENTITY[reduce]
    return str(np.iinfo(dtype).min if reduce == "max" else np.iinfo(dtype).max)


def rows_source(loop: Loop, lanes: int, dims: int, modes: str) -> str:
    """The file of a loop over rows with any strides.

    ``modes`` says how each input lies along a row: contiguous (c), one element for all (s), strided (g). Context:
    address of the numbers, length of a row, elements a unit, units a row; the sizes of the ``dims`` dimensions of rows;
    for each input its address, its stride along a row (in elements) and those of the dimensions (in bytes); the
    addresses of the outputs; for each reduced output 1 over the count that a mean divides by.
    """
    writer, head = _Writer(loop), ROWS_HEAD + dims
    names = writer.names[: len(loop.inputs)]
    width = 2 + dims
    lines = [*_header(loop, lanes), *writer.body(), "", "", "def kernel(context, start, stop):",
             "    a = simd.words(context)", *[f"    {line}" for line in writer.before()],
             "    length, block, blocks = a[1], a[2], a[3]",
             "    row = start // blocks",
             "    piece = start - row * blocks"]  # fmt: skip
    lines += [f"    {line}" for line in _row_places(names, dims, head, width)]
    lines += ["    for unit in range(start, stop):",
              "        begin = piece * block",
              "        end = min(begin + block, length)"]  # fmt: skip
    for i, (name, dtype) in enumerate(zip(names, loop.inputs, strict=True)):
        lines += [f"        p_{name} = simd.pointer(at_{name}, {type_name(_in_memory(dtype))})"]
        if modes[i] == "g":
            lines += [f"        step_{name} = a[{head + width * i + 1}]"]
    outputs = head + width * len(names)
    for i, output in enumerate(loop.outputs):
        dtype = loop.dtypes[output.value]
        if output.reduce:
            lines += [f"        total{i} = simd.full({_identity(output.reduce, dtype)}, {vector_name(dtype)})"]
        else:
            start = f"simd.pointer(a[{outputs + i}], {type_name(_in_memory(dtype))})"
            lines += [f"        o_{i} = simd.advance({start}, row * length)"]
    lines += [f"        {line}" for line in _vectors(loop, writer, _row_loads(loop, names, modes), _row_stores(loop))]
    for i, output in enumerate(loop.outputs):
        if output.reduce:
            lines += [f"        {_row_total(i, output, loop.dtypes[output.value], outputs)}"]
    lines += ["        piece += 1", "        if piece == blocks:", "            piece = 0", "            row += 1"]
    lines += [f"            {line}" for line in _next_row(names, dims, head, width)]
    return "\n".join(lines) + "\n"


def _row_places(names: Sequence[str], dims: int, head: int, width: int) -> list[str]:
    """Where the inputs of the first row lie: by division, once a chunk."""
    lines = [f"at_{name} = a[{head + width * i}]" for i, name in enumerate(names)]
    lines += ["rest = row"] * (dims > 0)
    for d in reversed(range(dims)):
        size = f"a[{ROWS_HEAD + d}]"
        lines += [f"place_{d} = rest % {size}", f"rest = rest // {size}"]
        lines += [f"at_{name} += place_{d} * a[{head + width * i + 2 + d}]" for i, name in enumerate(names)]
    return lines


def _next_row(names: Sequence[str], dims: int, head: int, width: int) -> list[str]:
    """Where the inputs of the next row lie: by counting, as division takes longer than a short row."""
    lines: list[str] = []
    for d in range(dims):
        size = f"a[{ROWS_HEAD + d}]"
        strides = [f"a[{head + width * i + 2 + d}]" for i in range(len(names))]
        inner = [f"place_{d} += 1", *[f"at_{n} += {s}" for n, s in zip(names, strides, strict=True)]]
        if d:  # the first dimension has no end before the last row
            back = [f"at_{n} -= {size} * {s}" for n, s in zip(names, strides, strict=True)]
            inner += [f"if place_{d} == {size}:", *[f"    {line}" for line in (f"place_{d} = 0", *back, *lines)]]
        lines = inner
    return lines


def _row_loads(loop: Loop, names: Sequence[str], modes: str) -> list[tuple[str, str]]:
    found = []
    for name, dtype, mode in zip(names, loop.inputs, modes, strict=True):
        kind = vector_name(_in_memory(dtype))
        if mode == "s":
            text = f"simd.full(p_{name}[0], {kind})"
            found.append((text, text))
        elif mode == "g":
            texts = [f"simd.gather(p_{name}, ({index}) * step_{name}, {kind})"
                     for index in ("i + simd.iota(V_INT64)", "simd.minimum(i + simd.iota(V_INT64), end - 1)")]
            found.append((texts[0], texts[1]))
        else:
            found.append((f"simd.load(p_{name}, i, {kind})", f"simd.load_part(p_{name}, i, end - i, {kind})"))
    return found


def _row_stores(loop: Loop) -> list[tuple[str, str]]:
    found = []
    for i, output in enumerate(loop.outputs):
        dtype, value = loop.dtypes[output.value], f"r{i}"
        if output.reduce:
            inside = f"simd.where(simd.iota(V_INT64) < end - i, {value}, {_identity(output.reduce, dtype)})"
            totals = [_combined(output.reduce, f"total{i}", v) for v in (value, inside)]
            found.append((f"total{i} = {totals[0]}", f"total{i} = {totals[1]}"))
        else:
            value = _stored(value, dtype)
            found.append((f"simd.store(o_{i}, i, {value})", f"simd.store_part(o_{i}, i, {value}, end - i)"))
    return found


def _combined(reduce: str, a: str, b: str) -> str:
    return f"{a} + {b}" if reduce in ("sum", "mean") else f"simd.{reduce}imum({a}, {b})"


def _row_total(i: int, output: Output, dtype: str, outputs: int) -> str:
    fold = {"sum": "add", "mean": "add"}.get(output.reduce, output.reduce)
    wide = partial_dtype(output.reduce, dtype)
    return (f"simd.pointer(a[{outputs + i}], {type_name(wide)})[unit] = "
            f"{type_name(wide)}(simd.reduce_{fold}(total{i}))")  # fmt: skip


def partial_dtype(reduce: str, dtype: str) -> str:
    """The dtype of partial results: sums of floats in float64."""
    return "float64" if reduce in ("sum", "mean") and dtype.startswith("float") else dtype
