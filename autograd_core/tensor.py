"""Tensor, Node, and the one door that every operation on Tensors passes.

A `Tensor` wraps a NumPy array. When an operation gets a Tensor that wants a gradient, `apply` makes a `Node` that
holds what the operation's gradient rule asks for, and the edges to the nodes of its inputs. `backward` walks them.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

from . import provenance, storage
from .convert import as_array
from .errors import EXPLAINED, OpError, explain, placed
from .hooks import AccumulateGrad, RemovableHandle, hook_node
from .modes import QUIET, BackwardScope, enable_grad, quiet_off, quiet_on, state
from .shapes import COMPLEX, Size, dtype_of, ndarray

new = object.__new__
site = provenance.site
tick = storage.clock.__next__
shared_memory = np.may_share_memory


class Node:
    """One recorded operation: what its gradient rules asked for, and the edges to where its inputs came from.

    ``edges`` holds, for each input that wants a gradient, the parent (a Node, or a leaf Tensor) and the index of the
    parent's output. ``saved`` becomes None when backward has passed and the graph was not retained.
    """

    __slots__ = ("__weakref__", "edges", "hooks", "meta", "number", "op", "plan", "retained", "saved", "scope",
                 "site", "static")  # fmt: skip
    op: Any
    static: dict[str, Any]
    plan: Any
    edges: tuple
    saved: Any
    meta: tuple
    number: int
    site: tuple | None
    scope: str | None
    hooks: dict | None
    retained: list | None

    @property
    def forward(self) -> Node | None:
        """For a node that a backward with ``create_graph`` made: the node whose gradient it works out."""
        return self.scope.forward() if isinstance(self.scope, BackwardScope) else None

    def name(self) -> str:
        """The name that PyTorch would show: ``ExpBackward``."""
        return f"{self.op.title}Backward"

    @property
    def next_functions(self) -> tuple:
        """(node, index) of each input that wants a gradient; for a leaf an `AccumulateGrad`."""
        return tuple([(p if type(p) is Node else AccumulateGrad(p), index) for p, index in self.edges])

    def register_prehook(self, hook) -> RemovableHandle:
        """Call ``hook(grad_outputs)``, a tuple, before backward passes this node; a tuple it returns replaces them."""
        return hook_node(self, hook, before=True)

    def register_hook(self, hook) -> RemovableHandle:
        """Call ``hook(grad_inputs, grad_outputs)`` after; a tuple that it returns replaces the gradients of the inputs.

        ``grad_inputs`` are those of the inputs that want a gradient, in the order of ``next_functions``.
        """
        return hook_node(self, hook, before=False)

    def __repr__(self):
        return f"<{self.name()}>"

    def where(self) -> str:
        """The operation, its module and the user's line that made it."""
        inside = f" in module {self.scope}" if self.scope else ""
        place = provenance.describe(self.site)
        return f"{self.op.name}{inside}" + (f", made at {place}" if place else "")


def new_node(op, static, plan, edges, saved, meta, site, scope):
    """A new Node; that it has no ``__init__`` saves a third of the time."""
    node = Node()
    node.op = op
    node.static = static
    node.plan = plan
    node.edges = edges
    node.saved = saved
    node.meta = meta
    node.number = tick()
    node.site = site
    node.scope = scope
    node.hooks = None
    node.retained = None
    return node


def apply(op, args, static, watched=True, lifted=True):  # noqa: C901 (each branch is one thing that hangs on it)
    """Run ``op`` on Tensors (and arrays and numbers among them): the one door. Makes a Node where a gradient is wanted.

    A watcher (recording, compiling, vmap, profiling) sees the call first, and calls again with ``watched=False``.
    Without Tensors among ``args``, ``lifted=False`` gives arrays. `Op.door` is the same for one record and its number
    of arguments, without the loops and the questions whose answers the record knows.
    """
    local = state
    if watched and local.watch is not None:
        return local.watch.call(op, args, static)
    arrays: list = []
    mask, bit = 0, 1
    for arg in args:
        if isinstance(arg, Tensor):
            if arg.base is not None and arg.edition != arg.base.edition:
                arg._refresh()
            arrays.append(arg.array)
            if arg.tracks:
                mask |= bit
        else:  # a NumPy float from Python's side is weak, as a Python float
            arrays.append(float(arg) if lifted and type(arg) is np.float64 else arg)
        bit += bit
    if mask:
        if op.vjp is None or not local.grad:
            mask = 0
        elif op.composite is not None and op.vjp == ():
            return op.composite(*args, **static)
    token = quiet_on(QUIET)
    try:
        if op.prepare is not None:
            static = op.prepare(arrays, static)
        if op.promote is not None:
            arrays = op.promote(arrays)
        result = op.run(*arrays, **static)
    except EXPLAINED as error:
        if not lifted:
            raise
        raise explain(error, op, args, static)  # noqa: B904 (its cause is set)
    finally:
        quiet_off(token)

    if type(result) is tuple:
        return several(op, args, static, arrays, mask, result, lifted)
    if not lifted:
        return result
    out = new(Tensor)
    out.array = result = result if type(result) is ndarray else np.asarray(result)
    if mask and result.dtype.kind == "f":
        plan = op.plans.get((mask, len(args))) or op.plan(mask, len(args))
        if plan.rules:
            out.node = new_node(op, static, plan, plan.edges(args), plan.save(arrays, (result,)),
                                ((result.shape, result.dtype),), site(3), local.scope)  # fmt: skip
            out.tracks = True
    if op.view:
        link_view(out, args[0], op, args, static)
    return out


def several(op, args, static, arrays, mask, results, lifted):
    """What `apply` returns for a tuple of results: those that are not hidden, as the record puts them together."""
    if lifted:
        results = tuple([None if r is None else np.asarray(r) for r in results])
    visible = outs = results[: len(results) - len(op.hidden)]
    if lifted:
        outs = _lifted_outputs(op, args, static, arrays, mask, results, visible)
    if op.outputs is not None:
        return op.outputs(*outs)
    return outs[0] if len(outs) == 1 and op.hidden else tuple(outs)


def _lifted_outputs(op, args, static, arrays, mask, results, visible):
    plan = (op.plans.get((mask, len(args))) or op.plan(mask, len(args))) if mask else None
    node = None
    if plan is not None and plan.rules:
        meta = tuple([None if r is None else (r.shape, r.dtype) for r in visible])
        node = new_node(op, static, plan, plan.edges(args), plan.save(arrays, results), meta, site(5), state.scope)
    outs: list = []
    for index, array in enumerate(visible):
        if array is None:
            outs.append(None)
            continue
        out = wrap(array)
        if node is not None and array.dtype.kind == "f" and index not in op.constant_outputs:
            out.node, out.index, out.tracks = node, index, True
        if op.view:
            link_view(out, args[0], op, args, static, index)
        outs.append(out)
    return outs


def wrap(array: ndarray) -> Tensor:
    """A Tensor around ``array`` itself, without a copy and without a history."""
    out = new(Tensor)
    out.array = array
    return out


# ---------------------------------------------------------------------------------------------------- views


def link_view(out, source, op, args, static, index=None):
    """Remember that ``out`` looks at the memory of ``source``, and how, so that in-place changes find both."""
    if not isinstance(source, Tensor):
        return
    under, array = out.array.base, source.array
    if under is None or (under is not array and under is not array.base and not shared_memory(out.array, array)):
        return
    base = source.base if source.base is not None else source
    out.base = base
    out.edition = base.edition
    out.recipe = None if source.recipe is None else (*source.recipe, (op, args[1:], static, index))
    out.made_without_grad = source.made_without_grad or not state.grad


def link_opaque(out, source):
    """Remember that ``out``, whose history is a user's function, lies in the memory of ``source``, who knows how."""
    out.base = source.base if source.base is not None else source
    out.edition, out.recipe, out.made_without_grad = out.base.edition, None, True


def replay(value, recipe):
    """Apply the views of ``recipe`` to a Tensor or an array."""
    for op, rest, static, index in recipe:
        value = op.public_call(value, *rest, **static)
        if index is not None:
            value = value[index]
    return value


# ---------------------------------------------------------------------------------------------------- Tensor


class Tensor:
    """An array that records what is done with it, so that gradients can be worked out.

    ``data`` may be a number, a (nested) sequence, an array or another Tensor; it is copied.
    """

    array: ndarray
    _grad: Tensor | None = None
    node: Node | None = None
    index = 0
    tracks = False
    base: Tensor | None = None
    edition = 0
    recipe: tuple | None = ()
    made_without_grad = False
    relaid = 0  # the edition at which the tensor was given another shape in place
    leaf_hooks: dict | None = None
    after_hooks: dict | None = None
    kept = False
    name: str | None = None
    is_cuda = is_sparse = is_quantized = is_meta = is_mkldnn = is_mps = is_nested = False
    __array_priority__ = 1000
    __hash__ = object.__hash__

    if TYPE_CHECKING:  # methods are attached from records; their types stand in the package's stub
        __getitem__: Any
        _check_writable: Any
        _become: Any
        backward: Any

        def __getattr__(self, name: str) -> Any: ...

    def __new__(cls, *args, **kwargs):
        return new(cls)

    def __init__(self, data=(), dtype=None, requires_grad=False):
        self.array = as_array(data, dtype, copy=True)
        if requires_grad:
            self.requires_grad_()

    # -------------------------------------------------- what it is

    @property
    def shape(self) -> Size:
        """The sizes of the dimensions."""
        return Size(self.array.shape)

    @property
    def ndim(self) -> int:
        """The number of dimensions."""
        return self.array.ndim

    @property
    def dtype(self):
        """The data type, such as ``ag.float32``."""
        return COMPLEX.get(self.array.dtype) or dtype_of(self.array.dtype)

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return self.array.itemsize

    @property
    def nbytes(self) -> int:
        """Bytes of all elements."""
        return self.array.nbytes

    @property
    def is_leaf(self) -> bool:
        """Whether the user made it, rather than an operation that records its history."""
        return self._current().node is None

    @property
    def grad_fn(self) -> Node | None:
        """The node that made this tensor; None for a leaf."""
        return self._current().node

    @property
    def requires_grad(self) -> bool:
        """Whether operations on it are recorded."""
        return self._current().tracks

    @requires_grad.setter
    def requires_grad(self, value):
        self.requires_grad_(value)

    @property
    def grad(self) -> Tensor | None:
        """The gradient that backward accumulated; None before."""
        if state.watch is not None:
            state.watch.use_grad(self, False)
        return self._grad

    @grad.setter
    def grad(self, value):
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad expected to be a Tensor or None, got {type(value).__name__}")
            if value.array.shape != self.array.shape:
                raise RuntimeError(f"assigned grad has shape {list(value.shape)}, the tensor has {list(self.shape)}")
            if value.array.dtype != self.array.dtype:
                raise RuntimeError(f"assigned grad has dtype {value.dtype}, the tensor has {self.dtype}")
        if state.watch is not None:
            state.watch.use_grad(self, True)
        self._grad = value

    @property
    def data(self) -> Tensor:
        """The same memory without history. Assigning another tensor replaces the values (and dtype) of this one."""
        return wrap(self.array)

    @data.setter
    def data(self, value):
        array = value.array if isinstance(value, Tensor) else as_array(value)
        if state.watch is None or not state.watch.replace(self, array):
            self.array = array

    @property
    def _version(self) -> int:
        return storage.version(self.array)

    @property
    def retains_grad(self) -> bool:
        """Whether ``retain_grad`` was called on this non-leaf tensor."""
        return self.kept

    # -------------------------------------------------- gradients

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Turn the recording of operations on this leaf on or off; returns the tensor."""
        if requires_grad and self.array.dtype.kind != "f":
            wrong = f"only floating-point tensors can require gradients, this one is {self.dtype}"
            raise placed(RuntimeError(wrong), [self])
        if not requires_grad and self.node is not None:
            wrong = "you can only change requires_grad flags of leaf variables; use detach() instead"
            raise placed(RuntimeError(wrong), [self])
        self.tracks = bool(requires_grad) or self.node is not None
        return self

    def detach(self) -> Tensor:
        """The same memory without history."""
        out = wrap(self.array)
        if state.watch is not None:
            state.watch.alias(out, self)
        return out

    def detach_(self) -> Tensor:
        """Forget the history of this tensor."""
        if self.base is not None:
            raise RuntimeError("cannot detach a view in place; use detach() instead")
        self.node, self.index, self.tracks = None, 0, False
        return self

    def retain_grad(self) -> None:
        """Keep the gradient of this non-leaf tensor in ``grad`` when backward passes it."""
        if not self.requires_grad:
            raise placed(RuntimeError("can't retain_grad on a tensor that has requires_grad=False"), [self])
        if self.node is None or self.kept:
            return
        if self.node.retained is None:
            self.node.retained = []
        self.node.retained.append((self.index, weakref.ref(self)))
        self.kept = True

    def register_hook(self, hook):
        """Call ``hook(grad)`` whenever a gradient for this tensor is known; what it returns replaces the gradient."""
        if not self.requires_grad:
            raise placed(RuntimeError("cannot register a hook on a tensor that doesn't require gradient"), [self])
        if self.node is None:
            if self.leaf_hooks is None:
                self.leaf_hooks = {}
            return RemovableHandle(self.leaf_hooks, hook)
        if self.node.hooks is None:
            self.node.hooks = {}
        return RemovableHandle(self.node.hooks.setdefault(self.index, {}), hook)

    def register_post_accumulate_grad_hook(self, hook):
        """Call ``hook(tensor)`` after a gradient was added into the ``grad`` of this leaf."""
        if self.node is not None or not self.tracks:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self.after_hooks is None:
            self.after_hooks = {}
        return RemovableHandle(self.after_hooks, hook)

    def _current(self):
        if self.base is not None and self.edition != self.base.edition:
            self._refresh()
        return self

    def _refresh(self):
        """The base was changed in place through another tensor: make this view's history anew from the base's."""
        base = self.base
        assert base is not None  # the callers have looked
        if self.edition < base.relaid:
            raise placed(OpError("a view is used after the shape of its base was changed in place (t_, squeeze_, "
                                 "unsqueeze_, transpose_); make the view anew"), [self])  # fmt: skip
        if self.recipe is None:
            raise placed(OpError("the output of a Function that shares its input's memory is used after that was "
                                 "changed in place; clone() it in the Function"), [self])  # fmt: skip
        with enable_grad():
            fresh = replay(base, self.recipe)
        self.node, self.index, self.tracks = fresh.node, fresh.index, fresh.tracks
        self.edition = base.edition

    # -------------------------------------------------- values

    def numpy(self, force: bool = False) -> ndarray:
        """The values as a NumPy array that shares the memory.

        What is written through it is not seen by backward, as in PyTorch: `ag.debug` finds it.
        """
        if self.requires_grad and not force:
            raise placed(RuntimeError("can't call numpy() on a tensor that requires grad; use tensor.detach().numpy() "
                                      "instead"), [self])  # fmt: skip
        return self._read()

    def _read(self):
        """The array, for values that leave the engine."""
        if state.watch is not None:
            state.watch.read(self)
        return self.array

    def item(self):
        """The value of a tensor of one element as a Python number."""
        array = self._read()
        if array.size != 1:
            raise placed(RuntimeError(f"item: a Tensor with {array.size} elements (shape {list(array.shape)}) cannot "
                                      "be converted to a Python number"), [self])  # fmt: skip
        return array.item()

    def tolist(self):
        """The values as nested lists of Python numbers."""
        return self._read().tolist()

    def __bool__(self):
        if self.array.size != 1:
            raise placed(RuntimeError(f"bool: the truth value of a Tensor with {self.array.size} elements (shape "
                                      f"{list(self.shape)}) is ambiguous; use any() or all()"), [self])  # fmt: skip
        return bool(self.item())

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __complex__(self):
        return complex(self.item())

    def __index__(self):
        value = self.item()
        if isinstance(value, float):
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(value)

    def __len__(self):
        if self.array.ndim == 0:
            raise TypeError("len() of a 0-d tensor")
        return len(self.array)

    def __iter__(self):
        if self.array.ndim == 0:
            raise TypeError("iteration over a 0-d tensor")
        from . import ops

        return iter(ops.unbind(self, 0))

    def __contains__(self, value):
        return bool((self == value).any())

    def __format__(self, spec):
        if self.array.ndim == 0 and (spec or type(self) is Tensor):
            return format(self.item(), spec)
        if spec:
            raise TypeError(f"__format__: the format {spec!r} is for tensors without dimensions, this one has shape "
                            f"{list(self.shape)}; format its elements, or str() of it")  # fmt: skip
        return str(self)

    def __setitem__(self, index, value):
        from .ops import set_item

        set_item(self, index, value)

    # -------------------------------------------------- copies

    def __copy__(self):
        from . import ops

        return self._alike(self.array) if self.node is None else ops.alias(self)

    def _alike(self, array):
        out = new(type(self))
        out.__dict__.update({k: v for k, v in self.__dict__.items() if k not in _OF_THE_GRAPH}, array=array)
        return out

    def __deepcopy__(self, memo):
        if self.node is not None:
            raise RuntimeError(
                "only tensors created explicitly by the user (graph leaves) support deepcopy; detach() first"
            )
        out = self._alike(self.array.copy(order="K"))
        memo[id(self)] = out
        if self._grad is not None:
            out._grad = self._grad.__deepcopy__(memo)
        return out

    def __reduce__(self):
        if self.node is not None:
            raise RuntimeError("only leaf tensors can be pickled; detach() first")
        return _rebuild, (type(self), self.array, self.tracks)


_OF_THE_GRAPH = {"array", "_grad", "node", "index", "base", "edition", "recipe", "made_without_grad", "leaf_hooks",
                 "after_hooks", "kept"}  # fmt: skip
"""Attributes that a copy of a tensor does not take over."""


def _rebuild(kind, array, tracks):
    out = new(kind)
    out.array = array
    if tracks:
        out.tracks = True
    return out
