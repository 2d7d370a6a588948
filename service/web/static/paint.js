// Blocks → pixels, by two look-up tables over the bits of a float16: colour of the value, opacity of the coverage.

import { HALF } from "./blocks.js";

const FAINTEST = 0.25;
const FULL_AT_SHARE_OF_MEDIAN = 0.3;

let tables = {};

/** Fetch the colour tables, 256 RGB entries a channel. */
export async function loadColours() {
  const hex = await (await fetch("/static/colourmaps.json")).json();
  const bytes = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
  tables = Object.fromEntries(Object.entries(hex).map(([channel, text]) => [channel, bytes(text)]));
}

/** Colour of a value as opaque RGBA bytes in one little-endian word. */
export function colourOf(contrast, value) {
  const table = tables[contrast.channel];
  const at = 3 * Math.min(255, Math.floor(256 * contrast.place(value)));
  return (0xff000000 | (table[at + 2] << 16) | (table[at + 1] << 8) | table[at]) >>> 0;
}

/** Colours and opacities for one contrast; blocks painted by an older one are painted anew. */
export class Palette {
  constructor(contrast, typicalCoverage) {
    const full = contrast.channel === "coverage" ? 0 : FULL_AT_SHARE_OF_MEDIAN * typicalCoverage;
    this.colours = Uint32Array.from(HALF, (value) => (Number.isFinite(value) ? colourOf(contrast, value) & 0xffffff : 0));
    this.opacities = Uint32Array.from(HALF, (coverage) => {
      if (!(coverage > 0)) return 0;
      return Math.round(255 * (FAINTEST + (1 - FAINTEST) * (coverage < full ? coverage / full : 1)));
    });
    this.channel = contrast.channel;
  }

  /** Return the block's picture, painted now if it is not up to date. */
  paint(block) {
    if (block.painted === this) return block.picture;
    block.picture ??= Object.assign(document.createElement("canvas"), { width: block.px, height: block.px });
    const image = new ImageData(block.px, block.px);
    const words = new Uint32Array(image.data.buffer);
    const values = block.planes[this.channel];
    const { coverage } = block.planes;
    for (let k = 0; k < words.length; k++) {
      words[k] = (this.opacities[coverage[k]] << 24) | this.colours[values[k]];
    }
    block.picture.getContext("2d").putImageData(image, 0, 0);
    block.painted = this;
    return block.picture;
  }
}
