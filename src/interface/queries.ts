// Reading interfaces: one, pages of many, and a stream of changes.

import type { Interface } from '../gen/taplane/v1/interface.ts';
import {
  type GetInterfaceRequest,
  type ListInterfacesRequest,
  ListInterfacesRequest_View,
  type ListInterfacesResponse,
  type WatchInterfacesRequest,
  type WatchInterfacesResponse,
} from '../gen/taplane/v1/interface_service.ts';
import type { Broadcast } from '../resource/broadcast.ts';
import { selects } from '../resource/labels.ts';
import { page } from '../resource/page.ts';
import { type QueueHolder as Holder, nearestHolders, queueHolders } from '../sys/queue-holders.ts';
import type { Attachments } from './attachments.ts';
import type { WatchEvent } from './broadcast.ts';
import type { Engine } from './engine.ts';
import type { Entry } from './entry.ts';
import type { Snapshot } from './kernel.ts';
import type { Links } from './links.ts';
import { interfaceId, resourceName } from './name.ts';
import { type Actual, nothing } from './plan.ts';
import type { Registry } from './registry.ts';

export interface QueryNeeds {
  registry: Registry;
  engine: Engine;
  broadcast: Broadcast<WatchEvent>;
  links: Links;
  attachments: Attachments;
}

const everything = (): boolean => true;

export class Queries {
  readonly #needs: QueryNeeds;

  constructor(needs: QueryNeeds) {
    this.#needs = needs;
  }

  get(request: GetInterfaceRequest): Interface {
    const entry = this.#needs.registry.need(interfaceId(request.name));
    return this.#withHolders(this.show(entry), new Map());
  }

  list(request: ListInterfacesRequest, isVisible: (id: string) => boolean = everything): ListInterfacesResponse {
    const matching = this.#needs.registry
      .sorted()
      .filter(({ name, record: { labels } }) => selects(request.labelSelector, labels) && isVisible(name));
    const { items, nextPageToken } = page(request, matching, ({ name }) => name);
    const shown = this.#showAll(items);
    const holders = new Map<string, Holder[]>();
    return {
      interfaces: request.view === ListInterfacesRequest_View.FULL ? shown.map((item) => this.#withHolders(item, holders)) : shown,
      nextPageToken,
    };
  }

  watch(
    request: WatchInterfacesRequest,
    signal: AbortSignal,
    isVisible: (id: string) => boolean = everything,
  ): AsyncIterable<WatchInterfacesResponse> {
    const only = request.name === '' ? undefined : resourceName(interfaceId(request.name));
    const wanted = (event: WatchEvent): boolean => {
      if (event.$case === 'linkEvent') return request.includeLinks && isVisible(event.value.link);
      if (event.$case === 'synced') return true;
      if (!isVisible(event.value.name.slice(event.value.name.indexOf('/') + 1))) return false;
      return only === undefined || event.value.name === only;
    };
    const snapshot = (): WatchEvent[] => {
      const { registry, links } = this.#needs;
      const interfaces: WatchEvent[] = this.#showAll(registry.sorted()).map((value) => ({ $case: 'added', value }));
      return [...interfaces, ...links.all().map((value): WatchEvent => ({ $case: 'linkEvent', value }))].filter(wanted);
    };
    return this.#needs.broadcast.watch(request.resumeToken, snapshot, wanted, signal);
  }

  /** An interface as it is now; without what cannot be read. */
  show(entry: Entry, snapshot?: Snapshot): Interface {
    return this.#needs.registry.view(entry, this.#actual(entry, snapshot));
  }

  #showAll(entries: Entry[]): Interface[] {
    const snapshots = new Map<string, Snapshot | undefined>();
    return entries.map((entry) => {
      // One interface is read by itself, many from one reading of everything.
      if (entries.length > 4 && !snapshots.has(entry.namespace)) snapshots.set(entry.namespace, this.#snapshot(entry.namespace));
      return this.show(entry, snapshots.get(entry.namespace));
    });
  }

  #snapshot(namespace: string): Snapshot | undefined {
    try {
      return this.#needs.engine.kernel(namespace).snapshot();
    } catch {
      return undefined;
    }
  }

  #actual(entry: Entry, snapshot: Snapshot | undefined): Actual {
    try {
      return this.#needs.engine.observe(entry, snapshot);
    } catch {
      // Its namespace is gone or its name is taken: the conditions say so.
      return nothing;
    }
  }

  /** Adds who holds the queues; the look at all processes is made once, and only when some queue is held. */
  #withHolders(shown: Interface, holders: Map<string, Holder[]>): Interface {
    if (shown.status?.carrier !== true) return shown;
    if (holders.size === 0) for (const [name, found] of queueHolders()) holders.set(name, found);
    const attachment = (pid: number): string => this.#needs.attachments.holding(shown.uid, pid);
    const held = holders.get(shown.name.slice(shown.name.indexOf('/') + 1)) ?? [];
    const near = nearestHolders(held, shown.spec?.networkNamespace ?? '', (pid) => attachment(pid) !== '');
    const named = near.map((holder) => ({ ...holder, attachment: attachment(holder.pid) }));
    return { ...shown, status: { ...shown.status, holders: named } };
  }
}
