// Who is on a connection, how many there may be, and what becomes of those that only sit there.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync } from 'node:fs';
import { connect as connectSocket, type Socket } from 'node:net';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import type { Caller } from '../../src/access/caller.ts';
import { WatchInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { NodeServiceService } from '../../src/gen/taplane/v1/node_service.ts';
import { connect } from '../../src/rpc/client.ts';
import { unknownCaller } from '../../src/rpc/gate.ts';
import { rawMethod } from '../../src/rpc/handlers.ts';
import { knownCallers } from '../../src/rpc/limits.ts';
import { eventually, type Served, served } from './served.ts';

const isRoot = process.getuid?.() === 0;
const GET_NODE = '/taplane.v1.NodeService/GetNode';

function watching() {
  const callers: Caller[] = [];
  return { callers, gate: { authorize: ({ caller }: { caller: Caller }) => void callers.push(caller) } };
}

function silent(agent: Served, bytes = ''): Promise<Socket> {
  const socket = connectSocket(agent.path).on('error', () => {});
  socket.resume().write(bytes, 'latin1');
  return once(socket, 'connect').then(() => socket);
}

test('over a unix socket the kernel says who calls', async () => {
  const { callers, gate } = watching();
  await using agent = await served({ gate });
  await agent.client.node.getNode();
  expect(callers).toEqual([{ kind: 'unix', uid: process.getuid?.(), gid: process.getgid?.(), pid: process.pid }]);
});

test.runIf(isRoot)('another user is that user, whatever it says', async () => {
  const { callers, gate } = watching();
  await using agent = await served({ gate });
  chmodSync(agent.directory, 0o755);
  chmodSync(agent.path, 0o666);
  const call = ['-s', '--http2-prior-knowledge', '--unix-socket', agent.path, '-H', 'content-type: application/grpc', '-H', 'te: trailers'];
  const body = ['-H', 'x-remote-uid: 0', '--data-binary', '@-', '-o', '/dev/null', `http://taplane${GET_NODE}`];
  const curl = spawn('setpriv', ['--reuid=4242', '--regid=4243', '--clear-groups', 'curl', ...call, ...body]);
  curl.stdin.end(Buffer.alloc(5));
  await once(curl, 'close');
  expect(callers).toEqual([{ kind: 'unix', uid: 4242, gid: 4243, pid: curl.pid }]);
});

test('on a connection of which nobody knows whose it is no call is handled, and each is told of first', async () => {
  const told: unknown[] = [];
  const stranger = async (path: string, { code }: { code: string }) => void told.push([path, code]);
  const nobody = (_: string, path: string): never => {
    throw unknownCaller(path);
  };
  const server = new Server({ interceptors: [knownCallers(nobody, stranger)] });
  const { getNode } = NodeServiceService;
  server.addService({ getNode: rawMethod(getNode) }, { getNode: () => told.push('handled') });
  const port = await new Promise((resolve) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (_, taken) => resolve(taken)),
  );
  await using client = connect(`127.0.0.1:${port}`, { timeoutMs: 15_000 });
  const refusal = await client.node.getNode().catch((error: { reason: string }) => [...told, error.reason]);
  expect(refusal).toEqual([[GET_NODE, 'UNAUTHENTICATED'], 'UNKNOWN_CALLER']);
  server.forceShutdown();
});

test('over loopback a caller is anybody of this machine', async () => {
  const { callers, gate } = watching();
  await using agent = await served({ listen: ['127.0.0.1:0'], insecureLoopback: true, gate });
  await using client = connect(agent.server.addresses[0] ?? '', { timeoutMs: 15_000 });
  await client.node.getNode();
  expect(callers).toEqual([{ kind: 'loopback', address: expect.stringMatching(/^127\.0\.0\.1:\d+$/) }]);
});

test('a socket of which the kernel says nothing is closed', async () => {
  const peerCredentials = () => {
    throw new Error('getsockopt: ENOPROTOOPT');
  };
  await using agent = await served({ peerCredentials });
  await expect(agent.client.node.getNode()).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect(agent.server.connections()).toMatchObject({ refused: { no_credentials: expect.any(Number) }, accepted: { unix: 0 } });
});

test('too many connections are refused, of one caller and of all, and room is made when one ends', async () => {
  const uids: number[] = [];
  const peerCredentials = () => ({ uid: uids.shift() ?? 0, gid: 0, pid: 1 });
  await using agent = await served({ peerCredentials, limits: { maxConnections: 5, maxConnectionsPerClient: 3 } });
  const count = () => agent.server.connections();
  const socket = async (uid: number) => {
    uids.push(uid);
    return await silent(agent);
  };
  const ofOne = [await socket(1), await socket(1), await socket(1)];
  await once(await socket(1), 'close');
  expect(count()).toMatchObject({ open: { unix: 3 }, refused: { client_connections: 1, connections: 0 } });
  const ofTwo = [await socket(2), await socket(2)];
  await once(await socket(3), 'close');
  expect(count()).toMatchObject({ open: { unix: 5 }, refused: { client_connections: 1, connections: 1 } });
  // Who calls on such a connection is told why.
  uids.push(1);
  await using oneMore = connect(agent.address, { timeoutMs: 15_000 });
  await expect(oneMore.node.getNode()).rejects.toMatchObject({
    code: 'RESOURCE_EXHAUSTED',
    reason: 'TOO_MANY_CONNECTIONS',
    message: expect.stringMatching(/all callers may have 5 connections.*limits\.connections /),
  });
  // A few at a time; others are closed at once.
  const begun = performance.now();
  uids.push(...Array.from({ length: 40 }, () => 3));
  const many = await Promise.all(Array.from({ length: 40 }, () => silent(agent)));
  const closed = many.map(async (one) => {
    if (!one.closed) await once(one, 'close');
    return performance.now() - begun;
  });
  await Promise.race(closed);
  expect(performance.now() - begun).toBeLessThan(900);
  await Promise.all(closed);
  expect(count()).toMatchObject({ open: { unix: 5 }, accepted: { unix: 5 } });
  // However many others have taken all there are, root can look what is going on.
  expect((await agent.client.node.getNode()).name).toBe('node-a');
  ofOne[0]?.destroy();
  await eventually(() => count().open.unix === 5);
  ofTwo[0]?.destroy();
  await eventually(() => count().open.unix === 4);
  ofTwo.push(await socket(4));
  await eventually(() => count().open.unix === 5);
  for (const one of [...ofOne, ...ofTwo]) one.destroy();
  await eventually(() => count().open.unix === 1);
});

test('a connection without a call is closed in time, one with a call stays', async () => {
  await using agent = await served({ limits: { firstCallTimeoutMs: 300 } });
  await agent.client.node.getNode();
  const preface = 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00';
  // Silent, half a preface, a whole one, and headers that never end (HEADERS without END_HEADERS).
  const idle = await Promise.all(
    ['', 'PRI * HTT', preface, `${preface}\x00\x00\x01\x01\x00\x00\x00\x00\x01\x82`].map((bytes) => silent(agent, bytes)),
  );
  await Promise.all(idle.map((socket) => once(socket, 'close')));
  await eventually(() => agent.server.connections().open.unix === 1);
  expect(agent.server.connections().refused.no_call).toBe(4);
  expect((await agent.client.node.getNode()).name).toBe('node-a');
  expect(agent.server.connections().accepted.unix).toBe(5);
});

test('idle and old connections end, and calls go on over new ones', async () => {
  await using agent = await served({ limits: { maxConnectionIdleMs: 200, maxConnectionAgeMs: 600_000 } });
  await agent.client.node.getNode();
  await eventually(() => agent.server.connections().open.unix === 0);
  await agent.client.node.getNode();
  await using old = await served({ limits: { maxConnectionAgeMs: 200, maxConnectionAgeGraceMs: 200 } });
  const watch = old.client.interfaces.watch(WatchInterfacesRequest.create(), AbortSignal.timeout(15_000))[Symbol.asyncIterator]();
  await expect(
    (async () => {
      while (!(await watch.next()).done);
    })(),
  ).rejects.toMatchObject({ code: 'UNAVAILABLE' });
  expect((await old.client.node.getNode()).name).toBe('node-a');
});

test('a stop tells everybody, waits for calls, cuts the rest, and is over soon whatever clients do', async () => {
  await using agent = await served();
  const ended = (async () => {
    for await (const _ of agent.client.interfaces.watch(WatchInterfacesRequest.create(), AbortSignal.timeout(30_000)));
  })().catch((error: unknown) => error);
  await eventually(() => agent.interfaces.watching() === 1);
  const stubborn = await Promise.all(
    ['', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00'].map((bytes) => silent(agent, bytes)),
  );
  await eventually(() => agent.server.connections().open.unix === 3);
  const begun = performance.now();
  const stopped = agent.server.stop(400);
  expect(
    await silent(agent).then(
      (socket) => once(socket, 'close'),
      ({ code }) => code,
    ),
  ).toMatch(/ENOENT|ECONNREFUSED/);
  await stopped;
  expect(performance.now() - begun).toBeLessThan(10_000);
  expect(agent.server.connections().open.unix).toBe(0);
  expect(await ended).toMatchObject({ code: expect.stringMatching(/UNAVAILABLE|CANCELLED/) });
  expect(agent.interfaces.watching()).toBe(0);
  for (const socket of stubborn) socket.destroy();
});
