// The computation as objects: nodes, groups (modules, and slices of very long lists), folded repeats, and who is shown.

const LEAVES = new Set(["input", "parameter", "buffer", "constant"]);
const LONG_LIST = 250; // direct children from which a group is cut into slices, so that none is endless
const OPEN_AT_FIRST = 60; // boxes that the page shows before anybody has clicked

/** A number of the export, where "nan", "inf" and "-inf" stand for what JSON has no sign for; null stays null. */
function number(value) {
  if (typeof value !== "string") return value;
  return { nan: NaN, inf: Infinity, "-inf": -Infinity }[value] ?? NaN;
}

const isLeaf = (node) => LEAVES.has(node.kind);
const isOp = (node) => !isLeaf(node);

class Group {
  /** @param {object} module an entry of the export's modules, or the like of it */
  constructor(module) {
    Object.assign(this, module);
    this.isGroup = true;
    this.label = module.name || module.type || module.path || "module";
    this.parentGroup = null;
    this.children = []; // nodes and groups, in order of execution
    this.members = []; // all forward nodes inside, at any depth, in order of execution
    this.repeat = module.fold ?? null; // what the export says of repeats
    this.fold = null; // the Fold that it belongs to
    this.first = Infinity; // place of its first node in the order of execution
  }

  get isFoldedAway() {
    return this.fold !== null && !this.fold.open && this.fold.first !== this;
  }

  /** Groups around this one, innermost first. */
  get ancestors() {
    const found = [];
    for (let group = this.parentGroup; group; group = group.parentGroup) found.push(group);
    return found;
  }
}

/** Repeats of one block: `first` stands for all until the fold is opened. */
class Fold {
  constructor(id) {
    Object.assign(this, { id, groups: [], first: null, open: false, images: new Map() });
  }

  /** For every node of a repeat, the node of the first block that stands in its place (the block itself if unlike). */
  match() {
    for (const group of this.groups) {
      if (group === this.first) continue;
      this.matchLists(group.members.filter(isOp), this.first.members.filter(isOp));
      this.matchLists(group.members.filter(isLeaf), this.first.members.filter(isLeaf)); // shared ones are in the first alone
    }
  }

  matchLists(nodes, firsts) {
    nodes.forEach((node, k) => {
      const twin = nodes.length === firsts.length && firsts[k].label === node.label ? firsts[k] : this.first;
      this.images.set(node, twin);
    });
  }
}

function makeNode(raw, index) {
  const backward = raw.kind === "backward" || raw.kind === "gradient";
  return { ...raw, index, backward, isGroup: false, ins: [], outs: [], backs: [], home: null, group: null };
}

/** The export as a model: {data, root, nodes, groups, folds, byId, hasBackward}. */
function buildModel(data) {
  const nodes = data.nodes.map(makeNode);
  const byId = new Map(nodes.map((node) => [node.id, node]));
  for (const [start, end] of data.edges) {
    const from = byId.get(start);
    const to = byId.get(end);
    if (!from || !to) continue;
    from.outs.push(to);
    to.ins.push(from);
  }
  if (nodes.every((node) => node.backward)) for (const node of nodes) node.backward = false; // a backward pass alone
  findHomes(nodes, byId);
  const root = new Group({
    id: "root",
    name: data.title || "graph",
    type: "",
    path: "",
    parent: null,
    parameters: null,
  });
  const groups = new Map(data.modules.map((module) => [module.id, new Group(module)]));
  const model = { data, root, nodes, groups, byId, folds: new Map(), hasBackward: nodes.some((node) => node.backward) };
  buildTree(model);
  sliceLongLists(root, groups);
  collectMembers(root);
  findFolds(model);
  return model;
}

/** Give each backward node the forward node beside which it is drawn: its own, else a neighbour's. */
function findHomes(nodes, byId) {
  const forward = nodes.filter((node) => !node.backward);
  const backward = nodes.filter((node) => node.backward);
  for (const node of backward) {
    const leaf = node.kind === "gradient" && node.ins.length ? byId.get(node.forward) : null;
    if (leaf) leaf.gradients = (leaf.gradients ?? 0) + 1;
  }
  for (const node of backward) {
    const own = byId.get(node.forward);
    if (own && !own.backward) node.home = own;
  }
  for (const node of backward) {
    // of several backwards, a leaf's gradients lie beside what made each: a round of a loop is folded with its own
    const several = node.home?.kind !== "op" && byId.get(node.forward)?.gradients > 1;
    if (several && node.ins.length === 1) node.home = node.ins[0].home ?? node.home;
  }
  for (const node of backward) node.home ??= node.ins.find((other) => other.home)?.home ?? null;
  for (const node of [...backward].reverse()) node.home ??= node.outs.find((other) => other.home)?.home ?? null;
  for (const node of backward) {
    node.home ??= forward[forward.length - 1];
    node.home.backs.push(node);
  }
}

function buildTree({ data, root, nodes, groups }) {
  for (const node of nodes) {
    node.group = groups.get((node.backward ? node.home : node).module) ?? root;
    if (node.backward) continue;
    node.group.children.push(node);
    for (let group = node.group; group; group = groups.get(group.parent))
      group.first = Math.min(group.first, node.index);
  }
  for (const module of data.modules) {
    const group = groups.get(module.id);
    if (group.first === Infinity) continue; // a module that ran nothing has nothing to show
    group.parentGroup = groups.get(module.parent) ?? root;
    group.parentGroup.children.push(group);
  }
  const place = (item) => (item.isGroup ? item.first : item.index);
  for (const group of [root, ...groups.values()]) group.children.sort((a, b) => place(a) - place(b));
}

/** Cut a list of hundreds of children into slices that open and close like modules. */
function sliceLongLists(group, groups) {
  for (const child of group.children) if (child.isGroup) sliceLongLists(child, groups);
  const loose = group.children.filter((child) => !child.repeat && !LEAVES.has(child.kind));
  if (loose.length <= LONG_LIST) return;
  const size = Math.ceil(Math.sqrt(loose.length));
  const sliceOf = new Map();
  const slices = [];
  for (let start = 0; start < loose.length; start += size) {
    const part = loose.slice(start, start + size);
    const name = `steps ${start + 1}–${start + part.length}`;
    const slice = new Group({
      id: `${group.id}/${start}`,
      name,
      type: "",
      path: group.path,
      parent: group.id,
      parameters: null,
    });
    slice.parentGroup = group;
    slices.push(slice);
    groups.set(slice.id, slice);
    for (const child of part) sliceOf.set(child, slice);
  }
  const kept = [];
  for (const child of group.children) {
    const slice = sliceOf.get(child) ?? (LEAVES.has(child.kind) ? onlyUser(child, sliceOf) : null);
    if (!slice) kept.push(child);
    else adopt(slice, child);
  }
  group.children = [...kept, ...slices];
}

/** The slice that holds all users of a parameter or input; one that several use stays outside. */
function onlyUser(leaf, sliceOf) {
  const slices = new Set(leaf.outs.filter((user) => !user.backward).map((user) => sliceOf.get(user)));
  return slices.size === 1 ? [...slices][0] : null;
}

function adopt(slice, child) {
  slice.children.push(child);
  slice.first = Math.min(slice.first, child.isGroup ? child.first : child.index);
  if (child.isGroup) {
    child.parentGroup = slice;
    return;
  }
  child.group = slice;
  for (const back of child.backs) back.group = slice;
}

function collectMembers(group) {
  for (const child of group.children) {
    if (!child.isGroup) group.members.push(child);
    else group.members.push(...collectMembers(child));
  }
  group.members.sort((a, b) => a.index - b.index);
  return group.members;
}

function findFolds({ groups, folds }) {
  for (const group of groups.values()) {
    if (!group.repeat || group.first === Infinity) continue;
    const { group: id, first } = group.repeat;
    if (!folds.has(id)) folds.set(id, new Fold(id));
    group.fold = folds.get(id);
    group.fold.groups.push(group);
    if (first === group.id) group.fold.first = group;
  }
  for (const fold of folds.values()) {
    fold.first ??= fold.groups[0];
    fold.match();
  }
}

/** Children of a group that are drawn when it is open. */
function shownChildren(group, view) {
  return group.children.filter((child) => {
    if (child.isGroup) return !child.isFoldedAway;
    return view.leaves || !LEAVES.has(child.kind) || child.kind === "input";
  });
}

/** Open modules level by level while the picture stays small enough to read. */
function openAtFirst(model, view) {
  let level = [model.root];
  let count = 1;
  while (level.length) {
    const more = level.reduce((sum, group) => sum + shownChildren(group, view).length - 1, 0);
    if (count + more > OPEN_AT_FIRST && level[0] !== model.root) return;
    count += more;
    for (const group of level) view.open.add(group);
    level = level.flatMap((group) => shownChildren(group, view).filter((child) => child.isGroup));
  }
}

/** Open modules down to `depth` levels below the whole, close all others. */
function openToDepth(model, view, depth) {
  view.open.clear();
  const visit = (group, level) => {
    if (level > depth) return;
    view.open.add(group);
    for (const child of group.children) if (child.isGroup) visit(child, level + 1);
  };
  visit(model.root, 0);
}

function depthOf(model) {
  const visit = (group) => 1 + Math.max(-1, ...group.children.filter((child) => child.isGroup).map(visit));
  return visit(model.root);
}

/** Nodes that are drawn when all modules are open and repeats are folded. */
function unfoldedCount(model) {
  const visit = (group) =>
    group.children.reduce((sum, child) => sum + (child.isGroup ? (child.isFoldedAway ? 0 : visit(child)) : 1), 0);
  return visit(model.root);
}

/** What a node is drawn as: {item, fold, block}: itself, a closed group around it, or null where neither is shown. */
function findRepresentatives(model, view) {
  const shown = new Map();
  const visit = (group) => {
    for (const child of shownChildren(group, view)) {
      if (!child.isGroup) shown.set(child, child);
      else if (view.open.has(child)) visit(child);
      else for (const node of child.members) shown.set(node, child);
    }
  };
  visit(model.root);
  return (node) => {
    const image = imageOf(node);
    return image.isGroup ? groupShown(image, view) : (shown.get(image) ?? null);
  };
}

/** Follow folded repeats, outermost first, to the node (or block) that stands for this one. */
function imageOf(node) {
  let current = node;
  for (let turn = 0; turn < 32; turn += 1) {
    const around = current.isGroup ? current : current.group;
    const away = [around, ...around.ancestors].filter((group) => group.isFoldedAway).pop();
    if (!away) return current;
    current = away.fold.images.get(current) ?? away.fold.first;
  }
  return current;
}

function groupShown(group, view) {
  const closed = [group, ...group.ancestors].filter((around) => !view.open.has(around)).pop();
  return closed ?? null;
}

/** True where a link leads from one repeat of a folded block to another, which the picture shows as one. */
function crossesFold(from, to) {
  for (const a of [from.group, ...from.group.ancestors]) {
    if (!a.fold || a.fold.open) continue;
    for (const b of [to.group, ...to.group.ancestors]) if (b.fold === a.fold && a !== b) return true;
  }
  return false;
}

/** Open everything that hides an item, folds too. */
function reveal(item, view) {
  const around = item.isGroup ? item.ancestors : [item.group, ...item.group.ancestors];
  for (const group of item.isGroup ? [item, ...around] : around) if (group.isFoldedAway) group.fold.open = true;
  for (const group of around) view.open.add(group);
  const shownAs = item.backward ? item.home : item;
  if (LEAVES.has(shownAs.kind)) view.leaves = true;
}
