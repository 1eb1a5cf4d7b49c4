"""One record an operation: everything that is known about an op stands where it is defined, and the rest is derived.

    @op(elementwise, vjp=[lambda g, out: g * (1 - out * out)], scalar="tanh(input)", samples=[real(3, 4)], onnx="Tanh")
    def tanh(input):
        \"\"\"Hyperbolic tangent.\"\"\"
        return np.tanh(input)

From it come the public function ``ag.tanh``, the methods ``Tensor.tanh`` and ``Tensor.tanh_``, ``out=``, what backward
saves, the tests, the benchmark row, the stub and the documentation.

The decorated function works on arrays. Its positional parameters are arrays (or numbers, or None), its keyword-only
parameters are settings. A gradient rule names what it needs among its parameters, and that is what is saved:

    ``g``                         gradient of the output (``g`` is a tuple ``gs`` where there are several outputs)
    ``out`` / the output's name   the output; with ``outputs=("values", "indices")`` these names
    a parameter's name            that input, or that setting
    ``x_shape``                   only the shape of input ``x``
    a ``hidden`` name             an output that the function returns behind the visible ones
    ``needs``                     which inputs want a gradient, as a tuple of bools
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, wraps
from inspect import Parameter
from inspect import signature as signature_of
from typing import Any

import numpy as np

from . import doors, provenance
from .bodies import LARGE, fused, fused_runner, kernel_runner
from .doors import compiled
from .errors import placed, placing
from .inplace import in_place, write_back, write_out
from .modes import state
from .shapes import ndarray, numpy_dtype, promote, promote_to_float, same_dtype
from .tensor import Tensor, apply

OPS: dict[str, Op] = {}
"""Every record by its qualified name: ``tanh``, ``linalg.inv``, ``nn.functional.conv2d``."""


@dataclass(frozen=True)
class Family:
    """What the members of a family of operations have in common."""

    name: str
    promote: Callable | None = None
    inplace: bool = False
    colour: str = "#dddddd"
    purpose: str = ""

    def __repr__(self):
        return self.name


elementwise = Family("elementwise", promote_to_float, True, "#cfe8ff", "one element at a time, results are floats")
arithmetic = Family("arithmetic", promote, True, "#cfe8ff", "one element at a time, in the common type of the inputs")
comparison = Family("comparison", promote, True, "#e4e4f7", "one element at a time, results are booleans")
reduction = Family("reduction", None, False, "#ffe3c2", "fewer dimensions out than in")
view = Family("view", None, False, "#e9e9e9", "another look at the same memory")
index = Family("index", None, False, "#efe6d5", "elements picked, placed or put in order")
contraction = Family(
    "contraction", same_dtype, False, "#d5f0d0", "products summed over dimensions: matmul, convolution"
)
network = Family("network", None, False, "#fbd9e5", "layers: pooling, normalisation, attention, recurrence, losses")
random = Family("random", None, False, "#f3e0ff", "draws from a generator")
creation = Family("creation", None, False, "#eeeeee", "new tensors")
composite = Family("composite", None, False, "#ffffff", "written in terms of other operations; no rule of its own")

FUSED = (elementwise, arithmetic)
"""Families whose large arrays are worked on in fused loops, gradients included."""

FAMILIES = {f.name: f for f in vars().copy().values() if isinstance(f, Family)}


@dataclass(frozen=True)
class Kernel:
    """Where the fast version of an op lives: ``module:planner`` in ``kernels/``, used from ``above`` elements on.

    Argument number ``by`` decides, by its size and type; ``when`` of all arguments says whether the kernel may be used.
    ``small``, an expression of the arguments ``{0}``, ``{1}``, says beyond ``above`` where the body is faster.
    For compiled programs, ``indices`` of all arguments' shapes says the same where indices alone decide: (which
    argument holds them, the limit below which they must lie, one that may occur all the same).
    """

    path: str
    above: int = 4096
    when: Callable | None = None
    by: int = 0
    indices: Callable | None = None
    small: str = ""


class VjpPlan:
    """For one op and one set of inputs that want gradients: what to save, and how to call the rules."""

    __slots__ = ("edges", "holds", "keep", "positions", "rules", "save")

    def __init__(self, keep, save, edges, rules, positions):
        self.keep, self.save, self.edges, self.rules, self.positions = keep, save, edges, rules, positions
        self.holds = any(kind[0] != "shape" for kind in keep)  # whether there are values to free after backward


@dataclass(eq=False)
class Op:
    """The record of one operation."""

    name: str
    function: Callable
    family: Family
    vjp: Any = None
    signature: str = ""
    samples: list = field(default_factory=list)
    scalar: str | None = None
    kernel: Kernel | None = None
    prepare: Callable | None = None
    promote: Callable | None = None
    outputs: Any = None
    output_names: tuple = ()
    hidden: tuple = ()
    constant_outputs: tuple = ()
    view: bool = False
    composite: Callable | None = None
    batch: Any = None
    onnx: str | None = None
    namespace: str = ""
    method: bool = False
    inplace: bool = False
    out: bool = True
    aliases: tuple = ()
    parameters: tuple = ()
    variadic: str | None = None
    settings: dict = field(default_factory=dict)
    plans: dict = field(default_factory=dict)
    foreign: bool = False  # a user's Function
    run: Any = None
    door: Any = None
    public: Any = None
    public_call: Any = None

    @property
    def qualified(self) -> str:
        """The name with its namespace, as in ``nn.functional.conv2d``."""
        return f"{self.namespace}.{self.name}" if self.namespace else self.name

    @property
    def title(self) -> str:
        """The name in CamelCase, for ``grad_fn``."""
        return "".join(part.capitalize() for part in self.name.split("_"))

    @property
    def differentiable(self) -> bool:
        """Whether gradients pass: by a rule, or through the operations that a composite is made of."""
        return self.vjp is not None or self.composite is not None

    @property
    def doc(self) -> str:
        """The docstring."""
        return self.function.__doc__ or ""

    # -------------------------------------------------- gradient rules

    def plan(self, mask: int, count: int) -> VjpPlan:
        """What to save and which rules to call when the inputs with a bit in ``mask`` (of ``count``) want gradients."""
        needs = tuple(bool(mask >> i & 1) for i in range(count))
        keep: list = []
        rules: list = []
        order = [i for i, need in enumerate(needs) if need]
        if callable(self.vjp):
            positions = order
            rules.append((None, self._caller(self.vjp, keep, needs)))
        else:
            positions = [i for i in order if i < len(self.vjp) and self.vjp[i] is not None] if self.vjp else order
            rules += (
                [(slot, self._caller(self.vjp[i], keep, needs)) for slot, i in enumerate(positions)] if self.vjp else []
            )
        text = "".join(f"({expression}), " for _, expression in keep)
        save = compiled(f"lambda a, r: ({text})", np=np)
        if count > MANY:
            edges = _edges_of_all
        else:
            ends = "".join(f"(t[{i}].node or t[{i}], t[{i}].index), " for i in positions)
            edges = compiled(f"lambda t: ({ends})")
        made = VjpPlan([kind for kind, _ in keep], save, edges, rules, positions)
        if count <= MANY:  # longer lists come in too many lengths
            self.plans[mask, count] = made
        return made

    def _caller(self, rule, keep, needs):
        words = self._words(rule, keep)
        call = f"({', '.join(words)})"
        if "g" not in words or self.outputs is not None or self.family not in FUSED:
            return compiled(f"lambda g, s, st: rule{call}", rule=rule, needs=needs)
        large = fused(lambda fusion: fusion.fused_rule(self, rule), rule)
        text = f"lambda g, s, st: rule{call} if g.nbytes < {LARGE} else large{call}"
        return compiled(text, rule=rule, large=large, needs=needs)

    def _words(self, rule, keep):
        """What to hand to each parameter of a rule; entries of ``keep`` are added as it asks for saved values."""
        words = []
        for name in rule.__code__.co_varnames[: rule.__code__.co_argcount]:
            if name in ("g", "gs"):
                words.append("g")
            elif name == "needs":
                words.append("needs")
            elif name in self.settings and name not in self.parameters:
                words.append(f"st[{name!r}]")
            else:
                found = self._source(name)
                if found not in keep:
                    keep.append(found)
                words.append(f"s[{keep.index(found)}]")
        return words

    def _source(self, name):
        """(kind, expression) of what a rule's parameter ``name`` stands for, given inputs ``a`` and results ``r``."""
        if name in self.parameters:
            position = self.parameters.index(name)
            return ("input", position), f"a[{position}]"
        if name == self.variadic:
            first = len(self.parameters)
            return ("inputs", first), f"tuple(a[{first}:])"
        if name.endswith("_shape") and name[:-6] in self.parameters:
            array = f"a[{self.parameters.index(name[:-6])}]"
            return ("shape",), f"{array}.shape if type({array}) is np.ndarray else np.shape({array})"
        if name.endswith("_shapes") and name[:-7] == self.variadic:
            return ("shape",), f"tuple([np.shape(v) for v in a[{len(self.parameters)}:]])"
        if name in self.output_names:
            return ("output", self.output_names.index(name)), f"r[{self.output_names.index(name)}]"
        if name == "outs":
            return ("outputs",), "r"
        if name in self.hidden:
            return ("value",), f"r[{self.hidden.index(name) - len(self.hidden)}]"
        raise TypeError(f"{self.qualified}: a gradient rule asks for {name!r}, which is none of g, needs, out, "
                        f"{self.parameters}, {self.variadic}, {tuple(self.settings)}, {self.hidden}")  # fmt: skip

    def check_rules(self):
        """Raise where a rule asks for a name that does not exist."""
        for rule in [self.vjp] if callable(self.vjp) else self.vjp or ():
            if rule is not None:
                self._words(rule, [])

    # -------------------------------------------------- running

    def plain(self, args, static):
        """The op on arrays and numbers alone, without Tensors: what gradient rules get in an ordinary backward."""
        self.check_given(args)
        return apply(self, args, static, watched=False, lifted=False)

    def check_given(self, args):
        """Raise where no argument is a Tensor or an array."""
        if args and type(args[0]) is not ndarray and not any(isinstance(a, (ndarray, np.generic)) for a in args):
            names = [*self.parameters, *[self.variadic] * (len(args) - len(self.parameters))]
            got = ", ".join(f"{n}: {type(a).__name__}" for n, a in zip(names, args, strict=False))
            raise placed(TypeError(f"{self.name}: at least one argument must be a Tensor, got {got}"))

    def either(self, static, *args):
        """`apply` on Tensors, `plain` on arrays: the door of any record."""
        if any([isinstance(a, Tensor) for a in args]) or (not args and state.watch is not None and state.watch.steers):
            return apply(self, args, static)
        return self.plain(args, static)

    def open(self, static, *args):
        """Run the operation for the first time: write its door out, which everybody passes from now on."""
        fixed = self.parameters and not self.variadic
        self.door = self.public.__globals__["door"] = doors.door(self) if fixed else self.either
        return self.door(static, *args)

    def __repr__(self):
        return f"<op {self.qualified}({self.signature}) [{self.family}]>"


MANY = 64
"""Inputs up to which what to do for a set of them that want gradients is kept for the next call."""


def _edges_of_all(args):
    """The edges of an operation on a long list of tensors, all of whose inputs have a gradient."""
    return tuple([(t.node or t, t.index) for t in args if isinstance(t, Tensor) and t.tracks])


def _parameters(function):
    code = function.__code__
    names = code.co_varnames
    positional = names[: code.co_argcount]
    keyword = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    variadic = names[code.co_argcount + code.co_kwonlyargcount] if code.co_flags & 4 else None
    return positional, keyword, variadic


def _own_signature(function):
    """The signature text of a body: its positional parameters, then its settings, all of which may be positional."""
    positional, keyword, variadic = _parameters(function)
    defaults = function.__defaults__ or ()
    texts = list(positional)
    for k, value in enumerate(defaults):
        texts[len(positional) - len(defaults) + k] += f"={value!r}"
    if variadic:
        texts.append("*" + variadic)
    given = function.__kwdefaults__ or {}
    needed = [k for k in keyword if k not in given]
    return ", ".join([*texts, *needed, *[f"{k}={given[k]!r}" for k in keyword if k in given]])


def _names_in(signature):
    """(names, the one with a star or None, whether keyword-only names follow) of a signature text."""
    plain = re.sub(r"\([^)]*\)|\[[^\]]*\]|'[^']*'|\"[^\"]*\"", "", signature)  # defaults that may hold commas
    words = [word.partition("=")[0].strip() for word in plain.split(",")]
    starred = next((word[1:] for word in words if word.startswith("*") and word != "*"), None)
    names = [word for word in words if word and not word.startswith("*") and word != "/"]
    return names, starred, any(word.startswith("*") for word in words)


def op(family: Family, *, vjp=None, signature=None, samples=(), scalar=None, kernel=None, prepare=None, promote=None,
       outputs=None, hidden=(), constant_outputs=(), view=False, composite=None, batch=None, onnx=None, namespace="",
       method=None, inplace=None, out=None, aliases=(), name=None):  # fmt: skip
    """Register the decorated function as an operation; returns its public function. See the module's docstring.

    ``vjp``: a list with one rule an array argument (None: no gradient), or one rule for all that returns a tuple, or
    ``()`` with ``composite``: its gradient is that of the composite. ``prepare(arrays, settings)`` returns normalised
    settings. ``promote``: how inputs are brought to a common type, the family's by default, False for none.
    ``outputs``: names of several outputs. ``constant_outputs``: indices of those that never have a gradient. ``out``:
    whether the public function takes ``out=``; primitives do by default, composites where it is said.
    """

    def register(function):
        known = name or function.__name__
        positional, keyword, variadic = _parameters(function)
        names = (outputs.split() if isinstance(outputs, str) else list(outputs)) if outputs else ["out"]
        record = Op(
            known, function, family, vjp, "", list(samples), scalar, kernel, prepare,
            family.promote if promote is None else promote or None,
            namedtuple(known, names) if outputs else None, tuple(names), tuple(hidden), tuple(constant_outputs), view,
            composite, batch, onnx, namespace, aliases=tuple(aliases), parameters=tuple(positional), variadic=variadic,
            settings=dict.fromkeys(keyword),
        )  # fmt: skip
        fuses = scalar is not None and family in (*FUSED, comparison) and not variadic
        record.run = kernel_runner(record, kernel) if kernel else fused_runner(record) if fuses else function
        record.signature = signature or _own_signature(function)
        is_composite = family.name == "composite"
        first = (record.signature.replace("*", "").split(",")[0].split("=")[0]).strip()
        record.method = (namespace == "" and first == "input") if method is None else method
        record.inplace = (record.method and family.inplace) if inplace is None else inplace
        record.out = not is_composite if out is None else out
        whole = _with_out(function) if out else function
        record.public = placing(whole) if is_composite else _public(record, function)
        record.public_call, record.door = record.public, record.open
        if not is_composite:
            record.check_rules()
        record.public.record = record
        _publish(record)
        return record.public

    return register


def _public(record, function):
    names, vararg, has_star = _names_in(record.signature)
    missing = [n for n in (*record.parameters, *record.settings) if n not in names and n != vararg]
    known = {*record.parameters, *record.settings, "out", "inplace"}
    unknown = [n for n in names if n not in known]
    if missing or unknown:
        raise TypeError(f"{record.qualified}: the signature lacks {missing} and has unknown {unknown}")
    out = ("" if has_star else ", *") + ", out=None" if record.out and "out" not in names else ""
    arrays = "".join(f"{n}, " for n in record.parameters)
    if record.variadic and vararg == record.variadic:
        arrays += f"*{vararg}, "
    given = record.signature
    values = {n: n for n in record.settings}
    if vararg in values:  # sizes come as f(2, 3) or f((2, 3)), and by name
        given = given.replace(f"*{vararg}", f"*{vararg}_, {vararg}=None")
        values[vararg] = f"{vararg}_ if {vararg} is None else {vararg}"
    settings = ", ".join(f"{n!r}: {v}" for n, v in values.items())
    lines = [
        f"def public({given}{out}):",
        f"    result = door({{{settings}}}, {arrays})",
    ]
    if "inplace" in names and "inplace" not in record.settings:
        lines += ["    if inplace:", f"        return write_back({names[0]}, result, record.name)"]
    if out:
        lines.append("    return result if out is None else write_out(out, result)")
    else:
        lines.append("    return result")
    space = {"door": record.open, "record": record, "write_out": write_out, "write_back": write_back}
    exec(_module("\n".join(lines)), space)  # noqa: S102 (the text holds parameter names of our own records alone)
    made: Any = space["public"]
    made.__name__ = record.name
    made.__code__ = made.__code__.replace(co_name=record.name, co_qualname=record.name,
                                          co_filename=f"{provenance.GENERATED}{record.qualified}>")  # fmt: skip
    made.__doc__ = function.__doc__
    made.__module__ = "autograd_core" + (
        f".{record.namespace}" if record.namespace and "nn" not in record.namespace else ""
    )
    made.__qualname__ = record.name
    return made


@cache
def _module(text):
    """The code of a module; many records have the same signature, and importing is to be fast."""
    return compile(text, f"{provenance.GENERATED}public>", "exec")


def _with_out(function):
    """A composite that also takes ``out=``: where its result is written."""

    @wraps(function)
    def public(*args, out=None, **kwargs):
        result = function(*args, **kwargs)
        return result if out is None else write_out(out, result)

    plain = signature_of(function)
    added = Parameter("out", Parameter.KEYWORD_ONLY, default=None)
    public.__signature__ = plain.replace(parameters=[*plain.parameters.values(), added])  # type: ignore[attr-defined]
    return public


def _publish(record):
    for known in (record.name, *record.aliases):
        qualified = f"{record.namespace}.{known}" if record.namespace and "." not in known else known
        if qualified in OPS:
            raise TypeError(f"two records are named {qualified}")
        OPS[qualified] = record
        if "." in known:
            continue
        if record.method and not hasattr(Tensor, known):
            setattr(Tensor, known, record.public)
        if record.inplace:
            setattr(Tensor, known + "_", in_place(record.public, known))


def ops_by_public_name() -> dict[str, Op]:
    """The records that users see, by qualified name, without aliases and internal ones."""
    return {k: r for k, r in OPS.items() if k == r.qualified and r.namespace != "internal"}


def dtype_setting(dtype, default=None):
    """A ``dtype=`` argument as a NumPy dtype (or ``default``)."""
    return default if dtype is None else numpy_dtype(dtype)


def namespace(prefix: str) -> dict[str, Callable]:
    """The public functions whose qualified name is ``prefix.name``, by that name."""
    start = f"{prefix}." if prefix else ""
    return {k[len(start) :]: r.public for k, r in OPS.items() if k.startswith(start) and "." not in k[len(start) :]}
