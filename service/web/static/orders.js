// The controls: what an operator may tell the service to do. Each answer, or refusal, is one line.

import { whole } from "./format.js";

const SURE_MS = 4000; // so long the second press of "abort" counts

const at = (id) => document.getElementById(id);

export class Orders {
  /** @param {() => ?object} now  the service's last state */
  constructor(now) {
    this.now = now;
    this.sureTimer = null;
    at("orders-open").onclick = () => this.toggle();
    at("orders-close").onclick = () => this.toggle();
    at("orders").onkeydown = ({ key }) => key === "Escape" && this.toggle();
    at("order-record").onclick = () => this.#record();
    at("order-bundle").onclick = () => this.#useBundle();
    at("order-turn").onclick = () => this.#turn();
    at("order-align").onclick = () => this.#align();
    at("order-abort").onclick = () => this.#abort();
  }

  toggle() {
    const isOpen = at("orders").hidden;
    at("orders").hidden = !isOpen;
    at("orders-open").ariaExpanded = String(isOpen);
    (isOpen ? at("order-record") : at("orders-open")).focus();
    if (!isOpen) return;
    this.#say("");
    this.#showOrientation(this.now()?.status.orientation);
    this.#listBundles();
  }

  /** Take in what the service says now. */
  update({ status, scan }) {
    const { recording } = status;
    at("order-record").textContent = recording?.on ? "Stop recording" : "Start recording";
    at("order-record").ariaPressed = String(Boolean(recording?.on));
    at("record-facts").textContent = recordingInWords(recording);
    at("recording").hidden = !recording?.on;
    at("order-align").ariaPressed = String(status.gauge_alignment);
    at("align-facts").textContent = alignmentInWords(status.gauge_alignment, scan);
    at("order-abort").disabled = !scan || scan.finished !== null;
    at("order-turn").disabled = status.current_scan !== null;
  }

  #record() {
    const on = !this.now().status.recording?.on;
    this.#order("/api/record", { on }, () => (on ? "the stream is being recorded" : "the recording has ended"));
  }

  #useBundle() {
    const bundle = at("bundles").value;
    this.#order("/api/model", { bundle }, ({ name }) => `${name} runs from the next batch on`);
  }

  #turn() {
    const turn = { frames: at("turn-frames").value, positions: at("turn-positions").value };
    this.#order("/api/orientation", turn, () => "holds from the next scan on");
  }

  #align() {
    const on = !this.now().status.gauge_alignment;
    this.#order("/api/alignment", { on }, () => `from the next scan on, tiles are ${on ? "turned to fit" : "left as they are"}`);
  }

  #abort() {
    const { name } = this.now();
    if (this.sureTimer === null) {
      at("order-abort").textContent = `Press again to abort ${name}`;
      this.sureTimer = setTimeout(() => this.#calm(), SURE_MS);
      return;
    }
    this.#calm();
    this.#order(`/api/scans/${encodeURIComponent(name)}/abort`, {}, ({ ledger_words: words }) => `aborted: ${words}`);
  }

  #calm() {
    clearTimeout(this.sureTimer);
    this.sureTimer = null;
    at("order-abort").textContent = "Abort the scan";
  }

  async #order(path, body, inWords) {
    this.#say("…");
    try {
      const answer = await fetch(path, {
        method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body),
      });
      const told = await answer.json();
      this.#say(answer.ok ? inWords(told) : told.error, !answer.ok);
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
      this.#say("the service does not answer", true);
    }
  }

  #say(line, isRefusal = false) {
    at("order-answer").textContent = line;
    at("order-answer").dataset.refused = String(isRefusal);
  }

  async #listBundles() {
    const answer = await fetch("/api/models");
    const bundles = answer.ok ? await answer.json() : [];
    const options = bundles.map(({ bundle, name, refused, active }) => Object.assign(document.createElement("option"), {
      value: bundle, textContent: active ? `${name} (runs)` : name, disabled: refused !== null, title: refused ?? bundle, selected: active,
    }));
    at("bundles").replaceChildren(...options);
  }

  #showOrientation(orientation) {
    if (!orientation) return;
    at("turn-frames").value = orientation.frames;
    at("turn-positions").value = orientation.positions;
  }
}

function alignmentInWords(isNext, scan) {
  const next = isNext ? "on" : "off";
  const isNow = scan && !scan.finished && scan.gauge_alignment !== isNext;
  return isNow ? `${next} from the next scan on; ${isNext ? "off" : "on"} in this one` : next;
}

function recordingInWords(recording) {
  if (!recording?.on) return recording?.last_file ? `last file: ${recording.last_file}` : "";
  const lost = recording.lost ? `, ${whole(recording.lost)} lost` : "";
  return recording.scan ? `${recording.scan}: ${whole(recording.frames)} frames${lost}` : "with the next frame";
}
