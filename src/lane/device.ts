// A device as the agent names it, in the terms of `sys/`. Pure.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import type { MarkedDevice } from '../sys/marked-tun.ts';

/** What stands in the alias of a managed device before its uid. */
const MARK = 'taplane:';

export function markedDevice(device: Device): MarkedDevice {
  return {
    name: device.interface,
    alias: `${MARK}${device.uid}`,
    namespace: device.networkNamespace,
    mode: device.tap ? 'tap' : 'tun',
    multiQueue: device.multiQueue,
    packetInfo: device.packetInfo,
    vnetHeader: device.vnetHeader,
  };
}

/** Another namespace or shape is another device. */
export function deviceKey(device: Device): string {
  const { uid, interface: name, networkNamespace, tap, multiQueue, packetInfo, vnetHeader } = device;
  return JSON.stringify([uid, name, networkNamespace, tap, multiQueue, packetInfo, vnetHeader]);
}
