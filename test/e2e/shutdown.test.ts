// SIGTERM under streams and load: health says so first, connections are told (GOAWAY), the process ends with 0 in time, what was answered is there
// afterwards, and so is every message for NATS. And a start without a spool.

import { rmSync, writeFileSync } from 'node:fs';
import { type ClientHttp2Session, connect as connectHttp2 } from 'node:http2';
import { createRequire } from 'node:module';
import { connect as connectSocket } from 'node:net';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { expect, it } from 'vitest';
import { readHead } from '../../src/audit/files.ts';
import { verifyPath } from '../../src/audit/verify.ts';
import { Spool } from '../../src/flow/spool.ts';
import { Event, Event_Kind as Kind } from '../../src/gen/taplane/v1/event.ts';
import { ObserveFlowsRequest } from '../../src/gen/taplane/v1/flow_service.ts';
import { ListInterfacesRequest, WatchInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { CapturePacketsRequest } from '../../src/gen/taplane/v1/packet_service.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { bound, SOON } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';
import { creation, deletion, TUN, updating } from './specs.ts';

const STOPS = bound(100, 2);
const STREAMS = 50;
const WRITERS = 8;
/** Nobody is there: what is for NATS stays in the spool. */
const NATS = ['--nats', 'nats://127.0.0.1:9'];

it(`${STOPS} stops under ${STREAMS} streams and load`, { timeout: 120_000 + STOPS * 30_000 }, async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns, args: NATS });
  const known = new Map<string, number | undefined>();
  const took: number[] = [];
  let answered = 0;
  for (let stop = 0; stop < STOPS; stop++) {
    if (stop > 0) await agent.start();
    await compare(agent, known);
    const client = agent.client();
    const [w0 = 'w0'] = known.keys();
    if (known.get(w0) === undefined) await client.interfaces.create(creation(w0, { mode: TUN, mtu: 1400 })).then(() => known.set(w0, 1400));

    const over = new AbortController();
    const ends: Promise<string>[] = [];
    const begun: Promise<unknown>[] = [];
    const follow = (stream: AsyncIterable<unknown>, hasFirst: boolean): void => {
      const iterator = stream[Symbol.asyncIterator]();
      const first = iterator.next();
      if (hasFirst) begun.push(first);
      const drain = async (): Promise<string> => {
        let next = await first;
        while (!next.done) next = await iterator.next();
        return 'ended';
      };
      ends.push(drain().catch((error: { code?: string }) => error.code ?? String(error)));
    };
    for (let n = 0; n < STREAMS; n++) {
      if (n % 5 === 0)
        follow(client.packets.capture(CapturePacketsRequest.fromPartial({ interface: `interfaces/${w0}` }), over.signal), false);
      else if (n % 5 === 1) follow(client.flows.observe(ObserveFlowsRequest.fromPartial({ follow: true }), over.signal), false);
      else follow(client.interfaces.watch(WatchInterfacesRequest.fromPartial({}), over.signal), true);
    }
    await Promise.all(begun);
    const health = await watchHealth(agent.server);
    const { told: goaway } = await watchGoaway(agent.socket);

    let stopping = false;
    const before = answered;
    const writers = Array.from({ length: WRITERS }, async (_, writer) => {
      const name = `w${writer}`;
      for (let n = 0; ; n++) {
        const mtu = 1300 + ((answered + writer + n) % 200);
        const exists = known.get(name) !== undefined;
        const removes = exists && n % 9 === 8 && name !== w0;
        const call = removes
          ? client.interfaces.delete(deletion(name))
          : exists
            ? client.interfaces.update(updating(name, { mtu }, ['spec.mtu']))
            : client.interfaces.create(creation(name, { mode: TUN, mtu }));
        const outcome = await call.then(
          () => 'done',
          ({ code }: { code: string }) => code,
        );
        if (outcome !== 'done') {
          // An orderly stop answers what it has begun: nobody is left in doubt but by a call that it never let in.
          expect(stopping, outcome).toBe(true);
          expect(['UNAVAILABLE', 'CANCELLED']).toContain(outcome);
          return;
        }
        known.set(name, removes ? undefined : mtu);
        answered++;
      }
    });
    await expect.poll(() => answered, SOON).toBeGreaterThan(before + WRITERS);
    stopping = true;
    const at = performance.now();
    await agent.stop(bound(10_000, 40_000));
    took.push(performance.now() - at);
    await Promise.all(writers);
    expect(await goaway).toBe(true);
    expect(health.seen.slice(0, 2)).toEqual([1, 2]);
    health.close();
    // Told, not dropped: a stream ends with a code that says what to do.
    expect((await Promise.all(ends)).filter((end) => !['UNAVAILABLE', 'CANCELLED', 'ended'].includes(end))).toEqual([]);
    expect(verifyPath(join(agent.stateDir, 'audit')).firstBreak).toBeUndefined();
  }
  console.log(`${STOPS} stops, ${answered} answers; longest ${Math.round(Math.max(...took))} ms`);
  // Of each run all events from its start to its end, and of each call its record: none is missing, none there twice.
  const byEpoch = eventsOf(join(agent.stateDir, 'spool', 'flows.db'));
  const { chain = '', sequence = 0 } = readHead(join(agent.stateDir, 'audit')) ?? {};
  expect(byEpoch.get(chain)?.length).toBe(sequence);
  expect(sequence).toBeGreaterThanOrEqual(answered);
  byEpoch.delete(chain);
  expect(byEpoch.size).toBe(STOPS);
  for (const events of byEpoch.values()) {
    expect(events.map(({ sequence: number }) => Number(number))).toEqual(events.map((_, index) => index + 1));
    expect(events.find(({ kind }) => kind === Kind.AGENT_STARTED)).toBeDefined();
    expect(events.some(({ kind }) => kind === Kind.AGENT_STOPPING)).toBe(true);
  }

  // The last start is one without a spool.
  const spool = join(agent.stateDir, 'spool');
  rmSync(spool, { recursive: true });
  writeFileSync(spool, '');
  await agent.start();
  const condition = async () => (await agent.client().node.getNode()).conditions.find(({ type }) => type === 'FlowSpool');
  expect(await condition()).toMatchObject({ status: 2, reason: 'SPOOL_UNAVAILABLE', message: expect.stringContaining(spool) });
  await agent.client().interfaces.create(creation('without', { mode: TUN }));
  await compare(agent, known);
  rmSync(spool);
  await expect.poll(async () => (await condition())?.status, SOON).toBe(1);
  await agent.stop();
});

/** What was answered last is what there is. */
async function compare(agent: Agent, known: ReadonlyMap<string, number | undefined>): Promise<void> {
  const { interfaces } = await agent.client().interfaces.list(ListInterfacesRequest.fromPartial({ pageSize: 1000 }));
  const found = new Map(interfaces.map(({ name, spec }) => [name.slice('interfaces/'.length), spec?.mtu]));
  for (const [name, mtu] of known) expect([name, found.get(name)]).toEqual([name, mtu]);
}

function eventsOf(file: string): Map<string, Event[]> {
  const spool = new Spool({ file, limits: { spoolBytes: 1e9, retainedBytes: 0 }, now: Date.now });
  const found = new Map<string, Event[]>();
  for (const subject of spool.account.subjects.values()) {
    if (subject.kind !== 'event') continue;
    for (let row = spool.next(subject); row; row = spool.next(subject, row.pos)) {
      const event = Event.decode(spool.payload(row) ?? new Uint8Array());
      found.set(event.epoch, [...(found.get(event.epoch) ?? []), event]);
    }
  }
  spool.close();
  for (const events of found.values()) events.sort((a, b) => Number(a.sequence - b.sequence));
  return found;
}

/** The states that a watcher of health hears; 1 SERVING, 2 NOT_SERVING. */
async function watchHealth(server: string): Promise<{ seen: number[]; close(): void }> {
  const { service } = createRequire(import.meta.url)('grpc-health-check') as {
    service: {
      Watch: { path: string; requestSerialize(value: object): Buffer; responseDeserialize(bytes: Buffer): { status: number | string } };
    };
  };
  const client = new Client(server, credentials.createInsecure(), { 'grpc.use_local_subchannel_pool': 1 });
  const { path, requestSerialize, responseDeserialize } = service.Watch;
  const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, { service: '' });
  const seen: number[] = [];
  const words: Record<string, number> = { SERVING: 1, NOT_SERVING: 2 };
  call.on('data', ({ status }: { status: number | string }) => seen.push(typeof status === 'number' ? status : (words[status] ?? -1)));
  call.on('error', () => {});
  await expect.poll(() => seen.length, SOON).toBeGreaterThan(0);
  return { seen, close: () => client.close() };
}

/** Whether a bare connection of HTTP/2 is told to go, before it is closed. */
async function watchGoaway(socket: string): Promise<{ told: Promise<boolean> }> {
  const session: ClientHttp2Session = connectHttp2('http://localhost', { createConnection: () => connectSocket(socket) });
  await new Promise((resolve, reject) => session.once('remoteSettings', resolve).once('error', reject));
  const told = new Promise<boolean>((resolve) => {
    session.once('goaway', () => resolve(true));
    session.once('close', () => resolve(false));
  });
  return { told };
}
