// Which value gets which colour: automatic from the covered pixels, or as the operator sets it.

const NEARLY_FULL_TURN = 1.6 * Math.PI;
const LAZINESS = 0.03; // an automatic window moves when it is off by more than this share of itself

export function wrap(radians) {
  return radians - 2 * Math.PI * Math.round(radians / (2 * Math.PI));
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.round(share * (sorted.length - 1)))];
}

function meanPhase(phases) {
  let cos = 0;
  let sin = 0;
  for (const phase of phases) {
    cos += Math.cos(phase);
    sin += Math.sin(phase);
  }
  return Math.atan2(sin, cos);
}

const FULL_CIRCLE = { low: -Math.PI, high: Math.PI };

const LOW_AGREEMENT = 0.8; // of agreement and confidence: above, all is well and shall look so

/** The automatic windows, of sorted values. */
const WINDOWS = {
  amplitude: (sorted) => ({ low: percentile(sorted, 0.01), high: percentile(sorted, 0.99) }),
  phase: (sorted) => {
    const window = WINDOWS.amplitude(sorted);
    return window.high - window.low > NEARLY_FULL_TURN ? FULL_CIRCLE : window;
  },
  agreement: (sorted) => ({ low: Math.min(LOW_AGREEMENT, percentile(sorted, 0.01)), high: 1 }),
  coverage: (sorted) => ({ low: 0, high: percentile(sorted, 0.99) }),
  confidence: (sorted) => WINDOWS.agreement(sorted),
  unwrapped: (sorted) => WINDOWS.amplitude(sorted),
};

/** How far the sliders go. */
const LIMITS = {
  amplitude: (sorted) => ({ low: 0, high: percentile(sorted, 0.999) * 1.15 }),
  phase: () => FULL_CIRCLE,
  agreement: () => ({ low: 0, high: 1 }),
  coverage: (sorted) => ({ low: 0, high: percentile(sorted, 1) }),
  confidence: () => LIMITS.agreement(),
  unwrapped: (sorted) => {
    const [low, high] = [percentile(sorted, 0.001), percentile(sorted, 0.999)];
    const margin = Math.max(0.1 * (high - low), 0.05);
    return { low: low - margin, high: high + margin };
  },
};

/** One channel's window. For the phase, low and high count from the centre. */
export class Contrast {
  constructor(channel) {
    this.channel = channel;
    this.map = channel; // name of the colour table
    this.auto = true;
    this.low = channel === "phase" ? -Math.PI : 0;
    this.high = channel === "phase" ? Math.PI : 1;
    this.limits = { low: this.low, high: this.high };
    this.gamma = 1;
    this.sorted = new Float32Array(); // the sampled values; phases from the centre
    this.centreAuto = true;
    this.centre = 0;
  }

  /** Judge anew by sampled values. */
  adapt(values) {
    if (values.length === 0) return;
    if (this.channel === "phase" && this.centreAuto) this.#moveCentre(meanPhase(values));
    const sorted = this.channel === "phase" ? values.map((phase) => wrap(phase - this.centre)) : values.slice();
    sorted.sort();
    this.sorted = sorted;
    this.limits = LIMITS[this.channel](sorted);
    if (this.auto) this.#moveWindow(WINDOWS[this.channel](sorted));
  }

  setManual(low, high) {
    this.auto = false;
    const narrowest = 1e-4 * (this.limits.high - this.limits.low);
    this.low = low;
    this.high = Math.max(high, low + narrowest);
  }

  get isFullCircle() {
    return this.channel === "phase" && this.high - this.low > 2 * Math.PI - 1e-6;
  }

  setFullCircle() {
    this.setManual(FULL_CIRCLE.low, FULL_CIRCLE.high);
  }

  /** How many radians, or units, make one tour of the colour table.
   *
   * The phase's table is a circle: 2π is one tour. Less than half a turn takes the half of the table that
   * climbs from dark to bright.
   */
  get tour() {
    const span = this.high - this.low;
    return this.channel === "phase" ? Math.min(2 * span, 2 * Math.PI) : span;
  }

  /** Place of a value in the colour table, 0 … 1. */
  place(value) {
    const relative = this.channel === "phase" ? wrap(value - this.centre) : value;
    const linear = (Math.min(this.high, Math.max(this.low, relative)) - this.low) / this.tour;
    return this.channel === "phase" ? linear : linear ** this.gamma;
  }

  /** How many of the sampled values lie in each part of the range of the sliders, as shares of the most. */
  histogram(parts) {
    const counts = new Float32Array(parts);
    const { low, high } = this.limits;
    for (const value of this.sorted) {
      const part = Math.floor((parts * (value - low)) / (high - low));
      if (part >= 0 && part < parts) counts[part] += 1;
    }
    const most = Math.max(1, ...counts);
    return counts.map((count) => count / most);
  }

  #moveCentre(centre) {
    if (Math.abs(wrap(centre - this.centre)) > LAZINESS) this.centre = centre;
  }

  #moveWindow({ low, high }) {
    const patience = LAZINESS * (high - low);
    if (Math.abs(low - this.low) > patience) this.low = low;
    if (Math.abs(high - this.high) > patience) this.high = high;
    this.high = Math.max(this.high, this.low + 1e-6);
  }
}
