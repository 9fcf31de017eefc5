// Connections of frames over TCP that come to nothing: floods of TLS handshakes, an end that is refused, one end with TLS and the other without, files that
// are not what they should be. On the loopback.

import { chmodSync, chownSync, copyFileSync, rmSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  type LinkPeer,
  LinkSpec,
  LinkSpec_Protocol as Protocol,
  LinkDrops_Reason as Reason,
  LinkStatus_State as State,
  type TlsSpec,
  LinkSpec_Transport as Transport,
} from '../../src/gen/taplane/v1/link.ts';
import { isTls } from '../../src/lane/frames/foreign-tls.ts';
import { FramesOverTcp } from '../../src/lane/frames/frames-tcp.ts';
import { OF_SOURCE } from '../../src/lane/frames/handshake-gate.ts';
import { TlsFiles } from '../../src/lane/frames/tls-files.ts';
import { VNET_HEADER_BYTES } from '../../src/packet/vnet-header.ts';
import { bound, SOON } from '../harness/bound.ts';
import { Certificates } from '../harness/certificates.ts';

let certificates: Certificates;
let tls: Record<'near' | 'far' | 'stranger', TlsSpec>;
const held: { close(): void }[] = [];

beforeAll(() => {
  certificates = new Certificates();
  const caFile = certificates.authority('ca');
  certificates.authority('other');
  const of = (authority: string, name: string) => ({ ...certificates.issue(authority, name, `DNS:${name}.example`), caFile, peerName: '' });
  tls = { near: of('ca', 'near'), far: of('ca', 'far'), stranger: of('other', 'stranger') };
});
afterAll(() => certificates[Symbol.dispose]());
afterEach(() => {
  for (const one of held.splice(0)) one.close();
});

function setupOf(spec: Partial<Omit<LinkSpec, 'peers'>> & { peers?: Partial<LinkPeer>[] }): LinkSetup {
  return LinkSetup.fromPartial({
    uid: 'link',
    spec: LinkSpec.fromPartial({ protocol: Protocol.FRAMES, transport: Transport.TCP, ...spec }),
  });
}

function open(spec: Parameters<typeof setupOf>[0]): FramesOverTcp {
  const device = { ethernet: false, offload: false, write: () => 0 as const };
  const tunnel = new FramesOverTcp(setupOf(spec), { device, now: () => performance.now() });
  held.push(tunnel);
  return tunnel;
}

function serve(spec: Parameters<typeof setupOf>[0] = {}): { tunnel: FramesOverTcp; port: number } {
  const tunnel = open({ listen: '127.0.0.1:0', ...spec });
  return { tunnel, port: Number(tunnel.state().listen.split(':')[1]) };
}

const dial = (port: number, spec: Parameters<typeof setupOf>[0] = {}) => open({ peers: [{ endpoint: `127.0.0.1:${port}` }], ...spec });

async function knock(port: number, localAddress = '127.0.0.1'): Promise<{ isClosed: boolean }> {
  const socket = new Socket().on('error', () => {}).resume();
  held.push({ close: () => socket.destroy() });
  const knocked = { isClosed: false };
  socket.on('close', () => {
    knocked.isClosed = true;
  });
  await new Promise<void>((resolve) =>
    socket
      .once('connect', resolve)
      .once('close', () => resolve())
      .connect({ port, host: '127.0.0.1', localAddress }),
  );
  return knocked;
}

/** What a server says after one more. */
async function knocked(port: number, tunnel: FramesOverTcp): Promise<string> {
  await knock(port, '127.0.0.9');
  return tunnel.state().reason;
}

const drops = (tunnel: FramesOverTcp, reason: Reason) => Number(tunnel.state().drops.find((one) => one.reason === reason)?.packets ?? 0n);
const problemOf = (tunnel: FramesOverTcp) => tunnel.state().conditions?.find(({ type }) => type === 'TlsUsable')?.message;
const up = (tunnel: FramesOverTcp) => expect.poll(() => tunnel.state().state, SOON).toBe(State.UP);

/** Every state that it has been in, from now until `until`. */
async function statesUntil(tunnel: FramesOverTcp, until: () => boolean): Promise<Set<State>> {
  const seen = new Set<State>();
  for (const deadline = performance.now() + 30_000; !until(); await sleep(1)) {
    const { state, peers } = tunnel.state();
    seen.add(state);
    if (peers[0]?.up === true) seen.add(State.UP);
    if (performance.now() > deadline) throw new Error(`not within 30 s: ${tunnel.state().reason}`);
  }
  return seen;
}

describe('a server with TLS', () => {
  it('closes connections of one source beyond what it looks at before it computes anything for them, and lets others in', async () => {
    const { tunnel, port } = serve({ tls: tls.near });
    const many: { isClosed: boolean }[] = [];
    // No more than what the kernel keeps for a listener that is busy.
    const crowd = async () => many.push(...(await Promise.all(Array.from({ length: 12 }, () => knock(port, '127.0.0.9')))));
    while (many.length < 60) await crowd();
    // Of those that may begin the oldest go for the others; what is over the rate goes at once.
    await expect.poll(() => many.filter(({ isClosed }) => isClosed).length, SOON).toBeGreaterThanOrEqual(60 - 4);
    // On a busy machine some are there for longer than a handshake may take.
    const refused = () => drops(tunnel, Reason.RATE_LIMITED) + drops(tunnel, Reason.UNAUTHENTICATED);
    await expect.poll(refused, SOON).toBeGreaterThanOrEqual(60 - OF_SOURCE.burst);
    await expect.poll(() => knocked(port, tunnel), SOON).toMatch(/refused 127\.0\.0\.9:\d+: one of too many in a short time$/);
    const before = process.cpuUsage();
    while (many.length < 360) await crowd();
    const { user, system } = process.cpuUsage(before);
    // With a TLS handshake begun for each they cost more than 2 ms each, this end and ours.
    expect((user + system) / 300).toBeLessThan(bound(1000, 4000));
    const client = dial(port, { tls: tls.far });
    await Promise.all([up(tunnel), up(client)]);
  });

  it('ends a handshake that is not done in time, and counts it', async () => {
    const { tunnel, port } = serve({ tls: tls.near });
    const silent = await knock(port);
    await expect.poll(() => silent.isClosed, { ...SOON, timeout: 20_000 }).toBe(true);
    expect(drops(tunnel, Reason.UNAUTHENTICATED)).toBe(1);
    expect(tunnel.state().reason).toMatch(/refused 127\.0\.0\.1:\d+: TLS: not done within 5000 ms$/);
  });
});

describe('a client', () => {
  it('that the server refuses is never up', async () => {
    const { tunnel: server, port } = serve({ tls: tls.near });
    const client = dial(port, { tls: tls.stranger });
    const seen = await statesUntil(client, () => drops(server, Reason.UNAUTHENTICATED) >= 3);
    expect([...seen]).toEqual([State.CONNECTING]);
    await expect.poll(() => client.state().reason, SOON).toMatch(/^connecting to .*: TLS: .*certificate.*, next try in \d+ ms$/);
  });

  it('with TLS meets a server without: neither is ever up, and each says why', async () => {
    const { tunnel: server, port } = serve();
    const client = dial(port, { tls: tls.far });
    const [one, two] = await Promise.all([server, client].map((end) => statesUntil(end, () => drops(server, Reason.MALFORMED) >= 3)));
    expect([...(one ?? []), ...(two ?? [])]).toEqual([State.CONNECTING, State.CONNECTING]);
    await expect
      .poll(() => server.state().reason, SOON)
      .toMatch(/refused 127\.0\.0\.1:\d+: the other end speaks TLS, and this one does not$/);
    await expect.poll(() => client.state().reason, SOON).toMatch(/TLS: .*, next try in \d+ ms$/);
  });

  it('without TLS meets a server with it: neither is ever up', async () => {
    const { tunnel: server, port } = serve({ tls: tls.near });
    const client = dial(port);
    const frame = Buffer.concat([Buffer.alloc(VNET_HEADER_BYTES), Buffer.alloc(40, 0x45)]);
    const seen = statesUntil(client, () => drops(server, Reason.UNAUTHENTICATED) >= 3);
    const sending = setInterval(() => {
      client.take(frame, 0, frame.length);
      client.flush();
    }, 20);
    try {
      expect([...(await seen)]).toEqual([State.CONNECTING]);
      await expect.poll(() => client.state().reason, SOON).toMatch(/before anything had come from it: does it want TLS\?, next try/);
    } finally {
      clearInterval(sending);
    }
  });

  it('is up after a while with a server that says nothing, and not so soon after one that closed', async () => {
    const { tunnel: server, port } = serve();
    const client = dial(port);
    expect(client.state().state).toBe(State.CONNECTING);
    await up(client);
    await sleep(800);
    server.close();
    await expect.poll(() => client.state().state, SOON).toBe(State.CONNECTING);
    serve({ listen: `127.0.0.1:${port}` });
    await expect.poll(() => client.state().reason, SOON).toMatch(/^connected to .*, and nothing has come from there yet$/);
    const since = performance.now();
    await up(client);
    expect(performance.now() - since).toBeGreaterThan(1000);
  });
});

it.each([
  ['a ClientHello', '160301020001000', true],
  ['of TLS 1.3 only', '16030300ff01', true],
  ['an alert, fatal', '15030300020228', true],
  ['one that warns', '1503010002012a', true],
  ['the answer to one', '160303007a02', false],
  ['an IPv4 packet of 5635 bytes', '160345001603', false],
  ['an IPv6 packet of 5379 bytes', '150360000000', false],
  ['less than says anything', '1603010200', false],
])('tells TLS from frames: %s', (_, hex, isSo) => {
  const bytes = Buffer.alloc(64);
  const length = bytes.write(hex.padEnd(hex.length + (hex.length & 1), '0'), 'hex');
  expect(isTls(bytes, length)).toBe(isSo);
});

describe('files of TLS', () => {
  it('are looked at before anybody connects', () => {
    const folder = certificates.folder;
    const [own, junk, open_] = [certificates.issue('ca', 'own', 'DNS:own.example'), `${folder}/junk`, `${folder}/open.key`];
    const { caFile } = tls.near;
    const spec = { ...own, caFile, peerName: '' };
    writeFileSync(junk, 'no PEM', { mode: 0o600 });
    copyFileSync(own.privateKeyFile, open_);
    chmodSync(open_, 0o644);
    const past = certificates.issue('ca', 'past', 'DNS:own.example', -1);
    const cases: [Partial<TlsSpec>, string | RegExp][] = [
      [{}, ''],
      [{ certificateFile: `${folder}/none` }, `${folder}/none: ENOENT`],
      [{ certificateFile: junk }, `${junk}: holds no certificate`],
      [{ privateKeyFile: junk }, `${junk}: holds no private key that can be used: unsupported`],
      [{ privateKeyFile: tls.near.privateKeyFile }, `${tls.near.privateKeyFile}: is not the key of ${own.certificateFile}`],
      [{ privateKeyFile: open_ }, `${open_}: its mode is 0644: others may use it: chmod 600 ${open_}`],
      [{ caFile: junk }, `${junk}: holds no certificate`],
      [{ caFile: '/dev/zero' }, '/dev/zero: no file of at most 1 MiB'],
      [{ caFile: folder }, `${folder}: no file of at most 1 MiB`],
      [past, /past\.pem: has expired, on \d{4}-/],
    ];
    for (const [change, problem] of cases) {
      const { tunnel } = serve({ tls: { ...spec, ...change } });
      const { state, reason } = tunnel.state();
      const tlsProblem = problemOf(tunnel);
      expect(state).toBe(State.CONNECTING);
      if (typeof problem === 'string') expect(tlsProblem).toBe(problem);
      else expect(tlsProblem).toMatch(problem);
      expect(reason).toBe(tlsProblem === '' ? 'waiting for a connection' : `TLS: ${tlsProblem}; waiting for a connection`);
      expect(problemOf(dial(1, { tls: { ...spec, ...change } }))).toBe(tlsProblem);
    }
  });

  it('are looked at again when the link is declared again, and what was good last is kept', () => {
    const own = certificates.issue('ca', 'again', 'DNS:again.example');
    const spec = { ...own, caFile: tls.near.caFile, peerName: '' };
    const { tunnel } = serve({ tls: spec });
    const again = () => {
      expect(tunnel.again(setupOf({ listen: '127.0.0.1:0', tls: spec }))).toBe(true);
      return problemOf(tunnel);
    };
    expect(again()).toBe('');
    // Of a group of ours, as a mounted secret.
    chmodSync(own.privateKeyFile, 0o640);
    expect(again()).toBe('');
    chmodSync(own.privateKeyFile, 0o604);
    expect(again()).toMatch(/its mode is 0604: others may use it/);
    chmodSync(own.privateKeyFile, 0o600);
    if (process.getuid?.() === 0) {
      chownSync(own.privateKeyFile, 54321, 0);
      expect(again()).toMatch(/belongs to uid 54321, who may read it and change it/);
      chownSync(own.privateKeyFile, 0, 0);
    }
    chmodSync(own.privateKeyFile, 0o600);
    expect(again()).toBe('');
    const files = new TlsFiles(spec);
    const before = files.read();
    rmSync(own.certificateFile);
    expect(files.read()).toBe(before);
    expect(files.problem).toBe(`${own.certificateFile}: ENOENT`);
    // A new pair, of which the key comes later.
    copyFileSync(tls.far.certificateFile, own.certificateFile);
    expect(files.read()).toBe(before);
    expect(files.problem).toContain('is not the key of');
    copyFileSync(tls.far.privateKeyFile, own.privateKeyFile);
    expect(files.read()).not.toBe(before);
    expect(files.problem).toBe('');
  });
});
