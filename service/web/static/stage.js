// The stage: the picture, the marks over it and the scale bar, drawn once a frame at most.

import { drawColourBar } from "./colourbar.js";
import { lookOf } from "./colours.js";
import { keyOf } from "./blocks.js";
import { length } from "./format.js";
import { drawMarks } from "./marks.js";
import { Picture } from "./picture.js";

const BAR_WIDTH = 150;

export class Stage {
  /**
   * @param {BlockStore} store
   * @param {Viewport} viewport
   * @param {Sight} sight
   * @param {object} marks  what lies over the picture, see `drawMarks`
   */
  constructor(store, viewport, sight, marks) {
    Object.assign(this, { store, viewport, sight, marks });
    this.canvas = document.getElementById("mosaic");
    this.pixelM = null;
    this.look = null;
    this.scheduled = false;
    this.isPictureOld = true; // else only the marks are
    this.picture = this.#newPicture();
  }

  setLook(view, contrasts, typicalCoverage, isFading) {
    const look = lookOf(view, contrasts, typicalCoverage, isFading);
    if (JSON.stringify(look) === JSON.stringify(this.look)) return; // blocks that are painted stay so
    this.look = look;
    drawColourBar(view, contrasts);
    this.redraw();
  }

  /** Draw picture and marks, with the next frame of the screen. */
  redraw() {
    this.isPictureOld = true;
    this.redrawMarks();
  }

  redrawMarks() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      this.#draw();
    });
  }

  #newPicture() {
    try {
      return new Picture(this.canvas, () => this.redraw());
    } catch (error) {
      document.getElementById("no-picture").hidden = false;
      console.error(error);
      return null;
    }
  }

  #draw() {
    if (this.isPictureOld) {
      this.isPictureOld = false;
      this.picture?.forgetBut(this.store.blocks);
      this.picture?.draw(this.#stacked(), this.viewport, this.look);
    }
    drawMarks(this.viewport, this.marks);
    this.#drawScaleBar();
  }

  /** The blocks, coarse ones first, without those that finer ones hide. */
  #stacked() {
    return [...this.store.blocks]
      .filter(([, block]) => block.level <= this.sight.level || !this.#isHidden(block))
      .sort(([, a], [, b]) => b.level - a.level);
  }

  #isHidden({ level, by, bx }) {
    const view = this.sight.view;
    if (!view) return false;
    const side = 2 ** (level - view.level);
    const rows = [Math.max(by * side, view.rows[0] + 1), Math.min((by + 1) * side, view.rows[1] - 1)];
    const columns = [Math.max(bx * side, view.columns[0] + 1), Math.min((bx + 1) * side, view.columns[1] - 1)];
    for (let row = rows[0]; row < rows[1]; row++) {
      for (let column = columns[0]; column < columns[1]; column++) {
        if (!this.store.blocks.has(keyOf(view.level, row, column))) return false;
      }
    }
    return true;
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
