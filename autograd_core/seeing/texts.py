"""Small texts that pictures, trees and tables share: numbers with units, names of modules."""

from __future__ import annotations

from .graphs import Module


def time_text(seconds: float | None) -> str:
    """A time with a unit that suits it: ``1.23 ms``."""
    if seconds is None:
        return ""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def number_text(value: float | None) -> str:
    """A number in three digits."""
    return "no finite value" if value is None else f"{value:.3g}"


def size_text(count: float | None) -> str:
    """A number of bytes: ``2.41 MB``."""
    return "" if count is None else f"{count_text(count)}B"


def count_text(count: float) -> str:
    """A number with a letter for thousands, millions, ...: ``12.3 G`` (with the blank before what it counts)."""
    for unit in ("", "k", "M", "G"):
        if abs(count) < 999.5:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} T"


def module_title(module: Module) -> str:
    """A module's name and type, with the count where it stands for several: ``layers.0 … 5: Block   ×6``."""
    if module.type == "repeat":
        name = "a round"
    else:
        first, last = module.fold.get("names", [module.name] * 2) if module.fold else (module.name, module.name)
        stem = first.rpartition(".")[0]
        tail = last.removeprefix(f"{stem}.") if stem else last
        name = first if first == last else f"{first} … {tail}"
        name = name if module.type in ("", "scope", name) else f"{name}: {module.type}"
    return f"{name}   ×{module.fold['count']}" if module.fold else name
