import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from '@nats-io/transport-node';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FlowFilterFlags } from '../../src/cli/flow-filter-flags.ts';
import { type ObserveOptions, requestOf } from '../../src/cli/flow-observe.ts';
import { amount } from '../../src/cli/flow-text.ts';
import { parseMoment } from '../../src/cli/flow-time.ts';
import { openFlows } from '../../src/flow/flows.ts';
import type { FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { batch, encoded, T0 } from '../flow/flow-values.ts';
import { eventually as eventuallyNats, freePort, natsBinary, startNats } from '../nats/real-nats.ts';
import { eventually, served } from '../rpc/served.ts';
import { type FlowAgent, flowAgent } from './flow-agent.ts';
import { start, taplane } from './run-taplane.ts';

let on: FlowAgent;
beforeEach(async () => {
  on = await flowAgent();
});
afterEach(() => on[Symbol.asyncDispose]());

describe('observe', () => {
  test('prints the newest 20, a line each, aligned', async () => {
    on.put(...Array(18).fill({}));
    const icmp = { protocol: 1, icmp: { type: 8, code: 0 }, sourcePort: 0, destinationPort: 0, tcpFlags: 0, direction: 1 as const };
    on.put({
      ...icmp,
      event: 3,
      endReason: 1,
      sampling: 10,
      // An end is told with what the whole flow had.
      forward: { packets: 7n, bytes: 7n, totalPackets: 1234n, totalBytes: 123_456n },
      reverse: { packets: 0n, bytes: 0n, totalPackets: 2n, totalBytes: 120n },
    });
    on.putBatch(
      batch(20, [
        {
          event: 2,
          sourceAddress: Buffer.alloc(0),
          destinationAddress: Buffer.alloc(0),
          ethernet: { source: Buffer.from('020000000001', 'hex'), destination: Buffer.alloc(6, 255), ethertype: 0x806, vlan: 7 },
          tcpFlags: 0,
          protocol: 0,
          reverse: undefined,
        },
        {
          sourceAddress: Buffer.from('20010db8000000000000000000000001', 'hex'),
          destinationAddress: Buffer.from('fe800000000000000000000000000002', 'hex'),
          reverseTcpFlags: 18,
        },
        { event: 4, sourceAddress: Buffer.alloc(0), destinationAddress: Buffer.alloc(0), tcpFlags: 0 },
      ]),
    );
    const ran = await on.run('observe');
    expect(ran).toMatchObject({ code: 0, stderr: '' });
    const lines = ran.stdout.split('\n');
    expect(lines).toHaveLength(21);
    expect(lines.slice(15)).toEqual([
      '03:04:05.123 tap0 out START    tcp  10.0.0.1:40000 -> 10.0.0.2:80          S    fwd 3p/180B     rev 2p/120B',
      '03:04:06.000 tap0 in  END      icmp 10.0.0.1 -> 10.0.0.2                   8/0  fwd 1.2kp/123kB rev 2p/120B  idle 1/10',
      '03:04:06.000 tap0 out UPDATE   arp  02:00:00:00:00:01 -> ff:ff:ff:ff:ff:ff -    fwd 3p/180B     rev 0p/0B    vlan 7',
      '03:04:05.123 tap0 out START    tcp  [2001:db8::1]:40000 -> [fe80::2]:80    S/SA fwd 3p/180B     rev 2p/120B',
      '03:04:06.000 tap0 out OVERFLOW -    no room in the table                   -    fwd 3p/180B     rev 2p/120B',
      '',
    ]);
    expect(on.requests[0]).toMatchObject({ last: 20n, follow: false });
  });

  test('follows until Ctrl-C, which ends it with 0', async () => {
    on.put({}, {}, {});
    const following = on.running('observe -f --last 1');
    await eventually(() => following.said.stdout.split('\n').length === 2);
    on.put({ destinationPort: 443 });
    await eventually(() => following.said.stdout.includes('10.0.0.2:443'));
    expect(await following.stop()).toBe(0);
    expect(following.said.stderr).toBe('');
  });

  test('turns every filter flag into its field, and --not the one behind it into a filter of its own', async () => {
    const line =
      'observe --ip 10.0.0.0/8 --ip ::1 --from-ip 1.1.1.1 --to-ip 2.2.2.2,3.3.3.3 --port 80,443 --from-port 1 --to-port 2 --protocol TCP --protocol icmp ' +
      '--tcp-flags syn,ack --interface tap* --link l --direction out --ethertype arp,0x88cc --label a=b,c --mac 02:00:00:00:00:01 --vlan 5 ' +
      '--event start,end --node n1 --not --port 22 --not --ip 9.9.9.9 --not --port 23 --since 2026-01-02T03:04:05Z --until 1h --all';
    expect((await on.run(line)).stderr).toBe('nothing found; see what is metered: taplane flow stats\n');
    const [request] = on.requests;
    expect(request?.allow).toEqual([
      {
        ip: ['10.0.0.0/8', '::1'],
        sourceIp: ['1.1.1.1'],
        destinationIp: ['2.2.2.2', '3.3.3.3'],
        port: [80, 443],
        sourcePort: [1],
        destinationPort: [2],
        protocol: [6, 1, 58],
        tcpFlags: [18],
        interface: ['tap*'],
        link: ['l'],
        direction: [2],
        ethertype: [0x806, 0x88cc],
        label: ['a=b,c'],
        macAddress: ['02:00:00:00:00:01'],
        vlan: [5],
        event: [1, 3],
        node: ['n1'],
      },
    ]);
    expect(request?.deny).toMatchObject([
      { port: [22, 23], ip: [] },
      { port: [], ip: ['9.9.9.9'] },
    ]);
    expect(request).toMatchObject({ first: 0n, last: 0n, since: { seconds: T0, nanos: 0 } });
    expect(Number(request?.until?.seconds)).toBeCloseTo(Date.now() / 1000 - 3600, -2);
  });

  test('as JSON each line says all, addresses as text', async () => {
    on.put({ ethernet: { source: Buffer.alloc(6, 1), destination: Buffer.alloc(6, 2), ethertype: 0x800, vlan: 0 } });
    const { stdout } = await on.run('observe -o json');
    expect(stdout.endsWith('}\n')).toBe(true);
    expect(JSON.parse(stdout)).toEqual({
      time: '2026-01-02T03:04:05.123000000Z',
      cluster: 'c1',
      node: 'n1',
      interface: 'tap0',
      interfaceUid: 'uid-0',
      labels: { tenant: 'blue' },
      epoch: '0123456789abcdef',
      sequence: '1',
      flowId: '0123456789abcdef-1',
      communityId: '1:abc=',
      event: 'EVENT_START',
      startTime: '2026-01-02T03:04:05.123000000Z',
      endTime: '2026-01-02T03:04:06.000000000Z',
      direction: 'DIRECTION_OUTBOUND',
      ethernet: { source: '01:01:01:01:01:01', destination: '02:02:02:02:02:02', ethertype: 2048, vlan: 0 },
      sourceAddress: '10.0.0.1',
      destinationAddress: '10.0.0.2',
      protocol: 6,
      sourcePort: 40_000,
      destinationPort: 80,
      tcpFlags: 2,
      forward: { packets: '3', bytes: '180', totalPackets: '3', totalBytes: '180' },
      reverse: { packets: '2', bytes: '120', totalPackets: '2', totalBytes: '120' },
    });
  });

  test.each(['-o compact', '-o wide', '-o table', '-o table --fields flow_id,peer', '-o dict', '-o json', '-o yaml'])(
    'text of others does not steer the terminal: %s',
    async (form) => {
      const evil = '\x1b[2J\x07evil';
      const names = { cluster: evil, node: evil, interface: evil, labels: { [evil]: evil } };
      on.putBatch(batch(1, [{ flowId: evil, communityId: evil, link: evil, peer: evil }], names));
      const { code, stdout } = await on.run(`observe ${form}`);
      expect(code).toBe(0);
      expect(stdout).toContain('evil');
      expect(stdout.replaceAll('\n', '')).not.toMatch(/\p{Cc}/u);
    },
  );

  test('as table, dictionary, YAML, with ids, and with chosen fields', async () => {
    on.put({}, { sourcePort: 5 });
    expect((await on.run('observe -o table')).stdout).toBe(
      'TIME           INTERFACE   DIR   EVENT      PROTO   SOURCE                  DESTINATION             FLAGS   PACKETS   BYTES\n' +
        '03:04:05.123   tap0        out   start      tcp     10.0.0.1:40000          10.0.0.2:80             S       5         300\n' +
        '03:04:05.123   tap0        out   start      tcp     10.0.0.1:5              10.0.0.2:80             S       5         300\n',
    );
    const dictionary = (await on.run('observe -o dict --last 1')).stdout;
    expect(dictionary).toContain('sourceAddress:          10.0.0.1\n');
    expect(dictionary).toContain('forward.bytes:          180\n');
    expect((await on.run('observe -o yaml --first 1')).stdout).toMatch(/^---\ntime: 2026[^\n]*\ncluster: c1\n/);
    expect((await on.run('observe -o wide --first 1')).stdout).toContain('1:abc= 0123456789abcdef-1 n1\n');
    expect((await on.run('observe --fields source_port,forward.bytes -o table')).stdout).toBe(
      'SOURCE_PORT       FORWARD.BYTES\n40000             180\n5                 180\n',
    );
    expect(JSON.parse((await on.run('observe --fields source_port -o json --last 1')).stdout)).toMatchObject({
      sequence: '2',
      sourcePort: 5,
    });
    expect(on.requests.at(-1)?.fieldMask).toEqual(['source_port']);
    // As JSON calls it.
    expect((await on.run('observe --fields sourcePort -o table --last 1')).stdout).toBe('SOURCE_PORT\n5\n');
  });

  test('losses are told on stderr', async () => {
    on.putBatch(batch(1, [{}], { lost: [{ reason: 1, count: 5n }] }));
    expect(await on.run('observe')).toMatchObject({ code: 0, stderr: 'lost 5 records before they came to the agent or to NATS\n' });
  });

  test.each(['dies', 'stops'])('goes on with a new agent where the old one %s, without telling anything twice', async (how) => {
    on.put({});
    const following = on.running('observe -f');
    await eventually(() => following.said.stdout.includes('\n'));
    if (how === 'stops') {
      on.end();
      await eventually(() => following.said.stderr.includes('connection to the agent lost, resuming'));
    }
    await on.agent.server.stop(0);
    await eventually(() => following.said.stderr.includes('connection to the agent lost, resuming'));
    on.put({ destinationPort: 81 });
    const { startServer } = await import('../../src/rpc/server.ts');
    const flows = openFlows({ ring: on.ring, interfaces: () => [] });
    const { interfaces, responders } = on.agent;
    const { noPackets } = await import('../rpc/memory-packets.ts');
    const { memoryNode } = await import('../rpc/memory-interfaces.ts');
    const { peerCredentials } = await import('../../src/sys/peer-credentials.ts');
    const log = { error: () => {} };
    const server = await startServer({
      peerCredentials,
      listen: [on.agent.address],
      interfaces,
      responders,
      packets: noPackets,
      node: memoryNode(),
      log,
      flows,
    });
    await eventually(() => following.said.stdout.includes(':81 '), 30_000);
    on.put({ destinationPort: 82 });
    await eventually(() => following.said.stdout.includes(':82 '));
    expect(await following.stop()).toBe(0);
    expect(following.said.stdout.trim().split('\n')).toHaveLength(3);
    await server.stop(0);
  });

  test.each([
    ['observe --first 1 --last 1', '--first, --last and --all'],
    ['observe --first 1 -f', 'leave out --follow'],
    ['observe --last 0', 'greater than 0'],
    ['observe --not', '--not stands before a filter'],
    ['observe --port http', 'whole number'],
    ['observe --protocol foo', 'tcp, udp'],
    ['observe --tcp-flags syn,foo', 'fin, syn'],
    ['observe --event begin', 'start, update'],
    ['observe --since soon', 'such as 5m'],
    ['observe -o name', 'have no names'],
    ['observe --fields flow_id', '-o table, dict, json or yaml'],
    ['stats -o compact', 'is for taplane flow observe'],
    ['top --by color', 'Allowed choices'],
    ['top -o yaml', '-o table, wide or json'],
    ['top --count 0', 'greater than 0'],
    ['top -n 0', 'greater than 0'],
    ['observe --nats embedded', 'nats://'],
    ['observe --nats client.url', './FILE'],
    ['observe --nats nats://h --nats-creds /nonexistent/creds', 'read NATS credentials /nonexistent/creds: ENOENT\n'],
    ['observe --nats nats://h --nats-tls-cert /c', 'both --nats-tls-cert and --nats-tls-key'],
    ['observe --nats nats://h --nats-creds /c --nats-nkey /n', 'one login at a time'],
  ])('%s exits with 2', async (line, said) => {
    expect(await on.run(line)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(said) });
    expect(on.requests).toEqual([]);
  });

  test('what the agent refuses exits with 2 and names the field', async () => {
    expect(await on.run('observe --ip 10.0.0.0/40')).toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/allow\[0\]\.ip\[0\].*\nreason: INVALID_FIELDS\nnext: correct --ip; /),
    });
    expect(await on.run('observe --fields nothing -o json')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('field_mask.paths[0]'),
    });
  });

  test('an agent without flows exits with 1 and says what next; one that is not there with 6', async () => {
    await using other = await served();
    expect(await taplane(['flow', 'observe'], other.address)).toMatchObject({ code: 1, stderr: expect.stringContaining('next: ') });
    expect(await taplane(['flow', 'observe', '-f'], 'unix:/nonexistent/on.agent.sock')).toMatchObject({ code: 6 });
  });

  test('a reader that has seen enough is no failure', async () => {
    on.put(...Array(2000).fill({}));
    const child = start(['flow', 'observe', '--all', '-f'], on.agent.address);
    child.stdout?.once('data', () => child.stdout?.destroy());
    expect(await new Promise((resolve) => child.once('close', resolve))).toBe(0);
  });
});

test('flags and values are completed', async () => {
  const complete = async (line: string) => (await taplane(['__complete', '--', ...line.split(' ')], on.agent.address)).stdout;
  expect(await complete('flow ')).toMatch(/^observe\t.*\nstats\t.*\ntop\t/);
  expect(await complete('flow observe --protocol u')).toBe('udp\t\n');
  expect(await complete('flow observe -o c')).toBe('compact\t\n');
  expect(await complete('flow stats -o c')).toBe('');
  expect(await complete('flow top --by f')).toBe('flows\t\n');
  expect(await complete('flow observe --from')).toMatch(/^--from-ip\t.*\n--from-port\t/);
  await taplane(['interface', 'create', 'tap7', '--mode', 'tap'], on.agent.address);
  expect(await complete('flow observe --interface t')).toBe('tap7\t\n');
});

test('stats', async () => {
  on.putBatch(
    batch(1, [{ startTime: { seconds: BigInt(Math.floor(Date.now() / 1000) - 300), nanos: 0 } }], { lost: [{ reason: 1, count: 4n }] }),
  );
  const { stdout, stderr, code } = await on.run('stats');
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout).toBe(`INTERFACE   ACTIVE   SEEN   BYTES   FLOWS   RECORDS   DROPPED   SAMPLED-OUT   REASON
tap0        yes      100    9000    3       7         2         0             -
tun0        no       -      -       -       0         -         -             the data plane is away

Records:      1 since the agent started, 4 lost
Memory:       1 records, ${on.ring.bytes} B, the oldest of 5m ago
NATS:         ok
Published:    5 records and events in 4 messages, 0 sent again
Spool:        2 messages, 2.0 KiB of 1.0 MiB, the oldest of 9s ago
Lost:         3 spool-full
IPFIX:        c:4739: 2 records in 1 messages, 0 failed
`);
  expect(JSON.parse((await on.run('stats -o json')).stdout)).toMatchObject({ ringRecords: '1', interfaces: [{ records: '7' }, {}] });
  expect((await on.run('stats -o name')).stdout).toBe('interfaces/tap0\ninterfaces/tun0\n');
});

test('what memory is asked for', () => {
  const asked = (options: ObserveOptions) => {
    const { first, last, follow } = requestOf(options, { allow: [], deny: [] });
    return [first, last, follow];
  };
  const since = { seconds: T0, nanos: 0 };
  expect(asked({})).toEqual([0n, 20n, false]);
  expect(asked({ follow: true })).toEqual([0n, 20n, true]);
  expect(asked({ follow: true, last: 0 })).toEqual([0n, 0n, true]);
  expect(asked({ first: 3 })).toEqual([3n, 0n, false]);
  expect(asked({ all: true })).toEqual([0n, 0n, false]);
  expect(asked({ since })).toEqual([0n, 0n, false]);
  expect(asked({ since, last: 5 })).toEqual([0n, 5n, false]);
  expect(asked({ since, follow: true })).toEqual([0n, 2n ** 64n - 1n, true]);
});

describe.skipIf(!natsBinary)('through NATS (needs nats-server)', () => {
  test('observes the whole cluster, names the nodes, and tells of gaps', async () => {
    const port = await freePort();
    const nats = await startNats(port);
    const publisher = await connect({ servers: `127.0.0.1:${port}` });
    try {
      const following = on.running(`observe -f --nats nats://127.0.0.1:${port}`);
      await eventually(() => following.said.stderr.includes('only new ones are told of'));
      const publish = (value: FlowBatch) => publisher.publish(`taplane.v1.c1.${value.node}.flow.tap0`, encoded(value));
      publish(batch(1, [{}]));
      publish(batch(1, [{}], { node: 'n2', epoch: 'b' }));
      publish(batch(5, [{ destinationPort: 443 }]));
      await eventuallyNats(() => following.said.stdout.includes(':443 '), 'the last record');
      expect(following.said.stdout.split('\n').map((line) => line.split(' ')[1])).toEqual(['n1/tap0', 'n2/tap0', 'n1/tap0', undefined]);
      await sleep(50);
      expect(await following.stop()).toBe(0);
      expect(following.said.stderr).toContain('missed 3 records: they did not come through NATS\n');
      const ran = await on.run(`observe --nats nats://127.0.0.1:${port}`);
      expect(ran).toMatchObject({ code: 5, stderr: expect.stringContaining('next: watch new records: --follow') });
    } finally {
      await publisher.close();
      await nats.stop();
    }
    expect(await on.run(`observe -f --timeout 500ms --nats nats://127.0.0.1:${port}`)).toMatchObject({
      code: 6,
      stderr: expect.stringContaining('next: see whether it runs'),
    });
  });
});

test('times and amounts', () => {
  const now = 1_767_323_045_500;
  expect(parseMoment('1m30s', now)).toEqual({ seconds: 1_767_322_955n, nanos: 500_000_000 });
  expect(parseMoment('2026-01-02T03:04:05.25+01:00', now)).toEqual({ seconds: 1_767_319_445n, nanos: 250_000_000 });
  for (const wrong of ['', '5', 'soon', '5 m', '2026-13-01', '-5m']) expect(() => parseMoment(wrong, now), wrong).toThrow();
  expect([0, 999, 1000, 9949, 12_345, 999_600, 1e12].map(amount)).toEqual(['0', '999', '1.0k', '9.9k', '12k', '1.0M', '1.0T']);
  expect(new FlowFilterFlags().filters()).toEqual({ allow: [], deny: [] });
});
