// Numbers along a line and within a region. Pure: of the blocks that the page holds.

import { HALF, keyOf, valueOf } from "./blocks.js";
import { wrap } from "./contrast.js";

const MOST_POINTS = 1024;

/**
 * The values along a line, about a pixel apart; null where there is no data.
 * @param {[number, number]} from  y, x in pixels of the mosaic
 * @param {[number, number]} to
 */
export function profile(store, from, to, pixelM) {
  const pixels = Math.hypot(to[0] - from[0], to[1] - from[1]);
  const points = Math.min(MOST_POINTS, Math.max(2, Math.round(pixels) + 1));
  const values = Array.from({ length: points }, (_, k) => {
    const share = k / (points - 1);
    return store.valuesAt(Math.floor(from[0] + share * (to[0] - from[0])), Math.floor(from[1] + share * (to[1] - from[1])));
  });
  return { lengthM: pixels * pixelM, values };
}

/**
 * Mean and standard deviation of a channel over the covered pixels of a rectangle; of the phase, on the circle.
 * @param {number} level  whose pixels are counted
 */
export function statistics(store, { from, to }, channel, level) {
  const values = valuesWithin(store, { from, to }, channel, level);
  const mean = channel === "phase" ? meanAngle(values) : values.reduce((sum, value) => sum + value, 0) / values.length;
  const off = (value) => (channel === "phase" ? wrap(value - mean) : value - mean);
  const variance = values.reduce((sum, value) => sum + off(value) ** 2, 0) / values.length;
  return { pixels: values.length, mean, deviation: Math.sqrt(variance), level };
}

function meanAngle(phases) {
  const [cos, sin] = phases.reduce(([c, s], phase) => [c + Math.cos(phase), s + Math.sin(phase)], [0, 0]);
  return Math.atan2(sin, cos);
}

function valuesWithin(store, { from, to }, channel, level) {
  const [top, bottom] = bordersOf(from[0], to[0], level);
  const [left, right] = bordersOf(from[1], to[1], level);
  const values = [];
  for (let by = Math.floor(top / store.px); by * store.px < bottom; by++) {
    for (let bx = Math.floor(left / store.px); bx * store.px < right; bx++) {
      const block = store.blocks.get(keyOf(level, by, bx));
      if (block) collect(block, channel, [top, left, bottom, right], values);
    }
  }
  return values;
}

/** The first pixel of a level and the one after the last, between two places on the mosaic. */
function bordersOf(one, other, level) {
  const [low, high] = [Math.min(one, other), Math.max(one, other)];
  return [Math.round(low / 2 ** level), Math.max(Math.round(low / 2 ** level) + 1, Math.round(high / 2 ** level))];
}

function collect(block, channel, [top, left, bottom, right], values) {
  const { px, by, bx, planes } = block;
  for (let y = Math.max(top, by * px); y < Math.min(bottom, (by + 1) * px); y++) {
    for (let x = Math.max(left, bx * px); x < Math.min(right, (bx + 1) * px); x++) {
      const at = (y - by * px) * px + (x - bx * px);
      const value = valueOf(block, channel, at);
      if (HALF[planes.coverage[at]] > 0 && !Number.isNaN(value)) values.push(value);
    }
  }
}
