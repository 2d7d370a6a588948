// The live page: what the service says, what the operator chose, and the picture of both.

import { BlockStore, CHANNELS, decodeBlock } from "./blocks.js";
import { Connection } from "./connection.js";
import { Contrast } from "./contrast.js";
import {
  controlByKeys, controlByPointer, controlChannels, controlContrast, showChannel, showContrast, showReadout,
} from "./controls.js";
import { clock } from "./format.js";
import { loadColours } from "./paint.js";
import { showPanel } from "./panel.js";
import { Stage } from "./stage.js";
import { Viewport } from "./viewport.js";

const ADAPT_MS = 400;

const at = (id) => document.getElementById(id);
const store = new BlockStore();
const viewport = new Viewport();
const contrasts = Object.fromEntries(CHANNELS.map((channel) => [channel, new Contrast(channel)]));

let stage = null;
let connection = null;
let state = null; // the service's last `state` message
let link = "connecting";
let lastHeard = null;
let isStalePicture = false; // blocks of an earlier connection are still shown
let cursor = null;
let typicalCoverage = 1;
let adaptTimer = null;

const address = new URLSearchParams(location.hash.slice(1));
let wanted = address.get("scan"); // null follows the current scan
let channel = CHANNELS.includes(address.get("channel")) ? address.get("channel") : "phase";

function remember() {
  const choice = new URLSearchParams(wanted === null ? { channel } : { scan: wanted, channel });
  history.replaceState(null, "", `#${choice}`);
}

function chooseChannel(next) {
  channel = next;
  showChannel(channel);
  remember();
  adapt();
  if (state) showPanel(state, { channel, wanted, choose: chooseScan });
}

function chooseScan(name) {
  const isCurrent = name === state?.status.current_scan;
  wanted = isCurrent ? null : name;
  remember();
  connection.follow(wanted);
}

/** Judge the contrast anew and take it into the picture. */
function adapt() {
  clearTimeout(adaptTimer);
  adaptTimer = null;
  const coverage = store.sample("coverage").sort();
  typicalCoverage = coverage[coverage.length >> 1] ?? 1; // the median
  contrasts[channel].adapt(store.sample(channel));
  recolour();
}

function recolour() {
  stage.setContrast(contrasts[channel], typicalCoverage);
  showContrast(contrasts[channel]);
}

function adaptSoon() {
  adaptTimer ??= setTimeout(adapt, ADAPT_MS);
}

function redraw() {
  at("zoom-fit").ariaPressed = String(viewport.following);
  stage.redraw();
}

function fit() {
  if (state?.mosaic) viewport.fit(state.mosaic.bounds);
  redraw();
}

function dropPicture() {
  store.clear();
  isStalePicture = false;
  viewport.following = true;
  redraw();
}

function onState(message) {
  const isOther = message.mosaic?.generation !== state?.mosaic?.generation;
  const hasNothing = !message.mosaic || message.mosaic.bounds[2] === message.mosaic.bounds[0];
  state = message;
  lastHeard = new Date();
  if (hasNothing || (isOther && !isStalePicture)) dropPicture();
  stage.pixelM = state.mosaic?.object_pixel_m ?? null;
  if (viewport.following) fit();
  showPanel(state, { channel, wanted, choose: chooseScan });
  showEmpty(hasNothing);
  showCursor();
}

function onBlock(buffer) {
  if (isStalePicture) dropPicture();
  const isFirst = store.blocks.size === 0;
  store.put(decodeBlock(buffer));
  if (isFirst) {
    fit();
    adapt();
  }
  adaptSoon();
  redraw();
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

function takeControl() {
  controlByPointer(stage.canvas, viewport, {
    onMove: redraw,
    onHover: (position) => {
      cursor = position;
      showCursor();
    },
  });
  controlByKeys(viewport, { onMove: redraw, fit, choose: chooseChannel });
  controlChannels(chooseChannel);
  controlContrast(() => contrasts[channel], adapt);
  at("follow").onclick = () => chooseScan(state.status.current_scan);
}

/** What tests and scripts may look at. Rows and columns are those of the API's mosaic. */
window.ptycholive = {
  get state() {
    const { scale, centreY, centreX, following } = viewport;
    const contrast = { ...contrasts[channel] };
    return { ...state, link, channel, contrast, viewport: { scale, centreY, centreX, following } };
  },
  get blocks() {
    return store.blocks.size;
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
stage = new Stage(store, viewport);
takeControl();
watchSize();
chooseChannel(channel);
connection = new Connection({ onState, onBlock, onChange: onLink, wish: () => wanted });
