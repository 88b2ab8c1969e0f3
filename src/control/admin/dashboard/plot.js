// A plot of series over time with axes, and a cursor that all plots share. Knows nothing of what it shows.

import { clock } from "./words.js";
import { drawn, element, mark, write } from "./elements.js";

const LEFT = 60;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 20;
const HEIGHT = 150;

/** What plots and the time line have in common: the time that is shown, and the moment that is pointed at. */
export class Shown {
  constructor(seconds) {
    this.seconds = seconds;
    this.to = Date.now();
    this.cursor = null;
    this.listeners = [];
  }

  get from() {
    return this.to - this.seconds * 1000;
  }

  point(at) {
    this.cursor = at === null ? null : Math.min(Math.max(at, this.from), this.to);
    this.listeners.forEach((listener) => listener());
  }
}

/** Follows the width of an element. */
export function onWidth(target, draw) {
  new ResizeObserver(() => draw()).observe(target);
}

/** Where a time stands, in pixels. */
export function across(shown, width) {
  const scale = (width - LEFT - RIGHT) / (shown.seconds * 1000);
  return {
    x: (at) => LEFT + (at - shown.from) * scale,
    at: (x) => shown.from + (x - LEFT) / scale,
    left: LEFT,
    right: width - RIGHT,
  };
}

/** Lets `target` be pointed at with mouse, finger and keys; `step` is what an arrow moves by, in milliseconds. */
export function pointing(target, shown, step) {
  const move = (event) => {
    const box = target.getBoundingClientRect();
    shown.point(across(shown, box.width).at(event.clientX - box.left));
  };
  target.addEventListener("pointermove", move);
  target.addEventListener("pointerdown", move);
  target.addEventListener("pointerleave", () => shown.point(null));
  target.addEventListener("blur", () => shown.point(null));
  target.addEventListener("keydown", (event) => {
    const from = shown.cursor ?? shown.to;
    const to = { ArrowLeft: from - step(), ArrowRight: from + step(), Home: shown.from, End: shown.to, Escape: null }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    shown.point(to);
  });
}

/** The marks of the time axis. */
export function timeMarks(shown, { x, left, right }, height) {
  const room = (right - left) / 60;
  const step = [15, 30, 60, 120, 300].find((step) => shown.seconds / step <= room) ?? 600;
  const marks = [];
  const first = Math.ceil(shown.from / (step * 1000)) * step * 1000;
  for (let at = first; at <= shown.to; at += step * 1000) {
    const place = x(at);
    marks.push(drawn("line", { class: "tick", x1: place, x2: place, y1: height, y2: height + 4 }));
    if (place < left + 14 || place > right - 14) continue;
    marks.push(drawn("text", { class: "axis", x: place, y: height + 15, "text-anchor": "middle", text: clock(at, step < 60) }));
  }
  return marks;
}

export class Plot {
  /**
   * `series` are `{ key, label, tone, area, dash }`; `unit` says what the values are, `format` writes one,
   * `least` is what the axis reaches at least.
   */
  constructor(parent, shown, { title, unit, series, format, least, nothing }) {
    Object.assign(this, { shown, series, format, least, nothing, points: [] });
    this.values = series.map((own) => element("dd", { text: "–" }));
    const legend = element("dl", { class: "legend" });
    series.forEach((own, index) => {
      const key = drawn("svg", { viewBox: "0 0 12 6", width: 12, height: 6, "aria-hidden": "true" },
        drawn("line", { class: `curve ${own.tone}`, "stroke-dasharray": own.dash, x1: 0, x2: 12, y1: 3, y2: 3 }));
      legend.append(element("div", {}, element("dt", {}, key, own.label), this.values[index]));
    });
    this.picture = drawn("svg", { class: "plot", height: HEIGHT, tabindex: 0, role: "img" });
    this.name = `${title}, ${unit}`;
    parent.append(element("figure", { class: "panel" },
      element("figcaption", {}, element("h3", { text: title }), element("span", { class: "quiet", text: unit }), legend),
      this.picture));
    this.still = drawn("g");
    this.cursor = drawn("g", { class: "cursor" });
    this.picture.append(this.still, this.cursor);
    pointing(this.picture, shown, () => 1000 * Math.max(1, shown.seconds / 120));
    onWidth(this.picture, () => this.draw());
    shown.listeners.push(() => this.point());
  }

  show(points) {
    this.points = points;
    this.draw();
  }

  draw() {
    const width = this.picture.clientWidth;
    if (!width) return;
    mark(this.picture, "viewBox", `0 0 ${width} ${HEIGHT}`);
    const { from, to } = this.shown;
    this.within = this.points.filter((point) => point.at >= from - 2000 && point.at <= to);
    const most = Math.max(this.least, ...this.within.flatMap((point) => this.series.map((own) => point[own.key] ?? 0)));
    const top = ceiling(most);
    const place = across(this.shown, width);
    const base = HEIGHT - BOTTOM;
    const y = (value) => base - (value / top) * (base - TOP);
    this.place = { ...place, y, base };
    const grid = [0, top / 2, top].flatMap((value) => [
      drawn("line", { class: value ? "grid" : "base", x1: place.left, x2: place.right, y1: y(value), y2: y(value) }),
      drawn("text", { class: "axis", x: place.left - 6, y: y(value) + 3.5, "text-anchor": "end", text: plain(this.format(value)) }),
    ]);
    const curves = this.series.flatMap((own) => this.curve(own, place.x, y, base));
    const counted = this.within.some((point) => this.series.some((own) => point[own.key]));
    const empty = counted ? [] : [drawn("text", {
      class: "axis", x: (place.left + place.right) / 2, y: (TOP + base) / 2, "text-anchor": "middle", text: this.nothing,
    })];
    this.still.replaceChildren(...grid, ...timeMarks(this.shown, place, base), ...curves.reverse(), ...empty);
    this.point();
  }

  /** A curve in pieces: there is nothing where nothing was counted. */
  curve({ key, tone, area, dash }, x, y, base) {
    const pieces = [];
    let piece = null;
    let before = null;
    for (const point of this.within) {
      const value = point[key];
      if (value === null || value === undefined || (before !== null && point.at - before > 2500)) piece = null;
      if (value === null || value === undefined) continue;
      if (!piece) pieces.push((piece = []));
      piece.push([Math.max(x(point.at), LEFT), y(value)]);
      before = point.at;
    }
    const line = (points) => `M${points.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L")}`;
    const alone = pieces.filter((own) => own.length === 1);
    const d = pieces.map((own) => line(own) + (own.length === 1 ? "h.01" : "")).join("");
    const made = [drawn("path", { class: `curve ${tone}${alone.length ? " round" : ""}`, d, "stroke-dasharray": dash })];
    if (area) {
      const filled = pieces.map((own) => `${line(own)}L${own.at(-1)[0].toFixed(1)} ${base}L${own[0][0].toFixed(1)} ${base}Z`);
      made.push(drawn("path", { class: `area ${tone}`, d: filled.join("") }));
    }
    return made;
  }

  /** Shows the moment that is pointed at, or the last one. */
  point() {
    if (!this.place) return;
    const { cursor, to } = this.shown;
    const near = cursor === null ? this.within.at(-1) : nearest(this.within, cursor);
    this.series.forEach((own, index) => write(this.values[index], this.format(near?.[own.key] ?? null)));
    const said = this.series.map((own, index) => `${own.label} ${this.values[index].textContent}`).join(", ");
    mark(this.picture, "aria-label", `${this.name}: ${said}, at ${clock(near?.at ?? to)}`);
    if (cursor === null || !near) {
      this.cursor.replaceChildren();
      return;
    }
    const { x, y, base } = this.place;
    const dots = this.series.filter((own) => near[own.key] !== null && near[own.key] !== undefined);
    this.cursor.replaceChildren(
      drawn("line", { x1: x(near.at), x2: x(near.at), y1: TOP, y2: base }),
      ...dots.map((own) => drawn("circle", { class: own.tone, cx: x(near.at), cy: y(near[own.key]), r: 3 })));
  }
}

/** A round number without its empty decimals. */
const plain = (text) => text.replace(/\.0+(?!\d)/, "");

function nearest(points, at) {
  let found = null;
  for (const point of points) {
    if (!found || Math.abs(point.at - at) < Math.abs(found.at - at)) found = point;
  }
  return found && Math.abs(found.at - at) < 5000 ? found : null;
}

/** The least round number that is not less. */
function ceiling(value) {
  const unit = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 3, 4, 5, 6, 8, 10].map((factor) => factor * unit).find((round) => round >= value * 0.999) ?? 10 * unit;
}

/** A little curve without axes. */
export function spark(values, tone) {
  const [width, height] = [84, 18];
  const most = Math.max(...values, 1e-9);
  const x = (index) => (index / Math.max(1, values.length - 1)) * (width - 2) + 1;
  const d = values.map((value, index) => `${index ? "L" : "M"}${x(index).toFixed(1)} ${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  return drawn("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" },
    drawn("path", { class: `curve ${tone}`, d: d.join("") }));
}
