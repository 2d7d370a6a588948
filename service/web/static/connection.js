// The WebSocket: comes back by itself, and knows when silence means that the picture is stale.

const FIRST_RETRY_MS = 400;
const LAST_RETRY_MS = 4000;
const SILENCE_MS = 7000; // the service says something at least every 2 s

export class Connection {
  /**
   * @param {object} handlers
   * @param {(state: object) => void} handlers.onState
   * @param {(block: ArrayBuffer) => void} handlers.onBlock
   * @param {(behindS: number) => void} handlers.onPace  how old what is shown is, seconds; 0 when it is new
   * @param {(kind: "connecting" | "live" | "reconnecting") => void} handlers.onChange
   * @param {() => object} handlers.wish  what the page wants to see, as the service takes it
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.retryMs = FIRST_RETRY_MS;
    this.receivedBytes = 0;
    this.open();
  }

  open() {
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    this.socket = new WebSocket(`${scheme}://${location.host}/api/live`);
    this.socket.binaryType = "arraybuffer";
    this.told = null;
    this.socket.onopen = () => this.tell();
    this.socket.onmessage = ({ data }) => this.#receive(data);
    this.socket.onclose = () => this.#retry();
  }

  /** Say what the page wants to see, if that has changed. */
  tell() {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const wish = JSON.stringify(this.handlers.wish());
    if (wish !== this.told) this.socket.send(wish);
    this.told = wish;
  }

  #receive(data) {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.socket.close(), SILENCE_MS);
    this.retryMs = FIRST_RETRY_MS;
    this.receivedBytes += data.byteLength ?? data.length;
    if (typeof data !== "string") {
      this.handlers.onBlock(data);
      return;
    }
    this.handlers.onChange("live");
    const message = JSON.parse(data);
    if (message.type === "pace") this.handlers.onPace(message.behind_s);
    else this.handlers.onState(message);
  }

  #retry() {
    clearTimeout(this.silence);
    this.handlers.onChange("reconnecting");
    setTimeout(() => this.open(), this.retryMs);
    this.retryMs = Math.min(LAST_RETRY_MS, this.retryMs * 1.6);
  }
}
