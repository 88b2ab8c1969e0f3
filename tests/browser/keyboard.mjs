// Everything can be done by keyboard: the plots are read out, an endpoint is drained for a time and
// taken back. Arguments: the endpoints.

import { assert, more, reads, story } from "./browser.mjs";

const [endpoint] = more;

await story({}, async (page) => {
  const focused = () => page.evaluate(() => document.activeElement.getAttribute("aria-label") ?? document.activeElement.textContent.trim());
  const row = page.locator(`tr[data-endpoint="${endpoint}"]`);
  await reads(page.locator("#link"), "Live");
  await reads(row, /up for/);

  /** Presses Tab until what is focused begins so. */
  const tab = async (name) => {
    for (let presses = 0; presses < 60; presses += 1) {
      if ((await focused()).startsWith(name)) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`${name} is not reached, but ${await focused()}`);
  };
  await tab("Requests, per second, connections and flows too");
  await page.keyboard.press("ArrowLeft");
  await reads(page.locator("#moment"), /^at \d\d:\d\d:\d\d$/);
  assert.match(await focused(), /^Requests, per second, connections and flows too: requests [\d.,–]+, at \d\d:\d\d:\d\d$/);
  await page.keyboard.press("Escape");
  await page.waitForFunction(() => !document.querySelector("#moment").textContent.startsWith("at"));

  await tab(`Drain ${endpoint} of app`);
  await page.keyboard.press("Enter");
  await reads(page.locator("#ask"), `Drain ${endpoint}?`);
  await page.keyboard.press("Escape");
  await page.locator("#ask").waitFor({ state: "hidden" });
  assert.equal(await row.getAttribute("data-state"), "up", "nothing was done");

  await tab(`Drain ${endpoint} of app`);
  await page.keyboard.press("Enter");
  await page.locator("#ask-select").focus();
  await page.keyboard.press("ArrowDown");
  await tab("Drain");
  await page.keyboard.press("Enter");
  // The notice first, for it goes after a while.
  await reads(page.locator("#notice"), "drained by command");
  await reads(row.locator(".why"), /^drained by command \d+ s ago: no new requests.*; ends in (5 min|4 min \d+ s)$/);
  await reads(page.locator("#event-list li"), `app ${endpoint} drained by command`);

  await tab(`Undrain ${endpoint} of app`);
  await page.keyboard.press("Enter");
  await reads(row, /up for|back/);
});
