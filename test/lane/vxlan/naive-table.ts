// A forwarding database as a plain map, written from the rules alone.

import { type FdbEntry, type FdbLimits, HOME, type Learned, NOWHERE } from '../../../src/lane/vxlan/fdb.ts';

export class NaiveTable {
  readonly #limits: FdbLimits;
  readonly #learned = new Map<number, { remote: number; seenMs: number }>();
  readonly #pinned = new Map<number, number>();
  moves = 0;

  /** Keeps to what `limits` says then. */
  constructor(limits: FdbLimits) {
    this.#limits = limits;
  }

  learn(mac: number, remote: number, nowMs: number): Learned {
    if (isNobody(mac)) return 'none';
    const pinned = this.#pinned.get(mac);
    if (pinned !== undefined) return pinned === remote ? 'known' : 'pinned';
    const known = this.#fresh(mac, nowMs);
    if (known === undefined && this.#learned.size >= this.#limits.most) this.#age(nowMs);
    if (known === undefined && this.#learned.size >= this.#limits.most) return 'full';
    this.#learned.set(mac, { remote, seenMs: nowMs });
    if (known === undefined) return 'new';
    if (known.remote === remote) return 'known';
    this.moves++;
    return 'moved';
  }

  home(mac: number, nowMs: number): boolean {
    const known = this.#fresh(mac, nowMs);
    if (known === undefined) return false;
    const hasMoved = known.remote !== HOME;
    if (hasMoved) this.moves++;
    this.#learned.set(mac, { remote: HOME, seenMs: nowMs });
    return hasMoved;
  }

  pin(mac: number, remote: number): void {
    if (isNobody(mac) || this.#pinned.has(mac)) return;
    this.#learned.delete(mac);
    this.#pinned.set(mac, remote);
  }

  unpinAll(): void {
    this.#pinned.clear();
  }

  forget(remote: number): void {
    for (const [mac, known] of this.#learned) if (known.remote === remote) this.#learned.delete(mac);
    for (const [mac, known] of this.#pinned) if (known === remote) this.#pinned.delete(mac);
  }

  find(mac: number, nowMs: number): number {
    return this.#pinned.get(mac) ?? this.#fresh(mac, nowMs)?.remote ?? NOWHERE;
  }

  list(nowMs: number): FdbEntry[] {
    this.#age(nowMs);
    const learned = [...this.#learned].filter(([, { remote }]) => remote !== HOME);
    return [
      ...[...this.#pinned].map(([mac, remote]) => ({ mac, remote, isStatic: true })),
      ...learned.map(([mac, { remote }]) => ({ mac, remote, isStatic: false })),
    ].sort((a, b) => a.mac - b.mac);
  }

  #fresh(mac: number, nowMs: number): { remote: number; seenMs: number } | undefined {
    const known = this.#learned.get(mac);
    if (known === undefined || nowMs - known.seenMs <= this.#limits.ageMs) return known;
    this.#learned.delete(mac);
    return undefined;
  }

  #age(nowMs: number): void {
    for (const [mac, { seenMs }] of this.#learned) if (nowMs - seenMs > this.#limits.ageMs) this.#learned.delete(mac);
  }
}

function isNobody(mac: number): boolean {
  return mac === 0 || Math.floor(mac / 2 ** 40) % 2 === 1;
}
