// Neighbours: struct ndmsg and NDA_* attributes (linux/neighbour.h). Pure bytes.

import { AF_INET, AF_INET6 } from './address.ts';
import { attribute, readAttributes, readU8, u8Attribute, u32Attribute } from './attribute.ts';
import { NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, type Request } from './message.ts';

export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDA_IFINDEX = 8;
const NDA_PROTOCOL = 12;
export const NUD_PERMANENT = 0x80;
const HEADER = 12;

/** An entry of the ARP or ND table. */
export interface LinkNeighbour {
  index: number;
  family: number;
  /** 4 or 16 bytes. */
  address: Buffer;
  /** Hardware address, empty while not resolved. */
  hardwareAddress: Buffer;
  /** NUD_* bits. */
  state: number;
  /** Who added it (NDA_PROTOCOL), 0 unknown. */
  protocol: number;
}

/** Reads an RTM_NEWNEIGH or RTM_DELNEIGH payload; undefined when it is broken or tells of a bridge's forwarding table. */
export function readNeighbour(payload: Buffer): LinkNeighbour | undefined {
  if (payload.length < HEADER) return undefined;
  const attributes = readAttributes(payload, HEADER);
  const address = attributes.get(NDA_DST);
  const size = { [AF_INET]: 4, [AF_INET6]: 16 }[payload.readUInt8(0)];
  if (address === undefined || address.length !== size) return undefined;
  return {
    index: payload.readInt32LE(4),
    family: payload.readUInt8(0),
    address: Buffer.from(address),
    hardwareAddress: Buffer.from(attributes.get(NDA_LLADDR) ?? []),
    state: payload.readUInt16LE(8),
    protocol: readU8(attributes.get(NDA_PROTOCOL)),
  };
}

function header(family: number, index: number, state: number): Buffer {
  const bytes = Buffer.alloc(HEADER);
  bytes.writeUInt8(family, 0);
  bytes.writeInt32LE(index, 4);
  bytes.writeUInt16LE(state, 8);
  return bytes;
}

/** Asks for the neighbours of one link, or with index 0 of all. */
export function dumpNeighbours(index: number): Request {
  const front = header(0, 0, 0);
  return { type: RTM_GETNEIGH, flags: NLM_F_DUMP, payload: index === 0 ? front : Buffer.concat([front, u32Attribute(NDA_IFINDEX, index)]) };
}

/** Adds or replaces an entry. */
export function setNeighbour(neighbour: LinkNeighbour): Request {
  const attributes = [attribute(NDA_DST, neighbour.address), attribute(NDA_LLADDR, neighbour.hardwareAddress)];
  if (neighbour.protocol !== 0) attributes.push(u8Attribute(NDA_PROTOCOL, neighbour.protocol));
  return {
    type: RTM_NEWNEIGH,
    flags: NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE,
    payload: Buffer.concat([header(neighbour.family, neighbour.index, neighbour.state), ...attributes]),
  };
}

/** Removes an entry. */
export function deleteNeighbour(neighbour: LinkNeighbour): Request {
  return {
    type: RTM_DELNEIGH,
    flags: NLM_F_ACK,
    payload: Buffer.concat([header(neighbour.family, neighbour.index, 0), attribute(NDA_DST, neighbour.address)]),
  };
}
