// Requests for tests of those who answer, built by plain arithmetic that shares nothing with src/packet; hex with comments; and what every
// answer must keep to, whatever the bytes.

import { expect } from 'vitest';
import { type Random, random } from '../harness/random.ts';
import { slowChecksum } from './frames.ts';

/** Bytes of hex text; spaces, and what follows `#` on a line, are for the reader. */
export function hex(text: string): Buffer {
  const digits = text.replace(/#.*$/gm, '').replace(/\s/g, '');
  if (!/^([0-9a-f]{2})*$/.test(digits)) throw new Error(`no hex: ${digits}`);
  return Buffer.from(digits, 'hex');
}

export const NODE_MAC = '020000000001';
export const PEER_MAC = '020000000002';
export const NODE_V4 = '0a000001';
export const PEER_V4 = '0a000002';
export const NODE_V6 = 'fd000000000000000000000000000001';
export const PEER_V6 = 'fd000000000000000000000000000002';

/** An Ethernet frame of the node to its peer, with VLAN tags such as `8100 0005`. */
export function ethernet(type: string, payload: Buffer, tags = '', destination = PEER_MAC, source = NODE_MAC): Buffer {
  return Buffer.concat([hex(`${destination} ${source} ${tags} ${type}`), payload]);
}

interface V4Shape {
  protocol: number;
  payload: Buffer;
  source?: string;
  destination?: string;
  /** A multiple of 4 bytes. */
  options?: Buffer;
  /** Flags and fragment offset. */
  fragment?: number;
  tos?: number;
}

export function ipv4({ protocol, payload, source = NODE_V4, destination = PEER_V4, options, fragment = 0, tos = 0 }: V4Shape): Buffer {
  const header = Buffer.concat([Buffer.alloc(12), hex(source + destination), options ?? Buffer.alloc(0)]);
  header[0] = 0x40 | (header.length / 4);
  header[1] = tos;
  header.writeUInt16BE(header.length + payload.length, 2);
  header.writeUInt16BE(0xbeef, 4);
  header.writeUInt16BE(fragment, 6);
  header[8] = 17;
  header[9] = protocol;
  header.writeUInt16BE(slowChecksum(header), 10);
  return Buffer.concat([header, payload]);
}

interface V6Shape {
  next: number;
  payload: Buffer;
  source?: string;
  destination?: string;
  hopLimit?: number;
  /** Traffic class and flow label. */
  flow?: number;
}

export function ipv6({ next, payload, source = NODE_V6, destination = PEER_V6, hopLimit = 17, flow = 0 }: V6Shape): Buffer {
  const header = Buffer.concat([Buffer.alloc(8), hex(source + destination)]);
  header.writeUInt32BE((0x60000000 | flow) >>> 0, 0);
  header.writeUInt16BE(payload.length, 4);
  header[6] = next;
  header[7] = hopLimit;
  return Buffer.concat([header, payload]);
}

/** ICMP bytes with their checksum put right. */
export function icmp(bytes: Buffer): Buffer {
  const message = Buffer.from(bytes);
  message.writeUInt16BE(0, 2);
  message.writeUInt16BE(slowChecksum(message), 2);
  return message;
}

/** The same for ICMPv6 between two addresses. */
export function icmpv6(bytes: Buffer, source = NODE_V6, destination = PEER_V6): Buffer {
  const message = Buffer.from(bytes);
  message.writeUInt16BE(0, 2);
  const pseudo = Buffer.concat([hex(source + destination), Buffer.alloc(8)]);
  pseudo.writeUInt32BE(message.length, 32);
  pseudo[39] = 58;
  message.writeUInt16BE(slowChecksum(Buffer.concat([pseudo, message])), 2);
  return message;
}

/** Answers into `out`; 0 for none. */
export type Answer = (bytes: Buffer, start: number, length: number, out: Buffer) => number;

/**
 * The answer to a frame, undefined for none. Fails when it depends on what stands around the frame, and when anything but the answer was
 * written.
 */
export function answerTo(answer: Answer, frame: Buffer, room = frame.length + 64): Buffer | undefined {
  const [first, ...others] = ['', '00', 'ff'].map((around) => answerAmong(answer, frame, room, hex(around.repeat(9))));
  for (const other of others) {
    if (first === undefined ? other !== undefined : !other?.equals(first)) throw new Error(`looks beyond ${frame.toString('hex')}`);
  }
  return first;
}

function answerAmong(answer: Answer, frame: Buffer, room: number, around: Buffer): Buffer | undefined {
  const input = Buffer.from(Buffer.concat([around, frame, around]));
  const before = Buffer.from(input);
  const memory = Buffer.alloc(room + 16, 0xa5);
  const length = answer(input, around.length, frame.length, memory.subarray(8, 8 + room));
  if (!input.equals(before)) throw new Error('changed the request');
  if (!Number.isInteger(length) || length < 0 || length > room) throw new Error(`an answer of ${length} bytes in ${room}`);
  const untouched = length === 0 ? memory : Buffer.concat([memory.subarray(0, 8), memory.subarray(8 + length)]);
  if (!untouched.equals(Buffer.alloc(untouched.length, 0xa5))) throw new Error(`wrote beyond the ${length} bytes of the answer`);
  return length === 0 ? undefined : Buffer.from(memory.subarray(8, 8 + length));
}

/**
 * Shows an answerer random bytes, and requests that are cut, changed, or both: it never throws, writes no more than it says, and does not
 * look beyond the frame. Some must be answered, and some not.
 */
export function fuzz(answer: Answer, requests: readonly Buffer[], rounds: number, stream: string): void {
  const dice = random(stream);
  let answered = 0;
  for (let round = 0; round < rounds; round++) {
    const frame = dice.next() < 0.1 ? Buffer.from(dice.bytes(dice.integer(0, 120))) : mutant(dice, dice.pick(requests));
    const room = dice.next() < 0.2 ? dice.integer(0, frame.length) : frame.length + 64;
    if (answerTo(answer, frame, room) !== undefined) answered++;
  }
  expect(answered).toBeGreaterThan(rounds / 100);
  expect(answered).toBeLessThan(rounds);
}

function mutant(dice: Random, request: Buffer): Buffer {
  const cut = dice.next() < 0.3 ? dice.integer(0, request.length) : request.length;
  const frame = Buffer.from(request.subarray(0, cut));
  for (let changes = dice.integer(0, 3); changes > 0 && frame.length > 0; changes--) {
    frame[dice.integer(0, frame.length - 1)] = dice.pick([0, 1, 255, dice.integer(0, 255)]);
  }
  // A right header checksum lets more of them in.
  const at = [0, 14, 18, 22].find((link) => (frame[link] ?? 0) >> 4 === 4 && link + 20 <= frame.length);
  if (at !== undefined && dice.next() < 0.7) {
    const header = frame.subarray(at, at + ((frame[at] as number) & 15) * 4);
    if (header.length >= 20) {
      header.writeUInt16BE(0, 10);
      header.writeUInt16BE(slowChecksum(header), 10);
    }
  }
  return frame;
}
