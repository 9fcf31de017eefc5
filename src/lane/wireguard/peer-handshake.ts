// The handshakes of one peer, both directions: an initiation of ours that waits for its response, and the answers to the peer's own. Gives keys and
// messages, and keeps what tells old from new; who sends them, and when, is the peer's business. Only what authenticates changes anything.

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import { MacMaker } from './cookie.ts';
import { INITIATION_BYTES, RESPONSE_BYTES } from './messages.ts';
import {
  type OpenedInitiation,
  openResponse,
  openTimestamp,
  type Remote,
  remote,
  type SentInitiation,
  type TransportKeys,
  writeInitiation,
  writeResponse,
} from './noise.ts';
import type { PeerLink } from './peer-link.ts';

/** Between two initiations of a peer that are answered: 50 a second. */
const APART_MS = 20;

/** To an initiation: keys, the number that the session has, and the message that tells the other end of both. */
export interface Answer {
  keys: TransportKeys;
  index: number;
  response: Buffer;
}

export class PeerHandshake {
  readonly #link: Pick<PeerLink, 'own' | 'indices' | 'ephemeral' | 'timestamp'>;
  readonly #publicKey: Buffer;
  #presharedKey: Uint8Array;
  /** Null: not made yet. Undefined: its key is of low order, or our own. */
  #remote: Remote | undefined | null = null;
  #macs: MacMaker | undefined;
  #initiation: { index: number; sent: SentInitiation; sentAt: number } | undefined;
  /** Of the initiations that came: only a greater one is answered. */
  #greatestTimestamp: Buffer | undefined;
  #answeredAt = Number.NEGATIVE_INFINITY;

  constructor(link: Pick<PeerLink, 'own' | 'indices' | 'ephemeral' | 'timestamp'>, publicKey: Buffer, presharedKey: Uint8Array) {
    this.#link = link;
    this.#publicKey = publicKey;
    this.#presharedKey = presharedKey;
  }

  /** When the initiation was sent that waits for its response; undefined: none does. */
  get waitingSince(): number | undefined {
    return this.#initiation?.sentAt;
  }

  /** Why there never is a handshake; empty: there may be. Computes a secret when it is asked first. */
  get obstacle(): string {
    this.#end();
    return this.knownObstacle;
  }

  /** The same, as far as that has been computed. */
  get knownObstacle(): string {
    if (this.#remote !== undefined) return '';
    return this.#isOwnKey ? 'its public key is our own' : 'its public key is none: of low order';
  }

  /** For the next one; what waits is given up. */
  setPresharedKey(presharedKey: Uint8Array): void {
    this.#presharedKey = presharedKey;
    this.reset();
  }

  /** A key of either end is another: what waits is given up. */
  reset(): void {
    this.#remote = null;
    this.drop();
  }

  /** What waits is given up, and its number given back. */
  drop(): void {
    if (this.#initiation !== undefined) this.#link.indices.release(this.#initiation.index);
    this.#initiation = undefined;
  }

  /** An initiation to send, in place of the one before. `take` is whom its number stands for. Undefined when there is an obstacle. */
  begin(take: Parameters<PeerLink['indices']['forInitiation']>[0], now: number): Buffer | undefined {
    const end = this.#end();
    if (end === undefined) return undefined;
    this.drop();
    const { indices, own } = this.#link;
    const message = Buffer.alloc(INITIATION_BYTES);
    const index = indices.forInitiation(take);
    const sent = writeInitiation(message, own, end, index, this.#link.ephemeral(), this.#link.timestamp());
    if (sent === undefined) {
      indices.release(index);
      return undefined;
    }
    this.#initiation = { index, sent, sentAt: now };
    return this.#signed(message, now);
  }

  /** To an initiation that names this peer; or why there is none. */
  answer(message: Buffer, opened: OpenedInitiation, now: number): Answer | Drop {
    const end = this.#end();
    const timestamp = end && openTimestamp(message, opened, end);
    if (end === undefined || timestamp === undefined) return Drop.UNAUTHENTICATED;
    if (this.#greatestTimestamp !== undefined && timestamp.compare(this.#greatestTimestamp) <= 0) return Drop.REPLAYED;
    if (now - this.#answeredAt < APART_MS) return Drop.RATE_LIMITED;
    const index = this.#link.indices.forSession();
    const response = Buffer.alloc(RESPONSE_BYTES);
    const keys = writeResponse(response, opened, end, index, this.#link.ephemeral());
    if (keys === undefined) return Drop.UNAUTHENTICATED;
    this.#greatestTimestamp = timestamp;
    this.#answeredAt = now;
    return { keys, index, response: this.#signed(response, now) };
  }

  /** Keys from the response to the initiation with this number, which is the session's then. */
  complete(message: Buffer, index: number): TransportKeys | undefined {
    const initiation = this.#initiation;
    const end = this.#end();
    if (initiation?.index !== index || end === undefined) return undefined;
    const keys = openResponse(message, initiation.sent, this.#link.own, end);
    if (keys !== undefined) this.#initiation = undefined;
    return keys;
  }

  /** A cookie for the last message that was made here. False when it is none. */
  takeCookie(reply: Buffer, now: number): boolean {
    return this.#macs?.takeReply(reply, now) === true;
  }

  #signed(message: Buffer, now: number): Buffer {
    this.#macs ??= new MacMaker(this.#publicKey);
    this.#macs.sign(message, now);
    return message;
  }

  get #isOwnKey(): boolean {
    return this.#publicKey.equals(this.#link.own.publicKey);
  }

  #end(): Remote | undefined {
    if (this.#remote === null) this.#remote = this.#isOwnKey ? undefined : remote(this.#link.own, this.#publicKey, this.#presharedKey);
    return this.#remote;
  }
}
