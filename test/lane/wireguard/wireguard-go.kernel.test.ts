// A wireguard link and wireguard-go, each at its end of a cable.

import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import {
  LinkDrops_Reason as Drop,
  type LinkStatus,
  LinkSpec_Protocol as Protocol,
  LinkStatus_State as State,
} from '../../../src/gen/taplane/v1/link.ts';
import { keyPair } from '../../../src/lane/wireguard/noise.ts';
import { bound, SOON, whenStrict } from '../../harness/bound.ts';
import { WireguardGo } from '../../harness/foreign-wireguard.ts';
import { dropped, type Linked, LinkLane, linkDevice } from '../../harness/link-lane.ts';
import { createCable, createNamespace, type Namespace } from '../../harness/namespace.ts';
import { transferBothWays } from '../../harness/passage.ts';
import { pings, untilAnswers } from '../../harness/ping.ts';
import { flood } from './handshake-flood.ts';

const MEBIBYTES = bound(64, 2);
const OURS = { inner: ['10.9.0.1/24', 'fd09::1/64'] };
const THEIRS = { inner: ['10.9.0.2/24', 'fd09::2/64'], allowed: ['10.9.0.1/32', 'fd09::1/128'] };

/** A cable with addresses of both families, and a key for each end. */
function ends(near: Namespace, far: Namespace) {
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: far, device: 'e1', address: '192.0.2.2/24' });
  near.ip('address add 2001:db8::1/64 dev e0 nodad');
  far.ip('address add 2001:db8::2/64 dev e1 nodad');
  const [own, their] = [randomBytes(32), randomBytes(32)];
  return { own, their, ownPublic: keyPair(own).publicKey, theirPublic: keyPair(their).publicKey };
}

const epoch = () => BigInt(Math.floor(Date.now() / 1000));

it('initiates to wireguard-go over IPv4, with a preshared key; roams, and outlives restarts of both', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  const { own, their, ownPublic, theirPublic } = ends(near, far);
  const presharedKey = randomBytes(32);
  const peer = { publicKey: theirPublic, endpoint: '192.0.2.2:51820', allowedPrefixes: ['10.9.0.2/32', 'fd09::2/128'], presharedKey };
  const device = linkDevice(near, 't0', { addresses: OURS.inner, mtu: 1420 });
  const link: Linked = {
    device,
    spec: { protocol: Protocol.WIREGUARD, listen: ':51820', wireguard: { privateKey: own }, peers: [peer] },
    setup: { handshakeEpoch: epoch(), addresses: OURS.inner },
  };
  await using go = new WireguardGo(far);
  const startGo = (endpoint?: string) =>
    go.start(their, 51820, THEIRS.inner, [{ publicKey: ownPublic, allowed: THEIRS.allowed, presharedKey, endpoint }]);
  await startGo();
  let lane = await LinkLane.start(near);
  try {
    await lane.hold(link);
    expect(await lane.status()).toMatchObject({ listen: '[::]:51820', mtu: 1420 });
    await untilAnswers(near, '10.9.0.2');
    expect(await pings(far, 'fd09::1', 5, '-i', '0.01')).toMatchObject({ lost: 0, more: '' });
    expect(await pings(near, 'fd09::2', 5, '-i', '0.01', '-s', '1372', '-M', 'do')).toMatchObject({ lost: 0, more: '' });
    await transferBothWays(near, far, '10.9.0.2', MEBIBYTES);
    await transferBothWays(far, near, 'fd09::1', MEBIBYTES);
    const status = await lane.untilUp();
    expect(status).toMatchObject({ reason: '', publicKey: ownPublic });
    expect(amiss(status)).toEqual([]);
    expect(status.peers).toMatchObject([
      { endpoint: '192.0.2.2:51820', up: true, reason: '', publicKey: theirPublic, traffic: status.traffic },
    ]);
    const handshakeAt = Number(go.show('latest-handshakes'));
    expect(Math.abs(Number(status.peers[0]?.lastHandshakeTime?.seconds) - handshakeAt)).toBeLessThanOrEqual(2);

    // Their port changes, then ours: the session stays.
    go.set('listen-port', '51999');
    await untilAnswers(far, '10.9.0.1');
    expect((await lane.status()).peers[0]?.endpoint).toBe('192.0.2.2:51999');
    await lane.hold({ ...link, spec: { ...link.spec, listen: ':51777' } });
    await untilAnswers(near, '10.9.0.2');
    expect(go.show('endpoints')).toBe('192.0.2.1:51777');
    // And our address.
    near.ip('address delete 192.0.2.1/24 dev e0');
    near.ip('address add 192.0.2.11/24 dev e0');
    await untilAnswers(near, '10.9.0.2');
    expect(go.show('endpoints')).toBe('192.0.2.11:51777');
    expect(Number(go.show('latest-handshakes'))).toBe(handshakeAt);

    // Theirs is restarted: ours finds it again when it does not answer; then ours is, with a greater epoch.
    await go.kill();
    await startGo('192.0.2.11:51777');
    await untilAnswers(far, '10.9.0.1');
    await untilAnswers(near, '10.9.0.2');
    await lane.kill();
    await lane[Symbol.asyncDispose]();
    lane = await LinkLane.start(near);
    await lane.hold({ ...link, setup: { ...link.setup, handshakeEpoch: epoch() + 1n } });
    await untilAnswers(near, '10.9.0.2');
    expect((await lane.untilUp()).peers[0]?.endpoint).toBe('192.0.2.2:51820');
    await transferBothWays(near, far, 'fd09::2', MEBIBYTES);
  } finally {
    await lane[Symbol.asyncDispose]();
  }
});

it('answers wireguard-go over IPv6 without knowing where it is; keys are renewed and changed', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  const { own, their, ownPublic, theirPublic } = ends(near, far);
  const peer = { publicKey: theirPublic, endpoint: '', allowedPrefixes: ['10.9.0.2/32', 'fd09::2/128'] };
  const device = linkDevice(near, 't0', { addresses: OURS.inner, mtu: 1420 });
  const link: Linked = {
    device,
    spec: { protocol: Protocol.WIREGUARD, listen: '[2001:db8::1]:51820', wireguard: { privateKey: own }, peers: [peer] },
    setup: { handshakeEpoch: epoch(), addresses: OURS.inner },
  };
  await using lane = await LinkLane.start(near);
  await lane.hold(link);
  await using go = new WireguardGo(far);
  const goPeer = { publicKey: ownPublic, allowed: THEIRS.allowed, endpoint: '[2001:db8::1]:51820' };
  await go.start(their, 51820, THEIRS.inner, [goPeer]);
  expect((await near.exec(['ping', '-c', '1', '-W', '1', '10.9.0.2'])).code).not.toBe(0);
  expect(await lane.status()).toMatchObject({ state: State.CONNECTING, reason: 'no endpoint is known: the peer has to speak first' });
  await untilAnswers(far, '10.9.0.1');
  expect((await lane.status()).peers).toMatchObject([{ endpoint: '[2001:db8::2]:51820', up: true }]);
  expect(await pings(near, '10.9.0.2', 5, '-i', '0.01', '-s', '1392', '-M', 'do')).toMatchObject({ lost: 0, more: '' });
  await transferBothWays(near, far, 'fd09::2', MEBIBYTES);
  await transferBothWays(far, near, '10.9.0.1', MEBIBYTES);

  // They begin anew while we hold the session: the next one takes its place.
  const before = (await lane.status()).peers[0]?.lastHandshakeTime?.seconds ?? 0n;
  await expect.poll(() => epoch() > before + 1n, SOON).toBe(true);
  go.removePeer(ownPublic);
  go.setPeer(goPeer);
  await untilAnswers(far, '10.9.0.1');
  expect((await lane.status()).peers[0]?.lastHandshakeTime?.seconds).toBeGreaterThan(before);
  await untilAnswers(near, '10.9.0.2');

  // A preshared key for both, then another key of ours.
  const presharedKey = randomBytes(32);
  go.setPeer({ ...goPeer, presharedKey });
  await lane.hold({ ...link, spec: { ...link.spec, peers: [{ ...peer, presharedKey }] } });
  await untilAnswers(near, '10.9.0.2');
  const key = randomBytes(32);
  go.removePeer(ownPublic);
  go.setPeer({ ...goPeer, publicKey: keyPair(key).publicKey, presharedKey });
  await lane.hold({ ...link, spec: { ...link.spec, wireguard: { privateKey: key }, peers: [{ ...peer, presharedKey }] } });
  await untilAnswers(near, '10.9.0.2');
  const status = await lane.untilUp();
  expect(status.publicKey).toEqual(keyPair(key).publicKey);
  expect(JSON.stringify(status, (_, value) => (typeof value === 'bigint' ? Number(value) : value))).not.toContain(key.toString('base64'));
  // Before it spoke there was nobody; and later some came under sessions of before.
  expect(amiss(status).filter((reason) => reason !== Drop.UNAUTHENTICATED)).toEqual([Drop.NOT_CONNECTED]);
});

// Two minutes and more: with the clock that wireguard-go has.
whenStrict(
  'renews its session under way with wireguard-go, and nothing is lost',
  async () => {
    await using near = createNamespace();
    await using far = createNamespace();
    const { own, their, ownPublic, theirPublic } = ends(near, far);
    const peer = { publicKey: theirPublic, endpoint: '192.0.2.2:51820', allowedPrefixes: ['10.9.0.2/32', 'fd09::2/128'] };
    await using lane = await LinkLane.start(near);
    await using go = new WireguardGo(far);
    await go.start(their, 51820, THEIRS.inner, [{ publicKey: ownPublic, allowed: THEIRS.allowed }]);
    await lane.hold({
      device: linkDevice(near, 't0', { addresses: OURS.inner, mtu: 1420 }),
      spec: { protocol: Protocol.WIREGUARD, listen: ':51820', wireguard: { privateKey: own }, peers: [peer] },
      setup: { handshakeEpoch: epoch(), addresses: OURS.inner },
    });
    await untilAnswers(near, '10.9.0.2');
    const first = Number(go.show('latest-handshakes'));
    const ping = near.spawn(['ping', '-n', '-q', '-i', '0.1', '-w', '190', '10.9.0.2']);
    const back = await far.exec(['ping', '-n', '-q', '-i', '0.1', '-w', '190', 'fd09::1'], { timeoutMs: 200_000 });
    for (const { stdout } of [await ping.ended, back]) expect(stdout).toContain(' 0% packet loss');
    expect(Number(go.show('latest-handshakes'))).toBeGreaterThanOrEqual(first + 119);
    expect(amiss(await lane.status())).toEqual([]);
  },
  240_000,
);

whenStrict('shows wireguard-go its cookie, and sees that of wireguard-go, while the other end is under load', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  const { own, their, ownPublic, theirPublic } = ends(near, far);
  const peer = { publicKey: theirPublic, endpoint: '192.0.2.2:51820', allowedPrefixes: ['10.9.0.2/32', 'fd09::2/128'] };
  const link: Linked = {
    device: linkDevice(near, 't0', { addresses: OURS.inner, mtu: 1420 }),
    spec: { protocol: Protocol.WIREGUARD, listen: ':51820', wireguard: { privateKey: own }, peers: [peer] },
    setup: { handshakeEpoch: epoch(), addresses: OURS.inner },
  };
  await using lane = await LinkLane.start(near);
  const goPeer = { publicKey: ownPublic, allowed: THEIRS.allowed, endpoint: '192.0.2.1:51820' };
  await using go = new WireguardGo(far, true);

  await go.start(their, 51820, THEIRS.inner, [goPeer]);
  await lane.hold(link);
  {
    await using flooding = flood(near, theirPublic, '192.0.2.2', 51820);
    await expect.poll(() => go.said('Sending cookie response'), SOON).toBeGreaterThan(1000);
    await untilAnswers(near, '10.9.0.2');
    expect(flooding.isRunning).toBe(true);
    expect(amiss(await lane.status())).toEqual([]);
  }
  await lane.hold();
  await go.kill();
  await lane.hold(link);
  await using flooding = flood(far, ownPublic, '192.0.2.1', 51820);
  await expect.poll(async () => dropped(await lane.status(), Drop.RATE_LIMITED), SOON).toBeGreaterThan(1000);
  await go.start(their, 51820, THEIRS.inner, [goPeer]);
  await untilAnswers(far, '10.9.0.1');
  expect(flooding.isRunning).toBe(true);
  expect(go.said('Receiving cookie response from')).toBe(1);
  expect(amiss(await lane.status()).sort()).toEqual([Drop.STRANGER, Drop.RATE_LIMITED]);
});

/** Why packets were dropped, but for those that no peer takes: the kernel itself sends some to multicast groups. */
function amiss({ drops }: LinkStatus): Drop[] {
  return drops.map(({ reason }) => reason).filter((reason) => reason !== Drop.NO_PEER);
}
