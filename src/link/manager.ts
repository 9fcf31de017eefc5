// The links of a node: puts together records, declaration to lanes, status and watchers, and gives them a life. See `contract.ts` for what it promises
// to the wire.
//
//   open (disk) --> start (told to the data plane) --> ... --> stop (links run on in their lanes)

import { randomUUID } from 'node:crypto';
import { TaplaneError } from '../errors.ts';
import type { Attachment, AttachmentState, Attachment_Kind as Kind } from '../gen/taplane/lane/v1/lane_service.ts';
import { Link, type LinkStatus, type LinkSpec_Protocol as Protocol } from '../gen/taplane/v1/link.ts';
import {
  CreateLinkRequest,
  DeleteLinkRequest,
  DeleteLinkResponse,
  type ProbeResult,
  UpdateLinkRequest,
} from '../gen/taplane/v1/link_service.ts';
import { Broadcast } from '../resource/broadcast.ts';
import { selects } from '../resource/labels.ts';
import type { Log } from '../resource/log.ts';
import { Once } from '../resource/once.ts';
import { page } from '../resource/page.ts';
import { type Findings, Store } from '../resource/store.ts';
import { Turns } from '../resource/turns.ts';
import { Changes } from './changes.ts';
import type { Links } from './contract.ts';
import { Declaration } from './declaration.ts';
import { Entry } from './entry.ts';
import type { Joined } from './joined.ts';
import { linkId, linkName } from './name.ts';
import { type AskLane, probeLink } from './probe.ts';
import { LINK_RECORDS, type LinkRecord } from './record.ts';
import { LINKS, type LinkEvent, Registry } from './registry.ts';
import { endpointsOf } from './underlay.ts';

export type { Joined } from './joined.ts';
export type { LinkEvent } from './registry.ts';

const PRUNE_MS = 60_000;

/** A link, without keys, and what its lane says. */
export interface SaidOfLink {
  /** The id, without `links/`. */
  name: string;
  protocol: Protocol;
  status: LinkStatus | undefined;
}

export interface LinkOptions {
  stateDir: string;
  limits: { links: number; watchers: number };
  log: Log;
  /** The interface with this id; undefined when there is none, or when it is about to go. */
  joined(id: string): Joined | undefined;
  /** Declares all links to the data plane; their handshake epochs come from `withEpochs`. */
  want(attachments: Attachment[]): void;
  /** What the lane says of an attachment of an interface; undefined while it has not said anything. */
  attachment(uid: string, kind: Kind): AttachmentState | undefined;
  /** Probes a peer through the lane of an interface. */
  ask: AskLane;
  /** Hears what every watcher hears, in the same turn. Must not throw. */
  told?: (event: LinkEvent) => void;
  /** Hears the result of each probe. Must not throw. */
  probed?: (result: ProbeResult, link: { uid: string; labels: { [key: string]: string } }) => void;
  /** Milliseconds since 1970. */
  clock?: () => number;
}

export interface LinkManager extends Links {
  /** What was found when the state was opened. */
  readonly findings: Findings;
  /** Declares the links. Interfaces are known by then. */
  start(): void;
  /** Interfaces may have changed. */
  interfacesChanged(): void;
  /** A lane says something new of links. */
  laneSaid(): void;
  /** `links/{link}` of the link that joins the interface with this id. */
  linkOf(interfaceId: string): string | undefined;
  /** See `Declaration.withEpochs`. */
  withEpochs(attachments: readonly Attachment[], lane: string): Promise<Attachment[]>;
  /** Where the peers are whose packets neither mark nor device keeps off the routes of the node. */
  underlay(): Iterable<{ address: Buffer }>;
  count(): number;
  /** How each link is by the word of its lane, in the order of their names; `status` is undefined while the lane has said nothing. */
  said(): SaidOfLink[];
  /** Ends every watch with UNAVAILABLE. */
  endWatches(): void;
  /** Finishes what is under way. Links run on. */
  stop(): Promise<void>;
}

/** Opens the links of a node. Touches the disk. Throws TaplaneError. */
export function openLinks(options: LinkOptions): LinkManager {
  const now = options.clock ?? Date.now;
  return new Manager(options, new Store(options.stateDir, LINK_RECORDS, now), now);
}

class Manager implements LinkManager {
  readonly #log: Log;
  readonly #store: Store<LinkRecord>;
  readonly #once: Once;
  readonly #turns = new Turns();
  readonly #broadcast: Broadcast<LinkEvent>;
  readonly #registry: Registry;
  readonly #declaration: Declaration;
  readonly #changes: Changes;
  readonly #ask: AskLane;
  readonly #probed: NonNullable<LinkOptions['probed']>;
  #pruning: NodeJS.Timeout | undefined;
  #stopping = false;

  constructor(
    { limits, log, joined, want, attachment, ask, told, probed = () => {} }: LinkOptions,
    store: Store<LinkRecord>,
    now: () => number,
  ) {
    this.#log = log;
    this.#store = store;
    this.#ask = ask;
    this.#probed = probed;
    this.#once = new Once(store);
    this.#broadcast = new Broadcast(LINKS, randomUUID().slice(0, 8), limits.watchers, told);
    const registry = new Registry({ broadcast: this.#broadcast, joined, attachment, now });
    const turns = this.#turns;
    this.#registry = registry;
    this.#declaration = new Declaration({ registry, turns, store, want, log, now });
    const changed = (): void => this.#declaration.touch();
    this.#changes = new Changes({ registry, turns, store, joined, changed, mostLinks: limits.links, now });
    for (const record of store.records) registry.add(new Entry(record));
  }

  get findings(): Findings {
    return this.#store.findings;
  }

  start(): void {
    const { corruptFiles, badRecords } = this.findings;
    if (corruptFiles.length > 0 || badRecords.length > 0)
      this.#log.error({ corrupt_files: corruptFiles, bad_records: badRecords }, 'state of links is not intact; running degraded');
    this.#declaration.start();
    this.#registry.interfacesChanged();
    this.#pruning = setInterval(() => this.#store.prune(), PRUNE_MS);
    this.#pruning.unref();
  }

  interfacesChanged(): void {
    if (this.#registry.interfacesChanged()) this.#declaration.touch();
  }

  laneSaid(): void {
    this.#registry.laneSaid();
  }

  linkOf(interfaceId: string): string | undefined {
    return this.#registry.linkOf(interfaceId);
  }

  *underlay(): Generator<{ address: Buffer }> {
    for (const { record } of this.#registry.all()) for (const address of endpointsOf(record.spec)) yield { address };
  }

  withEpochs(attachments: readonly Attachment[], lane: string): Promise<Attachment[]> {
    return this.#declaration.withEpochs(attachments, lane);
  }

  count(): number {
    return this.#registry.size;
  }

  said(): SaidOfLink[] {
    const registry = this.#registry;
    return registry
      .sorted()
      .map((entry) => ({ name: entry.name, protocol: entry.record.spec.protocol, status: registry.said(entry)?.link }));
  }

  endWatches(): void {
    this.#broadcast.end();
  }

  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    clearInterval(this.#pruning);
    await this.#turns.idle();
    this.#declaration.stop();
    this.#store.close();
  }

  create: Links['create'] = (request) =>
    this.#closed() ?? this.#once.run('create', request, CreateLinkRequest, Link, (replay) => this.#changes.create(request, replay));

  update: Links['update'] = (request, rights) =>
    this.#closed() ??
    this.#once.run('update', request, UpdateLinkRequest, Link, async (replay) => this.#changes.update(request, replay, rights));

  delete: Links['delete'] = (request) =>
    this.#closed() ??
    this.#once.run('delete', request, DeleteLinkRequest, DeleteLinkResponse, (replay) => this.#changes.delete(request, replay));

  get: Links['get'] = async ({ name }) => this.#registry.view(this.#registry.need(linkId(name)));

  list: Links['list'] = async (request, isVisible = () => true) => {
    const { interface: joined, labelSelector } = request;
    const matching = this.#registry
      .sorted()
      .filter(({ record: { labels, spec } }) => selects(labelSelector, labels) && (joined === '' || spec.interface === joined))
      .filter(({ name }) => isVisible(name));
    const { items, nextPageToken } = page(request, matching, ({ name }) => name);
    return { links: items.map((entry) => this.#registry.view(entry)), nextPageToken };
  };

  watch: Links['watch'] = (request, signal, isVisible = () => true) => {
    const only = request.name === '' ? undefined : linkName(linkId(request.name));
    const wanted = (event: LinkEvent): boolean =>
      event.$case === 'synced' ||
      (isVisible(event.value.name.slice(event.value.name.indexOf('/') + 1)) && (only === undefined || event.value.name === only));
    const snapshot = (): LinkEvent[] =>
      this.#registry
        .sorted()
        .map((entry): LinkEvent => ({ $case: 'added', value: this.#registry.view(entry) }))
        .filter(wanted);
    return this.#broadcast.watch(request.resumeToken, snapshot, wanted, signal);
  };

  probe: Links['probe'] = (request, signal) =>
    probeLink(
      { registry: this.#registry, ask: this.#ask, probed: (result, { record: { uid, labels } }) => this.#probed(result, { uid, labels }) },
      request,
      signal,
    );

  /** A rejection when the agent is stopping. */
  #closed(): Promise<never> | undefined {
    if (!this.#stopping) return undefined;
    return Promise.reject(new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', 'the agent is stopping', { retryAfterMs: 1000 }));
  }
}
