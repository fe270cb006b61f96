// Sections on how the load falls on the experts, and what a cache of them would serve.

function balanceSection(page) {
  const chart = new Chart("Effective experts, as a share of the layer's", { x: "layer", y: "", high: 1 });
  const figure = (key) => (layer) => at(layer, "balance", key);
  const table = layerTable(page, "Load balance by layer", [
    { title: "entropy", value: figure("entropy_normalized"), text: fixed(3), note: "over its maximum: 1 is even use" },
    { title: "effective", value: figure("effective_experts"), text: fixed(1), note: "2 to the entropy" },
    { title: "Gini", value: figure("gini"), text: fixed(3), note: "0 even, 1 one expert alone" },
    { title: "CV", value: figure("cv"), text: fixed(2), note: "standard deviation over mean" },
    { title: "Jain", value: figure("jain"), text: fixed(3), note: "Jain's fairness" },
    { title: "MaxVio", value: figure("max_violation"), text: fixed(2), note: "largest over mean, less 1" },
    { title: "balancedness", value: figure("balancedness"), text: fixed(3), note: "mean over largest" },
    { title: "KL", value: figure("kl_uniform"), text: fixed(3), note: "bits to uniform use" },
    { title: "unused", value: figure("dead_experts"), text: whole },
    { title: "by chance", value: figure("dead_expected"), text: fixed(1), note: "unused ones to expect if all were alike" },
  ]);
  return {
    id: "balance",
    title: "Balance",
    note: "How evenly a layer's selections fall on its experts.",
    nodes: [besideWide(chart.node, table.node)],
    has: (data) => list(data.layers).some((layer) => layer.balance),
    update(data) {
      const share = (layer) => at(layer, "balance", "effective_experts") / list(layer.counts).length;
      chart.update([{ name: "effective experts", points: byLayer(data, share), dots: true }]);
      table.update(list(data.layers));
    },
  };
}

function hotSetSection(page) {
  const chart = new Chart("Experts that carry so much of a layer's selections", { x: "layer", y: "", format: whole });
  const shares = ["0.5", "0.8", "0.9", "0.95", "0.99"];
  const table = layerTable(
    page,
    "Fewest experts that carry a share",
    shares.map((share) => ({ title: roundShare(Number(share)), value: (layer) => at(layer, "coverage", share), text: whole })),
  );
  const budget = new Table("Experts kept in fast memory, over all layers (hindsight)", [
    { title: "experts", value: (row) => row.experts, text: whole },
    { title: "size", value: (row) => row.bytes, text: bytes, optional: true },
    { title: "as many a layer", value: (row) => row.share_uniform, text: percent },
    { title: "best choice", value: (row) => row.share_best, text: percent },
    { title: "a layer then, at least", value: (row) => extreme(row.slots, Math.min), text: whole, optional: true },
    { title: "at most", value: (row) => extreme(row.slots, Math.max), text: whole, optional: true },
  ]);
  return {
    id: "hot-set",
    title: "Hot set",
    note: "How few experts carry most of the load, known with hindsight: a bound for what is placed in advance.",
    nodes: [beside(chart.node, table.node), budget.node],
    has: (data) => list(data.layers).some((layer) => layer.coverage),
    update(data) {
      chart.update(
        ["0.9", "0.5"].map((share) => ({
          name: roundShare(Number(share)),
          points: byLayer(data, (layer) => at(layer, "coverage", share)),
        })),
      );
      table.update(list(data.layers));
      budget.node.hidden = !list(data.budget).length;
      budget.update(list(data.budget));
    },
  };
}

const extreme = (slots, pick) => (list(slots).length ? pick(...slots) : undefined);

function cacheSection(page) {
  const chart = new Chart("Share of uses found in a cache of n experts a layer, mean of all layers", {
    x: "experts",
    y: "",
    high: 1,
    logarithmic: true,
  });
  const bySize = new Chart("Share of uses found in a cache of a size, over all layers", { x: "", xText: bytes, y: "", high: 1 });
  const size = element("input", { type: "range", min: "1", max: "1", step: "1", id: "cache-size" });
  const said = element("output", { for: "cache-size" });
  const gained = element("p", { class: "note" });
  const table = layerTable(
    page,
    "Cache by layer: uses found where so many of its experts fit",
    ["1/16", "1/8", "1/4", "1/2"].flatMap((name) => {
      const part = 1 / Number(name.slice(2));
      return [
        { title: `LRU ${name}`, value: (layer) => rateAt(layer, "lru_hit_rate", part), text: percent, note: "the least recently used is given up" },
        { title: `hot ${name}`, value: (layer) => rateAt(layer, "static_hit_rate", part), text: percent, note: "the most used ones all the time, known with hindsight" },
      ];
    }),
  );
  let curves = { experts: 0 };
  function say() {
    const n = Number(size.value);
    const rate = (rates) => percent(rates[n - 1]);
    setText(
      said,
      `${n} of ${whole(curves.experts)} experts of each layer: ${rate(curves.lru)} found if the least recently used is given up, ${rate(curves.fixed)} with the most used, ${percent(n / curves.experts)} with any`,
    );
  }
  size.addEventListener("input", say);
  return {
    id: "cache",
    title: "Cache",
    note: "Decode. What a cache of experts in fast memory would serve, empty at first. It pays where its rate is far above that of as many experts taken at random.",
    nodes: [
      besideWide(
        element(
          "div",
          {},
          chart.node,
          element("p", { class: "controls" }, element("label", { for: "cache-size" }, "Experts a layer", " ", size), said),
          gained,
          bySize.node,
        ),
        table.node,
      ),
    ],
    has: (data) => list(data.layers).some((layer) => list(at(layer, "locality", "lru_hit_rate")).some(known)),
    update(data) {
      const layers = list(data.layers).map((layer) => layer.locality).filter(Boolean);
      const uses = layers.map((locality) => locality.uses);
      const experts = Math.max(...layers.map((locality) => list(locality.lru_hit_rate).length));
      const curve = (key) => Array.from({ length: experts }, (_, i) => mean(layers.map((one) => at(one, key, i)), uses));
      curves = { experts, lru: curve("lru_hit_rate"), fixed: curve("static_hit_rate") };
      chart.update(hitRates({ lru_hit_rate: curves.lru, static_hit_rate: curves.fixed }, experts));
      if (Number(size.max) !== experts) {
        size.max = String(experts);
        size.value = String(Math.max(1, Math.floor(experts / 4)));
      }
      say();
      gained.hidden = !data.cache_gain;
      if (data.cache_gain) setText(gained, gainText(data.cache_gain));
      bySize.node.hidden = !list(data.cache).length;
      bySize.update(cacheBySize(list(data.cache)));
      table.update(list(data.layers));
    },
  };
}

function gainText({ experts, lru_hit_rate: rate, chance, gain, gain_error: error }) {
  const above = known(gain) ? `${(100 * gain).toFixed(1)} points above the ${percent(chance)} of experts taken at random` : "its gain is not known";
  return `With ${whole(experts)} experts of each layer ${percent(rate)} are found: ${above}, standard error ${known(error) ? (100 * error).toFixed(1) : "unknown"}.`;
}

function cacheBySize(rows) {
  const names = {
    optimum: "the best possible",
    lru: "LRU, one for all layers",
    lfu: "LFU, one for all layers",
    layer_lru: "LRU, one a layer",
    layer_lfu: "LFU, one a layer",
    static_unseen: "fixed, tested on unseen steps",
  };
  return Object.entries(names).map(([key, name]) => ({ name, points: rows.map((row) => [row.bytes, row[key]]) }));
}

function overlapSection(page) {
  const chart = new Chart("Experts of a step that were used in the step before too", { x: "layer", y: "" });
  const figure = (...path) => (layer) => at(layer, "locality", ...path);
  const overlap = (lag) => ({ title: `${lag} before`, value: figure("overlap", lag), text: percent });
  const working = (steps) => ({ title: `in ${steps} steps`, value: figure("working_set", steps), text: fixed(1), note: "different experts used" });
  const table = layerTable(page, "Overlap of steps, and how soon an expert is used again", [
    ...["1", "2", "4", "8"].map(overlap),
    { title: "chance", value: figure("overlap_chance"), text: percent },
    { title: "again after", value: figure("reuse_median"), text: whole, note: "steps to the next use of an expert: half of them are at most this" },
    { title: "90 % after", value: figure("reuse_p90"), text: whole },
    { title: "never again", value: figure("never_again"), text: percent },
    ...["10", "100", "1000"].map(working),
  ]);
  return {
    id: "overlap",
    title: "Overlap",
    note: "Decode. How much of what a step uses an earlier step used too, beside what chance gives.",
    nodes: [besideWide(chart.node, table.node)],
    has: (data) => list(data.layers).some((layer) => known(at(layer, "locality", "overlap_chance"))),
    update(data) {
      chart.update([
        ...["1", "8"].map((lag) => ({
          name: lag === "1" ? "the step before" : `${lag} steps before`,
          points: byLayer(data, figure("overlap", lag)),
        })),
        { name: "chance", points: byLayer(data, figure("overlap_chance")), dashed: true },
      ]);
      table.update(list(data.layers));
    },
  };
}
