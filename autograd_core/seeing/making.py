"""``ag.graph``, ``ag.record`` and ``ag.draw``: how graphs are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter, signature
from typing import Any

import numpy as np

from .. import generator
from ..backward import backward as run_backward
from ..compiler import Compiled
from ..tensor import Node, Tensor, wrap
from .graphs import Graph, Vertex
from .names import name_of, users_frame
from .recording import Recorder


class record:
    """Record what runs inside: ``with ag.record() as g:``. When the code raises, ``g`` holds what ran until then.

    Sees the operations, backwards and optimizer steps of this thread. ``model`` lends its parameters' names where it is
    not itself called. ``values``: keep the arrays, by reference, so that statistics can be looked at.
    """

    def __init__(self, title: str = "", model: Any = None, values: bool = True):
        self.graph = Graph(title)
        self.recorder = Recorder(self.graph, values, names_in(model))

    def __enter__(self) -> Graph:
        self.recorder.__enter__()
        return self.graph

    def __exit__(self, *error) -> None:
        self.recorder.__exit__(*error)


def graph(target: Any, *inputs: Any, kwargs: dict[str, Any] | None = None, loss: Callable | None = None,
          backward: bool = True, values: bool = True, warm: bool = False, model: Any = None,
          title: str = "") -> Graph:  # fmt: skip
    """The graph of a computation, forward and backward: what ran, with shapes, values, gradients, times and lines.

    target: a function or module, which is run once on ``inputs`` and ``kwargs``; a compiled function (without inputs:
    the program that it used last); a tensor with a history; or a graph, which is returned as it is.

    loss: makes a single number of what the target returns, for the backward; without it, every output is weighed with
    ones, as if the sum of all outputs were the loss. ``backward=False``: forward alone. A function that has run a
    backward itself gets no other. ``values=False`` holds no arrays: no statistics, less memory. ``warm=True`` runs it
    once before, so that times are free of the loading of kernels. ``model`` lends its parameters' names where the
    target is a tensor or a plain function.

    Looking changes nothing: gradients of the leaves, the default generator and the buffers of a module stay as they
    were. (What a plain function itself changes, it changes.)
    """
    if isinstance(target, Graph):
        return target
    if isinstance(target, Tensor):
        return _graph_of_tensor(target, model, title, backward, values)
    if isinstance(target, Compiled) and not inputs and not kwargs:
        return target.graph()
    if not callable(target):
        raise TypeError(f"graph: needs a Tensor, a module or a function, got {type(target).__name__}")
    if warm:
        graph(target, *inputs, kwargs=kwargs, loss=loss, backward=backward, values=False, model=model)
    found = model if model is not None else target if hasattr(target, "named_parameters") else None
    made = Graph(title or getattr(target, "__name__", type(target).__name__))
    recorder = Recorder(made, values, names_in(found))
    with undisturbed(found), recorder:
        _declare(recorder, target, inputs, kwargs or {})
        result = target(*inputs, **(kwargs or {}))
        result = result if loss is None else loss(result)
        outs = tensors_in(result)
        _conclude(recorder, outs)
        if backward and not made.backward:
            _differentiate(recorder, outs)
    return made


def draw(target: Any, *inputs: Any, model: Any = None, title: str = "", backward: bool = True,
         depth: int | None = None, **how: Any):  # fmt: skip
    """Draw a computation: ``ag.graph`` as a picture that shows itself in a notebook and saves itself by its ending.

    Arguments are those of `graph`; ``depth``: modules below it are closed, one box each.
    """
    from .pictures import Drawing

    if isinstance(target, Drawing):
        return target
    return Drawing(graph(target, *inputs, model=model, title=title, backward=backward, **how), depth)


# ---------------------------------------------------------------------------------------------------- pieces


def names_in(model) -> dict[int, tuple[str, str]]:
    """(kind, name) of the parameters and buffers of a module, by id."""
    if model is None:
        return {}
    found = {id(tensor): ("parameter", name) for name, tensor in model.named_parameters()}
    return found | {id(tensor): ("buffer", name) for name, tensor in model.named_buffers()}


def tensors_in(result: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(result, Tensor):
        return [result]
    if isinstance(result, dict):
        result = list(result.values())
    return [t for r in result for t in tensors_in(r)] if isinstance(result, (list, tuple)) else []


@contextmanager
def undisturbed(model: Any = None) -> Iterator[None]:
    """The default generator, and buffers and their arrays of ``model``, are afterwards what they were before."""
    drawn = generator.default_generator.get_state()
    places = [(m._buffers, name, tensor, tensor.array) for m in (model.modules() if model is not None else ())
              for name, tensor in m._buffers.items() if tensor is not None]  # fmt: skip
    for _, _, tensor, array in places:
        tensor.array = array.copy()  # what is written goes into the copy, which the graph may keep
    try:
        yield
    finally:
        for held, name, tensor, array in places:
            tensor.array = array
            held[name] = tensor
        generator.default_generator.set_state(drawn)


def _declare(recorder, target, inputs, kwargs):
    """Vertices of the inputs, under the names that the caller's variables have, else those of the parameters."""
    named = target.forward if hasattr(target, "named_parameters") else target
    try:
        known = [p for p in signature(named).parameters.values() if p.kind is not Parameter.KEYWORD_ONLY]
    except (TypeError, ValueError):  # a callable without a signature
        known = []
    frame = users_frame(2)
    for number, value in enumerate(inputs):
        formal = known[min(number, len(known) - 1)].name if known else None
        _declare_one(recorder, value, formal, frame)
    for name, value in kwargs.items():
        _declare_one(recorder, value, name, frame)


def _declare_one(recorder, value, formal, frame):
    found = tensors_in(value)
    for number, tensor in enumerate(found):
        plain = formal if formal is None or len(found) == 1 else f"{formal}[{number}]"
        name = tensor.name or name_of(tensor, frame) or plain
        kind = "parameter" if tensor.requires_grad and tensor.node is None else "input"
        if id(tensor) not in recorder.names:
            recorder.names[id(tensor)] = kind, name
        recorder.maker(tensor)


def _conclude(recorder, outs):
    """Vertices of the outputs."""
    recorder.settle()
    for number, tensor in enumerate(outs):
        maker = recorder.maker(tensor)
        key = f"y{number}"
        array = tensor.array
        made = Vertex(key, "output", f"output {number}" if len(outs) > 1 else "output", (array.shape,),
                      str(array.dtype), value=recorder.hold(array))  # fmt: skip
        recorder.graph.add(made)
        recorder.graph.edges.append((maker, key))


def _differentiate(recorder, outs):
    """Run the backward of all outputs that have one, weighed with ones; no leaf's ``grad`` changes."""
    roots = [t for t in dict.fromkeys(outs) if t.requires_grad and t.grad_fn is not None]
    if not roots:
        return
    recorder.holds_back = True
    ones = [np.ones(t.array.shape, t.array.dtype) for t in roots]
    run_backward(roots, [wrap(g) for g in ones], retain_graph=True)
    for tensor, one in zip(roots, ones, strict=True):
        for number, out in enumerate(outs):
            if out is tensor and recorder.values:
                recorder.graph.vertices[f"y{number}"].gradient = recorder.hold(one)


def _graph_of_tensor(tensor, model, title, backward, values):
    """What the history of a tensor remembers; its backward is run where nothing of it has been freed."""
    root = tensor.grad_fn
    if root is None:
        raise ValueError("graph: the tensor has no history: it was made by the user, or recording was off")
    made = Graph(title)
    recorder = Recorder(made, values, names_in(model))
    seen: set[Node] = set()
    stack = [root]
    while stack:
        node = stack.pop()
        if node not in seen:
            seen.add(node)
            stack += [parent for parent, _ in node.edges if type(parent) is Node]
    whole = all([node.saved is not None for node in seen])
    with undisturbed(), recorder:
        for node in sorted(seen, key=lambda n: n.number):
            _recall(recorder, node)
        recorder.nodes.setdefault(tensor.node, recorder.nodes[root])
        if tensor.name is None and (name := name_of(tensor, users_frame(2))):
            made.vertices[recorder.nodes[root]].name = name
        _conclude(recorder, [tensor])
        if backward and whole:
            _differentiate(recorder, [tensor])
        elif backward:
            _sketch_backward(recorder, seen)
    return made


def _recall(recorder, node):
    """The vertex of a node, with edges from what it got."""
    sources = [recorder.forward_of(parent) for parent, _ in node.edges]
    key = recorder.recall(node)
    recorder.graph.edges += [(source, key) for source in sources]


def _sketch_backward(recorder, seen):
    """The backward of a history that has been freed: its structure is known, nothing else."""
    leaves: dict[Tensor, None] = {}
    for node in sorted(seen, key=lambda n: -n.number):
        recorder.back_of(node)
        leaves |= {parent: None for parent, _ in node.edges if isinstance(parent, Tensor)}
    for leaf in leaves:
        there = recorder.graph.vertices[recorder.nodes[leaf]]
        key = f"g{len(recorder.graph.vertices)}"
        recorder.graph.add(Vertex(key, "gradient", f"grad of {there.name or there.label}", there.shapes, there.dtype,
                                  module=there.module, forward=there.key))  # fmt: skip
        recorder.walked.append((leaf, key))
