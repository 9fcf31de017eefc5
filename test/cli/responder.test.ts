// The responder commands, and the flags of responders and of the mirror, against a real server on a unix socket.

import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { givenSpec } from '../../src/cli/spec-flags.ts';
import type { CreateInterfaceRequest, UpdateInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { type Served, served } from '../rpc/served.ts';
import { taplane } from './run-taplane.ts';

let agent: Served;
const run = (line: string, input?: string) => taplane(line.split(' '), agent.address, input);
const calls = (method: string) => agent.responders.calls.filter((call) => call.method === method).map(({ request }) => request);
const interfaceCalls = <Request>(method: string) =>
  agent.interfaces.calls.filter((call) => call.method === method).map((call) => call.request as Request);
const REQUEST_ID = '5c2b6a1e-3f5b-4f5e-9d58-6b1f0a2f7a10';

beforeEach(async () => {
  agent = await served();
});
afterEach(() => agent[Symbol.asyncDispose]());

describe('create', () => {
  test('turns every flag into its field, and prints the responder', async () => {
    const line = 'responder create tap0 --kind arp --id a --address 10.0.0.0/24 --address 10.1.0.1 --mac 02:00:00:00:00:01';
    expect(await run(`${line} --request-id ${REQUEST_ID}`)).toEqual({
      code: 0,
      stderr: '',
      stdout: `INTERFACE   ID   KIND   ADDRESSES              ATTACHED   RECEIVED   ANSWERED
tap0        a    arp    10.0.0.0/24,10.1.0.1   yes        7          5
`,
    });
    const spec = { kind: 2, addresses: ['10.0.0.0/24', '10.1.0.1'], macAddress: '02:00:00:00:00:01' };
    expect(calls('create')).toMatchObject([
      { parent: 'interfaces/tap0', responderId: 'a', responder: { spec }, requestId: REQUEST_ID, validateOnly: false },
    ]);
  });

  test.each([
    ['icmp-echo', 1],
    ['arp', 2],
    ['nd', 3],
    ['sink', 4],
    ['reflect', 5],
  ])('of the kind %s, which is its id by default', async (kind, value) => {
    expect(await run(`responder create tap0 --kind ${kind} -o name`)).toMatchObject({
      code: 0,
      stdout: `interfaces/tap0/responders/${kind}\n`,
    });
    expect(calls('create')).toMatchObject([{ responderId: '', responder: { spec: { kind: value } } }]);
  });

  test('a second one exits with 4 and says what next; without a kind nothing is asked', async () => {
    await run('responder create tap0 --kind sink');
    expect(await run('responder create tap0 --kind sink')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('next: choose another: --id; or delete it first: taplane responder delete\n'),
    });
    expect(await run('responder create tap0')).toMatchObject({ code: 2, stdout: '' });
    expect(await run('responder create tap0 --kind dns')).toMatchObject({ code: 2, stderr: expect.stringContaining('icmp-echo') });
    expect(calls('create')).toHaveLength(2);
  });

  test('a dry run changes nothing', async () => {
    expect(await run('responder create tap0 --kind sink --dry-run')).toEqual({ code: 0, stdout: '', stderr: 'would add sink to tap0\n' });
    expect(JSON.parse((await run('responder create tap0 --kind sink --validate-only -o json')).stdout)).toMatchObject({
      spec: { kind: 'KIND_SINK' },
    });
    expect(calls('create')).toMatchObject([{ validateOnly: true }, { validateOnly: true }]);
    expect(await run('responder list')).toMatchObject({ stdout: '', stderr: 'nothing found\n' });
  });
});

describe('get, list and delete', () => {
  beforeEach(async () => {
    await run('responder create tap0 --kind icmp-echo');
    await run('responder create tap1 --kind sink --id hole');
  });

  test('in every format', async () => {
    expect((await run('responder list -o name')).stdout).toBe('interfaces/tap0/responders/icmp-echo\ninterfaces/tap1/responders/hole\n');
    expect((await run('responder ls tap1 -o name')).stdout).toBe('interfaces/tap1/responders/hole\n');
    expect((await run('responder list tap1 -o wide')).stdout.split('\n')[0]).toMatch(/ANSWERED +FAILED +MAC +REASON$/);
    expect(JSON.parse((await run('responder get tap0 icmp-echo -o json')).stdout)).toMatchObject({
      name: 'interfaces/tap0/responders/icmp-echo',
      spec: { kind: 'KIND_ICMP_ECHO' },
      status: { attached: true, received: '7' },
    });
    expect((await run('responder list -o yaml')).stdout).toContain('responders:\n  - name: interfaces/tap0/responders/icmp-echo\n');
    expect(calls('list').map((request) => (request as { parent: string }).parent)).toEqual([
      'interfaces/-',
      'interfaces/tap1',
      'interfaces/tap1',
      'interfaces/-',
    ]);
  });

  test('what is not there exits with 3 and says where to look', async () => {
    expect(await run('responder get tap0 nd')).toMatchObject({
      code: 3,
      stdout: '',
      stderr: expect.stringContaining('next: see what there is: taplane responder list\n'),
    });
    expect(await run('responder delete tap0 nd')).toMatchObject({ code: 3 });
  });

  test('delete', async () => {
    expect(await run('responder delete tap0 icmp-echo --dry-run')).toEqual({
      code: 0,
      stdout: '',
      stderr: 'would delete icmp-echo of tap0\n',
    });
    expect(await run('responder delete tap0 icmp-echo nd --missing-ok')).toEqual({
      code: 0,
      stdout: '',
      stderr: 'deleted icmp-echo of tap0\ndeleted nd of tap0\n',
    });
    expect((await run('responder list -o name')).stdout).toBe('interfaces/tap1/responders/hole\n');
    expect(await run(`responder rm tap1 hole other --request-id ${REQUEST_ID}`)).toMatchObject({ code: 2 });
    expect((await run('responder rm tap1 hole -o name')).stdout).toBe('interfaces/tap1/responders/hole\n');
  });

  test('pages through more than the server gives at once', async () => {
    for (let index = 0; index < 1200; index += 1) {
      const responder = { name: '', spec: { id: '', kind: 4 as const, addresses: [], macAddress: '' }, status: undefined };
      await agent.responders.create({ parent: 'interfaces/tap2', responderId: `s${index}`, responder, requestId: '', validateOnly: false });
    }
    expect((await run('responder list tap2 -o name')).stdout.trim().split('\n')).toHaveLength(1200);
  });

  test('names of interfaces are completed', async () => {
    await run('interface create tun0 --mode tun');
    expect((await run('__complete -- responder create ')).stdout).toBe('tun0\t\n');
    expect((await run('__complete -- responder create tun0 --kind s')).stdout).toBe('sink\t\n');
  });
});

describe('flags of an interface', () => {
  test('describe responders and a mirror', async () => {
    const line =
      'interface create tap0 --mode tap --responder icmp-echo --responder arp,id=a,address=10.0.0.0/24,address=10.1.0.1,mac=02:00:00:00:00:01 ' +
      '--mirror=udp --mirror-snap-length 96 --mirror-sampling 10';
    expect(await run(line)).toMatchObject({ code: 0, stderr: '' });
    expect(interfaceCalls<CreateInterfaceRequest>('create')[0]?.interface?.spec).toMatchObject({
      responders: [
        { id: 'icmp-echo', kind: 1, addresses: [], macAddress: '' },
        { id: 'a', kind: 2, addresses: ['10.0.0.0/24', '10.1.0.1'], macAddress: '02:00:00:00:00:01' },
      ],
      packetMirror: { filter: 'udp', snapLength: 96, sampling: 10 },
    });
  });

  test('set and unset them by masks', async () => {
    await run('interface create tap0 --mode tap --mirror --responder sink');
    expect(interfaceCalls<CreateInterfaceRequest>('create')[0]?.interface?.spec?.packetMirror).toEqual({
      filter: '',
      snapLength: 0,
      sampling: 0,
    });
    await run('interface update tap0 --up');
    await run('interface update tap0 --no-mirror');
    await run('interface update tap0 --clear responders packet-mirror');
    const updates = interfaceCalls<UpdateInterfaceRequest>('update');
    expect(updates.map(({ updateMask }) => updateMask)).toEqual([
      ['spec.up'],
      ['spec.packet_mirror'],
      ['spec.responders', 'spec.packet_mirror'],
    ]);
    expect(updates.map((request) => request.interface?.spec?.packetMirror)).toEqual([undefined, undefined, undefined]);
  });

  test('a part of a mirror without the mirror is refused', async () => {
    for (const words of ['--mirror-snap-length 96', '--mirror-sampling 2', '--no-mirror --mirror-sampling 2'])
      expect(await run(`interface update tap0 ${words}`)).toMatchObject({ code: 2, stderr: expect.stringContaining('give it too') });
    expect(interfaceCalls('update')).toEqual([]);
    expect(givenSpec({}).paths).toEqual([]);
  });

  test.each(['dns', 'arp,address', 'arp,port=1', ',id=a', ''])('a responder that reads %j is refused', async (text) => {
    expect(await taplane(['interface', 'update', 'tap0', '--responder', text], agent.address)).toMatchObject({ code: 2, stdout: '' });
  });

  test('come from a file as they were printed; what the file misspells is told', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'taplane-cli-'));
    try {
      await run('interface create tap0 --mode tap --mirror=udp --responder sink');
      const printed = (await run('interface get tap0 -o yaml')).stdout;
      expect(await run('interface create tap1 -f - --no-mirror', printed)).toMatchObject({ code: 0 });
      expect(interfaceCalls<CreateInterfaceRequest>('create')[1]?.interface?.spec).toMatchObject({
        responders: [{ id: 'sink', kind: 4 }],
        packetMirror: undefined,
      });
      const file = join(directory, 'tap.yaml');
      await writeFile(
        file,
        'spec: { mode: MODE_TAP, responders: [{ id: a, kind: KIND_ARP, adresses: [] }], packetMirror: { filtre: udp } }',
      );
      expect((await run(`interface create tap2 -f ${file}`)).stderr).toContain(
        'unknown fields: spec.responders[0].adresses, spec.packetMirror.filtre',
      );
      await writeFile(file, 'spec: { mode: MODE_TAP, responders: [{ id: a, kind: arp }] }');
      expect(await run(`interface create tap2 -f ${file}`)).toMatchObject({ code: 2, stderr: expect.stringContaining('KIND_ARP') });
    } finally {
      await rm(directory, { recursive: true, force: true });
    }
  });
});
