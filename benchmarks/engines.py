"""The contestants. PyTorch's names serve two of them; the others are found by name and believed when values agree."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np

from .cases import Job, StepCase, Unserved, arrays_in, cotangent, mapped


class Engine:
    """A contestant: how its functions are found, called, differentiated and waited for."""

    name = title = package = ""
    note = ""

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads

    @classmethod
    def installed(cls) -> bool:
        """Whether its package can be imported."""
        return find_spec(cls.package) is not None

    @classmethod
    def version(cls) -> str:
        """The installed version."""
        try:
            return version(cls.package.replace("_", "-"))
        except PackageNotFoundError:  # a checkout on the path
            return str(getattr(import_module(cls.package), "__version__", "unknown"))

    def find(self, qualified: str) -> Callable | None:
        """The function that goes by PyTorch's name ``qualified``, or None."""
        raise NotImplementedError

    def spelled(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """A call's arguments in this engine's spelling."""
        return args, kwargs

    def function_job(self, function: Callable, args: tuple, kwargs: dict[str, Any], backward: bool) -> Job:
        """``function`` of arrays made ready, with the gradients of all floating-point arrays if ``backward``."""
        raise NotImplementedError

    def step_job(self, case: StepCase, dtype) -> Job:
        """A training step made ready."""
        raise Unserved("has no modules")


class TorchLike(Engine):
    """An engine with PyTorch's names."""

    @cached_property
    def lib(self) -> Any:
        """The package."""
        lib = import_module(self.package)
        lib.set_num_threads(self.threads)
        return lib

    def find(self, qualified: str) -> Callable | None:
        """See `Engine`."""
        return _attribute(self.lib, qualified) or getattr(self.lib.Tensor, qualified, None)

    def tensor(self, array: np.ndarray) -> Any:
        """A tensor of its own memory."""
        return self.lib.tensor(array)

    def tensors(self, result: Any) -> list:
        """The tensors among results, in order."""
        if isinstance(result, self.lib.Tensor):
            return [result]
        return [t for r in result for t in self.tensors(r)] if isinstance(result, (list, tuple)) else []

    def spelled(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """See `Engine`: dtypes are written as strings in samples."""
        if isinstance(kwargs.get("dtype"), str):
            kwargs = {**kwargs, "dtype": getattr(self.lib, kwargs["dtype"].removeprefix("ag."))}
        return args, kwargs

    def function_job(self, function: Callable, args: tuple, kwargs: dict[str, Any], backward: bool) -> Job:
        """See `Engine`."""
        leaves = []

        def lifted(array):
            made = self.tensor(array)
            if array.dtype.kind == "f" and backward:
                leaves.append(made.requires_grad_())
            return made

        args, kwargs = mapped(lifted, args), mapped(lifted, kwargs)
        function = function if backward else self.compiled(function)
        outputs = [t for t in self.tensors(function(*args, **kwargs)) if t.requires_grad] if backward else []
        if not backward:
            return Job(lambda: function(*args, **kwargs), lambda: _numbered("output", map(
                self.numpy, self.tensors(function(*args, **kwargs)))))  # fmt: skip
        if not leaves or not outputs:
            raise Unserved("no gradient")
        above = [self.tensor(cotangent(tuple(o.shape), self.numpy(o).dtype)) for o in outputs]
        grad = self.lib.autograd.grad

        def both():
            outs = [t for t in self.tensors(function(*args, **kwargs)) if t.requires_grad]
            return grad(outs, leaves, above, allow_unused=True)

        run = self.compiled(both)

        def results():
            found = [None if g is None else self.numpy(g) for g in run()]
            return {k: g for k, g in _numbered("input", found).items() if g is not None}

        return Job(run, results)

    def numpy(self, tensor: Any) -> np.ndarray:
        """The values as an array."""
        return tensor.detach().numpy()

    def _model(self, case: StepCase, state: dict[str, np.ndarray], dtype) -> Any:
        model = case.model(self.lib)
        model = model.double() if np.dtype(dtype) == np.float64 else model
        model.load_state_dict({k: self.tensor(v) for k, v in state.items()})
        return model

    def loss(self, case: StepCase, leaves: dict[str, np.ndarray]) -> np.ndarray:
        """The loss in float64 with these parameters."""
        model = self._model(case, {**case.state(), **leaves}, np.float64)
        return self.numpy(case.loss(self.lib, model, *map(self.tensor, case.arrays(np.float64))))

    def step_job(self, case: StepCase, dtype) -> Job:
        """See `Engine`."""
        model = self._model(case, case.state(), dtype)
        batch = [self.tensor(a) for a in case.arrays(dtype)]
        kind, settings = case.optimizer
        optimizer = getattr(self.lib.optim, kind)(model.parameters(), **settings)

        def step():
            optimizer.zero_grad()
            loss = case.loss(self.lib, model, *batch)
            loss.backward()
            optimizer.step()
            return loss

        run = self.compiled(step)

        def results():
            run()
            return {name: self.numpy(p.grad) for name, p in model.named_parameters() if p.grad is not None}

        return Job(run, results)

    def compiled(self, step: Callable) -> Callable:
        """The step as it is timed."""
        return step


class Ours(TorchLike):
    """The engine of this repository."""

    name, title, package = "ours", "autograd-core", "autograd_core"


class OursCompiled(Ours):
    """The engine of this repository, its steps compiled."""

    name, title = "ours-compiled", "autograd-core, compiled"

    def compiled(self, step: Callable) -> Callable:
        """See `TorchLike`."""
        if not hasattr(self.lib, "compile"):
            raise Unserved("this version has no ag.compile")
        return self.lib.compile(step)


class Torch(TorchLike):
    """PyTorch, eager."""

    name, title, package = "torch", "PyTorch", "torch"


class TorchCompile(Torch):
    """PyTorch's compiler."""

    name, title = "torch-compile", "torch.compile"

    def compiled(self, step: Callable) -> Callable:
        """See `TorchLike`."""
        return self.lib.compile(step)


class Named(Engine):
    """An engine that knows functions by NumPy's names."""

    places: tuple[str, ...] = ()
    aliases: ClassVar[dict[str, str]] = {
        "cat": "concatenate", "concat": "concatenate", "sigmoid": "expit", "special.expit": "expit", "mm": "matmul",
        "bmm": "matmul", "mv": "matmul", "acos": "arccos", "asin": "arcsin", "atan": "arctan", "atan2": "arctan2",
        "acosh": "arccosh", "asinh": "arcsinh", "atanh": "arctanh", "clamp": "clip", "mul": "multiply",
        "sub": "subtract", "div": "divide", "neg": "negative", "eq": "equal", "ne": "not_equal", "lt": "less",
        "le": "less_equal", "gt": "greater", "ge": "greater_equal", "bitwise_not": "invert", "pow": "power",
        "lgamma": "gammaln", "special.gammaln": "gammaln", "digamma": "psi", "permute": "transpose",
    }  # fmt: skip

    @cached_property
    def lib(self) -> Any:
        """The package with NumPy's names."""
        return import_module(self.places[0])

    def find(self, qualified: str) -> Callable | None:
        """See `Engine`."""
        name = self.aliases.get(qualified, qualified.removeprefix("nn.functional.").removeprefix("special."))
        for place in self.places:
            package, _, rest = place.partition(":")
            found = _attribute(import_module(package), f"{rest}.{name}" if rest else name)
            if callable(found):
                return found
        return None

    def spelled(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """See `Engine`."""
        return args, {{"dim": "axis", "dims": "axes", "keepdim": "keepdims"}.get(k, k): v for k, v in kwargs.items()}


class NumPy(Named):
    """NumPy; it has no gradients."""

    name, title, package = "numpy", "NumPy", "numpy"
    places = ("numpy", "scipy.special")

    def function_job(self, function: Callable, args: tuple, kwargs: dict[str, Any], backward: bool) -> Job:
        """See `Engine`."""
        if backward:
            raise Unserved("no gradients")
        return Job(lambda: function(*args, **kwargs),
                   lambda: _numbered("output", _listed(function(*args, **kwargs))))  # fmt: skip


class Hips(Named):
    """HIPS autograd."""

    name, title, package = "autograd", "HIPS autograd", "autograd"
    places = ("autograd.numpy", "autograd.scipy.special")

    def function_job(self, function: Callable, args: tuple, kwargs: dict[str, Any], backward: bool) -> Job:
        """See `Engine`."""
        from autograd import make_vjp

        if not backward:
            return Job(lambda: function(*args, **kwargs),
                       lambda: _numbered("output", _listed(function(*args, **kwargs))))  # fmt: skip
        leaves, call = _split(function, args, kwargs)
        if not leaves:
            raise Unserved("no gradient")
        above = cotangent(np.shape(call(leaves)), leaves[0].dtype)
        both = make_vjp(call)

        def run():
            return both(leaves)[0](above)

        return Job(run, lambda: _numbered("input", run()))


class Jax(Named):
    """JAX; whatever is timed has been compiled by jit."""

    name, title, package = "jax", "JAX jit", "jax"
    places = ("jax.numpy", "jax.nn", "jax.scipy.special", "jax.lax")

    def __init__(self, threads: int = 1) -> None:
        super().__init__(threads)
        if threads == 1:  # takes effect if JAX has not been imported yet
            os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")

    def _precision(self, dtype) -> None:
        import_module("jax").config.update("jax_enable_x64", np.dtype(dtype) == np.float64)

    def function_job(self, function: Callable, args: tuple, kwargs: dict[str, Any], backward: bool) -> Job:
        """See `Engine`."""
        import jax

        arrays = arrays_in((args, kwargs))
        if not arrays:
            raise Unserved("nothing to compute with: jit would store the result")
        floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
        self._precision(arrays[floats[0]].dtype if floats else np.float32)

        def forward(*values):
            waiting = iter(values)
            return _listed(function(*mapped(lambda _: next(waiting), args), **mapped(lambda _: next(waiting), kwargs)))

        values = [jax.numpy.asarray(a) for a in arrays]
        if not backward:
            ready = jax.jit(forward)
            return Job(lambda: jax.block_until_ready(ready(*values)),
                       lambda: _numbered("output", map(np.asarray, ready(*values))))  # fmt: skip
        if not floats:
            raise Unserved("no gradient")

        def both(values, above):
            def of_leaves(*leaves):
                put = dict(zip(floats, leaves, strict=True))
                outs = forward(*[put.get(i, v) for i, v in enumerate(values)])
                return [o for o in outs if np.dtype(o.dtype).kind == "f"]

            outs, pull = jax.vjp(of_leaves, *[values[i] for i in floats])
            return outs, pull(above)

        above = [jax.numpy.asarray(cotangent(o.shape, o.dtype)) for o in jax.eval_shape(forward, *values)
                 if np.dtype(o.dtype).kind == "f"]  # fmt: skip
        ready = jax.jit(both)
        return Job(lambda: jax.block_until_ready(ready(values, above)),
                   lambda: _numbered("input", map(np.asarray, ready(values, above)[1])))  # fmt: skip

    def step_job(self, case: StepCase, dtype) -> Job:
        """See `Engine`."""
        import jax

        from . import jax_functions

        if case.functional is None:
            raise Unserved("not written for JAX")
        self._precision(dtype)
        kind, settings = case.optimizer
        parameters = {k: jax.numpy.asarray(v, dtype) for k, v in case.leaves().items()}
        batch = [jax.numpy.asarray(a) for a in case.arrays(dtype)]
        start, update = getattr(jax_functions, kind.lower())(**settings)

        def loss(parameters, *batch):
            return case.functional(jax_functions, parameters, *batch)

        def step(parameters, moments, *batch):
            value, gradients = jax.value_and_grad(loss)(parameters, *batch)
            parameters, moments = update(parameters, gradients, moments)
            return parameters, moments, value

        ready, held = jax.jit(step, donate_argnums=(0, 1)), [None, None]

        def run():
            if held[0] is None:
                held[:] = jax.tree.map(jax.numpy.copy, parameters), start(parameters)
            *held[:], value = ready(*held, *batch)
            return jax.block_until_ready(value)

        def results():
            return {k: np.asarray(v) for k, v in jax.jit(jax.grad(loss))(parameters, *batch).items()}

        return Job(run, results)


def _attribute(place: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        place = getattr(place, part, None)
    return place


def _numbered(kind: str, values: Any) -> dict[str, Any]:
    return {f"{kind} {i}": v for i, v in enumerate(values)}


def _listed(result: Any) -> list:
    return [v for r in result for v in _listed(r)] if isinstance(result, (list, tuple)) else [result]


def _split(function, args, kwargs):
    """(the floating-point arrays as a tuple, the call as a function of them)."""
    leaves = tuple(a for a in arrays_in((args, kwargs)) if a.dtype.kind == "f")

    def call(values):
        waiting = iter(range(len(leaves)))
        filled = [mapped(lambda a: values[next(waiting)] if a.dtype.kind == "f" else a, v) for v in (args, kwargs)]
        return function(*filled[0], **filled[1])

    return leaves, call


ENGINES: dict[str, type[Engine]] = {
    engine.name: engine for engine in (Ours, OursCompiled, Torch, TorchCompile, Jax, NumPy, Hips)
}
"""Every contestant by its short name."""


def ready(names: Any, threads: int) -> dict[str, Engine]:
    """Those of ``names`` that are installed, with their threads set."""
    return {name: ENGINES[name](threads) for name in names if ENGINES[name].installed()}
