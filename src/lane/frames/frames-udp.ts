// Frames over UDP: each datagram is a frame, the other end is one address and port. Nothing is said but frames, so that any tunnel of this
// plainest kind may be there; whoever can write its address is taken for it. Frames of one size that follow each other leave in one call.

import type { LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import { LinkDrops_Reason as Drop, LinkPeerStatus, LinkStatus_State as State } from '../../gen/taplane/v1/link.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import type { PieceSink } from '../../packet/cut.ts';
import { sameAddressAndPort } from '../../sys/socket-address.ts';
import { SysError } from '../../sys/sys-error.ts';
import { openUdp, type UdpSocket } from '../../sys/udp-socket.ts';
import { TrafficCount } from '../link/counts.ts';
import type { Tunnel, TunnelNeeds, TunnelState } from '../link/tunnel.ts';
import { FrameEnds } from './frame-ends.ts';
import { type Endpoint, readEndpoint } from './frames-setup.ts';

const RUN_BYTES = 65_536;
const BUFFER_BYTES = 4 * 1024 * 1024;
/** Heard so long ago it still counts as up. */
const UP_MS = 180_000;
const EINVAL = 22;

export class FramesOverUdp implements Tunnel, PieceSink {
  /** Frames of one size, the last may be shorter, that are sent together. */
  readonly buffer = Buffer.allocUnsafeSlow(RUN_BYTES);
  readonly #ends: FrameEnds;
  readonly #socket: UdpSocket;
  #endpoint: Endpoint;
  #traffic: TrafficCount;
  #fill = 0;
  #pieces = 0;
  #size = 0;
  #heardAt = Number.NEGATIVE_INFINITY;
  #overflows = 0;
  #closed = false;

  /** Throws SysError when the socket cannot be had. */
  constructor(setup: LinkSetup, needs: TunnelNeeds) {
    this.#endpoint = peerOf(setup);
    const { listen = '', socketMark = 0, bindDevice = '' } = setup.spec ?? {};
    // Before what has timers: without a socket it is made again and again, and nobody closes it.
    this.#socket = openUdp({ listen: listen === '' ? ':0' : listen, mark: socketMark, device: bindDevice, bufferBytes: BUFFER_BYTES });
    this.#ends = new FrameEnds(setup, needs);
    this.#traffic = this.#ends.inward.peer;
    this.#ends.change(setup, this.#endpoint.ipv6);
    this.#ends.hasPathMtu = true;
    this.#ends.sendProbe = (bytes, start, length) =>
      !this.#closed && this.#socket.sendWhole(this.#endpoint.address, bytes, start, length) === 0;
    const { inward, counts, now } = this.#ends;
    this.#socket.listen(
      (bytes, start, length, segmentBytes, from) => {
        if (!sameAddressAndPort(from, this.#endpoint.address)) {
          counts.drop(Drop.STRANGER, Math.max(1, Math.ceil(length / Math.max(1, segmentBytes))));
          return;
        }
        this.#heardAt = now();
        const end = start + length;
        if (length === 0) inward.take(bytes, start, 0);
        for (let at = start; at < end; at += segmentBytes) inward.take(bytes, at, Math.min(segmentBytes, end - at));
      },
      () => inward.flush(),
    );
  }

  take(bytes: Buffer, start: number, length: number): void {
    this.#ends.cut(bytes, start, length, this);
  }

  peerName(): string {
    const [peer] = this.#ends.spec.peers;
    return peer === undefined ? '' : peer.displayName || peer.endpoint;
  }

  probe(request: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse> {
    return this.#ends.probes.run(request, signal);
  }

  flush(): void {
    this.#send();
  }

  place(bytes: number): number {
    if (bytes > RUN_BYTES) return -1;
    const isShort = this.#pieces > 0 && this.#fill < this.#pieces * this.#size;
    if (this.#pieces > 0 && (isShort || bytes > this.#size || this.#fill + bytes > RUN_BYTES)) this.#send();
    return this.#fill;
  }

  put(start: number, bytes: number): void {
    if (this.#pieces === 0) this.#size = bytes;
    this.#pieces++;
    this.#fill = start + bytes;
  }

  again(setup: LinkSetup): boolean {
    let endpoint: Endpoint;
    try {
      endpoint = peerOf(setup);
    } catch {
      return false;
    }
    if (this.#closed || !this.#ends.change(setup, endpoint.ipv6)) return false;
    if (endpoint.text !== this.#endpoint.text) {
      this.#send();
      this.#endpoint = endpoint;
      this.#heardAt = Number.NEGATIVE_INFINITY;
      this.#traffic = new TrafficCount();
      this.#ends.inward.peer = this.#traffic;
    }
    return true;
  }

  state(): TunnelState {
    const lost = this.#socket.overflows - this.#overflows;
    if (lost > 0) this.#ends.counts.drop(Drop.OVERFLOW, lost);
    this.#overflows += Math.max(0, lost);
    const isUp = this.#isUp();
    const [peer] = this.#ends.spec.peers;
    const reason = isUp ? '' : Number.isFinite(this.#heardAt) ? 'nothing heard for 3 minutes' : 'nothing heard yet';
    const status = LinkPeerStatus.fromPartial({
      endpoint: this.#endpoint.text,
      displayName: peer?.displayName ?? '',
      up: isUp,
      lastReceivedTime: Number.isFinite(this.#heardAt) ? this.#ends.timeOf(this.#heardAt) : undefined,
      traffic: this.#traffic.message(),
      reason,
      ...this.#ends.probes.status(this.#ends),
    });
    return {
      ...this.#ends.state([status]),
      state: isUp ? State.UP : State.CONNECTING,
      reason: isUp ? '' : `${this.#endpoint.text}: ${reason}`,
      listen: this.#socket.address,
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#fill = 0;
    this.#pieces = 0;
    this.#ends.probes.close();
    this.#socket.close();
  }

  #isUp(): boolean {
    return this.#ends.now() - this.#heardAt < UP_MS;
  }

  /** Sends what was put together. Datagrams that the socket does not take are lost, as on a wire. */
  #send(): void {
    if (this.#pieces === 0 || this.#closed) return;
    let [bytes, pieces] = [this.#fill, this.#pieces];
    this.#fill = 0;
    this.#pieces = 0;
    if (this.#socket.send(this.#endpoint.address, this.buffer, 0, bytes, this.#size) !== 0) {
      bytes = this.#socket.sentBytes;
      const sent = bytes / this.#size;
      this.#ends.counts.drop(Drop.SOCKET, pieces - sent);
      pieces = sent;
    }
    for (const count of [this.#ends.counts, this.#traffic]) {
      count.sentPackets += pieces;
      count.sentBytes += bytes;
    }
  }
}

function peerOf(setup: LinkSetup): Endpoint {
  const endpoint = setup.spec?.peers[0]?.endpoint ?? '';
  if (endpoint === '') throw new SysError('open link', EINVAL, 'frames over UDP need the endpoint of the peer');
  return readEndpoint(endpoint);
}
