// How things read: numbers with units, times, and the state of an endpoint with its reason. Pure.

export function count(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 1e7) return `${(value / 1e6).toFixed(0)} M`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(2)} M`;
  return Math.round(value).toLocaleString("en-US");
}

/** A number per second. */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  if (value > 0 && value < 10) return value.toFixed(value < 0.1 ? 2 : 1);
  return count(value);
}

export function percent(share) {
  if (share === null || share === undefined) return "–";
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share === 0 || share >= 0.1 ? 0 : 1)} %`;
}

/** A latency. */
export function took(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const digits = (value) => (value >= 99.5 ? value.toFixed(0) : value >= 9.95 ? value.toFixed(1) : value.toFixed(2));
  if (seconds === 0) return "0";
  if (seconds < 1e-3) return `${(seconds * 1e6).toFixed(0)} µs`;
  return seconds < 1 ? `${digits(seconds * 1e3)} ms` : `${digits(seconds)} s`;
}

/** A stretch of time, to two units. */
export function stretch(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return join(whole, 60, "min", 1, "s", whole >= 600);
  if (whole < 86400) return join(whole, 3600, "h", 60, "min");
  return join(whole, 86400, "d", 3600, "h");
}

function join(whole, great, greatUnit, small, smallUnit, coarse = false) {
  const rest = Math.floor((whole % great) / small);
  return `${Math.floor(whole / great)} ${greatUnit}${rest && !coarse ? ` ${rest} ${smallUnit}` : ""}`;
}

const two = (value) => String(value).padStart(2, "0");

/** The time of day here, of milliseconds since 1970. */
export function clock(at, seconds = true) {
  const time = new Date(at);
  return `${two(time.getHours())}:${two(time.getMinutes())}${seconds ? `:${two(time.getSeconds())}` : ""}`;
}

/** How a state is shown. */
export const STATES = {
  up: { word: "up", shape: "disc", tone: "good" },
  warming: { word: "warming", shape: "half", tone: "fair" },
  degraded: { word: "degraded", shape: "triangle", tone: "warn" },
  on_trial: { word: "on trial", shape: "diamond", tone: "warn" },
  ejected: { word: "ejected", shape: "cross", tone: "bad" },
  down: { word: "down", shape: "fallen", tone: "bad" },
  unchecked: { word: "unchecked", shape: "ring", tone: "idle" },
  draining: { word: "draining", shape: "drop", tone: "idle" },
  disabled: { word: "disabled", shape: "bar", tone: "idle" },
};

/**
 * The state of an endpoint with its reason. `entries` is what the journal has of the endpoint, the newest
 * last; `now` is in milliseconds.
 */
export function standing(endpoint, entries, now) {
  const since = Date.parse(endpoint.since);
  const ago = `${stretch((now - since) / 1000)} ago`;
  const last = [...entries].reverse();
  const speak = SENTENCES[endpoint.state];
  const words = speak ? speak({ endpoint, last, ago, now }) : endpoint.last_event?.words ?? "";
  const more = [];
  if (endpoint.breaker !== "closed") more.push(`its breaker is ${endpoint.breaker}`);
  if (endpoint.disagreement) more.push("checks pass while requests fail");
  return [words, ...more].filter(Boolean).join("; ");
}

const SENTENCES = {
  up: ({ endpoint, now }) => `up for ${stretch((now - Date.parse(endpoint.since)) / 1000)}`,
  ejected({ endpoint, last, ago, now }) {
    const entry = last.find((own) => own.event === "trial_failed" || own.effect === "ejected");
    const reason = entry ? after(entry) : tail(endpoint.last_event?.words);
    const until = entry ? Date.parse(entry.at) + entry.lasts_seconds * 1000 : null;
    const back = until === null ? "" : until > now ? `; tried again in ${stretch((until - now) / 1000)}` : "; about to be tried again";
    const times = entry?.times > 1 ? ` (${entry.times} times in a row)` : "";
    return `ejected ${ago}: ${reason}${times}${back}`;
  },
  down({ endpoint, last, ago }) {
    const failed = last.find((own) => own.event === "checked" && !own.passed);
    const reason = failed ? `checks fail, the last with ${failed.failure}` : tail(endpoint.last_event?.words);
    return `down ${ago}: ${reason}`;
  },
  on_trial({ last, ago }) {
    const passed = last.find((own) => own.event === "trial_passed" || own.event === "on_trial");
    const left = passed?.event === "trial_passed" ? `; ${passed.left} more have to pass` : "";
    return `on trial for ${ago.replace(" ago", "")}: one live request at a time decides${left}`;
  },
  degraded({ endpoint, last, ago }) {
    const entry = last.find((own) => own.effect === "degraded");
    return `degraded ${ago}, to ${percent(endpoint.factor)} of its weight: ${entry ? after(entry) : tail(endpoint.last_event?.words)}`;
  },
  warming: ({ endpoint, ago }) => `back ${ago}: has ${percent(endpoint.factor)} of its weight so far`,
  unchecked: () => "no check has passed yet",
  draining: (told) => ordered(told, "drain", "drained", "no new requests"),
  disabled: (told) => ordered(told, "disable", "disabled", "no requests and no checks"),
};

function ordered({ endpoint, last, ago, now }, command, participle, meaning) {
  const entry = last.find((own) => own.event === "ordered" && own.command === command);
  const until = entry?.lasts_seconds ? Date.parse(entry.at) + entry.lasts_seconds * 1000 : null;
  const ends = until && until > now ? `; ends in ${stretch((until - now) / 1000)}` : "";
  const underWay = endpoint.in_flight ? `, ${count(endpoint.in_flight)} under way` : "";
  return `${participle} by command ${ago}: ${meaning}${underWay}${ends}`;
}

/** The reason in an entry: what stands after what was done, without which detector found it. */
function after(entry) {
  if (entry.event === "trial_failed") return "a trial request failed";
  const reason = tail(entry.words);
  const detector = entry.detector ? `${entry.detector} found ` : "";
  return reason.startsWith(detector) ? reason.slice(detector.length) : reason;
}

const tail = (words = "") => words.slice(words.indexOf(": ") + 1).trim();

/** What kind of event it is, and how it is shown. */
export function kind(entry) {
  if (entry.generation !== undefined || entry.cause !== undefined && entry.event === undefined) {
    const failed = entry.ok === false || Boolean(entry.taken_back);
    return { lane: "reloads", shape: failed ? "cross" : "gem", tone: failed ? "bad" : "info" };
  }
  const [lane, shape, tone] = EVENTS[entry.effect] ?? EVENTS[entry.event] ?? ["health", "dot", "idle"];
  return { lane, shape, tone, check: entry.event === "checked" };
}

const EVENTS = {
  ejected: ["health", "cross", "bad"],
  trial_failed: ["health", "cross", "bad"],
  went_down: ["health", "fallen", "bad"],
  degraded: ["health", "triangle", "warn"],
  observed: ["health", "ring", "idle"],
  capped: ["health", "ring", "warn"],
  correlated: ["health", "ring", "warn"],
  on_trial: ["health", "diamond", "warn"],
  trial_passed: ["health", "dot", "good"],
  came_up: ["health", "disc", "good"],
  returned: ["health", "disc", "good"],
  recovered: ["health", "disc", "good"],
  joined: ["health", "dot", "idle"],
  left: ["health", "dot", "idle"],
  checked: ["health", "dot", "idle"],
  disagreement: ["health", "triangle", "warn"],
  correlated_failure: ["health", "triangle", "bad"],
  correlation_over: ["health", "disc", "good"],
  failed_open: ["rungs", "fallen", "bad"],
  fail_open_over: ["rungs", "disc", "good"],
  opened_unchecked: ["rungs", "triangle", "warn"],
  ladder_down: ["rungs", "fallen", "bad"],
  ladder_up: ["rungs", "disc", "good"],
  breaker_opened: ["breakers", "square", "bad"],
  breaker_half_opened: ["breakers", "diamond", "warn"],
  breaker_closed: ["breakers", "frame", "good"],
  ordered: ["orders", "drop", "info"],
  order_over: ["orders", "dot", "info"],
};

/** The lanes of the time line, with what they are called. */
export const LANES = [
  ["health", "Health"],
  ["breakers", "Breakers"],
  ["rungs", "Rungs"],
  ["reloads", "Reloads"],
  ["orders", "Orders"],
];

/** What happened, in words with a name. */
export function told(entry) {
  if (entry.event !== undefined) {
    return { who: [entry.pool, entry.endpoint].filter(Boolean).join(" "), what: entry.words };
  }
  if (entry.ok === false) return { who: "configuration", what: `reload failed: ${firstLine(entry.problems)}` };
  const changes = (entry.changes ?? []).filter((line) => /\S/.test(line));
  const what = entry.taken_back ? `taken back: ${entry.taken_back}` : `in force, by ${entry.cause}${changed(changes)}`;
  return { who: `generation ${entry.generation}`, what };
}

function changed(changes) {
  const shown = changes.slice(0, 3).map((line) => line.trim()).join(", ");
  return shown ? `: ${shown}${changes.length > 3 ? ", …" : ""}` : "";
}

const firstLine = (problems) => String(Array.isArray(problems) ? problems[0] ?? "" : problems ?? "").split("\n")[0];
