// The picture for what is open now: boxes with places, frames around open groups, routed links; two lanes side by side.

const PAD = { side: 16, top: 34, bottom: 14, lane: 110, stack: 8 };
const LABEL_FONT = "600 12.5px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";
const NOTE_FONT = "11px system-ui, 'Segoe UI', 'DejaVu Sans', sans-serif";

const ruler = document.createElement("canvas").getContext("2d");
const widths = new Map();

function textWidth(text, font) {
  const key = font + text;
  if (!widths.has(key)) {
    ruler.font = font;
    widths.set(key, ruler.measureText(text).width);
  }
  return widths.get(key);
}

/** One drawn thing: a node or closed group in a lane, or (frame) the outline of an open group. */
class Box {
  constructor(item, lane, frame = false) {
    const note = frame ? "" : noteOf(item, lane);
    Object.assign(this, { item, lane, frame, note, label: titleOf(item), x: 0, y: 0, w: 0, h: 0, links: [] });
    if (frame) return;
    const marked = item.error || ["nan", "inf"].includes(healthOf(item, lane)) ? 18 : 0; // room for ⚠
    const signs = marked + (item.isGroup ? 20 : 0);
    const wide = Math.max(signs + textWidth(this.label, LABEL_FONT), textWidth(note, NOTE_FONT));
    this.w = Math.min(Math.max(wide + 24, 56), 260);
    this.h = note ? 40 : 26;
  }

  get id() {
    return this.item.id + (this.lane === "backward" && this.item.isGroup ? "~" : "");
  }
}

function titleOf(item) {
  if (item.isGroup) {
    const folded = item.fold && !item.fold.open && item.repeat.names;
    const name = folded ? item.repeat.names.join(" … ") : item.label;
    return item.type && item.type !== "repeat" && item.type !== name ? `${name} ${item.type}` : name;
  }
  if (LEAVES.has(item.kind)) return shortName(item);
  if (item.kind === "gradient") return LEAVES.has(item.home?.kind) ? `∂ ${shortName(item.home)}` : item.label;
  return item.name && !item.backward && item.name !== item.label ? `${item.name} = ${item.label}` : item.label;
}

/** The last part of a parameter's path, which the frame around it completes. */
function shortName({ name, label, group }) {
  if (!name) return label;
  return group && group.parentGroup ? name.split(".").pop() : name;
}

function noteOf(item, lane) {
  if (!item.isGroup) return item.shapes.map(shapeText).slice(0, 2).join("  ");
  const nodes = lane === "backward" ? item.members.flatMap((node) => node.backs) : item.members;
  const ops = nodes.filter((node) => ["op", "backward"].includes(node.kind)).length;
  const parts = [ops === 1 ? "1 op" : `${ops} ops`];
  if (lane === "forward" && item.parameters) parts.push(`${compact(item.parameters)} parameters`);
  return parts.join(" · ");
}

function shapeText(shape) {
  return shape.length ? shape.join("×") : "scalar";
}

/** The place of one item in the layout: a forward box with its backward boxes, or the contents of an open group. */
class Cell {
  constructor(item, parent) {
    Object.assign(this, { item, parent, cells: [], segments: new Map(), ports: new Map(), x: 0, y: 0, w: 0, h: 0 });
  }

  get isOpen() {
    return this.cells.length > 0;
  }

  get depth() {
    return this.parent ? this.parent.depth + 1 : 0;
  }

  /** Size of a closed cell, from its boxes. */
  measure(hasBackward) {
    const { item } = this;
    this.front = new Box(item, "forward");
    const backs = item.isGroup ? (item.members.some((node) => node.backs.length) ? [item] : []) : item.backs;
    this.backs = hasBackward ? backs.map((node) => new Box(node, "backward")) : [];
    const stacked = this.backs.reduce((sum, box) => sum + box.h + PAD.stack, -PAD.stack);
    this.w = Math.max(this.front.w, ...this.backs.map((box) => box.w));
    this.h = Math.max(this.front.h, stacked);
  }

  /** The item at the rim of an open group where a value goes out (bottom) or comes in (top). */
  port(side, key) {
    const name = `${side}:${key}`;
    if (!this.ports.has(name)) this.ports.set(name, { name, pin: side, w: 6, h: 0, x: 0, y: 0 });
    return this.ports.get(name);
  }
}

/** Everything that is drawn for the given view. */
function buildScene(model, view) {
  const hasBackward = model.hasBackward && view.lanes !== "forward";
  const cellOf = new Map();
  const top = buildCells(model.root, null, view, cellOf, hasBackward);
  const represent = findRepresentatives(model, view);
  const routes = findRoutes(model, represent, cellOf);
  arrange(top);
  settle(top, 0, 0);
  const scene = { boxes: [], frames: [], links: [], boxOf: new Map(), w: 0, h: top.h, laneAt: 0, lanes: view.lanes };
  scene.laneAt = view.lanes === "both" ? top.w + PAD.lane : 0;
  scene.w = hasBackward ? scene.laneAt + top.w : top.w;
  collectBoxes(top, scene, view, hasBackward);
  if (view.lanes !== "backward")
    for (const route of routes.values()) addLink(scene, route.from.front, route.to.front, points(route), "forward");
  scene.boxFor = boxFinder(scene, represent);
  if (hasBackward) addBackwardLinks(model, scene, represent, routes);
  if (view.lanes === "both") addLinksAcross(model, scene);
  return scene;
}

function buildCells(group, parent, view, cellOf, hasBackward) {
  const cell = new Cell(group, parent);
  cellOf.set(group, cell);
  for (const child of shownChildren(group, view)) {
    if (child.isGroup && view.open.has(child)) {
      cell.cells.push(buildCells(child, cell, view, cellOf, hasBackward));
      continue;
    }
    const leaf = new Cell(child, cell);
    leaf.measure(hasBackward);
    cellOf.set(child, leaf);
    cell.cells.push(leaf);
  }
  if (!cell.isOpen) cell.measure(hasBackward); // nothing inside is shown
  return cell;
}

/** Forward links between cells, each once, each with its segments: out of open groups, across, into open groups. */
function findRoutes(model, represent, cellOf) {
  const routes = new Map();
  for (const node of model.nodes) {
    if (node.backward) continue;
    for (const next of node.outs) {
      if (next.backward) continue;
      const from = cellOf.get(represent(node));
      const to = cellOf.get(represent(next));
      if (!from || !to || from === to || from.isOpen || to.isOpen) continue;
      const key = `${from.item.id}>${to.item.id}`;
      if (routes.has(key)) routes.get(key).count += 1;
      else if (!model.folds.size || !crossesFold(node, next)) routes.set(key, makeRoute(from, to));
    }
  }
  return routes;
}

function makeRoute(from, to) {
  let [a, b] = [from, to];
  let start = { cell: from };
  let end = { cell: to };
  const [out, into] = [[], []];
  while (a.parent !== b.parent) {
    if (a.parent.depth >= b.parent.depth) {
      const port = a.parent.port("bottom", from.item.id);
      out.push(segment(a.parent, start, { port }));
      start = { cell: a.parent, port };
      a = a.parent;
    } else {
      const port = b.parent.port("top", from.item.id);
      into.unshift(segment(b.parent, { port }, end));
      end = { cell: b.parent, port };
      b = b.parent;
    }
  }
  return { from, to, count: 1, steps: [...out, segment(a.parent, start, end), ...into] };
}

/** The part of a route inside one open group, shared by all routes that carry the same value the same way. */
function segment(inside, start, end) {
  const name = ({ cell, port }) => `${cell ? cell.item.id : ""}#${port ? port.name : ""}`;
  const key = `${name(start)}>${name(end)}`;
  if (!inside.segments.has(key)) inside.segments.set(key, { start, end, points: [], inside });
  return inside.segments.get(key);
}

/** Lay out an open cell: first what is inside, then this level. Places are relative to the cell's corner. */
function arrange(cell) {
  for (const child of cell.cells) if (child.isOpen) arrange(child);
  const items = [...cell.cells, ...cell.ports.values()];
  const place = new Map(items.map((item, k) => [item, k]));
  const segments = [...cell.segments.values()];
  const links = segments.map(({ start, end }) => ({
    from: place.get(start.cell ?? start.port),
    to: place.get(end.cell ?? end.port),
    fromX: offset(start),
    toX: offset(end),
    weight: LEAVES.has(start.cell?.item.kind) ? 0.1 : 4,
  }));
  const drawn = layered(items, links);
  items.forEach((item, k) => {
    item.x = drawn.x[k] + PAD.side;
    item.y = drawn.y[k] + PAD.top;
  });
  segments.forEach((found, k) => {
    found.points = drawn.paths[k].map(([x, y]) => [x + PAD.side, y + PAD.top]);
  });
  const title = textWidth(titleOf(cell.item), LABEL_FONT) + 84;
  const wide = drawn.w + 2 * PAD.side;
  cell.w = Math.max(wide, Math.min(title, 320));
  shiftAll(items, segments, (cell.w - wide) / 2);
  cell.h = drawn.h + PAD.top + PAD.bottom;
  for (const port of cell.ports.values()) port.y = port.pin === "top" ? 0 : cell.h;
}

function shiftAll(items, segments, by) {
  for (const item of items) item.x += by;
  for (const { points: list } of segments) for (const point of list) point[0] += by;
}

/** How far from the middle of a box a link leaves it. */
function offset({ cell, port }) {
  return cell && port ? port.x - cell.w / 2 : 0;
}

/** Turn relative places into absolute ones; x and y of a cell stay its centre, left and top become its corner. */
function settle(cell, left, top) {
  Object.assign(cell, { left, top });
  for (const child of cell.cells) {
    child.x += left;
    child.y += top;
    if (child.isOpen) settle(child, child.x - child.w / 2, child.y - child.h / 2);
  }
  for (const found of cell.segments.values()) found.points = found.points.map(([x, y]) => [x + left, y + top]);
  for (const port of cell.ports.values()) {
    port.x += left;
    port.y += top;
  }
}

function points(route) {
  const list = [];
  route.steps.forEach((step, k) => {
    list.push(...step.points);
    const { end } = step;
    if (k + 1 < route.steps.length) list.push([end.port.x, end.port.y]);
  });
  return list;
}

function collectBoxes(cell, scene, view, hasBackward) {
  const put = (box, x, y) => {
    Object.assign(box, { x, y });
    (box.frame ? scene.frames : scene.boxes).push(box);
    scene.boxOf.set(box.id, box);
  };
  for (const child of cell.cells) {
    if (child.isOpen) {
      for (const lane of laneNames(child, view, hasBackward)) {
        const frame = new Box(child.item, lane, true);
        Object.assign(frame, { w: child.w, h: child.h, depth: child.depth });
        put(frame, child.x + (lane === "backward" ? scene.laneAt : 0), child.y);
      }
      collectBoxes(child, scene, view, hasBackward);
      continue;
    }
    if (view.lanes !== "backward") put(child.front, child.x, child.y);
    const height = child.backs.reduce((sum, box) => sum + box.h + PAD.stack, -PAD.stack);
    let at = child.y + height / 2; // backward runs upwards: the op that ran first stands lowest
    for (const box of child.backs) {
      put(box, child.x + scene.laneAt, at - box.h / 2);
      at -= box.h + PAD.stack;
    }
  }
}

function laneNames(cell, view, hasBackward) {
  const lanes = view.lanes === "backward" ? [] : ["forward"];
  if (hasBackward && cell.item.members.some((node) => node.backs.length)) lanes.push("backward");
  return lanes;
}

function addLink(scene, from, to, between, lane) {
  const [start, end] = ends(from, to, lane);
  const link = { from, to, lane, points: [start, ...between, end] };
  const xs = link.points.map((point) => point[0]);
  const ys = link.points.map((point) => point[1]);
  Object.assign(link, { left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) });
  scene.links.push(link);
  from.links.push(link);
  to.links.push(link);
}

/** Where a link leaves a box and enters another: below and above, or at the sides where it changes lanes. */
function ends(from, to, lane) {
  if (lane === "across") {
    const way = from.x < to.x ? 0.5 : -0.5;
    return [
      [from.x + way * from.w, from.y],
      [to.x - way * to.w, to.y],
    ];
  }
  const way = from.y < to.y ? 0.5 : -0.5;
  return [
    [from.x, from.y + way * from.h],
    [to.x, to.y - way * to.h],
  ];
}

/** Finds the box of a node of either lane in a finished scene. */
function boxFinder(scene, represent) {
  return (node) => {
    const home = node.home ?? node;
    const shown = represent(home);
    if (!shown) return null;
    if (shown.isGroup) return scene.boxOf.get(node.backward ? `${shown.id}~` : shown.id);
    return scene.boxOf.get(node.backward ? shown.backs[home.backs.indexOf(node)]?.id : shown.id);
  };
}

/** Links from one lane to the other: a gradient that the forward pass goes on with. */
function addLinksAcross(model, scene) {
  const drawn = new Set();
  for (const node of model.nodes) {
    for (const next of node.outs) {
      if (node.backward === next.backward) continue;
      const [from, to] = [scene.boxFor(node), scene.boxFor(next)];
      if (!from || !to || from.frame || to.frame || drawn.has(`${from.id}>${to.id}`)) continue;
      drawn.add(`${from.id}>${to.id}`);
      addLink(scene, from, to, [], "across");
    }
  }
}

/** Backward links run the forward links' ways the other way round, in the second lane. */
function addBackwardLinks(model, scene, represent, routes) {
  const drawn = new Set();
  for (const node of model.nodes) {
    if (!node.backward) continue;
    for (const next of node.outs) {
      if (!next.backward || (model.folds.size && crossesFold(node, next))) continue;
      const [from, to] = [scene.boxFor(node), scene.boxFor(next)];
      const key = from && to && `${from.id}>${to.id}`;
      if (!from || !to || from === to || from.frame || to.frame || drawn.has(key)) continue;
      drawn.add(key);
      const route = routes.get(`${represent(next.home).id}>${represent(node.home).id}`);
      const way = route
        ? points(route)
            .reverse()
            .map(([x, y]) => [x + scene.laneAt, y])
        : [];
      addLink(scene, from, to, way, "backward");
    }
  }
}
