// The WebSocket: comes back by itself, and knows when silence means that the picture is stale.

const FIRST_RETRY_MS = 400;
const LAST_RETRY_MS = 4000;
const SILENCE_MS = 7000; // the service says something at least every 2 s

export class Connection {
  /**
   * @param {object} handlers
   * @param {(state: object) => void} handlers.onState
   * @param {(block: ArrayBuffer) => void} handlers.onBlock
   * @param {(kind: "connecting" | "live" | "reconnecting") => void} handlers.onChange
   * @param {() => string | null} handlers.wish  the scan to follow, null for the current one
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.retryMs = FIRST_RETRY_MS;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/api/live`);
    this.socket.binaryType = "arraybuffer";
    this.socket.onopen = () => this.follow(this.handlers.wish());
    this.socket.onmessage = ({ data }) => this.#receive(data);
    this.socket.onclose = () => this.#retry();
  }

  follow(scan) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ scan }));
  }

  #receive(data) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket.close(), SILENCE_MS);
    this.retryMs = FIRST_RETRY_MS;
    if (typeof data !== "string") {
      this.handlers.onBlock(data);
      return;
    }
    this.handlers.onChange("live");
    this.handlers.onState(JSON.parse(data));
  }

  #retry() {
    clearTimeout(this.silence);
    this.handlers.onChange("reconnecting");
    setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(LAST_RETRY_MS, this.retryMs * 1.6);
  }
}
