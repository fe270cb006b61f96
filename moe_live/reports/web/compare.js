// The section on two runs, or two labels of one: what they have in common.

const COMPARED = {
  entropy_normalized: ["entropy over its maximum, mean of layers", fixed(3)],
  experts_90: ["experts that carry 90 %, mean of layers", fixed(1)],
  unused: ["unused experts", whole],
  overlap: ["overlap with the step before", percent],
  lru: ["LRU hits, a quarter of the experts", percent],
};

function comparisonSection(page) {
  const facts = element("dl", { class: "facts" });
  const sides = new Table("Figures of each", [
    { title: "figure", value: (row) => row.name, words: true },
    { title: "A", value: (row) => row.a, text: (value, row) => row.text(value) },
    { title: "B", value: (row) => row.b, text: (value, row) => row.text(value) },
  ]);
  const chart = new Chart("Selections in common by layer", { x: "layer", y: "", high: 1 });
  const usage = layerTable(page, "Use of the experts, layer by layer", [
    { title: "in common", value: (row) => row.in_common, text: percent, note: "of the selections" },
    { title: "hot in both", value: (row) => row.hot_in_both, text: percent, note: "of the experts used most" },
    { title: "bits", value: (row) => row.js, text: fixed(4), note: "Jensen-Shannon divergence" },
    { title: "between halves", value: (row) => row.js_between_halves, text: fixed(4), note: "of a half of A's latest steps and a half of B's" },
    { title: "within A", value: (row) => at(row, "within", 0), text: fixed(4), note: "of the halves of A" },
    { title: "within B", value: (row) => at(row, "within", 1), text: fixed(4) },
  ]);
  const rows = layerTable(page, "Rows of the same step, layer and token", [
    { title: "rows", value: (row) => row.pairs, text: whole },
    { title: "in common", value: (row) => row.in_common, text: fixed(2), note: "experts of a row, on average" },
    { title: "of", value: (row) => row.top_k, text: fixed(1) },
    { title: "same first", value: (row) => row.top_equal, text: percent },
    { title: "same all", value: (row) => row.all_equal, text: percent },
    { title: "differ from step", value: (row) => row.first_step, text: whole, falling: false },
  ]);
  return {
    id: "compare",
    title: "Comparison",
    note: "Two runs side by side; the rest of the page is of the first.",
    nodes: [facts, sides.node, besideWide(chart.node, usage.node), rows.node],
    has: (data) => Boolean(data.compare),
    update({ compare }) {
      const [names, [a, b]] = [list(compare.names), list(compare.figures).map(record).concat([{}, {}])];
      const found = record(compare.rows);
      const shown = [
        ...names.map((name, i) => ["AB"[i], name]),
        ["texts", compare.same_text === true ? "the same" : compare.same_text === false ? "others" : undefined],
        ["in common", known(compare.agreement) ? percent(compare.agreement) : undefined],
        ["rows with a counterpart", known(found.matched) ? percent(found.matched) : undefined],
        ["experts of these in common", known(found.in_common) ? percent(found.in_common) : undefined],
        ["of rows of different tokens", known(found.in_common_shifted) ? percent(found.in_common_shifted) : undefined],
      ];
      facts.replaceChildren(...factList(shown.filter(([, text]) => text !== undefined)));
      const both = Object.entries(COMPARED).map(([key, [name, text]]) => ({ name, text, a: a[key], b: b[key] }));
      sides.update(both.filter((row) => known(row.a) || known(row.b)));
      const layers = usageByLayer(record(compare.usage));
      chart.update([
        { name: "of all selections", points: layers.map((row) => [row.layer, row.in_common]) },
        { name: "of the experts used most", points: layers.map((row) => [row.layer, row.hot_in_both]), dashed: true },
      ]);
      usage.update(layers);
      chart.node.hidden = usage.node.hidden = !layers.length;
      rows.node.hidden = !list(found.layers).length;
      rows.update(list(found.layers));
    },
  };
}

const usageByLayer = (usage) =>
  list(usage.layers).map((layer, i) => ({
    layer,
    in_common: at(usage, "in_common", i),
    hot_in_both: at(usage, "hot_in_both", i),
    js: at(usage, "js", i),
    js_between_halves: at(usage, "js_between_halves", i),
    within: [at(usage, "js_within", 0, i), at(usage, "js_within", 1, i)],
  }));
