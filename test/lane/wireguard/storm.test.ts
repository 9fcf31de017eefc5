// Two tunnels through hours of bad weather: loss, delay, repetition, restarts, changes of keys, endpoints and time. No number of a session is used
// twice for different bytes, nothing is delivered twice, no end says more than it must, and when the weather is fine again packets pass.

import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { DATA } from '../../../src/lane/wireguard/messages.ts';
import { bound } from '../../harness/bound.ts';
import { random, seed } from '../../harness/random.ts';
import { type Datagram, End, type PeerPartial, pair, Wire } from './wire.ts';

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] }));
afterEach(() => void vi.useRealTimers());

const ROUNDS = bound(250, 8);

test(`they find each other again, and never use a nonce twice (seed ${seed})`, () => {
  const chance = random('storm');
  const dice = (share: number): boolean => chance.next() < share;
  const wire = new Wire();
  const ends: { a: End; b: End } = pair(wire, { greets: true });
  let epoch = 1000n;
  let presharedKey = Buffer.alloc(0);
  const used = new Map<string, string>();
  let way: { at: number; datagram: Datagram }[] = [];
  const weather = { loss: 0, delay: 0, again: 0 };
  let sent = 0;

  const note = ({ from, bytes }: Datagram): void => {
    if (bytes.readUInt32LE(0) !== DATA) return;
    const key = `${from} ${bytes.toString('hex', 4, 16)}`;
    const text = bytes.toString('latin1');
    if ((used.get(key) ?? text) !== text) throw new Error(`a nonce was used twice: ${key}`);
    used.set(key, text);
  };
  const step = (ms: number): void => {
    vi.advanceTimersByTime(ms);
    const now = performance.now();
    for (const datagram of wire.take()) {
      note(datagram);
      for (let copy = dice(weather.again) ? 3 : 1; copy > 0; copy--)
        if (!dice(weather.loss)) way.push({ at: now + chance.next() * weather.delay, datagram });
    }
    const due = way.filter(({ at }) => at <= now).sort((one, two) => one.at - two.at);
    way = way.filter(({ at }) => at > now);
    for (const { datagram } of due) wire.give(datagram);
    wire.log.length = 0;
  };
  const talk = (): void => {
    if (dice(0.5)) ends.a.send('10.0.0.1', '10.0.0.2', 40 + (sent++ % 1000));
    if (dice(0.5)) ends.b.send('10.0.0.2', '10.0.0.1', 40 + (sent++ % 1000));
  };
  const restart = (which: 'a' | 'b'): void => {
    const old = ends[which];
    old.tunnel.close();
    epoch++;
    const peers = (old.setup.spec?.peers ?? []) as PeerPartial[];
    ends[which] = new End(
      wire,
      old.address,
      peers.map((peer) => ({ ...peer, presharedKey })),
      { privateKey: old.privateKey, epoch, greets: true },
    );
  };
  const rekey = (): void => {
    presharedKey = randomBytes(32);
    for (const end of [ends.a, ends.b])
      end.again({ peers: (end.setup.spec?.peers ?? []).map((peer) => ({ ...peer, presharedKey })) as PeerPartial[], epoch });
  };

  for (let round = 0; round < ROUNDS; round++) {
    Object.assign(weather, { loss: dice(0.2) ? 1 : chance.next() * 0.6, delay: chance.next() * 400, again: chance.next() * 0.3 });
    const isTalking = dice(0.7);
    for (let steps = Math.floor(chance.next() * 400); steps > 0; steps--) {
      if (isTalking) talk();
      if (dice(0.005)) restart(dice(0.5) ? 'a' : 'b');
      if (dice(0.003)) rekey();
      if (dice(0.01)) step(chance.next() * 200_000);
      step(dice(0.9) ? 100 : 2000);
    }
    Object.assign(weather, { loss: 0, delay: 30, again: 0 });
    for (let steps = 0; steps < 20; steps++) step(10);
    way = [];
    const before = [ends.a.received.length, ends.b.received.length];
    // The session that one end has lost is missed after 15 s, and a handshake comes every 5 s and a bit.
    let healed = 0;
    for (; healed < 22_000; healed += 100) {
      ends.a.send('10.0.0.1', '10.0.0.2', 40);
      ends.b.send('10.0.0.2', '10.0.0.1', 40);
      step(50);
      step(50);
      if (ends.a.received.length > (before[0] as number) && ends.b.received.length > (before[1] as number)) break;
    }
    if (healed >= 22_000) throw new Error(`round ${round}: not healed`);
    const end = [ends.a, ends.b].map(({ tunnel }) => tunnel.indices.size);
    expect(Math.max(...end)).toBeLessThanOrEqual(6);
    // Nothing to say: silence.
    for (let steps = 0; steps < 700; steps++) step(100);
    let words = 0;
    for (let steps = 0; steps < 600; steps++) {
      vi.advanceTimersByTime(1000);
      const said = wire.take();
      words += said.length;
      for (const datagram of said) wire.give(datagram);
    }
    if (words > 4) throw new Error(`round ${round}: ${words} words with nothing to say`);
    used.clear();
    ends.a.received.length = 0;
    ends.b.received.length = 0;
  }
});
