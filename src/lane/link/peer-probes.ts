// The probes of one tunnel, by its own objects for peers: what each tunnel needs of probing, and no more.

import { TaplaneError } from '../../errors.ts';
import type { LinkPeerStatus } from '../../gen/taplane/v1/link.ts';
import type { ProbeLinkRequest, ProbeLinkResponse } from '../../gen/taplane/v1/link_service.ts';
import { mayBeProbe, type ProbePath } from '../../packet/probe-packet.ts';
import { runProbe } from './probe-run.ts';
import { type PeerProbe, type ProbedPeer, Probes } from './probes.ts';

export interface ProbedEntry<Peer> extends Omit<ProbedPeer, 'path'> {
  peer: Peer;
  /** What it may be asked for by, and may change; the first is shown. Empty texts are none. */
  readonly names: readonly string[];
  readonly path: ProbePath | undefined;
}

interface Known {
  entry: Pick<ProbedEntry<unknown>, 'names' | 'path'>;
  probe: PeerProbe;
  running: boolean;
}

const NOTHING: ReturnType<PeerProbe['status']> = { roundTrip: undefined, loss: 0, pathMtu: 0 };

export class PeerProbes<Peer> {
  readonly #ethernet: boolean;
  readonly #probes: Probes;
  readonly #known = new Map<Peer, Known>();

  /** `most`: bytes of the largest inner packet. */
  constructor(options: { ethernet: boolean; now: () => number; most: number }) {
    this.#ethernet = options.ethernet;
    this.#probes = new Probes(options);
  }

  /** These are the peers now, and `most` bytes the largest inner packet; what is known of those that stay is kept. */
  set(entries: readonly ProbedEntry<Peer>[], most: number): void {
    this.#probes.setMost(most);
    const gone = new Set(this.#known.keys());
    for (const entry of entries) {
      const { peer, sentPackets, send, setPathMtu } = entry;
      gone.delete(peer);
      const known = this.#known.get(peer);
      if (known !== undefined) {
        known.entry = entry;
        continue;
      }
      const path = () => (this.#known.get(peer)?.entry ?? entry).path;
      const probe = this.#probes.add({ sentPackets, send, setPathMtu, path });
      this.#known.set(peer, { entry, probe, running: false });
    }
    for (const peer of gone) {
      const known = this.#known.get(peer);
      if (known !== undefined) this.#probes.remove(known.probe);
      this.#known.delete(peer);
    }
  }

  /** Looks at an inner frame that came from `peer`. True: a probe, not for the device. */
  received(peer: Peer, bytes: Buffer, start: number, length: number): boolean {
    if (!mayBeProbe(bytes, start, length, this.#ethernet)) return false;
    return this.#known.get(peer)?.probe.received(bytes, start, length) === true;
  }

  status(peer: Peer): Pick<LinkPeerStatus, 'roundTrip' | 'loss' | 'pathMtu'> {
    return this.#known.get(peer)?.probe.status() ?? NOTHING;
  }

  /** Runs a probe that is asked for. Throws TaplaneError: `PEER_NOT_FOUND`, `PROBE_RUNNING`, and as `runProbe`. */
  async *run(request: ProbeLinkRequest, signal: AbortSignal): AsyncGenerator<ProbeLinkResponse> {
    const known = this.#find(request);
    if (known.running)
      throw new TaplaneError('RESOURCE_EXHAUSTED', 'PROBE_RUNNING', `probe ${request.name}: this peer is being probed already`, {
        retryAfterMs: 1000,
      });
    known.running = true;
    try {
      yield* runProbe(known.probe, known.entry.names.find((name) => name !== '') ?? 'the peer', request, signal);
    } finally {
      known.running = false;
    }
  }

  close(): void {
    this.#probes.close();
    this.#known.clear();
  }

  #find(request: ProbeLinkRequest): Known {
    const all = [...this.#known.values()];
    const found = request.peer === '' ? all : all.filter(({ entry }) => entry.names.includes(request.peer));
    const [first] = found;
    if (first !== undefined && found.length === 1) return first;
    const names = all.map(({ entry }) => entry.names.find((name) => name !== '') ?? '?');
    const some = `${names.slice(0, 10).join(', ')}${names.length > 10 ? ', ...' : ''}`;
    const why =
      all.length === 0
        ? 'the link has no peer'
        : request.peer === ''
          ? `the link has ${all.length} peers: name one of ${some}`
          : `there is no peer ${request.peer}: name one of ${some}`;
    throw new TaplaneError('FAILED_PRECONDITION', 'PEER_NOT_FOUND', `probe ${request.name}: ${why}`);
  }
}
