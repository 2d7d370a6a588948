// The view in the address: whoever opens the link sees the same part of the same scan in the same colours.

import { VIEWS } from "./colours.js";

const numbers = (text, count) => {
  const found = (text ?? "").split(",").map(Number);
  return text && found.length === count && found.every(Number.isFinite) ? found : null;
};

/**
 * What a fragment tells; null or false for what it does not.
 * @returns {{scan: ?string, view: ?string, refined: boolean, contrast: ?number[], centre: ?number, map: ?string, place: ?object}}
 *   `contrast` is low, high, gamma; `place` is `yUm`, `xUm` of the middle and `zoom`, CSS pixels a micrometre
 */
export function readLink(fragment) {
  const told = new URLSearchParams(fragment.replace(/^#/, ""));
  const place = numbers(told.get("at"), 3);
  return {
    scan: told.get("scan"),
    view: VIEWS.includes(told.get("channel")) ? told.get("channel") : null,
    refined: told.has("refined"),
    contrast: numbers(told.get("contrast"), 3),
    centre: numbers(told.get("centre"), 1)?.[0] ?? null,
    map: told.get("map"),
    place: place && place[2] > 0 ? { yUm: place[0], xUm: place[1], zoom: place[2] } : null,
  };
}

/** The fragment that tells this; the inverse of `readLink`. */
export function writeLink({ scan, view, refined, contrast, centre, map, place }) {
  const told = new URLSearchParams();
  if (scan !== null) told.set("scan", scan);
  told.set("channel", view);
  if (refined) told.set("refined", "1");
  if (contrast) told.set("contrast", contrast.map(short).join());
  if (centre !== null) told.set("centre", short(centre));
  if (map) told.set("map", map);
  if (place) told.set("at", [place.yUm, place.xUm, place.zoom].map(short).join());
  return `#${told}`.replaceAll("%2C", ",");
}

const short = (value) => String(Number(value.toPrecision(6)));
