// Lines over a row of numbers: layers, or experts in a cache. What they show stands in a table as well.

const CHART_HEIGHT = 220;
const CHART_EDGE = { left: 46, right: 14, top: 12, bottom: 40 };

// series: {name, points: [[x, y], ...], dots (points apart, not a line), dashed}
class Chart {
  constructor(name, { x, xText = whole, y, format = percent, low = 0, high, logarithmic = false }) {
    this.options = { x, xText, y, format, low, high, logarithmic };
    this.name = name;
    this.series = [];
    this.picture = drawn("svg", { class: "chart", role: "img", "aria-label": name });
    this.key = element("ul", { class: "key", "aria-hidden": "true" });
    this.readout = element("p", { class: "readout", "aria-hidden": "true" });
    this.node = element("figure", {}, element("figcaption", {}, name), this.picture, this.key, this.readout);
    this.mark = drawn("line", { class: "cursor", visibility: "hidden" });
    this.picture.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.picture.addEventListener("pointerleave", () => this.#leave());
    new ResizeObserver(() => this.#draw()).observe(this.picture);
  }

  update(series) {
    this.series = series
      .map((one) => ({ ...one, points: one.points.filter(([x, y]) => known(x) && known(y)) }))
      .filter((one) => one.points.length);
    this.#draw();
  }

  #draw() {
    const width = this.picture.clientWidth;
    if (!width || !this.series.length) return;
    const points = this.series.flatMap((one) => one.points);
    const { low, high, x, y, format } = this.options;
    const xs = points.map(([value]) => value);
    const ys = points.map(([, value]) => value);
    const bottom = low ?? Math.min(...ys);
    const top = high ?? Math.max(...ys);
    const room = high === undefined && top > bottom ? (top - bottom) * 0.06 : 0;
    this.scale = {
      x: this.#xScale(Math.min(...xs), Math.max(...xs), CHART_EDGE.left, width - CHART_EDGE.right),
      y: linear(bottom, top + room || 1, CHART_HEIGHT - CHART_EDGE.bottom, CHART_EDGE.top),
    };
    this.picture.setAttribute("viewBox", `0 0 ${width} ${CHART_HEIGHT}`);
    this.picture.setAttribute("height", CHART_HEIGHT);
    this.picture.setAttribute("aria-label", `${this.name}: ${this.#inWords()}`);
    this.picture.replaceChildren(
      ...this.#yAxis(width, format),
      ...this.#xAxis(width),
      drawn("text", { class: "unit", x: width - CHART_EDGE.right, y: CHART_HEIGHT - 6, "text-anchor": "end" }, x),
      drawn("text", { class: "unit", x: 4, y: 10 }, y),
      ...this.series.map((one, i) => this.#lines(one, i)),
      this.mark,
    );
    this.key.replaceChildren(
      ...this.series.map((one, i) => element("li", { class: `s${i}${one.dashed ? " dashed" : ""}` }, one.name)),
    );
    this.key.hidden = this.series.length < 2;
    this.#leave();
  }

  #xScale(first, last, left, right) {
    if (this.options.logarithmic && first > 0) {
      const inner = linear(Math.log(first), Math.log(last), left, right);
      return Object.assign((value) => inner(Math.log(value)), {
        inverse: (pixel) => Math.exp(inner.inverse(pixel)),
        ticks: (count) => powers(first, last, count),
      });
    }
    return linear(first, last, left, right);
  }

  #yAxis(width, format) {
    return this.scale.y.ticks(4).flatMap((value) => {
      const place = this.scale.y(value);
      return [
        drawn("line", { class: "grid", x1: CHART_EDGE.left, x2: width - CHART_EDGE.right, y1: place, y2: place }),
        drawn("text", { class: "tick", x: CHART_EDGE.left - 6, y: place + 4, "text-anchor": "end" }, format === percent ? roundShare(value) : format(value)),
      ];
    });
  }

  #xAxis(width) {
    return this.scale.x
      .ticks(Math.max(2, Math.floor(width / 70)))
      .filter(Number.isInteger)
      .map((value) =>
        drawn(
          "text",
          { class: "tick", x: this.scale.x(value), y: CHART_HEIGHT - CHART_EDGE.bottom + 16, "text-anchor": "middle" },
          this.options.xText(value),
        ),
      );
  }

  #lines(one, i) {
    const places = one.points.map(([x, y]) => [this.scale.x(x).toFixed(1), this.scale.y(y).toFixed(1)]);
    const line = drawn("polyline", { points: places.map((place) => place.join(",")).join(" ") });
    const dots = one.dots || places.length === 1 ? places.map(([cx, cy]) => drawn("circle", { cx, cy, r: 3 })) : [];
    return drawn("g", { class: `s${i}${one.dashed ? " dashed" : ""}${one.dots ? " dots" : ""}` }, line, ...dots);
  }

  #inWords() {
    const { format, x, xText } = this.options;
    return this.series
      .map((one) => {
        const lowest = one.points.reduce((a, b) => (b[1] < a[1] ? b : a));
        const highest = one.points.reduce((a, b) => (b[1] > a[1] ? b : a));
        return `${one.name} from ${format(lowest[1])} (${x} ${xText(lowest[0])}) to ${format(highest[1])} (${x} ${xText(highest[0])})`;
      })
      .join("; ");
  }

  #point(pixel) {
    if (!this.scale) return;
    const xs = [...new Set(this.series.flatMap((one) => one.points.map(([x]) => x)))];
    const target = this.scale.x.inverse(pixel);
    const nearest = xs.reduce((a, b) => (Math.abs(b - target) < Math.abs(a - target) ? b : a));
    const place = this.scale.x(nearest);
    for (const [name, value] of Object.entries({ x1: place, x2: place, y1: CHART_EDGE.top, y2: CHART_HEIGHT - CHART_EDGE.bottom })) {
      this.mark.setAttribute(name, value);
    }
    this.mark.setAttribute("visibility", "visible");
    const values = this.series.map((one) => {
      const found = one.points.find(([x]) => x === nearest);
      return `${one.name} ${this.options.format(found?.[1])}`;
    });
    setText(this.readout, `${this.options.x} ${this.options.xText(nearest)}: ${values.join(" · ")}`);
  }

  #leave() {
    this.mark.setAttribute("visibility", "hidden");
    setText(this.readout, "\u00a0");
  }
}

function linear(from, to, start, end) {
  const span = to - from || 1;
  return Object.assign((value) => start + ((value - from) / span) * (end - start), {
    inverse: (pixel) => from + ((pixel - start) / (end - start)) * span,
    ticks: (count) => ticks(from, to, count),
  });
}

// Round numbers between two values, about so many.
function ticks(from, to, count) {
  const rough = (to - from) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(from / step - 1e-9); i * step <= to + step * 1e-9; i++) found.push(i * step + 0); // never -0
  return found;
}

// Powers of two between two values.
function powers(from, to, count) {
  const found = [];
  for (let value = 1; value <= to; value *= 2) if (value >= from) found.push(value);
  const every = Math.ceil(found.length / count);
  return found.filter((_, i) => i % every === 0);
}
