// Where flow records come from: the agent, over as many connections as it takes, or NATS, for the whole cluster.

import type { FlowBatch } from '../gen/taplane/v1/flow.ts';
import type { ObserveFlowsRequest, ObserveFlowsResponse } from '../gen/taplane/v1/flow_service.ts';
import type { ClientError } from '../rpc/client.ts';
import { firstAnswer } from './first-answer.ts';
import { type NatsFlags, natsTarget } from './flow-nats.ts';
import type { Interruption } from './interruption.ts';
import { message } from './output.ts';
import { Reconnection } from './reconnection.ts';
import { connectOptions, type Settings } from './settings.ts';
import { printable } from './table.ts';

export const ALL = 2n ** 64n - 1n;
const MAX_EPOCHS = 4096;

/** Why records may be missed, for people. */
export function missedReason({ nats }: NatsFlags): string {
  return nats === undefined ? 'this client read too slowly' : 'they did not come through NATS';
}

export function flowAnswers(
  request: ObserveFlowsRequest,
  flags: NatsFlags,
  settings: Settings,
  interrupted: Interruption,
): AsyncIterable<ObserveFlowsResponse> {
  const target = natsTarget(flags);
  return target === undefined ? fromAgent(request, settings, interrupted) : fromNats(request, target, settings, interrupted.signal);
}

async function* fromNats(
  request: ObserveFlowsRequest,
  nats: NonNullable<ReturnType<typeof natsTarget>>,
  { timeout }: Settings,
  signal: AbortSignal,
): AsyncGenerator<ObserveFlowsResponse> {
  const { observeNats } = await import('../flow/nats-observer.ts');
  // What a server says is text of others.
  const say = (line: string): void => message(printable(line));
  yield* observeNats({ nats, timeoutMs: timeout, say }, request, signal);
}

/**
 * A stream that follows survives the loss of its connection: what the agent still has in memory is asked for again, and what came before
 * is passed over. What an agent that was restarted never had is unknown.
 */
async function* fromAgent(
  request: ObserveFlowsRequest,
  settings: Settings,
  interrupted: Interruption,
): AsyncGenerator<ObserveFlowsResponse> {
  const { signal } = interrupted;
  const reconnection = new Reconnection(signal, message, 'resuming');
  const seen = new Seen();
  let asked = request;
  while (!signal.aborted) {
    const failure: { error?: ClientError } = {};
    for await (const answer of oneConnection(asked, settings, signal, failure)) {
      reconnection.connected();
      const batch = answer.batch && seen.pass(answer.batch);
      yield { ...answer, batch };
    }
    // An agent that stops in order ends its streams without an error; one that follows has an end of its own only with `until`.
    if (failure.error === undefined && !followsOn(request, signal)) return;
    const { error = Object.assign(new Error('observe flows: the agent ended the stream'), { code: 'UNAVAILABLE' as const }) } = failure;
    if (!request.follow || !(await reconnection.again(error))) throw error;
    asked = { ...request, last: ALL };
  }
}

async function* oneConnection(
  request: ObserveFlowsRequest,
  settings: Settings,
  signal: AbortSignal,
  failure: { error?: ClientError },
): AsyncGenerator<ObserveFlowsResponse> {
  const { connect } = await import('../rpc/client.ts');
  await using client = connect(settings.server, connectOptions(settings));
  using answer = firstAnswer('observe flows', settings, () => client.close());
  try {
    for await (const response of client.flows.observe(request, signal)) {
      answer.came();
      yield response;
    }
  } catch (error) {
    failure.error = error as ClientError;
    return;
  }
  await answer.check();
}

function followsOn({ follow, until }: ObserveFlowsRequest, signal: AbortSignal): boolean {
  return follow && !signal.aborted && (until === undefined || Number(until.seconds) * 1000 > Date.now());
}

/** Numbers of the last records of each run of a meter. */
class Seen {
  readonly #last = new Map<string, bigint>();

  /** The batch without the records that were passed already. */
  pass(batch: FlowBatch): FlowBatch {
    const last = this.#last.get(batch.epoch) ?? 0n;
    const flows = batch.flows.filter(({ sequence }) => sequence > last);
    const newest = flows.at(-1)?.sequence;
    if (newest !== undefined) {
      this.#last.delete(batch.epoch);
      this.#last.set(batch.epoch, newest);
      if (this.#last.size > MAX_EPOCHS) this.#last.delete(this.#last.keys().next().value as string);
    }
    return { ...batch, flows };
  }
}
