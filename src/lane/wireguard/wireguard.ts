// The tunnel of the protocol wireguard: one socket, and the peers that are spoken to through it. See peer.ts for the life of a peer, send.ts and
// receive.ts for the way of a packet. Private keys are in key objects only, and in no text.

import { randomBytes, randomInt } from 'node:crypto';
import type { LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import { LinkDrops_Reason as Drop, LinkStatus_State as State } from '../../gen/taplane/v1/link.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import { coalescer } from '../../packet/coalesce.ts';
import type { ProbePath } from '../../packet/probe-packet.ts';
import { VNET_HEADER_BYTES } from '../../packet/vnet-header.ts';
import { formatSocketAddress, type SocketAddress } from '../../sys/socket-address.ts';
import { SysError } from '../../sys/sys-error.ts';
import { openUdp, type UdpOptions, type UdpSocket } from '../../sys/udp-socket.ts';
import { LinkCounts } from '../link/counts.ts';
import { Outgoing } from '../link/outgoing.ts';
import { PeerProbes, type ProbedEntry } from '../link/peer-probes.ts';
import { probePath } from '../link/probe-path.ts';
import { packetsOf } from '../link/super-frame.ts';
import type { OpenTunnel, Tunnel, TunnelNeeds, TunnelState } from '../link/tunnel.ts';
import { Alarm } from './alarm.ts';
import { Greetings } from './greetings.ts';
import { Handshakes } from './handshakes.ts';
import { Indices } from './indices.ts';
import { KEY_BYTES, timestamp } from './messages.ts';
import { type KeyPair, keyPair } from './noise.ts';
import type { Peer } from './peer.ts';
import type { PeerLink } from './peer-link.ts';
import { peerSetup } from './peer-setup.ts';
import { Peers } from './peers.ts';
import { Receiver } from './receive.ts';
import { PACKET_BYTES_MOST, Sender } from './send.ts';
import type { Session } from './session.ts';
import { WaitingRoom } from './waiting-frames.ts';

/** For a path of 1500 bytes over IPv6. */
const USUAL_MTU = 1420;
const LEAST_MTU = 576;
const SOCKET_BUFFER_BYTES = 4 * 1024 * 1024;
const EINVAL = 22;

/** Initiations of this process: a link that is made anew in the same epoch goes on where it was. */
let initiations = 0;

export const openWireguard: OpenTunnel = (setup, needs) => new WireguardTunnel(setup, needs);

export class WireguardTunnel implements Tunnel, PeerLink {
  readonly room = new WaitingRoom();
  readonly indices = new Indices(randomFraction);
  readonly random = randomFraction;
  readonly #needs: TunnelNeeds;
  readonly #counts = new LinkCounts();
  readonly #alarm: Alarm;
  readonly #peers: Peers;
  readonly #handshakes: Handshakes;
  readonly #outgoing: Outgoing;
  readonly #sender: Sender;
  readonly #receiver: Receiver;
  readonly #probes: PeerProbes<Peer>;
  readonly #greetings = new Greetings<Peer>((peer) => {
    if (this.#peers.find(peer.publicKey) === peer) peer.greet(this.#needs.now());
  });
  #own: KeyPair;
  #epoch = 0n;
  /** Of the setup, what is asked for again: not its keys. */
  #way: UdpOptions;
  #mtu = USUAL_MTU;
  #socket: UdpSocket;
  #overflows = 0;
  /** Time of this round of frames; 0 before the first. */
  #roundAt = 0;
  #isClosed = false;
  readonly #openSocket: typeof openUdp;
  readonly #isGreeting: boolean;

  /** Throws SysError: as `openSocket`, and EINVAL for a setup that is none. */
  constructor(setup: LinkSetup, needs: TunnelNeeds, openSocket = openUdp, isGreeting = true) {
    const own = ownKey(setup);
    if (own === undefined) throw new SysError('open wireguard', EINVAL, 'the link has no private key');
    if (needs.device.ethernet) throw new SysError('open wireguard', EINVAL, 'the interface is a TAP: packets need a TUN');
    const { device } = needs;
    this.#needs = needs;
    this.#openSocket = openSocket;
    this.#isGreeting = isGreeting;
    this.#own = own;
    this.#way = wayOf(setup);
    this.#alarm = new Alarm(needs.now);
    this.#peers = new Peers(this, (peer) => this.#alarm.forget(peer));
    this.#outgoing = new Outgoing(device, this.#counts, needs.now);
    const { indices } = this;
    this.#handshakes = new Handshakes({ peers: this.#peers, indices, send: this.send.bind(this) }, own);
    this.#receiver = new Receiver({
      peers: this.#peers,
      indices,
      handshakes: this.#handshakes,
      counts: this.#counts,
      coalescer: coalescer({
        ethernet: false,
        offload: device.offload,
        write: (bytes, start, length) => {
          if (device.write(bytes, start, length) !== 0) this.#counts.drop(Drop.DEVICE, packetsOf(bytes, start, length));
        },
      }),
      now: needs.now,
    });
    this.#probes = new PeerProbes({ ethernet: false, now: needs.now, most: mtuOf(setup) });
    this.#receiver.inner = (peer, bytes, at, length) => this.#probes.received(peer, bytes, at, length);
    this.#socket = this.#open(this.#way);
    this.#sender = new Sender(this.#socket, this.#outgoing, this.#counts, USUAL_MTU);
    this.#apply(setup);
  }

  get own(): KeyPair {
    return this.#own;
  }

  take(bytes: Buffer, start: number, length: number): void {
    if (this.#roundAt === 0) this.#roundAt = this.#needs.now();
    const now = this.#roundAt;
    const at = start + VNET_HEADER_BYTES;
    const size = length - VNET_HEADER_BYTES;
    const version = size > 0 ? (bytes[at] as number) >> 4 : 0;
    const isIpv4 = version === 4 && size >= 20;
    if (!isIpv4 && (version !== 6 || size < 40)) {
      this.#counts.drop(Drop.MALFORMED);
      return;
    }
    const peer = isIpv4 ? this.#peers.route(bytes, at + 16, 4) : this.#peers.route(bytes, at + 24, 16);
    const session = peer?.session(now);
    if (peer === undefined) this.#counts.drop(Drop.NO_PEER, packetsOf(bytes, start, length));
    else if (session === undefined) peer.hold(bytes, start, length, now);
    else this.#sender.frame(peer, session, bytes, start, length, now);
  }

  flush(): void {
    this.#roundAt = 0;
    this.#sender.flush();
  }

  again(setup: LinkSetup): boolean {
    const before = this.#way;
    const way = wayOf(setup);
    const own = ownKey(setup);
    if (way.mark !== before.mark || way.device !== before.device || own === undefined) return false;
    if (way.listen !== before.listen) {
      this.#sender.flush();
      this.#socket.close();
      try {
        this.#socket = this.#open(way);
      } catch (error) {
        if (!(error instanceof SysError)) throw error;
        return false;
      }
      this.#overflows = 0;
      this.#sender.setSocket(this.#socket);
    }
    const isRekeyed = !own.publicKey.equals(this.#own.publicKey);
    if (isRekeyed) {
      this.#own = own;
      this.#handshakes.setOwn(own);
    }
    this.#apply(setup);
    if (isRekeyed) for (const peer of this.#peers) peer.reset(this.#needs.now());
    return true;
  }

  state(): TunnelState {
    const now = this.#needs.now();
    const peers = [...this.#peers].map((peer) => ({ ...peer.state(now), ...this.#probes.status(peer) }));
    const isUp = peers.some(({ up }) => up);
    this.#counts.drop(Drop.OVERFLOW, Math.max(0, this.#socket.overflows - this.#overflows));
    this.#overflows = this.#socket.overflows;
    return {
      state: isUp ? State.UP : State.CONNECTING,
      reason: isUp ? '' : reasonOf(peers),
      listen: this.#socket.address,
      publicKey: this.#own.publicKey,
      mtu: this.#mtu,
      peers,
      traffic: this.#counts.message(),
      drops: this.#counts.drops().filter(({ packets }) => packets > 0n),
      addresses: [],
    };
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#sender.flush();
    this.#greetings.close();
    this.#probes.close();
    this.#alarm.close();
    this.#peers.close();
    this.#socket.close();
  }

  /** The peer with this public key, 32 bytes. */
  peer(publicKey: Buffer): Peer | undefined {
    return this.#peers.find(publicKey);
  }

  peerName(bytes: Uint8Array, at: number, size: 4 | 16): string {
    return this.#peers.route(bytes, at, size)?.displayName ?? '';
  }

  probe(request: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse> {
    return this.#probes.run(request, signal);
  }

  /** Sends one inner packet (*borrows*), whatever the path is thought to take. False: it could not go, or there is no session. */
  sendPacket(peer: Peer, bytes: Buffer, start: number, length: number): boolean {
    const now = this.#needs.now();
    const session = peer.session(now);
    if (session === undefined || length > PACKET_BYTES_MOST) return false;
    return this.#sender.whole(peer, session, bytes, start, length, now);
  }

  ephemeral(): KeyPair {
    return keyPair(randomBytes(KEY_BYTES));
  }

  timestamp(): Buffer {
    return timestamp(this.#epoch, initiations++);
  }

  wallClock(): number {
    return Date.now();
  }

  send(to: SocketAddress, message: Buffer): void {
    if (this.#socket.send(to, message, 0, message.length, message.length) !== 0) this.#counts.drop(Drop.SOCKET);
  }

  sendEmpty(peer: Peer, session: Session, now: number): void {
    this.#sender.keepalive(peer, session, now);
  }

  sendFrames(peer: Peer, session: Session, frames: readonly Buffer[], now: number): void {
    for (const frame of frames) this.#sender.frame(peer, session, frame, 0, frame.length, now);
    this.#sender.flush();
  }

  watch(peer: Peer): void {
    this.#alarm.watch(peer);
  }

  drop(reason: Drop, packets: number): void {
    this.#counts.drop(reason, packets);
  }

  #open(way: UdpOptions): UdpSocket {
    const socket = this.#openSocket(way);
    socket.listen(this.#receiver.take, this.#receiver.flush);
    return socket;
  }

  /** All of a setup that is changed in place. */
  #apply(setup: LinkSetup): void {
    this.#way = wayOf(setup);
    if (setup.handshakeEpoch > this.#epoch) this.#epoch = setup.handshakeEpoch;
    this.#mtu = mtuOf(setup);
    this.#sender.setMtu(this.#mtu);
    this.#outgoing.setAddresses(setup.addresses);
    const peers = (setup.spec?.peers ?? []).flatMap((peer) => peerSetup(peer) ?? []);
    const before = new Map([...this.#peers].map((peer) => [peer, peer.declaredEndpoint]));
    this.#peers.set(peers, this.#needs.now());
    if (this.#isGreeting) this.#greetings.add([...this.#peers].filter((peer) => before.get(peer) !== peer.declaredEndpoint));
    this.#probes.set(this.#probed(setup), mtuOf(setup));
  }

  /** What probing needs of each peer. */
  #probed({ spec, addresses }: LinkSetup): ProbedEntry<Peer>[] {
    return (spec?.peers ?? []).flatMap((declared) => {
      const peer = this.#peers.find(Buffer.from(declared.publicKey));
      if (peer === undefined) return [];
      let path: ProbePath | undefined | null = null;
      return {
        peer,
        get names() {
          const now = peer.endpoint === undefined ? '' : formatSocketAddress(peer.endpoint);
          return [declared.endpoint, declared.displayName, Buffer.from(declared.publicKey).toString('base64'), now];
        },
        // Found when it is needed: there may be thousands of peers.
        get path() {
          if (path === null) path = probePath(addresses, declared);
          return path;
        },
        sentPackets: () => peer.traffic.sentPackets,
        send: (bytes, start, length) => this.sendPacket(peer, bytes, start, length),
        setPathMtu: (bytes) => {
          peer.pathMtu = bytes;
        },
      };
    });
  }
}

/** 0 to 1, of randomness that nobody can foresee. */
function randomFraction(): number {
  return randomInt(2 ** 32) / 2 ** 32;
}

function ownKey({ spec }: LinkSetup): KeyPair | undefined {
  const bytes = spec?.wireguard?.privateKey;
  return bytes?.length === KEY_BYTES ? keyPair(bytes) : undefined;
}

function wayOf({ spec }: LinkSetup): UdpOptions {
  return { listen: spec?.listen || ':0', mark: spec?.socketMark ?? 0, device: spec?.bindDevice ?? '', bufferBytes: SOCKET_BUFFER_BYTES };
}

function mtuOf({ spec }: LinkSetup): number {
  const mtu = spec?.mtu ?? 0;
  return mtu === 0 ? USUAL_MTU : Math.min(Math.max(mtu, LEAST_MTU), PACKET_BYTES_MOST);
}

function reasonOf(peers: readonly { reason: string }[]): string {
  const [first] = peers;
  if (first === undefined) return 'there are no peers';
  return peers.length === 1 ? first.reason : `none of ${peers.length} peers is up; of the first: ${first.reason}`;
}
