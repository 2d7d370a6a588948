// The colour bar; for the complex object a field of colours, phase upwards and amplitude to the right.

import { colourAt } from "./colours.js";
import { angle, significant } from "./format.js";

const TICKS = 5;
const TITLES = {
  amplitude: "amplitude", phase: "phase − centre\nrad", agreement: "agreement", coverage: "coverage",
  confidence: "confidence", unwrapped: "unwrapped\nphase, rad", complex: "complex\nphase − centre, rad",
};

const at = (id) => document.getElementById(id);

export function drawColourBar(view, contrasts) {
  const isComplex = view === "complex";
  const contrast = isComplex ? contrasts.phase : contrasts[view];
  at("colourbar-title").textContent = TITLES[view];
  at("colourbar").dataset.view = view;
  paintStrip(isComplex ? "hue" : contrast.map, contrast, isComplex);
  at("colourbar-ticks").replaceChildren(...ticks(contrast));
  at("colourbar-brightness").hidden = !isComplex;
  const { low, high } = contrasts.amplitude;
  at("colourbar-brightness").textContent = `amplitude ${significant(low, 2)} … ${significant(high, 2)}`;
}

function paintStrip(table, contrast, isComplex) {
  const strip = at("colourbar-strip");
  const context = strip.getContext("2d");
  const image = context.createImageData(strip.width, strip.height);
  const { low, high } = contrast;
  for (let row = 0; row < strip.height; row++) {
    const value = high - ((row + 0.5) / strip.height) * (high - low);
    const colour = colourAt(table, contrast.place(contrast.channel === "phase" ? value + contrast.centre : value));
    for (let column = 0; column < strip.width; column++) {
      const brightness = isComplex ? (column + 0.5) / strip.width : 1;
      image.data.set([...colour.map((part) => part * brightness), 255], 4 * (row * strip.width + column));
    }
  }
  context.putImageData(image, 0, 0);
}

function ticks({ channel, low, high }) {
  return Array.from({ length: TICKS }, (_, k) => {
    const share = k / (TICKS - 1);
    const value = high - share * (high - low);
    const tick = document.createElement("li");
    tick.textContent = channel === "phase" ? angle(value) : significant(value, 3);
    tick.style.top = `${100 * share}%`;
    return tick;
  });
}
