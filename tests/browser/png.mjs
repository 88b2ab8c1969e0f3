// Pictures with 256 colours at most, which is plenty for a page and a third of the size (PNG, ISO/IEC
// 15948, colour type 3).

import zlib from "node:zlib";

/** The picture with the colours that it has most of; the page decodes it. */
export async function smaller(page, png) {
  // On a page of its own, which may do more than the one that was taken.
  const blank = await page.context().newPage();
  const { width, height, base64 } = await blank.evaluate(decode, png.toString("base64"));
  await blank.close();
  const pixels = Buffer.from(base64, "base64");
  const counts = new Map();
  const color = (at) => (pixels[at] << 16) | (pixels[at + 1] << 8) | pixels[at + 2];
  for (let at = 0; at < pixels.length; at += 4) counts.set(color(at), (counts.get(color(at)) ?? 0) + 1);
  const palette = [...counts].sort((a, b) => b[1] - a[1]).slice(0, 256).map(([own]) => own);
  const places = new Map(palette.map((own, index) => [own, index]));
  const place = (own) => {
    if (!places.has(own)) places.set(own, nearest(palette, own));
    return places.get(own);
  };
  const rows = Buffer.alloc(height * (width + 1));
  for (let y = 0; y < height; y += 1) {
    for (let x = 0; x < width; x += 1) rows[y * (width + 1) + 1 + x] = place(color((y * width + x) * 4));
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8);
  const colors = Buffer.from(palette.flatMap((own) => [own >> 16, (own >> 8) & 255, own & 255]));
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const parts = [["IHDR", head], ["PLTE", colors], ["IDAT", zlib.deflateSync(rows, { level: 9 })], ["IEND", Buffer.alloc(0)]];
  return Buffer.concat([signature, ...parts.map(chunk)]);
}

async function decode(base64) {
  const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const { data } = canvas.getImageData(0, 0, image.width, image.height);
  let text = "";
  for (let at = 0; at < data.length; at += 32768) text += String.fromCharCode(...data.subarray(at, at + 32768));
  return { width: image.width, height: image.height, base64: btoa(text) };
}

function nearest(palette, own) {
  const far = (a, b) => [16, 8, 0].reduce((sum, bits) => sum + (((a >> bits) & 255) - ((b >> bits) & 255)) ** 2, 0);
  let best = 0;
  for (let index = 1; index < palette.length; index += 1) {
    if (far(palette[index], own) < far(palette[best], own)) best = index;
  }
  return best;
}

function chunk([name, data]) {
  const named = Buffer.concat([Buffer.from(name), data]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(data.length);
  const sum = Buffer.alloc(4);
  sum.writeUInt32BE(crc(named));
  return Buffer.concat([length, named, sum]);
}

/** CRC-32 as PNG has it (annex D). */
function crc(bytes) {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit += 1) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return (sum ^ 0xffffffff) >>> 0;
}
