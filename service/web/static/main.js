// The live page: what the service says, what the operator chose, and the picture of both.

import { BlockStore, CHANNELS, decodeBlock } from "./blocks.js";
import { VIEWS, loadColours } from "./colours.js";
import { Connection } from "./connection.js";
import { Contrast } from "./contrast.js";
import {
  controlByKeys, controlByPointer, controlChannels, controlContrast, controlObjects, showChannel, showContrast,
  showObjects, showReadout,
} from "./controls.js";
import { clock } from "./format.js";
import { showPanel } from "./panel.js";
import { Sight } from "./sight.js";
import { Stage } from "./stage.js";
import { Tools } from "./tools.js";
import { Viewport } from "./viewport.js";

const ADAPT_MS = 400;
const TELL_MS = 60; // wishes are gathered so long: a wheel turns through many levels
const LINGER_MS = 1000;

const at = (id) => document.getElementById(id);
const store = new BlockStore();
const viewport = new Viewport();
const sight = new Sight();
const contrasts = Object.fromEntries(CHANNELS.map((channel) => [channel, new Contrast(channel)]));

let stage = null;
let tools = null;
let connection = null;
let state = null; // the service's last `state` message
let link = "connecting";
let lastHeard = null;
let isStalePicture = false; // blocks of an earlier connection are still shown
let cursor = null;
let typicalCoverage = 1;
let adaptTimer = null;
let tellTimer = null;

const address = new URLSearchParams(location.hash.slice(1));
let wanted = address.get("scan"); // null follows the current scan
let view = VIEWS.includes(address.get("channel")) ? address.get("channel") : "phase";
let wantsRefined = address.has("refined");

/** The channel whose numbers stand for the view: window, statistics. */
const valueChannel = () => (view === "complex" ? "amplitude" : view);
const circleOfView = () => (["phase", "complex"].includes(view) ? contrasts.phase : null);

function remember() {
  const choice = new URLSearchParams({ ...(wanted !== null && { scan: wanted }), channel: view });
  if (wantsRefined) choice.set("refined", "1");
  history.replaceState(null, "", `#${choice}`);
}

function chooseView(next) {
  view = next;
  showChannel(view);
  remember();
  adapt();
  tools.measure();
  if (state) showAround();
}

function chooseScan(name) {
  const isCurrent = name === state?.status.current_scan;
  wanted = isCurrent ? null : name;
  remember();
  connection.tell();
}

function chooseObject(refined) {
  if (!state?.scan?.refinement?.sweeps) return;
  wantsRefined = refined;
  remember();
  showAround();
  connection.tell();
}

function showAround() {
  const channel = view === "complex" ? "phase" : view; // there is no file of both
  showPanel(state, { channel, refined: wantsRefined, wanted, choose: chooseScan });
  showObjects(wantsRefined, state.refined, state.scan?.refinement);
}

/** What the service shall send. Blocks that lie in none of the windows are forgotten, there and here. */
function wish() {
  const windows = state?.mosaic ? sight.windows(viewport, state.mosaic, performance.now()) : [];
  if (!isStalePicture) store.keepWithin(windows);
  if (sight.isLingering) setTimeout(tellSoon, LINGER_MS);
  return { scan: wanted, refined: wantsRefined, windows, path: tools.on.path };
}

function tellSoon() {
  tellTimer ??= setTimeout(() => {
    tellTimer = null;
    connection?.tell();
  }, TELL_MS);
}

/** Judge the contrast anew, by the whole mosaic and not only what is in sight, and take it into the picture. */
function adapt() {
  clearTimeout(adaptTimer);
  adaptTimer = null;
  const coverage = store.sample("coverage", sight.overview).sort();
  // in steps of 9 %, so that slow growth changes nothing
  if (coverage.length) typicalCoverage = 2 ** (Math.round(8 * Math.log2(coverage[coverage.length >> 1])) / 8);
  const shown = new Set([valueChannel(), ...(circleOfView() ? ["phase"] : []), ...(tools.on.fade ? ["confidence"] : [])]);
  for (const channel of shown) contrasts[channel].adapt(store.sample(channel, sight.overview));
  stage.setLook(view, contrasts, typicalCoverage, tools.on.fade);
  showContrast(contrasts[valueChannel()], circleOfView());
}

function adaptSoon() {
  adaptTimer ??= setTimeout(adapt, ADAPT_MS);
}

function redraw() {
  at("zoom-fit").ariaPressed = String(viewport.following);
  tellSoon();
  stage.redraw();
}

function fit() {
  if (state?.mosaic) viewport.fit(state.mosaic.bounds);
  redraw();
}

function dropPicture() {
  store.clear();
  isStalePicture = false;
  redraw();
}

function onState(message) {
  const isOther = message.mosaic?.generation !== state?.mosaic?.generation;
  const isOtherScan = message.name !== state?.name;
  const hasNothing = !message.mosaic || message.mosaic.bounds[2] === message.mosaic.bounds[0];
  state = message;
  lastHeard = new Date();
  if (hasNothing || (isOther && !isStalePicture)) dropPicture();
  if (hasNothing || isOtherScan) {
    viewport.following = true;
    tools.reset();
  }
  stage.pixelM = state.mosaic?.object_pixel_m ?? null;
  if (viewport.following) fit();
  showAround();
  showEmpty(hasNothing);
  tools.update();
  connection?.tell();
  showCursor();
}

function onBlock(buffer) {
  const block = decodeBlock(buffer);
  if (block.generation !== state?.mosaic?.generation) return;
  if (isStalePicture) dropPicture();
  const isFirst = store.blocks.size === 0;
  store.put(block);
  if (isFirst) adapt();
  adaptSoon();
  stage.redraw();
  showCursor();
}

function onLink(next) {
  if (next !== "live" && link === "live") isStalePicture = true;
  link = next;
  const words = { connecting: "connecting…", live: "live", reconnecting: "reconnecting…" };
  at("connection").dataset.state = next;
  at("connection").lastElementChild.textContent = words[next];
  at("stage").dataset.stale = String(next !== "live");
  at("stamp").hidden = next === "live" || lastHeard === null;
  at("stamp").textContent = `Not live: the picture is from ${lastHeard ? clock(lastHeard) : ""}`;
}

function showEmpty(hasNothing) {
  at("empty").hidden = !hasNothing;
  at("colourbar").hidden = hasNothing;
  const sources = state.status.sources ?? [];
  at("empty-sources").textContent = sources.map(({ endpoint, format }) => `${format} on ${endpoint}`).join(", ");
}

function showCursor() {
  if (cursor === null || !state?.mosaic) {
    showReadout(null, 0, 0, null);
    return;
  }
  const [y, x] = viewport.toMosaic(...cursor).map(Math.floor);
  showReadout(store.valuesAt(y, x), y, x, state.mosaic.object_pixel_m);
}

function watchSize() {
  new ResizeObserver(([{ contentRect }]) => {
    viewport.resize(contentRect.width, contentRect.height);
    if (viewport.following) fit();
    redraw();
  }).observe(at("stage"));
}

function onTool(switched) {
  if (switched === "fade") adapt();
  tellSoon();
  stage.redrawMarks();
}

function takeControl() {
  controlByPointer(stage.canvas, viewport, tools, {
    onMove: redraw,
    onHover: (position) => {
      cursor = position;
      showCursor();
    },
  });
  controlByKeys(viewport, tools, { onMove: redraw, fit, choose: chooseView, chooseObject });
  controlChannels(chooseView);
  controlObjects(chooseObject);
  controlContrast(() => contrasts[valueChannel()], contrasts.phase, adapt);
  at("follow").onclick = () => chooseScan(state.status.current_scan);
}

/** What tests and scripts may look at. Rows and columns are those of the API's mosaic. */
window.ptycholive = {
  get state() {
    const { scale, centreY, centreX, following } = viewport;
    const contrast = { ...contrasts[valueChannel()], sorted: undefined };
    return { ...state, link, channel: view, contrast, viewport: { scale, centreY, centreX, following } };
  },
  /** How many blocks of the level in sight are here; `held` counts those of all levels. */
  get blocks() {
    return store.ofLevel(sight.level).length;
  },
  get held() {
    return store.blocks.size;
  },
  get level() {
    return sight.level;
  },
  get marks() {
    return tools.marks;
  },
  pixelAt(row, column) {
    const [y0, x0] = state.mosaic.bounds;
    return store.valuesAt(row + y0, column + x0);
  },
  stagePoint(row, column) {
    const [y0, x0] = state.mosaic.bounds;
    return viewport.toStage(row + y0 + 0.5, column + x0 + 0.5);
  },
};

await loadColours();
const now = () => ({ state, channel: valueChannel(), centre: contrasts.phase.centre });
tools = new Tools({ store, sight, now, onChange: (switched) => stage?.look && onTool(switched) });
stage = new Stage(store, viewport, sight, tools.marks);
takeControl();
watchSize();
chooseView(view);
connection = new Connection({ onState, onBlock, onChange: onLink, wish });
