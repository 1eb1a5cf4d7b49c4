// Search by op, name, module, shape, type or source line; every word must be found somewhere in a node.

function searchText(node) {
  if (node.words === undefined) {
    const { source } = node;
    const place = source ? `${source.file}:${source.line} ${source.function ?? ""} ${source.text ?? ""}` : "";
    const shapes = node.shapes.map(shapeText).join(" ");
    const change = node.change ? CHANGE_WORDS[node.change.kind] : null;
    const parts = [
      change,
      node.id,
      node.label,
      node.op,
      node.name,
      node.kind,
      node.family,
      node.group.path,
      node.group.type,
      shapes,
      shapes.replace(/×/g, "x"),
      node.dtype,
      place,
    ];
    node.words = parts.filter(Boolean).join(" ").toLowerCase();
  }
  return node.words;
}

/** Nodes that hold all words of the query, those with one in their title first; null where the query is empty. */
function findNodes(model, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return null;
  const found = model.nodes.filter((node) => words.every((word) => searchText(node).includes(word)));
  const titled = (node) => words.some((word) => titleOf(node).toLowerCase().includes(word));
  return [...found.filter(titled), ...found.filter((node) => !titled(node))];
}

class Search {
  constructor(page) {
    Object.assign(this, {
      page,
      field: document.getElementById("search"),
      list: document.getElementById("results"),
      at: -1,
    });
    this.field.addEventListener("input", () => this.run());
    this.field.addEventListener("keydown", (event) => this.key(event));
    this.field.addEventListener("focus", () => this.show());
    this.field.addEventListener("blur", () => setTimeout(() => this.hide(), 150));
  }

  run() {
    const nodes = findNodes(this.page.model, this.field.value);
    this.at = -1;
    this.page.state.matches = nodes && { nodes, boxes: new Set() };
    this.page.refresh();
    this.show();
    const count = nodes ? `${nodes.length} of ${this.page.model.nodes.length} nodes found` : "";
    this.page.say(count);
    document.getElementById("count").textContent = nodes ? String(nodes.length) : "";
  }

  show() {
    const { matches } = this.page.state;
    const shown = matches ? matches.nodes.slice(0, 60) : [];
    this.list.replaceChildren(
      ...shown.map((node, k) =>
        h(
          "li",
          {
            role: "option",
            id: `result-${k}`,
            "data-node": node.id,
            "aria-selected": String(k === this.at),
            onmousedown: () => this.choose(k),
          },
          h("b", {}, titleOf(node)),
          ` ${noteOf(node)}`,
          h("small", {}, node.group.path || node.kind),
        ),
      ),
    );
    this.list.hidden = !shown.length;
    this.field.setAttribute("aria-expanded", String(shown.length > 0));
    if (this.at >= 0 && this.at < shown.length) this.field.setAttribute("aria-activedescendant", `result-${this.at}`);
    else this.field.removeAttribute("aria-activedescendant");
    this.list.children[this.at]?.scrollIntoView({ block: "nearest" });
  }

  hide() {
    this.list.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
  }

  choose(k) {
    const { matches } = this.page.state;
    if (!matches || !matches.nodes.length) return;
    this.at = (k + matches.nodes.length) % matches.nodes.length;
    this.page.goTo(matches.nodes[this.at]);
    this.show();
  }

  key(event) {
    const { matches } = this.page.state;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const step = event.key === "ArrowDown" ? 1 : -1;
      if (matches?.nodes.length) this.choose(this.at < 0 && step < 0 ? -1 : this.at + step);
    } else if (event.key === "Enter") {
      this.choose(event.shiftKey ? this.at - 1 : this.at + 1);
    } else if (event.key === "Escape") {
      if (this.field.value) {
        this.field.value = "";
        this.run();
      } else this.field.blur();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
