// What a capture file holds, whatever its format, and how a bad one is refused. Pure.

/** A packet of a capture file. */
export interface CapturedPacket {
  /** What `bytes` begin with, a number of tcpdump.org/linktypes. */
  linkType: number;
  /** Time since 1970, and nanoseconds from 0 to 999,999,999. */
  seconds: number;
  nanos: number;
  /** Bytes on the wire, as the file says; more than `bytes` when the capture cut it. */
  originalLength: number;
  /** What was kept, at most 262,144 bytes; the receiver's own. */
  bytes: Buffer;
}

/** A file that is no capture, damaged or cut off. */
export class BadCapture extends Error {
  override readonly name = 'BadCapture';
  /** Where in the file the block or record begins that is bad. */
  readonly offset: number;

  constructor(offset: number, cause: string) {
    super(`read capture: byte ${offset}: ${cause}`);
    this.offset = offset;
  }
}

/** Most bytes of a packet: MAXIMUM_SNAPLEN of tcpdump. */
const PACKET_MOST = 262_144;

/** Checks how many bytes of a packet are said to be kept. Throws BadCapture. */
export function checkCaptured(captured: number, offset: number): void {
  if (captured > PACKET_MOST) throw new BadCapture(offset, `a packet of ${captured} bytes, at most ${PACKET_MOST}`);
}

/** A format of capture files: cuts a file into blocks, and reads them one after another. */
export interface CaptureFormat {
  /**
   * Bytes of the block at `at`, of which `available` are there: what it says itself, or as many as are needed to know. `offset` is its
   * place in the file. Throws BadCapture.
   */
  size(buffer: Buffer, at: number, available: number, offset: number): number;
  /** Reads a whole block of that size (*borrows*); undefined for one that is no packet. Throws BadCapture. */
  read(buffer: Buffer, at: number, size: number, offset: number): CapturedPacket | undefined;
}

/** Reads 16 bits in the byte order of a file. */
export function u16(buffer: Buffer, at: number, little: boolean): number {
  return little ? buffer.readUInt16LE(at) : buffer.readUInt16BE(at);
}

/** Reads 32 bits in the byte order of a file. */
export function u32(buffer: Buffer, at: number, little: boolean): number {
  return little ? buffer.readUInt32LE(at) : buffer.readUInt32BE(at);
}
