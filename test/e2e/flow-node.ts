// A node whose flows go to NATS, for end-to-end tests: a namespace with an interface, an agent, nats-server on a store that outlives it, and
// many short flows; and the judgement that must hold in the end, whatever was done meanwhile.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { inspect, isDeepStrictEqual } from 'node:util';
import { expect } from 'vitest';
import { FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import type { FlowStats, InterfaceFlowStats } from '../../src/gen/taplane/v1/flow_service.ts';
import { ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { type Judged, judge } from '../flow/stream-reader.ts';
import { type Agent, type AgentOptions, startAgent } from '../harness/agent.ts';
import { stopLanes } from '../harness/lanes.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import type { Child } from '../harness/process.ts';
import { readStream, type Server, startServer } from '../harness/raw-nats.ts';
import { counters } from '../harness/traffic.ts';
import { natsBinary } from '../nats/real-nats.ts';
import { creation, type PartialSpec, TUN } from './specs.ts';

export const DEVICE = 'f0';
/** Sends back what comes, and answers pings, behind this. */
export const ECHO = '10.96.255.9';
export const FLOW_SPEC: PartialSpec = {
  mode: TUN,
  up: true,
  addresses: [{ cidr: '10.96.0.1/16' }],
  sysctls: { 'ipv6/disable_ipv6': '1' },
  txQueueLength: 10_000,
  responders: [
    { id: 'reflect', kind: ResponderSpec_Kind.REFLECT, addresses: ['10.96.0.0/17'] },
    { id: 'echo', kind: ResponderSpec_Kind.ICMP_ECHO, addresses: [ECHO] },
  ],
};

export interface FlowNodeOptions {
  env?: Record<string, string>;
  /** More arguments of the agent. */
  args?: string[];
  /** Address of NATS for the agent; with `embedded` the agent brings its own server. */
  nats?: string;
  /** Where the server runs and how it is reached; in the namespace of the agent without. */
  server?: { ns: Namespace; address: string };
  ns?: Namespace;
}

/** Everything runs once it is there. */
export async function startFlowNode(options: FlowNodeOptions = {}): Promise<FlowNode> {
  const node = new FlowNode(options);
  try {
    await node.start();
  } catch (error) {
    await node[Symbol.asyncDispose]();
    throw error;
  }
  return node;
}

export class FlowNode implements AsyncDisposable {
  readonly ns: Namespace;
  readonly folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-nats-`));
  readonly store = join(this.folder, 'store');
  agent!: Agent;
  readonly #options: FlowNodeOptions;
  #server: Child | undefined;

  constructor(options: FlowNodeOptions) {
    this.#options = options;
    this.ns = options.ns ?? createNamespace();
  }

  async start(): Promise<void> {
    const { env = {}, args = [], nats = 'nats://127.0.0.1:4222' } = this.#options;
    if (nats !== 'embedded') await this.startNats();
    const quick = { TAPLANE_FLOWS_IDLE_TIMEOUT: '1' };
    const agent: AgentOptions = { namespace: this.ns, args: ['--nats', nats, ...args], env: { ...quick, ...env } };
    this.agent = await startAgent(agent);
    await this.agent.client().interfaces.create(creation(DEVICE, FLOW_SPEC));
    await becomes(async () => (await this.meter())?.active, true);
  }

  /** Where its API is asked by raw sockets. */
  get #where(): { ns: Namespace; at: Server } {
    const { server } = this.#options;
    return { ns: server?.ns ?? this.ns, at: server ? { address: server.address } : {} };
  }

  /** Starts the server on the store as it is. */
  async startNats(...more: string[]): Promise<void> {
    await this.startNatsAs(this.store, ...more);
  }

  /** The same with another store, or with none. */
  async startNatsAs(store: string | undefined, ...more: string[]): Promise<void> {
    const { ns, at } = this.#where;
    const options = {
      binary: natsBinary as string,
      more,
      ...(store !== undefined && { store }),
      ...(at.address && { address: at.address }),
    };
    this.#server = await startServer(ns, options);
  }

  async stopNats(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    this.#server?.kill(signal);
    await this.#server?.ended;
  }

  signalNats(signal: NodeJS.Signals): void {
    this.#server?.kill(signal);
  }

  async stats(): Promise<FlowStats> {
    const client = this.agent.client();
    try {
      return await client.flows.stats();
    } finally {
      client.close();
    }
  }

  async meter(): Promise<InterfaceFlowStats | undefined> {
    return (await this.stats()).interfaces.find(({ interface: name }) => name.endsWith(DEVICE));
  }

  /** Waits until no flow goes on and no message waits. */
  async settled(): Promise<FlowStats> {
    const open = async (): Promise<Record<string, unknown>> => {
      const stats = await this.stats();
      const { totals } = stats.interfaces[0] ?? {};
      const { spooledMessages, reason } = stats.export ?? {};
      const unseen = this.onDevice() - Number(totals?.seenPackets ?? 0n) - Number(totals?.droppedFrames ?? 0n);
      return { flows: totals?.activeFlows, inTable: totals?.inTablePackets, unseen, spooledMessages, reason };
    };
    await becomes(open, { flows: 0n, inTable: 0n, unseen: 0, spooledMessages: 0n, reason: '' });
    return this.stats();
  }

  /** Packets that the device itself has counted, those included that found no room behind those who watch. */
  onDevice(): number {
    const { rxPackets, txPackets, txDropped } = counters(this.ns, DEVICE);
    return rxPackets + txPackets + txDropped;
  }

  /** The stream of flows as it is on the server. */
  async stream(): Promise<Awaited<ReturnType<typeof readStream>>> {
    const { ns, at } = this.#where;
    return readStream(ns, 'TAPLANE_FLOWS', at);
  }

  /**
   * What is in the stream: throws when a record is missing without being told of or is there twice, when packets in records are not those
   * of the totals, or these not those of the device. The one epoch has as many records as the agent says.
   */
  async judged(): Promise<Judged & { packets: number; dropped: number; last: number }> {
    const stats = await this.settled();
    const messages = await this.stream();
    const judged = judge(messages);
    const [meter] = stats.interfaces;
    const { epoch = '', records = 0n } = meter ?? {};
    expect(judged.next).toEqual({ [epoch]: Number(records) + 1 });
    const batches = messages.map(({ payload }) => FlowBatch.decode(payload));
    const flows = batches.flatMap(({ flows }) => flows);
    const packets = flows.reduce((sum, { forward, reverse }) => sum + Number((forward?.packets ?? 0n) + (reverse?.packets ?? 0n)), 0);
    const { totals } = batches.findLast(({ totals }) => totals !== undefined) ?? {};
    const told = [totals?.recordedPackets, totals?.inTablePackets, totals?.sampledOutPackets, totals?.seenPackets].map(Number);
    const [recorded = 0, inTable = 0, sampledOut = 0, seen = 0] = told;
    const dropped = Number(totals?.droppedFrames);
    expect(seen).toBe(recorded + inTable + sampledOut);
    expect(seen + dropped).toBe(this.onDevice());
    const lost = Object.values(judged.lost).reduce((sum, count) => sum + count, 0);
    if (lost === 0) expect(packets).toBe(recorded);
    else expect(packets).toBeLessThan(recorded);
    expect(judged.records + lost).toBe(Number(records));
    return { ...judged, packets, dropped, last: Number(records) };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.agent !== undefined) {
      // In order, so that a server of its own goes too.
      if (this.#options.nats === 'embedded') await this.agent.stop().catch(() => undefined);
      await stopLanes(this.agent);
      await this.agent[Symbol.asyncDispose]();
    }
    await this.#server?.[Symbol.asyncDispose]();
    this.ns[Symbol.dispose]();
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Datagrams to ports and addresses of which each is used once: a flow of two packets each, since they come back. Ends with its input. */
const TRAFFIC = `
import select, socket, sys, time
rate, most, first = map(int, sys.argv[1:])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('10.96.0.1', 0))
s.setblocking(False)
begun, n = time.time(), 0
while n < most:
    where = first + n
    s.sendto(b'x' * 60, ('10.96.%d.9' % (1 + where // 50000 % 120), 10000 + where % 50000))
    n += 1
    try:
        while True: s.recv(100)
    except BlockingIOError: pass
    ahead = begun + n / rate - time.time()
    if ahead > 0 and select.select([sys.stdin], [], [], ahead)[0]: break
print(n, flush=True)
`;

export interface ShortFlows extends AsyncDisposable {
  /** Answers how many there were. */
  stop(): Promise<number>;
  ended: Promise<number>;
}

/** Short flows until it is stopped, or `most` of them; `first` so that no flow comes a second time. */
export function shortFlows(ns: Namespace, rate: number, { most = 5_000_000, first = 0 } = {}): ShortFlows {
  const child = ns.spawn(['/usr/bin/python3', '-u', '-c', TRAFFIC, String(rate), String(most), String(first)]);
  let isOver = false;
  const ended = child.ended.then(({ code, stdout, stderr }) => {
    if (code !== 0 && !isOver) throw new Error(`short flows: ${stderr}`);
    return Number(stdout.trim());
  });
  return {
    ended,
    stop() {
      child.stdin.end();
      return ended;
    },
    async [Symbol.asyncDispose]() {
      isOver = true;
      await child[Symbol.asyncDispose]();
    },
  };
}

/** Reads until it is so; throws with what it is after a minute. */
export async function becomes<Value>(read: () => Promise<Value>, wanted: Value | ((value: Value) => boolean)): Promise<Value> {
  const isSo = (value: Value): boolean => (wanted instanceof Function ? wanted(value) : isDeepStrictEqual(value, wanted));
  for (const until = performance.now() + 60_000; ; await sleep(100)) {
    const value = await read();
    if (isSo(value)) return value;
    if (performance.now() > until)
      throw new Error(`is ${inspect(value)}, and not ${wanted instanceof Function ? wanted : inspect(wanted)}`);
  }
}
