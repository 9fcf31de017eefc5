// Attaching to a device that must be a certain one. TUNSETIFF goes by name and makes a device where there is none, so the mark of
// ownership is looked at before and after: what came under the name meanwhile is let go again.

import * as libc from './libc.ts';
import { Namespace, namespaceIdentity, namespacePath } from './namespace.ts';
import { getLink, type Link, readLink } from './netlink/link.ts';
import { Netlink } from './netlink/socket.ts';
import { isErrno, SysError } from './sys-error.ts';
import { attachTun, IFF_DETACH_QUEUE, setOffload, setQueue, setVnetHeaderSize, type TunShape } from './tun.ts';

const ENODEV = 19;
const VNET_HEADER_BYTES = 10;

/** Which device is meant. */
export interface MarkedDevice extends TunShape {
  /** Kernel name. */
  name: string;
  /** What the alias of the device must be. */
  alias: string;
  /** Network namespace: '' for our own, a name under /run/netns, or a path. */
  namespace: string;
}

/** A device as it was found. */
export interface FoundDevice {
  index: number;
  mtu: number;
  up: boolean;
  /** Tells it from every other device of its name, now and later: namespace and index. */
  identity: string;
}

/** Runs a synchronous function in a network namespace; '' is our own. Throws SysError. */
export function inNamespace<T>(name: string, run: () => T): T {
  if (name === '') return run();
  const namespace = new Namespace(namespacePath(name));
  try {
    return namespace.run(run);
  } finally {
    namespace.close();
  }
}

/** The link of a device in the current namespace. Throws SysError ENODEV when there is none, or one without the mark. */
function markedLink(device: MarkedDevice): Link {
  const netlink = new Netlink();
  try {
    const link = netlink.get(`look for ${device.name}`, getLink({ name: device.name }), readLink);
    if (link.alias !== device.alias) throw new SysError(`look for ${device.name}`, ENODEV, 'the name belongs to another device');
    return link;
  } finally {
    netlink.close();
  }
}

/** Index and MTU of a device, wherever it is, and whether it is up. Throws SysError ENODEV. */
export function findMarked(device: MarkedDevice): FoundDevice {
  return inNamespace(device.namespace, () => {
    const { index, mtu, up } = markedLink(device);
    return { index, mtu, up, identity: `${namespaceIdentity()} ${index}` };
  });
}

/**
 * Whether a device that was attached, with the identity that it had, is still the one that is meant. A descriptor keeps a deleted
 * namespace, and the device in it, alive without a word. True when it cannot be told.
 */
export function isStillMeant(device: MarkedDevice, identity: string): boolean {
  try {
    return findMarked(device).identity === identity;
  } catch (error) {
    return !isErrno(error, 'ENODEV', 'ENOENT');
  }
}

/** Sets offload mask and virtio header size, which are the device's and may be left over from another program. Throws SysError. */
export function setHeaders(fd: number, device: MarkedDevice, offload: number): void {
  if (device.vnetHeader) setVnetHeaderSize(fd, VNET_HEADER_BYTES);
  setOffload(fd, offload);
}

/**
 * Takes queues of a device: `count` of them with the headers set, or one that is turned off, for which the headers of others are left alone.
 * The caller owns the fds. Throws SysError: ENODEV when the device is not there, EBUSY when no queue is free.
 */
export function attachMarked(device: MarkedDevice, count: number | 'off', offload = 0): number[] {
  return inNamespace(device.namespace, () => {
    markedLink(device);
    const fds: number[] = [];
    try {
      for (let queue = 0; queue < (count === 'off' ? 1 : count); queue++) fds.push(attachTun(device.name, device));
      markedLink(device);
      const [first] = fds;
      if (first !== undefined && count === 'off') setQueue(first, IFF_DETACH_QUEUE);
      else if (first !== undefined) setHeaders(first, device, offload);
      return fds;
    } catch (error) {
      for (const fd of fds) libc.close(fd);
      throw error;
    }
  });
}
