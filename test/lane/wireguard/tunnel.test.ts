// Two tunnels and a wire in memory, with a clock that the test moves: handshakes, timers, what is refused.

import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { LinkDrops_Reason as Drop, LinkStatus_State as State } from '../../../src/gen/taplane/v1/link.ts';
import { ProbeLinkRequest } from '../../../src/gen/taplane/v1/link_service.ts';
import { MacMaker } from '../../../src/lane/wireguard/cookie.ts';
import { COOKIE_REPLY, DATA, DATA_HEADER_BYTES, INITIATION, RESPONSE, TAG_BYTES } from '../../../src/lane/wireguard/messages.ts';
import { keyPair } from '../../../src/lane/wireguard/noise.ts';
import { ProbeKind, writeProbe } from '../../../src/packet/probe-packet.ts';
import { GSO_UDP_L4, NEEDS_CHECKSUM, writeVnetHeader } from '../../../src/packet/vnet-header.ts';
import { parseSocketAddress } from '../../../src/sys/socket-address.ts';
import { SysError } from '../../../src/sys/sys-error.ts';
import { type Datagram, End, packet, pair, VNET, Wire } from './wire.ts';

const typesOf = (datagrams: readonly Datagram[]) => datagrams.map(({ bytes }) => bytes[0]);

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => void vi.useRealTimers());

/** Both ends have the session: what was sent first has come. */
function connected(options: Parameters<typeof pair>[1] = {}) {
  const wire = new Wire();
  const ends = pair(wire, options);
  ends.a.send('10.0.0.1', '10.0.0.2');
  wire.deliver();
  return { wire, ...ends };
}

describe('a handshake', () => {
  test.each([
    ['without', undefined],
    ['with', randomBytes(32)],
  ])('carries what waited for it, %s a preshared key', (_, presharedKey) => {
    const { wire, a, b } = connected({ presharedKey });
    expect(b.received).toEqual([packet('10.0.0.1', '10.0.0.2', 100)]);
    b.send('fd00::2', 'fd00::1', 1200);
    wire.deliver();
    expect(a.received).toEqual([packet('fd00::2', 'fd00::1', 1200)]);
    for (const end of [a, b]) {
      const { state, peers, drops, publicKey } = end.tunnel.state();
      expect({ state, drops, publicKey }).toEqual({ state: State.UP, drops: [], publicKey: end.publicKey });
      expect(peers[0]).toMatchObject({ up: true, reason: '', traffic: { receivedPackets: 1n, sentPackets: 1n } });
      expect(peers[0]?.lastHandshakeTime?.seconds).toBe(BigInt(Math.floor(Date.now() / 1000)));
    }
  });

  test('does not come about with another preshared key', () => {
    const wire = new Wire();
    const { a, b } = pair(wire, { presharedKey: randomBytes(32) });
    b.again({ peers: [{ ...peerOf(b), presharedKey: randomBytes(32) }] });
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect(b.received).toEqual([]);
    expect([a.tunnel.state().state, a.drops(Drop.UNAUTHENTICATED)]).toEqual([State.CONNECTING, 1]);
  });

  test('of both ends at once works', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2');
    b.send('10.0.0.2', '10.0.0.1');
    expect(typesOf(wire.sent)).toEqual([INITIATION, INITIATION]);
    wire.deliver();
    expect([a.received.length, b.received.length, a.dropped, b.dropped]).toEqual([1, 1, 0, 0]);
    a.send('10.0.0.1', '10.0.0.2');
    b.send('10.0.0.2', '10.0.0.1');
    wire.deliver();
    expect([a.received.length, b.received.length]).toEqual([2, 2]);
  });

  test('of keys of low order, and of our own, is never begun', () => {
    const wire = new Wire();
    const own = randomBytes(32);
    const low = Buffer.from('e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800', 'hex');
    const keys = [Buffer.alloc(32), Buffer.from(`01${'00'.repeat(31)}`, 'hex'), low, keyPair(own).publicKey];
    const peers = keys.map((publicKey, index) => ({
      publicKey,
      endpoint: '192.0.2.2:1',
      allowedPrefixes: [`10.0.1.${index}/32`],
      keepalive: 1,
    }));
    const a = new End(wire, '192.0.2.1:51820', peers, { privateKey: own });
    for (const index of keys.keys()) a.send('10.0.0.1', `10.0.1.${index}`);
    vi.advanceTimersByTime(60_000);
    expect(wire.sent).toEqual([]);
    expect(a.drops(Drop.NOT_CONNECTED)).toBe(4);
    expect(a.tunnel.state().peers.map(({ reason }) => reason)).toEqual([
      ...Array(3).fill('its public key is none: of low order'),
      'its public key is our own',
    ]);
  });

  test('with any bit of its initiation flipped is met with silence and changes nothing', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2');
    const [initiation] = wire.take() as [Datagram];
    expect(initiation.bytes.length).toBe(148);
    const before = JSON.stringify(b.tunnel.state().peers, text);
    // The second MAC is looked at under load only: see below.
    for (let bit = 0; bit < (148 - 16) * 8; bit++) {
      wire.give({ ...initiation, bytes: flipped(initiation.bytes, bit) });
      if (wire.sent.length > 0) throw new Error(`bit ${bit} was answered`);
    }
    expect(b.dropped).toBe((148 - 16) * 8);
    expect(JSON.stringify(b.tunnel.state().peers, text)).toBe(before);
    expect(b.tunnel.indices.size).toBe(0);
    // And the right one is still good.
    wire.give(initiation);
    expect(typesOf(wire.sent)).toEqual([RESPONSE]);
  });

  test('with any bit of its response flipped is met with silence and changes nothing', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2');
    wire.give((wire.take() as [Datagram])[0]);
    const [response] = wire.take() as [Datagram];
    expect(response.bytes.length).toBe(92);
    for (let bit = 0; bit < (92 - 16) * 8; bit++) {
      wire.give({ ...response, bytes: flipped(response.bytes, bit) });
      if (wire.sent.length > 0) throw new Error(`bit ${bit} was answered`);
    }
    expect([a.dropped, a.tunnel.state().state]).toEqual([(92 - 16) * 8, State.CONNECTING]);
    wire.give(response);
    wire.deliver();
    expect([a.tunnel.state().state, b.received.length]).toEqual([State.UP, 1]);
  });

  test('that somebody on the way has changed, and signed for the other end, changes nothing', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    const ends = [
      [b, 8],
      [a, 12],
    ] as const;
    a.send('10.0.0.1', '10.0.0.2');
    for (const [end, from] of ends) {
      const [datagram] = wire.take() as [Datagram];
      const indices = end.tunnel.indices.size;
      const dropped = end.dropped;
      // Whom it calls itself is only signed; everything behind is held by the handshake. Every third bit, since each takes an agreement.
      const bits = Array.from({ length: Math.floor(((datagram.bytes.length - 32 - from) * 8) / 3) }, (_, index) => from * 8 + index * 3);
      for (const bit of bits) {
        const bytes = flipped(datagram.bytes, bit);
        new MacMaker(end.publicKey).sign(bytes, 0);
        wire.give({ ...datagram, from: '203.0.113.9:9', bytes });
        vi.advanceTimersByTime(3);
        if (wire.sent.length > 0) throw new Error(`bit ${bit} was answered`);
      }
      expect([end.drops(Drop.UNAUTHENTICATED) + end.drops(Drop.STRANGER), end.dropped - dropped]).toEqual([bits.length, bits.length]);
      expect([end.tunnel.indices.size, end.tunnel.state().peers[0]?.endpoint]).toEqual([indices, end === a ? b.address : a.address]);
      wire.give(datagram);
    }
    wire.deliver();
    expect([b.received.length, a.tunnel.state().state]).toEqual([1, State.UP]);
  });

  test('whose messages are cut or too long is met with silence and changes nothing', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2');
    let count = 0;
    for (const end of [b, a, b]) {
      const [datagram] = wire.take() as [Datagram];
      const { length } = datagram.bytes;
      const before = [end.dropped, end.received.length, end.tunnel.indices.size];
      for (let bytes = 0; bytes < length; bytes++) wire.give({ ...datagram, bytes: datagram.bytes.subarray(0, bytes) });
      for (const more of [1, 16, 1000]) wire.give({ ...datagram, bytes: Buffer.concat([datagram.bytes, Buffer.alloc(more)]) });
      expect([wire.sent.length, end.dropped, end.received.length, end.tunnel.indices.size]).toEqual([
        0,
        (before[0] as number) + length + 3,
        ...before.slice(1),
      ]);
      wire.give(datagram);
      count++;
    }
    expect([count, b.received.length, a.tunnel.state().state, b.tunnel.state().state]).toEqual([3, 1, State.UP, State.UP]);
  });

  test('that was seen before is not answered again, nor is an older one', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2');
    const [first] = wire.take() as [Datagram];
    vi.advanceTimersByTime(6000);
    const [second] = wire.take() as [Datagram];
    expect(typesOf([first, second])).toEqual([INITIATION, INITIATION]);
    wire.give(second);
    expect(typesOf(wire.take())).toEqual([RESPONSE]);
    vi.advanceTimersByTime(1000);
    wire.take();
    for (const again of [first, second]) {
      // From elsewhere too: the endpoint stays.
      wire.give({ ...again, from: '203.0.113.9:9' });
    }
    expect([wire.sent.length, b.drops(Drop.REPLAYED)]).toEqual([0, 2]);
    expect(b.tunnel.state().peers[0]?.endpoint).toBe('192.0.2.1:51820');
  });

  test('of the other end carries what waited here', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    b.send('10.0.0.2', '10.0.0.1', 60);
    wire.take();
    a.send('10.0.0.1', '10.0.0.2', 61);
    wire.deliver();
    expect([a.received, b.received]).toEqual([[packet('10.0.0.2', '10.0.0.1', 60)], [packet('10.0.0.1', '10.0.0.2', 61)]]);
  });

  test('lets the other end speak, also when what waited was too big to go', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    a.send('10.0.0.1', '10.0.0.2', 1421);
    wire.deliver();
    expect([a.drops(Drop.TOO_BIG), b.tunnel.state().state]).toEqual([1, State.UP]);
  });

  test('is answered 50 times a second, not more, for one peer', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    const peers = a.setup.spec?.peers.map((peer) => ({ ...peer })) ?? [];
    for (let count = 0; count < 10; count++) {
      const again = new End(wire, a.address, peers, { privateKey: a.privateKey });
      again.send('10.0.0.1', '10.0.0.2');
      again.tunnel.close();
      vi.advanceTimersByTime(5);
    }
    for (const datagram of wire.take()) {
      vi.advanceTimersByTime(5);
      wire.give(datagram);
    }
    expect([typesOf(wire.sent), b.drops(Drop.RATE_LIMITED)]).toEqual([[RESPONSE, RESPONSE, RESPONSE], 7]);
    // Only the last session counts.
    expect(b.tunnel.indices.size).toBe(1);
  });

  test('of a stranger, and what is no message, is met with silence', () => {
    const { wire, a, b } = connected();
    const stranger = new End(wire, '192.0.2.3:51820', [
      { publicKey: b.publicKey, endpoint: b.address, allowedPrefixes: ['0.0.0.0/0'], keepalive: 1 },
    ]);
    vi.advanceTimersByTime(20);
    const [initiation] = wire.take() as [Datagram];
    wire.give(initiation);
    expect([wire.sent.length, b.drops(Drop.STRANGER)]).toEqual([0, 1]);
    for (let length = 0; length < 200; length++) {
      for (const type of [0, INITIATION, RESPONSE, COOKIE_REPLY, DATA, 5]) {
        const bytes = randomBytes(length);
        if (length >= 4) bytes.writeUInt32LE(type);
        wire.give({ ...initiation, bytes });
      }
    }
    expect([wire.sent.length, b.dropped]).toEqual([0, 1201]);
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect(b.received.length).toBe(2);
    stranger.tunnel.close();
  });
});

describe('a packet', () => {
  test('is taken once, whatever is flipped in it, and whoever repeats it', () => {
    const { wire, a, b } = connected();
    a.send('10.0.0.1', '10.0.0.2', 20);
    const [datagram] = wire.take() as [Datagram];
    const from = '203.0.113.9:9';
    for (let bit = 0; bit < datagram.bytes.length * 8; bit++) wire.give({ ...datagram, from, bytes: flipped(datagram.bytes, bit) });
    expect([b.received.length, b.dropped]).toEqual([1, datagram.bytes.length * 8]);
    expect(b.tunnel.state().peers[0]?.endpoint).toBe('192.0.2.1:51820');
    wire.give(datagram);
    for (let count = 0; count < 100; count++) wire.give({ ...datagram, from });
    // One of the flipped ones had the counter of the packet before.
    expect([b.received.length, b.drops(Drop.REPLAYED)]).toEqual([2, 101]);
    expect(b.tunnel.state().peers[0]?.endpoint).toBe('192.0.2.1:51820');
  });

  test('with a counter of 2^53 or more is refused', () => {
    const { wire, a, b } = connected();
    a.send('10.0.0.1', '10.0.0.2');
    const [datagram] = wire.take() as [Datagram];
    datagram.bytes.writeBigUInt64LE(2n ** 53n, 8);
    wire.give(datagram);
    expect([b.received.length, b.drops(Drop.UNAUTHENTICATED)]).toEqual([1, 1]);
  });

  test('is taken out of order, as far as the window reaches', () => {
    const { wire, a, b } = connected();
    for (let count = 0; count < 9000; count++) a.send('10.0.0.1', '10.0.0.2', 20);
    const datagrams = wire.take();
    for (const datagram of datagrams.reverse()) wire.give(datagram);
    // The ring is of whole words, so a few more than 8192 are told apart.
    expect(b.received.length).toBeGreaterThanOrEqual(1 + 8192);
    expect(b.received.length - 1 + b.drops(Drop.REPLAYED)).toBe(9000);
  });

  test("from an address that is another's, or nobody's, is dropped", () => {
    const { wire, a, b } = connected();
    for (const source of ['10.0.0.2', '10.0.0.3', '192.0.2.1']) a.send(source, '10.0.0.2');
    a.send('fd00::2', 'fd00::2');
    a.send('::ffff:10.0.0.1', 'fd00::2');
    wire.deliver();
    expect([b.received.length, b.drops(Drop.SPOOFED)]).toEqual([1, 5]);
  });

  test('that is no IP packet, or longer than what came, is dropped', () => {
    const { wire, a, b } = connected();
    const peer = a.tunnel.peer(b.publicKey);
    if (peer === undefined) throw new Error('no peer');
    const long4 = packet('10.0.0.1', '10.0.0.2', 64);
    long4.writeUInt16BE(65, 2);
    const long6 = packet('fd00::1', 'fd00::2', 64);
    long6.writeUInt16BE(25, 4);
    const short = packet('10.0.0.1', '10.0.0.2', 64);
    short.writeUInt16BE(19, 2);
    const header = packet('10.0.0.1', '10.0.0.2', 64);
    header[0] = 0x44;
    for (const bytes of [long4, long6, short, header, Buffer.alloc(64), Buffer.from([0x45])]) {
      expect(a.tunnel.sendPacket(peer, bytes, 0, bytes.length)).toBe(true);
    }
    wire.deliver();
    expect([b.received.length, b.drops(Drop.MALFORMED)]).toEqual([1, 6]);
  });

  test('comes without the zeros behind it, and no longer on the wire than the path takes', () => {
    const { wire, a, b } = connected();
    for (const [bytes, wireBytes] of [
      [20, 64],
      [32, 64],
      [1408, 1440],
      [1409, 1452],
      [1420, 1452],
    ] as const) {
      a.send('10.0.0.1', '10.0.0.2', bytes);
      expect(wire.sent.map((datagram) => datagram.bytes.length)).toEqual([wireBytes]);
      wire.deliver();
      expect(b.received.at(-1)).toEqual(packet('10.0.0.1', '10.0.0.2', bytes));
    }
    a.send('10.0.0.1', '10.0.0.2', 1421);
    expect([wire.sent.length, a.drops(Drop.TOO_BIG)]).toEqual([0, 1]);
    const peer = a.tunnel.peer(b.publicKey);
    if (peer) peer.pathMtu = 1280;
    a.send('10.0.0.1', '10.0.0.2', 1281);
    expect([wire.sent.length, a.drops(Drop.TOO_BIG)]).toEqual([0, 2]);
  });

  test('has only zeros behind it', () => {
    const { wire, a } = connected();
    // What stood there before was longer.
    a.sendAll(['10.0.0.1', '10.0.0.2', 1400], ['10.0.0.1', '10.0.0.2', 1385]);
    for (const bytes of [1400, 37, 21]) a.send('10.0.0.1', '10.0.0.2', bytes);
    const behind = wire.take().flatMap((datagram) => {
      const opened = wire.give(datagram);
      const inner = opened.subarray(DATA_HEADER_BYTES, opened.length - TAG_BYTES);
      return [...inner.subarray(inner.readUInt16BE(2))];
    });
    expect(behind).toEqual(Array(8 + 7 + 8 + 11 + 11).fill(0));
  });

  test('goes with others of its round, whatever their lengths and peers', () => {
    const { wire, a, b } = connected();
    const c = new End(wire, '192.0.2.3:51820', [{ publicKey: a.publicKey, endpoint: a.address, allowedPrefixes: ['10.0.0.1/32'] }]);
    a.again({ peers: [peerOf(a), { publicKey: c.publicKey, allowedPrefixes: ['10.0.0.3/32'] }] });
    c.send('10.0.0.3', '10.0.0.1');
    wire.deliver();
    const lengths = [1400, 1400, 100, 1400, 100, 100, 20, 300, 20, ...Array(60).fill(1420), 52, 1420];
    a.sendAll(
      ...lengths.flatMap((bytes): [string, string, number][] => [
        ['10.0.0.1', '10.0.0.2', bytes],
        ['10.0.0.1', '10.0.0.3', bytes],
      ]),
      ...lengths.map((bytes): [string, string, number] => ['10.0.0.1', '10.0.0.2', bytes]),
      ...lengths.map((bytes): [string, string, number] => ['10.0.0.1', '10.0.0.3', bytes]),
    );
    wire.deliver();
    const lengthsOf = (end: End, from: number) => end.received.slice(from).map(({ length }) => length);
    expect([lengthsOf(b, 1), lengthsOf(c, 0)]).toEqual([
      [...lengths, ...lengths],
      [...lengths, ...lengths],
    ]);
    expect([a.dropped, b.dropped, c.dropped]).toEqual([0, 0, 0]);
  });

  test('can be sent whole, larger than the path is thought to take', () => {
    const { wire, a, b } = connected();
    const peer = a.tunnel.peer(b.publicKey);
    if (peer === undefined) throw new Error('no peer');
    for (const bytes of [20, 1420, 1421, 9000]) {
      const inner = packet('10.0.0.1', '10.0.0.2', bytes);
      expect(a.tunnel.sendPacket(peer, inner, 0, bytes)).toBe(true);
      expect(wire.sent.map(({ whole, bytes: { length } }) => [whole, length])).toEqual([[true, Math.max(64, bytes + 32)]]);
      wire.deliver();
      expect(b.received.at(-1)).toEqual(inner);
    }
    wire.failure = 90;
    expect(a.tunnel.sendPacket(peer, packet('10.0.0.1', '10.0.0.2', 1300), 0, 1300)).toBe(false);
    wire.failure = 0;
    a.send('10.0.0.1', '10.0.0.2', 50);
    expect(wire.sent.map(({ whole }) => whole)).toEqual([false]);
    wire.deliver();
    expect([b.received.length, a.dropped, b.dropped]).toEqual([6, 0, 0]);
    vi.advanceTimersByTime(181_000);
    expect(a.tunnel.sendPacket(peer, packet('10.0.0.1', '10.0.0.2', 20), 0, 20)).toBe(false);
  });

  test('for nobody, and of none, is dropped', () => {
    const wire = new Wire();
    const { a } = pair(wire);
    a.send('10.0.0.1', '10.0.0.9');
    a.tunnel.take(Buffer.from('ffffffffffffffffffffffff', 'hex'), 0, 12);
    a.tunnel.take(Buffer.alloc(10), 0, 10);
    expect([a.drops(Drop.NO_PEER), a.drops(Drop.MALFORMED), wire.sent.length]).toEqual([1, 2, 0]);
  });

  test('that the socket does not take is counted', () => {
    const { wire, a } = connected();
    wire.failure = 105;
    a.send('10.0.0.1', '10.0.0.2');
    expect([a.drops(Drop.SOCKET), a.tunnel.state().traffic?.sentPackets]).toEqual([1, 1n]);
  });

  test('of a batch that the socket takes in part is counted for itself', () => {
    const { wire, a } = connected();
    const before = a.tunnel.state().traffic;
    wire.failure = 105;
    wire.failsAfter = 3;
    const lengths = [100, 101, 102, 103, 104];
    a.sendAll(...lengths.map((bytes): [string, string, number] => ['10.0.0.1', '10.0.0.2', bytes]));
    const { traffic, peers } = a.tunnel.state();
    expect(a.drops(Drop.SOCKET)).toBe(2);
    for (const now of [traffic, peers[0]?.traffic]) {
      expect(Number(now?.sentPackets) - Number(before?.sentPackets)).toBe(3);
      expect(Number(now?.sentBytes) - Number(before?.sentBytes)).toBe(303);
    }
  });

  test('in a super-frame that goes nowhere is counted for itself', () => {
    const { wire, a } = connected();
    const dropped = (to: string, gsoSize: number) => {
      const frame = superFrame(to, 5000, gsoSize);
      a.tunnel.take(frame, 0, frame.length);
      a.tunnel.flush();
      return [a.drops(Drop.NO_PEER), a.drops(Drop.TOO_BIG), a.drops(Drop.NOT_CONNECTED)];
    };
    expect(dropped('10.0.0.9', 1000)).toEqual([5, 0, 0]);
    expect(dropped('10.0.0.2', 1500)).toEqual([5, 4, 0]);
    expect(wire.sent).toEqual([]);
    vi.advanceTimersByTime(181_000);
    // Thirteen wait, and the oldest give way to the others.
    for (let count = 0; count < 14; count++) dropped('10.0.0.2', 1000);
    expect(dropped('10.0.0.2', 1000)).toEqual([5, 4, 10]);
    a.tunnel.close();
    expect(a.drops(Drop.NOT_CONNECTED)).toBe(15 * 5);
  });

  test('that is a probe is answered in place of the device, and is in no count of traffic', () => {
    const { wire, a, b } = connected();
    b.again({ addresses: ['10.0.0.2/24'] });
    const peer = a.tunnel.peer(b.publicKey);
    const out = Buffer.alloc(200);
    const path = { from: Uint8Array.of(10, 0, 0, 1), to: Uint8Array.of(10, 0, 0, 2), ttl: 1 };
    const probe = { kind: ProbeKind.PING, sequence: 1, sentAt: 1, received: 0, bytes: 120, isEcho: false };
    const before = [a.tunnel.state().traffic, b.tunnel.state().traffic, b.received.length];
    expect(peer && a.tunnel.sendPacket(peer, out, 0, writeProbe(probe, path, out))).toBe(true);
    wire.deliver();
    expect([a.tunnel.state().traffic, b.tunnel.state().traffic, b.received.length]).toEqual(before);
    expect(wire.log.slice(-2).map(({ bytes }) => bytes.length)).toEqual([120 + 8 + 32, 96 + 32]);
  });
});

test('a tunnel whose socket cannot be had leaves nothing behind', () => {
  vi.useRealTimers();
  vi.useFakeTimers();
  const none = {
    open: () => {
      throw new SysError('bind', 98, 'in use');
    },
  } as unknown as Wire;
  expect(() => new End(none, '192.0.2.1:51820', [{ publicKey: keyPair(randomBytes(32)).publicKey, keepalive: 1 }])).toThrow('bind');
  expect(vi.getTimerCount()).toBe(0);
});

test('no program of the node speaks in the name of its data plane', () => {
  const { wire, a, b } = connected();
  b.again({ addresses: ['10.0.0.2/24'] });
  const path = { from: Uint8Array.of(10, 0, 0, 1), to: Uint8Array.of(10, 0, 0, 2), ttl: 64 };
  for (const kind of Object.values(ProbeKind)) {
    const out = Buffer.alloc(VNET + 200);
    const length = writeProbe({ kind, sequence: 60, sentAt: 1, received: 1420, bytes: 120, isEcho: false }, path, out.subarray(VNET));
    a.tunnel.take(out, 0, VNET + length);
    a.tunnel.flush();
  }
  expect([wire.sent.length, a.drops(Drop.MALFORMED)]).toEqual([0, 5]);
  // A ping is a ping.
  a.send('10.0.0.1', '10.0.0.2');
  wire.deliver();
  expect(b.received.length).toBe(2);
});

describe('a greeting', () => {
  test('is for a peer too that has another endpoint now, and no session', async () => {
    const wire = new Wire();
    const { a, b } = pair(wire, { greets: true });
    const declared = peerOf(a);
    a.again({ peers: [{ ...declared, endpoint: '192.0.2.9:9' }] });
    b.again({ peers: [{ ...peerOf(b), keepalive: 0, endpoint: '192.0.2.8:8' }] });
    await vi.advanceTimersByTimeAsync(200_000);
    wire.take();
    a.again({ peers: [declared] });
    await vi.advanceTimersByTimeAsync(100);
    wire.deliver();
    expect([a.tunnel.state().state, b.tunnel.state().state]).toEqual([State.UP, State.UP]);
  });

  test('makes the session of peers that are new, from both ends at once, without a packet', async () => {
    const wire = new Wire();
    const { a, b } = pair(wire, { greets: true });
    await vi.advanceTimersByTimeAsync(100);
    wire.deliver();
    expect([a.tunnel.state().state, b.tunnel.state().state]).toEqual([State.UP, State.UP]);
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    b.send('10.0.0.2', '10.0.0.1');
    wire.deliver();
    expect([a.received.length, b.received.length]).toEqual([1, 1]);
    const said = wire.log.length;
    a.again({ peers: a.setup.spec?.peers.map((peer) => ({ ...peer, publicKey: Buffer.from(peer.publicKey) })) ?? [] });
    await vi.advanceTimersByTimeAsync(1000);
    expect(wire.log.length).toBe(said);
  });

  test('goes to nobody whose endpoint is not known, nor to a peer that is gone', async () => {
    const wire = new Wire();
    const { a, b } = pair(wire, { greets: true });
    a.again({ peers: [{ ...peerOf(a), endpoint: '', publicKey: randomBytes(32) }] });
    b.again({ peers: [] });
    await vi.advanceTimersByTimeAsync(1000);
    expect(wire.log).toEqual([]);
  });
});

describe('roaming', () => {
  test('leaves a peer known to probes by where it is now', async () => {
    const { wire, a, b } = connected();
    a.send('10.0.0.1', '10.0.0.2');
    wire.give({ ...(wire.take() as [Datagram])[0], from: '192.0.2.7:7' });
    const probe = (peer: string) => b.tunnel.probe(ProbeLinkRequest.fromPartial({ name: 'links/l', peer }), new AbortController().signal);
    for (const peer of ['192.0.2.7:7', '192.0.2.1:51820', a.publicKey.toString('base64')])
      await expect(probe(peer)[Symbol.asyncIterator]().next()).rejects.toMatchObject({ reason: 'NO_PROBE_ADDRESS' });
    await expect(probe('192.0.2.8:7')[Symbol.asyncIterator]().next()).rejects.toMatchObject({ reason: 'PEER_NOT_FOUND' });
  });

  test('follows the last packet that authenticates', () => {
    const { wire, a, b } = connected();
    a.send('10.0.0.1', '10.0.0.2');
    wire.give({ ...(wire.take() as [Datagram])[0], from: '[2001:db8::7]:7' });
    expect(b.tunnel.state().peers[0]?.endpoint).toBe('[2001:db8::7]:7');
    b.send('10.0.0.2', '10.0.0.1');
    expect(wire.sent[0]?.to.toString('hex')).toContain('20010db8');
    // What is declared again as before does not bring it back; another endpoint does.
    b.again({ peers: [peerOf(b)] });
    expect(b.tunnel.state().peers[0]?.endpoint).toBe('[2001:db8::7]:7');
    b.again({ peers: [{ ...peerOf(b), endpoint: '192.0.2.1:5' }] });
    expect(b.tunnel.state().peers[0]?.endpoint).toBe('192.0.2.1:5');
  });

  test('does not follow a handshake that is repeated after a restart, when nobody remembers it', () => {
    const { wire, a, b } = connected();
    const initiation = wire.log.find(({ bytes }) => bytes[0] === INITIATION) as Datagram;
    b.tunnel.close();
    const peers = [peerOf(b)];
    const again = new End(wire, b.address, peers, { privateKey: b.privateKey });
    again.send('10.0.0.2', '10.0.0.1');
    wire.deliver();
    vi.advanceTimersByTime(100);
    wire.give({ ...initiation, from: '203.0.113.9:9' });
    wire.take();
    expect(again.tunnel.state().peers[0]).toMatchObject({ endpoint: a.address, up: true });
    again.send('10.0.0.2', '10.0.0.1');
    wire.deliver();
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect([a.received.length, again.received.length]).toEqual([2, 1]);
  });

  test('of whoever begins a handshake is followed when it is done', () => {
    const { wire, a, b } = connected();
    vi.advanceTimersByTime(181_000);
    wire.take();
    a.send('10.0.0.1', '10.0.0.2');
    const from = '192.0.2.77:7';
    wire.give({ ...(wire.take() as [Datagram])[0], from });
    // The answer goes where the question came from.
    const [response] = wire.take() as [Datagram];
    expect([response.bytes[0], response.to]).toEqual([RESPONSE, parseSocketAddress(from)]);
    wire.give({ ...response, to: parseSocketAddress(a.address) as Buffer });
    for (const datagram of wire.take()) wire.give({ ...datagram, from });
    expect(b.tunnel.state().peers[0]).toMatchObject({ endpoint: from, up: true });
    expect(b.received.length).toBe(2);
  });

  test('finds a peer whose endpoint nobody knew', () => {
    const wire = new Wire();
    const { a, b } = pair(wire);
    b.again({ peers: [{ ...peerOf(b), publicKey: randomBytes(32) }] });
    b.again({ peers: [{ ...peerOf(b), endpoint: '' }] });
    b.send('10.0.0.2', '10.0.0.1');
    expect([wire.sent.length, b.drops(Drop.NOT_CONNECTED)]).toEqual([0, 1]);
    expect(b.tunnel.state().peers[0]?.reason).toBe('no endpoint is known: the peer has to speak first');
    a.send('10.0.0.1', '10.0.0.2');
    wire.deliver();
    expect(b.tunnel.state().peers[0]).toMatchObject({ endpoint: '192.0.2.1:51820', up: true });
  });
});

/** As it was declared first. */
function peerOf({ setup }: End) {
  const peer = setup.spec?.peers[0];
  if (peer === undefined) throw new Error('no peer');
  return { ...peer };
}

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
  return copy;
}

function text(_: string, value: unknown): unknown {
  return typeof value === 'bigint' ? value.toString() : value;
}

/** A super-frame of UDP over IPv4 that must not be fragmented, behind its virtio header. */
function superFrame(to: string, payloadBytes: number, gsoSize: number): Buffer {
  const inner = packet('10.0.0.1', to, 28 + payloadBytes);
  inner[9] = 17;
  inner.writeUInt16BE(8 + payloadBytes, 24);
  const head = Buffer.alloc(VNET);
  writeVnetHeader(head, 0, {
    flags: NEEDS_CHECKSUM,
    gsoType: GSO_UDP_L4,
    headerLength: 28,
    gsoSize,
    checksumStart: 20,
    checksumOffset: 6,
  });
  return Buffer.concat([head, inner]);
}
