// How often each value occurs, under the contrast sliders, in the colours that it has in the picture.

import { colourAt } from "./colours.js";

const PARTS = 96;
const OUTSIDE = "#3b4750";

export function drawHistogram(contrast) {
  const canvas = document.getElementById("histogram");
  const context = canvas.getContext("2d");
  const { width, height } = canvas;
  const { low, high } = contrast.limits;
  context.clearRect(0, 0, width, height);
  for (const [k, share] of contrast.histogram(PARTS).entries()) {
    const value = low + ((k + 0.5) / PARTS) * (high - low);
    const isInside = value >= contrast.low && value <= contrast.high;
    context.fillStyle = isInside ? `rgb(${colourOf(contrast, value).join()})` : OUTSIDE;
    const bar = Math.ceil(Math.sqrt(share) * height); // the square root: what is rare is seen too
    context.fillRect((k * width) / PARTS, height - bar, width / PARTS, bar);
  }
}

function colourOf(contrast, value) {
  const isPhase = contrast.channel === "phase";
  return colourAt(contrast.map, contrast.place(isPhase ? value + contrast.centre : value));
}
