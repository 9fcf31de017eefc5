// A responder: answers the frames of an interface by pure functions of packet/, into one buffer of its own, and counts. It never waits and
// never throws; an answer that the kernel does not take is counted, not tried again.

import { createHash } from 'node:crypto';
import ipaddr from 'ipaddr.js';
import type { ResponderCounts } from '../gen/taplane/lane/v1/lane_service.ts';
import { ResponderSpec_Kind as Kind, type ResponderSpec } from '../gen/taplane/v1/interface.ts';
import { arpReply } from '../packet/arp.ts';
import { echoReply } from '../packet/icmp-echo.ts';
import { neighbourAdvertisement } from '../packet/neighbour-discovery.ts';
import { type PrefixBytes, PrefixSet } from '../packet/prefix-set.ts';
import { reflect } from '../packet/reflect.ts';
import type { Consumer, WriteFrame } from './consumer.ts';

/** Longest answer: 64 KiB of payload behind an IPv6 header, Ethernet and two VLAN tags. */
const ANSWER_MOST = 65_535 + 40 + 22;
/** Longest answer of ARP and neighbour discovery. */
const ADVERTISEMENT_MOST = 128;

/** Writes the answer to a frame into `out`; its length, 0 for none. */
type Answer = (bytes: Buffer, start: number, length: number, out: Buffer) => number;

export interface ResponderNeeds {
  /** Frames are of a TAP. */
  ethernet: boolean;
  /** Uid of the interface. */
  uid: string;
  write: WriteFrame;
}

export class Responder implements Consumer {
  readonly #id: string;
  readonly #write: WriteFrame;
  readonly #out: Buffer;
  /** Undefined: takes every frame and says nothing. */
  readonly #answer: Answer | undefined;
  #received = 0;
  #answered = 0;
  #failed = 0;

  /** Texts of the spec that are no addresses are ignored: who declared it has checked them. */
  constructor(spec: ResponderSpec, { ethernet, uid, write }: ResponderNeeds) {
    this.#id = spec.id;
    this.#write = write;
    this.#answer = answerOf(spec, ethernet, uid);
    const most = spec.kind === Kind.ICMP_ECHO || spec.kind === Kind.REFLECT ? ANSWER_MOST : ADVERTISEMENT_MOST;
    this.#out = Buffer.allocUnsafeSlow(most);
  }

  take(bytes: Buffer, start: number, length: number): void {
    this.#received++;
    if (this.#answer === undefined) {
      this.#answered++;
      return;
    }
    const size = this.#answer(bytes, start, length, this.#out);
    if (size === 0) return;
    if (this.#write(this.#out, 0, size) === 0) this.#answered++;
    else this.#failed++;
  }

  flush(): void {}

  /** What it has done since it was made. */
  counts(): ResponderCounts {
    return { id: this.#id, received: BigInt(this.#received), answered: BigInt(this.#answered), failed: BigInt(this.#failed) };
  }
}

function answerOf(spec: ResponderSpec, ethernet: boolean, uid: string): Answer | undefined {
  const { kind } = spec;
  if (kind === Kind.SINK) return undefined;
  const addresses = new PrefixSet(spec.addresses.flatMap(prefixOf));
  const some = spec.addresses.length === 0 ? undefined : addresses;
  if (kind === Kind.ICMP_ECHO) return (bytes, start, length, out) => echoReply(bytes, start, length, ethernet, some, out);
  if (kind === Kind.REFLECT) return (bytes, start, length, out) => reflect(bytes, start, length, ethernet, some, out);
  const mac = macOf(spec.macAddress) ?? defaultMac(uid);
  // A TUN has no neighbours.
  if (kind === Kind.ARP && ethernet) return (bytes, start, length, out) => arpReply(bytes, start, length, addresses, mac, out);
  if (kind === Kind.ND && ethernet) return (bytes, start, length, out) => neighbourAdvertisement(bytes, start, length, addresses, mac, out);
  return () => 0;
}

/** An address is the prefix of all its bits. Empty for text that is neither. */
function prefixOf(text: string): PrefixBytes[] {
  const [address = '', length, ...more] = text.split('/');
  // ipaddr.js takes 10.1 and 0x0a000001 for IPv4 too.
  const valid = address.includes(':')
    ? ipaddr.IPv6.isValid(address) && !address.includes('%')
    : ipaddr.IPv4.isValidFourPartDecimal(address);
  if (!valid || more.length > 0 || (length !== undefined && !/^\d{1,3}$/.test(length))) return [];
  const bytes = Uint8Array.from(ipaddr.parse(address).toByteArray());
  const bits = length === undefined ? bytes.length * 8 : Number(length);
  return bits > bytes.length * 8 ? [] : [{ bytes, length: bits }];
}

function macOf(text: string): Buffer | undefined {
  return /^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/i.test(text) ? Buffer.from(text.replaceAll(':', ''), 'hex') : undefined;
}

/** A locally administered address of one station, always the same for an interface. */
function defaultMac(uid: string): Buffer {
  const mac = createHash('sha256').update(`${uid} responder`).digest().subarray(0, 6);
  mac[0] = ((mac[0] as number) & 0xfc) | 2;
  return mac;
}
