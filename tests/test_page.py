"""The interactive page: what is in the file, and, in a real headless browser, what it does when people use it."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

import browser
import page_data
import pytest

import autograd_core as ag
import nn
from autograd_core.seeing.page import SCRIPTS, embedded, page

needs_browser = pytest.mark.skipif(browser.found() is None, reason="no chromium that a pipe can drive is installed")


def data_in(text):
    return json.loads(re.search(r'<script id="data" type="application/json">(.*?)</script>', text, re.DOTALL)[1])


# ------------------------------------------------------------------------------------------------ the file itself


def test_one_file_without_addresses():
    text = page(page_data.network(2))
    assert not re.search(r'\b(src|href|action)\s*=\s*["\']?(?!data:)\w', text.replace('id="data"', ""))
    assert set(re.findall(r"\w+://[^\s\"'`]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert not re.search(r"@import|url\(|\bfetch\(|XMLHttpRequest|WebSocket|import\(", text)
    assert "default-src 'none'" in text


def test_all_of_the_program_is_in_it():
    text = page(page_data.network(2))
    assert not re.search(r"\{\{(title|style|script|data)\}\}", text)
    web = Path(sys.modules[page.__module__].__file__).parent / "web"
    for part in ["style.css", *[f"{name}.js" for name in SCRIPTS]]:
        assert (web / part).read_text("utf-8") in text
    assert {f"{name}.js" for name in SCRIPTS} == {path.name for path in web.glob("*.js")}


def test_data_survives_whatever_names_hold():
    data = page_data.nasty()
    text = page(data)
    assert data_in(text) == data
    assert text.count("</script>") == 2
    assert f"<title>{html.escape(data['title'])}</title>" in text


def test_notebooks_get_a_frame():
    text = embedded(page_data.nasty(), height=480)
    assert text.startswith("<iframe sandbox=")
    assert "height:480px" in text
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', text)[1]) == page(page_data.nasty())


# ------------------------------------------------------------------------------------------------------ in a browser


@pytest.fixture(scope="module")
def chromium():
    with browser.Browser() as found:
        yield found


@pytest.fixture
def opened(chromium, tmp_path):
    """Opens the page of a graph; afterwards nothing may have gone wrong in it."""

    def open_page(data):
        path = tmp_path / "graph.html"
        path.write_text(page(data), "utf-8")
        chromium.open(path)
        return chromium

    yield open_page
    assert chromium.errors == []
    assert chromium.run("window.broken") is None


def where(chromium, key, lane="forward"):
    place = chromium.run(f"page.where({json.dumps(key)}, {json.dumps(lane)})")
    assert place is not None, key
    return place


def corner(chromium, key, side, dx, dy):
    """The point of the screen beside the upper left (-1) or right (1) corner of a module's box."""
    x, y = chromium.run(f"""(({{x, y, w, h}}) => page.camera.toScreen(x + {side} * w / 2 + {dx}, y - h / 2 + {dy}))
        (page.boxFor(page.model.groups.get({json.dumps(key)})))""")
    left, top = chromium.run("(({left, top}) => [left, top])(page.canvas.getBoundingClientRect())")
    return left + x, top + y


def choose(chromium, key, value):
    """Pick an option of a list, as a person would."""
    chromium.run(f"""(list => {{ list.value = {json.dumps(value)}; list.dispatchEvent(new Event("change")); }})
        (document.getElementById({json.dumps(key)}))""")


def boxes(chromium):
    return int(chromium.run("page.canvas.dataset.boxes"))


def panel(chromium):
    return chromium.run("page.panel.innerText")


def key_of(data, path):
    return next(m["id"] for m in data["modules"] if m["path"] == path)


def node_of(data, label, module=None, kind="op"):
    return next(n for n in data["nodes"] if n["label"] == label and n["kind"] == kind and module in (None, n["module"]))


@needs_browser
def test_click_shows_everything_known(opened):
    data = page_data.network(3)
    b = opened(data)
    assert "235" not in panel(b)
    assert f"{len(data['nodes'])}" in panel(b)
    node = node_of(data, "conv2d")
    b.click(*where(b, node["id"]))
    text = panel(b)
    assert b.run("page.panel.dataset.item") == node["id"]
    place = f"train.py:{node['source']['line']} in forward"
    for part in ("conv2d", "contraction", "128×64", "float32", "Residual.stem", "(1, 1)", place, "x = self.conv2d(x)",
                 "FLOPs", "64 KiB", "32 KiB", "Mean ± deviation"):  # fmt: skip
        assert part in text, part
    assert b.run("page.panel.querySelectorAll('.histogram .bar').length") == 30
    b.click(*where(b, data["nodes"][1]["id"]))  # a parameter: its values and its gradient
    assert b.run("page.panel.querySelectorAll('.histogram').length") == 2
    b.run("document.querySelector('[data-goto]').click()")  # links lead on, here to the module
    assert b.run("page.panel.dataset.item") == key_of(data, "Residual.stem")
    b.click(12, 80)
    assert b.run("page.panel.dataset.item") == ""


@needs_browser
def test_nan_and_infinities_are_named(opened):
    data = page_data.network(2)
    b = opened(data)
    sick = node_of(data, "cross_entropy")
    assert sick["value"]["mean"] == "nan"
    b.run("page.setMode('nan')")
    colours = b.run(f"[page.boxFor(page.model.byId.get('{sick['id']}')).fill, page.boxFor(page.model.nodes[0]).fill]")
    assert colours == b.run("[HEALTH.light.nan, HEALTH.light.finite]")
    assert "NaN" in b.run("document.getElementById('legend').innerText")
    b.run(f"page.goTo(page.model.byId.get('{sick['id']}'))")
    assert "⚠ 1 NaN" in panel(b)


@needs_browser
def test_hover_shows_the_other_pass(opened):
    data = page_data.network(2)
    b = opened(data)
    forward = node_of(data, "conv2d")
    backward = node_of(data, "conv2d backward", forward["module"], "backward")
    assert backward["forward"] == forward["id"]
    x, y = where(b, forward["id"])
    b.hover(x, y)
    assert b.run("page.canvas.dataset.hovered") == forward["id"]
    assert b.run("page.canvas.dataset.partners") == backward["id"]
    assert {"forward", "backward"} <= set(b.run("document.getElementById('tip').innerText").split())
    other = where(b, backward["id"])
    assert other[0] > x + 100
    assert abs(other[1] - y) < 1  # side by side
    b.hover(*other)
    assert b.run("page.canvas.dataset.partners") == forward["id"]
    b.click(*other)
    b.key("m")
    assert b.run("page.canvas.dataset.selected") == forward["id"]


@needs_browser
def test_modules_open_and_close(opened):
    data = page_data.network(3)
    b = opened(data)
    stem, before = key_of(data, "Residual.stem"), boxes(b)
    inside = [n["id"] for n in data["nodes"] if n["module"] == stem]
    x, y = where(b, stem)
    b.click(x, y, times=2)  # on the frame's title
    assert stem not in b.run("page.canvas.dataset.open").split()
    assert boxes(b) == before - len(inside) + 2
    assert b.run(f"page.where('{inside[0]}')") is None
    b.click(*where(b, stem))
    assert "Parameters" in panel(b)
    assert "4,160" in panel(b)
    b.key("Enter")
    assert boxes(b) == before
    b.click(*corner(b, stem, -1, 14, 16))  # the arrow of the frame
    assert boxes(b) == before - len(inside) + 2
    choose(b, "depth", "3")
    assert boxes(b) == before


@needs_browser
def test_repeats_fold(opened):
    data = page_data.network(12)
    b = opened(data)
    first, last = key_of(data, "Residual.block1"), key_of(data, "Residual.block12")
    b.run(f"page.toggle(page.model.groups.get('{first}'))")
    assert b.run(f"page.where('{last}')") is None
    folded = boxes(b)
    assert "×12" in panel(b)
    whole = sum(n["seconds"] or 0 for n in data["nodes"] if n["kind"] == "op" and n["module"] and ".block" in
                next(m["path"] for m in data["modules"] if m["id"] == n["module"]))  # fmt: skip
    assert b.run(f"metricOf('seconds', page.model.groups.get('{first}'), 'forward')") == pytest.approx(whole)
    b.click(*corner(b, first, 1, -8, -6))  # the ×12
    assert boxes(b) == folded + 22  # eleven more, in two lanes
    assert b.run(f"page.where('{last}')") is not None
    b.key("x")
    assert boxes(b) == folded
    stem, head = node_of(data, "relu"), node_of(data, "linear")
    links = b.run("page.state.scene.links.map(link => [link.from.item.id, link.to.item.id])")
    assert [stem["id"], first] in links
    assert [first, head["id"]] in links  # out of the last repeat


@needs_browser
def test_search_finds_and_reveals(opened):
    data = page_data.network(12)
    b = opened(data)
    b.run("page.setDepth(0)")
    assert boxes(b) < 10
    b.key("/")
    b.type("block7.conv2 CONV2D")
    assert b.run("document.getElementById('count').textContent") == "6"
    assert b.run("document.getElementById('results').children.length") == 6
    assert "6 of" in b.run("page.status.textContent")
    found = node_of(data, "conv2d", key_of(data, "Residual.block7.conv2"))
    b.key("Enter")
    assert b.run("page.canvas.dataset.selected") == found["id"]
    assert where(b, found["id"])  # modules and the fold around it were opened
    b.key("Escape")
    assert b.run("page.search.field.value") == ""
    b.type(f"train.py:{found['source']['line']}")
    assert int(b.run("document.getElementById('count').textContent")) >= 1
    b.run("page.search.field.value = 'nothing is called like this'; page.search.run()")
    assert b.run("document.getElementById('count').textContent") == "0"


@needs_browser
def test_colours_and_their_legends(opened):
    data = page_data.network(3)
    b = opened(data)
    seen = set()
    for mode in b.run("[...document.getElementById('colour').options].map(option => option.value)"):
        choose(b, "colour", mode)
        assert b.run("document.getElementById('legend').dataset.mode") == mode
        fills = b.run("page.state.scene.boxes.map(box => box.fill).join()")
        seen.add((b.run("document.getElementById('legend').innerText"), fills))
    assert len(seen) == 8
    b.run("page.setMode('seconds')")
    hottest = b.run("""(time => page.state.scene.boxes.reduce((a, b) => time(a) >= time(b) ? a : b))
        (box => metricOf("seconds", box.item, box.lane)).fill""")
    assert b.run(f"channels('{hottest}').join()") == b.run("channels(SCALES.light[SCALES.light.length - 1]).join()")
    assert b.run(f"page.boxFor(page.model.byId.get('{data['nodes'][0]['id']}')).fill") is None  # an input took no time


@needs_browser
def test_keyboard_alone(opened):
    data = page_data.network(2)
    b = opened(data)
    b.run("page.canvas.focus()")
    b.key("ArrowDown")
    first = b.run("page.canvas.dataset.selected")
    b.key("ArrowDown")
    second = b.run("page.canvas.dataset.selected")
    assert [first, second] in data["edges"]
    b.key("ArrowUp")
    assert b.run("page.canvas.dataset.selected") == first
    scale = b.run("page.camera.scale")
    b.key("+")
    assert b.run("page.camera.scale") == pytest.approx(1.25 * scale)
    b.key("p")
    assert b.run(f"page.where('{data['nodes'][1]['id']}')") is None  # parameters are off
    b.key("d")
    assert b.run("document.documentElement.dataset.theme") == "dark"
    b.key("c")
    assert b.run("page.mode") == "seconds"
    b.key("?")
    assert b.run("document.getElementById('help-text').open") is True
    b.key("Escape")
    b.key("t")
    assert b.run("document.getElementById('table').hidden") is False


@needs_browser
def test_table_of_all_nodes(opened):
    data = page_data.network(12)
    b = opened(data)
    b.run("document.getElementById('as-table').click()")
    rows = "[...document.querySelectorAll('#table .body .row')].map(row => row.dataset.node)"
    assert b.run(rows)[:5] == [n["id"] for n in data["nodes"][:5]]
    assert len(b.run(rows)) < 80 < len(data["nodes"])  # only those in view
    b.run("[...document.querySelectorAll('#table .head button')].find(button => button.textContent === 'Time').click()")
    timed = sorted((n for n in data["nodes"] if n["seconds"]), key=lambda n: -n["seconds"])
    assert b.run(rows)[:5] == [n["id"] for n in timed[:5]]
    b.run("document.querySelector('#table .body .row').click()")
    assert b.run("page.panel.dataset.item") == timed[0]["id"]
    b.key("ArrowDown")
    assert b.run("page.panel.dataset.item") == timed[1]["id"]
    b.run("page.search.field.value = 'cross_entropy'; page.search.run()")
    assert set(b.run(rows)) == {n["id"] for n in data["nodes"] if "cross_entropy" in n["label"] + n["source"]["text"]}
    b.run("page.search.field.value = ''; page.search.run(); page.table.scroller.focus()")
    b.key("Enter")
    assert b.run("document.getElementById('table').hidden") is True
    assert where(b, timed[1]["id"])


@needs_browser
def test_wheel_zooms_and_dragging_moves(opened):
    data = page_data.network(2)
    b = opened(data)
    node = data["nodes"][0]["id"]
    x, y = where(b, node)
    b.wheel(x, y, -240)
    b.until("page.camera.scale > 1")
    assert where(b, node) == pytest.approx([x, y], abs=0.5)  # what is under the mouse stays there
    b.drag((200, 500), (260, 540))
    assert where(b, node) == pytest.approx([x + 60, y + 40], abs=0.5)
    assert b.run("page.canvas.dataset.selected || ''") == ""  # a drag is no click
    b.run("document.getElementById('fit').click()")
    assert b.run("page.sees({ width: page.canvas.clientWidth, height: page.canvas.clientHeight })")


@needs_browser
def test_lanes(opened):
    data = page_data.network(2)
    b = opened(data)
    both = boxes(b)
    lanes = []
    for choice in ("forward", "backward"):
        choose(b, "lanes", choice)
        assert set(b.run("page.state.scene.boxes.map(box => box.lane)")) == {choice}
        lanes.append(boxes(b))
    assert sum(lanes) == both


@needs_browser
def test_nothing_overlaps_and_links_run_down(opened):
    b = opened(page_data.network(12))
    for unfold in (False, True):
        if unfold:
            b.run("page.toggleFold([...page.model.folds.values()][0].first); page.setDepth(9)")
        assert b.run(OVERLAPS) == []
        assert b.run(OUTSIDE) == []
        assert b.run("""page.state.scene.links.filter(({ lane, from, to }) =>
            lane === "backward" ? from.y <= to.y : from.y >= to.y).length""") == 0


OVERLAPS = """page.state.scene.boxes.flatMap((a, k, all) => all.slice(k + 1).filter((b) =>
    Math.abs(a.x - b.x) < (a.w + b.w) / 2 - 0.5 && Math.abs(a.y - b.y) < (a.h + b.h) / 2 - 0.5
).map((b) => [a.id, b.id]))"""
OUTSIDE = """page.state.scene.boxes.filter((box) => {
    if (box.lane === "backward" || !box.item.group?.parentGroup) return false;
    const { x, y, w, h } = page.boxFor(box.item.group);
    return Math.abs(x - box.x) > (w - box.w) / 2 || Math.abs(y - box.y) > (h - box.h) / 2;
}).map((box) => box.id)"""


@needs_browser
def test_hostile_names_stay_text(opened):
    data = page_data.nasty()
    b = opened(data)
    assert b.run("document.title") == data["title"]
    b.click(*where(b, data["nodes"][0]["id"]))
    assert data["nodes"][0]["name"] in panel(b)
    assert b.run("page.panel.querySelectorAll('img, script').length") == 0


@needs_browser
def test_ten_thousand_nodes(opened):
    data = page_data.large()
    assert len(data["nodes"]) >= 10_000
    b = opened(data)
    assert boxes(b) < 150  # modules are closed at first
    b.run("page.setDepth(9)")
    assert boxes(b) > 5000
    b.run("page.search.field.value = 'block300 add'; page.search.run(); page.search.choose(0)")
    assert "block300" in panel(b)
    b.run("page.setMode('flops'); page.showTable(true)")
    assert b.run("document.querySelectorAll('#table .body .row').length") < 80


@needs_browser
def test_a_long_function_is_cut_into_slices(opened):
    b = opened(page_data.flat(3000))
    assert boxes(b) < 80
    b.run("page.goTo(page.model.byId.get('n1500'))")
    assert "n1500" in panel(b)
    assert where(b, "n1500")


@needs_browser
@pytest.mark.parametrize("backward", [True, False])
def test_odd_graphs(opened, backward):
    data = page_data.network(2, backward=backward, stats=False)
    data["edges"] += [["n0", "gone"], ["n3", "n3"], ["n8", "n3"]]  # an end that is missing, a loop, a cycle
    data["modules"].append({**data["modules"][0], "id": "m99", "path": "idle", "name": "idle"})
    lone = {"id": "lone", "kind": "backward", "forward": "gone", "module": "m99", "source": None, "shapes": []}
    data["nodes"].append({**data["nodes"][0], **lone})
    b = opened(data)
    b.click(*where(b, "n3"))
    assert "conv2d" in panel(b)
    b.run("page.goTo(page.model.byId.get('lone'))")
    assert b.run("page.panel.dataset.item") == "lone"
    for mode in ("seconds", "gradient", "nan"):
        b.run(f"page.setMode('{mode}')")


@needs_browser
def test_an_empty_graph(opened):
    b = opened(page_data.Maker("").export())
    assert boxes(b) == 0
    assert "Nodes" in panel(b)


@needs_browser
def test_dark_where_the_system_is_dark(chromium, opened):
    chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    b = opened(page_data.network(2))
    assert b.run("document.documentElement.dataset.theme") == "dark"
    dark = b.run("page.state.inks.canvas")
    b.run("document.getElementById('theme').click()")
    assert b.run("document.documentElement.dataset.theme") == "light"
    assert b.run("page.state.inks.canvas") != dark
    chromium.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])


@needs_browser
def test_frame_of_a_notebook(chromium, tmp_path):
    notebook = tmp_path / "notebook.html"
    notebook.write_text(f"<!doctype html><p style='height:3000px'>{embedded(page_data.network(2))}", "utf-8")
    chromium.call("Page.navigate", url=notebook.as_uri())
    chromium.until("document.querySelector('iframe') !== null")
    with chromium.frame() as inner:
        inner.until("document.documentElement?.dataset.ready")
    chromium.run("scrollTo(0, 3000)")
    with chromium.frame() as inner:
        inner.until("document.documentElement?.dataset.ready")
        assert inner.run("page.embedded") is True
        assert boxes(inner) > 10
        inner.until("page.camera.scale > 0.5")


# ----------------------------------------------------------------------------------------------------- real graphs


def lenet5():
    loss, target = nn.CrossEntropyLoss(), ag.tensor([3])
    return ag.graph(nn.models.LeNet5(), ag.randn(1, 1, 28, 28), loss=lambda out: loss(out, target))


def lstm_over_64_steps():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell, self.head = nn.LSTMCell(3, 4), nn.Linear(4, 2)

        def forward(self, x):
            h = c = ag.zeros(1, 4)
            for step in range(64):
                h, c = self.cell(x[step], (h, c))
            return self.head(h)

    return ag.graph(Reader(), ag.randn(64, 1, 3))


def transformer():
    model = nn.Transformer(8, 2, num_encoder_layers=3, num_decoder_layers=3, dim_feedforward=8)
    return ag.graph(model, ag.randn(3, 1, 8), ag.randn(2, 1, 8))


def function_with_control_flow():
    def f(x):
        y = x
        while float(y.square().sum()) < 100:
            y = y * 2 if float(y.sum()) > 0 else y * -3
        return (y / 0).sum()

    return ag.graph(f, ag.tensor([1.0, 2.0], requires_grad=True))


@needs_browser
def test_difference_of_two_graphs(chromium, tmp_path):
    x = ag.ones(5, 3, requires_grad=True)
    diff = ag.diff(ag.graph(lambda x: (x * 2).relu(), x), ag.graph(lambda x: ag.tanh(x * 3).exp(), x))
    chromium.open(diff.save(tmp_path / "diff.html"))
    assert chromium.run("page.mode") == "change"
    fills = chromium.run("Object.fromEntries(page.state.scene.boxes.map(box => [box.label, box.fill]))")
    colours = chromium.run("CHANGES.light")
    assert fills["relu"] == colours["removed"]
    assert fills["tanh"] == fills["exp"] == colours["added"]
    assert fills["x"] == colours["moved"]  # it has another gradient
    assert "removed" in chromium.run("document.getElementById('legend').innerText")
    chromium.run("page.search.field.value = 'removed'; page.search.run(); page.search.choose(0)")
    assert "removed" in panel(chromium)
    assert chromium.errors == []


@needs_browser
def test_a_loop_that_shares_its_weight_folds(opened):
    def f(x, w):
        for _ in range(9):
            x = ag.tanh(x @ w) + x * 0.5
        return x.sum()

    graph = ag.graph(f, ag.ones(2, 3, requires_grad=True), ag.ones(3, 3, requires_grad=True))
    b = opened(graph.json())
    assert b.run("[...page.model.folds.values()].map(fold => fold.groups.length)") == [9]
    links = b.run("page.state.scene.links.map(({ from, to }) => [from.label, to.label].join(' > '))")
    assert {"w > matmul", "matmul > tanh", "x = add > sum", "sum backward > add backward"} <= set(links)


REAL = {lenet5: "max_pool", lstm_over_64_steps: "lstm", transformer: "layer_norm", function_with_control_flow: "y"}


@needs_browser
@pytest.mark.parametrize("make", REAL)
def test_real_graphs(opened, make):
    graph = make()
    b = opened(graph.json())
    assert 5 < boxes(b) < 150
    assert b.run("page.model.hasBackward")
    b.run(f"page.search.field.value = {REAL[make]!r}; page.search.run(); page.search.choose(0)")
    text = panel(b)
    assert "test_page.py:" in text or "nn/" in text
    assert b.run("page.panel.querySelectorAll('.histogram').length") >= 1
    for lanes in ("forward", "backward", "both"):
        choose(b, "lanes", lanes)
        assert b.run(OVERLAPS) == []
    if make is lstm_over_64_steps:
        assert "×64" in b.run("[...page.model.folds.values()].map(fold => '×' + fold.groups.length).join()")
        assert boxes(b) < 60
    if make is function_with_control_flow:
        b.run("page.setMode('nan')")
        assert b.run("page.state.scene.boxes.some(box => box.fill === HEALTH.light.inf)")
