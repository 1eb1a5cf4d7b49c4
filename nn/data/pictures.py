"""Picture files as a network that was trained on MNIST wants them."""

import os
from typing import Any

import numpy as np

import autograd_core as ag


def read_digit(path: str | os.PathLike[str]) -> np.ndarray:
    """A picture of one digit as MNIST's are: a uint8 array (28, 28), ink 255 on 0; any size, light or dark ground.

    A 28 x 28 picture is taken as it is. A larger or smaller one is cut to its ink, shrunk to fit 20 x 20 with its
    proportions, and placed so that its centre of mass is in the middle. Where the rim is light, colours are reversed.
    Needs Pillow (extra `plots`); errors are `OSError` for what is no picture, `ValueError` for one without ink.
    """
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("read_digit: pictures need Pillow: pip install 'autograd-core[plots]'") from None
    with Image.open(path) as file:
        clear = file.convert("RGBA")
    ground = Image.new("RGBA", clear.size, "white")
    grey = np.asarray(Image.alpha_composite(ground, clear).convert("L"))
    rim = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ink = 255 - grey if np.median(rim) > 127 else grey
    if ink.max() == ink.min():
        raise ValueError(f"read_digit: got {os.fspath(path)!r}, all of one colour, needs a digit")
    return ink.copy() if ink.shape == (28, 28) else _centred(ink, Image)


def _centred(ink: np.ndarray, image: Any) -> np.ndarray:
    """The ink, shrunk to 20 x 20 and placed by its centre of mass in 28 x 28."""
    rows, columns = (np.flatnonzero((ink > ink.max() / 5).any(axis)) for axis in (1, 0))
    cut = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    share = 20 / max(cut.shape)
    height, width = (max(1, round(side * share)) for side in cut.shape)
    small = np.asarray(image.fromarray(cut).resize((width, height), image.Resampling.LANCZOS))
    weight = small / small.sum()
    top = round(13.5 - float((weight.sum(1) * np.arange(height)).sum()))
    left = round(13.5 - float((weight.sum(0) * np.arange(width)).sum()))
    top, left = min(max(top, 0), 28 - height), min(max(left, 0), 28 - width)
    page = np.zeros((28, 28), dtype=np.uint8)
    page[top : top + height, left : left + width] = small
    return page


def normalised(picture: np.ndarray, mean: float, std: float) -> ag.Tensor:
    """The picture as the network's input (1, 1, 28, 28), as `ImageDataset` makes it."""
    from .images import ImageDataset

    return ImageDataset(picture[None], [0], mean=mean, std=std)[:][0]
