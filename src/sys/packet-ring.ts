// A tap on a device: an AF_PACKET socket with a TPACKET_V3 ring (packet(7); Documentation/networking/packet_mmap.rst). The kernel fills
// blocks and hands them over; `drain` walks them without a copy and hands them back. It never stands in the way of packets: what finds no
// room is counted by the kernel.
//
//   | block header | packet: tpacket3_hdr 48, sockaddr_ll 20, (virtio header 10), frame | packet | ...

import * as libc from './libc.ts';
import { SysError } from './sys-error.ts';

const AF_PACKET = 17;
const SOL_PACKET = 263;
const PACKET_RX_RING = 5;
const PACKET_STATISTICS = 6;
const PACKET_VERSION = 10;
const PACKET_VNET_HDR = 15;
const TPACKET_V3 = 2;
const ETH_P_ALL_BE = 0x0300;
const SOL_SOCKET = 1;
const SO_ERROR = 4;
const PACKET_OUTGOING = 4;
const TP_STATUS_USER = 1;
const TP_STATUS_VLAN_VALID = 1 << 4;
const TP_STATUS_VLAN_TPID_VALID = 1 << 6;
const ETH_P_8021Q = 0x8100;

const FRAME_BYTES = 2048;
const SO_ATTACH_FILTER = 26;
const BPF_RET_K = 6;

/** The memory of a ring, and what goes into it. */
export interface RingShape {
  /** All blocks together; rounded down to blocks, at least 2. */
  bytes: number;
  /** Of one block, a power of two from 4096: a frame as far as it is kept, its headers and 80 bytes must fit into it. */
  blockBytes: number;
  /**
   * After this the kernel hands a block over however little is in it, and at the latest after as long again. So many blocks as there are
   * last for so long when little passes: a reader may stand still for half a second with 32 of them and 16 ms, and sees what passed with
   * this delay.
   */
  retireMs: number;
  /** Bytes of a frame that are kept; undefined for all. */
  snapLength?: number;
}

// struct tpacket_block_desc
const BLOCK_STATUS = 8;
const BLOCK_PACKETS = 12;
const BLOCK_FIRST = 16;
// struct tpacket3_hdr
const NEXT = 0;
const SECONDS = 4;
const NANOS = 8;
const CAPTURED = 12;
const LENGTH = 16;
const STATUS = 20;
const MAC = 24;
const VLAN_TCI = 32;
const VLAN_TPID = 36;
const LINK_TYPE_OF_PACKET = 48 + 10;

/** A frame of the ring, reused from call to call. */
export interface RingFrame {
  seconds: number;
  nanos: number;
  /** The node sent it; else it received it. */
  outgoing: boolean;
  /** The frame is `bytes[start, start + captured)`; the 10 bytes of its virtio header stand right before it. */
  start: number;
  captured: number;
  /** Length before the kernel cut it. */
  length: number;
  /** The VLAN tag that the kernel took off, or 0 for none. */
  vlanTpid: number;
  vlanTci: number;
}

export class PacketRing {
  /** All blocks. What `drain` tells of is valid only during its callback (*borrows*). */
  readonly bytes: Buffer;
  readonly #fd: number;
  readonly #memory: libc.SharedMemory;
  readonly #words: Int32Array;
  /** Blocks of the ring. */
  readonly blocks: number;
  readonly blockBytes: number;
  /** Whatever has passed is to be had after this, milliseconds. */
  readonly delayMs: number;
  #block = 0;
  #poll: libc.Poll | undefined;
  #closed = false;
  readonly #frame: RingFrame = { seconds: 0, nanos: 0, outgoing: false, start: 0, captured: 0, length: 0, vlanTpid: 0, vlanTci: 0 };

  private constructor(fd: number, index: number, shape: RingShape) {
    const { blockBytes, retireMs, snapLength } = shape;
    this.blocks = blocksOf(shape);
    this.blockBytes = blockBytes;
    this.delayMs = 2 * retireMs + 8;
    this.#fd = fd;
    this.#memory = libc.mapShared(fd, blockBytes * this.blocks);
    try {
      if (snapLength !== undefined) snap(fd, snapLength);
      // struct sockaddr_ll
      const address = Buffer.alloc(20);
      address.writeUInt16LE(AF_PACKET, 0);
      address.writeUInt16LE(ETH_P_ALL_BE, 2);
      address.writeInt32LE(index, 4);
      libc.bind(fd, address);
    } catch (error) {
      this.#memory.unmap();
      throw error;
    }
    this.bytes = Buffer.from(this.#memory.bytes);
    this.#words = new Int32Array(this.#memory.bytes);
  }

  /** Taps the device with this index in the current network namespace. The kernel takes some 10 ms for it. Throws SysError. */
  static open(index: number, shape: RingShape): PacketRing {
    const fd = newSocket();
    try {
      libc.setsockopt(fd, SOL_PACKET, PACKET_RX_RING, request(shape));
      return new PacketRing(fd, index, shape);
    } catch (error) {
      libc.close(fd);
      throw error;
    }
  }

  /**
   * The same, with the wait on another thread: the namespace is that of the moment of the call. `isWanted` is asked after it; answers
   * undefined when it is not. Throws, or rejects with, SysError.
   */
  static openLater(index: number, shape: RingShape, isWanted: () => boolean): Promise<PacketRing | undefined> {
    const fd = newSocket();
    const value = request(shape);
    return new Promise((resolve, reject) => {
      libc.setsockoptLater(fd, SOL_PACKET, PACKET_RX_RING, value, (well) => {
        try {
          // Once more for its errno; a call that fails does not wait.
          if (!well) libc.setsockopt(fd, SOL_PACKET, PACKET_RX_RING, value);
          if (isWanted()) return resolve(new PacketRing(fd, index, shape));
          libc.close(fd);
          resolve(undefined);
        } catch (error) {
          libc.close(fd);
          reject(error);
        }
      });
    });
  }

  /** Calls `ready` whenever blocks wait or the socket is in error, which `problem` tells. After an error, listen again. */
  listen(ready: (failed: boolean) => void): void {
    this.#poll?.close();
    this.#poll = libc.pollReadable(this.#fd, (status) => ready(status < 0));
  }

  /** The errno name that waits on the socket, such as ENETDOWN when the device went down or away; undefined for none. Clears it. */
  problem(): string | undefined {
    const value = Buffer.alloc(4);
    libc.getsockopt(this.#fd, SOL_SOCKET, SO_ERROR, value);
    const errno = value.readInt32LE(0);
    return errno === 0 ? undefined : new SysError('tap', errno).code;
  }

  /** Whether the kernel has handed over a block that was not told of. */
  hasBlock(): boolean {
    return !this.#closed && (Atomics.load(this.#words, (this.#block * this.blockBytes + BLOCK_STATUS) >> 2) & TP_STATUS_USER) !== 0;
  }

  /** Tells of the frames of at most `most` blocks, in order; answers whether more blocks wait. */
  drain(most: number, take: (frame: RingFrame) => void): boolean {
    for (let count = 0; count < most && !this.#closed; count++) {
      const at = this.#block * this.blockBytes;
      if ((Atomics.load(this.#words, (at + BLOCK_STATUS) >> 2) & TP_STATUS_USER) === 0) return false;
      this.#walk(at, take);
      if (this.#closed) return false;
      // The kernel may leave it as it is for a while: what was told of is not told of again.
      this.#words[(at + BLOCK_PACKETS) >> 2] = 0;
      Atomics.store(this.#words, (at + BLOCK_STATUS) >> 2, 0);
      this.#block = (this.#block + 1) % this.blocks;
    }
    return this.hasBlock();
  }

  /** Tells of the frames of the block that the kernel has not handed over yet. Only when nothing fills it any more: the device is gone. */
  drainRest(take: (frame: RingFrame) => void): void {
    if (!this.#closed) this.#walk(this.#block * this.blockBytes, take);
  }

  /** Frames that the kernel dropped for want of room since the last call. */
  takeDrops(): number {
    const statistics = Buffer.alloc(12);
    libc.getsockopt(this.#fd, SOL_PACKET, PACKET_STATISTICS, statistics);
    return statistics.readUInt32LE(4);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    // libuv wants the handle closed before the fd.
    this.#poll?.close();
    libc.close(this.#fd);
    // The mapping holds the socket, and its end waits for all processors.
    this.#memory.unmapLater();
  }

  #walk(block: number, take: (frame: RingFrame) => void): void {
    const words = this.#words;
    const packets = words[(block + BLOCK_PACKETS) >> 2] as number;
    let at = block + (words[(block + BLOCK_FIRST) >> 2] as number);
    const frame = this.#frame;
    for (let packet = 0; packet < packets && !this.#closed; packet++) {
      const status = words[(at + STATUS) >> 2] as number;
      frame.seconds = (words[(at + SECONDS) >> 2] as number) >>> 0;
      frame.nanos = (words[(at + NANOS) >> 2] as number) >>> 0;
      frame.captured = words[(at + CAPTURED) >> 2] as number;
      frame.length = words[(at + LENGTH) >> 2] as number;
      frame.start = at + ((words[(at + MAC) >> 2] as number) & 0xffff);
      frame.outgoing = this.bytes[at + LINK_TYPE_OF_PACKET] === PACKET_OUTGOING;
      if ((status & TP_STATUS_VLAN_VALID) === 0) frame.vlanTpid = 0;
      else {
        frame.vlanTpid = (status & TP_STATUS_VLAN_TPID_VALID) === 0 ? ETH_P_8021Q : (words[(at + VLAN_TPID) >> 2] as number) & 0xffff;
        frame.vlanTci = (words[(at + VLAN_TCI) >> 2] as number) & 0xffff;
      }
      const next = words[(at + NEXT) >> 2] as number;
      take(frame);
      at += next;
    }
  }
}

/** Keeps so many bytes of each frame, by a filter of one instruction (struct sock_fprog, linux/filter.h). */
function snap(fd: number, length: number): void {
  const instruction = Buffer.alloc(8);
  instruction.writeUInt16LE(BPF_RET_K, 0);
  instruction.writeUInt32LE(length, 4);
  const program = Buffer.alloc(16);
  program.writeUInt16LE(1, 0);
  program.writeBigUInt64LE(libc.addressOf(instruction), 8);
  libc.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, program);
  // Only an address points to it: it must not be collected before the kernel has read it.
  if (instruction.length === 0) throw new RangeError('no instruction');
}

function blocksOf({ bytes, blockBytes }: RingShape): number {
  return Math.max(2, Math.floor(bytes / blockBytes));
}

/** Without a protocol nothing comes until the ring is there and the socket is bound to the one device. */
function newSocket(): number {
  const fd = libc.socket(AF_PACKET, libc.SOCK_RAW | libc.SOCK_NONBLOCK, 0);
  try {
    libc.setsockoptInt(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V3);
    libc.setsockoptInt(fd, SOL_PACKET, PACKET_VNET_HDR, 1);
  } catch (error) {
    libc.close(fd);
    throw error;
  }
  return fd;
}

/** struct tpacket_req3 */
function request(shape: RingShape): Buffer {
  const bytes = Buffer.alloc(28);
  const blocks = blocksOf(shape);
  const fields = [shape.blockBytes, blocks, FRAME_BYTES, (shape.blockBytes / FRAME_BYTES) * blocks, shape.retireMs, 0, 0];
  for (const [at, value] of fields.entries()) bytes.writeUInt32LE(value, at * 4);
  return bytes;
}
