// Frames over TCP: each frame stands in the stream behind its length. The end with `listen` is the server, the other connects, again and again.
// With `tls` the stream is encrypted and both ends are known.

import type { LinkSetup } from '../../gen/taplane/lane/v1/lane_service.ts';
import { type Condition, Condition_Status as Status } from '../../gen/taplane/v1/interface.ts';
import { LinkDrops_Reason as Drop, LinkPeerStatus, LinkStatus_State as State } from '../../gen/taplane/v1/link.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import { SysError } from '../../sys/sys-error.ts';
import { closeTcp, openTcpConnection, openTcpListener, setTcpPatience, type TcpPatience } from '../../sys/tcp-socket.ts';
import { TrafficCount } from '../link/counts.ts';
import { packetsOf } from '../link/super-frame.ts';
import type { Tunnel, TunnelNeeds, TunnelState } from '../link/tunnel.ts';
import { Acceptor, hostOf } from './acceptor.ts';
import { Connection, type Opened } from './connection.ts';
import { Connector } from './connector.ts';
import { FrameEnds } from './frame-ends.ts';
import { type Endpoint, readEndpoint } from './frames-setup.ts';
import { TlsFiles } from './tls-files.ts';

const EINVAL = 22;
/** The defaults take two hours to find that the other end is gone without a word, and a quarter of one with something under way. */
const PATIENCE: TcpPatience = { idleS: 5, intervalS: 2, count: 3, userTimeoutMs: 5000 };
/** With 40 bytes of IPv6 and 20 of TCP before them they pass wherever IPv6 does (RFC 8200, section 5). */
const SAFE_SEGMENT_BYTES = 1220;

export class FramesOverTcp implements Tunnel {
  readonly #ends: FrameEnds;
  readonly #source: Connector | Acceptor;
  #files: TlsFiles | undefined;
  #connection: Connection | undefined;
  /** Of the client, over all its connections. */
  #traffic = new TrafficCount();
  #closed = false;

  /** Throws SysError when the socket cannot be had. */
  constructor(setup: LinkSetup, needs: TunnelNeeds) {
    const endpoint = endpointOf(setup);
    this.#ends = new FrameEnds(setup, needs);
    this.#ends.sendProbe = (bytes, start, length) => this.#sendFrame(bytes, start, length);
    this.#ends.change(setup, false);
    try {
      this.#source = this.#open(endpoint, needs);
    } catch (error) {
      // It is made again and again, and nobody closes one that could not be had: its timers would add up.
      this.#ends.probes.close();
      throw error;
    }
  }

  #open(endpoint: Endpoint | undefined, { now }: TunnelNeeds): Connector | Acceptor {
    const { listen, socketMark, bindDevice, tls: spec } = this.#ends.spec;
    this.#files = spec && new TlsFiles(spec);
    const tls = spec && this.#files && { spec, files: this.#files };
    const options = { mark: socketMark, device: bindDevice };
    const connected = (opened: Opened) => this.#connected(opened);
    if (listen === '') {
      if (endpoint === undefined) throw new SysError('open link', EINVAL, 'frames over TCP need a peer to connect to, or listen');
      const openSocket = ({ text }: Endpoint, careful: boolean) =>
        patient(openTcpConnection({ ...options, to: text, maxSegmentBytes: careful ? SAFE_SEGMENT_BYTES : 0 }));
      return new Connector({ endpoint, tls, openSocket, connected, now });
    }
    const openSocket = () => {
      const { fd, address } = openTcpListener({ ...options, listen });
      return { fd: patient(fd), address };
    };
    const refused = (reason: Drop) => this.#ends.counts.drop(reason);
    return new Acceptor({ openSocket, tls, allowed: endpoint?.host, connected, refused, now });
  }

  take(bytes: Buffer, start: number, length: number): void {
    const sender = this.#connection?.sender;
    if (sender === undefined) this.#ends.drop(Drop.NOT_CONNECTED, bytes, start, length);
    else if (!sender.hasRoom()) this.#ends.drop(Drop.OVERFLOW, bytes, start, length);
    else {
      const put = this.#ends.cut(bytes, start, length, sender);
      if (sender.refused > 0) {
        // With the first that found no place the rest was given up.
        this.#ends.counts.drop(Drop.OVERFLOW, Math.max(1, packetsOf(bytes, start, length) - put));
        sender.refused = 0;
      }
    }
  }

  peerName(): string {
    const [peer] = this.#ends.spec.peers;
    return peer === undefined ? '' : peer.displayName || peer.endpoint;
  }

  probe(request: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse> {
    return this.#ends.probes.run(request, signal);
  }

  /** One inner frame to the peer that is in no count (*copies*); false when it is not connected or takes nothing now. */
  #sendFrame(bytes: Buffer, start: number, length: number): boolean {
    const sender = this.#connection?.sender;
    if (sender?.hasRoom() !== true) return false;
    const at = sender.place(length);
    if (at < 0) return false;
    bytes.copy(sender.buffer, at, start, start + length);
    sender.put(at, length);
    sender.flush();
    for (const count of [this.#ends.counts, this.#connection?.traffic]) count?.sent(-length, -1);
    return true;
  }

  flush(): void {
    this.#connection?.sender.flush();
  }

  again(setup: LinkSetup): boolean {
    let endpoint: Endpoint | undefined;
    try {
      endpoint = endpointOf(setup);
    } catch {
      return false;
    }
    if (this.#closed || !this.#ends.change(setup, false)) return false;
    this.#files?.look();
    const source = this.#source;
    if (source instanceof Connector) {
      if (endpoint === undefined) return false;
      if (endpoint.text !== source.endpoint.text) {
        this.#drop();
        this.#traffic = new TrafficCount();
        source.retarget(endpoint);
      }
    } else if (source.allowed !== endpoint?.host) {
      source.allowed = endpoint?.host;
      if (endpoint !== undefined && this.#connection !== undefined && hostOf(this.#connection.remote) !== endpoint.host) this.#drop();
    }
    return true;
  }

  state(): TunnelState {
    const connection = this.#connection;
    const isUp = connection?.isUp === true;
    const tlsProblem = this.#files?.problem ?? '';
    const reason = isUp ? '' : this.#source.reason;
    return {
      ...this.#ends.state(this.#peers(connection, reason)),
      state: isUp ? State.UP : State.CONNECTING,
      reason: isUp || tlsProblem === '' || reason.includes(tlsProblem) ? reason : `TLS: ${tlsProblem}; ${reason}`,
      listen: this.#source.listen,
      conditions: this.#files === undefined ? [] : [usable(tlsProblem)],
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#ends.probes.close();
    this.#source.close();
    this.#drop();
  }

  /** At a server there is an entry for the peer that is connected only. */
  #peers(connection: Connection | undefined, reason: string): LinkPeerStatus[] {
    const [peer] = this.#ends.spec.peers;
    const endpoint = connection?.remote ?? (this.#source instanceof Connector ? this.#source.endpoint.text : undefined);
    if (endpoint === undefined) return [];
    const heardAt = connection?.heardAt ?? Number.NEGATIVE_INFINITY;
    return [
      LinkPeerStatus.fromPartial({
        endpoint,
        displayName: peer?.displayName ?? '',
        up: connection?.isUp === true,
        lastHandshakeTime: connection === undefined ? undefined : this.#ends.timeOf(connection.since),
        lastReceivedTime: Number.isFinite(heardAt) ? this.#ends.timeOf(heardAt) : undefined,
        traffic: (connection?.traffic ?? this.#traffic).message(),
        reason,
        ...this.#ends.probes.status(this.#ends),
      }),
    ];
  }

  #connected(opened: Opened): Connection {
    this.#drop();
    const traffic = this.#source instanceof Connector ? this.#traffic : new TrafficCount();
    this.#ends.inward.peer = traffic;
    const connection = new Connection(opened, this.#ends, traffic, (ended) => {
      if (ended !== this.#connection) return;
      this.#connection = undefined;
      if (ended.misfit !== '' && this.#source instanceof Acceptor) this.#source.ended(ended.remote, ended.misfit);
    });
    this.#connection = connection;
    return connection;
  }

  #drop(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
  }
}

/** Answers the fd; what is accepted by one that listens inherits it. Throws SysError, and the fd is closed. */
function patient(fd: number): number {
  try {
    setTcpPatience(fd, PATIENCE);
    return fd;
  } catch (error) {
    closeTcp(fd);
    throw error;
  }
}

/** What the agent is told of the files. */
function usable(problem: string): Condition {
  const [status, reason] = problem === '' ? [Status.TRUE, 'FilesUsable'] : [Status.FALSE, 'FilesNotUsable'];
  return { type: 'TlsUsable', status, reason, message: problem, transitionTime: undefined };
}

function endpointOf(setup: LinkSetup): Endpoint | undefined {
  const text = setup.spec?.peers[0]?.endpoint ?? '';
  return text === '' ? undefined : readEndpoint(text);
}
