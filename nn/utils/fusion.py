"""Batch normalisation in use is a scale and a shift: fused here into the layer before it."""

from __future__ import annotations

from copy import deepcopy

import autograd_core as ag
from autograd_core.modes import no_grad

from ..parameter import Parameter


def _fused(weight, bias, running_mean, running_var, eps, scale, shift, dim):
    """The weights with their outputs (dimension ``dim``) scaled and shifted as by the batch normalisation."""
    with no_grad():
        scale = ag.ones_like(running_mean) if scale is None else scale
        shift = ag.zeros_like(running_mean) if shift is None else shift
        bias = ag.zeros_like(running_mean) if bias is None else bias
        factor = scale * (running_var + eps).rsqrt()
        sizes = [1] * weight.ndim
        sizes[dim] = -1
        fused_weight = (weight * factor.reshape(sizes)).to(weight.dtype)
        fused_bias = ((bias - running_mean) * factor + shift).to(bias.dtype)
    return Parameter(fused_weight, weight.requires_grad), Parameter(fused_bias, bias.requires_grad)


def fuse_conv_bn_weights(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, transpose=False):
    """Weight and bias of a convolution that also does what a batch normalisation behind it does."""
    return _fused(conv_w, conv_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 1 if transpose else 0)


def fuse_linear_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b):
    """Weight and bias of a linear layer that also does what a batch normalisation behind it does."""
    return _fused(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b, 0)


def _check_eval(*modules):
    if any(module.training for module in modules):
        raise AssertionError("Fusion only for eval!")


def fuse_conv_bn_eval(conv, bn, transpose=False):
    """A copy of ``conv`` that also does what ``bn`` behind it does; both must be in eval mode."""
    _check_eval(conv, bn)
    fused = deepcopy(conv)
    if bn.running_mean is None or bn.running_var is None:
        raise AssertionError("fuse_conv_bn_eval: the batch norm has no running statistics")
    fused.weight, fused.bias = fuse_conv_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose)
    return fused


def fuse_linear_bn_eval(linear, bn):
    """A copy of ``linear`` that also does what ``bn`` behind it does; both must be in eval mode."""
    _check_eval(linear, bn)
    fused = deepcopy(linear)
    if not (linear.out_features == bn.num_features or bn.num_features == 1):
        raise AssertionError("To fuse, linear.out_features == bn.num_features or bn.num_features == 1")
    fused.weight, fused.bias = fuse_linear_bn_weights(
        fused.weight, fused.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias)
    return fused
