// The HTTP listener of an agent over real sockets: what it answers, what it refuses, and what it bears.

import { once } from 'node:events';
import { createServer, connect as dial, type Socket } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { type HttpListener, type HttpRoute, startHttp } from '../../src/agent/http.ts';
import { healthAnswer, livez, readiness, readyz } from '../../src/agent/http-health.ts';
import { SOON, whenStrict } from '../harness/bound.ts';

const logged: { level: string; fields: Record<string, unknown>; message: string }[] = [];
const note = (level: string) => (fields: object, message: string) => void logged.push({ level, fields: { ...fields }, message });
const log = { debug: note('debug'), info: note('info'), warn: note('warn'), error: note('error') };

const opened: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of opened.splice(0).reverse()) await close();
  logged.length = 0;
});

async function serving(routes: Record<string, HttpRoute>, listen = '127.0.0.1:0'): Promise<HttpListener> {
  const listener = await startHttp({ listen, routes, log });
  opened.push(() => listener.stop());
  return listener;
}

const BIG = Buffer.alloc(3_000_000, 'x');
const routes: Record<string, HttpRoute> = {
  '/livez': livez,
  '/big': () => ({ status: 200, contentType: 'text/plain', body: BIG }),
  '/bad': () => Promise.reject(new Error('a defect')),
};

/** Sends bytes, and answers all that comes until the other end closes. */
async function raw(address: string, bytes: string): Promise<string> {
  const socket = open(address);
  let text = '';
  socket.on('data', (data) => {
    text += data.toString();
  });
  socket.write(bytes);
  await new Promise((resolve) => socket.once('close', resolve));
  return text;
}

function open(address: string): Socket {
  const socket = dial(Number(address.split(':').at(-1)), '127.0.0.1');
  socket.on('error', () => {});
  // An end is only heard by who reads.
  socket.resume();
  opened.push(() => socket.destroy());
  return socket;
}

describe('answers', () => {
  test('GET and HEAD of known paths; all else is typed', async () => {
    const { address = '' } = await serving(routes);
    const ask = async (method: string, path: string, body?: string) => {
      const response = await fetch(`http://${address}${path}`, { method, ...(body === undefined ? {} : { body }) });
      return { status: response.status, text: await response.text(), headers: response.headers };
    };
    expect(await ask('GET', '/livez')).toMatchObject({ status: 200, text: 'ok\n' });
    const head = await ask('HEAD', '/livez');
    expect([head.status, head.text, head.headers.get('content-length')]).toEqual([200, '', '3']);
    expect((await ask('GET', '/big')).text).toHaveLength(BIG.length);
    const reasonOf = ({ status, text }: { status: number; text: string }) => [
      status,
      (JSON.parse(text) as { error: { reason: string } }).error.reason,
    ];
    expect(reasonOf(await ask('GET', '/nothing'))).toEqual([404, 'NO_SUCH_PATH']);
    expect(reasonOf(await ask('GET', '/constructor'))).toEqual([404, 'NO_SUCH_PATH']);
    const put = await ask('DELETE', '/livez');
    expect([...reasonOf(put), put.headers.get('allow')]).toEqual([405, 'METHOD_NOT_ALLOWED', 'GET, HEAD']);
    expect(reasonOf(await ask('POST', '/livez', 'a body'))).toEqual([413, 'BODY_NOT_TAKEN']);
    expect(reasonOf(await ask('GET', '/bad'))).toEqual([500, 'INTERNAL']);
    expect(logged.filter(({ level }) => level === 'error')).toMatchObject([{ fields: { path: '/bad' }, message: 'http answer failed' }]);
  });

  test.each([
    ['no HTTP', '\x16\x03\x01 what\r\n\r\n', /^HTTP\/1.1 400 /],
    ['a header beyond the bound', `GET /livez HTTP/1.1\r\nhost: a\r\nx: ${'y'.repeat(10_000)}\r\n\r\n`, /^HTTP\/1.1 431 /],
    [
      'a body that never comes',
      'POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n',
      /^HTTP\/1.1 413 [\s\S]*connection: close/i,
    ],
    ['an expectation', 'GET /livez HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n', /^HTTP\/1.1 417 /],
    ['an upgrade', 'GET /livez HTTP/1.1\r\nhost: a\r\nupgrade: h2c\r\nconnection: upgrade, close\r\n\r\n', /^HTTP\/1.1 200 [\s\S]*ok\n$/],
    ['a tunnel', 'CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n', /^$/],
  ])('%s', async (_, bytes, answer) => {
    const { address = '' } = await serving(routes);
    expect(await raw(address, bytes)).toMatch(answer);
    expect((await fetch(`http://${address}/livez`)).status).toBe(200);
  });

  test('a reader that goes away in the middle disturbs nobody', async () => {
    const { address = '' } = await serving(routes);
    for (let index = 0; index < 20; index++) {
      const socket = open(address);
      socket.write('GET /big HTTP/1.1\r\nhost: a\r\n\r\n');
      await once(socket, 'data');
      socket.destroy();
    }
    expect((await fetch(`http://${address}/livez`)).status).toBe(200);
    expect(logged.filter(({ level }) => level !== 'info')).toEqual([]);
  });

  test('at most 32 connections at a time: the oldest that waits makes room, so that nobody can keep a probe out', async () => {
    const { address = '' } = await serving(routes);
    const idle: Socket[] = [];
    for (let index = 0; index < 32; index++) {
      const socket = open(address);
      await once(socket, 'connect');
      idle.push(socket);
    }
    const gone = idle.map((socket) => new Promise((resolve) => socket.once('close', () => resolve(true))));
    for (let round = 0; round < 3; round++)
      expect(await raw(address, 'GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n')).toMatch(/^HTTP\/1.1 200 /);
    expect(await gone[0]).toBe(true);
    expect(idle.filter(({ closed }) => closed).length).toBeLessThanOrEqual(3);
    // One after another: of a burst that overflows the queue of the kernel some are connected on this side only.
    const flood: Socket[] = [];
    for (let index = 0; index < 100; index++) {
      const socket = open(address);
      await once(socket, 'connect');
      flood.push(socket);
    }
    await expect.poll(() => [...idle, ...flood].filter(({ closed }) => !closed).length, SOON).toBeLessThanOrEqual(32);
    expect((await fetch(`http://${address}/livez`)).status).toBe(200);
  });

  whenStrict(
    'a head that never ends has its time',
    async () => {
      const { address = '' } = await serving(routes);
      const began = performance.now();
      expect(await raw(address, 'GET /livez HTTP/1.1\r\nhost: a\r\n')).toMatch(/^HTTP\/1.1 408 /);
      expect(performance.now() - began).toBeLessThan(10_000);
    },
    30_000,
  );

  test('an address that is taken is said once, and had when it is free', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await once(other, 'listening');
    const { port } = other.address() as { port: number };
    const listener = await serving(routes, `127.0.0.1:${port}`);
    expect(listener.address).toBeUndefined();
    expect(logged).toMatchObject([{ level: 'warn', fields: { address: `127.0.0.1:${port}`, err: expect.stringContaining('EADDRINUSE') } }]);
    other.close();
    await expect.poll(() => listener.address, SOON).toBe(`127.0.0.1:${port}`);
    expect(logged.filter(({ level }) => level === 'warn')).toHaveLength(1);
  });

  test('an address that the node has not got may be one of a device that is down', async () => {
    await serving(routes, '192.0.2.1:9');
    expect(logged).toMatchObject([
      { level: 'warn', fields: { err: expect.stringContaining('EADDRNOTAVAIL'), cure: expect.stringContaining('ip link set lo up') } },
    ]);
  });
});

describe('health', () => {
  const lanes = [{ name: 'lane-0', pid: 7 }];
  const whole = { serving: true, storesOpen: true, intact: true, lanes };

  test('ready: every check has a line, with ?verbose also why', () => {
    expect(healthAnswer(readiness(whole), false)).toMatchObject({ status: 200, body: '[+] stores\n[+] lane\n[+] serving\nready\n' });
    expect(healthAnswer(readiness(whole), true).body).toBe(
      '[+] stores: open\n[+] lane: 1 answer\n[+] serving: calls are answered\nready\n',
    );
  });

  test.each([
    [{ serving: undefined }, '[-] serving: still starting'],
    [{ serving: false }, '[-] serving: stopping'],
    [{ storesOpen: false }, '[-] stores: not open yet'],
    [{ lanes: [{ name: 'lane-0', pid: 0 }] }, '[-] lane: no answer from lane-0'],
  ])('%o is not ready, and says why', async (part, line) => {
    const { status, body } = await readyz(() => readiness({ ...whole, ...part }))(new URLSearchParams());
    expect([status, String(body).split('\n')]).toEqual([503, expect.arrayContaining([line, 'not ready'])]);
  });

  test('a damaged state and a lane that nobody needs are no reason not to be ready', () => {
    expect(healthAnswer(readiness({ ...whole, intact: false, lanes: [] }), false).status).toBe(200);
  });
});
