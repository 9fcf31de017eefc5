// What FlowService answers from: the ring for records, and the accounts of those who meter and export.

import { TaplaneError } from '../errors.ts';
import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import { Flow } from '../gen/taplane/v1/flow.ts';
import type { ExportStats, FlowStats, InterfaceFlowStats, IpfixStats, ObserveFlowsResponse } from '../gen/taplane/v1/flow_service.ts';
import { recordPlaces } from './batch-head.ts';
import type { Flows } from './contract.ts';
import { type Observation, observation } from './observation.ts';
import { observe } from './observe.ts';
import type { FlowRing } from './ring.ts';
import { Turns } from './turns.ts';

/** An observer that works costs a good part of a core; one that waits costs little. */
const MAX_OBSERVERS = 64;

export interface FlowsNeeds {
  ring: FlowRing;
  /** An entry for each interface that is metered. */
  interfaces: () => InterfaceFlowStats[];
  /** Undefined without NATS. */
  exported?: () => ExportStats | undefined;
  /** Undefined without a collector. */
  ipfix?: () => IpfixStats | undefined;
  maxObservers?: number;
  /** Date.now. */
  now?: () => number;
}

export interface OpenFlows extends Flows {
  /** Ends all observers, and those that come later: the agent stops. */
  end(): void;
}

export function openFlows({ ring, interfaces, exported, ipfix, maxObservers = MAX_OBSERVERS, now }: FlowsNeeds): OpenFlows {
  const ended = new AbortController();
  const turns = new Turns();
  let observers = 0;
  return {
    async *observe(request, signal, isVisible = () => true): AsyncGenerator<ObserveFlowsResponse> {
      const asked = observation(request);
      const wanted: Observation = { ...asked, test: (batch) => (isVisible(batch.interface) ? asked.test(batch) : undefined) };
      if (observers >= maxObservers)
        throw new TaplaneError('RESOURCE_EXHAUSTED', 'TOO_MANY_OBSERVERS', `observe flows: ${observers} observers are there already`, {
          metadata: { subject: 'observers', limit: String(maxObservers) },
        });
      observers++;
      try {
        yield* observe(ring, wanted, AbortSignal.any([signal, ended.signal]), turns, now);
      } finally {
        observers--;
      }
    },
    stats: (isVisible = () => true): FlowStats => ({
      interfaces: interfaces().filter(({ interface: name }) => isVisible(name.slice(name.indexOf('/') + 1))),
      ringRecords: BigInt(ring.records),
      ringBytes: BigInt(ring.bytes),
      oldestTime: oldestTime(ring),
      export: exported?.(),
      records: BigInt(ring.totals.records),
      lostRecords: ring.totals.lost,
      ipfix: ipfix?.(),
    }),
    end: () => ended.abort(),
  };
}

function oldestTime(ring: FlowRing): Timestamp | undefined {
  for (let number = ring.oldest; ; number++) {
    const batch = ring.at(number);
    if (batch === undefined) return undefined;
    const [start, end] = recordPlaces(batch.bytes);
    if (start === undefined) continue;
    try {
      return Flow.decode(batch.bytes.subarray(start, end)).startTime;
    } catch {
      // The next one may do.
    }
  }
}
