import { describe, expect, it } from 'vitest';
import { ForwardingTable, HOME, NOWHERE } from '../../../src/lane/vxlan/fdb.ts';
import { random, seed } from '../../harness/random.ts';
import { NaiveTable } from './naive-table.ts';

const AGE_MS = 300_000;

function bytesOf(mac: number): Buffer {
  const bytes = Buffer.alloc(8, 0xee);
  bytes.writeUIntBE(mac, 1, 6);
  return bytes;
}

function table(most = 4096, ageMs = AGE_MS) {
  const fdb = new ForwardingTable({ most, ageMs }, 12345);
  return {
    fdb,
    learn: (mac: number, remote: number, nowMs: number) => fdb.learn(bytesOf(mac), 1, remote, nowMs),
    find: (mac: number, nowMs: number) => fdb.find(bytesOf(mac), 1, nowMs),
    home: (mac: number, nowMs: number) => fdb.home(bytesOf(mac), 1, nowMs),
  };
}

const [A, B] = [0x0200_0000_00aa, 0x0200_0000_00bb];

describe('an address', () => {
  it('is found where it was heard, until it has not been heard for its age', () => {
    const { learn, find } = table();
    expect(find(A, 0)).toBe(NOWHERE);
    expect(learn(A, 3, 0)).toBe('new');
    expect(learn(A, 3, 100_000)).toBe('known');
    expect(find(A, 400_000)).toBe(3);
    expect(find(A, 400_001)).toBe(NOWHERE);
    expect(find(B, 0)).toBe(NOWHERE);
  });

  it('moves at once, also home and back, and every move is counted', () => {
    const { fdb, learn, find, home } = table();
    learn(A, 1, 0);
    expect(learn(A, 2, 1)).toBe('moved');
    expect(find(A, 1)).toBe(2);
    expect(home(A, 2)).toBe(true);
    expect(home(A, 3)).toBe(false);
    expect(find(A, 3)).toBe(HOME);
    expect(learn(A, 2, 4)).toBe('moved');
    expect(find(A, 4)).toBe(2);
    expect(fdb.moves).toBe(3);
  });

  it('of our own side is not kept when no remote had it, nor after it has aged', () => {
    const { fdb, learn, find, home } = table();
    home(A, 0);
    expect(fdb.learned).toBe(0);
    learn(A, 1, 0);
    expect(home(A, AGE_MS + 1)).toBe(false);
    expect([fdb.learned, fdb.moves, find(A, AGE_MS + 1)]).toEqual([0, 0, NOWHERE]);
  });

  it('that is heard elsewhere after it has aged is new', () => {
    const { fdb, learn } = table();
    learn(A, 1, 0);
    expect(learn(A, 2, AGE_MS + 1)).toBe('new');
    expect(fdb.moves).toBe(0);
  });

  it.each([0x0100_0000_0001, 0xffff_ffff_ffff, 0x3333_0000_0001, 0])('of a group, or nobody, is not learned: %i', (mac) => {
    const { fdb, learn, find } = table();
    expect(learn(mac, 1, 0)).toBe('none');
    fdb.pin(mac, 1);
    expect(find(mac, 0)).toBe(NOWHERE);
  });

  it('that is pinned never moves and never ages', () => {
    const { fdb, learn, find, home } = table();
    learn(A, 2, 0);
    fdb.pin(A, 1);
    expect(learn(A, 2, 1)).toBe('pinned');
    expect(learn(A, 1, 1)).toBe('known');
    home(A, 1);
    fdb.sweep(10 * AGE_MS);
    expect(find(A, 10 * AGE_MS)).toBe(1);
    expect([fdb.isPinnedElsewhere(bytesOf(A), 1, 2), fdb.isPinnedElsewhere(bytesOf(A), 1, 1)]).toEqual([true, false]);
    expect([fdb.isPinnedElsewhere(bytesOf(B), 1, 2), fdb.learned, fdb.moves]).toEqual([false, 0, 0]);
    fdb.pin(A, 5);
    expect(find(A, 0)).toBe(1);
    fdb.unpinAll();
    expect(find(A, 0)).toBe(NOWHERE);
  });

  it('that moves again and again, each time within a second, is flapping, until it stays for one', () => {
    const { fdb, learn, find, home } = table();
    const flapping = (nowMs: number) => {
      find(A, nowMs);
      return fdb.flapping;
    };
    learn(A, 1, 0);
    for (let move = 1; move <= 8; move++) {
      learn(A, 1 + (move % 2), move * 100);
      expect(flapping(move * 100)).toBe(false);
    }
    home(A, 900);
    expect([flapping(900), flapping(1899), flapping(1900)]).toEqual([true, true, false]);
    learn(A, 1, 1901);
    expect(flapping(1901)).toBe(false);
    learn(B, 1, 1901);
    expect(find(B, 1901)).toBe(1);
    expect(fdb.flapping).toBe(false);
  });
});

it('when it is full nothing more is learned until something ages; what is known may move, what is pinned has room', () => {
  const { fdb, learn, find } = table(10);
  for (let mac = 1; mac <= 10; mac++) expect(learn(mac, 1, mac)).toBe('new');
  expect(learn(11, 1, 20)).toBe('full');
  expect(fdb.refused).toBe(1);
  expect(find(11, 20)).toBe(NOWHERE);
  expect(learn(5, 2, 20)).toBe('moved');
  fdb.pin(12, 4);
  expect(find(12, 20)).toBe(4);
  // The first one has aged; the table finds that by itself, a part of it at a time.
  const later = AGE_MS + 2;
  const outcomes = Array.from({ length: 8 }, () => learn(11, 1, later));
  expect(outcomes).toContain('new');
  expect(fdb.learned).toBeLessThanOrEqual(10);
});

it('forgets a remote with all that is behind it, pinned or learned', () => {
  const { fdb, learn, find } = table();
  for (let mac = 1; mac <= 1000; mac++) learn(mac, mac % 3, 0);
  fdb.pin(2000, 1);
  fdb.forget(1);
  for (let mac = 1; mac <= 1000; mac++) expect(find(mac, 0)).toBe(mac % 3 === 1 ? NOWHERE : mac % 3);
  expect(find(2000, 0)).toBe(NOWHERE);
});

it('lists what is behind remotes now, the pinned first', () => {
  const { fdb, learn, home } = table();
  learn(0xfe00_0000_0001, 2, 0);
  learn(B, 1, 400_000);
  learn(A, 1, 400_000);
  home(A, 400_000);
  fdb.pin(0x0200_ffff_ffff, 7);
  expect(fdb.list(400_000, 10)).toEqual([
    { mac: 0x0200_ffff_ffff, remote: 7, isStatic: true },
    { mac: B, remote: 1, isStatic: false },
  ]);
  expect(fdb.list(400_000, 1)).toHaveLength(1);
});

it(`does as a plain map does, whatever the order (seed ${seed})`, () => {
  const draw = random('fdb');
  for (let round = 0; round < 8; round++) {
    const limits = { most: draw.pick([8, 100, 1000]), ageMs: draw.pick([50, 1000]) };
    const fdb = new ForwardingTable(limits, draw.integer(0, 2 ** 32 - 1));
    const model = new NaiveTable(limits);
    const macs = Array.from({ length: limits.most * 2 }, () => draw.integer(0, 2 ** 24) * 2 ** 24 + draw.integer(0, 2 ** 24 - 1));
    let nowMs = 0;
    for (let step = 0; step < 5_000; step++) {
      nowMs += draw.integer(0, 3) === 0 ? draw.integer(0, limits.ageMs / 20) : 0;
      const mac = draw.pick(macs);
      const remote = draw.integer(0, 5);
      const dice = draw.integer(0, 999);
      const bytes = bytesOf(mac);
      if (dice < 500) {
        // Which of the aged ones a full table has found is its own affair: all of them, here.
        if (fdb.learned >= limits.most) fdb.sweep(nowMs, 5000);
        expect(fdb.learn(bytes, 1, remote, nowMs)).toBe(model.learn(mac, remote, nowMs));
      } else if (dice < 700) expect(fdb.home(bytes, 1, nowMs)).toBe(model.home(mac, nowMs));
      else if (dice < 720) {
        fdb.pin(mac, remote);
        model.pin(mac, remote);
      } else if (dice < 724) {
        fdb.forget(remote);
        model.forget(remote);
      } else if (dice < 726) {
        fdb.unpinAll();
        model.unpinAll();
      } else if (dice < 728) {
        limits.most = draw.integer(1, 1000);
        fdb.limit(limits);
      } else expect(fdb.find(bytes, 1, nowMs)).toBe(model.find(mac, nowMs));
    }
    expect(fdb.moves).toBe(model.moves);
    for (const mac of macs) expect(fdb.find(bytesOf(mac), 1, nowMs)).toBe(model.find(mac, nowMs));
    expect(fdb.list(nowMs, 1e6).sort((a, b) => a.mac - b.mac)).toEqual(model.list(nowMs));
  }
});

it('holds 65,536 addresses, and chains stay short', () => {
  const { learn, find } = table(65_536);
  for (let mac = 1; mac <= 65_536; mac++) learn(0x0200_0000_0000 + mac, mac % 1000, 0);
  expect(learn(0x0300_0000_0000, 1, 0)).toBe('none');
  expect(learn(0x0400_0000_0000, 1, 0)).toBe('full');
  const begun = performance.now();
  for (let mac = 1; mac <= 65_536; mac++) if (find(0x0200_0000_0000 + mac, 0) !== mac % 1000) throw new Error(`${mac} is lost`);
  // Some tens of milliseconds; with long chains, minutes.
  expect(performance.now() - begun).toBeLessThan(5000);
});
