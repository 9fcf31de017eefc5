// Messages on a packet connection between agent and lane: a head of five bytes, then the payload.
//
//   | length of the payload, little-endian, 4 | kind 1 | payload |
//
//   agent -> lane   SETUP (StreamSetup), then REQUEST (StreamPacketsRequest as the client sent it) ..., END
//   lane -> agent   BATCH (PacketBatch as the client gets it) ..., then END, or FAILURE (StreamFailure)
//
// A connection that breaks without END from the agent's side is a client that may come back.

export const HEAD_BYTES = 5;
/** Largest payload; larger ones end the connection. */
export const MESSAGE_MOST = 64 * 1024 * 1024 + 65_536;

export const KIND_SETUP = 1;
export const KIND_REQUEST = 2;
export const KIND_BATCH = 2;
export const KIND_END = 3;
export const KIND_FAILURE = 4;

/** Writes the head of a message of `length` payload bytes. */
export function writeHead(out: Buffer, at: number, length: number, kind: number): void {
  out.writeUInt32LE(length, at);
  out[at + 4] = kind;
}

/** A whole message. */
export function message(kind: number, payload: Uint8Array = new Uint8Array(0)): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
  writeHead(bytes, 0, payload.length, kind);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

/** Thrown by `Framer.push`: the other side does not speak as agreed. */
export class BadFraming extends Error {
  override readonly name = 'BadFraming';
}

/**
 * Puts messages together from the pieces of a socket. A payload is handed on as it lies in a piece where it lies in one, else it is
 * copied together; it belongs to the receiver for as long as the piece that was pushed does (*borrows*).
 */
export class Framer {
  readonly #most: number;
  readonly #take: (kind: number, payload: Buffer) => void;
  readonly #head = Buffer.alloc(HEAD_BYTES);
  #headBytes = 0;
  #payload: Buffer | undefined;
  #payloadBytes = 0;

  constructor(take: (kind: number, payload: Buffer) => void, most = MESSAGE_MOST) {
    this.#take = take;
    this.#most = most;
  }

  /** Throws BadFraming for a message that is too long. */
  push(piece: Buffer): void {
    let at = 0;
    while (at < piece.length) {
      if (this.#headBytes < HEAD_BYTES) {
        const taken = piece.copy(this.#head, this.#headBytes, at, at + HEAD_BYTES - this.#headBytes);
        this.#headBytes += taken;
        at += taken;
        if (this.#headBytes < HEAD_BYTES) return;
        // Of a payload without bytes nothing more comes.
        if (at === piece.length && this.#head.readUInt32LE(0) > 0) return;
      }
      at += this.#continue(piece, at);
    }
  }

  /** Takes what of the payload is there; answers how many bytes. */
  #continue(piece: Buffer, at: number): number {
    const length = this.#head.readUInt32LE(0);
    if (length > this.#most) throw new BadFraming(`message of ${length} bytes, at most ${this.#most} are taken`);
    if (this.#payload === undefined && piece.length - at >= length) {
      this.#headBytes = 0;
      this.#take(this.#head[4] as number, piece.subarray(at, at + length));
      return length;
    }
    this.#payload ??= Buffer.allocUnsafe(length);
    const taken = piece.copy(this.#payload, this.#payloadBytes, at, at + length - this.#payloadBytes);
    this.#payloadBytes += taken;
    if (this.#payloadBytes < length) return taken;
    const whole = this.#payload;
    this.#payload = undefined;
    this.#payloadBytes = 0;
    this.#headBytes = 0;
    this.#take(this.#head[4] as number, whole);
    return taken;
  }
}
