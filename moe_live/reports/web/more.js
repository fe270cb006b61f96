// Sections on what came to the summary later than this page: drawn plainly, whatever it is.

// What no other section shows: figures that came to the summary later than this page.
const SHOWN = [
  "schema", "tool", "source", "model", "rows", "steps", "tokens", "verdicts", "warnings", "layers", "overall", "distances",
  "coactivation", "transitions", "drift", "labels", "label_divergences", "budget", "cache", "cache_gain", "live", "left_out", "phase", "runs",
  "runs_left_out", "sources",
];

function moreSection(id, title, note, keysOf) {
  const body = element("div");
  let before = "";
  return {
    id,
    title,
    note,
    nodes: [body],
    has: (data) => keysOf(data).length > 0,
    update(data) {
      const found = JSON.stringify(keysOf(data).map((key) => [key, data[key]]));
      if (found === before) return;
      before = found;
      body.replaceChildren(...keysOf(data).flatMap((key) => plainly(key.replaceAll("_", " "), data[key])));
    },
  };
}

const PLANS = ["offload", "placement", "prune"];

const plansSection = () =>
  moreSection("plans", "Plans", "What the figures come to, learned on some steps and tested on others.", (data) =>
    PLANS.filter((key) => data[key]),
  );

const othersSection = () =>
  moreSection("more", "More", "Figures of the summary that have no picture of their own here.", (data) =>
    Object.keys(data).filter((key) => ![...SHOWN, ...PLANS, "compare"].includes(key) && plainly(key, data[key]).length),
  );

const brief = (value) => (typeof value === "number" ? significant(value) : Array.isArray(value) ? value.map(brief).join(", ") : String(value ?? ABSENT));

// Any part of the summary: records as facts, lists of records as tables, what lies deeper below its name.
function plainly(name, value) {
  if (Array.isArray(value) && !value.length) return [];
  if (Array.isArray(value) && value.length && value.every(isRecord)) {
    const keys = [...new Set(value.flatMap(Object.keys))].filter((key) => value.some((row) => !isNested(row[key])));
    const table = new Table(
      name,
      keys.map((key) => ({
        title: key.replaceAll("_", " "),
        value: (row) => (Array.isArray(row[key]) ? brief(row[key]) : row[key]),
        text: (found) => brief(found),
        words: value.some((row) => typeof row[key] !== "number"),
      })),
      { limit: 40 },
    );
    table.update(value);
    return keys.length ? [table.node] : [];
  }
  if (!isRecord(value)) return isNested(value) || value === null ? [] : facts(name, [[name, value]]);
  const flat = Object.entries(value).filter(([, inner]) => !isNested(inner));
  const deep = Object.entries(value).filter(([, inner]) => isNested(inner));
  return [...facts(name, flat), ...deep.flatMap(([key, inner]) => plainly(`${name}: ${key.replaceAll("_", " ")}`, inner))];
}

const isNested = (value) => isRecord(value) || (Array.isArray(value) && value.some((item) => typeof item === "object"));

function facts(name, pairs) {
  if (!pairs.length) return [];
  const lines = pairs.map(([key, value]) => [key.replaceAll("_", " "), brief(value)]);
  return [element("h3", {}, name), element("dl", { class: "facts" }, ...factList(lines))];
}
