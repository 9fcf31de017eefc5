// A bad wire, in a process of its own: `wire.ts A B SEED` passes every frame between two devices that belong to nobody else, and does to UDP
// and TCP what it is told to, never to what finds neighbours. Reads one command in each line of its standard input, JSON, and answers each
// with one line. See `impairment.ts`, which is its other end.

import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { setTimeout as sleep, setImmediate as turn } from 'node:timers/promises';
import * as libc from '../../src/sys/libc.ts';
import type { Command, Counts, Rules, Sending } from './impairment.ts';
import { random } from './random.ts';
import { type Carried, carried, flipBit, setChecksum } from './wire-frame.ts';

const AF_PACKET = 17;
const ETH_P_ALL_BE = 0x0300;
const SOL_SOCKET = 1;
const SO_RCVBUFFORCE = 33;
const SOL_PACKET = 263;
const PACKET_ADD_MEMBERSHIP = 1;
const PACKET_STATISTICS = 6;
const PACKET_IGNORE_OUTGOING = 23;
const PACKET_MR_PROMISC = 1;
const BUFFER_BYTES = 64 << 20;
const ROUND = 64;
const FRAME_BYTES = 66_000;
/** Frames that wait for their time at most. */
const HELD_MOST = 200_000;
const SEND_ROUND = 64;

type Side = 'a' | 'b';

interface Leg {
  side: Side;
  fd: number;
  poll: libc.Poll | undefined;
  rules: Rules;
  counts: Counts;
  recorded: Buffer[];
}

interface Held {
  dueMs: number;
  to: Leg;
  frame: Buffer;
}

const [deviceA = '', deviceB = '', seedText = '1'] = process.argv.slice(2);
const draw = random('wire', Number(seedText));
const buffer = Buffer.alloc(FRAME_BYTES);
const where: Carried = { ipAt: 0, isV6: false, protocol: 0, headerAt: 0, payloadAt: 0, end: 0 };
/** Two lines of frames that wait, each in the order of its times: those with the usual delay, and those that others overtake. */
const delayed: Held[] = [];
const overtaken: Held[] = [];
let waits = false;

const a = open('a', deviceA);
const b = open('b', deviceB);
watch(a, b);
watch(b, a);
process.stdout.write('{"ready":true}\n');

function noCounts(): Counts {
  return { seen: 0, forwarded: 0, lost: 0, duplicated: 0, reordered: 0, corrupted: 0, damaged: 0, tooBig: 0, overflow: 0, sent: 0 };
}

function open(side: Side, device: string): Leg {
  const index = Number(readFileSync(`/sys/class/net/${device}/ifindex`, 'utf8'));
  const fd = libc.socket(AF_PACKET, libc.SOCK_RAW | libc.SOCK_NONBLOCK | libc.SOCK_CLOEXEC, 0);
  libc.setsockoptInt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, 1);
  libc.setsockoptInt(fd, SOL_SOCKET, SO_RCVBUFFORCE, BUFFER_BYTES);
  // struct packet_mreq
  const membership = Buffer.alloc(16);
  membership.writeInt32LE(index, 0);
  membership.writeUInt16LE(PACKET_MR_PROMISC, 4);
  libc.setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, membership);
  // struct sockaddr_ll
  const address = Buffer.alloc(20);
  address.writeUInt16LE(AF_PACKET, 0);
  address.writeUInt16LE(ETH_P_ALL_BE, 2);
  address.writeInt32LE(index, 4);
  libc.bind(fd, address);
  return { side, fd, poll: undefined, rules: {}, counts: noCounts(), recorded: [] };
}

function watch(from: Leg, to: Leg): void {
  from.poll = libc.pollReadable(from.fd, () => {
    for (let count = 0; count < ROUND; count++) {
      const length = libc.read(from.fd, buffer, FRAME_BYTES);
      if (length <= 0) return;
      pass(from, to, length);
    }
  });
}

/** The frame in `buffer`, which came from `from`. */
function pass(from: Leg, to: Leg, length: number): void {
  const { rules, counts } = from;
  if (!carried(buffer, length, where)) return void put(to, buffer, length);
  counts.seen++;
  if (rules.record !== undefined && from.recorded.length < rules.record) from.recorded.push(Buffer.from(buffer.subarray(0, length)));
  if (rules.maxBytes !== undefined && length - where.ipAt > rules.maxBytes) {
    counts.tooBig++;
    return;
  }
  if (happens(rules.loss)) {
    counts.lost++;
    return;
  }
  if (where.end > where.payloadAt) {
    const bits = (where.end - where.payloadAt) * 8;
    if (happens(rules.damage)) {
      counts.damaged++;
      flipBit(buffer, where.payloadAt, draw.integer(0, bits - 1));
    }
    if (happens(rules.corrupt)) {
      counts.corrupted++;
      flipBit(buffer, where.payloadAt, draw.integer(0, bits - 1));
      setChecksum(buffer, where);
    }
  }
  counts.forwarded++;
  const copies = happens(rules.duplicate) ? 2 : 1;
  counts.duplicated += copies - 1;
  const delayMs = rules.delayMs ?? 0;
  for (let copy = 0; copy < copies; copy++) {
    const isOvertaken = happens(rules.reorder);
    if (isOvertaken) counts.reordered++;
    if (!isOvertaken && delayMs === 0) put(to, buffer, length);
    else hold(isOvertaken ? overtaken : delayed, to, length, delayMs + (isOvertaken ? (rules.reorderMs ?? 3) : 0));
  }
}

function happens(share: number | undefined): boolean {
  return share !== undefined && share > 0 && draw.next() < share;
}

function put(to: Leg, frame: Buffer, length: number): void {
  if (libc.write(to.fd, frame, length) < 0) to.counts.overflow++;
}

function hold(line: Held[], to: Leg, length: number, delayMs: number): void {
  if (line.length >= HELD_MOST) {
    to.counts.overflow++;
    return;
  }
  line.push({ dueMs: performance.now() + delayMs, to, frame: Buffer.from(buffer.subarray(0, length)) });
  if (!waits) setTimeout(release, 1);
  waits = true;
}

function release(): void {
  const now = performance.now();
  for (const line of [delayed, overtaken]) {
    let due = 0;
    for (; due < line.length && (line[due] as Held).dueMs <= now; due++) {
      const { to, frame } = line[due] as Held;
      put(to, frame, frame.length);
    }
    line.splice(0, due);
  }
  waits = delayed.length + overtaken.length > 0;
  if (waits) setTimeout(release, 1);
}

/** Sends what was recorded on its way to `toward` once more, in turn, `count` frames in all. */
async function send({ toward, count, perSecond, change }: Sending): Promise<number> {
  const to = toward === 'a' ? a : b;
  const { recorded } = toward === 'a' ? b : a;
  if (recorded.length === 0) return 0;
  const scratch = Buffer.alloc(FRAME_BYTES);
  const begun = performance.now();
  let sent = 0;
  while (sent < count) {
    if (sent > ((performance.now() - begun) / 1000) * perSecond) {
      await sleep(1);
      continue;
    }
    for (let index = 0; index < SEND_ROUND && sent < count; index++, sent++) {
      const frame = recorded[sent % recorded.length] as Buffer;
      frame.copy(scratch);
      if (change !== undefined && carried(scratch, frame.length, where)) {
        const bytes = where.end - where.payloadAt;
        if (change === 'bit') flipBit(scratch, where.payloadAt, draw.integer(0, bytes * 8 - 1));
        // The counter of a data message of WireGuard, little-endian: not one that came before.
        if (change === 'counter' && bytes >= 16) scratch.writeUInt32LE(1_000_000 + sent, where.payloadAt + 8);
        if (change === 'noise') for (let at = where.payloadAt; at < where.end; at++) scratch[at] = draw.integer(0, 255);
        setChecksum(scratch, where);
      }
      put(to, scratch, frame.length);
    }
    await turn();
  }
  to.counts.sent += sent;
  return sent;
}

/** What the kernel had no room for since the last time. */
function missed(leg: Leg): number {
  const value = Buffer.alloc(8);
  libc.getsockopt(leg.fd, SOL_PACKET, PACKET_STATISTICS, value);
  return value.readUInt32LE(4);
}

for await (const line of createInterface(process.stdin)) {
  const command = JSON.parse(line) as Command;
  let answer: unknown = {};
  if (command.do === 'rules') {
    if (command.from !== 'b') a.rules = command.rules;
    if (command.from !== 'a') b.rules = command.rules;
    for (const leg of [a, b]) if (leg.rules.record === undefined) leg.recorded.length = 0;
  } else if (command.do === 'counts') {
    for (const leg of [a, b]) leg.counts.overflow += missed(leg);
    answer = { a: a.counts, b: b.counts, recorded: { a: a.recorded.length, b: b.recorded.length } };
  } else if (command.do === 'reset') {
    for (const leg of [a, b]) {
      missed(leg);
      leg.counts = noCounts();
    }
  } else answer = await send(command.sending);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}
