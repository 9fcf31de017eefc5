// Addresses: struct ifaddrmsg and IFA_* attributes (linux/if_addr.h). Pure bytes.

import { attribute, readAttributes, readU8, readU32, u8Attribute, u32Attribute } from './attribute.ts';
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, type Request } from './message.ts';

export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
const RTM_GETADDR = 22;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_CACHEINFO = 6;
const IFA_FLAGS = 8;
const IFA_PROTO = 11;
const HEADER = 8;
const FOREVER = 0xffffffff;

export const AF_INET = 2;
export const AF_INET6 = 10;

/** An address on a link. */
export interface LinkAddress {
  index: number;
  family: number;
  prefixLength: number;
  /** 0 global, 253 link, 254 host. */
  scope: number;
  /** IFA_F_* bits. */
  flags: number;
  /** Our end, 4 or 16 bytes. */
  local: Buffer;
  /** The other end of a point-to-point link; the prefix length is then its own. */
  peer: Buffer | undefined;
  /** Seconds, 0xffffffff for ever. */
  validLifetime: number;
  /** Who added it (IFA_PROTO), 0 unknown. */
  protocol: number;
}

/** Reads an RTM_NEWADDR or RTM_DELADDR payload; undefined when it is broken or no IP address. */
export function readAddress(payload: Buffer): LinkAddress | undefined {
  if (payload.length < HEADER) return undefined;
  const attributes = readAttributes(payload, HEADER);
  const address = attributes.get(IFA_ADDRESS);
  const local = attributes.get(IFA_LOCAL) ?? address;
  const size = { [AF_INET]: 4, [AF_INET6]: 16 }[payload.readUInt8(0)];
  if (local === undefined || local.length !== size || (address !== undefined && address.length !== size)) return undefined;
  const cache = attributes.get(IFA_CACHEINFO);
  return {
    index: payload.readUInt32LE(4),
    family: payload.readUInt8(0),
    prefixLength: payload.readUInt8(1),
    scope: payload.readUInt8(3),
    flags: readU32(attributes.get(IFA_FLAGS), payload.readUInt8(2)),
    local: Buffer.from(local),
    peer: address !== undefined && !address.equals(local) ? Buffer.from(address) : undefined,
    validLifetime: cache !== undefined && cache.length >= 8 ? cache.readUInt32LE(4) : FOREVER,
    protocol: readU8(attributes.get(IFA_PROTO)),
  };
}

function header(family: number, prefixLength: number, scope: number, index: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(family, 0);
  bytes.writeUInt8(prefixLength, 1);
  bytes.writeUInt8(scope, 3);
  bytes.writeUInt32LE(index, 4);
  return bytes;
}

function ends(address: LinkAddress): Buffer[] {
  return [attribute(IFA_LOCAL, address.local), attribute(IFA_ADDRESS, address.peer ?? address.local)];
}

/** Asks for the addresses of one link, or with index 0 of all. */
export function dumpAddresses(index: number, family = 0): Request {
  return { type: RTM_GETADDR, flags: NLM_F_DUMP, payload: header(family, 0, 0, index) };
}

/** Adds an address, or with `replace` changes its lifetime. */
export function addAddress(address: LinkAddress, replace = false): Request {
  const attributes = ends(address);
  if (address.validLifetime !== FOREVER || replace) {
    const cache = Buffer.alloc(16);
    cache.writeUInt32LE(address.validLifetime, 0);
    cache.writeUInt32LE(address.validLifetime, 4);
    attributes.push(attribute(IFA_CACHEINFO, cache));
  }
  if (address.flags !== 0) attributes.push(u32Attribute(IFA_FLAGS, address.flags));
  if (address.protocol !== 0) attributes.push(u8Attribute(IFA_PROTO, address.protocol));
  return {
    type: RTM_NEWADDR,
    flags: NLM_F_ACK | NLM_F_CREATE | (replace ? NLM_F_REPLACE : NLM_F_EXCL),
    payload: Buffer.concat([header(address.family, address.prefixLength, address.scope, address.index), ...attributes]),
  };
}

/** Removes an address. */
export function deleteAddress(address: LinkAddress): Request {
  const payload = Buffer.concat([header(address.family, address.prefixLength, address.scope, address.index), ...ends(address)]);
  return { type: RTM_DELADDR, flags: NLM_F_ACK, payload };
}
