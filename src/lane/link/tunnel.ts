// The seam between an interface and a protocol that carries its frames elsewhere. One tunnel for each link; made and closed by `link.ts`.
//
//   port --frame behind its virtio header--> tunnel.take ... take --> tunnel.flush          (from the node, outwards)
//   device.write <--super-frame behind its virtio header-- Coalescer <-- tunnel's socket    (inwards)
//
// A tunnel owns its sockets and timers from the moment it is made until `close`, after which it touches nothing. It never waits, and never
// throws for what the network, a peer or the device does: that is a counted drop. It tells nobody of what happens: whoever wants to know asks for its
// state. All of it is on the event loop of the lane.

import type { LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import type { LinkStatus } from '../../gen/taplane/v1/link.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import type { InjectRejection_Reason } from '../../gen/taplane/v1/packet.ts';
import type { Consumer } from '../consumer.ts';

/** The device that a link joins, seen from the tunnel. */
export interface LinkDevice {
  /** Frames are Ethernet (TAP), not IP packets (TUN). */
  readonly ethernet: boolean;
  /** It takes super-frames and partial checksums: what is written may have been coalesced. */
  readonly offload: boolean;
  /** Sends `bytes[start, start + length)`, a frame behind its virtio header, into the device (*borrows*). 0 when the kernel took it. */
  write(bytes: Buffer, start: number, length: number): InjectRejection_Reason;
}

export interface TunnelNeeds {
  device: LinkDevice;
  /** Monotonic milliseconds. */
  now(): number;
}

/** What a tunnel says of itself; the rest of the status is added above it. */
export type TunnelState = Pick<
  LinkStatus,
  'state' | 'reason' | 'listen' | 'publicKey' | 'mtu' | 'peers' | 'traffic' | 'drops' | 'addresses'
> &
  /** Conditions that it alone can know, such as `TlsUsable`. */
  Partial<Pick<LinkStatus, 'conditions'>>;

export interface Tunnel extends Consumer {
  /** `bytes[start, start + length)`: virtio header and frame, maybe a super-frame; may be changed in place until this returns (*borrows*). */
  take(bytes: Buffer, start: number, length: number): void;
  /** No more frames are there at the moment: what was put together is sent. */
  flush(): void;
  /** It is declared again. False when the change cannot be made in place: then it is closed and made anew. */
  again(setup: LinkSetup): boolean;
  state(): TunnelState;
  /** Probes a peer. Rejects with TaplaneError-like lane failures, see `failure.ts`. Absent where the protocol has no way to. */
  probe?(request: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse>;
  /** The peer that has the inner address of `size` bytes at `bytes[at]`, as flows name it; '' when it is not known. */
  peerName(bytes: Uint8Array, at: number, size: 4 | 16): string;
  /** Closes sockets and timers. Twice is once. */
  close(): void;
}

/** Makes the tunnel of one protocol. Throws SysError when a socket cannot be had: it is tried again. */
export type OpenTunnel = (setup: LinkSetup, needs: TunnelNeeds) => Tunnel;
