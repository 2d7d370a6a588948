// A line profile as three small curves over one length.

import { wrap } from "./contrast.js";
import { fixed, significant } from "./format.js";

const MARGIN = { left: 44, right: 10, top: 6, bottom: 20 };
const GAP = 12;
const QUIET = "#8c99a3";

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{lengthM: number, values: Array<?object>}} line  see `profile`
 * @param {{channel: string, centre: number}} shown  of the unwrapped phase its curve is drawn; else the phase's,
 *   which counts from the centre, rad
 */
export function plotProfile(canvas, { lengthM, values }, { channel, centre }) {
  const curves = [
    { name: "amplitude", colour: "#e8e3d8", at: (value) => value.amplitude },
    channel === "unwrapped"
      ? { name: "unwrapped", colour: "#f0a35e", at: (value) => (Number.isFinite(value.unwrapped) ? value.unwrapped : null) }
      : { name: "phase", colour: "#f0a35e", at: (value) => wrap(value.phase - centre) },
    { name: "confidence", colour: "#7fe3d6", at: (value) => value.confidence, range: [0, 1] },
  ];
  const { context, width, height } = prepared(canvas);
  const rows = (height - MARGIN.top - MARGIN.bottom - GAP * (curves.length - 1)) / curves.length;
  for (const [k, { colour, at, range, name }] of curves.entries()) {
    const box = { left: MARGIN.left, top: MARGIN.top + k * (rows + GAP), width: width - MARGIN.left - MARGIN.right, height: rows };
    drawCurve(context, box, values.map((value) => value && at(value)), colour, name, range);
  }
  drawLengths(context, width, height, lengthM);
}

function prepared(canvas) {
  const ratio = window.devicePixelRatio;
  const { clientWidth: width, clientHeight: height } = canvas;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.font = "11px system-ui, sans-serif";
  return { context, width, height };
}

function drawCurve(context, box, values, colour, name, range) {
  const finite = values.filter((value) => value !== null);
  const [low, high] = range ?? spread(finite);
  context.strokeStyle = "#ffffff1c";
  context.strokeRect(box.left + 0.5, box.top + 0.5, box.width, box.height);
  context.fillStyle = QUIET;
  context.textAlign = "right";
  context.fillText(significant(high, 3), box.left - 5, box.top + 9);
  context.fillText(significant(low, 3), box.left - 5, box.top + box.height);
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  let isDown = false;
  for (const [k, value] of values.entries()) {
    const [x, y] = [box.left + (k / (values.length - 1)) * box.width, box.top + box.height * (1 - (value - low) / (high - low))];
    if (value !== null) context[isDown ? "lineTo" : "moveTo"](x, y);
    isDown = value !== null;
  }
  context.stroke();
  context.lineWidth = 1;
  context.fillStyle = colour;
  context.textAlign = "left";
  context.fillText(name === "phase" ? "phase − centre, rad" : name, box.left + 5, box.top + 11);
}

/** The range of the values with a little air, never empty. */
function spread(values) {
  if (values.length === 0) return [0, 1];
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const air = Math.max(0.06 * (high - low), 1e-3);
  return [low - air, high + air];
}

function drawLengths(context, width, height, lengthM) {
  const [unit, size] = lengthM < 2e-6 ? ["nm", 1e-9] : ["µm", 1e-6];
  context.fillStyle = QUIET;
  for (const share of [0, 0.5, 1]) {
    context.textAlign = ["left", "center", "right"][2 * share];
    const text = fixed((share * lengthM) / size, lengthM / size < 100 ? 1 : 0);
    context.fillText(share === 1 ? `${text} ${unit}` : text, MARGIN.left + share * (width - MARGIN.left - MARGIN.right), height - 5);
  }
}
