// Community ID, version 1 (github.com/corelight/community-id-spec): a name for a flow that Zeek, Suricata, Arkime and others give it too,
// from either end of it. Pure; allocates nothing but the answer.
//
//   "1:" base64(SHA-1(seed 2 | address 4 or 16 | address | protocol 1 | 0 1 [ | port 2 | port 2 ]))    the lesser address and port first

import { hash } from 'node:crypto';

const [ICMP, TCP, UDP, ICMPV6, SCTP] = [1, 6, 17, 58, 132] as const;
const SEED_BYTES = 2;
const MOST_BYTES = SEED_BYTES + 2 * 16 + 6;

/** Types of ICMP that ask and answer each other: echo, router, timestamp, information, address mask (RFC 792, 950, 1256). */
const V4_PAIRS = [0, 8, 9, 10, 13, 14, 15, 16, 17, 18];
/** The same of ICMPv6: echo, listener, router, neighbour, node information, home agent (RFC 4443, 2710, 4861, 4620, 6275). */
const V6_PAIRS = [128, 129, 130, 131, 133, 134, 135, 136, 139, 140, 144, 145];

function counterparts(pairs: readonly number[]): Int16Array {
  const table = new Int16Array(256).fill(-1);
  for (const [index, type] of pairs.entries()) table[type] = pairs[index ^ 1] as number;
  return table;
}

const v4Counterparts = counterparts(V4_PAIRS);
const v6Counterparts = counterparts(V6_PAIRS);

/** The type, 0 to 255, that answers a type of ICMP, or of ICMPv6, or is answered by it; -1 for one that goes one way, such as an error. */
export function icmpCounterpart(type: number, v6: boolean): number {
  return (v6 ? v6Counterparts : v4Counterparts)[type] ?? -1;
}

/** Whether ports, or type and code, are part of the ID. UDP-Lite and DCCP have ports as well, but the specification does not name them. */
function countsPorts(protocol: number): boolean {
  return protocol === TCP || protocol === UDP || protocol === ICMP || protocol === ICMPV6 || protocol === SCTP;
}

/** Computes IDs in a buffer of its own. */
export class CommunityId {
  readonly #input = new Uint8Array(MOST_BYTES);
  /** The first bytes of the input: of IPv4 without and with ports, of IPv6. */
  readonly #v4 = this.#input.subarray(0, SEED_BYTES + 10);
  readonly #v4Ports = this.#input.subarray(0, SEED_BYTES + 14);
  readonly #v6 = this.#input.subarray(0, SEED_BYTES + 34);
  readonly #v6Ports = this.#input.subarray(0, SEED_BYTES + 38);

  /** `seed` from 0 to 65535 keeps IDs of one network apart from those of another; other tools have 0 unless they are told. */
  constructor(seed = 0) {
    if (!Number.isInteger(seed) || seed < 0 || seed > 0xffff) throw new RangeError(`community ID: seed ${seed} is not within 0 to 65535`);
    this.#input[0] = seed >>> 8;
    this.#input[1] = seed;
  }

  /**
   * The ID, 30 characters, of a packet between two addresses of 4 or 16 bytes within `bytes` (*borrows*), which lie anywhere in it. Of ICMP
   * and ICMPv6 `sourcePort` is the type and `destinationPort` the code. -1 for both where they are not known, as in every fragment but the
   * first: the ID is then that of a protocol without ports. Protocols that have none ignore them.
   */
  hash(
    bytes: Uint8Array,
    sourceAt: number,
    destinationAt: number,
    addressBytes: 4 | 16,
    protocol: number,
    sourcePort: number,
    destinationPort: number,
  ): string {
    const ports = sourcePort >= 0 && countsPorts(protocol);
    let second = destinationPort;
    let oneWay = false;
    if (ports && (protocol === ICMP || protocol === ICMPV6)) {
      const counterpart = icmpCounterpart(sourcePort, protocol === ICMPV6);
      oneWay = counterpart < 0;
      if (!oneWay) second = counterpart;
    }
    // A packet that goes one way keeps its direction: its code is not a port of the other end.
    const swap = !oneWay && isAbove(bytes, sourceAt, destinationAt, addressBytes, ports ? sourcePort - second : 0);

    const input = this.#input;
    const firstAt = swap ? destinationAt : sourceAt;
    const secondAt = swap ? sourceAt : destinationAt;
    for (let index = 0; index < addressBytes; index++) {
      input[SEED_BYTES + index] = bytes[firstAt + index] as number;
      input[SEED_BYTES + addressBytes + index] = bytes[secondAt + index] as number;
    }
    const at = SEED_BYTES + 2 * addressBytes;
    input[at] = protocol;
    input[at + 1] = 0;
    if (!ports) return `1:${hash('sha1', addressBytes === 4 ? this.#v4 : this.#v6, 'base64')}`;
    const [low, high] = swap ? [second, sourcePort] : [sourcePort, second];
    input[at + 2] = low >>> 8;
    input[at + 3] = low;
    input[at + 4] = high >>> 8;
    input[at + 5] = high;
    return `1:${hash('sha1', addressBytes === 4 ? this.#v4Ports : this.#v6Ports, 'base64')}`;
  }
}

/** Whether the source is the greater of two ends; equal addresses are told apart by `ports`, above 0 when the source has the greater one. */
function isAbove(bytes: Uint8Array, sourceAt: number, destinationAt: number, addressBytes: number, ports: number): boolean {
  for (let index = 0; index < addressBytes; index++) {
    const difference = (bytes[sourceAt + index] as number) - (bytes[destinationAt + index] as number);
    if (difference !== 0) return difference > 0;
  }
  return ports > 0;
}
