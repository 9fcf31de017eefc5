// Captures and streams of the client against a real server with a scripted data plane.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { LinkType, type PacketBatch } from '../../src/gen/taplane/v1/packet.ts';
import { CapturePacketsRequest, StreamOpen } from '../../src/gen/taplane/v1/packet_service.ts';
import type { Gate } from '../../src/rpc/gate.ts';
import { type ScriptedStream, scriptedPackets } from './scripted-packets.ts';
import { eventually, served } from './served.ts';

const OPENED = { linkType: LinkType.RAW, snapLength: 65_549 };
const open = StreamOpen.fromPartial({ interface: 'interfaces/tun0' });
const frames = (first: number, count: number, bytes = 4) => ({
  firstSequence: BigInt(first),
  frames: Array.from({ length: count }, () => ({ data: Buffer.alloc(bytes) })),
});

async function setUp(script: (stream: ScriptedStream) => void | Promise<void>, options?: { hears: boolean }) {
  const packets = scriptedPackets(script, options);
  const agent = await served({ packets });
  return { packets, agent, [Symbol.asyncDispose]: () => agent[Symbol.asyncDispose]() };
}

test('a capture gives the batches in order and ends with the call', async () => {
  await using all = await setUp((stream) => {
    stream.send({ opened: OPENED });
    stream.send({ pcapng: Buffer.from('abc') });
    setTimeout(() => stream.end(), 10);
  });
  const request = CapturePacketsRequest.fromPartial({ interface: 'interfaces/tun0', filter: 'icmp', maxFrames: 3n });
  const seen: PacketBatch[] = [];
  for await (const batch of all.agent.client.packets.capture(request, new AbortController().signal)) seen.push(batch);
  expect(seen.map(({ opened, pcapng }) => opened?.linkType ?? pcapng.toString())).toEqual([LinkType.RAW, 'abc']);
  expect(all.packets.streams[0]?.ask).toMatchObject({ $case: 'capture', value: { filter: 'icmp', maxFrames: 3n } });
});

test('a capture ends with its signal, without an error, and the agent hears of it', async () => {
  await using all = await setUp((stream) => stream.send({ opened: OPENED }));
  const ending = new AbortController();
  for await (const _ of all.agent.client.packets.capture(CapturePacketsRequest.create(), ending.signal)) ending.abort();
  await eventually(() => all.packets.streams[0]?.destroyed === true);
});

test('both ways: batches come, requests go, and after the half-close the stream ends', async () => {
  await using all = await setUp((stream) => {
    stream.send({ opened: OPENED });
    stream.onRequest = () => {
      if (stream.halfClosed) stream.end();
      else stream.send({ injected: { lastInjectId: stream.requests.at(-1)?.injectId ?? 0n, accepted: BigInt(stream.frames.length) } });
    };
  });
  const stream = all.agent.client.packets.stream(open);
  const batches = stream.batches[Symbol.asyncIterator]();
  expect((await batches.next()).value?.opened).toMatchObject(OPENED);
  await stream.send({ frames: [Buffer.from('one'), Buffer.from('two')], injectId: 7n });
  stream.end();
  const rest: bigint[] = [];
  for (let next = await batches.next(); !next.done; next = await batches.next()) rest.push(next.value.injected?.accepted ?? 0n);
  expect(rest.at(-1)).toBe(2n);
  expect(all.packets.streams[0]?.requests[0]?.open?.interface).toBe('interfaces/tun0');
  await expect(stream.send({ frames: [] })).rejects.toThrow('send packets');
});

test('a refusal comes from the batches and from send, decoded', async () => {
  await using all = await setUp(() => {
    throw new TaplaneError('FAILED_PRECONDITION', 'DEVICE_BUSY', 'attach tun0: EBUSY');
  });
  const stream = all.agent.client.packets.stream(open);
  await expect(stream.batches[Symbol.asyncIterator]().next()).rejects.toMatchObject({ name: 'ClientError', reason: 'DEVICE_BUSY' });
  await expect(stream.send({ frames: [] })).rejects.toMatchObject({ reason: 'DEVICE_BUSY' });
  stream.end();
  stream.cancel();
});

test('a stream whose right is gone before it is open sends nothing in, and is not opened where that is known', async () => {
  const denied = new TaplaneError('PERMISSION_DENIED', 'INTERFACE_DENIED', 'no longer');
  let end: (error: TaplaneError) => void = () => {};
  let atOnce = false;
  const packets = scriptedPackets(() => end(denied));
  const stays: Gate['stays'] = (_, told) => {
    end = told;
    if (atOnce) told(denied);
    return () => {};
  };
  await using agent = await served({ packets, gate: { stays } });
  const outcome = async () => {
    const stream = agent.client.packets.stream(open);
    await expect(stream.batches[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  };
  await outcome();
  await eventually(() => packets.streams[0]?.destroyed === true);
  expect(packets.streams[0]).toMatchObject({ requests: [], halfClosed: true });
  atOnce = true;
  await outcome();
  expect(packets.streams).toHaveLength(1);
});

test('an agent that is not there is told, and ends nothing else', async () => {
  await using all = await setUp(() => {});
  await all.agent.server.stop(0);
  const stream = all.agent.client.packets.stream(open);
  await expect(stream.send({ frames: [] }).then(() => stream.batches[Symbol.asyncIterator]().next())).rejects.toMatchObject({
    code: 'UNAVAILABLE',
  });
});

test('a data plane that does not take what is sent holds back the sender, within a bound; cancel frees it', async () => {
  await using all = await setUp((stream) => stream.send({ opened: OPENED }), { hears: false });
  const stream = all.agent.client.packets.stream(open);
  await stream.batches[Symbol.asyncIterator]().next();
  const frame = Buffer.alloc(10_000);
  let sent = 0;
  let ended: unknown;
  const sending = (async () => {
    for (;;) {
      await stream.send({ frames: [frame] });
      sent += 1;
    }
  })().catch((error: unknown) => {
    ended = error;
  });
  await sleep(500);
  const held = sent;
  // What the client, HTTP/2 and the server keep; far less than what could be sent in that time.
  expect(held * frame.length).toBeLessThan(4 * 1024 * 1024);
  await sleep(200);
  expect(sent).toBe(held);
  stream.cancel();
  await sending;
  expect(ended).toBeInstanceOf(Error);
  await eventually(() => all.packets.streams[0]?.destroyed === true);
});

test('a reader that does not read holds back the agent, and then gets everything', async () => {
  let produced = 0;
  await using all = await setUp((stream) => {
    stream.send({ opened: OPENED });
    const timer = setInterval(() => {
      while (!stream.paused && produced < 3000) stream.send(frames(++produced, 1, 10_000));
      if (produced === 3000 || stream.destroyed) clearInterval(timer);
      if (produced === 3000) stream.end();
    }, 1);
  });
  const stream = all.agent.client.packets.stream(open);
  const batches = stream.batches[Symbol.asyncIterator]();
  await batches.next();
  await sleep(400);
  const held = produced;
  expect(held * 10_000).toBeLessThan(4 * 1024 * 1024);
  await sleep(150);
  expect(produced).toBe(held);
  let received = 0;
  while (!(await batches.next()).done) received += 1;
  expect(received).toBe(3000);
});

test('leaving the loop, cancel and close each end the call at the agent, without an error', async () => {
  await using all = await setUp((stream) => stream.send({ opened: OPENED }));
  const { client } = all.agent;
  for await (const _ of client.packets.stream(open).batches) break;
  const cancelled = client.packets.stream(open);
  for await (const _ of cancelled.batches) cancelled.cancel();
  const closed = client.packets.stream(open);
  for await (const _ of closed.batches) client.close();
  await eventually(() => all.packets.streams.length === 3 && all.packets.streams.every(({ destroyed }) => destroyed));
  const late = client.packets.stream(open);
  await expect(late.send({ frames: [] })).rejects.toThrow();
  expect((await late.batches[Symbol.asyncIterator]().next()).done).toBe(true);
  expect(all.agent.logged).toEqual([]);
});

test('a stream whose batches nobody reads ends no process when it fails', async () => {
  await using all = await setUp((stream) => {
    stream.send({ opened: OPENED });
    setTimeout(() => stream.fail(new TaplaneError('NOT_FOUND', 'INTERFACE_DELETED', 'gone')), 10);
  });
  const stream = all.agent.client.packets.stream(open);
  const sending = (async () => {
    for (;;) {
      await stream.send({ acknowledge: 1n });
      await sleep(5);
    }
  })();
  await expect(sending).rejects.toThrow();
});
