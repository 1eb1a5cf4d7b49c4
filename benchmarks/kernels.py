"""Rows of single operations at the sizes where time goes: convolution, products, normalisation, losses, updates."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from autograd_core.ops.samples import Sample, integer, real

from .cases import Case, FunctionCase, Job, cotangent

CONVOLUTIONS = (
    # batch, in, out, size, kernel, stride
    (128, 1, 6, 28, 5, 1), (128, 6, 16, 14, 5, 1), (128, 16, 16, 32, 3, 1), (128, 32, 32, 16, 3, 1),
    (128, 64, 64, 8, 3, 1), (8, 64, 64, 56, 3, 1), (8, 512, 512, 7, 3, 1), (8, 256, 64, 56, 1, 1),
    (8, 3, 64, 224, 7, 2),
)  # fmt: skip
DEPTHWISE = ((8, 128, 128, 28, 3, 1),)
FLOAT = 4  # bytes


def convolutions(shapes, depthwise: bool):
    """Each forward, and forward and backward; padding keeps the size, but for the stride."""
    for batch, before, after, size, kernel, stride in shapes:
        groups, outside = before if depthwise else 1, -(-size // stride)
        flops = 2 * batch * after * outside**2 * before // groups * kernel**2
        sizes = batch, before, after, size, kernel, stride
        for times, passes in ((1, "forward"), (3, "forward + backward")):
            yield FunctionCase(
                group="kernels", name=f"conv {'depthwise ' * depthwise}{sizes}, {passes}", aim=1.3,
                function=lambda lib, x, w, **settings: lib.nn.functional.conv2d(x, w, **settings),
                inputs=Sample((real(batch, before, size, size), real(after, before // groups, kernel, kernel)),
                              {"stride": stride, "padding": kernel // 2, "groups": groups}),
                backward=times > 1, flops=times * flops,
            )  # fmt: skip


def products():
    """Square matrices, and many small ones; forward, as NumPy does them too, then with the backward."""
    for name, batch, n in [(f"matmul {n}", 1, n) for n in (16, 64, 256, 1024)] + [("matmul 64 x (64x64)", 64, 64)]:
        shape = (n, n) if batch == 1 else (batch, n, n)
        for times, passes in ((1, "forward"), (3, "forward + backward")):
            yield FunctionCase(
                group="kernels", name=f"{name}, {passes}", aim=1.0, function=lambda lib, a, b: lib.matmul(a, b),
                inputs=Sample((real(*shape), real(*shape)), {}), backward=times > 1, flops=times * batch * 2 * n**3,
                contestants=("ours", "torch") if times > 1 else ("ours", "torch", "numpy"),
            )  # fmt: skip


STREAMS = (
    # name, function, inputs for a million elements, how often a pass over memory must read or write an element
    ("softmax", lambda lib, x: lib.nn.functional.softmax(x, -1), (real(1000, 1000),), 5),
    ("layer norm", lambda lib, x, w, b: lib.nn.functional.layer_norm(x, tuple(w.shape), w, b),
     (real(1000, 1000), real(1000), real(1000)), 5),
    ("batch norm", lambda lib, x, w, b: lib.nn.functional.batch_norm(x, None, None, w, b, True),
     (real(16, 64, 32, 32), real(64), real(64)), 6),
    ("max pool 2", lambda lib, x: lib.nn.functional.max_pool2d(x, 2), (real(16, 64, 32, 32),), 2.5),
    ("cross-entropy", lambda lib, x, t: lib.nn.functional.cross_entropy(x, t),
     (real(1000, 1000), integer(1000, low=0, high=1000)), 3),
    ("GELU", lambda lib, x: lib.nn.functional.gelu(x), (real(1000, 1000, low=-5, high=5),), 5),
)  # fmt: skip


def streams():
    """Rows that memory bounds, forward and backward, at 1 and 10 million elements."""
    for millions in (1, 10):
        for name, function, inputs, touched in STREAMS:
            # what has the batch dimension grows with it
            grown = [v._replace(shape=(millions * v.shape[0], *v.shape[1:])) if v.kind == "integer" or len(v.shape) > 1
                     else v for v in inputs]  # fmt: skip
            size = float(np.prod(grown[0].shape))
            yield FunctionCase(
                group="kernels", name=f"{name}, {millions} M, forward + backward", function=function, backward=True,
                inputs=Sample(tuple(grown), {}), bytes=touched * FLOAT * size, aim=1.5,
            )  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class UpdateCase(Case):
    """One step of an optimizer; the result that is compared is what the parameters become."""

    tensors: int
    size: int

    def job(self, engine, dtype=np.float32) -> Job:
        """See `Case`."""
        parameters = [engine.lib.nn.Parameter(engine.tensor(np.zeros(self.size, dtype))) for _ in range(self.tensors)]
        for parameter in parameters:
            parameter.grad = engine.tensor(cotangent((self.size,), dtype))
        optimizer = engine.lib.optim.Adam(parameters, lr=1e-3)

        def results():
            optimizer.step()
            return {"parameter": engine.numpy(parameters[-1])}

        return Job(optimizer.step, results)

    def leaves(self) -> dict[str, np.ndarray]:
        """See `Case`."""
        return {}

    def shrunk(self) -> UpdateCase:
        """See `Case`."""
        return replace(self, tensors=2, size=10)


ADAM = UpdateCase(group="kernels", name="Adam update, 1 M parameters in 50 tensors", tensors=50, size=20_000, aim=1.5,
                  bytes=7.0 * FLOAT * 10**6)  # reads parameter, gradient and two means; writes all but the gradient


def cases() -> list[Case]:
    """All of them."""
    return [*convolutions(CONVOLUTIONS, False), *convolutions(DEPTHWISE, True), *products(), *streams(), ADAM]
