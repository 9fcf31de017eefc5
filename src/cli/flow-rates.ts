// Rates of flows from their records. A record tells of the time since the record before it, up to a minute, so its rate holds until the next
// one comes, the flow ends, or it has been silent for too long. Bounded: when there is no room, the flow that was heard of longest ago goes.

import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import { type Flow, Flow_Event, type FlowBatch } from '../gen/taplane/v1/flow.ts';
import { destinationOf, protocolOf, sourceOf } from './flow-text.ts';

export const ORDERS = ['bytes', 'packets', 'flows'] as const;
export type Order = (typeof ORDERS)[number];

export interface Rate {
  node: string;
  interface: string;
  protocol: string;
  source: string;
  destination: string;
  /** A second. */
  bytes: number;
  packets: number;
  /** Flows between these two, 1 where rows are flows. */
  flows: number;
}

interface Entry {
  rate: Rate;
  endMs: number;
  heardMs: number;
  over: boolean;
}

const MAX_FLOWS = 50_000;
/** Three times the usual active timeout. */
const SILENT_MS = 180_000;
/** A flow of one packet has no length. */
const LEAST_MS = 1000;

export class Rates {
  readonly #entries = new Map<string, Entry>();

  /** `nowMs` is a clock of any beginning. What ended in the past was, and is not busy now. */
  take(batch: FlowBatch, nowMs: number, isPast = false): void {
    for (const flow of batch.flows) {
      if (flow.event === Flow_Event.OVERFLOW) continue;
      const before = this.#entries.get(flow.flowId);
      const endMs = milliseconds(flow.endTime);
      const spanMs = Math.max(LEAST_MS, endMs - (before?.endMs ?? milliseconds(flow.startTime)));
      const rate = rateOf(batch, flow, spanMs);
      // Put behind all others: the first is that which was heard of longest ago.
      this.#entries.delete(flow.flowId);
      if (isPast && flow.event === Flow_Event.END) continue;
      this.#entries.set(flow.flowId, { rate, endMs, heardMs: nowMs, over: flow.event === Flow_Event.END });
      if (this.#entries.size > MAX_FLOWS) this.#entries.delete(this.#entries.keys().next().value as string);
    }
  }

  /** The `most` busiest, and forgets those that are over. */
  top(by: Order, most: number, nowMs: number): Rate[] {
    const rates: Rate[] = [];
    for (const [id, { rate, heardMs, over }] of this.#entries) {
      if (nowMs - heardMs > SILENT_MS) this.#entries.delete(id);
      else rates.push(rate);
      if (over) this.#entries.delete(id);
    }
    const rows = by === 'flows' ? byPeers(rates) : rates;
    return rows.sort((a, b) => b[by] - a[by] || b.bytes - a.bytes).slice(0, most);
  }
}

function rateOf(batch: FlowBatch, flow: Flow, spanMs: number): Rate {
  const sampling = Math.max(1, flow.sampling);
  const perSecond = (forward = 0n, reverse = 0n): number => (Number(forward + reverse) * sampling * 1000) / spanMs;
  return {
    node: batch.node,
    interface: batch.interface,
    protocol: protocolOf(flow),
    source: sourceOf(flow),
    destination: destinationOf(flow),
    bytes: perSecond(flow.forward?.bytes, flow.reverse?.bytes),
    packets: perSecond(flow.forward?.packets, flow.reverse?.packets),
    flows: 1,
  };
}

/** Flows from the same address to the same service as one row. */
function byPeers(rates: readonly Rate[]): Rate[] {
  const rows = new Map<string, Rate>();
  for (const rate of rates) {
    const source = rate.source.replace(/^(?:\[(.*)\]|([^:]*)):\d+$/, '$1$2');
    const key = [rate.node, rate.interface, rate.protocol, source, rate.destination].join(' ');
    const row = rows.get(key);
    if (row === undefined) rows.set(key, { ...rate, source });
    else {
      row.bytes += rate.bytes;
      row.packets += rate.packets;
      row.flows += 1;
    }
  }
  return [...rows.values()];
}

function milliseconds(time: Timestamp | undefined): number {
  return time ? Number(time.seconds) * 1000 + time.nanos / 1e6 : 0;
}
