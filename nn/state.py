"""The state of a module as a flat dictionary of tensors: writing it down, and taking it over from one."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from functools import wraps
from typing import Any

import numpy as np

from autograd_core import Tensor
from autograd_core.modes import no_grad
from autograd_core.tensor import wrap

from .hooks import Handle
from .parameter import Buffer, Parameter, is_lazy

EXTRA_STATE = "_extra_state"
"""What a key ends in that holds what `get_extra_state` returned."""


class IncompatibleKeys(namedtuple("IncompatibleKeys", "missing_keys unexpected_keys")):
    """What `load_state_dict` returns: the keys that were missing, and those that nobody wanted."""

    __slots__ = ()

    def __repr__(self):
        return super().__repr__() if self.missing_keys or self.unexpected_keys else "<All keys matched successfully>"

    __str__ = __repr__


class Stateful:
    """The part of `Module` that deals with state dicts."""

    _version = 1
    _modules: dict
    _parameters: dict
    _buffers: dict
    _non_persistent_buffers_set: set
    _state_dict_hooks: OrderedDict
    _state_dict_pre_hooks: OrderedDict
    _load_state_dict_pre_hooks: OrderedDict
    _load_state_dict_post_hooks: OrderedDict

    # -------------------------------------------------- out

    def state_dict(self, *args: Any, destination=None, prefix="", keep_vars=False):
        """All parameters and persistent buffers by their dotted names, as detached tensors that share the memory.

        ``destination`` is a dictionary to be filled; ``prefix`` is put before every name; ``keep_vars`` gives the
        parameters themselves.
        """
        if args:  # an older calling convention, still found in overriding methods
            destination, prefix, keep_vars = args + (destination, prefix, keep_vars)[len(args) :]
        if destination is None:
            destination = OrderedDict()
            destination._metadata = OrderedDict()
        local_metadata = {"version": self._version}
        if hasattr(destination, "_metadata"):
            destination._metadata[prefix[:-1]] = local_metadata
        for hook in list(self._state_dict_pre_hooks.values()):
            hook(self, prefix, keep_vars)
        self._save_to_state_dict(destination, prefix, keep_vars)
        for name, module in self._modules.items():
            if module is not None:
                module.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        for hook in list(self._state_dict_hooks.values()):
            returned = hook(self, destination, prefix, local_metadata)
            if getattr(hook, "_returns_nothing", False):
                if returned is not None:
                    raise RuntimeError("state_dict post-hook must return None")
            elif returned is not None:
                destination = returned
        return destination

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        """Put the module's own tensors, without those of its submodules, into ``destination``."""
        for name, tensor in self._own_state():
            if tensor is not None:
                destination[prefix + name] = tensor if keep_vars or is_lazy(tensor) else tensor.detach()
        if _has_extra_state(self, "get_extra_state"):
            destination[prefix + EXTRA_STATE] = self.get_extra_state()

    def _own_state(self):
        yield from self._parameters.items()
        yield from [(k, b) for k, b in self._buffers.items() if k not in self._non_persistent_buffers_set]

    def get_extra_state(self):
        """What else belongs into the state dict; a subclass that has such overrides this and `set_extra_state`."""
        raise RuntimeError(f"{type(self).__name__}.get_extra_state is not defined, but the state dict holds extra "
                           "state")  # fmt: skip

    def set_extra_state(self, state) -> None:
        """Take over what `get_extra_state` returned."""
        raise RuntimeError(f"{type(self).__name__}.set_extra_state is not defined, but the state dict holds extra "
                           "state")  # fmt: skip

    def register_state_dict_pre_hook(self, hook) -> Handle:
        """Call ``hook(module, prefix, keep_vars)`` before a state dict is made."""
        return Handle(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook) -> Handle:
        """Call ``hook(module, state_dict, prefix, local_metadata)`` on a new state dict, to change it in place."""

        @wraps(hook)
        def marked(*args):
            return hook(*args)

        marked._returns_nothing = True  # type: ignore[attr-defined]
        return Handle(self._state_dict_hooks, marked)

    def _register_state_dict_hook(self, hook) -> Handle:
        """As `register_state_dict_post_hook`, but what the hook returns replaces the state dict."""
        return Handle(self._state_dict_hooks, hook)

    # -------------------------------------------------- in

    def load_state_dict(self, state_dict: Mapping, strict: bool = True, assign: bool = False) -> IncompatibleKeys:
        """Copy the tensors of ``state_dict`` into the parameters and buffers of the same names.

        ``strict`` (default): names that are missing, or that nothing here has, are an error. ``assign`` takes the
        tensors themselves (with their dtypes) in place of copying their values. Returns the names in question.
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        missing: list[str] = []
        unexpected: list[str] = []
        errors: list[str] = []
        metadata = getattr(state_dict, "_metadata", None)
        state_dict = OrderedDict(state_dict)
        if metadata is not None:
            state_dict._metadata = metadata  # type: ignore[attr-defined]
        _load(self, state_dict, "", metadata or {}, assign, missing, unexpected, errors)
        if strict:
            for what, keys in (("Unexpected", unexpected), ("Missing", missing)):
                if keys:
                    quoted = ", ".join(f'"{key}"' for key in keys)
                    errors.insert(0, f"{what} key(s) in state_dict: {quoted}. ")
        if errors:
            listed = "\n\t".join(errors)
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t{listed}")
        return IncompatibleKeys(missing, unexpected)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
                              error_msgs):  # fmt: skip
        """Take over the module's own tensors, without those of its submodules; what is wrong goes into the lists."""
        for hook in list(self._load_state_dict_pre_hooks.values()):
            hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
        assign = local_metadata.get("assign_to_params_buffers", False)
        own = {name: tensor for name, tensor in self._own_state() if tensor is not None}
        for name, tensor in own.items():
            key = prefix + name
            if key in state_dict:
                error = _take_over(self, name, tensor, state_dict[key], key, assign)
                if error:
                    error_msgs.append(error)
            elif strict:
                missing_keys.append(key)
        if _has_extra_state(self, "set_extra_state"):
            if prefix + EXTRA_STATE in state_dict:
                self.set_extra_state(state_dict[prefix + EXTRA_STATE])
            elif strict:
                missing_keys.append(prefix + EXTRA_STATE)
        elif strict and prefix + EXTRA_STATE in state_dict:
            unexpected_keys.append(prefix + EXTRA_STATE)
        if strict:
            unexpected_keys += [key for key in state_dict if self._is_unexpected(key, prefix, own)]

    def _is_unexpected(self, key, prefix, own):
        if not key.startswith(prefix) or key == prefix + EXTRA_STATE:
            return False
        first, dot, _ = key[len(prefix) :].partition(".")
        return first not in self._modules if dot else first not in own

    def register_load_state_dict_pre_hook(self, hook) -> Handle:
        """Call a hook before loading.

        It gets ``module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs``.
        """
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def _register_load_state_dict_pre_hook(self, hook, with_module=False) -> Handle:
        return Handle(self._load_state_dict_pre_hooks, _WithModule(hook, self) if with_module else hook)

    def register_load_state_dict_post_hook(self, hook) -> Handle:
        """Call ``hook(module, incompatible_keys)`` after loading; it may change the lists of keys."""
        return Handle(self._load_state_dict_post_hooks, hook)


class _WithModule:
    """A hook with its module as the first argument; a class, so that a deepcopy of the module gets its own."""

    def __init__(self, hook, module):
        self.hook, self.module = hook, module

    def __call__(self, *args):
        return self.hook(self.module, *args)


def _has_extra_state(module, method):
    return getattr(type(module), method) is not getattr(Stateful, method)


def _load(module, state_dict, prefix, metadata, assign, missing, unexpected, errors):
    local_metadata = dict(metadata.get(prefix[:-1], {}))
    if assign:
        local_metadata["assign_to_params_buffers"] = True
    module._load_from_state_dict(state_dict, prefix, local_metadata, True, missing, unexpected, errors)
    for name, child in module._modules.items():
        if child is not None:
            start = f"{prefix}{name}."
            part = {k: v for k, v in state_dict.items() if k.startswith(start)}
            _load(child, part, start, metadata, assign, missing, unexpected, errors)
    keys = IncompatibleKeys(missing, unexpected)
    for hook in list(module._load_state_dict_post_hooks.values()):
        if hook(module, keys) is not None:
            raise RuntimeError("load_state_dict post-hook must return None: it may change the lists of keys in place")


def _take_over(module, name, mine, given, key, assign):
    """Copy or assign one tensor; returns a sentence where it does not fit."""
    if isinstance(given, (np.ndarray, np.generic)):
        given = wrap(np.asarray(given))
    if not isinstance(given, Tensor):
        return (f'While copying the parameter named "{key}", expected a Tensor or an array '
                f"from the checkpoint but received {type(given)}")  # fmt: skip
    if is_lazy(mine) != is_lazy(given) and not is_lazy(mine):
        return f'While copying the parameter named "{key}": the checkpoint holds an uninitialized parameter'
    if is_lazy(given):
        return None
    if not is_lazy(mine) and mine.shape != given.shape:
        if mine.shape == () and given.shape == (1,):  # scalars used to be saved with one dimension
            given = given.detach().reshape(())
        else:
            return (f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, "
                    f"the shape in current model is {mine.shape}.")  # fmt: skip
    try:
        if assign:
            _assign(module, name, mine, given)
        else:
            with no_grad():
                mine.copy_(given)
    except (RuntimeError, TypeError, ValueError) as error:
        return (f'While copying the parameter named "{key}", whose dimensions in the model are {mine.shape} and '
                f"in the checkpoint {given.shape}, an exception occurred: {error}.")  # fmt: skip
    return None


def _assign(module, name, mine, given):
    if isinstance(mine, Parameter):
        if not isinstance(given, Parameter):
            given = Parameter(given.detach(), requires_grad=mine.requires_grad)
        given.requires_grad_(mine.requires_grad)
    elif isinstance(mine, Buffer) and not isinstance(given, Buffer):
        given = Buffer(given.detach(), persistent=mine.persistent)
    setattr(module, name, given)
