"""Parametrisations: a parameter computed from other ones by a module, whenever it is read.

`register_parametrization` moves the parameter away, to ``module.parametrizations.<name>.original``, and puts a
property in its place, in a class made for this one module.
"""

from __future__ import annotations

import copy
from contextlib import contextmanager, suppress

from autograd_core import Tensor
from autograd_core.modes import no_grad

from ..container import ModuleDict, ModuleList
from ..parameter import Buffer, Parameter

_cache_users = 0
_cache: dict[tuple[int, str], Tensor] = {}


@contextmanager
def cached():
    """Inside, every parametrised tensor is computed once and kept."""
    global _cache_users
    _cache_users += 1
    try:
        yield
    finally:
        _cache_users -= 1
        if not _cache_users:
            _cache.clear()


class ParametrizationList(ModuleList):
    """The parametrisations of one tensor, in order, with the original tensor(s) that they start from.

    ``original`` is the parameter behind them, or ``original0``, ``original1``, ... where the first one's
    ``right_inverse`` gives several.
    """

    def __init__(self, modules, original, unsafe=False):
        super().__init__(modules)
        if not len(self):
            raise ValueError("ParametrizationList requires one or more modules.")
        self.unsafe = unsafe
        given = original
        with no_grad():
            for module in reversed(list(self)):
                if hasattr(module, "right_inverse"):
                    try:
                        given = module.right_inverse(given)
                    except NotImplementedError:
                        break
        several = not isinstance(given, Tensor)
        if several and not isinstance(given, (tuple, list)):
            raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors (list, tuple...). "
                             f"Got {type(given).__name__}")  # fmt: skip
        self.is_tensor = not several
        self.ntensors = len(given) if several else 1
        if several:
            for i, tensor in enumerate(given):
                if not isinstance(tensor, Tensor):
                    raise ValueError("'right_inverse' must return a Tensor or a Sequence of tensors, got "
                                     f"{type(tensor).__name__} in it")  # fmt: skip
                self._keep(f"original{i}", tensor, original)
            return
        if not unsafe and given.dtype != original.dtype:
            raise ValueError(f"right_inverse may not change the dtype of a single tensor, got {given.dtype} for "
                             f"{original.dtype}")  # fmt: skip
        if isinstance(original, Parameter):  # the user's own tensor stays the parameter: optimizers may know it already
            with no_grad():
                original.data = given
            self.register_parameter("original", original)
        else:
            self.register_buffer("original", given)

    def _keep(self, name, tensor, original):
        if isinstance(original, Parameter):
            self.register_parameter(name, Parameter(tensor, original.requires_grad))
        else:
            self.register_buffer(name, tensor)

    def right_inverse(self, value):
        """Set the originals so that the parametrised tensor becomes ``value``."""
        with no_grad():
            for module in reversed(list(self)):
                if not hasattr(module, "right_inverse"):
                    raise RuntimeError(f"parametrization {type(module).__name__} does not implement right_inverse.")
                value = module.right_inverse(value)
            if self.is_tensor:
                if not isinstance(value, Tensor):
                    raise ValueError(f"`right_inverse` should return a tensor. Got {type(value).__name__}")
                self.original.data = value
                return
            if not isinstance(value, (tuple, list)) or len(value) != self.ntensors:
                raise ValueError(f"'right_inverse' must return a sequence of {self.ntensors} tensors.")
            for i, tensor in enumerate(value):
                getattr(self, f"original{i}").data = tensor

    def forward(self):
        """The parametrised tensor."""
        names = ["original"] if self.is_tensor else [f"original{i}" for i in range(self.ntensors)]
        first, *rest = self
        value = first(*[getattr(self, name) for name in names])
        for module in rest:
            value = module(value)
        return value


def _make_class(module):
    """Give ``module`` a class of its own, which may hold properties."""
    plain = type(module)

    def refuse(self):
        raise RuntimeError("a parametrized module cannot be pickled; save its state_dict()")

    def deepcopy(self, memo):
        copied = self.__new__(type(self))
        memo[id(self)] = copied
        copied.__dict__ = copy.deepcopy(self.__dict__, memo)
        copied.__class__ = type(self)
        return copied

    space = {"__getstate__": refuse, "parametrizations_of": plain, "__module__": plain.__module__}
    if not hasattr(plain, "__deepcopy__"):
        space["__deepcopy__"] = deepcopy
    module.__class__ = type(f"Parametrized{plain.__name__}", (plain,), space)


def _add_property(module, name):
    def get(self):
        if not _cache_users:
            return self.parametrizations[name]()
        key = (id(self), name)
        if key not in _cache:
            _cache[key] = self.parametrizations[name]()
        return _cache[key]

    def put(self, value):
        self.parametrizations[name].right_inverse(value)

    setattr(type(module), name, property(get, put))


def register_parametrization(module, tensor_name, parametrization, *, unsafe=False):
    """Have ``module.<tensor_name>`` computed by the module ``parametrization`` from now on; returns ``module``.

    A further one is applied after the first. If it has a method ``right_inverse``, the tensor may be assigned to,
    and keeps its value now. ``unsafe`` leaves out the check that shape and dtype stay.
    """
    parametrization.train(module.training)
    if is_parametrized(module, tensor_name):
        held = module.parametrizations[tensor_name]
        if not unsafe:
            _check_same(getattr(module, tensor_name), parametrization)
        held.append(parametrization)
        held.unsafe |= unsafe
        return module
    if tensor_name not in module._parameters and tensor_name not in module._buffers:
        raise ValueError(f"Module '{module}' does not have a parameter, a buffer, or a parametrized element with name "
                         f"'{tensor_name}'")  # fmt: skip
    original = getattr(module, tensor_name)
    before = (original.shape, original.dtype)
    held = ParametrizationList([parametrization], original, unsafe)
    delattr(module, tensor_name)
    if not is_parametrized(module):
        _make_class(module)
        module.parametrizations = ModuleDict()
    _add_property(module, tensor_name)
    module.parametrizations[tensor_name] = held
    if not unsafe:
        with no_grad():
            value = held()
        if not isinstance(value, Tensor):
            raise ValueError(f"A parametrization must return a tensor. Got {type(value).__name__}.")
        for what, was, now in (("dtype", before[1], value.dtype), ("shape", before[0], value.shape)):
            if was != now:
                raise ValueError(f"a parametrization may not change the {what} of the tensor without unsafe=True: "
                                 f"{was} became {now}")  # fmt: skip
    return module


def _check_same(value, parametrization):
    """Raise unless a further parametrisation (and its inverse) keeps dtype and shape."""
    with no_grad():
        found = [parametrization(value)]
        if hasattr(parametrization, "right_inverse"):
            with suppress(NotImplementedError):
                found.append(parametrization.right_inverse(found[0]))
    for tensor, what in zip(found, ("A parametrization", "parametrization.right_inverse"), strict=False):
        if not isinstance(tensor, Tensor):
            raise ValueError(f"{what} must return a tensor. Got {type(tensor).__name__}.")
        if (tensor.dtype, tensor.shape) != (value.dtype, value.shape):
            raise ValueError(f"{what} may not change the dtype or shape of the tensor, unless the `unsafe` flag is "
                             f"enabled.\nbefore: {value.dtype} {value.shape}\n"
                             f"after: {tensor.dtype} {tensor.shape}")  # fmt: skip


def is_parametrized(module, tensor_name=None) -> bool:
    """Whether ``module`` (or that tensor of it) has a parametrisation."""
    held = module._modules.get("parametrizations")
    if not isinstance(held, ModuleDict):
        return False
    return len(held) > 0 if tensor_name is None else tensor_name in held


def remove_parametrizations(module, tensor_name, leave_parametrized=True):
    """Take the parametrisations of a tensor away; returns ``module``.

    The tensor keeps its value, or with ``leave_parametrized=False`` takes that of the original.
    """
    if not is_parametrized(module, tensor_name):
        raise ValueError(f"{tensor_name} of {type(module).__name__} is not parametrized")
    held = module.parametrizations[tensor_name]
    if not held.is_tensor and not leave_parametrized:
        raise ValueError("leave_parametrized=False needs a single original tensor, this parametrization has several")
    original = held.original if held.is_tensor else held.original0
    is_parameter = isinstance(original, Parameter)
    if leave_parametrized:
        with no_grad():
            value = getattr(module, tensor_name).detach()
        if held.is_tensor and is_parameter:
            original.data = value
        elif is_parameter:
            original = Parameter(value, original.requires_grad)
        else:
            original = value if not isinstance(original, Buffer) else Buffer(value)
    delattr(type(module), tensor_name)
    del module.parametrizations[tensor_name]
    if not is_parametrized(module):
        delattr(module, "parametrizations")
        module.__class__ = type(module).parametrizations_of
    if is_parameter:
        module.register_parameter(tensor_name, original)
    else:
        module.register_buffer(tensor_name, original)
    return module


def type_before_parametrizations(module) -> type:
    """The class of ``module`` as it was before it was parametrised."""
    return type(module).parametrizations_of if is_parametrized(module) else type(module)


def transfer_parametrizations_and_params(from_module, to_module, tensor_name=None):
    """Give ``to_module`` copies of the parametrisations (of one tensor) of ``from_module``, and its original values."""
    if not is_parametrized(from_module):
        return to_module
    for name in list(from_module.parametrizations) if tensor_name is None else [tensor_name]:
        if not hasattr(to_module, name):
            setattr(to_module, name, Parameter(getattr(from_module, name).detach()))
        for parametrization in from_module.parametrizations[name]:
            register_parametrization(to_module, name, copy.deepcopy(parametrization), unsafe=True)
        source, target = from_module.parametrizations[name], to_module.parametrizations[name]
        for key, tensor in source.state_dict().items():
            owner, _, last = key.rpartition(".")
            getattr(target.get_submodule(owner), last).data = tensor.clone()
    return to_module


__all__ = ["ParametrizationList", "cached", "is_parametrized", "register_parametrization", "remove_parametrizations",
           "transfer_parametrizations_and_params", "type_before_parametrizations"]  # fmt: skip

