// The page: its state, what mouse and keys do, and when things are drawn.

class Page {
  constructor(data) {
    this.model = buildModel(data);
    this.view = {
      open: new Set(),
      leaves: unfoldedCount(this.model) <= 1000,
      lanes: this.model.hasBackward ? "both" : "forward",
    };
    this.canvas = document.getElementById("graph");
    this.map = document.getElementById("map");
    this.panel = document.getElementById("panel");
    this.status = document.getElementById("status");
    this.camera = new Camera();
    this.mode = "kind";
    this.state = { camera: this.camera, selected: null, hovered: null, matches: null };
    this.drawing = 0;
    this.flight = 0;
    this.embedded = window.parent !== window;
    openAtFirst(this.model, this.view);
    this.showChanges();
    this.setTheme(matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    this.search = new Search(this);
    this.table = new Table(document.getElementById("table"), this);
    new Controls(this);
    this.rebuild();
    this.home();
    showDetails(this.panel, this);
  }

  /** For the difference of two graphs: colour by it, and open what holds the changes where they are few. */
  showChanges() {
    const changed = this.model.nodes.filter((node) => node.change);
    if (!changed.length) return;
    const choice = document.getElementById("colour");
    choice.prepend(h("option", { value: "change" }, "change"));
    this.mode = choice.value = "change";
    if (changed.length <= 40) for (const node of changed) reveal(node, this.view);
  }

  /** Lay out again what is open now; `anchor` (an item) stays where it is on the screen. */
  rebuild(anchor = null) {
    const before = anchor && this.boxFor(anchor);
    const old = before && this.camera.toScreen(before.x - before.w / 2, before.y - before.h / 2);
    this.state.scene = buildScene(this.model, this.view);
    this.state.hovered = null;
    const after = old && this.boxFor(anchor);
    if (after) {
      this.camera.x = after.x - after.w / 2 - old[0] / this.camera.scale;
      this.camera.y = after.y - after.h / 2 - old[1] / this.camera.scale;
    }
    const { canvas } = this;
    canvas.dataset.boxes = this.state.scene.boxes.length;
    canvas.dataset.open = [...this.view.open]
      .filter((group) => group !== this.model.root)
      .map((group) => group.id)
      .join(" ");
    this.refresh();
  }

  /** Colours, matches, legend and table anew; the layout stays. */
  refresh() {
    const { state } = this;
    state.colouring = makeColouring(this.mode, state.scene, this.theme);
    for (const box of state.scene.boxes) box.fill = state.colouring.fill(box);
    state.map = null;
    if (state.matches) {
      const found = new Set(state.matches.nodes.map((node) => this.boxFor(node)));
      const holds = (box) =>
        box.item.isGroup && state.matches.nodes.some((node) => nodesOf(box.item, box.lane).includes(node));
      state.matches.boxes = new Set(
        state.scene.boxes.filter((box) => found.has(box) || (found.size <= 50 && holds(box))),
      );
    }
    showLegend(document.getElementById("legend"), this);
    if (!this.table.element.hidden) this.table.fill();
    this.draw();
  }

  draw() {
    if (this.drawing) return;
    this.drawing = requestAnimationFrame(() => {
      this.drawing = 0;
      drawScene(this.canvas, this.state);
      const size = { width: this.canvas.clientWidth, height: this.canvas.clientHeight };
      this.map.style.visibility = this.sees(size) ? "hidden" : "visible";
      this.mapAt = drawMinimap(this.map, this.state, size);
    });
  }

  /** True where the whole picture is in view and needs no map. */
  sees({ width, height }) {
    const {
      camera,
      state: { scene },
    } = this;
    const [left, top] = camera.toScreen(0, 0);
    const [right, bottom] = camera.toScreen(scene.w, scene.h);
    return left >= -20 && top >= -20 && right <= width + 20 && bottom <= height + 20;
  }

  /** The box (or frame) that stands for an item now. */
  boxFor(item) {
    const { boxOf, boxFor } = this.state.scene;
    return boxOf.get(item.id) ?? (item.isGroup ? boxOf.get(`${item.id}~`) : boxFor(item)) ?? null;
  }

  say(text) {
    this.status.textContent = text;
  }

  select(item) {
    this.state.selected = item;
    this.canvas.dataset.selected = item ? item.id : "";
    showDetails(this.panel, this);
    if (item?.isGroup) this.say(`${titleOf(item)}, ${this.view.open.has(item) ? "open" : "closed"}`);
    else if (item) this.say(`${titleOf(item)} ${noteOf(item)}, ${item.kind}`);
    if (!this.table.element.hidden) this.table.draw();
    this.draw();
  }

  /** Select an item and bring it into view, opening what hides it. */
  goTo(item) {
    const { scene } = this.state;
    if (!scene.boxOf.has(item.id) && !scene.boxOf.has(`${item.id}~`)) {
      reveal(item, this.view);
      if (item.backward && this.view.lanes === "forward") this.setLanes("both");
      if (!item.backward && this.view.lanes === "backward") this.setLanes("both");
      this.rebuild();
    }
    this.select(item);
    const box = this.boxFor(item);
    if (box) this.flyTo(box);
  }

  /** Move the eye to a box, smoothly unless the reader asked for no motion. */
  flyTo(box) {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const target = new Camera();
    target.scale = Math.max(this.camera.scale, 0.8);
    if (box.frame) target.scale = Math.min(target.scale, width / (box.w + 40), Math.max(height / (box.h + 40), 0.5));
    const { scene } = this.state;
    const top = Math.min(box.y, box.y - box.h / 2 + height / 2 / target.scale - 20);
    const x = scene.w * target.scale < width - 30 ? scene.w / 2 : box.x; // where both lanes have room, show both
    target.centre(x, box.frame ? top : box.y, width, height);
    this.moveCamera(target);
  }

  moveCamera(target) {
    cancelAnimationFrame(this.flight);
    const start = { ...this.camera };
    const began = performance.now();
    const lasts = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1 : 220;
    const step = (now) => {
      const share = Math.min(Math.max((now - began) / lasts, 0), 1);
      const eased = 1 - (1 - share) ** 3;
      for (const name of ["x", "y", "scale"]) this.camera[name] = start[name] + (target[name] - start[name]) * eased;
      this.draw();
      this.flight = share < 1 ? requestAnimationFrame(step) : 0;
    };
    step(began);
    this.flight = requestAnimationFrame(step);
  }

  /** The whole picture, or its beginning where the whole would be too small to read. */
  home(whole = false) {
    const { scene } = this.state;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    const across = (width - 40) / Math.max(scene.w, 1);
    const fit = Math.min(across, (height - 110) / Math.max(scene.h, 1), 1.25); // leaves room for titles and legend
    const target = new Camera();
    target.scale = whole ? fit : Math.max(fit, Math.min(across, 0.8), 0.5);
    target.centre(scene.w / 2, scene.h / 2 + 16 / target.scale, width, height);
    if (!whole && scene.h * target.scale > height - 40) target.y = -34 / target.scale;
    if (scene.w * target.scale > width) target.x = -20 / target.scale;
    Object.assign(this.camera, { x: target.x, y: target.y, scale: target.scale });
    this.draw();
  }

  toggle(group) {
    if (this.view.open.has(group)) this.view.open.delete(group);
    else this.view.open.add(group);
    this.rebuild(group);
    this.select(group);
  }

  toggleFold(group) {
    const { fold } = group;
    fold.open = !fold.open;
    if (fold.open) this.view.open.add(group.parentGroup);
    const shown = fold.open ? group : fold.first;
    this.rebuild(shown);
    this.select(shown);
    this.say(fold.open ? `${fold.groups.length} repeats shown` : `${fold.groups.length} repeats folded`);
  }

  setDepth(depth) {
    openToDepth(this.model, this.view, depth);
    this.rebuild();
    this.home(true);
    this.say(`${this.state.scene.boxes.length} boxes shown`);
  }

  setMode(mode) {
    this.mode = mode;
    document.getElementById("colour").value = mode;
    this.refresh();
  }

  setLanes(lanes) {
    this.view.lanes = lanes;
    document.getElementById("lanes").value = lanes;
    this.rebuild();
    this.home();
  }

  setLeaves(shown) {
    this.view.leaves = shown;
    this.rebuild(this.state.selected);
  }

  setTheme(theme) {
    this.theme = theme;
    document.documentElement.dataset.theme = theme;
    this.state.inks = readInks();
    if (this.state.scene) this.refresh();
  }

  showTable(shown) {
    this.table.element.hidden = !shown;
    document.getElementById("picture").hidden = shown;
    document.getElementById("as-table").setAttribute("aria-pressed", String(shown));
    if (shown) {
      this.table.fill();
      this.table.follow();
    } else this.draw();
    (shown ? this.table.scroller : this.canvas).focus();
  }

  /** The box under a point of the screen: boxes first, then the innermost frame. */
  boxAt(px, py) {
    const { scene } = this.state;
    const [x, y] = this.camera.toScene(px, py);
    const head = (box) => (box.item.fold && !box.frame ? BADGE.up : 0); // the badge stands out above its box
    const hit = (box) =>
      Math.abs(box.x - x) <= box.w / 2 + head(box) / 2 && y >= box.y - box.h / 2 - head(box) && y <= box.y + box.h / 2;
    const frames = scene.frames.filter(hit).sort((a, b) => b.depth - a.depth);
    return scene.boxes.find(hit) ?? frames[0] ?? null;
  }

  /** Where an item is drawn on the screen, [x, y] in pixels, or null: for scripts that drive the page. */
  where(id, lane = "forward") {
    const { boxOf } = this.state.scene;
    const box = boxOf.get(lane === "backward" ? `${id}~` : id) ?? boxOf.get(id);
    if (!box) return null;
    const { left, top } = this.canvas.getBoundingClientRect();
    const [x, y] = this.camera.toScreen(box.x, box.frame ? box.y - box.h / 2 + 16 : box.y);
    return [left + x, top + y];
  }
}

function start() {
  const data = JSON.parse(document.getElementById("data").textContent);
  window.page = new Page(data);
  requestAnimationFrame(() =>
    requestAnimationFrame(() => {
      document.documentElement.dataset.ready = Math.round(performance.now());
    }),
  );
}

start();
