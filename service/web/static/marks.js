// What lies over the picture: the path of the beam, a line or a region that was drawn, a frame that was chosen.

const ACCENT = "#7fe3d6";
const PATH = "255, 205, 120";

/**
 * @param {object} marks
 * @param {?Array<[number, number]>} marks.path  y, x of the last frames, mosaic pixels, oldest first
 * @param {?{from: number[], to: number[]}} marks.line  y, x of its ends
 * @param {?{from: number[], to: number[]}} marks.region  y, x of its corners
 * @param {?[number, number]} marks.frame  y, x of the frame that is shown
 */
export function drawMarks(viewport, { path, line, region, frame }) {
  const canvas = document.getElementById("marks");
  const ratio = window.devicePixelRatio;
  canvas.width = Math.round(viewport.width * ratio);
  canvas.height = Math.round(viewport.height * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.lineCap = context.lineJoin = "round";
  const toStage = ([y, x]) => viewport.toStage(y + 0.5, x + 0.5);
  if (path) drawPath(context, path.map(toStage));
  if (region) drawRegion(context, region, viewport);
  if (line) drawLine(context, toStage(line.from), toStage(line.to));
  if (frame) drawSpot(context, toStage(frame), 7);
}

function drawPath(context, points) {
  context.lineWidth = 1.5;
  for (let k = 1; k < points.length; k++) {
    context.strokeStyle = `rgba(${PATH}, ${0.9 * (k / points.length) ** 1.5})`;
    context.beginPath();
    context.moveTo(...points[k - 1]);
    context.lineTo(...points[k]);
    context.stroke();
  }
  const newest = points.at(-1);
  if (!newest) return;
  context.fillStyle = `rgb(${PATH})`;
  context.beginPath();
  context.arc(...newest, 4, 0, 2 * Math.PI);
  context.fill();
}

function drawLine(context, from, to) {
  stroke(context, () => {
    context.moveTo(...from);
    context.lineTo(...to);
  });
  for (const end of [from, to]) drawSpot(context, end, 3.5);
}

function drawRegion(context, { from, to }, viewport) {
  const [[left, top], [right, bottom]] = [from, to].map(([y, x]) => viewport.toStage(y, x));
  context.fillStyle = "rgba(127, 227, 214, 0.09)";
  context.fillRect(left, top, right - left, bottom - top);
  stroke(context, () => context.rect(left, top, right - left, bottom - top));
}

function drawSpot(context, [left, top], radius) {
  stroke(context, () => context.arc(left, top, radius, 0, 2 * Math.PI));
}

/** Light over dark, so that it is seen on any colour. */
function stroke(context, outline) {
  context.beginPath();
  outline();
  context.strokeStyle = "rgba(0, 0, 0, 0.65)";
  context.lineWidth = 4;
  context.stroke();
  context.strokeStyle = ACCENT;
  context.lineWidth = 1.75;
  context.stroke();
}
