// What Wireshark is told, and the script that makes it ask.

import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { sentence } from '../../src/cli/extcap-answer.ts';
import { personalFolderOf, script } from '../../src/cli/extcap-install.ts';
import { TaplaneError } from '../../src/errors.ts';
import { Interface } from '../../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { LinkType } from '../../src/gen/taplane/v1/packet.ts';
import { scriptedPackets } from '../rpc/scripted-packets.ts';
import { served } from '../rpc/served.ts';
import { TAPLANE, taplane } from './run-taplane.ts';

const NOWHERE = 'unix:/nonexistent/agent.sock';

test('lists interfaces, their link types and what can be chosen', async () => {
  await using agent = await served();
  for (const [interfaceId, mode] of [
    ['tun0', 1],
    ['tap0', 2],
  ] as const) {
    await agent.client.interfaces.create(CreateInterfaceRequest.fromPartial({ interfaceId, interface: { spec: { mode } } }));
  }
  const asked = (...words: string[]) => taplane(['extcap', ...words], agent.address);
  const list = await asked('--extcap-interfaces', '--extcap-version=4.0');
  expect(list).toMatchObject({ code: 0, stderr: '' });
  expect(list.stdout).toMatch(
    /^extcap \{version=[\d.]+\}\{display=Taplane\}\n(interface \{value=taplane-t..0\}\{display=Taplane t..0[^{}]*\}\n){2}$/,
  );
  const dlts = (name: string) => asked('--extcap-interface', name, '--extcap-dlts', '--a-flag-of-the-future');
  expect((await dlts('taplane-tun0')).stdout).toBe('dlt {number=12}{name=RAW}{display=Raw IP}\n');
  expect((await dlts('taplane-tap0')).stdout).toBe('dlt {number=1}{name=EN10MB}{display=Ethernet}\n');
  expect((await dlts('taplane-none')).code).toBe(3);
  const config = await asked('--extcap-interface=taplane-tun0', '--extcap-config');
  expect(config.stdout).toContain(`arg {number=0}{call=--server}{display=Agent}{type=string}{default=${agent.address}}`);
  expect(config.stdout.trim().split('\n')).toHaveLength(6);
});

test('no agent is no failure', async () => {
  const ran = await taplane(['extcap', '--extcap-interfaces'], NOWHERE);
  expect(ran).toMatchObject({ code: 0, stdout: expect.stringMatching(/^extcap \{version=.*\}\n$/) });
});

test('checks a filter without a capture, and captures into the fifo', async () => {
  const packets = scriptedPackets((stream) => {
    if (stream.ask.value.filter === 'bad') throw new TaplaneError('INVALID_ARGUMENT', 'FILTER_INVALID', 'filter: syntax error');
    stream.send({ opened: { linkType: LinkType.RAW }, pcapng: Buffer.from('bytes') });
    stream.end();
  });
  await using agent = await served({ packets });
  const asked = (...words: string[]) => taplane(['extcap', '--extcap-interface', 'taplane-tun0', ...words], agent.address);
  expect(await asked('--extcap-capture-filter', 'bad')).toMatchObject({ code: 0, stdout: 'filter: syntax error\n' });
  expect(await asked('--extcap-capture-filter', 'icmp')).toMatchObject({ code: 0, stdout: '' });
  const directory = await mkdtemp(join(tmpdir(), 'taplane-extcap-'));
  try {
    const fifo = join(directory, 'fifo');
    const ran = await asked('--capture', '--fifo', fifo, '--extcap-capture-filter', 'icmp', '--snap-length', '96', '--direction', 'in');
    expect(ran).toEqual({ code: 0, stdout: '', stderr: '' });
    expect(await readFile(fifo, 'utf8')).toContain('bytes');
    expect(packets.streams.at(-1)?.ask.value).toMatchObject({ filter: 'icmp', snapLength: 96, direction: 1 });
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});

test('a name or an address with braces does not break a sentence', () => {
  const one = Interface.fromPartial({ name: 'interfaces/t{0}', status: { addresses: [{ cidr: '10.0.0.1/24' }, { cidr: 'fe80::1/64' }] } });
  expect(sentence(one)).toBe('interface {value=taplane-t0}{display=Taplane t0 (10.0.0.1/24)}\n');
});

test('finds the folder of the user in what tshark says of old and new', () => {
  expect(personalFolderOf('Temp:\t/tmp\nPersonal Extcap path: \t/root/.local/lib/wireshark/extcap\n')).toBe(
    '/root/.local/lib/wireshark/extcap',
  );
  expect(personalFolderOf('Personal configuration:\t/root/.config/wireshark\nExtcap path:\t/usr/lib/wireshark/extcap\n')).toBe(
    '/root/.config/wireshark/extcap',
  );
  expect(personalFolderOf('')).toBeUndefined();
  expect(script("/it's/bin/taplane")).toContain(`exec '/it'\\''s/bin/taplane' extcap "$@"\n`);
  expect(script('/bin/taplane', 'unix:/x.sock')).toContain(`exec '/bin/taplane' --server 'unix:/x.sock' extcap "$@"\n`);
});

test('installs a script that calls this taplane, twice if asked, and only takes away what is its own', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'taplane-extcap-'));
  const path = join(directory, 'sub', 'taplane');
  const install = (...words: string[]) => taplane(['extcap', 'install', '--directory', join(directory, 'sub'), ...words], NOWHERE);
  const uninstall = () => taplane(['extcap', 'uninstall', '--directory', join(directory, 'sub')], NOWHERE);
  try {
    expect(await install()).toMatchObject({ code: 0, stdout: `${path}\n`, stderr: expect.stringContaining('next: tshark -D') });
    expect((await stat(path)).mode & 0o777).toBe(0o755);
    expect(await readFile(path, 'utf8')).toContain(`'${TAPLANE}'`);
    const ran = spawnSync(path, ['--extcap-interfaces'], { encoding: 'utf8', env: { ...process.env, TAPLANE_SERVER: NOWHERE } });
    expect(ran).toMatchObject({ status: 0, stdout: expect.stringMatching(/^extcap \{version=/) });
    expect(await install()).toMatchObject({ code: 0, stderr: expect.stringContaining('replaced') });
    expect(await uninstall()).toMatchObject({ code: 0, stderr: `removed ${path}\n` });
    expect(await uninstall()).toMatchObject({ code: 0, stderr: expect.stringContaining('nothing to remove') });
    await writeFile(path, '#!/bin/sh\n');
    expect(await install()).toMatchObject({ code: 2, stderr: expect.stringContaining('--force') });
    expect((await uninstall()).code).toBe(2);
    expect((await install('--force')).code).toBe(0);
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
});
