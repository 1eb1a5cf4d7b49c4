"""Sums of products written as an equation: `einsum`, as permutes and matrix products of two operands at a time."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

from .. import ops
from ..registry import composite, op
from .samples import real, sample

LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@op(composite, method=False, signature="equation, *operands",
    samples=[sample("ij,jk->ik", real(2, 3), real(3, 4)), sample("bij,bjk->bki", real(2, 3, 4), real(2, 4, 2)),
             sample("ii->i", real(3, 3)), sample("...i,oij,...j->...o", real(2, 4), real(3, 4, 5), real(2, 5)),
             sample("ij->", real(2, 3)), sample("i,j", real(2), real(3)),
             sample(real(2, 3), [0, 1], real(3), [1], [0])])  # fmt: skip
def einsum(*args):
    """Sum of products by an equation such as ``"bij,bjk->bik"``.

    Letters name dimensions. Without ``->`` the result has the letters that occur once, in alphabetical order. A letter
    repeated in an operand takes its diagonal, ``...`` stands for any dims (broadcast), a dim of size 1 broadcasts.
    Operands may also be given as tensor, list of ints, tensor, list of ints, ..., list of ints of the result.
    """
    terms, out, operands = _read(args)
    steps, last = _plan(terms, out, tuple([tuple(x.shape) for x in operands]))
    for function, places, settings in steps:
        operands.append(function(*[operands[place] for place in places], *settings))
    return operands[last]


@lru_cache(512)
def _plan(terms, out, shapes):
    """The steps of an einsum of operands of these shapes, and the place of its result. See `Steps`."""
    terms, out = _spell_out(terms, out, tuple(map(len, shapes)))
    sizes: dict[str, int] = {}
    for position, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) not in (1, size) and size != 1:
                raise RuntimeError(f"einsum: operand {position} has size {size} for {letter!r}, another has "
                                   f"{sizes[letter]}")  # fmt: skip
            sizes[letter] = size if sizes[letter] == 1 else sizes[letter]
    steps = Steps(shapes)
    pairs: list[Any] = [_simplify(term, steps.operand(place), sizes) for place, term in enumerate(terms)]
    while len(pairs) > 1:
        first, second = _cheapest(pairs, out, sizes)
        others = [p for k, p in enumerate(pairs) if k not in (first, second)]
        wanted = set(out).union(*[term for term, _ in others])
        joined = _contract(*pairs[first], *pairs[second], wanted)
        pairs = [*others[:first], joined, *others[first:]]
    term, x = _sum_out(*pairs[0], set(out))
    return steps.taken, _permuted(term, x, out).place


class Steps:
    """Collects what is to be done with operands of which only the shapes are known.

    A step is (function, places of its operands, settings); its result gets the next place.
    """

    def __init__(self, shapes):
        self.shapes, self.taken = list(shapes), []

    def operand(self, place):
        """What is at ``place``."""
        return Operand(self, place, self.shapes[place])

    def take(self, function, shape, operands, *settings):
        """Add a step whose result has ``shape``."""
        self.taken.append((function, tuple([x.place for x in operands]), settings))
        self.shapes.append(tuple(shape))
        return self.operand(len(self.shapes) - 1)


class Operand(NamedTuple):
    """One of the operands, or the result of a step."""

    steps: Steps
    place: int
    shape: tuple[int, ...]

    def reshape(self, shape):
        """See `ops.reshape`."""
        return self if shape == self.shape else self.steps.take(ops.reshape, shape, [self], shape)

    def permute(self, order):
        """See `ops.permute`."""
        if order == tuple(range(len(order))):
            return self
        return self.steps.take(ops.permute, [self.shape[d] for d in order], [self], order)

    def sum(self, dims):
        """See `ops.sum`."""
        return self.steps.take(ops.sum, [n for d, n in enumerate(self.shape) if d not in dims], [self], dims)

    def diagonal(self, first, second):
        """See `ops.diagonal`."""
        rest = [n for d, n in enumerate(self.shape) if d not in (first, second)]
        return self.steps.take(ops.diagonal, [*rest, self.shape[first]], [self], 0, first, second)


def _read(args):
    """Terms, result (None: implied) and operands of either way to call it."""
    if isinstance(args[0], str):
        operands = args[1:]
        if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
            operands = operands[0]
        terms, out = _parse(args[0])
    else:
        operands, lists = args[0::2], args[1::2]
        out = None
        if len(operands) > len(lists):
            *operands, last = operands
            out = _letters(last)
        terms = tuple([_letters(numbers) for numbers in lists])
    if not operands:
        raise ValueError("einsum: must provide at least one operand")
    if len(terms) != len(operands):
        raise ValueError(f"einsum: the equation has {len(terms)} terms for {len(operands)} operands")
    return terms, out, list(operands)


@lru_cache(512)
def _parse(equation):
    """The terms of an equation, and its result (None: implied)."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    for text in (*left.split(","), right):
        for letter in text.replace("...", "", 1):
            if letter not in LETTERS:
                raise RuntimeError(f"einsum: {letter!r} in {equation!r} is no letter; a term has at most one '...'")
    return tuple(left.split(",")), right if arrow else None


def _letters(numbers):
    for number in numbers:
        if number is not Ellipsis and not 0 <= number < len(LETTERS):
            raise ValueError(f"einsum: a label must be in 0..{len(LETTERS) - 1}, got {number}")
    return "".join("..." if n is Ellipsis else LETTERS[n] for n in numbers)


def _spell_out(terms, out, ndims):
    """Terms without ``...`` (its dims get digits, counted from the last) and an explicit result."""
    longest, spelled = 0, []
    for position, (term, ndim) in enumerate(zip(terms, ndims, strict=True)):
        letters = term.replace("...", "")
        extra = ndim - len(letters)
        if extra < 0 or (extra and "..." not in term):
            raise RuntimeError(f"einsum: operand {position} has {ndim} dims, its term {term!r} names {len(letters)}")
        longest = max(longest, extra)
        spelled.append(term.replace("...", "".join(chr(48 + i) for i in reversed(range(extra)))))
    dots = "".join(chr(48 + i) for i in reversed(range(longest)))
    if out is None:
        letters = "".join(terms).replace("...", "")
        out = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    else:
        out = out.replace("...", dots)
    for letter in out:
        if out.count(letter) > 1:
            raise RuntimeError(f"einsum: the result names {letter!r} more than once")
        if not any(letter in term for term in spelled):
            raise RuntimeError(f"einsum: the result names {letter!r}, which no operand has")
    return spelled, out


def _simplify(term, x, sizes):
    """An operand with repeated letters as diagonals, and without the dims of size 1 that are only broadcast."""
    for letter in sorted(set(term)) if len(set(term)) < len(term) else ():
        while term.count(letter) > 1:
            first, second = term.index(letter), term.rindex(letter)
            if x.shape[first] != x.shape[second]:
                raise RuntimeError(f"einsum: {letter!r} is repeated for sizes {x.shape[first]} and {x.shape[second]}")
            x = x.diagonal(first, second)
            term = "".join(c for k, c in enumerate(term) if k not in (first, second)) + letter
    keep = [k for k, c in enumerate(term) if not (x.shape[k] == 1 and sizes[c] != 1)]
    if len(keep) < len(term):
        x = x.reshape(tuple(x.shape[k] for k in keep))
        term = "".join(term[k] for k in keep)
    return term, x


def _cheapest(pairs, out, sizes):
    """The two operands to join next: the first two, or with more the pair of the fewest multiplications."""
    count = len(pairs)
    if count == 2:
        return 0, 1
    return min(((i, j) for i in range(count) for j in range(i + 1, count)),
               key=lambda p: (prod(sizes[c] for c in set(pairs[p[0]][0] + pairs[p[1]][0])), p))  # fmt: skip


def _sum_out(term, x, wanted):
    dims = tuple(k for k, c in enumerate(term) if c not in wanted)
    return ("".join(c for c in term if c in wanted), x.sum(dims)) if dims else (term, x)


def _permuted(term, x, wanted):
    return x.permute(tuple(term.index(c) for c in wanted))


def _contract(left, x, right, y, wanted):
    """Two operands as one: letters in both are batch dims where ``wanted``, else summed by a matrix product."""
    left, x = _sum_out(left, x, wanted | set(right))
    right, y = _sum_out(right, y, wanted | set(left))
    shared = [c for c in left if c in right]
    batch, summed = [c for c in shared if c in wanted], [c for c in shared if c not in wanted]
    rows, columns = [c for c in left if c not in shared], [c for c in right if c not in shared]
    size = {**dict(zip(right, y.shape, strict=True)), **dict(zip(left, x.shape, strict=True))}

    def lengths(letters):
        return tuple(size[c] for c in letters)

    x, y = _permuted(left, x, [*batch, *rows, *summed]), _permuted(right, y, [*batch, *summed, *columns])
    joined = [*batch, *rows, *columns]
    if not summed:  # no sums: a plain product, broadcast
        x = x.reshape((*lengths([*batch, *rows]), *[1] * len(columns)))
        y = y.reshape((*lengths(batch), *[1] * len(rows), *lengths(columns)))
        return "".join(joined), x.steps.take(ops.mul, lengths(joined), [x, y])
    b, m, k, n = (lengths(part) for part in (batch, rows, summed, columns))
    x, y = x.reshape((*b, prod(m), prod(k))), y.reshape((*b, prod(k), prod(n)))
    product = x.steps.take(ops.matmul, (*b, prod(m), prod(n)), [x, y])
    return "".join(joined), product.reshape((*b, *m, *n))


