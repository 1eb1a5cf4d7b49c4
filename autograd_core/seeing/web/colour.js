// Numbers as text, and as colours: by kind of op, by a measured quantity on a scale, or by what is not finite.

function compact(value) {
  if (value === null || value === undefined) return "—";
  const units = [
    [1e12, " T"],
    [1e9, " G"],
    [1e6, " M"],
    [1e3, " k"],
  ];
  for (const [size, unit] of units) if (Math.abs(value) >= size) return digits(value / size) + unit;
  return digits(value);
}

function digits(value) {
  if (!Number.isFinite(value)) return String(value).replace("Infinity", "inf");
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return String(Number(value.toPrecision(3)));
}

function secondsText(value) {
  if (value === null || value === undefined) return "—";
  if (value >= 1) return `${digits(value)} s`;
  return value >= 1e-3 ? `${digits(value * 1e3)} ms` : `${digits(value * 1e6)} µs`;
}

function bytesText(value) {
  if (value === null || value === undefined) return "—";
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  const k = value < 1024 ? 0 : Math.min(4, Math.floor(Math.log2(value) / 10));
  return `${digits(value / 1024 ** k)} ${units[k]}`;
}

/** Sums over the parts that are known; null where none is. */
function total(values) {
  let sum = null;
  for (const value of values) if (value !== null && value !== undefined) sum = (sum ?? 0) + value;
  return sum;
}

function largest(values) {
  let most = null;
  for (const value of values) {
    if (value === null || value === undefined) continue;
    if (most === null || !(value <= most)) most = value; // a NaN is larger than anything: it must be seen
  }
  return most;
}

const gradientOf = (node) => node.gradient ?? (node.backward ? node.value : null);
const flopsText = (value) =>
  value === null || value === undefined ? "—" : `${compact(value)}FLOPs`.replace(/(\d)F/, "$1 F");

/** What a picture can be coloured by: how to read it off a node, how to join the nodes of a group, how to write it. */
const METRICS = {
  seconds: { title: "Time", of: (node) => number(node.seconds), join: total, text: secondsText },
  bytes: { title: "Bytes read and written", of: (node) => number(node.bytes), join: total, text: bytesText },
  saved_bytes: {
    title: "Bytes saved for backward",
    of: (node) => number(node.saved_bytes),
    join: total,
    text: bytesText,
  },
  flops: { title: "FLOPs", of: (node) => number(node.flops), join: total, text: flopsText },
  gradient: {
    title: "Gradient norm",
    of: (node) => number(gradientOf(node)?.norm ?? null),
    join: largest,
    text: digits,
  },
  activation: {
    title: "Activation magnitude (mean |x|)",
    of: (node) => (node.backward ? null : number(node.value?.absolute ?? null)),
    join: largest,
    text: digits,
  },
};

/** Nodes that an item stands for in a lane: itself, or all of a group, with the repeats that a fold hides. */
function nodesOf(item, lane) {
  if (!item.isGroup) return [item];
  const groups = item.fold && !item.fold.open ? item.fold.groups : [item];
  const nodes = groups.flatMap((group) => group.members);
  return lane === "backward" ? nodes.flatMap((node) => node.backs) : nodes;
}

const metricCache = new Map();

function metricOf(name, item, lane) {
  const key = `${name} ${lane} ${item.id} ${item.fold?.open ? 1 : 0}`;
  if (!metricCache.has(key)) {
    const { of, join } = METRICS[name];
    metricCache.set(key, item.isGroup ? join(nodesOf(item, lane).map(of)) : of(item));
  }
  return metricCache.get(key);
}

/** "nan", "inf", "finite", or null where no value was looked at. */
function healthOf(item, lane) {
  const key = `health ${lane} ${item.id} ${item.fold?.open ? 1 : 0}`;
  if (!metricCache.has(key)) {
    const stats = nodesOf(item, lane)
      .flatMap((node) => [node.value, node.gradient])
      .filter(Boolean);
    let found = stats.length ? "finite" : null;
    if (stats.some((one) => one.inf > 0)) found = "inf";
    if (stats.some((one) => one.nan > 0)) found = "nan";
    metricCache.set(key, found);
  }
  return metricCache.get(key);
}

const SCALES = {
  light: ["#fff3d6", "#fdd08e", "#fb9a59", "#e65f3c", "#bb2a2c", "#7a0f24"],
  dark: ["#2c2a4a", "#55307a", "#95367f", "#d24f6a", "#f58a56", "#fbd884"],
};

const KINDS = {
  light: {
    input: "#bfe3d0",
    output: "#bfe3d0",
    parameter: "#ffe08a",
    buffer: "#ead9a8",
    constant: "#e3e5ea",
    gradient: "#f7c6b2",
    backward: "#f6dcd2",
    module: "#d9deea",
    elementwise: "#cfe3fb",
    arithmetic: "#cfe3fb",
    comparison: "#dcdcf8",
    reduction: "#ffdcb5",
    view: "#e4e7ec",
    index: "#eadfc6",
    contraction: "#b9d7a8",
    network: "#f5c9dc",
    random: "#e6cff7",
    creation: "#e8eaee",
    composite: "#eef1f6",
    other: "#dfe6ee",
  },
  dark: {
    input: "#2b6b50",
    output: "#2b6b50",
    parameter: "#7d6312",
    buffer: "#665632",
    constant: "#464b57",
    gradient: "#84432c",
    backward: "#5e4038",
    module: "#38425a",
    elementwise: "#274d78",
    arithmetic: "#274d78",
    comparison: "#45467d",
    reduction: "#7a4d1d",
    view: "#434a57",
    index: "#5b5032",
    contraction: "#3c672b",
    network: "#733853",
    random: "#59367a",
    creation: "#454b56",
    composite: "#3a4252",
    other: "#3d4a5a",
  },
};

const HEALTH = {
  light: { nan: "#d0104c", inf: "#e08a00", finite: "#cdeccf" },
  dark: { nan: "#f0386b", inf: "#d98a1c", finite: "#2d5a38" },
};

const CHANGES = {
  light: { removed: "#f2a3a3", added: "#9fdcab", changed: "#ffcf8a", moved: "#b5d0f7", same: "#eef0f4" },
  dark: { removed: "#8c3030", added: "#2a6b3a", changed: "#805614", moved: "#2c4f86", same: "#2a303b" },
};

/** How an item of a difference of two graphs has changed; of a group, the weightiest of its nodes. */
function changeOf(item, lane) {
  const kinds = new Set(nodesOf(item, lane).map((node) => node.change?.kind ?? "same"));
  return Object.keys(CHANGES.light).find((kind) => kinds.has(kind)) ?? "same";
}

function kindOf(item) {
  if (item.isGroup) return "module";
  if (item.kind === "op") return item.family in KINDS.light ? item.family : "other";
  return item.kind in KINDS.light ? item.kind : "other";
}

/** The colouring of a scene: {mode, fill(box), low, high, log}; fill gives null where nothing is known. */
function makeColouring(mode, scene, theme) {
  if (mode === "kind") return { mode, fill: (box) => KINDS[theme][kindOf(box.item)] };
  if (mode === "nan") return { mode, fill: (box) => HEALTH[theme][healthOf(box.item, box.lane)] ?? null };
  if (mode === "change") return { mode, fill: (box) => CHANGES[theme][changeOf(box.item, box.lane)] };
  const values = scene.boxes.map((box) => metricOf(mode, box.item, box.lane)).filter(Number.isFinite);
  const high = values.reduce((most, value) => Math.max(most, value), 0);
  const positive = values.filter((value) => value > 0);
  const low = positive.reduce((least, value) => Math.min(least, value), high);
  const log = low > 0 && high / low > 100;
  const share = (value) => {
    if (!(value > 0)) return 0;
    if (!log) return high ? Math.min(value / high, 1) : 0;
    return Math.log(value / low) / Math.log(high / low);
  };
  const fill = (box) => {
    const value = metricOf(mode, box.item, box.lane);
    if (value === null) return null;
    return Number.isFinite(value)
      ? onScale(SCALES[theme], share(value))
      : HEALTH[theme][Number.isNaN(value) ? "nan" : "inf"];
  };
  return { mode, fill, low: log ? low : 0, high, log, any: values.length > 0 };
}

function onScale(stops, share) {
  const at = share * (stops.length - 1);
  const k = Math.min(Math.floor(at), stops.length - 2);
  const [a, b] = [channels(stops[k]), channels(stops[k + 1])];
  return `rgb(${a.map((value, c) => Math.round(value + (b[c] - value) * (at - k))).join(",")})`;
}

function channels(colour) {
  if (colour.startsWith("rgb")) return colour.match(/\d+/g).map(Number);
  return [1, 3, 5].map((k) => parseInt(colour.slice(k, k + 2), 16));
}

const inkCache = new Map();

/** Black or white, whichever stands out more on the colour. */
function inkOn(colour) {
  if (!inkCache.has(colour)) {
    const [r, g, b] = channels(colour).map((value) =>
      value / 255 <= 0.03928 ? value / 3294.6 : ((value / 255 + 0.055) / 1.055) ** 2.4,
    );
    inkCache.set(colour, 0.2126 * r + 0.7152 * g + 0.0722 * b > 0.22 ? "#14181f" : "#ffffff");
  }
  return inkCache.get(colour);
}
