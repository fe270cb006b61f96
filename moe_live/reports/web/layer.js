// One layer with all that is known of it: the one that is chosen in the heatmap, in a table or by the address.

class LayerPanel {
  constructor(page) {
    this.page = page;
    this.earlier = this.#step("‹ layer before", -1);
    this.later = this.#step("layer after ›", 1);
    this.facts = element("dl", { class: "facts" });
    this.bars = drawn("svg", { class: "bars", role: "img" });
    this.bars.addEventListener("click", (event) => this.#pick(event.offsetX));
    new ResizeObserver(() => this.#draw()).observe(this.bars);
    this.table = new Table(
      "Experts of this layer",
      [
        { title: "expert", value: (row) => row.expert, falling: false },
        { title: "selections", value: (row) => row.count, text: whole },
        { title: "share", value: (row) => row.share, text: percent },
        { title: "× uniform", value: (row) => row.ratio, text: times },
        { title: "rank", value: (row) => row.rank, falling: false },
        { title: "decode", value: (row) => row.decode, text: whole, optional: true },
        { title: "prefill", value: (row) => row.prefill, text: whole, optional: true },
        { title: "share of gate mass", value: (row) => row.mass, text: percent, optional: true },
      ],
      { chosen: (row) => row.expert === page.chosen.expert, sortedBy: 1, long: true },
    );
    this.cache = new Chart("A cache of n of this layer's experts: share of uses found in it", {
      x: "experts",
      y: "",
      high: 1,
    });
    this.nodes = [
      element("p", { class: "controls" }, this.earlier, this.later),
      this.facts,
      element("figure", {}, element("figcaption", {}, "Selections of each expert, hottest first"), this.bars),
      beside(this.table.node, this.cache.node),
    ];
  }

  get title() {
    return `Layer ${this.page.chosen.layer}`;
  }

  update(data) {
    this.data = data;
    this.layer = list(data.layers).find((layer) => layer.layer === this.page.chosen.layer);
    if (!this.layer) return;
    const numbers = list(data.layers).map((layer) => layer.layer);
    this.earlier.disabled = this.layer.layer === numbers[0];
    this.later.disabled = this.layer.layer === numbers.at(-1);
    const facts = factsOf(data, this.layer).filter(([, text]) => !text.includes(ABSENT));
    this.facts.replaceChildren(...factList(facts));
    this.experts = expertRows(data, this.layer);
    this.table.update(this.experts);
    const locality = record(this.layer.locality);
    this.cache.node.hidden = !list(locality.lru_hit_rate).some(known);
    this.cache.update(hitRates(locality, this.experts.length));
    this.#draw();
  }

  #step(text, by) {
    const button = element("button", { type: "button" }, text);
    button.addEventListener("click", () => {
      const numbers = list(this.data.layers).map((layer) => layer.layer);
      location.hash = linkToLayer(numbers[numbers.indexOf(this.page.chosen.layer) + by]);
    });
    return button;
  }

  #draw() {
    const width = this.bars.clientWidth;
    if (!width || !this.experts) return;
    const height = 90;
    const ranked = [...this.experts].sort((a, b) => a.rank - b.rank);
    const most = ranked[0]?.count || 1;
    this.pitch = width / ranked.length;
    const uniform = 1 / ranked.length / (ranked[0]?.share || 1);
    const line = height - uniform * height;
    const bars = ranked.map((row, i) =>
      drawn("rect", {
        class: row.expert === this.page.chosen.expert ? "chosen" : "",
        x: (i * this.pitch).toFixed(2),
        y: (height - (row.count / most) * height).toFixed(2),
        width: Math.max(0.5, this.pitch - (this.pitch > 4 ? 1 : 0)).toFixed(2),
        height: ((row.count / most) * height).toFixed(2),
      }),
    );
    this.bars.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.bars.setAttribute("height", height);
    const top = ranked[0];
    const words = `from ${percent(top?.share)} (expert ${top?.expert}) to ${percent(ranked.at(-1)?.share)}; uniform ${percent(1 / ranked.length)}`;
    this.bars.setAttribute("aria-label", `Share of selections by expert, ${words}`);
    this.bars.replaceChildren(
      ...bars,
      drawn("line", { class: "uniform", x1: 0, x2: width, y1: line, y2: line }),
      drawn("text", { class: "tick", x: width - 2, y: Math.max(10, line - 4), "text-anchor": "end" }, "uniform"),
    );
  }

  #pick(x) {
    const ranked = [...this.experts].sort((a, b) => a.rank - b.rank);
    const row = ranked[Math.floor(x / this.pitch)];
    if (row) this.page.choose(this.layer.layer, row.expert);
  }
}

function expertRows(data, layer) {
  const counts = list(layer.counts);
  const total = counts.reduce((sum, count) => sum + count, 0);
  const experts = expertsOf(data, layer);
  const order = counts.map((_, expert) => expert).sort((a, b) => counts[b] - counts[a] || a - b);
  const ranks = [];
  order.forEach((expert, i) => (ranks[expert] = i + 1));
  return Array.from({ length: experts }, (_, expert) => {
    const count = counts[expert] ?? 0;
    const share = total ? count / total : NaN;
    return {
      expert,
      count,
      share,
      ratio: share * experts,
      rank: ranks[expert] ?? experts,
      decode: at(layer, "decode_counts", expert),
      prefill: at(layer, "prefill_counts", expert),
      mass: list(at(layer, "gate_mass", "share"))[expert],
    };
  });
}

// What is said of a layer, as pairs of a name and a text.
function factsOf(data, layer) {
  const [balance, locality, coverage] = [layer.balance, layer.locality, layer.coverage].map(record);
  const of = list(layer.counts).length;
  const drift = record(list(at(data, "drift", "layers")).find((one) => one.layer === layer.layer));
  const next = record(list(data.transitions).find((one) => one.from === layer.layer));
  const [top] = list(layer.top);
  const covered = Object.entries(coverage).map(([share, experts]) => `${roundShare(Number(share))}: ${whole(experts)}`);
  const lags = Object.entries(record(locality.overlap)).filter(([, value]) => known(value));
  const working = Object.entries(record(locality.working_set)).filter(([, value]) => known(value));
  const bits = fixed(3);
  return [
    ["selections", whole(layer.selections)],
    ["experts used", `${whole(layer.experts_used)} of ${whole(of)}`],
    ["most used", top ? `expert ${top.expert}, ${percent(top.share)}, ${times(top.share * of)} uniform` : ABSENT],
    ["effective experts", `${fixed(1)(balance.effective_experts)} (entropy ${fixed(3)(balance.entropy_normalized)} of 1)`],
    ["MaxVio", fixed(2)(balance.max_violation)],
    ["unused", `${whole(balance.dead_experts)}, ${fixed(1)(balance.dead_expected)} by chance`],
    ["experts that carry a share", covered.length ? covered.join(", ") : ABSENT],
    [
      `overlap with the step ${lags.map(([lag]) => lag).join(", ")} before`,
      lags.length
        ? `${lags.map(([, value]) => percent(value)).join(", ")}; chance ${percent(locality.overlap_chance)}`
        : ABSENT,
    ],
    ["working set", working.length ? working.map(([steps, value]) => `${fixed(1)(value)} in ${plural(Number(steps), "step")}`).join(", ") : ABSENT],
    ["next layer foretold", `${percent(next.hit_rate)}, ${percent(next.static_hit_rate)} by the most used`],
    ["drift", isWholeRun(data) ? ABSENT : `${bits(drift.js)} bits, ${bits(drift.js_expected)} by chance`],
    ["distinct experts of successive tokens", unions(layer.union)],
    ...weightsOf(record(layer.gate_mass)),
  ];
}

// How the weights of a row fall off, where the log tells them.
function weightsOf(mass) {
  if (!known(mass.top1_share)) return [];
  const byRank = list(mass.weight_by_rank).slice(0, 8).map(fixed(3)).join(", ");
  return [
    ["weight of the first expert", `${percent(mass.top1_share)} of its row's, ${fixed(3)(mass.margin)} before the second`],
    ["mean weight by rank", byRank + (list(mass.weight_by_rank).length > 8 ? ", …" : "")],
  ];
}

// Whether the latest steps are all there are: they cannot differ from those before.
const isWholeRun = (data) => !(at(data, "drift", "steps") < at(data, "steps", "decode"));

// Distinct experts of n successive tokens, where they are known.
function unions(union) {
  const entries = Object.entries(record(union)).filter(([, value]) => known(value));
  if (!entries.length) return ABSENT;
  return entries.map(([tokens, value]) => `${fixed(1)(value)} in ${plural(Number(tokens), "token")}`).join(", ");
}

// The curves of a cache by its size.
function hitRates(locality, experts) {
  const points = (rates) => list(rates).map((rate, i) => [i + 1, rate]);
  return [
    { name: "least recently used is given up", points: points(locality.lru_hit_rate) },
    { name: "the most used are kept (hindsight)", points: points(locality.static_hit_rate) },
    { name: "as many at random", points: points(Array.from({ length: experts }, (_, i) => (i + 1) / experts)), dashed: true },
  ];
}
