"""Where in the user's code something happened: cheap to note, worked out as file and line only when asked."""

from __future__ import annotations

import linecache
import os
import sys
from types import FrameType

_HERE = os.path.dirname(os.path.abspath(__file__))
_ROOT = os.path.dirname(_HERE)
_OURS = tuple(os.path.join(_ROOT, package) + os.sep for package in ("autograd_core", "nn", "optim"))
_MODELS = os.path.join(_ROOT, "nn", "models") + os.sep
_OPS, _BACKWARD = os.path.join(_HERE, "ops") + os.sep, os.path.join(_HERE, "backward.py")
GENERATED = "<autograd_core "
"""How the file names of generated functions begin."""


def written_by_user(filename: str) -> bool:
    """Whether a file is not part of this library (its ready models count as a user's)."""
    return not (filename.startswith(GENERATED) or (filename.startswith(_OURS) and not filename.startswith(_MODELS)))


class _Known(dict):
    def __missing__(self, filename):
        self[filename] = users = written_by_user(filename)
        return users


_is_users, _frame = _Known(), sys._getframe


def site(depth: int = 2):
    """The (code, instruction offset) of the nearest frame outside this library, from ``depth`` frames up; or None."""
    frame: FrameType | None = _frame(depth)
    while frame is not None:
        code = frame.f_code
        if _is_users[code.co_filename]:
            return code, frame.f_lasti
        frame = frame.f_back
    return None


def entrance(depth: int = 2) -> str | None:
    """The name of the function of `ops` that the code outside of `ops` has called; None where backward has."""
    frame: FrameType | None = sys._getframe(depth)
    found = None
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith((_OPS, GENERATED)):
            found = code.co_name
        elif not code.co_filename.startswith(_OURS[0]) or code.co_filename == _BACKWARD:
            break
        frame = frame.f_back
    return None if frame is not None and frame.f_code.co_filename == _BACKWARD else found


def line_of(place) -> int | None:
    """The line number of a site."""
    code, offset = place
    for start, end, line in code.co_lines():
        if start <= offset < end:
            return line
    return code.co_firstlineno


def describe(place) -> str:
    """A site as ``file.py:12, in forward: y = x @ w``, or an empty string for None."""
    if place is None:
        return ""
    code, line = place[0], line_of(place)
    text = linecache.getline(code.co_filename, line or 0).strip()
    return f"{code.co_filename}:{line}, in {code.co_name}" + (f": {text}" if text else "")


def at(row) -> str:
    """Where an instruction of a program comes from: its module, and the user's line."""
    place = describe(row.site)
    return (f" in module {row.scope}" if row.scope else "") + (f", recorded at {place}" if place else "")
