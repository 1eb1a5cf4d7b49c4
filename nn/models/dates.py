"""Dates in the spellings that people use, and in the standard's: pairs of texts to learn rewriting from."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence

import numpy as np

import autograd_core as ag
from nn.data import Dataset

FIRST, LAST = dt.date(1950, 1, 1), dt.date(2049, 12, 31)
INPUTS = "\0 ,./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
"""The characters of spellings; the first is padding."""
OUTPUTS = "\0\n-0123456789"
"""Padding, the start of a text, and the characters of ISO dates."""
LONGEST = 28  # "Wednesday, 22 September 1999"

_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
           "December")  # fmt: skip
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_ORDINALS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}

SPELLINGS = (
    "{d} {month} {y}",
    "{d} {short} {y}",
    "{month} {d}, {y}",
    "{short} {d}, {yy:02}",
    "{weekday}, {d} {month} {y}",
    "the {d}{th} of {month} {y}",
    "{d}.{m}.{y}",
    "{d:02}.{m:02}.{yy:02}",
    "{m}/{d}/{y}",
    "{m:02}/{d:02}/{yy:02}",
    "{y} {short} {d}",
)
"""European with dots (day first), American with strokes (month first), in words.

A year of two digits is from 1950 to 2049.
"""


def spell(date: dt.date, kind: int) -> str:
    """The date in one of the `SPELLINGS`."""
    month = _MONTHS[date.month - 1]
    return SPELLINGS[kind].format(d=date.day, m=date.month, y=date.year, yy=date.year % 100, month=month,
                                  short=month[:3], weekday=_DAYS[date.weekday()],
                                  th=_ORDINALS.get(date.day, "th"))  # fmt: skip


class Dates(Dataset):
    """Pairs of a date's spelling and its ISO form; sample i is `(spelling, given, wanted)`, codes as int64 tensors.

    ``spelling``: codes of a text such as "May 3, 98" in `INPUTS`, filled up with 0 to `LONGEST`. ``given``: the start
    and the ISO date but its last character, codes in `OUTPUTS`; ``wanted``: the ISO date, "1998-05-03".
    """

    def __init__(self, days: Sequence[int] | np.ndarray, rng: np.random.Generator) -> None:
        self.source = "made from the calendar"
        dates = [FIRST + dt.timedelta(int(day)) for day in days]
        kinds = rng.integers(0, len(SPELLINGS), len(dates))
        self.spellings = [spell(date, kind) for date, kind in zip(dates, kinds, strict=True)]
        self.dates = [date.isoformat() for date in dates]
        self._spellings = encode(self.spellings, INPUTS, LONGEST)
        self._dates = encode(["\n" + date for date in self.dates], OUTPUTS, 11)

    def __getitem__(self, index):
        """Return the codes of one pair, or of those at a slice or array of indices."""
        dates = self._dates[index]
        return tuple([ag.tensor(a) for a in (self._spellings[index], dates[..., :-1], dates[..., 1:])])

    def get_batch(self, indices):
        """Return the codes of the pairs at these indices."""
        return list(self[np.asarray(indices, dtype=np.int64)])

    def __len__(self):
        """Count the pairs."""
        return len(self.dates)


def date_parts(sizes: Sequence[int], seed: int = 0) -> list[Dates]:
    """Data sets of these sizes; no day is in two of them, so that a network cannot know an answer by heart."""
    rng = np.random.default_rng(seed)
    days = rng.permutation((LAST - FIRST).days + 1)
    shares = np.cumsum(np.array(sizes) / sum(sizes) * len(days)).astype(int)[:-1]
    return [Dates(rng.choice(part, size), rng) for part, size in zip(np.split(days, shares), sizes, strict=True)]


def encode(texts: Sequence[str], alphabet: str, length: int) -> np.ndarray:
    """Codes (N, length) of texts, filled up with 0."""
    made = np.zeros((len(texts), length), np.int64)
    for row, text in zip(made, texts, strict=True):
        row[: len(text)] = [alphabet.index(c) for c in text]
    return made


def decode(codes, alphabet: str) -> list[str]:
    """The texts of codes (N, T)."""
    return ["".join([alphabet[int(c)] for c in row]).replace("\0", "") for row in codes]
