// Mouse, touch, keyboard and buttons → viewport, channel and contrast.

import { CHANNELS } from "./blocks.js";
import { fixed, significant } from "./format.js";

const STEP = 80;
const ZOOM = 1.3;

const at = (id) => document.getElementById(id);

/** Pan by drag, zoom by wheel around the cursor, read-out on hover. */
export function controlByPointer(canvas, viewport, { onMove, onHover }) {
  let dragged = null;
  canvas.addEventListener("pointerdown", (event) => {
    dragged = [event.offsetX, event.offsetY];
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.add("dragging");
  });
  canvas.addEventListener("pointermove", (event) => {
    if (dragged) {
      viewport.panBy(event.offsetX - dragged[0], event.offsetY - dragged[1]);
      dragged = [event.offsetX, event.offsetY];
      onMove();
    }
    onHover([event.offsetX, event.offsetY]);
  });
  const drop = () => {
    dragged = null;
    canvas.classList.remove("dragging");
  };
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);
  canvas.addEventListener("pointerleave", () => onHover(null));
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    viewport.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    onMove();
    onHover([event.offsetX, event.offsetY]);
  }, { passive: false });
}

/** The keys, and the buttons that do the same. */
export function controlByKeys(viewport, { onMove, fit, choose }) {
  const move = (change) => () => {
    change();
    onMove();
  };
  const zoomIn = move(() => viewport.zoomAt(ZOOM));
  const zoomOut = move(() => viewport.zoomAt(1 / ZOOM));
  const keys = {
    ArrowLeft: move(() => viewport.panBy(STEP, 0)),
    ArrowRight: move(() => viewport.panBy(-STEP, 0)),
    ArrowUp: move(() => viewport.panBy(0, STEP)),
    ArrowDown: move(() => viewport.panBy(0, -STEP)),
    "+": zoomIn, "=": zoomIn, "-": zoomOut, 0: fit,
    ...Object.fromEntries(CHANNELS.map((channel, k) => [k + 1, () => choose(channel)])),
  };
  at("zoom-in").onclick = zoomIn;
  at("zoom-out").onclick = zoomOut;
  at("zoom-fit").onclick = fit;
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input") || event.ctrlKey || event.metaKey || event.altKey;
    const act = keys[event.key];
    if (isTyping || !act || (event.key.startsWith("Arrow") && event.target.closest("#channels, .panel"))) return;
    event.preventDefault();
    act();
  });
}

/** The channel switch, a radio group: one tab stop, arrows move. */
export function controlChannels(choose) {
  const buttons = [...at("channels").children];
  for (const [k, button] of buttons.entries()) {
    button.onclick = () => choose(button.dataset.channel);
    button.onkeydown = ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = buttons[(k + step + buttons.length) % buttons.length];
      choose(next.dataset.channel);
      next.focus();
    };
  }
}

export function showChannel(channel) {
  for (const button of at("channels").children) {
    const isChosen = button.dataset.channel === channel;
    button.ariaChecked = String(isChosen);
    button.tabIndex = isChosen ? 0 : -1;
  }
}

/** Contrast inputs; `current()` is the contrast of the channel that is shown. */
export function controlContrast(current, onChange) {
  const act = (change) => () => {
    change(current());
    onChange();
  };
  const fromInputs = (lowId, highId) => act((contrast) => {
    const [low, high] = [at(lowId).valueAsNumber, at(highId).valueAsNumber];
    if (Number.isFinite(low) && Number.isFinite(high)) contrast.setManual(low, high);
  });
  for (const id of ["low", "high"]) {
    at(id).onchange = fromInputs("low", "high");
    at(`${id}-slider`).oninput = fromInputs("low-slider", "high-slider");
  }
  at("contrast-auto").onclick = act((contrast) => { contrast.auto = !contrast.auto; });
  at("circle").onclick = act((contrast) => {
    if (contrast.isFullCircle) contrast.auto = true;
    else contrast.setFullCircle();
  });
  at("centre-auto").onclick = act((contrast) => { contrast.centreAuto = !contrast.centreAuto; });
  at("centre").onchange = act((contrast) => {
    if (!Number.isFinite(at("centre").valueAsNumber)) return;
    contrast.centreAuto = false;
    contrast.centre = at("centre").valueAsNumber;
  });
  at("contrast").onsubmit = (event) => event.preventDefault();
}

export function showContrast(contrast) {
  for (const [id, value] of [["low", contrast.low], ["high", contrast.high]]) {
    const slider = at(`${id}-slider`);
    slider.min = Math.min(contrast.limits.low, contrast.low);
    slider.max = Math.max(contrast.limits.high, contrast.high);
    slider.value = value;
    if (document.activeElement !== at(id)) at(id).value = Number(value.toPrecision(3));
  }
  at("contrast-auto").ariaPressed = String(contrast.auto);
  at("gauge").hidden = contrast.channel !== "phase";
  at("circle").ariaPressed = String(contrast.isFullCircle);
  at("centre-auto").ariaPressed = String(contrast.centreAuto);
  if (document.activeElement !== at("centre")) at("centre").value = contrast.centre.toFixed(3);
}

/** Values under the cursor; `values` is null where there is no data. */
export function showReadout(values, y, x, pixelM) {
  at("readout").hidden = pixelM === null;
  if (pixelM === null) return;
  at("read-position").textContent = `${fixed(y * pixelM * 1e6, 3)}, ${fixed(x * pixelM * 1e6, 3)} µm`;
  at("read-amplitude").textContent = values ? significant(values.amplitude, 4) : "no data";
  at("read-phase").textContent = values ? `${fixed(values.phase, 3)} rad` : "–";
  at("read-agreement").textContent = values ? fixed(values.agreement, 3) : "–";
  at("read-confidence").textContent = values ? fixed(values.confidence, 3) : "–";
}
