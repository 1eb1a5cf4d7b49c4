"""The base class of the optimizers: groups, state, hooks, state dicts, and the loop that calls an algorithm.

An algorithm is its settings and three small methods, written with operators and `ops` functions, so that the same text
runs on arrays (a plain step), on Tensors (a differentiable or recorded step) and can be turned into a kernel:

    ``init(parameter, group)``      the state of one parameter: Tensors, and floats for counts such as ``step``
    ``numbers(counts, group)``      the numbers that a step needs beyond the group's own, in double precision
    ``update(p, g, state, group)``  (new values of the parameter, new state), from the gradient ``g``

Learning rates, coefficients and counts are looked up at each step and never part of an algorithm's text; what an
``update`` may branch on is whether a setting is in force (`in_force`) and what is not a number.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from copy import deepcopy
from functools import wraps
from importlib import import_module
from itertools import chain
from typing import Any

import numpy as np

from autograd_core import provenance
from autograd_core.inplace import clear_grad, take_history
from autograd_core.modes import QUIET, enable_grad, quiet_off, quiet_on, set_grad_enabled, state, unwatched
from autograd_core.shapes import default_dtype
from autograd_core.storage import log_write
from autograd_core.tensor import RemovableHandle, Tensor, wrap

CHUNK = 16384
"""Elements of a large parameter that are updated at a time, so that intermediate arrays stay in the cache.

Measured on Adam: 2.8 times faster than the whole for one tensor of 10**6 elements, even at 20,000. Joining tensors into
one flat array lost everywhere but for tiny ones (50 of 20,000 elements: 16.8 ms against 3.4 ms; 4 tiny ones: 20 us
against 31 us).
"""

TOGETHER = 1 << 14
"""Elements of a group from which its parameters are updated in one launch of a loop made from `update`."""

PLAIN = frozenset([float, int, bool, str, list, type(None)])
"""Types of settings that need no conversion."""

required = object()
"""The default of a setting that every group must give."""

_global_pre_hooks: OrderedDict[int, Callable] = OrderedDict()
_global_post_hooks: OrderedDict[int, Callable] = OrderedDict()


def register_optimizer_step_pre_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` before each step of every optimizer."""
    return RemovableHandle(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable) -> RemovableHandle:
    """Call ``hook(optimizer, args, kwargs)`` after each step of every optimizer."""
    return RemovableHandle(_global_post_hooks, hook)


def in_force(setting) -> bool:
    """Whether a setting does something: a Tensor, or a number other than 0."""
    return isinstance(setting, Tensor) or setting != 0


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The defaults of an optimizer: the ``locals()`` of its constructor, when nothing else is defined yet."""
    return {k: v for k, v in given.items() if k not in ("self", "params", "__class__")}


def check_nonnegative(optimizer: Optimizer, **settings) -> None:
    """Raise ValueError for a setting below 0 (or NaN), and for a learning rate that is a Tensor of several elements."""
    for name, value in settings.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element, got shape {list(value.shape)}")
        if not value >= 0:
            what = {"lr": "learning rate", "eps": "epsilon value"}.get(name, f"{name} value")
            raise ValueError(f"Invalid {what}: {value} ({type(optimizer).__name__} needs {name} >= 0)")


def check_betas(optimizer: Optimizer, betas) -> None:
    """Raise ValueError unless each of the decay rates lies in [0, 1)."""
    for index, beta in enumerate(betas):
        if not 0 <= beta < 1:
            name = type(optimizer).__name__
            raise ValueError(f"Invalid beta parameter at index {index}: {beta} ({name} needs 0 <= beta < 1)")


def _with_hooks(step):
    @wraps(step)
    def hooked(self, *args, **kwargs):
        self._opt_called = True  # lr_scheduler warns where it is stepped first
        before, after = self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks
        if not (before or after or _global_pre_hooks or _global_post_hooks):
            return step(self, *args, **kwargs)
        args = (self, *args)
        for hook in [*_global_pre_hooks.values(), *before.values()]:
            changed = hook(self, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(f"a step pre-hook must return None or (new_args, new_kwargs), got {changed!r}")
                args, kwargs = changed
        result = step(*args, **kwargs)
        for hook in [*after.values(), *_global_post_hooks.values()]:
            hook(self, args, kwargs)
        return result

    return hooked


class Optimizer:
    """Updates parameters from their gradients. ``defaults`` are the settings of groups that do not give their own.

    ``params``: Tensors, (name, Tensor) pairs, or dicts with ``params`` and the settings of that group.

    Of the arguments that PyTorch has for its devices, ``foreach``, ``fused`` and ``capturable`` are accepted, kept in
    the groups and make no difference here: a step over many tensors is compiled with ``ag.compile`` instead.
    """

    scalars: tuple[str, ...] = ()
    """State entries that are counts: kept as 0-d tensors, handed to `numbers`, not to `update`."""

    elementwise = True
    """Whether `update` treats each element by itself, so that a large parameter may be updated in pieces."""

    param_groups: list[dict[str, Any]]
    state: defaultdict[Tensor, dict[str, Any]]
    _opt_called = False
    _fused: Any = None
    _optimizer_step_pre_hooks: OrderedDict[int, Callable]
    _optimizer_step_post_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_state_dict_post_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_pre_hooks: OrderedDict[int, Callable]
    _optimizer_load_state_dict_post_hooks: OrderedDict[int, Callable]

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.__dict__["step"])  # type: ignore[method-assign]

    def __init__(self, params: Iterable, defaults: dict[str, Any]):
        if isinstance(params, Tensor):
            raise TypeError("params argument given to the optimizer should be an iterable of Tensors or dicts, "
                            "but got a Tensor")  # fmt: skip
        if defaults.get("fused"):
            if defaults.get("differentiable"):
                raise RuntimeError("`fused` does not support `differentiable`")
            if defaults.get("foreach"):
                raise RuntimeError("`fused` and `foreach` cannot be `True` together.")
        self.defaults = defaults
        self._make_hooks()
        self.state = defaultdict(dict)
        self.param_groups = []
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _make_hooks(self):
        for kind in ("step_pre", "step_post", "state_dict_pre", "state_dict_post", "load_state_dict_pre",
                     "load_state_dict_post"):  # fmt: skip
            self.__dict__.setdefault(f"_optimizer_{kind}_hooks", OrderedDict())

    def __getstate__(self):
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, values):
        self.__dict__.update(values)
        self._make_hooks()

    def __repr__(self):
        lines = [type(self).__name__ + " ("]
        for number, group in enumerate(self.param_groups):
            lines.append(f"Parameter Group {number}")
            lines += [f"    {key}: {group[key]}" for key in sorted(group) if key != "params"]
        return "\n".join([*lines, ")"])

    # -------------------------------------------------- the algorithm

    def init(self, parameter: Tensor, group: dict) -> dict[str, Any]:
        """The state of a parameter before its first step: Tensors, None, or floats for the `scalars`."""
        return {}

    def numbers(self, counts: dict[str, float], group: dict) -> dict[str, Any]:
        """What `update` needs beyond the group's settings; may change ``counts`` (``step`` is counted already)."""
        return {}

    def update(self, parameter, gradient, state, group):
        """(new parameter, new state) of one step; ``group`` holds the settings and what `numbers` returned."""
        raise NotImplementedError(f"{type(self).__name__} defines neither update nor step")

    # -------------------------------------------------- a step

    def step(self, closure: Callable | None = None):
        """Update all parameters that have a gradient; returns the loss of ``closure``, which is called first."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        differentiable = bool(self.defaults.get("differentiable"))
        watch, place = state.watch, provenance.site()
        if differentiable or (watch is not None and watch.steers):
            with set_grad_enabled(differentiable):
                for group in self.param_groups:
                    self._step_tensors(group)
        elif watch is not None:
            watch.update(self, place)
        else:
            self._update_arrays(place)
        return loss

    def _update_arrays(self, place):
        token = quiet_on(QUIET)
        try:
            for group in self.param_groups:
                self._step_arrays(group, place)
        finally:
            quiet_off(token)

    def _step_arrays(self, group, place):
        known: dict = {}
        maximize = group.get("maximize")
        begins = type(self).init is not Optimizer.init
        settings = None if self.scalars else self._with_numbers({}, group)
        together: dict[tuple, list] | None = {} if self.elementwise and _is_large(group) else None
        for p in group["params"]:
            if p._grad is None:
                continue
            gradient = p._grad.array
            if maximize:
                gradient = -gradient
            kept = self.state.get(p) or (self._start(p, group) if begins else {})
            if self.scalars:
                settings = self._counted(kept, group, known)
            if together is not None:
                arrays = {k: v.array for k, v in kept.items() if v is not None and k not in self.scalars}
                if _alike(p.array, gradient, *arrays.values()):
                    key = id(settings), p.array.dtype, tuple(arrays)
                    together.setdefault(key, [settings]).append((p, gradient, kept, arrays))
                    continue
            self._step_array(p, gradient, kept, settings, place)
        for settings, *alike in (together or {}).values():
            self._step_together(alike, settings, place)

    def _step_together(self, parameters, settings, place):
        """One launch for parameters of one dtype, with the same settings and state entries."""
        if self._fused is None:
            self._fused = import_module("autograd_core.fusion").FusedUpdate(self.update)
        done = self._fused([(p.array, gradient, arrays) for p, gradient, _, arrays in parameters], settings)
        for p, gradient, kept, _ in parameters:
            if done:
                log_write(p.array, place)
            else:
                self._step_array(p, gradient, kept, settings, place)

    def _step_array(self, p, gradient, kept, settings, place):
        values = p.array
        if not (self.elementwise and values.size > 2 * CHUNK and self._in_pieces(values, gradient, kept, settings)):
            arrays = {k: v.array for k, v in kept.items() if v is not None} if kept else kept
            new, new_state = self.update(values, gradient, arrays, settings)
            values[...] = new
            for name, value in new_state.items():
                if name in arrays:
                    arrays[name][...] = value
                else:
                    self.state[p][name] = wrap(np.array(value))
        log_write(values, place)

    def _in_pieces(self, values, gradient, kept, settings):
        arrays = {k: v.array for k, v in kept.items() if v is not None and k not in self.scalars}
        if not all(a.flags.c_contiguous for a in (values, gradient, *arrays.values())):
            return False
        flat = {k: a.reshape(-1) for k, a in arrays.items()}
        values, gradient = values.reshape(-1), gradient.reshape(-1)
        for start in range(0, values.size, CHUNK):
            piece = slice(start, start + CHUNK)
            parts = {k: a[piece] for k, a in flat.items()}
            new, new_state = self.update(values[piece], gradient[piece], parts, settings)
            if new_state.keys() - parts.keys():
                return False  # state that begins with this step
            values[piece] = new
            for name, value in new_state.items():
                parts[name][...] = value
        return True

    def _step_tensors(self, group):
        known: dict = {}
        for p in group["params"]:
            gradient = p.grad
            if gradient is None:
                continue
            gradient = -gradient if group.get("maximize") else gradient
            kept = self.state.get(p) or self._start(p, group)
            settings = self._counted(kept, group, known)
            if state.watch is not None:
                settings = state.watch.settings(self, group, p, kept, settings)
            tensors = {k: v for k, v in kept.items() if isinstance(v, Tensor) and k not in self.scalars}
            new, new_state = self.update(p, gradient, tensors, settings)
            for name, value in new_state.items():
                if name in tensors and not state.grad:
                    _assign(tensors[name], value)
                else:
                    self.state[p][name] = value if state.grad else value.clone()
            _assign(p, new)

    def _start(self, p, group):
        with set_grad_enabled(False), unwatched():
            made = {k: wrap(np.array(v, _count_dtype())) if isinstance(v, float) else v
                    for k, v in self.init(p, group).items()}  # fmt: skip
        if made:
            self.state[p] = made
        return made

    def _counted(self, kept, group, known):
        """The group's settings with this step's numbers, shared by the parameters that have taken as many steps."""
        key = tuple([kept[name].array.item() for name in self.scalars])
        found = known.get(key)
        if found is None:
            found = known[key] = self._settings_after(key, group)
        for name, value in found[1].items():
            kept[name].array[...] = value
        return found[0]

    def _settings_after(self, key, group, plain=None):
        """(settings, counts) of the step after the one that left the counts ``key``."""
        counts = dict(zip(self.scalars, key, strict=True))
        if "step" in counts:
            counts["step"] += 1
        return self._with_numbers(counts, group, plain), counts

    def _with_numbers(self, counts, group, plain=None):
        """The settings with a step's numbers; ``plain``: whether no setting is a Tensor, where that is known."""
        if plain is None:
            plain = PLAIN.issuperset(map(type, group.values())) or all(map(_is_plain, group.values()))
        if plain or group.get("differentiable"):
            numbers = self.numbers(counts, group)
            return {**group, **numbers} if numbers else group
        exact = _converted(group, _exact)  # a Tensor's numbers are worked out in its own precision, as in PyTorch,
        return _converted({**exact, **self.numbers(counts, exact)}, _weak)  # and must not widen float32 arrays

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters (or, with ``set_to_none=False``, fill them with zeros)."""
        plain = set_to_none and state.watch is None
        for group in self.param_groups:
            for p in group["params"]:
                if plain:
                    p._grad = None
                else:
                    clear_grad(p, set_to_none)

    # -------------------------------------------------- groups

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Optimize further parameters, with settings of their own: a dict with ``params`` and settings."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, got {type(param_group).__name__}")
        if "params" not in param_group:
            raise KeyError(f"param_group must have the key 'params', got {sorted(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError("optimizer parameters must come in an order that is the same in every run: "
                            "params must be a list, got a set")  # fmt: skip
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        if names and len(names) != len(params):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        for p in params:
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but one of the params is {type(p).__name__}")
            if not self.defaults.get("differentiable") and not (p.is_leaf or p.retains_grad):
                raise ValueError("can't optimize a non-leaf Tensor")
        param_group["params"] = params
        if names:
            param_group["param_names"] = names
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            param_group.setdefault(name, default)
        self._check_membership(params, bool(names))
        self.param_groups.append(param_group)

    def _check_membership(self, params, named):
        if len({id(p) for p in params}) != len(params):
            warnings.warn("optimizer contains a parameter group with duplicate parameters", stacklevel=4)
        if any(("param_names" in group) != named for group in self.param_groups):
            new, others = ("with", "without") if named else ("without", "with")
            raise ValueError("all optimizer param groups should be with/without names. cannot add param group "
                             f"{new} names to the optimizer {others} names")  # fmt: skip
        if {id(p) for p in params} & {id(p) for group in self.param_groups for p in group["params"]}:
            raise ValueError("some parameters appear in more than one parameter group")

    # -------------------------------------------------- state dicts

    def state_dict(self) -> dict[str, Any]:
        """``state`` (by the number of the parameter) and ``param_groups`` (numbers for parameters), as PyTorch's."""
        for hook in self._optimizer_state_dict_pre_hooks.values():
            hook(self)
        numbers: dict[int, int] = {}
        for p in chain.from_iterable(g["params"] for g in self.param_groups):
            numbers.setdefault(id(p), len(numbers))
        groups = [{**group, "params": [numbers[id(p)] for p in group["params"]]} for group in self.param_groups]
        packed = {numbers[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        result = {"state": packed, "param_groups": groups}
        for hook in self._optimizer_state_dict_post_hooks.values():
            changed = hook(self, result)
            result = result if changed is None else changed
        return result

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` returned here or in PyTorch: values are copied, in their parameter's dtype."""
        state_dict = state_dict.copy()
        for hook in self._optimizer_load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        if not {"state", "param_groups"} <= set(state_dict):
            raise KeyError(f"load_state_dict: needs the keys 'state' and 'param_groups', got {[*state_dict]}")
        saved = deepcopy(state_dict["param_groups"])
        if len(saved) != len(self.param_groups):
            raise ValueError("loaded state dict has a different number of parameter groups: "
                             f"{len(saved)}, the optimizer has {len(self.param_groups)}")  # fmt: skip
        for number, (old, new) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(old["params"]) != len(new["params"]):
                raise ValueError("loaded state dict contains a parameter group that doesn't match the size of "
                                 f"optimizer's group: number {number} has {len(new['params'])} parameters, "
                                 f"the optimizer's {len(old['params'])}")  # fmt: skip
        keys = chain.from_iterable(g["params"] for g in saved)
        params = dict(zip(keys, chain.from_iterable(g["params"] for g in self.param_groups), strict=True))
        loaded: defaultdict = defaultdict(dict)
        for key, value in state_dict["state"].items():
            loaded[params.get(key, key)] = self._loaded(params[key], value) if key in params else value
        for old, new in zip(self.param_groups, saved, strict=True):
            new["params"] = old["params"]
            if "param_names" in old:
                new.setdefault("param_names", old["param_names"])
        self.__setstate__({"state": loaded, "param_groups": saved})
        for hook in self._optimizer_load_state_dict_post_hooks.values():
            hook(self)

    def _loaded(self, p, value, name=None):
        if isinstance(value, dict):
            return {k: self._loaded(p, v, k) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._loaded(p, v) for v in value)
        if name in self.scalars:
            return wrap(np.array(value.item() if hasattr(value, "item") else value, _count_dtype()))
        if not isinstance(value, Tensor) and not hasattr(value, "__array__"):
            return value
        array = value.array if isinstance(value, Tensor) else np.asarray(value)
        return wrap(np.array(array, p.array.dtype if array.dtype.kind == "f" else array.dtype))

    # -------------------------------------------------- hooks

    def register_step_pre_hook(self, hook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` before each step; it may return new (args, kwargs)."""
        return RemovableHandle(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook) -> RemovableHandle:
        """Call ``hook(optimizer, args, kwargs)`` after each step."""
        return RemovableHandle(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` before `state_dict`."""
        return _hook(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` after `state_dict`; what it returns replaces the dict."""
        return _hook(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer, state_dict)`` before `load_state_dict`; what it returns is loaded instead."""
        return _hook(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook, prepend: bool = False) -> RemovableHandle:
        """Call ``hook(optimizer)`` after `load_state_dict`."""
        return _hook(self._optimizer_load_state_dict_post_hooks, hook, prepend)


Optimizer.step = _with_hooks(Optimizer.step)  # type: ignore[method-assign]


def _hook(hooks, hook, prepend):
    handle = RemovableHandle(hooks, hook)
    if prepend:
        hooks.move_to_end(handle.id, last=False)
    return handle


def _is_large(group):
    """Whether a step is worth one launch of a loop, for which machine code must be loaded first."""
    return sum([p.array.size for p in group["params"] if p._grad is not None]) >= TOGETHER


def _alike(values, *others):
    """Whether arrays share dtype and strides, and the first may be written to."""
    dtype, strides = values.dtype, values.strides
    return values.flags.writeable and not [a for a in others if a.strides != strides or a.dtype != dtype]


def _count_dtype():
    return np.dtype(np.float64) if default_dtype() == np.float64 else np.dtype(np.float32)


def _is_plain(value):
    return not isinstance(value, (Tensor, np.generic)) and (type(value) is not tuple or all(map(_is_plain, value)))


def _converted(group, convert):
    return {k: tuple(map(convert, v)) if type(v) is tuple else convert(v) for k, v in group.items()}


def _exact(value):
    return value.array.reshape(())[()] if isinstance(value, Tensor) else value


def _weak(value):
    return value.item() if isinstance(value, np.generic) else value


def _assign(target, new):
    """Give ``target`` the value ``new``: with its history where gradients are recorded, else written in place."""
    if target is new:
        return
    if state.grad and target.base is None:
        # a new array rather than a write: the graph of earlier steps may have saved the old one
        target.array = new.array.astype(target.array.dtype)
        take_history(target, new if new.tracks else None)
    else:
        target._become(new, "step")
