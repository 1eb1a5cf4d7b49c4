"""Tables of numbers: breast cancer, prices of diamonds, and ratings of films."""

import csv
import gzip
import importlib.resources
import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

import autograd_core as ag

from .dataset import TensorDataset
from .fetch import Source, fetch_files, or_stand_in
from .sources import Installed, Pip

DIAMONDS_FILES = {"diamonds.csv": "9574730b03aba241d899c4a97511c5061b19358fab89510774fb6c24168345c4"}
DIAMONDS_SOURCES: tuple[Source, ...] = (
    Installed("plotnine", "data"),
    Pip("plotnine==0.15.9", folder="plotnine/data/"),
)
MOVIELENS_FILES = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
}
MOVIELENS_SOURCES: tuple[Source, ...] = (
    Installed("recbole", "dataset_example/ml-100k"),
    Pip("recbole==1.2.1", folder="recbole/dataset_example/ml-100k/"),
)

_CUTS = ("Fair", "Good", "Very Good", "Premium", "Ideal")
_CLARITIES = ("I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF")  # from visible flaws to none


class TableDataset(TensorDataset):
    """Rows of features with a target each: sample i is `(features, target)`, as float32 tensors (F,) and (1,).

    names: of the features. source: where the table came from. `inputs` and `targets` are the whole columns.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, names: Sequence[str], *, source: str = "") -> None:
        self.inputs = ag.tensor(inputs, dtype=ag.float32)
        self.targets = ag.tensor(np.reshape(targets, (len(inputs), 1)), dtype=ag.float32)
        super().__init__(self.inputs, self.targets)
        self.names = tuple(names)
        self.source = source


class RatingsDataset(TensorDataset):
    """Who gave what how many stars: sample i is `(pair, stars)`, an int64 tensor (user, item) and a float32 scalar.

    users, items, stars: N numbers each. counts: how many users and items there are. titles: of the items.
    """

    def __init__(
        self,
        users: np.ndarray,
        items: np.ndarray,
        stars: np.ndarray,
        *,
        counts: tuple[int, int],
        titles: Sequence[str],
        source: str = "",
    ) -> None:
        self.users, self.items, self.stars = users, items, stars
        super().__init__(np.stack([users, items], 1).astype(np.int64), stars.astype(np.float32))
        self.user_count, self.item_count = counts
        self.titles = tuple(titles)
        self.source = source


def breast_cancer(*, normalize: bool = True, seed: int = 0) -> tuple[TableDataset, TableDataset]:
    """569 tumours, 30 measurements of the cells' nuclei each; target 1 for benign, 0 for malignant.

    427 for training and 142 for testing, drawn with `seed`. `normalize` brings every feature to mean 0 and deviation 1
    in the training part. The whole set ships with this package.

    Source: W. Wolberg, O. Mangasarian, N. Street, W. Street, "Breast Cancer Wisconsin (Diagnostic)" (1993), UCI Machine
    Learning Repository, doi 10.24432/C5DW2B; CC BY 4.0; the table is scikit-learn's.
    """
    text = gzip.decompress((importlib.resources.files(__package__) / "cancer.csv.gz").read_bytes()).decode("ascii")
    rows = np.loadtxt(text.splitlines()[1:], delimiter=",")
    sides = ("radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave points",
             "symmetry", "fractal dimension")  # fmt: skip
    names = [f"{kind} {side}" for kind in ("mean", "error of", "worst") for side in sides]
    return _split(rows[:, :-1], rows[:, -1], names, 0.25, seed, normalize, "569 tumours in this package")


def diamonds(
    root: str | os.PathLike[str] | None = None, *, normalize: bool = True, seed: int = 0, embedded: bool | None = None
) -> tuple[TableDataset, TableDataset]:
    """53,940 diamonds: weight, cut, colour, clarity and sizes; the target is the natural logarithm of the price in $.

    43,152 for training and 10,788 for testing, drawn with `seed`. Nine features: carat, cut, color and clarity as
    steps from worst (0) to best, depth, table, and the three lengths x, y, z in mm. The file is looked for in `root`,
    or else in `$AG_DATA` and the user's cache, else taken from the Python package plotnine (installed, or its wheel,
    fetched with pip), and checked by its SHA-256.

    normalize: bring every feature and the target to mean 0 and deviation 1 in the training part.
    embedded: by default, where the file can be neither found nor fetched, 1,500 of the diamonds that ship with this
        package serve instead, and a `DataWarning` says so; `True` takes these at once, `False` never.

    Source: ggplot2's table "diamonds" (H. Wickham), prices of 2008; MIT licence.
    """

    def whole() -> tuple[TableDataset, TableDataset]:
        contents, source = fetch_files("diamonds", DIAMONDS_FILES, DIAMONDS_SOURCES, root)
        return _diamonds(contents["diamonds.csv"], source, normalize, seed)

    def some() -> tuple[TableDataset, TableDataset]:
        content = gzip.decompress((importlib.resources.files(__package__) / "diamonds.csv.gz").read_bytes())
        return _diamonds(content, "1,500 diamonds in this package", normalize, seed)

    return or_stand_in(whole, some, embedded)


def movielens(
    root: str | os.PathLike[str] | None = None, *, embedded: bool | None = None
) -> tuple[RatingsDataset, RatingsDataset]:
    """MovieLens 100K: 100,000 ratings (1 to 5 stars) of 1,682 films by 943 people, each one's newest tenth for testing.

        train, test = nn.data.movielens()
        pair, stars = train[0]                # int64 tensor (user, film), both from 0, and a float32 scalar
        train.titles[pair[1].item()]

    The files are looked for in `root`, or else in `$AG_DATA` and the user's cache, else taken from the Python package
    recbole (installed, or its wheel, fetched with pip), and checked by their SHA-256.

    embedded: by default, where the files can be neither found nor fetched, 4,000 *made-up* ratings serve instead
        (each a taste of three numbers times a film's, and noise: the set's terms forbid to ship a part of it), and a
        `DataWarning` says so; `True` takes these at once, `False` never.

    Source: F. M. Harper, J. A. Konstan, "The MovieLens datasets: history and context", ACM TiiS 5 (4), 2015; GroupLens,
    University of Minnesota. For research, with this reference; not to be passed on or sold without permission.
    """

    def whole() -> tuple[RatingsDataset, RatingsDataset]:
        contents, source = fetch_files("movielens-100k", MOVIELENS_FILES, MOVIELENS_SOURCES, root)
        users, items, stars, when = np.loadtxt(io.BytesIO(contents["ml-100k.inter"]), skiprows=1).T
        lines = contents["ml-100k.item"].decode("utf-8").splitlines()[1:]
        titles = ["{1} ({2})".format(*line.split("\t")) for line in lines]
        return _newest_apart(users.astype(int) - 1, items.astype(int) - 1, stars, when, titles, source)

    return or_stand_in(whole, _made_up_ratings, embedded)


def _diamonds(content: bytes, source: str, normalize: bool, seed: int) -> tuple[TableDataset, TableDataset]:
    """The two parts of a table of diamonds."""
    rows = list(csv.DictReader(io.StringIO(content.decode("ascii"))))
    ranks: dict[str, Any] = {
        "cut": _CUTS.index,
        "color": "JIHGFED".index,
        "clarity": _CLARITIES.index,
    }
    names = ("carat", "cut", "color", "clarity", "depth", "table", "x", "y", "z")
    inputs = np.array([[ranks.get(name, float)(row[name]) for name in names] for row in rows], dtype=np.float64)
    prices = np.log([float(row["price"]) for row in rows])
    train, test = _split(inputs, prices, names, 0.2, seed, normalize, source)
    if normalize:
        mean, std = train.targets.mean().item(), train.targets.std().item()
        for part in (train, test):
            part.targets.sub_(mean).div_(std)
    return train, test


def _split(
    inputs: np.ndarray, targets: np.ndarray, names: Sequence[str], share: float, seed: int, normalize: bool, source: str
) -> tuple[TableDataset, TableDataset]:
    """Training and test part, a random `share` of the rows being for testing."""
    order = np.random.default_rng(seed).permutation(len(inputs))
    cut = len(inputs) - round(share * len(inputs))
    if normalize:
        known = inputs[order[:cut]]
        inputs = (inputs - known.mean(0)) / known.std(0)
    train, test = (TableDataset(inputs[part], targets[part], names, source=source)
                   for part in (order[:cut], order[cut:]))  # fmt: skip
    return train, test


def _newest_apart(
    users: np.ndarray, items: np.ndarray, stars: np.ndarray, when: np.ndarray, titles: Sequence[str], source: str
) -> tuple[RatingsDataset, RatingsDataset]:
    """Everybody's newest tenth of ratings apart, for testing."""
    order = np.lexsort((items, when, users))
    users, items, stars = users[order], items[order], stars[order]
    sizes = np.bincount(users)
    rank = np.arange(len(users)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    newest = rank >= (sizes - sizes // 10)[users]
    counts = len(sizes), len(titles)
    train, test = (
        RatingsDataset(users[part], items[part], stars[part], counts=counts, titles=titles, source=source)
        for part in (~newest, newest)
    )
    return train, test


def _made_up_ratings() -> tuple[RatingsDataset, RatingsDataset]:
    """100 people, 80 films, 40 ratings each, of tastes and films with three hidden numbers."""
    rng = np.random.default_rng(0)
    tastes, films = rng.standard_normal((100, 3)), rng.standard_normal((80, 3))
    wish = 3.5 + 0.7 * tastes @ films.T + 0.4 * rng.standard_normal(80) + 0.4 * rng.standard_normal((100, 80))
    users = np.repeat(np.arange(100), 40)
    items = np.concatenate([rng.permutation(80)[:40] for _ in range(100)])
    stars = np.clip(np.rint(wish[users, items]), 1, 5)
    when = np.tile(np.arange(40), 100)
    return _newest_apart(users, items, stars, when, [f"film {i}" for i in range(80)], "4,000 made-up ratings")
