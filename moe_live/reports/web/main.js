// The page: its sections, what is chosen, and where the summary comes from.

class Page {
  constructor() {
    this.chosen = { layer: undefined, expert: 0 };
    this.heatmap = new Heatmap(this);
    this.panel = new LayerPanel(this);
    this.sections = [
      verdictsSection(this),
      comparisonSection(this),
      heatmapSection(this),
      layerSection(this),
      layersSection(this),
      balanceSection(this),
      hotSetSection(this),
      cacheSection(this),
      overlapSection(this),
      pairsSection(this),
      nextLayerSection(this),
      driftSection(this),
      labelsSection(this),
      distancesSection(),
      plansSection(),
      othersSection(),
      inputSection(),
    ];
    const main = document.getElementById("main");
    const contents = document.getElementById("contents");
    for (const section of this.sections) {
      section.title_node = element("h2", { id: `${section.id}-title` }, section.title);
      const note = section.note ? [element("p", { class: "note" }, section.note)] : [];
      section.node = element(
        "section",
        { id: section.id, "aria-labelledby": `${section.id}-title`, hidden: true },
        section.title_node,
        ...note,
        ...section.nodes,
      );
      section.entry = element("li", { hidden: true }, element("a", { href: `#${section.id}` }, section.title));
      main.append(section.node);
      contents.append(section.entry);
    }
    window.addEventListener("hashchange", () => this.#follow());
  }

  update(data) {
    const first = !this.data;
    this.data = data;
    const layers = list(data.layers).filter((layer) => list(layer.counts).length);
    if (!layers.some((layer) => layer.layer === this.chosen.layer) && layers.length) {
      const [hottest] = [...layers].sort((a, b) => (list(b.top)[0]?.share ?? 0) - (list(a.top)[0]?.share ?? 0));
      this.chosen = { layer: hottest.layer, expert: list(hottest.top)[0]?.expert ?? 0 };
    }
    this.#describe(data);
    for (const section of this.sections) {
      section.node.hidden = section.entry.hidden = !section.has(data);
    }
    for (const section of this.sections) if (!section.node.hidden) this.#bringUpToDate(section);
    if (first) this.#follow();
  }

  // Whether there is a section of this name now.
  shows(id) {
    return this.sections.some((section) => section.id === id && !section.node.hidden);
  }

  // Makes a layer and one of its experts the chosen ones, everywhere.
  choose(layer, expert) {
    this.chosen = { layer, expert };
    history.replaceState(null, "", `${linkToLayer(layer)}-expert-${expert}`);
    this.#moved();
  }

  #bringUpToDate(section) {
    try {
      section.update(this.data);
      setText(section.title_node, section.heading ? section.heading() : section.title);
    } catch (error) {
      // One section that fails takes no other with it.
      setText(section.title_node, `${section.title}: cannot be drawn (${error.message})`);
      console.error(error);
    }
  }

  #moved() {
    for (const section of this.sections) if (!section.node.hidden && section.id !== "heatmap") this.#bringUpToDate(section);
    this.heatmap.move();
  }

  // Goes where the address points: to a section, or to a layer, and perhaps an expert in it.
  #follow() {
    const [, layer, expert] = location.hash.match(/^#layer-(\d+)(?:-expert-(\d+))?$/) ?? [];
    const found = list(this.data?.layers).find((one) => one.layer === Number(layer));
    if (!found) return document.getElementById(location.hash.slice(1))?.scrollIntoView();
    const own = expert === undefined ? (list(found.top)[0]?.expert ?? 0) : Number(expert);
    this.chosen = { layer: found.layer, expert: Math.min(own, expertsOf(this.data, found) - 1) };
    this.#moved();
    document.getElementById("layer").scrollIntoView();
  }

  #describe(data) {
    const [model, tokens, tool, source] = [data.model, data.tokens, data.tool, data.source].map(record);
    const parts = [
      list(model.layers).length ? plural(list(model.layers).length, "MoE layer") : "",
      known(model.n_experts) ? `${whole(model.n_experts)} experts` : "",
      known(model.top_k) ? `top-${model.top_k}` : "",
      `${plural(tokens.prefill ?? 0, "prompt token")}, ${plural(tokens.decode ?? 0, "decode token")}`,
    ].filter(Boolean);
    const paths = list(source.paths);
    const name = paths.length > 1 ? `${paths.length} logs` : String(paths[0] ?? "").split("/").at(-1);
    setText(document.getElementById("model"), [name, ...parts].filter(Boolean).join(" · "));
    setText(document.getElementById("tool"), `${tool.name ?? "moe-live"} ${tool.version ?? ""} · ${data.schema ?? ""}`);
    document.title = name ? `${name} · moe-live` : "moe-live";
  }
}

function say(text, kind) {
  const state = document.getElementById("state");
  setText(state, text);
  state.className = kind;
}

// The summary that lies in the page; null if the server has it.
async function embedded() {
  const packed = document.getElementById("summary").textContent;
  if (!packed) return null;
  const raw = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([raw]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(stream).text());
}

const POLL_MS = 1000;
const RETRY_MS = 5000;

// Asks for the summary again and again, while somebody looks.
async function follow(page) {
  let tag = "";
  let changed = "";
  for (;;) {
    let pause = POLL_MS;
    try {
      const answer = await fetch("summary.json", { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status === 200) {
        const data = await answer.json();
        tag = answer.headers.get("ETag");
        changed = new Date().toLocaleTimeString();
        page.update(data);
      } else if (answer.status !== 304) {
        throw new Error(await answer.text());
      }
      say(progress(page.data.live ?? {}, changed), page.data.live?.state ?? "");
    } catch (error) {
      const since = changed ? `; the figures are those of ${changed}` : "";
      say(`no connection: the run has ended or cannot be reached${since}`, "lost");
      pause = RETRY_MS;
    }
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (document.hidden) await new Promise((resolve) => document.addEventListener("visibilitychange", resolve, { once: true }));
  }
}

function progress(live, changed) {
  return [
    live.state,
    live.detail,
    live.label && `label ${live.label}`,
    `${whole(live.lines_per_second)} lines/s`,
    `${significant(live.tokens_per_second)} tokens/s`,
    live.behind_bytes ? `${bytes(live.behind_bytes)} behind` : "",
    `changed ${changed}`,
  ]
    .filter(Boolean)
    .join(" · ");
}

async function start() {
  const page = new Page();
  try {
    const summary = await embedded();
    if (summary === null) return follow(page);
    say("finished", "finished");
    page.update(summary);
  } catch (error) {
    say(`the figures in this page cannot be read: ${error.message}`, "lost");
    throw error;
  }
}

start();
