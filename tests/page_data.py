"""Graphs in the form of their JSON export, made up: small ones with every case in them, and large ones."""

from __future__ import annotations

import math
import random


def statistics(rng, nan=0, inf=0):
    mean, std = rng.uniform(-1, 1), rng.uniform(0.1, 2)
    edges = [round(mean + std * (k - 15) / 5, 5) for k in range(31)]
    counts = [round(400 * math.exp(-(((k - 14.5) / 5) ** 2) / 2)) for k in range(30)]
    return {
        "count": sum(counts), "nan": nan, "inf": inf, "zeros": counts[15], "min": edges[0],
        "max": "inf" if inf else edges[-1], "mean": "nan" if nan else mean, "std": std,
        "norm": math.sqrt(sum(counts)) * std, "absolute": abs(mean) + std / 2,
        "histogram": {"edges": edges, "counts": counts},
    }  # fmt: skip


class Maker:
    """Builds an export step by step: modules, forward nodes, and at the end the backward pass."""

    def __init__(self, title, seed=0, stats=True):
        self.rng, self.stats = random.Random(seed), stats
        self.modules, self.nodes, self.edges = [], [], []
        self.title = title

    def module(self, name, type_, parent=None, fold=None, parameters=0):
        path = f"{self.path(parent)}.{name}" if parent else name
        key = f"m{len(self.modules)}"
        self.modules.append({"id": key, "path": path, "name": name, "type": type_, "parent": parent,
                             "parameters": parameters, "call": 1, "fold": fold})  # fmt: skip
        return key

    def path(self, key):
        return next(m["path"] for m in self.modules if m["id"] == key)

    def node(self, kind, label, module=None, inputs=(), shape=(128, 64), name=None, family=None, nan=0, forward=None):
        key, rng, is_op = f"n{len(self.nodes)}", self.rng, kind in ("op", "backward")
        count = math.prod(shape)
        self.nodes.append({
            "id": key, "kind": kind, "label": label, "op": label if is_op else None, "family": family, "name": name,
            "module": module, "settings": {"stride": "(1, 1)"} if label == "conv2d" else {}, "shapes": [list(shape)],
            "dtype": "float32", "forward": forward,
            "source": {"file": "train.py", "line": 10 + len(self.nodes) % 90, "function": "forward",
                       "text": f"x = self.{label}(x)"},
            "seconds": rng.lognormvariate(-8.5, 1.2) if is_op else None,
            "flops": count * rng.randint(1, 400) if is_op else None,
            "bytes": 8 * count if is_op else None, "saved_bytes": 4 * count if kind == "op" else None,
            "value": statistics(rng, nan) if self.stats else None,
            "gradient": statistics(rng) if self.stats and kind == "parameter" else None,
        })  # fmt: skip
        self.edges += [[source, key] for source in inputs]
        return key

    def backward(self):
        """Mirror every op, and end at a gradient of each parameter."""
        forward, mirror = list(self.nodes), {}
        users = {}
        for start, end in self.edges:
            users.setdefault(start, []).append(end)
        for node in reversed(forward):
            sources = [mirror[user] for user in users.get(node["id"], []) if user in mirror]
            if node["kind"] == "op":
                kind, label = "backward", f"{node['label']} backward"
            elif node["kind"] == "parameter" and sources:
                kind, label = "gradient", f"grad of {node['name']}"
            else:
                continue
            mirror[node["id"]] = self.node(kind, label, node["module"], sources, node["shapes"][0], node["name"],
                                           node["family"], forward=node["id"])  # fmt: skip

    def export(self):
        def whole(what):
            return sum(n[what] or 0 for n in self.nodes)

        totals = {"parameters": 61706, **{what: whole(what) for what in ("flops", "saved_bytes", "seconds")}}
        return {"format": "autograd-core graph", "version": 1, "title": self.title, "passes": "forward and backward",
                "modules": self.modules, "nodes": self.nodes, "edges": self.edges, "totals": totals}  # fmt: skip


def layer(maker, module, x, op="linear", family="contraction"):
    """A layer with a weight and a bias."""
    weight = maker.node("parameter", "weight", module, shape=(64, 64), name=f"{maker.path(module)}.weight")
    bias = maker.node("parameter", "bias", module, shape=(64,), name=f"{maker.path(module)}.bias")
    return maker.node("op", op, module, [x, weight, bias], family=family)


def residual(maker, parent, name, x, fold=None):
    block = maker.module(name, "BasicBlock", parent, fold, parameters=8320)
    first = layer(maker, maker.module("conv1", "Conv2d", block, parameters=4160), x, "conv2d")
    middle = maker.node("op", "relu", block, [first], family="elementwise")
    second = layer(maker, maker.module("conv2", "Conv2d", block, parameters=4160), middle, "conv2d")
    total = maker.node("op", "add", block, [second, x], family="arithmetic")
    return maker.node("op", "relu", block, [total], family="elementwise")


def network(blocks=12, title="Residual", fold=True, stats=True, backward=True):
    """A residual network: a stem, ``blocks`` equal blocks (folded), a head; a loss."""
    maker = Maker(title, stats=stats)
    model = maker.module(title, "ResNet", parameters=61706)
    x = maker.node("input", "input", shape=(128, 3, 32, 32), name="images")
    x = layer(maker, maker.module("stem", "Conv2d", model, parameters=4160), x, "conv2d")
    x = maker.node("op", "relu", model, [x], family="elementwise", name="features")
    first = f"m{len(maker.modules)}"
    repeats = {"group": "g1", "count": blocks, "first": first} if fold else None
    for k in range(blocks):
        x = residual(maker, model, f"block{k + 1}", x, repeats)
    x = layer(maker, maker.module("head", "Linear", model, parameters=4160), x)
    target = maker.node("input", "target", shape=(128,), name="target")
    loss = maker.node("op", "cross_entropy", None, [x, target], shape=(), family="network", nan=1)
    maker.node("output", "loss", None, [loss], shape=(), name="loss")
    if backward:
        maker.backward()
    return maker.export()


def large(nodes=10_000, stats=True):
    """Stages of blocks of layers until there are ``nodes``; forward and backward."""
    maker = Maker("Large", stats=stats)
    model = maker.module("Large", "Sequential", parameters=nodes)
    x = maker.node("input", "input", name="x")
    stage = block = 0
    while len(maker.nodes) < nodes * 0.53:
        if block % 10 == 0:
            stage += 1
            here = maker.module(f"stage{stage}", "Sequential", model)
        block += 1
        x = residual(maker, here, f"block{block}", x)
    maker.node("output", "output", None, [x])
    maker.backward()
    return maker.export()


def flat(nodes=10_000):
    """A plain function: one long chain without modules, one weight used by every step."""
    maker = Maker("steps")
    x = maker.node("input", "x", name="x")
    weight = maker.node("parameter", "w", name="w")
    for k in range(nodes - 2):
        op = ("mul", "tanh", "add")[k % 3]
        x = maker.node("op", op, None, [x, weight] if op == "mul" else [x], family="elementwise")
    return maker.export()


def nasty():
    """Names and sources that try to break out of the page."""
    data = network(3)
    data["title"] = "</script><script>window.broken = 1</script> {{style}} \"quoted\" & 'so'"
    data["nodes"][0]["name"] = data["nodes"][0]["label"] = "</script><img src=x onerror='window.broken = 2'>"
    data["nodes"][3]["source"]["text"] = "<!-- <script> \u2028 \ud800 {{data}} `${1}` \\"
    data["modules"][1]["name"] = "<b>&amp;</b>"
    return data
