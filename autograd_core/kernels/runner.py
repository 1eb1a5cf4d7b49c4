"""Range kernels: how one is written, compiled, kept on disk, loaded.

A range kernel has the C signature ``void(int64 context, int64 start, int64 stop)``. ``context`` is the address of an
int64 block with the kernel's addresses and sizes, ``[start, stop)`` the part of the work that this call does. The
object code comes from the disk cache; Numba is imported only to compile what is not there. A kernel cannot raise, and
refers to nothing but itself and the C library.
"""
from __future__ import annotations

import functools
import hashlib
import inspect
import marshal
import threading
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from autograd_core.kernels import cache, host, lazy

# NaN and infinity keep their meaning: nnan and ninf are left out. So are arcp and afn, which allow a compiler to
# estimate quotients and roots: results would depend on the processor for a gain that was not seen.
FAST = {"nsz", "contract", "reassoc"}

_lock = threading.RLock()
_jit: Any = None
_machine: Any = None


def once(function: Callable[..., Any]) -> Callable[..., Any]:
    """`functools.cache`, under a lock: threads that ask at the same time are given the same."""
    kept = functools.cache(function)

    @functools.wraps(function)
    def get(*arguments: Hashable) -> Any:
        with _lock:
            return kept(*arguments)

    get.cache_info = kept.cache_info  # type: ignore[attr-defined]
    return get


def _linker() -> tuple[Any, Any]:
    """The process's linker and target machine."""
    global _jit, _machine
    if _jit is None:
        from llvmlite import binding

        binding.initialize_native_target()
        binding.initialize_native_asmprinter()
        name, features = host.cpu()
        target = binding.Target.from_default_triple()
        _machine = target.create_target_machine(cpu=name, features=features, opt=3, jit=True)
        _jit = binding.create_lljit_compiler(_machine)
    return _jit, _machine


class RangeKernel:
    """A kernel whose machine code is made or loaded when :attr:`address` is first asked for.

    ``build()`` returns the Python function ``(context, start, stop)``; ``name`` tells it from all others in the cache,
    so it holds the hash of the kernel's sources, or of its text if that was generated (see ``cache.sources``).
    """

    def __init__(self, name: str, build: Callable[[], Callable[[int, int, int], Any]], returns: bool = False) -> None:
        self.name, self.build, self.returns = name, build, returns
        self._address = 0
        self._code: Any = None  # owns the machine code
        self.source = ""  # the text of a generated kernel

    def __repr__(self) -> str:
        return f"<range kernel {self.name}>"

    @property
    def address(self) -> int:
        """Address of the machine code."""
        if not self._address:
            with _lock:
                if not self._address:
                    self._address = self._link(cache.load(self.name) or self._compile())
        return self._address

    def _link(self, content: bytes) -> int:
        from llvmlite import binding

        symbol, _, code = content.partition(b"\0")
        builder = binding.JITLibraryBuilder().add_object_img(code).add_current_process().export_symbol(symbol.decode())
        self._code = builder.link(_linker()[0], self.name)
        return self._code[symbol.decode()]

    def _compile(self) -> bytes:
        """Compile, and keep the result."""
        lazy.load()
        pipeline, machine = lazy.pipeline, _linker()[1]
        symbol = "kernel_" + hashlib.sha256(self.name.encode()).hexdigest()[:16]
        module = pipeline.translate(self.build(), symbol, self.returns)
        pipeline.optimise(module, machine)
        names = {f.name for f in module.functions if not f.name.startswith("llvm.")} - {symbol}
        if any(f.startswith((pipeline.RAISED, "numba_", "NRT_", "Py", "_Py")) for f in names):
            raise TypeError(f"range kernel {self.name}: it can raise or allocates; it needs {', '.join(sorted(names))}")
        content = symbol.encode() + b"\0" + machine.emit_object(module)
        cache.store(self.name, content)
        return content


def _word(value: Hashable) -> str:
    """``value`` as it stands in a kernel's name."""
    if isinstance(value, (np.dtype, type)):
        return np.dtype(value).name
    if isinstance(value, tuple):
        return "(" + ",".join(map(_word, value)) + ")"
    if value is None or isinstance(value, (bool, int, float, str)):
        return repr(value) if not isinstance(value, str) else value
    raise TypeError(f"range_kernel: an argument of a kernel's factory is {value!r}; "
                    f"it needs dtypes, numbers, strings and tuples of them")


@functools.cache
def _digest(factory: Callable) -> str:
    """Hash of the sources of the factory; of its code where there is no file, as at a prompt."""
    try:
        return cache.sources(inspect.getsourcefile(factory) or "")
    except (OSError, TypeError):
        return hashlib.sha256(marshal.dumps(factory.__code__)).hexdigest()[:16]


def range_kernel(factory: Callable[..., Callable[[int, int, int], Any]], returns: bool = False,
                 ) -> Callable[..., RangeKernel]:
    """Turn ``factory(dtype, lanes, ...)``, which returns a function ``(context, start, stop)``, into kernels.

    The decorated factory returns a :class:`RangeKernel` for its arguments (dtypes, numbers, strings), the same one for
    the same arguments. The factory itself runs only when the kernel must be compiled. With ``returns`` the machine code
    is a C function of an int64 result.
    """

    @functools.cache
    def specialised(*arguments: Hashable) -> RangeKernel:
        words = ",".join(map(_word, arguments))
        name = f"{factory.__module__.rpartition('.')[2]}.{factory.__qualname__}[{words}]@{_digest(factory)}"
        return RangeKernel(name, lambda: factory(*arguments), returns)

    @functools.wraps(factory)
    def kernel(*arguments: Hashable) -> RangeKernel:
        with _lock:  # two threads must not make the same kernel twice: its name can be linked once
            return specialised(*(np.dtype(a) if isinstance(a, type) else a for a in arguments))

    return kernel
