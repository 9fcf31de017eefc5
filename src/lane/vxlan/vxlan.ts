// The tunnel of the protocol vxlan (RFC 7348): Ethernet frames of a TAP in UDP, to one or more remotes.
//
//   out:  device -> is it answered here (neighbours)? -> where is its destination (fdb)? -> cut -> to its remote, or under the storm limit to all
//   in:   datagram -> from a remote, of our VNI? -> learn its source -> `receive` -> device; never to another remote (split horizon)
//
// One socket is both bound to and sent from, so that every datagram has the listening port as its source: kernels take any. The UDP checksum is
// always there. Traffic is counted once for each remote that a frame is sent to.

import ipaddr from 'ipaddr.js';
import type { LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import { LinkDrops_Reason as Drop, type LinkAddress, LinkPeerStatus, LinkStatus_State as State } from '../../gen/taplane/v1/link.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import { parseMac } from '../../packet/address-text.ts';
import { largestMtu } from '../../packet/link-overhead.ts';
import { statedBytes } from '../../packet/unfinished.ts';
import { VNET_HEADER_BYTES } from '../../packet/vnet-header.ts';
import { readVxlanHeader, VXLAN_HEADER_BYTES, writeVxlanHeader } from '../../packet/vxlan-header.ts';
import type { SocketAddress } from '../../sys/socket-address.ts';
import { openUdp, type UdpSocket } from '../../sys/udp-socket.ts';
import { LinkCounts } from '../link/counts.ts';
import { Outgoing } from '../link/outgoing.ts';
import { PeerProbes } from '../link/peer-probes.ts';
import { stationPath } from '../link/probe-path.ts';
import { packetsOf } from '../link/super-frame.ts';
import type { OpenTunnel, Tunnel, TunnelNeeds, TunnelState } from '../link/tunnel.ts';
import { ForwardingTable, HOME, NOWHERE } from './fdb.ts';
import { Inward } from './inward.ts';
import { Neighbours } from './neighbours.ts';
import { FRAME_MOST, Outbox } from './outbox.ts';
import { type Remote, Remotes } from './remotes.ts';
import { Rounds } from './rounds.ts';
import { StormBucket } from './storm.ts';

const LISTEN = ':4789';
const SOCKET_BYTES = 4 << 20;
const HEARD_MS = 180_000;
const TICK_MS = 1000;
const ADDRESSES_MOST = 1024;
/** The usual of `VxlanSpec`. */
const [AGE_SECONDS, ADDRESSES, STORM_FRAMES] = [300, 4096, 1000] as const;
const ETHERNET_BYTES = 14;
/** Ethernet with two VLAN tags. */
const LINK_MOST = 22;
const SOURCE_AT = 6;
const ANSWER_BYTES = 128;

export const openVxlan: OpenTunnel = (setup, needs) => new VxlanTunnel(setup, needs);

export class VxlanTunnel implements Tunnel {
  readonly #needs: TunnelNeeds;
  readonly #socket: UdpSocket;
  readonly #counts = new LinkCounts();
  readonly #remotes = new Remotes();
  readonly #fdb: ForwardingTable;
  readonly #neighbours: Neighbours;
  readonly #storm: StormBucket;
  readonly #rounds = new Rounds();
  readonly #outbox: Outbox;
  readonly #outgoing: Outgoing;
  readonly #inward: Inward;
  readonly #timer: NodeJS.Timeout;
  readonly #vni: number;
  readonly #answer = Buffer.alloc(VNET_HEADER_BYTES + ANSWER_BYTES);
  readonly #answerFrame = this.#answer.subarray(VNET_HEADER_BYTES);
  #setup: LinkSetup;
  #most = 0;
  /** The least of all paths. */
  #leastMost = 0;
  readonly #probes: PeerProbes<Remote>;
  /** A probe behind its header. */
  readonly #whole = Buffer.allocUnsafeSlow(VXLAN_HEADER_BYTES + FRAME_MOST);
  #isLearning = true;
  #isSuppressing = false;
  #overflows = 0;
  #isClosed = false;

  constructor(setup: LinkSetup, needs: TunnelNeeds) {
    const { listen = '', socketMark = 0, bindDevice = '', vxlan } = setup.spec ?? {};
    const nowMs = needs.now();
    this.#setup = setup;
    this.#needs = needs;
    this.#vni = vxlan?.vni ?? 0;
    // One without a checksum is to be accepted (RFC 7348, section 5).
    const way = { listen: listen || LISTEN, mark: socketMark, device: bindDevice, bufferBytes: SOCKET_BYTES, uncheckedIpv6: true };
    this.#socket = openUdp(way);
    this.#fdb = new ForwardingTable({ most: ADDRESSES, ageMs: AGE_SECONDS * 1000 }, Math.floor(Math.random() * 2 ** 32));
    this.#neighbours = new Neighbours({ most: ADDRESSES, ageMs: AGE_SECONDS * 1000 });
    this.#storm = new StormBucket(vxlan?.stormLimit || STORM_FRAMES, nowMs);
    this.#outbox = new Outbox(this.#socket, this.#remotes, this.#counts, this.#storm, this.#vni);
    this.#outgoing = new Outgoing(needs.device, this.#counts, needs.now);
    this.#inward = new Inward(needs.device, this.#counts);
    this.#probes = new PeerProbes({ ethernet: true, now: needs.now, most: 0 });
    this.#apply(setup);
    this.#socket.listen(this.#datagrams, () => this.#inward.flush());
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  take(bytes: Buffer, start: number, length: number): void {
    const at = start + VNET_HEADER_BYTES;
    const frameBytes = length - VNET_HEADER_BYTES;
    if (frameBytes < ETHERNET_BYTES) {
      this.#counts.drop(Drop.MALFORMED);
      return;
    }
    const nowMs = this.#needs.now();
    this.#fdb.home(bytes, at + SOURCE_AT, nowMs);
    if (this.#isSuppressing && this.#isAnswered(bytes, at, frameBytes, nowMs)) return;
    const number = this.#fdb.find(bytes, at, nowMs);
    const target = number === NOWHERE || number === HOME ? undefined : this.#remotes.byNumber(number);
    if (target === undefined && this.#remotes.list.length === 0) {
      this.#counts.drop(Drop.NO_PEER, packetsOf(bytes, start, length));
      return;
    }
    const isRound = this.#storm.isPressed(nowMs) && this.#rounds.isRound(bytes, at, frameBytes, nowMs);
    this.#outbox.aim(target, target === undefined || isRound || this.#fdb.flapping, nowMs);
    const put = this.#outgoing.cut(bytes, start, length, target === undefined ? this.#leastMost : mostTo(target, this.#most), this.#outbox);
    if (this.#outbox.stormed > 0) this.#counts.drop(Drop.STORM, Math.max(1, packetsOf(bytes, start, length) - put));
  }

  flush(): void {
    this.#outbox.flush();
  }

  /** Addresses are not known here, but where there is only one remote. */
  peerName(): string {
    const [first, ...others] = this.#remotes.list;
    return first === undefined || others.length > 0 ? '' : first.displayName || first.endpoint;
  }

  probe(request: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse> {
    return this.#probes.run(request, signal);
  }

  /** Sends one inner frame to one remote, not to be fragmented on its way, outside of storm limit and counts (*copies*); false when it could not go. */
  #sendWhole(remote: Remote, bytes: Buffer, start: number, length: number): boolean {
    if (this.#isClosed || length > FRAME_MOST) return false;
    writeVxlanHeader(this.#whole, 0, this.#vni);
    bytes.copy(this.#whole, VXLAN_HEADER_BYTES, start, start + length);
    return this.#socket.sendWhole(remote.address, this.#whole, 0, VXLAN_HEADER_BYTES + length) === 0;
  }

  again(setup: LinkSetup): boolean {
    const [was, is] = [this.#setup.spec, setup.spec];
    const isSame =
      was?.interface === is?.interface &&
      was?.protocol === is?.protocol &&
      was?.transport === is?.transport &&
      was?.listen === is?.listen &&
      was?.socketMark === is?.socketMark &&
      was?.bindDevice === is?.bindDevice &&
      was?.vxlan?.vni === is?.vxlan?.vni;
    if (!isSame || this.#isClosed) return false;
    this.#setup = setup;
    this.#apply(setup);
    return true;
  }

  state(): TunnelState {
    const nowMs = this.#needs.now();
    const wallMs = Date.now();
    const overflows = this.#socket.overflows;
    if (overflows > this.#overflows) this.#counts.drop(Drop.OVERFLOW, overflows - this.#overflows);
    this.#overflows = overflows;
    const isUp = this.#isHeard(nowMs);
    const { list } = this.#remotes;
    return {
      state: isUp ? State.UP : State.CONNECTING,
      reason: isUp ? '' : list.length === 0 ? 'it has no remotes' : silence(Math.max(...list.map(({ heardMs }) => heardMs))),
      listen: this.#socket.address,
      publicKey: Buffer.alloc(0),
      mtu: this.#most,
      peers: list.map((remote) => {
        const { endpoint, displayName, heardMs, traffic } = remote;
        const up = nowMs - heardMs <= HEARD_MS;
        return LinkPeerStatus.fromPartial({
          endpoint,
          displayName,
          up,
          lastReceivedTime: Number.isFinite(heardMs) ? timestamp(wallMs - (nowMs - heardMs)) : undefined,
          traffic: traffic.message(),
          reason: up ? '' : silence(heardMs),
          ...this.#probes.status(remote),
        });
      }),
      traffic: this.#counts.message(),
      drops: this.#counts.drops(),
      addresses: this.#addresses(nowMs),
    };
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearInterval(this.#timer);
    this.#probes.close();
    this.#socket.close();
  }

  /** What may be changed while it runs. */
  #apply(setup: LinkSetup): void {
    const { peers = [], mtu = 0, vxlan } = setup.spec ?? {};
    const limits = { most: vxlan?.maxAddresses || ADDRESSES, ageMs: (vxlan?.ageSeconds || AGE_SECONDS) * 1000 };
    this.#outbox.flush();
    this.#fdb.limit(limits);
    this.#neighbours.limit(limits);
    this.#storm.limit(vxlan?.stormLimit || STORM_FRAMES);
    this.#isLearning = vxlan?.noLearning !== true;
    this.#isSuppressing = vxlan?.suppressNeighbours === true;
    const gone = this.#remotes.set(peers);
    for (const number of gone) this.#fdb.forget(number);
    // Pairs do not say whose they are.
    if (!this.#isSuppressing || gone.length > 0) this.#neighbours.clear();
    this.#fdb.unpinAll();
    const numbers = new Map(this.#remotes.list.map(({ endpoint, number }) => [endpoint, number]));
    for (const { endpoint, macAddresses } of peers) {
      const number = numbers.get(endpoint);
      if (number !== undefined) for (const text of macAddresses) this.#fdb.pin(parseMac(text) ?? 0, number);
    }
    const outer = this.#remotes.list.some(({ isV6 }) => isV6) ? 6 : 4;
    this.#most = Math.min(mtu || largestMtu('vxlan', outer, true), FRAME_MOST - LINK_MOST);
    this.#limitPaths();
    const path = stationPath(setup.uid);
    const entries = this.#remotes.list.map((remote) => ({
      peer: remote,
      names: [remote.endpoint, remote.displayName],
      path,
      sentPackets: () => remote.traffic.sentPackets,
      send: (bytes: Buffer, start: number, length: number) => this.#sendWhole(remote, bytes, start, length),
      setPathMtu: (bytes: number) => {
        remote.pathMtu = bytes;
        this.#limitPaths();
      },
    }));
    this.#probes.set(entries, this.#most);
    this.#outgoing.setAddresses(setup.addresses);
  }

  /** What goes to all has to pass everywhere. */
  #limitPaths(): void {
    this.#leastMost = this.#remotes.list.reduce((least, remote) => Math.min(least, mostTo(remote, this.#most)), this.#most);
  }

  #isAnswered(bytes: Buffer, at: number, frameBytes: number, nowMs: number): boolean {
    const size = this.#neighbours.answer(bytes, at, frameBytes, nowMs, this.#isThere, this.#answerFrame);
    if (size === 0) return false;
    if (this.#needs.device.write(this.#answer, 0, VNET_HEADER_BYTES + size) !== 0) this.#counts.drop(Drop.DEVICE);
    return true;
  }

  /** Whether a MAC address may be told of as that of a neighbour: without learning, unless it is known to be elsewhere. */
  readonly #isThere = (mac: Buffer): boolean => {
    const number = this.#fdb.find(mac, 0, this.#needs.now());
    return number === NOWHERE ? !this.#isLearning : number !== HOME;
  };

  readonly #datagrams = (bytes: Buffer, start: number, length: number, segmentBytes: number, from: SocketAddress): void => {
    let each = Math.max(1, segmentBytes);
    const remote = this.#remotes.find(from);
    if (remote === undefined) {
      this.#counts.drop(Drop.STRANGER, Math.ceil(length / each));
      return;
    }
    // The size may be that of the pieces of one super-frame inside, see `unfinished.ts`.
    const inner = start + VXLAN_HEADER_BYTES;
    if (each < length && statedBytes(bytes, inner, length - VXLAN_HEADER_BYTES) + VXLAN_HEADER_BYTES > each) each = length;
    const nowMs = this.#needs.now();
    for (let done = 0; done < length; done += each) {
      this.#datagram(bytes, start + done, Math.min(each, length - done), segmentBytes, remote, nowMs);
    }
  };

  #datagram(bytes: Buffer, start: number, length: number, pieceBytes: number, remote: Remote, nowMs: number): void {
    const refusal = readVxlanHeader(bytes, start, length, this.#vni);
    if (refusal !== undefined) {
      this.#counts.drop(refusal === 'other-vni' ? Drop.STRANGER : Drop.MALFORMED);
      return;
    }
    const at = start + VXLAN_HEADER_BYTES;
    const frameBytes = length - VXLAN_HEADER_BYTES;
    if (this.#probes.received(remote, bytes, at, frameBytes)) {
      remote.heardMs = nowMs;
      return;
    }
    const isPinnedElsewhere = this.#isLearning
      ? this.#fdb.learn(bytes, at + SOURCE_AT, remote.number, nowMs) === 'pinned'
      : this.#fdb.isPinnedElsewhere(bytes, at + SOURCE_AT, remote.number);
    if (isPinnedElsewhere) {
      this.#counts.drop(Drop.SPOOFED);
      return;
    }
    if (this.#isSuppressing) this.#neighbours.heard(bytes, at, frameBytes, nowMs);
    remote.heardMs = nowMs;
    this.#receive(bytes, at, frameBytes, pieceBytes, remote);
  }

  /** Every inner frame of a remote passes here on its way to the device. */
  #receive(bytes: Buffer, at: number, frameBytes: number, pieceBytes: number, remote: Remote): void {
    const packets = this.#inward.add(bytes, at, frameBytes, this.#most, pieceBytes);
    const innerBytes = packets === 0 ? 0 : frameBytes + (packets - 1) * this.#inward.headerBytes;
    this.#counts.receivedPackets += packets;
    this.#counts.receivedBytes += innerBytes;
    remote.traffic.receivedPackets += packets;
    remote.traffic.receivedBytes += innerBytes;
  }

  #tick(): void {
    const nowMs = this.#needs.now();
    this.#fdb.sweep(nowMs);
    this.#neighbours.sweep(nowMs);
  }

  #isHeard(nowMs: number): boolean {
    return this.#remotes.list.some(({ heardMs }) => nowMs - heardMs <= HEARD_MS);
  }

  #addresses(nowMs: number): LinkAddress[] {
    const known = this.#neighbours.addresses(nowMs);
    return this.#fdb.list(nowMs, ADDRESSES_MOST).map(({ mac, remote, isStatic }) => {
      const ip = known.get(mac);
      return {
        macAddress: mac
          .toString(16)
          .padStart(12, '0')
          .replace(/..(?!$)/g, '$&:'),
        endpoint: this.#remotes.byNumber(remote)?.endpoint ?? '',
        static: isStatic,
        ipAddress: ip === undefined ? '' : ipaddr.fromByteArray([...ip]).toString(),
      };
    });
  }
}

/** Bytes of the largest inner packet to a remote of a link that sends `most`. */
function mostTo({ pathMtu }: Remote, most: number): number {
  return pathMtu > 0 && pathMtu < most ? pathMtu : most;
}

/** Why nothing is up that was last heard then. */
function silence(heardMs: number): string {
  return Number.isFinite(heardMs) ? 'nothing heard for 3 minutes' : 'nothing heard yet';
}

/** Of milliseconds since 1970. */
function timestamp(wallMs: number): { seconds: bigint; nanos: number } {
  const ms = Math.floor(wallMs);
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
}
