// What a tunnel does by itself as time goes by, under load, and when it is declared anew; with a clock that the test moves.

import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LinkDrops_Reason as Drop, LinkStatus_State as State } from '../../../src/gen/taplane/v1/link.ts';
import { RateLimiter, sourceOf } from '../../../src/lane/link/rate-limiter.ts';
import { Alarm, type Sleeper } from '../../../src/lane/wireguard/alarm.ts';
import { LOAD_MESSAGES, RATE } from '../../../src/lane/wireguard/handshakes.ts';
import { COOKIE_REPLY, DATA, INITIATION, INITIATION_TIMESTAMP_AT, RESPONSE } from '../../../src/lane/wireguard/messages.ts';
import { keyPair } from '../../../src/lane/wireguard/noise.ts';
import { WaitingFrames, WaitingRoom } from '../../../src/lane/wireguard/waiting-frames.ts';
import { parseSocketAddress, socketAddress } from '../../../src/sys/socket-address.ts';
import { type Datagram, End, type PeerPartial, packet, pair, Wire } from './wire.ts';

const typesOf = (datagrams: readonly Datagram[]) => datagrams.map(({ bytes }) => bytes[0]);
const keepalives = (datagrams: readonly Datagram[]) => datagrams.filter(({ bytes }) => bytes[0] === DATA && bytes.length === 32).length;
const initiations = (datagrams: readonly Datagram[]) => datagrams.filter(({ bytes }) => bytes[0] === INITIATION).length;

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => void vi.useRealTimers());

function connected(options: Parameters<typeof pair>[1] = {}) {
  const wire = new Wire();
  const ends = pair(wire, options);
  ends.a.send('10.0.0.1', '10.0.0.2');
  wire.deliver();
  return { wire, ...ends };
}

/** Lets time pass in small steps, delivering; answers what was sent. */
function pass(wire: Wire, ms: number, step = 100): Datagram[] {
  const before = wire.log.length;
  for (let passed = 0; passed < ms; passed += step) {
    vi.advanceTimersByTime(step);
    wire.deliver();
  }
  return wire.log.slice(before);
}

describe('by itself', () => {
  test('an initiation is sent again every 5 s and a bit, for 90 s, and what waits is given up', () => {
    const wire = new Wire();
    const { a } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2');
    const moments: number[] = [];
    for (let at = 0; at < 200_000; at += 20) {
      if (initiations(wire.take()) > 0) moments.push(at);
      vi.advanceTimersByTime(20);
      if (at === 8000) expect(a.tunnel.state().peers[0]?.reason).toMatch(/^no handshake yet; last initiation [23] s ago was not answered$/);
    }
    for (const [index, at] of moments.entries()) {
      const gap = at - (moments[index - 1] ?? at - 5000);
      if (gap < 5000 || gap > 5400) throw new Error(`gap of ${gap} ms`);
    }
    expect(moments.length).toBeGreaterThanOrEqual(17);
    expect(moments.at(-1)).toBeLessThan(90_000);
    expect([a.drops(Drop.NOT_CONNECTED), a.tunnel.indices.size]).toEqual([1, 0]);
    expect(a.tunnel.state()).toMatchObject({ state: State.CONNECTING, reason: 'no handshake yet; nothing is to be sent' });
    // And begins again with the next frame.
    a.send('10.0.0.1', '10.0.0.2');
    expect(typesOf(wire.take())).toEqual([INITIATION]);
  });

  test('an initiation does not cross the answer to that of the other end, and follows when nothing comes of it', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2');
    wire.give((wire.take() as [Datagram])[0]);
    expect(typesOf(wire.take())).toEqual([RESPONSE]);
    a.tunnel.close();
    b.send('10.0.0.2', '10.0.0.1');
    vi.advanceTimersByTime(4900);
    expect(wire.take()).toEqual([]);
    vi.advanceTimersByTime(600);
    expect(typesOf(wire.take())).toEqual([INITIATION]);
  });

  test.each(['initiation', 'response'])("what waits is not forgotten when the peer's %s came, and nothing after it", (lost) => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    if (lost === 'initiation') a.send('10.0.0.1', '10.0.0.2');
    const mine = wire.take();
    vi.advanceTimersByTime(3000);
    b.send('10.0.0.2', '10.0.0.1');
    expect(mine.length).toBe(lost === 'initiation' ? 1 : 0);
    wire.give((wire.take() as [Datagram])[0]);
    expect(typesOf(wire.take())).toEqual([RESPONSE]);
    if (lost === 'response') a.send('10.0.0.1', '10.0.0.2');
    b.tunnel.close();
    const again = new End(wire, b.address, (b.setup.spec?.peers ?? []) as PeerPartial[], { privateKey: b.privateKey });
    pass(wire, 11_000);
    expect([a.tunnel.state().state, again.received.length]).toEqual([State.UP, 1]);
  });

  test('no packet is lost by sessions that are renewed, also those that both ends began at once', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    const sent = { a: 0, b: 0 };
    const delayed: Datagram[][] = [[], [], []];
    // Each way takes 30 ms.
    const run = (ms: number, sends: boolean) => {
      for (let passed = 0; passed < ms; passed += 10) {
        vi.advanceTimersByTime(10);
        if (sends) {
          a.send('10.0.0.1', '10.0.0.2', 60);
          b.send('10.0.0.2', '10.0.0.1', 60);
          sent.a++;
          sent.b++;
        }
        delayed.push(wire.take());
        for (const datagram of delayed.shift() ?? []) wire.give(datagram);
      }
    };
    for (let round = 0; round < 5; round++) {
      run(1000, true);
      run(500, false);
      pass(wire, 117_000, 1000);
      run(3000, true);
    }
    run(1000, false);
    expect(initiations(wire.log)).toBeGreaterThanOrEqual(8);
    expect([sent.a - b.received.length, sent.b - a.received.length, a.dropped, b.dropped]).toEqual([0, 0, 0, 0]);
    expect(a.tunnel.indices.size).toBeLessThanOrEqual(5);
  });

  test('frames that wait are few, and the oldest give way', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    for (let bytes = 100; bytes < 140; bytes++) a.send('10.0.0.1', '10.0.0.2', bytes);
    expect(a.drops(Drop.NOT_CONNECTED)).toBe(8);
    wire.deliver();
    expect(b.received.map(({ length }) => length)).toEqual(Array.from({ length: 32 }, (_, index) => 108 + index));
    expect(a.tunnel.room.bytes).toBe(0);
  });

  test('a small frame that waits holds no more memory than it has', () => {
    const frames = new WaitingFrames(new WaitingRoom());
    frames.add(Buffer.alloc(2000, 7), 10, 90);
    const [frame] = frames.drain() as [Buffer];
    expect([frame, frame.buffer.byteLength]).toEqual([Buffer.alloc(90, 7), 90]);
  });

  test('frames that wait at all peers are bounded together', () => {
    const wire = new Wire();
    const peers = Array.from({ length: 140 }, (_, index) => ({
      publicKey: keyPair(randomBytes(32)).publicKey,
      endpoint: '192.0.2.9:9',
      allowedPrefixes: [`10.1.${index}.0/24`],
    }));
    const a = new End(wire, '192.0.2.1:51820', peers, { mtu: 60_000 });
    for (const index of peers.keys()) a.send('10.0.0.1', `10.1.${index}.1`, 60_000);
    expect(a.tunnel.room.bytes).toBeLessThanOrEqual(a.tunnel.room.most);
    expect(a.tunnel.room.bytes).toBeGreaterThan(a.tunnel.room.most - 60_010);
    a.again({ peers: [] });
    expect([a.tunnel.room.bytes, a.tunnel.indices.size, a.drops(Drop.NOT_CONNECTED)]).toEqual([0, 0, 140]);
    a.tunnel.close();
  });

  test('what came is acknowledged by a keepalive after 10 s, where nothing else is sent', () => {
    const { wire, a, b } = connected();
    expect(keepalives(pass(wire, 9800))).toBe(0);
    const late = pass(wire, 400);
    expect([keepalives(late), late[0]?.from]).toEqual([1, b.address]);
    // Nothing follows: an empty one is not answered.
    expect(pass(wire, 100_000).length).toBe(0);
    expect([a.dropped, b.dropped]).toEqual([0, 0]);
  });

  test('what comes meanwhile is acknowledged by a second keepalive', () => {
    const { wire, a } = connected();
    pass(wire, 5000);
    a.send('10.0.0.1', '10.0.0.2');
    expect(keepalives(pass(wire, 5200))).toBe(1);
    expect(keepalives(pass(wire, 9000))).toBe(0);
    expect(keepalives(pass(wire, 1200))).toBe(1);
    expect(keepalives(pass(wire, 100_000))).toBe(0);
  });

  test('a peer that does not answer for 15 s is asked for a new session', () => {
    const { wire, a } = connected();
    pass(wire, 20_000);
    a.send('10.0.0.1', '10.0.0.2');
    wire.take();
    vi.advanceTimersByTime(14_900);
    expect(wire.take()).toEqual([]);
    vi.advanceTimersByTime(600);
    expect(typesOf(wire.take())).toEqual([INITIATION]);
  });

  test('a session is renewed after 120 s by its initiator, when something is sent', () => {
    const { wire, a, b } = connected();
    const send = (ms: number) => {
      const before = wire.log.length;
      for (let passed = 0; passed < ms; passed += 1000) {
        a.send('10.0.0.1', '10.0.0.2');
        b.send('10.0.0.2', '10.0.0.1');
        pass(wire, 1000);
      }
      return wire.log.slice(before);
    };
    expect(initiations(send(120_000))).toBe(0);
    const renewal = send(3000).filter(({ bytes }) => bytes[0] === INITIATION);
    expect(renewal.map(({ from }) => from)).toEqual([a.address]);
    expect(initiations(send(116_000))).toBe(0);
    expect(initiations(send(900_000))).toBe(8);
    expect([a.dropped, b.dropped, a.received.length, b.received.length]).toEqual([0, 0, 1139, 1140]);
    // Current and previous, no more.
    expect(a.tunnel.indices.size).toBe(2);
  });

  test('a session is renewed after 165 s by its initiator, when something only comes', () => {
    const { wire, a, b } = connected();
    pass(wire, 164_000);
    b.send('10.0.0.2', '10.0.0.1');
    wire.deliver();
    expect(initiations(pass(wire, 500))).toBe(0);
    vi.advanceTimersByTime(1000);
    b.send('10.0.0.2', '10.0.0.1');
    wire.give((wire.take() as [Datagram])[0]);
    expect(typesOf(wire.sent)).toEqual([INITIATION]);
    expect(wire.sent[0]?.from).toBe(a.address);
  });

  test('nothing is sent or taken under a session of 180 s, and its keys are forgotten after 540 s', () => {
    const { wire, a, b } = connected();
    vi.advanceTimersByTime(170_000);
    wire.take();
    b.send('10.0.0.2', '10.0.0.1');
    const [held] = wire.take() as [Datagram];
    vi.advanceTimersByTime(10_100);
    wire.take();
    wire.give(held);
    expect([a.received.length, a.drops(Drop.UNAUTHENTICATED)]).toEqual([0, 1]);
    b.send('10.0.0.2', '10.0.0.1');
    expect(typesOf(wire.take())).toEqual([INITIATION]);
    expect(a.tunnel.state()).toMatchObject({ state: State.CONNECTING, reason: expect.stringContaining('there is no session any more') });
    expect(a.tunnel.indices.size).toBe(1);
    vi.advanceTimersByTime(361_000);
    wire.take();
    expect(a.tunnel.indices.size).toBe(0);
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect(b.received.length).toBe(2);
  });

  test('a persistent keepalive makes the session and keeps it', () => {
    const wire = new Wire();
    const { a, b } = pair(wire, { keepalive: 7 });
    const sent = pass(wire, 100_000);
    expect(typesOf(sent).slice(0, 3)).toEqual([INITIATION, RESPONSE, DATA]);
    expect(keepalives(sent)).toBe(15);
    expect([a.tunnel.state().state, b.tunnel.state().state]).toEqual([State.UP, State.UP]);
    expect(initiations(pass(wire, 30_000))).toBe(1);
    a.again({ peers: [{ ...(a.setup.spec?.peers[0] as PeerPartial), keepalive: 0 }] });
    pass(wire, 15_000);
    expect(pass(wire, 100_000)).toEqual([]);
  });

  test('a peer that was restarted is found again', () => {
    const { wire, a, b } = connected();
    pass(wire, 20_000);
    b.tunnel.close();
    const peers = (b.setup.spec?.peers ?? []) as PeerPartial[];
    const again = new End(wire, b.address, peers, { privateKey: b.privateKey });
    for (let second = 0; second < 20; second++) {
      a.send('10.0.0.1', '10.0.0.2');
      wire.deliver();
      pass(wire, 1000);
    }
    expect(again.received.length).toBeGreaterThanOrEqual(4);
    expect(again.drops(Drop.UNAUTHENTICATED)).toBeGreaterThanOrEqual(15);
    // And the other way: it is the one that begins.
    again.tunnel.close();
    const third = new End(wire, b.address, peers, { privateKey: b.privateKey });
    third.send('10.0.0.2', '10.0.0.1');
    wire.deliver();
    expect(a.received.length).toBe(1);
  });
});

describe('timestamps of initiations', () => {
  const stampOf = (wire: Wire, a: End, b: End): bigint => {
    // Opened by what the responder knows: it takes only greater ones.
    a.send('10.0.0.1', '10.0.0.2');
    const [initiation] = wire.take() as [Datagram];
    expect(initiation.bytes.length).toBeGreaterThan(INITIATION_TIMESTAMP_AT);
    vi.advanceTimersByTime(21);
    wire.give(initiation);
    return BigInt(b.drops(Drop.REPLAYED));
  };

  test('grow while the clock goes back, and while the tunnel is made anew in the same epoch', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    const peers = (a.setup.spec?.peers ?? []) as PeerPartial[];
    stampOf(wire, a, b);
    for (let count = 0; count < 5; count++) {
      vi.setSystemTime(Date.now() - 1e9);
      a.tunnel.close();
      const next = new End(wire, a.address, peers, { privateKey: a.privateKey });
      expect(stampOf(wire, next, b)).toBe(0n);
      next.tunnel.close();
    }
    // An older epoch is a replay, and a newer one is not.
    const older = new End(wire, a.address, peers, { privateKey: a.privateKey, epoch: 999n });
    expect(stampOf(wire, older, b)).toBe(1n);
    older.tunnel.close();
    const newer = new End(wire, a.address, peers, { privateKey: a.privateKey, epoch: 1001n });
    wire.take();
    expect(stampOf(wire, newer, b)).toBe(1n);
  });
});

describe('under load', () => {
  /** So many initiations of a stranger, who knows whom it speaks to. */
  function flood(wire: Wire, b: End, count: number): void {
    const own = new Wire();
    const stranger = new End(own, '192.0.2.66:1', [{ publicKey: b.publicKey, endpoint: b.address, allowedPrefixes: ['0.0.0.0/0'] }]);
    stranger.send('10.0.0.9', '10.0.0.2');
    const [initiation] = own.take() as [Datagram];
    for (let index = 0; index < count; index++) wire.give(initiation);
    wire.sent = wire.sent.filter(({ to }) => !to.equals(parseSocketAddress('192.0.2.66:1') as Buffer));
    stranger.tunnel.close();
  }

  test('a cookie is asked for, and with it the handshake is made', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    flood(wire, b, LOAD_MESSAGES + 1);
    wire.deliver();
    wire.take();
    a.send('10.0.0.1', '10.0.0.2');
    const [initiation] = wire.take() as [Datagram];
    wire.give(initiation);
    expect(typesOf(wire.sent)).toEqual([COOKIE_REPLY]);
    expect(wire.sent[0]?.bytes.length).toBeLessThan(initiation.bytes.length);
    // A cookie that was flipped is none.
    const [reply] = wire.take() as [Datagram];
    for (let bit = 32; bit < reply.bytes.length * 8; bit += 7) {
      const bytes = Buffer.from(reply.bytes);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      wire.give({ ...reply, bytes });
    }
    expect(a.drops(Drop.UNAUTHENTICATED)).toBe(Math.ceil((reply.bytes.length * 8 - 32) / 7));
    wire.give(reply);
    // It is for one message only.
    wire.give(reply);
    expect(a.drops(Drop.UNAUTHENTICATED)).toBe(Math.ceil((reply.bytes.length * 8 - 32) / 7) + 1);
    // The next one is sent with it, however long the load goes on.
    for (let tenths = 0; wire.sent.length === 0; tenths++) {
      vi.advanceTimersByTime(100);
      if (tenths % 9 === 0) flood(wire, b, LOAD_MESSAGES + 1);
    }
    const [second] = wire.take() as [Datagram];
    expect(second.bytes.subarray(-16)).not.toEqual(Buffer.alloc(16));
    flood(wire, b, LOAD_MESSAGES + 1);
    // Any bit of the second MAC flipped: no handshake.
    for (let bit = 132 * 8; bit < 148 * 8; bit++) {
      const bytes = Buffer.from(second.bytes);
      bytes[bit >> 3] = (bytes[bit >> 3] as number) ^ (1 << (bit & 7));
      wire.give({ ...second, bytes });
    }
    expect(new Set(typesOf(wire.take()))).toEqual(new Set([COOKIE_REPLY]));
    // From elsewhere it is worth nothing.
    wire.give({ ...second, from: '192.0.2.1:51821' });
    expect(typesOf(wire.take())).toEqual([COOKIE_REPLY]);
    wire.give(second);
    expect(typesOf(wire.sent)).toEqual([RESPONSE]);
    wire.deliver();
    expect(b.received).toEqual([packet('10.0.0.1', '10.0.0.2', 100)]);
  });

  test('a source with a cookie has 5 at once, and then 20 a second', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    flood(wire, b, LOAD_MESSAGES + 1);
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    vi.advanceTimersByTime(5400);
    const [initiation] = wire.take() as [Datagram];
    flood(wire, b, LOAD_MESSAGES + 1);
    const before = b.drops(Drop.RATE_LIMITED);
    for (let count = 0; count < 50; count++) wire.give(initiation);
    expect([typesOf(wire.take()), b.drops(Drop.REPLAYED), b.drops(Drop.RATE_LIMITED) - before]).toEqual([[RESPONSE], 4, 45]);
    vi.advanceTimersByTime(100);
    for (let count = 0; count < 50; count++) wire.give(initiation);
    expect(b.drops(Drop.REPLAYED)).toBe(6);
  });
});

test('one alarm wakes many in turns, and those only who want to be', () => {
  let now = 0;
  const alarm = new Alarm(() => now);
  const woken: number[] = [];
  const sleepers = Array.from({ length: 10 }, (_, index) => ({
    wakeAt: index === 9 ? Number.POSITIVE_INFINITY : 100,
    isWaiting: false,
    wake() {
      // It is a long time for one.
      now += 6;
      woken.push(index);
      this.wakeAt = Number.POSITIVE_INFINITY;
    },
  }));
  for (const sleeper of sleepers) alarm.watch(sleeper);
  const counts: number[] = [];
  for (; now < 400; now += 20) {
    vi.advanceTimersByTime(20);
    if (woken.length !== (counts.at(-1) ?? 0)) counts.push(woken.length);
  }
  expect([woken, counts]).toEqual([
    [0, 1, 2, 3, 4, 5, 6, 7, 8],
    [2, 4, 6, 8, 9],
  ]);
  alarm.close();
  alarm.watch({ wakeAt: now + 1, isWaiting: false, wake: () => woken.push(99) });
  vi.advanceTimersByTime(1000);
  expect(woken).not.toContain(99);
});

test('sources that are looked at under load are bounded, and forgotten', () => {
  const limiter = new RateLimiter(RATE);
  const source = (index: number) => socketAddress(Uint8Array.of(10, index >> 16, (index >> 8) & 255, index & 255), 9);
  const allowed = (count: number, now: number) => Array.from({ length: count }, (_, index) => limiter.allow(sourceOf(source(index)), now));
  expect(allowed(5000, 0).filter(Boolean).length).toBe(4096);
  expect(limiter.allow(sourceOf(source(0)), 1)).toBe(true);
  expect(limiter.allow(sourceOf(source(4999)), 999)).toBe(false);
  expect(limiter.allow(sourceOf(source(4999)), 2000)).toBe(true);
  // One network of IPv6 is one source.
  const inner = (last: number) =>
    socketAddress(
      Uint8Array.from({ length: 16 }, (_, index) => (index === 15 ? last : 0x20)),
      9,
    );
  expect(Array.from({ length: 7 }, (_, index) => limiter.allow(sourceOf(inner(index)), 3000)).filter(Boolean).length).toBe(5);
});

describe('declared again', () => {
  test('peers that stay keep their sessions, the others come and go', () => {
    const { wire, a, b } = connected();
    const [first] = (b.setup.spec?.peers ?? []) as [PeerPartial];
    const c = new End(wire, '192.0.2.3:51820', [{ publicKey: b.publicKey, endpoint: b.address, allowedPrefixes: ['10.0.0.2/32'] }]);
    const third = { publicKey: c.publicKey, allowedPrefixes: ['10.0.0.3/32'] };
    expect(b.again({ peers: [third, first] })).toBe(true);
    a.send('10.0.0.1', '10.0.0.2');
    expect(typesOf(wire.sent)).toEqual([DATA]);
    c.send('10.0.0.3', '10.0.0.2');
    wire.deliver();
    expect([b.received.length, b.dropped]).toEqual([3, 0]);
    expect(b.tunnel.state().peers.map(({ publicKey }) => publicKey)).toEqual([c.publicKey, a.publicKey]);
    // A prefix moves: at once it is the other's.
    b.again({ peers: [third, { ...first, allowedPrefixes: [] }] });
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect([b.received.length, b.drops(Drop.SPOOFED)]).toEqual([3, 1]);
    b.again({
      peers: [
        { ...third, allowedPrefixes: ['10.0.0.1/32'] },
        { ...first, allowedPrefixes: ['10.0.0.3/32'] },
      ],
    });
    b.send('10.0.0.2', '10.0.0.1');
    expect(typesOf(wire.sent)).toEqual([DATA]);
    wire.deliver();
    expect([c.received.length, a.received.length]).toEqual([1, 0]);
    // One goes: nothing of it is taken any more.
    b.again({ peers: [third] });
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect([b.received.length, b.drops(Drop.UNAUTHENTICATED), b.tunnel.indices.size]).toEqual([3, 1, 1]);
  });

  test('with another private key everything begins anew on the same socket', () => {
    const { wire, a, b } = connected();
    a.send('10.0.0.1', '10.0.0.2');
    b.send('10.0.0.2', '10.0.0.1');
    const [old, answer] = wire.take() as [Datagram, Datagram];
    const key = randomBytes(32);
    const { publicKey } = keyPair(key);
    const peers = (b.setup.spec?.peers ?? []) as [PeerPartial];
    b.again({ peers: [{ ...peers[0], publicKey }] });
    vi.advanceTimersByTime(100);
    expect(a.again({ privateKey: key })).toBe(true);
    expect([typesOf(wire.sent), a.tunnel.state().publicKey]).toEqual([[INITIATION], publicKey]);
    wire.deliver();
    wire.give(old);
    wire.give(answer);
    expect([b.received.length, b.drops(Drop.UNAUTHENTICATED)]).toEqual([1, 1]);
    expect([a.received.length, a.drops(Drop.UNAUTHENTICATED)]).toEqual([0, 1]);
    a.send('10.0.0.1', '10.0.0.2');
    expect(typesOf(wire.sent)).toEqual([DATA]);
    wire.deliver();
    expect([b.received.length, a.dropped]).toEqual([2, 1]);
  });

  test('another preshared key is for the next handshake, which is now, and the session stays meanwhile', () => {
    const { wire, a, b } = connected();
    const presharedKey = randomBytes(32);
    const declare = (end: End) => end.again({ peers: [{ ...(end.setup.spec?.peers[0] as PeerPartial), presharedKey }] });
    declare(b);
    wire.take();
    declare(a);
    a.send('10.0.0.1', '10.0.0.2');
    expect(typesOf(wire.sent)).toEqual([INITIATION, DATA]);
    const before = b.tunnel.state().peers[0]?.lastHandshakeTime?.seconds ?? 0n;
    vi.advanceTimersByTime(2000);
    wire.deliver();
    expect(b.received.length).toBe(2);
    expect(b.tunnel.state().peers[0]?.lastHandshakeTime?.seconds).toBeGreaterThan(before);
    expect([a.dropped, b.dropped]).toEqual([0, 0]);
    // One that only one end has: the session of before stays.
    a.again({ peers: [{ ...(a.setup.spec?.peers[0] as PeerPartial), presharedKey: randomBytes(32) }] });
    vi.advanceTimersByTime(100);
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect([a.drops(Drop.UNAUTHENTICATED), b.received.length]).toEqual([1, 3]);
  });

  test('another mark begins anew, a missing key too; no key is in a text', () => {
    const { a } = connected();
    const setup = { ...a.setup, spec: a.setup.spec && { ...a.setup.spec, socketMark: 5 } };
    expect(a.tunnel.again(setup)).toBe(false);
    expect(a.again({ privateKey: Buffer.alloc(31, 0x41) })).toBe(false);
    expect(() => new End(new Wire(), '192.0.2.1:1', [], { privateKey: Buffer.alloc(31, 0x41) })).toThrow(/^(?!.*41414141|.*AAAA)/);
  });
});

test('a hundred peers talk at once, and take little', () => {
  const wire = new Wire();
  const hub = { privateKey: randomBytes(32) };
  const { publicKey } = keyPair(hub.privateKey);
  const spokes = Array.from(
    { length: 100 },
    (_, index) => new End(wire, `192.0.2.${100 + index}:9`, [{ publicKey, endpoint: '192.0.2.1:51820', allowedPrefixes: ['10.0.0.0/8'] }]),
  );
  const peers = spokes.map((spoke, index) => ({ publicKey: spoke.publicKey, allowedPrefixes: [`10.0.1.${index}/32`] }));
  const center = new End(wire, '192.0.2.1:51820', peers, hub);
  for (const [index, spoke] of spokes.entries()) spoke.send(`10.0.1.${index}`, '10.0.0.1');
  wire.deliver();
  expect([center.received.length, center.dropped]).toEqual([100, 0]);
  for (const index of spokes.keys()) center.send('10.0.0.1', `10.0.1.${index}`);
  wire.deliver();
  expect(spokes.map(({ received }) => received.length)).toEqual(Array(100).fill(1));
  center.tunnel.close();
  expect(center.tunnel.indices.size).toBe(0);
});

test('thousands of peers tell of themselves without the cost of a handshake for each', () => {
  const peers = Array.from({ length: 2000 }, (_, index) => ({ publicKey: randomBytes(32), endpoint: `192.0.2.9:${index + 1}` }));
  const end = new End(new Wire(), '192.0.2.1:51820', peers);
  const before = process.cpuUsage();
  expect(end.tunnel.state().peers.length).toBe(2000);
  const { user, system } = process.cpuUsage(before);
  // In microseconds; 2000 secrets would take 200 ms.
  expect(user + system).toBeLessThan(80_000);
  end.tunnel.close();
});

test('a moment that is further away than a timer reaches is waited for all the same', () => {
  const alarm = new Alarm(() => performance.now());
  let asked = 0;
  const sleeper: Sleeper = {
    isWaiting: false,
    get wakeAt() {
      asked++;
      return 2 ** 33;
    },
    wake: () => {},
  };
  alarm.watch(sleeper);
  vi.advanceTimersByTime(1000);
  expect(asked).toBe(1);
  alarm.close();
});
