"""Hooks of modules: functions that are called before and after `forward`, and when gradients pass a module.

`Module.__call__` takes the way through `call_with_hooks` only when a hook is registered, so that hooks cost nothing
where there are none.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict

import numpy as np

from autograd_core import (
    Tensor,
    ops,  # noqa: F401  (records must stand before another one is added)
)
from autograd_core.ops.samples import real, sample
from autograd_core.registry import network, op
from autograd_core.tensor import RemovableHandle, wrap

HOOK_KINDS = frozenset(
    f"_{kind}_hooks{form}"
    for kind in ("forward_pre", "forward", "backward_pre", "backward")
    for form in ("", "_with_kwargs", "_always_called")
)
"""Attributes of a module that hold hooks of its calls; they are made when somebody asks for them."""

STATE_HOOK_KINDS = frozenset(
    ["_state_dict_hooks", "_state_dict_pre_hooks", "_load_state_dict_pre_hooks", "_load_state_dict_post_hooks"])


class GlobalHooks:
    """Hooks that are called for every module."""

    _hooked = False

    def __init__(self):
        self.__dict__.update({name: OrderedDict() for name in HOOK_KINDS})

    def __getattr__(self, name) -> OrderedDict:
        raise AttributeError(f"there are no hooks of the kind {name}")


everywhere = GlobalHooks()


class Handle(RemovableHandle):
    """A `RemovableHandle` that also clears what is noted about the hook."""

    def __init__(self, hooks, hook, *, notes=(), prepend=False):
        super().__init__(hooks, hook)
        self.notes = notes
        for note in notes:
            note[self.id] = True
        if prepend:
            hooks.move_to_end(self.id, last=False)

    def remove(self) -> None:
        """Take the hook away; calling it again does nothing."""
        super().remove()
        for note in self.notes:
            note.pop(self.id, None)


def add_hook(owner, kind, hook, *, prepend=False, with_kwargs=False, always_call=False) -> Handle:
    """Register ``hook`` among the hooks of ``kind`` of a module (or of `everywhere`)."""
    owner.__dict__["_hooked"] = True
    notes = [getattr(owner, f"_{kind}_hooks_with_kwargs")] if with_kwargs else []
    if always_call:
        notes.append(getattr(owner, f"_{kind}_hooks_always_called"))
    return Handle(getattr(owner, f"_{kind}_hooks"), hook, notes=notes, prepend=prepend)


def register_module_forward_pre_hook(hook) -> Handle:
    """Call ``hook(module, args)`` before the ``forward`` of every module; see `Module.register_forward_pre_hook`."""
    return add_hook(everywhere, "forward_pre", hook)


def register_module_forward_hook(hook, *, with_kwargs=False, always_call=False) -> Handle:
    """Call ``hook(module, args, output)`` after the ``forward`` of every module; see `Module.register_forward_hook`."""
    return add_hook(everywhere, "forward", hook, with_kwargs=with_kwargs, always_call=always_call)


def register_module_full_backward_pre_hook(hook) -> Handle:
    """Call ``hook(module, grad_output)`` when gradients reach the output of any module."""
    return add_hook(everywhere, "backward_pre", hook)


def register_module_full_backward_hook(hook) -> Handle:
    """Call ``hook(module, grad_input, grad_output)`` when gradients have passed any module."""
    return add_hook(everywhere, "backward", hook)


register_module_backward_hook = register_module_full_backward_hook

registration_hooks: dict[str, OrderedDict] = {kind: OrderedDict() for kind in ("module", "parameter", "buffer")}
"""Hooks ``hook(module, name, value)`` that are called when a submodule, parameter or buffer is registered."""


def register_module_module_registration_hook(hook) -> Handle:
    """Call ``hook(module, name, submodule)`` whenever a submodule is registered; what it returns replaces it."""
    return Handle(registration_hooks["module"], hook)


def register_module_parameter_registration_hook(hook) -> Handle:
    """Call ``hook(module, name, parameter)`` whenever a parameter is registered; what it returns replaces it."""
    return Handle(registration_hooks["parameter"], hook)


def register_module_buffer_registration_hook(hook) -> Handle:
    """Call ``hook(module, name, buffer)`` whenever a buffer is registered; what it returns replaces it."""
    return Handle(registration_hooks["buffer"], hook)


def registered(kind, module, name, value):
    """``value`` after the registration hooks of ``kind`` have seen it."""
    for hook in registration_hooks[kind].values():
        value = _or(hook(module, name, value), value)
    return value


def _or(returned, before):
    return before if returned is None else returned


# ---------------------------------------------------------------------------------------------------- gradients


def _pass_gate(gs, needs, hook):
    gs = gs if isinstance(gs, tuple) else (gs,)
    return gs if hook is None else hook(gs)


@op(network, vjp=_pass_gate, namespace="internal", out=False, samples=[sample(real(2, 3), real(3), hook=None)])
def gradient_gate(*tensors, hook):
    """The tensors themselves; on the way back all their gradients pass ``hook`` together, which may replace them."""
    return tensors


gradient_gate.record.foreign = True  # what a hook returns may be held by the user


def _as_tuple(values):
    return values if isinstance(values, tuple) else (values,)


def _through_gate(values, hook, zeros):
    """``values`` with the Tensors that want gradients sent through a gate; whether there was any.

    ``zeros``: show zeros rather than None for Tensors that nothing came back to.
    """
    places = [i for i, v in enumerate(values) if isinstance(v, Tensor) and v.requires_grad]
    if not places:
        return values, False
    floats = [zeros and isinstance(v, Tensor) and v.array.dtype.kind == "f" for v in values]
    shown = [wrap(np.zeros_like(v.array)) if is_float else None for v, is_float in zip(values, floats, strict=True)]

    def gate(gradients):
        plain = not any(isinstance(g, Tensor) for g in gradients)
        everything = list(shown)
        for place, gradient in zip(places, gradients, strict=True):
            if gradient is not None:
                everything[place] = wrap(gradient) if plain else gradient
        found = _as_tuple(hook(tuple(everything)))
        return tuple([found[i].array if plain and isinstance(found[i], Tensor) else found[i] for i in places])

    passed = _as_tuple(gradient_gate(*[values[i] for i in places], hook=gate))
    through = list(values)
    for place, tensor in zip(places, passed, strict=True):
        through[place] = tensor
    return tuple(through), True


class BackwardHooks:
    """The backward hooks of one call of a module: gates around its inputs and outputs bring them the gradients."""

    def __init__(self, module, pre_hooks, hooks):
        self.module, self.pre_hooks, self.hooks = module, list(pre_hooks), list(hooks)
        self.grad_output: tuple | None = None
        self.inputs = 0
        self.has_input = False

    def enter(self, args):
        """The arguments behind their gate."""
        self.inputs = len(args)
        args, self.has_input = _through_gate(args, self._after, zeros=True)
        return args

    def leave(self, output):
        """The outputs behind their gate."""
        found, _ = _through_gate(_as_tuple(output), self._before, zeros=False)
        return found if isinstance(output, tuple) else found[0]

    def _before(self, grad_output):
        for hook in self.pre_hooks:
            grad_output = self._replaced(hook(self.module, grad_output), grad_output, "full_backward_pre_hook")
        self.grad_output = grad_output
        if not self.has_input:
            self._after((None,) * self.inputs)
        return grad_output

    def _after(self, grad_input):
        for hook in self.hooks:
            returned = hook(self.module, grad_input, self.grad_output)
            grad_input = self._replaced(returned, grad_input, "full_backward_hook")
        return grad_input

    @staticmethod
    def _replaced(returned, before, kind):
        if returned is None:
            return before
        returned = _as_tuple(returned)
        if len(returned) != len(before):
            error = RuntimeError(f"{kind}: the hook returned {len(returned)} gradients, but expected {len(before)}")
            error.explained = True  # the engine need not add where it was called
            raise error
        return returned


# ---------------------------------------------------------------------------------------------------- the call


def call_with_hooks(module, args, kwargs):
    """What calling ``module`` does when hooks are registered."""
    args, kwargs = _before_forward(module, args, kwargs)
    pre_hooks = [*everywhere._backward_pre_hooks.values(), *module._backward_pre_hooks.values()]
    hooks = [*everywhere._backward_hooks.values(), *module._backward_hooks.values()]
    backward_hooks = BackwardHooks(module, pre_hooks, hooks) if pre_hooks or hooks else None
    if backward_hooks is not None:
        args = backward_hooks.enter(args)
    called: set[int] = set()
    try:
        result = module.forward(*args, **kwargs)
        result = _after_forward(module, args, kwargs, result, called)
    except Exception:
        _always_called(module, args, kwargs, called)
        raise
    return result if backward_hooks is None else backward_hooks.leave(result)


def _before_forward(module, args, kwargs):
    for owner in (everywhere, module):
        with_kwargs = owner._forward_pre_hooks_with_kwargs
        for number, hook in list(owner._forward_pre_hooks.items()):
            if number in with_kwargs:
                returned = hook(module, args, kwargs)
                if returned is not None:
                    if not (isinstance(returned, tuple) and len(returned) == 2):
                        raise RuntimeError("forward pre-hook with kwargs must return None or a tuple of (new_args, "
                                           f"new_kwargs), got {returned!r}")  # fmt: skip
                    args, kwargs = returned
            else:
                returned = hook(module, args)
                args = args if returned is None else _as_tuple(returned)
    return args, kwargs


def _call_forward_hook(owner, number, hook, module, args, kwargs, result):
    if number in owner._forward_hooks_with_kwargs:
        return hook(module, args, kwargs, result)
    return hook(module, args, result)


def _after_forward(module, args, kwargs, result, called):
    for owner in (everywhere, module):
        for number, hook in list(owner._forward_hooks.items()):
            called.add(number)
            result = _or(_call_forward_hook(owner, number, hook, module, args, kwargs, result), result)
    return result


def _always_called(module, args, kwargs, called):
    """``forward`` has failed: run the hooks that are to be called whatever happens."""
    for owner in (everywhere, module):
        for number in [n for n in owner._forward_hooks_always_called if n not in called]:
            hook = owner._forward_hooks.get(number)
            if hook is None:
                continue
            try:
                _call_forward_hook(owner, number, hook, module, args, kwargs, None)
            except Exception as error:  # noqa: BLE001  (the error of `forward` is the one to be seen)
                warnings.warn(f"a forward hook with always_call=True raised {error!r} after forward had failed",
                              stacklevel=3)  # fmt: skip
