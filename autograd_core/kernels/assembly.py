"""Plans made of several kernels, among them whole plans of other planners, as a recurrent layer needs products."""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from autograd_core.kernels.plan import Call, Plan, Ref, Spec, scratch
from autograd_core.kernels.runner import RangeKernel


class Assembly:
    """Collects calls and scratch memory, and turns them into a :class:`~autograd_core.kernels.plan.Plan`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.pieces: list[int] = []

    def memory(self, size: int) -> Ref:
        """Reserve ``size`` bytes of scratch memory."""
        self.pieces.append(size)
        return scratch(len(self.pieces) - 1)

    def call(self, kernel: RangeKernel, context: tuple[int | Ref, ...], size: int, grain: int = 1) -> None:
        """Add one call."""
        self.calls.append(Call(kernel, context, size, grain))

    def include(self, plan: Plan | None, inputs: Sequence[Ref | None], *outputs: Ref) -> bool:
        """Add the calls of a whole plan, which reads ``inputs`` and writes ``outputs``; False if there is no plan.

        The plan's outputs must be C-ordered and need no zeroing.
        """
        if plan is None:
            return False
        first = len(self.pieces)
        self.pieces += plan.scratch

        def place(value: int | Ref) -> int | Ref:
            if not isinstance(value, Ref):
                return value
            if value.kind == "scratch":
                return replace(value, index=value.index + first)
            base = (inputs if value.kind == "input" else outputs)[value.index]
            assert base is not None
            return replace(base, offset=base.offset + value.offset)

        for call in plan.calls:
            self.calls.append(replace(call, context=tuple(map(place, call.context))))
        return True

    def plan(self, outputs: Sequence[Spec | None], zero: Sequence[int] = ()) -> Plan:
        """Return what was collected."""
        return Plan(tuple(outputs), tuple(self.calls), tuple(self.pieces), tuple(zero))
