"""Draws from a counter-based generator.

Every public function reserves a seed and an offset from its generator, then runs an operation of `drawing`, a pure
function of them. Small draws were often made ahead, and are the same numbers.
"""

from __future__ import annotations

import math
from functools import wraps
from operator import index as as_index

import numpy as np

from .. import ops
from ..convert import as_array
from ..generator import LANES, default_generator, generator_or_default, tile_count
from ..info import check_device, check_layout
from ..inplace import write_out
from ..modes import no_grad, state
from ..registry import composite, op
from ..shapes import as_shape, broadcast_shapes, common_dtype, default_dtype, dtype_of, numpy_dtype
from ..tensor import Tensor, apply, wrap
from .drawing import (
    FLOAT_BITS,
    INT64,
    UINT64,
    bits_of,
    bits_of_span,
    categories,
    coins,
    exponential01,
    geometric_counts,
    in_order,
    integers,
    normal01,
    permutation,
    poisson_counts,
    uniform01,
)
from .samples import positive, real, sample

new = object.__new__

# ---------------------------------------------------------------------------------------------------- reserving


def draw(function, counters: int, generator, *arrays, **settings) -> Tensor:
    """Run an internal draw with a seed and ``counters`` counters from ``generator`` (None: the default one)."""
    source = default_generator if generator is None else generator_or_default(generator, function.record.name)
    seed, offset = source.reserve(counters)
    if not arrays and state.watch is None:
        return wrap(function.record.function(**settings, seed=seed, offset=offset))
    return apply(function.record, arrays, {**settings, "seed": seed, "offset": offset})


def draw_floats(function, shape, dtype, generator) -> Tensor:
    """`uniform01`, `normal01` or `exponential01` of ``shape`` and ``dtype``."""
    dtype, shape = numpy_dtype(dtype), tuple(shape)
    bits = bits_of(dtype)
    found = ahead((function.record.name, dtype), shape, bits, generator)
    if found is not None:
        return wrap(found)
    return draw(function, _counters(shape, bits), generator, shape=shape, dtype=dtype)


def ahead(key, shape, bits, generator=None):
    """An array that was made ahead (see `Generator.ahead`), or None."""
    source = default_generator if generator is None else generator_or_default(generator, key[0])
    return source.ahead(key, shape, bits)


def draw_coins(probability, shape, dtype, generator) -> Tensor:
    """1 with ``probability``, else 0."""
    dtype, shape = numpy_dtype(dtype), tuple(shape)
    if type(probability) is float:
        found = ahead(("coins", dtype, probability), shape, 32, generator)
        if found is not None:
            return wrap(found)
    return draw(coins, _counters(shape, 32), generator, probability, shape=shape, dtype=dtype)


def keep_mask(shape, keep: float, generator=None) -> Tensor:
    """A bool tensor of ``shape`` whose elements are True with probability ``keep``: what dropout keeps."""
    return draw_coins(keep, shape, np.bool_, generator)


def _counters(shape, bits):
    return tile_count(math.prod(shape), bits) * LANES


def _shape(where, sizes, size=None):
    shape = as_shape(sizes if size is None else (size,))
    if shape and min(shape) < 0:
        raise RuntimeError(f"{where}: sizes must not be negative, got {list(shape)}")
    return shape


def _float_dtype(where, dtype, default=None):
    found = numpy_dtype(dtype, default)
    if found.kind != "f":
        raise NotImplementedError(f"{where}: dtype must be a floating-point type, got {dtype_of(found)}")
    return found


def _finish(drawn, out=None, requires_grad=False, device=None, layout=None):
    if device is not None:
        check_device(device)
    if layout is not None:
        check_layout(layout)
    if out is not None:
        return write_out(out, drawn)
    return drawn.requires_grad_() if requires_grad else drawn


# ---------------------------------------------------------------------------------------------------- new tensors


def at_once(try_it):
    """Let ``try_it(args)`` answer a call without options where it can: small draws that were made ahead."""

    def register(public):
        @wraps(public)
        def quick(*args, **options):
            if not options:
                try:
                    found = try_it(args)
                except (TypeError, ValueError):  # the longer way tells what is wrong
                    found = None
                if found is not None:
                    made = new(Tensor)
                    made.array = found
                    return made
            return public(*args, **options)

        public.record.public = public.record.public_call = quick
        return quick

    return register


def _floats_ahead(kind):
    def ahead_of_default(sizes):
        if len(sizes) == 1 and type(sizes[0]) is tuple:
            (sizes,) = sizes
        dtype = default_dtype()
        return default_generator.ahead((kind, dtype), sizes, 64 if dtype.itemsize == 8 else 32)

    return ahead_of_default


@at_once(_floats_ahead("uniform01"))
@op(composite, samples=[sample(3, 4), sample((2, 3))])
def rand(*sizes, size=None, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False,
         pin_memory=False):  # fmt: skip
    """A tensor of floats spread evenly over [0, 1)."""
    kind = _float_dtype("rand", dtype, out.array.dtype if out is not None else None)
    drawn = draw_floats(uniform01, _shape("rand", sizes, size), kind, generator)
    return _finish(drawn, out, requires_grad, device, layout)


@at_once(_floats_ahead("normal01"))
@op(composite, samples=[sample(3, 4), sample((2, 3))])
def randn(*sizes, size=None, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False,
          pin_memory=False):  # fmt: skip
    """A tensor of floats from the normal distribution of mean 0 and standard deviation 1."""
    kind = _float_dtype("randn", dtype, out.array.dtype if out is not None else None)
    drawn = draw_floats(normal01, _shape("randn", sizes, size), kind, generator)
    return _finish(drawn, out, requires_grad, device, layout)


def _integers_ahead(given):
    low, high, shape = given if len(given) == 3 else (0, *given)
    if type(low) is int and type(high) is int and type(shape) is tuple:
        key = "integers", INT64, low, high
        return default_generator.ahead(key, shape, 32 if high - low <= 1 << 16 else 64)
    return None


@at_once(_integers_ahead)
@op(composite, samples=[sample(5, (3, 4)), sample(-3, 9, (2, 3))])
def randint(*bounds_and_size, low=None, high=None, size=None, generator=None, out=None, dtype=None, layout=None,
            device=None, requires_grad=False, pin_memory=False):  # fmt: skip
    """A tensor of integers spread evenly over [low, high): ``randint(low=0, high, size)``; dtype int64 by default."""
    given = list(bounds_and_size)
    if size is None:
        if not given:
            raise TypeError("randint: missing size")
        size = given.pop()
    bounds = given + [b for b in (low, high) if b is not None]
    if not 1 <= len(bounds) <= 2:
        raise TypeError(f"randint: takes (high, size) or (low, high, size), got {len(bounds)} bounds")
    shape = _shape("randint", size if isinstance(size, (tuple, list)) else (size,))
    kind = numpy_dtype(dtype, out.array.dtype if out is not None else INT64)
    drawn = _integers("randint", shape, *([0, *bounds] if len(bounds) == 1 else bounds), kind, generator)
    return _finish(drawn, out, requires_grad, device, layout)


def _integers(where, shape, low, high, dtype, generator):
    low, high = as_index(low), as_index(high)
    if low >= high:
        raise RuntimeError(f"{where}: low must be smaller than high, got low={low} and high={high}")
    _check_bound(where, "low", low, dtype)
    _check_bound(where, "high - 1", high - 1, dtype)
    bits, shape = bits_of_span(high - low), tuple(shape)
    found = ahead(("integers", dtype, low, high), shape, bits, generator)
    if found is not None:
        return wrap(found)
    return draw(integers, _counters(shape, bits), generator, shape=shape, low=low, high=high, dtype=dtype)


def _check_bound(where, what, value, dtype):
    if dtype.kind == "f":
        lowest, highest = -int(np.finfo(dtype).max), int(np.finfo(dtype).max)
    elif dtype.kind == "b":
        lowest, highest = 0, 1
    else:
        lowest, highest = np.iinfo(dtype).min, np.iinfo(dtype).max
    if not lowest <= value <= highest:
        raise RuntimeError(f"{where}: {what} is {value}, which is out of bounds for {dtype_of(dtype)}")


def _permutation_ahead(given):
    (n,) = given
    keys = default_generator.ahead(("words", UINT64), given, 64) if type(n) is int else None
    return None if keys is None else in_order(keys, n)


@at_once(_permutation_ahead)
@op(composite, samples=[sample(7)])
def randperm(n, *, generator=None, out=None, dtype=None, layout=None, device=None, requires_grad=False,
             pin_memory=False):  # fmt: skip
    """The integers 0 to n - 1 in random order; dtype int64 by default."""
    if n < 0:
        raise RuntimeError(f"randperm: n must be non-negative, got {n}")
    kind = numpy_dtype(dtype, out.array.dtype if out is not None else INT64)
    _check_bound("randperm", "n - 1", max(n - 1, 0), kind if kind.kind != "f" else INT64)
    if kind.kind == "f" and n > 1 << FLOAT_BITS[kind.name]:
        raise RuntimeError(f"randperm: n is {n}, more than {dtype_of(kind)} can count")
    drawn = draw(permutation, _counters((n,), 64), generator, size=n, dtype=kind)
    return _finish(drawn, out, requires_grad, device, layout)


@op(composite, method=False, samples=[real(3, 4)])
def rand_like(input, *, generator=None, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None):
    """As `rand`, with the shape and dtype of ``input``."""
    kind = _float_dtype("rand_like", input.dtype if dtype is None else dtype)
    return _finish(draw_floats(uniform01, input.shape, kind, generator), None, requires_grad, device, layout)


@op(composite, method=False, samples=[real(3, 4)])
def randn_like(input, *, generator=None, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None):
    """As `randn`, with the shape and dtype of ``input``."""
    kind = _float_dtype("randn_like", input.dtype if dtype is None else dtype)
    return _finish(draw_floats(normal01, input.shape, kind, generator), None, requires_grad, device, layout)


@op(composite, method=False, samples=[sample(real(3, 4), 5), sample(real(3, 4), -2, 9)])
def randint_like(input, *bounds, low=None, high=None, generator=None, dtype=None, layout=None, device=None,
                 requires_grad=False, memory_format=None):  # fmt: skip
    """As `randint`, with the shape and dtype of ``input``: ``randint_like(input, low=0, high)``."""
    bounds = [*bounds, *[b for b in (low, high) if b is not None]]
    if not 1 <= len(bounds) <= 2:
        raise TypeError(f"randint_like: takes (input, high) or (input, low, high), got {len(bounds)} bounds")
    low, high = [0, *bounds][-2:]
    kind = numpy_dtype(input.dtype if dtype is None else dtype)
    drawn = _integers("randint_like", input.shape, low, high, kind, generator)
    return _finish(drawn, None, requires_grad, device, layout)


# ---------------------------------------------------------------------------------------------------- distributions


def _linked(drawn, *parameters):
    """``drawn``, as a result of those parameters that want a gradient (which is zero)."""
    wanted = [p for p in parameters if isinstance(p, Tensor) and p.requires_grad]
    return ops.drawn_with(drawn, *wanted) if wanted and state.grad else drawn


def _moved(drawn, scale, shift):
    """scale * drawn + shift, without the steps that change nothing."""
    scaled = drawn if type(scale) in (float, int) and scale == 1 else ops.mul(drawn, scale)
    return scaled if type(shift) in (float, int) and shift == 0 else ops.add(scaled, shift)


def _check_chances(where, p):
    if type(p) is float and 0 <= p <= 1:
        return
    values = p.array if isinstance(p, Tensor) else np.asarray(p)
    if not np.all((values >= 0) & (values <= 1)):
        raise RuntimeError(f"{where}: probabilities must lie between 0 and 1, got {values.min()} to {values.max()}")


def _check_std(where, std):
    if type(std) in (float, int) and std >= 0:
        return
    values = std.array if isinstance(std, Tensor) else np.asarray(std)
    if np.any(values < 0):
        raise RuntimeError(f"{where}: std must be non-negative, got {values.min()}")


def _check_float(where, dtype):
    if np.dtype(dtype).kind != "f":
        raise NotImplementedError(f"{where}: input must be of a floating-point type, got {dtype_of(dtype)}")


@op(composite, samples=[positive(3, 4, high=1), sample(real(3, 4), 0.3)])
def bernoulli(input, p=None, *, generator=None, out=None):
    """0 or 1, 1 with the probability in ``input`` (or ``p`` for all, ``input`` then giving shape and dtype alone)."""
    chance = input if p is None else p
    if p is None:
        _check_float("bernoulli", input.dtype)
    _check_chances("bernoulli", chance)
    drawn = draw_coins(chance, input.shape, input.dtype, generator)
    return _finish(_linked(drawn, input), out)


@op(composite, samples=[sample(positive(2, 4), 3, True), sample(positive(4), 2)])
def multinomial(input, num_samples, replacement=False, *, generator=None, out=None):
    """Indices into the last dimension of ``input`` (1-d or 2-d), with chances in proportion to its values; int64."""
    weights = as_array(input)
    if weights.ndim not in (1, 2):
        raise RuntimeError(f"multinomial: input must have 1 or 2 dimensions, got {weights.ndim}")
    if weights.dtype.kind != "f":
        raise RuntimeError(f"multinomial: input must be of a floating-point type, got {dtype_of(weights.dtype)}")
    if num_samples <= 0:
        raise RuntimeError(f"multinomial: num_samples must be positive, got {num_samples}")
    rows, width = math.prod(weights.shape[:-1]), weights.shape[-1]
    if not replacement and num_samples > width:
        raise RuntimeError(f"multinomial: cannot draw num_samples={num_samples} of {width} without replacement")
    if weights.size and not (weights.min() >= 0 and weights.max() < math.inf):  # false for NaN
        raise RuntimeError("multinomial: input must not hold inf, nan or negative values")
    if not np.all(weights.max(-1, initial=0) > 0):
        raise RuntimeError("multinomial: each row of input must have a positive sum")
    counters = _counters((rows, num_samples if replacement else width), 64)
    drawn = draw(categories, counters, generator, weights, count=int(num_samples), replacement=bool(replacement))
    return _finish(drawn, out)


@op(composite, method=False, samples=[positive(3, 4, high=20)])
def poisson(input, generator=None):
    """Counts from the Poisson distribution whose rates are the elements of ``input``, in its dtype."""
    _check_float("poisson", input.dtype)
    rates = as_array(input)
    if np.any(rates < 0):
        raise RuntimeError(f"poisson: rates must not be negative, got {rates.min()}")
    return _linked(draw(poisson_counts, rates.size, generator, rates), input)


@op(composite, samples=[sample(real(3, 4), positive(4)), sample(real(3), 2.0), sample(0.0, 1.0, (2, 3))])
def normal(mean=0.0, std=1.0, size=None, *, generator=None, out=None, dtype=None, layout=None, device=None,
           requires_grad=False, pin_memory=False):  # fmt: skip
    """Draws of mean + std * z, z standard normal: tensors that broadcast, or two numbers and ``size``."""
    given = [v for v in (mean, std) if isinstance(v, Tensor)]
    if (size is None) == (not given):
        raise TypeError("normal: needs either a Tensor as mean or std, or two numbers and size")
    _check_std("normal", std)
    kind = _float_dtype("normal", dtype, common_dtype([v.array for v in given]) if given else None)
    shape = broadcast_shapes(*[v.shape for v in given]) if given else _shape("normal", (), size)
    with no_grad():
        drawn = _moved(draw_floats(normal01, shape, kind, generator), std, mean)
    return _finish(_linked(drawn, mean, std), out, requires_grad, device, layout)


# ---------------------------------------------------------------------------------------------------- in place


def _in_place(kinds, samples=(), **options):
    """Register ``function(tensor, ...)``, which returns new values for the tensor, as an in-place method of its name.

    The old values get a gradient of zero. ``kinds`` are the kinds of dtypes that can hold what is drawn.
    """

    def register(function):
        known = function.__name__

        @wraps(function)
        def method(input, *args, **kwargs):
            if input.array.dtype.kind not in kinds:
                raise NotImplementedError(f"{known}: not defined for {input.dtype}")
            input._check_writable(known)
            with no_grad():
                drawn = function(input, *args, **kwargs)
            return input._become(_linked(drawn, input, *[a for a in args if isinstance(a, Tensor)]), known)

        return op(composite, namespace="Tensor", method=True, samples=list(samples), **options)(method)

    return register


@_in_place("f", [sample(real(3, 4), -1.0, 2.0)])
def uniform_(input, from_=0.0, to=1.0, *, generator=None):
    """Fill with floats spread evenly over [from_, to)."""
    if not from_ <= to:
        raise RuntimeError(f"uniform_: from_ must not exceed to, got from_={from_} and to={to}")
    if max(abs(from_), abs(to), to - from_) > np.finfo(input.array.dtype).max:
        raise RuntimeError(f"uniform_: from_={from_} and to={to} are out of bounds for {input.dtype}")
    return _moved(draw_floats(uniform01, input.shape, input.dtype, generator), to - from_, from_)


@_in_place("f", [sample(real(3, 4), -1.0, 2.0)])
def normal_(input, mean=0.0, std=1.0, *, generator=None):
    """Fill from the normal distribution of ``mean`` and standard deviation ``std``."""
    _check_std("normal_", std)
    return _moved(draw_floats(normal01, input.shape, input.dtype, generator), std, mean)


@_in_place("f", [sample(real(3, 4), 0.1, 0.5)])
def log_normal_(input, mean=1.0, std=2.0, *, generator=None):
    """Fill with exp(z), z from the normal distribution of ``mean`` and standard deviation ``std``."""
    if not std > 0:
        raise RuntimeError(f"log_normal_: std must be positive, got {std}")
    return ops.exp(ops.add(ops.mul(draw_floats(normal01, input.shape, input.dtype, generator), std), mean))


@_in_place("f", [sample(real(3, 4), 2.0)])
def exponential_(input, lambd=1.0, *, generator=None):
    """Fill from the exponential distribution: density lambd * exp(-lambd * x)."""
    if not lambd > 0:
        raise RuntimeError(f"exponential_: lambd must be positive, got {lambd}")
    return ops.div(draw_floats(exponential01, input.shape, input.dtype, generator), lambd)


@_in_place("f", [sample(real(3, 4), 1.0, 2.0)])
def cauchy_(input, median=0.0, sigma=1.0, *, generator=None):
    """Fill from the Cauchy distribution: median + sigma * tan(pi * (u - 1/2))."""
    if not sigma > 0:
        raise RuntimeError(f"cauchy_: sigma must be positive, got {sigma}")
    angle = ops.mul(ops.sub(draw_floats(uniform01, input.shape, input.dtype, generator), 0.5), math.pi)
    return ops.add(ops.mul(ops.tan(angle), sigma), median)


@_in_place("fiu", [sample(real(3, 4), 0.3)])
def geometric_(input, p, *, generator=None):
    """Fill with counts of throws until the first success of chance ``p``."""
    if not 0 < p < 1:
        raise RuntimeError(f"geometric_: p must lie strictly between 0 and 1, got {p}")
    shape, dtype = tuple(input.shape), input.array.dtype
    return draw(geometric_counts, _counters(shape, bits_of(dtype)), generator, shape=shape, p=p, dtype=dtype)


@_in_place("fiub", [sample(real(3, 4), 0.3)])
def bernoulli_(input, p=0.5, *, generator=None):
    """Fill with 0 and 1, 1 with probability ``p`` (a number or a tensor that broadcasts)."""
    _check_chances("bernoulli_", p)
    return draw_coins(p, input.shape, input.dtype, generator)


@_in_place("fiub", [sample(real(3, 4), 5), sample(real(3, 4), -2, 5)])
def random_(input, *bounds, generator=None):
    """Fill with integers: from 0 to the largest that the dtype counts exactly, in [0, to), or in [from, to)."""
    dtype = input.array.dtype
    if len(bounds) > 2:
        raise TypeError(f"random_: takes at most from and to, got {len(bounds)} bounds")
    if bounds and bounds[-1] is not None:
        low, high = [0, *bounds][-2:]
    else:
        low = bounds[0] if bounds else 0
        high = 1 + (1 << FLOAT_BITS[dtype.name] if dtype.kind == "f" else dtype.kind == "b" or np.iinfo(dtype).max)
    return _integers("random_", input.shape, low, high, dtype, generator)
