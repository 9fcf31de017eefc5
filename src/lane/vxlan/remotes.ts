// The remotes of a vxlan link: found by number, as the forwarding database has them, and by the address that a datagram comes from. Senders of vxlan
// choose their source port by a hash of the inner flow (RFC 7348, section 5), so the port counts only between remotes at one address.

import type { LinkPeer } from '../../gen/taplane/v1/link.ts';
import { isIpv4, parseSocketAddress, SOCKET_ADDRESS_BYTES, type SocketAddress } from '../../sys/socket-address.ts';
import { TrafficCount } from '../link/counts.ts';

/** Numbers of remotes are 0 to this less one. */
const MOST = 0xffff;
/** struct sockaddr_in6: port and address. */
const PORT_AT = 2;
const IP_AT = 8;
const IP_WORDS = 4;

export interface Remote {
  /** Stays as long as the remote does. */
  readonly number: number;
  /** As the spec has it. */
  endpoint: string;
  readonly address: SocketAddress;
  readonly isV6: boolean;
  displayName: string;
  readonly traffic: TrafficCount;
  /** Monotonic milliseconds when something last came; -Infinity: never. */
  heardMs: number;
  /** Bytes of the largest inner packet that its path takes; 0: not known. */
  pathMtu: number;
  /** Another remote at the same address. */
  sameAddress: Remote | undefined;
}

export class Remotes {
  /** In the order of the spec. */
  list: readonly Remote[] = [];
  readonly #byNumber: (Remote | undefined)[] = [];
  /** Open addressing by the IP address: the first of those that have it. */
  #slots: (Remote | undefined)[] = [undefined];

  /** Takes the peers of a spec; those that stay, by their address and port, stay what they are. Answers the numbers of those that are gone. */
  set(peers: readonly LinkPeer[]): number[] {
    const known = new Map(this.list.map((remote) => [keyOf(remote.address), remote]));
    const kept = new Map<string, Remote>();
    const fresh: [key: string, endpoint: string, address: SocketAddress, displayName: string][] = [];
    for (const { endpoint, displayName } of peers) {
      const address = parseSocketAddress(endpoint);
      if (address === undefined || address.length < SOCKET_ADDRESS_BYTES) continue;
      const key = keyOf(address);
      const remote = known.get(key);
      if (remote === undefined) fresh.push([key, endpoint, address, displayName]);
      else {
        remote.endpoint = endpoint;
        remote.displayName = displayName;
        kept.set(key, remote);
      }
    }
    const gone = this.list.filter(({ address }) => !kept.has(keyOf(address))).map(({ number }) => number);
    for (const number of gone) this.#byNumber[number] = undefined;
    for (const [key, endpoint, address, displayName] of fresh) {
      const free = this.#byNumber.indexOf(undefined);
      const number = free < 0 ? this.#byNumber.length : free;
      if (number >= MOST || kept.has(key)) continue;
      const remote: Remote = {
        number,
        endpoint,
        address,
        isV6: !isIpv4(address),
        displayName,
        traffic: new TrafficCount(),
        heardMs: Number.NEGATIVE_INFINITY,
        pathMtu: 0,
        sameAddress: undefined,
      };
      this.#byNumber[number] = remote;
      kept.set(key, remote);
    }
    const order = peers.map(({ endpoint }) => parseSocketAddress(endpoint)).map((address) => (address ? keyOf(address) : ''));
    this.list = [...new Set(order)].flatMap((key) => kept.get(key) ?? []);
    this.#index();
    return gone;
  }

  byNumber(number: number): Remote | undefined {
    return this.#byNumber[number];
  }

  /** The remote that a datagram comes from. */
  find(from: SocketAddress): Remote | undefined {
    const first = this.#slots[this.#slotOf(from)];
    if (first?.sameAddress === undefined) return first;
    const port = from.readUInt16BE(PORT_AT);
    for (let remote: Remote | undefined = first; remote !== undefined; remote = remote.sameAddress) {
      if (remote.address.readUInt16BE(PORT_AT) === port) return remote;
    }
    return first;
  }

  #index(): void {
    this.#slots = Array<Remote | undefined>(2 ** Math.ceil(Math.log2(this.list.length * 2 + 1))).fill(undefined);
    for (const remote of this.list) {
      remote.sameAddress = undefined;
      const slot = this.#slotOf(remote.address);
      let last = this.#slots[slot];
      if (last === undefined) this.#slots[slot] = remote;
      else {
        while (last.sameAddress !== undefined) last = last.sameAddress;
        last.sameAddress = remote;
      }
    }
  }

  /** The slot of the first remote with the address, or the empty one where it would go. */
  #slotOf(address: SocketAddress): number {
    const last = this.#slots.length - 1;
    let slot = 0;
    for (let word = 0; word < IP_WORDS; word++) slot = Math.imul(slot ^ address.readInt32LE(IP_AT + word * 4), 0x9e3779b1);
    slot = (slot ^ (slot >>> 15)) & last;
    for (;;) {
      const remote = this.#slots[slot];
      if (remote === undefined || isSameIp(remote.address, address)) return slot;
      slot = (slot + 1) & last;
    }
  }
}

function isSameIp(a: SocketAddress, b: SocketAddress): boolean {
  for (let at = IP_AT; at < IP_AT + IP_WORDS * 4; at += 4) if (a.readInt32LE(at) !== b.readInt32LE(at)) return false;
  return true;
}

function keyOf(address: SocketAddress): string {
  return address.toString('latin1', PORT_AT, PORT_AT + 2) + address.toString('latin1', IP_AT, IP_AT + IP_WORDS * 4);
}
