"""A graph as one HTML page that needs no network: to open from disk, to send, or to see in a notebook."""

from __future__ import annotations

import html
import json
import re
from functools import cache
from importlib.resources import files
from typing import Any

SCRIPTS = ("model", "layout", "colour", "scene", "draw", "panel", "table", "search", "controls", "main")
"""Files of the page's program in ``web/``, in the order in which they are read."""


def page(graph: Any, marks: dict[str, tuple[str, str]] | None = None) -> str:
    """The interactive page of a graph, as HTML text.

    ``graph``: a Graph, or the dict that its ``json()`` gives. The page holds styles, program and data; it draws modules
    that open and close, forward and backward side by side, and colours, details, a search and a table of all nodes.
    ``marks``: by key, (kind of change, remark), for the difference of two graphs.
    """
    data = graph if isinstance(graph, dict) else graph.json()
    if marks:
        nodes = [{**node, "change": _change(marks.get(node["id"]))} for node in data["nodes"]]
        data = {**data, "nodes": nodes}
    parts = {
        "title": html.escape(str(data.get("title") or "Graph")),
        "style": _web("style.css"),
        "script": "\n".join(_web(f"{name}.js") for name in SCRIPTS),
        "data": _safe_json(data),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _web("page.html"))


def embedded(graph: Any, height: int = 640) -> str:
    """The page of a graph inside a frame, for notebooks: what ``_repr_html_`` of a graph gives."""
    return framed(page(graph), height)


def framed(text: str, height: int = 640) -> str:
    """A page (HTML text) inside a frame of ``height`` pixels, as part of another page."""
    style = f"width:100%;height:{height}px;border:1px solid #8884;border-radius:8px"
    return (
        f'<iframe sandbox="allow-scripts" style="{style}" '
        f'title="Interactive graph" srcdoc="{html.escape(text)}"></iframe>'
    )


def _change(mark):
    return None if mark is None else {"kind": mark[0], "text": mark[1]}


@cache
def _web(name: str) -> str:
    return (files(__package__) / "web" / name).read_text("utf-8")


def _safe_json(data: dict[str, Any]) -> str:
    """JSON that no browser can take for the end of its script element, whatever the names in it hold."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
