"""The vocabulary of kernels: explicit vectors, tiles, memory, atomics. It exists while a kernel is being compiled.

Types are made outside the kernel's body and handed in by closure::

    V = simd.vector(dtype, lanes)      # a vector type: lanes elements of a NumPy dtype
    T = simd.tile(V, rows, vectors)    # rows x vectors vectors that stay in registers

Inside, ``+ - * / // % & | ^ << >> ~ < <= == != >= >`` work on vectors, and a scalar beside a vector takes the
vector's dtype. Vector arithmetic is IEEE exact but for contraction to fused multiply-add, so range reductions with
magic constants are safe here, while scalar code has :data:`autograd_core.kernels.runner.FAST`'s freedom.
All functions of values take scalars too.
"""
# Intrinsics are called with one argument less than they are written with; Numba types them.
# mypy: ignore-errors
from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba import from_dtype, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

from autograd_core.kernels import pipeline

I1, I8, I32, I64 = ir.IntType(1), ir.IntType(8), ir.IntType(32), ir.IntType(64)
F32, F64 = ir.FloatType(), ir.DoubleType()
EXACT = ("contract",)
device = pipeline.device


# ------------------------------------------------------------------------------------------------------------- types


class Vector(types.Type):
    """``lanes`` elements of ``dtype`` (a Numba scalar type; boolean makes a mask) in one register or several."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(f"vector({dtype}, {lanes})")


class Tile(types.Type):
    """``rows`` x ``vectors`` vectors, the accumulators of a register-blocked product."""

    def __init__(self, vector, rows, vectors):
        self.vector, self.rows, self.vectors = vector, rows, vectors
        super().__init__(f"tile({vector}, {rows}, {vectors})")


def _element(dtype):
    if isinstance(dtype, types.Boolean):
        return I1
    if isinstance(dtype, types.Integer):
        return ir.IntType(dtype.bitwidth)
    return {types.float32: F32, types.float64: F64}[dtype]


def _llvm(kind):
    """LLVM type of a scalar or vector type."""
    return ir.VectorType(_element(kind.dtype), kind.lanes) if isinstance(kind, Vector) else _element(kind)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _llvm(kind))


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(_llvm(kind.vector), kind.rows * kind.vectors))


def scalar(dtype):
    """Return the scalar type of a NumPy dtype; called in a kernel it converts: ``scalar("float32")(x)``."""
    return dtype if isinstance(dtype, types.Type) else from_dtype(np.dtype(dtype))


def vector(dtype, lanes):
    """Return the type of a vector of ``lanes`` elements of a NumPy dtype."""
    return Vector(scalar(dtype), int(lanes))


def tile(vector, rows, vectors):
    """Return the type of a tile of ``rows`` x ``vectors * lanes``; keep rows * vectors + vectors + 1 registers."""
    return Tile(vector, int(rows), int(vectors))


# --------------------------------------------------------------------------------------------------- helpers of codegen


def _is_value(kind):
    return isinstance(kind, (Vector, types.Number, types.Boolean))


def _real(kind):
    return isinstance(_base(kind), types.Float)


def _base(kind):
    return kind.dtype if isinstance(kind, Vector) else kind


def _with_dtype(kind, dtype):
    return Vector(dtype, kind.lanes) if isinstance(kind, Vector) else dtype


def _common(*kinds):
    """Type that the operands take: that of the vector among them, else the widest scalar's; None if they do not fit."""
    if not all(map(_is_value, kinds)):
        return None
    vectors = {kind for kind in kinds if isinstance(kind, Vector)}
    if vectors:
        return vectors.pop() if len(vectors) == 1 else None
    return max(map(types.unliteral, kinds), key=lambda kind: (isinstance(kind, types.Float), kind.bitwidth))


def _as(context, builder, value, kind, wanted):
    """``value`` of type ``kind`` as ``wanted``: scalars are converted and repeated."""
    if kind == wanted:
        return value
    if isinstance(kind, Vector):
        raise TypeError(f"a {kind} does not become a {wanted} by itself: use simd.convert")
    value = context.cast(builder, value, kind, _base(wanted))
    return _splat(builder, value, _llvm(wanted)) if isinstance(wanted, Vector) else value


def _splat(builder, value, kind):
    empty = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(empty, value, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(I32, kind.count), [0] * kind.count))


def _suffix(kind):
    if isinstance(kind, ir.VectorType):
        return f"v{kind.count}{_suffix(kind.element)}"
    return {F32: "f32", F64: "f64"}.get(kind) or f"i{kind.width}"


def _call(builder, name, result, args, overloads=None):
    """Call the LLVM intrinsic ``llvm.name``, overloaded on ``overloads`` (default: the result's type)."""
    kinds = [result] if overloads is None else overloads
    name = ".".join(["llvm", name, *(kind if isinstance(kind, str) else _suffix(kind) for kind in kinds)])
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def _at(builder, pointer, index, kind):
    """Address of element ``index`` of ``pointer``, as a pointer to ``kind``."""
    place = builder.gep(pointer, [index])
    return builder.bitcast(place, kind.as_pointer())


def _load(builder, pointer, index, kind, element):
    value = builder.load(_at(builder, pointer, index, kind))
    value.align = max(element.bitwidth // 8, 1)
    return value


def _store(builder, value, pointer, index, element):
    builder.store(value, _at(builder, pointer, index, value.type)).align = max(element.bitwidth // 8, 1)


def _first_lanes(builder, count, lanes):
    """Mask of the lanes below ``count`` (int64)."""
    wide = ir.VectorType(I64, lanes)
    return builder.icmp_signed("<", ir.Constant(wide, list(range(lanes))), _splat(builder, count, wide))


# --------------------------------------------------------------------------------------------------------- arithmetic


def _operation(function, emit, result=lambda kind: kind):
    """Teach Numba the operator ``function`` on vectors: ``emit(builder, kind, values)`` writes it."""

    @infer_global(function)
    class VectorOperation(AbstractTemplate):
        def generic(self, args, keywords):
            if any(isinstance(kind, Vector) for kind in args):
                kind = _common(*args)
                if kind is not None:
                    return signature(result(kind), *args)
            return None

    def lower(context, builder, sig, args):
        kind = _common(*sig.args)
        return emit(builder, kind, [_as(context, builder, a, s, kind) for a, s in zip(args, sig.args, strict=True)])

    kinds = [(Vector,)] if function in (operator.neg, operator.invert) else [
        (Vector, Vector), (Vector, types.Number), (types.Number, Vector), (Vector, types.Boolean)]
    for operands in kinds:
        lower_builtin(function, *operands)(lower)


def _binary(real, signed, unsigned=None):
    def emit(builder, kind, values):
        if _real(kind):
            if real is None:
                raise TypeError(f"simd: this operator needs integers, got {kind}")
            return getattr(builder, real)(*values, flags=EXACT)
        is_signed = getattr(_base(kind), "signed", False)
        return getattr(builder, signed if is_signed or unsigned is None else unsigned)(*values)

    return emit


def _comparison(symbol):
    def emit(builder, kind, values):
        if _real(kind):
            compare = builder.fcmp_unordered if symbol == "!=" else builder.fcmp_ordered
            return compare(symbol, *values, flags=EXACT)
        compare = builder.icmp_signed if getattr(_base(kind), "signed", False) else builder.icmp_unsigned
        return compare(symbol, *values)

    return emit


for _function, _inplace, _emit in (
    (operator.add, operator.iadd, _binary("fadd", "add")),
    (operator.sub, operator.isub, _binary("fsub", "sub")),
    (operator.mul, operator.imul, _binary("fmul", "mul")),
    (operator.truediv, operator.itruediv, _binary("fdiv", "sdiv", "udiv")),
    (operator.and_, operator.iand, _binary(None, "and_")),
    (operator.or_, operator.ior, _binary(None, "or_")),
    (operator.xor, operator.ixor, _binary(None, "xor")),
    (operator.lshift, operator.ilshift, _binary(None, "shl")),
    (operator.rshift, operator.irshift, _binary(None, "ashr", "lshr")),
):
    _operation(_function, _emit)
    _operation(_inplace, _emit)
for _function, _symbol in ((operator.lt, "<"), (operator.le, "<="), (operator.gt, ">"),
                           (operator.ge, ">="), (operator.eq, "=="), (operator.ne, "!=")):
    _operation(_function, _comparison(_symbol), lambda kind: _with_dtype(kind, types.boolean))
_operation(operator.neg, lambda b, kind, v: b.fneg(v[0]) if _real(kind) else b.neg(v[0]))
_operation(operator.invert, lambda b, kind, v: b.not_(v[0]))


def _function(name, emit, count, doc, result=lambda kind: kind):
    """Make the intrinsic ``name`` of ``count`` values of one type."""

    def typed(args):
        kind = _common(*args)
        if kind is None:
            return None

        def codegen(context, builder, sig, values):
            return emit(builder, kind, [_as(context, builder, v, s, kind) for v, s in zip(values, args, strict=True)])

        return signature(result(kind), *args), codegen

    if count == 1:
        def made(typingctx, x):
            return typed((x,))
    elif count == 2:
        def made(typingctx, x, y):
            return typed((x, y))
    else:
        def made(typingctx, x, y, z):
            return typed((x, y, z))
    made.__name__, made.__doc__ = name, doc
    return intrinsic(made)


def _either(real, signed, unsigned=None):
    """LLVM intrinsic by the kind of number."""

    def emit(builder, kind, values):
        is_signed = getattr(_base(kind), "signed", False)
        name = real if _real(kind) else signed if is_signed or unsigned is None else unsigned
        extra = [ir.Constant(I1, 0)] if name == "abs" else []
        return _call(builder, name, _llvm(kind), [*values, *extra])

    return emit


def _fma(builder, kind, values):
    if _real(kind):
        return _call(builder, "fma", _llvm(kind), values)
    return builder.add(builder.mul(values[0], values[1]), values[2])


fma = _function("fma", _fma, 3, "x * y + z with one rounding.")
maximum = _function("maximum", _either("maximum", "smax", "umax"), 2, "Larger of two; NaN if either is.")
minimum = _function("minimum", _either("minimum", "smin", "umin"), 2, "Smaller of two; NaN if either is.")
sqrt = _function("sqrt", _either("sqrt", "sqrt"), 1, "Square root, correctly rounded.")
absolute = _function("absolute", _either("fabs", "abs"), 1, "Absolute value.")
floor = _function("floor", _either("floor", "floor"), 1, "Largest whole number not above.")
ceil = _function("ceil", _either("ceil", "ceil"), 1, "Smallest whole number not below.")
trunc = _function("trunc", _either("trunc", "trunc"), 1, "Whole part.")
rint = _function("rint", _either("rint", "rint"), 1, "Nearest whole number, ties to even.")
copysign = _function("copysign", _either("copysign", "copysign"), 2, "Magnitude of the first, sign of the second.")


@intrinsic
def where(typingctx, mask, x, y):
    """``x`` in the lanes where ``mask`` is true, else ``y``."""
    kind = _common(x, y)
    if isinstance(mask, Vector) and kind is not None and not isinstance(kind, Vector):
        return None  # two scalars under a vector mask have no dtype to take: use simd.full

    def codegen(context, builder, sig, args):
        return builder.select(args[0], _as(context, builder, args[1], x, kind), _as(context, builder, args[2], y, kind))

    return signature(kind, mask, x, y), codegen


@intrinsic
def full(typingctx, value, kind):
    """A vector of type ``kind`` with ``value`` in every lane."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        return _as(context, builder, args[0], value, wanted)

    return signature(wanted, value, kind), codegen


@intrinsic
def iota(typingctx, kind):
    """The vector 0, 1, 2, ... of type ``kind``."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        return ir.Constant(_llvm(wanted), [float(i) if _real(wanted) else i for i in range(wanted.lanes)])

    return signature(wanted, kind), codegen


@intrinsic
def convert(typingctx, x, dtype):
    """``x`` with its values converted to ``dtype`` (floats to integers: towards zero, in range only)."""
    wanted = dtype.instance_type
    result = _with_dtype(x, wanted)

    def codegen(context, builder, sig, args):
        before, after, to = types.unliteral(_base(x)), wanted, _llvm(result)
        if before == after:
            return args[0]
        from_real, to_real = _real(before), _real(after)
        if from_real and to_real:
            return (builder.fpext if after.bitwidth > before.bitwidth else builder.fptrunc)(args[0], to)
        if from_real:
            return (builder.fptosi if after.signed else builder.fptoui)(args[0], to)
        signed = getattr(before, "signed", False)
        if to_real:
            return (builder.sitofp if signed else builder.uitofp)(args[0], to)
        source = _element(before).width
        if _element(after).width == source:
            return args[0]
        if _element(after).width < source:
            return builder.trunc(args[0], to)
        return (builder.sext if signed else builder.zext)(args[0], to)

    return signature(result, x, dtype), codegen


@intrinsic
def bitcast(typingctx, x, dtype):
    """The bits of ``x`` read as ``dtype`` of the same size."""
    result = _with_dtype(x, dtype.instance_type)

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], _llvm(result))

    return signature(result, x, dtype), codegen


@intrinsic(prefer_literal=True)
def lane(typingctx, x, index):
    """Element ``index`` of a vector."""

    def codegen(context, builder, sig, args):
        return builder.extract_element(args[0], builder.trunc(args[1], I32))

    return signature(x.dtype, x, types.int64), codegen


@intrinsic(prefer_literal=True)
def shift(typingctx, x, fill, count):
    """The lanes moved ``count`` (a literal) places up, or down if that is negative; ``fill`` where none came from."""
    places = count.literal_value
    wanted = _base(x)

    def codegen(context, builder, sig, args):
        kind, lanes = args[0].type, x.lanes
        free = _as(context, builder, args[1], types.unliteral(fill), Vector(wanted, lanes))
        order = [i - places if 0 <= i - places < lanes else lanes for i in range(lanes)]
        return builder.shuffle_vector(args[0], free, ir.Constant(ir.VectorType(I32, kind.count), order))

    return signature(x, x, types.unliteral(fill), count), codegen


def _halves(builder, value, combine):
    """Fold the upper half of the lanes onto the lower until one is left: a fixed order."""
    while value.type.count > 1:
        half = value.type.count // 2
        parts = [
            builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, half), list(range(o, o + half))))
            for o in (0, half)
        ]
        value = combine(*parts)
    return builder.extract_element(value, ir.Constant(I32, 0))


def _reduction(name, step, doc):
    def made(typingctx, x):
        def codegen(context, builder, sig, args):
            def combine(a, b):
                return step(builder, _base(x), [a, b])

            return _halves(builder, args[0], combine)

        return signature(x.dtype, x), codegen

    made.__name__, made.__doc__ = name, doc
    return intrinsic(made)


def _fold(emit):
    def step(builder, dtype, values):
        return emit(builder, Vector(dtype, values[0].type.count), values)

    return step


reduce_add = _reduction("reduce_add", _fold(_binary("fadd", "add")), "Sum of the lanes, halves first, a fixed order.")
reduce_mul = _reduction("reduce_mul", _fold(_binary("fmul", "mul")), "Product of the lanes, halves first.")
reduce_max = _reduction("reduce_max", _fold(_either("maximum", "smax", "umax")), "Largest lane; NaN if one is.")
reduce_min = _reduction("reduce_min", _fold(_either("minimum", "smin", "umin")), "Smallest lane; NaN if one is.")
any_lane = _reduction("any_lane", _fold(_binary(None, "or_")), "Whether a lane of a mask is true.")
all_lanes = _reduction("all_lanes", _fold(_binary(None, "and_")), "Whether all lanes of a mask are true.")


# ------------------------------------------------------------------------------------------------------------- memory


@intrinsic
def pointer(typingctx, address, dtype):
    """Pointer to elements of ``dtype`` (a scalar type) at an address in bytes; index it or hand it to load/store."""
    kind = types.CPointer(dtype.instance_type)

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return signature(kind, types.int64, dtype), codegen


@intrinsic
def advance(typingctx, source, count):
    """The pointer ``count`` elements further on."""

    def codegen(context, builder, sig, args):
        return builder.gep(args[0], [args[1]])

    return signature(source, source, types.int64), codegen


@intrinsic
def words(typingctx, address):
    """Pointer to int64 at an address in bytes: how a kernel reads its context."""
    kind = types.CPointer(types.int64)

    def codegen(context, builder, sig, args):
        return builder.inttoptr(args[0], context.get_value_type(kind))

    return signature(kind, types.int64), codegen


@intrinsic
def real(typingctx, word):
    """The float64 whose bits a context word holds (see ``plan.bits``)."""

    def codegen(context, builder, sig, args):
        return builder.bitcast(args[0], F64)

    return signature(types.float64, types.int64), codegen


@intrinsic
def load(typingctx, source, index, kind):
    """The vector of type ``kind`` that starts at element ``index``; no alignment needed."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        return _load(builder, args[0], args[1], _llvm(wanted), wanted.dtype)

    return signature(wanted, source, types.int64, kind), codegen


@intrinsic
def store(typingctx, target, index, value):
    """Write a vector from element ``index`` on; no alignment needed."""

    def codegen(context, builder, sig, args):
        _store(builder, args[2], args[0], args[1], value.dtype)
        return context.get_dummy_value()

    return signature(types.void, target, types.int64, value), codegen


@intrinsic
def load_part(typingctx, source, index, count, kind):
    """The first ``count`` lanes from element ``index`` on, 0 in the others; touches no memory beyond them."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        return _load_part(builder, *args[:3], _llvm(wanted))

    return signature(wanted, source, types.int64, types.int64, kind), codegen


@intrinsic
def store_part(typingctx, target, index, value, count):
    """Write the first ``count`` lanes from element ``index`` on."""

    def codegen(context, builder, sig, args):
        _store_part(builder, args[2], args[0], args[1], args[3])
        return context.get_dummy_value()

    return signature(types.void, target, types.int64, value, types.int64), codegen


def _bytes(element):
    """Alignment of an LLVM scalar type, as a constant."""
    return ir.Constant(I32, 4 if element == F32 else 8 if element == F64 else max(element.width // 8, 1))


def _load_part(builder, pointer, index, count, kind):
    mask = _first_lanes(builder, count, kind.count)
    args = [_at(builder, pointer, index, kind), _bytes(kind.element), mask, ir.Constant(kind, None)]
    return _call(builder, "masked.load", kind, args, [kind, "p0"])


def _store_part(builder, value, pointer, index, count):
    mask = _first_lanes(builder, count, value.type.count)
    args = [value, _at(builder, pointer, index, value.type), _bytes(value.type.element), mask]
    _call(builder, "masked.store", ir.VoidType(), args, [value.type, "p0"])


@intrinsic
def gather(typingctx, source, indices, kind):
    """The elements at ``indices`` (a vector of int64 or int32) as a vector of type ``kind``."""
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        result = ir.Constant(_llvm(wanted), ir.Undefined)
        for i in range(wanted.lanes):
            place = ir.Constant(I32, i)
            element = builder.load(builder.gep(args[0], [builder.extract_element(args[1], place)]))
            result = builder.insert_element(result, element, place)
        return result

    return signature(wanted, source, indices, kind), codegen


@intrinsic
def gather_where(typingctx, source, indices, mask, kind):
    """The elements at ``indices`` (int64 or int32) where ``mask`` is true, 0 elsewhere: nothing is read there.

    Processors that can do so read all at once; `gather` reads one after the other.
    """
    wanted = kind.instance_type

    def codegen(context, builder, sig, args):
        result, wide = _llvm(wanted), ir.VectorType(I64, wanted.lanes)
        at = args[1] if args[1].type == wide else builder.sext(args[1], wide)
        step = _bytes(result.element)
        base = _splat(builder, builder.ptrtoint(args[0], I64), wide)
        bytes_on = builder.mul(at, ir.Constant(wide, [step.constant] * wanted.lanes))
        places = builder.inttoptr(builder.add(base, bytes_on), ir.VectorType(I8.as_pointer(), wanted.lanes))
        kinds = [result, f"v{wanted.lanes}p0"]
        return _call(builder, "masked.gather", result, [places, step, args[2], ir.Constant(result, None)], kinds)

    return signature(wanted, source, indices, mask, kind), codegen


@intrinsic
def prefetch(typingctx, source, index):
    """Ask for the cache line of element ``index``."""

    def codegen(context, builder, sig, args):
        place = builder.bitcast(builder.gep(args[0], [args[1]]), I8.as_pointer())
        hints = [ir.Constant(I32, 0), ir.Constant(I32, 3), ir.Constant(I32, 1)]
        _call(builder, "prefetch", ir.VoidType(), [place, *hints], ["p0"])
        return context.get_dummy_value()

    return signature(types.void, source, types.int64), codegen
