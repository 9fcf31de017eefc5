// One peer: its endpoint, its handshakes, its sessions, and the frames that wait for one (whitepaper sections 2.1, 5 and 6).
//
//            .--- frame to send, keepalive due ---------> INITIATING --response--------------.
//            |                                            |   ^  |                           v
//          IDLE <--- not answered for 90 s ---------------'   |  '- again every 5 s        CURRENT (initiator; confirmed by what is sent next)
//            |  <--- 540 s without a new session ---.         |                              |
//            |                                      |         |-- renew: 120 s old,   <------|  data goes under it until it is 180 s old;
//            |                                      |         |   sent without answer        |  the one before it is still taken
//            '--- initiation came, answered --> NEXT (responder) --first packet under it--> CURRENT (responder; does not renew by time)
//
// Handshakes of both directions may run at once, and an old session goes on meanwhile. Only what authenticates changes anything here; the
// endpoint is wherever the last such packet came from that cannot be a repetition.

import type { Timestamp } from '../../gen/google/protobuf/timestamp.ts';
import { LinkDrops_Reason as Drop, type LinkPeerStatus } from '../../gen/taplane/v1/link.ts';
import type { SocketAddress } from '../../sys/socket-address.ts';
import { copySocketAddress, formatSocketAddress, parseSocketAddress, sameSocketAddress } from '../../sys/socket-address.ts';
import { TrafficCount } from '../link/counts.ts';
import { packetsOf } from '../link/super-frame.ts';
import type { Sleeper } from './alarm.ts';
import type { OpenedInitiation } from './noise.ts';
import { PeerHandshake } from './peer-handshake.ts';
import type { PeerLink } from './peer-link.ts';
import type { PeerSetup } from './peer-setup.ts';
import { Session, Sessions } from './session.ts';
import { KEEPALIVE_TIMEOUT_MS, PeerTimers, REJECT_AFTER_MS, REKEY_TIMEOUT_MS, type TimerActions } from './timers.ts';
import { WaitingFrames } from './waiting-frames.ts';

/** A session of this age that something comes under is renewed, though nothing is sent. */
const LATE_RENEWAL_MS = REJECT_AFTER_MS - KEEPALIVE_TIMEOUT_MS - REKEY_TIMEOUT_MS;
export class Peer implements Sleeper, TimerActions {
  readonly publicKey: Buffer;
  readonly traffic = new TrafficCount();
  isWaiting = false;
  /** Where it is; undefined as long as nobody knows. */
  endpoint: SocketAddress | undefined;
  /** Bytes of the largest inner packet that the path is known to take; 0: not known. */
  pathMtu = 0;
  readonly #link: PeerLink;
  readonly #timers: PeerTimers;
  readonly #sessions: Sessions;
  readonly #frames: WaitingFrames;
  readonly #handshake: PeerHandshake;
  #setup: PeerSetup;
  /** Or of a response, which an initiation of ours is not to cross. */
  #lastInitiationAt = Number.NEGATIVE_INFINITY;
  #isLateRenewed = false;
  /** Milliseconds since 1970; 0: never. */
  #handshakeTimeMs = 0;
  #handshakes = 0n;
  #lastReceivedAt = Number.NEGATIVE_INFINITY;

  constructor(link: PeerLink, setup: PeerSetup, now: number) {
    this.publicKey = setup.publicKey;
    this.#link = link;
    this.#setup = setup;
    this.#timers = new PeerTimers(link.random);
    this.#frames = new WaitingFrames(link.room);
    this.#sessions = new Sessions(({ localIndex }) => link.indices.release(localIndex));
    this.#handshake = new PeerHandshake(link, setup.publicKey, setup.presharedKey);
    this.endpoint = parseSocketAddress(setup.endpoint);
    this.#timers.setPersistentKeepalive(setup.keepaliveMs, now);
    link.watch(this);
  }

  /** As people and flows name it. */
  get displayName(): string {
    return this.#setup.displayName;
  }

  /** As it is declared. */
  get declaredEndpoint(): string {
    return this.#setup.endpoint;
  }

  get wakeAt(): number {
    return this.#timers.next;
  }

  /** It is declared again: sessions stay as they are, another preshared key is for the next handshake, which is now. */
  configure(setup: PeerSetup, now: number): void {
    const before = this.#setup;
    this.#setup = setup;
    if (setup.endpoint !== before.endpoint) this.endpoint = parseSocketAddress(setup.endpoint) ?? this.endpoint;
    if (!setup.presharedKey.equals(before.presharedKey)) {
      const isInUse = this.#isInUse;
      this.#handshake.setPresharedKey(setup.presharedKey);
      if (isInUse) this.#begin(now);
    }
    this.#timers.setPersistentKeepalive(setup.keepaliveMs, now);
    this.#link.watch(this);
  }

  /** This end has another key: nothing of before is worth anything. */
  reset(now: number): void {
    const isInUse = this.#isInUse;
    this.#sessions.clear();
    this.#handshake.reset();
    this.#timers.clear();
    if (isInUse) this.#begin(now);
  }

  /** The session to send under; undefined: there is none yet. */
  session(now: number): Session | undefined {
    const { current } = this.#sessions;
    return current?.maySend(now) === true ? current : undefined;
  }

  isUp(now: number): boolean {
    return this.#sessions.current?.mayReceive(now) === true;
  }

  /** A frame behind its virtio header, for which there is no session (*copies*). */
  hold(bytes: Buffer, start: number, length: number, now: number): void {
    if (this.endpoint === undefined || this.#handshake.obstacle !== '') {
      this.#link.drop(Drop.NOT_CONNECTED, packetsOf(bytes, start, length));
      return;
    }
    const lost = this.#frames.add(bytes, start, length);
    if (lost > 0) this.#link.drop(Drop.NOT_CONNECTED, lost);
    this.#initiate(now);
  }

  /** Something was sent under `session`; data, or a keepalive. */
  sent(session: Session, now: number, isData: boolean): void {
    this.#timers.sent(now, isData);
    if (session.isDue(now)) this.#initiate(now);
    this.#link.watch(this);
  }

  /** Something has authenticated under `session`; data, or a keepalive. */
  received(session: Session, from: SocketAddress, now: number, isData: boolean): void {
    this.#hear(from, now, isData);
    if (this.#sessions.confirm(session)) this.#complete(session, now);
    if (session.isInitiator && session === this.#sessions.current && !this.#isLateRenewed && now - session.bornAt >= LATE_RENEWAL_MS) {
      this.#isLateRenewed = true;
      this.#initiate(now);
    }
    this.#link.watch(this);
  }

  /** An initiation that names this peer. Answers 0, or why it was dropped. */
  takeInitiation(message: Buffer, opened: OpenedInitiation, from: SocketAddress, now: number): Drop {
    const answer = this.#handshake.answer(message, opened, now);
    if (typeof answer === 'number') return answer;
    this.#lastInitiationAt = now;
    this.#add(new Session(this, answer.index, opened.sender, false, now, answer.keys), now);
    // Not followed yet: after a restart nobody knows whether it is one of before. What comes under its session tells.
    this.endpoint ??= copySocketAddress(from);
    this.#sendMessage(answer.response, from, now);
    return Drop.UNSPECIFIED;
  }

  /** A response to the initiation with this index. Answers 0, or why it was dropped. */
  takeResponse(message: Buffer, index: number, sender: number, from: SocketAddress, now: number): Drop {
    const keys = this.#handshake.complete(message, index);
    if (keys === undefined) return Drop.UNAUTHENTICATED;
    const session = new Session(this, index, sender, true, now, keys);
    this.#add(session, now);
    this.#hear(from, now, false);
    this.#complete(session, now);
    this.#sendWaiting(session, now);
    // Whatever it is, the first packet lets the other end send too.
    if (!session.isUsed) this.#link.sendEmpty(this, session, now);
    this.#link.watch(this);
    return Drop.UNSPECIFIED;
  }

  /** A cookie for the last handshake message that was sent. False when it is none. */
  takeCookie(reply: Buffer, now: number): boolean {
    return this.#handshake.takeCookie(reply, now);
  }

  wake(now: number): void {
    this.#timers.run(now, this);
  }

  /** A handshake before anything is sent, where it is known where to. */
  greet(now: number): void {
    if (this.endpoint !== undefined && this.session(now) === undefined) this.#initiate(now);
  }

  retry(now: number): void {
    this.#initiate(now, true);
  }

  giveUp(): void {
    this.#handshake.drop();
    this.#dropFrames();
  }

  renew(now: number): void {
    this.#initiate(now);
  }

  keepalive(now: number): void {
    const session = this.session(now);
    if (session === undefined) this.#initiate(now);
    else this.#link.sendEmpty(this, session, now);
  }

  forgetKeys(): void {
    this.#sessions.clear();
    this.#handshake.drop();
  }

  close(): void {
    this.forgetKeys();
    this.#dropFrames();
    this.#timers.clear();
  }

  state(now: number): LinkPeerStatus {
    const up = this.isUp(now);
    const heardMs = Number.isFinite(this.#lastReceivedAt) ? this.#link.wallClock() - (now - this.#lastReceivedAt) : 0;
    return {
      endpoint: this.endpoint === undefined ? '' : formatSocketAddress(this.endpoint),
      publicKey: this.publicKey,
      displayName: this.#setup.displayName,
      up,
      lastHandshakeTime: timestampOf(this.#handshakeTimeMs),
      lastReceivedTime: timestampOf(heardMs),
      roundTrip: undefined,
      loss: 0,
      pathMtu: this.pathMtu,
      traffic: this.traffic.message(),
      reason: up ? '' : this.#reason(now),
      handshakes: this.#handshakes,
    };
  }

  #reason(now: number): string {
    const { knownObstacle, waitingSince } = this.#handshake;
    if (knownObstacle !== '') return knownObstacle;
    if (this.endpoint === undefined) return 'no endpoint is known: the peer has to speak first';
    const handshake = this.#handshakeTimeMs === 0 ? 'no handshake yet' : 'there is no session any more';
    if (waitingSince === undefined) return `${handshake}; nothing is to be sent`;
    return `${handshake}; last initiation ${Math.floor((now - waitingSince) / 1000)} s ago was not answered`;
  }

  get #isInUse(): boolean {
    return this.#sessions.current !== undefined || this.#handshake.waitingSince !== undefined || this.#frames.size > 0;
  }

  /** Initiates, however short ago the last one was. */
  #begin(now: number): void {
    this.#lastInitiationAt = Number.NEGATIVE_INFINITY;
    this.#initiate(now);
  }

  #initiate(now: number, isRetry = false): void {
    if (!isRetry) this.#timers.restartAttempts();
    if (this.endpoint === undefined) return;
    if (now - this.#lastInitiationAt < REKEY_TIMEOUT_MS) {
      this.#timers.retryFrom(this.#lastInitiationAt);
      this.#link.watch(this);
      return;
    }
    const message = this.#handshake.begin(this, now);
    if (message === undefined) return;
    this.#lastInitiationAt = now;
    this.#timers.initiated(now);
    this.#sendMessage(message, this.endpoint, now);
  }

  #sendMessage(message: Buffer, to: SocketAddress, now: number): void {
    this.#timers.sent(now, false);
    this.#link.send(to, message);
    this.#link.watch(this);
  }

  /** A handshake is done on this side, by a message from there. */
  #add(session: Session, now: number): void {
    this.#link.indices.setSession(session);
    this.#sessions.add(session);
    this.#timers.derived(now);
  }

  /** It has authenticated: here it is. */
  #hear(from: SocketAddress, now: number, isData: boolean): void {
    if (this.endpoint === undefined || !sameSocketAddress(this.endpoint, from)) this.endpoint = copySocketAddress(from);
    this.#lastReceivedAt = now;
    this.#timers.received(now, isData);
  }

  /** Both ends have the session. */
  #complete(session: Session, now: number): void {
    this.#handshakeTimeMs = this.#link.wallClock();
    this.#handshakes += 1n;
    this.#isLateRenewed = false;
    this.#timers.completed();
    if (!session.isInitiator) this.#sendWaiting(session, now);
  }

  #sendWaiting(session: Session, now: number): void {
    if (this.#frames.size > 0) this.#link.sendFrames(this, session, this.#frames.drain(), now);
  }

  #dropFrames(): void {
    const count = this.#frames.drain().reduce((sum, frame) => sum + packetsOf(frame, 0, frame.length), 0);
    if (count > 0) this.#link.drop(Drop.NOT_CONNECTED, count);
  }
}

/** Of milliseconds since 1970; 0: never. */
function timestampOf(ms: number): Timestamp | undefined {
  if (ms === 0) return undefined;
  const seconds = Math.floor(ms / 1000);
  return { seconds: BigInt(seconds), nanos: Math.floor((ms - seconds * 1000) * 1e6) };
}
