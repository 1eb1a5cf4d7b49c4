"""Modules that only keep the settings of one function of `nn.functional`: one short class each."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from . import functional as F
from .module import Module

NEEDED = inspect.Parameter.empty
"""Stands in place of a default where a setting has none."""


class Wrapper(Module):
    """A module without parameters: a function of `nn.functional` whose settings are attributes.

    A subclass names the function, and the settings in order with their defaults, as class arguments::

        class ELU(Wrapper, function="elu", alpha=1.0, inplace=False):
            ...

    That gives ``ELU(alpha=1.0, inplace=False)`` with attributes ``alpha`` and ``inplace``. ``shown`` names the settings
    that stand in the ``repr`` (all by default, also for subclasses); ``keyword_only`` forbids settings by position.
    """

    _function = ""
    _settings: tuple[str, ...] = ()
    _shown: tuple[str, ...] | None = None
    _signature = inspect.Signature()

    def __init_subclass__(cls, function=None, shown=None, keyword_only=False, **settings):
        super().__init_subclass__()
        if function is not None:
            cls._function = function
        if settings:
            cls._settings = tuple(settings)
            kind = inspect.Parameter.KEYWORD_ONLY if keyword_only else inspect.Parameter.POSITIONAL_OR_KEYWORD
            cls._signature = inspect.Signature([inspect.Parameter(k, kind, default=v) for k, v in settings.items()])
        if shown is not None:
            cls._shown = tuple(shown.split())
        own = cls.__dict__.get("__init__")
        takes_anything = own is None or own.__code__.co_argcount == 1
        cls.__signature__ = cls._signature if takes_anything else _without_self(own)

    def __init__(self, *args, **kwargs):
        super().__init__()
        self.__dict__.update(self._bind(args, kwargs))

    def _bind(self, args, kwargs):
        """The settings that the constructor's arguments give, by name, with defaults filled in."""
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{type(self).__name__}.__init__() {error}; it takes {self._signature}") from None
        bound.apply_defaults()
        return bound.arguments

    def _of_input(self, input):
        """Call the function with the settings."""
        if not self._settings:
            return getattr(F, self._function)(input)
        held = self.__dict__
        return getattr(F, self._function)(input, **{name: held[name] for name in self._settings})

    forward: Callable[..., Any] = _of_input  # an attribute to type checkers: subclasses may take other inputs

    def extra_repr(self):
        """The settings that matter: ``inplace`` only where it is on."""
        names = self._settings if self._shown is None else self._shown
        return ", ".join([f"{name}={getattr(self, name)}" for name in names if name != "inplace" or self.inplace])


def _without_self(function):
    found = inspect.signature(function)
    return found.replace(parameters=list(found.parameters.values())[1:])


def legacy_reduction(size_average, reduce) -> str:
    """The ``reduction`` that two older arguments of the losses stand for."""
    mean, on = (True if flag is None else flag for flag in (size_average, reduce))
    found = "none" if not on else "mean" if mean else "sum"
    warnings.warn(f"size_average and reduce are older arguments; write reduction='{found}' instead",
                  stacklevel=4)  # fmt: skip
    return found
