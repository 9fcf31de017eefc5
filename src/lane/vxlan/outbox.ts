// Where frames for remotes are put together: each behind its vxlan header, one after the other, so that a train of one size goes out in one call.
//
//   | header 8 | piece | header 8 | piece | ... | header 8 | last piece, may be shorter |       all for one remote, or for all of them
//
// What is for another, or does not fit the train, sends off what stands there, so that the order is that of the device.

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import type { PieceSink } from '../../packet/cut.ts';
import { VXLAN_HEADER_BYTES, writeVxlanHeader } from '../../packet/vxlan-header.ts';
import type { UdpSocket } from '../../sys/udp-socket.ts';
import type { LinkCounts } from '../link/counts.ts';

import type { Remote, Remotes } from './remotes.ts';
import type { StormBucket } from './storm.ts';

/** Largest payload of a UDP datagram over IPv4, and of a train of them (65,535 less both headers, and less an IPv6 header that it may get). */
const TRAIN_MOST = 65_000;
/** Largest frame that is carried: its vxlan header is before it. */
export const FRAME_MOST = TRAIN_MOST - VXLAN_HEADER_BYTES;

export class Outbox implements PieceSink {
  readonly buffer = Buffer.allocUnsafeSlow(TRAIN_MOST);
  readonly #socket: UdpSocket;
  readonly #remotes: Remotes;
  readonly #counts: LinkCounts;
  readonly #storm: StormBucket;
  readonly #vni: number;
  /** Undefined: all remotes. */
  #target: Remote | undefined;
  #isLimited = false;
  #nowMs = 0;
  #filled = 0;
  #pieces = 0;
  #wireBytes = 0;
  /** The last piece was shorter: it ends the train. */
  #isEnded = false;
  /** Frames for which there was no room under the storm limit, since `aim`. */
  stormed = 0;

  constructor(socket: UdpSocket, remotes: Remotes, counts: LinkCounts, storm: StormBucket, vni: number) {
    this.#socket = socket;
    this.#remotes = remotes;
    this.#counts = counts;
    this.#storm = storm;
    this.#vni = vni;
  }

  /** What is placed from now on goes to `target`, undefined for all, and with `isLimited` only under the storm limit. */
  aim(target: Remote | undefined, isLimited: boolean, nowMs: number): void {
    if (target !== this.#target) this.flush();
    this.#target = target;
    this.#isLimited = isLimited;
    this.#nowMs = nowMs;
    this.stormed = 0;
  }

  place(bytes: number): number {
    if (bytes > FRAME_MOST) return -1;
    if (this.#isLimited && !this.#storm.take(this.#nowMs)) {
      this.stormed++;
      return -1;
    }
    const wire = bytes + VXLAN_HEADER_BYTES;
    if (this.#pieces > 0 && (this.#isEnded || wire > this.#wireBytes || this.#filled + wire > TRAIN_MOST)) this.flush();
    return this.#filled + VXLAN_HEADER_BYTES;
  }

  put(start: number, bytes: number): void {
    const wire = bytes + VXLAN_HEADER_BYTES;
    writeVxlanHeader(this.buffer, start - VXLAN_HEADER_BYTES, this.#vni);
    if (this.#pieces === 0) this.#wireBytes = wire;
    else if (wire < this.#wireBytes) this.#isEnded = true;
    this.#filled += wire;
    this.#pieces++;
  }

  /** Sends what stands there. */
  flush(): void {
    if (this.#pieces === 0) return;
    if (this.#target !== undefined) this.#sendTo(this.#target);
    else for (const remote of this.#remotes.list) this.#sendTo(remote);
    this.#filled = 0;
    this.#pieces = 0;
    this.#isEnded = false;
  }

  #sendTo(remote: Remote): void {
    let [wire, pieces] = [this.#filled, this.#pieces];
    if (this.#socket.send(remote.address, this.buffer, 0, this.#filled, this.#wireBytes) !== 0) {
      wire = this.#socket.sentBytes;
      pieces = wire / this.#wireBytes;
      this.#counts.drop(Drop.SOCKET, this.#pieces - pieces);
    }
    const bytes = wire - pieces * VXLAN_HEADER_BYTES;
    this.#counts.sentPackets += pieces;
    this.#counts.sentBytes += bytes;
    remote.traffic.sentPackets += pieces;
    remote.traffic.sentBytes += bytes;
  }
}
