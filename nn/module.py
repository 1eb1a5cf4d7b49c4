"""Module: a function with parameters and submodules, the base of every layer and every network."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, Self

import numpy as np

from autograd_core import Tensor
from autograd_core.errors import EXPLAINED, placed
from autograd_core.inplace import clear_grad
from autograd_core.modes import no_grad, state
from autograd_core.shapes import DType, dtype_of

from . import parameter
from .hooks import HOOK_KINDS, STATE_HOOK_KINDS, Handle, add_hook, call_with_hooks, everywhere, registered
from .parameter import Buffer, Parameter, check_device, is_lazy
from .state import Stateful


class Module(Stateful):
    """A function with parameters and submodules.

    Subclass it: make the parts in ``__init__``, use them in ``forward``::

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.fc = nn.Linear(784, 10)

            def forward(self, x):
                return self.fc(x).log_softmax(1)

    Parameters, buffers and modules that are assigned to attributes are found by themselves. ``training`` says whether
    the module behaves as in training (`train`) or in use (`eval`).
    """

    training: bool
    _hooked = False
    _changes = 0  # how many attributes of modules were set so far: a compiled program looks again when it has grown
    _label: str | None = None  # the name by which a parent knows it: errors and pictures show it

    def __init__(self, *args, **kwargs):
        if args or kwargs:
            given = next(iter(kwargs), None)
            what = f"an unexpected keyword argument '{given}'" if given else f"{len(args)} positional arguments"
            raise TypeError(f"{type(self).__name__}.__init__() got {what}; it takes none")
        self.__dict__.update(training=True, _parameters={}, _buffers={}, _non_persistent_buffers_set=set(), _modules={})

    def _forward_unimplemented(self, *args):
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    forward: Callable[..., Any] = _forward_unimplemented

    def __call__(self, *args, **kwargs):
        here = state.__dict__
        before = here["scope"]
        label = self._label
        if label is None:  # the root: its parts are named as the user names them, a lone layer by its class
            label = "" if not before and self._modules else type(self).__name__
        here["scope"] = f"{before}.{label}" if before and label else label or before
        if here["watch"] is not None:
            here["watch"].enter(self)
        try:
            if self._hooked or everywhere._hooked:
                return call_with_hooks(self, args, kwargs)
            return self.forward(*args, **kwargs)
        except EXPLAINED as error:
            raise placed(error, args, kwargs)  # noqa: B904 (it is the same error)
        finally:
            here["scope"] = before
            if here["watch"] is not None:
                here["watch"].leave(self)

    # -------------------------------------------------- attributes

    def __getattr__(self, name):
        held = self.__dict__
        if "_modules" in held:  # else __init__ has not run
            if name in held["_parameters"]:
                return held["_parameters"][name]
            if name in held["_modules"]:
                return held["_modules"][name]
            if name in held["_buffers"]:
                return held["_buffers"][name]
        if name in HOOK_KINDS or name in STATE_HOOK_KINDS:
            hooks = held[name] = OrderedDict()
            if name in HOOK_KINDS:
                held["_hooked"] = True  # whoever holds the dictionary may put a hook into it
            return hooks
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name, value):
        held = self.__dict__
        Module._changes += 1
        if state.watch is not None:
            state.watch.set_attribute(self, name, value)
        if isinstance(value, Parameter):
            self._forget(name, "_parameters")
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            self._forget(name, "_modules")
            held["_modules"][name] = value = registered("module", self, name, value)
            value._named(name)
        elif name in held.get("_parameters", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{_type_name(value)}' as parameter '{name}' (nn.Parameter or None "
                                "expected)")  # fmt: skip
            self.register_parameter(name, None)
        elif name in held.get("_modules", ()):
            if value is not None:
                raise TypeError(f"cannot assign '{_type_name(value)}' as child module '{name}' (nn.Module or None "
                                "expected)")  # fmt: skip
            held["_modules"][name] = registered("module", self, name, value)
        elif isinstance(value, Buffer):
            self._forget(name, "_buffers")
            self.register_buffer(name, value, value.persistent)
        elif name in held.get("_buffers", ()):
            if not (value is None or isinstance(value, Tensor)):
                raise TypeError(f"cannot assign '{_type_name(value)}' as buffer '{name}' (a Tensor, nn.Buffer or None "
                                "expected)")  # fmt: skip
            held["_buffers"][name] = registered("buffer", self, name, value)
        else:
            object.__setattr__(self, name, value)

    def _forget(self, name, kind):
        """Before ``name`` becomes an entry of ``kind``: take away what else has that name."""
        held = self.__dict__
        if "_modules" not in held:
            what = {"_parameters": "parameters", "_modules": "module", "_buffers": "buffer"}[kind]
            raise AttributeError(f"cannot assign {what} before Module.__init__() call")
        for place in (held, *[held[other] for other in ("_parameters", "_buffers", "_modules") if other != kind]):
            place.pop(name, None)
        self._non_persistent_buffers_set.discard(name)

    def __delattr__(self, name):
        for kind in ("_parameters", "_buffers", "_modules"):
            if name in self.__dict__[kind]:
                del self.__dict__[kind][name]
                self._non_persistent_buffers_set.discard(name)
                return
        object.__delattr__(self, name)

    def __dir__(self):
        names = {*object.__dir__(self), *self._parameters, *self._buffers, *self._modules}
        return sorted(n for n in names if not n[0].isdigit())

    def _check_name(self, name, kind, known):
        if "_modules" not in self.__dict__:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {type(name).__name__}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if not name:
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in known and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")

    def register_parameter(self, name: str, param: Parameter | None) -> None:
        """Add a parameter (or None: a place that may be filled later)."""
        self._check_name(name, "parameter", self.__dict__.get("_parameters", ()))
        if param is not None:
            if not isinstance(param, Parameter):
                raise TypeError(f"cannot assign '{_type_name(param)}' object to parameter '{name}' (nn.Parameter or "
                                "None required)")  # fmt: skip
            if param.grad_fn is not None:
                raise ValueError(f"parameter '{name}' must be a leaf, got a non-leaf tensor; compute it from "
                                 "parameters in forward()")  # fmt: skip
        self._parameters[name] = registered("parameter", self, name, param)

    def register_buffer(self, name: str, tensor: Tensor | None, persistent: bool = True) -> None:
        """Add a tensor that is part of the state without being trained; one that is not ``persistent`` is not saved."""
        self._check_name(name, "buffer", self.__dict__.get("_buffers", ()))
        if tensor is not None and not isinstance(tensor, Tensor):
            raise TypeError(f"cannot assign '{_type_name(tensor)}' object to buffer '{name}' (a Tensor or None "
                            "required)")  # fmt: skip
        self._buffers[name] = registered("buffer", self, name, tensor)
        (self._non_persistent_buffers_set.discard if persistent else self._non_persistent_buffers_set.add)(name)

    def add_module(self, name: str, module: Module | None) -> None:
        """Add a submodule, reachable as an attribute of that name."""
        if not isinstance(module, Module) and module is not None:
            raise TypeError(f"{type(self).__name__}: {_type_name(module)} is not a Module subclass")
        self._check_name(name, "module", self.__dict__.get("_modules", ()))
        self._modules[name] = module = registered("module", self, name, module)
        if module is not None:
            module._named(name)

    register_module = add_module

    def _named(self, label):
        """Take note of the name that a parent gives to this module."""
        self.__dict__["_label"] = label

    # -------------------------------------------------- the tree

    def get_submodule(self, target: str) -> Module:
        """The submodule with the dotted name ``target``; the module itself for an empty one."""
        module: Any = self
        for part in target.split(".") if target else ():
            if not hasattr(module, part):
                raise AttributeError(f"{type(module).__name__} has no attribute `{part}`")
            module = getattr(module, part)
            if not isinstance(module, Module):
                raise AttributeError(f"`{part}` is not an nn.Module")
        return module

    def set_submodule(self, target: str, module: Module, strict: bool = False) -> None:
        """Put ``module`` in the place with the dotted name ``target``; ``strict``: only where there is one already."""
        if target == "":
            raise ValueError("Cannot set the submodule without a target name!")
        if not isinstance(module, Module):
            raise ValueError(f"`module` is not an nn.Module, found {type(module)}")
        path, _, name = target.rpartition(".")
        parent = self.get_submodule(path)
        if strict and not hasattr(parent, name):
            raise AttributeError(f"{type(parent).__name__} has no attribute `{name}`")
        if hasattr(parent, name) and not isinstance(getattr(parent, name), Module):
            raise AttributeError(f"`{name}` is not an nn.Module")
        setattr(parent, name, module)

    def get_parameter(self, target: str) -> Parameter:
        """The parameter with the dotted name ``target``."""
        return self._leaf(target, Parameter, "an nn.Parameter")

    def get_buffer(self, target: str) -> Tensor:
        """The buffer with the dotted name ``target``."""
        path, _, name = target.rpartition(".")
        found = self._leaf(target, Tensor, "a buffer")
        if name not in self.get_submodule(path)._buffers:
            raise AttributeError(f"`{name}` is not a buffer")
        return found

    def _leaf(self, target, kind, what):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{type(module).__name__} has no attribute `{name}`")
        found = getattr(module, name)
        if not isinstance(found, kind):
            raise AttributeError(f"`{name}` is not {what}")
        return found

    def named_modules(self, memo: set | None = None, prefix: str = "", remove_duplicate: bool = True):
        """The module itself and all modules below it, with their dotted names; each once unless told otherwise."""
        memo = set() if memo is None else memo
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        for name, module in self._modules.items():
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self, remove_duplicate: bool = True) -> Iterator[Module]:
        """The module itself and all modules below it."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """The direct submodules with their names; each once."""
        memo = set()
        for name, module in self._modules.items():
            if module is not None and module not in memo:
                memo.add(module)
                yield name, module

    def children(self) -> Iterator[Module]:
        """The direct submodules."""
        for _, module in self.named_children():
            yield module

    def _named_members(self, members, prefix="", recurse=True, remove_duplicate=True):
        seen: set[int] = set()
        modules = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate) if recurse else [(prefix, self)]
        for path, module in modules:
            for name, value in members(module):
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self, prefix: str = "", recurse: bool = True,
                         remove_duplicate: bool = True) -> Iterator[tuple[str, Parameter]]:  # fmt: skip
        """The parameters with their dotted names; shared ones once unless told otherwise."""
        yield from self._named_members(lambda m: m._parameters.items(), prefix, recurse, remove_duplicate)

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        """The parameters of the module and (unless told otherwise) of all modules below it."""
        for _, found in self.named_parameters(recurse=recurse):
            yield found

    def named_buffers(self, prefix: str = "", recurse: bool = True,
                      remove_duplicate: bool = True) -> Iterator[tuple[str, Tensor]]:  # fmt: skip
        """The buffers with their dotted names; shared ones once unless told otherwise."""
        yield from self._named_members(lambda m: m._buffers.items(), prefix, recurse, remove_duplicate)

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        """The buffers of the module and (unless told otherwise) of all modules below it."""
        for _, found in self.named_buffers(recurse=recurse):
            yield found

    def apply(self, fn: Callable[[Module], None]) -> Self:
        """Call ``fn`` on every module below this one, then on itself."""
        for child in self.children():
            child.apply(fn)
        fn(self)
        return self

    # -------------------------------------------------- modes

    def train(self, mode: bool = True) -> Self:
        """Set the module and all below it to training, or to use; matters to dropout and batch normalisation."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for child in self.children():
            child.train(mode)
        return self

    def eval(self) -> Self:
        """Set the module and all below it to use; the same as ``train(False)``."""
        return self.train(False)

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """Say whether the parameters get gradients; with False they are frozen."""
        for tensor in self.parameters():
            tensor.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters, or set them to zero with ``set_to_none=False``."""
        for tensor in self.parameters():
            clear_grad(tensor, set_to_none)

    # -------------------------------------------------- types and devices

    def _apply(self, fn, recurse=True) -> Self:
        """Replace the values of all parameters, their gradients and all buffers by what ``fn`` makes of them."""
        if recurse:
            for child in self.children():
                child._apply(fn)
        with no_grad():
            for tensor in self._parameters.values():
                if tensor is not None:
                    tensor.data = fn(tensor)
                    if tensor.grad is not None:
                        tensor.grad = fn(tensor.grad)
            for name, tensor in self._buffers.items():
                if tensor is not None:
                    self._buffers[name] = fn(tensor)
        return self

    def to(self, *args, **kwargs) -> Self:
        """Change the type of all floating-point parameters and buffers: ``to(dtype)``, ``to(device)``, ``to(tensor)``.

        The only device is the CPU. The module is changed itself, and returned.
        """
        dtype = kwargs.pop("dtype", None)
        device = kwargs.pop("device", None)
        for value in args:
            if isinstance(value, Tensor):
                dtype = value.dtype
            elif isinstance(value, (DType, np.dtype, type)):
                dtype = value
            elif value is not None and not isinstance(value, bool):
                device = value
        check_device(device)
        unknown = set(kwargs) - {"non_blocking", "tensor", "memory_format", "copy"}
        if unknown:
            raise TypeError(f"to() got an unexpected keyword argument '{unknown.pop()}'")
        if "tensor" in kwargs:
            dtype = kwargs["tensor"].dtype
        if dtype is None:
            return self
        dtype = dtype_of(dtype)
        if not dtype.is_floating_point:
            raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype}")
        return self._apply(lambda t: _cast(t, dtype) if t.dtype.is_floating_point else t)

    def type(self, dst_type) -> Self:
        """Change the type of all parameters and buffers, integer ones included."""
        return self._apply(lambda t: _cast(t, dtype_of(dst_type)))

    def float(self) -> Self:
        """Change floating-point parameters and buffers to float32."""
        return self.to(np.float32)

    def double(self) -> Self:
        """Change floating-point parameters and buffers to float64."""
        return self.to(np.float64)

    def half(self) -> Self:
        """Change floating-point parameters and buffers to float16."""
        return self.to(np.float16)

    def bfloat16(self) -> Self:
        """Not available: NumPy has no bfloat16."""
        raise TypeError("Module.bfloat16: bfloat16 is not supported; use float() or half()")

    def cpu(self) -> Self:
        """The module itself: everything is on the CPU."""
        return self

    def cuda(self, device=None) -> Self:
        """Not available: everything runs on the CPU."""
        raise RuntimeError("Module.cuda: there is no GPU support; everything runs on the CPU")

    def to_empty(self, *, device=None, recurse: bool = True) -> Self:
        """Give parameters and buffers new memory without setting values."""
        return self._apply(lambda t: parameter.empty(t.shape, device, t.dtype), recurse)

    def share_memory(self) -> Self:
        """The module itself: memory is not shared between processes."""
        return self

    def compile(self, *args, **kwargs) -> None:
        """Compile ``forward``, so that calls of the module replay a recorded program; see ``ag.compile``."""
        import autograd_core

        self.forward = autograd_core.compile(self.forward, *args, **kwargs)

    # -------------------------------------------------- hooks

    def register_forward_pre_hook(self, hook, *, prepend: bool = False, with_kwargs: bool = False) -> Handle:
        """Call ``hook(module, args)`` before ``forward``; what it returns replaces the arguments.

        ``with_kwargs``: ``hook(module, args, kwargs)``, which returns None or both. ``prepend``: before other hooks.
        """
        return add_hook(self, "forward_pre", hook, prepend=prepend, with_kwargs=with_kwargs)

    def register_forward_hook(self, hook, *, prepend: bool = False, with_kwargs: bool = False,
                              always_call: bool = False) -> Handle:  # fmt: skip
        """Call ``hook(module, args, output)`` after ``forward``; what it returns replaces the output.

        ``with_kwargs``: ``hook(module, args, kwargs, output)``. ``always_call``: also when ``forward`` has raised.
        """
        return add_hook(self, "forward", hook, prepend=prepend, with_kwargs=with_kwargs, always_call=always_call)

    def register_full_backward_pre_hook(self, hook, prepend: bool = False) -> Handle:
        """Call ``hook(module, grad_output)`` when gradients reach the output; what it returns replaces them."""
        return add_hook(self, "backward_pre", hook, prepend=prepend)

    def register_full_backward_hook(self, hook, prepend: bool = False) -> Handle:
        """Call ``hook(module, grad_input, grad_output)`` when gradients have passed the module.

        What it returns replaces the gradients of the inputs; those of inputs that want none are None.
        """
        return add_hook(self, "backward", hook, prepend=prepend)

    def register_backward_hook(self, hook) -> Handle:
        """The older name of `register_full_backward_hook`."""
        return add_hook(self, "backward", hook)

    # -------------------------------------------------- text and copies

    def _get_name(self):
        return self.__class__.__name__

    def extra_repr(self) -> str:
        """What stands in the parentheses of the module's own line in its ``repr``."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        own = extra.split("\n") if extra else []
        children = [f"({name}): " + repr(m).replace("\n", "\n  ") for name, m in self._modules.items()]
        if not children and len(own) <= 1:
            return f"{self._get_name()}({extra})"
        return f"{self._get_name()}(\n  " + "\n  ".join([*own, *children]) + "\n)"

    def __getstate__(self):
        return self.__dict__.copy()

    def __setstate__(self, given):
        self.__dict__.update(given)

    def _replicate_for_data_parallel(self):
        copy = self.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        for name in ("_parameters", "_buffers", "_modules"):
            copy.__dict__[name] = dict(self.__dict__[name])
        return copy


def _type_name(value):
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _cast(tensor, dtype):
    if is_lazy(tensor):
        made = tensor.__deepcopy__({})
        made.array = tensor.array.astype(dtype.dtype)
        return made
    return tensor if tensor.dtype == dtype else tensor.detach().to(dtype)
