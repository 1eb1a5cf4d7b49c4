"""Containers: Sequential, and lists and dictionaries of modules or parameters."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

from autograd_core import Tensor

from .module import Module
from .parameter import Parameter


class _Numbered(Module):
    """What Sequential and ModuleList share: submodules named "0", "1", ... that behave as a list."""

    def _key(self, index):
        """The name of the entry at ``index``, which may count from the end."""
        index, size = operator.index(index), len(self)
        if not -size <= index < size:
            raise IndexError(f"index {index} is out of range for {type(self).__name__} of {size} modules")
        return list(self._modules)[index]

    def _renumber(self, modules):
        self._modules.clear()
        for number, module in enumerate(modules):
            self.add_module(str(number), module)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self._part(list(self._modules.items())[index])
        return self._modules[self._key(index)]

    def __setitem__(self, index, module):
        setattr(self, self._key(index), module)

    def __delitem__(self, index):
        doomed = [self._key(i) for i in range(len(self))[index]] if isinstance(index, slice) else [self._key(index)]
        for key in doomed:
            delattr(self, key)
        self._renumber(list(self._modules.values()))

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules.values())

    def __contains__(self, module):
        return any(module is held for held in self._modules.values())

    def __dir__(self):
        return [key for key in super().__dir__() if not key.isdigit()]

    def append(self, module):
        """Add a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index, module):
        """Put a module before the one at ``index``."""
        modules = list(self._modules.values())
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type Module, got {type(module).__name__}")
        size = len(modules)
        if not -size <= index <= size:
            raise IndexError(f"Index out of range: {index} for {size} modules")
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def extend(self, modules):
        """Add several modules at the end."""
        if not isinstance(modules, Iterable):
            raise TypeError(f"{type(self).__name__}.extend should be called with an iterable, got "
                            f"{type(modules).__name__}")  # fmt: skip
        for module in list(modules):
            self.append(module)
        return self

    def pop(self, index=-1):
        """Take the module at ``index`` out and return it."""
        found = self[index]
        del self[index]
        return found


class Sequential(_Numbered):
    """Modules called one after the other: ``Sequential(a, b)(x)`` is ``b(a(x))``.

    Takes modules, or one ordered dictionary of names and modules. Behaves as a list: indices, slices, ``append``,
    ``insert``, ``extend``, ``pop``, ``+`` and ``*``.
    """

    def __init__(self, *args):
        super().__init__()
        named = args[0].items() if len(args) == 1 and isinstance(args[0], OrderedDict) else enumerate(args)
        for name, module in named:
            self.add_module(str(name), module)

    def _part(self, items):
        return type(self)(OrderedDict(items))

    def forward(self, input):
        """Call the modules one after the other."""
        for module in self._modules.values():
            input = module(input)
        return input

    def __add__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return Sequential(*self, *other)

    def __iadd__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return self.extend(other)

    def _check_times(self, times):
        if not isinstance(times, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(times)}")
        if times <= 0:
            raise ValueError(f"Non-positive multiplication factor {times} for {type(self)}")

    def __mul__(self, times):
        self._check_times(times)
        return Sequential(*[module for _ in range(times) for module in self])

    __rmul__ = __mul__

    def __imul__(self, times):
        self._check_times(times)
        return self.extend(list(self) * (times - 1))


class _Holder(Module):
    """A container that is not called itself: its entries are named through it, as in ``layers.0``."""

    def _named(self, label):
        super()._named(label)
        for name, module in self._modules.items():
            if module is not None:
                module._named(f"{label}.{name}")

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if isinstance(value, Module) and self._label is not None:
            value._named(f"{self._label}.{name}")

    def add_module(self, name, module):
        """Add a submodule, reachable as an attribute of that name."""
        super().add_module(name, module)
        if module is not None and self._label is not None:
            module._named(f"{self._label}.{name}")


class ModuleList(_Holder, _Numbered):
    """A list of modules whose parameters are found; it can do what lists can."""

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def _part(self, items):
        return type(self)([module for _, module in items])

    def __add__(self, other):
        return ModuleList(chain(self, other))

    def __iadd__(self, other):
        return self.extend(other)

    def __repr__(self):
        """As any module's, with runs of equal entries written once: ``(0-5): 6 x Linear(...)``."""
        runs: list[list] = []
        for number, module in enumerate(self):
            text = repr(module)
            if runs and runs[-1][2] == text:
                runs[-1][1] = number
            else:
                runs.append([number, number, text])
        if not runs:
            return f"{self._get_name()}()"
        lines = []
        for first, last, text in runs:
            line = f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}"
            lines.append("  " + line.replace("\n", "\n  "))
        return f"{self._get_name()}(\n" + "\n".join(lines) + "\n)"


class ModuleDict(_Holder):
    """A dictionary of modules whose parameters are found."""

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key):
        return self._modules[key]

    def __setitem__(self, key, module):
        self.add_module(key, module)

    def __delitem__(self, key):
        del self._modules[key]

    def __len__(self):
        return len(self._modules)

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, key):
        return key in self._modules

    def clear(self):
        """Remove all entries."""
        self._modules.clear()

    def pop(self, key):
        """Remove an entry and return its module."""
        found = self[key]
        del self[key]
        return found

    def keys(self):
        """The names."""
        return self._modules.keys()

    def items(self):
        """The (name, module) pairs."""
        return self._modules.items()

    def values(self):
        """The modules."""
        return self._modules.values()

    def update(self, modules):
        """Add or replace the entries of a dictionary, of another ModuleDict, or of (name, module) pairs."""
        for key, module in _pairs(modules, "ModuleDict"):
            self[key] = module


def _pairs(entries, what):
    if isinstance(entries, (Mapping, ModuleDict, ParameterDict)):
        return list(entries.items())
    if not isinstance(entries, Iterable):
        raise TypeError(f"{what}.update should be called with an iterable of key/value pairs, but got "
                        f"{type(entries).__name__}")  # fmt: skip
    pairs = []
    for number, entry in enumerate(entries):
        if not isinstance(entry, Iterable):
            raise TypeError(f"{what} update sequence element #{number} should be Iterable; is {type(entry).__name__}")
        entry = list(entry)
        if len(entry) != 2:
            raise ValueError(f"{what} update sequence element #{number} has length {len(entry)}; 2 is required")
        pairs.append(tuple(entry))
    return pairs


def _kept(value):
    """What a parameter container holds in place of ``value``: Tensors become parameters."""
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _describe(value):
    if isinstance(value, Tensor):
        kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
        return f"{kind} containing: [{value.dtype} of size {'x'.join(map(str, value.shape))}]"
    return f"Object of type: {type(value).__name__}"


class ParameterList(Module):
    """A list of parameters (other values may stand among them); Tensors that are put in become parameters."""

    def __init__(self, values=None):
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def _key(self, index):
        index = operator.index(index)
        if not -self._size <= index < self._size:
            raise IndexError(f"index {index} is out of range")
        return str(index % self._size)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)([self[i] for i in range(self._size)[index]])
        return getattr(self, self._key(index))

    def __setitem__(self, index, value):
        setattr(self, self._key(index), _kept(value))

    def __len__(self):
        return self._size

    def __iter__(self):
        return iter([self[i] for i in range(self._size)])

    def __iadd__(self, values):
        return self.extend(values)

    def __dir__(self):
        return [key for key in super().__dir__() if not key.isdigit()]

    def append(self, value):
        """Add a parameter (or another value) at the end."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values):
        """Add several values at the end."""
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self):
        """One line an entry."""
        return "\n".join(f"  ({number}): {_describe(value)}" for number, value in enumerate(self))

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """A dictionary of parameters (other values may stand among them); Tensors that are put in become parameters."""

    def __init__(self, parameters=None):
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    @staticmethod
    def _checked(key):
        if not isinstance(key, str):
            raise TypeError("Index given to ParameterDict cannot be used as a key as it is not a string (type is "
                            f"'{type(key).__name__}')")  # fmt: skip
        return key

    def __getitem__(self, key):
        if self._checked(key) not in self._keys:
            raise KeyError(key)
        return getattr(self, key)

    def __setitem__(self, key, value):
        self._keys[self._checked(key)] = None
        setattr(self, key, _kept(value))

    def __delitem__(self, key):
        del self._keys[key]
        delattr(self, key)

    def __len__(self):
        return len(self._keys)

    def __iter__(self):
        return iter(self._keys)

    def __reversed__(self):
        return reversed(self._keys)

    def __contains__(self, key):
        return key in self._keys

    def copy(self):
        """A new ParameterDict of the same entries."""
        return ParameterDict(OrderedDict(self.items()))

    def setdefault(self, key, default=None):
        """The value at ``key``, which becomes ``default`` where there was none."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self):
        """Remove all entries."""
        for key in list(self._keys):
            del self[key]

    def pop(self, key):
        """Remove an entry and return its value."""
        found = self[key]
        del self[key]
        return found

    def popitem(self):
        """Remove the newest entry and return its (key, value)."""
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def get(self, key, default=None):
        """The value at ``key``, or ``default``."""
        return self[key] if key in self._keys else default

    @classmethod
    def fromkeys(cls, keys, default=None):
        """A ParameterDict with ``default`` at each key."""
        return cls((key, default) for key in keys)

    def keys(self):
        """The keys."""
        return self._keys.keys()

    def items(self):
        """The (key, value) pairs."""
        return [(key, self[key]) for key in self._keys]

    def values(self):
        """The values."""
        return [self[key] for key in self._keys]

    def update(self, parameters):
        """Add or replace the entries of a mapping or of (key, value) pairs."""
        pairs: Any = _pairs(parameters, "ParameterDict")
        if isinstance(parameters, Mapping) and not isinstance(parameters, OrderedDict):
            pairs.sort(key=operator.itemgetter(0))  # as PyTorch does, whose order checkpoints of optimizers follow
        for key, value in pairs:
            self[key] = value

    def extra_repr(self):
        """One line an entry."""
        return "\n".join(f"  ({key}): {_describe(value)}" for key, value in self.items())

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterDict should not be called.")

    def __or__(self, other):
        made = self.copy()
        made.update(other)
        return made

    def __ror__(self, other):
        made = other.copy()
        made.update(self)
        return made

    def __ior__(self, other):
        self.update(other)
        return self
