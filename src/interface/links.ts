// All links of the agent's own namespace, kept up to date from notifications, so that a watcher hears of each only what changed.

import { type LinkEvent, LinkEvent_Kind } from '../gen/taplane/v1/interface_service.ts';
import type { Link } from '../sys/netlink/link.ts';

type Known = Omit<LinkEvent, 'kind'>;

export class Links {
  readonly #known = new Map<number, Known>();
  readonly #owner: (alias: string) => string;
  readonly #tell: (event: LinkEvent) => void;

  /** `owner` answers the resource name of the interface with this mark, '' for foreign links. */
  constructor(owner: (alias: string) => string, tell: (event: LinkEvent) => void) {
    this.#owner = owner;
    this.#tell = tell;
  }

  /** Takes in a notification. */
  note(link: Link, removed: boolean): void {
    const old = this.#known.get(link.index);
    if (removed) {
      this.#known.delete(link.index);
      if (old !== undefined) this.#tell({ ...old, kind: LinkEvent_Kind.REMOVED });
      return;
    }
    const now = this.#read(link);
    this.#known.set(link.index, now);
    if (old === undefined) this.#tell({ ...now, kind: LinkEvent_Kind.ADDED });
    else if (JSON.stringify(old) !== JSON.stringify(now)) this.#tell({ ...now, kind: LinkEvent_Kind.CHANGED });
  }

  /** Takes in a full list, as at start or after a loss. */
  replace(links: Link[]): void {
    const present = new Set(links.map((link) => link.index));
    for (const [index, old] of this.#known) {
      if (present.has(index)) continue;
      this.#known.delete(index);
      this.#tell({ ...old, kind: LinkEvent_Kind.REMOVED });
    }
    for (const link of links) this.note(link, false);
  }

  /** Every link as if it had just appeared. */
  all(): LinkEvent[] {
    return [...this.#known.values()].map((known) => ({ ...known, kind: LinkEvent_Kind.ADDED }));
  }

  #read(link: Link): Known {
    return {
      ifindex: link.index,
      link: link.name,
      driver: link.kind,
      up: link.up,
      carrier: link.carrier,
      mtu: link.mtu,
      interface: this.#owner(link.alias),
    };
  }
}
