// Links: struct ifinfomsg and IFLA_* attributes (linux/if_link.h, linux/if_tun.h). Pure bytes.

import { type Attributes, attribute, readAttributes, readString, readU8, readU32, stringAttribute, u32Attribute } from './attribute.ts';
import { NLM_F_ACK, NLM_F_DUMP, type Request } from './message.ts';

export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
const RTM_GETLINK = 18;

// linux/if.h
const IFF_UP = 0x1;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_MASTER = 10;
const IFLA_TXQLEN = 13;
const IFLA_OPERSTATE = 16;
const IFLA_LINKINFO = 18;
const IFLA_IFALIAS = 20;
const IFLA_STATS64 = 23;
const IFLA_CARRIER = 33;
const IFLA_CARRIER_CHANGES = 35;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const IFLA_TUN = { OWNER: 1, GROUP: 2, TYPE: 3, PI: 4, VNET_HDR: 5, PERSIST: 6, MULTI_QUEUE: 7, NUM_QUEUES: 8, NUM_DISABLED: 9 };

const HEADER = 16;

/** What the TUN driver tells of a device (IFLA_INFO_DATA). */
export interface TunInfo {
  mode: 'tun' | 'tap';
  /** Ids that may attach; undefined for nobody. */
  owner: number | undefined;
  group: number | undefined;
  packetInfo: boolean;
  vnetHeader: boolean;
  persistent: boolean;
  multiQueue: boolean;
}

/** Counters of a link, the names as in struct rtnl_link_stats64. */
export interface LinkCounters {
  rxPackets: bigint;
  txPackets: bigint;
  rxBytes: bigint;
  txBytes: bigint;
  rxErrors: bigint;
  txErrors: bigint;
  rxDropped: bigint;
  txDropped: bigint;
}

/** A link as the kernel tells it. */
export interface Link {
  index: number;
  name: string;
  flags: number;
  up: boolean;
  carrier: boolean;
  /** RFC 2863 state by the kernel's numbers, 0 unknown to 6 up. */
  operState: number;
  mtu: number;
  txQueueLength: number;
  /** Hardware address; empty for TUN. */
  address: Buffer;
  alias: string;
  /** Index of the bridge or bond it is a port of, 0 for none. */
  controller: number;
  /** Driver kind such as `tun`, '' when it tells none. */
  kind: string;
  tun: TunInfo | undefined;
  counters: LinkCounters | undefined;
  carrierChanges: number;
}

/** What to change of a link; absent fields stay. */
export interface LinkChange {
  up?: boolean;
  mtu?: number;
  txQueueLength?: number;
  address?: Uint8Array;
  /** '' removes it. */
  alias?: string;
  /** 0 leaves the bridge. */
  controller?: number;
  name?: string;
}

/** Reads an RTM_NEWLINK or RTM_DELLINK payload; undefined when it is too short. */
export function readLink(payload: Buffer): Link | undefined {
  if (payload.length < HEADER) return undefined;
  const attributes = readAttributes(payload, HEADER);
  const flags = payload.readUInt32LE(8);
  const info = attributes.get(IFLA_LINKINFO);
  const inner = info === undefined ? undefined : readAttributes(info);
  const kind = readString(inner?.get(IFLA_INFO_KIND));
  const data = inner?.get(IFLA_INFO_DATA);
  return {
    index: payload.readInt32LE(4),
    name: readString(attributes.get(IFLA_IFNAME)),
    flags,
    up: (flags & IFF_UP) !== 0,
    carrier: readU8(attributes.get(IFLA_CARRIER)) !== 0,
    operState: readU8(attributes.get(IFLA_OPERSTATE)),
    mtu: readU32(attributes.get(IFLA_MTU)),
    txQueueLength: readU32(attributes.get(IFLA_TXQLEN)),
    // Copied: the payload lies in a receive buffer that is used again.
    address: Buffer.from(attributes.get(IFLA_ADDRESS) ?? []),
    alias: readString(attributes.get(IFLA_IFALIAS)),
    controller: readU32(attributes.get(IFLA_MASTER)),
    kind,
    tun: kind === 'tun' && data !== undefined ? readTun(readAttributes(data)) : undefined,
    counters: readCounters(attributes.get(IFLA_STATS64)),
    carrierChanges: readU32(attributes.get(IFLA_CARRIER_CHANGES)),
  };
}

function readTun(data: Attributes): TunInfo {
  const owner = data.get(IFLA_TUN.OWNER);
  const group = data.get(IFLA_TUN.GROUP);
  return {
    mode: readU8(data.get(IFLA_TUN.TYPE)) === 2 ? 'tap' : 'tun',
    owner: owner === undefined ? undefined : readU32(owner),
    group: group === undefined ? undefined : readU32(group),
    packetInfo: readU8(data.get(IFLA_TUN.PI)) !== 0,
    vnetHeader: readU8(data.get(IFLA_TUN.VNET_HDR)) !== 0,
    persistent: readU8(data.get(IFLA_TUN.PERSIST)) !== 0,
    multiQueue: readU8(data.get(IFLA_TUN.MULTI_QUEUE)) !== 0,
  };
}

function readCounters(stats: Buffer | undefined): LinkCounters | undefined {
  if (stats === undefined || stats.length < 64) return undefined;
  const at = (field: number): bigint => stats.readBigUInt64LE(field * 8);
  return {
    rxPackets: at(0),
    txPackets: at(1),
    rxBytes: at(2),
    txBytes: at(3),
    rxErrors: at(4),
    txErrors: at(5),
    rxDropped: at(6),
    txDropped: at(7),
  };
}

function header(index: number, flags = 0, change = 0): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt32LE(flags, 8);
  bytes.writeUInt32LE(change, 12);
  return bytes;
}

/** Asks for one link, by index or by name. */
export function getLink(which: { index: number } | { name: string }): Request {
  const payload = 'index' in which ? header(which.index) : Buffer.concat([header(0), stringAttribute(IFLA_IFNAME, which.name)]);
  return { type: RTM_GETLINK, flags: 0, payload };
}

/** Asks for all links. */
export function dumpLinks(): Request {
  return { type: RTM_GETLINK, flags: NLM_F_DUMP, payload: header(0) };
}

/** Changes a link. */
export function setLink(index: number, change: LinkChange): Request {
  const attributes: Buffer[] = [];
  if (change.name !== undefined) attributes.push(stringAttribute(IFLA_IFNAME, change.name));
  if (change.mtu !== undefined) attributes.push(u32Attribute(IFLA_MTU, change.mtu));
  if (change.txQueueLength !== undefined) attributes.push(u32Attribute(IFLA_TXQLEN, change.txQueueLength));
  if (change.address !== undefined) attributes.push(attribute(IFLA_ADDRESS, change.address));
  if (change.alias !== undefined) attributes.push(stringAttribute(IFLA_IFALIAS, change.alias));
  if (change.controller !== undefined) attributes.push(u32Attribute(IFLA_MASTER, change.controller));
  const front = change.up === undefined ? header(index) : header(index, change.up ? IFF_UP : 0, IFF_UP);
  return { type: RTM_NEWLINK, flags: NLM_F_ACK, payload: Buffer.concat([front, ...attributes]) };
}

/** Removes a link. */
export function deleteLink(index: number): Request {
  return { type: RTM_DELLINK, flags: NLM_F_ACK, payload: header(index) };
}
