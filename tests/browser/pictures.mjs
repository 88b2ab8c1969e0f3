// Takes the pictures of the dashboard that the documentation shows, in the middle of an incident that the
// test makes. Argument: the folder for them.

import fs from "node:fs";
import path from "node:path";
import { more, please, reads, story } from "./browser.mjs";
import { smaller } from "./png.mjs";

const [folder] = more;
const SIZES = [
  ["light", { width: 1360, height: 1010 }, "light"],
  ["dark", { width: 1360, height: 1010 }, "dark"],
  ["phone", { width: 390, height: 844 }, "dark"],
];

await story({}, async (page) => {
  await reads(page.locator("#link"), "Live");
  await page.getByRole("button", { name: "2 min" }).click();
  await please("incident");
  for (const [name, viewport, colorScheme] of SIZES) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    await page.mouse.move(4, 4);
    await page.evaluate(() => scrollTo(0, 0));
    await page.waitForTimeout(1500);
    const picture = await smaller(page, await page.screenshot());
    fs.writeFileSync(path.join(folder, `dashboard-${name}.png`), picture);
  }
});
