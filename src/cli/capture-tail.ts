// What must be known of a capture while it is written, so that it can be ended well from this side too: how many packets it holds, when the
// last was, the account so far, and whether the agent has ended it with drop counts already. Walks the blocks; keeps none. Pure.

import { Loss_Reason, type PacketBatch } from '../gen/taplane/v1/packet.ts';
import { interfaceStatistics } from '../packet/pcapng.ts';
import { sum, Totals } from './packet-account.ts';

const INTERFACE_STATISTICS = 5;
const ENHANCED_PACKET = 6;

export class CaptureTail {
  readonly totals = new Totals();
  packets = 0;
  /** Bytes of the file. */
  bytes = 0;
  #startNs = 0n;
  #endNs = 0n;
  #last = 0;

  /** `nowNs`: since 1970. */
  take(batch: PacketBatch, nowNs: bigint): void {
    if (this.#startNs === 0n) this.#startNs = nowNs;
    this.totals.take(batch);
    const { pcapng } = batch;
    this.bytes += pcapng.length;
    for (let at = 0; at + 12 <= pcapng.length; ) {
      this.#last = pcapng.readUInt32LE(at);
      if (this.#last === ENHANCED_PACKET) this.#packet(pcapng, at);
      at += Math.max(12, pcapng.readUInt32LE(at + 4));
    }
  }

  /** The block that is still missing at the end, empty when none is. */
  end(nowNs: bigint): Buffer {
    if (this.#last === 0 || this.#last === INTERFACE_STATISTICS) return Buffer.alloc(0);
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
  }
}
