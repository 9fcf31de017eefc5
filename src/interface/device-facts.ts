// What the rest of the agent may ask of interfaces: their devices, which are metered and mirrored, and what a link may join.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { type InterfaceSpec, InterfaceSpec_Mode as Mode, type PacketMirror } from '../gen/taplane/v1/interface.ts';
import { deviceOf, isMetered } from './data-plane.ts';
import { MARK } from './desired.ts';
import type { Engine } from './engine.ts';
import type { Entry } from './entry.ts';
import { interfaceId, resourceName } from './name.ts';
import { checkDevice } from './preconditions.ts';
import type { Registry } from './registry.ts';

/** An interface as a link sees it. */
export interface Joinable {
  device: Device;
  spec: InterfaceSpec;
  /** Its device is there. */
  isThere: boolean;
  /** MTU of the device, 0 while there is none. */
  mtu: number;
}

/** How an interface is, by what is known without a look at the kernel. */
export interface InterfaceHealth {
  /** Kernel name, which is its id. */
  name: string;
  uid: string;
  mode: 'tun' | 'tap';
  /** `missing`: it has no device. `degraded`: the device is not as specified. */
  state: 'ready' | 'degraded' | 'missing';
  /** Another manager keeps undoing us. */
  contended: boolean;
  repairs: number;
}

export interface DeviceFacts {
  /** Whether an interface with this uid is managed. */
  isManaged(uid: string): boolean;
  /**
   * The device of `interfaces/{interface}`. Throws INVALID_ARGUMENT on `field`, NOT_FOUND, or FAILED_PRECONDITION DEVICE_MISSING while
   * the interface has none.
   */
  device(name: string, field?: string): Device;
  /** The interfaces whose flows are metered where the agent meters; `name` is the resource name. */
  metered(): { uid: string; name: string }[];
  /** Kernel index of the device with this kernel name, 0 while there is none. */
  index(name: string): number;
  /** The interfaces with a device whose packets are to be copied; `name` is the resource name. */
  mirrored(): { device: Device; mirror: PacketMirror; name: string }[];
  /** What a link needs to know of the interface with this id, without a look at the kernel; undefined when it is not managed, or about to go. */
  joinable(id: string): Joinable | undefined;
  /** How each interface is, in the order of their names. */
  health(): InterfaceHealth[];
}

export function deviceFacts(registry: Registry, engine: Engine, isLeaving: (name: string) => boolean): DeviceFacts {
  return {
    isManaged: (uid) => registry.byAlias(`${MARK}${uid}`) !== undefined,
    device(name, field = 'interface') {
      const entry = registry.need(interfaceId(name, field));
      checkDevice(engine, entry);
      return deviceOf(entry.record);
    },
    metered: () =>
      registry.sorted().flatMap(({ name, record }) => (isMetered(record) ? [{ uid: record.uid, name: resourceName(name) }] : [])),
    index: (name) => registry.get(name)?.index ?? 0,
    mirrored: () =>
      registry.sorted().flatMap(({ index, name, record }) => {
        const { packetMirror: mirror } = record.spec;
        return mirror === undefined || index === 0 ? [] : [{ device: deviceOf(record), mirror, name: resourceName(name) }];
      }),
    joinable(id) {
      const entry = registry.get(id);
      if (entry === undefined || isLeaving(id)) return undefined;
      const { record, index, mtu } = entry;
      return { device: deviceOf(record), spec: record.spec, isThere: index !== 0, mtu: index === 0 ? 0 : mtu };
    },
    health: () => registry.sorted().map(healthOf),
  };
}

function healthOf({ name, record, index, conditions, repairs }: Entry): InterfaceHealth {
  const state = index === 0 ? 'missing' : conditions.isTrue('Ready') ? 'ready' : 'degraded';
  const mode = record.spec.mode === Mode.TAP ? 'tap' : 'tun';
  return { name, uid: record.uid, mode, state, contended: conditions.isTrue('Contended'), repairs };
}
