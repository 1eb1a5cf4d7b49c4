"""Random numbers without hidden state: Philox4x32-10 turns (seed, counter) into bits; a `Generator` hands out counters.

A draw is a pure function of its seed and of the offset at which it starts; the generator advances by the size of the
draw alone. So a draw can be repeated, split over threads or written to be compiled, and gives the same numbers.

The mapping, for whoever writes the same in machine code. One counter gives four 32-bit words::

    key = (seed & 0xffffffff, seed >> 32)                     counter = (c & 0xffffffff, c >> 32, stream, 0)
    words w0, w1, w2, w3 = philox4x32_10(counter, key)        `stream` is 0 except where a draw rejects and tries again

16 counters in a row make a tile of 64 words. Lane l (0 to 15) of tile t is counter ``offset + 16 t + l``::

    32-bit draws   element 64 t + 16 j + l  takes word wj of lane l in tile t                        (j = 0, 1, 2, 3)
    64-bit draws   element 32 t + 16 j + l  takes (w[2j] << 32 | w[2j+1]) of lane l in tile t        (j = 0, 1)
    pairs of two   (Box-Muller) radius from the first and angle from the second of two draws at the same lane:
                   j = 0 with j = 1, and, in 32-bit draws, j = 2 with j = 3

A draw of n elements takes ``tile_count(n, bits) * 16`` counters. Rows of 16 lanes are stored as they come out of vector
registers of any width, and a split of the work at tiles changes nothing.

Source: J. K. Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import secrets
import threading
from contextlib import contextmanager
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .info import check_device
from .info import device as device_named
from .modes import state
from .shapes import ndarray
from .tensor import Tensor, wrap

LANES = 16
"""Counters in a tile."""

CHUNK = 512
"""Tiles that are worked on at a time, so that the intermediate arrays stay in the cache."""

MULTIPLIERS = np.array([[0xD2511F53], [0xCD9E8D57]], np.uint64)
KEY_STEPS = np.array([[0x9E3779B9], [0xBB67AE85]], np.uint64) * np.arange(10, dtype=np.uint64)[:, None, None]
LOW = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)
LARGEST = (1 << 64) - 1
DEFAULT_SEED = 67280421310721


def philox(seed: int, counter: ndarray, stream: int = 0) -> tuple[ndarray, ndarray, ndarray, ndarray]:
    """The four 32-bit words (in uint64 arrays) of Philox4x32-10 at each 64-bit ``counter`` of a 1-d uint64 array."""
    even = np.empty((2, counter.size), np.uint64)  # counter words 0 and 2, which are multiplied
    odd = np.empty_like(even)  # counter words 1 and 3
    even[0], even[1] = counter & LOW, stream
    odd[0], odd[1] = counter >> HALF, 0
    return _rounds(seed, even, odd)


def _rounds(seed, even, odd):
    keys = (KEY_STEPS + np.array([[seed & 0xFFFFFFFF], [seed >> 32]], np.uint64)) & LOW
    product = np.empty_like(even)
    crossed = product[::-1]
    for key in keys:
        np.multiply(even, MULTIPLIERS, out=product)
        np.right_shift(crossed, HALF, out=even)
        np.bitwise_xor(even, odd, out=even)
        np.bitwise_xor(even, key, out=even)
        np.bitwise_and(crossed, LOW, out=odd)
    return even[0], odd[0], even[1], odd[1]


def tile_count(size: int, bits: int) -> int:
    """How many tiles a draw of ``size`` elements of 32 or 64 bits takes."""
    return -(-size * bits // (32 * 4 * LANES))


@lru_cache(256)
def taken(shape: tuple[int, ...], bits: int) -> tuple[int, int]:
    """How many elements and how many counters a draw of ``shape`` takes."""
    if shape and min(shape) < 0:
        raise ValueError(f"sizes must not be negative, got {list(shape)}")
    size = prod(shape)
    return size, tile_count(size, bits) * LANES


def words(seed: int, offset: int, tiles: int, bits: int) -> ndarray:
    """The words of ``tiles`` tiles as they lie: (tiles, 4, 16) of uint32, or (tiles, 2, 16) of uint64 (``bits=64``)."""
    counter = np.arange(tiles * LANES, dtype=np.uint64)
    counter += np.uint64(offset & LARGEST)
    w = [word.reshape(-1, LANES) for word in philox(seed, counter)]
    found = np.empty((tiles, 128 // bits, LANES), np.uint32 if bits == 32 else np.uint64)
    for j, row in enumerate(w if bits == 32 else [w[0] << HALF | w[1], w[2] << HALF | w[3]]):
        found[:, j] = row
    return found


def fill(size: int, dtype, bits: int, seed: int, offset: int, write, given=(), source=words) -> ndarray:
    """A 1-d array of ``size`` elements: ``write(words, out, *given)`` turns `words` into elements, tiles by tiles.

    ``out`` is (tiles, rows, 16); ``write`` may change the words. ``source`` is where they come from.
    """
    tiles = tile_count(size, bits)
    found = np.empty((tiles, 128 // bits, LANES), dtype)
    for start in range(0, tiles, CHUNK):
        part = found[start : start + CHUNK]
        write(source(seed, offset + start * LANES, len(part), bits), part, *given)
    return found.reshape(-1)[:size]


_blocks: dict[Any, tuple[int, int, int, ndarray]] = {}
"""Elements that were made ahead, by kind: seed, first counter, counter behind the last, elements."""

MOST_BLOCKS = 16

MOST_AHEAD = 256 * LANES
"""Counters in the largest block."""


def from_block(key, shape, size: int, bits: int, seed: int, offset: int, make) -> ndarray:
    """A small draw of ``shape``, out of a block that is made at once for it and those that follow.

    An element follows from seed and counter alone, so nobody can tell. ``make(size, bits, seed, offset, *key)`` makes
    the elements; ``key`` says what else they depend on. A draw that follows on the last of its kind doubles the block:
    a single one does not pay for others that never come.
    """
    block = _blocks.get(key)
    counters = -(-size * bits // 2048) * LANES
    if block is not None and block[0] == seed:
        _, first, end, elements = block
        start = offset - first
        if start >= 0 and offset + counters <= end and not start % LANES:
            start = start * 128 // bits
            return elements[start : start + size].reshape(shape).copy()
        if 0 < start <= 2 * (end - first):
            counters = max(counters, min(2 * (end - first), MOST_AHEAD))
    elif len(_blocks) >= MOST_BLOCKS:
        _blocks.clear()
    elements = make(counters * 128 // bits, bits, seed, offset, *key)
    _blocks[key] = seed, offset, min(offset + counters, LARGEST), elements
    return elements[:size].reshape(shape).copy()


class Generator:
    """A source of random numbers: a seed, and the offset of the next draw. ``device`` can only be the CPU."""

    def __init__(self, device: Any = "cpu"):
        check_device(device)
        self._lock = threading.Lock()
        self._seed, self._offset = DEFAULT_SEED, 0

    @property
    def device(self):
        """Where it draws: the CPU."""
        return device_named("cpu")

    def manual_seed(self, seed: int) -> Generator:
        """Start again from ``seed`` (-2**63 to 2**64 - 1; negative ones count from 2**64 - 1 down); returns itself."""
        if not hasattr(seed, "__int__"):
            raise TypeError(f"manual_seed: seed must be an int, got {type(seed).__name__} {seed!r}")
        seed = int(seed)
        if not -(1 << 63) <= seed <= LARGEST:
            raise RuntimeError(f"manual_seed: seed must lie between -2**63 and 2**64 - 1, got {seed}")
        if state.watch is not None:
            state.watch.reseed(self)
        with self._lock:
            self._seed, self._offset = (seed if seed >= 0 else LARGEST + seed), 0
        return self

    def seed(self) -> int:
        """Start again from a seed that the operating system draws; returns it."""
        seed = secrets.randbits(64)
        self.manual_seed(seed)
        return seed

    def initial_seed(self) -> int:
        """The seed it was started from."""
        return self._seed

    def reserve(self, counters: int) -> tuple[int, int]:
        """Hand out ``counters`` counters: (seed, offset of the first). Every draw takes its numbers through this."""
        watch = state.watch
        if watch is not None:
            watch.reserve(self)
        with self._lock:
            offset = self._offset
            self._offset = (offset + counters) & LARGEST
            return self._seed, offset

    def ahead(self, key, shape, bits: int) -> ndarray | None:
        """A small draw of ``shape`` from the `from_block` of its kind, reserved; None where it has to be made."""
        block = _blocks.get(key)
        if block is None or state.watch is not None:
            return None
        seed, first, end, elements = block
        size, counters = taken(shape, bits)
        lock = self._lock
        lock.acquire()  # half the time of `with`
        try:
            start = self._offset - first
            if start < 0 or start % LANES or first + start + counters > end or self._seed != seed:
                return None
            self._offset += counters
        finally:
            lock.release()
        start = start * 128 // bits
        return elements[start : start + size].reshape(shape).copy()

    def get_state(self) -> Tensor:
        """Seed and offset as a uint8 tensor of 16 elements."""
        with self._lock:
            data = self._seed.to_bytes(8, "little") + self._offset.to_bytes(8, "little")
        return wrap(np.array(list(data), np.uint8))

    def set_state(self, new_state: Tensor) -> None:
        """Go back to what `get_state` returned."""
        if not isinstance(new_state, Tensor):
            raise TypeError(f"set_state: new_state must be a uint8 Tensor, got {type(new_state).__name__}")
        if new_state.array.dtype != np.uint8 or new_state.array.size != 16:
            raise RuntimeError("set_state: new_state must be the 16 uint8 elements that get_state returned, "
                               f"got {new_state.array.size} of {new_state.dtype}")  # fmt: skip
        data = new_state.array.tobytes()
        with self._lock:
            self._seed, self._offset = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")

    def clone_state(self) -> Generator:
        """A new generator in the same state."""
        made = Generator()
        made._seed, made._offset = self._seed, self._offset
        return made

    def __reduce__(self):
        return _restored, (self._seed, self._offset)

    def __repr__(self):
        return f"<Generator seed={self._seed} offset={self._offset}>"


def _restored(seed, offset):
    made = Generator()
    made._seed, made._offset = seed, offset
    return made


default_generator = Generator()
"""What draws use when no ``generator=`` is given."""


def generator_or_default(generator, where: str) -> Generator:
    """``generator`` itself, or the default one for None."""
    if generator is None:
        return default_generator
    if not isinstance(generator, Generator):
        raise TypeError(f"{where}: generator must be an ag.Generator or None, got {type(generator).__name__}")
    return generator


def manual_seed(seed: int) -> Generator:
    """Start the default generator again from ``seed``; returns it."""
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Start the default generator again from a seed that the operating system draws; returns it."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed that the default generator was started from."""
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The state of the default generator as a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Put the default generator into a state that `get_rng_state` returned."""
    default_generator.set_state(new_state)


@contextmanager
def fork_rng(devices=None, enabled: bool = True, device_type: str = "cpu"):
    """Leave the default generator after the block as it was before; ``enabled=False`` does nothing."""
    before = get_rng_state()
    try:
        yield
    finally:
        if enabled:
            set_rng_state(before)
