"""How Numba compiles kernels: a target of its own that leaves out what kernels never need.

Numba would optimise each function that a kernel calls by itself, make machine code and two wrappers of it that nobody
uses, look up every operator among NumPy's, and walk through passes for arrays, closures and Python objects. Here a
function becomes LLVM's text, and is kept for further callers in this process; a kernel's text and those of the
functions that it calls are then linked and optimised once.
"""
# Numba's classes have no types.
# mypy: ignore-errors
from __future__ import annotations

import contextlib
import functools
import gc

from llvmlite import binding, ir
from numba import types
from numba.core import analysis, cgutils, codegen, dispatcher, fastmathpass, ir_utils, rewrites, ssa, typing
from numba.core import typed_passes as typed
from numba.core import untyped_passes as untyped
from numba.core.compiler import CompilerBase, compile_result
from numba.core.cpu import CPUContext, CPUTargetOptions
from numba.core.descriptors import TargetDescriptor
from numba.core.funcdesc import PythonFunctionDescriptor
from numba.core.lowering import Lower
from numba.core.target_extension import CPU, dispatcher_registry, jit_registry, target_override, target_registry

from autograd_core.kernels.runner import FAST

NAME = "autograd_core"  # of the target
RAISED = "autograd_core_raised"  # called where a kernel ends with an error; LLVM drops the call if none ever does

# ----------------------------------------------------------------------------------------------------------- the target


class _Target(CPU):
    """Kernels' code."""


class _Typing(typing.BaseContext):
    """Types of Python's built-in functions and of intrinsics, without NumPy's functions, lists and sets."""

    def __init__(self):
        super().__init__()
        self._known = {}

    def load_additional_registries(self):
        """Import the types of ``math``, the one module of Python's that kernels may name."""
        from numba.core.typing import mathdecl

        self.install_registry(mathdecl.registry)

    def resolve_function_type(self, func, args, kws):
        """Look up the type of a call, each but once: a kernel adds int64 to int64 a hundred times."""
        key = id(func), args, tuple(sorted(dict(kws).items()))
        if key not in self._known:
            found = super().resolve_function_type(func, args, kws)
            if found is None:
                return None
            self._known[key] = found, func  # which keeps its id
        return self._known[key][0]


_size = functools.cache(ir.Type.get_abi_size)  # Numba asks for every variable, and LLVM makes a module to tell


class _Context(CPUContext):
    """LLVM code of built-in functions and intrinsics, without Numba's runtime: kernels allocate nothing."""

    def load_additional_registries(self):
        """Import what a kernel may use of Python."""
        from numba.core import optional  # noqa: F401
        from numba.cpython import builtins, iterators, mathimpl, numbers, rangeobj, tupleobj  # noqa: F401

        self.install_registry(mathimpl.registry)

    def get_abi_sizeof(self, ty):
        """Bytes of an LLVM type."""
        return _size(ty, self.target_data)

    def _compile_subroutine_no_cache(self, builder, impl, sig, locals=None, flags=None):
        """Compile what Numba writes in Python itself, as a power of integers, like a device function."""
        function = device(impl)
        function.compile(sig)
        made = function.overloads[tuple(sig.args)]
        self.active_code_library.add_linking_library(made.library)
        return made

    def post_lowering(self, mod, library):
        """Set the freedom of scalar arithmetic."""
        fastmathpass.rewrite_module(mod, self.fastmath)


class _Descriptor(TargetDescriptor):
    options = CPUTargetOptions
    typing_context = functools.cached_property(lambda self: _Typing())
    target_context = functools.cached_property(lambda self: _Context(self.typing_context, NAME))


class _Dispatcher(dispatcher.Dispatcher):
    """A function that kernels call: one translation for each set of argument types."""

    targetdescr = _Descriptor(NAME)


def device(function=None, **_):
    """Decorator of a function that kernels call; it is inlined into them."""
    if function is None:  # Numba's own functions come with options of theirs
        return device
    options = {"nopython": True, "fastmath": FAST, "error_model": "numpy", "forceinline": True}
    return _Dispatcher(function, targetoptions=options, pipeline_class=_Pipeline)


target_registry[NAME] = _Target
dispatcher_registry[_Target] = _Dispatcher
jit_registry[_Target] = device

# --------------------------------------------------------------------------------------------------------- the pipeline


class _Text(codegen.CodeLibrary):
    """The LLVM text of one function, and the libraries of those that it calls."""

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        self.text, self.callees = "", {}

    def add_linking_library(self, library):
        """Note a function that is called."""
        self.callees |= {library: None} | library.callees

    def add_ir_module(self, ir_module):
        """Take the function's text."""
        self.text = cgutils.normalize_ir_text(str(ir_module))

    def finalize(self):
        """Do nothing: the kernel as a whole is compiled."""

    get_function = get_llvm_str = get_asm_str = None


class _Pipeline(CompilerBase):
    """The steps that kernels and device functions need, without Numba's bookkeeping between them."""

    def define_pipelines(self):
        """Return the one pipeline."""
        return [self]

    pipeline_name, exec_times = "kernel", None

    def run(self, state):
        """Fill ``state.cr``: Python's byte code, typed, becomes LLVM's text."""
        untyped.TranslateByteCode().run_pass(state)
        untyped.FixupArgs().run_pass(state)
        untyped.IRProcessing().run_pass(state)
        analysis.rewrite_semantic_constants(state.func_ir, state.args)
        analysis.dead_branch_prune(state.func_ir, state.args)
        rewrites.rewrite_registry.apply("before-inference", state)
        ssa.reconstruct_ssa(state.func_ir)
        state.func_ir._definitions = ir_utils.build_definitions(state.func_ir.blocks)
        analysis.dead_branch_prune(state.func_ir, state.args)
        typed.NopythonTypeInference().run_pass(state)
        typed.PreLowerStripPhis()._strip_phi_nodes(state.func_ir)
        self.lower(state)

    def lower(self, state):
        """Translate typed IR to LLVM's text."""
        context, flags = state.targetctx, state.flags
        state.library = _Text(context.codegen(), state.func_id.func_qualname)
        described = PythonFunctionDescriptor.from_specialized_function(
            state.func_ir, state.typemap, state.return_type, state.calltypes, mangler=context.mangler,
            inline=flags.forceinline, noalias=flags.noalias, abi_tags=[flags.get_mangle_string()])
        with context.push_code_library(state.library):
            Lower(context, state.library, described, state.func_ir, metadata=state.metadata).lower()
        # Callers find an overload by a built-in function, as its entry point would be: one that is this library's.
        entry = state.library.__reduce_ex__
        context.insert_user_function(entry, described, [state.library])
        state.cr = compile_result(
            typing_context=state.typingctx, target_context=context, entry_point=entry, typing_error=None,
            library=state.library, signature=typing.signature(state.return_type, *state.args), objectmode=False,
            fndesc=described)


# -------------------------------------------------------------------------------------------------------------- kernels


def translate(function, symbol, returns):
    """Return the LLVM module of a kernel: the C function ``symbol`` of three int64, all others private to it."""
    result = types.int64 if returns else types.void
    kernel = device(function)
    with target_override(NAME), _garbage_kept():
        kernel.compile(result(types.int64, types.int64, types.int64))
        made, = kernel.overloads.values()
        module = binding.parse_assembly(_entry(made, symbol))
    for library in (made.library, *made.library.callees):
        module.link_in(binding.parse_assembly(library.text))
    for defined in (*module.functions, *module.global_variables):
        if not defined.is_declaration and defined.name != symbol:
            defined.linkage = "internal"
    return module


@contextlib.contextmanager
def _garbage_kept():
    """Put off the search for cycles: of all that Numba makes little is garbage yet, and a tenth of the time goes."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _entry(made, symbol):
    """The LLVM text of the C function that calls the kernel."""
    context, described = made.target_context, made.fndesc
    module = context.create_module(symbol)
    word, nothing = ir.IntType(64), ir.VoidType()
    returns = described.restype == types.int64
    entry = ir.Function(module, ir.FunctionType(word if returns else nothing, [word] * 3), symbol)
    builder = ir.IRBuilder(entry.append_basic_block())
    callee = context.declare_function(module, described)
    status, value = context.call_conv.call_function(builder, callee, described.restype, described.argtypes, entry.args)
    with builder.if_then(status.is_error):
        builder.call(ir.Function(module, ir.FunctionType(nothing, []), RAISED), [])
    builder.ret(value) if returns else builder.ret_void()
    return cgutils.normalize_ir_text(str(module))


def optimise(module, machine):
    """Run LLVM's third level over a module, in place."""
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization, options.slp_vectorization = True, False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
