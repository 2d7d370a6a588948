// Rates and latencies of the last minutes as small plots, from what this page has heard.

const SPAN_MS = 300_000;
const EVERY_MS = 1000;

const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);

export class Trend {
  /**
   * @param {string} id  of the canvas
   * @param {string} what  is plotted, for screen readers
   * @param {(value: number) => string} inWords
   */
  constructor(id, what, inWords) {
    Object.assign(this, { canvas: document.getElementById(id), what, inWords });
    this.clear();
  }

  clear() {
    this.points = []; // [time, value], oldest first
    this.#draw();
  }

  /** Take the value of now; null where there is none. */
  add(value, nowMs = performance.now()) {
    if (value === null || value === undefined || nowMs - (this.points.at(-1)?.[0] ?? -Infinity) < EVERY_MS) return;
    this.points.push([nowMs, value]);
    while (nowMs - this.points[0][0] > SPAN_MS) this.points.shift();
    this.#draw();
  }

  #draw() {
    const { canvas, points } = this;
    const ratio = window.devicePixelRatio;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    [canvas.width, canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    this.#tell();
    if (points.length < 2) return;
    const [from, to] = [points[0][0], points.at(-1)[0]];
    const highest = Math.max(...points.map(([, value]) => value)) || 1;
    const place = ([time, value]) => [(width * (time - from)) / (to - from), height - 1.5 - (height - 3) * (value / highest)];
    context.beginPath();
    for (const point of points) context.lineTo(...place(point));
    context.strokeStyle = style("--accent");
    context.lineWidth = 1.5;
    context.lineJoin = "round";
    context.stroke();
    context.lineTo(width, height);
    context.lineTo(0, height);
    context.fillStyle = "#56bdb01f";
    context.fill();
  }

  #tell() {
    const values = this.points.map(([, value]) => value);
    const told = values.length
      ? `now ${this.inWords(values.at(-1))}, between ${this.inWords(Math.min(...values))} and ${this.inWords(Math.max(...values))}`
      : "nothing yet";
    this.canvas.ariaLabel = `${this.what} over the last minutes: ${told}`;
    this.canvas.title = this.canvas.ariaLabel;
  }
}
