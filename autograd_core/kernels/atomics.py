"""Atomic words and calls through addresses, for the runner and its threads alone (a kernel needs neither)."""
# Intrinsics are called with one argument less than they are written with; Numba types them.
# mypy: ignore-errors
from __future__ import annotations

import platform

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import signature
from numba.extending import intrinsic

from autograd_core.kernels.simd import I32, I64

WORD = types.CPointer(types.int64)


@intrinsic
def read(typingctx, place, index):
    """Word ``index``; what other threads wrote before they wrote it is visible afterwards."""

    def codegen(context, builder, sig, args):
        return builder.load_atomic(builder.gep(args[0], [args[1]]), "seq_cst", 8)

    return signature(types.int64, WORD, types.int64), codegen


@intrinsic
def write(typingctx, place, index, value):
    """Set word ``index``; whoever reads it sees what this thread wrote before."""

    def codegen(context, builder, sig, args):
        builder.store_atomic(args[2], builder.gep(args[0], [args[1]]), "seq_cst", 8)
        return context.get_dummy_value()

    return signature(types.void, WORD, types.int64, types.int64), codegen


@intrinsic
def add(typingctx, place, index, value):
    """Add to word ``index`` and return what it was."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", builder.gep(args[0], [args[1]]), args[2], "seq_cst")

    return signature(types.int64, WORD, types.int64, types.int64), codegen


@intrinsic
def swap(typingctx, place, index, old, new):
    """Set word ``index`` to ``new`` if it is ``old``; return whether it was."""

    def codegen(context, builder, sig, args):
        place = builder.gep(args[0], [args[1]])
        return builder.extract_value(builder.cmpxchg(place, args[2], args[3], "seq_cst", "seq_cst"), 1)

    return signature(types.boolean, WORD, types.int64, types.int64, types.int64), codegen


@intrinsic
def pause(typingctx):
    """Tell the core that this thread is waiting in a loop."""

    def codegen(context, builder, sig, args):
        machine = platform.machine().lower()
        if machine in ("x86_64", "amd64", "i686"):
            kind, name, values = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause", []
        elif machine in ("arm64", "aarch64"):
            kind, name = ir.FunctionType(ir.VoidType(), [I32]), "llvm.aarch64.hint"
            values = [ir.Constant(I32, 1)]  # the yield instruction
        else:
            return context.get_dummy_value()
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), values)
        return context.get_dummy_value()

    return signature(types.void), codegen


@intrinsic
def call_kernel(typingctx, address, context, start, stop):
    """Call the range kernel at ``address``."""

    def codegen(ctx, builder, sig, args):
        kind = ir.FunctionType(ir.VoidType(), [I64] * 3).as_pointer()
        builder.call(builder.inttoptr(args[0], kind), args[1:])
        return ctx.get_dummy_value()

    return signature(types.void, *[types.int64] * 4), codegen


@intrinsic
def call_system(typingctx, address, x, y, z):
    """Call a C function of up to three word-sized arguments at ``address``; it ignores those it does not have."""

    def codegen(ctx, builder, sig, args):
        kind = ir.FunctionType(I64, [I64] * 3).as_pointer()
        return builder.call(builder.inttoptr(args[0], kind), args[1:])

    return signature(types.int64, *[types.int64] * 4), codegen
