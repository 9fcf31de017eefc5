// What a peer has from the link that it belongs to: keys, numbers and the ways out. The seam between peers and the tunnel.

import type { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import type { SocketAddress } from '../../sys/socket-address.ts';
import type { Indices } from './indices.ts';
import type { KeyPair } from './noise.ts';
import type { Peer } from './peer.ts';
import type { Session } from './session.ts';
import type { WaitingRoom } from './waiting-frames.ts';

export interface PeerLink {
  readonly own: KeyPair;
  readonly indices: Indices;
  readonly room: WaitingRoom;
  /** 0 to 1. */
  random(): number;
  /** A key that nobody has had. */
  ephemeral(): KeyPair;
  /** Greater than every one before. */
  timestamp(): Buffer;
  /** Milliseconds since 1970. */
  wallClock(): number;
  /** A handshake message. */
  send(to: SocketAddress, message: Buffer): void;
  /** A keepalive; at once. */
  sendEmpty(peer: Peer, session: Session, now: number): void;
  /** Frames behind their virtio headers; at once. */
  sendFrames(peer: Peer, session: Session, frames: readonly Buffer[], now: number): void;
  /** `peer.wakeAt` may be nearer than it was. */
  watch(peer: Peer): void;
  drop(reason: Drop, packets: number): void;
}
