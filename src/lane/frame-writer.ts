// Sends frames into a device: puts before each what the device wants before it, and tells apart why the kernel did not take one. The checks
// here are those that the kernel makes too (drivers/net/tun.c, tun_get_user); made here they have a name.

import type { Device } from '../gen/taplane/lane/v1/lane_service.ts';
import { InjectRejection_Reason as Rejected } from '../gen/taplane/v1/packet.ts';
import * as libc from '../sys/libc.ts';

const PI_BYTES = 4;
const VNET_BYTES = 10;
const ETHERNET_BYTES = 14;
const IP_MOST = 65_535;
const ETH_P_IP = 0x0800;
const ETH_P_IPV6 = 0x86dd;
const EAGAIN = 11;

/** By errno of write(2) to a queue. */
const REASONS: Record<number, Rejected> = {
  5: Rejected.INTERFACE_DOWN,
  22: Rejected.REFUSED,
  11: Rejected.NO_MEMORY,
  12: Rejected.NO_MEMORY,
  105: Rejected.NO_MEMORY,
  77: Rejected.NO_DEVICE,
  9: Rejected.NO_DEVICE,
  6: Rejected.NO_DEVICE,
  19: Rejected.NO_DEVICE,
};

export class FrameWriter {
  readonly #device: Device;
  readonly #fd: () => number;
  readonly #most: number;
  readonly #headerBytes: number;
  readonly #buffer = Buffer.alloc(PI_BYTES + VNET_BYTES + ETHERNET_BYTES + IP_MOST + 1);

  /** `fd` answers with a queue of the device, negative for none. */
  constructor(device: Device, fd: () => number) {
    this.#device = device;
    this.#fd = fd;
    this.#most = IP_MOST + (device.tap ? ETHERNET_BYTES : 0);
    this.#headerBytes = (device.packetInfo ? PI_BYTES : 0) + (device.vnetHeader ? VNET_BYTES : 0);
  }

  /** Sends `bytes[start, start + length)`, a whole frame; 0 when the kernel took it. */
  write(bytes: Buffer, start: number, length: number): Rejected {
    const problem = this.#problem(bytes, start, length);
    if (problem !== 0) return problem;
    const headers = this.#headerBytes;
    const out = this.#buffer;
    if (this.#device.packetInfo) this.#packetInfo(bytes, start);
    // An empty virtio header: nothing is left to do.
    if (this.#device.vnetHeader) out.fill(0, headers - VNET_BYTES, headers);
    bytes.copy(out, headers, start, start + length);
    return this.#send(out, 0, headers + length);
  }

  /** Sends a frame that has its virtio header before it; to a device without them only one that leaves nothing to do. */
  writeSuper(bytes: Buffer, start: number, length: number): Rejected {
    if (!this.#device.vnetHeader && length > VNET_BYTES) {
      const isPlain = bytes[start] === 0 && bytes[start + 1] === 0;
      return isPlain ? this.write(bytes, start + VNET_BYTES, length - VNET_BYTES) : Rejected.BAD_HEADER;
    }
    if (length <= VNET_BYTES) return length === 0 ? Rejected.EMPTY : Rejected.TOO_SHORT;
    const problem = this.#problem(bytes, start + VNET_BYTES, length - VNET_BYTES);
    if (problem !== 0) return problem;
    if (this.#device.packetInfo) this.#packetInfo(bytes, start + VNET_BYTES);
    const outcome = this.#device.packetInfo ? this.#sendBehindInfo(bytes, start, length) : this.#send(bytes, start, length);
    return outcome === Rejected.REFUSED ? Rejected.BAD_HEADER : outcome;
  }

  #problem(bytes: Buffer, start: number, length: number): Rejected {
    if (length === 0) return Rejected.EMPTY;
    if (length > this.#most) return Rejected.TOO_LONG;
    if (this.#device.tap) return length < ETHERNET_BYTES ? Rejected.TOO_SHORT : Rejected.UNSPECIFIED;
    const version = (bytes[start] as number) >> 4;
    if (version !== 4 && version !== 6) return Rejected.BAD_VERSION;
    return length < (version === 4 ? 20 : 40) ? Rejected.TOO_SHORT : Rejected.UNSPECIFIED;
  }

  /** struct tun_pi: flags, then the protocol in network order. */
  #packetInfo(bytes: Buffer, start: number): void {
    const out = this.#buffer;
    const protocol = this.#device.tap ? bytes.readUInt16BE(start + 12) : (bytes[start] as number) >> 4 === 4 ? ETH_P_IP : ETH_P_IPV6;
    out.writeUInt16LE(0, 0);
    out.writeUInt16BE(protocol, 2);
  }

  #sendBehindInfo(bytes: Buffer, start: number, length: number): Rejected {
    bytes.copy(this.#buffer, PI_BYTES, start, start + length);
    return this.#send(this.#buffer, 0, PI_BYTES + length);
  }

  #send(bytes: Buffer, start: number, length: number): Rejected {
    const fd = this.#fd();
    if (fd < 0) return Rejected.NO_DEVICE;
    let result = libc.writeFrom(fd, bytes, start, length);
    // The send buffer of the queue is full of what the kernel still works on.
    for (let tries = 0; result === -EAGAIN && tries < 3; tries++) result = libc.writeFrom(fd, bytes, start, length);
    return result >= 0 ? Rejected.UNSPECIFIED : (REASONS[-result] ?? Rejected.REFUSED);
  }
}
