// What both tunnels of frames have in common: counts, the way out of frames and the way in, and the setup that may change in place.

import type { Timestamp } from '../../gen/google/protobuf/timestamp.ts';
import type { LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import type { LinkDrops_Reason as Drop, LinkPeerStatus, LinkSpec } from '../../gen/taplane/v1/link.ts';
import type { PieceSink } from '../../packet/cut.ts';
import { LinkCounts, TrafficCount } from '../link/counts.ts';
import { Outgoing } from '../link/outgoing.ts';
import { PeerProbes } from '../link/peer-probes.ts';
import { probePath, stationPath } from '../link/probe-path.ts';
import { packetsOf } from '../link/super-frame.ts';
import type { LinkDevice, TunnelNeeds, TunnelState } from '../link/tunnel.ts';
import { fixedPart, linkMtu } from './frames-setup.ts';
import { Inward } from './inward.ts';

export class FrameEnds {
  readonly device: LinkDevice;
  readonly now: () => number;
  readonly counts = new LinkCounts();
  readonly inward: Inward;
  /** Of the one peer, whoever it is now. */
  readonly probes: PeerProbes<FrameEnds>;
  readonly #outgoing: Outgoing;
  #setup: LinkSetup;
  #mtu = 0;
  /** Bytes of the largest inner packet that the path takes; 0: not known. */
  #pathMtu = 0;
  /** Sends a probe as it is; false when it could not go. */
  sendProbe: (bytes: Buffer, start: number, length: number) => boolean = () => false;
  /** Packets that can be told apart by size: not those of a stream. */
  hasPathMtu = false;

  constructor(setup: LinkSetup, { device, now }: TunnelNeeds) {
    this.device = device;
    this.now = now;
    this.inward = new Inward(device, this.counts, new TrafficCount());
    this.#outgoing = new Outgoing(device, this.counts, now);
    this.probes = new PeerProbes({ ethernet: device.ethernet, now, most: 0 });
    this.inward.keep = (bytes, start, length) => this.probes.received(this, bytes, start, length);
    this.#setup = setup;
  }

  get spec(): LinkSpec {
    return this.#setup.spec as LinkSpec;
  }

  /** Bytes of the largest inner IP packet. */
  get mtu(): number {
    return this.#mtu;
  }

  /** Works by `setup` from now on; false, and nothing has changed, when the tunnel must be made anew for it. */
  change(setup: LinkSetup, overIpv6: boolean): boolean {
    if (fixedPart(setup) !== fixedPart(this.#setup)) return false;
    this.#setup = setup;
    this.#mtu = linkMtu(this.spec, this.device.ethernet, overIpv6);
    this.#outgoing.setAddresses(setup.addresses);
    this.#setProbes(setup);
    return true;
  }

  /** Cuts a frame of the device into `sink`, see `Outgoing.cut`: answers how many pieces were put. */
  cut(bytes: Buffer, start: number, length: number, sink: PieceSink): number {
    const most = this.#pathMtu > 0 && this.#pathMtu < this.#mtu ? this.#pathMtu : this.#mtu;
    return this.#outgoing.cut(bytes, start, length, most, sink);
  }

  /** A frame of the device that goes nowhere. */
  drop(reason: Drop, bytes: Buffer, start: number, length: number): void {
    this.counts.drop(reason, packetsOf(bytes, start, length));
  }

  /** What is the same of every state. */
  state(peers: LinkPeerStatus[]): Pick<TunnelState, 'publicKey' | 'mtu' | 'peers' | 'traffic' | 'drops' | 'addresses'> {
    return {
      publicKey: Buffer.alloc(0),
      mtu: this.#mtu,
      peers,
      traffic: this.counts.message(),
      drops: this.counts.drops(),
      addresses: [],
    };
  }

  #setProbes({ uid, addresses, spec }: LinkSetup): void {
    const peer = spec?.peers[0];
    const path = this.device.ethernet
      ? stationPath(uid)
      : probePath(addresses, { probeAddress: peer?.probeAddress ?? '', allowedPrefixes: [] });
    const entry = {
      peer: this,
      names: [peer?.endpoint ?? '', peer?.displayName ?? ''],
      path,
      sentPackets: () => this.counts.sentPackets,
      send: (bytes: Buffer, start: number, length: number) => this.sendProbe(bytes, start, length),
      setPathMtu: (bytes: number) => {
        if (this.hasPathMtu) this.#pathMtu = bytes;
      },
    };
    this.probes.set([entry], this.#mtu);
  }

  /** Wall-clock time of a moment on the monotonic clock. */
  timeOf(momentMs: number): Timestamp {
    const ms = Math.floor(Date.now() - (this.now() - momentMs));
    return { seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1_000_000 };
  }
}
