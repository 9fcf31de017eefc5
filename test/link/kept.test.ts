// Links on disk: epochs of handshakes that only grow, keys that are nobody else's business, and what a change of a part makes of them.

import { chmodSync, copyFileSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Attachment, AttachmentState } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { InterfaceSpec } from '../../src/gen/taplane/v1/interface.ts';
import {
  LinkSpec_Protocol as Protocol,
  LinkStatus_State as State,
  LinkSpec_Transport as Transport,
} from '../../src/gen/taplane/v1/link.ts';
import { CreateLinkRequest, DeleteLinkRequest, UpdateLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { type LinkManager, openLinks } from '../../src/link/manager.ts';
import { LINK_RECORDS } from '../../src/link/record.ts';
import { seal } from '../../src/resource/record-kind.ts';
import { Store } from '../../src/resource/store.ts';
import { linking, relinking, somebody, unlinking, wireguard } from './links.ts';

const log = { debug() {}, info() {}, warn() {}, error() {} };
let folder: string;
let clockMs: number;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tpl-links-'));
  clockMs = 1_800_000_000_000;
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

interface Opened extends AsyncDisposable {
  links: LinkManager;
  /** What was declared last. */
  wanted: () => Attachment[];
}

/** Links on interfaces that are always there; the data plane answers at once that it works by what it was told. */
function open(): Opened {
  let wanted: Attachment[] = [];
  const links = openLinks({
    stateDir: folder,
    limits: { links: 10, watchers: 4 },
    log,
    joined: (id) => ({
      device: Device.fromPartial({ uid: `uid-${id}`, interface: id }),
      spec: InterfaceSpec.fromPartial({}),
      isThere: true,
      mtu: 1500,
    }),
    want(attachments) {
      wanted = attachments;
      setImmediate(() => links.laneSaid());
    },
    attachment: (uid) => wanted.filter(({ device }) => device?.uid === uid).map(working)[0],
    async *ask() {},
    clock: () => clockMs,
  });
  links.start();
  return { links, wanted: () => wanted, [Symbol.asyncDispose]: () => links.stop() };
}

function working({ kind, device, link }: Attachment): AttachmentState {
  const status = {
    observedGeneration: link?.generation ?? 0n,
    state: State.CONNECTING,
    reason: '',
    listen: '',
    publicKey: Buffer.alloc(0),
    mtu: 1420,
  };
  return {
    uid: device?.uid ?? '',
    kind,
    attached: true,
    reason: '',
    responders: [],
    linkUid: link?.uid ?? '',
    link: { ...status, conditions: [], peers: [], traffic: undefined, drops: [], addresses: [] },
  };
}

const epochs = async ({ links, wanted }: Opened, lane: string): Promise<number[]> =>
  (await links.withEpochs(wanted(), lane)).map(({ link }) => Number(link?.handshakeEpoch));

/** What a new agent would read, at this moment. */
function onDisk(): { epoch: number; lane: string }[] {
  const copy = mkdtempSync(join(tmpdir(), 'tpl-links-'));
  try {
    for (const file of readdirSync(folder)) if (!file.endsWith('-shm')) copyFileSync(join(folder, file), join(copy, file));
    const store = new Store(copy, LINK_RECORDS, () => clockMs);
    store.close();
    return store.records.map(({ epoch, lane }) => ({ epoch, lane }));
  } finally {
    rmSync(copy, { recursive: true, force: true });
  }
}

describe('epochs of handshakes', () => {
  it('grow with every process that runs the link, whatever the clock does, and are on disk before they are told', async () => {
    const seconds = clockMs / 1000;
    await using first = open();
    await first.links.create(linking('a', wireguard('tun0')));
    expect(await epochs(first, 'one')).toEqual([seconds]);
    expect(onDisk()).toEqual([{ epoch: seconds, lane: 'one' }]);
    // The same process goes on, also when the link changes.
    expect(await epochs(first, 'one')).toEqual([seconds]);
    await first.links.update(relinking('a', { mtu: 1400 }));
    clockMs += 5000;
    expect(await epochs(first, 'one')).toEqual([seconds]);
    // Another one at the same second, one at an earlier, one at a later.
    clockMs -= 5000;
    expect(await epochs(first, 'two')).toEqual([seconds + 1]);
    clockMs -= 3_600_000;
    expect(await epochs(first, 'three')).toEqual([seconds + 2]);
    clockMs += 7_200_000;
    expect(await epochs(first, 'four')).toEqual([seconds + 3600]);
    expect(onDisk()).toEqual([{ epoch: seconds + 3600, lane: 'four' }]);
  });

  it('are known to the next agent: the same lane goes on, another is later', async () => {
    const seconds = clockMs / 1000;
    {
      await using first = open();
      await first.links.create(linking('a', wireguard('tun0')));
      expect(await epochs(first, 'one')).toEqual([seconds]);
    }
    clockMs -= 1_000_000;
    await using second = open();
    expect(await epochs(second, 'one')).toEqual([seconds]);
    expect(await epochs(second, 'two')).toEqual([seconds + 1]);
  });

  it('of a change under way do not undo it', async () => {
    await using one = open();
    await one.links.create(linking('a', wireguard('tun0')));
    const changes = Array.from({ length: 20 }, (_, index) => [
      one.links.update(relinking('a', { mtu: 1300 + index })),
      epochs(one, `lane-${index}`),
    ]);
    await Promise.all(changes.flat());
    const { spec, generation } = await one.links.get({ name: 'links/a' });
    expect([spec?.mtu, generation]).toEqual([1319, 21n]);
    const [kept] = onDisk();
    expect(kept?.lane).toBe('lane-19');
    expect(kept?.epoch).toBeGreaterThanOrEqual(clockMs / 1000 + 19);
  });
});

describe('keys', () => {
  const privateKey = Buffer.from('4052494d41524b4552004052494d41524b4552004052494d41524b4552414243', 'hex');
  const psk = Buffer.from('PSKMARKERPSKMARKERPSKMARKERPSKMA');
  const peers = [{ publicKey: somebody(), presharedKey: psk }];
  const files = (): string[] => readdirSync(folder).map((file) => join(folder, file));

  it('are in files of their owner alone, and gone from them once the link is and the agent has stopped', async () => {
    {
      await using one = open();
      await one.links.create(linking('a', wireguard('tun0', peers, { wireguard: { privateKey } })));
      for (const file of files()) expect([file, statSync(file).mode & 0o777]).toEqual([file, 0o600]);
      const all = Buffer.concat(files().map((file) => readFileSync(file)));
      // Base64 of base64, as records are: the look finds them while they are there.
      expect(spellings(psk).some((text) => all.includes(text))).toBe(true);
      await one.links.delete(unlinking('a'));
    }
    const left = Buffer.concat(files().map((file) => readFileSync(file)));
    for (const secret of [privateKey, psk]) for (const text of spellings(secret)) expect(left.includes(text)).toBe(false);
    expect(existsSync(join(folder, 'links.db'))).toBe(true);
  });

  it('are taken away from others in a copy that was put back', async () => {
    {
      await using one = open();
      await one.links.create(linking('a', wireguard('tun0')));
    }
    chmodSync(join(folder, 'links.db'), 0o644);
    await using again = open();
    await again.links.update(relinking('a', { mtu: 1400 }));
    for (const file of files()) expect([file, statSync(file).mode & 0o777]).toEqual([file, 0o600]);
  });

  it('are in no answer and in no event, but the public key is', async () => {
    await using one = open();
    const abort = new AbortController();
    const told: string[] = [];
    const watching = (async () => {
      for await (const event of one.links.watch({ resumeToken: '', name: '' }, abort.signal)) told.push(text(event));
    })();
    const made = await one.links.create(
      linking('a', wireguard('tun0', peers, { wireguard: { privateKey } }), { requestId: crypto.randomUUID() }),
    );
    expect(made.status?.publicKey).toHaveLength(32);
    const changed = await one.links.update(relinking('a', { mtu: 1400 }));
    expect(changed.spec?.peers[0]?.hasPresharedKey).toBe(true);
    const all = [made, changed, await one.links.get({ name: 'links/a' })].map(text);
    await one.links.delete(unlinking('a'));
    await new Promise((resolve) => setImmediate(resolve));
    abort.abort();
    await watching;
    expect(told.length).toBeGreaterThanOrEqual(3);
    for (const secret of [privateKey, psk]) {
      const forms = [secret.toString('hex'), ...spellings(secret)];
      for (const form of forms) expect([...all, ...told].some((one) => one.includes(form))).toBe(false);
    }
  });
});

/** Hexadecimal and text of all bytes. */
function text(message: object): string {
  return JSON.stringify(message, (_, value) => {
    if (typeof value === 'bigint') return String(value);
    return value?.type === 'Buffer' ? `${Buffer.from(value.data).toString('hex')} ${Buffer.from(value.data).toString('base64')}` : value;
  });
}

/** Base64 at each of the three offsets that a secret may have in a longer text, without the ends that depend on its neighbours. */
function spellings(secret: Buffer): string[] {
  return [0, 1, 2].map((offset) =>
    Buffer.concat([Buffer.alloc(offset), secret])
      .toString('base64')
      .slice(4, 36),
  );
}

it('a record that cannot be read says nothing of what stands in it', () => {
  const { body, sum } = seal({ name: 'a', phase: 'ready' }, Buffer.from('c2VjcmV0 is no JSON'));
  expect(() => LINK_RECORDS.decode('a', 'ready', body, sum)).toThrow(/^(?!.*c2Vj)record of a: /);
});

it('a part of a link that is changed makes no server for everybody of it, unless its caller may have one', async () => {
  await using one = open();
  const tls = { certificateFile: '/c', privateKeyFile: '/k', caFile: '/a', peerName: '' };
  const frames = { interface: 'interfaces/t0', protocol: Protocol.FRAMES, transport: Transport.TCP };
  const make = (linkId: string, spec: object) =>
    one.links.create(CreateLinkRequest.fromPartial({ linkId, link: { spec: { ...frames, ...spec } } }));
  await make('a', { listen: '127.0.0.1:4999', tls });
  await make('b', { interface: 'interfaces/t1', peers: [{ endpoint: '192.0.2.1:4999' }] });
  const asked: string[] = [];
  const change = (name: string, spec: object, paths: string[], may = false) =>
    one.links.update(UpdateLinkRequest.fromPartial({ link: { name: `links/${name}`, spec }, updateMask: paths }), {
      anyPeer(id) {
        asked.push(id);
        return may;
      },
      underlay: () => may,
    });
  const denied = { code: 'PERMISSION_DENIED', reason: 'PEER_DENIED', fields: [{ field: 'link.spec.listen' }] };
  await expect(change('a', {}, ['spec.tls'])).rejects.toMatchObject(denied);
  await expect(change('b', { listen: '127.0.0.1:5000' }, ['spec.listen'])).rejects.toMatchObject(denied);
  await expect(change('b', { listen: '127.0.0.1:5000' }, [])).rejects.toMatchObject(denied);
  expect(asked.splice(0)).toEqual(['a', 'b', 'b']);
  await change('a', { listen: '127.0.0.1:5001' }, ['spec.listen']);
  expect(asked).toEqual([]);
  expect((await change('a', {}, ['spec.tls'], true)).spec?.tls).toBeUndefined();
  // Nor at an address where others than before can reach it.
  await expect(change('a', { listen: ':5001' }, ['spec.listen'])).rejects.toMatchObject(denied);
  expect((await change('a', { mtu: 1400 }, ['spec.mtu'])).spec).toMatchObject({ mtu: 1400, listen: '127.0.0.1:5001' });
  // What keeps the outer packets where they belong is not taken away either.
  await one.links.delete(DeleteLinkRequest.fromPartial({ name: 'links/b' }));
  await make('c', { interface: 'interfaces/t1', peers: [{ endpoint: '192.0.2.1:4998' }], socketMark: 7, bindDevice: 'lo' });
  for (const field of ['socket_mark', 'bind_device'])
    await expect(change('c', {}, [`spec.${field}`])).rejects.toMatchObject({
      ...{ code: 'PERMISSION_DENIED', reason: 'USE_DENIED', fields: [{ field: `link.spec.${field}` }] },
    });
  expect((await change('c', {}, ['spec.bind_device'], true)).spec).toMatchObject({ socketMark: 7, bindDevice: '' });
});
