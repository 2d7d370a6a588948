// Which part of the mosaic the stage shows. Pure: pixels of the mosaic (y, x) ↔ CSS pixels of the stage.

const CLOSEST = 64;
const FARTHEST = 0.002;
// Left free for the instruments that lie over the stage, CSS pixels.
const INSETS = { left: 72, right: 150, top: 24, bottom: 84 };

export class Viewport {
  constructor() {
    this.width = 1;
    this.height = 1;
    this.scale = 1; // CSS pixels per mosaic pixel
    this.centreY = 0;
    this.centreX = 0;
    this.following = true; // keeps showing the whole mosaic as it grows
  }

  resize(width, height) {
    this.width = width;
    this.height = height;
  }

  toStage(y, x) {
    return [
      (x - this.centreX) * this.scale + this.width / 2,
      (y - this.centreY) * this.scale + this.height / 2,
    ];
  }

  toMosaic(left, top) {
    return [
      (top - this.height / 2) / this.scale + this.centreY,
      (left - this.width / 2) / this.scale + this.centreX,
    ];
  }

  /** Where it looks: the middle in micrometres, and CSS pixels a micrometre. */
  placeIn(pixelM) {
    const pixelUm = pixelM * 1e6;
    return { yUm: this.centreY * pixelUm, xUm: this.centreX * pixelUm, zoom: this.scale / pixelUm };
  }

  goTo({ yUm, xUm, zoom }, pixelM) {
    const pixelUm = pixelM * 1e6;
    this.following = false;
    this.scale = Math.min(CLOSEST, Math.max(FARTHEST, zoom * pixelUm));
    [this.centreY, this.centreX] = [yUm / pixelUm, xUm / pixelUm];
  }

  panBy(dx, dy) {
    this.following = false;
    this.centreX -= dx / this.scale;
    this.centreY -= dy / this.scale;
  }

  /** Zoom, keeping the mosaic's point under (left, top) in its place. */
  zoomAt(factor, left = this.width / 2, top = this.height / 2) {
    this.following = false;
    const [y, x] = this.toMosaic(left, top);
    this.scale = Math.min(CLOSEST, Math.max(FARTHEST, this.scale * factor));
    const [movedY, movedX] = this.toMosaic(left, top);
    this.centreY += y - movedY;
    this.centreX += x - movedX;
  }

  /** Show bounds [y0, x0, y1, x1], and go on following them. */
  fit([y0, x0, y1, x1]) {
    this.following = true;
    if (y1 <= y0 || x1 <= x0) return;
    const { left, right, top, bottom } = INSETS;
    const width = Math.max(this.width / 2, this.width - left - right);
    const height = Math.max(this.height / 2, this.height - top - bottom);
    this.scale = Math.min(CLOSEST, width / (x1 - x0), height / (y1 - y0));
    this.centreY = (y0 + y1) / 2 + (bottom - top) / 2 / this.scale;
    this.centreX = (x0 + x1) / 2 + (right - left) / 2 / this.scale;
  }
}
