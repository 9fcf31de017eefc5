// FlowService on a real server over a unix socket, with a ring in memory behind it.

import { Client, credentials, status } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { openFlows } from '../../src/flow/flows.ts';
import { FlowRing } from '../../src/flow/ring.ts';
import { FlowServiceService, ObserveFlowsRequest, type ObserveFlowsResponse } from '../../src/gen/taplane/v1/flow_service.ts';
import { batch, collected, encoded } from '../flow/flow-values.ts';
import { eventually, served } from './served.ts';

const never = new AbortController().signal;
const ask = (partial: Partial<ObserveFlowsRequest>) => ObserveFlowsRequest.fromPartial(partial);

async function withFlows(maxBytes?: number, maxObservers?: number) {
  const ring = new FlowRing({ maxBytes });
  const flows = openFlows({ ring, interfaces: () => [], maxObservers });
  return { ring, flows, agent: await served({ flows }) };
}

describe('FlowService', () => {
  test('tells of records in memory and then of new ones, whole over the wire', async () => {
    const { ring, agent } = await withFlows();
    await using _ = agent;
    const one = batch(1, [{}, { ethernet: { source: Buffer.alloc(6, 1), destination: Buffer.alloc(6, 2), ethertype: 0x806, vlan: 3 } }]);
    ring.put(encoded(one));
    const stream = agent.client.flows.observe(ask({ follow: true, last: 10n }), never)[Symbol.asyncIterator]();
    const first = (await stream.next()).value as ObserveFlowsResponse;
    expect(first.batch?.flows).toEqual(one.flows);
    expect(first.batch).toMatchObject({ cluster: 'c1', node: 'n1', interface: 'tap0', labels: { tenant: 'blue' }, firstSequence: 0n });
    expect((await stream.next()).value).toMatchObject({ following: true });
    ring.put(encoded(batch(3, [{}])));
    expect((await stream.next()).value).toMatchObject({ batch: { flows: [{ sequence: 3n }] } });
    await stream.return?.();
    expect(await agent.client.flows.stats()).toMatchObject({ ringRecords: 3n, records: 3n, interfaces: [] });
    expect(agent.logged).toEqual([]);
  });

  test('a bad filter is INVALID_ARGUMENT with its path, before any answer', async () => {
    const { agent } = await withFlows();
    await using _ = agent;
    const request = ask({ deny: [{ ip: ['10.0.0.0/40'] }] as ObserveFlowsRequest['deny'] });
    const reading = collected(agent.client.flows.observe(ObserveFlowsRequest.fromPartial(request), never));
    await expect(reading).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'deny[0].ip[0]' }] });
  });

  test('refuses one observer too many, and forgets those that are gone', async () => {
    const { agent } = await withFlows(undefined, 2);
    await using _ = agent;
    const open = async (signal: AbortSignal) => {
      const stream = agent.client.flows.observe(ask({ follow: true }), signal)[Symbol.asyncIterator]();
      return (await stream.next()).value as ObserveFlowsResponse;
    };
    const stop = new AbortController();
    await open(stop.signal);
    await open(never);
    await expect(open(never)).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'TOO_MANY_OBSERVERS' });
    stop.abort();
    let opened = false;
    await eventually(() => {
      if (!opened)
        void open(never).then(
          () => (opened = true),
          () => {},
        );
      return opened;
    });
  });

  test('a client that does not read misses records, as many as it is told; the server holds little for it', async () => {
    const { ring, agent } = await withFlows(256 * 1024);
    await using _ = agent;
    const client = new Client(agent.address, credentials.createInsecure());
    const { path, requestSerialize, responseDeserialize } = FlowServiceService.observeFlows;
    const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, ask({ follow: true }));
    call.on('error', () => {});
    const stream = call[Symbol.asyncIterator]() as AsyncIterator<ObserveFlowsResponse>;
    await stream.next();
    let put = 0;
    for (let round = 0; round < 400; round++) {
      ring.put(encoded(batch(put + 1, Array(100).fill({}))));
      put += 100;
      if (round % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(ring.bytes).toBeLessThanOrEqual(256 * 1024);
    let [sent, missed] = [0, 0];
    while (sent + missed < put) {
      const { value } = await stream.next();
      sent += value.batch?.flows.length ?? 0;
      missed += Number(value.missed);
    }
    expect(sent + missed).toBe(put);
    expect(missed).toBeGreaterThan(put / 4);
    call.cancel();
    client.close();
  });

  test('ends its streams when the agent stops', async () => {
    const { flows, agent } = await withFlows();
    const reading = collected(agent.client.flows.observe(ask({ follow: true }), never));
    await eventually(() => true);
    await agent.client.flows.stats();
    flows.end();
    await agent.server.stop(5_000);
    expect((await reading).length).toBeLessThanOrEqual(1);
    await agent[Symbol.asyncDispose]();
  });

  test('is not there without flows, nor is its health', async () => {
    await using agent = await served();
    agent.server.setServing('taplane.v1.FlowService', true);
    await expect(agent.client.flows.stats()).rejects.toMatchObject({ code: 'UNIMPLEMENTED' });
    expect(await health(agent.address)).toBe('NOT_FOUND');
    const { agent: other } = await withFlows();
    await using _ = other;
    other.server.setServing('taplane.v1.FlowService', true);
    expect(await health(other.address)).toBe('SERVING');
  });
});

/** Of FlowService, in bytes: a request and an answer have one field each. */
async function health(address: string): Promise<string> {
  const client = new Client(address, credentials.createInsecure());
  const name = Buffer.from('taplane.v1.FlowService');
  const same = (bytes: Buffer): Buffer => bytes;
  try {
    return await new Promise((resolve) =>
      client.makeUnaryRequest('/grpc.health.v1.Health/Check', same, same, Buffer.from([0x0a, name.length, ...name]), (error, answer) =>
        resolve(error ? (status[error.code] as string) : answer?.[1] === 1 ? 'SERVING' : 'NOT_SERVING'),
      ),
    );
  } finally {
    client.close();
  }
}
