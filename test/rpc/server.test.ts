import { randomBytes } from 'node:crypto';
import { Client, credentials, Metadata, type ServiceError } from '@grpc/grpc-js';
import { describe, expect, test } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { Interface } from '../../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest, InterfaceServiceService, WatchInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { LinkServiceService } from '../../src/gen/taplane/v1/link_service.ts';
import { CreateResponderRequest, ResponderServiceService } from '../../src/gen/taplane/v1/responder_service.ts';
import { ClientError, connect } from '../../src/rpc/client.ts';
import { decodeStatus } from '../../src/rpc/status.ts';
import { bound } from '../harness/bound.ts';
import { noLinks } from './no-links.ts';
import { eventually, served } from './served.ts';

const create = (interfaceId: string) =>
  CreateInterfaceRequest.create({ interfaceId, interface: { spec: { mode: 1, addresses: [{ cidr: '10.0.0.1/24' }] } } });

/** Sends `bytes` as they are. */
function raw(address: string, path: string, bytes: Buffer, metadata = new Metadata()): Promise<ServiceError | null> {
  const client = new Client(address, credentials.createInsecure());
  return new Promise((resolve) => {
    client.makeUnaryRequest(
      path,
      (value: Buffer) => value,
      (value) => value,
      bytes,
      metadata,
      { deadline: Date.now() + 15_000 },
      (error) => {
        client.close();
        resolve(error);
      },
    );
  });
}

const caught = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: ClientError) => error,
  );

describe('calls', () => {
  test('pass through the wire unchanged', async () => {
    await using agent = await served();
    const made = await agent.client.interfaces.create(create('tun0'));
    expect(made.name).toBe('interfaces/tun0');
    expect(Interface.toJSON(await agent.client.interfaces.get({ name: 'interfaces/tun0' }))).toMatchObject({
      spec: { mode: 'MODE_TUN', addresses: [{ cidr: '10.0.0.1/24' }] },
      generation: '1',
    });
    expect((await agent.client.node.getNode()).name).toBe('node-a');
  });

  test('of responders too', async () => {
    await using agent = await served();
    const { responders } = agent.client;
    const create = CreateResponderRequest.create({ parent: 'interfaces/tun0', responder: { spec: { kind: 1 } } });
    const name = 'interfaces/tun0/responders/icmp-echo';
    expect(await responders.create(create)).toMatchObject({ name, spec: { id: 'icmp-echo', kind: 1 }, status: { received: 7n } });
    expect(await caught(responders.create(create))).toMatchObject({ code: 'ALREADY_EXISTS', reason: 'RESPONDER_EXISTS' });
    expect((await responders.get({ name })).name).toBe(name);
    expect((await responders.list({ parent: 'interfaces/-', pageSize: 0, pageToken: '' })).responders).toHaveLength(1);
    expect(await responders.delete({ name, requestId: '', validateOnly: false, allowMissing: false })).toEqual({});
    expect(await caught(responders.get({ name }))).toMatchObject({ code: 'NOT_FOUND', reason: 'RESPONDER_NOT_FOUND' });
  });

  test('errors arrive with reason and every field', async () => {
    await using agent = await served();
    const error = await caught(
      agent.client.interfaces.create(CreateInterfaceRequest.create({ interfaceId: '../x', interface: { spec: { mtu: 67 } } })),
    );
    expect(error).toBeInstanceOf(ClientError);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELDS' });
    expect(error?.fields.map((field) => field.field)).toEqual(['interface_id', 'interface.spec.mtu']);
  });

  test('bugs are INTERNAL with an id that is in the log once', async () => {
    await using agent = await served();
    agent.interfaces.get = async () => {
      throw new Error('open /root/secret: EACCES');
    };
    const error = await caught(agent.client.interfaces.get({ name: 'interfaces/x' }));
    expect(error).toMatchObject({ code: 'INTERNAL', reason: 'INTERNAL' });
    expect(error?.message).not.toContain('secret');
    expect(agent.logged.map((line) => line.fields['error_id'])).toEqual([error?.metadata['errorId']]);
  });

  test('bytes that are no protobuf are INVALID_ARGUMENT, for every method, and nothing falls over', async () => {
    await using agent = await served({ links: noLinks });
    const services = [InterfaceServiceService, ResponderServiceService, LinkServiceService];
    const methods = services.flatMap((service) => Object.values(service).map(({ path }) => path));
    for (const path of methods) {
      const error = await raw(agent.address, path, Buffer.from([0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]));
      expect(error && decodeStatus(error), path).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'MALFORMED_REQUEST' });
    }
    for (let round = 0; round < 300; round += 1) {
      const error = await raw(agent.address, '/taplane.v1.InterfaceService/GetInterface', randomBytes(round % 40));
      expect(['INVALID_ARGUMENT', 'NOT_FOUND']).toContain(error && decodeStatus(error).code);
    }
    expect(agent.logged).toEqual([]);
  });

  test('a call that was given up aborts nobody else and logs nothing', async () => {
    await using agent = await served();
    let settle = (_: Interface) => {};
    agent.interfaces.get = () => new Promise((resolve) => (settle = resolve));
    const hasty = connect(agent.address, { timeoutMs: 50 });
    expect(await caught(hasty.interfaces.get({ name: 'interfaces/a' }))).toMatchObject({ code: 'DEADLINE_EXCEEDED' });
    settle(Interface.create());
    hasty.close();
    expect((await agent.client.interfaces.list({ pageSize: 0, pageToken: '', labelSelector: {}, view: 0 })).interfaces).toEqual([]);
    expect(agent.logged).toEqual([]);
  });
});

describe('limits', () => {
  test('a request of 4 MiB and more is RESOURCE_EXHAUSTED', async () => {
    await using agent = await served();
    const error = await raw(agent.address, '/taplane.v1.InterfaceService/GetInterface', Buffer.alloc(4 * 1024 * 1024 + 1));
    expect(error && decodeStatus(error).code).toBe('RESOURCE_EXHAUSTED');
    expect((await agent.client.node.getNode()).name).toBe('node-a');
  });

  test('an answer beyond the limit is RESOURCE_EXHAUSTED with a reason', async () => {
    await using agent = await served({ limits: { maxMessageBytes: 1000 } });
    agent.interfaces.get = async () => Interface.create({ labels: { a: 'x'.repeat(2000) } });
    expect(await caught(agent.client.interfaces.get({ name: '' }))).toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      reason: 'RESPONSE_TOO_LARGE',
      metadata: { subject: 'message' },
    });
  });

  test('metadata beyond the limit is RESOURCE_EXHAUSTED', async () => {
    await using agent = await served();
    const metadata = new Metadata();
    metadata.set('x-large', 'x'.repeat(20_000));
    const error = await raw(agent.address, '/taplane.v1.NodeService/GetNode', Buffer.alloc(0), metadata);
    expect(error && decodeStatus(error)).toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'METADATA_TOO_LARGE' });
  });

  test('the 101st call on a connection does not begin while a hundred run', async () => {
    await using agent = await served();
    const aborts = Array.from({ length: 100 }, () => new AbortController());
    const streams = aborts.map((abort) =>
      agent.client.interfaces.watch(WatchInterfacesRequest.create(), abort.signal)[Symbol.asyncIterator](),
    );
    await Promise.all(streams.map((stream) => stream.next()));
    expect(agent.interfaces.watching()).toBe(100);
    // It waits in the client. In the instant in which a place gets free Node may still refuse it: RESOURCE_EXHAUSTED, try again.
    const extra = agent.client.interfaces.watch(WatchInterfacesRequest.create(), AbortSignal.timeout(300))[Symbol.asyncIterator]();
    expect(await extra.next()).toMatchObject({ done: true });
    expect(agent.interfaces.calls.length).toBe(100);
    for (const abort of aborts) abort.abort();
    await eventually(() => agent.interfaces.watching() === 0);
    expect((await agent.client.node.getNode()).name).toBe('node-a');
  });
});

describe('stop', () => {
  test('ends open streams after the grace, is the same promise twice, and takes the socket away', async () => {
    await using agent = await served();
    const stream = agent.client.interfaces.watch(WatchInterfacesRequest.create(), new AbortController().signal)[Symbol.asyncIterator]();
    await stream.next();
    const pending = caught(stream.next().then(() => stream.next()));
    const start = performance.now();
    await Promise.all([agent.server.stop(100), agent.server.stop(100)]);
    expect(performance.now() - start).toBeLessThan(bound(1500, 8000));
    expect((await pending)?.code).toMatch(/UNAVAILABLE|CANCELLED/);
    await eventually(() => agent.interfaces.watching() === 0);
    expect(await caught(agent.client.node.getNode())).toMatchObject({ code: 'UNAVAILABLE' });
  });

  test('lets a call that has begun finish', async () => {
    await using agent = await served();
    let hasBegun = false;
    agent.interfaces.get = () => {
      hasBegun = true;
      return new Promise((resolve) => setTimeout(() => resolve(Interface.create({ uid: 'late' })), 150));
    };
    const answer = agent.client.interfaces.get({ name: 'x' });
    await eventually(() => hasBegun);
    await agent.server.stop(15_000);
    expect((await answer).uid).toBe('late');
  });
});

test('an error of a watch keeps its reason', async () => {
  await using agent = await served();
  const stream = agent.client.interfaces.watch(WatchInterfacesRequest.create(), new AbortController().signal)[Symbol.asyncIterator]();
  await stream.next();
  agent.interfaces.breakWatches(new TaplaneError('OUT_OF_RANGE', 'RESUME_TOKEN_EXPIRED', 'watch: the token is too old'));
  expect(await caught(Promise.resolve(stream.next()))).toMatchObject({ code: 'OUT_OF_RANGE', reason: 'RESUME_TOKEN_EXPIRED' });
  await eventually(() => agent.interfaces.watching() === 0);
});
