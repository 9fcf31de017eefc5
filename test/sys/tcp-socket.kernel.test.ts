// TCP sockets that are opened here and taken over by node:net: between two namespaces, with foreign ends, marks and devices.

import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import net from 'node:net';
import { describe, expect, it } from 'vitest';
import { inNamespace } from '../../src/sys/marked-tun.ts';
import { isErrno } from '../../src/sys/sys-error.ts';
import {
  awaitConnection,
  closeTcp,
  connectOutcome,
  openTcpConnection,
  openTcpListener,
  setTcpPatience,
  type TcpConnectionOptions,
  type TcpListenerOptions,
} from '../../src/sys/tcp-socket.ts';
import { SOON } from '../harness/bound.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import { runSync } from '../harness/process.ts';

const ECONNREFUSED = 111;
const PLAIN = { mark: 0, device: '' };

async function withCable(work: (near: Namespace, far: Namespace) => Promise<void>): Promise<void> {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: far, device: 'e1', address: '192.0.2.2/24' });
  near.ip('address add 2001:db8::1/64 dev e0 nodad');
  far.ip('address add 2001:db8::2/64 dev e1 nodad');
  await work(near, far);
}

const openFds = (): number => readdirSync('/proc/self/fd').length;
const portOf = (address: string): string => address.slice(address.lastIndexOf(':') + 1);

function connecting(ns: Namespace, options: Partial<TcpConnectionOptions> & { to: string }): number {
  return inNamespace(ns.name, () => openTcpConnection({ ...PLAIN, ...options }));
}

function outcome(fd: number): Promise<number> {
  return new Promise((resolve) => {
    // The closure keeps it.
    const wait = awaitConnection(fd, (errno) => {
      wait.close();
      resolve(errno);
    });
  });
}

async function connected(ns: Namespace, options: Partial<TcpConnectionOptions> & { to: string }): Promise<net.Socket> {
  const fd = connecting(ns, options);
  expect(await outcome(fd)).toBe(0);
  return new net.Socket({ fd, readable: true, writable: true });
}

/** A server that says back what it hears. */
async function echoServer(
  ns: Namespace,
  options: Partial<TcpListenerOptions> = {},
): Promise<AsyncDisposable & { address: string; seen: string[] }> {
  const { fd, address } = inNamespace(ns.name, () => openTcpListener({ listen: ':0', ...PLAIN, ...options }));
  const seen: string[] = [];
  const server = net.createServer((socket) => {
    seen.push(`${socket.remoteAddress}`);
    socket.on('error', () => {});
    socket.pipe(socket);
  });
  server.listen({ fd });
  await once(server, 'listening');
  return {
    address,
    seen,
    async [Symbol.asyncDispose]() {
      server.close();
    },
  };
}

async function saysBack(socket: net.Socket, content: Buffer): Promise<boolean> {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  socket.end(content);
  await once(socket, 'end');
  return Buffer.concat(parts).equals(content);
}

describe.each([
  { host: '192.0.2.2', near: '192.0.2.1', seen: '::ffff:192.0.2.1' },
  { host: '[2001:db8::2]', near: '[2001:db8::1]', seen: '2001:db8::1' },
])('to $host', ({ host, near: nearHost, seen }) => {
  it('carries a stream both ways', async () => {
    await withCable(async (near, far) => {
      await using server = await echoServer(far);
      expect(server.address).toBe(`[::]:${portOf(server.address)}`);
      const socket = await connected(near, { to: `${host}:${portOf(server.address)}` });
      expect(await saysBack(socket, Buffer.alloc(3_000_000, 'stream'))).toBe(true);
      expect(server.seen).toEqual([seen]);
    });
  });

  it('says that nobody is there', async () => {
    await withCable(async (near) => {
      const before = openFds();
      const fd = connecting(near, { to: `${host}:9` });
      expect(await outcome(fd)).toBe(ECONNREFUSED);
      // Asking has taken it away.
      expect(connectOutcome(fd)).toBe(0);
      closeTcp(fd);
      expect(openFds()).toBe(before);
    });
  });

  it('comes from where it is told to', async () => {
    await withCable(async (near, far) => {
      await using server = await echoServer(far, { listen: `${host}:0` });
      expect(server.address).toBe(`${host}:${portOf(server.address)}`);
      const socket = await connected(near, { to: server.address, from: `${nearHost}:40123` });
      expect(socket.localPort).toBe(40_123);
      expect(await saysBack(socket, Buffer.from('hello'))).toBe(true);
    });
  });
});

it('is heard by socat, which IPv4 is enough for', async () => {
  await withCable(async (near, far) => {
    await using socat = far.spawn(['socat', '-d', '-d', 'TCP4-LISTEN:5000,reuseaddr', 'SYSTEM:rev']);
    await socat.until(({ stderr }) => stderr.includes('listening on'), 'socat to listen', 20_000);
    const socket = await connected(near, { to: '192.0.2.2:5000' });
    const parts: Buffer[] = [];
    socket.on('data', (part: Buffer) => parts.push(part));
    socket.end('straight\n');
    await once(socket, 'end');
    expect(String(Buffer.concat(parts))).toBe('thgiarts\n');
  });
});

it('connects and listens by AF_INET where IPv6 is off', async () => {
  await withCable(async (near, far) => {
    const { fd, address } = inNamespace(far.name, () => openTcpListener({ listen: ':0', ...PLAIN }, 'inet'));
    expect(address).toBe(`0.0.0.0:${portOf(address)}`);
    const server = net.createServer((socket) => socket.pipe(socket)).listen({ fd });
    const client = inNamespace(near.name, () => openTcpConnection({ to: `192.0.2.2:${portOf(address)}`, ...PLAIN }, 'inet'));
    expect(await outcome(client)).toBe(0);
    expect(await saysBack(new net.Socket({ fd: client, readable: true, writable: true }), Buffer.from('four'))).toBe(true);
    server.close();
    const before = openFds();
    expect(() => openTcpConnection({ to: '[::1]:9', ...PLAIN }, 'inet')).toThrow('EAFNOSUPPORT');
    expect(openFds()).toBe(before);
  });
});

it('goes the way of its mark and its device, and what a listener accepts does too', async () => {
  await withCable(async (near, far) => {
    // Where the far end answers from, near has a way to with the mark only; and the other way round.
    far.ip('address add 198.51.100.1/32 dev lo');
    near.ip('rule add fwmark 0x77 table 100');
    near.ip('route add 198.51.100.0/24 via 192.0.2.2 dev e0 table 100');
    await using server = await echoServer(far);
    const to = `198.51.100.1:${portOf(server.address)}`;
    expect(() => connecting(near, { to })).toThrow('ENETUNREACH');
    expect(await saysBack(await connected(near, { to, mark: 0x77 }), Buffer.from('marked'))).toBe(true);
    // Answers of what the marked listener accepts need the marked way; without the mark they have none.
    await using plain = await echoServer(near);
    await using marked = await echoServer(near, { mark: 0x77 });
    near.ip('route del 192.0.2.0/24 dev e0');
    near.ip('route add 192.0.2.2/32 dev e0 src 192.0.2.1 table 100');
    near.ip('route add unreachable 198.51.100.0/24');
    const from = '198.51.100.1:0';
    expect(await saysBack(await connected(far, { to: `192.0.2.1:${portOf(marked.address)}`, from }), Buffer.from('accepted'))).toBe(true);
    const lost = connecting(far, { to: `192.0.2.1:${portOf(plain.address)}`, from });
    let ended = -1;
    const wait = awaitConnection(lost, (errno) => {
      ended = errno;
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(ended).toBe(-1);
    wait.close();
    closeTcp(lost);

    // Tied to a device that has no way there.
    const tied = connecting(far, { to: '127.0.0.1:9', device: 'lo' });
    expect(await outcome(tied)).toBe(ECONNREFUSED);
    closeTcp(tied);
    await using local = await echoServer(far, { device: 'lo' });
    const refused = connecting(near, { to: `192.0.2.2:${portOf(local.address)}`, mark: 0x77 });
    expect(await outcome(refused)).toBe(ECONNREFUSED);
    closeTcp(refused);
  });
});

it('gives up waiting when it is told to, and no sooner', async () => {
  await withCable(async (near) => {
    const before = openFds();
    near.ip('neigh add 192.0.2.99 lladdr 02:00:00:00:00:99 dev e0');
    const fd = connecting(near, { to: '192.0.2.99:9' });
    let ended: number | undefined;
    const wait = awaitConnection(fd, (errno) => {
      ended = errno;
    });
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(ended).toBeUndefined();
    wait.close();
    wait.close();
    closeTcp(fd);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(ended).toBeUndefined();
    expect(openFds()).toBe(before);
  });
});

it('ends a connection whose other side has fallen silent', async () => {
  await withCable(async (near, far) => {
    await using server = await echoServer(far);
    const fd = connecting(near, { to: `192.0.2.2:${portOf(server.address)}` });
    expect(await outcome(fd)).toBe(0);
    setTcpPatience(fd, { idleS: 1, intervalS: 1, count: 1, userTimeoutMs: 600 });
    expect(() => setTcpPatience(fd, { idleS: 0, intervalS: 1, count: 1, userTimeoutMs: 0 })).toThrow('EINVAL');
    const socket = new net.Socket({ fd, readable: true, writable: true });
    expect(runSync('ip', 'netns', 'exec', near.name, 'ss', '-tnoi')).toMatch(/timer:\(keepalive/);
    near.ip('link set e0 down');
    socket.write('lost');
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    expect(['ETIMEDOUT', 'ENETUNREACH', 'EHOSTUNREACH']).toContain(error.code);
  });
}, 30_000);

it('listens again at once on the address of a listener that has just closed', async () => {
  await withCable(async (near, far) => {
    const first = inNamespace(far.name, () => openTcpListener({ listen: '192.0.2.2:0', ...PLAIN }));
    // It closes first, and its side waits a minute for what may still be under way.
    const server = net.createServer((socket) => socket.end('bye')).listen({ fd: first.fd });
    const socket = await connected(near, { to: first.address });
    socket.resume();
    await once(socket, 'close');
    await new Promise((resolve) => server.close(resolve));
    await expect.poll(() => far.run('ss', '-tn', 'state', 'time-wait'), SOON).toContain(`:${portOf(first.address)} `);
    await expect
      .poll(() => {
        const again = inNamespace(far.name, () => openTcpListener({ listen: first.address, ...PLAIN }));
        closeTcp(again.fd);
        return again.address;
      }, SOON)
      .toBe(first.address);
  });
});

it('says why it cannot be opened, and leaves nothing open', async () => {
  await withCable(async (near) => {
    const first = inNamespace(near.name, () => openTcpListener({ listen: '192.0.2.1:0', ...PLAIN }));
    const server = net.createServer().listen({ fd: first.fd });
    await once(server, 'listening');
    const before = openFds();
    const failing: [() => unknown, string][] = [
      [() => openTcpListener({ listen: first.address, ...PLAIN }), 'EADDRINUSE'],
      [() => openTcpListener({ listen: '203.0.113.1:0', ...PLAIN }), 'EADDRNOTAVAIL'],
      [() => openTcpListener({ listen: ':0', mark: 0, device: 'nosuch0' }), 'ENODEV'],
      [() => openTcpListener({ listen: 'x', ...PLAIN }), 'EINVAL'],
      [() => openTcpConnection({ to: '203.0.113.1:1', ...PLAIN }), 'ENETUNREACH'],
      [() => openTcpConnection({ to: '192.0.2.2:1', from: '203.0.113.1:0', ...PLAIN }), 'EADDRNOTAVAIL'],
      [() => openTcpConnection({ to: '192.0.2.2:1', mark: 0, device: 'nosuch0' }), 'ENODEV'],
      [() => openTcpConnection({ to: '192.0.2.2:1', from: 'x', ...PLAIN }), 'EINVAL'],
      [() => openTcpConnection({ to: 'x', ...PLAIN }), 'EINVAL'],
    ];
    for (const [open, code] of failing) {
      let thrown: unknown;
      try {
        inNamespace(near.name, open);
      } catch (error) {
        thrown = error;
      }
      expect(isErrno(thrown, code), `${code}: ${thrown}`).toBe(true);
    }
    expect(openFds()).toBe(before);
    server.close();
  });
});
