// The mosaic as the server sent it: blocks of float16 planes, kept as the bits that arrived.

export const CHANNELS = ["amplitude", "phase", "agreement", "coverage", "confidence"];

const MAGIC = 0x424c5450; // "PTLB", little-endian
const LAYOUT = 2;
const HEADER_BYTES = 24;
const SAMPLES_PER_BLOCK = 512;

/** The value of each of the 65 536 float16 numbers, by its bits. */
export const HALF = Float32Array.from({ length: 65536 }, (_, bits) => {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
});

/** Decode one binary message; the planes are views of it, not copies. */
export function decodeBlock(buffer) {
  const header = new DataView(buffer);
  if (header.getUint32(0, true) !== MAGIC || header.getUint16(4, true) !== LAYOUT) {
    throw new Error("the service speaks another version of the live protocol: reload the page");
  }
  const px = header.getUint16(6, true);
  const planes = CHANNELS.map((_, k) => new Uint16Array(buffer, HEADER_BYTES + 2 * k * px * px, px * px));
  return {
    px,
    generation: header.getUint32(8, true),
    by: header.getInt32(12, true),
    bx: header.getInt32(16, true),
    planes: Object.fromEntries(CHANNELS.map((channel, k) => [channel, planes[k]])),
  };
}

/** Positions of some covered pixels, evenly spread, by which contrast is judged. */
function sampleCovered({ px, planes }) {
  const step = Math.max(1, Math.floor((px * px) / SAMPLES_PER_BLOCK / 2) * 2 + 1);
  const chosen = [];
  for (let k = 0; k < px * px; k += step) if (HALF[planes.coverage[k]] > 0) chosen.push(k);
  return chosen;
}

export class BlockStore {
  constructor() {
    this.blocks = new Map();
    this.generation = null;
    this.px = 128;
  }

  clear() {
    this.blocks.clear();
  }

  put(block) {
    if (block.generation !== this.generation) this.clear();
    this.generation = block.generation;
    this.px = block.px;
    const key = `${block.by},${block.bx}`;
    const before = this.blocks.get(key);
    this.blocks.set(key, { ...block, sample: sampleCovered(block), picture: before?.picture, painted: null });
  }

  /** All channels at pixel (y, x) of the mosaic; null where there is no data. */
  valuesAt(y, x) {
    const by = Math.floor(y / this.px);
    const bx = Math.floor(x / this.px);
    const block = this.blocks.get(`${by},${bx}`);
    if (!block) return null;
    const at = (y - by * this.px) * this.px + (x - bx * this.px);
    const values = Object.fromEntries(CHANNELS.map((name) => [name, HALF[block.planes[name][at]]]));
    return values.coverage > 0 ? values : null;
  }

  /** Values of one channel at the sampled pixels of all blocks. */
  sample(channel) {
    const values = [];
    for (const block of this.blocks.values()) {
      for (const at of block.sample) values.push(HALF[block.planes[channel][at]]);
    }
    return Float32Array.from(values);
  }
}
