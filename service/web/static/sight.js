// Which blocks of which level the page needs, so that it never holds more than what it shows and a margin.

const OVERVIEW_BLOCKS = 8; // at most so many blocks each way; contrast is judged by them, and they are there at once
const EVERYWHERE = [-1e6, 1e6];
const LINGER_MS = 900; // the blocks of the level before, until those of the next have come

/** The level of which one pixel is about one pixel of the screen. */
export function levelFor(scale, coarsest) {
  return Math.min(coarsest, Math.max(0, Math.round(-Math.log2(scale))));
}

/** The finest level of which the whole mosaic is a few blocks. */
export function overviewLevel([y0, x0, y1, x1], px, coarsest) {
  const blocks = Math.max(y1 - y0, x1 - x0) / px;
  return Math.min(coarsest, Math.max(0, Math.ceil(Math.log2(blocks / OVERVIEW_BLOCKS))));
}

/** The blocks of a level in sight, and one more on every side. */
export function windowOf(viewport, px, level) {
  const side = px * 2 ** level;
  const [top, left] = viewport.toMosaic(0, 0);
  const [bottom, right] = viewport.toMosaic(viewport.width, viewport.height);
  const range = (from, to) => [Math.floor(from / side) - 1, Math.ceil(to / side) + 1];
  return { level, rows: range(top, bottom), columns: range(left, right) };
}

export class Sight {
  constructor() {
    this.level = 0;
    this.overview = 0;
    this.view = null;
    this.before = null;
    this.leftMs = 0;
  }

  /** The windows to wish for, the most urgent first. */
  windows(viewport, { bounds, block_px: px, coarsest }, nowMs) {
    const level = levelFor(viewport.scale * window.devicePixelRatio, coarsest);
    if (this.view && level !== this.level) [this.before, this.leftMs] = [this.view, nowMs];
    this.level = level;
    this.overview = Math.max(level, overviewLevel(bounds, px, coarsest)); // from afar one level serves for both
    this.view = windowOf(viewport, px, level);
    const windows = [{ level: this.overview, rows: EVERYWHERE, columns: EVERYWHERE }, this.view];
    if (this.before && nowMs - this.leftMs < LINGER_MS) windows.push(this.before);
    else this.before = null;
    return windows;
  }

  get isLingering() {
    return this.before !== null;
  }
}
