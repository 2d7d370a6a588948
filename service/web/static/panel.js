// The side panel: scan, ledger, rates, instrument, downloads, list of scans.

import { Trend } from "./trends.js";
import { duration, latency, length, share, significant, whole } from "./format.js";

const TRUST = {
  good: "frames as in training",
  exposure: "another exposure than in training",
  residual: "frames are not explained",
};
const REFINED = ["amplitude", "phase", "unwrapped"];
const LEDGER_ROWS = [["expected", "received"], ["decoded", "joined"], ["inferred", "duplicates"]];

const at = (id) => document.getElementById(id);

function element(tag, text, properties = {}) {
  return Object.assign(document.createElement(tag), { textContent: text }, properties);
}

/** Show the service's state; beside it what the operator chose. */
export function showPanel(state, { channel, refined, wanted, choose, compare }) {
  const { scan, name, status } = state;
  showScan(scan, name);
  showWarnings([...new Set([...(status.warnings ?? []), ...(scan?.warnings ?? [])])].reverse());
  showRates(scan?.rates);
  showLedger(scan?.ledger, scan?.ledger_words);
  showFacts(scan, status);
  showDownloads(scan, name, channel, refined && state.refined, state.mosaic);
  showScans(state.scans, name, { choose, compare });
  at("follow").hidden = wanted === null;
  at("version").textContent = status.version ?? "";
}

function showScan(scan, name) {
  at("scan-name").textContent = name ?? "No scan";
  at("scan-name").title = name ?? "";
  const badge = at("scan-state");
  badge.hidden = !scan;
  badge.textContent = scan?.finished ? "finished" : "running";
  badge.dataset.running = String(!scan?.finished);
  showProgress(scan);
  document.title = [name, "ptycholive"].filter(Boolean).join(" · ");
}

function showProgress(scan) {
  const { expected = null, stitched = 0 } = scan?.ledger ?? {};
  const bar = at("progress");
  bar.querySelector("i").style.width = expected ? `${Math.min(100, (100 * stitched) / expected)}%` : "0";
  bar.ariaValueMax = expected;
  bar.ariaValueNow = stitched;
  const total = expected ? ` of ${whole(expected)}` : "";
  at("progress-frames").textContent = scan ? `${whole(stitched)}${total} frames stitched` : "\u00a0";
  at("progress-left").textContent = timeLeft(scan, expected, stitched);
}

function timeLeft(scan, expected, stitched) {
  const rate = scan?.rates?.frames_per_s;
  if (!scan) return "";
  if (scan.finished) return scan.started ? `in ${duration((new Date(scan.finished) - new Date(scan.started)) / 1000)}` : "";
  if (!expected || !rate || stitched >= expected) return "";
  return `${duration((expected - stitched) / rate)} left`;
}

/** Newest first: the box shows a few lines and scrolls to the rest. */
function showWarnings(warnings) {
  at("warnings").hidden = warnings.length === 0;
  // unchanged text is not announced again
  replaceIfChanged(at("warnings").firstElementChild, warnings.map((line) => element("li", line)));
}

function showRates(rates) {
  const framesPerS = rates?.frames_per_s;
  at("rate-frames").textContent = framesPerS == null ? "–" : significant(framesPerS, 3);
  at("rate-p50").textContent = latency(rates?.latency_p50_s);
  at("rate-p99").textContent = latency(rates?.latency_p99_s);
}

const trends = [
  [new Trend("trend-frames", "Frames a second", (value) => significant(value, 3)), (rates) => rates.frames_per_s],
  [new Trend("trend-p50", "Median latency", latency), (rates) => rates.latency_p50_s],
  [new Trend("trend-p99", "Latency of the slowest hundredth", latency), (rates) => rates.latency_p99_s],
];

/** Go on with the plots of rate and latency; another scan begins them anew. */
export function showTrends({ scan }, isOtherScan) {
  for (const [trend, of] of trends) {
    if (isOtherScan) trend.clear();
    if (scan && !scan.finished) trend.add(of(scan.rates));
  }
}

function showLedger(ledger, words) {
  const rows = LEDGER_ROWS.map((stages) => ledgerRow(stages.map((stage) => [stage, ledger?.[stage]])));
  rows.push(ledgerRow([["stitched", ledger?.stitched]], "total"));
  const dropped = Object.entries(ledger?.dropped ?? {}).filter(([, frames]) => frames > 0);
  rows.push(...dropped.map(([reason, frames]) => ledgerRow([[`dropped: ${reason.replaceAll("_", " ")}`, frames]], "dropped")));
  at("ledger").tBodies[0].replaceChildren(...rows);
  at("ledger-words").textContent = words ?? "";
  // the progress line says it already where nothing was lost
  at("ledger-words").hidden = words === `${ledger?.stitched} of ${ledger?.expected} frames stitched`;
}

/** A row of one or two counts; one alone takes the whole width. */
function ledgerRow(counts, className = "") {
  const row = element("tr", "", { className });
  for (const [label, frames] of counts) {
    const name = element("th", label, { scope: "row", colSpan: counts.length === 1 ? 3 : 1 });
    row.append(name, element("td", frames == null ? "–" : whole(frames)));
  }
  return row;
}

function showFacts(scan, status) {
  const pixelM = scan?.geometry?.object_pixel_m;
  const waiting = Object.values(status.queues ?? {}).reduce((sum, frames) => sum + frames, 0);
  const facts = [
    ["Engine", [status.engine?.backend, status.engine?.device].filter(Boolean).join(" · ")],
    ["Model", scan?.model?.name ?? scan?.model ?? status.model?.name],
    ["Object pixel", pixelM ? length(pixelM) : null],
    ["Detector", framingInWords(scan?.geometry?.framing), "What is done to its frames and positions on the way in"],
    ["Agreement", share(scan?.agreement), "How well overlapping tiles agree in phase; 1 is best"],
    ["Confidence", share(scan?.confidence), "Mean expected cosine of the phase error × agreement; 1 is best"],
    ["Trust", TRUST[scan?.trust?.state]],
    ["Forward residual", share(scan?.forward_residual), "Measured against modelled pattern, last sampled frame; 0 is best"],
    ["Refined", refinementInWords(scan?.refinement), `Residual before → after; ${scan?.refinement?.state}`],
    ["Frames waiting", whole(waiting)],
    ...(status.sources ?? []).map(({ role, endpoint, format, state }) => [`${role}, ${format}`, state, `at ${endpoint}`]),
  ];
  const shown = facts.filter(([, value]) => value);
  replaceIfChanged(at("facts"), shown.flatMap(([name, value, title = value]) => [
    element("dt", name), element("dd", value, { title }),
  ]));
}

/** "12 sweeps, 0.310 → 0.120"; nothing before the first sweep. */
function refinementInWords(refinement) {
  if (!refinement?.sweeps || refinement.residual_after === null) return null;
  const { sweeps, residual_before: before, residual_after: after } = refinement;
  return `${whole(sweeps)} sweep${sweeps === 1 ? "" : "s"}, ${share(before)} → ${share(after)}`;
}

/** What was done at the door, as far as anything was: "1065 × 1030 → 128 × 128 from 468, 451 · rotate90". */
function framingInWords(framing) {
  if (!framing) return null;
  const { detector_shape: whole, crop, crop_corner: corner, bin, orientation, positions_axes: axes } = framing;
  const cut = crop.join() === whole.join() ? "" : ` → ${crop.join(" × ")} from ${corner.join(", ")}`;
  const steps = [
    whole.join(" × ") + cut,
    bin > 1 ? `bin ${bin}` : "",
    orientation === "as-is" ? "" : orientation,
    axes === "y,x" ? "" : `positions ${axes}`,
  ];
  return steps.filter(Boolean).join(" · ");
}

function showDownloads(scan, name, channel, refined, mosaic) {
  const base = `/api/scans/${encodeURIComponent(name ?? "")}`;
  const link = (text, path) => element("a", text, { href: base + path, download: "", title: `${text} of scan ${name}` });
  const which = refined && REFINED.includes(channel) ? "&refined=true" : "";
  const links = ["npy", "tiff", "png"].map((format) => link(format, `/mosaic?channel=${channel}&format=${format}${which}`));
  if (scan?.finished) links.push(link("result.h5", "/result.h5"));
  const wanted = mosaic && scan ? links : [element("p", "nothing to download yet", { className: "words" })];
  replaceIfChanged(at("downloads"), wanted);
}

function showScans(scans, name, { choose, compare }) {
  const items = scans.map(({ scan, started, finished, ledger }) => {
    const item = element("li", "");
    const button = element("button", "", { type: "button" });
    const day = started ? new Date(started).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" }) : "";
    button.append(element("b", scan), element("span", finished ? `${whole(ledger?.stitched ?? 0)} frames · ${day}` : "running"));
    button.ariaCurrent = String(scan === name);
    button.dataset.scan = scan;
    button.onclick = () => choose(scan);
    item.append(button);
    if (scan !== name) item.append(compareButton(scan, name, compare));
    return item;
  });
  replaceIfChanged(at("scans"), items);
}

function compareButton(scan, name, compare) {
  const words = `Compare ${scan} with ${name}`;
  return element("button", "⇄", {
    type: "button", className: "compare", title: words, ariaLabel: words, onclick: () => compare(scan),
  });
}

/** Leave elements alone that would look the same: keyboard focus stays where it is. */
function replaceIfChanged(parent, children) {
  const markup = children.map((child) => child.outerHTML).join("");
  if (parent.innerHTML !== markup) parent.replaceChildren(...children);
}
