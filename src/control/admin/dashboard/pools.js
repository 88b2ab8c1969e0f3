// Pools and their endpoints: how they are, why, and what may be done with them.

import { byId, choice, element, keep, mark, sign, write } from "./elements.js";
import { count, percent, standing, STATES, took } from "./words.js";

/** Endpoints of a pool that are shown; of more, those first that are not up. */
const MOST = 40;

const COLUMNS = [
  ["State", ""],
  ["Endpoint", ""],
  ["Why", "why"],
  ["In flight", "number"],
  ["Requests", "number"],
  ["Failed", "number"],
  ["p50", "number"],
  ["p99", "number"],
];

export class Pools {
  /** `act(command, endpoint)` is called when somebody wants to give an order. */
  constructor(act) {
    Object.assign(this, { act, only: "all", orders: false, idle: true, whole: new Set() });
    choice(byId("pools-choice"), [["all", "All"], ["not-up", "Not up"]], "all", (value) => {
      this.only = value;
      this.show(this.shown);
    });
  }

  /** `now` is in milliseconds; `journal(pool, endpoint)` has the entries of an endpoint. */
  show(shown) {
    this.shown = shown;
    if (!shown) return;
    const { pools, endpoints } = shown;
    const not = endpoints.filter((own) => own.state !== "up").length;
    const total = `${count(endpoints.length)} endpoint${endpoints.length === 1 ? "" : "s"}`;
    write(byId("pools-words"), not === 0 ? `${total}, all up` : `${total}, ${count(not)} not up`);
    const none = { pool: "", none: true };
    keep(byId("pool-list"), pools.length ? pools : [none], {
      key: (pool) => pool.pool,
      make: (pool) => (pool.none ? element("p", { class: "panel quiet", text: "There are no pools" }) : this.section(pool)),
      update: (section, pool) => pool.none || this.update(section, pool),
    });
  }

  section(pool) {
    const head = element("tr", {}, ...COLUMNS.map(([text, kind]) => element("th", { scope: "col", class: kind, text })),
      element("th", { class: "orders", scope: "col" }, element("span", { class: "unseen", text: "Orders" })));
    const section = element("article", { class: "panel pool", "aria-label": `Pool ${pool.pool}` },
      element("div", { class: "bar" },
        element("h3", { text: pool.pool }),
        element("p", { class: "available" }),
        element("p", { class: "quiet figures" })),
      element("ul", { class: "troubles" }),
      element("div", { class: "wide" }, element("table", {}, element("thead", {}, head), element("tbody"))),
      element("button", { type: "button", class: "more", hidden: true, on: { click: () => this.unfold(pool.pool) } }));
    return section;
  }

  unfold(pool) {
    if (!this.whole.delete(pool)) this.whole.add(pool);
    this.show(this.shown);
  }

  update(section, pool) {
    const part = (selector) => section.querySelector(selector);
    const tone = pool.available === pool.total ? "good" : pool.available === 0 ? "bad" : "warn";
    const shape = { good: "disc", warn: "triangle", bad: "fallen" }[tone];
    const available = part(".available");
    if (available.dataset.shape !== shape) {
      available.dataset.shape = shape;
      available.replaceChildren(sign(shape, tone), element("span"));
    }
    write(available.lastChild, `${count(pool.available)} of ${count(pool.total)} available`);
    write(part(".figures"), figures(pool));
    const troubles = troublesOf(pool);
    keep(part(".troubles"), troubles, {
      key: (text) => text,
      make: (text) => element("li", {}, sign("triangle", "warn"), element("span", { text })),
    });
    this.rows(section, pool);
  }

  rows(section, pool) {
    const own = this.shown.endpoints.filter((endpoint) => endpoint.pool === pool.pool);
    const notUp = own.filter((endpoint) => endpoint.state !== "up");
    const crowded = own.length > MOST && !this.whole.has(pool.pool);
    let rows = this.only === "not-up" ? notUp : own;
    if (crowded) rows = [...notUp, ...rows.filter((endpoint) => endpoint.state === "up")].slice(0, MOST);
    const more = section.querySelector(".more");
    more.hidden = own.length <= MOST || this.only === "not-up";
    write(more, crowded ? `Show all ${count(own.length)} endpoints` : "Show fewer");
    const none = { endpoint: "", none: own.length ? "All endpoints are up" : "The pool has no endpoints" };
    keep(section.querySelector("tbody"), rows.length ? rows : [none], {
      key: (endpoint) => endpoint.endpoint,
      make: (endpoint) => (endpoint.none ? blank(endpoint.none) : this.row(endpoint)),
      update: (row, endpoint) => endpoint.none || this.fill(row, endpoint),
    });
  }

  row(endpoint) {
    const cells = COLUMNS.map(([text, kind]) => element("td", { class: kind, "data-name": text }));
    const orders = element("td", { class: "orders" });
    const row = element("tr", { "data-endpoint": endpoint.endpoint, "data-pool": endpoint.pool }, ...cells, orders);
    cells[1].append(element("code", { text: endpoint.endpoint }));
    row.cells_ = cells;
    return row;
  }

  fill(row, endpoint) {
    const [state, , why, inFlight, requests, failed, p50, p99] = row.cells_;
    const shown = STATES[endpoint.state] ?? { word: endpoint.state, shape: "ring", tone: "idle" };
    if (row.dataset.state !== endpoint.state) {
      row.dataset.state = endpoint.state;
      state.replaceChildren(element("span", { class: `state ${shown.tone}` }, sign(shown.shape, shown.tone), shown.word));
    }
    const { journal, now } = this.shown;
    write(why, standing(endpoint, journal(endpoint.pool, endpoint.endpoint), now));
    mark(why, "title", endpoint.last_event ? `${endpoint.last_event.at} ${endpoint.last_event.words}` : null);
    const limit = endpoint.in_flight_limit ? ` / ${count(endpoint.in_flight_limit)}` : "";
    write(inFlight, `${count(endpoint.in_flight)}${limit}`);
    write(requests, count(endpoint.requests));
    write(failed, count(endpoint.failures + endpoint.server_errors));
    mark(failed, "title", `${count(endpoint.failures)} without a response, ${count(endpoint.server_errors)} answered 5xx`);
    write(p50, took(endpoint.first_byte_seconds?.p50));
    write(p99, took(endpoint.first_byte_seconds?.p99));
    this.buttons(row, endpoint);
  }

  buttons(row, endpoint) {
    const wanted = !this.orders ? [] : COMMANDS[endpoint.state] ?? ["drain", "disable"];
    keep(row.lastChild, wanted, {
      key: (command) => command,
      make: (command) => element("button", {
        type: "button", class: "small", text: NAMES[command],
        "aria-label": `${NAMES[command]} ${endpoint.endpoint} of ${endpoint.pool}`,
        on: { click: () => this.act(command, endpoint.pool, endpoint.endpoint) },
      }),
      update: (button) => mark(button, "disabled", this.idle || null),
    });
  }
}

const COMMANDS = { draining: ["undrain", "disable"], disabled: ["enable"] };

const NAMES = { drain: "Drain", undrain: "Undrain", disable: "Disable", enable: "Enable" };

function blank(text) {
  return element("tr", { class: "blank" }, element("td", { class: "quiet", colspan: COLUMNS.length + 1, text }));
}

function figures(pool) {
  const limit = pool.in_flight_limit ? ` of ${count(pool.in_flight_limit)}` : "";
  const parts = [pool.policy.replaceAll("_", " "), `${count(pool.in_flight)}${limit} in flight`];
  if (pool.waiting) parts.push(`${count(pool.waiting)} waiting`);
  if (pool.retrying) parts.push(`${count(pool.retrying)} tried again`);
  return parts.join(" · ");
}

function troublesOf(pool) {
  const troubles = [];
  if (pool.breaker !== "closed") troubles.push(`The breaker is ${pool.breaker}: ${pool.breaker === "open" ? "requests are refused at once" : "one request at a time decides"}`);
  if (pool.rung.number > 0) troubles.push(`Requests begin on rung ${pool.rung.number}, ${pool.rung.name}`);
  if (pool.failed_open) troubles.push("Too few endpoints are available, so all of them are used");
  if (pool.correlated_failure) troubles.push("Endpoints degrade together: what they share may be at fault; nobody is ejected");
  if (pool.shedding > 0) troubles.push(`${percent(pool.shedding)} of requests are shed`);
  return troubles;
}
