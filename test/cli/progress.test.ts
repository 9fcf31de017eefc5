// The progress line, the pace of a replay, and how a capture is ended from this side.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { CaptureTail } from '../../src/cli/capture-tail.ts';
import { progress, progressLine } from '../../src/cli/progress.ts';
import { capturedPace, steadyPace, topSpeed } from '../../src/cli/replay-pace.ts';
import { Loss_Reason, PacketBatch } from '../../src/gen/taplane/v1/packet.ts';
import { interfaceDescription, interfaceStatistics, packetBlockBytes, sectionHeader, writePacket } from '../../src/packet/pcapng.ts';

test('a line has packets, bytes, the rate of the last seconds, drops and the time left', () => {
  const line = progressLine(0);
  const state = { packets: 0, bytes: 0, dropped: 0, done: undefined };
  expect(line(state, 1)).toBe('0 packets  0 B  0/s  0 dropped');
  expect(line({ ...state, packets: 1000, bytes: 2_097_152, done: 0.25 }, 1000)).toBe('1000 packets  2.0 MiB  1000/s  0 dropped  3 s left');
  for (let at = 2000; at <= 9000; at += 1000) line({ ...state, packets: 1000 }, at);
  expect(line({ ...state, packets: 1300, dropped: 7, done: 1 }, 10_000)).toBe('1300 packets  0 B  100/s  7 dropped  0 s left');
  expect(progressLine(0)({ ...state, packets: 1, done: 0.001 }, 60_000)).toContain('17 h left');
});

test('a terminal sees it rewritten in place, messages above it, and nothing of it at the end', async () => {
  let screen = '';
  const terminal = { isTTY: true, columns: 30, write: (text: string) => (screen += text) };
  {
    using shown = progress(() => ({ packets: 5, bytes: 100, dropped: 0, done: undefined }), { terminal });
    await sleep(500);
    shown.say('a message');
  }
  const seen = screen.replaceAll('\r\u001b[K', '<erase>');
  expect(seen).toMatch(/^(<erase>5 packets {2}100 B {2}\d+\/s {2}0 d\S*){1,3}<erase>a message\n(<erase>)?$/);
});

test('no terminal sees nothing', async () => {
  let screen = '';
  const write = (text: string) => (screen += text);
  const state = () => ({ packets: 5, bytes: 100, dropped: 0, done: undefined });
  {
    using _piped = progress(state, { terminal: { isTTY: false, write } });
    using _unwanted = progress(state, { terminal: { isTTY: true, write }, wanted: false });
    await sleep(300);
  }
  expect(screen).toBe('');
});

test('packets are due when they were captured, faster or slower, in steady steps, or at once', () => {
  const times = [1000.5, 1000.75, 1000.6, 1002.5].map((time) => ({ seconds: Math.floor(time), nanos: Math.round((time % 1) * 1e9) }));
  expect(times.map(capturedPace(1))).toEqual([0, 250, 250, 2000]);
  expect(times.map(capturedPace(4))).toEqual([0, 62.5, 62.5, 500]);
  expect(times.map(steadyPace(500))).toEqual([0, 2, 4, 6]);
  expect(times.map(topSpeed)).toEqual([0, 0, 0, 0]);
  const rounds = capturedPace(1);
  times.map(rounds);
  rounds.nextRound();
  expect(times.map(rounds)).toEqual([2000, 2250, 2250, 4000]);
});

const header = Buffer.concat([sectionHeader(), interfaceDescription({ name: 'tun0', linkType: 101, snapLength: 0 })]);
const packet = (timeNs: bigint): Buffer => {
  const block = Buffer.alloc(packetBlockBytes(3));
  writePacket(block, 0, 0, timeNs, Buffer.from('abc'), 0, 3, 3, 'inbound');
  return block;
};
const account = {
  offered: 10n,
  delivered: 3n,
  filtered: 2n,
  sampledOut: 1n,
  dropped: [
    { reason: Loss_Reason.KERNEL, count: 3n },
    { reason: Loss_Reason.QUEUE_FULL, count: 1n },
  ],
};

test('a capture that is interrupted gets the statistics of the last account, within the times of its packets', () => {
  const tail = new CaptureTail();
  tail.take(PacketBatch.fromPartial({ pcapng: header }), 500n);
  tail.take(PacketBatch.fromPartial({ pcapng: Buffer.concat([packet(400n), packet(900n)]) }), 600n);
  tail.take(PacketBatch.fromPartial({ pcapng: packet(700n), totals: account }), 700n);
  expect(tail.packets).toBe(3);
  expect(tail.bytes).toBe(header.length + 3 * packetBlockBytes(3));
  expect(tail.end(800n)).toEqual(interfaceStatistics(0, { received: 10n, accepted: 4n, dropped: 4n, startNs: 400n, endNs: 900n }));
});

test('a capture of several spans has one head, the packets of all, and statistics of all', () => {
  const tail = new CaptureTail();
  const opened = {};
  const ended = interfaceStatistics(0, { received: 1n, dropped: 0n, startNs: 0n, endNs: 1n });
  expect(tail.take(PacketBatch.fromPartial({ opened, pcapng: header }), 100n)).toEqual(header);
  expect(tail.take(PacketBatch.fromPartial({ pcapng: packet(200n), totals: account }), 200n)).toEqual(packet(200n));
  expect(tail.take(PacketBatch.fromPartial({ opened, pcapng: Buffer.concat([header, packet(300n)]) }), 300n)).toEqual(packet(300n));
  expect(tail.take(PacketBatch.fromPartial({ pcapng: ended, totals: account }), 400n)).toHaveLength(0);
  expect(tail.end(500n)).toEqual(interfaceStatistics(0, { received: 20n, accepted: 8n, dropped: 8n, startNs: 100n, endNs: 500n }));
});

test('a capture that the agent has ended, or that has not begun, needs nothing more', () => {
  const tail = new CaptureTail();
  expect(tail.end(0n)).toHaveLength(0);
  const ended = interfaceStatistics(0, { received: 0n, dropped: 0n, startNs: 0n, endNs: 1n });
  tail.take(PacketBatch.fromPartial({ pcapng: Buffer.concat([header, ended]) }), 5n);
  expect(tail.end(9n)).toHaveLength(0);
});
