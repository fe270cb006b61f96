// Use of the experts: a row is a layer, a column an expert. The shade is use relative to uniform use, in half
// octaves from a quarter of it to eight times it, the same scale in every layer.

const SHADES = 13;
const FIRST_BOUND = -2; // the exponent of two below which a used expert has shade 1
const NARROWEST = 2; // device pixels of a cell: where experts are narrower than that, several share one
const SIDE = 40; // pixels left of the cells, for layer numbers
const ABOVE = 18; // pixels above them, for expert numbers

function shadeOf(ratio) {
  if (!(ratio > 0)) return 0;
  const octave = Math.floor(2 * (Math.log2(ratio) - FIRST_BOUND) + 1e-9) + 2;
  return Math.max(1, Math.min(SHADES - 1, octave));
}

// Selections of each layer's experts in a phase, or under a label.
function countsOf(data, choice) {
  const layers = list(data.layers);
  if (choice.startsWith("label ")) {
    const label = list(data.labels).find((one) => one.label === choice.slice(6));
    const found = new Map(list(label?.layers).map((layer) => [layer.layer, layer.counts]));
    return layers.map((layer) => found.get(layer.layer) ?? []);
  }
  if (choice === "decode") return layers.map((layer) => list(layer.decode_counts));
  if (choice === "prefill") return layers.map((layer) => list(layer.prefill_counts));
  return layers.map((layer) => list(layer.counts));
}

const expertsOf = (data, layer) => layer.n_experts ?? Math.max(at(data, "model", "n_experts") ?? 0, list(layer.counts).length);

class Heatmap {
  constructor(page) {
    this.page = page;
    this.order = "number";
    this.choice = "all";
    this.choices = element("select", { id: "heatmap-choice" });
    this.orders = element("select", { id: "heatmap-order" });
    this.orders.append(
      element("option", { value: "number" }, "expert number"),
      element("option", { value: "heat" }, "hottest first"),
    );
    this.choices.addEventListener("change", () => this.#change({ choice: this.choices.value }));
    this.orders.addEventListener("change", () => this.#change({ order: this.orders.value }));
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.axes = drawn("svg", { "aria-hidden": "true" });
    this.cursor = element("div", { class: "cell", hidden: true });
    this.field = element(
      "div",
      {
        class: "field",
        tabindex: "0",
        role: "application",
        "aria-roledescription": "heatmap",
        "aria-label": "Use of experts by layer. Arrow keys move from expert to expert, Enter opens the layer.",
        "aria-describedby": "heatmap-readout",
      },
      this.canvas,
      this.axes,
      this.cursor,
    );
    this.readout = element("p", { id: "heatmap-readout", class: "readout", role: "status" });
    this.note = element("p", { class: "note" });
    this.nodes = [
      element(
        "div",
        { class: "controls" },
        element("label", { for: "heatmap-choice" }, "Selections in", " ", this.choices),
        element("label", { for: "heatmap-order" }, "Columns by", " ", this.orders),
      ),
      this.readout,
      this.field,
      legend(),
      this.note,
    ];
    this.field.addEventListener("keydown", (event) => this.#key(event));
    this.field.addEventListener("pointermove", (event) => this.#show(this.#under(event)));
    this.field.addEventListener("pointerleave", () => this.#show(this.page.chosen));
    this.field.addEventListener("click", (event) => {
      const place = this.#under(event);
      if (place) this.page.choose(place.layer, place.expert);
    });
    new ResizeObserver(() => this.#draw()).observe(this.field);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#draw());
  }

  update(data) {
    this.data = data;
    const labels = list(data.labels).filter((label) => label.layers);
    const wanted = [
      ["all", "all steps"],
      ["decode", "decode steps"],
      ["prefill", "prefill steps"],
      ...labels.map((label) => [`label ${label.label}`, `label ${label.label}`]),
    ].filter(([choice]) => choice === "all" || countsOf(data, choice).some((counts) => counts.some(Boolean)));
    const names = wanted.map(([choice]) => choice);
    if (names.join("\n") !== [...this.choices.options].map((option) => option.value).join("\n")) {
      this.choices.replaceChildren(...wanted.map(([value, text]) => element("option", { value }, text)));
    }
    if (!names.includes(this.choice)) this.choice = "all";
    this.choices.value = this.choice;
    this.#prepare();
    this.#draw();
  }

  // The chosen place has changed.
  move() {
    this.#show(this.page.chosen);
  }

  #change(what) {
    Object.assign(this, what);
    this.#prepare();
    this.#draw();
  }

  #prepare() {
    const counts = countsOf(this.data, this.choice);
    this.layers = list(this.data.layers).map((layer, i) => {
      const experts = expertsOf(this.data, layer);
      const own = Array.from({ length: experts }, (_, expert) => counts[i][expert] ?? 0);
      const order = own.map((_, expert) => expert).sort((a, b) => own[b] - own[a] || a - b);
      const total = own.reduce((sum, count) => sum + count, 0);
      return { layer: layer.layer, counts: own, order, total, experts };
    });
    this.width = Math.max(1, ...this.layers.map((layer) => layer.experts));
  }

  // The expert in a column.
  #expertAt(layer, column) {
    return this.order === "heat" ? layer.order[column] : column;
  }

  #draw() {
    if (!this.layers?.length || !this.field.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const inner = this.field.clientWidth - SIDE;
    this.group = Math.ceil(this.width / Math.floor((inner * ratio) / NARROWEST));
    this.columns = Math.ceil(this.width / this.group);
    this.row = Math.max(5, Math.min(24, Math.floor(600 / this.layers.length)));
    this.cell = inner / this.columns;
    const height = this.row * this.layers.length;
    this.canvas.width = Math.round(inner * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.canvas.style.width = `${inner}px`;
    this.canvas.style.height = `${height}px`;
    this.#paint(ratio);
    this.#label(inner, height);
    setText(
      this.note,
      this.group > 1
        ? `One cell stands for ${this.group} experts and has the shade of the hottest; the keys reach each of them.`
        : "",
    );
    this.#show(this.page.chosen);
  }

  #paint(ratio) {
    const style = getComputedStyle(this.field);
    const colours = Array.from({ length: SHADES }, (_, i) => rgb(style.getPropertyValue(`--heat-${i}`)));
    const cells = new ImageData(this.columns, this.layers.length);
    this.layers.forEach((layer, y) => {
      for (let column = 0; column < this.columns; column++) {
        let most = 0;
        for (let i = column * this.group; i < Math.min((column + 1) * this.group, layer.experts); i++) {
          most = Math.max(most, layer.counts[this.#expertAt(layer, i)]);
        }
        if (column * this.group >= layer.experts) continue; // no such expert: transparent
        const colour = colours[shadeOf(layer.total ? (most / layer.total) * layer.experts : 0)];
        cells.data.set([...colour, 255], 4 * (y * this.columns + column));
      }
    });
    const small = new OffscreenCanvas(this.columns, this.layers.length);
    small.getContext("2d").putImageData(cells, 0, 0);
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    context.drawImage(small, 0, 0, this.canvas.width, this.canvas.height);
    if (this.row < 8) return;
    for (let y = 1; y < this.layers.length; y++) {
      context.clearRect(0, Math.round(y * this.row * ratio), this.canvas.width, 1);
    }
  }

  #label(inner, height) {
    this.axes.setAttribute("width", inner + SIDE);
    this.axes.setAttribute("height", height + ABOVE + 4);
    const every = Math.ceil(14 / this.row);
    const rows = this.layers.map((layer, y) =>
      y % every ? "" : drawn("text", { x: SIDE - 6, y: ABOVE + (y + 0.5) * this.row + 4, "text-anchor": "end" }, `${layer.layer}`),
    );
    const columns = ticks(0, this.width - 1, Math.max(2, Math.floor(inner / 70)))
      .filter(Number.isInteger)
      .map((column) => {
        const x = SIDE + (Math.floor(column / this.group) + 0.5) * this.cell;
        const first = column === 0 && this.cell < 16 ? { x: SIDE, "text-anchor": "start" } : { x, "text-anchor": "middle" };
        return drawn("text", { y: ABOVE - 5, ...first }, whole(this.order === "heat" ? column + 1 : column));
      });
    const corner = drawn("text", { class: "unit", x: 0, y: ABOVE - 5 }, this.order === "heat" ? "rank" : "expert");
    this.axes.replaceChildren(corner, ...columns, ...rows);
  }

  // What lies under the pointer: the hottest expert of the cell.
  #under(event) {
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / this.cell);
    const layer = this.layers[Math.floor((event.clientY - box.top) / this.row)];
    if (!layer || column < 0 || column >= this.columns) return null;
    const within = Array.from({ length: this.group }, (_, i) => column * this.group + i)
      .filter((i) => i < layer.experts)
      .map((i) => this.#expertAt(layer, i));
    if (!within.length) return null;
    return { layer: layer.layer, expert: within.reduce((a, b) => (layer.counts[b] > layer.counts[a] ? b : a)) };
  }

  #show(place) {
    const row = this.layers.findIndex((layer) => layer.layer === place?.layer);
    this.cursor.hidden = row < 0;
    if (row < 0) return setText(this.readout, "Point at a cell, or use the arrow keys.");
    const layer = this.layers[row];
    const expert = Math.min(place.expert, layer.experts - 1);
    const column = this.order === "heat" ? layer.order.indexOf(expert) : expert;
    Object.assign(this.cursor.style, {
      left: `${SIDE + Math.floor(column / this.group) * this.cell}px`,
      top: `${ABOVE + row * this.row}px`,
      width: `${this.cell}px`,
      height: `${this.row}px`,
    });
    setText(this.readout, this.describe(layer, expert));
  }

  describe(layer, expert) {
    const count = layer.counts[expert];
    const share = layer.total ? count / layer.total : NaN;
    return [
      `Layer ${layer.layer}`,
      `expert ${expert}`,
      percent(share),
      `${times(share * layer.experts)} uniform`,
      `${ordinal(layer.order.indexOf(expert) + 1)} of ${whole(layer.experts)}`,
      `${whole(count)} of ${plural(layer.total, "selection")}`,
    ].join(" · ");
  }

  #key(event) {
    const { layer, expert } = this.page.chosen;
    const row = this.layers.findIndex((one) => one.layer === layer);
    const own = this.layers[row];
    if (!own || event.ctrlKey || event.altKey || event.metaKey) return;
    const column = this.order === "heat" ? own.order.indexOf(expert) : expert;
    const moves = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      PageUp: [-10, 0],
      PageDown: [10, 0],
      Home: [0, -column],
      End: [0, own.experts - 1 - column],
    };
    if (event.key === "Enter") location.hash = linkToLayer(layer);
    else if (!moves[event.key]) return;
    event.preventDefault();
    if (!moves[event.key]) return;
    const [down, right] = moves[event.key];
    const next = this.layers[Math.max(0, Math.min(this.layers.length - 1, row + down))];
    const place = Math.max(0, Math.min(next.experts - 1, column + right));
    this.page.choose(next.layer, this.#expertAt(next, place));
  }
}

function rgb(colour) {
  return [1, 3, 5].map((i) => parseInt(colour.trim().slice(i, i + 2), 16));
}

function legend() {
  const names = { 0: "never", 2: "¼", 4: "½", 6: "1", 8: "2", 10: "4", 12: "8×" };
  const swatches = Array.from({ length: SHADES }, (_, i) =>
    element("li", {}, element("span", { class: `swatch h${i}` }), names[i] ?? ""),
  );
  return element("ul", { class: "legend", "aria-label": "Shades: use relative to uniform use" }, ...swatches);
}
