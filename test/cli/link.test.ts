// The link commands against a server on a unix socket.

import { chmod, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseListen, parsePeer } from '../../src/cli/link-peer.ts';
import { nextStep } from '../../src/cli/next-step.ts';
import { invalidFields, TaplaneError } from '../../src/errors.ts';
import { Link } from '../../src/gen/taplane/v1/link.ts';
import {
  type CreateLinkRequest,
  ProbeLinkResponse,
  type UpdateLinkRequest,
  WatchLinksResponse,
} from '../../src/gen/taplane/v1/link_service.ts';
import { eventually } from '../rpc/served.ts';
import { type LinkAgent, linkAgent } from './link-agent.ts';
import { start, taplane } from './run-taplane.ts';

let agent: LinkAgent;
const run = (line: string, input?: string) => taplane(['link', ...line.split(' ').filter(Boolean)], agent.address, input);
/** Times pass while commands run. */
const steady = (text: string) => text.replace(/\b3\ds ago/g, '30s ago').replace(/\b\ds$/gm, '5s');
const KEY = 'YAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=';
const OTHER_KEY = 'xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=';
const keyFile = async (name: string, mode = 0o600, content = `${KEY}\n`) => {
  const path = join(agent.directory, name);
  await writeFile(path, content);
  await chmod(path, mode);
  return path;
};

beforeEach(async () => {
  agent = await linkAgent();
});
afterEach(() => agent[Symbol.asyncDispose]());

describe('create', () => {
  test('prints the link as a table', async () => {
    const ran = await run(`create wg0 --interface tun0 --protocol wireguard --peer public-key=${KEY},allowed=10.0.0.2/32`);
    expect({ ...ran, stdout: steady(ran.stdout) }).toEqual({
      code: 0,
      stderr: '',
      stdout: `NAME   INTERFACE   PROTOCOL    STATE        PEERS(UP/ALL)   LISTEN          AGE
wg0    tun0        wireguard   connecting   0/1             0.0.0.0:51820   5s
`,
    });
  });

  test('turns every flag of wireguard into its field', async () => {
    const privateKey = await keyFile('private');
    const psk = await keyFile('psk', 0o600, OTHER_KEY);
    const peers = [
      `--peer endpoint=192.0.2.2:51820,public-key=${KEY},allowed=10.0.0.2/32+fd00::2/128,keepalive=25,preshared-key=${psk},name=oslo,probe=10.0.0.2`,
      `--peer endpoint=[2001:db8::1]:1,public-key=${OTHER_KEY},allowed=10.1.0.0/16`,
    ];
    const flags = `--listen [::]:51820 --private-key ${privateKey} --mtu 1380 --mark 7 --bind-device eth0 --label a=b --transport udp`;
    const requestId = '5c2b6a1e-3f5b-4f5e-9d58-6b1f0a2f7a10';
    expect(
      await run(`create wg0 --interface tun0 --protocol wireguard ${flags} ${peers.join(' ')} --request-id ${requestId} --validate-only`),
    ).toEqual({ code: 0, stdout: '', stderr: 'would create wg0\n' });
    const [request] = agent.calls<CreateLinkRequest>('create');
    expect(request).toMatchObject({ linkId: 'wg0', requestId, validateOnly: true, link: { labels: { a: 'b' } } });
    expect(request?.link?.spec).toMatchObject({
      interface: 'interfaces/tun0',
      protocol: 3,
      transport: 1,
      listen: '[::]:51820',
      mtu: 1380,
      socketMark: 7,
      bindDevice: 'eth0',
      wireguard: { privateKey: Buffer.from(KEY, 'base64') },
      vxlan: undefined,
      peers: [
        {
          endpoint: '192.0.2.2:51820',
          publicKey: Buffer.from(KEY, 'base64'),
          allowedPrefixes: ['10.0.0.2/32', 'fd00::2/128'],
          keepalive: 25,
          presharedKey: Buffer.from(OTHER_KEY, 'base64'),
          displayName: 'oslo',
          probeAddress: '10.0.0.2',
        },
        { endpoint: '[2001:db8::1]:1', allowedPrefixes: ['10.1.0.0/16'] },
      ],
    });
  });

  test('turns every flag of vxlan and of frames into its field', async () => {
    const vxlan = '--vni 42 --no-learning --age 60 --max-addresses 10 --storm-limit 5 --suppress-neighbours';
    const peer = '--peer endpoint=192.0.2.2:4789,mac=02:00:00:00:00:01+02:00:00:00:00:02';
    expect((await run(`create lan --interface tap0 --protocol vxlan ${vxlan} ${peer}`)).code).toBe(0);
    const tls = '--tls-cert /c --tls-key /k --tls-ca /a --tls-peer-name other';
    expect((await run(`create pipe --interface tun0 --protocol frames --transport tcp --listen :55555 ${tls}`)).code).toBe(0);
    const [lan, pipe] = agent.calls<CreateLinkRequest>('create').map(({ link }) => link?.spec);
    expect(lan).toMatchObject({
      protocol: 2,
      vxlan: { vni: 42, noLearning: true, ageSeconds: 60, maxAddresses: 10, stormLimit: 5, suppressNeighbours: true },
      peers: [{ macAddresses: ['02:00:00:00:00:01', '02:00:00:00:00:02'] }],
    });
    expect(pipe).toMatchObject({
      protocol: 1,
      transport: 2,
      listen: ':55555',
      tls: { certificateFile: '/c', privateKeyFile: '/k', caFile: '/a', peerName: 'other' },
      peers: [],
    });
  });

  test('from a file as get printed it; flags win, and what is misspelt is told', async () => {
    await run(`create wg0 --interface tun0 --protocol wireguard --mtu 1400 --peer public-key=${KEY},allowed=10.0.0.2/32`);
    const { stdout } = await run('get wg0 -o yaml');
    expect(stdout).toContain(`publicKey: ${KEY}`);
    expect((await run('create wg1 -f - --mtu 1380 --interface tun1', stdout)).code).toBe(0);
    expect(agent.calls<CreateLinkRequest>('create').at(-1)).toMatchObject({
      linkId: 'wg1',
      link: { spec: { interface: 'interfaces/tun1', protocol: 3, mtu: 1380, peers: [{ publicKey: Buffer.from(KEY, 'base64') }] } },
    });
    expect(await run('create wg3 -f -', stdout.replace('publicKey:', 'hasPresharedKey: true\n      publicKey:'))).toMatchObject({
      code: 0,
      stderr: `warning: ${KEY} had a preshared key, which no file has: taplane link peer add ... preshared-key=FILE --replace\n`,
    });
    expect(await run('create wg2 -f -', 'spec: {mut: 1, peers: [{endpiont: x}]}')).toMatchObject({
      code: 2,
      stderr: 'error: read standard input: unknown fields: spec.mut, spec.peers[0].endpiont\n',
    });
    expect(await run('create wg2 -f -', 'spec: {protocol: wireguard}')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('PROTOCOL_WIREGUARD'),
    });
  });

  test('tells the public key, which the other ends need, and why it is not up', async () => {
    agent.statusOfNew = { publicKey: Buffer.from(KEY, 'base64'), reason: 'there are no peers' };
    const ran = await run('create wg0 --interface tun0 --protocol wireguard');
    expect(ran).toMatchObject({ code: 0, stderr: `wg0 is not up: there are no peers\npublic key: ${KEY}\n` });
    expect(await run('create wg1 --interface tun0 --protocol wireguard -o name')).toEqual({ code: 0, stdout: 'links/wg1\n', stderr: '' });
  });

  test('a second one exits with 4, refusals of the agent say what next', async () => {
    const line = 'create wg0 --interface tun0 --protocol wireguard';
    await run(line);
    expect(await run(line)).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('next: choose another name, or change it: taplane link update\n'),
    });
    for (const [reason, next] of [
      ['INTERFACE_HAS_LINK', 'taplane link peer add wg0'],
      ['ROUTE_THROUGH_ITSELF', '--mark'],
    ] as const) {
      agent.refuse('create', new TaplaneError('FAILED_PRECONDITION', reason, 'create: refused', { metadata: { link: 'links/wg0' } }));
      expect(await run('create wg9 --interface tun0 --protocol wireguard')).toMatchObject({
        code: 5,
        stderr: expect.stringContaining(next),
      });
    }
  });
});

describe('what is mistyped is told with flag, cause and cure, and nothing is asked', () => {
  test.each([
    ['', ['--interface']],
    ['--interface tun0', ['--protocol', 'frames', 'wireguard']],
    ['--interface tun0 --protocol wiregard', ['--protocol', 'wireguard']],
    ['--interface tun0 --protocol frames --vni 4', ['--vni', 'is for vxlan', 'leave it out']],
    ['--interface tun0 --protocol wireguard --transport tcp', ['--transport', 'udp']],
    ['--peer endpiont=1', ['--peer', 'endpiont', 'known: endpoint, public-key']],
    [`--interface tun0 --protocol wireguard --private-key ${KEY}`, ['--private-key', 'a file, not the key']],
    ['--interface tun0 --protocol wireguard --private-key /nowhere', ['--private-key', 'ENOENT']],
    ['--interface tun0 --protocol wireguard --private-key /etc/hostname', ['--private-key', '44 characters', 'keygen']],
  ])('%s', async (flags, told) => {
    const { code, stdout, stderr } = await run(`create wg0 ${flags}`);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    for (const text of told) expect(stderr).toContain(text);
    expect(agent.calls('create')).toEqual([]);
  });

  test.each([
    ['endpoint=192.0.2.1', ['endpoint', 'the port is missing']],
    ['endpoint=host.example:1', ['names are not looked up']],
    ['endpoint=192.0.2.1:70000', ['65535']],
    ['public-key=abc', ['public-key', '44 characters']],
    [`public-key=${KEY.replace('mk=', 'ml=')}`, ['44 characters']],
    [`preshared-key=${KEY}`, ['a file, not the key']],
    ['allowed=10.0.0.1', ['allowed', '10.0.0.2/32+fd00::2/128']],
    ['allowed=10.0.0.1/33', ['allowed']],
    ['keepalive=65536', ['keepalive', '65535']],
    ['mac=1:2', ['mac', '02:00:00:00:00:01']],
    ['probe=x', ['probe', 'inside the link']],
    ['endpiont=1', ['endpiont', 'known: endpoint, public-key']],
    ['192.0.2.1:1', ['endpoint=IP:PORT']],
    [KEY, [`public-key=${KEY}`]],
    ['name=', ['name needs a value']],
    ['allowed=10.0.0.1/32,allowed=10.0.0.2/32', ['given twice', 'put +']],
  ])('a peer of %s', (text, told) => {
    for (const part of told) expect(() => parsePeer(text)).toThrow(part);
  });

  test.each([
    ['51820', ['"51820"', ' :51820', '192.0.2.1:51820']],
    [':99999', ['65535']],
    ['::1:4', ['[2001:db8::1]:51820']],
  ])('to listen on %s', (text, told) => {
    for (const part of told) expect(() => parseListen(text)).toThrow(part);
  });

  test.each([
    ['mtu', '--mtu'],
    ['socket_mark', '--mark'],
    ['bind_device', '--bind-device'],
    ['vxlan.age_seconds', '--age'],
    ['tls.certificate_file', '--tls-cert'],
    ['peers', '--peer'],
    ['peers[3].allowed_prefixes[1]', 'allowed of --peer'],
    ['peers[0].public_key', 'public-key of --peer'],
  ])('what the agent finds wrong with %s is to be corrected at %s', (field, flag) => {
    const error = invalidFields([{ field: `link.spec.${field}`, description: 'is wrong' }]);
    expect(nextStep(error)).toBe(`correct ${flag}; --help shows what is accepted`);
  });

  test('standard input holds one key', async () => {
    const line = `create wg0 --interface tun0 --protocol wireguard --private-key - --peer public-key=${KEY},preshared-key=-`;
    expect(await run(line, KEY)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('standard input is read for --private-key already'),
    });
  });
});

describe('keys', () => {
  test('others that may read a file are warned of; the key is in no output', async () => {
    const path = await keyFile('open', 0o644);
    const ran = await run(`create wg0 --interface tun0 --protocol wireguard --private-key ${path}`);
    expect(ran).toMatchObject({ code: 0, stderr: `warning: others may read ${path}: chmod 600 ${path}\n` });
    expect(ran.stdout + ran.stderr).not.toContain(KEY);
    expect((await run('create wg1 --interface tun0 --protocol wireguard --private-key -', `${KEY}\n`)).code).toBe(0);
    expect(agent.calls<CreateLinkRequest>('create')[1]?.link?.spec?.wireguard?.privateKey.toString('base64')).toBe(KEY);
  });

  test('keygen writes a file for its owner alone, and never over another', async () => {
    const path = join(agent.directory, 'wg.key');
    const made = await run(`keygen --out ${path}`);
    expect(made).toEqual({
      code: 0,
      stdout: expect.stringMatching(/^[A-Za-z0-9+/]{43}=\n$/),
      stderr: `wrote ${path}, for its owner alone\n`,
    });
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    const content = await readFile(path, 'utf8');
    expect(content).toMatch(/^[A-Za-z0-9+/]{43}=\n$/);
    expect((await run('pubkey', content)).stdout).toBe(made.stdout);
    expect((await run(`pubkey ${path}`)).stdout).toBe(made.stdout);
    expect(await run(`keygen --out ${path}`)).toMatchObject({ code: 4, stderr: expect.stringContaining('--force') });
    expect(await readFile(path, 'utf8')).toBe(content);
    await chmod(path, 0o644);
    expect((await run(`keygen --out ${path} --force -o json`)).code).toBe(0);
    expect((await stat(path)).mode & 0o777).toBe(0o600);
    expect(await readFile(path, 'utf8')).not.toBe(content);
  });

  test('without a file the secret is on stdout and the public key on stderr; clamped, and as wg makes it', async () => {
    const { stdout, stderr } = await run('keygen');
    const key = Buffer.from(stdout, 'base64');
    expect([(key[0] ?? 1) & 7, (key[31] ?? 0) & 192]).toEqual([0, 64]);
    expect(stderr).toBe(`public key: ${(await run('pubkey', stdout)).stdout}`);
    // Of wg genkey and wg pubkey.
    expect((await run('pubkey', 'IDnpAN8D5v1Vj89J5er0Zo1ooejf09L1Vgr40knwfn8=')).stdout).toBe(
      'EXwP/pg/kQdcNlQerB+tsnfpjmICF2eAhCXM5UXIvG4=\n',
    );
    expect((await run('keygen --preshared')).stderr).toBe('');
    expect(await run('pubkey', 'nonsense')).toMatchObject({ code: 2, stderr: expect.stringContaining('44 characters') });
  });
});

describe('update', () => {
  beforeEach(() =>
    agent.links.set(
      'links/lan',
      Link.fromPartial({
        name: 'links/lan',
        etag: '"1"',
        labels: { a: '1', b: '2' },
        spec: {
          interface: 'interfaces/tap0',
          protocol: 2,
          vxlan: { vni: 42, ageSeconds: 60 },
          peers: [{ endpoint: '192.0.2.2:4789', displayName: 'oslo' }, { endpoint: '192.0.2.3:4789' }],
        },
      }),
    ),
  );
  const last = () => agent.calls<UpdateLinkRequest>('update').at(-1);

  test('changes what is given and nothing else', async () => {
    expect((await run('update lan --mtu 1380 --listen :4790')).code).toBe(0);
    expect(last()).toMatchObject({ updateMask: ['spec.listen', 'spec.mtu'], link: { name: 'links/lan', etag: '' } });
    expect(agent.calls('get')).toHaveLength(0);
    expect(await run('update lan')).toMatchObject({ code: 2, stderr: expect.stringContaining('nothing to change') });
    expect((await run('update lan --clear peers listen --etag "2"')).code).toBe(0);
    expect(last()).toMatchObject({ updateMask: ['spec.peers', 'spec.listen'], link: { etag: '"2"' } });
  });

  test('single settings of vxlan are laid over those that are there, of the version that was read', async () => {
    expect((await run('update lan --storm-limit 9 --learning')).code).toBe(0);
    expect(last()).toMatchObject({
      updateMask: ['spec.vxlan'],
      link: { etag: '"1"', spec: { vxlan: { vni: 42, ageSeconds: 60, stormLimit: 9, noLearning: false } } },
    });
    expect(await run('update lan --private-key /dev/null --age 1')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('is for wireguard'),
    });
  });

  test('labels one by one, or from a file all', async () => {
    expect((await run('update lan --add-label c=3 --remove-label a')).code).toBe(0);
    expect(agent.links.get('links/lan')?.labels).toEqual({ b: '2', c: '3' });
    expect((await run('update -f -', (await run('get lan -o yaml')).stdout)).code).toBe(0);
    expect(last()).toMatchObject({ updateMask: ['*'], link: { etag: '"2"' } });
  });

  test('peers one by one, again when somebody else was faster', async () => {
    agent.refuse('update', new TaplaneError('ABORTED', 'ETAG_MISMATCH', 'update: it was changed meanwhile'));
    expect((await run('peer add lan endpoint=192.0.2.4:4789,name=rome')).code).toBe(0);
    const names = () => agent.links.get('links/lan')?.spec?.peers.map(({ endpoint, displayName }) => displayName || endpoint);
    expect(names()).toEqual(['oslo', '192.0.2.3:4789', 'rome']);
    expect(agent.calls('update')).toHaveLength(2);
    expect(last()).toMatchObject({ updateMask: ['spec.peers'], link: { etag: '"1"' } });
    expect(await run('peer add lan endpoint=192.0.2.3:4789,name=bonn')).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('--replace'),
    });
    expect((await run('peer add lan endpoint=192.0.2.3:4789 name=bonn')).code).toBe(2);
    expect((await run('peer add lan endpoint=192.0.2.3:4789,name=bonn --replace')).code).toBe(0);
    expect((await run('peer remove lan oslo 192.0.2.4:4789')).code).toBe(0);
    expect(names()).toEqual(['bonn']);
    expect(await run('peer rm lan oslo')).toMatchObject({ code: 3, stderr: expect.stringContaining('there are: bonn') });
    expect((await run('peer rm lan oslo --missing-ok')).code).toBe(0);
  });

  test('a peer under another key is told by its name, and a new key of this end with its public one', async () => {
    const peers = [{ endpoint: '192.0.2.2:51820', displayName: 'oslo', publicKey: Buffer.from(KEY, 'base64') }];
    const status = { publicKey: Buffer.from(OTHER_KEY, 'base64') };
    agent.links.set('links/wg0', Link.fromPartial({ name: 'links/wg0', etag: '"1"', spec: { protocol: 3, peers }, status }));
    expect(await run(`peer add wg0 public-key=${OTHER_KEY},endpoint=192.0.2.2:51820 --replace`)).toMatchObject({
      code: 4,
      stderr: expect.stringContaining('taplane link peer remove wg0 oslo'),
    });
    expect((await run(`peer add wg0 public-key=${KEY},endpoint=192.0.2.2:51820,name=rome --replace`)).code).toBe(0);
    expect((await run(`update wg0 --private-key ${await keyFile('new')}`)).stderr).toContain(`public key: ${OTHER_KEY}`);
  });

  test('delete', async () => {
    expect((await run('delete --help')).stdout).toContain('check everything and say what would be done');
    expect(await run('delete lan --dry-run')).toEqual({ code: 0, stdout: '', stderr: 'would delete lan\n' });
    expect(await run('rm lan')).toEqual({ code: 0, stdout: '', stderr: 'deleted lan\n' });
    expect(await run('delete lan')).toMatchObject({ code: 3, stderr: expect.stringContaining('taplane link list') });
    expect((await run('delete lan --missing-ok -o name')).stdout).toBe('links/lan\n');
  });
});

describe('reading', () => {
  const ago = (seconds: number) => ({ seconds: BigInt(Math.floor(Date.now() / 1000) - seconds), nanos: 0 });
  beforeEach(() =>
    agent.links.set(
      'links/wg0',
      Link.fromPartial({
        name: 'links/wg0',
        labels: { site: 'oslo' },
        createTime: ago(3600),
        spec: {
          interface: 'interfaces/tun0',
          protocol: 3,
          socketMark: 7,
          peers: [{ publicKey: Buffer.from(KEY, 'base64'), allowedPrefixes: ['10.0.0.2/32'] }],
        },
        status: {
          state: 3,
          listen: '0.0.0.0:51820',
          publicKey: Buffer.from(OTHER_KEY, 'base64'),
          mtu: 1420,
          peers: [
            {
              endpoint: '192.0.2.2:51820',
              publicKey: Buffer.from(KEY, 'base64'),
              up: true,
              lastHandshakeTime: ago(30),
              roundTrip: { seconds: 0n, nanos: 412_000 },
              loss: 1 / 64,
              pathMtu: 1420,
              traffic: { receivedPackets: 3n, receivedBytes: 2048n, sentPackets: 4n, sentBytes: 100n },
            },
            { endpoint: '192.0.2.3:51820', displayName: 'rome', reason: 'no answer to 3 handshakes' },
          ],
          traffic: { receivedPackets: 3n, receivedBytes: 2048n, sentPackets: 4n, sentBytes: 100n },
          drops: [
            { reason: 4, packets: 12n },
            { reason: 7, packets: 1n },
          ],
          conditions: [{ type: 'UnderlaySafe', status: 1, reason: 'Marked', message: 'mark 7' }],
        },
      }),
    ),
  );

  test('get tells all there is to know', async () => {
    const { code, stdout } = await run('get wg0');
    expect(code).toBe(0);
    expect(steady(stdout)).toBe(`Link:         wg0
Interface:    tun0
Protocol:     wireguard over udp
State:        up
Listen:       0.0.0.0:51820
Public key:   ${OTHER_KEY}
MTU:          1420 (computed)
Underlay:     mark 7
Traffic:      received 3 packets (2.0 KiB), sent 4 packets (100 B)
Labels:       site=oslo
Age:          60m

PEER          ENDPOINT          UP    HANDSHAKE   RTT        LOSS   RECEIVED   SENT    REASON
YAnz5TF+...   192.0.2.2:51820   yes   30s ago     0.412 ms   1.6%   2.0 KiB    100 B   -
rome          192.0.2.3:51820   no    -           -          -      -          -       no answer to 3 handshakes

DROPPED   BECAUSE
12        its inner source is not among the allowed prefixes of its peer (spoofed)
1         larger than the path takes; the sender was told (too-big)

CONDITION      STATUS   REASON   MESSAGE
UnderlaySafe   true     Marked   mark 7
`);
    expect((await run('get wg0 -o wide')).stdout).toMatch(
      new RegExp(`PUBLIC-KEY +ALLOWED +PATH-MTU +HEARD[\\s\\S]*${KEY.replaceAll('+', '\\+')} +10.0.0.2/32 +1420`),
    );
    expect(JSON.parse((await run('get wg0 -o json')).stdout)).toMatchObject({ name: 'links/wg0', status: { state: 'STATE_UP' } });
  });

  test('list in every format', async () => {
    expect((await run('list')).stdout).toBe(`NAME   INTERFACE   PROTOCOL    STATE   PEERS(UP/ALL)   LISTEN          AGE
wg0    tun0        wireguard   up      1/2             0.0.0.0:51820   60m
`);
    expect((await run('ls -o wide')).stdout).toMatch(/DROPPED +LABELS +REASON\n.* 13 +site=oslo/);
    expect((await run('list -o name -l site=oslo --interface tun0')).stdout).toBe('links/wg0\n');
    expect(agent.calls('list').at(-1)).toMatchObject({ labelSelector: { site: 'oslo' }, interface: 'interfaces/tun0' });
    expect((await run('list -o yaml')).stdout).toContain('links:\n  - name: links/wg0\n');
    expect(await run('list -l site=rome')).toEqual({ code: 0, stdout: '', stderr: 'nothing found\n' });
  });

  test('watch prints a line a change until Ctrl-C', async () => {
    const changed = Link.fromPartial({ ...(agent.links.get('links/wg0') as Link), status: { state: 1, reason: 'tun0 is gone' } });
    agent.events.push(WatchLinksResponse.fromPartial({ event: { $case: 'modified', value: changed }, resumeToken: '2' }));
    // Something has changed that is in no line, and goes back; then it is the line as it was.
    const condition = { type: 'Offloaded', status: 2 };
    const unseen = Link.fromPartial({ ...changed, status: { ...changed.status, conditions: [condition] } } as Link);
    for (const value of [unseen, changed]) agent.events.push(WatchLinksResponse.fromPartial({ event: { $case: 'modified', value } }));
    agent.events.push(WatchLinksResponse.fromPartial({ event: { $case: 'deleted', value: changed }, resumeToken: '3' }));
    const child = start(['link', 'watch'], agent.address);
    let stdout = '';
    child.stdout?.on('data', (chunk) => {
      stdout += chunk;
    });
    await eventually(() => stdout.includes('deleted'));
    child.kill('SIGINT');
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
    expect(stdout).toBe(`added wg0 wireguard on tun0 up peers=1/2 listen=0.0.0.0:51820 down: rome
synced
modified wg0 wireguard on tun0 waiting peers=0/1 (tun0 is gone)
deleted wg0
`);
    const all = await run('watch --timeout 2s -o json');
    expect(all.stdout.match(/"modified"/g)).toHaveLength(3);
    expect(await run('watch nope --timeout 2s')).toMatchObject({ code: 0, stderr: 'nope does not exist yet; waiting for it\n' });
  });

  test('completion knows links', async () => {
    const offered = async (...words: string[]) => (await taplane(['__complete', '--', ...words], agent.address)).stdout;
    expect(await offered('link', 'get', '')).toBe('wg0\tinterfaces/tun0\n');
    expect(await offered('link', 'peer', 'add', '')).toBe('wg0\tinterfaces/tun0\n');
    expect(await offered('link', 'create', 'x', '--protocol', '')).toBe('frames\t\nvxlan\t\nwireguard\t\n');
    expect((await offered('link', '')).split('\n').map((line) => line.split('\t')[0])).toEqual([
      ...['create', 'get', 'list', 'update', 'delete', 'watch', 'probe', 'peer', 'keygen', 'pubkey', ''],
    ]);
  });
});

describe('probe', () => {
  const reply = (sequence: number, lost = false) =>
    ProbeLinkResponse.fromPartial({
      progress: { $case: 'reply', value: { sequence, lost, bytes: 64, roundTrip: { seconds: 0n, nanos: 1_234_000 } } },
    });
  const result = (value: object) =>
    ProbeLinkResponse.fromPartial({ progress: { $case: 'result', value: { name: 'links/wg0', peer: '192.0.2.2:51820', ...value } } });

  test('prints replies and a summary', async () => {
    const times = {
      roundTripMin: { seconds: 0n, nanos: 900_000 },
      roundTripMedian: { seconds: 0n, nanos: 1_234_000 },
      roundTripP99: { seconds: 1n },
    };
    const load = { throughputOut: 1.25e9, throughputIn: 9.4e8, lossOut: 0.0002, pathMtu: 1420, twoEnded: true, peerReceived: 3 };
    agent.probes.push(reply(1), reply(2, true), result({ sent: 4, received: 2, ...times, ...load }));
    expect(await run('probe wg0 --peer oslo --count 4 --interval 10 --mtu --throughput 2')).toEqual({
      code: 0,
      stderr: '',
      stdout: `wg0: 64 bytes: seq=1 time=1.23 ms
wg0: seq=2 lost
--- wg0 to 192.0.2.2:51820 ---
4 sent, 2 received, 50% loss
the peer received 3: 1 lost on the way there, 1 on the way back
round trip min/median/p99 0.900 ms / 1.23 ms / 1000 ms
largest packet that passes: 1420 bytes
to the peer   1.25 Gbit/s, <0.1% lost
from the peer 940 Mbit/s, 0% lost
`,
    });
    expect(agent.calls('probe')).toMatchObject([
      { name: 'links/wg0', peer: 'oslo', count: 4, intervalMs: 10, pathMtu: true, throughputSeconds: 2 },
    ]);
    const lines = (await run('probe wg0 -o json')).stdout.trim().split('\n');
    expect(lines.map((line) => Object.keys(JSON.parse(line)))).toEqual([['reply'], ['reply'], ['result']]);
  });

  test('exits with 1 when nothing came back, and says what next when it cannot be done', async () => {
    agent.probes.push(reply(1, true), result({ sent: 1, received: 0 }));
    expect(await run('probe wg0')).toMatchObject({ code: 1, stdout: expect.stringContaining('100% loss') });
    agent.refuse('probe', new TaplaneError('FAILED_PRECONDITION', 'NO_PROBE_ADDRESS', 'probe links/wg0: no address'));
    expect(await run('probe wg0')).toMatchObject({ code: 5, stderr: expect.stringContaining('probe=IP') });
    expect(await run('probe wg0 --count 0')).toMatchObject({ code: 2, stderr: expect.stringContaining('Expected 1 to 1000') });
  });
});
