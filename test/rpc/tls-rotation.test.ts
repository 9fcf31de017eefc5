// Certificates that change under load: no call is dropped, and there is never a moment without a sound certificate.

import { copyFileSync, mkdirSync, renameSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { WatchInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { type ClientTls, connect } from '../../src/rpc/client.ts';
import { loadTls } from '../../src/rpc/tls-files.ts';
import { endingOf, watchTls } from '../../src/rpc/tls-reload.ts';
import { bound } from '../harness/bound.ts';
import { eventually, served } from './served.ts';
import { TlsCertificates } from './tls-certificates.ts';

const certificates = new TlsCertificates();
afterAll(() => certificates[Symbol.dispose]());
certificates.authority('ca');
certificates.authority('next');
const identities = ['one', 'two'].map((name) => certificates.issue('ca', name, 'DNS:localhost,IP:127.0.0.1'));
const at = (...names: string[]) => join(certificates.folder, ...names);

/** A folder as the kubelet mounts a secret: files behind one symbolic link, which is swapped in one step. */
let version = 0;
function put(certificate: string, key: string, authority: string): void {
  const folder = `..v${++version}`;
  mkdirSync(at(folder));
  copyFileSync(certificate, at(folder, 'tls.crt'));
  copyFileSync(key, at(folder, 'tls.key'));
  copyFileSync(at(`${authority}.pem`), at(folder, 'ca.crt'));
  symlinkSync(folder, at('..new'));
  renameSync(at('..new'), at('..data'));
}
const use = (index: number, authority = 'ca', keyIndex = index) =>
  put(identities[index]?.certificateFile ?? '', identities[keyIndex]?.privateKeyFile ?? '', authority);

use(0);
const files = { certFile: at('..data', 'tls.crt'), keyFile: at('..data', 'tls.key'), clientCaFile: at('..data', 'ca.crt') };
const asClient = (authority: string): ClientTls => {
  const { certificateFile, privateKeyFile } = certificates.client(authority, `of-${authority}`, 'subjectAltName=DNS:client');
  return { caFile: at('ca.pem'), certFile: certificateFile, keyFile: privateKeyFile };
};

test('rotation under load drops no call; broken files change nothing', async () => {
  const warned: string[] = [];
  const log = { error() {}, warn: (fields: object, message: string) => void warned.push(`${message} ${JSON.stringify(fields)}`) };
  await using agent = await served({ listen: ['127.0.0.1:0'], tls: files, tlsReloadMs: 20, log });
  const address = agent.server.addresses[0] ?? '';
  const tls = asClient('ca');
  const started = agent.server.tls()?.fingerprint;
  let [running, calls, connections] = [true, 0, 0];
  const failures: unknown[] = [];
  const load = async () => {
    while (running) {
      await using client = connect(address, { timeoutMs: 15_000, tls });
      connections += 1;
      for (let call = 0; running && call < 20; call += 1)
        await client.node.getNode().then(
          () => (calls += 1),
          (error) => failures.push(error),
        );
    }
  };
  const ending = new AbortController();
  await using lasting = connect(address, { timeoutMs: 15_000, tls });
  const watched = (async () => {
    for await (const _ of lasting.interfaces.watch(WatchInterfacesRequest.create(), ending.signal));
  })();
  await eventually(() => agent.interfaces.watching() === 1);
  const workers = [load(), load(), load()];
  for (let round = 1; round <= bound(40, 6); round += 1) {
    const before = agent.server.tls()?.reloads ?? 0;
    use(round % 2);
    await eventually(() => (agent.server.tls()?.reloads ?? 0) > before);
    const callsBefore = calls;
    await eventually(() => calls > callsBefore + 20);
  }
  expect(agent.server.tls()?.fingerprint).toBe(started);

  // Certificate and key of different requests: the last good ones stay.
  use(1, 'ca', 0);
  await eventually(() => agent.server.tls()?.problem !== '' && warned.some((line) => line.includes('last good ones stay')));
  expect(agent.server.tls()).toMatchObject({ fingerprint: started, problem: expect.stringContaining('is not the key of') });
  expect(agent.server.tls()).toMatchObject({ stale: true, failures: 1 });

  // A link in a circle: stat(2) answers ELOOP, as it answers EACCES or EIO elsewhere.
  symlinkSync('..data', at('..new'));
  renameSync(at('..new'), at('..data'));
  await eventually(() => warned.some((line) => line.includes('ELOOP')));
  expect(agent.server.tls()).toMatchObject({ fingerprint: started, stale: true, failures: 2, problem: expect.stringContaining('ELOOP') });
  const connectionsBefore = connections;
  await eventually(() => connections > connectionsBefore + 3);

  running = false;
  await Promise.all(workers);
  expect(failures).toEqual([]);

  // Another authority: who is there stays, who comes must be known to it.
  use(1, 'next');
  await eventually(() => agent.server.tls()?.fingerprint !== started);
  expect(agent.server.tls()).toMatchObject({ stale: false });
  await using late = connect(address, { timeoutMs: 15_000, tls });
  await expect(late.node.getNode()).rejects.toMatchObject({ reason: 'TLS_FAILED' });
  await using known = connect(address, { timeoutMs: 15_000, tls: asClient('next') });
  expect((await known.node.getNode()).name).toBe('node-a');
  expect((await lasting.node.getNode()).name).toBe('node-a');
  expect(agent.server.tls()?.problem).toBe('');
  expect(agent.interfaces.watching()).toBe(1);
  ending.abort();
  await watched;
});

test('the end of a certificate is told of once a day, before it and after', async () => {
  const leaf = loadTls(files).leaf;
  const end = leaf.validToDate.getTime();
  const day = 86_400_000;
  expect(endingOf(leaf, end - 31 * day)).toMatch(/not valid before/);
  const long = { validFromDate: new Date(0), validToDate: new Date(end) };
  expect(endingOf(long, end - 31 * day)).toBe('');
  expect(endingOf(long, end - 29 * day)).toMatch(/expires at/);
  expect(endingOf(long, end)).toMatch(/has expired/);
  // One of a day is not always about to end.
  const short = { validFromDate: new Date(end - day), validToDate: new Date(end) };
  expect(endingOf(short, end - 0.3 * day)).toBe('');
  expect(endingOf(short, end - 0.2 * day)).toMatch(/expires at/);
  const told: object[] = [];
  let nowMs = end - 60_000;
  const reload = watchTls(files, loadTls(files), () => {}, { warn: (fields) => void told.push(fields) }, { pollMs: 5, now: () => nowMs });
  await new Promise((resolve) => setTimeout(resolve, 50));
  expect(told).toMatchObject([{ error: expect.stringContaining('expires at') }]);
  nowMs = end + day;
  await eventually(() => told.length === 2);
  expect(told[1]).toMatchObject({ error: expect.stringContaining('has expired') });
  reload.stop();
});
