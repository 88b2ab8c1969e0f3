// An endpoint is killed and comes back; then the process goes and another one comes. All of it is seen in
// the page without it being loaded again. Arguments: the two endpoints.

import { assert, more, please, reads, story } from "./browser.mjs";

const [good, bad] = more;

// The browser itself writes that a connection was refused.
await story({ expected: /ERR_(CONNECTION|INCOMPLETE|EMPTY)/ }, async (page) => {
  const row = (endpoint) => page.locator(`tr[data-endpoint="${endpoint}"]`);
  await reads(page.locator("#link"), "Live");
  for (const endpoint of [good, bad]) await reads(row(endpoint), /up for/);
  await reads(page.locator("#warnings"), "every pool is as it should be");
  await page.waitForFunction(() => document.querySelector("figure .legend dd").textContent !== "–");
  await page.evaluate(() => (window.loadedOnce = true));

  await please("kill");
  await reads(row(bad).locator("td").first(), "ejected");
  await reads(row(bad).locator(".why"), /^ejected \d+ s ago: \d+ failures to connect in a row .*; (tried again in \d+ s|about to be tried again)$/);
  const why = await row(bad).locator(".why").innerText();
  process.stdout.write(`why: ${why}\n`);
  assert.equal(await row(good).getAttribute("data-state"), "up");
  await reads(page.locator("#warnings"), "only 1 of its 2 endpoints is available");
  await reads(page.locator("article.pool .available"), "1 of 2 available");
  await reads(page.locator("#event-list li"), `app ${bad} ejected for`);
  await page.locator("#lanes .sign.bad").first().waitFor();
  await page.locator("#lanes .stretch").first().waitFor();

  await please("revive");
  await reads(row(bad), /up for/);
  await reads(page.locator("#event-list li"), `app ${bad} back`);
  await reads(page.locator("#pools-words"), "all up");
  await reads(page.locator("#route-list tbody tr").first(), "route-1");

  await please("stop");
  await reads(page.locator("#link"), /Connection lost \d+ s ago; (next try in \d+ s|trying again)/);
  assert.equal(await row(good).locator("button:enabled").count(), 0, "orders cannot be given");
  await reads(row(good), /up for/);
  await please("start");
  await reads(page.locator("#link"), "Live");
  await row(good).locator("button:enabled").first().waitFor();
  assert.ok(await page.evaluate(() => window.loadedOnce), "the page was not loaded again");
});
