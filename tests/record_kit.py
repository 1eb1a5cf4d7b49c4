"""What tests of records share: one test a record goes through all its samples, for a test costs more than a sample."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import pytest

import autograd_core as ag


def for_every_sample(cases: Iterable[tuple[str, int]]) -> Callable:
    """Turn ``check(name, number)`` into a test of each name with all its numbers, skipped where each of them is.

    A failure says the sample's number beside the traceback.
    """
    numbers: dict[str, list[int]] = {}
    for name, number in cases:
        numbers.setdefault(name, []).append(number)

    def decorate(check: Callable[[str, int], None]) -> Callable[[str], None]:
        @pytest.mark.parametrize("name", list(numbers))
        @functools.wraps(check)
        def test(name: str) -> None:
            reasons = []
            for number in numbers[name]:
                ag.manual_seed(0)
                try:
                    check(name, number)
                except pytest.skip.Exception as reason:
                    reasons.append(reason)
                except BaseException as failure:
                    failure.add_note(f"sample {number} of {name}")
                    raise
            if len(reasons) == len(numbers[name]):
                raise reasons[0]

        del test.__wrapped__  # pytest takes the arguments of what is wrapped for fixtures
        return test

    return decorate
