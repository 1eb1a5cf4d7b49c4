// Mouse, touch and keyboard.

const HELP = [
  ["drag, or Shift + arrows", "move the picture"],
  ["wheel, + and −", "zoom"],
  ["0", "see everything"],
  ["1", "back to the beginning"],
  ["click, arrows", "select; up and down follow links, left and right go to neighbours"],
  ["double-click, Enter", "open or close a module"],
  ["x", "fold or unfold repeats"],
  ["m", "jump between forward and backward"],
  ["/", "search; Enter goes to the next match"],
  ["c", "next colouring"],
  ["p", "parameters on or off"],
  ["t", "table"],
  ["d", "light or dark"],
  ["Esc", "let go"],
  ["?", "this list"],
];

class Controls {
  constructor(page) {
    Object.assign(this, { page, pointers: new Map(), moved: false });
    this.tip = document.getElementById("tip");
    this.toolbar();
    this.pointer(page.canvas);
    this.minimap(page.map);
    document.addEventListener("keydown", (event) => this.key(event));
    this.watchSize();
    document
      .getElementById("keys")
      .replaceChildren(...HELP.flatMap(([key, what]) => [h("dt", {}, key), h("dd", {}, what)]));
  }

  /** Draw anew in another size; a frame that nobody has scrolled to has none, and its picture waits for it. */
  watchSize() {
    const { page } = this;
    let waiting = !page.canvas.clientWidth;
    new ResizeObserver(() => {
      page.state.map = null;
      if (waiting && page.canvas.clientWidth) {
        waiting = false;
        page.home();
      }
      page.draw();
    }).observe(page.canvas);
  }

  toolbar() {
    const { page } = this;
    const on = (id, event, action) => document.getElementById(id).addEventListener(event, action);
    on("colour", "change", (event) => page.setMode(event.target.value));
    on("lanes", "change", (event) => page.setLanes(event.target.value));
    on("depth", "change", (event) => page.setDepth(Number(event.target.value)));
    on("leaves", "change", (event) => page.setLeaves(event.target.checked));
    on("as-table", "click", () => page.showTable(page.table.element.hidden));
    on("theme", "click", () => page.setTheme(page.theme === "dark" ? "light" : "dark"));
    on("fit", "click", () => page.home(true));
    on("help", "click", () => document.getElementById("help-text").showModal());
    const depth = depthOf(page.model);
    const options = Array.from({ length: depth + 1 }, (_, k) =>
      h("option", { value: k }, k === 0 ? "top" : k === depth ? "all" : String(k)),
    );
    document
      .getElementById("depth")
      .replaceChildren(h("option", { value: "", selected: true, disabled: true }, "…"), ...options);
    document.getElementById("leaves").checked = page.view.leaves;
    const lanes = document.getElementById("lanes");
    lanes.value = page.view.lanes;
    lanes.disabled = !page.model.hasBackward;
  }

  pointer(canvas) {
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.release(event));
    canvas.addEventListener("pointerleave", () => this.hover(null));
    canvas.addEventListener("dblclick", (event) => this.open(event));
    canvas.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
  }

  press(event) {
    this.page.canvas.focus();
    this.page.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = false;
    this.travelled = 0;
  }

  move(event) {
    const { camera } = this.page;
    const last = this.pointers.get(event.pointerId);
    if (!last) {
      this.hover(this.page.boxAt(event.offsetX, event.offsetY), event);
      return;
    }
    const [dx, dy] = [event.offsetX - last[0], event.offsetY - last[1]];
    this.travelled += Math.abs(dx) + Math.abs(dy);
    if (this.travelled < 4) return;
    this.moved = true;
    if (this.pointers.size === 2) this.pinch(event);
    else {
      camera.x -= dx / camera.scale;
      camera.y -= dy / camera.scale;
    }
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.hover(null);
    this.page.draw();
  }

  pinch(event) {
    const [[, other]] = [...this.pointers].filter(([id]) => id !== event.pointerId);
    const last = this.pointers.get(event.pointerId);
    const apart = (point) => Math.hypot(point[0] - other[0], point[1] - other[1]);
    const now = [event.offsetX, event.offsetY];
    this.page.camera.zoom(apart(now) / Math.max(apart(last), 1), (now[0] + other[0]) / 2, (now[1] + other[1]) / 2);
  }

  release(event) {
    if (!this.pointers.delete(event.pointerId) || this.moved || event.type === "pointercancel") return;
    const box = this.page.boxAt(event.offsetX, event.offsetY);
    if (box && this.onBadge(box, event)) this.page.toggleFold(box.item);
    else if (box && this.onArrow(box, event)) this.page.toggle(box.item);
    else this.page.select(box ? box.item : null);
  }

  /** Over the ×12 of repeats, which stands at a box's upper right corner. */
  onBadge(box, event) {
    if (!box.item.fold) return false;
    const [x, y] = this.page.camera.toScene(event.offsetX, event.offsetY);
    const [right, top] = [box.x + box.w / 2, box.y - box.h / 2];
    return right - x < 52 && y - top < (box.frame ? 30 : BADGE.up / 4);
  }

  /** Over the ▾ of a frame. */
  onArrow(box, event) {
    if (!box.frame) return false;
    const [x, y] = this.page.camera.toScene(event.offsetX, event.offsetY);
    return x - (box.x - box.w / 2) < 28 && y - (box.y - box.h / 2) < 32;
  }

  open(event) {
    const box = this.page.boxAt(event.offsetX, event.offsetY);
    if (box?.item.isGroup && !this.onBadge(box, event) && !this.onArrow(box, event)) this.page.toggle(box.item);
  }

  wheel(event) {
    const passing = this.page.embedded && document.activeElement !== this.page.canvas;
    if (passing && !event.ctrlKey) return; // let a notebook scroll
    event.preventDefault();
    const { camera } = this.page;
    const lines = event.deltaMode === 1 ? 20 : 1;
    if (event.shiftKey) camera.x += ((event.deltaX || event.deltaY) * lines) / camera.scale;
    else camera.zoom(Math.exp(-event.deltaY * lines * (event.ctrlKey ? 0.01 : 0.0016)), event.offsetX, event.offsetY);
    this.hover(null);
    this.page.draw();
  }

  hover(box, event = null) {
    const { state, canvas } = this.page;
    if (box && event) this.showTip(box, event);
    else this.tip.hidden = true;
    if (state.hovered === box) return;
    state.hovered = box;
    canvas.dataset.hovered = box ? box.id : "";
    canvas.dataset.partners =
      box && !box.frame
        ? state.scene.boxes
            .filter((other) => other !== box && isPartner(box, other))
            .map((other) => other.id)
            .join(" ")
        : "";
    canvas.style.cursor = box ? "pointer" : "grab";
    this.page.draw();
  }

  showTip(box, event) {
    const { item } = box;
    const both = ["forward", "backward"].map((lane) => this.tipTime(item, lane)).filter(Boolean);
    const lines = [h("b", {}, titleOf(item)), box.frame ? (item.type ?? "") : box.note, ...both];
    if (!item.isGroup && item.source) lines.push(`${item.source.file}:${item.source.line}`);
    this.tip.replaceChildren(...lines.filter(Boolean).map((line) => h("div", {}, line)));
    this.tip.hidden = false;
    const { clientWidth, clientHeight } = this.page.canvas;
    const left = Math.min(event.offsetX + 16, clientWidth - this.tip.offsetWidth - 8);
    const top =
      event.offsetY + 20 + this.tip.offsetHeight > clientHeight
        ? event.offsetY - this.tip.offsetHeight - 10
        : event.offsetY + 20;
    Object.assign(this.tip.style, { left: `${Math.max(left, 0)}px`, top: `${Math.max(top, 0)}px` });
  }

  tipTime(item, lane) {
    const home = item.home ?? item;
    const nodes = item.isGroup ? nodesOf(item, lane) : lane === "forward" ? [home] : home.backs;
    const seconds = total(nodes.map(METRICS.seconds.of));
    return seconds === null ? null : `${lane} ${secondsText(seconds)}`;
  }

  minimap(map) {
    const go = (event) => {
      const { page } = this;
      if (!event.buttons || !page.mapAt) return;
      const { scale, left, top } = page.mapAt;
      page.camera.centre(
        (event.offsetX - left) / scale,
        (event.offsetY - top) / scale,
        page.canvas.clientWidth,
        page.canvas.clientHeight,
      );
      page.draw();
    };
    map.addEventListener("pointerdown", go);
    map.addEventListener("pointermove", go);
  }

  key(event) {
    const { page } = this;
    if (event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help-text").open) return;
    const typing =
      /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? "") &&
      document.activeElement.type !== "checkbox";
    if (typing) return;
    const onPage = KEYS[event.key];
    const onCanvas =
      document.activeElement === page.canvas || document.activeElement === document.body
        ? CANVAS_KEYS[event.key]
        : null;
    if (onCanvas) onCanvas(page, event);
    else if (onPage) onPage(page, event);
    else return;
    event.preventDefault();
  }
}

const KEYS = {
  "/": () => document.getElementById("search").focus(),
  "?": () => document.getElementById("help-text").showModal(),
  c: (page) => nextMode(page),
  d: (page) => page.setTheme(page.theme === "dark" ? "light" : "dark"),
  m: (page) => jumpAcross(page),
  p: (page) => document.getElementById("leaves").click(),
  t: (page) => page.showTable(page.table.element.hidden),
  x: (page) => {
    if (page.state.selected?.fold) page.toggleFold(page.state.selected);
  },
  Escape: (page) => page.select(null),
};

const CANVAS_KEYS = {
  "+": (page) => zoomMiddle(page, 1.25),
  "=": (page) => zoomMiddle(page, 1.25),
  "-": (page) => zoomMiddle(page, 0.8),
  0: (page) => page.home(true),
  1: (page) => page.home(),
  Enter: (page) => {
    if (page.state.selected?.isGroup) page.toggle(page.state.selected);
  },
  ArrowUp: (page, event) => walk(page, event, 0, -1),
  ArrowDown: (page, event) => walk(page, event, 0, 1),
  ArrowLeft: (page, event) => walk(page, event, -1, 0),
  ArrowRight: (page, event) => walk(page, event, 1, 0),
};

function zoomMiddle(page, factor) {
  page.camera.zoom(factor, page.canvas.clientWidth / 2, page.canvas.clientHeight / 2);
  page.draw();
}

function nextMode(page) {
  const modes = [...document.getElementById("colour").options].map((option) => option.value);
  page.setMode(modes[(modes.indexOf(page.mode) + 1) % modes.length]);
}

/** From a forward op to its backward ops, and on to the next of them; back to the forward op after the last. */
function jumpAcross(page) {
  const { selected } = page.state;
  if (!selected || selected.isGroup) return;
  const round = [selected.home ?? selected, ...(selected.home ?? selected).backs];
  if (round.length > 1) page.goTo(round[(round.indexOf(selected) + 1) % round.length]);
}

/** Arrow keys: up and down along links, left and right to the nearest box beside; with Shift the picture moves. */
function walk(page, event, dx, dy) {
  const { camera, state, canvas } = page;
  if (event.shiftKey) {
    camera.x += (dx * 80) / camera.scale;
    camera.y += (dy * 80) / camera.scale;
    page.draw();
    return;
  }
  const box = state.selected && page.boxFor(state.selected);
  const next = box && !box.frame ? nextBox(state.scene, box, dx, dy) : state.scene.boxes[0];
  if (!next) return;
  page.select(next.item);
  const [x, y] = camera.toScreen(next.x, next.y);
  if (x < 40 || y < 40 || x > canvas.clientWidth - 40 || y > canvas.clientHeight - 40) page.flyTo(next);
}

function nextBox(scene, box, dx, dy) {
  const linked = box.links.map((link) => (link.from === box ? link.to : link.from));
  const distance = (other) => Math.hypot(other.x - box.x, other.y - box.y);
  const ahead = (other) => (other.x - box.x) * dx + (other.y - box.y) * dy > 1;
  const beside = scene.boxes.filter((other) => other.lane === box.lane && Math.abs(other.y - box.y) < 60);
  // the way of the data comes before its parameters
  const aside = (other) => ["parameter", "buffer", "constant"].includes(other.item.kind);
  const candidates = (dy ? linked : beside)
    .filter(ahead)
    .sort((a, b) => (dy ? aside(a) - aside(b) : 0) || distance(a) - distance(b));
  return candidates[0] ?? null;
}
