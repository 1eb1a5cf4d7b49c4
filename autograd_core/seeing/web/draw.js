// The scene on a canvas: only what is in view, with less detail the smaller it is; and the small map in the corner.

const DETAIL = { label: 0.34, note: 0.55, round: 0.2, curve: 0.12 }; // scales from which these are drawn

const BADGE = { up: 14, out: 7 }; // how far the ×12 of a closed box stands out
const SPECK = 4; // pixels below which a link is left out

/** Where the eye is: scene coordinates of the left upper corner, and pixels a unit. */
class Camera {
  constructor() {
    Object.assign(this, { x: 0, y: 0, scale: 1 });
  }

  toScene(px, py) {
    return [px / this.scale + this.x, py / this.scale + this.y];
  }

  toScreen(x, y) {
    return [(x - this.x) * this.scale, (y - this.y) * this.scale];
  }

  /** Change the scale, keeping the point under (px, py) where it is. */
  zoom(factor, px, py) {
    const [x, y] = this.toScene(px, py);
    this.scale = Math.min(Math.max(this.scale * factor, 0.004), 4);
    this.x = x - px / this.scale;
    this.y = y - py / this.scale;
  }

  centre(x, y, width, height) {
    this.x = x - width / 2 / this.scale;
    this.y = y - height / 2 / this.scale;
  }
}

/** Colours of the page, read from its style sheet. */
function readInks() {
  const style = getComputedStyle(document.documentElement);
  const names = ["canvas", "ink", "muted", "line", "line-back", "accent", "frame", "frame-line", "unknown", "warning"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function sizeCanvas(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  return { width, height, ratio };
}

/** @param {object} state {scene, camera, colouring, inks, selected, hovered, matches} */
function drawScene(canvas, state) {
  const { width, height, ratio } = sizeCanvas(canvas);
  const context = canvas.getContext("2d");
  const { camera, scene, inks } = state;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = inks.canvas;
  context.fillRect(0, 0, width, height);
  const [left, top] = camera.toScene(0, 0);
  const [right, bottom] = camera.toScene(width, height);
  const seen = (box) =>
    box.x + box.w / 2 >= left && box.x - box.w / 2 <= right && box.y + box.h / 2 >= top && box.y - box.h / 2 <= bottom;
  context.scale(camera.scale, camera.scale);
  context.translate(-camera.x, -camera.y);
  drawLaneTitles(context, state);
  const frames = scene.frames.filter((frame) => frame.w * camera.scale > SPECK && seen(frame));
  for (const frame of frames) drawFrame(context, frame, state);
  drawLinks(context, state, { left, right, top, bottom });
  if (camera.scale >= DETAIL.label * 0.6) for (const frame of frames) drawFrameTitle(context, frame, state);
  for (const box of scene.boxes) if (seen(box)) drawBox(context, box, state);
  context.globalAlpha = 1;
  drawEmphasis(context, state);
}

function drawLaneTitles(context, { scene, camera, inks }) {
  if (scene.lanes !== "both" || scene.laneAt === 0 || scene.w <= scene.laneAt) return;
  const size = Math.min(15 / camera.scale, 60);
  context.font = `600 ${size}px system-ui, sans-serif`;
  context.fillStyle = inks.muted;
  context.textAlign = "center";
  context.textBaseline = "bottom";
  const middle = (scene.laneAt - PAD.lane) / 2;
  context.fillText("forward ↓", middle, 14);
  context.fillText("backward ↑", middle + scene.laneAt, 14);
}

function drawFrame(context, frame, { camera, inks, selected }) {
  const [x, y] = [frame.x - frame.w / 2, frame.y - frame.h / 2];
  context.fillStyle = inks.frame;
  if (camera.scale < DETAIL.round / 2 && selected !== frame.item) {
    context.fillRect(x, y, frame.w, frame.h);
    return;
  }
  context.strokeStyle = selected === frame.item ? inks.accent : inks["frame-line"];
  context.lineWidth = selected === frame.item ? 2.5 / Math.min(camera.scale, 1) : 1;
  roundRect(context, x, y, frame.w, frame.h, 10);
  context.fill();
  context.stroke();
}

/** After the links, with a rim, so that a link that passes behind does not strike the title out. */
function drawFrameTitle(context, frame, { inks }) {
  const [x, y] = [frame.x - frame.w / 2, frame.y - frame.h / 2];
  const fold = frame.item.fold;
  const title = `▾ ${clip(frame.label, frame.w - 44 - (fold ? 48 : 0))}`;
  Object.assign(context, {
    textAlign: "left",
    textBaseline: "middle",
    font: LABEL_FONT,
    lineWidth: 5,
    lineJoin: "round",
  });
  context.strokeStyle = inks.canvas;
  context.fillStyle = inks.ink;
  context.strokeText(title, x + 12, y + 17);
  context.fillText(title, x + 12, y + 17);
  if (fold) drawBadge(context, foldText(fold, frame.item), x + frame.w - 12, y + 17, inks);
}

function foldText(fold, group) {
  return fold.open ? `${fold.groups.indexOf(group) + 1}/${fold.groups.length}` : `×${fold.groups.length}`;
}

function drawBadge(context, text, right, y, inks) {
  context.font = LABEL_FONT;
  const wide = textWidth(text, LABEL_FONT) + 12;
  context.fillStyle = inks.accent;
  roundRect(context, right - wide, y - 9, wide, 18, 9);
  context.fill();
  context.fillStyle = inks.canvas;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(text, right - wide / 2, y + 0.5);
}

/** Links of one lane share one path, so that thousands cost one stroke. */
function drawLinks(context, { scene, camera, inks, matches }, view) {
  for (const lane of ["forward", "backward", "across"]) {
    context.setLineDash(lane === "across" ? [5 / camera.scale, 4 / camera.scale] : []);
    context.beginPath();
    const heads = [];
    for (const link of scene.links) {
      if (link.lane !== lane) continue;
      if (link.right < view.left || link.left > view.right || link.bottom < view.top || link.top > view.bottom)
        continue;
      if (link.right - link.left + link.bottom - link.top < SPECK / camera.scale) continue;
      tracePath(context, link.points, camera.scale);
      heads.push(link);
    }
    context.strokeStyle = context.fillStyle = lane === "forward" ? inks.line : inks["line-back"];
    context.globalAlpha = matches ? 0.35 : 1;
    context.lineWidth = Math.max(1.1, Math.min(0.8 / camera.scale, 4));
    context.stroke();
    if (camera.scale > DETAIL.label * 0.7) for (const link of heads) drawHead(context, link);
    context.globalAlpha = 1;
  }
  context.setLineDash([]);
}

function tracePath(context, list, scale) {
  context.moveTo(list[0][0], list[0][1]);
  for (let k = 1; k < list.length; k += 1) {
    const [[ax, ay], [bx, by]] = [list[k - 1], list[k]];
    const bend = (by - ay) * 0.45;
    if (scale < DETAIL.curve || Math.abs(ax - bx) < 1) context.lineTo(bx, by);
    else context.bezierCurveTo(ax, ay + bend, bx, by - bend, bx, by);
  }
}

/** The tip of a link: upright, or sideways where it comes from the other lane. */
function drawHead(context, { points: list, lane }) {
  const [[fromX, fromY], [x, y]] = list.slice(-2);
  const [dx, dy] = lane === "across" ? [Math.sign(x - fromX), 0] : [0, y >= fromY ? 1 : -1];
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(x - 7 * dx - 3.8 * dy, y - 7 * dy - 3.8 * dx);
  context.lineTo(x - 7 * dx + 3.8 * dy, y - 7 * dy + 3.8 * dx);
  context.fill();
}

function drawBox(context, box, state) {
  const { camera, inks, matches, selected, hovered } = state;
  const [x, y] = [box.x - box.w / 2, box.y - box.h / 2];
  const { fill } = box;
  const alpha = matches && !matches.boxes.has(box) ? 0.25 : 1;
  if (context.globalAlpha !== alpha) context.globalAlpha = alpha;
  context.fillStyle = fill ?? inks.unknown;
  if (camera.scale < DETAIL.round) {
    context.fillRect(x, y, box.w, box.h);
  } else {
    context.strokeStyle = inks["frame-line"];
    context.lineWidth = 1;
    if (box.item.fold && !box.item.fold.open) drawStack(context, box, x, y);
    outline(context, box, x, y);
    context.fill();
    if (!fill && selected !== box.item) context.setLineDash([4, 3]);
    const thick = 3 / Math.min(camera.scale, 1);
    if (selected === box.item) Object.assign(context, { strokeStyle: inks.accent, lineWidth: thick });
    else if (box.item.error) Object.assign(context, { strokeStyle: inks.warning, lineWidth: thick });
    else if (hovered && isPartner(hovered, box)) Object.assign(context, { strokeStyle: inks.accent, lineWidth: 2 });
    context.stroke();
    context.setLineDash([]);
  }
  if (camera.scale >= DETAIL.label) drawBoxText(context, box, fill ? inkOn(fill) : inks.ink, state);
}

/** Leaves are pills; everything else has square shoulders. */
function outline(context, box, x, y) {
  const isPill = !box.item.isGroup && (LEAVES.has(box.item.kind) || ["output", "gradient"].includes(box.item.kind));
  roundRect(context, x, y, box.w, box.h, isPill ? Math.min(box.h / 2, 16) : 6);
}

function drawStack(context, box, x, y) {
  for (const by of [8, 4]) {
    outline(context, box, x + by, y + by);
    context.fill();
    context.stroke();
  }
}

function drawBoxText(context, box, ink, { camera, inks }) {
  const notes = box.note && camera.scale >= DETAIL.note;
  const { item } = box;
  context.fillStyle = ink;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = LABEL_FONT;
  const sick = item.error || ["nan", "inf"].includes(healthOf(item, box.lane));
  const label = `${sick ? "⚠ " : ""}${item.isGroup ? "▸ " : ""}${box.label}`;
  context.fillText(clip(label, box.w - 12), box.x, box.y - (notes ? 8 : 0));
  if (notes) {
    context.font = NOTE_FONT;
    context.fillText(clip(box.note, box.w - 10, NOTE_FONT), box.x, box.y + 9);
  }
  if (item.fold)
    drawBadge(
      context,
      foldText(item.fold, item),
      box.x + box.w / 2 + BADGE.out,
      box.y - box.h / 2 - BADGE.up / 3,
      inks,
    );
}

/** What belongs together across the lanes: a forward op and its backward ops; both sides of a group. */
function isPartner(a, b) {
  if (a === b) return true;
  const home = (box) => box.item.home ?? box.item;
  return home(a) === home(b);
}

/** Links of the selected and of the hovered box, and threads between a box and its partners in the other lane. */
function drawEmphasis(context, { scene, camera, inks, selected, hovered }) {
  const boxes = [hovered, ...(selected ? scene.boxes.filter((box) => box.item === selected) : [])].filter(Boolean);
  context.strokeStyle = context.fillStyle = inks.accent;
  for (const box of boxes) {
    context.lineWidth = Math.max(2, 1.6 / camera.scale);
    for (const link of box.links) {
      context.beginPath();
      tracePath(context, link.points, camera.scale);
      context.stroke();
      if (camera.scale > DETAIL.label * 0.7) drawHead(context, link);
    }
    if (!box.frame) drawThreads(context, box, scene, camera);
  }
}

function drawThreads(context, box, scene, camera) {
  context.setLineDash([6 / camera.scale, 4 / camera.scale]);
  context.lineWidth = 1.5 / camera.scale;
  for (const other of scene.boxes) {
    if (other.lane === box.lane || !isPartner(box, other)) continue;
    const way = other.x > box.x ? 1 : -1;
    context.beginPath();
    context.moveTo(box.x + (way * box.w) / 2, box.y);
    context.lineTo(other.x - (way * other.w) / 2, other.y);
    context.stroke();
  }
  context.setLineDash([]);
}

function roundRect(context, x, y, w, h, r) {
  context.beginPath();
  context.roundRect(x, y, w, h, Math.min(r, h / 2, w / 2));
}

function clip(text, room, font = LABEL_FONT) {
  if (textWidth(text, font) <= room) return text;
  let [low, high] = [0, text.length];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (textWidth(`${text.slice(0, middle)}…`, font) <= room) low = middle;
    else high = middle - 1;
  }
  return `${text.slice(0, low)}…`;
}

/** The whole scene, small, with a window where the eye is. Returns the map's scale and margins for clicks. */
function drawMinimap(canvas, state, view) {
  const { width, height, ratio } = sizeCanvas(canvas);
  const { scene, inks, camera } = state;
  const scale = Math.min((width - 8) / Math.max(scene.w, 1), (height - 8) / Math.max(scene.h, 1));
  const at = { scale, left: (width - scene.w * scale) / 2, top: (height - scene.h * scale) / 2 };
  state.map ??= mapPicture(canvas, state, at, ratio);
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.drawImage(state.map, 0, 0);
  context.scale(ratio, ratio);
  context.strokeStyle = inks.accent;
  context.lineWidth = 1.5;
  const [x, y] = [at.left + camera.x * scale, at.top + camera.y * scale];
  const [w, h] = [(view.width / camera.scale) * scale, (view.height / camera.scale) * scale];
  const [x0, y0] = [Math.max(x, 1), Math.max(y, 1)];
  context.strokeRect(
    x0,
    y0,
    Math.max(Math.min(x + w, width - 1) - x0, 3),
    Math.max(Math.min(y + h, height - 1) - y0, 3),
  );
  return at;
}

/** The map without its window, kept until layout, colours or size change. */
function mapPicture(canvas, { scene, colouring, inks }, at, ratio) {
  const picture = document.createElement("canvas");
  Object.assign(picture, { width: Math.max(canvas.width, 1), height: Math.max(canvas.height, 1) });
  const context = picture.getContext("2d");
  context.scale(ratio, ratio);
  for (const box of scene.boxes) {
    context.fillStyle = (colouring.mode === "kind" ? null : box.fill) ?? inks.line;
    const [w, h] = [Math.max(box.w * at.scale, 1), Math.max(box.h * at.scale, 1)];
    context.fillRect(at.left + (box.x - box.w / 2) * at.scale, at.top + (box.y - box.h / 2) * at.scale, w, h);
  }
  return picture;
}
