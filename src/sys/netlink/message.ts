// Netlink messages: a 16-byte header and a payload, several in one datagram (linux/netlink.h). Pure bytes.
//
//   0        4      6       8        12     16
//   | length | type | flags | seq    | port | payload ... | pad to 4 |

import { readAttributes, readString, readU32 } from './attribute.ts';

const HEADER = 16;

export const NLMSG_NOOP = 1;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_MULTI = 0x2;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP_INTR = 0x10;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;

const NLMSGERR_ATTR_MSG = 1;
const NLMSGERR_ATTR_OFFS = 2;

export interface Message {
  type: number;
  flags: number;
  sequence: number;
  port: number;
  /** View into the datagram (*borrows*). */
  payload: Buffer;
}

/** What a request is before it has a sequence number. */
export interface Request {
  type: number;
  flags: number;
  payload: Buffer;
}

/** The outcome in an NLMSG_ERROR message; `errno` 0 is an ack. */
export interface Ack {
  errno: number;
  /** The kernel's own words, '' if it has none. */
  text: string;
  /** Offset in the request of the attribute at fault, 0 if not told. */
  offset: number;
}

/** A request as bytes, with NLM_F_REQUEST set. */
export function encode(request: Request, sequence: number): Buffer {
  const bytes = Buffer.alloc(HEADER + request.payload.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeUInt16LE(request.type, 4);
  bytes.writeUInt16LE(request.flags | NLM_F_REQUEST, 6);
  bytes.writeUInt32LE(sequence, 8);
  bytes.set(request.payload, HEADER);
  return bytes;
}

/** The messages of one datagram. A bad length ends the walk: what came before it is kept. */
export function decode(datagram: Buffer): Message[] {
  const messages: Message[] = [];
  let at = 0;
  while (at + HEADER <= datagram.length) {
    const length = datagram.readUInt32LE(at);
    if (length < HEADER || at + length > datagram.length) break;
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      port: datagram.readUInt32LE(at + 12),
      payload: datagram.subarray(at + HEADER, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/** Reads an NLMSG_ERROR, or the error that may stand in an NLMSG_DONE. A short one counts as EBADMSG. */
export function readAck(message: Message): Ack {
  const { payload, flags } = message;
  if (payload.length < 4)
    return message.type === NLMSG_DONE ? { errno: 0, text: '', offset: 0 } : { errno: 74, text: 'short error message', offset: 0 };
  // Not `-x`, which makes -0 of an ack.
  const errno = 0 - payload.readInt32LE(0);
  if ((flags & NLM_F_ACK_TLVS) === 0) return { errno, text: '', offset: 0 };
  let attributesAt = 4;
  if (message.type === NLMSG_ERROR) {
    if (payload.length < 4 + HEADER) return { errno, text: '', offset: 0 };
    // Uncapped errors repeat the whole request, acks and capped errors only its header.
    const echoed = (flags & NLM_F_CAPPED) !== 0 || errno === 0 ? HEADER : payload.readUInt32LE(4);
    if (echoed > payload.length) return { errno, text: '', offset: 0 };
    attributesAt = 4 + ((echoed + 3) & ~3);
  }
  const attributes = readAttributes(payload, attributesAt);
  return { errno, text: readString(attributes.get(NLMSGERR_ATTR_MSG)), offset: readU32(attributes.get(NLMSGERR_ATTR_OFFS)) };
}
