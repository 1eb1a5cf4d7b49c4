"""Pictures varied at random as they are read, so that a network never sees the same one twice."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import autograd_core as ag

from .dataset import Dataset


class Augmented(Dataset[tuple[Any, int]]):
    """An `ImageDataset`, or a part of it, whose pictures are varied each time they are read.

        train = nn.data.Augmented(train, nn.data.RandomAffine(degrees=10, shift=0.1, scale=0.1))

    change: a function of pictures (N, C, H, W), a float32 array, that returns as many. Batches are varied as a whole.
    """

    def __init__(self, dataset: Any, change: Callable[[np.ndarray], np.ndarray]) -> None:
        self.dataset = dataset
        self.change = change

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return one varied picture and its label."""
        pictures, labels = self.get_batch([index])
        return pictures[0], int(labels[0].item())

    def get_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return varied pictures and their labels, as two tensors."""
        pictures, labels = self.dataset.get_batch(indices)
        return [ag.from_numpy(self.change(pictures.numpy())), labels]

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.dataset)


class RandomAffine:
    """Turns, moves, stretches and shears each picture by a random amount, with values between pixels interpolated.

    degrees: turned by up to so much either way. shift: moved by up to this share of the side. scale: larger or smaller
    by up to this share, in each direction apart. shear: one row against the next, by up to this share. fill: what comes
    in from outside (by default the smallest value of the pictures: paper). seed: of the draws.
    """

    def __init__(
        self,
        degrees: float = 10.0,
        shift: float = 0.1,
        scale: float = 0.1,
        shear: float = 0.0,
        fill: float | None = None,
        seed: int = 0,
    ) -> None:
        self.degrees, self.shift, self.scale, self.shear, self.fill = degrees, shift, scale, shear, fill
        self.rng = np.random.default_rng(seed)

    def __call__(self, pictures: np.ndarray) -> np.ndarray:
        """Return the varied pictures; the given ones are left as they are."""
        count, channels, height, width = pictures.shape
        matrix, move = self._draw(count)
        spots = np.indices((height, width), dtype=np.float32).reshape(2, -1)
        spots -= spots.max(1, keepdims=True) / 2  # from the middle
        sides = np.array([[height], [width]], dtype=np.float32)
        places = matrix @ spots + (move * sides + (sides - 1) / 2)  # where each new pixel comes from: (N, 2, H * W)
        fill = pictures.min() if self.fill is None else self.fill
        framed = np.pad(pictures, [(0, 0), (0, 0), (1, 2), (1, 2)], constant_values=fill)
        y, x = np.clip(places[:, 0] + 1, 0, height + 1), np.clip(places[:, 1] + 1, 0, width + 1)
        top, left = y.astype(np.int32), x.astype(np.int32)
        down, right = (y - top)[:, None], (x - left)[:, None]
        row = width + 3
        flat = framed.reshape(count, channels, -1)
        corner = (top * row + left)[:, None]

        def at(offset: int) -> np.ndarray:
            return np.take_along_axis(flat, corner + offset, axis=2)

        upper = at(0) + right * (at(1) - at(0))
        lower = at(row) + right * (at(row + 1) - at(row))
        return (upper + down * (lower - upper)).reshape(pictures.shape).astype(np.float32, copy=False)

    def _draw(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Random maps from new to old places: matrices (N, 2, 2), and moves (N, 2, 1) as shares of the side."""

        def between(limit: float, *shape: int) -> np.ndarray:
            return self.rng.uniform(-limit, limit, (count, *shape)).astype(np.float32)

        angle, shear = np.radians(between(self.degrees)), between(self.shear)
        turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], 1).reshape(count, 2, 2)
        slant = np.tile(np.eye(2, dtype=np.float32), (count, 1, 1))
        slant[:, 1, 0] = shear
        stretch = 1 + between(self.scale, 1, 2)
        return (turn @ slant) * stretch, between(self.shift, 2, 1)
