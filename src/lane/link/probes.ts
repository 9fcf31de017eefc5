// Probing of the peers of one link: a `PeerProbe` for each knows round trip, loss and the size of the path, and takes the probes out of what comes
// from its peer. In the background it probes only while something is sent to the peer, about once a second.
//
//   inner frame from the peer --> peerProbe.received: a probe? answered and swallowed : passed on to the device
//
// What another data plane asks is answered at most ANSWERS_MOST times a second, but for trains, whose sender needs our answers to go on.

import { randomInt } from 'node:crypto';
import type { LinkPeerStatus } from '../../gen/taplane/v1/link.ts';
import { emptyProbe, PROBE_LEAST_BYTES, type Probe, ProbeKind, type ProbePath, readProbe, writeProbe } from '../../packet/probe-packet.ts';
import { PathMtu } from './path-mtu.ts';
import { Train, TrainReceiver } from './train.ts';

const TICK_MS = 200;
const SENDING_MS = 1500;
const ANSWER_MS = 1000;
const OUTSTANDING_MOST = 64;
/** As many as `ProbeLink` can ask for. */
const ANSWERS_MOST = 1000;
/** Trains that peers have asked for, at once, of all peers of a link. */
const SERVED_MOST = 4;
const HISTORY = 64;
/** Below this no path is searched: what IPv6 asks of every link (RFC 8200), and what IPv4 is usually good for. */
const LEAST = { 4: 576, 6: 1280 } as const;

/** What a tunnel offers of one peer. */
export interface ProbedPeer {
  /** Between which addresses probes go; undefined while it cannot be probed. */
  path(): ProbePath | undefined;
  /** Frames of users sent to it so far: tells whether it is in use. */
  sentPackets(): number;
  /** Sends one inner frame, without virtio header, past routes and size limits, not to be fragmented (*borrows*). False when it could not go. */
  send(bytes: Buffer, start: number, length: number): boolean;
  /** What the path takes has changed: bytes of the largest inner packet. */
  setPathMtu(bytes: number): void;
}

/** Called when a probe was answered, or not within a second. */
export type OnAnswer = (answer: { sequence: number; lost: boolean; roundTripMs: number; bytes: number; received: number }) => void;

interface Outstanding {
  at: number;
  bytes: number;
  /** Counts for loss: not of a search. */
  counts: boolean;
  done: OnAnswer | undefined;
}

export class PeerProbe {
  /** Somebody counts what the other end receives: nothing is asked in the background meanwhile. */
  isCounting = false;
  readonly mtu: PathMtu;
  readonly #peer: ProbedPeer;
  readonly #ethernet: boolean;
  readonly #now: () => number;
  readonly #shared: Shared;
  readonly #outstanding = new Map<number, Outstanding>();
  readonly #history: boolean[] = [];
  #sequence = 0;
  #received = 0;
  #roundTripMs: number | undefined;
  #lastSent = 0;
  #sendingUntil = Number.NEGATIVE_INFINITY;
  #answersSecond = 0;
  #answers = 0;
  /** Whether another data plane has answered. */
  isKnown = false;
  /** It is probed no more: the peer, or its link, is gone. */
  isClosed = false;
  readonly #trainIn: TrainReceiver;
  #train: Train | undefined;
  #trainToken = -1;

  constructor(peer: ProbedPeer, most: number, ethernet: boolean, now: () => number, shared: Shared) {
    this.#peer = peer;
    this.#ethernet = ethernet;
    this.#now = now;
    this.#shared = shared;
    this.#trainIn = new TrainReceiver((received, sequence, sentAt) => this.#say(ProbeKind.TRAIN_ACK, sequence, sentAt, received));
    this.mtu = new PathMtu({
      most,
      get least() {
        return Math.max(PROBE_LEAST_BYTES, Math.min(this.most, peer.path()?.to.length === 16 ? LEAST[6] : LEAST[4]));
      },
      // What is more than the size in use is expected to be lost.
      probe: (bytes) => this.ping(bytes, undefined, !this.mtu.searching && bytes <= this.mtu.inUse),
      changed: (bytes) => peer.setPathMtu(bytes),
    });
  }

  /** Looks at an inner frame that came from the peer, `bytes[start, start + length)`. True: a probe, not for the device. */
  received(bytes: Buffer, start: number, length: number): boolean {
    const probe = this.#shared.read;
    if (!readProbe(bytes, start, length, this.#ethernet, probe)) return false;
    this.#take(probe);
    return true;
  }

  /** Sends a ping of `bytes`; false when it could not go. `done` hears of its end; of what is closed at once. */
  ping(bytes: number, done: OnAnswer | undefined, counts = true): boolean {
    if (this.isClosed) {
      done?.({ sequence: 0, lost: true, roundTripMs: 0, bytes, received: 0 });
      return false;
    }
    const now = this.#now();
    if (this.#outstanding.size >= OUTSTANDING_MOST) this.#expire(now, true);
    const sequence = ++this.#sequence;
    this.#outstanding.set(sequence, { at: now, bytes, counts, done });
    return this.#say(ProbeKind.PING, sequence, microseconds(now), this.#received, bytes);
  }

  /** Searches for the size of the path now; `mtu.searching` tells until when. */
  searchMtu(): void {
    this.mtu.search(this.#now());
  }

  get canProbe(): boolean {
    return this.#peer.path() !== undefined;
  }

  /** Sends as much as the path takes for `seconds`; resolves with what the peer counted. */
  train(seconds: number, signal: AbortSignal): Promise<{ bitsPerSecond: number; loss: number }> {
    return this.#run(seconds, signal, this.mtu.inUse, false);
  }

  #run(seconds: number, signal: AbortSignal, most: number, isAsked: boolean): Promise<{ bitsPerSecond: number; loss: number }> {
    this.#train?.end();
    const bytes = Math.max(PROBE_LEAST_BYTES, Math.min(most, this.mtu.inUse));
    // Only who gets the train can give it back.
    const token = randomInt(2 ** 48 - 1);
    const send = (sequence: number): boolean => this.#say(ProbeKind.TRAIN, sequence, token, 0, bytes);
    const train = new Train({ now: this.#now, send }, bytes, isAsked);
    this.#train = train;
    this.#trainToken = token;
    return train.run(seconds * 1000, signal);
  }

  /** Asks the peer for a train of `seconds`, in packets that pass as far as we know, and resolves with what came. */
  async trainBack(seconds: number, signal: AbortSignal): Promise<{ bitsPerSecond: number; loss: number }> {
    return this.#trainIn.result(seconds * 1000, this.#now, signal, () => {
      this.#say(ProbeKind.TRAIN_ASK, seconds, 0, this.mtu.inUse);
    });
  }

  /** What goes into the status of the peer. */
  status(): Pick<LinkPeerStatus, 'roundTrip' | 'loss' | 'pathMtu'> {
    const lost = this.#history.filter((answered) => !answered).length;
    const nanos = this.#roundTripMs === undefined ? undefined : Math.round(this.#roundTripMs * 1e6);
    return {
      roundTrip: nanos === undefined ? undefined : { seconds: BigInt(Math.floor(nanos / 1e9)), nanos: nanos % 1e9 },
      loss: this.#history.length === 0 ? 0 : lost / this.#history.length,
      pathMtu: this.mtu.known,
    };
  }

  /** Some times a second. */
  tick(): void {
    const now = this.#now();
    const sent = this.#peer.sentPackets();
    if (sent !== this.#lastSent) this.#sendingUntil = now + SENDING_MS;
    this.#lastSent = sent;
    this.#expire(now, false);
    this.mtu.tick(now, !this.isCounting && now < this.#sendingUntil && this.canProbe);
  }

  close(): void {
    this.isClosed = true;
    this.#train?.end();
    this.#trainIn.end();
    for (const { done, bytes } of this.#outstanding.values()) done?.({ sequence: 0, lost: true, roundTripMs: 0, bytes, received: 0 });
    this.#outstanding.clear();
  }

  #take(probe: Probe): void {
    const { kind, sequence, sentAt, received, isEcho } = probe;
    if (kind === ProbeKind.PONG || (kind === ProbeKind.PING && isEcho)) {
      if (!isEcho) this.isKnown = true;
      this.#answered(sequence, sentAt, isEcho ? 0 : received);
    } else if (isEcho) {
      // A host's echo of a train is none of its receiver's words.
    } else if (kind === ProbeKind.PING) {
      this.#received++;
      if (this.#mayAnswer()) this.#say(ProbeKind.PONG, sequence, sentAt, this.#received);
    } else if (kind === ProbeKind.TRAIN) this.#trainIn.take(sequence, sentAt, probe.bytes, this.#now());
    else if (kind === ProbeKind.TRAIN_ACK) {
      if (sentAt === this.#trainToken) this.#train?.acknowledged(sequence, received);
    } else if (kind === ProbeKind.TRAIN_ASK && this.#train?.isRunning !== true && sequence >= 1 && sequence <= 60)
      this.#serve(sequence, received);
  }

  /** Sends a train of `seconds` that the peer has asked for, unless others are served already: it asks again. */
  #serve(seconds: number, most: number): void {
    const shared = this.#shared;
    if (shared.served >= SERVED_MOST) return;
    shared.served++;
    this.#run(seconds, shared.signal, most, true)
      .catch(() => {
        // The link is closed.
      })
      .finally(() => shared.served--);
  }

  #answered(sequence: number, sentAt: number, received: number): void {
    const asked = this.#outstanding.get(sequence);
    // Numbers are easy to guess, and those of a probe before this one were the same.
    if (asked === undefined || sentAt !== microseconds(asked.at)) return;
    this.#outstanding.delete(sequence);
    const roundTripMs = Math.max(0, this.#now() - asked.at);
    this.#roundTripMs = roundTripMs;
    if (asked.counts) this.#note(true);
    this.mtu.answered(asked.bytes);
    asked.done?.({ sequence, lost: false, roundTripMs, bytes: asked.bytes, received });
  }

  #expire(now: number, oldest: boolean): void {
    for (const [sequence, asked] of this.#outstanding) {
      if (!oldest && now - asked.at < ANSWER_MS) return;
      this.#outstanding.delete(sequence);
      if (asked.counts) this.#note(false);
      asked.done?.({ sequence, lost: true, roundTripMs: 0, bytes: asked.bytes, received: 0 });
      if (oldest) return;
    }
  }

  #note(answered: boolean): void {
    this.#history.push(answered);
    if (this.#history.length > HISTORY) this.#history.shift();
  }

  #mayAnswer(): boolean {
    const second = Math.floor(this.#now() / 1000);
    if (second !== this.#answersSecond) {
      this.#answersSecond = second;
      this.#answers = 0;
    }
    return this.#answers++ < ANSWERS_MOST;
  }

  #say(kind: number, sequence: number, sentAt: number, received: number, bytes = PROBE_LEAST_BYTES): boolean {
    const path = this.#peer.path();
    if (path === undefined) return false;
    const { written, out } = this.#shared;
    written.kind = kind;
    written.sequence = sequence;
    written.sentAt = sentAt;
    written.received = received;
    written.bytes = bytes;
    const length = writeProbe(written, path, out);
    return length > 0 && this.#peer.send(out, 0, length);
  }
}

function microseconds(ms: number): number {
  return Math.round(ms * 1000);
}

/** What all peers of a link share. */
interface Shared {
  read: Probe;
  written: Probe;
  out: Buffer;
  /** Trains that peers have asked for and that run. */
  served: number;
  /** Aborts when the link is closed. */
  signal: AbortSignal;
}

export class Probes {
  readonly #ethernet: boolean;
  readonly #now: () => number;
  readonly #closed = new AbortController();
  readonly #shared: Shared;
  readonly #peers = new Set<PeerProbe>();
  /** While there are peers: nobody closes what could not be made. */
  #timer: NodeJS.Timeout | undefined;
  #most: number;

  /** `most`: bytes of the largest inner packet of the link. */
  constructor({ ethernet, now, most }: { ethernet: boolean; now: () => number; most: number }) {
    this.#ethernet = ethernet;
    this.#now = now;
    this.#most = most;
    this.#shared = { read: emptyProbe(), written: emptyProbe(), out: Buffer.alloc(65_535), served: 0, signal: this.#closed.signal };
  }

  add(peer: ProbedPeer): PeerProbe {
    const probe = new PeerProbe(peer, this.#most, this.#ethernet, this.#now, this.#shared);
    this.#peers.add(probe);
    this.#timer ??= setInterval(() => {
      for (const one of this.#peers) one.tick();
    }, TICK_MS).unref();
    return probe;
  }

  remove(probe: PeerProbe): void {
    this.#peers.delete(probe);
    probe.close();
    if (this.#peers.size === 0) this.#rest();
  }

  /** The link sends packets of another size from now on. */
  setMost(most: number): void {
    if (most === this.#most) return;
    this.#most = most;
    for (const peer of this.#peers) peer.mtu.reset(most);
  }

  close(): void {
    this.#rest();
    this.#closed.abort();
    for (const peer of this.#peers) peer.close();
    this.#peers.clear();
  }

  #rest(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
