"""From a notebook to a page: runs the cells, catches what they print, show and draw, and writes HTML.

Prose is Markdown with formulas between `$` or `$$`, which become MathML: the pages need no network and no scripts.
"""

from __future__ import annotations

import base64
import contextlib
import html
import io
import json
import linecache
import re
import sys
import traceback
from pathlib import Path
from typing import Any

from notebooks import run as runner

_MATH = re.compile(r"(```.*?```|`[^`\n]*`)|\$\$(.+?)\$\$|\$([^$\n]+?)\$", re.DOTALL)
_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_LONG = 12_000  # characters of printed output that a page shows

STYLE = """
:root { --ink: #1c2330; --paper: #fff; --soft: #f4f6f9; --line: #d9dee6; --accent: #2459a9; --bad: #b3261e; }
* { box-sizing: border-box; }
body { font: 16px/1.6 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
       max-width: 60rem; padding: 1.5rem; }
h1 { font-size: 1.9rem; line-height: 1.25; } h2 { margin-top: 2.2rem; }
a { color: var(--accent); } nav { font-size: .9rem; }
pre { background: var(--soft); padding: .7rem .9rem; border-radius: 6px; overflow-x: auto; font-size: .78rem;
      line-height: 1.45; }
pre.out { background: none; border-left: 3px solid var(--line); border-radius: 0; max-height: 28rem; overflow: auto; }
pre.error { color: var(--bad); border-left: 3px solid var(--bad); }
code { font-family: ui-monospace, monospace; font-size: .9em; } p code { background: var(--soft); padding: 0 .2em; }
img, svg { max-width: 100%; height: auto; } figure { margin: 1rem 0; overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; margin: 1rem 0; }
th, td { border-bottom: 1px solid var(--line); padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
math[display=block] { margin: 1rem 0; font-size: 1.1em; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); gap: 1.2rem; padding: 0; }
.card { border: 1px solid var(--line); border-radius: 8px; overflow: hidden; list-style: none; }
.card a { color: inherit; text-decoration: none; display: block; height: 100%; }
.card img { width: 100%; height: 11rem; object-fit: contain; background: #fff; border-bottom: 1px solid var(--line); }
.card div { padding: .2rem 1rem .9rem; font-size: .9rem; } .card h2 { margin: .4rem 0; font-size: 1.1rem; }
.meta { color: #6b7482; font-size: .85rem; } .bad { color: var(--bad); font-weight: 600; }
"""


def _page(title: str, body: str, highlight: str = "") -> str:
    view = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    head = f"{view}<title>{html.escape(title)}</title><style>{STYLE}{highlight}</style>"
    return f'<!doctype html>\n<html lang="en"><head>{head}</head>\n<body>{body}</body></html>\n'


# ---------------------------------------------------------------------------------------------------- prose and code


def markdown(text: str) -> str:
    """Markdown with formulas, as HTML."""
    from latex2mathml.converter import convert
    from markdown_it import MarkdownIt

    formulas: list[str] = []

    def keep(match: re.Match) -> str:
        code, block, inline = match.groups()
        if code:
            return code
        formulas.append(convert((block or inline).strip(), display="block" if block else "inline"))
        return f"FORMULA{len(formulas) - 1:03d}X"

    made = MarkdownIt("commonmark", {"html": True}).enable("table").render(_MATH.sub(keep, text))
    made = re.sub(r'href="(\w+)\.ipynb"', r'href="../\1/index.html"', made)  # links between notebooks
    return re.sub(r"FORMULA(\d{3})X", lambda match: formulas[int(match[1])], made)


def title(path: Path) -> tuple[str, str]:
    """Title and summary of a notebook: the first heading and the paragraph after it."""
    first = next(text for kind, text in runner.cells(path) if kind == "markdown")
    blocks = [block.strip() for block in first.split("\n\n") if block.strip()]
    return blocks[0].lstrip("# ").strip(), blocks[1] if len(blocks) > 1 else ""


def _code(text: str) -> str:
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import PythonLexer

    return highlight(text, PythonLexer(), HtmlFormatter())


# ---------------------------------------------------------------------------------------------------- running


class _Shown:
    """What a cell shows: printed text, values and figures, in order, as HTML."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.parts: list[str] = []
        self.printed = io.StringIO()
        self.figures = 0

    def flush(self) -> None:
        """Turn what was printed since the last time into a block."""
        text = _ANSI.sub("", self.printed.getvalue())
        text = "\n".join(line.rsplit("\r", 1)[-1] for line in text.splitlines())
        self.printed.seek(0)
        self.printed.truncate()
        if text.strip():
            cut = text if len(text) <= _LONG else text[:_LONG] + "\n..."
            self.parts.append(f'<pre class="out">{html.escape(cut)}</pre>')

    def show(self, *values: Any) -> None:
        """Show values as Jupyter does: as a picture or HTML where they have one, else as text."""
        for value in values:
            if value is not None:
                self.flush()
                self.parts.append(self._render(value))

    def _render(self, value: Any) -> str:
        if hasattr(type(value), "savefig"):
            return self._figure(value)
        forms = value._repr_mimebundle_() if hasattr(type(value), "_repr_mimebundle_") else {}
        forms = forms[0] if isinstance(forms, tuple) else forms
        for method, kind in (("_repr_html_", "text/html"), ("_repr_svg_", "image/svg+xml")):
            if hasattr(type(value), method):
                forms.setdefault(kind, getattr(value, method)())
        if text := forms.get("text/html"):
            if "<html" in text[:500].lower():  # a page of its own
                return f'<iframe srcdoc="{html.escape(text)}" style="width:100%;height:36rem;border:0"></iframe>'
            return f"<figure>{text}</figure>"
        if text := forms.get("image/svg+xml"):
            picture = base64.b64encode(text.encode()).decode()  # as an image: ids of several pictures do not meet
            return f'<figure><img src="data:image/svg+xml;base64,{picture}" alt="graph"></figure>'
        return f'<pre class="out">{html.escape(repr(value))}</pre>'

    def _figure(self, figure: Any) -> str:
        self.figures += 1
        name = f"figure-{self.figures:02d}.png"
        figure.savefig(self.page / name, dpi=110, bbox_inches="tight")
        sys.modules["matplotlib.pyplot"].close(figure)
        return f'<figure><img src="{name}" alt=""></figure>'

    def take(self) -> str:
        """All that was shown since the last time, with the figures that are still open."""
        self.flush()
        if "matplotlib.pyplot" in sys.modules:
            plt = sys.modules["matplotlib.pyplot"]
            self.parts += [self._figure(plt.figure(number)) for number in plt.get_fignums()]
        made, self.parts = "\n".join(self.parts), []
        return made


def _navigation(name: str, order: list[str]) -> str:
    """Links to the index and to the neighbours in reading order."""
    links = ['<a href="../index.html">Gallery</a>']
    if name in order:
        place = order.index(name)
        around = ((place - 1, "&larr; {}"), (place + 1, "next: {} &rarr;"))
        links += [f'<a href="../{order[i]}/index.html">{text.format(order[i])}</a>'
                  for i, text in around if 0 <= i < len(order)]  # fmt: skip
    return f"<nav>{' &nbsp;·&nbsp; '.join(links)}</nav>"


def run(path: Path, page: Path, order: list[str]) -> int:
    """Run a notebook in this process and write ``page/index.html``; 1 where a cell failed, 0 else.

    order: the names of all notebooks as they are read, for links to the neighbours.
    """
    from pygments.formatters import HtmlFormatter

    shown = _Shown(page)
    runner.show = shown.show
    space: dict[str, Any] = {"__name__": "__main__", "display": shown.show}
    body, failed = [_navigation(path.stem, order)], 0
    for number, (kind, text) in enumerate(runner.cells(path)):
        if kind == "markdown":
            body.append(markdown(text))
            continue
        body.append(_code(text))
        file = f"{path.name}[{number}]"
        linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file  # type: ignore[assignment]
        try:
            with contextlib.redirect_stdout(shown.printed):
                runner._run_cell(text, file, space)
        except Exception:  # noqa: BLE001 (whatever a cell raises belongs on its page)
            failed = 1
            said = traceback.format_exc()
            sys.stderr.write(f"cell {number} of {path.name}:\n{said}")
            body += [shown.take(), f'<pre class="out error">{html.escape(said)}</pre>']
            break
        body.append(shown.take())
    source = html.escape(path.name)
    body.append(f'<p class="meta">Source: <code>notebooks/gallery/{source}</code></p>{_navigation(path.stem, order)}')
    made = _page(title(path)[0], "\n".join(body), HtmlFormatter().get_style_defs(".highlight"))
    (page / "index.html").write_text(made, encoding="utf-8")
    return failed


# ---------------------------------------------------------------------------------------------------- the index


def index(site: Path, names: list[str]) -> None:
    """Write the first page: a card for each notebook that has run, and the tables of results and of times."""
    cards, rows, times, machines = [], [], [], []
    for name in names:
        page = site / name
        if not (page / "about.json").exists():
            continue
        about = json.loads((page / "about.json").read_text(encoding="utf-8"))
        heading, summary = title(Path(__file__).parent / f"{name}.ipynb")
        picture = next((p for p in ("thumbnail.png", "figure-01.png") if (page / p).exists()), None)
        image = f'<img src="{name}/{picture}" alt="">' if picture else ""
        best = [e for e in about["results"] if e["headline"]]
        lines = [f"<b>{html.escape(e['name'])}: {html.escape(e['value'])}</b>" for e in best]
        state = '<span class="bad">failed</span>, ' if about["failed"] else ""
        state += f"{about['cpu']:.0f} s of processor time" + (" with small budgets" if about["fast"] else "")
        cards.append(
            f'<li class="card"><a href="{name}/index.html">{image}<div><h2>{html.escape(heading)}</h2>'
            f'{markdown(summary)}<p class="meta">{"<br>".join([*lines, state])}</p></div></a></li>'
        )
        rows += _rows(_link(name, heading, len(about["results"])), about["results"])
        machines += [about["machine"]] if about["machine"] not in machines else []
        numbers = [f'<td class="number">{about[key]:.0f} s</td>' for key in ("cpu", "seconds")]
        times.append(f"<tr>{_link(name, heading)}{''.join(numbers)}</tr>")
    head = "<tr><th>Notebook</th><th>Result</th><th>Value</th><th>Must hold</th></tr>"
    body = (
        "<h1>Gallery</h1><p>Every classic network, built on this engine alone, trained on real data, explained and "
        "pictured. Read from left to right; the first six can be read in one sitting by anyone who knows Python.</p>"
        f'<ul class="cards">{"".join(cards)}</ul><h2>Results</h2><p>What must hold was asserted as it ran.</p>'
        f"<table>{head}{''.join(rows)}</table><h2>Times</h2><p>On {html.escape('; '.join(machines))}. "
        "Processor time is that of all threads and of child processes; the clock also counts other work.</p>"
        f"<table><tr><th>Notebook</th><th>Processor time</th><th>By the clock</th></tr>{''.join(times)}</table>"
    )
    (site / "index.html").write_text(_page("Gallery", body), encoding="utf-8")


def _rows(link: str, results: list[dict]) -> list[str]:
    """Of one notebook, whose link spans them."""
    made = []
    for entry in results:
        numbers = [f'<td class="number">{html.escape(entry[key])}</td>' for key in ("value", "claim")]
        made.append(f"<tr>{'' if made else link}<td>{html.escape(entry['name'])}</td>{''.join(numbers)}</tr>")
    return made


def _link(name: str, heading: str, rows: int = 1) -> str:
    return f'<td rowspan="{rows}"><a href="{name}/index.html">{html.escape(heading)}</a></td>'
