"""Finding writes that the engine cannot see: those through NumPy arrays that share a tensor's memory."""

from __future__ import annotations

from weakref import ref
from zlib import crc32

import numpy as np

from . import provenance, storage
from .errors import OpError, shape_text
from .modes import Watcher
from .tensor import Tensor


class detect_writes(Watcher):
    """While entered, operations note a checksum of what they save; backward refuses what has changed without a trace.

        with ag.autograd.detect_writes():
            loss = step(x)          # then: x.numpy()[0] = 5
            loss.backward()         # an error that names the operation, in place of a wrong gradient

    In-place operations are seen without it. It reads all that is saved: for debugging.
    """

    def call(self, op, args, static):
        """Let the operation run, then note what its node has saved."""
        result = super().call(op, args, static)
        for out in result if isinstance(result, tuple) else (result,):
            if isinstance(out, Tensor) and out.node is not None and out.node.saved:
                check = _Unchanged(out.node)
                if out.node.hooks is None:
                    out.node.hooks = {}
                out.node.hooks.setdefault(out.index, {})[id(check)] = check
        return result


class _Unchanged:
    """A hook that compares what a node saved with what it is now."""

    def __init__(self, node):
        self.node, self.sums = ref(node), _checksums(node.saved)

    def __call__(self, gradient):
        node = self.node()
        if node is None or node.saved is None or (sums := _checksums(node.saved)) == self.sums:
            return
        arrays = _arrays(node.saved)
        if any(storage.write_since(a, node.number) is not None for a in arrays):
            return  # by an in-place operation: the engine's own error names its line
        changed = [shape_text(a) for a, now, then in zip(arrays, sums, self.sums, strict=True) if now != then]
        error = OpError(f"a value that {node.op.name} saved has been changed through a NumPy array of its memory: "
                        f"{', '.join(changed)}\n  saved by {node.where()}\n"
                        f"  noticed at {provenance.describe(provenance.site())}")  # fmt: skip
        error.explained = True  # type: ignore[attr-defined]
        raise error


def _arrays(saved):
    values = [a for value in saved for a in (value if isinstance(value, tuple) else (value,))]
    return [a for a in values if isinstance(a, np.ndarray)]


def _checksums(saved):
    return [crc32(a.tobytes()) for a in _arrays(saved)]
