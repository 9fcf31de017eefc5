// A vxlan link and a kernel vxlan device, each at its end of a cable.

import { expect, it } from 'vitest';
import { LinkDrops_Reason as Drop, LinkStatus_State as State } from '../../../src/gen/taplane/v1/link.ts';
import { bound, SOON } from '../../harness/bound.ts';
import { createCable, createNamespace } from '../../harness/namespace.ts';
import { transferBothWays } from '../../harness/passage.ts';
import { floodPings, pings, untilAnswers } from '../../harness/ping.ts';
import { startTcpdump } from '../../harness/tcpdump.ts';
import { sendSegmented } from '../../harness/traffic.ts';
import { addKernelEnd, PEER_MAC } from './kernel-end.ts';
import { VxlanEnd } from './vxlan-end.ts';

/** Receives so many datagrams, of the bytes that `sendSegmented` sends; prints how many of which size. */
const COUNT_DATAGRAMS = `
import json, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind((sys.argv[1], int(sys.argv[2])))
udp.settimeout(20)
print('bound', flush=True)
sizes = {}
for _ in range(int(sys.argv[3])):
    data = udp.recv(65536)
    assert all((data[at + 1] - data[at]) % 256 == 7 for at in range(len(data) - 1))
    sizes[len(data)] = sizes.get(len(data), 0) + 1
print(json.dumps(sizes))
`;
/** Of TCP, each way. */
const MEBIBYTES = bound(64, 4);
const OUR_MAC = '02:00:00:00:00:01';

it('joins a TAP to a kernel vxlan device: IPv4, IPv6, ARP, broadcast, TCP both ways; and tells what came wrong', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: far, device: 'e1', address: '192.0.2.2/24' });
  await using end = await VxlanEnd.start(near);
  end.addTap('t0', { address: ['10.7.0.1/24', 'fd07::1/64'], mac: OUR_MAC });
  const link = { device: 't0', peers: [{ endpoint: '192.0.2.2:4789', displayName: 'far' }] };
  await end.set(link);
  expect(await end.status('t0')).toMatchObject({ state: State.CONNECTING, mtu: 1450, listen: '[::]:4789' });

  addKernelEnd(far, 'remote 192.0.2.1', ['10.7.0.2/24', 'fd07::2/64']);
  await untilAnswers(near, '10.7.0.2');
  await untilAnswers(far, 'fd07::1');
  expect(await pings(near, 'fd07::2', 3, '-i', '0.01')).toMatchObject({ received: 3, lost: 0, more: '' });
  expect(await floodPings(far, '10.7.0.1', 200)).toMatchObject({ received: 200, lost: 0, more: '' });
  // As large as the link takes, and larger: in fragments.
  expect(await pings(near, '10.7.0.2', 3, '-i', '0.01', '-s', '1422', '-M', 'do')).toMatchObject({ lost: 0, more: '' });
  expect(await pings(far, '10.7.0.1', 3, '-i', '0.01', '-s', '9000')).toMatchObject({ lost: 0, more: '' });
  near.run('sysctl', '-qw', 'net.ipv4.icmp_echo_ignore_broadcasts=0');
  expect(await pings(far, '10.7.0.255', 2, '-b', '-i', '0.01')).toMatchObject({ lost: 0 });

  for (const [from, to, address, port] of [
    [near, far, '10.7.0.2', 5001],
    [far, near, '10.7.0.1', 5002],
    [near, far, 'fd07::2', 5003],
    [far, near, 'fd07::1', 5004],
  ] as const) {
    await transferBothWays(from, to, address, MEBIBYTES, { port });
  }

  // Datagrams that a kernel sends as one, which it cuts nowhere on this machine.
  for (const [from, to, address] of [
    [near, far, '10.7.0.2'],
    [far, near, '10.7.0.1'],
  ] as const) {
    await using receiver = to.spawn(['/usr/bin/python3', '-c', COUNT_DATAGRAMS, address, '1500', '26']);
    await receiver.until(({ stdout }) => stdout.includes('bound'), 'the receiver');
    await sendSegmented(from, address, { count: 2, bytes: 15_500, segment: 1200 });
    const { stdout } = await receiver.ended;
    expect(JSON.parse(stdout.replace('bound', ''))).toEqual({ 1200: 24, 1100: 2 });
  }

  const status = await end.status('t0');
  // Every piece counts: 8 MiB of TCP both ways cannot have come in fewer.
  expect(status.traffic?.receivedPackets).toBeGreaterThan((8n << 20n) / 1400n);
  expect(status.traffic?.sentPackets).toBeGreaterThan((8n << 20n) / 1400n);
  expect(status).toMatchObject({ state: State.UP, reason: '', drops: [] });
  expect(status.peers).toMatchObject([{ endpoint: '192.0.2.2:4789', displayName: 'far', up: true, traffic: status.traffic }]);
  expect(Math.abs(Date.now() / 1000 - Number(status.peers[0]?.lastReceivedTime?.seconds))).toBeLessThan(60);
  expect(status.addresses).toMatchObject([{ macAddress: PEER_MAC, endpoint: '192.0.2.2:4789', static: false, ipAddress: '' }]);

  const send = (hexes: string[], port = 4789) =>
    far.run(
      '/usr/bin/python3',
      '-c',
      `import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\nfor h in sys.argv[1:]: s.sendto(bytes.fromhex(h),('192.0.2.1',${port}))`,
      ...hexes,
    );
  const frame = `ffffffffffff 020000000099 9000 ${'00'.repeat(46)}`.replaceAll(' ', '');
  // Cut within the header, and within Ethernet's; without the flag; garbage.
  send(['08', '08000000000007', `0800000000000700${frame.slice(0, 26)}`, `0000000000000700${frame}`, 'ff'.repeat(3), '00'.repeat(100)]);
  await expect.poll(() => end.dropped('t0', Drop.MALFORMED), SOON).toBe(6);
  // Another VNI; and a sender that is no peer.
  far.ip('address add 192.0.2.3/24 dev e1');
  send([`0800000000000800${frame}`, `08ffffff000007ff${frame}`]);
  await expect.poll(() => end.dropped('t0', Drop.STRANGER), SOON).toBe(1);
  const { addresses } = await end.status('t0');
  expect(addresses.map(({ macAddress }) => macAddress)).toContain('02:00:00:00:00:99');

  await end.set({ ...link, peers: [{ endpoint: '192.0.2.2:4789', macAddresses: ['02:00:00:00:00:aa'] }, { endpoint: '192.0.2.4:4789' }] });
  const again = await end.status('t0');
  expect(again.addresses.map(({ macAddress }) => macAddress).sort()).toEqual([PEER_MAC, '02:00:00:00:00:99', '02:00:00:00:00:aa']);
  expect(again.traffic?.receivedBytes).toBeGreaterThanOrEqual(status.traffic?.receivedBytes ?? 0n);
  expect((await floodPings(near, '10.7.0.2', 20)).lost).toBe(0);

  await end.set({ ...link, peers: [{ endpoint: '192.0.2.9:4789' }] });
  send([`0800000000000700${frame}`]);
  await expect.poll(() => end.dropped('t0', Drop.STRANGER), SOON).toBeGreaterThan(1);
  expect((await end.status('t0')).addresses).toEqual([]);
  await end.set({ ...link, peers: [] });
  await near.exec(['ping', '-n', '-c', '1', '-W', '0.1', '10.7.0.77']);
  expect(await end.dropped('t0', Drop.NO_PEER)).toBeGreaterThan(0);
});

it('the same over IPv6, with a checksum outside, a kernel that does not learn, and a TAP without virtio headers', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '2001:db8::1/64' }, { namespace: far, device: 'e1', address: '2001:db8::2/64' });
  await using end = await VxlanEnd.start(near);
  end.addTap('t0', { address: ['10.7.0.1/24', 'fd07::1/64'], mac: OUR_MAC, plain: true, mtu: 1430 });
  const peer = { endpoint: '[2001:db8::2]:4789', macAddresses: [PEER_MAC] };
  await end.set({ device: 't0', vxlan: { noLearning: true }, peers: [peer] });
  addKernelEnd(far, 'remote 2001:db8::1 nolearning udpcsum', ['10.7.0.2/24', 'fd07::2/64']);
  far.ip('link set vx0 mtu 1430');
  await untilAnswers(far, '10.7.0.1');
  for (const [from, to, address, port] of [
    [near, far, 'fd07::2', 5001],
    [far, near, '10.7.0.1', 5002],
  ] as const) {
    await transferBothWays(from, to, address, 2, { port });
  }
  const { mtu, drops, addresses } = await end.status('t0');
  expect({ mtu, drops }).toEqual({ mtu: 1430, drops: [] });
  expect(addresses).toMatchObject([{ macAddress: PEER_MAC, endpoint: '[2001:db8::2]:4789', static: true }]);
  // And without one, as RFC 7348 recommends.
  far.ip('link delete vx0');
  addKernelEnd(far, 'remote 2001:db8::1 nolearning udp6zerocsumtx', ['10.7.0.2/24', 'fd07::2/64']);
  await untilAnswers(far, '10.7.0.1');
});

it('answers for neighbours that are known, in place of flooding the question', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: far, device: 'e1', address: '192.0.2.2/24' });
  await using end = await VxlanEnd.start(near);
  end.addTap('t0', { address: ['10.7.0.1/24', 'fd07::1/64'], mac: OUR_MAC });
  await end.set({ device: 't0', vxlan: { suppressNeighbours: true }, peers: [{ endpoint: '192.0.2.2:4789' }] });
  addKernelEnd(far, 'remote 192.0.2.1', ['10.7.0.2/24', 'fd07::2/64']);
  await untilAnswers(near, '10.7.0.2');
  await untilAnswers(near, 'fd07::2');
  await expect
    .poll(async () => (await end.status('t0')).addresses.map(({ ipAddress }) => ipAddress), SOON)
    .toEqual([expect.stringMatching(/^(10\.7\.0\.2|fd07::2|fe80::.*)$/)]);
  // The kernel may have learned an address from a question of the other end, which teaches us nothing: now both are asked for.
  near.ip('neigh flush dev t0');
  await pings(near, '10.7.0.2', 1);
  await pings(near, 'fd07::2', 1);
  await using witness = await startTcpdump(far, 'vx0', 'in');
  for (let round = 0; round < 3; round++) {
    near.ip('neigh flush dev t0');
    expect(await pings(near, '10.7.0.2', 1)).toMatchObject({ lost: 0 });
    expect(await pings(near, 'fd07::2', 1)).toMatchObject({ lost: 0 });
  }
  await witness.has(6);
  // But for the kernel's own question whether somebody else has its link-local address, which is for all to hear.
  const asked = witness.frames('ether multicast and (arp or (icmp6 and ip6[40] == 135 and not src host ::))');
  expect(asked).toEqual([]);
  expect(witness.frames('icmp or (icmp6 and ip6[40] == 128)')).toHaveLength(6);
  // What is not known is asked of all.
  await near.exec(['ping', '-n', '-c', '1', '-W', '0.1', '10.7.0.77']);
  await expect.poll(() => witness.frames('arp and ether broadcast').length, SOON).toBeGreaterThan(0);
});
