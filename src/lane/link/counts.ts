// What a link counts: traffic of the whole and of each peer, and what went nowhere. Plain numbers, exact up to 2^53.

import type { LinkDrops, LinkTraffic, LinkDrops_Reason as Reason } from '../../gen/taplane/v1/link.ts';

export class TrafficCount {
  receivedPackets = 0;
  receivedBytes = 0;
  sentPackets = 0;
  sentBytes = 0;

  received(bytes: number): void {
    this.receivedPackets++;
    this.receivedBytes += bytes;
  }

  /** Negative takes back what was counted. */
  sent(bytes: number, packets = 1): void {
    this.sentPackets += packets;
    this.sentBytes += bytes;
  }

  message(): LinkTraffic {
    return {
      receivedPackets: BigInt(this.receivedPackets),
      receivedBytes: BigInt(this.receivedBytes),
      sentPackets: BigInt(this.sentPackets),
      sentBytes: BigInt(this.sentBytes),
    };
  }
}

/** Of a whole link. */
export class LinkCounts extends TrafficCount {
  readonly #drops = new Map<Reason, number>();

  drop(reason: Reason, packets = 1): void {
    this.#drops.set(reason, (this.#drops.get(reason) ?? 0) + packets);
  }

  dropped(reason: Reason): number {
    return this.#drops.get(reason) ?? 0;
  }

  drops(): LinkDrops[] {
    return [...this.#drops].sort(([a], [b]) => a - b).map(([reason, packets]) => ({ reason, packets: BigInt(packets) }));
  }
}
