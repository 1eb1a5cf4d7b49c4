"""What a training run leaves: curves, misread pictures, a check of its gradients, and one HTML page of it all."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable
from pathlib import Path

import numpy as np

import autograd_core as ag
from autograd_core.files import write, writing
from autograd_core.seeing.page import framed


def _pyplot():
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise ImportError("pictures of training need matplotlib: pip install 'autograd-core[plots]'") from error
    mpl.use("Agg", force=False)
    import matplotlib.pyplot as plt

    return plt


def curves(history, path) -> None:
    """Loss and metrics against epochs, training and validation side by side, as a PNG."""
    plt = _pyplot()
    names = [n for n in history.epochs[0] if not n.startswith("val_") and n not in _NOT_DRAWN] if history.epochs else []
    figure, axes = plt.subplots(1, max(len(names), 1), figsize=(5.5 * max(len(names), 1), 3.6), squeeze=False)
    for axis, name in zip(axes[0], names, strict=False):
        for key, label in ((name, "training"), (f"val_{name}", "validation")):
            if history[key]:
                axis.plot(history["epoch"][: len(history[key])], history[key], marker="o", markersize=3, label=label)
        axis.set(xlabel="epoch", title=name)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    _save(figure, plt, path)


_NOT_DRAWN = ("epoch", "seconds", "samples_per_second")


def _save(figure, plt, path):
    figure.tight_layout()
    with writing(path) as file:
        figure.savefig(file, dpi=110, format="png")
    plt.close(figure)


def misread(images, labels, guesses, path, most: int = 60) -> None:
    """A page of pictures that were misread, each with its label and the guess, as a PNG."""
    plt = _pyplot()
    wrong = np.flatnonzero(np.asarray(labels) != np.asarray(guesses))
    shown = wrong[:most]
    columns = 10
    rows = max(1, -(-len(shown) // columns))
    figure, axes = plt.subplots(rows, columns, figsize=(columns * 0.95, rows * 1.15 + 0.4), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, place in zip(axes.flat, shown, strict=False):
        axis.imshow(images[place], cmap="gray_r", interpolation="nearest")
        axis.set_title(f"{labels[place]}, read {guesses[place]}", fontsize=8)
    figure.suptitle(f"{len(wrong)} of {len(labels):,} misread", fontsize=10)
    _save(figure, plt, path)


def parameter_gradients(model, loss, inputs, target, per_parameter: int = 24, seed: int = 0) -> list[tuple]:
    """Check the gradient of every parameter against central differences in float64.

    For each parameter: ``per_parameter`` elements drawn at random (all, if there are fewer), one by one, and one random
    direction through all of its elements at once. ``inputs``: what the model takes, a list where that is more than one
    tensor. Returns rows (name, shape, elements checked, largest relative error),
    the error being |analytic - numeric| / max(|analytic|, |numeric|, 1e-3 x the largest gradient of that parameter).
    """
    rng = np.random.default_rng(seed)
    was_training = model.training
    model.eval()  # dropout and running statistics must not differ from call to call
    parameters = dict(model.named_parameters())
    inputs = inputs if isinstance(inputs, (list, tuple)) else [inputs]
    found = ag.grad(loss(model(*inputs), target), list(parameters.values()), allow_unused=True)
    rows = []

    def value():
        with ag.no_grad():
            return loss(model(*inputs), target).item()

    def difference(array, place, direction, step):
        kept = array[place].copy()
        array[place] = kept + step * direction
        up = value()
        array[place] = kept - step * direction
        down = value()
        array[place] = kept
        return (up - down) / (2 * step)

    def error(analytic, array, place, direction, scale):
        """The smallest over several steps: short ones round, long ones may cross the kink of a ReLU."""
        best = float("inf")
        for step in _STEPS:
            numeric = difference(array, place, direction, step)
            best = min(best, abs(analytic - numeric) / max(abs(analytic), abs(numeric), scale))
            if best < 1e-6:
                break
        return best

    for (name, parameter), gradient in zip(parameters.items(), found, strict=True):
        array = parameter.array
        analytic = np.zeros_like(array) if gradient is None else gradient.array
        scale = 1e-3 * float(np.abs(analytic).max(initial=0.0)) or 1e-12
        flat = rng.permutation(array.size)[:per_parameter]
        direction = rng.standard_normal(array.shape) / np.sqrt(max(array.size, 1))
        errors = [error(float((analytic * direction).sum()), array, ..., direction, scale)]
        places = [np.unravel_index(i, array.shape) for i in flat]
        errors += [error(float(analytic[place]), array, place, 1.0, scale) for place in places]
        worst = max(errors)
        rows.append((name, tuple(array.shape), len(flat), worst))
    model.train(was_training)
    return rows


_STEPS = (1e-6, 1e-5, 1e-4, 1e-7, 1e-8)


def gradient_text(rows: Iterable[tuple], title: str) -> str:
    """The rows of `parameter_gradients` as a table, with the largest error last."""
    rows = list(rows)
    width = max([len(r[0]) for r in rows], default=4)
    lines = [
        f"{title}: analytic gradients against central differences, float64",
        "",
        f"{'parameter':{width}}  {'shape':>18}  {'elements checked':>18}  {'largest relative error':>22}",
    ]
    for name, shape, checked, worst in rows:
        total = int(np.prod(shape))
        share = f"{checked} of {total}"
        lines.append(f"{name:{width}}  {'x'.join(map(str, shape)):>18}  {share:>18}  {worst:>22.2e}")
    lines += [
        "",
        "Each parameter was also checked along a random direction through all of its elements at once.",
        f"largest relative error: {max([r[3] for r in rows], default=0.0):.2e}",
    ]
    return "\n".join(lines) + "\n"


def page(folder, title: str, facts: dict[str, str], history) -> None:
    """``report.html``: the facts, pictures, table and graph of a run folder in one file that needs no network."""
    folder = Path(folder)
    parts = [f"<h1>{html.escape(title)}</h1>", "<table>"]
    parts += [f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in facts.items()]
    parts.append("</table>")
    if len(history):
        names = [n for n in history.epochs[0] if n != "samples_per_second"]
        heads = "".join(f"<th>{n.replace('_', ' ')}</th>" for n in names)
        parts.append(f'<h2>Epochs</h2><div class="epochs"><table><tr>{heads}</tr>')
        for epoch in history.epochs:
            cells = "".join(f"<td>{epoch[n]:.4g}</td>" for n in names)
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table></div>")
    for file, heading in (("curves.png", "Training curves"), ("errors.png", "Misread")):
        if (folder / file).exists():
            data = base64.b64encode((folder / file).read_bytes()).decode()
            parts.append(f'<h2>{heading}</h2><img alt="{heading}" src="data:image/png;base64,{data}">')
    if (folder / "gradients.txt").exists():
        parts.append(f"<h2>Gradients</h2><pre>{html.escape((folder / 'gradients.txt').read_text('utf-8'))}</pre>")
    parts += _graph(folder)
    write(folder / "report.html", _PAGE.format(title=html.escape(title), body="\n".join(parts)))


def _graph(folder):
    """The interactive page of the graph in a frame, and its picture, as far as they were left in the folder."""
    found = folder / "graph.html", folder / "graph.svg"
    shown, picture = (path.read_text("utf-8") if path.exists() else None for path in found)
    if shown or picture:
        yield "<h2>Computation graph, forward and backward</h2>"
    if shown:
        yield (
            "<p>One batch of test data, with values and gradients: click an operation for its numbers, hover to see its"
            ' other pass, colour by time or gradient norm. (Alone: <a href="graph.html">graph.html</a>.)</p>'
        )
        yield f'<div class="wide">{framed(shown, 720)}</div>'
    if picture:
        svg = picture[picture.index("<svg") :]
        yield f"<details{'' if shown else ' open'}><summary>As a picture</summary>"
        yield f'<div class="graph">{svg}</div></details>'


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
:root {{ color-scheme: light dark; }}
:root {{ --ink: #1b212c; --muted: #6a7383; --edge: #dde1e8; --ground: #fff; --soft: #f4f6f9; }}
@media (prefers-color-scheme: dark) {{
  :root {{ --ink: #e4e8ef; --muted: #97a1b2; --edge: #2d3440; --ground: #12151b; --soft: #1a1e26; }}
}}
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }}
body {{ color: var(--ink); background: var(--ground); }}
h1 {{ font-size: 1.6rem; }} h2 {{ font-size: 1.15rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; }} .epochs {{ max-height: 26rem; overflow: auto; }}
th, td {{ text-align: right; padding: .2rem .8rem; border-bottom: 1px solid var(--edge); }}
td {{ font-variant-numeric: tabular-nums; }} .epochs th {{ position: sticky; top: 0; background: var(--ground); }}
th {{ font-weight: 600; }} td:first-child, th:first-child {{ text-align: left; }}
img {{ max-width: 100%; border-radius: 6px; }} p {{ color: var(--muted); }}
summary {{ cursor: pointer; margin: 1rem 0; }}
pre {{ background: var(--soft); padding: .8rem; overflow: auto; font-size: 13px; border-radius: 6px; }}
.graph {{ overflow: auto; border: 1px solid var(--edge); max-height: 44rem; background: #fff; }}
.graph svg {{ min-width: 40rem; height: auto; }}
.wide {{ width: min(96vw, 110rem); margin-left: 50%; transform: translateX(-50%); }}
</style></head><body>
{body}
</body></html>
"""
