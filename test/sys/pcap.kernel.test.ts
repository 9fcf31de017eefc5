// That no name is ever looked up, by strace: a host would be looked for in /etc/hosts and then by DNS, a network in /etc/networks, an
// Ethernet address in /etc/ethers.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'tpl-pcap-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const LOOKED_UP = /"(\/etc\/(?:hosts|resolv\.conf|networks|ethers|services|protocols))"/g;

/** Runs a program; which of the files that names are looked for in it opened. */
function lookedInto(...command: string[]): string[] {
  const trace = join(folder, 'trace');
  const result = spawnSync('strace', ['-f', '-o', trace, '-e', 'trace=openat', ...command], { encoding: 'utf8' });
  if (result.error) throw result.error;
  const files = new Set(Array.from(readFileSync(trace, 'utf8').matchAll(LOOKED_UP), ([, file]) => file as string));
  return [...files].sort();
}

/** Compiles each expression in a process of its own, whatever becomes of them. */
function compiling(...expressions: string[]): string[] {
  const script = `
    import { compileFilter } from ${JSON.stringify(join(import.meta.dirname, '../../src/sys/pcap.ts'))};
    for (const expression of ${JSON.stringify(expressions)}) {
      try { compileFilter(expression, 1, 0); } catch {}
    }`;
  return lookedInto(process.execPath, '--input-type=module', '-e', script);
}

it('names of hosts and networks are not looked up, those of services and protocols in local files', () => {
  expect(compiling('host localhost.example', 'net loopback', 'ether host router', 'port 80 or src router', '(port ssh) or router')).toEqual(
    [],
  );
  expect(compiling('host 10.0.0.1', 'host fd00::1', 'ip6 net 2001:db8::/32', 'ether host 1:2:3:4:5:6')).toEqual([]);
  expect(compiling('port ssh or nosuchservice')).toEqual(['/etc/services']);
  expect(compiling('ip proto ospf or nosuchprotocol')).toEqual(['/etc/protocols']);
});

it('libpcap by itself does look them up', () => {
  // In a namespace without a network, so that nothing is sent.
  expect(lookedInto('unshare', '-n', 'tcpdump', '-d', '-y', 'EN10MB', 'host localhost.example')).toContain('/etc/hosts');
  expect(lookedInto('unshare', '-n', 'tcpdump', '-d', '-y', 'EN10MB', 'net loopback.example')).toContain('/etc/networks');
});
