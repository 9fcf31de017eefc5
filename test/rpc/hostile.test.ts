// What a peer can do below gRPC, with frames of its own: whatever it sends, the server answers the next client.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectHttp2, type OutgoingHttpHeaders } from 'node:http2';
import { connect as connectSocket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { Client, credentials, type ServiceError } from '@grpc/grpc-js';
import { expect, test } from 'vitest';
import * as http2 from '../harness/http2-frames.ts';
import { eventually, served } from './served.ts';

const LIST = '/taplane.v1.InterfaceService/ListInterfaces';
const WATCH = '/taplane.v1.InterfaceService/WatchInterfaces';

function frame(payload: Buffer, flag = 0, length = payload.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(flag, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, payload]);
}

/** Sends one call as it is; resolves with the status, or what became of the stream. */
function send(path: string, headers: OutgoingHttpHeaders, body: Buffer | undefined, socketPath: string): Promise<string> {
  const session = connectHttp2('http://taplane', { createConnection: () => connectSocket(socketPath) });
  session.on('error', () => {});
  return new Promise<string>((resolve) => {
    const stream = session.request({ ':method': 'POST', ':path': path, 'content-type': 'application/grpc', te: 'trailers', ...headers });
    let status = '';
    stream.on('response', (fields) => (status = String(fields['grpc-status'] ?? '')));
    stream.on('trailers', (fields) => (status = String(fields['grpc-status'] ?? '')));
    stream.on('error', () => {});
    stream.on('close', () => resolve(status || `closed ${stream.rstCode}`));
    setTimeout(() => stream.close(), 400).unref();
    stream.resume();
    stream.end(body);
  }).finally(() => session.destroy());
}

test('odd paths, headers, encodings and bodies leave the server well', async () => {
  await using agent = await served();
  const empty = frame(Buffer.alloc(0));
  const bomb = frame(gzipSync(Buffer.alloc(64 * 1024 * 1024)), 1);
  const attempts: [string, OutgoingHttpHeaders, Buffer | undefined][] = [
    ['/', {}, empty],
    ['/%ff/\u00ff', {}, empty],
    [`/${'x'.repeat(8000)}`, {}, empty],
    [LIST, { 'content-type': 'text/html' }, empty],
    [LIST, { 'grpc-timeout': 'soon' }, empty],
    [LIST, { 'grpc-timeout': '99999999H' }, empty],
    [LIST, { 'grpc-timeout': '0n' }, empty],
    [LIST, { 'x-bin': '***' }, empty],
    [LIST, {}, undefined],
    [LIST, {}, Buffer.concat([empty, empty])],
    [LIST, {}, Buffer.from([0, 0, 0])],
    [LIST, {}, frame(Buffer.from('abc'), 0, 1000)],
    [LIST, {}, frame(Buffer.from('abc'), 0, 0xffffffff)],
    [LIST, {}, frame(Buffer.from('abc'), 1)],
    [LIST, { 'grpc-encoding': 'gzip' }, frame(Buffer.from('abc'), 1)],
    [LIST, { 'grpc-encoding': 'gzip' }, bomb],
    [LIST, { 'grpc-encoding': 'lzma' }, frame(Buffer.from('abc'), 1)],
    [WATCH, {}, Buffer.concat([empty, empty])],
    [WATCH, {}, undefined],
    ['/grpc.health.v1.Health/Watch', {}, frame(Buffer.from([0x0a, 0x7f]))],
    ['/grpc.reflection.v1.ServerReflection/ServerReflectionInfo', {}, frame(Buffer.from([0xff, 0xff]))],
  ];
  for (const [path, headers, body] of attempts) await send(path, headers, body, agent.path);
  for (const bytes of ['GET / HTTP/1.1\r\n\r\n', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00', '\x16\x03\x01']) {
    await new Promise<void>((resolve) => {
      const socket = connectSocket(agent.path, () => socket.write(bytes));
      socket.on('error', () => {}).on('close', () => resolve());
      setTimeout(() => socket.destroy(), 100);
    });
  }
  expect((await agent.client.node.getNode()).name).toBe('node-a');
  await eventually(() => agent.interfaces.watching() === 0);
  expect(agent.logged).toEqual([]);
});

test('a client that goes on resetting streams loses its connection, before it has cost much', async () => {
  let calls = 0;
  const authorize = () => {
    calls += 1;
  };
  await using agent = await served({ gate: { authorize } });
  const session = connectHttp2('http://taplane', { createConnection: () => connectSocket(agent.path) });
  session.on('error', () => {});
  for (let call = 0; call < 3000 && !session.destroyed; call += 1) {
    const stream = session.request({ ':method': 'POST', ':path': WATCH, 'content-type': 'application/grpc', te: 'trailers' });
    stream.on('error', () => {});
    stream.end(frame(Buffer.alloc(0)));
    stream.close(8);
    if (call % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
  }
  await eventually(() => session.destroyed && agent.server.connections().open.unix === 0);
  expect(calls).toBeLessThan(500);
  expect((await agent.client.node.getNode()).name).toBe('node-a');
});

/** The frames of one call. */
function call(index: number): Buffer[] {
  const id = 2 * index + 1;
  return [
    http2.frame(http2.HEADERS, http2.END_HEADERS, id, http2.callHeaders(WATCH)),
    http2.frame(http2.DATA, http2.END_STREAM, id, [0, 0, 0, 0, 0]),
  ];
}

test('a connection that is reset while its calls wait takes nothing along', async () => {
  let calls = 0;
  // The first call holds everything up, until the connection is gone.
  const authorize = () => {
    calls += 1;
    if (calls === 1) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 600);
  };
  await using agent = await served({ gate: { authorize } });
  const frames = Array.from({ length: 40 }, (_, index) => call(index)).flat();
  // It reads nothing, so that the server hears of a reset, not of an end.
  const program = `const s = require('net').connect(process.argv[1]).pause(); s.write(Buffer.from(process.argv[2], 'hex')); setTimeout(() => s.destroy(), 200)`;
  const peer = spawn(process.execPath, ['-e', program, agent.path, Buffer.concat([http2.PREFACE, ...frames]).toString('hex')], {
    stdio: 'inherit',
  });
  await once(peer, 'close');
  await eventually(() => agent.server.connections().open.unix === 0);
  expect(calls).toBeGreaterThan(0);
  expect(calls).toBeLessThan(40);
  expect((await agent.client.node.getNode()).name).toBe('node-a');
  expect(agent.logged).toEqual([]);
});

test('a client that compresses is told to stop it, before anything is unpacked', async () => {
  await using agent = await served();
  const client = new Client(agent.address, credentials.createInsecure(), { 'grpc.default_compression_algorithm': 2 });
  const asked = (path: string): Promise<ServiceError> =>
    new Promise((resolve) => {
      const same = (bytes: Buffer) => bytes;
      client.makeUnaryRequest(path, same, same, Buffer.alloc(0), (error) => resolve(error as ServiceError));
    });
  const error = await asked(LIST);
  expect([error.code, error.details]).toEqual([12, expect.stringMatching(/ListInterfaces: .* gzip are not taken; turn compression off/)]);
  expect(error.metadata.get('grpc-status-details-bin').length).toBe(1);
  // As another program would send it: the answer is there before the message is.
  expect(await send(LIST, { 'grpc-encoding': 'deflate' }, undefined, agent.path)).toBe('12');
  client.close();
});

test('a stream that comes in crumbs ends its connection; small messages do not', async () => {
  await using agent = await served();
  const frames = (count: number, each: number) => Array.from({ length: count }, () => http2.frame(http2.DATA, 0, 1, Array(each).fill(0)));
  const opened = [call(0)[0] as Buffer, http2.frame(http2.DATA, 0, 1, [0, 0, 15, 0, 0])];
  const sent = async (...more: Buffer[]) => {
    const socket = connectSocket(agent.path).on('error', () => {});
    socket.resume().write(Buffer.concat([http2.PREFACE, ...opened, ...more]));
    return await Promise.race([once(socket, 'close').then(() => 'ended'), sleep(300).then(() => 'stays')]).finally(() => socket.destroy());
  };
  expect(await Promise.all([sent(...frames(300, 1)), sent(...frames(300, 6)), sent(...frames(200, 1))])).toEqual([
    'ended',
    'stays',
    'stays',
  ]);
  expect((await agent.client.node.getNode()).name).toBe('node-a');
});

test('of streams that are reset in the piece that opens them, only a few become calls', async () => {
  let calls = 0;
  const authorize = () => {
    calls += 1;
  };
  await using agent = await served({ gate: { authorize } });
  const resets = Array.from({ length: 1500 }, (_, index) => [
    ...call(index),
    http2.frame(http2.RST_STREAM, 0, 2 * index + 1, [0, 0, 0, 8]),
  ]).flat();
  const socket = connectSocket(agent.path).on('error', () => {});
  socket.resume().write(Buffer.concat([http2.PREFACE, ...resets]));
  await new Promise((resolve) => socket.on('close', resolve));
  expect(calls).toBeLessThanOrEqual(20);
  await eventually(() => agent.interfaces.watching() === 0);
  expect((await agent.client.node.getNode()).name).toBe('node-a');
  expect(agent.logged).toEqual([]);
});

test('a client that resets streams as fast as it opens them leaves nothing behind', async () => {
  await using agent = await served();
  for (let round = 0; round < 10; round += 1) {
    const session = connectHttp2('http://taplane', { createConnection: () => connectSocket(agent.path) });
    session.on('error', () => {});
    for (let call = 0; call < 90 && !session.destroyed; call += 1) {
      const stream = session.request({ ':method': 'POST', ':path': WATCH, 'content-type': 'application/grpc', te: 'trailers' });
      stream.on('error', () => {});
      stream.end(frame(Buffer.alloc(0)));
      if (call % 2 === 0) stream.close(8);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
    session.destroy();
  }
  await eventually(() => agent.interfaces.watching() === 0);
  expect((await agent.client.node.getNode()).name).toBe('node-a');
  expect(agent.logged).toEqual([]);
});
