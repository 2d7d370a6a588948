// Two scans together: the second is the same page in a pane, moved and coloured as the first one is.

const at = (id) => document.getElementById(id);

/** Whether this page is the pane of another. */
export const isPane = new URLSearchParams(location.search).has("pane");

export class Comparison {
  /**
   * @param {() => object} now  how this page shows its scan
   * @param {(shown: object) => void} follow  shows it as the other page does
   */
  constructor(now, follow) {
    Object.assign(this, { now, follow });
    this.scan = null;
    document.body.dataset.pane = String(isPane);
    at("compare-beside").onclick = () => this.#arrange("beside");
    at("compare-over").onclick = () => this.swap();
    at("compare-close").onclick = () => this.close();
  }

  open(scan) {
    this.scan = scan;
    at("pane").src = `/?pane#scan=${encodeURIComponent(scan)}&channel=${this.now().view}`;
    at("pane").title = `Scan ${scan}, to compare`;
    at("compare-name").textContent = scan;
    for (const id of ["pane", "compare"]) at(id).hidden = false;
    this.#arrange("beside");
  }

  close() {
    if (this.scan === null) return;
    this.scan = null;
    at("pane").src = "about:blank";
    for (const id of ["pane", "compare"]) at(id).hidden = true;
    delete document.body.dataset.compare;
  }

  /** Lay the second scan over the first, or take it away again. */
  swap() {
    if (this.scan !== null) this.#arrange(document.body.dataset.compare === "over" ? "under" : "over");
  }

  /** This page was moved, or coloured, by its user: the other one follows. */
  moved() {
    this.#partner()?.follow(this.now());
  }

  /** Another scan is on this page: a pane shows it as the page around it does. */
  begin() {
    if (isPane) this.follow(this.#partner().shown);
    else this.moved();
  }

  #partner() {
    if (isPane) return window.parent.ptycholive;
    return this.scan === null ? undefined : at("pane").contentWindow?.ptycholive;
  }

  #arrange(how) {
    document.body.dataset.compare = how;
    at("compare-beside").ariaPressed = String(how === "beside");
    at("compare-over").ariaPressed = String(how === "over");
    at("compare-name").dataset.shown = String(how !== "under");
  }
}
