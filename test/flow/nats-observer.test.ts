// The observer of a cluster against a real nats-server: live, from a stream, with losses.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jetstreamManager } from '@nats-io/jetstream';
import { connect, headers, type NatsConnection } from '@nats-io/transport-node';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { BatchGaps } from '../../src/flow/batch-gaps.ts';
import { observeNats } from '../../src/flow/nats-observer.ts';
import { FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { ObserveFlowsRequest, type ObserveFlowsResponse } from '../../src/gen/taplane/v1/flow_service.ts';
import { freePort, natsBinary, type RealNats, startNats } from '../nats/real-nats.ts';
import { batch, collected, encoded, T0 } from './flow-values.ts';

const never = new AbortController().signal;
const ask = (partial: object) => ObserveFlowsRequest.fromPartial(partial);
const sequences = (answers: readonly ObserveFlowsResponse[]) =>
  answers.flatMap((answer) => answer.batch?.flows.map(({ sequence }) => Number(sequence)) ?? []);

describe('gaps between batches', () => {
  const sized = (first: number, records: number, lost = 0) =>
    batch(first, Array(records).fill({}), { lost: lost > 0 ? [{ reason: 1, count: BigInt(lost) }] : [] });

  test('every record of an epoch is told, in a gap, or lost, once, whatever comes twice or not at all', () => {
    const one = fc.record({ records: fc.nat(5), lost: fc.nat(3), copies: fc.constantFrom(0, 1, 1, 2), again: fc.nat(20) });
    const shape = fc.array(one, { maxLength: 20 });
    fc.assert(
      fc.property(shape, (list) => {
        const gaps = new BatchGaps();
        const told: bigint[] = [];
        let [first, gap, lost, end] = [1, 0n, 0n, 1n];
        gaps.take(sized(0, 1));
        const take = (value: FlowBatch): void => {
          const found = gaps.take(value);
          told.push(...found.flows.map(({ sequence }) => sequence));
          gap += found.gap;
          lost += found.lost;
        };
        const sent: FlowBatch[] = [];
        for (const { records, lost: behind, copies, again } of list) {
          for (let copy = 0; copy < copies; copy++) {
            take(sized(first, records, behind));
            end = BigInt(first + records + behind);
            sent.push(sized(first, records, behind));
          }
          // Some older one once more.
          if (sent[again]) take(sent[again]);
          first += records + behind;
        }
        expect(BigInt(told.length) + gap + lost).toBe(end - 1n);
        expect(told).toEqual([...new Set(told)].sort((a, b) => Number(a - b)));
      }),
    );
  });

  test('a batch that is known in part', () => {
    const gaps = new BatchGaps();
    gaps.take(sized(1, 3));
    expect(gaps.take(sized(2, 4, 2))).toMatchObject({ flows: [{ sequence: 4n }, { sequence: 5n }], gap: 0n, lost: 2n });
    expect(gaps.take(sized(4, 2, 5))).toEqual({ flows: [], gap: 0n, lost: 3n });
    expect(gaps.take({ ...sized(1, 1), epoch: 'another' })).toMatchObject({ flows: [{ sequence: 1n }], gap: 0n });
  });
});

describe.skipIf(!natsBinary)('with a real nats-server (needs one in the PATH)', () => {
  let folder: string;
  let port: number;
  let nats: RealNats;
  let publisher: NatsConnection;
  let said: string[];

  const observe = (request: object, signal = never) =>
    observeNats({ nats: { mode: `nats://127.0.0.1:${port}` }, timeoutMs: 5_000, say: (line) => said.push(line) }, ask(request), signal);
  const publish = async (value: FlowBatch, json = false) => {
    const about = headers();
    about.set('Content-Type', json ? 'application/json' : 'application/x-protobuf');
    const payload = json ? JSON.stringify(FlowBatch.toJSON(value)) : encoded(value);
    publisher.publish(`taplane.v1.${value.cluster}.${value.node}.flow.${value.interface}`, payload, { headers: about });
    await publisher.flush();
  };
  const stream = async () => {
    const manager = await jetstreamManager(publisher);
    await manager.streams.add({ name: 'FLOWS', subjects: ['taplane.v1.*.*.flow.>'] });
  };
  const following = async (request: object, signal = never) => {
    const answers = observe({ follow: true, ...request }, signal)[Symbol.asyncIterator]();
    const before: ObserveFlowsResponse[] = [];
    for (;;) {
      const { value, done } = await answers.next();
      if (done) throw new Error('ended');
      if (value.following)
        return { before, next: async () => (await answers.next()).value as ObserveFlowsResponse, end: () => answers.return(undefined) };
      before.push(value);
    }
  };

  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'taplane-nats-'));
    port = await freePort();
    nats = await startNats(port, '-js', '-sd', folder);
    publisher = await connect({ servers: `127.0.0.1:${port}` });
    said = [];
  });
  afterEach(async () => {
    await publisher.close();
    await nats.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  test('tells of new records of all nodes, in protobuf and JSON, filtered and masked', async () => {
    const live = await following({ allow: [{ port: [80] }], fieldMask: ['destination_port'] });
    await publish(batch(1, [{}, { destinationPort: 443 }]));
    await publish(batch(1, [{}], { node: 'n2', cluster: 'c2', epoch: 'b' }), true);
    const answers = [await live.next(), await live.next()];
    expect(answers.map((answer) => [answer.batch?.cluster, answer.batch?.node, answer.batch?.flows.length])).toEqual([
      ['c1', 'n1', 1],
      ['c2', 'n2', 1],
    ]);
    for (const answer of answers) expect(answer.batch?.flows[0]).toMatchObject({ destinationPort: 80, sourcePort: 0, sequence: 1n });
    await live.end();
  });

  test('tells of gaps, of losses, once of what comes twice, and passes over what is no batch', async () => {
    const live = await following({});
    await publish(batch(1, [{}, {}]));
    await publish(batch(1, [{}, {}]));
    publisher.publish('taplane.v1.c1.n1.flow.tap0', Buffer.from([0x42, 0x05]));
    const about = headers();
    about.set('Content-Type', 'application/json');
    publisher.publish('taplane.v1.c1.n1.flow.tap0', '{"flows": [', { headers: about });
    // Records without a field: a message of 200 KB, and a hundred times as much once decoded.
    publisher.publish('taplane.v1.c1.n1.flow.tap0', Buffer.alloc(200_000, '4200', 'hex'));
    publisher.publish('taplane.v1.c1.n1.flow.tap0', `{"flows": [${Array(100_000).fill('{}')}]}`, { headers: about });
    await publish(batch(6, [{}], { lost: [{ reason: 1, count: 4n }] }));
    await publish(batch(11, [{}]));
    expect(
      [await live.next(), await live.next(), await live.next()].map((answer) => [sequences([answer]), answer.missed, answer.lost]),
    ).toEqual([
      [[1, 2], 0n, 0n],
      [[6], 3n, 4n],
      [[11], 0n, 0n],
    ]);
    expect(said).toContain('passed over 1 message that is no batch of flow records');
    await live.end();
  });

  test('takes the newest from a stream and goes on without a seam', async () => {
    await stream();
    for (let first = 1; first <= 2000; first += 2)
      await publish(batch(first, [{ destinationPort: first % 100 === 1 ? 80 : 443 }, { destinationPort: 444 }]));
    // Five match in what is looked at first, so more of the stream is read.
    const live = await following({
      last: 15n,
      allow: [{ port: [80], event: [1] }],
      deny: [{ destinationPort: [443] }, { sourcePort: [1] }],
    });
    expect(sequences(live.before)).toEqual(Array.from({ length: 15 }, (_, index) => 501 + 100 * index));
    await publish(batch(2001, [{}]));
    expect(await live.next()).toMatchObject({ batch: { flows: [{ sequence: 2001n }] }, missed: 0n });
    await live.end();
    expect(sequences(await collected(observe({ last: 3n, allow: [{ destinationPort: [443] }] })))).toEqual([1995, 1997, 1999]);
    expect(sequences(await collected(observe({ first: 3n })))).toEqual([1, 2, 3]);
    expect(sequences(await collected(observe({})))).toHaveLength(2001);
    expect(sequences(await collected(observe({ last: 5n, allow: [{ destinationPort: [7] }] })))).toEqual([]);
    expect(sequences(await collected(observe({ since: { seconds: T0 + 9n }, last: 5n })))).toEqual([]);
    expect(said).toEqual([]);
  });

  test('what comes by stream and subscription at the same time is told once', async () => {
    await stream();
    let put = 0;
    let isDone = false;
    const publishing = (async () => {
      while (!isDone) await publish(batch(++put, [{}]));
    })();
    for (let round = 0; round < 5; round++) {
      const live = await following({ last: 10n });
      const told = sequences(live.before);
      while (told.length < 60) {
        const answer = await live.next();
        expect(answer.missed).toBe(0n);
        told.push(...sequences([answer]));
      }
      expect(told).toEqual(told.map((_, index) => (told[0] as number) + index));
      await live.end();
    }
    isDone = true;
    await publishing;
  });

  test('of one node only what is published under its name comes', async () => {
    await stream();
    await publish(batch(1, [{}]));
    await publish(batch(1, [{}], { node: 'n2', epoch: 'b' }));
    const answers = await collected(observe({ allow: [{ node: ['n2'] }] }));
    expect(answers.map((answer) => answer.batch?.node)).toEqual(['n2']);
    expect(await collected(observe({ allow: [{ node: ['n3'] }], last: 3n }))).toEqual([]);
  });

  test('without a stream says so', async () => {
    await expect(collected(observe({ last: 3n }))).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'STREAM_MISSING' });
    const live = await following({ last: 3n });
    expect(said).toEqual(['no stream on this server keeps flow records: only new ones are told of']);
    await live.end();
  });

  test('ends on the signal; a lost connection is made anew and its gap told', async () => {
    const stop = new AbortController();
    const live = await following({}, stop.signal);
    await publish(batch(1, [{}]));
    await live.next();
    const waiting = live.next();
    await nats.stop();
    await publisher.close();
    nats = await startNats(port, '-js', '-sd', folder);
    publisher = await connect({ servers: `127.0.0.1:${port}` });
    let answer: ObserveFlowsResponse | undefined;
    void waiting.then((value) => {
      answer = value;
    });
    // Until the observer is back nobody hears these.
    for (let first = 5; answer === undefined && first < 2000; first++) {
      await publish(batch(first, [{}]));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    const first = Number(answer?.batch?.flows[0]?.sequence);
    expect(answer?.missed).toBe(BigInt(first - 2));
    expect(said[0]).toMatch(/^connection to NATS lost, resuming/);
    let ended = false;
    const rest = (async () => {
      while ((await live.next()) !== undefined);
      ended = true;
    })();
    stop.abort();
    await rest;
    expect(ended).toBe(true);
  });

  test('a slow reader holds a bounded queue and hears how much it missed', async () => {
    const one = encoded(batch(1, [{}])).length + 512;
    const options = { nats: { mode: `nats://127.0.0.1:${port}` }, timeoutMs: 5_000, say: () => {}, maxWaitingBytes: 20 * one };
    const answers = observeNats(options, ask({ follow: true }), never)[Symbol.asyncIterator]();
    await answers.next();
    await publish(batch(1, [{}]));
    await answers.next();
    for (let first = 2; first <= 500; first++) await publish(batch(first, [{}]));
    await new Promise((resolve) => setTimeout(resolve, 300));
    let [sent, missed] = [1, 0];
    while (sent + missed < 500) {
      const { value } = await answers.next();
      sent += sequences([value]).length;
      missed += Number(value.missed);
    }
    expect(sent + missed).toBe(500);
    expect(sent).toBeLessThanOrEqual(22);
    await answers.return(undefined);
  });

  test('an address that is none, and a server that is not there', async () => {
    const to = (mode: string) => collected(observeNats({ nats: { mode }, timeoutMs: 400, say: () => {} }, ask({ follow: true }), never));
    await expect(to('embedded')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'nats' }] });
    await expect(to(`nats://127.0.0.1:${await freePort()}`)).rejects.toMatchObject({
      code: 'UNAVAILABLE',
      reason: 'NATS_UNAVAILABLE',
      message: expect.stringMatching(/^reach NATS on nats:\/\/127\.0\.0\.1:\d+: .+/),
    });
  });
});
