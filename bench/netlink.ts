// What reading the kernel costs: one link, and tables of a thousand, against `ip` doing the same.

import { execFileSync } from 'node:child_process';
import { Namespace } from '../src/sys/namespace.ts';
import { dumpAddresses, readAddress } from '../src/sys/netlink/address.ts';
import { dumpLinks, getLink, readLink } from '../src/sys/netlink/link.ts';
import { Netlink } from '../src/sys/netlink/socket.ts';
import { createNamespace } from '../test/harness/namespace.ts';

const LINKS = 1000;

export async function netlinkBench(): Promise<string[]> {
  await using ns = createNamespace();
  const lines = Array.from(
    { length: LINKS },
    (_, index) => `tuntap add dev b${index} mode tun\naddr add 10.${index >> 8}.${index & 255}.1/24 dev b${index}`,
  );
  execFileSync('ip', ['-n', ns.name, '-batch', '-'], { input: lines.join('\n') });
  const held = new Namespace(ns.path);
  const netlink = held.run(() => new Netlink());
  try {
    const one = time(2000, () => netlink.get('read link', getLink({ name: 'b500' }), readLink));
    const links = time(30, () => netlink.dump('list links', dumpLinks(), readLink));
    const addresses = time(30, () => netlink.dump('list addresses', dumpAddresses(0), readAddress));
    const heapBefore = process.memoryUsage().heapUsed;
    for (let count = 0; count < 1000; count++) netlink.get('read link', getLink({ name: 'b500' }), readLink);
    const allocated = Math.max(0, process.memoryUsage().heapUsed - heapBefore) / 1000;
    const ip = time(10, () => execFileSync('ip', ['-n', ns.name, '-j', '-d', 'link'], { maxBuffer: 1 << 28 }));
    return [
      `one link: ${(one * 1000).toFixed(0)} us, at most ${(allocated / 1024).toFixed(1)} KiB allocated`,
      `${LINKS} links: ${links.toFixed(1)} ms; ip -j -d link: ${ip.toFixed(1)} ms; ratio ${(ip / links).toFixed(1)}`,
      `${LINKS} addresses: ${addresses.toFixed(1)} ms`,
    ];
  } finally {
    netlink.close();
    held.close();
  }
}

/** Median of five: milliseconds for one run. */
function time(rounds: number, run: () => unknown): number {
  const samples = Array.from({ length: 5 }, () => {
    const begun = performance.now();
    for (let round = 0; round < rounds; round++) run();
    return (performance.now() - begun) / rounds;
  });
  return samples.sort((a, b) => a - b)[2] ?? 0;
}
