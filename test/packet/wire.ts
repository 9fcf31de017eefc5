// The wire in memory: cuts frames into a list, coalesces a list into super-frames; and finished frames, with all checksums right.

import { coalescer } from '../../src/packet/coalesce.ts';
import { type CutOutcome, cut } from '../../src/packet/cut.ts';
import { GSO_NONE, plainVnetHeader, readVnetHeader, VNET_HEADER_BYTES, type VnetHeader } from '../../src/packet/vnet-header.ts';
import { l4ChecksumError, slowChecksum, type TcpShape, tcpPacket, udpPacket } from './frames.ts';

export const ETHERNET4 = Buffer.from('0200000000020200000000010800', 'hex');
export const ETHERNET6 = Buffer.from('02000000000202000000000186dd', 'hex');
const MARK = 0xee;
const HEADERS_MOST = 140;
const PIECES_MOST = 200_000;
const marks = Buffer.alloc(PIECES_MOST, MARK);

/** Bytes that differ from their neighbours, and from those of another `seed`. */
export function bytesOf(size: number, seed = 0): Buffer {
  const bytes = Buffer.allocUnsafe(size);
  let state = seed ^ 0x9e3779b9;
  for (let at = 0; at < size; at++) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) | 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

export interface CutOptions {
  ethernet?: boolean;
  most?: number;
  /** Bytes before each piece, which are not to be touched. */
  gap?: number;
  /** Where the frame begins in its buffer. */
  offset?: number;
  /** Pieces that there is room for. */
  room?: number;
}

/** The pieces of a frame, or why there are none. Throws when something beyond a piece was written, or the frame was changed. */
export function cutAll(frame: Buffer, header: VnetHeader, options: CutOptions = {}): Buffer[] | Exclude<CutOutcome, number> {
  const { ethernet = false, most = 65_535, gap = 1, offset = 3, room = Number.POSITIVE_INFINITY } = options;
  const source = Buffer.concat([Buffer.alloc(offset, MARK), frame, Buffer.alloc(5, MARK)]);
  const before = Buffer.from(source);
  const places: [start: number, bytes: number][] = [];
  const pieces: [start: number, bytes: number][] = [];
  const isWhole = header.gsoType === GSO_NONE && frame.length <= most;
  const step = Math.max(1, Math.min(header.gsoSize || frame.length, most - HEADERS_MOST));
  const needed = isWhole ? frame.length + 2 * gap : frame.length + (frame.length / step + 2) * (HEADERS_MOST + gap);
  const buffer = Buffer.alloc(Math.min(needed, PIECES_MOST), MARK);
  let at = gap;
  const outcome = cut(source, offset, frame.length, header, ethernet, most, {
    buffer,
    place: (bytes) => {
      if (places.length >= room) return -1;
      places.push([at, bytes]);
      if (at + bytes > buffer.length) throw new Error('test: no room');
      at += bytes + gap;
      return at - bytes - gap;
    },
    put: (start, bytes) => pieces.push([start, bytes]),
  });
  if (!source.equals(before)) throw new Error('the frame was changed');
  if (`${places}` !== `${pieces}`) throw new Error(`placed ${places}, put ${pieces}`);
  const frames = pieces.map(([start, bytes]) => Buffer.from(buffer.subarray(start, start + bytes)));
  for (const [start, bytes] of pieces) buffer.fill(MARK, start, start + bytes);
  if (!buffer.equals(marks.subarray(0, buffer.length))) throw new Error('something beyond the pieces was written');
  if (typeof outcome === 'string') {
    if (pieces.length > 0) throw new Error(`${outcome} after ${pieces.length} pieces`);
    return outcome;
  }
  if (outcome !== pieces.length) throw new Error(`${outcome} for ${pieces.length} pieces`);
  return frames;
}

export interface Super {
  header: VnetHeader;
  frame: Buffer;
}

/** What becomes of frames; flushed at the end. */
export function coalesceAll(frames: Buffer[], options: { ethernet?: boolean; offload?: boolean; offset?: number } = {}): Super[] {
  const { ethernet = false, offload = true, offset = 3 } = options;
  const all: Super[] = [];
  const joined = coalescer({ ethernet, offload, write: (bytes, start, length) => all.push(readSuper(bytes, start, length)) });
  for (const frame of frames) {
    const room = Buffer.concat([Buffer.alloc(offset, MARK), frame, Buffer.alloc(3, MARK)]);
    joined.add(room, offset, frame.length);
    // It is somebody else's again.
    room.fill(0);
  }
  joined.flush();
  return all;
}

/** *Copies*. */
export function readSuper(bytes: Buffer, start: number, length: number): Super {
  const header = plainVnetHeader();
  if (!readVnetHeader(bytes, start, header)) throw new Error('no virtio header');
  return { header, frame: Buffer.from(bytes.subarray(start + VNET_HEADER_BYTES, start + length)) };
}

/** Changes a packet before its checksums are made; `l4` is where its transport header begins. */
export type Edit = (packet: Buffer, l4: number) => void;

/** A TCP packet with its checksums complete. */
export function wholeTcp(shape: TcpShape, edit?: Edit): Buffer {
  return complete(tcpPacket(shape), shape.version, 16, edit);
}

/** A UDP packet with its checksums complete. */
export function wholeUdp(version: 4 | 6, payload: Buffer, edit?: Edit): Buffer {
  return complete(udpPacket(version, payload), version, 6, edit);
}

function complete(packet: Buffer, version: 4 | 6, field: number, edit: Edit | undefined): Buffer {
  const l4 = version === 4 ? 20 : 40;
  edit?.(packet, l4);
  packet.writeUInt16BE(0, l4 + field);
  const isTcp = field === 16;
  const checksum = l4ChecksumError(packet, isTcp ? 6 : 17, l4);
  packet.writeUInt16BE(checksum === 0 && !isTcp ? 0xffff : checksum, l4 + field);
  return version === 4 ? fixIpv4(packet) : packet;
}

/** The IPv4 header's checksum, after a change. */
export function fixIpv4(packet: Buffer, at = 0): Buffer {
  packet.writeUInt16BE(0, at + 10);
  packet.writeUInt16BE(slowChecksum(packet.subarray(at, at + 20)), at + 10);
  return packet;
}
