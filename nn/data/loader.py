"""The DataLoader: batches in order, read ahead by threads."""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from .collate import default_collate, default_convert
from .dataset import IterableDataset, collated, samples
from .sampler import BatchSampler, RandomSampler, SequentialSampler, draw_seed

_END: Any = object()
_current = threading.local()  # what this thread is loading: .worker, .batch = (seed, number), .generator


@dataclass(frozen=True)
class WorkerInfo:
    """What `get_worker_info` tells a data set about the worker that reads it."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


def get_worker_info() -> WorkerInfo | None:
    """Describe the DataLoader worker that asks, `None` outside of one."""
    return getattr(_current, "worker", None)


def batch_generator() -> np.random.Generator:
    """Random numbers for a data set or collate function that augments: the same for any number of workers.

    Inside a `DataLoader` it is seeded by the loader's generator and the number of the batch; outside of one, by the
    default generator. (The default generator itself, drawn from in several threads, would give a new order each time.)
    """
    batch = getattr(_current, "batch", None)
    if batch is None:
        return np.random.default_rng(draw_seed(None))
    if _current.generator is None:
        _current.generator = np.random.default_rng(batch)
    return _current.generator


class DataLoader:
    """Batches of a data set, in the same order and with the same numbers for any number of workers.

    dataset: anything with `dataset[i]` and a length, or an `IterableDataset`.
    batch_size: samples in a batch; `None` yields single samples, as tensors.
    shuffle: a new random order on every pass.
    sampler, batch_sampler: which samples (or lists of them) instead.
    num_workers: threads that read ahead; 0 reads when asked. NumPy and file reading run beside the training step.
    collate_fn: makes a batch of a list of samples; default `default_collate`. With the default, a data set that has
        `get_batch`, such as `TensorDataset`, is read a batch at a time.
    pin_memory: accepted for the sake of existing code; there is no other memory to pin to.
    drop_last: leave out a last batch that is shorter.
    timeout: seconds to wait for a batch of a worker; 0 waits for ever.
    worker_init_fn: called in each worker with its number before its first batch.
    generator: where shuffling and `batch_generator` take their seeds; default the default generator.
    prefetch_factor: batches read ahead by each worker; default 2.
    persistent_workers: keep the threads from one pass to the next.

    An exception in a worker is raised where the loop asks for that batch, with the worker's traceback. Leaving the
    loop early stops the workers.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = 1,
        shuffle: bool | None = None,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[list[int]] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        pin_memory: bool = False,
        drop_last: bool = False,
        timeout: float = 0,
        worker_init_fn: Callable[[int], None] | None = None,
        generator: Any = None,
        *,
        prefetch_factor: int | None = None,
        persistent_workers: bool = False,
    ) -> None:
        if num_workers < 0 or timeout < 0:
            raise ValueError(f"DataLoader: got num_workers={num_workers}, timeout={timeout}, needs neither negative")
        if num_workers == 0 and (prefetch_factor is not None or persistent_workers):
            raise ValueError("DataLoader: prefetch_factor and persistent_workers need num_workers > 0")
        if prefetch_factor is not None and prefetch_factor <= 0:
            raise ValueError(f"DataLoader: got prefetch_factor={prefetch_factor}, needs a positive number")
        _check_order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last)
        self.dataset = dataset
        self.batch_size = batch_size if batch_sampler is None else None
        self.num_workers = num_workers
        self.pin_memory = pin_memory
        self.drop_last = drop_last
        self.timeout = timeout
        self.worker_init_fn = worker_init_fn
        self.generator = generator
        self.prefetch_factor = 2 if prefetch_factor is None and num_workers else prefetch_factor
        self.persistent_workers = persistent_workers
        if sampler is None and not isinstance(dataset, IterableDataset):
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        self.sampler = sampler
        if batch_sampler is None and batch_size is not None and sampler is not None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_sampler = batch_sampler
        self._batched = batch_size is not None or batch_sampler is not None
        self.collate_fn = collate_fn or (default_collate if self._batched else default_convert)
        self._pool: ThreadPoolExecutor | None = None

    def __len__(self) -> int:
        """Count the batches of a pass."""
        if not isinstance(self.dataset, IterableDataset):
            return len(self.batch_sampler if self._batched else self.sampler)  # type: ignore[arg-type]
        if self.batch_size is None:
            return len(self.dataset)  # type: ignore[arg-type]
        whole, rest = divmod(len(self.dataset), self.batch_size)  # type: ignore[arg-type]
        return whole + bool(rest and not self.drop_last)

    def __iter__(self) -> Iterator[Any]:
        """Start a pass."""
        seed = draw_seed(self.generator)
        jobs = self._jobs(seed)
        if self.num_workers == 0:
            return itertools.takewhile(lambda batch: batch is not _END, (job() for job in jobs))
        return self._read_ahead(jobs, seed)

    def _jobs(self, seed: int) -> Iterator[Callable[[], Any]]:
        """One call a batch: the order is decided here, by the consumer's thread, whoever makes the call."""
        if isinstance(self.dataset, IterableDataset):
            stream = iter(self.dataset)
            return (partial(self._load, seed, number, stream, self._next_from) for number in itertools.count())
        chosen = iter(self.batch_sampler if self._batched else self.sampler)  # type: ignore[arg-type]
        return (partial(self._load, seed, number, which, self._pick) for number, which in enumerate(chosen))

    def _load(self, seed: int, number: int, which: Any, read: Callable[[Any], Any]) -> Any:
        """Read one batch, in whatever thread; an error says which batch it was."""
        try:
            if getattr(_current, "new", False):
                if self.worker_init_fn is not None:
                    self.worker_init_fn(_current.worker.id)
                _current.new = False
            outer = getattr(_current, "batch", None), getattr(_current, "generator", None)
            _current.batch, _current.generator = (seed, number), None
            try:
                return read(which)
            finally:
                _current.batch, _current.generator = outer
        except Exception as error:
            error.add_note(f"while the DataLoader was reading batch {number}")
            raise

    def _pick(self, which: Any) -> Any:
        """Read the batch (or without batching, the sample) of these numbers."""
        if not self._batched:
            return self.collate_fn(self.dataset[which])
        if self.collate_fn is default_collate:
            return collated(self.dataset, which)
        return self.collate_fn(samples(self.dataset, which))

    def _next_from(self, stream: Iterator[Any]) -> Any:
        """Read the next batch of a stream."""
        if self.batch_size is None:
            sample = next(stream, _END)
            return sample if sample is _END else self.collate_fn(sample)
        batch = list(itertools.islice(stream, self.batch_size))
        if not batch or (self.drop_last and len(batch) < self.batch_size):
            return _END
        return self.collate_fn(batch)

    def _read_ahead(self, jobs: Iterator[Callable[[], Any]], seed: int) -> Iterator[Any]:
        """Keep `num_workers * prefetch_factor` batches under way, and yield them in order."""
        pool = self._pool or _start_workers(self.num_workers, self.dataset, seed)
        if self.persistent_workers:
            self._pool = pool
        ahead = self.num_workers * (self.prefetch_factor or 1)
        under_way = deque(pool.submit(job) for job in itertools.islice(jobs, ahead))
        try:
            while under_way:
                first = under_way.popleft()
                if not wait([first], self.timeout or None).done:
                    first.cancel()
                    raise RuntimeError(f"DataLoader: no batch within timeout={self.timeout} seconds")
                batch = first.result()
                if batch is _END:
                    return
                under_way.extend(pool.submit(job) for job in itertools.islice(jobs, 1))
                yield batch
        finally:
            for future in under_way:
                future.cancel()
            if not self.persistent_workers:
                # The garbage collector may close this loop inside a worker, which cannot wait for itself.
                pool.shutdown(wait=get_worker_info() is None, cancel_futures=True)


def _start_workers(count: int, dataset: Any, seed: int) -> ThreadPoolExecutor:
    """Make a pool of threads that know their numbers; a stream gets one, since it has one order."""
    count = 1 if isinstance(dataset, IterableDataset) else count
    ids = itertools.count()

    def introduce() -> None:
        _current.worker, _current.new = WorkerInfo(next(ids), count, seed, dataset), True

    return ThreadPoolExecutor(count, thread_name_prefix="DataLoader", initializer=introduce)


def _check_order(
    dataset: Any, batch_size: int | None, shuffle: bool | None, sampler: Any, batch_sampler: Any, drop_last: bool
) -> None:
    """Refuse arguments that contradict each other."""
    if sampler is not None and shuffle:
        raise ValueError("DataLoader: got both sampler and shuffle=True, needs one of them")
    if batch_sampler is not None and (batch_size != 1 or shuffle or sampler is not None or drop_last):
        raise ValueError("DataLoader: batch_sampler excludes batch_size, shuffle, sampler and drop_last")
    if batch_size is None and drop_last:
        raise ValueError("DataLoader: drop_last needs a batch_size")
    if isinstance(dataset, IterableDataset) and (shuffle or sampler is not None or batch_sampler is not None):
        raise ValueError("DataLoader: an IterableDataset decides its own order; got shuffle, sampler or batch_sampler")
