"""The command line ``agrad``: train, predict, graph, check, bench, doctor."""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import sys
import time
import warnings
from importlib import import_module
from pathlib import Path

import autograd_core as ag
from autograd_core.files import write


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and getattr(options, "run", None) is not _bench:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    options.rest = rest  # options of the benchmarks, which know them
    if not hasattr(options, "run"):
        parser.print_help()
        return 2
    try:
        if getattr(options, "threads", None):
            ag.set_num_threads(options.threads)
        return options.run(options) or 0
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (OSError, ValueError, ImportError) as error:
        print(f"agrad: {error}", file=sys.stderr)
        return 1


def _parser():
    parser = argparse.ArgumentParser(
        prog="agrad",
        description="Train, draw and check networks built on autograd_core.",
        epilog="example: agrad train lenet5 --epochs 5 --out runs/mine",
    )
    parser.add_argument("--version", action="version", version=f"autograd-core {ag.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    train = commands.add_parser(
        "train",
        help="train a model and leave a report",
        formatter_class=_Help,
        description="Train a ready model on its data and leave a run folder: the weights, the "
        "numbers of each epoch, curves, misread pictures, the graph, a check of every gradient, "
        "and report.html with all of it. Ctrl-C stops cleanly and keeps the best weights.",
    )
    train.add_argument("model", nargs="?", help="name of the model (see --list)")
    train.add_argument("--list", action="store_true", help="list the models and stop")
    train.add_argument("--out", metavar="DIR", help="run folder (default: runs/MODEL)")
    train.add_argument("--epochs", type=_positive, help="passes over the training data (default: the model's own)")
    train.add_argument("--batch-size", type=_positive, help="samples a step (default: the model's own)")
    train.add_argument("--lr", type=float, help="largest learning rate (default: the model's own)")
    train.add_argument("--seed", type=int, default=0, help="seed of weights, split and shuffling")
    train.add_argument("--eager", action="store_true", help="run each step operation by operation, not compiled")
    train.add_argument("--threads", type=_positive, help="threads to use (default: all cores, or $AG_NUM_THREADS)")
    train.set_defaults(run=_train)

    predict = commands.add_parser(
        "predict",
        help="let a trained model read pictures",
        formatter_class=_Help,
        description="Read pictures of digits (PNG and whatever Pillow reads, any size, dark on light or light on dark) "
        "with a model that `agrad train` left in a run folder.",
    )
    predict.add_argument("pictures", nargs="+", metavar="FILE", help="pictures, one digit each")
    predict.add_argument("--model", default="runs/lenet5", metavar="DIR", help="run folder")
    predict.add_argument("--scores", action="store_true", help="print all scores, exactly, as lines of JSON")
    predict.set_defaults(run=_predict)

    _add_looking(commands)
    bench = commands.add_parser(
        "bench",
        help="measure speed against other libraries",
        add_help=False,
        description="Needs a checkout of the project; options are those of python -m benchmarks.",
    )
    bench.set_defaults(run=_bench)

    doctor = commands.add_parser("doctor", help="show versions, threads, BLAS, caches, and what is missing")
    doctor.set_defaults(run=_doctor)
    return parser


def _add_looking(commands):
    """The commands that look at a model: graph and check."""
    graph = commands.add_parser(
        "graph",
        help="draw a model's computation graph",
        formatter_class=_Help,
        description="Draw a model's forward and backward graph. No Graphviz installation is needed.",
    )
    graph.add_argument("model", help="name of the model")
    endings = ".svg, .html, .png, .pdf, .dot, .mmd, .json or .txt"
    graph.add_argument("--out", metavar="FILE", help=f"file to write, {endings} (default: MODEL.svg)")
    graph.set_defaults(run=_graph)

    check = commands.add_parser(
        "check",
        help="check a model's gradients against differences",
        formatter_class=_Help,
        description="Compare every parameter's gradient with central differences in float64.",
    )
    check.add_argument("model", help="name of the model")
    check.add_argument("--elements", type=_positive, default=24, help="elements of each parameter to check one by one")
    check.add_argument("--all", action="store_true", help="check every element (LeNet-5: some minutes)")
    check.add_argument("--report", metavar="FILE", help="also write a gradient report: .html, .md, .txt, .png or .svg")
    check.set_defaults(run=_check)


class _Help(argparse.ArgumentDefaultsHelpFormatter):
    def _get_help_string(self, action):
        text = action.help or ""
        return text if "default" in text or action.default in (None, False) else super()._get_help_string(action)


def _positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {text}")
    return number


def _recipe(name):
    from .models import RECIPES

    if name not in RECIPES:
        raise ValueError(f"no model is named {name!r}; there are {', '.join(RECIPES)}")
    return RECIPES[name]


def _train(options):
    from rich.console import Console

    from .models import RECIPES

    console = Console(highlight=False, soft_wrap=True)
    if options.list or options.model is None:
        for name, recipe in RECIPES.items():
            console.print(f"{name:14} {recipe.title}")
        return 0 if options.list else 2
    recipe = _recipe(options.model)
    folder = Path(options.out or Path("runs") / options.model)
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    model, history, splits, test = _fit(recipe, options, folder, console)
    facts = {
        **{f"test {name}": f"{test[name]:.4f}" for name in (*recipe.metrics, "loss")},
        "data": splits.source,
        "samples": f"{len(splits.train):,} training, {len(splits.validation):,} validation, {len(splits.test):,} test",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "seed": str(options.seed),
        "training": f"{sum(history['seconds']):.1f} s, {len(history)} epochs",
    }
    _leave_report(recipe, model, history, splits, folder, facts, console)
    console.print(f"{folder / 'report.html'}  ({time.perf_counter() - started:.1f} s in all)")
    shown = next(iter(recipe.metrics), "loss")
    print(f"test {shown}: {test[shown]:.4f}")
    return 130 if history.interrupted else 0


def _fit(recipe, options, folder, console):
    import nn
    import optim

    ag.manual_seed(options.seed)
    console.print(recipe.title)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", nn.data.DataWarning)
        splits = recipe.data(seed=options.seed)
    for warning in said:
        console.print(f"note: {warning.message}")
    console.print(f"data: {splits.source}")
    model = recipe.model()
    batch = options.batch_size or recipe.batch_size
    epochs = options.epochs or recipe.epochs
    order = ag.Generator().manual_seed(options.seed)
    train = nn.data.DataLoader(splits.train, batch, shuffle=True, generator=order, num_workers=1)
    validation, test = (nn.data.DataLoader(part, 500) for part in (splits.validation, splits.test))
    if recipe.prepare is not None:
        recipe.prepare(model, splits)
    optimizer = optim.Adam(model.parameters(), lr=options.lr or recipe.lr)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, options.lr or recipe.lr, total_steps=epochs * len(train))
    history = nn.train.History(folder / "metrics.jsonl")
    stopping = nn.train.EarlyStopping("val_loss", recipe.patience)
    nn.train.fit(
        model,
        train,
        loss=recipe.loss,
        optimizer=optimizer,
        epochs=epochs,
        validation=validation,
        metrics=recipe.metrics,
        scheduler=schedule,
        callbacks=[history, stopping, nn.train.ProgressBar(console)],
        compile=recipe.compiled and not options.eager,
    )
    about = {"recipe": options.model}
    if recipe.pictures:
        about |= {"mean": repr(splits.test.mean), "std": repr(splits.test.std)}
    nn.save(model.state_dict(), folder / "model.safetensors", metadata=about)
    return model, history, splits, nn.train.evaluate(model, test, loss=recipe.loss, metrics=recipe.metrics)


def _leave_report(recipe, model, history, splits, folder, facts, console):
    import nn

    from . import report

    write(folder / "gradients.txt", _gradients(recipe, model, ELEMENTS)[0])
    found = _graph_of(recipe, model, next(iter(nn.data.DataLoader(splits.test, 32))))
    for ending in ("svg", "html"):
        found.save(folder / f"graph.{ending}")
    if importlib.util.find_spec("matplotlib") is None:
        console.print("note: no curves and pictures without matplotlib (pip install 'autograd-core[plots]')")
    else:
        report.curves(history, folder / "curves.png")
        if recipe.pictures:
            outputs = nn.train.predict(model, nn.data.DataLoader(splits.test, 500))
            guesses = outputs.argmax(1).numpy()
            report.misread(splits.test.images, splits.test.labels, guesses, folder / "errors.png")
    report.page(folder, recipe.title, facts, history)


def _gradients(recipe, model, elements):
    """(text, largest error) of a gradient check of ``model`` in float64, which is left as it was."""
    import copy

    from . import report

    *inputs, target = recipe.sample(2, ag.float64)
    rows = report.parameter_gradients(copy.deepcopy(model).double(), recipe.loss, inputs, target, elements)
    return report.gradient_text(rows, recipe.title), max(row[3] for row in rows)


def _predict(options):
    import json

    import nn

    from .data.pictures import normalised, read_digit

    recipe, model, about = _trained(Path(options.model))
    if not recipe.pictures:
        raise ValueError(f"{options.model} holds {recipe.title}, which reads no pictures")
    mean, std = float(about["mean"]), float(about["std"])
    for path in options.pictures:
        scores = nn.train.predict(model, [normalised(read_digit(path), mean, std)])[0]
        if options.scores:
            print(json.dumps({"file": path, "scores": scores.tolist()}))
            continue
        shares = scores.softmax(0).numpy()
        first, *others = shares.argsort()[::-1][:3]
        rest = ", ".join(f"{k} ({100 * shares[k]:.1f} %)" for k in others)
        print(f"{path}: {first} ({100 * shares[first]:.1f} %), then {rest}")


def _trained(folder):
    """(recipe, model, metadata) of a run folder, the model with its weights and in evaluation mode."""
    import nn

    weights = folder / "model.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"no trained model in {folder}: it holds no model.safetensors (agrad train makes one)")
    about = nn.serialize.load_metadata(weights)
    if "recipe" not in about:
        raise ValueError(f"{weights} does not say which model it is; `agrad train` writes that into its metadata")
    recipe = _recipe(about["recipe"])
    model = recipe.model()
    model.load_state_dict(nn.load(weights))
    return recipe, model.eval(), about


def _graph(options):
    recipe = _recipe(options.model)
    ag.manual_seed(0)
    model = recipe.model()
    path = Path(options.out or f"{options.model}.svg")
    _graph_of(recipe, model, recipe.sample(2)).save(path)
    print(path)


def _graph_of(recipe, model, batch):
    """What the model does with a batch, forward and backward."""
    *inputs, target = batch
    return ag.graph(model, *inputs, loss=lambda outputs: recipe.loss(outputs, target), title=recipe.title)


def _check(options):
    recipe = _recipe(options.model)
    ag.manual_seed(0)
    model = recipe.model()
    text, worst = _gradients(recipe, model, sys.maxsize if options.all else options.elements)
    print(text, end="")
    if options.report or worst > 1e-4:
        *inputs, target = recipe.sample(2)
        found = ag.gradient_report(model, recipe.loss, (inputs, target))
        if options.report:
            found.save(options.report)
            print(options.report)
        if worst > 1e-4:
            print("\n".join(["agrad: a gradient is wrong", *found.problems]), file=sys.stderr)
            return 1
    return 0


def _bench(options):
    root = Path(__file__).resolve().parent.parent
    if not (root / "benchmarks" / "__main__.py").exists():
        raise ValueError("agrad bench needs a checkout of the project: the benchmarks are not part of the package")
    sys.path.insert(0, str(root))
    return import_module("benchmarks.__main__").main(options.rest)


def _doctor(options):
    from rich.console import Console

    from autograd_core.seeing.pictures import renderer

    console = Console(highlight=False, soft_wrap=True)
    for title, rows in (("versions", _versions()), ("machine", _machine()), ("caches", _caches())):
        console.print(f"[bold]{title}[/bold]")
        for name, value in rows:
            console.print(f"  {name:14} {value}", markup=False)
    missing = [f"  {name:14} {why}" for name, why in _EXTRAS.items() if importlib.util.find_spec(name) is None]
    if renderer() is None:
        missing.append("  dot            pictures of graphs: install Graphviz, or pip install 'autograd-core[draw]'")
    console.print("[bold]missing[/bold]" if missing else "nothing is missing")
    for line in missing:
        console.print(line, markup=False)


ELEMENTS = 96  # of each parameter, checked one by one in the report of a run

_EXTRAS = {
    "matplotlib": "training curves and pictures: pip install 'autograd-core[plots]'",
    "scipy": "special functions of small arrays without a compiled loop: pip install 'autograd-core[special]'",
    "latex2mathml": "formulas of the gallery's pages: pip install 'autograd-core[gallery]'",
    "optuna": "the gallery's search for hyperparameters: pip install 'autograd-core[gallery]'",
    "torch": "only to compare with: pip install 'autograd-core[bench]'",
}


def _versions():
    from importlib.metadata import PackageNotFoundError, version

    yield "autograd-core", ag.__version__
    yield "python", platform.python_version()
    for name in ("numpy", "numba", "llvmlite", "graphviz", "safetensors", "rich"):
        try:
            yield name, version(name)
        except PackageNotFoundError:
            yield name, "not installed"


def _machine():
    import numpy as np

    from autograd_core.kernels import host, threads

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]

    yield "system", f"{platform.system()} {platform.machine()}"
    yield "processor", f"{host.cpu()[0]}, {host.lanes()} float32 lanes, {host.cores()} cores"
    yield "threads", f"{threads.get_num_threads()} (set with ag.set_num_threads or AG_NUM_THREADS)"
    yield "BLAS", f"{blas.get('name')} {blas.get('version')}, kept to one thread"


def _caches():
    from autograd_core.kernels import cache

    from .data.fetch import data_folders

    kernels = cache.folder()
    size = sum(f.stat().st_size for f in Path(kernels).rglob("*") if f.is_file()) if kernels else 0
    yield (
        "kernels",
        f"{kernels} ({size / 1e6:.1f} MB)" if kernels else "none can be written: kernels are compiled each time",
    )
    yield "data", ", ".join(map(str, data_folders("mnist")))
    yield "AG_DATA", os.environ.get("AG_DATA", "not set")
