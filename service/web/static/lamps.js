// The row of lamps: what may be wrong with the scan, and whether this page keeps up with it.

const SIGNS = { calm: "●", alarm: "▲", unknown: "○" }; // told by shape too, not only by colour

const at = (id) => document.getElementById(id);

/** The lamp of this very page: whether it shows what the service has. */
function viewerLamp(behindS) {
  return behindS > 0
    ? { about: "viewer", state: "alarm", line: `this page is ${Math.round(behindS)} s behind: its network or browser is slow` }
    : { about: "viewer", state: "calm", line: "this page shows the newest state" };
}

/** @param {Array<{about: string, state: string, line: string}>} lamps  as the service tells them */
export function showLamps(lamps, behindS) {
  const all = lamps.length ? [...lamps, viewerLamp(behindS)] : [];
  const told = JSON.stringify(all);
  const list = at("lamps");
  if (list.dataset.told === told) return; // unchanged text is not announced again
  list.dataset.told = told;
  list.hidden = all.length === 0;
  list.replaceChildren(...all.map(lampItem));
  at("lamp-lines").replaceChildren(...all.filter(({ state }) => state === "alarm").map(({ line }) => lineItem(line)));
}

function lampItem({ about, state, line }) {
  const item = Object.assign(document.createElement("li"), { title: line });
  item.dataset.about = about;
  item.dataset.state = state;
  const sign = Object.assign(document.createElement("i"), { textContent: SIGNS[state], ariaHidden: "true" });
  const words = Object.assign(document.createElement("span"), { textContent: `: ${line}`, className: "hidden" });
  item.append(sign, about, words);
  return item;
}

function lineItem(line) {
  return Object.assign(document.createElement("p"), { textContent: line });
}
