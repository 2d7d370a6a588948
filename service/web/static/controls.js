// Mouse, touch, keyboard and buttons → viewport, channel and contrast.

import { mapsOf, VIEWS } from "./colours.js";
import { fixed, significant } from "./format.js";
import { drawHistogram } from "./histogram.js";

const STEP = 80;
const ZOOM = 1.3;
const CLICK = 4; // CSS pixels; a shorter way is no drag
const GAMMA_STEPS = 2; // of the slider, from 2⁻² to 2²
const TOOL_KEYS = { p: "profile", r: "region", b: "path", f: "pattern", c: "fade" };

const at = (id) => document.getElementById(id);

/**
 * Pan by drag, zoom by wheel around the cursor, read-out on hover; a drag with shift, or with a drawing tool,
 * draws, and a click picks a place.
 */
export function controlByPointer(canvas, viewport, tools, { onMove, onHover }) {
  let drag = null;
  const spot = (event) => viewport.toMosaic(event.offsetX, event.offsetY);
  canvas.addEventListener("pointerdown", (event) => {
    const draws = event.shiftKey ? "profile" : tools.drawing;
    drag = { draws, from: spot(event), last: [event.offsetX, event.offsetY], way: 0 };
    canvas.setPointerCapture(event.pointerId);
    canvas.classList.toggle("dragging", !draws);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag) {
      const [dx, dy] = [event.offsetX - drag.last[0], event.offsetY - drag.last[1]];
      drag.last = [event.offsetX, event.offsetY];
      drag.way += Math.abs(dx) + Math.abs(dy);
      if (drag.draws) {
        tools.draw(drag.draws, drag.from, spot(event));
      } else if (drag.way > CLICK) {
        viewport.panBy(dx, dy);
        onMove();
      }
    }
    onHover([event.offsetX, event.offsetY]);
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.draws && drag.way <= CLICK) tools.pick(spot(event));
    drop();
  });
  const drop = () => {
    drag = null;
    canvas.classList.remove("dragging");
  };
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
export function controlByKeys(viewport, tools, { onMove, fit, choose, chooseObject, others }) {
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
    n: () => chooseObject(at("objects").dataset.refined !== "true"),
    ...Object.fromEntries(VIEWS.map((view, k) => [k + 1, () => choose(view)])),
    ...Object.fromEntries(Object.entries(TOOL_KEYS).map(([key, tool]) => [key, () => tools.toggle(tool)])),
    ...others,
  };
  at("zoom-in").onclick = zoomIn;
  at("zoom-out").onclick = zoomOut;
  at("zoom-fit").onclick = fit;
  document.addEventListener("keydown", (event) => {
    const isTyping = event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey;
    const act = keys[event.key];
    if (isTyping || !act || (event.key.startsWith("Arrow") && event.target.closest("#channels, .panel"))) return;
    event.preventDefault();
    act();
  });
}

/** A radio group: one tab stop, arrows move. */
function controlRadios(group, choose) {
  const buttons = [...group.querySelectorAll("button")];
  for (const [k, button] of buttons.entries()) {
    button.onclick = () => choose(button);
    button.onkeydown = ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = buttons[(k + step + buttons.length) % buttons.length];
      choose(next);
      next.focus();
    };
  }
}

function showRadios(group, isChosen) {
  for (const button of group.querySelectorAll("button")) {
    button.ariaChecked = String(isChosen(button));
    button.tabIndex = isChosen(button) ? 0 : -1;
  }
}

export function controlChannels(choose) {
  controlRadios(at("channels"), (button) => choose(button.dataset.channel));
}

export function showChannel(channel) {
  document.body.dataset.view = channel;
  showRadios(at("channels"), (button) => button.dataset.channel === channel);
}

/** The switch between the network's mosaic and the refined object. */
export function controlObjects(choose) {
  controlRadios(at("objects"), (button) => choose(button.dataset.object === "refined"));
}

/** @param {?object} refinement  what the service says of it; the switch is there once it has got somewhere */
export function showObjects(wantsRefined, isRefined, refinement) {
  const group = at("objects");
  group.hidden = !refinement?.sweeps;
  group.dataset.refined = String(wantsRefined);
  group.dataset.waits = String(wantsRefined && !isRefined);
  group.title = refinement ? `Refinement: ${refinement.state}` : "";
  showRadios(group, (button) => (button.dataset.object === "refined") === wantsRefined);
}

/** Contrast inputs; `window()` is the contrast that the sliders move, `circle` that of the phase. */
export function controlContrast(window, circle, onChange) {
  const actOn = (contrast) => (change) => () => {
    change(contrast());
    onChange();
  };
  const act = actOn(window);
  const actOnCircle = actOn(() => circle);
  const fromInputs = (lowId, highId) => act((contrast) => {
    const [low, high] = [at(lowId).valueAsNumber, at(highId).valueAsNumber];
    if (Number.isFinite(low) && Number.isFinite(high)) contrast.setManual(low, high);
  });
  for (const id of ["low", "high"]) {
    at(id).onchange = fromInputs("low", "high");
    at(`${id}-slider`).oninput = fromInputs("low-slider", "high-slider");
  }
  at("contrast-auto").onclick = act((contrast) => { contrast.auto = !contrast.auto; });
  at("circle").onclick = actOnCircle((contrast) => {
    if (contrast.isFullCircle) contrast.auto = true;
    else contrast.setFullCircle();
  });
  at("centre-auto").onclick = actOnCircle((contrast) => { contrast.centreAuto = !contrast.centreAuto; });
  at("centre").onchange = actOnCircle((contrast) => {
    if (!Number.isFinite(at("centre").valueAsNumber)) return;
    contrast.centreAuto = false;
    contrast.centre = at("centre").valueAsNumber;
  });
  at("gamma").oninput = act((contrast) => { contrast.gamma = 2 ** (at("gamma").valueAsNumber / GAMMA_STEPS); });
  at("gamma-reset").onclick = act((contrast) => { contrast.gamma = 1; });
  at("map").onchange = act((contrast) => { contrast.map = at("map").value; });
  at("contrast").onsubmit = (event) => event.preventDefault();
}

/** @param {?Contrast} circle  of the phase, where the view has one */
export function showContrast(contrast, circle) {
  for (const [id, value] of [["low", contrast.low], ["high", contrast.high]]) {
    const slider = at(`${id}-slider`);
    slider.min = Math.min(contrast.limits.low, contrast.low);
    slider.max = Math.max(contrast.limits.high, contrast.high);
    slider.value = value;
    if (document.activeElement !== at(id)) at(id).value = Number(value.toPrecision(3));
  }
  at("contrast-auto").ariaPressed = String(contrast.auto);
  at("gamma-group").hidden = contrast.channel === "phase";
  at("gamma").value = GAMMA_STEPS * Math.log2(contrast.gamma);
  at("gamma-reset").textContent = contrast.gamma.toFixed(2);
  at("gamma-reset").ariaLabel = `${at("gamma-reset").textContent}: reset gamma`; // a name holds what is seen
  at("map-group").hidden = circle !== null && contrast !== circle; // the complex object has hues
  showMaps(contrast);
  at("gauge").hidden = circle === null;
  if (circle) showCircle(circle);
  drawHistogram(contrast);
}

function showMaps({ channel, map }) {
  if (at("map").dataset.channel !== channel) {
    at("map").replaceChildren(...Object.entries(mapsOf(channel)).map(([name, words]) => new Option(words, name)));
    at("map").dataset.channel = channel;
  }
  at("map").value = map;
}

function showCircle(circle) {
  at("circle").ariaPressed = String(circle.isFullCircle);
  at("centre-auto").ariaPressed = String(circle.centreAuto);
  if (document.activeElement !== at("centre")) at("centre").value = circle.centre.toFixed(3);
}

/** Values under the cursor; `values` is null where there is no data. */
export function showReadout(values, y, x, pixelM) {
  at("readout").hidden = pixelM === null;
  if (pixelM === null) return;
  at("read-position").textContent = `${fixed(y * pixelM * 1e6, 3)}, ${fixed(x * pixelM * 1e6, 3)} µm`;
  at("read-level").hidden = !values?.level;
  at("read-level").textContent = values?.level ? `mean of ${2 ** values.level} × ${2 ** values.level} px` : "";
  at("read-amplitude").textContent = values ? significant(values.amplitude, 4) : "no data";
  at("read-phase").textContent = values ? `${fixed(values.phase, 3)} rad` : "–";
  at("read-unwrapped").textContent = Number.isFinite(values?.unwrapped) ? `${fixed(values.unwrapped, 3)} rad` : "–";
  at("read-agreement").textContent = values ? fixed(values.agreement, 3) : "–";
  at("read-confidence").textContent = values ? fixed(values.confidence, 3) : "–";
}
