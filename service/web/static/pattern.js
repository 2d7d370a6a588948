// The diffraction pattern of the newest frame, or of the one taken nearest to a place that was clicked.

import { significant, whole } from "./format.js";

const EVERY_MS = 400;

const at = (id) => document.getElementById(id);

export class Pattern {
  /** @param {(frame: ?object) => void} onFrame  is told which frame is shown, null for none */
  constructor(onFrame) {
    this.onFrame = onFrame;
    this.isOpen = false;
    this.place = null; // y, x in metres; null follows the newest frame
    this.shownFor = null;
    this.isAsking = false;
    this.askedMs = 0;
  }

  open(isOpen) {
    this.isOpen = isOpen;
    at("pattern").hidden = !isOpen;
    this.shownFor = null;
    if (!isOpen) this.onFrame(null);
  }

  /** Show the frame taken nearest to a place, or follow the newest one. */
  choose(place) {
    this.place = place;
    this.shownFor = null;
    this.askedMs = 0;
    at("pattern-newest").hidden = place === null;
  }

  /** Bring the picture up to date with what the service has. */
  async update(scan, stitched) {
    const wanted = this.place ? `${scan}@${this.place.join()}` : `${scan}#${stitched}`;
    const isSoon = performance.now() - this.askedMs < EVERY_MS;
    if (!this.isOpen || !scan || this.isAsking || isSoon || wanted === this.shownFor) return;
    this.isAsking = true;
    this.askedMs = performance.now();
    try {
      await this.#ask(scan);
      this.shownFor = wanted;
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // the service does not answer: the page says so already
    } finally {
      this.isAsking = false;
    }
  }

  async #ask(scan) {
    const query = this.place ? `?y_m=${this.place[0]}&x_m=${this.place[1]}` : "";
    const answer = await fetch(`/api/scans/${encodeURIComponent(scan)}/frame${query}`);
    if (!answer.ok) {
      this.#showNone((await answer.json()).error);
      return;
    }
    this.#show(JSON.parse(answer.headers.get("x-frame")), await createImageBitmap(await answer.blob()));
  }

  #show(frame, image) {
    const canvas = at("pattern-image");
    [canvas.width, canvas.height] = [image.width, image.height];
    canvas.getContext("2d").drawImage(image, 0, 0);
    at("pattern-title").textContent = `Frame ${frame.index}`;
    at("pattern-facts").textContent = `${significant(frame.photons, 3)} photons, peak ${significant(frame.peak, 3)}`;
    at("pattern-masked").textContent = `${whole(frame.masked)} masked`;
    at("pattern-saturated").textContent = `${whole(frame.saturated)} saturated`;
    this.onFrame(frame);
  }

  #showNone(why) {
    at("pattern-image").width = 1;
    at("pattern-title").textContent = "No frame";
    at("pattern-facts").textContent = why;
    this.onFrame(null);
  }
}
