// Probing between two data planes, and of a host that only echoes: over a wire in memory that loses, delays and has a size.

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { ProbeLinkRequest, type ProbeLinkResponse, type ProbeResult } from '../../src/gen/taplane/v1/link_service.ts';
import { runProbe } from '../../src/lane/link/probe-run.ts';
import { type PeerProbe, Probes } from '../../src/lane/link/probes.ts';
import { echoReply } from '../../src/packet/icmp-echo.ts';
import { emptyProbe, type Probe, ProbeKind, type ProbePath, readProbe, writeProbe } from '../../src/packet/probe-packet.ts';

const A = Uint8Array.of(10, 0, 0, 1);
const B = Uint8Array.of(10, 0, 0, 2);

interface Wire {
  takes: number;
  delayMs: number;
  /** Every so many-th frame is lost; 0: none. */
  losesEvery: number;
  carried: number;
  /** Frames that did not fit. */
  tooLarge: number;
  /** So many of the next frames are lost. */
  losesNext: number;
}

/** Two ends; the far one is a data plane, or a host that answers pings. */
function joined({ host = false, most = 1420, blind = false } = {}) {
  const near: ProbePath | undefined = blind ? undefined : { from: A, to: B, ttl: 64 };
  const wire: Wire = { takes: 1420, delayMs: 1, losesEvery: 0, carried: 0, tooLarge: 0, losesNext: 0 };
  const now = () => performance.now();
  const used: number[] = [];
  const state = { sent: 0 };
  let here: PeerProbe;
  let there: PeerProbe;
  const carry = (deliver: (frame: Buffer) => void) => (bytes: Buffer, start: number, length: number) => {
    wire.carried++;
    if (length > wire.takes) wire.tooLarge++;
    if (wire.losesNext-- > 0) return true;
    if (length > wire.takes || (wire.losesEvery > 0 && wire.carried % wire.losesEvery === 0)) return true;
    const frame = Buffer.from(bytes.subarray(start, start + length));
    setTimeout(() => deliver(frame), wire.delayMs);
    return true;
  };
  const probes = new Probes({ ethernet: false, now, most });
  const others = new Probes({ ethernet: false, now, most });
  const toHere = carry((frame) => void here.received(frame, 0, frame.length));
  here = probes.add({
    path: () => near,
    sentPackets: () => state.sent,
    send: carry((frame) => {
      const reply = Buffer.alloc(2000);
      if (!host) there.received(frame, 0, frame.length);
      else toHere(reply, 0, echoReply(frame, 0, frame.length, false, undefined, reply));
    }),
    setPathMtu: (bytes) => used.push(bytes),
  });
  there = others.add({ path: () => ({ from: B, to: A, ttl: 64 }), sentPackets: () => 0, send: toHere, setPathMtu: () => {} });
  const close = (): void => {
    probes.close();
    others.close();
  };
  return { wire, here, used, state, [Symbol.dispose]: close };
}

async function probed(probe: PeerProbe, request: Partial<ProbeLinkRequest>) {
  const said: ProbeLinkResponse[] = [];
  const asked = ProbeLinkRequest.fromPartial({ name: 'links/l', count: 5, intervalMs: 10, ...request });
  for await (const message of runProbe(probe, '192.0.2.1:1', asked, new AbortController().signal)) said.push(message);
  const last = said.at(-1)?.progress;
  return { replies: said.slice(0, -1), result: last?.$case === 'result' ? (last.value as ProbeResult) : undefined };
}

describe.concurrent('a probe that is asked for', () => {
  it('measures round trips, the size of the path and throughput, at both ends', async () => {
    using pair = joined();
    pair.wire.takes = 1311;
    pair.wire.delayMs = 5;
    const { replies, result } = await probed(pair.here, { pathMtu: true, throughputSeconds: 1 });
    expect(replies).toHaveLength(5);
    expect(result).toMatchObject({ sent: 5, received: 5, twoEnded: true, peerReceived: 5, name: 'links/l', peer: '192.0.2.1:1' });
    expect(result?.roundTripMin?.nanos).toBeGreaterThanOrEqual(9_000_000);
    expect(result?.pathMtu).toBeGreaterThan(1303);
    expect(result?.pathMtu).toBeLessThanOrEqual(1311);
    expect(result?.throughputOut).toBeGreaterThan(1e6);
    expect(result?.throughputIn).toBeGreaterThan(1e6);
    expect(result).toMatchObject({ lossOut: 0, lossIn: 0 });
  });

  it('tells of what a lossy path loses', async () => {
    using pair = joined();
    pair.wire.losesEvery = 3;
    const { replies, result } = await probed(pair.here, { count: 4 });
    const lost = replies.filter(({ progress }) => progress?.$case === 'reply' && progress.value.lost);
    expect(lost.length).toBeGreaterThan(0);
    expect(result?.received).toBe(4 - lost.length);
  });

  it('is answered by any host, one-ended, without a measure of throughput', async () => {
    using pair = joined({ host: true });
    pair.wire.takes = 1350;
    const { result } = await probed(pair.here, { pathMtu: true, throughputSeconds: 5 });
    expect(result).toMatchObject({ sent: 5, received: 5, twoEnded: false, throughputOut: 0, throughputIn: 0 });
    expect(result?.pathMtu).toBeGreaterThan(1342);
    expect(result?.pathMtu).toBeLessThanOrEqual(1350);
  });

  it('is refused where no address is known, and ends when it is cancelled', async () => {
    using pair = joined({ blind: true });
    await expect(probed(pair.here, {})).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'NO_PROBE_ADDRESS' });
    using other = joined();
    const cancel = new AbortController();
    const run = runProbe(other.here, 'p', ProbeLinkRequest.fromPartial({ count: 1000, intervalMs: 10_000 }), cancel.signal);
    await run.next();
    setTimeout(() => cancel.abort(new Error('enough')), 20);
    await expect(run.next()).rejects.toThrow('enough');
  });
});

describe('a probe whose peer goes away', () => {
  it.each<[string, Partial<ProbeLinkRequest>]>([
    ['in round trips', { count: 1000, intervalMs: 1 }],
    ['in the search for the size', { count: 1, pathMtu: true }],
    ['in throughput', { count: 1, throughputSeconds: 60 }],
  ])('ends with an error that says so: %s', async (_, request) => {
    using pair = joined();
    pair.wire.delayMs = 5;
    const failed = probed(pair.here, request).then(
      () => 'a result',
      (error: unknown) => error,
    );
    await new Promise((resolve) => setTimeout(resolve, 300));
    pair[Symbol.dispose]();
    const error = await Promise.race([failed, new Promise((resolve) => setTimeout(resolve, 3000, 'nothing'))]);
    expect(error).toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'LINK_NOT_READY' });
  });
});

describe('with a clock of its own', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval', 'clearInterval', 'performance'] }));
  afterEach(() => void vi.useRealTimers());

  it('whoever asked for a train and is gone no longer keeps it going', async () => {
    using pair = joined();
    pair.wire.delayMs = 100;
    const cancel = new AbortController();
    const asked = pair.here.trainBack(60, cancel.signal).catch(() => 'cancelled');
    await vi.advanceTimersByTimeAsync(600);
    expect(pair.wire.carried).toBeGreaterThan(50);
    cancel.abort(new Error('enough'));
    await vi.advanceTimersByTimeAsync(2000);
    expect(await asked).toBe('cancelled');
    const { carried } = pair.wire;
    await vi.advanceTimersByTimeAsync(1000);
    expect(pair.wire.carried).toBe(carried);
    // The next one is another.
    const next = pair.here.trainBack(1, new AbortController().signal);
    await vi.advanceTimersByTimeAsync(2000);
    expect((await next).bitsPerSecond).toBeGreaterThan(1e6);
  });

  it('a train that is asked for comes, also when the question was lost', async () => {
    using pair = joined();
    pair.wire.delayMs = 200;
    pair.wire.losesNext = 2;
    const asked = pair.here.trainBack(2, new AbortController().signal);
    await vi.advanceTimersByTimeAsync(4000);
    expect((await asked).bitsPerSecond).toBeGreaterThan(1e5);
  });

  it('how small a size is looked for goes by the family of the path that there is', async () => {
    const found: number[] = [];
    let to = new Uint8Array(16);
    const probes = new Probes({ ethernet: false, now: () => performance.now(), most: 1420 });
    const probe = probes.add({
      path: () => ({ from: to, to, ttl: 64 }),
      sentPackets: () => 0,
      send: (bytes, start, length) => {
        const frame = Buffer.from(bytes.subarray(start, start + length));
        // An echo.
        frame[to.length === 4 ? 20 : 40] = to.length === 4 ? 0 : 129;
        if (length <= 1000) setTimeout(() => probe.received(frame, 0, frame.length), 1);
        return true;
      },
      setPathMtu: (bytes) => found.push(bytes),
    });
    probe.searchMtu();
    await vi.advanceTimersByTimeAsync(5000);
    expect(found).toEqual([]);
    to = new Uint8Array(4);
    probe.searchMtu();
    await vi.advanceTimersByTimeAsync(5000);
    expect(found.at(-1)).toBeGreaterThan(992);
    expect(found.at(-1)).toBeLessThanOrEqual(1000);
    probes.close();
  });

  it('as many pings as may be asked for are answered, however fast', async () => {
    using pair = joined();
    const run = probed(pair.here, { count: 1000, intervalMs: 1 });
    await vi.advanceTimersByTimeAsync(10_000);
    expect((await run).result).toMatchObject({ sent: 1000, received: 1000 });
  });

  it('a size that is tried above what passes is no loss', async () => {
    using pair = joined();
    pair.wire.takes = 1300;
    pair.here.searchMtu();
    await vi.advanceTimersByTimeAsync(6000);
    expect(pair.here.mtu.searching).toBe(false);
    const tried = pair.wire.tooLarge;
    for (let tenths = 0; tenths < 100; tenths++) {
      pair.state.sent++;
      await vi.advanceTimersByTimeAsync(100);
    }
    expect(pair.wire.tooLarge).toBeGreaterThan(tried);
    expect(pair.here.status()).toMatchObject({ loss: 0 });
  });
});

it('nothing is left of probes that never had a peer, or have none any more', () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
  try {
    const probes = new Probes({ ethernet: false, now: () => 0, most: 1420 });
    expect(vi.getTimerCount()).toBe(0);
    const peer = probes.add({ path: () => undefined, sentPackets: () => 0, send: () => true, setPathMtu: () => {} });
    expect(vi.getTimerCount()).toBe(1);
    probes.remove(peer);
    expect(vi.getTimerCount()).toBe(0);
  } finally {
    vi.useRealTimers();
  }
});

describe('whoever speaks in the name of a peer without hearing what is said to it', () => {
  beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval', 'clearInterval', 'performance'] }));
  afterEach(() => void vi.useRealTimers());

  function forged() {
    const said: Probe[] = [];
    const probes = new Probes({ ethernet: false, now: () => performance.now(), most: 1420 });
    const probe = probes.add({
      path: () => ({ from: A, to: B, ttl: 64 }),
      sentPackets: () => 0,
      send: (bytes, start, length) => {
        const heard = emptyProbe();
        readProbe(bytes, start, length, false, heard);
        said.push(heard);
        return true;
      },
      setPathMtu: () => {},
    });
    const say = (kind: number, sequence: number, sentAt: number, received: number): void => {
      const out = Buffer.alloc(200);
      const length = writeProbe({ kind, sequence, sentAt, received, bytes: 88, isEcho: false }, { from: B, to: A, ttl: 1 }, out);
      probe.received(out, 0, length);
    };
    return { probe, said, say, [Symbol.dispose]: () => probes.close() };
  }

  it('gets little for a question, and not more with answers', async () => {
    using it = forged();
    it.say(ProbeKind.TRAIN_ASK, 60, 0, 1420);
    for (let tenths = 0; tenths < 50; tenths++) {
      await vi.advanceTimersByTimeAsync(100);
      for (let sequence = 1; sequence < 50; sequence++) it.say(ProbeKind.TRAIN_ACK, sequence, it.said.length, sequence);
    }
    expect(it.said.length).toBeLessThanOrEqual(16);
    expect(it.said.length).toBeGreaterThan(1);
  });

  it('and peers that all ask at once get few trains', async () => {
    const served = new Set<number>();
    const probes = new Probes({ ethernet: false, now: () => performance.now(), most: 1420 });
    const ask = Buffer.alloc(200);
    const probe = { kind: ProbeKind.TRAIN_ASK, sequence: 1, sentAt: 0, received: 1420, bytes: 88, isEcho: false };
    const length = writeProbe(probe, { from: B, to: A, ttl: 1 }, ask);
    const peers = Array.from({ length: 10 }, (_, index) =>
      probes.add({
        path: () => ({ from: A, to: B, ttl: 64 }),
        sentPackets: () => 0,
        send: () => served.add(index).size > 0,
        setPathMtu: () => {},
      }),
    );
    for (const peer of peers) peer.received(ask, 0, length);
    await vi.advanceTimersByTimeAsync(200);
    expect(served.size).toBe(4);
    await vi.advanceTimersByTimeAsync(3000);
    peers.at(-1)?.received(ask, 0, length);
    expect(served.size).toBe(5);
    probes.close();
  });

  it('answers no ping', async () => {
    using it = forged();
    await vi.advanceTimersByTimeAsync(1234);
    const answers: boolean[] = [];
    it.probe.ping(100, ({ lost }) => answers.push(lost));
    const [ping] = it.said as [Probe];
    it.say(ProbeKind.PONG, ping.sequence, ping.sentAt + 1, 1);
    expect(answers).toEqual([]);
    it.say(ProbeKind.PONG, ping.sequence, ping.sentAt, 1);
    expect(answers).toEqual([false]);
  });
});

describe('in the background', () => {
  it('a peer is probed only while something is sent to it; its status tells round trip, loss and size', async () => {
    using pair = joined();
    await new Promise((resolve) => setTimeout(resolve, 700));
    expect(pair.wire.carried).toBe(0);
    const sending = setInterval(() => pair.state.sent++, 20);
    await expect.poll(() => pair.here.status().pathMtu, { timeout: 5000 }).toBe(1420);
    clearInterval(sending);
    const { roundTrip, loss } = pair.here.status();
    expect(roundTrip?.nanos).toBeGreaterThan(0);
    expect(loss).toBe(0);
    expect(pair.used).toEqual([]);
  });
});
