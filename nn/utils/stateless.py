"""Calling a module with other tensors in place of its parameters and buffers."""

from __future__ import annotations

from contextlib import contextmanager


def _tied(module, tensors):
    """``tensors`` with each also under the other names that its parameter or buffer has in the module."""
    names: dict[int, list[str]] = {}
    for members in (module.named_parameters, module.named_buffers):
        for name, tensor in members(remove_duplicate=False):
            names.setdefault(id(tensor), []).append(name)
    given = dict(tensors)
    for group in names.values():
        chosen = [name for name in group if name in tensors]
        if len({id(tensors[name]) for name in chosen}) > 1:
            raise ValueError(f"functional_call got multiple values for keys {chosen}, which are tied. "
                             "Consider using tie_weights=False")  # fmt: skip
        if chosen:
            given.update(dict.fromkeys(group, tensors[chosen[0]]))
    return given


def _place(module, name):
    """The dictionary that holds the parameter or buffer ``name`` of the module, and its key there."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    for held in (owner._parameters, owner._buffers):
        if last in held:
            return held, last
    raise KeyError(name)


@contextmanager
def swapped(module, tensors, tie_weights=True, strict=False):
    """Inside, the module holds ``tensors`` in place of its parameters and buffers of those names."""
    known = {n for n, _ in (*module.named_parameters(remove_duplicate=False),
                            *module.named_buffers(remove_duplicate=False))}  # fmt: skip
    tensors = _tied(module, tensors) if tie_weights else dict(tensors)
    unexpected = [name for name in tensors if name not in known]
    missing = [name for name in known if name not in tensors] if strict else []
    if (strict and unexpected) or missing:
        raise RuntimeError(f"Unexpected key(s): {', '.join(unexpected)}; missing key(s): {', '.join(sorted(missing))}.")
    if unexpected:
        raise AttributeError(f"{type(module).__name__} has no parameter or buffer named {', '.join(unexpected)}")
    before = []
    try:
        for name, tensor in tensors.items():
            held, key = _place(module, name)
            before.append((held, key, held[key]))
            held[key] = tensor
        yield module
    finally:
        for held, key, tensor in reversed(before):
            held[key] = tensor


def functional_call(module, parameters_and_buffers, args=None, kwargs=None, *, tie_weights=True, strict=False):
    """``module(*args, **kwargs)`` with the given tensors, by dotted name, in place of its parameters and buffers.

    Gradients pass to the given tensors. ``tie_weights``: a tensor given for one of several names of a shared
    parameter stands for all of them. ``strict``: every name must be given, and no other.
    """
    if isinstance(parameters_and_buffers, (tuple, list)):
        parameters_and_buffers = {name: t for part in parameters_and_buffers for name, t in part.items()}
    args = () if args is None else args if isinstance(args, tuple) else (args,)
    with swapped(module, parameters_and_buffers, tie_weights, strict):
        return module(*args, **(kwargs or {}))
