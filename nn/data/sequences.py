"""Sequences of unequal length with labels: the Japanese vowels."""

import importlib.resources
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

import autograd_core as ag

from .dataset import Dataset
from .fetch import Source, fetch_files, or_stand_in
from .sources import Installed, Pip

VOWELS_FILES = {
    "JapaneseVowels_TRAIN.ts": "68a430eabd919cc77f40b1f5f3bc0dcafacc1486bca9260785aeb7d262cc78cd",
    "JapaneseVowels_TEST.ts": "b3d41d6a0ca3bcad3afb9ca7d4365382aa51341e2e58bae2a574babdda5b9462",
}
VOWELS_SOURCES: tuple[Source, ...] = (
    Installed("aeon", "datasets/data/JapaneseVowels"),
    Pip("aeon==1.6.0", folder="aeon/datasets/data/JapaneseVowels/"),
)


class SequenceDataset(Dataset[tuple[Any, int]]):
    """Sequences of unequal length: sample i is `(sequence, label)`, a float32 tensor (T, features) and an int.

    sequences: float32 arrays (T, features), T as it comes. labels: N whole numbers. Batches need a `collate_fn`, such
    as one with `nn.utils.rnn.pad_sequence` or `pack_sequence`. source: where they came from.
    """

    def __init__(self, sequences: Sequence[np.ndarray], labels: Any, *, source: str = "") -> None:
        if len(sequences) != len(labels):
            raise ValueError(f"SequenceDataset: got {len(sequences)} sequences and {len(labels)} labels")
        self.sequences = list(sequences)
        self.labels = np.asarray(labels, dtype=np.int64)
        self.source = source

    @property
    def lengths(self) -> np.ndarray:
        """The number of steps of each sequence."""
        return np.array([len(sequence) for sequence in self.sequences])

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return one sequence and its label."""
        return ag.from_numpy(self.sequences[index].copy()), int(self.labels[index])

    def __len__(self) -> int:
        """Count the sequences."""
        return len(self.sequences)


def japanese_vowels(
    root: str | os.PathLike[str] | None = None, *, normalize: bool = True, embedded: bool | None = None
) -> tuple[SequenceDataset, SequenceDataset]:
    """Nine men saying the vowels "ae": 270 utterances for training, 370 for testing; which of them speaks?

        train, test = nn.data.japanese_vowels()
        sequence, speaker = train[0]          # float32 tensor (20, 12): 7 to 29 steps of 12 coefficients; 0 to 8

    A step holds the 12 cepstral coefficients of a stretch of sound. The two files are looked for in `root`, or else in
    `$AG_DATA` and the user's cache, else taken from the Python package aeon (installed, or its wheel, fetched with
    pip), and checked by their SHA-256.

    normalize: subtract the training part's mean of each coefficient and divide by its deviation.
    embedded: by default, where the files can be neither found nor fetched, 135 utterances of the set that ship with
        this package serve instead (90 and 45), and a `DataWarning` says so; `True` takes these at once, `False` never.

    Source: M. Kudo, J. Toyama, M. Shimbo, "Multidimensional curve classification using passing-through regions" (1999),
    UCI Machine Learning Repository, doi 10.24432/C5NS47; CC BY 4.0.
    """
    return or_stand_in(lambda: _whole_vowels(root, normalize), lambda: _some_vowels(normalize), embedded)


def _whole_vowels(root: str | os.PathLike[str] | None, normalize: bool) -> tuple[SequenceDataset, SequenceDataset]:
    """The two files of the set."""
    contents, source = fetch_files("japanese-vowels", VOWELS_FILES, VOWELS_SOURCES, root)
    parts = [_read_ts(content.decode("utf-8")) for content in contents.values()]
    return _normalised(parts, normalize, source)


def _some_vowels(normalize: bool) -> tuple[SequenceDataset, SequenceDataset]:
    """The 135 utterances in this package: the first 10 and 5 of each speaker, in thousandths."""
    with np.load(io.BytesIO((importlib.resources.files(__package__) / "vowels.npz").read_bytes())) as held:
        steps = held["steps"].astype(np.float32) / 1000
        sequences = np.split(steps, np.cumsum(held["lengths"])[:-1])
        labels = held["labels"]
    parts = [(sequences[:90], labels[:90]), (sequences[90:], labels[90:])]
    return _normalised(parts, normalize, "135 Japanese vowels in this package")


def _normalised(parts: Sequence[Any], normalize: bool, source: str) -> tuple[SequenceDataset, SequenceDataset]:
    """Data sets of (sequences, labels), by the training part's mean and deviation."""
    if normalize:
        steps = np.concatenate(parts[0][0])
        mean, std = steps.mean(0), steps.std(0)
        parts = [([(sequence - mean) / std for sequence in sequences], labels) for sequences, labels in parts]
    train, test = (SequenceDataset(sequences, labels, source=source) for sequences, labels in parts)
    return train, test


def _read_ts(text: str) -> tuple[list[np.ndarray], np.ndarray]:
    """Sequences and labels (from 0) of the format .ts: a line a sample, features by colons, the label last."""
    rows = text[text.index("@data") :].splitlines()[1:]
    sequences, labels = [], []
    for row in filter(None, rows):
        *features, label = row.split(":")
        sequences.append(np.array([np.fromstring(f, sep=",") for f in features], dtype=np.float32).T.copy())
        labels.append(int(label) - 1)
    return sequences, np.array(labels)
