// Two LANs that are one: on each side a bridge with a host behind it and the TAP of a vxlan link.

import { expect, it } from 'vitest';
import { LinkDrops_Reason as Drop } from '../../../src/gen/taplane/v1/link.ts';
import { createCable, createNamespace, type Namespace } from '../../harness/namespace.ts';
import { transferBothWays } from '../../harness/passage.ts';
import { pings, untilAnswers } from '../../harness/ping.ts';
import { VxlanEnd } from './vxlan-end.ts';

/** As DHCP does it: a question from nobody to all, and an answer to all. */
const OFFER = `
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
udp.bind(('', 67))
print('ready', flush=True)
while True:
    data, _ = udp.recvfrom(1500)
    udp.sendto(b'offer ' + data, ('255.255.255.255', 68))
`;
const DISCOVER = `
import socket
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
udp.setsockopt(socket.SOL_SOCKET, 25, b'e0') # SO_BINDTODEVICE
udp.bind(('', 68))
udp.settimeout(10)
udp.sendto(b'discover', ('255.255.255.255', 67))
print(udp.recv(1500).decode())
`;

/** A host on a cable to a bridge, which the TAP joins too. */
function createLan(gateway: Namespace, end: VxlanEnd, host: Namespace, addresses: string[]): void {
  gateway.ip('link add br0 type bridge stp_state 0');
  gateway.ip('link set br0 up');
  createCable({ namespace: host, device: 'e0' }, { namespace: gateway, device: 'lan0' });
  gateway.ip('link set lan0 master br0');
  end.addTap('t0', { mtu: 1500 });
  gateway.ip('link set t0 master br0');
  for (const address of addresses) host.ip(`address add ${address} dev e0${address.includes(':') ? ' nodad' : ''}`);
}

it('bridges two LANs of hosts that know nothing of it', async () => {
  await using left = createNamespace();
  await using right = createNamespace();
  await using one = createNamespace();
  await using two = createNamespace();
  createCable({ namespace: left, device: 'u0', address: '192.0.2.1/24' }, { namespace: right, device: 'u0', address: '192.0.2.2/24' });
  await using a = await VxlanEnd.start(left);
  await using b = await VxlanEnd.start(right);
  createLan(left, a, one, ['10.8.0.1/24', 'fd08::1/64']);
  createLan(right, b, two, ['10.8.0.2/24', 'fd08::2/64']);
  await a.set({ device: 't0', peers: [{ endpoint: '192.0.2.2:4789' }] });
  await b.set({ device: 't0', peers: [{ endpoint: '192.0.2.1:4789' }] });
  await untilAnswers(one, '10.8.0.2');
  await untilAnswers(two, 'fd08::1');

  await using server = two.spawn(['/usr/bin/python3', '-c', OFFER]);
  await server.until(({ stdout }) => stdout.includes('ready'), 'the server');
  two.ip('route add default dev e0');
  one.ip('route add default dev e0');
  expect((await one.exec(['/usr/bin/python3', '-c', DISCOVER])).stdout).toBe('offer discover\n');

  // The hosts take 1500 bytes, the link 1450: TCP is cut smaller and told so, others are told what is too big.
  for (const [from, to, address] of [
    [one, two, '10.8.0.2'],
    [two, one, 'fd08::1'],
  ] as const) {
    await transferBothWays(from, to, address, 4, { port: 5001 });
  }
  expect(await a.dropped('t0', Drop.TOO_BIG)).toBe(0);
  const { stdout, stderr } = await one.exec(['ping', '-n', '-c', '2', '-i', '0.2', '-s', '1472', '-M', 'do', '-W', '0.5', '10.8.0.2']);
  expect(stdout + stderr).toMatch(/mtu ?= ?1450/);
  expect(await a.dropped('t0', Drop.TOO_BIG)).toBeGreaterThan(0);

  // With 1500 nothing is too big: the datagrams outside are fragmented.
  await a.set({ device: 't0', peers: [{ endpoint: '192.0.2.2:4789' }], mtu: 1500 });
  await b.set({ device: 't0', peers: [{ endpoint: '192.0.2.1:4789' }], mtu: 1500 });
  one.ip('route flush cache');
  expect(await pings(one, '10.8.0.2', 3, '-i', '0.01', '-s', '1472', '-M', 'do')).toMatchObject({ lost: 0, more: '' });
  await transferBothWays(one, two, '10.8.0.2', 4, { port: 5002 });
});
