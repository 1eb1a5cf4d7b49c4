"""Slow, obvious twins of the kernels: what the fast ones are tested against. Plain loops or one NumPy line a phase."""
from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import scipy.special


def gemm(a, b, bias=None, residual=None, alpha=1.0, activation=""):
    """activation(alpha * a @ b + bias + residual), each product computed in float64 row by column."""
    vector_a, vector_b = a.ndim == 1, b.ndim == 1
    a, b = np.atleast_2d(a), b[:, None] if vector_b else b
    batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, batch + a.shape[-2:]).astype(np.float64)
    b = np.broadcast_to(b, batch + b.shape[-2:]).astype(np.float64)
    c = np.zeros((*batch, a.shape[-2], b.shape[-1]))
    for index in np.ndindex(c.shape):
        c[index] = np.sum(a[index[:-1]] * b[(*index[:-2], slice(None), index[-1])])
    c = c[..., 0] if vector_b else c
    c = (c[..., 0, :] if not vector_b else c[..., 0]) if vector_a else c
    c = alpha * c
    for x in (bias, residual):
        if x is not None:
            c = c + x
    return np.where(c < 0, 0, c) if activation == "relu" else c


def erf(x):
    """Error function in x's own precision, by its series of positive terms, which loses no digits and takes many."""
    whole, x = x, np.clip(x, -6.5, 6.5)
    term = total = 2 * np.exp(-x * x) * x / np.sqrt(np.arccos(x.dtype.type(-1)))
    for n in range(1, 200):
        term = term * (2 * x * x / (2 * n + 1))
        total = total + term
    return np.where(np.abs(whole) > 6.4, np.sign(whole), total)


SPECIAL = {"lgamma": "gammaln", "digamma": "psi", "igamma": "gammainc", "igammac": "gammaincc"}
SPECIAL |= {name: name for name in ("erfc", "erfcx", "erfinv", "log_ndtr", "ndtr", "ndtri", "polygamma", "zeta", "i0",
                                    "i0e", "i1", "i1e")}  # fmt: skip
STEPS = {name: getattr(scipy.special, theirs) for name, theirs in SPECIAL.items()} | {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": np.true_divide, "&": np.bitwise_and, "|": np.bitwise_or,
    "^": np.bitwise_xor, "<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal, ">": np.greater,
    ">=": np.greater_equal, "neg": np.negative, "not": np.invert, "<<": np.left_shift, ">>": np.right_shift,
    "convert": np.asarray, "full": np.asarray,
    "where": np.where, "minimum": np.minimum, "maximum": np.maximum, "abs": np.abs, "pow": np.power, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh,
    "atan2": np.arctan2, "erf": erf, "trigamma": lambda x: scipy.special.polygamma(1, x), "hypot": np.hypot,
    "gelu_slope": lambda x: 0.5 * (1 + erf(x / 2**0.5)) + x * np.exp(-x * x / 2) / (2 * math.pi) ** 0.5,
    "lgamma": lambda x: np.where(x == -np.inf, np.inf, scipy.special.gammaln(x)),  # SciPy's is -inf there
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "rsqrt": lambda x: 1 / np.sqrt(x),
}  # fmt: skip


def fused_loop(loop, arrays, numbers=(), axes=0):
    """The outputs of an elementwise loop, one NumPy call a step."""
    values = [*np.broadcast_arrays(*arrays), *map(float, numbers)]
    for function, operands, dtype in loop.steps:
        given = [values[o] if isinstance(o, int) else eval(o, {"np": np}) for o in operands]  # noqa: S307 (a constant)
        with np.errstate(all="ignore"):
            found = (STEPS.get(function) or getattr(np, function))(*given)
        values.append(found if dtype == "number" else np.broadcast_to(found, values[0].shape).astype(dtype))
    over = tuple(range(values[0].ndim - axes, values[0].ndim))
    outputs = []
    for value, reduce in loop.outputs:
        x = values[value]
        total = getattr(np, reduce)(x.astype(np.float64) if x.dtype.kind == "f" else x, axis=over) if reduce else x
        outputs.append(np.asarray(total).astype(x.dtype))
    return outputs


def window_count(size, kernel, stride, padding, dilation, ceil_mode=False):
    """Windows along each dimension; with ceil_mode a partial one counts if it begins inside image or left padding."""
    counts = []
    for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True):
        count = 1
        while count * s + d * (k - 1) < n + 2 * p or (
                ceil_mode and count * s < n + p and count * s + d * (k - 1) - s + 1 < n + 2 * p):
            count += 1
        counts.append(count)
    return tuple(counts)


def meetings(size, kernel, stride, padding, dilation, windows):
    """All (window, tap, pixel) whose pixel lies inside the image, as index tuples."""
    for window in np.ndindex(windows):
        for tap in np.ndindex(kernel):
            every = zip(window, stride, padding, tap, dilation, strict=True)
            pixel = tuple(i * s - p + k * d for i, s, p, k, d in every)
            if all(0 <= i < n for i, n in zip(pixel, size, strict=True)):
                yield window, tap, pixel


def _grouped(x, w, groups):
    """Pairs of channel slices of the image (N, C, ...) and rows of the weight (O, C / groups, ...), one a group."""
    c, o = x // groups, w // groups
    return [(slice(g * c, (g + 1) * c), slice(g * o, (g + 1) * o)) for g in range(groups)]


def convolution(x, w, bias, stride, padding, dilation, groups):
    """y[n, o, window] = bias[o] + the sum over taps of w[o, c, tap] * x[n, c, pixel], in float64."""
    kernel = w.shape[2:]
    windows = window_count(x.shape[2:], kernel, stride, padding, dilation)
    y = np.zeros((len(x), len(w), *windows))
    for window, tap, pixel in meetings(x.shape[2:], kernel, stride, padding, dilation, windows):
        for c, o in _grouped(x.shape[1], len(w), groups):
            y[(slice(None), o, *window)] += x[(slice(None), c, *pixel)].astype(float) @ w[(o, slice(None), *tap)].T
    return y if bias is None else y + bias.reshape(-1, *[1] * len(kernel))


def convolution_input(grad, w, size, stride, padding, dilation, groups):
    """Gradient of the sum of grad * convolution(x, w) in x."""
    dx = np.zeros((len(grad), w.shape[1] * groups, *size))
    for window, tap, pixel in meetings(size, w.shape[2:], stride, padding, dilation, grad.shape[2:]):
        for c, o in _grouped(dx.shape[1], len(w), groups):
            dx[(slice(None), c, *pixel)] += grad[(slice(None), o, *window)].astype(float) @ w[(o, slice(None), *tap)]
    return dx


def convolution_weight(grad, x, kernel_size, stride, padding, dilation, groups):
    """Gradient of the sum of grad * convolution(x, w) in w."""
    dw = np.zeros((grad.shape[1], x.shape[1] // groups, *kernel_size))
    for window, tap, pixel in meetings(x.shape[2:], kernel_size, stride, padding, dilation, grad.shape[2:]):
        for c, o in _grouped(x.shape[1], grad.shape[1], groups):
            dw[(o, slice(None), *tap)] += grad[(slice(None), o, *window)].astype(float).T @ x[(slice(None), c, *pixel)]
    return dw


def max_pool(x, kernel_size, stride, padding, dilation, ceil_mode):
    """(largest element of each window, its flat index in the plane): the first of equals, the last NaN above all."""
    size = x.shape[2:]
    windows = window_count(size, kernel_size, stride, padding, dilation, ceil_mode)
    best, indices = np.full((*x.shape[:2], *windows), -np.inf, x.dtype), np.full((*x.shape[:2], *windows), -1)
    for window, _, pixel in meetings(size, kernel_size, stride, padding, dilation, windows):
        place = (slice(None), slice(None), *window)
        value, flat = x[(slice(None), slice(None), *pixel)], np.ravel_multi_index(pixel, size)
        wins = (value > best[place]) | np.isnan(value) | (indices[place] < 0)
        best[place], indices[place] = np.where(wins, value, best[place]), np.where(wins, flat, indices[place])
    return best, indices


def window_sum(x, kernel_size, stride, padding, ceil_mode):
    """The sum of each window, in float64."""
    ones = (1,) * len(kernel_size)
    windows = window_count(x.shape[2:], kernel_size, stride, padding, ones, ceil_mode)
    y = np.zeros((*x.shape[:2], *windows))
    for window, _, pixel in meetings(x.shape[2:], kernel_size, stride, padding, ones, windows):
        y[(slice(None), slice(None), *window)] += x[(slice(None), slice(None), *pixel)]
    return y


def window_spread(g, size, kernel_size, stride, padding, ceil_mode):
    """Gradient of the sum of g * window_sum(x) in x."""
    x = np.zeros((*g.shape[:2], *size))
    ones = (1,) * len(kernel_size)
    for window, _, pixel in meetings(size, kernel_size, stride, padding, ones, g.shape[2:]):
        x[(slice(None), slice(None), *pixel)] += g[(slice(None), slice(None), *window)]
    return x


def fold(columns, size, kernel, stride, padding, dilation):
    """Columns (N, C * taps, positions) added up into images, tap by tap."""
    count, rows = window_count(size, kernel, stride, padding, dilation), np.prod(kernel, dtype=int)
    given = columns.reshape(len(columns), columns.shape[1] // rows, *kernel, *count).astype(float)
    out = np.zeros((*given.shape[:2], *size))
    for window, tap, pixel in meetings(size, kernel, stride, padding, dilation, count):
        out[(slice(None), slice(None), *pixel)] += given[(slice(None), slice(None), *tap, *window)]
    return out


def place_at(x, indices, size):
    """Planes of zeros with the elements of x (N, C, ...) added at flat indices, one by one."""
    planes = np.zeros((*x.shape[:2], np.prod(size, dtype=int)))
    for index in np.ndindex(x.shape):
        planes[(*index[:2], indices[index])] += x[index]
    return planes.reshape(*x.shape[:2], *size)


def slope(function, x, direction, step=1e-6):
    """Derivative of a number-valued function of one float64 array in a direction, by central differences."""
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


def recurrent(cell, x, states, w_ih, w_hh, b_ih, b_hh, reverse, batch_sizes):
    """(outputs (T, B, H), last states) of an LSTM, GRU or plain layer, one row and step at a time, in float64."""
    length, batch = x.shape[:2]
    states = [s.astype(np.float64) for s in states]
    out = np.zeros((length, batch, states[0].shape[1]))
    for t in range(length)[:: -1 if reverse else 1]:
        for row in range(batch if batch_sizes is None else batch_sizes[t]):
            h = states[0][row]
            gi = w_ih.astype(np.float64) @ x[t, row] + (0 if b_ih is None else b_ih)
            gh = w_hh.astype(np.float64) @ h + (0 if b_hh is None else b_hh)
            if cell == "lstm":
                i, f, g, o = np.split(gi + gh, 4)
                states[1][row] = sigmoid(f) * states[1][row] + sigmoid(i) * np.tanh(g)
                h = sigmoid(o) * np.tanh(states[1][row])
            elif cell == "gru":
                (ri, zi, ni), (rh, zh, nh) = np.split(gi, 3), np.split(gh, 3)
                z = sigmoid(zi + zh)
                h = (1 - z) * np.tanh(ni + sigmoid(ri + rh) * nh) + z * h
            else:
                h = np.tanh(gi + gh) if cell == "tanh" else np.maximum(gi + gh, 0)
            states[0][row] = out[t, row] = h
    return out, *states


def sigmoid(x):
    """Logistic function."""
    return 1 / (1 + np.exp(-x))


def softmax(x, dim):
    """exp(x) / sum(exp(x)) along one dim, in float64."""
    e = np.exp(x.astype(np.float64) - np.max(x, dim, keepdims=True))
    return e / np.sum(e, dim, keepdims=True)


def cross_entropy(x, target, weight, ignore_index, label_smoothing, reduction):
    """Cross-entropy of softmax(x) (N, C, ...) with class indices (N, ...), one sample at a time, in float64."""
    logs = np.log(softmax(x, 1))
    weight = np.ones(x.shape[1]) if weight is None else weight.astype(np.float64)
    loss, total = np.zeros(target.shape), 0.0
    for index in np.ndindex(target.shape):
        y = target[index]
        if y != ignore_index:
            own = logs[(index[0], slice(None), *index[1:])]
            loss[index] = -weight[y] * own[y] * (1 - label_smoothing) - np.mean(weight * own) * label_smoothing
            total += weight[y]
    return loss if reduction == "none" else np.sum(loss) / (total if reduction == "mean" else 1)


def standardize(x, weight, bias, dims, eps, centred):
    """(x - mean) / sqrt(variance + eps) * weight + bias, in float64."""
    x = x.astype(np.float64)
    x = x - np.mean(x, dims, keepdims=True) if centred else x
    x = x / np.sqrt(np.mean(x * x, dims, keepdims=True) + eps)
    return x * (1 if weight is None else weight) + (0 if bias is None else bias)


def attention(query, key, value, mask, scale, causal):
    """softmax(scale * query key^T + mask) value, one row at a time, in float64; zeros for rows that see nothing."""
    query, key, value = (a.astype(np.float64) for a in (query, key, value))
    out = np.zeros((*query.shape[:-1], value.shape[-1]))
    if mask is not None:
        mask = np.broadcast_to(mask, (*query.shape[:-1], key.shape[-2]))
    for index in np.ndindex(query.shape[:-1]):
        scores = scale * (key[index[:-1]] @ query[index])
        if mask is not None:
            scores = np.where(mask[index], scores, -np.inf) if mask.dtype == bool else scores + mask[index]
        if causal:
            scores[index[-1] + 1:] = -np.inf
        if np.max(scores) > -np.inf:
            out[index] = softmax(scores, 0) @ value[index[:-1]]
    return out


def add_rows(g, indices, rows, left_out):
    """A table of zeros with the rows of g added where indices say, one by one."""
    table = np.zeros((rows, g.shape[-1]))
    for index in np.ndindex(indices.shape):
        if indices[index] != left_out:
            table[indices[index]] += g[index]
    return table


def philox(seed, counter, stream=0):
    """The four words of Philox4x32-10 as published (Salmon et al., 2011), on Python integers."""
    c = [counter & 0xFFFFFFFF, counter >> 32, stream, 0]
    k = [seed & 0xFFFFFFFF, seed >> 32]
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 1 << 32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def draw(name, seed, offset, size, dtype, probability=1.0, low=0, high=0):
    """What is made of the words of each element's own counter, one after the other, in Python's floats."""
    wide = high - low > 1 << 16 if name == "integers" else np.dtype(dtype).itemsize == 8 and name != "coins"
    bits = 64 if wide else 32

    def unit(word):
        return float(dtype(word) + dtype(1)) / 2.0**bits  # rounded as the kernel does: near 1 its logarithm shows that

    found = []
    for element in range(size):
        tile, rest = divmod(element, 2048 // bits)
        row, lane = divmod(rest, 16)
        words = philox(seed, offset + 16 * tile + lane)
        words = words if bits == 32 else [words[0] << 32 | words[1], words[2] << 32 | words[3]]
        if name == "coins":
            found.append(words[row] < math.ceil(probability * 2**32))
        elif name == "uniform01":
            found.append((words[row] >> (8 if bits == 32 else 11)) / 2.0 ** (24 if bits == 32 else 53))
        elif name == "integers":
            found.append(low + (words[row] * (high - low) >> bits))
        elif name == "words":
            found.append(words[row])
        elif name == "exponential01":
            found.append(-math.log(unit(words[row])))
        else:  # Box and Muller: cosine and sine of a pair
            first, second = words[row // 2 * 2 : row // 2 * 2 + 2]
            angle = math.pi * (second - (second >> (bits - 1) << bits)) / 2.0 ** (bits - 1)
            found.append(math.sqrt(-2 * math.log(unit(first))) * (math.sin if row % 2 else math.cos)(angle))
    return np.array(found)


def poisson(seed, offset, rates):
    """Counts by inversion (rates below 10) or Hörmann's PTRS; element i draws from counter offset + i, try by try."""

    def uniforms(counter, stream):
        w = philox(seed, counter, stream)
        return [((w[j] << 32 | w[j + 1]) >> 11) / 2.0**53 for j in (0, 2)]

    def count(rate, counter):
        if not math.isfinite(rate):
            return math.nan
        if rate < 10:
            term = total = math.exp(-rate)
            for k in range(100):
                if uniforms(counter, 0)[0] < total:
                    return k
                term *= rate / (k + 1)
                total += term
        b = 0.931 + 2.53 * math.sqrt(rate)
        a = 0.02483 * b - 0.059
        for stream in range(1, 1000):
            u, v = uniforms(counter, stream)
            edge = 0.5 - abs(u - 0.5)
            k = math.floor((2 * a / edge + b) * (u - 0.5) + rate + 0.43)
            if edge >= 0.07 and v <= 0.9277 - 3.6224 / (b - 2):
                return k
            chance = v * (1.1239 + 1.1328 / (b - 3.4)) / (a / edge**2 + b)
            if k >= 0 and (edge >= 0.013 or v <= edge) and (
                    math.log(chance) <= k * math.log(rate) - rate - math.lgamma(k + 1)):
                return k
        return None

    return np.array([count(float(rate), offset + i) for i, rate in enumerate(rates)])


def choose(weights, marks):
    """For each mark the first place whose sum of weights exceeds its share of the whole; the last above 0 at most."""
    found = np.zeros(marks.shape, np.int64)
    for row, j in np.ndindex(marks.shape):
        sums = [math.fsum(map(float, weights[row, : i + 1])) for i in range(weights.shape[1])]
        above = [i for i, s in enumerate(sums) if s > marks[row, j] * sums[-1]]
        found[row, j] = min([*above, max(i for i, x in enumerate(weights[row]) if x > 0)])
    return found


def signal(x, points):
    """The real signal of so many points whose half spectrum the last dimension holds, a sum at a time."""
    out = np.zeros((*x.shape[:-1], points))
    for j, k in np.ndindex(points, x.shape[-1]):
        often = 1 if k == 0 or 2 * k == points else 2
        out[..., j] += often * (x[..., k] * np.exp(2j * math.pi * (j * k % points) / points)).real
    return out


def half_spectrum(g):
    """The adjoint of `signal`."""
    points = g.shape[-1]
    waves = signal(np.eye(points // 2 + 1), points)
    return g @ waves.T


def repeated(value, shape):
    """An array of one value."""
    return np.array([value] * math.prod(shape)).reshape(shape)


def reduced(function, x, dims):
    """``function`` of the list of the elements that meet in each output, which lists them in C order."""
    kept = [d for d in range(x.ndim) if d not in dims]
    out = np.empty([x.shape[d] for d in kept])
    for index in np.ndindex(out.shape):
        place = dict(zip(kept, index, strict=True))
        out[index] = function(x[tuple(place.get(d, slice(None)) for d in range(x.ndim))].ravel().tolist())
    return out


def nll(logs, target, weight=None, ignore_index=-100):
    """(loss of each sample, its weight) of log-probabilities (N, C, ...) and classes (N, ...)."""
    losses, weights = np.zeros(target.shape), np.zeros(target.shape)
    for place in np.ndindex(target.shape):
        y = target[place]
        if y != ignore_index:
            weights[place] = 1 if weight is None else weight[y]
            losses[place] = -weights[place] * logs[(place[0], y, *place[1:])]
    return losses, weights


def label_hinges(scores, target):
    """The losses of samples and, by the scores, the derivatives of these: the classes of a sample end with a -1."""
    losses, slopes = np.zeros(len(scores)), np.zeros(scores.shape)
    for row, (x, own) in enumerate(zip(scores.astype(float), target.tolist(), strict=True)):
        classes = own[: own.index(-1)] if -1 in own else own
        for y in classes:
            for j in set(range(len(x))) - set(classes):
                if 1 - x[y] + x[j] > 0:
                    losses[row] += (1 - x[y] + x[j]) / len(x)
                    slopes[row, j] += 1 / len(x)
                    slopes[row, y] -= 1 / len(x)
    return losses, slopes


def norm(differences, p):
    """The norm of order ``p`` of a list of differences."""
    sizes = [abs(float(d)) for d in differences]
    if p in (math.inf, -math.inf):
        return max(sizes) if p > 0 else min(sizes)
    return math.fsum(d != 0 for d in sizes) if p == 0 else math.fsum(d**p for d in sizes) ** (1 / p)


def norm_slope(differences, p):
    """The derivatives of `norm`, of order ``p`` > 0, in each difference; all 0 where the norm is 0."""
    size = norm(differences, p)
    if p == math.inf:
        return [math.copysign(1, d) if abs(d) == size > 0 else 0 for d in differences]
    return [0 if not d else math.copysign((abs(d) / size) ** (p - 1), d) for d in differences]


def variance(values):
    """Of a sample: squared distances from the mean over one less than their number."""
    mean = math.fsum(values) / len(values)
    return math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1)


def place_of_largest(values):
    """The first place of NaN, else of the largest value."""
    best = 0
    for i, v in enumerate(values):
        if not math.isnan(values[best]) and (math.isnan(v) or v > values[best]):
            best = i
    return best


def join(arrays, dim):
    """Arrays one after the other along ``dim``, element by element."""
    shape = list(arrays[0].shape)
    shape[dim] = sum(a.shape[dim] for a in arrays)
    out, start = np.zeros(shape, arrays[0].dtype), 0
    for a in arrays:
        for index in np.ndindex(a.shape):
            place = list(index)
            place[dim] += start
            out[tuple(place)] = a[index]
        start += a.shape[dim]
    return out


def gather(indices, table):
    """The rows of the table that indices name, one by one; zeros for rows that do not exist."""
    out = np.zeros((*indices.shape, table.shape[1]), table.dtype)
    for index in np.ndindex(indices.shape):
        if 0 <= indices[index] < len(table):
            out[index] = table[indices[index]]
    return out


def picked(indices, first, shape):
    """(place in the array, place in the result) of each slice that arrays of indices, side by side, pick."""
    for outer in np.ndindex(shape[:first]):
        for position in np.ndindex(indices[0].shape):
            yield (*outer, *(i[position] for i in indices)), (*outer, *position)


def along(index, dim):
    """(place in the array, place in the result) of each element that indices along one dim pick."""
    for place in np.ndindex(index.shape):
        yield (*place[:dim], index[place], *place[dim + 1:]), place


def take(x, pairs, shape):
    """The parts of x at the first places, at the second places of a result of this shape."""
    out = np.zeros(shape, x.dtype)
    for source, target in pairs:
        out[target] = x[source]
    return out


def put(g, pairs, shape):
    """The parts of g at the second places added to zeros of this shape at the first."""
    out = np.zeros(shape)
    for source, target in pairs:
        out[source] += g[target]
    return out


def ctc(log_probs, labels, blank):
    """-log of the summed probability of all paths through one sample's labels with blanks between them."""
    states = [blank] + [x for label in labels for x in (label, blank)]
    if not len(log_probs):
        return 0.0 if not len(labels) else np.inf

    @functools.cache
    def paths(t, s):
        """The probability of all paths that are at state s at step t."""
        if s < 0 or t < 0:
            return 0.0
        skips = s > 1 and states[s] not in (blank, states[s - 2])
        before = paths(t - 1, s) + paths(t - 1, s - 1) + (paths(t - 1, s - 2) if skips else 0)
        before = float(s < 2) if t == 0 else before
        return before * np.exp(log_probs[t, states[s]])

    last = len(states) - 1
    total = paths(len(log_probs) - 1, last) + (paths(len(log_probs) - 1, last - 1) if last else 0)
    return -np.log(total) if total else np.inf


def running(step, x, dim, start, from_end=False):
    """``value = step(value, element)`` one after the other along ``dim``; all values."""
    out = np.empty(x.shape, object)
    for line in np.ndindex(*x.shape[:dim], *x.shape[dim + 1:]):
        value = start
        for k in reversed(range(x.shape[dim])) if from_end else range(x.shape[dim]):
            place = (*line[:dim], k, *line[dim:])
            value = step(value, x[place])
            out[place] = value
    return out


def ordered(values, descending=False):
    """The places that sort a list: equal elements keep their order, NaN counts as the largest."""
    def before(i, j):
        a, b = (values[j], values[i]) if descending else (values[i], values[j])
        return a < b or (math.isnan(b) and not math.isnan(a))

    places = []
    for i in range(len(values)):
        at = len(places)
        while at and before(i, places[at - 1]):
            at -= 1
        places.insert(at, i)
    return places


def most_frequent(values):
    """The smallest of the most frequent values' last place; NaN differs from itself."""
    counts = [sum(v == other for other in values) for v in values]
    best = min((-max(c, 1), v) for v, c in zip(values, counts, strict=True) if not math.isnan(v))[1]
    return max(i for i, v in enumerate(values) if v == best)


def insertion_point(line, value, right):
    """How many elements of a sorted line stand before a value, or are equal to it if ``right``."""
    return sum(math.isnan(value) or e < value or (right and e == value) for e in line)


def substituted(A, B, upper=False, unit=False):
    """X with T @ X = B for a triangle T of ``A``, row by row in float64."""
    A, X = A.astype(np.float64), B.astype(np.float64)
    n = len(A)
    for i in reversed(range(n)) if upper else range(n):
        for j in range(i + 1, n) if upper else range(i):
            X[i] -= A[i, j] * X[j]
        if not unit:
            X[i] /= A[i, i]
    return X


def eliminated(A):
    """(LU, pivots counted from 1) by elimination with partial pivoting: the first of the largest, NaN only if alone."""
    LU, pivots = A.astype(np.float64), []
    m, n = A.shape
    for c in range(min(m, n)):
        pivot = c
        for i in range(c, m):
            if abs(LU[i, c]) > abs(LU[pivot, c]) or (math.isnan(LU[pivot, c]) and not math.isnan(LU[i, c])):
                pivot = i
        LU[[c, pivot]] = LU[[pivot, c]]
        pivots.append(pivot + 1)
        if LU[c, c] != 0:
            LU[c + 1 :, c] /= LU[c, c]
        LU[c + 1 :, c + 1 :] -= np.outer(LU[c + 1 :, c], LU[c, c + 1 :])
    return LU, np.array(pivots, np.int32)


def cholesky(A):
    """Lower L with A = L L^T, column by column, and 0 or the order of the first minor that is not positive."""
    L, n = np.tril(A.astype(np.float64)), len(A)
    for c in range(n):
        rest = L[c, c] - sum(L[c, k] ** 2 for k in range(c))
        if not rest > 0:
            return L, c + 1
        L[c, c] = math.sqrt(rest)
        for i in range(c + 1, n):
            L[i, c] = (L[i, c] - sum(L[i, k] * L[c, k] for k in range(c))) / L[c, c]
    return L, 0


def reflected(A):
    """(Q, R), Q square, by one reflection after the other, with LAPACK's signs."""
    R, m = A.astype(np.float64), len(A)
    Q = np.eye(m)
    for c in range(min(A.shape)):
        v = R[:, c] * (np.arange(m) >= c)
        if np.any(v[c + 1 :]):
            beta = -math.copysign(np.linalg.norm(v), v[c])
            v[c] -= beta
            H = np.eye(m) - 2 * np.outer(v, v) / (v @ v)
            Q, R = Q @ H, H @ R
    return Q, np.triu(R)


def weighted_sum(x, tables):
    """The sums of weighted elements that tables name along the last dims, as products with dense matrices."""
    for dim, table in enumerate(tables, x.ndim - len(tables)):
        if table is not None:
            matrix = np.zeros((table.out, table.size))
            for i in range(table.out):
                for k in range(table.starts[i], table.starts[i + 1]):
                    matrix[i, table.positions[k]] += 1 if table.weights is None else table.weights[k]
            x = np.moveaxis(np.tensordot(matrix, x.astype(float), (1, dim)), 0, dim)
    return x


def largest_of_boxes(plane, edges):
    """(largest element of each box of a plane, its flat index), from (first elements, ends) of boxes in each dim."""
    sizes = [len(first) for first, _ in edges]
    best, winner = np.zeros(sizes, plane.dtype), np.zeros(sizes, np.int64)
    for window in np.ndindex(*sizes):
        box = itertools.product(*[range(a[i], b[i]) for i, (a, b) in zip(window, edges, strict=True)])
        flat = [np.ravel_multi_index(place, plane.shape) for place in box]
        values = plane.ravel()[flat]
        missing = np.flatnonzero(np.isnan(values))
        at = missing[-1] if len(missing) else np.argmax(values)
        best[window], winner[window] = values[at], flat[at]
    return best, winner


def _clasped(at, n, padding_mode, align_corners):
    """A position by the rule for those outside of n pixels."""
    if padding_mode == "reflection":
        low, high = (0, n - 1) if align_corners else (-0.5, n - 0.5)
        while high > low and not low <= at <= high:
            at = 2 * low - at if at < low else 2 * high - at
        at = at if high > low else 0
    return at if padding_mode == "zeros" else min(max(at, 0), n - 1)


def _touched(at, n, mode, padding_mode, align_corners):
    """(pixel, weight) of what a coordinate between -1 and 1 touches along a dimension; no pixel outside."""
    at = (at + 1) / 2 * (n - 1) if align_corners else ((at + 1) * n - 1) / 2
    if mode == "bicubic":
        a, found = -0.75, []
        for k in range(math.floor(at) - 1, math.floor(at) + 3):
            t = abs(at - k)
            weight = (a + 2) * t**3 - (a + 3) * t**2 + 1 if t <= 1 else a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
            found.append((round(_clasped(k, n, padding_mode, align_corners)), weight))
    else:
        at = _clasped(at, n, padding_mode, align_corners)
        low = math.floor(at)
        found = [(round(at), 1)] if mode == "nearest" else [(low, low + 1 - at), (low + 1, at - low)]
    return [(pixel, weight) for pixel, weight in found if 0 <= pixel < n]


def grid_sample(x, grid, mode, padding_mode, align_corners):
    """The image or volume x at the points of the grid, point by point, in float64."""
    out = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for n, *point in np.ndindex(grid.shape[:-1]):
        taps = [_touched(float(at), size, mode, padding_mode, align_corners)
                for at, size in zip(grid[(n, *point)][::-1], x.shape[2:], strict=True)]  # fmt: skip
        for corner in itertools.product(*taps):
            place, weight = tuple([p for p, _ in corner]), math.prod([w for _, w in corner])
            out[(n, slice(None), *point)] += weight * x[(n, slice(None), *place)]
    return out


def framed(x, widths, value):
    """``value`` around the array; negative widths cut."""
    x = np.pad(x, [(max(a, 0), max(b, 0)) for a, b in widths], constant_values=value)
    return x[tuple([slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape, widths, strict=True)])]


def rearranged(x, split, order, shape):
    """The dims of x, seen as ``split``, in another order."""
    return x.reshape(split).transpose(order).reshape(shape)


def bag_sums(table, indices, starts, weights, mean, padding_idx):
    """The weighted sum or the mean of the rows of each bag, in float64."""
    out = np.zeros((len(starts) - 1, table.shape[1]))
    for bag in range(len(out)):
        places = [k for k in range(starts[bag], starts[bag + 1]) if indices[k] != padding_idx]
        for k in places:
            out[bag] += table[indices[k]].astype(np.float64) * (1 if weights is None else weights[k])
        out[bag] /= max(len(places), 1) if mean else 1
    return out


def eigen(A):
    """(ascending eigenvalues, vectors as columns) of a symmetric matrix, by Jacobi's rotations."""
    A, V = A.astype(np.float64), np.eye(len(A))
    while np.linalg.norm(np.triu(A, 1)) > 1e-14 * np.linalg.norm(A):
        for i in range(len(A)):
            for j in range(i + 1, len(A)):
                angle = 0.5 * math.atan2(2 * A[i, j], A[j, j] - A[i, i])
                G = np.eye(len(A))
                G[[i, j], [i, j]], G[i, j], G[j, i] = math.cos(angle), math.sin(angle), -math.sin(angle)
                A, V = G.T @ A @ G, V @ G
    order = np.argsort(np.diag(A))
    return np.diag(A)[order], V[:, order]


def singular(A):
    """(U, values, V transposed) of a matrix with no fewer rows than columns and full rank: A^T A = V S^2 V^T."""
    values, V = eigen(A.astype(np.float64).T @ A)
    values, V = np.sqrt(values[::-1]), V[:, ::-1]
    return A @ V / values, values, V.T
