"""Pruning: a mask that holds chosen elements of a parameter at zero.

The parameter moves to ``name_orig``, the mask is the buffer ``name_mask``, and before each call ``name`` is set to
their product. Pruning again prunes what is left.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

import autograd_core as ag
from autograd_core.modes import no_grad
from autograd_core.tensor import wrap


def _number_to_prune(amount, size):
    """``amount`` as a number of elements: a float is a share of ``size``."""
    if isinstance(amount, bool) or not isinstance(amount, (int, float)):
        raise TypeError(f"amount must be an int or a float, got {amount!r}")
    if isinstance(amount, float):
        if not 0.0 <= amount <= 1.0:
            raise ValueError(f"amount must be a share from 0.0 to 1.0 or a number of elements, got {amount}")
        return round(amount * size)
    if amount < 0:
        raise ValueError(f"amount must be a share from 0.0 to 1.0 or a number of elements, got {amount}")
    if amount > size:
        raise ValueError(f"amount={amount} is more than the {size} elements that there are")
    return amount


def _check_amount(amount):
    _number_to_prune(amount, np.inf if isinstance(amount, int) else 1)


def _smallest(scores: np.ndarray, count: int) -> np.ndarray:
    """Indices of the ``count`` smallest scores."""
    return np.argpartition(scores, count - 1)[:count] if count else np.zeros(0, np.int64)


def _array(tensor) -> np.ndarray:
    return tensor.detach().array


class BasePruningMethod(ABC):
    """A way of choosing what to prune; a subclass gives ``PRUNING_TYPE`` and ``compute_mask``."""

    PRUNING_TYPE = "unstructured"
    _tensor_name: str

    def __call__(self, module, inputs):
        setattr(module, self._tensor_name, self.apply_mask(module))

    @abstractmethod
    def compute_mask(self, t, default_mask):
        """The mask (ones and zeros) for scores ``t``, which keeps the zeros of ``default_mask``."""

    def apply_mask(self, module):
        """The parameter times its mask."""
        original = getattr(module, self._tensor_name + "_orig")
        return getattr(module, self._tensor_name + "_mask").to(dtype=original.dtype) * original

    @classmethod
    def apply(cls, module, name, *args, importance_scores=None, **kwargs):
        """Prune parameter ``name`` of ``module``; what is pruned already stays so. Returns the method in charge."""
        method = cls(*args, **kwargs)
        method._tensor_name = name
        earlier = _hook(module, name)
        original = getattr(module, name)
        scores = original if importance_scores is None else importance_scores
        if scores.shape != original.shape:
            raise AssertionError(f"importance_scores must have the shape of {name}, {original.shape}, got "
                                 f"{scores.shape}")  # fmt: skip
        before = getattr(module, name + "_mask") if earlier else None
        if earlier:
            container = PruningContainer(earlier[1])
            container.add_pruning_method(method)
            method = container
        with no_grad():
            start = ag.ones_like(original) if before is None else before.detach().clone().to(original.dtype)
            mask = method.compute_mask(scores, start)
        if earlier:
            del module._forward_pre_hooks[earlier[0]]
        else:
            parameter = module._parameters[name]
            del module._parameters[name]
            module.register_parameter(name + "_orig", parameter)
        module.register_buffer(name + "_mask", mask)
        setattr(module, name, method.apply_mask(module))
        module.register_forward_pre_hook(method)
        return method

    def prune(self, t, default_mask=None, importance_scores=None):
        """A pruned copy of the tensor ``t``."""
        scores = t if importance_scores is None else importance_scores
        if scores.shape != t.shape:
            raise AssertionError(f"importance_scores must have the shape of t, {t.shape}, got {scores.shape}")
        return t * self.compute_mask(scores, ag.ones_like(t) if default_mask is None else default_mask)

    def remove(self, module):
        """Make pruning permanent: the parameter becomes the product with its mask."""
        name = self._tensor_name
        if _hook(module, name) is None:
            raise AssertionError(f"{name} of {type(module).__name__} is not pruned, so nothing can be removed")
        with no_grad():
            pruned = self.apply_mask(module)
        delattr(module, name)
        original = module._parameters.pop(name + "_orig")
        original.data = pruned.detach()
        del module._buffers[name + "_mask"]
        setattr(module, name, original)


def _hook(module, name):
    """(number, method) of the pruning method of a parameter; None where it is not pruned."""
    for number, hook in module._forward_pre_hooks.items() if "_forward_pre_hooks" in module.__dict__ else ():
        if isinstance(hook, BasePruningMethod) and hook._tensor_name == name:
            return number, hook
    return None


class PruningContainer(BasePruningMethod):
    """Several pruning methods of one tensor, one after the other."""

    PRUNING_TYPE = "container"

    def __init__(self, *methods):
        self._pruning_methods: tuple = ()
        if methods:
            first = methods[0]
            self._tensor_name = first._tensor_name
            for method in first if isinstance(first, PruningContainer) else methods:
                self.add_pruning_method(method)

    def add_pruning_method(self, method):
        """Add a method to be applied after the others."""
        if not isinstance(method, BasePruningMethod) and method is not None:
            raise TypeError(f"{type(method)} is not a BasePruningMethod subclass")
        if method is not None and self._tensor_name != method._tensor_name:
            raise ValueError(f"all methods must prune {self._tensor_name!r}, got one for {method._tensor_name!r}")
        self._pruning_methods += (method,)

    def __len__(self):
        return len(self._pruning_methods)

    def __iter__(self):
        return iter(self._pruning_methods)

    def __getitem__(self, index):
        return self._pruning_methods[index]

    def compute_mask(self, t, default_mask):
        """Apply the newest method to what the mask leaves; the earlier ones are in the mask already."""
        method = self._pruning_methods[-1]
        mask, scores = _array(default_mask), _array(t)
        if method.PRUNING_TYPE == "unstructured":
            where = mask == 1
        elif method.PRUNING_TYPE == "structured":
            others = tuple(d for d in range(scores.ndim) if d != method.dim % scores.ndim)
            alive = np.flatnonzero(mask.sum(axis=others) != 0)
            where = (slice(None),) * (method.dim % scores.ndim) + (alive,)
        elif method.PRUNING_TYPE == "global":
            where = (slice(None),) * scores.ndim
        else:
            raise ValueError(f"Unrecognized PRUNING_TYPE {method.PRUNING_TYPE}")
        found = mask.copy()
        found[where] = _array(method.compute_mask(wrap(scores[where]), wrap(mask[where])))
        return wrap(found.astype(default_mask.array.dtype, copy=False))


class Identity(BasePruningMethod):
    """Prunes nothing: makes the mask, of ones."""

    def compute_mask(self, t, default_mask):
        """The mask as it was."""
        return default_mask


class _Unstructured(BasePruningMethod):
    def __init__(self, amount):
        _check_amount(amount)
        self.amount = amount

    def _scores(self, t):
        raise NotImplementedError

    def compute_mask(self, t, default_mask):
        """Zeros at the elements with the smallest scores."""
        mask = _array(default_mask).copy()
        scores = self._scores(t)
        mask.reshape(-1)[_smallest(scores, _number_to_prune(self.amount, scores.size))] = 0
        return wrap(mask)


class RandomUnstructured(_Unstructured):
    """Prunes elements at random."""

    def _scores(self, t):
        return _array(ag.rand(t.numel()))


class L1Unstructured(_Unstructured):
    """Prunes the elements with the smallest absolute values."""

    def _scores(self, t):
        return np.abs(_array(t)).reshape(-1)


class _Structured(BasePruningMethod):
    PRUNING_TYPE = "structured"

    def __init__(self, amount, dim=-1):
        _check_amount(amount)
        self.amount, self.dim = amount, dim

    def _scores(self, values):
        raise NotImplementedError

    def compute_mask(self, t, default_mask):
        """Zeros over the whole of the channels with the smallest scores."""
        if t.ndim <= 1:
            raise ValueError(f"structured pruning needs at least 2 dimensions, got shape {list(t.shape)}")
        if not -t.ndim <= self.dim < t.ndim:
            raise IndexError(f"dim={self.dim} is out of range for shape {list(t.shape)}")
        values = np.moveaxis(_array(t), self.dim, 0)
        mask = _array(default_mask).copy()
        count = _number_to_prune(self.amount, len(values))
        np.moveaxis(mask, self.dim, 0)[_smallest(self._scores(values), count)] = 0
        return wrap(mask)


class RandomStructured(_Structured):
    """Prunes whole channels at random."""

    def _scores(self, values):
        return _array(ag.rand(len(values)))


class LnStructured(_Structured):
    """Prunes whole channels with the smallest ``n``-norm (a number, ``inf``, ``-inf``, "fro" or "nuc")."""

    def __init__(self, amount, n, dim=-1):
        super().__init__(amount, dim)
        self.n = n

    def _scores(self, values):
        if self.n in ("fro", "nuc"):
            return np.array([np.linalg.norm(v.reshape(len(v), -1), self.n if v.ndim > 1 else None) for v in values])
        return np.linalg.norm(values.reshape(len(values), -1), self.n, axis=1)


class CustomFromMask(BasePruningMethod):
    """Prunes where a given mask is zero."""

    PRUNING_TYPE = "global"

    def __init__(self, mask):
        self.mask = mask

    def compute_mask(self, t, default_mask):
        """The product of the masks."""
        return default_mask * self.mask.to(dtype=default_mask.dtype)


def identity(module, name):
    """Make the mask of a parameter without pruning anything; returns ``module``."""
    Identity.apply(module, name)
    return module


def random_unstructured(module, name, amount):
    """Prune ``amount`` (a number, or a share) of a parameter's elements at random; returns ``module``."""
    RandomUnstructured.apply(module, name, amount)
    return module


def l1_unstructured(module, name, amount, importance_scores=None):
    """Prune the ``amount`` of a parameter's elements smallest in size (or score); returns ``module``."""
    L1Unstructured.apply(module, name, amount=amount, importance_scores=importance_scores)
    return module


def random_structured(module, name, amount, dim):
    """Prune ``amount`` channels (along ``dim``) of a parameter at random; returns ``module``."""
    RandomStructured.apply(module, name, amount, dim)
    return module


def ln_structured(module, name, amount, n, dim, importance_scores=None):
    """Prune the ``amount`` channels (along ``dim``) of a parameter with the smallest ``n``-norm; returns ``module``."""
    LnStructured.apply(module, name, amount, n, dim, importance_scores=importance_scores)
    return module


def custom_from_mask(module, name, mask):
    """Prune a parameter where ``mask`` is zero; returns ``module``."""
    CustomFromMask.apply(module, name, mask)
    return module


def global_unstructured(parameters, pruning_method, importance_scores=None, **kwargs):
    """Prune the (module, name) ``parameters`` as if they were one tensor, by an unstructured method."""
    if not isinstance(parameters, (list, tuple)):
        raise TypeError("global_unstructured: parameters must be a list of (module, name) pairs")
    scores = importance_scores or {}
    if not isinstance(scores, dict):
        raise TypeError("global_unstructured: importance_scores must be a dict")
    values = [scores.get((m, n), getattr(m, n)).detach().reshape(-1) for m, n in parameters]
    masks = [getattr(m, n + "_mask", ag.ones_like(getattr(m, n))).detach().reshape(-1) for m, n in parameters]
    container = PruningContainer()
    container._tensor_name = "temp"
    method = pruning_method(**kwargs)
    method._tensor_name = "temp"
    container.add_pruning_method(method)
    if method.PRUNING_TYPE != "unstructured":
        raise TypeError(f"global_unstructured: needs an unstructured method, got the {method.PRUNING_TYPE} "
                        f"{pruning_method}")  # fmt: skip
    mask = container.compute_mask(ag.cat(values), ag.cat(masks))
    start = 0
    for module, name in parameters:
        shape = getattr(module, name).shape
        size = shape.numel()
        custom_from_mask(module, name, mask=mask[start : start + size].reshape(shape))
        start += size


def remove(module, name):
    """Make the pruning of a parameter permanent and take mask and original away; returns ``module``."""
    found = _hook(module, name)
    if found is None:
        raise ValueError(f"{name} of {type(module).__name__} is not pruned, so nothing can be removed")
    found[1].remove(module)
    del module._forward_pre_hooks[found[0]]
    return module


def is_pruned(module) -> bool:
    """Whether a parameter of ``module`` or of a module below it is pruned."""
    return any(isinstance(hook, BasePruningMethod) for m in module.modules()
               for hook in m.__dict__.get("_forward_pre_hooks", {}).values())  # fmt: skip

