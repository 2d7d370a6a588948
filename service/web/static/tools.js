// The tools over the picture: line profile, statistics of a region, path of the beam, diffraction pattern, fading.

import { fixed, length, significant, whole } from "./format.js";
import { profile, statistics } from "./measure.js";
import { Pattern } from "./pattern.js";
import { plotProfile } from "./plot.js";

const NAMES = ["profile", "region", "path", "pattern", "fade"];
const DRAWING = ["profile", "region"]; // one of them at a time takes the drag

const at = (id) => document.getElementById(id);

export class Tools {
  /**
   * @param {object} page
   * @param {BlockStore} page.store
   * @param {Sight} page.sight
   * @param {() => object} page.now  what is shown: `state`, `channel`, `centre`
   * @param {(switched: ?string) => void} page.onChange  a tool was switched, its name; or one has drawn
   */
  constructor({ store, sight, now, onChange }) {
    Object.assign(this, { store, sight, now, onChange });
    this.on = Object.fromEntries(NAMES.map((name) => [name, false]));
    this.marks = { path: null, line: null, region: null, frame: null };
    this.profile = null; // along the line
    this.pattern = new Pattern((frame) => this.#markFrame(frame));
    for (const name of NAMES) at(`tool-${name}`).onclick = () => this.toggle(name);
    at("pattern-newest").onclick = () => this.#follow();
    at("profile-close").onclick = () => this.#clear("profile");
    at("region-close").onclick = () => this.#clear("region");
  }

  toggle(name) {
    this.on[name] = !this.on[name];
    if (this.on[name] && DRAWING.includes(name)) {
      for (const other of DRAWING) if (other !== name) this.on[other] = false;
    }
    for (const each of NAMES) at(`tool-${each}`).ariaPressed = String(this.on[each]);
    at("mosaic").dataset.draws = String(this.drawing !== null);
    if (name === "pattern") this.pattern.open(this.on.pattern);
    this.#takeState();
    this.onChange(name);
  }

  /** Which tool a drag belongs to; null for none, then it moves the picture. */
  get drawing() {
    return DRAWING.find((name) => this.on[name]) ?? null;
  }

  /** A line or a rectangle is being drawn, between two places (y, x) of the mosaic. */
  draw(name, from, to) {
    this.marks[name === "profile" ? "line" : "region"] = { from, to };
    this.measure();
    this.onChange(null);
  }

  /** A place (y, x) of the mosaic was clicked. */
  pick([y, x]) {
    const pixelM = this.now().state?.mosaic?.object_pixel_m;
    if (!this.on.pattern || !pixelM) return;
    this.pattern.choose([y * pixelM, x * pixelM]);
    this.update();
  }

  /** Take in what the service says now. */
  update() {
    this.#takeState();
    const { state } = this.now();
    this.pattern.update(state?.name, state?.scan?.ledger.stitched);
    this.measure();
  }

  /** Another mosaic: what was drawn on the last one says nothing of it. */
  reset() {
    for (const name of DRAWING) this.#clear(name);
    this.pattern.choose(null);
    this.marks.frame = null;
  }

  measure() {
    const { state } = this.now();
    const { line, region } = this.marks;
    at("profile").hidden = line === null || !state?.mosaic;
    at("region").hidden = region === null || !state?.mosaic;
    if (!at("profile").hidden) this.#showProfile(line, state.mosaic.object_pixel_m);
    if (!at("region").hidden) this.#showRegion(region, state.mosaic.object_pixel_m);
  }

  #showProfile({ from, to }, pixelM) {
    this.profile = profile(this.store, from, to, pixelM);
    at("profile-title").textContent = `Profile, ${length(this.profile.lengthM || pixelM)}`;
    plotProfile(at("profile-plot"), this.profile, this.now());
  }

  #showRegion(region, pixelM) {
    const { channel } = this.now();
    const { pixels, mean, deviation, level } = statistics(this.store, region, channel, this.sight.level);
    const unit = ["phase", "unwrapped"].includes(channel) ? " rad" : "";
    const sides = [0, 1].map((axis) => length(Math.max(1, Math.abs(region.to[axis] - region.from[axis])) * pixelM));
    at("region-title").textContent = `Region, ${sides.join(" × ")}`;
    at("region-channel").textContent = channel;
    at("region-mean").textContent = pixels ? `${(channel === "phase" ? fixed(mean, 3) : significant(mean, 4))}${unit}` : "no data";
    at("region-deviation").textContent = pixels ? `${significant(deviation, 3)}${unit}` : "–";
    at("region-pixels").textContent = whole(pixels) + (level ? ` of ${2 ** level} × ${2 ** level}` : "");
  }

  #takeState() {
    this.marks.path = this.on.path ? this.now().state?.path_px ?? null : null;
  }

  #markFrame(frame) {
    const pixelM = this.now().state?.mosaic?.object_pixel_m;
    this.marks.frame = frame && pixelM ? frame.position_m.map((metres) => metres / pixelM) : null;
    this.onChange(null);
  }

  #follow() {
    this.pattern.choose(null);
    this.update();
  }

  #clear(name) {
    this.marks[name === "profile" ? "line" : "region"] = null;
    this.measure();
    this.onChange(null);
  }
}
