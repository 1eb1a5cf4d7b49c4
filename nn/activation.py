"""Activations: functions of one element (or, as softmax, of one dimension) as modules."""

from __future__ import annotations

from . import functional as F
from .module import Module
from .parameter import new_parameter
from .wrapper import NEEDED, Wrapper


class ReLU(Wrapper, function="relu", inplace=False):
    """Rectified linear unit: max(0, x)."""


class Sigmoid(Wrapper, function="sigmoid"):
    """Logistic function: 1 / (1 + exp(−x))."""


class Tanh(Wrapper, function="tanh"):
    """Hyperbolic tangent."""


class ELU(Wrapper, function="elu", alpha=1.0, inplace=False):
    """Exponential linear unit: x where x > 0, else alpha·(exp(x) − 1)."""


class SELU(Wrapper, function="selu", inplace=False):
    """Scaled exponential linear unit, whose constants keep mean 0 and variance 1 (Klambauer et al., 2017)."""


class CELU(Wrapper, function="celu", alpha=1.0, inplace=False):
    """Continuously differentiable exponential linear unit: max(0, x) + min(0, alpha·(exp(x/alpha) − 1))."""


class GELU(Wrapper, function="gelu", approximate="none"):
    """Gaussian error linear unit: x·Φ(x); ``approximate="tanh"`` takes a cheaper formula."""

    def extra_repr(self):
        """The way of computing it."""
        return f"approximate={self.approximate!r}"


class SiLU(Wrapper, function="silu", inplace=False):
    """Sigmoid linear unit, also called swish: x·sigmoid(x)."""


class Mish(Wrapper, function="mish", inplace=False):
    """x·tanh(softplus(x))."""


class Hardswish(Wrapper, function="hardswish", shown="", inplace=False):
    """Piecewise approximation of swish: x·relu6(x + 3) / 6."""


class Hardsigmoid(Wrapper, function="hardsigmoid", shown="", inplace=False):
    """Piecewise linear approximation of the sigmoid: relu6(x + 3) / 6."""


class LeakyReLU(Wrapper, function="leaky_relu", negative_slope=0.01, inplace=False):
    """x where x > 0, else negative_slope·x."""


class Threshold(Wrapper, function="threshold", threshold=NEEDED, value=NEEDED, inplace=False):
    """x where x > threshold, else ``value``."""


class Softplus(Wrapper, function="softplus", beta=1.0, threshold=20.0):
    """A smooth ReLU: log(1 + exp(beta·x)) / beta; linear where beta·x > threshold."""


class Softsign(Wrapper, function="softsign"):
    """x / (1 + |x|)."""


class Tanhshrink(Wrapper, function="tanhshrink"):
    """x − tanh(x)."""


class LogSigmoid(Wrapper, function="logsigmoid"):
    """log(sigmoid(x)), without overflow."""


class _Shrink(Wrapper):
    def extra_repr(self):
        """The width of the gap."""
        return str(self.lambd)


class Hardshrink(_Shrink, function="hardshrink", lambd=0.5):
    """x where |x| > lambd, else 0."""


class Softshrink(_Shrink, function="softshrink", lambd=0.5):
    """x moved towards 0 by lambd, and 0 within it."""


class RReLU(Wrapper, function="rrelu", lower=1 / 8, upper=1 / 3, inplace=False):
    """Leaky ReLU with a random slope between lower and upper in training, and their mean in use."""

    def forward(self, input):
        """Draw slopes in training."""
        return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)


class Hardtanh(Wrapper, function="hardtanh", min_val=-1.0, max_val=1.0, inplace=False):
    """x cut off below ``min_val`` and above ``max_val``."""

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False, min_value=None, max_value=None):
        min_val = min_val if min_value is None else min_value  # older names
        max_val = max_val if max_value is None else max_value
        super().__init__(min_val, max_val, inplace)
        if not max_val > min_val:
            raise AssertionError(f"Hardtanh: max_val must be greater than min_val, got {max_val} and {min_val}")


class ReLU6(Hardtanh, shown="inplace"):
    """min(max(0, x), 6)."""

    def __init__(self, inplace=False):
        super().__init__(0.0, 6.0, inplace)


class GLU(Wrapper, function="glu", dim=-1):
    """Gated linear unit: the first half of ``dim`` times the sigmoid of the second."""


class Softmax(Wrapper, function="softmax", dim=None):
    """exp(x) divided by its sum over ``dim``."""


class Softmin(Wrapper, function="softmin", dim=None):
    """Softmax of −x."""


class LogSoftmax(Wrapper, function="log_softmax", dim=None):
    """Logarithm of the softmax, without overflow."""


class Softmax2d(Wrapper):
    """Softmax over the channels at every place of an image (C, H, W) or of a batch of them."""

    def forward(self, input):
        """Softmax over the third dimension from the end."""
        if input.ndim not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.ndim}D instead")
        return F.softmax(input, -3)


class PReLU(Module):
    """Leaky ReLU whose slope is learned: one for all channels, or one for each of ``num_parameters`` channels."""

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        super().__init__()
        self.num_parameters = num_parameters
        self.init = init
        self.weight = new_parameter(num_parameters, device=device, dtype=dtype)
        self.reset_parameters()

    def reset_parameters(self):
        """Set all slopes to ``init``."""
        self.weight.array.fill(self.init)

    def forward(self, input):
        """x where x > 0, else weight·x."""
        return F.prelu(input, self.weight)

    def extra_repr(self):
        """The number of slopes."""
        return f"num_parameters={self.num_parameters}"
