// What must be known of a capture while it is written, so that it can be ended well from this side too: how many packets it holds, when the
// last was, the account so far, and whether the agent has ended it with drop counts already. Walks the blocks; keeps none.
//
// A capture of several spans becomes one file with one head: libpcap 1.10 does not read a second description of a raw IP interface. Of
// later spans the packets are kept, and the statistics at the end are of all. Pure.

import { Loss_Reason, type PacketBatch } from '../gen/taplane/v1/packet.ts';
import { interfaceStatistics } from '../packet/pcapng.ts';
import { sum, Totals } from './packet-account.ts';

const INTERFACE_STATISTICS = 5;
const ENHANCED_PACKET = 6;

export class CaptureTail {
  readonly totals = new Totals();
  packets = 0;
  /** Bytes of the packets that are kept, and of the file. */
  packetBytes = 0;
  bytes = 0;
  #startNs = 0n;
  #endNs = 0n;
  #goesOn = false;
  #isEnded = false;

  /** Answers what is to be written. `nowNs`: since 1970. */
  take(batch: PacketBatch, nowNs: bigint): Buffer {
    if (this.#startNs === 0n) this.#startNs = nowNs;
    if (batch.opened !== undefined && this.bytes > 0) {
      this.#goesOn = true;
      this.totals.begin();
    }
    this.totals.take(batch);
    const { pcapng } = batch;
    const packets: Buffer[] = [];
    for (let at = 0; at + 12 <= pcapng.length; ) {
      const type = pcapng.readUInt32LE(at);
      const next = at + Math.max(12, pcapng.readUInt32LE(at + 4));
      if (type === ENHANCED_PACKET) {
        this.#packet(pcapng, at);
        packets.push(pcapng.subarray(at, next));
      }
      this.#isEnded = type === INTERFACE_STATISTICS && !this.#goesOn;
      at = next;
    }
    const written = this.#goesOn ? Buffer.concat(packets) : pcapng;
    this.bytes += written.length;
    return written;
  }

  /** The block that is still missing at the end, empty when none is. */
  end(nowNs: bigint): Buffer {
    if (this.bytes === 0 || this.#isEnded) return Buffer.alloc(0);
    const { offered, filtered, sampledOut, dropped } = this.totals.all;
    // What the kernel had to drop nobody has seen, so it was not accepted.
    const unseen = sum(dropped.filter(({ reason }) => reason === Loss_Reason.KERNEL));
    return interfaceStatistics(0, {
      received: offered,
      accepted: offered - filtered - sampledOut - unseen,
      dropped: sum(dropped),
      startNs: this.#startNs,
      endNs: nowNs > this.#endNs ? nowNs : this.#endNs,
    });
  }

  /** The node's clock may be another: what the packets say is within the capture. */
  #packet(pcapng: Buffer, at: number): void {
    const timeNs = (BigInt(pcapng.readUInt32LE(at + 12)) << 32n) | BigInt(pcapng.readUInt32LE(at + 16));
    if (timeNs < this.#startNs) this.#startNs = timeNs;
    if (timeNs > this.#endNs) this.#endNs = timeNs;
    this.packets += 1;
    this.packetBytes += pcapng.readUInt32LE(at + 20);
  }
}
