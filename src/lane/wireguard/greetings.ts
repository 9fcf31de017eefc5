// Handshakes with peers that are new here, or are somewhere else now, and whose endpoint is known, without waiting for a packet to send: a link is up before it is used, and a
// data plane that has taken the place of another is heard of by peers that only send. Some at a time, so that many do not hold up the rest.

const FIRST_MS = 20;
const PAUSE_MS = 25;
const AT_ONCE = 16;

export class Greetings<Peer> {
  readonly #greet: (peer: Peer) => void;
  #waiting: Peer[] = [];
  #timer: NodeJS.Timeout | undefined;

  constructor(greet: (peer: Peer) => void) {
    this.#greet = greet;
  }

  add(peers: readonly Peer[]): void {
    this.#waiting.push(...peers);
    if (this.#waiting.length > 0) this.#later(FIRST_MS);
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#waiting = [];
  }

  #later(delayMs: number): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      for (const peer of this.#waiting.splice(0, AT_ONCE)) this.#greet(peer);
      if (this.#waiting.length > 0) this.#later(PAUSE_MS);
    }, delayMs);
    this.#timer.unref();
  }
}
