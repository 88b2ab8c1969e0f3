// Routes over the last minutes: the slowest, those that fail, the busiest.

import { byId, choice, element, keep, sign, write } from "./elements.js";
import { percent, rate, took } from "./words.js";
import { spark } from "./plot.js";

const MOST = 12;
/** What the routes are called by which listeners pass things on unread. */
const PASSED_ON = ["connections", "flows"];

/** The time that is asked for, in seconds. */
export const LAST = 300;

const ORDERS = {
  failing: (a, b) => b.share - a.share || b.requests - a.requests,
  slowest: (a, b) => (b.p99 ?? -1) - (a.p99 ?? -1),
  busiest: (a, b) => b.requests - a.requests,
};

const COLUMNS = [["Route", ""], ["Pool", ""], ["Per second", "number"], ["Failed", "number"], ["p50", "number"], ["p99", "number"], ["p99 over time", ""]];

export class Routes {
  constructor() {
    Object.assign(this, { order: "failing", routes: [] });
    const head = element("tr", {}, ...COLUMNS.map(([text, kind]) => element("th", { scope: "col", class: kind, text })));
    this.body = element("tbody");
    byId("route-list").append(element("table", {}, element("thead", {}, head), this.body));
    choice(byId("routes-choice"), [["failing", "Failing"], ["slowest", "Slowest"], ["busiest", "Busiest"]], this.order, (order) => {
      this.order = order;
      this.draw();
    });
    this.draw();
  }

  /** What the history has of routes. */
  show({ routes = [], now }) {
    this.routes = routes.map((route) => summed(route, Date.parse(now))).filter((route) => route.requests > 0);
    this.draw();
  }

  draw() {
    const sorted = [...this.routes].sort(ORDERS[this.order]).slice(0, MOST);
    keep(this.body, sorted.length ? sorted : [{ key: "", none: true }], { key: (route) => route.key, make, update });
  }
}

function make(route) {
  if (route.none) {
    return element("tr", { class: "blank" }, element("td", { class: "quiet", colspan: COLUMNS.length, text: "Nothing in this time" }));
  }
  const row = element("tr", {}, ...COLUMNS.map(([text, kind]) => element("td", { class: kind, "data-name": text })));
  row.cells[0].append(element("code", { text: route.name }));
  write(row.cells[1], route.pool ?? "–");
  return row;
}

function update(row, route) {
  if (route.none) return;
  const [, , requests, failed, p50, p99, curve] = row.cells;
  write(requests, rate(route.requests / route.seconds));
  const shown = percent(route.share);
  if (failed.textContent !== shown) {
    failed.replaceChildren(...(route.share > 0 ? [sign("triangle", route.share >= 0.05 ? "bad" : "warn")] : []), shown);
  }
  write(p50, took(route.p50));
  write(p99, took(route.p99));
  curve.replaceChildren(spark(route.curve, "p99"));
}

/** A route over the time that was asked for: its total has the step in it that is not over, so it is of all until `now`. */
function summed({ listener, route, pool, from, total, p99_seconds }, now) {
  return {
    key: `${listener ?? ""}/${route}/${pool ?? ""}`,
    name: PASSED_ON.includes(route) ? `${listener} ${route}` : route,
    pool,
    requests: total.requests,
    seconds: Math.max(1, (now - Date.parse(from)) / 1000),
    share: total.requests ? total.errors / total.requests : 0,
    p50: total.p50_seconds,
    p99: total.p99_seconds,
    curve: p99_seconds.map((own) => own ?? 0),
  };
}
