"""``ag.compile``: a function of tensors becomes a recorded program that replays without Python's overhead.

The first call runs eagerly and is written down (`tracing`); passes make the program cheaper (`passes`); it is lowered
to native segments and lines of Python (`lowering`). Later calls check guards and run that (`replaying`). A call that
the guards refuse records again.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from .entry import MISS
from .guards import Outside, changing, flatten
from .modes import state
from .passes import CHECKED, IN_PLACE, NATIVE, PASSES
from .program import Program
from .replaying import Recording
from .shapes import default_dtype
from .tracing import Tracer

MOST_PROGRAMS = 8
"""Programs kept for one function; the one that was used longest ago goes first."""


def compile(function: Any = None, *, fallback: str | None = None, passes: Iterable[str] | None = None,
            disable: Iterable[str] = (), check_nan: bool = False, memory_budget: int | None = None,
            name: str | None = None) -> Any:  # fmt: skip
    """Record a function (or a module) at its first call, and replay the recording at further calls.

    The function may do anything with tensors: a forward, a whole training step with ``backward`` and
    ``optimizer.step()``, gradients of gradients. It runs once in Python for each new signature: shapes, dtypes and
    ``requires_grad`` of its tensor arguments, values of its other arguments, training mode and attributes of the
    modules that it calls. Random draws, learning rates and step counts are looked up at each run; tensors that it reads
    without being given them (parameters, buffers) are read where they lie. Other effects in Python happen when it is
    recorded alone. Gradients flow through the tensors that it returns. Results agree with eager ones to rounding (sums
    may be taken in another order, fused loops round once less), and have the same bits for any number of threads.

    What cannot be recorded (a tensor's value that decides in Python, NumPy arrays from outside) raises `CompileError`;
    with ``fallback="eager"`` such a function runs eagerly, with one warning. ``passes`` names the passes to run (all),
    ``disable`` those to leave out. ``check_nan`` looks for NaN after every operation and raises FloatingPointError,
    which names the operation and the line; nothing is written then. ``memory_budget``: bytes into which the values
    between operations should fit; what is kept for long is then worked out again, as far as that helps. Returns a
    `Compiled`; without ``function``, a decorator.
    """
    if fallback not in (None, "eager"):
        raise ValueError(f"compile: fallback must be None or 'eager', got {fallback!r}")
    known = [*PASSES, IN_PLACE, NATIVE]
    chosen = known if passes is None else list(passes)
    for one in (*chosen, *disable):
        if one not in known:
            raise ValueError(f"compile: there is no pass {one!r}; passes are {', '.join(known)}")
    chosen = [p for p in chosen if p not in set(disable)] + [CHECKED] * check_nan
    if function is None:
        return lambda f: Compiled(f, fallback, chosen, name, memory_budget)
    return Compiled(function, fallback, chosen, name, memory_budget)


class Compiled:
    """A compiled function: called like the function. Other attributes are those of the function or module."""

    def __init__(self, function: Callable, fallback: str | None, passes: list[str], name: str | None,
                 memory_budget: int | None = None) -> None:  # fmt: skip
        if not callable(function):
            raise TypeError(f"compile: needs a function or a module, got {type(function).__name__}")
        self.function = function
        self.fallback = fallback
        self.passes = passes
        self.memory_budget = memory_budget
        self.recordings = 0
        self._name = str(name or getattr(function, "__name__", type(function).__name__))
        self._programs: list[Recording] = []
        self._eager: list = []  # keys of calls that fell back
        self._keys: list = []
        self._warned = False
        self._outside = Outside(function)
        if not hasattr(function, "named_parameters"):
            functools.update_wrapper(self, function, updated=())

    def __getattr__(self, name):
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __repr__(self):
        return f"<compiled {self._name}: {len(self._programs)} programs>"

    def __get__(self, instance, owner=None):
        return self if instance is None else functools.partial(self, instance)

    def __call__(self, *args, **kwargs):
        for program in self._programs:
            found = program.run(args, kwargs, False)
            if found is not MISS:
                if program is not self._programs[0]:
                    self._prefer(program)
                return found
        return self._look_closer(args, kwargs)

    def _prefer(self, program):
        """The program that was used last goes first."""
        self._programs = [program, *[p for p in self._programs if p is not program]]

    def _look_closer(self, args, kwargs):
        """No program runs at once: one may when looked at closely; else the call is recorded."""
        if state.watch is not None:
            return state.watch.call_compiled(self, args, kwargs)
        leaves: list = []
        key = (flatten((args, kwargs) if kwargs else args, leaves), state.grad, default_dtype())
        for known in self._programs:
            if known.key == key and known.renew(leaves):
                found = known.run(args, kwargs, True)
                if found is not MISS:
                    self._prefer(known)
                    return found
        if key in self._eager:
            return self.function(*args, **kwargs)
        return self._record(args, kwargs, leaves, key)

    def _record(self, args, kwargs, leaves, key):
        self.recordings += 1
        self._note_key(key)
        tracer = Tracer(self._name, lenient=self.fallback == "eager", check_nan=CHECKED in self.passes)
        recording = Recording(key, self._outside, self.function)
        result = recording.record(tracer, args, kwargs, leaves)
        if tracer.error is not None:
            if not self._eager:
                warnings.warn(f"{tracer.error}\n  it runs eagerly instead", stacklevel=4)
            self._eager.append(key)
            return result
        if recording.finish(self.passes, self.memory_budget):
            self._programs.insert(0, recording)
            del self._programs[MOST_PROGRAMS:]
        return result

    def _note_key(self, key):
        """Warn, once, when signatures keep changing; name the argument."""
        self._keys.append(key)
        if len(self._keys) < MOST_PROGRAMS or self._warned:
            return
        self._warned = True
        what = changing([key[0] for key in self._keys])
        warnings.warn(
            f"{self._name} has been recorded {len(self._keys)} times: {what}; {MOST_PROGRAMS} programs are kept",
            stacklevel=5,
        )

    # -------------------------------------------------- to look at

    def _latest(self) -> Recording:
        if not self._programs:
            raise RuntimeError(f"{self._name} has no program yet: call it first")
        return self._programs[0]

    def program(self) -> Program:
        """The program that was used last: ``print(compiled.program())``."""
        return self._latest().program

    def source(self) -> str:
        """The Python text that the last program was lowered to; a native segment is one line."""
        return self._latest().entry.text

    def table(self) -> str:
        """The kernel calls of the last program, as text: kernel, chunks of work, and where its results lie."""
        from .costs import kernel_table

        return kernel_table(self._latest())

    def loops(self) -> dict[str, str]:
        """The texts of the last program's fused loops, by their names in `table`: what machine code is made of."""
        from .costs import loop_sources

        return loop_sources(self._latest())

    def graph(self):
        """The program that was used last as a graph: what ``ag.draw`` draws. Times are there once `profile` has run."""
        from .seeing.programs import graph_of_program

        latest = self._latest()
        return graph_of_program(latest.program, latest.costs)

    def profile(self, *args, repeat: int = 10, **kwargs):
        """Time and bytes of every row, as the median of ``repeat`` runs, which are real: each takes a step.

        ``print(compiled.profile(x, y))`` lists the rows, dearest first; ``ag.draw(compiled)`` shows them from then on.
        """
        from .costs import measure

        self(*args, **kwargs)
        return measure(self._latest(), args, kwargs, repeat)
