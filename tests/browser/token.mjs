// Where tokens are wanted the page asks for one, and for another one to give an order. They are forgotten
// with the tab. Arguments: the endpoint, the token to read, the token to write.

import { assert, more, reads, story } from "./browser.mjs";

const [endpoint, reading, writing] = more;

// The browser itself writes that something was answered 401.
await story({ expected: /status of 401/ }, async (page) => {
  const row = page.locator(`tr[data-endpoint="${endpoint}"]`);
  const show = async (token) => {
    await page.locator("#ask-input").fill(token);
    await page.locator("#ask-yes").click();
  };
  await reads(page.locator("#ask"), "A token is needed");
  assert.equal(await row.count(), 0, "nothing is shown");
  await show("wrong-wrong-wrong-wrong");
  await reads(page.locator("#ask-words"), "The one that was shown is not good for this");
  await page.keyboard.press("Escape");
  await reads(page.locator("#link"), "A token is needed");
  await page.locator("#token").click();
  await show(reading);
  await reads(page.locator("#link"), "Live");
  await reads(row, "up for");

  await row.getByRole("button", { name: "Drain" }).click();
  await page.locator("#ask-yes").click();
  await reads(page.locator("#ask"), "Orders need the token of [admin.write].");
  await show(writing);
  await reads(row.locator(".why"), "drained by command");

  await page.locator("#token").click();
  await reads(page.locator("#ask"), "A token is needed");
  assert.equal(await page.evaluate(() => sessionStorage.length), 0);
  assert.equal(await page.evaluate(() => localStorage.length + document.cookie.length), 0);
});
