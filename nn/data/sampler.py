"""Samplers: in which order a data set is read."""

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

import numpy as np

import autograd_core as ag

T_co = TypeVar("T_co", covariant=True)


def draw_seed(generator: Any) -> int:
    """Draw a seed from a generator, `None` being the default one."""
    return int(ag.randint(0, 2**63 - 1, (1,), generator=generator).item())


class Sampler(Generic[T_co]):
    """An order of sample numbers: a subclass writes `__iter__`, and `__len__` where it is known."""

    def __iter__(self) -> Iterator[T_co]:
        """Start one pass."""
        raise NotImplementedError(f"{type(self).__name__} must define __iter__(self)")


class SequentialSampler(Sampler[int]):
    """The samples from first to last."""

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        """Count up."""
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        """Count the samples."""
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """The samples in a new random order on every pass.

    With `replacement`, `num_samples` independent draws; without, permutations one after the other until `num_samples`
    are drawn. `num_samples` defaults to the length of the data set, `generator` to the default generator.
    """

    def __init__(
        self, data_source: Sized, replacement: bool = False, num_samples: int | None = None, generator: Any = None
    ) -> None:
        if num_samples is not None and num_samples <= 0:
            raise ValueError(f"RandomSampler: got num_samples={num_samples}, needs a positive number")
        self.data_source = data_source
        self.replacement = replacement
        self.generator = generator
        self._num_samples = num_samples

    @property
    def num_samples(self) -> int:
        """How many samples one pass draws."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        """Draw an order."""
        count = len(self.data_source)
        # Its own generator: a loader that reads ahead must not draw the second permutation from the consumer's numbers.
        generator = ag.Generator().manual_seed(draw_seed(self.generator))
        if self.replacement:
            yield from ag.randint(0, count, (self.num_samples,), generator=generator).tolist()
            return
        left = self.num_samples if count else 0
        while left > 0:
            yield from ag.randperm(count, generator=generator).tolist()[:left]
            left -= count

    def __len__(self) -> int:
        """Count the draws of a pass."""
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given indices, in a new random order on every pass."""

    def __init__(self, indices: Sequence[int], generator: Any = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        """Draw an order."""
        for position in ag.randperm(len(self.indices), generator=self.generator).tolist():
            yield self.indices[position]

    def __len__(self) -> int:
        """Count the indices."""
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` draws from `0 .. len(weights) - 1`, each as likely as its weight; weights need not sum to 1."""

    def __init__(
        self, weights: Sequence[float], num_samples: int, replacement: bool = True, generator: Any = None
    ) -> None:
        if isinstance(num_samples, bool) or not isinstance(num_samples, int) or num_samples <= 0:
            raise ValueError(f"WeightedRandomSampler: got num_samples={num_samples!r}, needs a positive whole number")
        self.weights = np.asarray(weights, dtype=np.float64)
        if self.weights.ndim != 1 or not np.all(self.weights >= 0) or not 0 < self.weights.sum() < np.inf:
            raise ValueError("WeightedRandomSampler: needs one row of weights, none negative, with a positive sum")
        if not replacement and num_samples > np.count_nonzero(self.weights):
            raise ValueError(
                f"WeightedRandomSampler: got num_samples={num_samples} without replacement, "
                f"needs at most {np.count_nonzero(self.weights)}, the number of positive weights"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        """Draw."""
        count = self.num_samples if self.replacement else len(self.weights)
        uniform = ag.rand(count, dtype=ag.float64, generator=self.generator).numpy()
        if self.replacement:
            edges = np.cumsum(self.weights)
            # side="right" steps over weights of zero, which repeat an edge; rounding may put the last draw at the end.
            draws = np.searchsorted(edges, uniform * edges[-1], side="right")
            return iter(np.minimum(draws, np.flatnonzero(self.weights)[-1]).tolist())
        # The smallest of exponential waiting times with these rates: Efraimidis and Spirakis (2006).
        with np.errstate(divide="ignore"):
            waiting = -np.log1p(-uniform) / self.weights
        waiting[self.weights == 0] = np.inf
        return iter(np.argsort(waiting, kind="stable")[: self.num_samples].tolist())

    def __len__(self) -> int:
        """Count the draws of a pass."""
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Another sampler's numbers in lists of `batch_size`; the last may be shorter unless `drop_last`."""

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size <= 0:
            raise ValueError(f"BatchSampler: got batch_size={batch_size!r}, needs a positive whole number")
        if not isinstance(drop_last, bool):
            raise ValueError(f"BatchSampler: got drop_last={drop_last!r}, needs True or False")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        """Group one pass."""
        numbers = iter(self.sampler)
        while batch := list(itertools.islice(numbers, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch

    def __len__(self) -> int:
        """Count the batches of a pass."""
        whole, rest = divmod(len(self.sampler), self.batch_size)  # type: ignore[arg-type]
        return whole + bool(rest and not self.drop_last)
