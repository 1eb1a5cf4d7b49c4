"""Data sets: anything with `dataset[i]` and a length, or an endless stream."""

import bisect
import itertools
import math
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

import autograd_core as ag

from .collate import default_collate

T_co = TypeVar("T_co", covariant=True)


class Dataset(Generic[T_co]):
    """Samples by number: a subclass writes `__getitem__(index)`, and `__len__` for samplers that need it.

    It may also write `get_batch(indices)`, which returns what `default_collate` would make of those samples; the
    `DataLoader` then reads whole batches at once.
    """

    def __getitem__(self, index: Any) -> T_co:
        """Return the sample of that number."""
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__(self, index)")

    def __add__(self, other: "Dataset[T_co]") -> "ConcatDataset[T_co]":
        """Both data sets, one after the other."""
        return ConcatDataset([self, other])


class IterableDataset(Dataset[T_co]):
    """Samples as a stream: a subclass writes `__iter__`; for data that have no numbers or no end.

    A stream has one order, so the `DataLoader` reads it with a single worker, however many it is given.
    """

    def __iter__(self) -> Iterator[T_co]:
        """Start the stream."""
        raise NotImplementedError(f"{type(self).__name__} must define __iter__(self)")


class TensorDataset(Dataset[tuple[Any, ...]]):
    """Tensors or arrays of equal length; sample i is the tuple of their i-th rows, as tensors."""

    def __init__(self, *tensors: Any) -> None:
        if not tensors:
            raise ValueError("TensorDataset: got no tensors, needs at least one")
        for tensor in tensors:
            if not hasattr(tensor, "shape") or len(tensor.shape) == 0:
                raise TypeError(f"TensorDataset: got {type(tensor).__name__}, needs tensors or arrays with rows")
        if len({tensor.shape[0] for tensor in tensors}) > 1:
            sizes = ", ".join(str(tensor.shape[0]) for tensor in tensors)
            raise ValueError(f"TensorDataset: got tensors of {sizes} rows, needs as many in each")
        self.tensors: tuple[Any, ...] = tuple(ag.from_numpy(t) if isinstance(t, np.ndarray) else t for t in tensors)

    def __getitem__(self, index: Any) -> tuple[Any, ...]:
        """Return the rows at an index, slice or array of indices."""
        return tuple(tensor[index] for tensor in self.tensors)

    def get_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return the rows of all tensors at these indices."""
        rows = np.asarray(indices, dtype=np.int64)
        # A tensor that carries a gradient is indexed by the engine, which records it; plain data need not pass it.
        return [t[rows] if t.requires_grad else ag.from_numpy(t.numpy()[rows]) for t in self.tensors]

    def __len__(self) -> int:
        """Count the rows."""
        return self.tensors[0].shape[0]


class Subset(Dataset[T_co]):
    """The samples of a data set at the given indices, in that order."""

    def __init__(self, dataset: Dataset[T_co], indices: Sequence[int]) -> None:
        self.dataset = dataset
        self.indices = indices

    def __getitem__(self, index: Any) -> T_co:
        """Return the sample at a position of `indices`."""
        return self.dataset[self.indices[index]]

    def get_batch(self, indices: Sequence[int]) -> Any:
        """Return the batch at these positions of `indices`."""
        return collated(self.dataset, [self.indices[i] for i in indices])

    def __len__(self) -> int:
        """Count the chosen samples."""
        return len(self.indices)


class ConcatDataset(Dataset[T_co]):
    """Several data sets, one after the other; `a + b` makes one too."""

    def __init__(self, datasets: Iterable[Dataset[T_co]]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: got no data sets, needs at least one")
        if any(isinstance(dataset, IterableDataset) for dataset in self.datasets):
            raise TypeError("ConcatDataset: got an IterableDataset, needs data sets with numbered samples")
        self.cumulative_sizes = list(itertools.accumulate(map(_length, self.datasets)))

    def __getitem__(self, index: int) -> T_co:
        """Return a sample; negative numbers count from the end."""
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"ConcatDataset: got index {index}, has {len(self)} samples")
        which = bisect.bisect_right(self.cumulative_sizes, position)
        return self.datasets[which][position - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self) -> int:
        """Count the samples of all data sets."""
        return self.cumulative_sizes[-1]


def random_split(dataset: Dataset[T_co], lengths: Sequence[int | float], generator: Any = None) -> list[Subset[T_co]]:
    """Split a data set at random into parts that do not overlap.

    `lengths` are counts that sum to `len(dataset)`, or fractions that sum to 1: then each part gets the whole number
    below its share, and what is left over goes to the parts in turn.
    """
    total = _length(dataset)
    if math.isclose(sum(lengths), 1):
        if any(not 0 <= fraction <= 1 for fraction in lengths):
            raise ValueError(f"random_split: got fractions {list(lengths)}, needs each between 0 and 1")
        counts = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
        for i, count in enumerate(counts):
            if count == 0:
                warnings.warn(f"random_split: part {i} of {list(lengths)} is empty", UserWarning, stacklevel=2)
    else:
        counts = [int(length) for length in lengths]
    whole = math.isclose(sum(lengths), 1) or counts == list(lengths)
    if not whole or sum(counts) != total or min(counts, default=0) < 0:
        raise ValueError(f"random_split: got lengths {list(lengths)}, needs a sum of {total}, the data set's length")
    order = ag.randperm(total, generator=generator).tolist()
    ends = list(itertools.accumulate(counts))
    return [Subset(dataset, order[end - count : end]) for count, end in zip(counts, ends, strict=True)]


def collated(dataset: Any, indices: Sequence[int]) -> Any:
    """Make the default batch of these samples, at once where the data set can.

    `get_batch` speaks only for the `__getitem__` that it stands beside: a subclass that overrides the latter alone
    (an augmentation, say) is read sample by sample.
    """
    for kind in type(dataset).__mro__:
        if "get_batch" in vars(kind):
            return dataset.get_batch(indices)
        if "__getitem__" in vars(kind):
            break
    return default_collate(samples(dataset, indices))


def samples(dataset: Any, indices: Sequence[int]) -> list[Any]:
    """List these samples, by the data set's own `__getitems__` where it has one."""
    if hasattr(dataset, "__getitems__"):
        return dataset.__getitems__(indices)
    return [dataset[i] for i in indices]


def _length(dataset: Any) -> int:
    return len(dataset)
