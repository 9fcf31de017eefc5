// Spans from a call of the API to a message on NATS, with an SDK that is loaded and without.

import { Client, credentials, Metadata } from '@grpc/grpc-js';
import { afterEach, describe, expect, test } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { NodeServiceService as methods } from '../../src/gen/taplane/v1/node_service.ts';
import { CallMeter } from '../../src/metrics/call-counts.ts';
import { Carried } from '../../src/tracing/carried.ts';
import { activeHeaders, inSpan, producerSpan, serverSpan, startTracing, stopTracing, type TraceHeaders } from '../../src/tracing/span.ts';
import { memoryNode } from '../rpc/memory-interfaces.ts';
import { served } from '../rpc/served.ts';
import { tinyProvider } from './tiny-provider.ts';

const TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = 'b7ad6b7169203331';

afterEach(() => stopTracing());

/** GetNode with metadata, as a client of other make sends it. */
async function call(address: string, metadata: Record<string, string>): Promise<void> {
  const client = new Client(address, credentials.createInsecure());
  const sent = new Metadata();
  for (const [key, value] of Object.entries(metadata)) sent.set(key, value);
  const { path, requestSerialize, responseDeserialize } = methods.getNode;
  await new Promise<void>((resolve) => {
    client.makeUnaryRequest(path, requestSerialize, responseDeserialize, {}, sent, () => resolve());
  });
  client.close();
}

describe('with an SDK', () => {
  test('a call continues the trace of its client, what it does is within, and a message goes on with it', async () => {
    using provider = tinyProvider();
    expect(await startTracing('1.2.3')).toBe(true);
    let made: TraceHeaders | undefined;
    const calls = new CallMeter([methods.getNode.path]);
    const node = {
      ...memoryNode(),
      async getNode() {
        await new Promise((resolve) => setImmediate(resolve));
        inSpan(
          'interface reconcile',
          () => ({ 'taplane.interface': 'tap0' }),
          () =>
            inSpan(
              'netlink apply',
              () => ({}),
              () => 1,
            ),
        );
        made = activeHeaders();
        return memoryNode().getNode();
      },
    };
    await using agent = await served({ node, calls });
    await call(agent.address, { traceparent: `00-${TRACE}-${PARENT}-01` });

    const [server, reconcile, netlink] = provider.spans;
    expect(provider.spans.map(({ name }) => name)).toEqual(['taplane.v1.NodeService/GetNode', 'interface reconcile', 'netlink apply']);
    expect(server).toMatchObject({ kind: 1, parentId: PARENT, attributes: { 'rpc.method': 'GetNode', 'rpc.grpc.status_name': 'OK' } });
    expect([reconcile?.parentId, netlink?.parentId]).toEqual([server?.context.spanId, reconcile?.context.spanId]);
    expect(provider.spans.every(({ context, ended }) => context.traceId === TRACE && ended)).toBe(true);
    expect(made).toEqual({ traceparent: `00-${TRACE}-${server?.context.spanId}-01` });

    const carried = new Carried();
    carried.note('epoch:1', made);
    const sent = await producerSpan('taplane.v1.c.n.event.x', carried.of('epoch:1'), async (headers) => headers);
    const publish = provider.spans.at(-1);
    expect(publish).toMatchObject({ name: 'nats publish', kind: 3, parentId: server?.context.spanId, ended: true });
    expect(sent).toEqual({ traceparent: `00-${TRACE}-${publish?.context.spanId}-01` });
    expect([...(calls.counts().ended.get('taplane.v1.NodeService/GetNode') ?? [])]).toEqual([['OK', 1]]);
  });

  test('an error is on the span and on the counter, under the code that the client was told', async () => {
    using provider = tinyProvider();
    await startTracing();
    const calls = new CallMeter([methods.getNode.path]);
    const node = {
      ...memoryNode(),
      getNode: () => Promise.reject(new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', 'get node: the agent is stopping')),
    };
    await using agent = await served({ node, calls });
    await call(agent.address, { traceparent: 'nonsense' });
    expect(provider.spans).toMatchObject([
      { error: true, ended: true, parentId: undefined, attributes: { 'rpc.grpc.status_name': 'UNAVAILABLE' } },
    ]);
    expect([...(calls.counts().ended.get('taplane.v1.NodeService/GetNode') ?? [])]).toEqual([['UNAVAILABLE', 1]]);
  });

  test('a message that was made in no span makes none', async () => {
    using provider = tinyProvider();
    await startTracing();
    expect(activeHeaders()).toBeUndefined();
    expect(await producerSpan('a', undefined, async (headers) => headers)).toBeUndefined();
    expect(provider.spans).toEqual([]);
  });

  test('what is remembered of messages is bounded', () => {
    const carried = new Carried();
    for (let index = 0; index < 5_000; index++) carried.note(String(index), { traceparent: 'x' });
    expect([carried.of('0'), carried.of('3975'), carried.of('3976'), carried.of('4999')]).toEqual([
      undefined,
      undefined,
      { traceparent: 'x' },
      { traceparent: 'x' },
    ]);
  });
});

describe('without an SDK', () => {
  test('there are no spans, and what is run is run as it is', async () => {
    expect(await startTracing()).toBe(false);
    expect(
      inSpan(
        'a',
        () => expect.unreachable(),
        () => 7,
      ),
    ).toBe(7);
    const failing = Promise.reject(new Error('as it is'));
    expect(
      serverSpan(
        '/a/B',
        () => undefined,
        () => '',
        () => failing,
      ),
    ).toBe(failing);
    await expect(failing).rejects.toThrow('as it is');
    expect(activeHeaders()).toBeUndefined();
  });

  test('a span costs nothing to speak of', () => {
    const work = (n: number): number => n + 1;
    const loop = (run: (n: number) => number): number => {
      const before = process.cpuUsage();
      let sum = 0;
      for (let index = 0; index < 300_000; index++) sum = run(sum);
      const { user, system } = process.cpuUsage(before);
      return ((user + system) * 1000) / 300_000;
    };
    const bare = Math.min(...Array.from({ length: 5 }, () => loop(work)));
    const spanned = Math.min(
      ...Array.from({ length: 5 }, () =>
        loop((n) =>
          inSpan(
            'a',
            () => ({ n }),
            () => work(n),
          ),
        ),
      ),
    );
    process.stdout.write(`without an SDK: ${(spanned - bare).toFixed(1)} ns a span\n`);
    expect(spanned - bare).toBeLessThan(100);
  });
});
