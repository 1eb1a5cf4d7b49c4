// A layered drawing of one list of items and the links between them: ranks, order in each rank, places.

const GAP = { x: 18, y: 30, thread: 10, rim: 14 }; // between boxes side by side, ranks, links, ranks of links
const COLUMNS_APART = 70;
const TALL = 48; // ranks from which a drawing goes on in a second column, so that it does not become a thread
const MAIN = 40; // how strongly the longest way stays straight
const STRAIGHT = 8; // how strongly a passing link stays straight; links between boxes weigh 1 to 4
const FEW = 4000; // points of links in a layout up to which crossings are counted and more sweeps are made

/**
 * Place items so that links lead downwards, cross seldom and run straight.
 * @param {Array<{w, h, pin}>} items sizes; pin "top" or "bottom" holds an item in the first or last rank
 * @param {Array<{from, to, fromX, toX, weight}>} links indices of items; fromX and toX: offsets from their centres
 * @returns {{w, h, x, y, paths}} size, centres of the items, and for each link the points between its ends
 */
function layered(items, links) {
  if (!items.length) return { w: 0, h: 0, x: [], y: [], paths: [] };
  const graph = { items, links: links.filter((link) => link.from !== link.to) };
  const { rank, main } = rankItems(graph);
  const { points, chains } = threadLinks(graph, rank);
  main.forEach((isMain, k) => {
    points[k].firm = isMain ? MAIN : 1;
  });
  const ranks = orderRanks(points);
  placeAcross(points, ranks);
  const { w, h, columns } = placeDown(ranks);
  const paths = new Map(chains.map(([link, chain]) => [link, thread(points, chain, columns)]));
  return {
    w,
    h,
    x: items.map((_, k) => points[k].x),
    y: items.map((_, k) => points[k].y),
    paths: links.map((link) => paths.get(link) ?? []),
  };
}

/** The way of a link: its points, and where it goes on in another column, round by the foot of one and the head of the other. */
function thread(points, chain, columns) {
  const way = [];
  const down = points[chain[0]].rank < points[chain[chain.length - 1]].rank ? 1 : -1;
  chain.forEach((k, n) => {
    const point = points[k];
    const last = n ? points[chain[n - 1]] : null;
    if (last && last.column !== point.column) way.push(...detour(last, point, columns));
    if (!point.pass) return;
    const half = (down * point.room) / 2; // straight past the boxes of its rank: all bending happens between ranks
    way.push([point.x, point.y - half]);
    if (half) way.push([point.x, point.y + half]);
  });
  return way;
}

function detour(from, to, columns) {
  const [a, b] = [columns[from.column], columns[to.column]];
  const down = from.column < to.column;
  const between = down ? b.left - COLUMNS_APART / 2 : a.left - COLUMNS_APART / 2;
  const [out, into] = down ? [a.bottom + GAP.rim, -GAP.rim] : [-GAP.rim, b.bottom + GAP.rim];
  return [
    [from.x, out],
    [between, out],
    [between, into],
    [to.x, into],
  ];
}

/** The rank of each item, one more than the largest of its sources (those without: just above their user); the main way. */
function rankItems({ items, links }) {
  const outs = items.map(() => []);
  const waiting = items.map(() => 0);
  for (const link of links) {
    outs[link.from].push(link);
    waiting[link.to] += 1;
  }
  const order = topological(items, outs, waiting);
  const place = new Array(items.length);
  order.forEach((item, k) => {
    place[item] = k;
  });
  for (const link of links) link.turned = place[link.from] > place[link.to]; // closes a cycle: drawn, not ranked by
  const rank = items.map((item) => (item.pin ? 0 : 1));
  for (const k of order)
    for (const link of outs[k]) if (!link.turned) rank[link.to] = Math.max(rank[link.to], rank[k] + 1);
  const main = findMainWay(outs, rank, order);
  pullDown(items, links, outs, rank, order);
  const last = Math.max(0, ...rank) + 1;
  items.forEach((item, k) => {
    if (item.pin === "bottom") rank[k] = last;
  });
  return { rank: closeGaps(rank), main };
}

/** Mark the links of the longest ways through the drawing, which will run straight; returns their items. */
function findMainWay(outs, rank, order) {
  const below = rank.map(() => 0);
  for (const k of [...order].reverse())
    for (const link of outs[k]) if (!link.turned) below[k] = Math.max(below[k], below[link.to] + 1);
  const longest = order.reduce((most, k) => Math.max(most, rank[k] + below[k]), 0);
  const main = rank.map((value, k) => longest > 2 && value + below[k] === longest);
  for (const k of order)
    for (const link of outs[k]) if (main[k] && main[link.to] && rank[link.to] === rank[k] + 1) link.weight = MAIN;
  return main;
}

/** Items by their links; where a cycle stops everything, the earliest item goes first. */
function topological(items, outs, waiting) {
  const order = [];
  const done = items.map(() => false);
  const ready = new Heap();
  items.forEach((_, k) => {
    if (!waiting[k]) ready.push(k);
  });
  let earliest = 0;
  while (order.length < items.length) {
    let k = ready.pop();
    if (k === undefined) {
      while (done[earliest]) earliest += 1;
      k = earliest;
    }
    if (done[k]) continue;
    done[k] = true;
    order.push(k);
    for (const link of outs[k]) {
      waiting[link.to] -= 1;
      if (!waiting[link.to] && !done[link.to]) ready.push(link.to);
    }
  }
  return order;
}

/** Smallest number first. */
class Heap {
  constructor() {
    this.list = [];
  }

  push(value) {
    const { list } = this;
    let k = list.push(value) - 1;
    while (k > 0 && list[(k - 1) >> 1] > value) {
      list[k] = list[(k - 1) >> 1];
      k = (k - 1) >> 1;
    }
    list[k] = value;
  }

  pop() {
    const { list } = this;
    const top = list[0];
    const value = list.pop();
    if (!list.length) return top;
    let k = 0;
    for (let child = 1; child < list.length; child = 2 * k + 1) {
      if (child + 1 < list.length && list[child + 1] < list[child]) child += 1;
      if (list[child] >= value) break;
      list[k] = list[child];
      k = child;
    }
    list[k] = value;
    return top;
  }
}

/** Parameters and other items without a source move down to their first user. */
function pullDown(items, links, outs, rank, order) {
  const hasSource = items.map(() => false);
  for (const link of links) if (!link.turned) hasSource[link.to] = true;
  for (const k of order) {
    if (hasSource[k] || items[k].pin) continue;
    const users = outs[k]
      .filter((link) => !link.turned && items[link.to].pin !== "bottom")
      .map((link) => rank[link.to]);
    if (users.length) rank[k] = Math.max(rank[k], Math.min(...users) - 1);
  }
}

function closeGaps(rank) {
  const used = [...new Set(rank)].sort((a, b) => a - b);
  const place = new Map(used.map((value, k) => [value, k]));
  return rank.map((value) => place.get(value));
}

/** Points for items and, one a rank, for links that pass ranks; very long links in very large drawings get none. */
function threadLinks({ items, links }, rank) {
  const points = items.map((item, k) => ({
    rank: rank[k],
    w: item.w,
    h: item.h,
    ups: [],
    downs: [],
    x: 0,
    y: 0,
    pass: false,
  }));
  const spans = links.map((link) => Math.abs(rank[link.to] - rank[link.from]) - 1);
  const longest = affordable(spans, 3 * items.length + 2000);
  const chains = [];
  links.forEach((link, n) => {
    if (spans[n] > longest || spans[n] < 0) return;
    const [from, to, fromX, toX] =
      rank[link.from] < rank[link.to]
        ? [link.from, link.to, link.fromX, link.toX]
        : [link.to, link.from, link.toX, link.fromX];
    const chain = [from];
    let last = from;
    for (let r = rank[from] + 1; r < rank[to]; r += 1) {
      const k = points.push({ rank: r, w: GAP.thread, h: 0, ups: [], downs: [], x: 0, y: 0, pass: true }) - 1;
      join(points[last], points[k], last === from ? fromX : 0, 0, last === from ? link.weight : STRAIGHT);
      chain.push(k);
      last = k;
    }
    join(points[last], points[to], last === from ? fromX : 0, toX, last === from ? 4 * link.weight : link.weight);
    chain.push(to);
    chains.push([link, rank[link.from] < rank[link.to] ? chain : chain.reverse()]);
  });
  return { points, chains };
}

function join(upper, lower, upperX, lowerX, weight) {
  upper.downs.push({ point: lower, own: upperX, other: lowerX, weight });
  lower.ups.push({ point: upper, own: lowerX, other: upperX, weight });
}

/** The largest span so that all spans up to it, together, stay within the budget of points. */
function affordable(spans, budget) {
  let used = 0;
  for (const span of [...spans].sort((a, b) => a - b)) {
    used += Math.max(span, 0);
    if (used > budget) return span - 1;
  }
  return Infinity;
}

/** Points of each rank from left to right, by the mean place of their neighbours, swept down and up. */
function orderRanks(points) {
  const ranks = [];
  for (const point of points) (ranks[point.rank] ??= []).push(point);
  const settle = (row) =>
    row.forEach((point, k) => {
      point.order = k;
    });
  ranks.forEach(settle);
  const small = points.length < FEW;
  let best = null;
  for (let sweep = 0; sweep < (small ? 10 : 4); sweep += 1) {
    const side = sweep % 2 ? "downs" : "ups";
    for (const row of sweep % 2 ? [...ranks].reverse() : ranks) {
      for (const point of row) point.key = barycentre(point, side);
      row.sort((a, b) => a.key - b.key || a.order - b.order);
      settle(row);
    }
    if (!small) continue;
    const found = crossings(ranks);
    if (best === null || found < best.found) best = { found, orders: points.map((point) => point.order) };
    if (found === 0) break;
  }
  if (best)
    points.forEach((point, k) => {
      point.order = best.orders[k];
    });
  for (const row of ranks) row.sort((a, b) => a.order - b.order);
  return ranks;
}

function barycentre(point, side) {
  const links = point[side];
  if (!links.length) return point.order;
  return (
    links.reduce((sum, { point: other, other: shift }) => sum + other.order + shift / (other.w + 1), 0) / links.length
  );
}

/** Pairs of links that cross, between all neighbouring ranks, counted with a tree of partial sums. */
function crossings(ranks) {
  let count = 0;
  for (let r = 0; r + 1 < ranks.length; r += 1) {
    const tree = new Int32Array(ranks[r + 1].length + 2);
    let total = 0;
    for (const point of ranks[r]) {
      const ends = point.downs.map((link) => link.point.order);
      for (const end of ends) {
        let before = 0;
        for (let k = end + 1; k > 0; k -= k & -k) before += tree[k];
        count += total - before;
      }
      for (const end of ends) {
        total += 1;
        for (let k = end + 1; k < tree.length; k += k & -k) tree[k] += 1;
      }
    }
  }
  return count;
}

/** Places across: each point wants the weighted mean of its neighbours; each rank is solved exactly, in sweeps. */
function placeAcross(points, ranks) {
  for (const row of ranks)
    spread(
      row,
      row.map(() => 0),
    );
  const turns = points.length < FEW ? 12 : 5;
  for (let turn = 0; turn < turns; turn += 1) {
    for (const row of ranks)
      spread(
        row,
        row.map((point) => wanted(point, ["ups"])),
      );
    for (const row of [...ranks].reverse())
      spread(
        row,
        row.map((point) => wanted(point, ["downs"])),
      );
  }
  for (const row of ranks)
    spread(
      row,
      row.map((point) => wanted(point, ["ups", "downs"])),
    );
}

function wanted(point, sides) {
  let sum = 0;
  let weight = 0;
  for (const side of sides) {
    for (const link of point[side]) {
      sum += link.weight * (link.point.x + link.other - link.own);
      weight += link.weight;
    }
  }
  return weight ? sum / weight : point.x;
}

/** The places nearest to those wanted, by least squares, that keep order and distance: neighbours in the way are pooled. */
function spread(row, want) {
  const shift = [];
  let at = 0;
  row.forEach((point, k) => {
    if (k > 0) at += (row[k - 1].w + point.w) / 2 + (point.pass || row[k - 1].pass ? GAP.thread : GAP.x);
    shift.push(at);
  });
  const pools = [];
  row.forEach((point, k) => {
    const weight = point.pass ? 1 : point.firm * (4 + point.ups.length + point.downs.length);
    let pool = { sum: weight * (want[k] - shift[k]), weight, count: 1 };
    while (pools.length && mean(pools[pools.length - 1]) >= mean(pool)) {
      const last = pools.pop();
      pool = { sum: last.sum + pool.sum, weight: last.weight + pool.weight, count: last.count + pool.count };
    }
    pools.push(pool);
  });
  let k = 0;
  for (const pool of pools) {
    for (const end = k + pool.count; k < end; k += 1) row[k].x = mean(pool) + shift[k];
  }
}

function mean(pool) {
  return pool.sum / pool.weight;
}

/** Ranks below one another, in columns side by side where they are very many; all points get their final places. */
function placeDown(ranks) {
  const heights = ranks.map((row) => row.reduce((most, point) => Math.max(most, point.h), 0));
  const gaps = heights.map((height, k) => (k === 0 ? 0 : height && heights[k - 1] ? GAP.y : GAP.rim));
  const limit = columnHeight(ranks, heights, gaps);
  const columns = [{ rows: [], bottom: 0 }];
  ranks.forEach((row, k) => {
    let column = columns[columns.length - 1];
    if (column.rows.length && column.bottom + gaps[k] + heights[k] > limit)
      columns.push((column = { rows: [], bottom: 0 }));
    const top = column.rows.length ? column.bottom + gaps[k] : 0;
    for (const point of row)
      Object.assign(point, { y: top + heights[k] / 2, room: heights[k], column: columns.length - 1 });
    column.rows.push(row);
    column.bottom = top + heights[k];
  });
  let at = 0;
  for (const column of columns) {
    const all = column.rows.flat();
    const left = all.reduce((least, point) => Math.min(least, point.x - point.w / 2), Infinity);
    column.left = at;
    for (const point of all) point.x += at - left;
    at = all.reduce((most, point) => Math.max(most, point.x + point.w / 2), at) + COLUMNS_APART;
  }
  return { w: at - COLUMNS_APART, h: Math.max(...columns.map((column) => column.bottom)), columns };
}

/** How high a column may become: without limit for few ranks, else so that the whole is about half as wide as high. */
function columnHeight(ranks, heights, gaps) {
  if (ranks.length < TALL) return Infinity;
  const width =
    COLUMNS_APART + ranks.reduce((most, row) => Math.max(most, row[row.length - 1].x - row[0].x + row[0].w), 0);
  const height = heights.reduce((sum, value, k) => sum + value + gaps[k], 0);
  return Math.max(Math.sqrt(2 * width * height), ...heights);
}
