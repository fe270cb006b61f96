"use strict";

// Numbers for people, and elements of the page. Text from the summary comes into the page as text only.

function element(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function drawn(tag, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// Changes the text of an element if it is another one: what a reader has selected or is reading aloud stays.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const ABSENT = "–";
const known = (value) => typeof value === "number" && Number.isFinite(value);

const whole = (value) => (known(value) ? Math.round(value).toLocaleString("en-US") : ABSENT);
const fixed = (digits) => (value) => (known(value) ? value.toFixed(digits) : ABSENT);

function percent(share) {
  if (!known(share)) return ABSENT;
  const value = 100 * share;
  if (value > 0 && value < 0.005) return "<0.01\u00a0%";
  return `${value.toFixed(value === 0 || value >= 99.95 ? 0 : value >= 0.995 ? 1 : 2)}\u00a0%`;
}

// A share that was chosen, not measured: 25 %.
const roundShare = (share) => (known(share) ? `${Number((100 * share).toFixed(1))}\u00a0%` : ABSENT);

function times(ratio) {
  if (!known(ratio)) return ABSENT;
  return `${ratio.toFixed(ratio >= 99.95 ? 0 : ratio >= 0.95 || ratio === 0 ? 1 : 2)}×`;
}

// Four significant digits, without exponents where they would only confuse.
function significant(value) {
  if (!known(value)) return ABSENT;
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-4 || size >= 1e7)) return value.toExponential(2);
  return size >= 1000 ? whole(value) : String(Number(value.toPrecision(4)));
}

function bytes(number) {
  if (!known(number)) return ABSENT;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  for (; number >= 999.5 && unit < units.length - 1; unit++) number /= 1000;
  return `${unit === 0 ? whole(number) : Number(number.toPrecision(3))}\u00a0${units[unit]}`;
}

function ordinal(number) {
  const ending = number % 100 >= 11 && number % 100 <= 13 ? "th" : ["th", "st", "nd", "rd"][number % 10] ?? "th";
  return `${whole(number)}${ending}`;
}

// Runs of successive numbers in short: 3–5, 8.
function ranges(numbers) {
  const runs = [];
  for (const number of numbers) {
    const last = runs.at(-1);
    if (last && number === last[1] + 1) last[1] = number;
    else runs.push([number, number]);
  }
  return runs.map(([first, last]) => (first === last ? `${first}` : `${first}–${last}`)).join(", ");
}

const plural = (number, what) => `${whole(number)} ${what}${number === 1 ? "" : "s"}`;

// A list of the summary, empty where there is none.
const list = (value) => (Array.isArray(value) ? value : []);

// A part of the summary, empty where there is none.
const isRecord = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
const record = (value) => (isRecord(value) ? value : {});

// A value deep in the summary, undefined where something on the way is missing.
const at = (value, ...path) => path.reduce((found, key) => found?.[key], value);

function mean(values, weights) {
  let sum = 0;
  let total = 0;
  values.forEach((value, i) => {
    const weight = weights ? weights[i] : 1;
    if (!known(value) || !known(weight)) return;
    sum += weight * value;
    total += weight;
  });
  return total > 0 ? sum / total : NaN;
}

// Pairs of a name and a text, as a list of facts.
function factList(pairs) {
  return pairs.map(([name, text]) => element("div", {}, element("dt", {}, name), element("dd", {}, text)));
}

const linkToLayer = (layer) => `#layer-${layer}`;
