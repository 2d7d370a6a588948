// The unwrapped phase: the service tells it coarsely, and the blocks' phases are turned to lie next to it.

const TURN = 2 * Math.PI;
const AGAIN_MS = 1000; // at most so often
const MOST_TURNS = 1024;
const NOT_A_NUMBER = 0x7e00; // as float16

/** The bits of a whole number as float16. */
function halfOf(number) {
  const size = Math.abs(number);
  if (size === 0) return 0;
  const exponent = Math.floor(Math.log2(size));
  return (number < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
}

/** The plane in a .npy file of float32 in rows. */
function planeOf(buffer) {
  const header = new DataView(buffer);
  const isFirst = header.getUint8(6) === 1;
  const start = isFirst ? 10 + header.getUint16(8, true) : 12 + header.getUint32(8, true);
  const text = new TextDecoder().decode(new Uint8Array(buffer, isFirst ? 10 : 12, start - (isFirst ? 10 : 12)));
  const [, height, width] = text.match(/\((\d+), (\d+)\)/).map(Number);
  return { height, width, values: new Float32Array(buffer.slice(start)) };
}

/** What the service said of one state of a mosaic. */
class Unwrapping {
  /** @param {{bounds: number[], step: number}} part  where the plane lies, see the API */
  constructor({ bounds, step }, { height, width, values }, halves) {
    Object.assign(this, { top: bounds[0], left: bounds[1], step, height, width, values, halves });
  }

  /** Turns of each pixel of a block as float16 bits, NaN where the service has said nothing. */
  turnsOf({ px, by, bx, level, planes }) {
    const turns = new Uint16Array(px * px).fill(NOT_A_NUMBER);
    const side = 2 ** level;
    for (let y = 0; y < px; y++) {
      const row = Math.floor(((by * px + y + 0.5) * side - this.top) / this.step);
      if (row < 0 || row >= this.height) continue;
      for (let x = 0; x < px; x++) {
        const column = Math.floor(((bx * px + x + 0.5) * side - this.left) / this.step);
        if (column < 0 || column >= this.width) continue;
        const near = this.values[row * this.width + column];
        const turn = Math.round((near - this.halves[planes.phase[y * px + x]]) / TURN);
        if (Math.abs(turn) <= MOST_TURNS) turns[y * px + x] = halfOf(turn);
      }
    }
    return turns;
  }
}

/** Asks the service for the unwrapped phase of what is shown, while somebody looks at it. */
export class Unwrapper {
  /**
   * @param {Float32Array} halves  value of each float16 by its bits
   * @param {function(?Unwrapping)} onNews  null when nobody looks any more
   */
  constructor(halves, onNews) {
    Object.assign(this, { halves, onNews, wanted: null, told: null, isBusy: false });
  }

  /** Take in what is looked at, and what the service says of it. */
  update(view, state) {
    const { generation, version } = state?.mosaic ?? {};
    const looks = view === "unwrapped" && generation !== undefined && state.name;
    if (!looks && this.wanted) this.onNews(null);
    const shown = [version, state?.scan?.refinement?.sweeps].join();
    this.#want(looks ? { scan: state.name, refined: Boolean(state.refined), generation, state: shown } : null);
  }

  /**
   * @param {?{scan: string, refined: boolean, generation: number, state: string}} wanted  null when nobody looks
   *   `generation` is that of the blocks on show; `state` differs when the picture does
   */
  #want(wanted) {
    this.wanted = wanted;
    if (!wanted) this.told = null;
    if (!wanted || this.isBusy || JSON.stringify(wanted) === this.told) return;
    this.isBusy = true;
    this.#ask(wanted).catch(console.error).finally(() => setTimeout(() => {
      this.isBusy = false;
      this.#want(this.wanted);
    }, AGAIN_MS));
  }

  async #ask(wanted) {
    const path = `/api/scans/${encodeURIComponent(wanted.scan)}/unwrapped?refined=${wanted.refined}`;
    const answer = await fetch(path);
    if (!answer.ok) return;
    const part = JSON.parse(answer.headers.get("x-part"));
    const plane = planeOf(await answer.arrayBuffer());
    if (this.wanted?.generation !== wanted.generation) return; // another object is shown by now
    if (part.current) this.told = JSON.stringify(wanted); // else it is asked for again
    this.onNews(new Unwrapping(part, plane, this.halves));
  }
}
