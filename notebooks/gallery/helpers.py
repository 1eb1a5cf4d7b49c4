"""What the gallery's notebooks share: budgets, results that are checked, small drawing helpers.

    from notebooks.gallery.helpers import FAST, budget, result
    epochs = budget(10, fast=1)
    result("test accuracy", accuracy, ">= 0.993")

Nothing here knows a model or a data set.
"""

import json
import operator
import os
import re
from pathlib import Path

FAST = "AG_FAST" in os.environ
"""Whether small data and few steps are wanted, as in the tests."""

PAGE = os.environ.get("AG_GALLERY")
"""The folder of this notebook's results, where the gallery is being built."""

_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt, "==": operator.eq}


def budget(full, fast):
    """``full``, or ``fast`` where ``AG_FAST=1`` asks for a small run."""
    return fast if FAST else full


def result(name, value, claim="", fast="", headline=False):
    """A number that the text states: printed, checked, and listed in the gallery's index.

    claim: what must hold, as ">= 0.993" or "< 1e-12"; with AG_FAST=1, ``fast`` is checked in its place, if anything.
    headline: whether it stands on the notebook's card in the index.
    ``AssertionError`` where it does not hold.
    """
    value = value if isinstance(value, str) else float(value)
    wanted = fast if FAST else claim
    shown = value if isinstance(value, str) else f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
    print(f"{name}: {shown}" + (f"   ({wanted})" if wanted else ""))
    for condition in filter(None, wanted.split(",")):
        sign, limit = re.fullmatch(r"\s*([<>=]+)\s*(\S+)\s*", condition).groups()
        assert _COMPARE[sign](value, float(limit)), f"{name} is {shown}, which is not {condition.strip()}"
    if PAGE:
        with Path(PAGE, "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"name": name, "value": shown, "claim": wanted, "headline": headline}) + "\n")


def thumbnail(figure):
    """Keep this figure as the notebook's picture in the gallery's index (else the index takes the first one)."""
    if PAGE:
        figure.savefig(Path(PAGE, "thumbnail.png"), dpi=80, bbox_inches="tight")


def pictures(images, titles=None, columns=10, size=0.9, **how):
    """A grid of grey pictures; returns the figure. ``how`` goes to ``imshow``."""
    import matplotlib.pyplot as plt
    import numpy as np

    rows = -(-len(images) // columns)
    tall = size * (1.25 if titles is not None else 1.0)
    figure, axes = plt.subplots(rows, columns, figsize=(size * columns, tall * rows), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (axis, image) in enumerate(zip(axes.flat, images, strict=False)):
        axis.imshow(np.asarray(image), **({"cmap": "gray_r"} | how))
        if titles is not None:
            axis.set_title(titles[number], fontsize=8)
    figure.tight_layout(pad=0.3)
    return figure


def decision(axis, score, bounds, steps=200, **how):
    """Colour the plane by the sign and size of ``score``, a function of points (N, 2) that returns N numbers."""
    import numpy as np

    left, right, low, high = bounds
    x, y = np.meshgrid(np.linspace(left, right, steps), np.linspace(low, high, steps))
    z = np.asarray(score(np.stack([x.ravel(), y.ravel()], 1).astype(np.float32))).reshape(x.shape)
    limit = float(np.abs(z).max()) or 1.0
    axis.imshow(z, extent=bounds, origin="lower", cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto", alpha=0.5, **how)
    axis.contour(x, y, z, levels=[0], colors="k", linewidths=1.2)
