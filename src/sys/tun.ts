// TUN/TAP devices by ioctl on /dev/net/tun (linux/if_tun.h; Documentation/networking/tuntap.rst). Names are checked by the caller.
//
// A new device is not persistent: it ends with its fd. `finish` runs while the fd is open, so that whatever must be true of a
// device before it may outlive us (its mark of ownership) is there first; persistence comes last.

import * as libc from './libc.ts';
import { SysError } from './sys-error.ts';

export const TUN_DEVICE = '/dev/net/tun';

const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNSETGROUP = 0x400454ce;
const TUNGETFEATURES = 0x800454cf;
const TUNSETOFFLOAD = 0x400454d0;
const TUNGETIFF = 0x800454d2;
const TUNSETVNETHDRSZ = 0x400454d8;
const TUNSETQUEUE = 0x400454d9;

export const IFF_TUN = 0x0001;
export const IFF_TAP = 0x0002;
export const IFF_ATTACH_QUEUE = 0x0200;
export const IFF_DETACH_QUEUE = 0x0400;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_ONE_QUEUE = 0x2000;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;
const IFF_TUN_EXCL = 0x8000;

/** TUN_F_CSUM, TSO4, TSO6, TSO_ECN, USO4 and USO6 of linux/if_tun.h: what a program that cuts super-frames itself can take. */
export const TUN_OFFLOADS = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40;

const flagNames: [number, string][] = [
  [IFF_TUN, 'IFF_TUN'],
  [IFF_TAP, 'IFF_TAP'],
  [0x0010, 'IFF_NAPI'],
  [0x0020, 'IFF_NAPI_FRAGS'],
  [0x0040, 'IFF_NO_CARRIER'],
  [IFF_MULTI_QUEUE, 'IFF_MULTI_QUEUE'],
  [IFF_NO_PI, 'IFF_NO_PI'],
  [IFF_ONE_QUEUE, 'IFF_ONE_QUEUE'],
  [IFF_VNET_HDR, 'IFF_VNET_HDR'],
];

/** How a device is made; attaching must repeat it. */
export interface TunShape {
  mode: 'tun' | 'tap';
  multiQueue: boolean;
  packetInfo: boolean;
  vnetHeader: boolean;
}

export interface TunDevice extends TunShape {
  /** At most 15 bytes; a `%d` is replaced by the kernel. */
  name: string;
  /** Numeric ids that may attach without privileges: both must match where both are given, anybody may where none is. */
  owner?: number;
  group?: number;
}

const IFREQ_BYTES = 40;
const NAME_BYTES = 16;
const FLAGS_AT = 16;

/** struct ifreq with a name and ifr_flags. */
function ifreq(name: string, flags: number): Buffer {
  const bytes = Buffer.alloc(IFREQ_BYTES);
  bytes.write(name, 0, NAME_BYTES - 1, 'utf8');
  bytes.writeUInt16LE(flags, FLAGS_AT);
  return bytes;
}

/** IFF_* bits of a shape. */
export function tunFlags(shape: TunShape): number {
  return (
    (shape.mode === 'tun' ? IFF_TUN : IFF_TAP) |
    (shape.multiQueue ? IFF_MULTI_QUEUE : 0) |
    (shape.packetInfo ? 0 : IFF_NO_PI) |
    (shape.vnetHeader ? IFF_VNET_HDR : 0)
  );
}

/** Flags that the kernel's driver knows, by name. Throws SysError when /dev/net/tun cannot be opened. */
export function tunFeatures(): string[] {
  const fd = libc.open(TUN_DEVICE, libc.O_RDWR);
  try {
    const bytes = Buffer.alloc(4);
    libc.ioctl(fd, TUNGETFEATURES, bytes, 'TUNGETFEATURES');
    const features = bytes.readUInt32LE(0);
    return flagNames.filter(([bit]) => (features & bit) !== 0).map(([, name]) => name);
  } finally {
    libc.close(fd);
  }
}

/**
 * Makes a persistent device in the current namespace and answers with its name. EBUSY when the name is taken.
 * When `finish` throws, there is no device.
 */
export function createTun(device: TunDevice, finish: (name: string) => void): string {
  const fd = libc.open(TUN_DEVICE, libc.O_RDWR | libc.O_NONBLOCK);
  try {
    const request = ifreq(device.name, tunFlags(device) | IFF_TUN_EXCL);
    libc.ioctl(fd, TUNSETIFF, request, 'TUNSETIFF');
    const name = readName(request);
    if (device.owner !== undefined) libc.ioctlNumber(fd, TUNSETOWNER, device.owner, 'TUNSETOWNER');
    if (device.group !== undefined) libc.ioctlNumber(fd, TUNSETGROUP, device.group, 'TUNSETGROUP');
    finish(name);
    libc.ioctlNumber(fd, TUNSETPERSIST, 1, 'TUNSETPERSIST');
    return name;
  } finally {
    libc.close(fd);
  }
}

/** Changes who may attach; undefined stays. The kernel cannot take an id back. Needs a free queue: EBUSY while a single-queue device is held. */
export function setTunOwner(name: string, shape: TunShape, owner: number | undefined, group: number | undefined): void {
  const fd = attachTun(name, shape);
  try {
    if (owner !== undefined) libc.ioctlNumber(fd, TUNSETOWNER, owner, 'TUNSETOWNER');
    if (group !== undefined) libc.ioctlNumber(fd, TUNSETGROUP, group, 'TUNSETGROUP');
  } finally {
    libc.close(fd);
  }
}

/**
 * Takes a queue of an existing device. The caller owns the fd. EBUSY when no queue is free, EINVAL when mode or multi-queue differ;
 * packet information and vnet header of the device become those of `shape`.
 */
export function attachTun(name: string, shape: TunShape): number {
  const fd = libc.open(TUN_DEVICE, libc.O_RDWR | libc.O_NONBLOCK);
  try {
    const request = ifreq(name, tunFlags(shape));
    libc.ioctl(fd, TUNSETIFF, request, 'TUNSETIFF');
    if (readName(request) !== name) throw new SysError('TUNSETIFF', 19, `got ${readName(request)} instead of ${name}`);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Flags of the device that an fd is attached to (TUNGETIFF). */
export function attachedFlags(fd: number): number {
  const request = ifreq('', 0);
  libc.ioctl(fd, TUNGETIFF, request, 'TUNGETIFF');
  return request.readUInt16LE(FLAGS_AT);
}

/** Sets the device-wide offload mask (TUN_F_*), which outlives the fd. */
export function setOffload(fd: number, mask: number): void {
  libc.ioctlNumber(fd, TUNSETOFFLOAD, mask, 'TUNSETOFFLOAD');
}

/** Sets the device-wide size of the virtio header in bytes, 10 or 12, which outlives the fd. */
export function setVnetHeaderSize(fd: number, size: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(size);
  libc.ioctl(fd, TUNSETVNETHDRSZ, bytes, 'TUNSETVNETHDRSZ');
}

/** Turns the queue of an fd on (`IFF_ATTACH_QUEUE`) or off (`IFF_DETACH_QUEUE`); multi-queue devices only. */
export function setQueue(fd: number, flag: typeof IFF_ATTACH_QUEUE | typeof IFF_DETACH_QUEUE): void {
  libc.ioctl(fd, TUNSETQUEUE, ifreq('', flag), 'TUNSETQUEUE');
}

function readName(request: Buffer): string {
  const end = request.indexOf(0);
  return request.toString('utf8', 0, end < 0 || end > NAME_BYTES ? NAME_BYTES : end);
}
