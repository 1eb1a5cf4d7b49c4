"""Layout choice: images between convolutions are kept with channels last where these have a quicker kernel for that.

A program's images are [N, C, H, W]. Convolutions of 3 x 3 that step by one run on [N, H, W, C] (`kernels.conv_last`);
batch norm and elementwise instructions follow the layout of what they read, so that nothing is turned between two
convolutions, forward and backward. Where another instruction reads or makes an image it is turned by an instruction of
its own, ``channels_last`` or ``channels_first``. A program stays as it is unless the elements that its quick
convolutions read and write are at least `GAIN` times those that would be turned.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

import numpy as np

from .fusion import WITHOUT_SCALAR
from .kernels import conv_last
from .kernels.plan import execute
from .program import Instruction, Program, Value
from .registry import OPS, Kernel, Op, contraction, view

GAIN = 1.5
"""How many elements must be convolved with channels last for one that is turned; measured on ResNets."""

# ---------------------------------------------------------------------------------------------------- operations


def _turned(x, last):
    return np.ascontiguousarray(np.moveaxis(x, 1, -1) if last else np.moveaxis(x, -1, 1))


def _own(name, planner, family, function):
    """The record of an operation on images with channels last, which its planner or else ``function`` does."""

    def run(*arrays, **static):
        found = execute(getattr(conv_last, planner), arrays, **static)
        return function(*arrays, **static) if found is NotImplemented else found

    return Op(name, function, family, run=run, kernel=Kernel(f"conv_last:{planner}"))


def _settings(padding):
    return {"stride": (1, 1), "padding": padding, "dilation": (1, 1), "groups": 1}


def _convolution(x, weight, bias, *, padding):
    return _turned(OPS["internal.convolution"].run(_turned(x, False), weight, bias, **_settings(padding)), True)


def _convolution_input(grad, weight, *, size, padding):
    found = OPS["internal.convolution_input"].run(_turned(grad, False), weight, size=size, **_settings(padding))
    return _turned(found, True)


def _convolution_weight(grad, x, *, padding):
    return OPS["internal.convolution_weight"].run(_turned(grad, False), _turned(x, False), kernel_size=(3, 3),
                                         **_settings(padding))  # fmt: skip


TO_LAST = _own("channels_last", "turn", view, lambda x, *, last: _turned(x, last))
TO_FIRST = replace(TO_LAST, name="channels_first")
LAST = {
    "convolution": _own("convolution_last", "plan_convolution", contraction, _convolution),
    "convolution_input": _own("convolution_input_last", "plan_convolution_input", contraction, _convolution_input),
    "convolution_weight": _own("convolution_weight_last", "plan_convolution_weight", contraction, _convolution_weight),
}
"""Convolutions and their records for channels last."""


# ---------------------------------------------------------------------------------------------------- the pass


def choose_layouts(program: Program) -> None:
    """Let images lie with channels last where that pays (see above)."""
    fast = {row for row in program.instructions if row.op.name in LAST and _is_fast(row)}
    if len(fast) < 2:
        return
    rewriting = _Rewriting(program, fast)
    for row in program.instructions:
        rewriting.add(row)
    rewriting.finish()
    if sum([_images(row) for row in fast]) >= GAIN * rewriting.turned:
        program.instructions = rewriting.rows
        check(program)


def check(program: Program) -> None:
    """Raise unless every instruction on channels last makes what follows from the shapes that it reads."""
    for row in program.instructions:
        shapes = [v.shape for v in row.operands]
        if row.op is LAST["convolution"]:
            (n, h, w, _), (o, *_) = shapes[:2]
            p, q = row.static["padding"]
            wanted: tuple = (n, h + 2 * p - 2, w + 2 * q - 2, o)
        elif row.op is LAST["convolution_input"]:
            wanted = (shapes[0][0], *row.static["size"], shapes[1][1])
        elif row.op is LAST["convolution_weight"]:
            wanted = (shapes[0][3], shapes[1][3], 3, 3)
        elif row.op in (TO_LAST, TO_FIRST):
            wanted = last_of(shapes[0]) if row.op is TO_LAST else first_of(shapes[0])
        else:
            continue
        if row.out.shape != wanted or any([v.dtype != row.out.dtype for v in row.operands]):
            raise AssertionError(f"{row.op.name} makes {row.out.type} of {', '.join([v.type for v in row.operands])}")


def last_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image with its channels last."""
    return (shape[0], *shape[2:], shape[1])


def first_of(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an image with its channels first."""
    return (shape[0], shape[-1], *shape[1:-1])


def _images(row):
    """Elements of the images that a convolution reads and writes."""
    return sum([v.size for v in (*row.operands, row.out) if v.shape[2:] != (3, 3)])


def _is_fast(row):
    """Whether a convolution has a quicker kernel for channels last."""
    static = row.static
    if row.runtime or static["groups"] != 1 or set(static["stride"] + static["dilation"]) != {1}:
        return False
    shapes = [v.shape for v in row.operands]
    if any([v.dtype != np.float32 for v in row.operands]) or len(shapes[0]) != 4:
        return False
    padding = static["padding"]
    if row.op.name == "convolution":
        image, outputs, kernel = shapes[0], shapes[1][0], shapes[1][2:]
    elif row.op.name == "convolution_input":
        image, outputs, kernel = shapes[0], shapes[1][1], shapes[1][2:]
        padding = tuple([2 - p for p in padding])
    else:
        image, outputs, kernel = shapes[1], shapes[0][1], static["kernel_size"]
    return conv_last.served(image, outputs, kernel, padding, np.dtype(np.float32))


class _Rewriting:
    """The instructions of a program with images where they lie best; values keep their names where they stay."""

    def __init__(self, program: Program, fast: set[Instruction]) -> None:
        self.program, self.fast = program, fast
        self.rows: list[Instruction] = []
        self.last: dict[Value, Value] = {}  # images of the program, with channels last
        self.first: set[Value] = set()  # of these, the ones that exist with channels first as well
        self.wanted: set[Value] = set()  # made with channels first, but better turned before anything else is done
        self.turned = 0  # elements
        self.shapes = {v.shape for row in fast for v in (*row.operands, row.out) if v.shape[2:] != (3, 3)}
        self.by_hand: dict[tuple, Value] = {}

    def add(self, row: Instruction) -> None:
        """Append an instruction as it is, or on images with channels last."""
        if row in self.fast:
            self._convolution(row)
        elif row.op.name == "standardize" and self._normalizes_images(row, row.args[0]):
            self._standardize(row)
        elif row.op.name == "standardize_backward" and self._normalizes_images(row, row.args[1]):
            self._standardize_backward(row)
        elif self._follows(row):
            self._elementwise(row)
        elif row.op.name == "sum" and self._sums_channels(row):
            self.rows.append(replace(row, args=(self._as_last(row.args[0], row), *row.args[1:]),
                                     static={**row.static, "dim": (0, 1, 2)}))  # fmt: skip
        else:
            for value in row.operands:
                self._as_first(value, row)
            self.rows.append(row)
            if len(row.outs) == 1 and row.out.shape in self.shapes and (row.op.name in LAST or self._gathers(row)):
                self.wanted.add(row.out)

    def finish(self) -> None:
        """Turn back what is read at the end."""
        for value in self.program.finals:
            self._as_first(value, None)

    # -------------------------------------------------- values

    def _is_last(self, value):
        return type(value) is Value and (value in self.last or value in self.wanted)

    def _as_last(self, value, row):
        """The image with channels last."""
        if value not in self.last:
            self.last[value] = Value("result", last_of(value.shape), value.dtype)
            self.first.add(value)
            self.turned += value.size
            self._append(row, TO_LAST, (value,), {"last": True}, self.last[value])
        return self.last[value]

    def _as_first(self, value, row):
        """See to it that an image exists with channels first."""
        if value in self.last and value not in self.first:
            self.first.add(value)
            self.turned += value.size
            self._append(row, TO_FIRST, (self.last[value],), {"last": False}, value)

    def _made(self, value):
        """The value that stands for a result, with channels last."""
        self.last[value] = Value("result", last_of(value.shape), value.dtype)
        return self.last[value]

    def _append(self, row, op, args, static, *outs):
        site = {} if row is None else {"scope": row.scope, "site": row.site}
        self.rows.append(Instruction(op, args, static, outs, **site))

    def _reshaped(self, value, shape, row):
        """The value in another shape."""
        if type(value) is not Value or value.shape == shape:
            return value
        if (value, shape) not in self.by_hand:
            made = self.by_hand[value, shape] = Value("result", shape, value.dtype)
            self.rows.append(Instruction(OPS["reshape"], (value,), {"shape": shape}, (made,), alias=0, scope=row.scope,
                                         site=row.site))  # fmt: skip
        return self.by_hand[value, shape]

    # -------------------------------------------------- instructions

    def _convolution(self, row):
        op, static = LAST[row.op.name], {"padding": row.static["padding"]}
        if row.op.name == "convolution_weight":
            self._append(row, op, tuple([self._as_last(v, row) for v in row.args]), static, row.out)
            return
        if row.op.name == "convolution_input":
            static = {"size": row.static["size"], **static}
        self._append(row, op, (self._as_last(row.args[0], row), *row.args[1:]), static, self._made(row.out))

    def _normalizes_images(self, row, image):
        shape = image.shape
        every = [a for a in row.args[1:] if type(a) is Value and a is not row.args[0] and a.shape != shape]
        return (self._is_last(image) and len(shape) == 4 and row.static["dims"] == (0, 2, 3)
                and all([v.size == shape[1] for v in every]))  # fmt: skip

    def _results(self, row, made):
        """Append what gives the small results of an instruction, ``made`` in other shapes, theirs."""
        for out, value in zip(row.outs[1:], made[1:], strict=True):
            if out is not None:
                self.rows.append(Instruction(OPS["reshape"], (value,), {"shape": out.shape}, (out,), alias=0,
                                             scope=row.scope, site=row.site))  # fmt: skip
                self.by_hand[out, value.shape] = value

    def _standardize(self, row):
        image, *parameters = row.args
        channels = image.shape[1]
        given = (self._as_last(image, row), *[self._reshaped(v, (channels,), row) for v in parameters])
        kept = [out and Value("result", (1, 1, 1, channels), out.dtype) for out in row.outs[1:]]
        made = [row.outs[0] and self._made(row.outs[0]), *kept]
        self._append(row, row.op, given, {**row.static, "dims": (0, 1, 2)}, *made)
        self._results(row, made)

    def _standardize_backward(self, row):
        grad, image, weight, *moments = row.args
        channels = image.shape[1]
        grad, image = (self._as_last(v, row) if v.shape == image.shape else v for v in (grad, image))
        kept = (1, 1, 1, channels)
        given = (grad, image, self._reshaped(weight, (channels,), row),
                 *[self._reshaped(v, kept, row) for v in moments])  # fmt: skip
        static = {**row.static, "dims": (0, 1, 2)}
        if static["bias_shape"] is not None:
            static["bias_shape"] = (channels,)
        made = [row.outs[0] and self._made(row.outs[0]),
                *[out and Value("result", (channels,), out.dtype) for out in row.outs[1:]]]  # fmt: skip
        self._append(row, row.op, given, static, *made)
        self._results(row, made)

    def _sums_channels(self, row):
        """Whether an instruction sums each channel, as for the gradient of a bias."""
        return (row.args[0] in self.last and len(row.args[0].shape) == 4 and row.static.get("dim") == (0, 2, 3)
                and not row.static.get("keepdim") and not row.runtime)  # fmt: skip

    def _follows(self, row):
        """Whether an elementwise instruction works on images with channels last: as many of its operands lie so."""
        if (row.op.scalar is None and row.op.name not in WITHOUT_SCALAR) or len(row.outs) != 1 or row.runtime:
            return False
        shape = row.out.shape
        images = [v for v in dict.fromkeys(row.operands) if v.shape == shape]
        others = [v.shape for v in row.operands if v.shape != shape]
        lying = sum(map(self._is_last, images))
        if len(shape) != 4 or not any([v in self.last for v in images]):
            return False
        return 2 * lying >= len(images) and all([_spreads(s) for s in others])

    def _gathers(self, row):
        """Whether an instruction adds up images that are to be turned: then one is turned instead of two."""
        return row.op.name == "add" and all([v in self.wanted for v in row.operands])

    def _elementwise(self, row):
        shape = row.out.shape

        def operand(value):
            if type(value) is not Value or prod(value.shape) == 1:
                return value
            if value.shape == shape:
                return self._as_last(value, row)
            full = (1,) * (4 - len(value.shape)) + value.shape
            return self._reshaped(value, last_of(full), row)

        args: tuple[Any, ...] = tuple([operand(a) for a in row.args])
        self.rows.append(replace(row, args=args, outs=(self._made(row.out),)))


def _spreads(shape):
    """Whether a smaller operand is a number, or one a channel: then its channels come last by another shape alone."""
    full = (1,) * (4 - len(shape)) + tuple(shape)
    return full[2:] == (1, 1) and 1 in full[:2]
