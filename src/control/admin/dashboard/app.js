// The dashboard: what the process tells goes into one model, which is shown once a second. While the
// connection is lost, everything stays as it was last and says so.

import { ask, follow, order, pause, Refused, token } from "./link.js";
import { byId, choice, element, keep, mark, sign, write } from "./elements.js";
import { clock, count, percent, rate, stretch, took } from "./words.js";
import { Plot, Shown } from "./plot.js";
import { Pools } from "./pools.js";
import { LAST, Routes } from "./routes.js";
import { TimeLine } from "./timeline.js";

/** Entries of the journal and samples that are kept. */
const MOST_ENTRIES = 2000;
const MOST_SAMPLES = 660;

/** How often routes and the status are asked for, in seconds. */
const ROUTES_EVERY = 10;
const STATUS_EVERY = 5;

const model = {
  samples: [],
  entries: new Map(),
  sorted: [],
  byEndpoint: new Map(),
  names: [],
  pools: new Map(),
  endpoints: new Map(),
  status: null,
  access: { orders: "refused", why: null },
  /** How far the clock of the process is ahead, in milliseconds. */
  ahead: 0,
  linked: false,
  /** The status that the events were refused with, if they were. */
  trouble: 0,
  heardAt: null,
};

const now = () => Date.now() + model.ahead;
const shown = new Shown(300);
const plots = [
  new Plot(byId("plot-grid"), shown, {
    title: "Requests", unit: "per second, connections and flows too", format: rate, least: 4, nothing: "no requests",
    series: [{ key: "requests", label: "requests", tone: "requests", area: true }],
  }),
  new Plot(byId("plot-grid"), shown, {
    title: "Errors", unit: "per second: 5xx, connections that failed", format: rate, least: 4, nothing: "no errors",
    series: [{ key: "errors", label: "5xx", tone: "errors", area: true }],
  }),
  new Plot(byId("plot-grid"), shown, {
    title: "Duration", unit: "of requests, and of connecting", format: took, least: 0.001, nothing: "no requests",
    series: [
      { key: "p50", label: "p50", tone: "p50" },
      { key: "p90", label: "p90", tone: "p90", dash: "5 2" },
      { key: "p99", label: "p99", tone: "p99", dash: "2 2" },
    ],
  }),
  new Plot(byId("plot-grid"), shown, {
    title: "In flight", unit: "requests and connections", format: count, least: 4, nothing: "nothing in flight",
    series: [
      { key: "inFlight", label: "requests", tone: "requests" },
      { key: "connections", label: "connections", tone: "p90", dash: "5 2" },
    ],
  }),
];
const timeLine = new TimeLine(shown);
const pools = new Pools((command, pool, endpoint) => give(command, pool, endpoint));
const routes = new Routes();

choice(byId("span"), [["120", "2 min"], ["300", "5 min"], ["600", "10 min"]], "300", (seconds) => {
  shown.seconds = Number(seconds);
  show();
});
shown.listeners.push(() => {
  const busy = model.samples.at(-1)?.busy;
  const idle = busy === undefined || busy === null ? "" : `workers ${percent(busy)} busy`;
  write(byId("moment"), shown.cursor === null ? idle : `at ${clock(shown.cursor)}`);
});

/* What the process tells. */

function sample(at, own) {
  return {
    at, requests: own.requests, errors: own.errors, p50: own.p50_seconds, p90: own.p90_seconds,
    p99: own.p99_seconds, inFlight: own.in_flight, connections: own.connections, busy: own.busy_ratio,
  };
}

function take(samples) {
  const sorted = [...model.samples, ...samples].sort((a, b) => a.at - b.at);
  // The same second comes from the history and live; the clocks of both agree to less than half of one.
  model.samples = sorted.filter((own, index) => !(sorted[index + 1]?.at - own.at < 500)).slice(-MOST_SAMPLES);
}

function taken({ process }) {
  if (!process) return;
  const [begin, step] = [Date.parse(process.from), process.step_seconds * 1000];
  const at = (index) => Object.fromEntries(Object.entries(process).map(([name, list]) => [name, list[index]]));
  take(process.requests.map((_, index) => sample(begin + (index + 1) * step, at(index))));
}

function remember(entries) {
  for (const entry of entries) {
    const key = entry.event === undefined
      ? `${entry.generation ?? "failed"} ${entry.at} ${entry.taken_back ?? ""}`
      : `${entry.at} ${entry.pool} ${entry.endpoint} ${entry.event} ${entry.words}`;
    model.entries.set(key, { ...entry, key, time: Date.parse(entry.at) });
  }
  const sorted = [...model.entries.values()].sort((a, b) => a.time - b.time).slice(-MOST_ENTRIES);
  model.entries = new Map(sorted.map((own) => [own.key, own]));
  model.sorted = sorted;
  model.byEndpoint = new Map();
  for (const own of sorted.filter((entry) => entry.endpoint)) {
    const name = named(own);
    if (!model.byEndpoint.has(name)) model.byEndpoint.set(name, []);
    model.byEndpoint.get(name).push(own);
  }
}

const named = ({ pool, endpoint }) => `${pool} ${endpoint}`;

function settle(told) {
  if (told.whole) {
    model.pools.clear();
    model.endpoints.clear();
  }
  model.names = told.names;
  for (const pool of told.pools) model.pools.set(pool.pool, pool);
  for (const endpoint of told.endpoints) model.endpoints.set(named(endpoint), endpoint);
  for (const gone of told.gone) model.endpoints.delete(named(gone));
}

function heard(name, data) {
  model.heardAt = Date.now();
  if (name === "sample") {
    const at = Date.parse(data.at);
    model.ahead = at - Date.now();
    take([sample(at, data)]);
  } else if (name === "journal" || name === "reload") {
    remember([data]);
    refresh.status = 0;
  } else if (name === "pools") {
    settle(data);
    if (!model.drawn) show();
  }
}

/** Seconds until something is asked for again. */
const refresh = { status: STATUS_EVERY, routes: ROUTES_EVERY };

async function askStatus() {
  refresh.status = STATUS_EVERY;
  model.status = await ask("v1/status");
}

async function askRoutes() {
  refresh.routes = ROUTES_EVERY;
  routes.show(await ask(`v1/history?last=${LAST}s`));
}

/** What was before the events began. Without a history there are no routes; the rest is shown all the same. */
async function opened() {
  model.linked = true;
  model.heardAt = Date.now();
  const history = ask("v1/history?last=10m").then((told) => {
    if (told.now) model.ahead = Date.parse(told.now) - Date.now();
    taken(told);
  });
  const journal = ask("v1/journal?limit=1000").then((told) => remember(told.entries));
  const reloads = ask("v1/config/history").then((told) => remember(told.generations));
  const access = ask("v1/access").then((told) => (model.access = told));
  await Promise.allSettled([history, journal, reloads, access, askStatus(), askRoutes()]);
  show();
}

/* What is shown. */

function show() {
  model.drawn = model.names.length > 0;
  if (model.linked) shown.to = now();
  plots.forEach((plot) => plot.show(model.samples));
  timeLine.show(model.sorted);
  pools.orders = model.access.orders !== "refused";
  pools.idle = !model.linked;
  pools.show({
    pools: model.names.map((name) => model.pools.get(name)).filter(Boolean),
    endpoints: [...model.endpoints.values()],
    journal: (pool, endpoint) => model.byEndpoint.get(named({ pool, endpoint })) ?? [],
    now: shown.to,
  });
  showStatus();
  showLink();
  shown.point(shown.cursor);
}

function showStatus() {
  const { status, access } = model;
  byId("token").hidden = access.orders === "taken" && !token.get();
  write(byId("token"), token.get() ? "Forget the token" : "Show a token");
  if (!status) return;
  const since = stretch((shown.to - Date.parse(status.started)) / 1000);
  const facts = [["Phase", status.phase], ["Version", status.version], ["Up", since],
    ["Generation", String(status.generation)], ["Workers", String(status.workers)], ["Process", String(status.pid)]];
  if (access.orders === "refused") facts.push(["Orders", "not taken here"]);
  keep(byId("process"), facts, {
    key: ([name]) => name,
    make: ([name]) => element("div", {}, element("dt", { text: name }), element("dd")),
    update: (fact, [name, value]) => {
      write(fact.lastChild, value);
      mark(fact, "class", name === "Phase" && value !== "ready" ? "warn" : null);
      mark(fact, "title", name === "Orders" ? access.why : null);
    },
  });
  const warnings = status.warnings.map((text) => ["triangle", "warn", capital(text)]);
  keep(byId("warnings"), warnings.length ? warnings : [calm()], {
    key: ([, , text]) => text,
    make: ([shape, tone, text]) => element("li", {}, sign(shape, tone), element("span", { text })),
  });
  mark(byId("attention"), "class", `panel${status.warnings.length ? " warned" : ""}`);
  document.title = status.warnings.length ? `(${status.warnings.length}) Forebay` : "Forebay";
  write(byId("footer"), `Forebay ${status.version} · times are those of this browser · configuration ${status.config_hash.slice(0, 12)}`);
}

/** What is said without warnings: the process warns of pools, and a pool can do without some of its endpoints. */
function calm() {
  const not = [...model.endpoints.values()].filter((own) => own.state !== "up").length;
  if (not === 0) return ["disc", "good", "Nothing: every pool is as it should be"];
  return ["ring", "idle", `No pool is short of endpoints, though ${count(not)} ${not === 1 ? "is" : "are"} not up`];
}

const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);

function showLink() {
  const link = byId("link");
  const silent = model.heardAt === null ? 0 : (Date.now() - model.heardAt) / 1000;
  const state = model.linked ? (silent > 5 ? "late" : "live") : model.heardAt === null && model.again === undefined ? "new" : "lost";
  mark(link, "data-state", state);
  mark(document.body, "class", state === "lost" ? "lost" : null);
  if (state === "live") write(byId("link-words"), "Live");
  if (state === "late") write(byId("link-words"), `Nothing new for ${stretch(silent)}`);
  if (state === "lost" && model.trouble === 401) {
    write(byId("link-words"), "A token is needed");
  } else if (state === "lost") {
    const since = model.heardAt === null ? "No connection" : `Connection lost ${stretch(silent)} ago`;
    const left = Math.max(0, Math.ceil((model.again - Date.now()) / 1000));
    write(byId("link-words"), `${since}; ${left ? `next try in ${left} s` : "trying again"}`);
  }
}

/** Completes when it should be tried again: after a while, or once there is another token. */
async function lost(error, seconds) {
  model.linked = false;
  model.trouble = error instanceof Refused ? error.status : 0;
  model.again = Date.now() + seconds * 1000;
  show();
  if (![401, 403].includes(model.trouble)) return pause(seconds);
  const warning = `${capital(error.message)}: ${error.hint}`;
  byId("warnings").known = null;
  byId("warnings").replaceChildren(element("li", {}, sign("triangle", "warn"), element("span", { text: warning })));
  if (model.trouble === 403) return pause(seconds);
  if (await askToken("To see how the process is, show the token of [admin.read] or of [admin.write].", token.get())) return undefined;
  return new Promise((done) => (model.retry = done));
}

/* What is asked of people. */

/** Asks in a dialog; the answer, or nothing when there is none. */
function dialog({ title, words, yes, name, options, secret }) {
  const box = byId("ask");
  if (box.open) return Promise.resolve(null);
  write(byId("ask-title"), title);
  write(byId("ask-words"), words);
  write(byId("ask-yes"), yes);
  write(byId("ask-name"), name ?? "");
  const [input, select] = [byId("ask-input"), byId("ask-select")];
  byId("ask-label").hidden = !secret && !options;
  input.hidden = !secret;
  input.value = "";
  select.hidden = !options;
  select.replaceChildren(...(options ?? []).map(([value, text]) => element("option", { value, text })));
  box.showModal();
  return new Promise((done) => {
    const form = box.querySelector("form");
    const answer = secret ? input : select;
    form.onsubmit = (event) => {
      event.preventDefault();
      done(answer.value);
      box.close();
    };
    byId("ask-no").onclick = () => box.close();
    box.onclose = () => done(null);
  });
}

async function askToken(words, wrong) {
  const more = wrong ? " The one that was shown is not good for this." : "";
  const told = await dialog({
    title: "A token is needed", words: `${words}${more} It is kept for as long as this tab is open.`, yes: "Show it", name: "Token", secret: true,
  });
  if (told) token.set(told.trim());
  return Boolean(told);
}

const ASKED = {
  drain: (endpoint) => [`Drain ${endpoint}?`, "It gets no new requests; those under way may end."],
  disable: (endpoint) => [`Disable ${endpoint}?`, "It gets no requests and no checks."],
};

const LASTS = [["", "until it is taken back"], ["5m", "for 5 min"], ["15m", "for 15 min"], ["1h", "for 1 h"]];

async function give(command, pool, endpoint) {
  let lasts = "";
  if (ASKED[command]) {
    const [title, words] = ASKED[command](endpoint);
    lasts = await dialog({ title, words: `Pool ${pool}. ${words}`, yes: capital(command), name: "How long", options: LASTS });
    if (lasts === null) return;
  }
  const path = `v1/endpoints/${encodeURIComponent(pool)}/${encodeURIComponent(endpoint)}/${command}${lasts ? `?for=${lasts}` : ""}`;
  for (;;) {
    try {
      const told = await order(path);
      model.endpoints.set(named(told), told);
      notice(`${endpoint}: ${told.last_event?.words ?? told.state}`, "good");
      show();
      return;
    } catch (error) {
      if (error.status === 401 && (await askToken("Orders need the token of [admin.write].", token.get()))) continue;
      notice(`${capital(command)} of ${endpoint} was refused: ${error.message}${error.hint ? `; ${error.hint}` : ""}`, "bad");
      return;
    }
  }
}

function notice(words, tone) {
  const note = byId("notice");
  note.replaceChildren(sign(tone === "good" ? "disc" : "triangle", tone), element("span", { text: words }));
  note.hidden = false;
  clearTimeout(notice.timer);
  notice.timer = setTimeout(() => (note.hidden = true), 8000);
}

byId("token").addEventListener("click", async () => {
  if (token.get()) {
    token.set(null);
    location.reload();
  } else if (await askToken("Orders need the token of [admin.write].")) {
    model.retry?.();
    model.access = await ask("v1/access").catch(() => model.access);
    show();
  }
});

/* Once a second. */

setInterval(() => {
  if (document.hidden) return;
  if (!model.linked) return showLink();
  show();
  refresh.status -= 1;
  refresh.routes -= 1;
  // That one of them fails is seen by the events, which then end.
  if (refresh.status < 0) askStatus().catch(() => {});
  if (refresh.routes < 0) askRoutes().catch(() => {});
}, 1000);

follow("v1/events", { opened, heard, lost });
