// The interface commands against a real server on a unix socket.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { Address } from '../../src/gen/taplane/v1/interface.ts';
import type { AdoptInterfaceRequest, CreateInterfaceRequest, UpdateInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { eventually, type Served, served } from '../rpc/served.ts';
import { start, taplane } from './run-taplane.ts';

let agent: Served;
let directory = '';
const run = (line: string, input?: string) => taplane(line.split(' '), agent.address, input);
const calls = <Request>(method: string) =>
  agent.interfaces.calls.filter((call) => call.method === method).map((call) => call.request as Request);
const withoutAge = (text: string) => text.replace(/\d+d/g, 'AGE');

beforeEach(async () => {
  agent = await served();
  directory = await mkdtemp(join(tmpdir(), 'taplane-cli-'));
});
afterEach(async () => {
  await agent[Symbol.asyncDispose]();
  await rm(directory, { recursive: true, force: true });
});

describe('create', () => {
  test('prints the interface as a table', async () => {
    const ran = await run('interface create tun0 --mode tun --up --address 10.0.0.1/24 --address fd00::1/64 --mtu 1400');
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    expect(withoutAge(ran.stdout)).toBe(
      `NAME   MODE   STATE    UP    CARRIER   MTU    ADDRESSES                AGE
tun0   tun    active   yes   no        1400   10.0.0.1/24,fd00::1/64   AGE
`,
    );
  });

  test('turns every flag into its field', async () => {
    const line =
      'if create tap0 --mode tap --no-up --mtu 9000 --mac 02:00:00:00:00:02 --txqueuelen 10 --address 10.0.0.1/32,peer=10.0.0.2,scope=link,lifetime=60 ' +
      '--route 10.1.0.0/16,via=10.0.0.2,metric=5,table=100,src=10.0.0.1,scope=global,mtu=1300,onlink --neighbour 10.0.0.9=02:00:00:00:00:09 --sysctl ipv4/forwarding=1 ' +
      '--owner qemu --group 107 --bridge br0 --netns blue --carrier keep --drift report --ephemeral --queues 4 --pi --vnet-hdr --one-queue --label a=b=c --label d= ' +
      '--request-id 5c2b6a1e-3f5b-4f5e-9d58-6b1f0a2f7a10 --dry-run';
    expect(await run(line)).toMatchObject({ code: 0, stderr: '' });
    expect(calls<CreateInterfaceRequest>('create')[0]).toMatchObject({
      interfaceId: 'tap0',
      requestId: '5c2b6a1e-3f5b-4f5e-9d58-6b1f0a2f7a10',
      validateOnly: true,
      interface: {
        labels: { a: 'b=c', d: '' },
        spec: {
          mode: 2,
          multiQueue: true,
          queues: 4,
          packetInfo: true,
          vnetHeader: true,
          oneQueue: true,
          ephemeral: true,
          owner: 'qemu',
          group: '107',
          up: false,
          mtu: 9000,
          txQueueLength: 10,
          macAddress: '02:00:00:00:00:02',
          networkNamespace: 'blue',
          controller: 'br0',
          addresses: [{ cidr: '10.0.0.1/32', peer: '10.0.0.2', scope: 2, validLifetime: 60 }],
          routes: [
            {
              destination: '10.1.0.0/16',
              gateway: '10.0.0.2',
              metric: 5,
              table: 100,
              source: '10.0.0.1',
              scope: 1,
              mtu: 1300,
              onlink: true,
            },
          ],
          neighbours: [{ address: '10.0.0.9', macAddress: '02:00:00:00:00:09' }],
          sysctls: { 'ipv4/forwarding': '1' },
          carrier: 2,
          drift: 2,
        },
      },
    });
  });

  test('a second one exits with 4, says why, and what next', async () => {
    await run('interface create tun0 --mode tun');
    expect(await run('interface create tun0 --mode tun')).toEqual({
      code: 4,
      stdout: '',
      stderr: `error: create interface tun0: the name is taken
reason: INTERFACE_EXISTS
next: choose another name, or change it: taplane interface update
`,
    });
  });

  test('every bad field has a line', async () => {
    expect(await run('interface create ../x --mode tun --mtu 67')).toEqual({
      code: 2,
      stdout: '',
      stderr: `error: interface_id: "../x" is not a device name (and 1 more)
reason: INVALID_FIELDS
  interface_id: "../x" is not a device name
  interface.spec.mtu: 67 is below 68
next: correct the input; --help shows what is accepted
`,
    });
  });

  test('reads what get printed', async () => {
    await run('interface create tun0 --mode tun --mtu 1400 --label tenant=blue');
    const printed = await run('interface get tun0 -o yaml');
    expect(await run('interface create tun1 -f - -o name', printed.stdout)).toMatchObject({ code: 0, stdout: 'interfaces/tun1\n' });
    expect(calls<CreateInterfaceRequest>('create')[1]).toMatchObject({
      interface: { labels: { tenant: 'blue' }, spec: { mode: 1, mtu: 1400 } },
    });
  });

  test('flags win over a file, and labels are added to its own', async () => {
    await run('interface create tun0 --mode tun --mtu 1400 --address 10.0.0.1/24 --label tenant=blue --label a=1');
    const file = join(directory, 'tun.yaml');
    await writeFile(file, (await run('interface get tun0 -o yaml')).stdout);
    const line = `interface create tun1 -f ${file} --address 10.0.1.1/24 --mtu default --label a=2`;
    expect(await run(line)).toMatchObject({ code: 0, stderr: '' });
    expect(calls<CreateInterfaceRequest>('create')[1]).toMatchObject({
      interface: { labels: { tenant: 'blue', a: '2' }, spec: { mode: 1, mtu: undefined, addresses: [{ cidr: '10.0.1.1/24' }] } },
    });
    await run(`interface update tun1 -f ${file} --up`);
    expect(calls<UpdateInterfaceRequest>('update')[0]).toMatchObject({
      updateMask: ['*'],
      interface: { name: 'interfaces/tun1', spec: { mode: 1, up: true, mtu: 1400, addresses: [{ cidr: '10.0.0.1/24' }] } },
    });
  });

  test('without a file wants a mode, and its help says so', async () => {
    expect(await run('interface create tun0')).toEqual({ code: 2, stdout: '', stderr: 'error: --mode tun or --mode tap is needed\n' });
    expect((await run('interface create --help')).stdout).toMatch(/--mode <mode> +required without -f/);
    expect((await run('interface update --help')).stdout).not.toContain('required without');
  });

  test('a default route is one of the family of its gateway', async () => {
    await run('interface create tun0 --mode tun --route default --route default,via=10.0.0.2 --route default,via=fd00::2');
    expect(calls<CreateInterfaceRequest>('create')[0]?.interface?.spec?.routes.map(({ destination }) => destination)).toEqual([
      '0.0.0.0/0',
      '0.0.0.0/0',
      '::/0',
    ]);
  });

  test('a file with an unknown field or value is refused before any call', async () => {
    const file = join(directory, 'tun.yaml');
    await writeFile(file, 'spec:\n  mode: MODE_TUN\n  mtuu: 1400\n  addresses:\n    - cdir: 10.0.0.1/24\n');
    const ran = await run(`interface create tun0 -f ${file}`);
    expect(ran).toMatchObject({ code: 2, stderr: `error: read ${file}: unknown fields: spec.mtuu, spec.addresses[0].cdir\n` });
    await writeFile(file, 'mode: MODE_TUN\nx: 1');
    expect((await run(`interface create tun0 -f ${file}`)).stderr).toMatch(
      /: unknown fields: mode, x; below spec: is the place of mode\n$/,
    );
    await writeFile(file, 'spec: { mode: tun }');
    expect(await run(`interface create tun0 -f ${file}`)).toMatchObject({ code: 2 });
    expect(calls('create')).toEqual([]);
  });
});

describe('get and list', () => {
  test('in every format', async () => {
    await run('interface create tun0 --mode tun --label tenant=blue');
    await run('interface create tap0 --mode tap');
    expect((await run('interface list -o name')).stdout).toBe('interfaces/tap0\ninterfaces/tun0\n');
    expect((await run('interface list -l tenant=blue -o name')).stdout).toBe('interfaces/tun0\n');
    const parsed = JSON.parse((await run('interface get tap0 -o json')).stdout) as { name: string; spec: { mode: string } };
    expect(parsed).toMatchObject({ name: 'interfaces/tap0', spec: { mode: 'MODE_TAP' } });
    expect(JSON.parse((await run('-o json interface list')).stdout)).toMatchObject({
      interfaces: [{ name: 'interfaces/tap0' }, { name: 'interfaces/tun0' }],
    });
    const wide = (await run('interface list -o wide')).stdout.split('\n');
    expect(wide[0]).toMatch(/^NAME .* IFINDEX .* CARRIER-RULE .* LABELS$/);
    expect(calls<{ view: number }>('list').at(-1)?.view).toBe(2);
  });

  test('shows the addresses that the device has, without link-local ones', async () => {
    await run('interface create tun0 --mode tun --address 10.0.0.1/24');
    const get = agent.interfaces.get;
    agent.interfaces.get = async (request) => {
      const one = await get(request);
      const cidrs = request.name.endsWith('0') ? ['10.9.9.9/24', 'fe80::1/64', 'fd00::1/64'] : [];
      return { ...one, status: one.status && { ...one.status, addresses: cidrs.map((cidr) => Address.create({ cidr })) } };
    };
    await run('interface create tun1 --mode tun --address 10.0.1.1/24');
    for (const format of ['table', 'wide']) {
      const [, tun0, tun1] = (await run(`interface get tun0 tun1 -o ${format}`)).stdout.split('\n').map((line) => line.split(/ +/));
      expect([tun0?.[6], tun1?.[6]]).toEqual(['10.9.9.9/24,fd00::1/64', '-']);
    }
  });

  test('nothing found is a message, and no data', async () => {
    expect(await run('interface list')).toEqual({ code: 0, stdout: '', stderr: 'nothing found\n' });
    expect(await run('interface get nope')).toMatchObject({ code: 3, stdout: '' });
  });

  test('pages through more than the server gives at once', async () => {
    for (let index = 0; index < 1200; index += 1) {
      await agent.client.interfaces.create({ interfaceId: `tun${index}`, interface: undefined, requestId: '', validateOnly: false });
    }
    expect((await run('interface list -o name')).stdout.trim().split('\n').length).toBe(1200);
  });

  test('a closed pipe is no failure', async () => {
    await run('interface create tun0 --mode tun');
    const child = start(['interface', 'list', '-o', 'json'], agent.address);
    child.stdout?.destroy();
    let said = '';
    child.stderr?.on('data', (chunk) => (said += String(chunk)));
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
    expect(said).toBe('');
  });
});

describe('update, plan, delete', () => {
  test('update sends only what was given', async () => {
    await run('interface create tun0 --mode tun --mtu 1400');
    expect(await run('interface update tun0 --up --mtu default')).toMatchObject({ code: 0 });
    expect(calls<UpdateInterfaceRequest>('update')[0]).toMatchObject({
      updateMask: ['spec.up', 'spec.mtu'],
      interface: { name: 'interfaces/tun0', spec: { up: true, mtu: undefined } },
    });
    expect(await run('interface update tun0')).toMatchObject({
      code: 2,
      stderr: 'error: nothing to change: give at least one flag, or -f FILE\n',
    });
  });

  test('update edits labels under the etag that it read', async () => {
    await run('interface create tun0 --mode tun --label a=1 --label b=2');
    await run('interface update tun0 --add-label c=3 --remove-label a --clear routes');
    expect(calls<UpdateInterfaceRequest>('update')[0]).toMatchObject({
      updateMask: ['spec.routes', 'labels'],
      interface: { etag: '"1"', labels: { b: '2', c: '3' } },
    });
    expect(await run('interface update tun0 --mtu 1300 --etag "1"')).toMatchObject({ code: 5 });
  });

  test('plan prints ip lines, for a device that is there or not, and changes nothing', async () => {
    expect(await run('interface plan tun0 --mode tun --address 10.0.0.1/24')).toEqual({
      code: 0,
      stderr: '',
      stdout: 'ip tuntap add tun0 mode tun\nip addr add 10.0.0.1/24 dev tun0\n',
    });
    await run('interface create tun0 --mode tun --address 10.0.0.1/24');
    expect(await run('interface plan tun0 --mode tun --mtu 1400')).toMatchObject({ code: 0, stdout: 'ip link set tun0 mtu 1400\n' });
    expect(await run('interface plan tun0 --address 10.0.0.1/24')).toEqual({ code: 0, stdout: '', stderr: 'nothing to do\n' });
    expect(calls<UpdateInterfaceRequest>('update').every((request) => request.validateOnly)).toBe(true);
    expect(JSON.parse((await run('interface plan tun1 --mode tun -o json')).stdout)).toEqual({
      plan: [{ action: 'ACTION_ADD', object: 'link', command: 'ip tuntap add tun1 mode tun' }],
    });
  });

  test('delete', async () => {
    await run('interface create tun0 --mode tun');
    expect(await run('interface delete tun0 --dry-run')).toEqual({ code: 0, stdout: 'ip link delete tun0\n', stderr: '' });
    expect(await run('interface delete tun0')).toEqual({ code: 0, stdout: '', stderr: 'deleted tun0\n' });
    expect(await run('interface delete tun0')).toMatchObject({ code: 3 });
    expect(await run('interface rm tun0 --missing-ok')).toMatchObject({ code: 0 });
  });

  test('adopt says what the device lacks', async () => {
    expect(await run('interface adopt tun7')).toMatchObject({
      code: 5,
      stderr: expect.stringMatching(/\n {2}DEVICE tun7: make it persistent: ip tuntap add\n$/),
    });
    await run('interface adopt tun7 --take-over');
    expect(calls<AdoptInterfaceRequest>('adopt').map(({ takeOver }) => takeOver)).toEqual([false, true]);
  });
});

describe('address and route', () => {
  test('add and remove', async () => {
    await run('interface create tun0 --mode tun');
    expect(await run('address add tun0 10.0.0.1/24 --dry-run')).toMatchObject({ code: 0, stdout: 'ip addr add 10.0.0.1/24 dev tun0\n' });
    expect(await run('addr add tun0 10.0.0.1/24')).toMatchObject({ code: 0 });
    expect(await run('address remove tun0 10.9.0.1/24')).toMatchObject({ code: 3 });
    expect(await run('route add tun0 10.1.0.0/16,via=10.0.0.2')).toMatchObject({ code: 0 });
    expect(calls('addRoute')[0]).toMatchObject({ name: 'interfaces/tun0', route: { destination: '10.1.0.0/16', gateway: '10.0.0.2' } });
    expect(await run('route add tun0 10.1.0.0/16,vai=10.0.0.2')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('Unknown option "vai"'),
    });
    expect(await run('route remove tun0 10.1.0.0/16')).toMatchObject({ code: 0 });
  });
});

describe('watch', () => {
  test('prints the snapshot, synced, and changes; Ctrl-C exits with 0', async () => {
    await run('interface create tun0 --mode tun --address 10.0.0.1/24');
    const child = start(['interface', 'watch'], agent.address);
    let seen = '';
    child.stdout?.on('data', (chunk) => (seen += String(chunk)));
    await eventually(() => seen.includes('synced'));
    await run('interface create tun1 --mode tun --up');
    await run('interface delete tun1');
    await eventually(() => seen.includes('deleted'));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
    expect(seen).toBe(
      'added tun0 tun active down no-carrier mtu=1500 10.0.0.1/24\nsynced\nadded tun1 tun active up no-carrier mtu=1500\ndeleted tun1\n',
    );
    await eventually(() => agent.interfaces.watching() === 0);
  });

  test('an explicit --timeout ends it well; what is not there is said once', async () => {
    await run('interface create tun0 --mode tun');
    expect(await run('interface watch nope --timeout 2s')).toEqual({
      code: 0,
      stdout: expect.stringContaining('synced\n'),
      stderr: 'nope does not exist yet; waiting for it\n',
    });
    expect(await run('interface watch tun0 --timeout 2s')).toMatchObject({ code: 0, stderr: '' });
    expect((await run('interface watch --help')).stdout).toMatch(/without\s+--timeout it never ends/);
  });

  test('an agent that says nothing until the --timeout is no watch', async () => {
    agent.interfaces.watch = async function* (_, signal) {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      yield* [];
    };
    expect(await run('interface watch --timeout 300ms')).toMatchObject({
      code: 6,
      stderr: expect.stringContaining('no answer from unix:'),
    });
  });

  test('is resumed after the last event when the connection breaks, as JSON lines', async () => {
    const child = start(['interface', 'watch', '-o', 'json'], agent.address);
    let seen = '';
    child.stdout?.on('data', (chunk) => (seen += String(chunk)));
    await eventually(() => seen.includes('synced'));
    await run('interface create tun0 --mode tun');
    agent.interfaces.breakWatches(new TaplaneError('UNAVAILABLE', 'STOPPING', 'the agent stops'));
    await eventually(() => calls('watch').length === 2);
    expect(calls<{ resumeToken: string }>('watch')[1]?.resumeToken).toBe('1');
    await run('interface delete tun0');
    await eventually(() => seen.includes('deleted'));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
    const events = seen
      .trim()
      .split('\n')
      .map((line) => Object.keys(JSON.parse(line) as object)[0]);
    expect(events).toEqual(['synced', 'added', 'deleted']);
  });
});
