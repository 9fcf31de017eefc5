// Attaching to a device that must be a certain one. TUNSETIFF goes by name and makes a device where there is none, so the mark of
// ownership is looked at before and after: what came under the name meanwhile is let go again.

import * as libc from './libc.ts';
import { Namespace, namespacePath } from './namespace.ts';
import { getLink, type Link, readLink } from './netlink/link.ts';
import { Netlink } from './netlink/socket.ts';
import { SysError } from './sys-error.ts';
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
export function findMarked(device: MarkedDevice): { index: number; mtu: number; up: boolean } {
  return inNamespace(device.namespace, () => markedLink(device));
}

/**
 * Takes queues of a device: `count` of them, or one that is turned off. Offload mask and virtio header size, which are the device's and
 * may be left over from another program, are set anew. The caller owns the fds. Throws SysError: ENODEV when the device is not there,
 * EBUSY when no queue is free.
 */
export function attachMarked(device: MarkedDevice, count: number | 'off', offload = 0): number[] {
  return inNamespace(device.namespace, () => {
    markedLink(device);
    const fds: number[] = [];
    try {
      for (let queue = 0; queue < (count === 'off' ? 1 : count); queue++) fds.push(attachTun(device.name, device));
      markedLink(device);
      const [first] = fds;
      if (first !== undefined) {
        if (device.vnetHeader) setVnetHeaderSize(first, VNET_HEADER_BYTES);
        setOffload(first, offload);
        if (count === 'off') setQueue(first, IFF_DETACH_QUEUE);
      }
      return fds;
    } catch (error) {
      for (const fd of fds) libc.close(fd);
      throw error;
    }
  });
}
