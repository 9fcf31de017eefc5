// What src/sys/tun.ts relies on, shown on the running kernel: who may attach, what an attach changes, what outlives what.

import { readdirSync, writeSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import * as libc from '../../src/sys/libc.ts';
import { Namespace as Inside } from '../../src/sys/namespace.ts';
import { isErrno, SysError } from '../../src/sys/sys-error.ts';
import {
  attachedFlags,
  attachTun,
  createTun,
  IFF_ATTACH_QUEUE,
  IFF_DETACH_QUEUE,
  IFF_NO_PI,
  IFF_TAP,
  IFF_VNET_HDR,
  setOffload,
  setQueue,
  setTunOwner,
  setVnetHeaderSize,
  type TunShape,
  tunFeatures,
  tunFlags,
} from '../../src/sys/tun.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { link } from '../harness/truth.ts';

const tun: TunShape = { mode: 'tun', multiQueue: false, packetInfo: false, vnetHeader: false };
const tap: TunShape = { ...tun, mode: 'tap' };
const nothing = () => {};

let ns: Namespace;
let inside: Inside;
let fds: number[];
beforeAll(() => {
  ns = createNamespace();
  inside = new Inside(ns.path);
  fds = readdirSync('/proc/self/fd').map(Number);
});
afterAll(() => {
  const left = readdirSync('/proc/self/fd').length;
  inside.close();
  ns[Symbol.dispose]();
  expect(left).toBe(fds.length);
});

const create = (name: string, shape: TunShape, ids: { owner?: number; group?: number } = {}): string =>
  inside.run(() => createTun({ name, ...shape, ...ids }, nothing));
const attach = (name: string, shape: TunShape): number => inside.run(() => attachTun(name, shape));

function errno(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof SysError) return error.code;
    throw error;
  }
  return 'none';
}

/** What a process of another user gets from TUNSETIFF on an fd that root opened: `0`, or an errno. */
function attachAs(uid: number, gid: number, name: string, shape: TunShape): string {
  const become = `$) = "${gid} ${gid}"; POSIX::setgid(${gid}); POSIX::setuid(${uid}) or die; $> == ${uid} or die;`;
  const attach = `my $r = pack("a16 S x22", "${name}", ${tunFlags(shape)}); print ioctl(F, 0x400454ca, $r) ? "0" : 0 + $!;`;
  return ns.run('perl', '-MPOSIX', '-e', `open(F, "+<", "/dev/net/tun") or die; ${become} ${attach}`);
}

/** Whether the kernel may hand large TCP segments to the device (ETHTOOL_GTSO). */
function segmentation(name: string): boolean {
  const ask = `my $v = pack("LL", 0x1e, 0); my $r = pack("a16 P x16", "${name}", $v); ioctl(S, 0x8946, $r) or die $!; print +(unpack("LL", $v))[1];`;
  return ns.run('perl', '-e', `socket(S, 2, 2, 0) or die; ${ask}`) === '1';
}

describe('creation', () => {
  it('is exclusive: EBUSY for a name that is taken, by a TUN or by anything', () => {
    create('x0', tun);
    ns.ip('link add d0 type bridge');
    expect(errno(() => create('x0', tun))).toBe('EBUSY');
    expect(errno(() => create('x0', tap))).toBe('EBUSY');
    expect(['EBUSY', 'EINVAL']).toContain(errno(() => create('d0', tun)));
  });

  it.each<[string, TunShape, object]>([
    ['s0', tun, { type: 'tun', pi: false, vnet_hdr: false, multi_queue: false }],
    ['s1', { ...tap, multiQueue: true }, { type: 'tap', multi_queue: true }],
    ['s2', { ...tap, packetInfo: true }, { type: 'tap', pi: true }],
    ['s3', { ...tun, vnetHeader: true }, { type: 'tun', vnet_hdr: true }],
  ])('%s has the shape that was asked for, persists, and has the ids', (name, shape, seen) => {
    create(name, shape, { owner: 1234, group: 5678 });
    expect(link(ns, name)?.linkinfo?.info_data).toMatchObject({ ...seen, persist: true, user: 1234, group: 5678 });
  });

  it('takes the lowest number for %d and says which', () => {
    expect([create('n%d', tun), create('n%d', tun)]).toEqual(['n0', 'n1']);
  });

  it('that is not finished leaves neither device nor fd', () => {
    const before = readdirSync('/proc/self/fd').length;
    const seen: boolean[] = [];
    expect(() =>
      inside.run(() =>
        createTun({ name: 'half', ...tun }, () => {
          seen.push(ns.has('half'));
          throw new Error('no');
        }),
      ),
    ).toThrow('no');
    expect([seen, ns.has('half')]).toEqual([[true], false]);
    expect(readdirSync('/proc/self/fd').length).toBe(before);
  });

  it('refuses what the driver cannot: a name with a slash, an unknown kind', () => {
    expect(errno(() => create('a/b', tun))).toBe('EINVAL');
    expect(tunFeatures()).toEqual(expect.arrayContaining(['IFF_TUN', 'IFF_TAP', 'IFF_NO_PI', 'IFF_MULTI_QUEUE', 'IFF_VNET_HDR']));
  });
});

describe('attaching', () => {
  it('needs a free queue: EBUSY for a second one without multi-queue, any number with it', () => {
    create('q0', tun);
    const fd = attach('q0', tun);
    expect(errno(() => attach('q0', tun))).toBe('EBUSY');
    libc.close(fd);
    libc.close(attach('q0', tun));

    const many = { ...tap, multiQueue: true };
    create('q1', many);
    const queues = [attach('q1', many), attach('q1', many), attach('q1', many)];
    expect(link(ns, 'q1')?.linkinfo?.info_data).toMatchObject({ numqueues: 3 });
    for (const queue of queues) libc.close(queue);
  });

  it('must repeat mode and multi-queue: EINVAL', () => {
    create('m0', tun);
    expect(errno(() => attach('m0', tap))).toBe('EINVAL');
    expect(errno(() => attach('m0', { ...tun, multiQueue: true }))).toBe('EINVAL');
    create('m1', { ...tap, multiQueue: true });
    expect(errno(() => attach('m1', tap))).toBe('EINVAL');
  });

  it('changes packet information and vnet header of the device to those of the attach, and the change stays', () => {
    create('m2', tap);
    libc.close(attach('m2', { ...tap, packetInfo: true, vnetHeader: true }));
    expect(link(ns, 'm2')?.linkinfo?.info_data).toMatchObject({ pi: true, vnet_hdr: true });
    const fd = attach('m2', tap);
    expect(attachedFlags(fd) & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR)).toBe(IFF_TAP | IFF_NO_PI);
    libc.close(fd);
  });

  it('to a device that is not there makes one, so that callers must look first: as root it is gone with its fd', () => {
    const fd = attach('ghost', tun);
    expect(ns.has('ghost')).toBe(true);
    libc.close(fd);
    expect(ns.has('ghost')).toBe(false);
  });

  it('is for root, the owner or the group, and for nobody else: EPERM', () => {
    create('o0', tun, { owner: 1234 });
    create('o1', tun, { group: 5678 });
    create('o2', tun, { owner: 0 });
    const EPERM = '1';
    expect([attachAs(1234, 1, 'o0', tun), attachAs(4321, 1, 'o0', tun)]).toEqual(['0', EPERM]);
    expect([attachAs(1, 5678, 'o1', tun), attachAs(1, 8765, 'o1', tun)]).toEqual(['0', EPERM]);
    expect([attachAs(1, 1, 'o2', tun), attachAs(1, 1, 'no-such', tun)]).toEqual([EPERM, EPERM]);
    inside.run(() => setTunOwner('o0', tun, 4321, undefined));
    expect([attachAs(1234, 1, 'o0', tun), attachAs(4321, 1, 'o0', tun)]).toEqual([EPERM, '0']);
  });

  it('is for anybody who can open /dev/net/tun where neither owner nor group is set, and needs both where both are', () => {
    create('o4', tun);
    expect(attachAs(4321, 4321, 'o4', tun)).toBe('0');
    create('o5', tun, { owner: 1234, group: 5678 });
    expect([attachAs(1234, 5678, 'o5', tun), attachAs(1234, 1, 'o5', tun), attachAs(1, 5678, 'o5', tun)]).toEqual(['0', '1', '1']);
  });

  it('to change an owner needs a free queue: EBUSY while it is held', () => {
    create('o3', tun, { owner: 1 });
    const fd = attach('o3', tun);
    expect(errno(() => inside.run(() => setTunOwner('o3', tun, 2, undefined)))).toBe('EBUSY');
    libc.close(fd);
    expect(link(ns, 'o3')?.linkinfo?.info_data).toMatchObject({ user: 'daemon' });
  });
});

describe('a queue', () => {
  const write = (fd: number, bytes: Buffer) => errno(() => writeTo(fd, bytes));
  const packet = Buffer.concat([Buffer.from('4500001c000040004001', 'hex'), Buffer.alloc(18)]);

  it('of a device that is down takes nothing: EIO; up it does, but no packet of an unknown version and no short frame', () => {
    create('w0', tun);
    const fd = attach('w0', tun);
    expect(write(fd, packet)).toBe('EIO');
    ns.ip('link set w0 up');
    expect(write(fd, packet)).toBe('none');
    expect(write(fd, Buffer.from([0x90, ...packet.subarray(1)]))).toBe('EINVAL');
    create('w1', tap);
    ns.ip('link set w1 up');
    const frames = attach('w1', tap);
    expect(write(frames, Buffer.alloc(13))).toBe('EINVAL');
    expect(write(frames, Buffer.alloc(14))).toBe('none');
    for (const each of [fd, frames]) libc.close(each);
  });

  it('that is detached takes nothing until it is attached again, in any order with the others', () => {
    const many = { ...tun, multiQueue: true };
    create('w2', many);
    ns.ip('link set w2 up');
    const [first = -1, second = -1] = [attach('w2', many), attach('w2', many)];
    const counts = () => {
      const { numqueues, numdisabled } = link(ns, 'w2')?.linkinfo?.info_data ?? {};
      return [numqueues, numdisabled];
    };
    setQueue(first, IFF_DETACH_QUEUE);
    expect(counts()).toEqual([1, 1]);
    expect(errno(() => setQueue(first, IFF_DETACH_QUEUE))).toBe('EINVAL');
    setQueue(first, IFF_ATTACH_QUEUE);
    expect(errno(() => setQueue(first, IFF_ATTACH_QUEUE))).toBe('EINVAL');
    for (const fd of [first, second]) setQueue(fd, IFF_DETACH_QUEUE);
    expect(counts()).toEqual([0, 2]);
    libc.close(first);
    setQueue(second, IFF_ATTACH_QUEUE);
    expect(write(second, packet)).toBe('none');
    libc.close(second);
    expect(ns.has('w2')).toBe(true);
  });

  it('loses its device: what is written fails, and closing is fine; the name is free', () => {
    const many = { ...tun, multiQueue: true };
    create('w3', many);
    ns.ip('link set w3 up');
    const [attached = -1, detached = -1] = [attach('w3', many), attach('w3', many)];
    setQueue(detached, IFF_DETACH_QUEUE);
    ns.ip('link del w3');
    expect([write(attached, packet), write(detached, packet)]).toEqual(['EBADFD', 'EBADFD']);
    create('w3', many);
    for (const fd of [attached, detached]) libc.close(fd);
    expect(ns.has('w3')).toBe(true);
  });

  it('leaves offload mask and vnet header size behind on the device', () => {
    const shape = { ...tun, vnetHeader: true };
    create('v0', shape);
    const fd = attach('v0', shape);
    setVnetHeaderSize(fd, 12);
    setOffload(fd, 0x07); // TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6
    const size = (queue: number) => {
      const bytes = Buffer.alloc(4);
      libc.ioctl(queue, 0x800454d7, bytes, 'TUNGETVNETHDRSZ');
      return bytes.readInt32LE();
    };
    expect(segmentation('v0')).toBe(true);
    libc.close(fd);
    const later = attach('v0', shape);
    expect([size(later), segmentation('v0')]).toEqual([12, true]);
    setOffload(later, 0);
    setVnetHeaderSize(later, 10);
    expect([size(later), segmentation('v0')]).toEqual([10, false]);
    libc.close(later);
  });
});

/** write(2), with its errno as SysError. */
function writeTo(fd: number, bytes: Buffer): void {
  try {
    writeSync(fd, bytes);
  } catch (error) {
    const { errno: number = 0 } = error as NodeJS.ErrnoException;
    const failure = new SysError('write', -number);
    if (isErrno(failure, 'EAGAIN')) return;
    throw failure;
  }
}
