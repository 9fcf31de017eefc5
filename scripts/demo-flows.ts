// The demo's traffic, so that there are flows to look at: a few pings through its interface at once, then one every PAUSE_MS, each to the next
// address, since each is then a flow of its own. And the first flow as its record arrives, over gRPC and from NATS.

import { type ChildProcess, spawn } from 'node:child_process';
import { compactLines } from '../src/cli/flow-text.ts';
import { observeNats } from '../src/flow/nats-observer.ts';
import { ObserveFlowsRequest, type ObserveFlowsResponse } from '../src/gen/taplane/v1/flow_service.ts';
import type { TaplaneClient } from '../src/rpc/client.ts';

const FIRST_PINGS = 3;
const PAUSE_MS = 10_000;
/** Host parts of the addresses that are pinged in turn. */
const [FIRST_HOST, LAST_HOST] = [2, 9] as const;
const METER_MS = 10_000;
/** A record comes within about two seconds. */
const RECORD_MS = 8_000;

/** Pings in the background; nothing of it is left once `stop` has resolved. */
export interface Pings {
  /** The first are over. */
  first: Promise<void>;
  stop(): Promise<void>;
}

/** `program` is Debian's ping; `subnet` the first three octets. */
export function startPings(program: string, subnet: string): Pings {
  let running: ChildProcess | undefined;
  let ended: Promise<void> = Promise.resolve();
  const ping = (host: number, count: number): Promise<void> => {
    // It ends by itself also when the demo is killed.
    const child = spawn(program, ['-q', '-n', '-c', String(count), '-i', '0.01', '-W', '1', `${subnet}.${host}`], { stdio: 'ignore' });
    running = child;
    ended = new Promise((resolve) => {
      child.once('error', () => resolve());
      child.once('close', () => resolve());
    });
    return ended;
  };
  const first = ping(FIRST_HOST, FIRST_PINGS);
  let host: number = FIRST_HOST;
  const timer = setInterval(() => {
    host = host < LAST_HOST ? host + 1 : FIRST_HOST;
    void ping(host, 1);
  }, PAUSE_MS);
  return {
    first,
    async stop() {
      clearInterval(timer);
      running?.kill('SIGKILL');
      await ended;
    },
  };
}

/** Empty once flows of the interface are metered, else why they are not. */
export async function whyNotMetered(client: TaplaneClient, device: string, signal: AbortSignal): Promise<string> {
  const until = performance.now() + METER_MS;
  for (;;) {
    const { interfaces } = await client.flows.stats();
    const found = interfaces.find((one) => one.interface === `interfaces/${device}` || one.interface === device);
    if (found?.active || signal.aborted) return '';
    if (performance.now() > until) return found?.reason || 'metering is off';
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Where records come from: the agent, or the file with the address of a NATS server. */
export type FlowSource = TaplaneClient | string;

/** The first record of pings to an address, as a line; undefined when none came in time. */
export async function firstFlow(source: FlowSource, device: string, subnet: string, signal: AbortSignal): Promise<string | undefined> {
  const ip = [`${subnet}.${FIRST_HOST}`];
  const request = ObserveFlowsRequest.fromPartial({ follow: true, last: 1n, allow: [{ ip, protocol: [1], interface: [device] }] });
  const ending = AbortSignal.any([signal, AbortSignal.timeout(RECORD_MS)]);
  const nats = (mode: string) => observeNats({ nats: { mode }, timeoutMs: RECORD_MS, say: () => undefined }, request, ending);
  const answers: AsyncIterable<ObserveFlowsResponse> = typeof source === 'string' ? nats(source) : source.flows.observe(request, ending);
  try {
    for await (const { batch } of answers) {
      const flow = batch?.flows[0];
      if (batch && flow) return compactLines(false)({ batch, flow }).replace(/ +/g, ' ');
    }
  } catch {
    // What is not to be had is told as missing.
  }
  return undefined;
}
