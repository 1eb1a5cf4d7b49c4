// The table of all nodes: sorted by any column, filtered by the search, with only the rows in view in the document.

const ROW = 26; // pixels a row

const COLUMNS = [
  { name: "#", of: (node) => node.index, text: String, wide: 52, right: true },
  { name: "Node", of: (node) => titleOf(node), text: String, wide: 160 },
  { name: "Kind", of: (node) => node.kind, text: String, wide: 88 },
  { name: "Module", of: (node) => node.group.path || "", text: String, wide: 170 },
  { name: "Shape", of: (node) => node.shapes.map(shapeText).join(", "), text: String, wide: 130 },
  { name: "Type", of: (node) => node.dtype ?? "", text: String, wide: 76 },
  ...["seconds", "flops", "bytes", "saved_bytes"].map((name, k) => ({
    name: ["Time", "FLOPs", "Bytes", "Saved"][k],
    of: METRICS[name].of,
    text: name === "flops" ? compact : METRICS[name].text,
    wide: 84,
    right: true,
  })),
  { name: "Mean |x|", of: METRICS.activation.of, text: compactOrDash, wide: 84, right: true },
  { name: "Gradient norm", of: METRICS.gradient.of, text: compactOrDash, wide: 112, right: true },
  { name: "NaN/inf", of: notFinite, text: (value) => (value === null ? "—" : String(value)), wide: 74, right: true },
  {
    name: "Source",
    of: (node) => (node.source ? `${node.source.file}:${node.source.line}` : ""),
    text: String,
    wide: 200,
  },
];

function compactOrDash(value) {
  return value === null ? "—" : digits(value);
}

function notFinite(node) {
  const stats = [node.value, node.gradient].filter(Boolean);
  return stats.length ? total(stats.map((one) => one.nan + one.inf)) : null;
}

class Table {
  constructor(element, page) {
    Object.assign(this, { element, page, by: 0, falling: false, rows: [] });
    this.head = h("div", { class: "row head", role: "row" });
    this.body = h("div", { class: "body", role: "rowgroup" });
    this.scroller = h(
      "div",
      { class: "scroller", tabindex: 0, role: "grid", "aria-label": "All nodes" },
      this.head,
      this.body,
    );
    element.replaceChildren(this.scroller);
    this.scroller.addEventListener("scroll", () => this.draw());
    this.scroller.addEventListener("keydown", (event) => this.key(event));
    this.headings();
  }

  headings() {
    this.head.replaceChildren(
      ...COLUMNS.map((column, k) => {
        const sorted = k === this.by ? (this.falling ? "descending" : "ascending") : "none";
        const sort = button(column.name + (k === this.by ? (this.falling ? " ↓" : " ↑") : ""), () => this.sort(k));
        return h(
          "div",
          {
            role: "columnheader",
            "aria-sort": sorted,
            style: `width:${column.wide}px`,
            class: column.right ? "right" : "",
          },
          sort,
        );
      }),
    );
  }

  sort(k) {
    this.falling = k === this.by ? !this.falling : Boolean(COLUMNS[k].right && k > 0);
    this.by = k;
    this.headings();
    this.fill();
  }

  /** Gather the rows (all nodes, or those that the search found), sorted; what is unknown comes last. */
  fill() {
    const { model, state } = this.page;
    const { of } = COLUMNS[this.by];
    const rows = (state.matches ? state.matches.nodes : model.nodes).map((node) => [of(node), node]);
    const unknown = (value) => value === null || value === undefined || value === "";
    const way = this.falling ? -1 : 1;
    rows.sort(([a, x], [b, y]) => {
      if (unknown(a) || unknown(b)) return unknown(a) - unknown(b) || x.index - y.index;
      return way * (a < b ? -1 : a > b ? 1 : 0) || x.index - y.index;
    });
    this.rows = rows.map(([, node]) => node);
    this.scroller.setAttribute("aria-rowcount", this.rows.length + 1);
    this.body.style.height = `${this.rows.length * ROW}px`;
    this.draw();
  }

  draw() {
    const first = Math.max(0, Math.floor(this.scroller.scrollTop / ROW) - 8);
    const last = Math.min(this.rows.length, first + Math.ceil(this.scroller.clientHeight / ROW) + 16);
    this.body.replaceChildren(...this.rows.slice(first, last).map((node, k) => this.row(node, first + k)));
  }

  row(node, place) {
    const cells = COLUMNS.map(({ of, text, wide, right }) => {
      const shown = text(of(node));
      return h("div", { role: "gridcell", style: `width:${wide}px`, class: right ? "right" : "", title: shown }, shown);
    });
    return h(
      "div",
      {
        class: "row",
        role: "row",
        style: `top:${place * ROW}px`,
        "aria-rowindex": place + 2,
        "data-node": node.id,
        "aria-selected": String(this.page.state.selected === node),
        onclick: () => this.page.select(node),
        ondblclick: () => {
          this.page.showTable(false);
          this.page.goTo(node);
        },
      },
      ...cells,
    );
  }

  key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, Home: -Infinity, End: Infinity }[event.key];
    const at = this.rows.indexOf(this.page.state.selected);
    if (event.key === "Enter" && at >= 0) {
      this.page.showTable(false);
      this.page.goTo(this.rows[at]);
    } else if (step && this.rows.length) {
      const next = Math.min(Math.max((at < 0 ? -Math.sign(step) && -1 : at) + step, 0), this.rows.length - 1);
      this.page.select(this.rows[next]);
      this.scrollTo(next);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  /** Bring the selected node into view. */
  follow() {
    const place = this.rows.indexOf(this.page.state.selected);
    if (place >= 0) this.scrollTo(place);
  }

  scrollTo(place) {
    const { scroller } = this;
    const top = place * ROW;
    if (top < scroller.scrollTop) scroller.scrollTop = top;
    else if (top + 2 * ROW > scroller.scrollTop + scroller.clientHeight)
      scroller.scrollTop = top + 2 * ROW - scroller.clientHeight;
    this.draw();
  }
}
