// What the flow room takes and promises.
//
//   lanes --FlowBatch in bytes--> agent --put--> ring (queries)
//                                   '-----put--> exporter: spool --ack--> lanes may forget; publisher --> NATS
//
// A batch is in the ring once `put` returns, and on disk once the exporter's does: only then it is acknowledged to its lane, so that an
// agent that dies loses none. Batches may come twice, after an agent died between disk and acknowledgement; the exporter tells by `id`.

import type { ExportStats, FlowStats, ObserveFlowsRequest, ObserveFlowsResponse } from '../gen/taplane/v1/flow_service.ts';
import type { TraceHeaders } from '../tracing/span.ts';

/** A message for NATS: a batch of flow records, or an event. */
export interface Outgoing {
  kind: 'flow' | 'event';
  /** Last token of its subject before escaping: kernel name of the interface, or kind of the event. */
  name: string;
  /** The same for the same message, for ever and everywhere: `<epoch>:<first sequence>`. Becomes `Nats-Msg-Id`. */
  id: string;
  /** 16 hexadecimal digits: the run of the meter, or of the agent. */
  epoch: string;
  /** Number of its first record, or of the event. */
  firstSequence: bigint;
  /** How many records, lost ones that it tells of included: the next message of the epoch begins behind them. 1 for an event. */
  records: number;
  /** `taplane.v1.FlowBatch` or `taplane.v1.Event` in bytes (*transfers*). */
  payload: Uint8Array;
  /** Of the span that it was made in. Not kept on disk. */
  trace?: TraceHeaders | undefined;
}

/** Carries messages to NATS, at least once and in order for each subject; what it had to drop it tells of in their place. */
export interface Exporter {
  /** On disk once it returns, all or none; a message whose id is known is skipped. Never waits for NATS. Throws when the disk fails. */
  put(messages: readonly Outgoing[]): void;
  stats(): ExportStats;
  /** Publishes what it can within `graceMs`, and closes. The rest stays for the next agent. */
  close(graceMs: number): Promise<void>;
}

/** What FlowService answers from. */
export interface Flows {
  /**
   * Ends with the request or when `signal` aborts. Throws TaplaneError for a bad request, before the first answer. `isVisible` is asked for the
   * interface of each batch, by kernel name; of what it denies nothing is told, and nothing counts.
   */
  observe(request: ObserveFlowsRequest, signal: AbortSignal, isVisible?: (id: string) => boolean): AsyncIterable<ObserveFlowsResponse>;
  /** With the interfaces that `isVisible` lets through; what is counted for all together is told whole. */
  stats(isVisible?: (id: string) => boolean): FlowStats;
}
