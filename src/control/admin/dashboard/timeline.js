// The time line: what happened in lanes over the time that the plots show, and the list of it in words.

import { across, onWidth, pointing, timeMarks } from "./plot.js";
import { byId, choice, drawn, element, keep, mark, sign, SHAPES, write } from "./elements.js";
import { clock, kind, LANES, stretch, told } from "./words.js";

const LANE = 21;
const HEIGHT = LANES.length * LANE + 22;
const MOST_LISTED = 150;

/** Events that end a time without traffic, and those that begin one. */
const BEGINS = new Set(["ejected", "went_down", "breaker_opened", "ladder_down", "failed_open"]);
const ENDS = new Set(["returned", "recovered", "came_up", "left", "breaker_closed", "ladder_up", "fail_open_over"]);

export class TimeLine {
  constructor(shown) {
    Object.assign(this, { shown, entries: [], lane: "all", nearest: null });
    this.picture = drawn("svg", { class: "plot", height: HEIGHT, tabindex: 0, role: "img" });
    this.still = drawn("g");
    this.cursor = drawn("g", { class: "cursor" });
    this.picture.append(this.still, this.cursor);
    byId("lanes").append(this.picture);
    pointing(this.picture, shown, () => 1000 * Math.max(1, shown.seconds / 120));
    onWidth(this.picture, () => this.draw());
    shown.listeners.push(() => this.point());
    const options = [["all", "All"], ...LANES];
    choice(byId("events-choice"), options, "all", (lane) => {
      this.lane = lane;
      this.list();
    });
  }

  /** Entries of the journal and reloads, the oldest first, each with `time` and `key`. */
  show(entries) {
    this.entries = entries;
    this.draw();
    this.list();
  }

  draw() {
    const width = this.picture.clientWidth;
    if (!width) return;
    mark(this.picture, "viewBox", `0 0 ${width} ${HEIGHT}`);
    const place = across(this.shown, width);
    const height = LANES.length * LANE;
    const lanes = LANES.flatMap(([, word], index) => [
      drawn("text", { class: "axis", x: 0, y: index * LANE + 14.5, text: word }),
      drawn("line", { class: "grid", x1: place.left, x2: place.right, y1: index * LANE + LANE / 2, y2: index * LANE + LANE / 2 }),
    ]);
    const { from, to } = this.shown;
    this.within = this.entries.filter((own) => own.time >= from && own.time <= to && !kind(own).check);
    const marks = this.within.map((own) => this.mark(own, place.x(own.time)));
    const base = drawn("line", { class: "base", x1: place.left, x2: place.right, y1: height, y2: height });
    this.still.replaceChildren(...lanes, ...this.stretches(place), base, ...timeMarks(this.shown, place, height), ...marks);
    this.place = place;
    this.point();
  }

  mark(entry, x) {
    const { lane, shape, tone } = kind(entry);
    const y = LANES.findIndex(([own]) => own === lane) * LANE + LANE / 2;
    return drawn("g", { class: `sign ${tone}`, transform: `translate(${(x - 6).toFixed(1)} ${y - 6})` },
      ...(SHAPES[shape] ?? SHAPES.dot)());
  }

  /** A bar from where something was taken out to where it came back. */
  stretches({ x, left, right }) {
    const open = new Map();
    const bars = [];
    const bar = (lane, begin, end) => {
      const [x1, x2] = [Math.max(x(begin), left), Math.min(x(end), right)];
      const y = LANES.findIndex(([own]) => own === lane) * LANE + LANE / 2;
      if (x2 > x1) bars.push(drawn("rect", { class: "stretch", x: x1, width: x2 - x1, y: y - 2.5, height: 5 }));
    };
    for (const entry of this.entries) {
      const what = entry.effect ?? entry.event;
      const { lane } = kind(entry);
      const key = `${lane} ${entry.pool} ${entry.endpoint}`;
      if (BEGINS.has(what) && !open.has(key)) open.set(key, [lane, entry.time]);
      if (ENDS.has(what) && open.has(key)) {
        bar(...open.get(key), entry.time);
        open.delete(key);
      }
    }
    for (const [lane, begin] of open.values()) bar(lane, begin, this.shown.to);
    return bars;
  }

  /** Says what happened next to the moment that is pointed at, or what there is. */
  point() {
    if (!this.place) return;
    const { cursor, seconds } = this.shown;
    const count = this.within.length;
    const none = `nothing in the last ${stretch(seconds)}`;
    mark(this.picture, "aria-label", `What happened in the last ${stretch(seconds)}: ${count} events`);
    if (cursor === null) {
      this.choose(null);
      this.cursor.replaceChildren();
      write(byId("timeline-words"), count === 0 ? none : count === 1 ? "1 event" : `${count} events`);
      return;
    }
    const x = this.place.x(cursor);
    this.cursor.replaceChildren(drawn("line", { x1: x, x2: x, y1: 0, y2: LANES.length * LANE }));
    const near = this.within.filter((own) => Math.abs(this.place.x(own.time) - x) < 8);
    this.choose(near.at(-1) ?? null);
    const words = near.slice(-2).map((own) => `${clock(own.time)} ${told(own).who} ${told(own).what}`);
    write(byId("timeline-words"), words.join(" · ") || clock(cursor));
  }

  choose(entry) {
    const key = entry?.key ?? null;
    if (key === this.nearest) return;
    this.nearest = key;
    for (const item of byId("event-list").children) mark(item, "aria-current", item.dataset.key === key ? "true" : null);
  }

  list() {
    const chosen = this.entries.filter((own) => this.lane === "all" || kind(own).lane === this.lane);
    const newest = chosen.slice(-MOST_LISTED).reverse();
    const none = [{ key: "none" }];
    keep(byId("event-list"), newest.length ? newest : none, { key: (own) => own.key, make: item });
  }
}

function item(entry) {
  if (entry.key === "none") return element("li", { class: "quiet", text: "Nothing has happened yet" });
  const { shape, tone } = kind(entry);
  const { who, what } = told(entry);
  const time = element("time", { datetime: entry.at, title: entry.at, text: clock(entry.time) });
  return element("li", { "data-key": entry.key }, time, sign(shape, tone),
    element("span", {}, element("b", { text: who }), ` ${what}`));
}
