// The page on a phone and on a large screen, light and dark: nothing is wider than the screen, nothing
// jumps as data comes, and texts stand out from what is behind them. Arguments: `phone` or `desk`, `light`
// or `dark`.

import { assert, more, reads, story } from "./browser.mjs";

const [size, colorScheme] = more;
const viewport = size === "phone" ? { width: 375, height: 720 } : { width: 1440, height: 900 };
const phone = size === "phone" ? { isMobile: true, hasTouch: true, deviceScaleFactor: 2 } : {};

await story({ options: { viewport, colorScheme, ...phone } }, async (page) => {
  await reads(page.locator("#link"), "Live");
  await reads(page.locator("tr[data-endpoint]").first(), "up for");
  await page.waitForFunction(() => document.querySelector("#route-list tbody tr:not(.blank)"));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(wide <= 0, `it is ${wide} px wider than the screen`);

  const places = () => page.evaluate(() => ["#plots", "#timeline", "#pools", "#routes"].map((id) => {
    const box = document.querySelector(id).getBoundingClientRect();
    return [id, Math.round(box.top + scrollY), Math.round(box.width)].join(" ");
  }));
  const before = await places();
  await page.waitForTimeout(2500);
  assert.deepEqual(await places(), before, "nothing jumps");

  for (const selector of ["h1", "td.why", ".quiet", ".state", "#event-list time", "#warnings li"]) {
    const ratio = await page.locator(selector).first().evaluate(contrast);
    assert.ok(ratio >= 4.5, `${selector} has a contrast of ${ratio.toFixed(2)}`);
  }
});

/** The contrast of a text with what is behind it (WCAG 2.2, 1.4.3). */
function contrast(target) {
  const parse = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = parse(color).map((own) => own / 255).map((own) => (own <= 0.04045 ? own / 12.92 : ((own + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = target;
  while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0) behind = behind.parentElement;
  const [a, b] = [getComputedStyle(target).color, getComputedStyle(behind ?? document.body).backgroundColor].map(light);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
