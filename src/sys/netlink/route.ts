// Routes: struct rtmsg and RTA_* attributes (linux/rtnetlink.h). Pure bytes. Single-hop unicast routes are read whole; of others
// (several hops, next-hop objects) only what identifies them.

import { AF_INET, AF_INET6 } from './address.ts';
import { attribute, nestedAttribute, readAttributes, readU32, u32Attribute } from './attribute.ts';
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, type Request } from './message.ts';

export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;

const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_TABLE = 15;
const RTAX_MTU = 2;
const RTN_UNICAST = 1;
const HEADER = 12;

export const RT_TABLE_MAIN = 254;
export const RT_TABLE_LOCAL = 255;
const RTNH_F_ONLINK = 4;
/** Type of the routes to the node's own addresses. */
export const RTN_LOCAL = 2;
/** What the kernel itself installs (RTPROT_KERNEL). */
export const RTPROT_KERNEL = 2;

/** A route out of a link. */
export interface LinkRoute {
  /** Index of the link. */
  index: number;
  family: number;
  /** 4 or 16 bytes; all zero for a default route. */
  destination: Buffer;
  prefixLength: number;
  table: number;
  /** Who installed it (RTPROT_*). */
  protocol: number;
  /** 0 global, 253 link, 254 host. */
  scope: number;
  /** RTN_*: 1 unicast, 2 local, ... */
  type: number;
  metric: number;
  gateway: Buffer | undefined;
  source: Buffer | undefined;
  /** Bytes, 0 for the link's. */
  mtu: number;
  onlink: boolean;
}

/** Reads an RTM_NEWROUTE or RTM_DELROUTE payload; undefined when it is broken or no IP route. */
export function readRoute(payload: Buffer): LinkRoute | undefined {
  if (payload.length < HEADER) return undefined;
  const family = payload.readUInt8(0);
  if (family !== AF_INET && family !== AF_INET6) return undefined;
  const attributes = readAttributes(payload, HEADER);
  const size = family === AF_INET ? 4 : 16;
  if ([RTA_DST, RTA_GATEWAY, RTA_PREFSRC].some((type) => (attributes.get(type)?.length ?? size) !== size)) return undefined;
  const metrics = attributes.get(RTA_METRICS);
  const copy = (value: Buffer | undefined): Buffer | undefined => (value === undefined ? undefined : Buffer.from(value));
  return {
    index: readU32(attributes.get(RTA_OIF)),
    family,
    destination: copy(attributes.get(RTA_DST)) ?? Buffer.alloc(size),
    prefixLength: payload.readUInt8(1),
    table: readU32(attributes.get(RTA_TABLE), payload.readUInt8(4)),
    protocol: payload.readUInt8(5),
    scope: payload.readUInt8(6),
    type: payload.readUInt8(7),
    metric: readU32(attributes.get(RTA_PRIORITY)),
    gateway: copy(attributes.get(RTA_GATEWAY)),
    source: copy(attributes.get(RTA_PREFSRC)),
    mtu: metrics === undefined ? 0 : readU32(readAttributes(metrics).get(RTAX_MTU)),
    onlink: (payload.readUInt32LE(8) & RTNH_F_ONLINK) !== 0,
  };
}

function header(route: {
  family: number;
  prefixLength: number;
  table: number;
  protocol: number;
  scope: number;
  type: number;
  onlink: boolean;
}): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(route.family, 0);
  bytes.writeUInt8(route.prefixLength, 1);
  // Tables beyond a byte go into RTA_TABLE alone.
  bytes.writeUInt8(route.table < 256 ? route.table : 0, 4);
  bytes.writeUInt8(route.protocol, 5);
  bytes.writeUInt8(route.scope, 6);
  bytes.writeUInt8(route.type, 7);
  bytes.writeUInt32LE(route.onlink ? RTNH_F_ONLINK : 0, 8);
  return bytes;
}

function attributesOf(route: LinkRoute): Buffer[] {
  const attributes = [u32Attribute(RTA_OIF, route.index), u32Attribute(RTA_TABLE, route.table)];
  if (route.prefixLength > 0) attributes.push(attribute(RTA_DST, route.destination));
  if (route.gateway !== undefined) attributes.push(attribute(RTA_GATEWAY, route.gateway));
  if (route.metric !== 0) attributes.push(u32Attribute(RTA_PRIORITY, route.metric));
  if (route.source !== undefined) attributes.push(attribute(RTA_PREFSRC, route.source));
  if (route.mtu !== 0) attributes.push(nestedAttribute(RTA_METRICS, [u32Attribute(RTAX_MTU, route.mtu)]));
  return attributes;
}

/** Asks for the routes of one family out of one link, or with index 0 of all, in every table. */
export function dumpRoutes(family: number, index: number): Request {
  const front = header({ family, prefixLength: 0, table: 0, protocol: 0, scope: 0, type: 0, onlink: false });
  return { type: RTM_GETROUTE, flags: NLM_F_DUMP, payload: index === 0 ? front : Buffer.concat([front, u32Attribute(RTA_OIF, index)]) };
}

/** Asks which route the kernel takes to an address. */
export function lookUpRoute(family: number, destination: Uint8Array): Request {
  const front = header({ family, prefixLength: destination.length * 8, table: 0, protocol: 0, scope: 0, type: 0, onlink: false });
  return { type: RTM_GETROUTE, flags: 0, payload: Buffer.concat([front, attribute(RTA_DST, destination)]) };
}

/** Adds a route; EEXIST when one with the same destination, table and metric is there. */
export function addRoute(route: LinkRoute): Request {
  return {
    type: RTM_NEWROUTE,
    flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL,
    payload: Buffer.concat([header(route), ...attributesOf(route)]),
  };
}

/** Removes exactly this route. */
export function deleteRoute(route: LinkRoute): Request {
  return {
    type: RTM_DELROUTE,
    flags: NLM_F_ACK,
    payload: Buffer.concat([header({ ...route, type: RTN_UNICAST }), ...attributesOf(route)]),
  };
}
