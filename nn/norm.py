"""Normalisation over batches, instances, layers, groups and neighbouring channels."""

from __future__ import annotations

import warnings

import autograd_core as ag

from . import functional as F
from . import init
from .lazy import LazyModuleMixin
from .module import Module
from .parameter import UninitializedBuffer, add_parameters
from .wrapper import NEEDED, Wrapper


def _ones_and_zeros(layer):
    """The initial scale and shift of a normalisation, where it has them."""
    if layer.weight is not None:
        init.ones_(layer.weight)
    if layer.bias is not None:
        init.zeros_(layer.bias)


class _RunningNorm(Module):
    """What batch and instance normalisation share: scale and shift, and running statistics."""

    _version = 2
    _ndims: tuple[int, ...] = ()  # the numbers of dimensions that an input may have

    def __init__(self, num_features, eps, momentum, affine, track_running_stats, device, dtype, bias):
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        own = {"weight": (num_features,), "bias": (num_features,)}
        add_parameters(self, own, weight=affine, bias=affine and bias, device=device, dtype=dtype)
        if track_running_stats:
            self.register_buffer("running_mean", ag.zeros(num_features, dtype=dtype))
            self.register_buffer("running_var", ag.ones(num_features, dtype=dtype))
            self.register_buffer("num_batches_tracked", ag.tensor(0, dtype=ag.long))
        else:
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                self.register_buffer(name, None)
        self.reset_parameters()

    def _parameter_shapes(self):
        return dict.fromkeys([k for k in ("weight", "bias", "running_mean", "running_var") if getattr(self,
                                                                                                      k) is not None],
                             (self.num_features,))  # fmt: skip

    def reset_running_stats(self):
        """Start the running statistics anew: mean 0, variance 1."""
        if self.track_running_stats:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self):
        """Scale 1, shift 0, running statistics anew."""
        self.reset_running_stats()
        _ones_and_zeros(self)

    def _check_input_dim(self, input):
        if input.ndim not in self._ndims:
            expected = " or ".join(f"{n}D" for n in self._ndims)
            raise ValueError(f"{type(self).__name__}: expected {expected} input (got {input.ndim}D input)")

    def extra_repr(self):
        """The settings."""
        return (f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
                f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}")  # fmt: skip


class _BatchNorm(_RunningNorm):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None,
                 dtype=None, *, bias=True):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        key = prefix + "num_batches_tracked"
        if (local_metadata.get("version") or 1) < 2 and self.track_running_stats and key not in state_dict:
            state_dict[key] = self.num_batches_tracked  # older checkpoints did not count
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)

    def forward(self, input):
        """Normalise with the statistics of the batch in training, with the running ones in use."""
        self._check_input_dim(input)
        factor = 0.0 if self.momentum is None else self.momentum
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                factor = 1 / float(self.num_batches_tracked)
        by_batch = self.training or (self.running_mean is None and self.running_var is None)
        keep = not self.training or self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if keep else (None, None)
        return F.batch_norm(input, mean, var, self.weight, self.bias, by_batch, factor, self.eps)


class BatchNorm1d(_BatchNorm):
    """Batch normalisation of (N, C) or (N, C, L) over all but C (Ioffe and Szegedy, 2015).

    y = (x − mean) / √(var + eps) · weight + bias. Running statistics move by ``momentum`` towards each batch's (None:
    plain mean of all batches); ``track_running_stats=False`` always takes the batch's.
    """

    _ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """Batch normalisation of images (N, C, H, W) over all but C; see `BatchNorm1d`."""

    _ndims = (4,)


class BatchNorm3d(_BatchNorm):
    """Batch normalisation of volumes (N, C, D, H, W) over all but C; see `BatchNorm1d`."""

    _ndims = (5,)


class _InstanceNorm(_RunningNorm):
    def __init__(self, num_features, eps=1e-5, momentum=0.1, affine=False, track_running_stats=False, device=None,
                 dtype=None, *, bias=True):  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, strict, missing, unexpected, errors):
        if local_metadata.get("version") is None and not self.track_running_stats:
            stale = [prefix + k for k in ("running_mean", "running_var") if prefix + k in state_dict]
            if stale:
                errors.append(f"{type(self).__name__} tracks no running statistics, but the state dict holds "
                              f"{', '.join(stale)}")  # fmt: skip
                for key in stale:
                    state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, missing, unexpected, errors)

    def forward(self, input):
        """Normalise each sample and channel by itself."""
        self._check_input_dim(input)
        channels = input.shape[input.ndim - min(self._ndims)]
        if channels != self.num_features:
            where = f"input's size at dim={input.ndim - min(self._ndims)}"
            if self.affine:
                raise ValueError(f"expected {where} to match num_features ({self.num_features}), but got: {channels}.")
            warnings.warn(f"{where} does not match num_features, which is not used because affine=False", stacklevel=2)
        by_input = self.training or not self.track_running_stats
        factor = 0.0 if self.momentum is None else self.momentum
        batch = input if input.ndim in self._ndims[1:] else input.unsqueeze(0)
        found = F.instance_norm(batch, self.running_mean, self.running_var, self.weight, self.bias, by_input, factor,
                                self.eps)  # fmt: skip
        return found if batch is input else found.squeeze(0)


class InstanceNorm1d(_InstanceNorm):
    """Normalisation of every sample and channel of (N, C, L) or (C, L) over L (Ulyanov et al., 2016)."""

    _ndims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    """Normalisation of every sample and channel of images (N, C, H, W) or (C, H, W)."""

    _ndims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    """Normalisation of every sample and channel of volumes (N, C, D, H, W) or (C, D, H, W)."""

    _ndims = (4, 5)


class _LazyNorm(LazyModuleMixin):
    """A normalisation that takes ``num_features`` from its first input."""

    _size_name = "num_features"
    _size_dim = 1

    def __init__(self, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None, *,
                 bias=True):  # fmt: skip
        super().__init__(0, eps, momentum, False, False)
        self.affine, self.track_running_stats = affine, track_running_stats
        if affine:
            self._wait(["weight", "bias"] if bias else ["weight"], device=device, dtype=dtype)
        if track_running_stats:
            self._wait(["running_mean", "running_var"], UninitializedBuffer, device=device, dtype=dtype)
            self.num_batches_tracked = ag.tensor(0, dtype=ag.long)

    def reset_running_stats(self):
        """Start the running statistics anew, where there are any."""
        if not self.has_uninitialized_params() and self.num_features != 0:
            super().reset_running_stats()


class LazyBatchNorm1d(_LazyNorm, BatchNorm1d):
    """A `BatchNorm1d` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm1d


class LazyBatchNorm2d(_LazyNorm, BatchNorm2d):
    """A `BatchNorm2d` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm2d


class LazyBatchNorm3d(_LazyNorm, BatchNorm3d):
    """A `BatchNorm3d` that takes ``num_features`` from its first input."""

    cls_to_become = BatchNorm3d


class LazyInstanceNorm1d(_LazyNorm, InstanceNorm1d):
    """An `InstanceNorm1d` that takes ``num_features`` from its first input."""

    cls_to_become = InstanceNorm1d


class LazyInstanceNorm2d(_LazyNorm, InstanceNorm2d):
    """An `InstanceNorm2d` that takes ``num_features`` from its first input."""

    cls_to_become = InstanceNorm2d


class LazyInstanceNorm3d(_LazyNorm, InstanceNorm3d):
    """An `InstanceNorm3d` that takes ``num_features`` from its first input."""

    cls_to_become = InstanceNorm3d


def _as_shape(normalized_shape):
    return (normalized_shape,) if hasattr(normalized_shape, "__index__") else tuple(normalized_shape)


class LayerNorm(Module):
    """Normalisation over the last dimensions, of ``normalized_shape``, of every sample (Ba et al., 2016).

    y = (x − mean) / √(var + eps) · weight + bias, with a weight and bias for every element of those dimensions.
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        shapes = dict.fromkeys(["weight", "bias"], self.normalized_shape)
        on = elementwise_affine
        add_parameters(self, shapes, weight=on, bias=on and bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """Scale 1, shift 0."""
        _ones_and_zeros(self)

    def forward(self, input):
        """Normalise."""
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        """The settings."""
        return (f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, "
                f"bias={self.bias is not None}")  # fmt: skip


class RMSNorm(Module):
    """x / √(mean(x²) + eps) · weight over the last dimensions, of ``normalized_shape`` (Zhang and Sennrich, 2019)."""

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self.normalized_shape = _as_shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        add_parameters(self, {"weight": self.normalized_shape}, weight=elementwise_affine, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """Scale 1."""
        if self.weight is not None:
            init.ones_(self.weight)

    def forward(self, input):
        """Normalise."""
        return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        """The settings."""
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """Normalisation of every sample of (N, C, *) over groups of channels (Wu and He, 2018)."""

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        shapes = dict.fromkeys(["weight", "bias"], (num_channels,))
        add_parameters(self, shapes, weight=affine, bias=affine and bias, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """Scale 1, shift 0."""
        _ones_and_zeros(self)

    def forward(self, input):
        """Normalise."""
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        """The settings."""
        return (f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, "
                f"bias={self.bias is not None}")  # fmt: skip


class LocalResponseNorm(Wrapper, function="local_response_norm", size=NEEDED, alpha=0.0001, beta=0.75, k=1.0):
    """x / (k + alpha·mean of x² over ``size`` neighbouring channels)^beta (Krizhevsky et al., 2012)."""

    def extra_repr(self):
        """The settings."""
        return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"
