"""Which rows there are, by group."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from . import kernels, ops, steps
from .cases import Case

TIMED = ("steps", "compiled", "kernels", "ops")
OTHERS = ("memory", "startup", "busy")
_LISTS = {"steps": steps.eager, "compiled": steps.compiled, "kernels": kernels.cases}


def names(group: str, only: Callable[[str], bool]) -> list[str]:
    """The names of the rows of a timed group that ``only`` accepts."""
    made = [name for _, name in ops.passes()] if group == "ops" else [case.name for case in _LISTS[group]()]
    return [name for name in made if only(name)]


def cases(group: str, only: Callable[[str], bool], tiny: bool = False, inputs: Any = None) -> Iterable[Case]:
    """The rows of a timed group whose names ``only`` accepts, so small that a test can run them if ``tiny``.

    ``inputs`` are those of the one row of ``ops`` that is meant, where they are known already.
    """
    if group == "ops":
        return ops.cases(only, tiny, inputs)
    # what is counted belongs to the full size
    return [replace(case.shrunk(), flops=0, bytes=0) if tiny else case for case in _LISTS[group]() if only(case.name)]
