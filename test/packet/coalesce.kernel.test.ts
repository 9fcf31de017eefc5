// Cutting and coalescing against the running kernel. As a judge of bytes: what it makes of the same super-frames on the way to a device that can
// do nothing itself. As a peer: its sockets talk through two TUNs with all of it between them.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { coalescer } from '../../src/packet/coalesce.ts';
import { cut, type PieceSink } from '../../src/packet/cut.ts';
import {
  GSO_ECN,
  GSO_NONE,
  GSO_TCPV4,
  GSO_TCPV6,
  GSO_UDP_L4,
  NEEDS_CHECKSUM,
  plainVnetHeader,
  readVnetHeader,
  VNET_HEADER_BYTES,
  type VnetHeader,
  writeVnetHeader,
} from '../../src/packet/vnet-header.ts';
import * as libc from '../../src/sys/libc.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { random } from '../harness/random.ts';
import { tcpPacket, udpPacket } from './frames.ts';
import { openSuperDevice } from './super-device.ts';
import { bytesOf, coalesceAll, cutAll, ETHERNET4, ETHERNET6, fixIpv4, wholeTcp, wholeUdp } from './wire.ts';

const EAGAIN = -11;
describe('the kernel as a judge: one bridge, a TAP that takes super-frames, and one that takes none', () => {
  let ns: Namespace;
  let into = -1;
  let outOf = -1;
  const out = Buffer.alloc(70_000);

  beforeAll(() => {
    ns = createNamespace();
    ns.run('sysctl', '-qw', 'net.ipv6.conf.default.disable_ipv6=1');
    into = openSuperDevice(ns, 'able', 'tap');
    outOf = openSuperDevice(ns, 'plain', 'tap', false);
    ns.ip('link add name bridge0 type bridge stp_state 0 forward_delay 0');
    for (const device of ['able', 'plain']) ns.ip(`link set ${device} master bridge0 mtu 9000`);
    for (const device of ['bridge0', 'able', 'plain']) ns.ip(`link set ${device} up`);
  });
  afterAll(() => {
    libc.close(into);
    libc.close(outOf);
    ns[Symbol.dispose]();
  });

  /** What the kernel makes of a super-frame: so many frames. */
  async function kernelCuts(frame: Buffer, header: VnetHeader, expected: number): Promise<Buffer[]> {
    const whole = Buffer.alloc(VNET_HEADER_BYTES + frame.length);
    writeVnetHeader(whole, 0, header);
    frame.copy(whole, VNET_HEADER_BYTES);
    const written = libc.write(into, whole, whole.length);
    if (written !== whole.length) throw new Error(`the kernel refuses ${JSON.stringify(header)} with ${written}`);
    const frames: Buffer[] = [];
    const deadline = performance.now() + 5000;
    while (frames.length < expected && performance.now() < deadline) {
      const size = libc.read(outOf, out, out.length);
      if (size === EAGAIN) await sleep(1);
      // The bridge tells of groups, from an address of its own.
      else if (out.subarray(6, 12).equals(ETHERNET4.subarray(6, 12))) frames.push(Buffer.from(out.subarray(0, size)));
    }
    return frames;
  }

  /** Fails with the first frame that differs, its headers in hex. */
  function expectSame(theirs: Buffer[], ours: Buffer[], what: string): void {
    const at = ours.findIndex((frame, index) => !theirs[index]?.equals(frame));
    const hex = (frame: Buffer | undefined) => frame && `${frame.length} bytes ${frame.toString('hex', 0, 110)}`;
    if (at >= 0) expect(hex(theirs[at]), `frame ${at} of ${ours.length}: ${what}`).toBe(hex(ours[at]));
    expect(theirs.length, what).toBe(ours.length);
  }

  function linkOf(version: 4 | 6, tagged: boolean): Buffer {
    const link = version === 4 ? ETHERNET4 : ETHERNET6;
    return tagged ? Buffer.concat([link.subarray(0, 12), Buffer.from('81000007', 'hex'), link.subarray(12)]) : link;
  }

  it('cuts super-frames byte for byte as we do', async () => {
    const dice = random('judge');
    for (let round = 0; round < 60; round++) {
      const version = dice.pick([4, 6] as const);
      const isTcp = dice.next() < 0.6;
      const gsoSize = dice.integer(isTcp ? 100 : 600, 1400);
      const payload = bytesOf(dice.integer(gsoSize + 1, isTcp ? 30_000 : Math.min(gsoSize * 60, 60_000)), round);
      const options = dice.next() < 0.5 ? Buffer.alloc(0) : Buffer.from('0101080a0000000100000002', 'hex');
      const flags = 0x10 | dice.pick([0, 0x08, 0x01, 0x09]) | dice.pick([0, 0x80]);
      const link = linkOf(version, dice.next() < 0.3);
      const l3Bytes = version === 4 ? 20 : 40;
      const identification = dice.integer(0, 0xffff);
      const packet = isTcp
        ? tcpPacket({ version, payload, sequence: 0xffff_f000, flags, options, identification })
        : udpPacket(version, payload);
      const gsoType = isTcp ? (version === 4 ? GSO_TCPV4 : GSO_TCPV6) | ((flags & 0x80) !== 0 ? GSO_ECN : 0) : GSO_UDP_L4;
      const headerLength = link.length + l3Bytes + (isTcp ? 20 + options.length : 8);
      const checksumStart = link.length + l3Bytes;
      const header = { flags: NEEDS_CHECKSUM, gsoType, headerLength, gsoSize, checksumStart, checksumOffset: isTcp ? 16 : 6 };
      const frame = Buffer.concat([link, packet]);
      const ours = cutAll(frame, header, { ethernet: true }) as Buffer[];
      const theirs = await kernelCuts(frame, header, ours.length);
      expectSame(theirs, ours, `round ${round}: ${JSON.stringify(header)}`);
    }
  });

  it('makes of what we coalesce the frames that it was, byte for byte', async () => {
    const dice = random('back');
    for (let round = 0; round < 60; round++) {
      const version = dice.pick([4, 6] as const);
      const isTcp = dice.next() < 0.6;
      const size = dice.integer(100, 1400);
      const count = dice.integer(2, 40);
      const options = dice.next() < 0.5 ? Buffer.alloc(0) : Buffer.from('0101080a0000000100000002', 'hex');
      const link = linkOf(version, dice.next() < 0.3);
      const frames = Array.from({ length: count }, (_, index) => {
        const isLast = index === count - 1;
        const payload = bytesOf(isLast ? dice.integer(1, size) : size, round * 100 + index);
        const flags = isLast && dice.next() < 0.5 ? 0x18 : 0x10;
        const identification = (0xfff0 + index) & 0xffff;
        if (isTcp) return wholeTcp({ version, payload, sequence: (index * size) >>> 0, flags, options, identification });
        const datagram = wholeUdp(version, payload);
        if (version === 4) datagram.writeUInt16BE(identification, 4);
        return version === 4 ? fixIpv4(datagram) : datagram;
      }).map((frame) => Buffer.concat([link, frame]));
      const [joined, ...more] = coalesceAll(frames, { ethernet: true });
      expect(more).toEqual([]);
      const theirs = await kernelCuts(joined?.frame as Buffer, joined?.header as VnetHeader, frames.length);
      expectSame(theirs, frames, `round ${round}: ${JSON.stringify(joined?.header)}`);
    }
  });

  it('completes a checksum as we do', async () => {
    for (const version of [4, 6] as const) {
      const link = linkOf(version, false);
      const checksumStart = link.length + (version === 4 ? 20 : 40);
      const frame = Buffer.concat([link, tcpPacket({ version, payload: Buffer.from('hello') })]);
      const header = { ...plainVnetHeader(), flags: NEEDS_CHECKSUM, gsoType: GSO_NONE, checksumStart, checksumOffset: 16 };
      expectSame(await kernelCuts(frame, header, 1), cutAll(frame, header, { ethernet: true }) as Buffer[], `IPv${version}`);
    }
  });
});

/** Sends or receives what `random.Random(SEED)` of Python gives, and tells the digest of what was received. */
const TCP = `
import hashlib, random, socket, sys
role, host, port, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
data = random.Random(port).randbytes(size)
family = socket.AF_INET6 if ':' in host else socket.AF_INET
if role == 'serve':
    listener = socket.socket(family); listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port)); listener.listen(); print('ready', flush=True)
    peer = listener.accept()[0]; got = b''.join(iter(lambda: peer.recv(1 << 20), b''))
    peer.sendall(hashlib.sha256(got).digest())
else:
    peer = socket.create_connection((host, port)); peer.sendall(data); peer.shutdown(socket.SHUT_WR)
    print('same' if peer.recv(32, socket.MSG_WAITALL) == hashlib.sha256(data).digest() else 'differs', flush=True)
`;
/** Datagrams of 1,000 bytes, sent 40 at a time with UDP_SEGMENT; each is received by itself, with its number. */
const UDP = `
import random, socket, struct, sys
role, host, port, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
family = socket.AF_INET6 if ':' in host else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
body = random.Random(port).randbytes(992)
def datagram(n): return struct.pack('>Q', n) + body
if role == 'serve':
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, 'SO_RCVBUFFORCE') else 33, 1 << 24)
    s.bind((host, port)); s.settimeout(30); print('ready', flush=True)
    wrong = 0
    for n in range(count):
        got = s.recv(65536)
        if got != datagram(n): wrong += 1
    print('wrong', wrong, flush=True)
else:
    s.connect((host, port))
    for first in range(0, count, 40):
        s.sendmsg([b''.join(datagram(n) for n in range(first, min(count, first + 40)))], [(socket.SOL_UDP if hasattr(socket, 'SOL_UDP') else 17, 103, struct.pack('H', 1000))])
    print('sent', flush=True)
`;

/** One end of the wire: a TUN, what is cut off it, and what is coalesced into it. */
class End implements Disposable {
  readonly fd: number;
  peer: End | undefined;
  most = 1400;
  pieces = 0;
  fromKernel = 0;
  supers = 0;
  refused: number[] = [];
  readonly #poll: libc.Poll;
  readonly #frame = Buffer.alloc(70_000);
  readonly #header = plainVnetHeader();
  readonly #joined = coalescer({
    ethernet: false,
    offload: true,
    write: (bytes, start, length) => {
      if (bytes[start + 1] !== 0) this.supers++;
      const part = bytes.subarray(start, start + length);
      const written = libc.write(this.fd, part, length);
      if (written !== length) this.refused.push(written);
    },
  });
  readonly #sink: PieceSink = {
    buffer: Buffer.alloc(3000),
    place: () => 7,
    put: (start, bytes) => {
      this.pieces++;
      this.peer?.give(this.#sink.buffer, start, bytes);
    },
  };

  constructor(ns: Namespace) {
    this.fd = openSuperDevice(ns, 'tun0', 'tun');
    this.#poll = libc.pollReadable(this.fd, () => this.#drain());
  }

  give(bytes: Buffer, start: number, length: number): void {
    expect(length).toBeLessThanOrEqual(1400);
    this.#joined.add(bytes, start, length);
  }

  #drain(): void {
    for (let round = 0; round < 64; round++) {
      const size = libc.read(this.fd, this.#frame, this.#frame.length);
      if (size < VNET_HEADER_BYTES) break;
      readVnetHeader(this.#frame, 0, this.#header);
      this.fromKernel++;
      const outcome = cut(this.#frame, VNET_HEADER_BYTES, size - VNET_HEADER_BYTES, this.#header, false, this.most, this.#sink);
      if (typeof outcome !== 'number') this.refused.push(0);
    }
    this.peer?.flush();
  }

  flush(): void {
    this.#joined.flush();
  }

  [Symbol.dispose](): void {
    this.#poll.close();
    libc.close(this.fd);
  }
}

describe('the kernel as a peer: two namespaces whose sockets talk through it all', () => {
  let a: Namespace;
  let b: Namespace;
  let left: End;
  let right: End;

  beforeAll(() => {
    [a, b] = [createNamespace(), createNamespace()];
    [left, right] = [new End(a), new End(b)];
    [left.peer, right.peer] = [right, left];
    for (const [ns, number] of [
      [a, 1],
      [b, 2],
    ] as const) {
      ns.ip(`address add 192.0.2.${number}/24 dev tun0`);
      ns.ip(`address add fd00::${number}/64 dev tun0 nodad`);
      ns.ip('link set tun0 up mtu 1500');
    }
  });
  afterAll(() => {
    left[Symbol.dispose]();
    right[Symbol.dispose]();
    a[Symbol.dispose]();
    b[Symbol.dispose]();
  });

  const errors = (ns: Namespace): string[] => {
    const lines = ns.run(
      'nstat',
      '-asz',
      'TcpInErrs',
      'TcpInCsumErrors',
      'UdpInCsumErrors',
      'Udp6InCsumErrors',
      'IpInHdrErrors',
      'Ip6InHdrErrors',
    );
    return lines.split('\n').filter((line) => / [1-9]\d*\s+0\.0$/.test(line));
  };

  async function talk(script: string, host: string, port: number, size: number): Promise<[server: string, client: string]> {
    await using server = b.spawn(['python3', '-c', script, 'serve', host, `${port}`, `${size}`]);
    await server.until(({ stdout }) => stdout.includes('ready'), 'server to listen', 20_000);
    const client = await a.exec(['python3', '-c', script, 'ask', host, `${port}`, `${size}`]);
    const { stdout, stderr } = await server.ended;
    return [stdout + stderr, client.stdout + client.stderr];
  }

  it.each([
    ['192.0.2.2', 5001, 1400],
    ['fd00::2', 5002, 1400],
    // What the path takes shrinks behind the back of the connection's MSS.
    ['192.0.2.2', 5003, 700],
    ['fd00::2', 5004, 1280],
  ] as const)('TCP to %s (port %i), pieces of at most %i bytes: 8 MiB are the same', async (host, port, most) => {
    const before = { pieces: left.pieces, fromKernel: left.fromKernel, supers: right.supers };
    left.most = most;
    expect(await talk(TCP, host, port, 8 << 20)).toEqual(['ready\n', 'same\n']);
    left.most = 1400;
    expect([...left.refused, ...right.refused, ...errors(a), ...errors(b)]).toEqual([]);
    // It was worth it: super-frames came, were cut, and went.
    const pieces = left.pieces - before.pieces;
    expect(pieces).toBeGreaterThan((8 << 20) / most);
    expect(left.fromKernel - before.fromKernel).toBeLessThan(pieces / 4);
    expect(right.supers - before.supers).toBeGreaterThan(0);
    expect(right.supers - before.supers).toBeLessThan(pieces / 4);
  });

  it.each([
    ['192.0.2.2', 5005],
    ['fd00::2', 5006],
  ] as const)('UDP to %s: 4,000 datagrams, sent as super-frames, come one by one', async (host, port) => {
    const before = right.supers;
    expect(await talk(UDP, host, port, 4000)).toEqual(['ready\nwrong 0\n', 'sent\n']);
    expect([...left.refused, ...right.refused, ...errors(a), ...errors(b)]).toEqual([]);
    expect(right.supers - before).toBeGreaterThan(50);
  });
});
