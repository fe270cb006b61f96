// The sections of the page: one function each, which builds it once and brings it up to date with every summary.
// A section: {id, title, note, nodes, has(data), update(data)}; one that has nothing to show is left out.

// Side by side where there is room.
const beside = (...nodes) => element("div", { class: "pair" }, ...nodes);
const besideWide = (...nodes) => element("div", { class: "pair wide" }, ...nodes);

// One child of a list for each item, made once and told of the item of its place.
function inStep(parent, items, make, tell) {
  while (parent.children.length > items.length) parent.lastChild.remove();
  while (parent.children.length < items.length) parent.append(make());
  items.forEach((item, i) => tell(parent.children[i], item));
}

const hasLayers = (data) => list(data.layers).some((layer) => list(layer.counts).length);

const byLayer = (data, value) => list(data.layers).map((layer) => [layer.layer, value(layer)]);

// The rate of a cache that holds a share of the layer's experts.
function rateAt(layer, key, share) {
  const rates = list(at(layer, "locality", key));
  return rates[Math.max(1, Math.round(share * rates.length)) - 1];
}

// A table with the layer first; the chosen one stands out.
function layerTable(page, caption, columns, options = {}) {
  return new Table(caption, [layerColumn, ...columns], { chosen: (row) => row.layer === page.chosen.layer, ...options });
}

const layerColumn = { title: "layer", value: (row) => row.layer, link: (row) => linkToLayer(row.layer), falling: false };

const VERDICT_SECTIONS = {
  rows: "input",
  phase: "input",
  balance: "balance",
  "hot set": "hot-set",
  cache: "cache",
  pairs: "pairs",
  "next layer": "next-layer",
  drift: "drift",
  labels: "labels",
};
const ALARMING = ["strided", "mixed"];
const DOUBTFUL = ["undecided", "guessed", "cannot be told", "too early to say"];

function verdictsSection(page) {
  const cards = element("ul", { class: "verdicts" });
  const warnings = element("ul", { class: "warnings" });
  const heading = element("h3", {}, "Before you believe the figures");
  return {
    id: "verdicts",
    title: "Verdicts",
    note: "What the figures come to, with the figures behind each word.",
    nodes: [cards, heading, warnings],
    has: (data) => list(data.verdicts).length > 0 || list(data.warnings).length > 0,
    update(data) {
      inStep(cards, list(data.verdicts), verdictCard, (card, one) => tellVerdict(card, one, page));
      inStep(warnings, list(data.warnings), () => element("li"), setText);
      heading.hidden = warnings.hidden = !list(data.warnings).length;
    },
  };
}

function verdictCard() {
  const [subject, word, facts, surer] = [element("a"), element("p", { class: "word" }), element("p"), element("p", { class: "surer" })];
  return element("li", {}, element("h3", {}, subject), word, facts, surer);
}

function tellVerdict(card, { subject, word, text, sure }, page) {
  const [name, said, facts, surer] = card.children;
  const target = VERDICT_SECTIONS[subject];
  if (page.shows(target)) name.firstChild.setAttribute("href", `#${target}`);
  else name.firstChild.removeAttribute("href");
  setText(name.firstChild, subject);
  setText(said, word);
  const [figures, more] = String(text).split("; surer with ");
  setText(facts, figures);
  setText(surer, more ? `surer with ${more}` : "");
  card.className = ALARMING.includes(word) ? "alarming" : DOUBTFUL.includes(word) ? "doubtful" : "";
  card.classList.toggle("unsure", !sure);
}

function heatmapSection(page) {
  const { heatmap } = page;
  return {
    id: "heatmap",
    title: "Heatmap",
    note: "A row is a layer, a column an expert, the shade its use: 1 is what it would have if all were used alike, 8 eight times that. Equal numbers in different layers have nothing to do with each other.",
    nodes: heatmap.nodes,
    has: hasLayers,
    update: (data) => heatmap.update(data),
  };
}

function layerSection(page) {
  const { panel } = page;
  return {
    id: "layer",
    title: "One layer",
    heading: () => panel.title,
    nodes: panel.nodes,
    has: hasLayers,
    update: (data) => panel.update(data),
  };
}

function layersSection(page) {
  const top = (layer) => list(layer.top)[0];
  const table = layerTable(page, "Main figures by layer", [
    { title: "selections", value: (layer) => layer.selections, text: whole },
    { title: "experts used", value: (layer) => layer.experts_used, text: whole },
    { title: "of", value: (layer) => list(layer.counts).length, text: whole },
    { title: "most used", value: (layer) => top(layer)?.expert, falling: false },
    { title: "its share", value: (layer) => top(layer)?.share, text: percent },
    { title: "× uniform", value: (layer) => top(layer)?.share * list(layer.counts).length, text: times },
    { title: "effective", value: (layer) => at(layer, "balance", "effective_experts"), text: fixed(1), note: "2 to the entropy: so many experts used alike have it too" },
    { title: "carry 90 %", value: (layer) => at(layer, "coverage", "0.9"), text: whole, falling: false },
    { title: "LRU at ¼", value: (layer) => rateAt(layer, "lru_hit_rate", 1 / 4), text: percent, note: "uses found in a cache of a quarter of the layer's experts" },
  ]);
  return {
    id: "layers",
    title: "Layers",
    note: "The main figures of each layer; its number opens all of them.",
    nodes: [table.node],
    has: hasLayers,
    update: (data) => table.update(list(data.layers)),
  };
}

function inputSection() {
  const facts = element("dl", { class: "facts" });
  const runs = new Table("Runs of the server", [
    { title: "run", value: (row) => row.run, text: whole },
    { title: "its rows are", value: (row) => row.word, text: String, words: true },
    ...["logged", "counted", "recovered", "unrecoverable"].map((key) => ({ title: key, value: (row) => row[key], text: whole })),
    { title: "log", value: (row) => row.log, words: true, optional: true, note: "that it wrote" },
  ]);
  const hottest = (row) => list(row.hottest)[0];
  const sources = new Table("Sources, shown as one", [
    { title: "source", value: (row) => row.name, words: true },
    { title: "its rows are", value: (row) => (row.left_out ? "left out" : at(row, "rows", "word")), words: true },
    { title: "rows", value: (row) => at(row, "rows", "logged"), text: whole },
    { title: "steps", value: (row) => at(row, "steps", "total"), text: whole },
    { title: "hottest", value: (row) => hottest(row) && `layer ${hottest(row).layer} #${hottest(row).expert}`, words: true, note: "the expert that serves most of decode" },
    { title: "its share", value: (row) => hottest(row)?.share, text: percent },
    { title: "apart", value: (row) => row.js, text: fixed(3), note: "bits between its use of the experts and that of all others together" },
    { title: "by chance", value: (row) => row.js_by_chance, text: fixed(3), note: "if all were drawn from the same use, tokens being independent" },
  ]);
  return {
    id: "input",
    title: "Input",
    note: "What was read, and which rows the figures rest on.",
    nodes: [facts, runs.node, sources.node],
    has: (data) => Boolean(data.source),
    update(data) {
      const [source, rows, steps, tokens, model] = [data.source, data.rows, data.steps, data.tokens, data.model].map(record);
      const phases = (count) => `${whole(count.prefill)} prefill, ${whole(count.decode)} decode`;
      const shown = [
        ...list(source.paths).map((path) => ["log", path]),
        ["format", source.format],
        ["read", `${bytes(source.bytes)}, ${plural(source.lines, "line")}`],
        ["malformed lines", whole(source.malformed_lines)],
        ...(source.dropped_steps ? [["steps that were not written", whole(source.dropped_steps)]] : []),
        ["incomplete lines", whole(source.incomplete_lines)],
        ["NUL bytes", whole(source.nul_bytes)],
        ["restarts, rotations", `${whole(source.restarts)}, ${whole(source.rotations)}`],
        ["MoE layers", `${whole(list(model.layers).length)} (${ranges(list(model.layers))})`],
        ["experts a layer", whole(model.n_experts)],
        ["top-k", whole(model.top_k)],
        ["layers with router inputs", list(model.gate_layers).length ? `${ranges(model.gate_layers)}, of ${whole(model.n_embd)} numbers` : "none"],
        ["rows", rows.verdict],
        ["rows logged, counted", `${whole(rows.logged)}, ${whole(rows.counted)} (--rows ${rows.mode})`],
        ...(data.runs_left_out ? [["earlier runs of the server", `${whole(data.runs_left_out)} that are not in the table`]] : []),
        ["rows recovered, lost", `${whole(rows.recovered)}, ${whole(rows.unrecoverable)}`],
        ["steps", phases(steps)],
        ["tokens", phases(tokens)],
      ].filter(([, text]) => text !== undefined);
      facts.replaceChildren(...factList(shown));
      runs.node.hidden = list(data.runs).length < 2;
      runs.update(list(data.runs));
      sources.node.hidden = !list(data.sources).length;
      sources.update(list(data.sources));
    },
  };
}
