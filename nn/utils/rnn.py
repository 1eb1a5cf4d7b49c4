"""Sequences of different lengths in one batch: padded, or packed without the padding."""

from __future__ import annotations

from collections import namedtuple

import numpy as np

import autograd_core as ag
from autograd_core import Tensor

_Fields = namedtuple("_Fields", "data batch_sizes sorted_indices unsorted_indices")


def _integers(values) -> np.ndarray:
    return (values.array if isinstance(values, Tensor) else np.asarray(values)).astype(np.int64, copy=False)


def invert_permutation(permutation):
    """The permutation that undoes ``permutation``; None for None."""
    if permutation is None:
        return None
    return ag.tensor(np.argsort(_integers(permutation)))


class PackedSequence(_Fields):
    """Sequences of different lengths, stored time step by time step without padding.

    ``data``: the elements, first those of all sequences at step 0 (longest sequence first), then at step 1, ...;
    ``batch_sizes``: how many sequences are still running at each step; ``sorted_indices`` and ``unsorted_indices``:
    the order by length and back, None where the sequences came sorted. Made by `pack_padded_sequence`.
    """

    __slots__ = ()

    def __new__(cls, data, batch_sizes=None, sorted_indices=None, unsorted_indices=None):
        if batch_sizes is None:
            if not (isinstance(data, (list, tuple)) and len(data) == 2):
                raise ValueError("PackedSequence: batch_sizes is missing")
            data, batch_sizes = data
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def to(self, *args, **kwargs):
        """The same sequences with data of another type; see `Tensor.to`."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else type(self)(data, *self[1:])

    def double(self):
        """The same sequences in float64."""
        return self.to(ag.float64)

    def float(self):
        """The same sequences in float32."""
        return self.to(ag.float32)

    def half(self):
        """The same sequences in float16."""
        return self.to(ag.float16)

    def long(self):
        """The same sequences in int64."""
        return self.to(ag.int64)

    def int(self):
        """The same sequences in int32."""
        return self.to(ag.int32)

    def cpu(self):
        """The sequences themselves: everything is on the CPU."""
        return self

    @property
    def is_cuda(self):
        """False: everything is on the CPU."""
        return False

    def is_pinned(self):
        """False: there is no pinned memory."""
        return False


def _packed_order(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(sequence, step) of every element in packed order, for lengths that fall."""
    steps = np.arange(lengths[0])[:, None]
    step, sequence = np.nonzero(steps < lengths[None, :])
    return sequence, step


def pack_padded_sequence(input, lengths, batch_first=False, enforce_sorted=True) -> PackedSequence:
    """Leave the padding out of a batch (T, N, *) of sequences with the given ``lengths``.

    ``batch_first``: the batch is (N, T, *). ``enforce_sorted``: lengths must fall; else they are sorted here.
    """
    lengths = _integers(lengths)
    if lengths.ndim != 1 or lengths.size != input.shape[0 if batch_first else 1]:
        raise RuntimeError(f"Expected `len(lengths)` to be equal to batch_size, but got {lengths.size} "
                           f"(batch_size={input.shape[0 if batch_first else 1]})")  # fmt: skip
    if lengths.size == 0:
        raise RuntimeError("Cannot pack empty tensors.")
    if lengths.min() <= 0:
        raise RuntimeError("Length of all samples has to be greater than 0, but found an element in 'lengths' that is "
                           "<= 0")  # fmt: skip
    if lengths.max() > input.shape[1 if batch_first else 0]:
        raise RuntimeError(f"Expected the longest length ({lengths.max()}) to be at most the number of steps "
                           f"({input.shape[1 if batch_first else 0]})")  # fmt: skip
    order = None
    if enforce_sorted:
        if (np.diff(lengths) > 0).any():
            raise RuntimeError("pack_padded_sequence: lengths must be sorted in decreasing order, or "
                               "enforce_sorted=False sort them here; "
                               f"got {lengths.tolist()}")  # fmt: skip
    else:
        order = np.argsort(-lengths, kind="stable")
        lengths = lengths[order]
    sequence, step = _packed_order(lengths)
    sequence = sequence if order is None else order[sequence]
    data = input[ag.tensor(sequence), ag.tensor(step)] if batch_first else input[ag.tensor(step), ag.tensor(sequence)]
    sizes = (np.arange(lengths[0])[:, None] < lengths[None, :]).sum(1)
    return PackedSequence(data, ag.tensor(sizes), None if order is None else ag.tensor(order))


def _lengths(batch_sizes: np.ndarray) -> np.ndarray:
    return (batch_sizes[:, None] > np.arange(batch_sizes[0])[None, :]).sum(0)


def pad_packed_sequence(sequence, batch_first=False, padding_value=0.0, total_length=None):
    """The padded batch (T, N, *) and the lengths of a packed one: the inverse of `pack_padded_sequence`.

    ``total_length``: the number of steps to pad to (that of the longest sequence by default).
    """
    sizes = _integers(sequence.batch_sizes)
    steps = len(sizes)
    if total_length is not None:
        if total_length < steps:
            raise ValueError("Expected total_length to be at least the length of the longest sequence in input, "
                             f"but got total_length={total_length} and max sequence length being {steps}")  # fmt: skip
        steps = total_length
    lengths = _lengths(sizes)
    place, step = _packed_order(lengths)
    if sequence.unsorted_indices is not None:
        back = _integers(sequence.unsorted_indices)
        place = np.argsort(back)[place]
        lengths = lengths[back]
    shape = (len(lengths), steps) if batch_first else (steps, len(lengths))
    where = (ag.tensor(place), ag.tensor(step)) if batch_first else (ag.tensor(step), ag.tensor(place))
    data = sequence.data
    padded = ag.full((*shape, *data.shape[1:]), padding_value, dtype=data.dtype).index_put(where, data)
    return padded, ag.tensor(lengths)


def pad_sequence(sequences, batch_first=False, padding_value=0.0, padding_side="right") -> Tensor:
    """Stack sequences (L, *) of different lengths into a batch (T, N, *), filled up with ``padding_value``."""
    if padding_side not in ("left", "right"):
        raise ValueError(f"pad_sequence: padding_side should be 'left' or 'right', got {padding_side!r}")
    if not isinstance(sequences, Tensor) and not isinstance(sequences, (list, tuple)):
        raise RuntimeError("pad_sequence: Expected iterable for input sequences, but got arg of type: "
                           f"{type(sequences).__name__}")  # fmt: skip
    sequences = list(sequences)
    if not sequences:
        raise RuntimeError("pad_sequence: received an empty list of sequences")
    steps = max(len(s) for s in sequences)
    rows = []
    for sequence in sequences:
        missing = steps - len(sequence)
        if missing:
            fill = ag.full((missing, *sequence.shape[1:]), padding_value, dtype=sequence.dtype)
            sequence = ag.cat([fill, sequence] if padding_side == "left" else [sequence, fill])
        rows.append(sequence)
    return ag.stack(rows, 0 if batch_first else 1)


def unpad_sequence(padded_sequences, lengths, batch_first=False) -> list[Tensor]:
    """The sequences of a padded batch: the inverse of `pad_sequence`."""
    if not batch_first:
        padded_sequences = padded_sequences.transpose(0, 1)
    return [padded_sequences[i, : int(length)] for i, length in enumerate(_integers(lengths))]


def pack_sequence(sequences, enforce_sorted=True) -> PackedSequence:
    """Pack a list of sequences (L, *) of different lengths."""
    return pack_padded_sequence(pad_sequence(sequences), [len(s) for s in sequences], enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences) -> list[Tensor]:
    """The sequences of a packed batch: the inverse of `pack_sequence`."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)

