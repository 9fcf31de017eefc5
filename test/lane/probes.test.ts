// Probing between two data planes, and of a host that only echoes: over a wire in memory that loses, delays and has a size.

import { describe, expect, it } from 'vitest';
import { ProbeLinkRequest, type ProbeLinkResponse, type ProbeResult } from '../../src/gen/taplane/v1/link_service.ts';
import { runProbe } from '../../src/lane/link/probe-run.ts';
import { type PeerProbe, Probes } from '../../src/lane/link/probes.ts';
import { echoReply } from '../../src/packet/icmp-echo.ts';
import type { ProbePath } from '../../src/packet/probe-packet.ts';

const A = Uint8Array.of(10, 0, 0, 1);
const B = Uint8Array.of(10, 0, 0, 2);

interface Wire {
  takes: number;
  delayMs: number;
  /** Every so many-th frame is lost; 0: none. */
  losesEvery: number;
  carried: number;
}

/** Two ends; the far one is a data plane, or a host that answers pings. */
function joined({ host = false, most = 1420, blind = false } = {}) {
  const near: ProbePath | undefined = blind ? undefined : { from: A, to: B, ttl: 64 };
  const wire: Wire = { takes: 1420, delayMs: 1, losesEvery: 0, carried: 0 };
  const now = () => performance.now();
  const used: number[] = [];
  const state = { sent: 0 };
  let here: PeerProbe;
  let there: PeerProbe;
  const carry = (deliver: (frame: Buffer) => void) => (bytes: Buffer, start: number, length: number) => {
    wire.carried++;
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
