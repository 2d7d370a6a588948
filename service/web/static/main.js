// The live page: what the service says, what the operator chose, and the picture of both.

import { BlockStore, decodeBlock, HALF, QUANTITIES } from "./blocks.js";
import { loadColours, mapsOf, VIEWS } from "./colours.js";
import { Comparison, isPane } from "./compare.js";
import { Connection } from "./connection.js";
import { Contrast } from "./contrast.js";
import {
  controlByKeys, controlByPointer, controlChannels, controlContrast, controlObjects, showChannel, showContrast,
  showObjects, showReadout,
} from "./controls.js";
import { clock } from "./format.js";
import { showLamps } from "./lamps.js";
import { readLink, writeLink } from "./link.js";
import { Orders } from "./orders.js";
import { showPanel, showTrends } from "./panel.js";
import { Sight } from "./sight.js";
import { Stage } from "./stage.js";
import { Tools } from "./tools.js";
import { Unwrapper } from "./unwrapping.js";
import { Viewport } from "./viewport.js";

const ADAPT_MS = 400;
const TELL_MS = 60; // wishes are gathered so long: a wheel turns through many levels
const LINGER_MS = 1000;
const REMEMBER_MS = 250; // browsers take only so many changes of the address

const at = (id) => document.getElementById(id);
const store = new BlockStore();
const viewport = new Viewport();
const sight = new Sight();
const contrasts = Object.fromEntries(QUANTITIES.map((channel) => [channel, new Contrast(channel)]));

let stage = null;
let tools = null;
let connection = null;
let comparison = null;
let orders = null;
let unwrapper = null;
let state = null; // the service's last `state` message
let link = "connecting";
let lastHeard = null;
let isStalePicture = false; // blocks of an earlier connection are still shown
let cursor = null;
let typicalCoverage = 1;
let adaptTimer = null;
let tellTimer = null;
let rememberTimer = null;
let behindS = 0;

const link0 = readLink(location.hash);
let wanted = link0.scan; // null follows the current scan
let view = link0.view ?? "phase";
let wantsRefined = link0.refined;
let placeToGo = link0.place; // as soon as there is a mosaic

/** The channel whose numbers stand for the view: window, statistics. */
const valueChannel = () => (view === "complex" ? "amplitude" : view);
const circleOfView = () => (["phase", "complex"].includes(view) ? contrasts.phase : null);

/** Contrasts as the link, or the other page of a comparison, tells them. */
function takeColours({ contrast, centre, map }) {
  if (map in mapsOf(valueChannel())) contrasts[valueChannel()].map = map;
  if (contrast) {
    contrasts[valueChannel()].setManual(contrast[0], contrast[1]);
    contrasts[valueChannel()].gamma = contrast[2];
  }
  if (centre !== null) Object.assign(contrasts.phase, { centreAuto: false, centre });
}

function windowOf({ low, high, gamma }) {
  return [low, high, gamma];
}

/** What the address tells of the page as it is now. */
function linkNow() {
  const contrast = contrasts[valueChannel()];
  return {
    scan: wanted,
    view,
    refined: wantsRefined,
    contrast: contrast.auto && contrast.gamma === 1 ? null : windowOf(contrast),
    centre: circleOfView() && !contrasts.phase.centreAuto ? contrasts.phase.centre : null,
    map: contrast.map === contrast.channel ? null : contrast.map,
    place: viewport.following || !stage.pixelM ? placeToGo : viewport.placeIn(stage.pixelM),
  };
}

function remember() {
  rememberTimer ??= setTimeout(rememberNow, REMEMBER_MS);
}

function rememberNow() {
  clearTimeout(rememberTimer);
  rememberTimer = null;
  const told = linkNow();
  if (!isPane) history.replaceState(null, "", writeLink(told));
  at("permalink").href = writeLink({ ...told, scan: state?.name ?? null });
}

/** What two pages share: the place, and the colours of the one that has controls; each scan keeps its gauge. */
function shownNow() {
  return {
    view,
    contrast: isPane ? null : windowOf(contrasts[valueChannel()]),
    centre: null,
    map: isPane ? null : contrasts[valueChannel()].map,
    place: stage.pixelM ? viewport.placeIn(stage.pixelM) : null,
  };
}

/** The turns of the unwrapped phase come with a delay, the blocks do not wait; null when nobody looks. */
function onTurns(unwrapping) {
  store.unwrap(unwrapping);
  if (!unwrapping) return;
  adaptSoon();
  stage.redraw();
  showCursor();
}

/** Show the same as the other page of a comparison. */
function follow(other) {
  if (!stage?.pixelM || !other.place) return;
  view = other.view;
  showChannel(view);
  takeColours(other);
  viewport.goTo(other.place, stage.pixelM);
  adapt();
  redraw();
}

function chooseView(next) {
  view = next;
  showChannel(view);
  rememberNow(); // a reload may come at once
  adaptAndTell();
  tools.measure();
  unwrapper.update(view, state);
  if (state) showAround();
}

function chooseScan(name) {
  const isCurrent = name === state?.status.current_scan;
  wanted = isCurrent ? null : name;
  remember();
  connection.tell();
}

function copyLink(event) {
  if (!navigator.clipboard) return; // then the link is followed as any other
  event.preventDefault();
  navigator.clipboard.writeText(at("permalink").href).then(() => {
    at("permalink").textContent = "copied";
    setTimeout(() => { at("permalink").textContent = "link"; }, 1500);
  });
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
  const compare = (scan) => comparison.open(scan);
  showPanel(state, { channel, refined: wantsRefined, wanted, choose: chooseScan, compare });
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
  remember();
}

/** The same because the user wants it so: a page beside follows. */
function adaptAndTell() {
  adapt();
  comparison?.moved();
}

function adaptSoon() {
  adaptTimer ??= setTimeout(adapt, ADAPT_MS);
}

function redraw() {
  at("zoom-fit").ariaPressed = String(viewport.following);
  tellSoon();
  remember();
  stage.redraw();
}

function move() {
  redraw();
  comparison.moved();
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
  if (placeToGo && stage.pixelM) {
    viewport.goTo(placeToGo, stage.pixelM);
    placeToGo = null;
    redraw();
  }
  if (viewport.following) fit();
  if (isOtherScan) comparison.begin();
  showAround();
  showTrends(state, isOtherScan);
  showLamps(state.lamps ?? [], behindS);
  orders.update(state);
  unwrapper.update(view, state);
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

function onPace(seconds) {
  behindS = seconds;
  if (state) showLamps(state.lamps ?? [], behindS);
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
    if (!isPane) comparison.moved();
  }).observe(at("stage"));
}

function onTool(switched) {
  if (switched === "fade") adapt();
  tellSoon();
  stage.redrawMarks();
}

function takeControl() {
  controlByPointer(stage.canvas, viewport, tools, {
    onMove: move,
    onHover: (position) => {
      cursor = position;
      showCursor();
    },
  });
  const fitBoth = () => {
    fit();
    comparison.moved();
  };
  const others = { o: () => orders.toggle(), x: () => comparison.swap(), Escape: () => comparison.close() };
  controlByKeys(viewport, tools, { onMove: move, fit: fitBoth, choose: chooseView, chooseObject, others });
  controlChannels(chooseView);
  controlObjects(chooseObject);
  controlContrast(() => contrasts[valueChannel()], contrasts.phase, adaptAndTell);
  at("permalink").onclick = copyLink;
  at("follow").onclick = () => chooseScan(state.status.current_scan);
}

/** What tests, scripts and the page beside may look at. Rows and columns are those of the API's mosaic. */
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
  follow,
  get shown() {
    return shownNow();
  },
  get receivedBytes() {
    return connection?.receivedBytes ?? 0;
  },
  get marks() {
    return tools.marks;
  },
  /** What stands at each point of the line that was drawn. */
  get profile() {
    return tools.profile;
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
unwrapper = new Unwrapper(HALF, onTurns);
const now = () => ({ state, channel: valueChannel(), centre: contrasts.phase.centre });
tools = new Tools({ store, sight, now, onChange: (switched) => stage?.look && onTool(switched) });
stage = new Stage(store, viewport, sight, tools.marks);
comparison = new Comparison(shownNow, follow);
orders = new Orders(() => state);
takeColours(link0);
takeControl();
watchSize();
chooseView(view);
window.addEventListener("hashchange", () => location.reload()); // another link was put into the address
connection = new Connection({ onState, onBlock, onPace, onChange: onLink, wish });
