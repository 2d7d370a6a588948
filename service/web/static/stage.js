// The picture: background, the visible blocks, scale bar and colour bar.

import { angle, length, significant } from "./format.js";
import { Palette, colourOf } from "./paint.js";

const DOT_SPACING = 14;
const BAR_WIDTH = 150;
const TICKS = 5;
const UNITS = {
  amplitude: "amplitude", phase: "phase − centre\nrad", agreement: "agreement", coverage: "coverage", confidence: "confidence",
};

export class Stage {
  constructor(store, viewport) {
    this.store = store;
    this.viewport = viewport;
    this.canvas = document.getElementById("mosaic");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.pixelM = null;
    this.palette = null;
    this.paletteKey = null;
    this.scheduled = false;
    this.dots = this.#dotPattern();
  }

  setContrast(contrast, typicalCoverage) {
    const full = Math.round(8 * Math.log2(typicalCoverage)); // steps of 9 %: slow growth repaints nothing
    const key = `${contrast.key},${full}`;
    if (key === this.paletteKey) return;
    this.paletteKey = key;
    this.palette = new Palette(contrast, 2 ** (full / 8));
    drawColourBar(contrast);
    this.redraw();
  }

  redraw() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.#draw();
    });
  }

  #draw() {
    const ratio = window.devicePixelRatio;
    const { width, height } = this.viewport;
    this.canvas.width = Math.round(width * ratio);
    this.canvas.height = Math.round(height * ratio);
    this.context.fillStyle = this.dots;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    this.context.imageSmoothingEnabled = this.viewport.scale * ratio < 1;
    this.context.imageSmoothingQuality = "high";
    if (this.palette) for (const block of this.store.blocks.values()) this.#drawBlock(block, ratio);
    this.#drawScaleBar();
  }

  #drawBlock(block, ratio) {
    const [left, top] = this.viewport.toStage(block.by * block.px, block.bx * block.px);
    const [right, bottom] = this.viewport.toStage((block.by + 1) * block.px, (block.bx + 1) * block.px);
    if (right < 0 || bottom < 0 || left > this.viewport.width || top > this.viewport.height) return;
    // Whole device pixels, so that neighbours meet without a seam.
    const [x0, y0, x1, y1] = [left, top, right, bottom].map((edge) => Math.round(edge * ratio));
    this.context.drawImage(this.palette.paint(block), x0, y0, x1 - x0, y1 - y0);
  }

  #dotPattern() {
    const tile = Object.assign(document.createElement("canvas"), { width: DOT_SPACING, height: DOT_SPACING });
    const context = tile.getContext("2d");
    context.fillStyle = "#14191d";
    context.fillRect(0, 0, DOT_SPACING, DOT_SPACING);
    context.fillStyle = "#2a333a";
    context.fillRect(DOT_SPACING / 2, DOT_SPACING / 2, 1.5, 1.5);
    return this.context.createPattern(tile, "repeat");
  }

  #drawScaleBar() {
    const bar = document.getElementById("scalebar");
    bar.hidden = !this.pixelM || this.store.blocks.size === 0;
    if (bar.hidden) return;
    const metresPerCssPixel = this.pixelM / this.viewport.scale;
    const metres = roundLength(BAR_WIDTH * metresPerCssPixel);
    bar.querySelector("i").style.width = `${metres / metresPerCssPixel}px`;
    bar.querySelector("span").textContent = length(metres);
  }
}

/** The largest of 1, 2, 5 × 10ⁿ that is not longer. */
function roundLength(metres) {
  const decade = 10 ** Math.floor(Math.log10(metres));
  return decade * [5, 2, 1].find((step) => step * decade <= metres * 1.0001);
}

function drawColourBar(contrast) {
  const { channel, low, high, centre } = contrast;
  const isPhase = channel === "phase";
  document.getElementById("colourbar-title").textContent = UNITS[channel];
  const strip = document.getElementById("colourbar-strip");
  const context = strip.getContext("2d");
  const image = context.createImageData(strip.width, strip.height);
  const words = new Uint32Array(image.data.buffer);
  for (let row = 0; row < strip.height; row++) {
    const value = high - ((row + 0.5) / strip.height) * (high - low);
    words.fill(colourOf(contrast, isPhase ? value + centre : value), row * strip.width, (row + 1) * strip.width);
  }
  context.putImageData(image, 0, 0);
  const ticks = Array.from({ length: TICKS }, (_, k) => {
    const share = k / (TICKS - 1);
    const tick = document.createElement("li");
    const value = high - share * (high - low);
    tick.textContent = isPhase ? angle(value) : significant(value, 3);
    tick.style.top = `${100 * share}%`;
    return tick;
  });
  document.getElementById("colourbar-ticks").replaceChildren(...ticks);
}
