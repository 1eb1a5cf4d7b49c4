"""Which rows there are, by group."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from . import kernels, ops, steps
from .cases import Case

TIMED = ("steps", "compiled", "kernels", "ops")
OTHERS = ("memory", "startup")


def cases(group: str, only: Callable[[str], bool], tiny: bool = False) -> Iterable[Case]:
    """The rows of a timed group whose names ``only`` accepts, so small that a test can run them if ``tiny``."""
    if group == "ops":
        return ops.cases(only, tiny)
    made = {"steps": steps.eager, "compiled": steps.compiled, "kernels": kernels.cases}[group]()
    # what is counted belongs to the full size
    return [replace(case.shrunk(), flops=0, bytes=0) if tiny else case for case in made if only(case.name)]
