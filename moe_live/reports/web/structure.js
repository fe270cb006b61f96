// Sections on what hangs together: experts of a row, of successive layers, times, labels, inputs of routers.

function pairsSection(page) {
  const table = layerTable(
    page,
    "Pairs that stand out from chance",
    [
      { title: "experts", value: (pair) => `${pair.a} and ${pair.b}`, falling: false },
      { title: "together", value: (pair) => pair.count, text: whole, note: "rows that chose both" },
      { title: "expected", value: (pair) => pair.expected, text: fixed(1) },
      { title: "of rows", value: (pair) => pair.rows, text: whole },
      { title: "lift", value: (pair) => pair.lift, text: fixed(2) },
      { title: "by chance", value: (pair) => pair.chance, text: fixed(2) },
      { title: "z", value: (pair) => pair.z, text: fixed(1), note: "standard deviations from what is expected" },
    ],
    { limit: 40 },
  );
  const none = element("p", {}, "None stands out from chance.");
  return {
    id: "pairs",
    title: "Pairs",
    note: "Experts chosen together more often (lift above that of chance), or less often, than chance would have it. Only those that structure-free data would hardly show are listed.",
    nodes: [none, table.node],
    has: (data) => list(data.coactivation).length > 0,
    update(data) {
      const pairs = pairsOf(data);
      none.hidden = pairs.length > 0;
      table.node.hidden = !pairs.length;
      table.update(pairs);
    },
  };
}

// All pairs, those first that are farthest from what is expected.
function pairsOf(data) {
  const found = list(data.coactivation).flatMap(({ layer, rows, chance_lift: chance, pairs, weakest }) =>
    [...list(pairs), ...list(weakest)].map((pair) => ({ layer, rows, chance, ...pair })),
  );
  return found.sort((one, other) => Math.abs(other.z) - Math.abs(one.z));
}

function nextLayerSection(page) {
  const chart = new Chart("Experts of the next layer that are foretold", { x: "layer", y: "" });
  const table = layerTable(
    page,
    "Experts of the next layer foretold",
    [
      { title: "to", value: (row) => row.to },
      { title: "foretold", value: (row) => row.hit_rate, text: percent },
      { title: "by the most used", value: (row) => row.static_hit_rate, text: percent, note: "if the same k are predicted every time" },
      { title: "gain", value: (row) => row.gain, text: points, note: "learned on one half of a sample of the tokens, tested on the other" },
      { title: "±", value: (row) => row.gain_error, text: points, note: "standard error of the gain" },
      { title: "chance", value: (row) => row.chance, text: percent },
      { title: "tokens", value: (row) => row.tokens, text: whole },
      { title: "tested", value: (row) => row.tested, text: whole },
    ],
  );
  return {
    id: "next-layer",
    title: "Next layer",
    note: "How well the experts of a layer foretell those of the next: the gain is what prefetching by prediction adds to the most used.",
    nodes: [beside(chart.node, table.node)],
    has: (data) => list(data.transitions).length > 0,
    update(data) {
      const rows = list(data.transitions);
      const line = (name, key, dashed = false) => ({ name, points: rows.map((row) => [row.from, row[key]]), dashed });
      chart.update([line("foretold", "hit_rate"), line("by the most used", "static_hit_rate"), line("chance", "chance", true)]);
      table.update(rows.map((row) => ({ layer: row.from, ...row })));
    },
  };
}

const points = (gain) => (known(gain) ? `${gain < 0 ? "−" : "+"}${Math.abs(100 * gain).toFixed(1)} pt` : ABSENT);

function driftSection(page) {
  const chart = new Chart("Divergence of the latest decode steps from those before, in bits", { x: "layer", y: "", format: significant });
  const table = layerTable(page, "Drift by layer", [
    { title: "bits", value: (row) => row.js, text: fixed(3), mark: (row) => row.drifted },
    { title: "by chance", value: (row) => row.js_expected, text: fixed(3) },
    { title: "limit", value: (row) => row.js_limit, text: fixed(3), note: "so far chance reaches; a layer beyond it is called drifted if its experts have enough selections" },
    { title: "drifted", value: (row) => Number(row.drifted ?? 0), text: (value) => (value ? "yes" : "no") },
  ]);
  const extent = element("p");
  return {
    id: "drift",
    title: "Drift",
    note: "Whether the latest decode steps use the experts otherwise than those before them, in bits of Jensen-Shannon divergence.",
    nodes: [extent, beside(chart.node, table.node)],
    has: (data) => list(at(data, "drift", "layers")).length > 0 && at(data, "drift", "steps") > 0,
    update(data) {
      chart.node.hidden = table.node.hidden = isWholeRun(data);
      if (isWholeRun(data)) {
        return setText(extent, `The latest ${plural(data.drift.steps, "step")} are the whole run so far: there is no drift to see.`);
      }
      const rows = list(data.drift.layers);
      const drifted = rows.filter((row) => row.drifted).length;
      setText(extent, `The latest ${plural(data.drift.steps, "step")}: ${whole(drifted)} of ${plural(rows.length, "layer")} beyond chance.`);
      const line = (name, key, more) => ({ name, points: rows.map((row) => [row.layer, row[key]]), ...more });
      chart.update([line("drift", "js", { dots: true }), line("by chance", "js_expected"), line("limit", "js_limit", { dashed: true })]);
      table.update(rows);
    },
  };
}

function labelsSection(page) {
  const labels = new Table("Labels and their tokens", [
    { title: "label", value: (row) => row.label, words: true },
    { title: "tokens", value: (row) => row.tokens, text: whole },
    { title: "experts below", value: (row) => list(row.specific).length, text: whole },
  ]);
  const apart = new Table("How far labels are apart", [
    { title: "label", value: (row) => row.a, words: true },
    { title: "and", value: (row) => row.b, words: true },
    { title: "bits", value: (row) => row.js, text: fixed(3) },
    { title: "by chance", value: (row) => row.js_expected, text: fixed(3) },
    { title: "layers beyond chance", value: (row) => row.real_layers, text: whole },
  ]);
  const columns = [
    { title: "expert", value: (row) => row.expert, falling: false },
    { title: "label", value: (row) => row.label, words: true },
    { title: "in its tokens", value: (row) => row.share, text: percent },
    { title: "in others", value: (row) => row.share_elsewhere, text: percent },
    { title: "log-odds", value: (row) => row.log_odds, text: fixed(2) },
    { title: "z", value: (row) => row.z, text: fixed(1) },
  ];
  const specific = layerTable(page, "Experts that a label uses more than others do", columns, { limit: 40, sortedBy: 6 });
  const differing = layerTable(page, "What differs most: a description, not a finding", columns, { limit: 40, sortedBy: 6 });
  const left = element("p", { class: "note" }, "The counts of each label are left out of this file: it would be too large.");
  return {
    id: "labels",
    title: "Labels",
    note: "Use of the experts by the type of prompt, as the log was labelled.",
    nodes: [beside(labels.node, apart.node), specific.node, differing.node, left],
    has: (data) => list(data.labels).length > 0,
    update(data) {
      labels.update(list(data.labels));
      apart.node.hidden = !list(data.label_divergences).length;
      apart.update(list(data.label_divergences));
      for (const [key, table] of [["specific", specific], ["differing", differing]]) {
        const rows = list(data.labels).flatMap((label) => list(label[key]).map((row) => ({ ...row, label: label.label })));
        table.node.hidden = !rows.length;
        table.update(rows);
      }
      left.hidden = !list(data.left_out).includes("labels[].layers");
    },
  };
}

const METRICS = {
  cosine_similarity: "cosine similarity",
  cosine_distance: "cosine distance",
  euclidean: "Euclidean",
  l2_normalized: "L2 normalized",
  pearson: "Pearson",
  mean_abs_diff: "mean absolute difference",
};

function distancesSection() {
  const choice = element("select", { id: "metric" }, ...Object.entries(METRICS).map(([value, name]) => element("option", { value }, name)));
  const figure = (key) => (row) => at(row, choice.value, key);
  const table = new Table("Distances of the router's input from layer to layer", [
    { title: "from", value: (row) => row.from, falling: false },
    { title: "to", value: (row) => row.to, falling: false },
    ...["mean", "std", "min", "max", "last"].map((key) => ({ title: key, value: figure(key), text: significant })),
    { title: "steps", value: figure("count"), text: whole },
    { title: "undefined", value: figure("undefined"), text: whole },
  ]);
  const chart = new Chart("Mean by layer", { x: "layer", y: "", format: significant, low: null });
  const time = new Chart("Cosine similarity in the latest steps", { x: "step", y: "", format: significant, low: null });
  let pairs = [];
  function fill() {
    chart.update([{ name: METRICS[choice.value], points: pairs.map((pair) => [pair.to, at(pair, choice.value, "mean")]), dots: true }]);
    table.update(pairs);
  }
  choice.addEventListener("change", fill);
  return {
    id: "distances",
    title: "Distances",
    note: "How far the router's input moves from one logged layer to the next, over the steps that have both.",
    nodes: [
      element("p", { class: "controls" }, element("label", { for: "metric" }, "Metric", " ", choice)),
      beside(chart.node, time.node),
      table.node,
    ],
    has: (data) => list(at(data, "distances", "pairs")).length > 0,
    update(data) {
      pairs = list(data.distances.pairs);
      const lines = pairs.filter((pair) => list(pair.recent).length).map((pair) => ({
        name: `${pair.from}–${pair.to}`,
        points: pair.recent.map((value, i) => [i + 1 - pair.recent.length, value]),
      }));
      time.node.hidden = !lines.length;
      time.update(lines.slice(0, 8));
      fill();
    },
  };
}
