// Traffic for tests that watch a device: what the node sends to addresses behind it, by plain sockets and ping. Nobody has to answer.

import { setTimeout as sleep } from 'node:timers/promises';
import type { Namespace } from './namespace.ts';

const PYTHON = '/usr/bin/python3';

/** UDP of many sizes to many ports, some in fragments, and opened TCP connections, over IPv4 and IPv6. */
const SOCKETS = `
import socket, sys
for address in sys.argv[1:]:
    family = socket.AF_INET6 if ':' in address else socket.AF_INET
    udp = socket.socket(family, socket.SOCK_DGRAM)
    for port in range(900, 2200, 50):
        udp.sendto(bytes([port % 251]) * (port % 1300), (address, port))
    for size in (1472, 4000, 9000):
        udp.sendto(b'f' * size, (address, 1500))
    for port in (22, 443, 1500):
        tcp = socket.socket(family, socket.SOCK_STREAM)
        tcp.setblocking(False)
        tcp.connect_ex((address, port))
        tcp.close()
`;

/** Sends the same again each time; back when all of it has been handed to the device. */
export async function sendOfEverything(ns: Namespace, addresses: readonly string[]): Promise<void> {
  const sent = await ns.exec([PYTHON, '-c', SOCKETS, ...addresses]);
  if (sent.code !== 0) throw new Error(`send: ${sent.stderr}`);
  for (const address of addresses) {
    await ns.exec(['ping', '-n', '-c', '3', '-i', '0.02', '-W', '0.1', address]);
    await ns.exec(['ping', '-n', '-c', '2', '-i', '0.02', '-W', '0.1', '-s', '4000', address]);
  }
}

/** UDP super-datagrams that the device, or we, have to cut: `count` times `bytes`, in pieces of `segment`. */
export async function sendSegmented(
  ns: Namespace,
  address: string,
  { count = 20, bytes = 60_000, segment = 1200, port = 1500 } = {},
): Promise<void> {
  const script = `
import socket, sys
address, port, count, size, segment = sys.argv[1], *map(int, sys.argv[2:])
udp = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_UDP, 103, segment) # UDP_SEGMENT, linux/udp.h
for n in range(count):
    udp.sendto(bytes((n + at * 7) % 256 for at in range(size)), (address, port))
`;
  const sent = await ns.exec([PYTHON, '-c', script, address, ...[port, count, bytes, segment].map(String)]);
  if (sent.code !== 0) throw new Error(`send: ${sent.stderr}`);
}

/** Numbered UDP datagrams to port 9: the number stands in the first four bytes behind the UDP header. */
export async function sendNumbered(
  ns: Namespace,
  address: string,
  count: number,
  { first = 0, perSecond = 2000, bytes = 100 } = {},
): Promise<void> {
  const script = `
import socket, struct, sys, time
address, count, first, rate, size = sys.argv[1], *map(int, sys.argv[2:])
udp = socket.socket(socket.AF_INET6 if ':' in address else socket.AF_INET, socket.SOCK_DGRAM)
begun = time.time()
for n in range(count):
    udp.sendto(struct.pack('>I', first + n) + bytes(size - 4), (address, 9))
    ahead = begun + (n + 1) / rate - time.time()
    if ahead > 0: time.sleep(ahead)
`;
  const sent = await ns.exec([PYTHON, '-c', script, address, ...[count, first, perSecond, bytes].map(String)]);
  if (sent.code !== 0) throw new Error(`send: ${sent.stderr}`);
}

export interface Counters {
  rxPackets: number;
  txPackets: number;
  /** What the device had no room for, after those who watch had seen it. */
  txDropped: number;
}

/** The device's own counters. */
export function counters(ns: Namespace, device: string): Counters {
  const [found] = ns.ip(`-j -s -s link show dev ${device}`) as {
    stats64: { rx: { packets: number }; tx: { packets: number; dropped: number } };
  }[];
  if (found === undefined) throw new Error(`counters: no device ${device}`);
  const { rx, tx } = found.stats64;
  return { rxPackets: rx.packets, txPackets: tx.packets, txDropped: tx.dropped };
}

/** Waits until the kernel has no more to say by itself (multicast reports, neighbours, router solicitations), and the queue is in place. */
export async function quiet(ns: Namespace, device: string, forMs = 1300): Promise<void> {
  const deadline = performance.now() + 30_000;
  let last = '';
  for (let since = performance.now(); performance.now() - since < forMs; ) {
    const now = JSON.stringify(counters(ns, device));
    if (now !== last) since = performance.now();
    last = now;
    if (performance.now() > deadline) throw new Error(`${device} is never quiet`);
    await sleep(50);
  }
}

/** Call before devices are made: without a router that it could find, a node asks for one again and again. */
export function noRouterSolicitations(ns: Namespace): void {
  ns.run('sh', '-c', 'echo 0 > /proc/sys/net/ipv6/conf/default/router_solicitations');
}
