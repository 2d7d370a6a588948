// The colour tables of the service, and what of them a view takes.

import { CHANNELS, QUANTITIES } from "./blocks.js";

export const TABLE_ROWS = [...QUANTITIES, "hue", "grey", "ink", "twilight"];
export const VIEWS = [...CHANNELS, "complex", "unwrapped"];

const OPEN_MAPS = { grey: "grey", ink: "ink on paper", agreement: "embers", coverage: "sea" };
const CLOSED_MAPS = { twilight: "blue and yellow", hue: "hues" };

/** Tables that can be chosen for a channel, its own first, and what they are called. */
export function mapsOf(channel) {
  const { [channel]: _, ...others } = channel === "phase" ? CLOSED_MAPS : OPEN_MAPS;
  return { [channel]: "own", ...others };
}

const FULL_AT_SHARE_OF_MEDIAN = 0.3;
export const ENTRIES = 256;

let tables = {};

/** Fetch the colour tables, 256 RGB entries each. */
export async function loadColours() {
  const hex = await (await fetch("/static/colourmaps.json")).json();
  const bytes = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));
  tables = Object.fromEntries(Object.entries(hex).map(([name, text]) => [name, bytes(text)]));
}

/** All tables as RGBA rows, in the order of TABLE_ROWS. */
export function tablePixels() {
  const pixels = new Uint8Array(4 * ENTRIES * TABLE_ROWS.length).fill(255);
  for (const [row, name] of TABLE_ROWS.entries()) {
    for (let k = 0; k < ENTRIES; k++) pixels.set(tables[name].subarray(3 * k, 3 * k + 3), 4 * (row * ENTRIES + k));
  }
  return pixels;
}

/** The colour [r, g, b] at a place 0 … 1 of a table. */
export function colourAt(table, place) {
  const at = 3 * Math.min(ENTRIES - 1, Math.floor(ENTRIES * place));
  return tables[table].subarray(at, at + 3);
}

/**
 * What the shader needs for a view.
 * @param {string} view  one of VIEWS
 * @param {object} contrasts  by channel
 * @param {number} typicalCoverage  pixels with much less light than this are drawn fainter
 * @param {boolean} isFading  pixels of little confidence are drawn fainter too
 */
export function lookOf(view, contrasts, typicalCoverage, isFading) {
  const isComplex = view === "complex";
  const layer = isComplex ? "amplitude" : view;
  const { [layer]: value, phase, confidence } = contrasts;
  return {
    layer,
    isComplex,
    isUnwrapped: view === "unwrapped",
    isCyclic: isComplex || view === "phase",
    table: isComplex ? "hue" : value.map,
    range: [value.low, value.high, value.gamma],
    circle: [phase.low, phase.high, phase.centre, phase.tour],
    fullLight: view === "coverage" ? 0 : FULL_AT_SHARE_OF_MEDIAN * typicalCoverage,
    isFading: isFading && ["amplitude", "phase", "complex", "unwrapped"].includes(view),
    trusted: [confidence.low, confidence.high],
  };
}
