// UDP between two namespaces: datagrams that leave and come many at a time, as Python and tcpdump see them; marks, devices, fragments, full queues.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { describe, expect, it } from 'vitest';
import { inNamespace } from '../../src/sys/marked-tun.ts';
import { formatSocketAddress, parseSocketAddress, type SocketAddress } from '../../src/sys/socket-address.ts';
import type { SocketFamily } from '../../src/sys/socket-open.ts';
import { openUdp, type UdpOptions, type UdpSocket } from '../../src/sys/udp-socket.ts';
import { SOON } from '../harness/bound.ts';
import { createCable, createNamespace, type Namespace } from '../harness/namespace.ts';
import type { Child } from '../harness/process.ts';
import { startTcpdump } from '../harness/tcpdump.ts';

const EMSGSIZE = 90;
const ENETUNREACH = 101;
const EAFNOSUPPORT = 97;
const EBADF = 9;
const MEBIBYTE = 1024 * 1024;
const FAMILIES = ['IPv4', 'IPv6'] as const;
type Ip = (typeof FAMILIES)[number];

const NEAR = { IPv4: '192.0.2.1', IPv6: '[2001:db8::1]' };
const FAR = { IPv4: '192.0.2.2', IPv6: '[2001:db8::2]' };

const at = (host: string, port: number | string): SocketAddress => {
  const address = parseSocketAddress(`${host}:${port}`);
  if (!address) throw new Error(`${host}:${port} is no address`);
  return address;
};
const portOfText = (address: string): string => address.slice(address.lastIndexOf(':') + 1);

interface Came {
  datagrams: Buffer[];
  from: string;
  segmentBytes: number;
}

/** A socket of ours in a namespace, and what has come. */
class Ours implements Disposable {
  readonly socket: UdpSocket;
  readonly came: Came[] = [];
  flushes = 0;

  constructor(ns: Namespace, options: Partial<UdpOptions> = {}, only?: SocketFamily) {
    const all = { listen: ':0', mark: 0, device: '', bufferBytes: 4 * MEBIBYTE, ...options };
    this.socket = inNamespace(ns.name, () => openUdp(all, only));
  }

  get port(): string {
    return portOfText(this.socket.address);
  }

  get datagrams(): Buffer[] {
    return this.came.flatMap(({ datagrams }) => datagrams);
  }

  listen(): this {
    this.socket.listen(
      (bytes, start, length, segmentBytes, from) => {
        const datagrams: Buffer[] = [];
        for (let done = 0; done < length; done += segmentBytes) {
          datagrams.push(Buffer.from(bytes.subarray(start + done, start + Math.min(length, done + segmentBytes))));
        }
        this.came.push({ datagrams, from: formatSocketAddress(from), segmentBytes });
      },
      () => this.flushes++,
    );
    return this;
  }

  async has(count: number): Promise<void> {
    await expect.poll(() => this.datagrams.length, SOON).toBeGreaterThanOrEqual(count);
  }

  send(to: SocketAddress, content: Buffer, segmentBytes = content.length): number {
    return this.socket.send(to, content, 0, content.length, segmentBytes);
  }

  [Symbol.dispose](): void {
    this.socket.close();
  }
}

async function withCable(work: (near: Namespace, far: Namespace) => Promise<void>): Promise<void> {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: far, device: 'e1', address: '192.0.2.2/24' });
  near.ip('address add 2001:db8::1/64 dev e0 nodad');
  far.ip('address add 2001:db8::2/64 dev e1 nodad');
  await work(near, far);
}

/** A plain socket, as foreign software has: says each datagram's length and hash, of which port it is first. */
async function pythonReceiver(ns: Namespace, ip: Ip): Promise<{ child: Child; port: number; lines(): string[] }> {
  const script = `
import socket, sys, hashlib
s = socket.socket(socket.AF_INET if sys.argv[1] == 'IPv4' else socket.AF_INET6, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, 33, 8 << 20)
s.bind(('', 0))
print(s.getsockname()[1], flush=True)
while True:
    data = s.recv(65536)
    print(len(data), hashlib.sha256(data).hexdigest()[:16], flush=True)
`;
  const child = ns.spawn(['/usr/bin/python3', '-c', script, ip]);
  await child.until(({ stdout }) => stdout.includes('\n'), 'python to listen', 20_000);
  const all = () => child.stdout.split('\n').filter(Boolean);
  return { child, port: Number(all()[0]), lines: () => all().slice(1) };
}

const described = (datagram: Buffer): string => `${datagram.length} ${createHash('sha256').update(datagram).digest('hex').slice(0, 16)}`;

function patterned(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => (index * 7 + (index >> 8)) & 0xff));
}

function cut(content: Buffer, segmentBytes: number): Buffer[] {
  return Array.from({ length: Math.ceil(content.length / segmentBytes) }, (_, index) =>
    content.subarray(index * segmentBytes, (index + 1) * segmentBytes),
  );
}

const openFds = (): number => readdirSync('/proc/self/fd').length;

describe.each(FAMILIES)('over %s', (ip) => {
  it('sends many datagrams in a call, which arrive one by one', async () => {
    await withCable(async (near, far) => {
      using ours = new Ours(near);
      const python = await pythonReceiver(far, ip);
      await using _child = python.child;
      const to = at(FAR[ip], python.port);
      // More than 64 segments, more than 65,507 bytes, a shorter last one, one alone, one that is empty, one of the largest size.
      const sent: [Buffer, number][] = [
        [patterned(100 * 300 + 17), 300],
        [patterned(65_536), 1400],
        [patterned(1400), 1400],
        [patterned(3), 1],
        [Buffer.alloc(0), 1400],
        [patterned(65_507), 65_507],
      ];
      for (const [content, segmentBytes] of sent) expect(ours.send(to, content, segmentBytes)).toBe(0);
      const expected = sent.flatMap(([content, segmentBytes]) => (content.length === 0 ? [content] : cut(content, segmentBytes)));
      await expect.poll(() => python.lines().length, SOON).toBe(expected.length);
      expect(python.lines()).toEqual(expected.map(described));
    });
  });

  it('takes them together, whole and in order, from the middle of a buffer', async () => {
    await withCable(async (near, far) => {
      using ours = new Ours(near);
      using theirs = new Ours(far).listen();
      const content = patterned(44 * 1400 + 100);
      // So large that it is mapped memory, at a high address.
      const around = Buffer.concat([Buffer.alloc(77, 0xee), content, Buffer.alloc(40 * MEBIBYTE, 0xee)]);
      expect(ours.socket.send(at(FAR[ip], theirs.port), around, 77, content.length, 1400)).toBe(0);
      await theirs.has(45);
      expect(theirs.datagrams.map(described)).toEqual(cut(content, 1400).map(described));
      expect(new Set(theirs.came.map(({ from }) => from))).toEqual(new Set([`${NEAR[ip]}:${ours.port}`]));
      // Nothing in between takes them apart, so they come as they left.
      expect(theirs.came.length).toBeLessThan(5);
      expect(theirs.came[0]?.segmentBytes).toBe(1400);
      // More than the kernel segments in one call.
      expect(ours.send(at(FAR[ip], theirs.port), patterned(60_000), 300)).toBe(0);
      await theirs.has(245);
      expect(theirs.came.length).toBeLessThan(15);
      expect(theirs.flushes).toBeGreaterThan(0);
    });
  });

  it('takes what others send one by one, of any size', async () => {
    await withCable(async (near, far) => {
      using ours = new Ours(near).listen();
      const script = `
import socket, sys
s = socket.socket(socket.AF_INET if sys.argv[1] == 'IPv4' else socket.AF_INET6, socket.SOCK_DGRAM)
for size in (0, 1, 2, 1400, 1400, 9, 65507, 1400):
    s.sendto(bytes(size), (sys.argv[2], int(sys.argv[3])))
`;
      far.run('/usr/bin/python3', '-c', script, ip, NEAR[ip].replace(/[[\]]/g, ''), ours.port);
      // The empty one holds nothing for anybody.
      await ours.has(7);
      expect(ours.datagrams.map(({ length }) => length)).toEqual([1, 2, 1400, 1400, 9, 65_507, 1400]);
    });
  });

  it('sends each for itself what is too large to be segmented, in fragments', async () => {
    await withCable(async (near, far) => {
      using ours = new Ours(near);
      using theirs = new Ours(far).listen();
      await using wire = await startTcpdump(near, 'e0', 'out');
      const content = patterned(7 * 2000 + 5);
      expect(ours.send(at(FAR[ip], theirs.port), content, 2000)).toBe(0);
      await theirs.has(8);
      expect(theirs.datagrams.map(described)).toEqual(cut(content, 2000).map(described));
      await expect.poll(() => wire.frames(ip === 'IPv4' ? 'ip[6:2] & 0x3fff != 0' : 'ip6[6] == 44').length, SOON).toBe(14);
    });
  });

  it('sends whole or not at all where that is asked for, and only there', async () => {
    await withCable(async (near, far) => {
      using ours = new Ours(near);
      using theirs = new Ours(far).listen();
      await using wire = await startTcpdump(near, 'e0', 'out');
      const to = at(FAR[ip], theirs.port);
      const most = ip === 'IPv4' ? 1472 : 1452;
      const content = patterned(3000);
      expect(ours.send(to, content.subarray(0, 200))).toBe(0);
      expect(ours.socket.sendWhole(to, content, 0, most)).toBe(0);
      expect(ours.socket.sendWhole(to, content, 0, most + 1)).toBe(EMSGSIZE);
      expect(ours.socket.sendWhole(to, content, 0, 3000)).toBe(EMSGSIZE);
      expect(ours.send(to, content)).toBe(0);
      expect(ours.send(to, content.subarray(0, 100))).toBe(0);
      await theirs.has(4);
      expect(theirs.datagrams.map(({ length }) => length)).toEqual([200, most, 3000, 100]);
      if (ip === 'IPv6') return;
      // Don't Fragment is on that one alone.
      await expect.poll(() => wire.frames('udp or ip[6:2] & 0x3fff != 0').length, SOON).toBeGreaterThanOrEqual(6);
      expect(wire.frames('ip[6] & 0x40 != 0 and udp').map(({ length }) => length)).toEqual([1514]);
    });
  });

  it('hears the others after nobody was at a port of one', async () => {
    await withCable(async (near, far) => {
      using ours = new Ours(near).listen();
      using theirs = new Ours(far);
      await using wire = await startTcpdump(near, 'e0', 'in');
      const nobody = at(FAR[ip], 9);
      for (let round = 0; round < 3; round++) {
        expect(ours.send(nobody, Buffer.from('anybody?'))).toBe(0);
        expect(ours.send(nobody, Buffer.alloc(2000), 500)).toBe(0);
        expect(ours.socket.sendWhole(nobody, Buffer.from('anybody?'), 0, 8)).toBe(0);
        await expect.poll(() => wire.frames(ip === 'IPv4' ? 'icmp' : 'icmp6 and ip6[40] == 1').length, SOON).toBeGreaterThan(round);
        expect(theirs.send(at(NEAR[ip], ours.port), Buffer.from(`round ${round}`))).toBe(0);
        await ours.has(round + 1);
        expect(ours.send(at(FAR[ip], theirs.port), Buffer.from('still here'))).toBe(0);
      }
    });
  });

  it('counts what its queue had no place for', async () => {
    await withCable(async (near, far) => {
      using ours = new Ours(near);
      using theirs = new Ours(far, { bufferBytes: 30_000 });
      const to = at(FAR[ip], theirs.port);
      for (let index = 0; index < 300; index++) expect(ours.send(to, patterned(1000 + index))).toBe(0);
      theirs.listen();
      const drops = () => Number(/(\d+)\s*$/m.exec(udpLine(far, theirs.port))?.[1]);
      await expect.poll(() => theirs.datagrams.length + drops(), SOON).toBe(300);
      expect(drops()).toBeGreaterThan(100);
      // The kernel says it with the next one that it queues.
      expect(ours.send(to, patterned(10))).toBe(0);
      await expect.poll(() => theirs.socket.overflows, SOON).toBe(drops());
      expect(ours.send(to, patterned(10))).toBe(0);
      await expect.poll(() => theirs.datagrams.at(-2)?.length, SOON).toBe(10);
      expect(theirs.socket.overflows).toBe(drops());
    });
  });

  it('takes the way that its mark or its device says', async () => {
    await withCable(async (near, far) => {
      const family = ip === 'IPv4' ? '-4' : '-6';
      const net = ip === 'IPv4' ? '198.51.100.0/24' : '2001:db8:1::/64';
      const host = ip === 'IPv4' ? '198.51.100.1' : '[2001:db8:1::1]';
      far.ip(`address add ${host.replace(/[[\]]/g, '')}/${ip === 'IPv4' ? 32 : 128} dev lo`);
      near.ip(`${family} rule add fwmark 0xca6c table 100`);
      near.ip(`${family} route add ${net} via ${FAR[ip].replace(/[[\]]/g, '')} dev e0 table 100`);
      using theirs = new Ours(far).listen();
      using plain = new Ours(near);
      using marked = new Ours(near, { mark: 0xca6c });
      using tied = new Ours(near, { device: 'lo' }).listen();
      const to = at(host, theirs.port);
      expect(plain.send(to, patterned(10))).toBe(ENETUNREACH);
      expect(plain.send(to, patterned(3000), 100)).toBe(ENETUNREACH);
      expect(marked.send(to, patterned(11))).toBe(0);
      await theirs.has(1);
      expect(theirs.came.map(({ from }) => from)).toEqual([`${NEAR[ip]}:${marked.port}`]);
      // What comes by another device is not for this socket, and what it sends goes nowhere else.
      tied.send(at(FAR[ip], theirs.port), patterned(12));
      expect(theirs.send(at(NEAR[ip], tied.port), patterned(13))).toBe(0);
      expect(theirs.send(at(NEAR[ip], plain.port), patterned(14))).toBe(0);
      plain.listen();
      await plain.has(1);
      expect(plain.send(at(ip === 'IPv4' ? '127.0.0.1' : '[::1]', tied.port), patterned(15))).toBe(0);
      await tied.has(1);
      expect([tied, theirs].map(({ datagrams }) => datagrams.map(({ length }) => length))).toEqual([[15], [11]]);
    });
  });
});

/** Its line of /proc/net/udp6. */
function udpLine(ns: Namespace, port: string): string {
  const hex = Number(port).toString(16).toUpperCase().padStart(4, '0');
  return inNamespace(ns.name, () => readFileSync('/proc/thread-self/net/udp6', 'utf8'))
    .split('\n')
    .filter((line) => line.includes(`:${hex} `))
    .join('\n');
}

it('serves both families with one socket, and one alone where it is bound so', async () => {
  await withCable(async (near, far) => {
    using both = new Ours(far).listen();
    using four = new Ours(far, { listen: '192.0.2.2:0' }).listen();
    using six = new Ours(far, { listen: '[2001:db8::2]:0' }).listen();
    using ours = new Ours(near);
    expect([both.socket.address.slice(0, 5), four.socket.address, six.socket.address]).toEqual([
      '[::]:',
      `192.0.2.2:${four.port}`,
      `[2001:db8::2]:${six.port}`,
    ]);
    for (const ip of FAMILIES)
      for (const { port } of [both, four, six]) expect(ours.send(at(FAR[ip], port), Buffer.from(ip)), `${ip} ${port}`).toBe(0);
    for (const [theirs, count] of [
      [both, 2],
      [four, 1],
      [six, 1],
    ] as const)
      await theirs.has(count);
    expect(both.datagrams.map(String)).toEqual(['IPv4', 'IPv6']);
    expect(four.datagrams.map(String)).toEqual(['IPv4']);
    expect(six.datagrams.map(String)).toEqual(['IPv6']);
    // One bound to IPv4 has no way to IPv6.
    expect(four.send(at(NEAR.IPv6, ours.port), Buffer.from('?'))).not.toBe(0);
  });
});

it('takes what comes over IPv6 without a checksum where that is asked for, and only there', async () => {
  await withCable(async (near, far) => {
    using some = new Ours(far).listen();
    using every = new Ours(far, { uncheckedIpv6: true }).listen();
    // UDP_NO_CHECK6_TX, then with it off again.
    const script = `
import socket
s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
for unchecked in (1, 0):
    s.setsockopt(17, 101, unchecked)
    for port in (${some.port}, ${every.port}): s.sendto(b'unchecked' if unchecked else b'checked', ('2001:db8::2', port))`;
    await near.exec(['/usr/bin/python3', '-c', script]);
    await every.has(2);
    await some.has(1);
    expect(every.datagrams.map(String)).toEqual(['unchecked', 'checked']);
    expect(some.datagrams.map(String)).toEqual(['checked']);
  });
});

it('serves IPv4 alone where any address of it is asked for', async () => {
  await withCable(async (near, far) => {
    using theirs = new Ours(far, { listen: '0.0.0.0:0' }).listen();
    using ours = new Ours(near);
    expect(theirs.socket.address).toBe(`0.0.0.0:${theirs.port}`);
    for (const ip of ['IPv6', 'IPv4'] as const) expect(ours.send(at(FAR[ip], theirs.port), Buffer.from(ip))).toBe(0);
    await theirs.has(1);
    expect(theirs.datagrams.map(String)).toEqual(['IPv4']);
  });
});

it('goes on after errors that end polling, many of them too', async () => {
  await withCable(async (near, far) => {
    using ours = new Ours(near, { listen: ':7777' }).listen();
    using theirs = new Ours(far);
    // SOCK_DESTROY leaves an error in the socket, which stays bound.
    for (const [round, times] of [1, 1, 20].entries()) {
      const script = `for i in $(seq ${times}); do ss -K -una sport = 7777; sleep 0.01; done`;
      expect(await near.exec(['sh', '-c', script])).toMatchObject({ code: 0, stderr: '' });
      expect(theirs.send(at(NEAR.IPv4, 7777), Buffer.from(`round ${round}`))).toBe(0);
      await ours.has(round + 1);
    }
    expect(ours.datagrams.map(String)).toEqual(['round 0', 'round 1', 'round 2']);
  });
});

it('keeps its memory while garbage is collected', async () => {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc') as () => void;
  await withCable(async (near, far) => {
    using ours = new Ours(near);
    using theirs = new Ours(far).listen();
    for (let round = 1; round <= 10; round++) {
      gc();
      // What is written over memory that was let go shows here.
      const others = Array.from({ length: 200 }, () => Buffer.alloc(4096, round));
      const content = patterned(30 * 1400);
      expect(ours.send(at(FAR.IPv6, theirs.port), content, 1400)).toBe(0);
      await theirs.has(30 * round);
      expect(theirs.datagrams.slice(-30).map(described)).toEqual(cut(content, 1400).map(described));
      const asMade = Buffer.alloc(4096, round);
      expect(others.every((other) => other.equals(asMade))).toBe(true);
    }
  });
});

it('serves IPv4 by a socket of AF_INET, as where IPv6 is off', async () => {
  await withCable(async (near, far) => {
    using ours = new Ours(near, {}, 'inet').listen();
    using theirs = new Ours(far, { listen: '192.0.2.2:0' }, 'inet').listen();
    expect(ours.socket.address).toBe(`0.0.0.0:${ours.port}`);
    const content = patterned(20 * 1000);
    expect(ours.send(at(FAR.IPv4, theirs.port), content, 1000)).toBe(0);
    await theirs.has(20);
    expect(theirs.datagrams.map(described)).toEqual(cut(content, 1000).map(described));
    expect(theirs.came[0]?.from).toBe(`192.0.2.1:${ours.port}`);
    expect(theirs.socket.sendWhole(at(NEAR.IPv4, ours.port), content, 0, 1472)).toBe(0);
    expect(theirs.socket.sendWhole(at(NEAR.IPv4, ours.port), content, 0, 1473)).toBe(EMSGSIZE);
    await ours.has(1);
    for (const to of [at('[2001:db8::1]', 9), at('', 9)]) {
      expect(ours.send(to, content, 1000)).toBe(EAFNOSUPPORT);
      expect(ours.socket.sendWhole(to, content, 0, 10)).toBe(EAFNOSUPPORT);
    }
    ours.socket.limitMtu(1300);
    expect(() => new Ours(near, { listen: '[2001:db8::1]:0' }, 'inet')).toThrow('EAFNOSUPPORT');
  });
});

it('gets through a path that is narrower than the device', async () => {
  await using near = createNamespace();
  await using between = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '192.0.2.1/24' }, { namespace: between, device: 'n0', address: '192.0.2.254/24' });
  createCable(
    { namespace: between, device: 'f0', address: '198.51.100.254/24' },
    { namespace: far, device: 'e1', address: '198.51.100.1/24' },
  );
  for (const [ns, address, device] of [
    [near, '2001:db8:1::1/64', 'e0'],
    [between, '2001:db8:1::fe/64', 'n0'],
    [between, '2001:db8:2::fe/64', 'f0'],
    [far, '2001:db8:2::1/64', 'e1'],
  ] as const)
    ns.ip(`address add ${address} dev ${device} nodad`);
  between.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1');
  near.ip('route add default via 192.0.2.254');
  near.ip('-6 route add default via 2001:db8:1::fe');
  far.ip('route add default via 198.51.100.254');
  far.ip('-6 route add default via 2001:db8:2::fe');
  between.ip('link set f0 mtu 1300');
  far.ip('link set e1 mtu 1300');
  using ours = new Ours(near);
  using theirs = new Ours(far).listen();
  const content = patterned(10 * 1400);
  const expected = cut(content, 1400).map(described);

  // IPv4 is fragmented on the way; whole it does not get through.
  const four = at('198.51.100.1', theirs.port);
  expect(ours.socket.sendWhole(four, content, 0, 1400)).toBe(0);
  expect(ours.send(four, content, 1400)).toBe(0);
  await theirs.has(10);
  expect(theirs.datagrams.map(described)).toEqual(expected);

  // Over IPv6 the first is lost, and tells the kernel what the path takes.
  const six = at('[2001:db8:2::1]', theirs.port);
  expect(ours.send(six, Buffer.from('small'))).toBe(0);
  await theirs.has(11);
  expect(ours.send(six, content.subarray(0, 1400))).toBe(0);
  const knows = (): string => near.run('ip', '-6', 'route', 'get', '2001:db8:2::1');
  await expect.poll(knows, SOON).toContain('mtu 1300');
  expect(ours.send(six, content, 1400)).toBe(0);
  await theirs.has(21);
  expect(theirs.datagrams.slice(11).map(described)).toEqual(expected);
  // One that must be whole is sent, whatever the path is thought to take.
  expect(ours.socket.sendWhole(six, content, 0, 1452)).toBe(0);
  expect(ours.socket.sendWhole(six, content, 0, 1252)).toBe(0);
  await theirs.has(22);
  expect(theirs.datagrams.at(-1)?.length).toBe(1252);
});

it('cuts into fragments of the limit what does not fit the device, over IPv6', async () => {
  await withCable(async (near, far) => {
    using ours = new Ours(near);
    using theirs = new Ours(far).listen();
    await using wire = await startTcpdump(near, 'e0', 'out');
    const to = at(FAR.IPv6, theirs.port);
    const largest = (): number => Math.max(...wire.frames('ip6[6] == 44').map(({ length }) => length - 14));
    ours.socket.limitMtu(1280);
    expect(ours.send(to, patterned(3000))).toBe(0);
    await expect.poll(() => wire.frames('ip6[6] == 44').length, SOON).toBe(3);
    expect(largest()).toBe(1280);
    // Segments above the limit are no matter: the device takes them.
    expect(ours.send(to, patterned(4 * 1300), 1300)).toBe(0);
    ours.socket.limitMtu(0);
    expect(ours.send(to, patterned(3000))).toBe(0);
    await theirs.has(6);
    expect(theirs.datagrams.map(({ length }) => length)).toEqual([3000, 1300, 1300, 1300, 1300, 3000]);
    await expect.poll(() => wire.frames('ip6[6] == 44').length, SOON).toBe(6);
    expect(largest()).toBeGreaterThan(1400);
  });
});

it('takes a share of a flood in each turn of the event loop, and closes in the middle of it', async () => {
  await withCable(async (near, far) => {
    using ours = new Ours(near);
    const theirs = inNamespace(far.name, () => openUdp({ listen: ':0', mark: 0, device: '', bufferBytes: 32 * MEBIBYTE }));
    const content = patterned(60_000);
    for (let index = 0; index < 60; index++) ours.send(at(FAR.IPv4, portOfText(theirs.address)), content, 1000);
    let [bytes, thisTurn, mostInTurn, afterClose] = [0, 0, 0, 0];
    let closed = false;
    const turns = setInterval(() => {}, 1);
    const nextTurn = (): void => {
      mostInTurn = Math.max(mostInTurn, thisTurn);
      thisTurn = 0;
      if (!closed) setImmediate(nextTurn);
    };
    nextTurn();
    const before = openFds();
    await new Promise<void>((resolve) => {
      theirs.listen(
        (_bytes, _start, length) => {
          if (closed) afterClose++;
          bytes += length;
          thisTurn += length;
          if (bytes < 2_000_000 || closed) return;
          closed = true;
          theirs.close();
          theirs.close();
          setTimeout(resolve, 50);
        },
        () => {
          if (closed) afterClose++;
        },
      );
    });
    clearInterval(turns);
    expect(afterClose).toBe(0);
    expect(mostInTurn).toBeGreaterThan(0);
    expect(mostInTurn).toBeLessThanOrEqual(256 * 1024 + 8 * 65_536);
    expect(openFds()).toBe(before - 1);
    expect(theirs.send(at(FAR.IPv4, 9), content, 0, 10, 10)).toBe(EBADF);
    expect(theirs.sendWhole(at(FAR.IPv4, 9), content, 0, 10)).toBe(EBADF);
    theirs.limitMtu(1280);
  });
});

it('says why it cannot be opened, and leaves nothing open', async () => {
  await withCable(async (near) => {
    using first = new Ours(near, { listen: '192.0.2.1:0' });
    const before = openFds();
    const openings: [Partial<UdpOptions>, string][] = [
      [{ listen: first.socket.address }, 'EADDRINUSE'],
      [{ listen: '203.0.113.1:0' }, 'EADDRNOTAVAIL'],
      [{ listen: '[2001:db8::77]:0' }, 'EADDRNOTAVAIL'],
      [{ device: 'nosuch0' }, 'ENODEV'],
      [{ device: 'a-name-that-is-too-long' }, 'ENODEV'],
      [{ listen: 'localhost:5' }, 'EINVAL'],
    ];
    for (const [options, code] of openings) expect(() => new Ours(near, options), code).toThrow(code);
    expect(openFds()).toBe(before);
  });
});

it('lives on after its device has gone, and sends nothing more', async () => {
  await withCable(async (near, far) => {
    using tied = new Ours(near, { device: 'e0' }).listen();
    using theirs = new Ours(far).listen();
    expect(tied.send(at(FAR.IPv4, theirs.port), Buffer.from('before'))).toBe(0);
    await theirs.has(1);
    near.ip('link del e0');
    for (const ip of FAMILIES) {
      expect(tied.send(at(FAR[ip], theirs.port), patterned(3000), 1000)).not.toBe(0);
      expect(tied.socket.sendWhole(at(FAR[ip], theirs.port), patterned(10), 0, 10)).not.toBe(0);
    }
  });
});

it('is content with smaller buffers where it may not force them, and says what it may not do', async () => {
  await withCable(async (near) => {
    const script = `
import { openUdp } from './src/sys/udp-socket.ts';
const options = { listen: '192.0.2.1:7000', mark: 0, device: 'e0', bufferBytes: 64 << 20 };
const socket = openUdp(options);
console.log(socket.address);
socket.close();
try { openUdp({ ...options, mark: 1 }); } catch (error) { console.log(error.code); }
`;
    const without = ['setpriv', '--bounding-set', '-net_admin,-net_raw', process.execPath, '--input-type=module-typescript', '-e', script];
    expect(await near.exec(without)).toMatchObject({ code: 0, stdout: '192.0.2.1:7000\nEPERM\n' });
  });
});

it('refuses bytes outside of the buffer', () => {
  const socket = openUdp({ listen: '127.0.0.1:0', mark: 0, device: '', bufferBytes: MEBIBYTE });
  const bytes = Buffer.alloc(100);
  const to = parseSocketAddress(socket.address) as SocketAddress;
  const wrong: [number, number, number][] = [
    [0, 101, 10],
    [100, 1, 10],
    [-1, 10, 10],
    [0, -1, 10],
    [0.5, 10, 10],
    [0, 10, 0],
    [0, 10, Number.NaN],
  ];
  for (const [start, length, segmentBytes] of wrong) expect(() => socket.send(to, bytes, start, length, segmentBytes)).toThrow(RangeError);
  expect(() => socket.sendWhole(to, bytes, 0, 101)).toThrow(RangeError);
  expect(socket.send(to, bytes, 0, 100, 100)).toBe(0);
  socket.close();
});
