// An observer of flow records for tests. It checks what holds for every record: numbers without a gap, totals that are the sum of what was
// told, nothing behind an end. `problems` holds what did not hold.

import { setTimeout as sleep } from 'node:timers/promises';
import { Flow_Event as Event, type Flow, type FlowBatch, Flow_EndReason as Reason, type Traffic } from '../../src/gen/taplane/v1/flow.ts';
import { type InterfaceFlowStats, ObserveFlowsRequest } from '../../src/gen/taplane/v1/flow_service.ts';
import { Direction } from '../../src/gen/taplane/v1/packet.ts';
import type { Agent } from './agent.ts';

/** Packets and bytes. */
export interface Amount {
  packets: number;
  bytes: number;
}
/** As the node sees it. */
export type Sums = Record<'inbound' | 'outbound', Amount>;

export interface Seen extends Flow {
  interface: string;
  uid: string;
  epoch: string;
  labels: Record<string, string>;
  /** When its batch was made, ms since 1970. */
  exportMs: number;
  /** When it came here, likewise. */
  cameMs: number;
}

/** Milliseconds since 1970. */
export const msOf = (time: { seconds: bigint; nanos: number } | undefined): number =>
  Number(time?.seconds ?? 0n) * 1000 + (time?.nanos ?? 0) / 1e6;

const amount = ({ packets = 0n, bytes = 0n }: Partial<Traffic> = {}): Amount => ({ packets: Number(packets), bytes: Number(bytes) });

export class FlowObserver implements AsyncDisposable {
  /** In the order in which they came. */
  readonly records: Seen[] = [];
  readonly problems: string[] = [];
  missed = 0;
  lost = 0;
  following = false;
  readonly #ending = new AbortController();
  readonly #done: Promise<void>;
  /** By epoch: number of its last record. */
  readonly #last = new Map<string, bigint>();
  /** By flow: what was told of it so far, and whether it is over. */
  readonly #told = new Map<string, { sums: bigint[]; over: boolean }>();

  private constructor(agent: Agent, request: Partial<ObserveFlowsRequest>) {
    this.#done = this.#run(agent, request);
  }

  /** Back once it follows. With `last` all that is in memory comes first. */
  static async follow(agent: Agent, request: Partial<ObserveFlowsRequest> = {}): Promise<FlowObserver> {
    const observer = new FlowObserver(agent, { follow: true, ...request });
    await observer.until(() => observer.following, 'the observer to follow');
    return observer;
  }

  of(name: string): Seen[] {
    return this.records.filter((record) => record.interface === name);
  }

  /** Packets and bytes of all records of an interface, as the device counts them. */
  sums(name: string, records = this.of(name)): Sums {
    const sums: Sums = { inbound: { packets: 0, bytes: 0 }, outbound: { packets: 0, bytes: 0 } };
    for (const { direction, forward, reverse } of records) {
      const [first, second] = direction === Direction.OUTBOUND ? [sums.outbound, sums.inbound] : [sums.inbound, sums.outbound];
      for (const [sum, part] of [
        [first, amount(forward)],
        [second, amount(reverse)],
      ] as const) {
        sum.packets += part.packets;
        sum.bytes += part.bytes;
      }
    }
    return sums;
  }

  /** Flows of an interface that were told of and have not ended. */
  open(name: string): string[] {
    const last = new Map(this.of(name).map((record) => [record.flowId, record.event]));
    return [...last].filter(([, event]) => event !== Event.END && event !== Event.OVERFLOW).map(([id]) => id);
  }

  async until(holds: () => boolean, what: string, timeoutMs = 20_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!holds()) {
      if (performance.now() > deadline)
        throw new Error(`wait for ${what}: not within ${timeoutMs} ms; ${this.records.length} records came`);
      await sleep(20);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#done;
  }

  async #run(agent: Agent, request: Partial<ObserveFlowsRequest>): Promise<void> {
    const client = agent.client();
    try {
      for await (const answer of client.flows.observe(ObserveFlowsRequest.fromPartial(request as object), this.#ending.signal)) {
        this.missed += Number(answer.missed);
        this.lost += Number(answer.lost);
        if (answer.batch !== undefined) this.#take(answer.batch);
        this.following ||= answer.following;
      }
    } catch (error) {
      this.problems.push(String(error));
    } finally {
      client.close();
    }
  }

  #take({ interface: name, interfaceUid: uid, epoch, labels, exportTime, flows }: FlowBatch): void {
    const cameMs = Date.now();
    for (const flow of flows) {
      const last = this.#last.get(epoch);
      if (last !== undefined && flow.sequence !== last + 1n) this.problems.push(`${name}: record ${flow.sequence} after ${last}`);
      this.#last.set(epoch, flow.sequence);
      this.#check(flow, epoch);
      this.records.push({ ...flow, interface: name, uid, epoch, labels, exportMs: msOf(exportTime), cameMs });
    }
  }

  #check({ flowId, event, endReason, sequence, forward, reverse }: Flow, epoch: string): void {
    const complain = (what: string): void => void this.problems.push(`record ${sequence} of ${epoch}: ${what}`);
    if (!flowId.startsWith(`${epoch}-`)) complain(`flow ${flowId}`);
    const told = this.#told.get(flowId) ?? { sums: [0n, 0n, 0n, 0n], over: false };
    if (told.over) complain(`comes after the end of ${flowId}`);
    const parts = [forward?.packets, forward?.bytes, reverse?.packets, reverse?.bytes].map((part) => part ?? 0n);
    const totals = [forward?.totalPackets, forward?.totalBytes, reverse?.totalPackets, reverse?.totalBytes].map((total) => total ?? 0n);
    told.sums = told.sums.map((sum, index) => sum + (parts[index] as bigint));
    if (told.sums.join() !== totals.join()) complain(`${flowId} says ${totals} in all, told were ${told.sums}`);
    told.over = event === Event.END;
    if (told.over !== ([Reason.IDLE_TIMEOUT, Reason.END_OF_FLOW, Reason.FORCED_END] as number[]).includes(endReason))
      complain(`event ${event} for reason ${endReason}`);
    this.#told.set(flowId, told);
  }
}

/** What the agent says of the meter of an interface. */
export async function meterStats(agent: Agent, name: string): Promise<InterfaceFlowStats> {
  const client = agent.client();
  try {
    const { interfaces } = await client.flows.stats();
    const found = interfaces.find((each) => each.interface === `interfaces/${name}`);
    if (found === undefined) throw new Error(`flow stats: nothing of ${name}: ${interfaces.map((each) => each.interface)}`);
    return found;
  } finally {
    client.close();
  }
}
