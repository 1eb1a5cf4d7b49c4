"""PDF of the SVG that Graphviz writes, for renderers that know no PDF: paths, shapes and centred texts on one page."""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Iterator
from xml.etree import ElementTree as ET

WIDTHS = dict(zip(map(chr, range(32, 127)), [
    278, 278, 355, 556, 556, 889, 667, 191, 333, 333, 389, 584, 278, 333, 278, 278, *[556] * 10, 278, 278, 584,
    584, 584, 556, 1015, 667, 667, 722, 722, 667, 611, 778, 722, 278, 500, 667, 556, 833, 722, 778, 667, 778,
    722, 667, 611, 722, 667, 944, 667, 667, 611, 278, 278, 278, 469, 556, 333, 556, 556, 500, 556, 556, 278,
    556, 556, 222, 222, 500, 222, 833, 556, 556, 556, 556, 333, 500, 278, 556, 500, 722, 500, 500, 500, 334,
    260, 334, 584], strict=True))  # fmt: skip
"""Widths of Helvetica's characters in thousandths of the size."""
MISSING = {"‖": "||", "→": "->", "≤": "<="}
"""How signs are written that the standard fonts of PDF lack."""
ROUND = 4 / 3 * (math.sqrt(2) - 1)
"""Control points of a quarter of a circle stand so far, in radii, along the tangents."""


def pdf_of(svg: bytes) -> bytes:
    """The picture as a PDF file with one page; texts are in Helvetica and can be searched."""
    root = ET.fromstring(svg)  # our own renderer has written it
    _, _, width, height = map(float, (root.get("viewBox") or "0 0 1 1").split())
    content = "\n".join([f"1 0 0 -1 0 {height:g} cm", *_drawn(root)]).encode("cp1252", "replace")
    packed = zlib.compress(content)
    font = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
    page = (f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {width:g} {height:g}] /Contents 4 0 R "
            "/Resources << /Font << /F 5 0 R >> >> >>")  # fmt: skip
    stream = b"<< /Length %d /Filter /FlateDecode >> stream\n%s\nendstream" % (len(packed), packed)
    head = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>"]
    return _file([*head, page.encode(), stream, font])


def _file(objects) -> bytes:
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, text in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, text)
    table = b"".join([b"%010d 00000 n \n" % place for place in places])
    start, count = len(out), len(objects) + 1
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (count, table)
    out += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (count, start)
    return bytes(out)


def _drawn(element) -> Iterator[str]:
    """The operators that draw an element and what is in it."""
    kind = element.tag.rpartition("}")[2]
    moved = re.search(r"translate\(([-\d.]+)[ ,]([-\d.]+)\)", element.get("transform", ""))
    yield "q"
    if moved:
        yield f"1 0 0 1 {moved[1]} {moved[2]} cm"
    if kind == "text":
        yield from _text(element)
    elif kind in ("path", "polygon", "polyline", "ellipse"):
        yield from _look(element)
        yield {"path": _path, "ellipse": _ellipse}.get(kind, _polygon)(element)
        fills, strokes = (element.get(side, "none") not in ("none", "transparent") for side in ("fill", "stroke"))
        yield "B" if fills and strokes else "f" if fills else "S" if strokes else "n"
    for inner in element:
        yield from _drawn(inner)
    yield "Q"


def _colour(text: str) -> str:
    named = {"black": "#000000", "white": "#ffffff"}.get(text, text)
    digits = named.lstrip("#")[:6]
    if not re.fullmatch(r"[0-9a-fA-F]{6}", digits):
        digits = "000000"
    return " ".join([f"{int(digits[i : i + 2], 16) / 255:.3g}" for i in (0, 2, 4)])


def _look(element) -> Iterator[str]:
    for side, operator in (("fill", "rg"), ("stroke", "RG")):
        if element.get(side, "none") not in ("none", "transparent"):
            yield f"{_colour(element.get(side))} {operator}"
    yield f"{float(element.get('stroke-width', 1)):g} w"
    if dashes := element.get("stroke-dasharray"):
        yield f"[{dashes.replace(',', ' ')}] 0 d"


def _numbers(text) -> list[str]:
    return re.findall(r"-?[\d.]+(?:e-?\d+)?", text)


def _points(numbers) -> list[str]:
    return [f"{x} {y}" for x, y in zip(numbers[::2], numbers[1::2], strict=True)]


def _polygon(element) -> str:
    first, *rest = _points(_numbers(element.get("points", "")))
    return " ".join([f"{first} m", *[f"{point} l" for point in rest]])


def _path(element) -> str:
    parts = []
    for letter, numbers in re.findall(r"([MCL])([^MCLZ]*)", element.get("d", "")):
        points = _points(_numbers(numbers))
        if letter == "C":
            parts += [f"{' '.join(points[i : i + 3])} c" for i in range(0, len(points), 3)]
        else:
            parts += [f"{point} {'m' if letter == 'M' else 'l'}" for point in points]
    return " ".join(parts)


def _ellipse(element) -> str:
    x, y, a, b = (float(element.get(name)) for name in ("cx", "cy", "rx", "ry"))
    parts = [f"{x + a:g} {y:g} m"]
    for c, s in ((1, 0), (0, 1), (-1, 0), (0, -1)):  # from the direction (c, s) to the next, (-s, c)
        curve = ((c - ROUND * s, s + ROUND * c), (-s + ROUND * c, c + ROUND * s), (-s, c))
        parts.append(" ".join([f"{x + a * u:.4f} {y + b * v:.4f}" for u, v in curve]) + " c")
    return " ".join(parts)


def _text(element) -> Iterator[str]:
    text = "".join([MISSING.get(sign, sign) for sign in "".join(element.itertext()).replace("\u00a0", " ")])
    size = float(element.get("font-size", 10))
    width = sum([WIDTHS.get(sign, 556) for sign in text]) * size / 1000
    x = float(element.get("x", 0)) - {"middle": width / 2, "end": width}.get(element.get("text-anchor", ""), 0)
    safe = re.sub(r"([\\()])", r"\\\1", text)
    yield f"BT /F {size:g} Tf {_colour(element.get('fill', 'black'))} rg"
    yield f"1 0 0 -1 {x:.2f} {element.get('y', 0)} Tm ({safe}) Tj ET"
