// Expressions that compile, that libpcap refuses, and that are refused before libpcap sees them.

import { describe, expect, it } from 'vitest';
import { loadBpf, runBpf } from '../../src/packet/bpf.ts';
import { CONSTANTS, KEYWORDS, MAX_BYTES, MAX_VALUES, objectionTo } from '../../src/sys/filter-words.ts';
import { compileFilter, FilterError, type FilterLinkType, LibpcapMissing, libpcapVersion } from '../../src/sys/pcap.ts';
import { bound } from '../harness/bound.ts';
import { tcpPacket, udpPacket } from '../packet/frames.ts';

const ETHERNET = Buffer.from('0200000000020200000000010800', 'hex');
const tcp = tcpPacket({ version: 4, payload: Buffer.alloc(40) });
const udp = udpPacket(4, Buffer.alloc(40));

function accepts(expression: string, frame: Buffer, linkType: FilterLinkType, snapLength = 0): number {
  return runBpf(loadBpf(compileFilter(expression, linkType, snapLength)), frame, 0, frame.length, frame.length);
}

function reason(expression: string, linkType: FilterLinkType = 1): string {
  try {
    compileFilter(expression, linkType, 0);
  } catch (error) {
    expect(error).toBeInstanceOf(FilterError);
    expect(String((error as FilterError).message)).toBe(`compile filter: ${(error as FilterError).reason}`);
    return (error as FilterError).reason;
  }
  return 'compiles';
}

const isThere = libpcapVersion() !== undefined;

describe.runIf(isThere)('libpcap', () => {
  it('tells its version', () => {
    expect(libpcapVersion()).toMatch(/^libpcap version \d+\.\d+/);
  });

  it.each<[string, FilterLinkType, Buffer, Buffer]>([
    ['tcp port 443 and host 10.0.0.1', 1, Buffer.concat([ETHERNET, tcp]), Buffer.concat([ETHERNET, udp])],
    ['tcp port 443 and host 10.0.0.1', 101, tcp, udp],
    ['udp', 101, udp, tcp],
    ['ip6', 101, tcpPacket({ version: 6, payload: Buffer.alloc(1) }), tcp],
    ['port domain', 101, udp, tcp],
  ])('compiles %s for link type %i', (expression, linkType, good, bad) => {
    expect(accepts(expression, good, linkType)).toBeGreaterThanOrEqual(good.length);
    expect(accepts(expression, bad, linkType)).toBe(0);
  });

  it('accepts everything for the empty expression, and as many bytes as were asked for', () => {
    expect(accepts('', udp, 101)).toBe(262144);
    expect(accepts('udp', udp, 101, 96)).toBe(96);
    expect(accepts('udp', udp, 101, 65_535)).toBe(65_535);
  });

  it.each([
    ['tcp and', 1, /syntax error/],
    ['tcp port', 1, /syntax error/],
    ['(tcp', 1, /syntax error/],
    ['port nosuchservice', 1, /unknown port 'nosuchservice'/],
    ['ip proto nosuchprotocol', 1, /unknown ip proto 'nosuchprotocol'/],
    ['host 10.0.0.1/33', 1, /mask length must be <= 32/],
    ['ether host 1:2:3:4:5:6', 101, /ethernet|link-layer/i],
    ['vlan', 101, /no VLAN support/],
    ['type mgt', 1, /802\.11/],
    ['ip broadcast', 1, /netmask not known/],
    ['ip[0] << 40 = 0', 1, /shift by more than 31 bits/],
    ['port 80 or 10.0.0.1', 1, /'port' modifier applied to/],
  ] as const)('says what is wrong with %s', (expression, linkType, words) => {
    expect(reason(expression, linkType)).toMatch(words);
  });

  it('gives a copy each time, of what it has compiled once', () => {
    const first = compileFilter('tcp port 81', 1, 0);
    const kept = Buffer.from(first);
    first.fill(0);
    expect(Buffer.from(compileFilter('tcp port 81', 1, 0))).toEqual(kept);
    expect(Buffer.from(compileFilter('tcp port 81', 101, 0))).not.toEqual(kept);
    expect(Buffer.from(compileFilter('tcp port 81', 1, 100))).not.toEqual(kept);
  });

  it('forgets what was asked for longest ago', () => {
    // A list of values takes libpcap a millisecond or more, a look into the cache next to nothing.
    const slow = `portrange ${Array.from({ length: 20 }, (_, index) => `${index * 9 + 1}-${index * 9 + 5}`).join(' or ')}`;
    const timeOf = () => {
      const start = performance.now();
      compileFilter(slow, 1, 0);
      return performance.now() - start;
    };
    const compiled = timeOf();
    for (let port = 1; port < 64; port += 1) compileFilter(`port ${port}`, 1, 0);
    const remembered = Math.min(...Array.from({ length: 5 }, timeOf));
    for (let port = 101; port <= 164; port += 1) compileFilter(`port ${port}`, 1, 0);
    const forgotten = timeOf();
    expect(remembered * 5).toBeLessThan(compiled);
    expect(remembered * 5).toBeLessThan(forgotten);
  });

  // A word that libpcap does not know would be the name of a service here, and the name of a host elsewhere.
  it('knows every word that is taken for a keyword or a constant', () => {
    const unknown = [...KEYWORDS, ...CONSTANTS].filter((word) => /unknown port|invalid port/.test(reason(`port ${word}`)));
    expect(unknown).toEqual([]);
    expect(reason('port nokeyword'), 'a control').toMatch(/unknown port|invalid port/);
  });

  it('takes every way to write an address of IPv6 that passes', () => {
    const groups = (count: number) => Array.from({ length: count }, (_, index) => `dea${index}`).join(':');
    const forms = [groups(8), `${groups(6)}:1.2.3.4`, '::'];
    for (let before = 0; before <= 7; before += 1) {
      for (let after = 0; before + after <= 7; after += 1) {
        forms.push(`${groups(before)}::${groups(after)}`);
        if (before + after <= 5) forms.push(`${groups(before)}::${groups(after)}${after > 0 ? ':' : ''}1.2.3.4`);
      }
    }
    expect(forms.filter((form) => reason(`host ${form}`) !== 'compiles')).toEqual([]);
  });

  it('takes less than a fifth of a second of the processor for the longest expressions that pass', () => {
    const list = (count: number, value: (index: number) => string) =>
      Array.from({ length: count }, (_, index) => value(index + 1)).join(' or ');
    for (const expression of [
      `port ${list(MAX_VALUES, String)}`,
      `portrange ${list(Math.floor(MAX_VALUES / 3), (index) => `${index}-${index + 5}`)}`,
      `net ${list(MAX_VALUES, (index) => `10.${index}.0.0/16`)}`,
      list(256, () => 'l1'),
      list(256, () => 'vlan'),
    ]) {
      expect(objectionTo(expression), expression).toBe(undefined);
      const start = process.cpuUsage();
      reason(expression);
      const { user, system } = process.cpuUsage(start);
      expect((user + system) / 1000, expression).toBeLessThan(bound(200, 1000));
    }
  });
});

// Where libpcap is there, this is nothing to skip: it cannot be seen on this machine.
if (!isThere) {
  it('without libpcap a filter tells so', () => {
    expect(() => compileFilter('tcp', 1, 0)).toThrow(LibpcapMissing);
  });
}

describe('names that libpcap would look up', () => {
  it.each([
    'host localhost.example',
    'localhost.example',
    'src localhost',
    'dst host localhost',
    'net loopback',
    'ether host router',
    'arp host router',
    'ip6 host router',
    'host \\localhost',
    'host TCP',
    'host 10.0.0.1.example',
    'host 10.0.0.1.5',
    'host 0x7f.1x',
    'host dead',
    'host dead:beef',
    'host beef:',
    'host fe80::1%eth0',
    'host fd00::1z',
    'host 10.0.0.1 or router',
    'host 10.0.0.1 or not router',
    'host (10.0.0.1 or router)',
    'port 80 or host router',
    'port 80 or src router',
    'port 80 and tcp or router',
    'port 80 or 10.0.0.1 or router',
    'port 80 and 5 > 3 or router',
    'port 80 and len > 3 or router',
    'port 80 or vlan 5 or router',
    'host 10.0.0.1 and (port 80) or router',
    '(port 80) or router',
    'port 80 or (proto 6) or router',
    'port 80 or (net 10 or router)',
    'not router',
    'tcp and router',
    'net 10.0.0.0 mask router',
    'net router/24',
    'llc ui or router',
    'llc (router)',
    'type mgt subtype beacon or router',
    'decnet host router',
    'vxlan',
    'host 10.0.0.1 or vxlan',
  ])('%s is refused', (expression) => {
    expect(objectionTo(expression)).toMatch(/not looked up, give the address|is no address/);
    expect(reason(expression)).toBe(objectionTo(expression));
  });

  it('are not those of services and protocols, in their place', () => {
    for (const expression of [
      'port ssh',
      'src port ssh',
      'tcp dst port http or https',
      'port ssh or 80 or not domain',
      'not port (ssh or domain)',
      'port ssh and not (domain or http)',
      'portrange ssh-domain',
      'ip proto ospf',
      'proto \\tcp',
      'ether proto \\arp',
      'ip6 proto ipv6-icmp or ospf',
    ]) {
      expect(objectionTo(expression), expression).toBe(undefined);
      if (isThere) expect(reason(expression), expression).toBe('compiles');
    }
  });

  it('are not addresses, however they are written', () => {
    for (const expression of [
      'host 10.0.0.1',
      'net 10.1',
      'net 10',
      'net 192.168.1.0/24',
      'net 10.0.0.0 mask 255.0.0.0',
      'host fd00::1',
      'net 2001:db8::/32',
      'net ::/0',
      'ip6 host ::ffff:1.2.3.4',
      'ether host 02:00:00:00:00:01',
      'ether host 2-0-0-0-0-1',
      'ether host 02.00.00.00.00.01',
      'ether host 0200.0000.0001',
      'ether host 0200dead0001',
      'ether[0:4] = 0x02000000 and ether[4:2]=1',
      'tcp[tcpflags]&(tcp-syn|tcp-fin)!=0&&!src and dst net 10',
    ]) {
      expect(objectionTo(expression), expression).toBe(undefined);
      if (isThere) expect(reason(expression), expression).toBe('compiles');
    }
  });
});

describe('what else is refused before libpcap sees it', () => {
  it.each([
    ['ip6 protochain 6', /protochain is not supported: its program loops/],
    ['gateway router', /gateway is not supported/],
    ['inbound', /inbound is not supported: the direction/],
    ['outbound and tcp', /outbound is not supported/],
    ['tcp\0', /character at 3 is not printable ASCII/],
    ['host é', /character at 5 is not printable ASCII/],
    ['tcp\x1b[0m', /character at 3/],
    [`tcp${' '.repeat(MAX_BYTES)}`, /2051 bytes, at most 2048/],
    ['('.repeat(600), /600 words and signs, at most 512/],
    [`port ${Array.from({ length: MAX_VALUES + 1 }, (_, index) => index).join(' or ')}`, /65 values, at most 64/],
    [`portrange ${Array.from({ length: 22 }, (_, index) => `${index}-${index + 1}`).join(' or ')}`, /66 values/],
  ])('%j', (expression, words) => {
    expect(reason(expression)).toMatch(words);
  });
});
