// The panel beside the picture: everything that is known of the selected node or module; and the legend.

/** An element: h("p", {class: "x", onclick: f}, "text", child, …). Text stays text: no markup is ever parsed. */
function h(tag, attributes = {}, ...children) {
  const element =
    tag === "svg" || attributes.xmlns
      ? document.createElementNS("http://www.w3.org/2000/svg", tag)
      : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "xmlns" || value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const svg = (tag, attributes, ...children) => h(tag, { ...attributes, xmlns: true }, ...children);

function facts(rows) {
  const shown = rows.filter(([, value]) => value !== null && value !== undefined && value !== "" && value !== "—");
  return h("dl", {}, ...shown.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function section(title, ...content) {
  return h("section", {}, h("h3", {}, title), ...content);
}

/** "1.2 ms, 14 % of all": a quantity with its share of the whole graph. */
function withShare(name, value, whole) {
  if (value === null) return null;
  const text = METRICS[name].text(value);
  return whole ? `${text} (${digits(Math.round((1000 * value) / whole) / 10)} %)` : text;
}

function nodeDetails(node, page) {
  const { totals = {} } = page.model.data;
  const whole = { seconds: totals.seconds, flops: totals.flops, saved_bytes: totals.saved_bytes };
  const rows = ["seconds", "flops", "bytes", "saved_bytes"].map((name) => [
    METRICS[name].title,
    withShare(name, METRICS[name].of(node), whole[name]),
  ]);
  const module = node.group.path || node.group.label;
  return [
    h("h2", {}, titleOf(node)),
    h("p", { class: "chips" }, chip(node.kind), node.family ? chip(node.family) : null, h("code", {}, node.id)),
    facts([
      ["Op", node.op],
      ["Name", node.name],
      ["Shape", node.shapes.map(shapeText).join(", ")],
      ["Type", node.dtype],
      ["Module", node.group.parentGroup ? linkTo(node.group, page, module) : null],
      ...Object.entries(node.settings ?? {}).map(([name, value]) => [name, String(value)]),
      ...rows,
    ]),
    node.change ? h("p", {}, chip(CHANGE_WORDS[node.change.kind]), node.change.text) : null,
    node.error ? h("p", { class: "warning" }, `⚠ ${node.error}`) : null,
    sourceSection(node.source),
    node.lost ? h("p", { class: "hint" }, `The value was not kept: ${node.lost}`) : null,
    statsSection(node.backward ? "Values of the gradient" : "Values", node.value),
    statsSection("Gradient", node.gradient),
    neighbours(node.backward ? "Forward" : "Backward", node.backward ? [node.home] : node.backs, page),
    neighbours("Reads", node.ins, page),
    neighbours("Read by", node.outs, page),
  ];
}

function groupDetails(group, page) {
  const of = (name, lane) => metricOf(name, group, lane);
  const fold = group.fold;
  const repeats = fold && !fold.open ? `, all ${fold.groups.length}` : "";
  const open = page.view.open.has(group);
  return [
    h("h2", {}, titleOf(group)),
    h("p", { class: "chips" }, chip("module"), fold ? chip(`×${fold.groups.length}`) : null, h("code", {}, group.id)),
    h(
      "p",
      { class: "buttons" },
      button(open ? "Collapse" : "Expand", () => page.toggle(group), "expand"),
      fold
        ? button(fold.open ? "Fold repeats" : `Unfold ×${fold.groups.length}`, () => page.toggleFold(group), "fold")
        : null,
    ),
    facts([
      ["Path", group.path],
      ["Type", group.type],
      ["Call", group.call > 1 ? String(group.call) : null],
      ["Parameters", group.parameters ? group.parameters.toLocaleString("en") : null],
      ["Ops", String(group.members.filter((node) => node.kind === "op").length)],
      [`Time forward${repeats}`, secondsText(of("seconds", "forward"))],
      [`Time backward${repeats}`, secondsText(of("seconds", "backward"))],
      [`FLOPs forward${repeats}`, flopsText(of("flops", "forward"))],
      [`FLOPs backward${repeats}`, flopsText(of("flops", "backward"))],
      [`Saved for backward${repeats}`, bytesText(of("saved_bytes", "forward"))],
      ["Largest gradient norm", of("gradient", "forward") === null ? null : digits(of("gradient", "forward"))],
    ]),
  ];
}

function chip(text) {
  return h("span", { class: "chip" }, text);
}

function button(text, action, id) {
  return h("button", { type: "button", onclick: action, "data-action": id }, text);
}

function linkTo(item, page, text) {
  return h(
    "button",
    { type: "button", class: "link", "data-goto": item.id, onclick: () => page.goTo(item) },
    text ?? titleOf(item),
  );
}

function neighbours(title, items, page) {
  const found = [...new Set(items)].filter(Boolean);
  if (!found.length) return null;
  const shown = found.slice(0, 40).map((item) => h("li", {}, linkTo(item, page), ` ${noteOf(item)}`));
  const more = found.length > shown.length ? h("li", {}, `and ${found.length - shown.length} more`) : null;
  return section(title, h("ul", { class: "nodes" }, ...shown, more));
}

function sourceSection(source) {
  if (!source) return null;
  const place = `${source.file}:${source.line}${source.function ? ` in ${source.function}` : ""}`;
  return section(
    "Made by",
    h("p", { class: "place" }, place),
    source.text ? h("pre", {}, h("code", {}, source.text)) : null,
  );
}

function statsSection(title, stats) {
  if (!stats) return null;
  const show = (name) => (stats[name] === null || stats[name] === undefined ? null : digits(number(stats[name])));
  const count = stats.count.toLocaleString("en");
  const bad =
    stats.nan || stats.inf
      ? h("p", { class: "warning" }, `⚠ ${stats.nan} NaN, ${stats.inf} infinite of ${count}`)
      : null;
  return section(
    title,
    bad,
    histogram(stats.histogram),
    facts([
      ["Mean ± deviation", show("mean") === null ? null : `${show("mean")} ± ${show("std")}`],
      ["Range", show("min") === null ? null : `${show("min")} … ${show("max")}`],
      ["Norm", show("norm")],
      ["Mean |x|", show("absolute")],
      [
        "Zeros",
        stats.count ? `${digits((100 * stats.zeros) / stats.count)} % of ${stats.count.toLocaleString("en")}` : null,
      ],
    ]),
  );
}

function histogram(found) {
  if (!found || !found.counts.length) return null;
  const edges = found.edges.map(number);
  const most = Math.max(1, ...found.counts);
  const [wide, high, foot] = [300, 84, 16];
  const span = edges[edges.length - 1] - edges[0] || 1;
  const x = (value) => ((value - edges[0]) / span) * wide;
  const bars = found.counts.map((count, k) =>
    svg(
      "rect",
      {
        x: x(edges[k]),
        y: high - (count / most) * high,
        height: (count / most) * high,
        width: Math.max(x(edges[k + 1]) - x(edges[k]) - 0.6, 0.6),
        class: "bar",
      },
      svg("title", {}, `${digits(edges[k])} … ${digits(edges[k + 1])}: ${count.toLocaleString("en")}`),
    ),
  );
  const zero =
    edges[0] < 0 && edges[edges.length - 1] > 0
      ? svg("line", { x1: x(0), x2: x(0), y1: 0, y2: high, class: "zero" })
      : null;
  const mark = (at, value, anchor) => svg("text", { x: at, y: high + 12, "text-anchor": anchor }, digits(value));
  return svg(
    "svg",
    { viewBox: `0 0 ${wide} ${high + foot}`, class: "histogram", role: "img", "aria-label": "histogram" },
    ...bars,
    zero,
    mark(0, edges[0], "start"),
    mark(wide, edges[edges.length - 1], "end"),
    zero && x(0) > 40 && x(0) < wide - 40 ? mark(x(0), 0, "middle") : null,
  );
}

function overview(page) {
  const { data, nodes, hasBackward } = page.model;
  const { totals = {} } = data;
  const slow = nodes
    .filter((node) => node.seconds)
    .sort((a, b) => b.seconds - a.seconds)
    .slice(0, 6);
  return [
    h("h2", {}, data.title || "Graph"),
    data.error ? h("p", { class: "warning" }, `⚠ ${data.error}`) : null,
    facts([
      ["Nodes", nodes.length.toLocaleString("en")],
      ["Links", data.edges.length.toLocaleString("en")],
      ["Passes", data.passes ?? (hasBackward ? "forward and backward" : "forward")],
      ["Parameters", totals.parameters ? totals.parameters.toLocaleString("en") : null],
      ["Time", secondsText(number(totals.seconds))],
      ["FLOPs", flopsText(number(totals.flops))],
      ["Saved for backward", bytesText(number(totals.saved_bytes))],
    ]),
    slow.length
      ? section(
          "Slowest",
          h(
            "ol",
            { class: "nodes" },
            ...slow.map((node) => h("li", {}, linkTo(node, page), ` ${secondsText(node.seconds)}`)),
          ),
        )
      : null,
    h(
      "p",
      { class: "hint" },
      "Click a box for its details; double-click a module, or press Enter, to open or close it. Press ? for all keys.",
    ),
  ];
}

function showDetails(panel, page) {
  const { selected } = page.state;
  const content = !selected
    ? overview(page)
    : selected.isGroup
      ? groupDetails(selected, page)
      : nodeDetails(selected, page);
  panel.replaceChildren(...content.filter(Boolean));
  panel.dataset.item = selected ? selected.id : "";
  panel.scrollTop = 0;
}

function showLegend(legend, page) {
  const { colouring } = page.state;
  const content = { kind: kindLegend, nan: healthLegend, change: changeLegend }[colouring.mode] ?? scaleLegend;
  legend.replaceChildren(...content(page), ...markLegend(page));
  legend.dataset.mode = colouring.mode;
}

function swatch(colour, text, shape = "") {
  return h("span", { class: "key" }, h("i", { class: `swatch ${shape}`, style: `background:${colour}` }), text);
}

function kindLegend({ state, theme }) {
  const present = new Set(state.scene.boxes.map((box) => kindOf(box.item)));
  const pills = ["input", "output", "parameter", "buffer", "constant", "gradient"];
  return Object.keys(KINDS[theme])
    .filter((kind) => present.has(kind))
    .map((kind) => swatch(KINDS[theme][kind], kind, pills.includes(kind) ? "pill" : ""));
}

function healthLegend({ theme }) {
  const colours = HEALTH[theme];
  return [
    swatch(colours.finite, "finite"),
    swatch(colours.inf, "⚠ infinite"),
    swatch(colours.nan, "⚠ NaN"),
    swatch("transparent", "not looked at", "unknown"),
  ];
}

function changeLegend({ theme }) {
  return Object.entries(CHANGES[theme]).map(([kind, colour]) => swatch(colour, CHANGE_WORDS[kind]));
}

const CHANGE_WORDS = {
  removed: "removed",
  added: "added",
  changed: "changed",
  moved: "other numbers",
  same: "the same",
};

function scaleLegend({ state, theme }) {
  const { mode, low, high, log, any } = state.colouring;
  const { title, text } = METRICS[mode];
  if (!any) return [h("span", { class: "key" }, `${title}: not measured in this graph`)];
  const ramp = h("i", { class: "ramp", style: `background:linear-gradient(90deg,${SCALES[theme].join(",")})` });
  return [
    h(
      "span",
      { class: "key scale" },
      h("b", {}, title),
      text(low),
      ramp,
      `${text(high)}${log ? " (logarithmic)" : ""}`,
    ),
    swatch("transparent", "unknown", "unknown"),
  ];
}

function markLegend({ state, model }) {
  const marks = [h("span", { class: "key" }, h("i", { class: "arrow" }, "→"), "forward")];
  if (model.hasBackward) marks.push(h("span", { class: "key" }, h("i", { class: "arrow back" }, "→"), "backward"));
  if (state.scene.boxes.some((box) => box.item.fold))
    marks.push(h("span", { class: "key" }, h("i", { class: "badge" }, "×n"), "repeats"));
  return marks;
}
