// What the stories share: a browser that records what it should not have to, and the test that does what
// a story asks for. Arguments: the browser, the address of the page, and what is up to the story.

import assert from "node:assert/strict";
import readline from "node:readline";
import { chromium } from "playwright-core";

export { assert };

export const [executablePath, url, ...more] = process.argv.slice(2);

/** How long anything may take that a story waits for, in milliseconds. */
export const PATIENCE = 20_000;

const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();

/** Has the test do something, and waits until it has; what it says. */
export async function please(deed) {
  process.stdout.write(`please ${deed}\n`);
  const { value } = await lines.next();
  return value;
}

/**
 * Runs a story on a page of its own. Fails when the page has an error, writes a warning, or asks anybody
 * else for something. `expected` is what may be written.
 */
export async function story({ options = {}, expected = /^$/ }, tell) {
  // Without a sandbox, because tests may run as root, where there can be none.
  const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu"] });
  const faults = [];
  try {
    const context = await browser.newContext({ viewport: { width: 1440, height: 1000 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(PATIENCE);
    page.on("pageerror", (error) => faults.push(`error: ${error.stack}`));
    page.on("console", (message) => {
      const bad = ["error", "warning"].includes(message.type());
      if (bad && !expected.test(message.text())) faults.push(`${message.type()}: ${message.text()}`);
    });
    page.on("request", (request) => {
      if (new URL(request.url()).origin !== new URL(url).origin) faults.push(`asked elsewhere: ${request.url()}`);
    });
    await page.goto(url);
    await tell(page);
    assert.deepEqual(faults, []);
  } catch (error) {
    process.stderr.write(`${error.stack}\n${faults.join("\n")}\n`);
    process.exitCode = 1;
  } finally {
    await browser.close();
  }
  process.exit();
}

/** Waits until `target` has a text that matches. */
export async function reads(target, text) {
  await target.filter({ hasText: text }).first().waitFor().catch(async () => {
    const found = await target.allInnerTexts();
    throw new Error(`wanted ${text}, found ${JSON.stringify(found)}`);
  });
}
