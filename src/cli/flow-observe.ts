// What flow observe does: the records that are asked for, a line each; losses as they happen; until Ctrl-C with -f.

import type { Timestamp } from '../gen/google/protobuf/timestamp.ts';
import type { FlowBatch } from '../gen/taplane/v1/flow.ts';
import type { FlowFilter } from '../gen/taplane/v1/flow_service.ts';
import { ObserveFlowsRequest } from '../gen/taplane/v1/flow_service.ts';
import { UsageError } from './exit-code.ts';
import { flowLosses } from './flow-loss.ts';
import type { NatsFlags } from './flow-nats.ts';
import { flowPrinter } from './flow-print.ts';
import { ALL, flowAnswers, missedReason } from './flow-source.ts';
import { interruption } from './interruption.ts';
import { message } from './output.ts';
import type { Settings } from './settings.ts';

const DEFAULT_LAST = 20n;
/** Records that are held until the newest of those that are there has come, so that columns need not grow between them. */
const ALIGNED = 200;

export interface ObserveOptions extends NatsFlags {
  follow?: boolean;
  first?: number;
  last?: number;
  all?: boolean;
  since?: Timestamp;
  until?: Timestamp;
  fields?: string[];
}

export interface Filters {
  allow: FlowFilter[];
  deny: FlowFilter[];
}

export async function observe(options: ObserveOptions, filters: Filters, settings: Settings): Promise<void> {
  const request = requestOf(options, filters);
  const printer = await flowPrinter(settings, options.fields ?? [], options.nats !== undefined);
  using interrupted = interruption();
  using losses = flowLosses(missedReason(options), message);
  let count = 0;
  // The first records are aligned with each other.
  let held: FlowBatch[] | undefined = [];
  const release = async (): Promise<void> => {
    const batches = held ?? [];
    held = undefined;
    await printer(batches);
  };
  try {
    for await (const answer of flowAnswers(request, options, settings, interrupted)) {
      losses.take(answer);
      const { batch } = answer;
      if (batch !== undefined && !interrupted.signal.aborted) {
        count += batch.flows.length;
        if (held === undefined) await printer([batch]);
        else held.push(batch);
      }
      if (held !== undefined && (answer.following || count >= ALIGNED)) await release();
    }
  } finally {
    if (held !== undefined) await release();
  }
  if (count > 0 || request.follow) return;
  message(
    options.nats === undefined
      ? 'nothing found; see what is metered: taplane flow stats'
      : 'nothing found; see whether the nodes publish: taplane node status, on each',
  );
}

/** Exported for tests. Throws UsageError for options that do not go together. */
export function requestOf(options: ObserveOptions, filters: Filters): ObserveFlowsRequest {
  const { follow = false, first, last, all, since, until, fields = [] } = options;
  if ([first, last, all].filter((given) => given !== undefined).length > 1)
    throw new UsageError('give only one of --first, --last and --all');
  if (first !== undefined && follow) throw new UsageError('--first takes the oldest records and ends: leave out --follow');
  if (first === 0 || (last === 0 && !follow)) throw new UsageError('give a number of records greater than 0');
  return ObserveFlowsRequest.fromPartial({
    ...filters,
    since,
    until,
    follow,
    first: BigInt(first ?? 0),
    last: lastOf(options),
    fieldMask: fields.length > 0 ? fields : undefined,
  });
}

/** With `follow`, 0 is none of those in memory; without, it is no limit. */
function lastOf({ follow, first, last, all, since, until }: ObserveOptions): bigint {
  if (last !== undefined) return BigInt(last);
  if (first !== undefined) return 0n;
  if (all || since !== undefined || until !== undefined) return follow ? ALL : 0n;
  return DEFAULT_LAST;
}
