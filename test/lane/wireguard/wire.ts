// Wireguard tunnels on a wire in memory, for what needs another clock than the real one: everything but socket and device is as it is. Datagrams
// arrive with `deliver`, in order, unless a test takes, changes or repeats them.

import { randomBytes } from 'node:crypto';
import { LinkSetup } from '../../../src/gen/taplane/lane/v1/lane_service.ts';
import { type LinkDrops_Reason, LinkPeer, LinkSpec } from '../../../src/gen/taplane/v1/link.ts';
import { keyPair } from '../../../src/lane/wireguard/noise.ts';
import { WireguardTunnel } from '../../../src/lane/wireguard/wireguard.ts';
import { parseSocketAddress, type SocketAddress } from '../../../src/sys/socket-address.ts';
import type { TakeDatagrams, UdpSocket } from '../../../src/sys/udp-socket.ts';

export const VNET = 10;
const PAYLOAD = Buffer.from(Array.from({ length: 251 }, (_, index) => index));

export interface Datagram {
  from: string;
  to: SocketAddress;
  bytes: Buffer;
  /** Not to be fragmented. */
  whole?: boolean;
}

export class Wire {
  readonly #sockets = new Map<string, { take: TakeDatagrams; flush: () => void }>();
  /** On their way. */
  sent: Datagram[] = [];
  /** All that ever was, oldest first. */
  readonly log: Datagram[] = [];
  /** Errno of what is sent from now on, */
  failure = 0;
  /** after so many datagrams more. */
  failsAfter = 0;

  open(address: string): UdpSocket {
    const key = (at: SocketAddress) => at.toString('hex');
    const own = parseSocketAddress(address) as SocketAddress;
    const push = (to: SocketAddress, bytes: Buffer, start: number, length: number, segment: number, whole = false): number => {
      socket.sentBytes = 0;
      for (let at = start; at < start + length; at += segment) {
        if (this.failure !== 0 && this.failsAfter-- <= 0) return this.failure;
        const piece = bytes.subarray(at, Math.min(at + segment, start + length));
        const datagram = { from: address, to: Buffer.from(to), bytes: Buffer.from(piece), whole };
        this.sent.push(datagram);
        this.log.push(datagram);
        socket.sentBytes += piece.length;
      }
      return 0;
    };
    const socket = {
      address,
      overflows: 0,
      sentBytes: 0,
      send: push,
      sendWhole: (to: SocketAddress, bytes: Buffer, start: number, length: number) => push(to, bytes, start, length, length, true),
      listen: (take: TakeDatagrams, flush: () => void) => void this.#sockets.set(key(own), { take, flush }),
      limitMtu: () => {},
      close: () => void this.#sockets.delete(key(own)),
    };
    return socket;
  }

  /** What was sent so far, and no longer on its way. */
  take(): Datagram[] {
    const all = this.sent;
    this.sent = [];
    return all;
  }

  /** Answers the datagram as the end has left it, which opens it in place. */
  give({ from, to, bytes }: Datagram): Buffer {
    const socket = this.#sockets.get(to.toString('hex'));
    const given = Buffer.from(bytes);
    socket?.take(given, 0, bytes.length, bytes.length, parseSocketAddress(from) as SocketAddress);
    socket?.flush();
    return given;
  }

  /** Until nothing is on its way any more. */
  deliver(): void {
    for (let rounds = 0; this.sent.length > 0; rounds++) {
      if (rounds > 1000) throw new Error('the ends do not stop talking');
      for (const datagram of this.take()) this.give(datagram);
    }
  }
}

export type PeerPartial = Partial<Omit<LinkPeer, 'publicKey'>> & { publicKey: Buffer };

/** A tunnel and the device behind it, whose inner address is `inner`. */
export class End {
  readonly privateKey: Buffer;
  readonly publicKey: Buffer;
  readonly address: string;
  readonly received: Buffer[] = [];
  readonly tunnel: WireguardTunnel;
  readonly setup: LinkSetup;

  constructor(
    wire: Wire,
    address: string,
    peers: PeerPartial[],
    options: { privateKey?: Buffer; epoch?: bigint; mtu?: number; greets?: boolean } = {},
  ) {
    this.privateKey = options.privateKey ?? randomBytes(32);
    this.publicKey = keyPair(this.privateKey).publicKey;
    this.address = address;
    this.setup = LinkSetup.fromPartial({
      uid: address,
      handshakeEpoch: options.epoch ?? 1000n,
      spec: LinkSpec.fromPartial({
        listen: address,
        mtu: options.mtu ?? 0,
        wireguard: { privateKey: this.privateKey },
        peers: peers.map((peer) => LinkPeer.fromPartial(peer)),
      }),
    });
    const write = (bytes: Buffer, start: number, length: number) => {
      this.received.push(Buffer.from(bytes.subarray(start + VNET, start + length)));
      return 0 as const;
    };
    this.tunnel = new WireguardTunnel(
      this.setup,
      { device: { ethernet: false, offload: false, write }, now: () => performance.now() },
      ({ listen }) => wire.open(listen),
      options.greets ?? false,
    );
  }

  /** Declares it again with something else. */
  again(change: { peers?: PeerPartial[]; privateKey?: Buffer; epoch?: bigint; addresses?: string[] }): boolean {
    const setup = LinkSetup.fromPartial(this.setup);
    if (setup.spec === undefined) throw new Error('no spec');
    if (change.peers) setup.spec.peers = change.peers.map((peer) => LinkPeer.fromPartial(peer));
    if (change.privateKey) setup.spec.wireguard = { privateKey: change.privateKey };
    setup.addresses = change.addresses ?? [];
    setup.handshakeEpoch = change.epoch ?? setup.handshakeEpoch;
    return this.tunnel.again(setup);
  }

  /** The node sends a packet of `bytes` from `source` to `destination`. */
  send(source: string, destination: string, bytes = 100): void {
    this.sendAll([source, destination, bytes]);
  }

  /** Several of them in one round. */
  sendAll(...packets: [source: string, destination: string, bytes: number][]): void {
    for (const [source, destination, bytes] of packets) {
      const frame = Buffer.concat([Buffer.alloc(VNET), packet(source, destination, bytes)]);
      this.tunnel.take(frame, 0, frame.length);
    }
    this.tunnel.flush();
  }

  drops(reason: LinkDrops_Reason): number {
    return Number(this.tunnel.state().drops.find((drop) => drop.reason === reason)?.packets ?? 0);
  }

  /** All of them. */
  get dropped(): number {
    return this.tunnel.state().drops.reduce((sum, { packets }) => sum + Number(packets), 0);
  }
}

/** An IP packet of protocol 253, for experiments (RFC 3692), with some payload. */
export function packet(source: string, destination: string, bytes: number): Buffer {
  const isIpv4 = !source.includes(':');
  const address = (text: string) => {
    const all = parseSocketAddress(isIpv4 ? `${text}:1` : `[${text}]:1`) as SocketAddress;
    return all.subarray(isIpv4 ? 20 : 8, 24);
  };
  const out = Buffer.alloc(bytes, PAYLOAD);
  if (isIpv4) {
    out.set([0x45, 0, bytes >> 8, bytes & 0xff, 0, 0, 0x40, 0, 64, 253, 0, 0]);
    out.set(address(source), 12);
    out.set(address(destination), 16);
    let sum = 0;
    for (let at = 0; at < 20; at += 2) sum += out.readUInt16BE(at);
    out.writeUInt16BE(~((sum & 0xffff) + (sum >> 16)) & 0xffff, 10);
  } else {
    out.set([0x60, 0, 0, 0, (bytes - 40) >> 8, (bytes - 40) & 0xff, 253, 64]);
    out.set(address(source), 8);
    out.set(address(destination), 24);
  }
  return out;
}

/** Two ends that know each other: 192.0.2.1 with 10.0.0.1 and fd00::1 inside, 192.0.2.2 with 10.0.0.2 and fd00::2. */
export function pair(
  wire: Wire,
  options: { presharedKey?: Buffer; keepalive?: number; mtu?: number; greets?: boolean } = {},
): { a: End; b: End } {
  const keys = [randomBytes(32), randomBytes(32)] as const;
  const end = (number: 1 | 2) => {
    const other = number === 1 ? 2 : 1;
    const peer: PeerPartial = {
      publicKey: keyPair(keys[other - 1] as Buffer).publicKey,
      endpoint: `192.0.2.${other}:51820`,
      allowedPrefixes: [`10.0.0.${other}/32`, `fd00::${other}/128`],
      presharedKey: options.presharedKey,
      keepalive: number === 1 ? options.keepalive : 0,
    };
    return new End(wire, `192.0.2.${number}:51820`, [peer], { privateKey: keys[number - 1], mtu: options.mtu, greets: options.greets });
  };
  return { a: end(1), b: end(2) };
}
