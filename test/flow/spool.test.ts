// The spool on a real disk: order, bounds, gaps with exact counts, ids that come again, damaged files, a full disk.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Outgoing } from '../../src/flow/contract.ts';
import { gapBatch, gapTemplate } from '../../src/flow/gap.ts';
import { Spool, type Subject } from '../../src/flow/spool.ts';
import { rowId } from '../../src/flow/spool-rows.ts';
import { FlowBatch, RecordLoss_Reason as Reason } from '../../src/gen/taplane/v1/flow.ts';
import { bound } from '../harness/bound.ts';
import { percentile, summary } from '../harness/percentile.ts';
import { eventMessage, flowMessage, meter } from './batches.ts';

const MIB = 1024 * 1024;
const EPOCH = '0123456789abcdef';
let folder: string;
let spool: Spool;
let resets: string[];

const file = () => join(folder, 'spool', 'spool.db');
function open(spoolBytes = 64 * MIB, retainedBytes = 16 * MIB): Spool {
  spool = new Spool({
    file: file(),
    limits: { spoolBytes, retainedBytes },
    now: () => 1_700_000_000_000,
    onReset: (why) => resets.push(why),
  });
  return spool;
}
const subject = (): Subject => [...spool.account.subjects.values()][0] as Subject;
/** Takes what waits on the first subject as if NATS acknowledged it at once. */
function drain(most = Number.POSITIVE_INFINITY): string[] {
  const ids: string[] = [];
  for (let sequence = subject().sequence + 1; ids.length < most; sequence += 1) {
    const next = spool.next(subject());
    if (next === undefined) break;
    spool.acked(next, sequence, 's');
    ids.push(rowId(next));
  }
  return ids;
}

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'taplane-spool-'));
  resets = [];
});
afterEach(() => {
  spool.close();
  rmSync(folder, { recursive: true, force: true });
});

test('gives back what was put, in order, also to the next process', () => {
  open();
  const lane = meter('t0', EPOCH, 20);
  const batches = Array.from({ length: 50 }, (_, index) => lane.batch(index));
  spool.put(batches.slice(0, 10));
  spool.put(batches.slice(10));
  expect(drain(20)).toEqual(batches.slice(0, 20).map(({ id }) => id));
  spool.close();
  open();
  expect(spool.account).toMatchObject({ waitingMessages: 30, ackedMessages: 20 });
  expect(subject()).toMatchObject({ sequence: 20, incarnation: 's' });
  const next = spool.next(subject());
  expect(Buffer.from(spool.payload(next as never) as Uint8Array)).toEqual(Buffer.from(batches[20]?.payload as Uint8Array));
  expect(drain()).toEqual(batches.slice(20).map(({ id }) => id));
});

test('an id that comes again is skipped: at once, after it was acknowledged and pruned, and by the next process', () => {
  open(64 * MIB, 0);
  const lane = meter('t0', EPOCH, 20);
  spool.put([lane.batch(0), lane.batch(1)]);
  expect(spool.put([lane.batch(0), lane.batch(1), lane.batch(2), lane.batch(2)]).size).toBe(1);
  expect(spool.account.waitingMessages).toBe(3);
  expect(drain()).toHaveLength(3);
  expect(spool.account).toMatchObject({ waitingMessages: 0, ackedMessages: 0 });
  expect(spool.put([lane.batch(1), lane.batch(2)]).size).toBe(0);
  spool.close();
  open();
  expect(spool.put([lane.batch(2)]).size).toBe(0);
  expect(spool.put([lane.batch(3)]).size).toBe(1);
});

describe('without room', () => {
  test('the oldest go, and one gap for each epoch says how many records, exactly', () => {
    open(2 * MIB, MIB);
    const lanes = ['t0', 't1'].map((name, number) => meter(name, `${number}`.repeat(16), 300));
    let records = 0;
    for (let index = 0; index < 200; index += 1) {
      const messages = lanes.map((lane) => lane.batch(index));
      records += messages.reduce((sum, message) => sum + message.records, 0);
      spool.put(messages);
      expect(spool.account.waitingBytes).toBeLessThanOrEqual(2 * MIB);
    }
    let seen = 0;
    for (const each of spool.account.subjects.values()) {
      const first = spool.next(each);
      expect(first).toMatchObject({ reason: Reason.SPOOL_FULL, first: 1 });
      for (let at = first, wanted = 1; at !== undefined; at = spool.next(each, at.pos)) {
        expect(at.first).toBe(wanted);
        expect(at.reason !== 0).toBe(at === first);
        wanted += at.records;
        seen += at.records;
      }
    }
    expect(seen).toBe(records);
    const lost = [...spool.account.subjects.values()].reduce((sum, each) => sum + (spool.next(each)?.records ?? 0), 0);
    expect(spool.account.lost.get(Reason.SPOOL_FULL)).toBe(lost);
    expect(spool.fileBytes()).toBeLessThan(1.25 * 3 * MIB);
  });

  test('a gap names the interface, and is as small as it can be', () => {
    open();
    const message = flowMessage('t0', EPOCH, 7, 100);
    const template = gapTemplate(message.payload);
    expect(template.length).toBeLessThan(100);
    expect(FlowBatch.decode(gapBatch(template, EPOCH, 7, 100, Reason.SPOOL_FULL, 1_700_000_000_250))).toMatchObject({
      cluster: 'c',
      node: 'n',
      interface: 't0',
      interfaceUid: 'uid-t0',
      labels: { app: 'test' },
      epoch: EPOCH,
      firstSequence: 7n,
      flows: [],
      lost: [{ reason: Reason.SPOOL_FULL, count: 100n }],
      exportTime: { seconds: 1_700_000_000n, nanos: 250_000_000 },
    });
    expect(gapTemplate(Uint8Array.of(255, 255, 255)).length).toBe(0);
  });

  test('what was sent and dropped, and turns out to be stored, is not told as lost', () => {
    open(MIB, MIB);
    const lane = meter('t0', EPOCH, 300);
    spool.put([lane.batch(0)]);
    const sent = spool.next(subject());
    let index = 1;
    while (spool.next(subject())?.reason === 0) spool.put([lane.batch(index++)]);
    const before = spool.next(subject());
    spool.acked(sent as never, 1, 's');
    const end = 1 + lane.batch(0).records;
    const after = spool.next(subject());
    if (before?.records === lane.batch(0).records) expect(after).toMatchObject({ reason: 0, first: end });
    else expect(after).toMatchObject({ first: end, records: (before?.records ?? 0) - lane.batch(0).records });
    // A gap that was sent and has grown since is told of once, too.
    while (spool.next(subject())?.reason === 0) spool.put([lane.batch(index++)]);
    const gap = spool.next(subject());
    for (let more = 0; more < 5; more += 1) spool.put([lane.batch(index++)]);
    const grown = spool.next(subject());
    expect(grown?.records).toBeGreaterThan(gap?.records ?? 0);
    spool.acked(gap as never, 2, 's');
    const behind = (gap?.first ?? 0) + (gap?.records ?? 0);
    expect(spool.next(subject())).toMatchObject({ first: behind, records: (grown?.records ?? 0) - (gap?.records ?? 0) });
  });

  test('events go without a word, gaps of very many epochs too, and a message without any room is a gap itself', () => {
    open(200_000, 0);
    for (let number = 1; number <= 1000; number += 1) spool.put([eventMessage('agent-started', EPOCH, number)]);
    expect(spool.account.waitingBytes).toBeLessThanOrEqual(200_000);
    expect(spool.next(subject())?.reason).toBe(0);
    expect(spool.account.lost.get(Reason.SPOOL_FULL)).toBe(1000 - spool.account.waitingMessages);
    for (let number = 0; number < 3000; number += 10) {
      spool.put(Array.from({ length: 10 }, (_, more) => flowMessage(`t${more}`, String(number + more).padStart(16, '0'), 1, 100)));
    }
    expect(spool.account.waitingBytes).toBeLessThanOrEqual(200_000);
    spool.put([flowMessage('big', 'f'.repeat(16), 1, 2000)]);
    expect(spool.next(spool.account.subject('flow', 'big') as Subject)).toMatchObject({ reason: Reason.SPOOL_FULL, records: 2000 });
  });

  test('the file stays within its limits over many rounds, and shrinks with them', () => {
    open(3 * MIB, 3 * MIB);
    const lane = meter('t0', EPOCH, 300);
    let index = 0;
    for (let round = 0; round < 12; round += 1) {
      for (let more = 0; more < 100; more += 1) spool.put([lane.batch(index++)]);
      drain();
      expect(spool.fileBytes()).toBeLessThan(1.25 * 6 * MIB);
      expect(spool.account.ackedBytes).toBeLessThanOrEqual(3 * MIB);
    }
    spool.close();
    open(MIB, MIB / 2);
    for (let turn = 0; turn < 1000 && spool.tidy(); turn += 1);
    expect(spool.fileBytes()).toBeLessThan(1.25 * 1.5 * MIB + MIB);
    expect(statSync(`${file()}-wal`).size).toBeLessThan(6 * MIB);
  });
});

test('what the server lost waits again, in its old place', () => {
  open();
  const lane = meter('t0', EPOCH, 20);
  spool.put(Array.from({ length: 200 }, (_, index) => lane.batch(index)));
  drain(150);
  const at = spool.find(subject(), EPOCH, Number(lane.batch(99).firstSequence));
  let again = 0;
  for (let some = 1; some > 0; again += some) some = spool.giveBack(subject(), at?.pos ?? 0);
  expect(again).toBe(50);
  expect(drain()).toEqual(Array.from({ length: 100 }, (_, index) => lane.batch(100 + index).id));
});

describe('a damaged file', () => {
  const fill = (): Outgoing[] => {
    const lane = meter('t0', EPOCH, 300);
    const messages = Array.from({ length: 60 }, (_, index) => lane.batch(index));
    for (const message of messages) spool.put([message]);
    return messages;
  };
  const asides = () => readdirSync(join(folder, 'spool')).filter((name) => /\.corrupt-[^-]*-[^-]*-[^-]*$/.test(name));

  test.each([
    ['garbage', () => writeFileSync(file(), 'no database at all, '.repeat(1000))],
    ['cut', () => truncateSync(file(), 8192 * 3 + 100)],
    ['overwritten', () => writeFileSync(file(), readFileSync(file()).fill(0xa5, 8192))],
  ])('%s: is put aside, a new one is begun, and says so', (_, harm) => {
    open();
    fill();
    spool.close();
    for (const suffix of ['-wal', '-shm']) rmSync(`${file()}${suffix}`, { force: true });
    harm();
    open();
    expect(spool.putAside).toMatch(/damaged and put aside/);
    expect(spool.put([flowMessage('t0', EPOCH, 1, 5)]).size).toBe(1);
    expect(asides()).toHaveLength(1);
    spool.close();
    writeFileSync(file(), 'again '.repeat(2000));
    open();
    expect(asides()).toHaveLength(1);
  });

  test('in the middle of work: the put succeeds in a new file', () => {
    open();
    fill();
    spool.close();
    open();
    const bytes = readFileSync(file());
    // Everything but the first page, under the open database; small, so that its own memory is soon not enough.
    writeFileSync(file(), bytes.fill(0x5a, 8192));
    const lane = meter('t0', EPOCH, 300);
    for (let index = 60; index < 1500 && resets.length === 0; index += 1) {
      spool.put([lane.batch(index)]);
      drain();
    }
    expect(resets).toHaveLength(1);
    expect(spool.put([flowMessage('t9', 'f'.repeat(16), 1, 5)]).size).toBe(1);
  });

  test('a payload that is not what was put is told as lost', () => {
    open();
    fill();
    spool.close();
    const bytes = readFileSync(file());
    const at = bytes.indexOf(`${EPOCH}-5000`);
    expect(at).toBeGreaterThan(0);
    bytes[at + 3] = (bytes[at + 3] as number) ^ 1;
    writeFileSync(file(), bytes);
    open();
    for (let next = spool.next(subject()); next !== undefined; next = spool.next(subject(), next.pos)) {
      if (next.reason === 0) spool.payload(next);
    }
    expect([...spool.account.lost.keys()]).toEqual([Reason.SPOOL_FAILED]);
  });
});

describe.skipIf(process.getuid?.() !== 0)('on a small disk of its own (needs root)', () => {
  test('a full disk: put throws, all or nothing, and goes on when there is room', () => {
    const mount = join(folder, 'spool');
    mkdirSync(mount);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=3m', 'tmpfs', mount]);
    try {
      open();
      const lane = meter('t0', EPOCH, 300);
      let taken = 0;
      expect(() => {
        for (; taken < 1000; taken += 1) spool.put([lane.batch(taken)]);
      }).toThrow(/full|disk/i);
      const { waitingMessages, waitingBytes } = spool.account;
      expect(waitingMessages).toBe(taken);
      expect(() => spool.put([lane.batch(taken)])).toThrow();
      expect(spool.account).toMatchObject({ waitingMessages, waitingBytes });
      execFileSync('mount', ['-o', 'remount,size=64m', mount]);
      expect(spool.put([lane.batch(taken)]).size).toBe(1);
      expect(drain()).toEqual(Array.from({ length: taken + 1 }, (_, index) => lane.batch(index).id));
      spool.close();
    } finally {
      execFileSync('umount', ['-l', mount]);
    }
    open();
  });
});

test('putting 64 KiB costs little', () => {
  open(24 * MIB, 8 * MIB);
  const payload = flowMessage('t0', EPOCH, 1, 440).payload;
  const times: number[] = [];
  for (let index = 0; index < 1200; index += 1) {
    const message = { ...flowMessage('t0', EPOCH, 1, 1), payload, id: `${EPOCH}:${index + 1}`, firstSequence: BigInt(index + 1) };
    const startedAt = performance.now();
    spool.put([message]);
    times.push(performance.now() - startedAt);
  }
  console.log(
    `put ${payload.length} bytes: ${summary(
      times.map((time) => time * 1000),
      'us',
    )}`,
  );
  expect(percentile(times, 50)).toBeLessThan(bound(0.3, 3));
});
