// Routes over the last minutes: the slowest, those that fail, the busiest.

import { byId, choice, element, keep, sign, write } from "./elements.js";
import { percent, rate, took } from "./words.js";
import { spark } from "./plot.js";

const MOST = 12;

/** The time that is summed up, in seconds. */
export const LAST = 300;

const ORDERS = {
  failing: (a, b) => b.share - a.share || b.requests - a.requests,
  slowest: (a, b) => (b.p99 ?? -1) - (a.p99 ?? -1),
  busiest: (a, b) => b.requests - a.requests,
};

const COLUMNS = [["Route", ""], ["Pool", ""], ["Requests/s", "number"], ["5xx", "number"], ["p50", "number"], ["p99", "number"], ["p99 over time", ""]];

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
  show(routes) {
    this.routes = routes.map(summed).filter((route) => route.requests > 0);
    this.draw();
  }

  draw() {
    const sorted = [...this.routes].sort(ORDERS[this.order]).slice(0, MOST);
    keep(this.body, sorted.length ? sorted : [{ key: "", none: true }], { key: (route) => route.key, make, update });
  }
}

function make(route) {
  if (route.none) {
    return element("tr", { class: "blank" }, element("td", { class: "quiet", colspan: COLUMNS.length, text: "No requests in this time" }));
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

/**
 * A route over the last minutes. Quantiles of the whole cannot be had from those of its parts: shown are
 * the median of the steps for p50, and the greatest of them for p99.
 */
function summed({ listener, route, pool, step_seconds, requests, errors, p50_seconds, p99_seconds }) {
  const steps = Math.max(1, Math.round(LAST / step_seconds));
  const last = (list) => (list ?? []).slice(-steps);
  const sum = (list) => last(list).reduce((total, own) => total + (own ?? 0), 0);
  const known = (list) => last(list).filter((own) => own !== null).sort((a, b) => a - b);
  const [p50, p99] = [known(p50_seconds), known(p99_seconds)];
  const total = sum(requests);
  return {
    key: `${listener}/${route}`,
    name: route,
    pool,
    requests: total,
    seconds: Math.max(1, last(requests).length * step_seconds),
    share: total ? sum(errors) / total : 0,
    p50: p50[Math.floor(p50.length / 2)],
    p99: p99.at(-1),
    curve: last(p99_seconds).map((own) => own ?? 0),
  };
}
