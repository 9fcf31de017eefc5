import { Client, credentials } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { Interface } from '../../src/gen/taplane/v1/interface.ts';
import {
  InterfaceServiceService,
  WatchInterfacesRequest,
  type WatchInterfacesResponse,
} from '../../src/gen/taplane/v1/interface_service.ts';
import { eventually, served } from './served.ts';

const request = WatchInterfacesRequest.create();
const message = (bytes: number): WatchInterfacesResponse => ({
  event: { $case: 'added', value: Interface.create({ labels: { pad: 'x'.repeat(bytes) } }) },
  resumeToken: '',
});

/** The value once it has stayed the same over forty turns of the event loop, however long a turn takes. */
async function resting(read: () => number): Promise<number> {
  let value = read();
  for (let turns = 0; turns < 40; turns += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    if (read() !== value) [value, turns] = [read(), 0];
  }
  return value;
}

describe('server streams', () => {
  test('a cancel in the middle of a wait frees the generator', async () => {
    await using agent = await served();
    for (let round = 0; round < 20; round += 1) {
      const abort = new AbortController();
      const stream = agent.client.interfaces.watch(request, abort.signal)[Symbol.asyncIterator]();
      await stream.next();
      abort.abort();
    }
    await eventually(() => agent.interfaces.watching() === 0);
    expect(agent.logged).toEqual([]);
  });

  test('a generator that ignores its signal is returned all the same, once it yields', async () => {
    await using agent = await served();
    let returned = 0;
    let step = () => {};
    agent.interfaces.watch = async function* () {
      try {
        for (;;) {
          yield message(1);
          await new Promise<void>((resolve) => (step = resolve));
        }
      } finally {
        returned += 1;
      }
    };
    for await (const _ of agent.client.interfaces.watch(request, new AbortController().signal)) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
    // Again and again: the server may hear of the end after a step.
    await eventually(() => {
      step();
      return returned === 1;
    });
  });

  test('a reader that does not read holds back the generator, within a bound, and then gets everything', async () => {
    await using agent = await served();
    let produced = 0;
    agent.interfaces.watch = async function* () {
      while (produced < 5000) {
        produced += 1;
        yield message(10_000);
      }
    };
    const client = new Client(agent.address, credentials.createInsecure());
    const { path, requestSerialize, responseDeserialize } = InterfaceServiceService.watchInterfaces;
    const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request);
    // The client of grpc-js holds back only after a first read.
    const iterator = call[Symbol.asyncIterator]() as AsyncIterator<WatchInterfacesResponse>;
    await iterator.next();
    const held = await resting(() => produced);
    // 256 KiB of ours, plus what HTTP/2 windows, socket buffers and the client's own buffer hold.
    expect(held * 10_000).toBeLessThan(2 * 1024 * 1024);
    expect(await resting(() => produced)).toBe(held);
    let received = 1;
    while (!(await iterator.next()).done) received += 1;
    expect(received).toBe(5000);
    client.close();
  });

  test('a cancel while a write waits for the reader frees the generator', async () => {
    await using agent = await served();
    let returned = 0;
    agent.interfaces.watch = async function* () {
      try {
        for (;;) yield message(100_000);
      } finally {
        returned += 1;
      }
    };
    const client = new Client(agent.address, credentials.createInsecure());
    const { path, requestSerialize, responseDeserialize } = InterfaceServiceService.watchInterfaces;
    const calls = Array.from({ length: 10 }, () => client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request));
    await Promise.all(calls.map((call) => new Promise((resolve) => call.once('readable', resolve))));
    await new Promise((resolve) => setTimeout(resolve, 100));
    for (const call of calls) call.on('error', () => {}).cancel();
    await eventually(() => returned === 10);
    client.close();
  });

  test('a generator that ends, ends the call', async () => {
    await using agent = await served();
    agent.interfaces.watch = async function* () {
      yield message(1);
      yield message(2);
    };
    let received = 0;
    for await (const _ of agent.client.interfaces.watch(request, new AbortController().signal)) received += 1;
    expect(received).toBe(2);
  });

  test('closing the client ends its streams without an error', async () => {
    await using agent = await served();
    const stream = agent.client.interfaces.watch(request, new AbortController().signal)[Symbol.asyncIterator]();
    await stream.next();
    const end = stream.next();
    agent.client.close();
    expect((await end).done).toBe(true);
    await eventually(() => agent.interfaces.watching() === 0);
  });
});
