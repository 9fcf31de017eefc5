import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, expect, it } from 'vitest';
import { type IpfixExporter, type IpfixExporterOptions, openIpfixExporter } from '../../src/flow/ipfix-exporter.ts';
import { SOON } from '../harness/bound.ts';
import { aBatch, aFlow, TIME_S, traffic } from './flow-records.ts';
import { dissect, hasTshark } from './tshark-ipfix.ts';

const open: { close(): unknown }[] = [];
afterEach(async () => {
  for (const each of open.splice(0)) await each.close();
});

const lines: string[] = [];
const log = {
  info: (_: object, message: string) => lines.push(`info ${message}`),
  warn: (_: object, message: string) => lines.push(`warn ${message}`),
};

function exporterTo(collector: string, about: Partial<IpfixExporterOptions> = {}): IpfixExporter {
  lines.length = 0;
  const exporter = openIpfixExporter({ collector, observationDomainId: 7, interfaceIndex: () => 1, log, ...about });
  open.push(exporter);
  return exporter;
}

/** Records of one direction each. */
function batchOf(records: number) {
  const flow = aFlow({ sourceAddress: Buffer.alloc(4, 1), destinationAddress: Buffer.alloc(4, 2), protocol: 17, forward: traffic(1, 100) });
  return aBatch(Array.from({ length: records }, () => flow));
}

interface Received {
  bytes: Buffer;
  templates: boolean;
  sequence: number;
}

async function collect(address = '127.0.0.1', port = 0): Promise<{ socket: Socket; port: number; received: Received[]; close(): void }> {
  const socket = createSocket({ type: address.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 4 * 1024 * 1024 });
  const received: Received[] = [];
  socket.on('message', (bytes) => received.push({ bytes, templates: bytes.readUInt16BE(16) === 2, sequence: bytes.readUInt32BE(8) }));
  socket.bind(port, address);
  await once(socket, 'listening');
  let isOpen = true;
  const collector = {
    socket,
    port: socket.address().port,
    received,
    close() {
      if (isOpen) socket.close();
      isOpen = false;
    },
  };
  open.push(collector);
  return collector;
}

it.each([
  ['127.0.0.1', '127.0.0.1'],
  ['::1', '[::1]'],
])('sends templates first, then data, in datagrams that fit, to %s as %s', async (listen, name) => {
  const { received, port } = await collect(listen);
  const exporter = exporterTo(`${name}:${port}`);
  exporter.send(batchOf(500));
  await expect.poll(() => exporter.stats().records, SOON).toBe(500n);
  await expect.poll(() => BigInt(received.length), SOON).toBe(exporter.stats().messages);
  expect(received[0]?.templates).toBe(true);
  expect(received.at(-1)?.templates).toBe(false);
  for (const { bytes } of received) expect(bytes.length).toBeLessThanOrEqual(1400);
  expect(exporter.stats()).toMatchObject({ collector: `${name}:${port}`, failedRecords: 0n, reason: '' });
});

it('takes the next address of a name when nobody listens on the first', async () => {
  const { received, port } = await collect('127.0.0.1');
  const addresses = [
    { address: '::1', family: 6 },
    { address: '127.0.0.1', family: 4 },
  ];
  const exporter = exporterTo(`collector.example:${port}`, { resolve: async () => addresses });
  await expect
    .poll(() => {
      exporter.send(batchOf(1));
      return received.length;
    }, SOON)
    .toBeGreaterThan(0);
  expect(received[0]?.templates).toBe(true);
  await expect
    .poll(() => {
      exporter.send(batchOf(1));
      return exporter.stats().reason;
    }, SOON)
    .toBe('');
});

it('goes on from an address that cannot be had at all', async () => {
  const { received, port } = await collect('127.0.0.1');
  // Broadcast is not allowed to a socket that did not ask for it.
  const addresses = [
    { address: '255.255.255.255', family: 4 },
    { address: '127.0.0.1', family: 4 },
  ];
  const exporter = exporterTo(`collector.example:${port}`, { resolve: async () => addresses });
  exporter.send(batchOf(1));
  await expect.poll(() => exporter.stats().reason, SOON).toBe('connect: EACCES');
  await expect.poll(() => exporter.stats().records, SOON).toBe(1n);
  await expect.poll(() => BigInt(received.length), SOON).toBe(exporter.stats().messages);
});

it('does not overrun the buffer that a collector has by default', async () => {
  const { received, socket, port } = await collect();
  socket.setRecvBufferSize(212_992 / 2); // doubled by the kernel
  const exporter = exporterTo(`127.0.0.1:${port}`);
  exporter.send(batchOf(10_000));
  await expect.poll(() => exporter.stats().records, SOON).toBe(10_000n);
  await expect.poll(() => BigInt(received.length), SOON).toBe(exporter.stats().messages);
  expect(received.length).toBeGreaterThan(400);
});

it('follows a name to its new address, with templates, and keeps to one that it still has', async () => {
  const before = await collect('127.0.0.1');
  const after = await collect('127.0.0.2', before.port);
  let now = TIME_S * 1000;
  let names = ['127.0.0.1'];
  const resolve = async () => names.map((address) => ({ address, family: 4 }));
  const exporter = exporterTo(`collector.example:${before.port}`, { now: () => now, resolve });
  const send = async (): Promise<void> => {
    const { records } = exporter.stats();
    exporter.send(batchOf(1));
    await expect.poll(() => exporter.stats().records, SOON).toBe(records + 1n);
  };
  await send();
  names = ['127.0.0.2', '127.0.0.1'];
  now += 61_000;
  await send();
  await send();
  expect(after.received).toEqual([]);
  names = ['127.0.0.2'];
  now += 61_000;
  await expect
    .poll(async () => {
      await send();
      return after.received.length;
    }, SOON)
    .toBeGreaterThan(0);
  expect(after.received[0]?.templates).toBe(true);
  expect(exporter.stats()).toMatchObject({ failedRecords: 0n, reason: '' });
});

it('sends templates again after a minute, and after a thousand messages', async () => {
  const { received, port } = await collect();
  let now = TIME_S * 1000;
  const exporter = exporterTo(`127.0.0.1:${port}`, { now: () => now });
  let sent = 0n;
  /** Sends that many batches of a record, and answers how many messages with templates came of it. */
  const announced = async (batches: number): Promise<number> => {
    const before = received.length;
    for (let i = 0; i < batches; i += 1) exporter.send(batchOf(1));
    sent += BigInt(batches);
    await expect.poll(() => exporter.stats().records, SOON).toBe(sent);
    await expect.poll(() => BigInt(received.length), SOON).toBe(exporter.stats().messages);
    return received.slice(before).filter(({ templates }) => templates).length;
  };
  const inAll = await announced(1);
  expect(inAll).toBeGreaterThan(0);
  expect(await announced(1)).toBe(0);
  now += 59_999;
  expect(await announced(1)).toBe(0);
  now += 1;
  expect(await announced(1)).toBe(inAll);
  // Messages with templates are among the thousand.
  expect(await announced(1000 - inAll)).toBe(0);
  expect(await announced(1)).toBe(inAll);
  // A clock that is set back does not hold them up.
  now -= 3_600_000;
  expect(await announced(1)).toBe(inAll);
});

it('tells of a dead collector, never throws, and goes on with templates when it lives again', async () => {
  const dead = await collect();
  dead.close();
  const exporter = exporterTo(`127.0.0.1:${dead.port}`);
  exporter.send(batchOf(1));
  await expect.poll(() => exporter.stats().reason, SOON).toBe('send: ECONNREFUSED');
  for (let i = 0; i < 20; i += 1) {
    exporter.send(batchOf(10));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await expect.poll(() => exporter.stats().records + exporter.stats().failedRecords, SOON).toBe(201n);
  expect(exporter.stats().reason).toBe('send: ECONNREFUSED');
  expect(lines.filter((line) => line.startsWith('warn'))).toHaveLength(1);

  const { received } = await collect('127.0.0.1', dead.port);
  await expect
    .poll(() => {
      exporter.send(batchOf(1));
      return exporter.stats().reason;
    }, SOON)
    .toBe('');
  expect(received[0]?.templates).toBe(true);
  expect(lines).toHaveLength(2);
});

it('keeps at most 1 MiB for a collector whose name is not known, and counts all of the rest', { timeout: 90_000 }, async () => {
  const exporter = exporterTo('no-such-host.invalid:4739');
  exporter.send(batchOf(1));
  await expect.poll(() => exporter.stats().reason, { timeout: 60_000, interval: 20 }).toMatch(/^resolve: E/);
  const before = process.memoryUsage().arrayBuffers;
  for (let i = 0; i < 100; i += 1) exporter.send(batchOf(1000));
  const { failedRecords, records } = exporter.stats();
  expect(records).toBe(0n);
  expect(exporter.stats().reason).toMatch(/^resolve: E/);
  // 67 bytes each: what is kept is 1 MiB, and little less.
  const kept = (100_001 - Number(failedRecords)) * 67;
  expect(kept).toBeGreaterThan(0.9 * 1024 * 1024);
  expect(kept).toBeLessThanOrEqual(1024 * 1024);
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(32 * 1024 * 1024);
  await exporter.close();
  expect(exporter.stats()).toMatchObject({ records: 0n, failedRecords: 100_001n });
});

it('is not held up by a collector that reads nothing, and shows what it lost as a gap', async () => {
  const { received, socket, port } = await collect();
  const exporter = exporterTo(`127.0.0.1:${port}`);
  exporter.send(batchOf(1));
  await expect.poll(() => exporter.stats().records, SOON).toBe(1n);
  await expect.poll(() => BigInt(received.length), SOON).toBe(exporter.stats().messages);
  // As small as the kernel allows, less than a burst.
  socket.setRecvBufferSize(1);
  const startedAt = performance.now();
  for (let i = 0; i < 20; i += 1) exporter.send(batchOf(1000));
  expect(performance.now() - startedAt).toBeLessThan(5000);
  const { records, failedRecords } = exporter.stats();
  expect(Number(records + failedRecords)).toBeLessThanOrEqual(20_001);
  await expect.poll(() => exporter.stats().records + exporter.stats().failedRecords, SOON).toBe(20_001n);
  expect(Number(exporter.stats().failedRecords)).toBeGreaterThan(0);
  socket.setRecvBufferSize(1024 * 1024);
  exporter.send(batchOf(1));
  await expect.poll(() => received.at(-1)?.sequence, SOON).toBe(20_001);
  expect(BigInt(received.length)).toBeLessThan(exporter.stats().messages);
});

it.skipIf(!hasTshark)('counts a batch that cannot be encoded, and goes on', async () => {
  const { received, port } = await collect();
  const exporter = exporterTo(`127.0.0.1:${port}`);
  const bad = batchOf(3);
  bad.flows[2] = { ...aFlow({ forward: traffic(1, 100) }), sourceAddress: undefined as unknown as Buffer };
  exporter.send(bad);
  expect(exporter.stats()).toMatchObject({ records: 0n, failedRecords: 3n, reason: expect.stringMatching(/^encode: /) });
  exporter.send(batchOf(2));
  await expect.poll(() => exporter.stats().records, SOON).toBe(2n);
  await expect.poll(() => BigInt(received.length), SOON).toBe(exporter.stats().messages);
  expect(dissect(received.map(({ bytes }) => bytes))).toMatchObject({ complaints: [], records: [{}, {}] });
});

it('sends what waits before it closes, and takes nothing after', async () => {
  const { received, port } = await collect();
  const exporter = exporterTo(`127.0.0.1:${port}`);
  exporter.send(batchOf(5000));
  await exporter.close();
  expect(exporter.stats()).toMatchObject({ records: 5000n, failedRecords: 0n, reason: '' });
  await expect.poll(() => BigInt(received.length), SOON).toBe(exporter.stats().messages);
  exporter.send(batchOf(3));
  expect(exporter.stats()).toMatchObject({ records: 5000n, failedRecords: 3n, reason: 'closed' });
  await exporter.close();
});

it('refuses an address that is none at once', () => {
  expect(() => exporterTo('nowhere')).toThrow('collector nowhere');
});
