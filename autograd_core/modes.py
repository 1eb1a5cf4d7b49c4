"""What each thread has of its own: whether operations are recorded, who watches them, and the module they belong to."""

from __future__ import annotations

import threading
from contextvars import Context
from functools import wraps
from inspect import isgeneratorfunction
from typing import TYPE_CHECKING, Any
from weakref import ref

from numpy._core import umath

if TYPE_CHECKING:
    from .tensor import Node


QUIET = umath._make_extobj(all="ignore")
"""NumPy's floating-point warnings, off: infinities and NaNs are values here (`np.errstate` costs ten times as much)."""
quiet, quiet_on, quiet_off = umath._extobj_contextvar.get, umath._extobj_contextvar.set, umath._extobj_contextvar.reset


class _State(threading.local):
    """What each thread has of its own. Whoever wants several looks into ``state.__dict__``: that is found but once."""

    def __init__(self):
        calm = Context()
        calm.run(quiet_on, QUIET)
        self.quietly = calm.run  # calls a function without NumPy's warnings; a third of the cost of `quiet_on`
        self.grad = True
        self.watch: Any = None
        self.scope: str | None = None


state = _State()
new = object.__new__


# ---------------------------------------------------------------------------------------------------- recording


class _GradMode:
    mode: bool
    before: list[bool]

    def __new__(cls, function=None):
        made = new(cls)
        made.before = []
        return made(function) if callable(function) else made

    def __enter__(self):
        self.before.append(state.grad)
        state.grad = self.mode
        return self

    def __exit__(self, *error):
        state.grad = self.before.pop()

    def _again(self):
        """Another one of the same kind: threads and generators must not share what was before."""
        made = new(type(self))
        made.mode, made.before = self.mode, []
        return made

    def __call__(self, function):
        if isgeneratorfunction(function):
            return self._wrap_generator(function)

        @wraps(function)
        def wrapped(*args, **kwargs):
            with self._again():
                return function(*args, **kwargs)

        return wrapped

    def _wrap_generator(self, function):
        @wraps(function)
        def wrapped(*args, **kwargs):
            generator = function(*args, **kwargs)
            go_on, value = generator.send, None
            while True:
                try:
                    with self._again():
                        made = go_on(value)
                except StopIteration as stop:
                    return stop.value
                try:
                    go_on, value = generator.send, (yield made)
                except BaseException as error:  # noqa: BLE001 (the generator is to see whatever was thrown into it)
                    go_on, value = generator.throw, error

        return wrapped


class no_grad(_GradMode):
    """Record nothing inside: a context manager and a decorator."""

    mode = False


class enable_grad(_GradMode):
    """Record operations inside, also within ``no_grad``: a context manager and a decorator."""

    mode = True


class inference_mode(_GradMode):
    """As ``no_grad`` (``mode=False`` leaves recording as it is)."""

    mode = False

    def __new__(cls, mode=True):
        made = super().__new__(cls, mode if callable(mode) else None)
        if mode is False:
            made.mode = state.grad
        return made


class set_grad_enabled(_GradMode):
    """Turn the recording of operations on or off: as a statement, a context manager or a decorator."""

    def __new__(cls, mode: bool):
        """Sets the mode at once; leaving the context restores what was before this."""
        made = new(cls)
        made.mode, made.before = bool(mode), [state.grad]
        state.grad = made.mode
        return made

    def __enter__(self):
        state.grad = self.mode
        return self

    def __exit__(self, *error):
        state.grad = self.before[0]

    def _again(self):
        return type(self)(self.mode)

    def __call__(self, function):
        state.grad = self.before[0]
        return super().__call__(function)


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return state.grad


# ---------------------------------------------------------------------------------------------------- scopes


class BackwardScope(str):
    """The module path of a node that backward made, which also knows the forward node (without keeping it alive)."""

    __slots__ = ("forward",)
    forward: ref[Node]


class scope:
    """Name the operations inside: ``with ag.scope("encoder"):``. `nn.Module` enters one for every module it calls."""

    __slots__ = ("before", "name")

    def __init__(self, name: str):
        self.name = name

    def __enter__(self):
        self.before = state.scope
        state.scope = f"{self.before}.{self.name}" if self.before else self.name
        return self

    def __exit__(self, *error):
        state.scope = self.before


# ---------------------------------------------------------------------------------------------------- watching


class Watcher:
    """Sees what happens to Tensors in this thread while it is entered: the base of recording, compiling, checking.

    Every hook does by default what would happen anyway. Watchers nest; the inner one passes on to the outer one.
    """

    steers = True
    """Whether the engine goes where every operation passes the door: backward and optimizers work on Tensors, compiled
    functions run eagerly. A watcher that only looks on says False, unless one outside of it steers."""

    def __enter__(self):
        self.outer = state.watch
        state.watch = self
        return self

    def __exit__(self, *error):
        state.watch = self.outer

    def call(self, op, args, static):
        """An operation passes the door."""
        from .tensor import apply

        state.watch = self.outer
        try:
            return apply(op, args, static)
        finally:
            state.watch = self

    def call_function(self, function, args, kwargs):
        """A user's `Function` is applied."""
        state.watch = self.outer
        try:
            return function.apply(*args, **kwargs)
        finally:
            state.watch = self

    def call_compiled(self, compiled, args, kwargs):
        """A compiled function is called."""
        return compiled.function(*args, **kwargs)

    def backward(self, walk, roots):
        """A backward on arrays begins; asked of watchers that do not steer."""
        if self.outer is not None:
            return self.outer.backward(walk, roots)
        with unwatched():
            return walk.run(roots)

    def update(self, optimizer, place):
        """An optimizer works on arrays, for a step taken at ``place``; asked of watchers that do not steer."""
        if self.outer is not None:
            self.outer.update(optimizer, place)
        else:
            with unwatched():
                optimizer._update_arrays(place)

    def write(self, target, result):
        """``result`` is about to be written into the memory of ``target``."""
        if self.outer is not None:
            self.outer.write(target, result)

    def read(self, tensor):
        """The values of ``tensor`` leave the engine: a number or an array is made of them."""
        if self.outer is not None:
            self.outer.read(tensor)

    def alias(self, out, source):
        """``out`` is another Tensor on the memory of ``source``, without history."""
        if self.outer is not None:
            self.outer.alias(out, source)

    def accumulate(self, leaf, gradient):
        """Backward adds ``gradient`` to the ``grad`` of ``leaf``; True when that has been done here."""
        return self.outer is not None and self.outer.accumulate(leaf, gradient)

    def differentiated(self, node, given, found):
        """The rules of ``node``, ``given`` gradients of its outputs, ``found`` (edge, gradient) pairs."""
        if self.outer is not None:
            self.outer.differentiated(node, given, found)

    def copied(self, source, made):
        """The engine has copied the array ``source``."""
        if self.outer is not None:
            self.outer.copied(source, made)

    def convert(self, data, made):
        """The array ``made`` of a new tensor was made of ``data``."""
        if self.outer is not None:
            self.outer.convert(data, made)

    def replace(self, tensor, array):
        """``array`` becomes the data of ``tensor``; True when that has been done here."""
        return self.outer is not None and self.outer.replace(tensor, array)

    def use_grad(self, leaf, replaced):
        """The ``grad`` of ``leaf`` is about to be read, or to be ``replaced``."""
        if self.outer is not None:
            self.outer.use_grad(leaf, replaced)

    def reserve(self, generator):
        """A generator is about to hand out counters."""
        if self.outer is not None:
            self.outer.reserve(generator)

    def reseed(self, generator):
        """A generator is about to start again from another seed."""
        if self.outer is not None:
            self.outer.reseed(generator)

    def enter(self, module):
        """A module is called."""
        if self.outer is not None:
            self.outer.enter(module)

    def leave(self, module):
        """The call of a module is over, or has failed."""
        if self.outer is not None:
            self.outer.leave(module)

    def set_attribute(self, module, name, value):
        """An attribute of a module is about to be set."""
        if self.outer is not None:
            self.outer.set_attribute(module, name, value)

    def settings(self, optimizer, group, parameter, kept, settings):
        """What an update of ``parameter`` gets for its settings."""
        return settings if self.outer is None else self.outer.settings(optimizer, group, parameter, kept, settings)


class unwatched:
    """No watcher sees what happens inside: for what is no part of the computation."""

    def __enter__(self):
        self.before, state.watch = state.watch, None

    def __exit__(self, *error):
        state.watch = self.before
