// The way to the process: requests with a token if there is one, and the stream of events, which is taken
// up again when it ends. Does not know what is asked for nor what it means.

const KEY = "forebay-token";

/** What the process refused: `status`, what is wrong, and what to do about it. */
export class Refused extends Error {
  constructor(status, error, hint) {
    super(error);
    this.status = status;
    this.hint = hint;
  }
}

/** The token is kept for as long as the tab is. */
export const token = {
  get: () => sessionStorage.getItem(KEY),
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

async function request(path, options = {}) {
  const own = token.get();
  const headers = { ...options.headers, ...(own ? { Authorization: `Bearer ${own}` } : {}) };
  const answer = await fetch(path, { cache: "no-store", ...options, headers });
  if (answer.ok) return answer;
  const refusal = await answer.json().catch(() => ({}));
  throw new Refused(answer.status, refusal.error ?? `it answered ${answer.status}`, refusal.hint ?? "");
}

/** What `path` says. */
export async function ask(path) {
  const answer = await request(path, { signal: AbortSignal.timeout(PATIENCE) });
  return answer.json();
}

/** Has the process do something. */
export async function order(path) {
  const answer = await request(path, { method: "POST", signal: AbortSignal.timeout(PATIENCE) });
  return answer.json();
}

/**
 * Follows the events at `path` and begins again whenever they end. `heard(name, data)` gets each; `opened()`
 * is called when they begin, `lost(error, seconds)` when they have ended; they are asked for again when that
 * completes, which should be after so many seconds.
 */
export async function follow(path, { opened, heard, lost }) {
  for (let tries = 0; ; tries += 1) {
    const ending = new AbortController();
    let reason = null;
    try {
      const answer = await request(path, { signal: ending.signal, headers: { Accept: "text/event-stream" } });
      await opened();
      tries = 0;
      await read(answer.body.getReader(), ending, heard);
    } catch (error) {
      reason = error;
    }
    ending.abort();
    const seconds = Math.min(2 ** tries, LONGEST_PAUSE);
    await lost(reason, seconds);
  }
}

/** Reads a stream of events until it ends or nothing comes for too long. */
async function read(reader, ending, heard) {
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const silence = setTimeout(() => ending.abort(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const events = rest.split("\n\n");
    rest = events.pop();
    for (const event of events) tell(event, heard);
  }
}

function tell(event, heard) {
  let name = "message";
  const data = [];
  for (const line of event.split("\n")) {
    if (line.startsWith("event: ")) name = line.slice(7);
    if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (data.length) heard(name, JSON.parse(data.join("\n")));
}

export const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

/** How long an answer may take, in milliseconds. */
const PATIENCE = 15_000;

/** How long nothing may come, in milliseconds; something is said at least every 15 s. */
const SILENCE = 20_000;

/** Between two tries, in seconds. */
const LONGEST_PAUSE = 8;
