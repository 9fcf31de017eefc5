// A TUN or TAP in a namespace, held by this process: one that gives and takes super-frames, or one that can do nothing itself.

import { VNET_HEADER_BYTES } from '../../src/packet/vnet-header.ts';
import { Namespace as Inside } from '../../src/sys/namespace.ts';
import { attachTun, createTun, setOffload, setVnetHeaderSize, TUN_OFFLOADS } from '../../src/sys/tun.ts';
import type { Namespace } from '../harness/namespace.ts';

/** Makes it and answers with a queue that does not block; the caller closes it. */
export function openSuperDevice(ns: Namespace, name: string, mode: 'tun' | 'tap', vnetHeader = true): number {
  const shape = { mode, multiQueue: false, packetInfo: false, vnetHeader };
  const inside = new Inside(ns.path);
  try {
    return inside.run(() => {
      createTun({ name, ...shape }, () => {});
      const fd = attachTun(name, shape);
      if (vnetHeader) setVnetHeaderSize(fd, VNET_HEADER_BYTES);
      setOffload(fd, vnetHeader ? TUN_OFFLOADS : 0);
      return fd;
    });
  } finally {
    inside.close();
  }
}
