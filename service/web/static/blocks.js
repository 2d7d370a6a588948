// The object as the server sent it: blocks of float16 planes of several levels, kept as the bits that arrived.

export const CHANNELS = ["amplitude", "phase", "agreement", "coverage", "confidence"];
export const QUANTITIES = [...CHANNELS, "unwrapped"]; // that a pixel has a value of

const MAGIC = 0x424c5450; // "PTLB", little-endian
const LAYOUT = 3;
const HEADER_BYTES = 24;
const SAMPLES_PER_BLOCK = 512;
const COVERAGE = CHANNELS.indexOf("coverage");
const TURN = 2 * Math.PI;

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
  const bits = new Uint16Array(buffer, HEADER_BYTES, CHANNELS.length * px * px);
  return {
    px,
    bits, // all planes, one after the other
    planes: Object.fromEntries(CHANNELS.map((name, k) => [name, bits.subarray(k * px * px, (k + 1) * px * px)])),
    generation: header.getUint32(8, true),
    by: header.getInt32(12, true),
    bx: header.getInt32(16, true),
    level: header.getUint32(20, true),
  };
}

/** The value of a channel at a pixel of a block; unwrapped, NaN where no turns are known. */
export function valueOf({ planes, turns }, channel, at) {
  if (channel !== "unwrapped") return HALF[planes[channel][at]];
  return turns ? HALF[planes.phase[at]] + TURN * HALF[turns[at]] : NaN;
}

export function keyOf(level, by, bx) {
  return `${level},${by},${bx}`;
}

/** Positions of some covered pixels, evenly spread, by which contrast is judged. */
function sampleCovered({ px, bits }) {
  const step = Math.max(1, Math.floor((px * px) / SAMPLES_PER_BLOCK / 2) * 2 + 1);
  const coverage = COVERAGE * px * px;
  const chosen = [];
  for (let k = 0; k < px * px; k += step) if (HALF[bits[coverage + k]] > 0) chosen.push(k);
  return chosen;
}

export class BlockStore {
  constructor() {
    this.blocks = new Map();
    this.px = 128;
    this.unwrapping = null; // while somebody looks at the unwrapped phase, what tells each block's turns
  }

  clear() {
    this.blocks.clear();
    this.unwrapping = null;
  }

  put(block) {
    this.px = block.px;
    const turns = this.unwrapping?.turnsOf(block);
    this.blocks.set(keyOf(block.level, block.by, block.bx), { ...block, turns, sample: sampleCovered(block) });
  }

  /** Turn all blocks as an unwrapping says, and those that come; they are new blocks to whoever draws them. */
  unwrap(unwrapping) {
    this.unwrapping = unwrapping;
    if (!unwrapping) return;
    for (const [key, block] of this.blocks) this.blocks.set(key, { ...block, turns: unwrapping.turnsOf(block) });
  }

  has(level, by, bx) {
    return this.blocks.has(keyOf(level, by, bx));
  }

  /** Forget the blocks that lie in none of the windows. */
  keepWithin(windows) {
    for (const [key, block] of this.blocks) {
      if (!windows.some((window) => isWithin(block, window))) this.blocks.delete(key);
    }
  }

  ofLevel(level) {
    return [...this.blocks.values()].filter((block) => block.level === level);
  }

  /**
   * All channels at pixel (y, x) of the mosaic, from the finest level that is here.
   * @returns {?object} with `level`; null where there is no data
   */
  valuesAt(y, x, coarsest = 7) {
    for (let level = 0; level <= coarsest; level++) {
      const [row, column] = [Math.floor(y / 2 ** level), Math.floor(x / 2 ** level)];
      const [by, bx] = [Math.floor(row / this.px), Math.floor(column / this.px)];
      const block = this.blocks.get(keyOf(level, by, bx));
      if (!block) continue;
      const at = (row - by * this.px) * this.px + (column - bx * this.px);
      const values = Object.fromEntries(QUANTITIES.map((name) => [name, valueOf(block, name, at)]));
      return values.coverage > 0 ? { ...values, level } : null;
    }
    return null;
  }

  /** Values of one channel at the sampled pixels of a level. */
  sample(channel, level) {
    const values = [];
    for (const block of this.ofLevel(level)) {
      for (const at of block.sample) values.push(valueOf(block, channel, at));
    }
    return Float32Array.from(values.filter((value) => !Number.isNaN(value)));
  }
}

export function isWithin({ level, by, bx }, { level: wanted, rows, columns }) {
  return level === wanted && by >= rows[0] && by < rows[1] && bx >= columns[0] && bx < columns[1];
}
