// The interfaces of a node: puts together records, kernel, reconciliation and watchers, and gives them a life. See `contract.ts` for
// what it promises to the wire.
//
//   open --> start (recover, then listen) --> ... --> stop (ephemeral interfaces go, the others stay)

import { randomUUID } from 'node:crypto';
import { TaplaneError } from '../errors.ts';
import { type Condition, Interface } from '../gen/taplane/v1/interface.ts';
import {
  AddAddressRequest,
  AddRouteRequest,
  AdoptInterfaceRequest,
  CreateInterfaceRequest,
  DeleteInterfaceRequest,
  DeleteInterfaceResponse,
  type LinkEvent,
  RemoveAddressRequest,
  RemoveRouteRequest,
  UpdateInterfaceRequest,
} from '../gen/taplane/v1/interface_service.ts';
import type { NetlinkCounters } from '../gen/taplane/v1/node_service.ts';
import type { Broadcast } from '../resource/broadcast.ts';
import { Conditions } from '../resource/conditions.ts';
import type { Log } from '../resource/log.ts';
import { Once } from '../resource/once.ts';
import { type Findings, Store } from '../resource/store.ts';
import { Turns } from '../resource/turns.ts';
import type { Link } from '../sys/netlink/link.ts';
import { Attachments, type Mirrors } from './attachments.ts';
import { interfaceBroadcast, type WatchEvent } from './broadcast.ts';
import { Changes } from './changes.ts';
import type { ConditionType } from './condition-type.ts';
import type { Interfaces, Responders } from './contract.ts';
import type { DataPlane, Metering } from './data-plane.ts';
import { MARK } from './desired.ts';
import { type DeviceFacts, deviceFacts } from './device-facts.ts';
import { addingAddress, addingRoute, removingAddress, removingRoute } from './edits.ts';
import { Engine } from './engine.ts';
import { Links } from './links.ts';
import { resourceName } from './name.ts';
import { Namespaces } from './namespaces.ts';
import { judgeNode } from './node-conditions.ts';
import type { Underlay } from './node-routes.ts';
import type { Policy } from './object-rules.ts';
import { Queries } from './queries.ts';
import { Reconciler } from './reconciler.ts';
import { INTERFACE_RECORDS, type Record } from './record.ts';
import { recover } from './recovery.ts';
import { Registry } from './registry.ts';
import { responders } from './responders.ts';
import { Scan } from './scan.ts';

export interface InterfaceOptions {
  stateDir: string;
  limits: { interfaces: number; watchers: number };
  policy: Policy;
  log: Log;
  /** Absent where there is none: then no carrier is kept, and no responder answers. */
  dataPlane?: DataPlane;
  /** Absent where nothing copies packets. */
  mirrors?: Mirrors;
  /** How flows are metered; absent where they are not. */
  metering?: Metering;
  /** Called whenever interfaces may have come, gone or changed, once for all that happens in a turn of the event loop. */
  changed?: () => void;
  /** Hears what every watcher hears, in the same turn. Must not throw. */
  told?: (event: WatchEvent) => void;
  /** The link that joins an interface, `links/{link}`; undefined for none. Absent where there are no links. */
  linkOf?: (id: string) => string | undefined;
  /** Where the peers of links are whose packets follow the routes of the node. */
  underlay?: () => Iterable<Underlay>;
  /** What was found when other state of the node was opened. */
  otherFindings?: () => Pick<Findings, 'corruptFiles' | 'badRecords'>;
  /** Milliseconds since 1970. */
  clock?: () => number;
}

export type { DataPlane, Metering } from './data-plane.ts';

export interface InterfaceManager extends Interfaces, DeviceFacts {
  readonly responders: Responders;
  /** The data plane, or a mirror, does more or less than before. */
  laneChanged(): void;
  readonly nodeUid: string;
  /** Recovers and begins to listen. */
  start(): Promise<void>;
  /** Ends every watch with UNAVAILABLE, so that the server need not wait for them. */
  endWatches(): void;
  /** Finishes what is under way and removes ephemeral interfaces. */
  stop(): Promise<void>;
  /** How many interfaces are managed. */
  count(): number;
  conditions(): Condition[];
  netlinkCounters(): NetlinkCounters;
  reconciling(): Pick<Reconciler, 'repairs' | 'failures' | 'lastSuccessMs'>;
}

/** Opens the state of a node. Touches the disk but not yet the kernel. Throws TaplaneError. */
export async function openInterfaces(options: InterfaceOptions): Promise<InterfaceManager> {
  const now = options.clock ?? Date.now;
  return new Manager(options, new Store(options.stateDir, INTERFACE_RECORDS, now), now);
}

class Manager implements InterfaceManager {
  readonly nodeUid: string;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #store: Store<Record>;
  readonly #once: Once;
  readonly #turns = new Turns();
  readonly #broadcast: Broadcast<WatchEvent>;
  readonly #registry: Registry;
  readonly #links: Links;
  readonly #namespaces: Namespaces;
  readonly #engine: Engine;
  readonly #reconciler: Reconciler;
  readonly #queries: Queries;
  readonly #changes: Changes;
  readonly #scan: Scan;
  readonly #otherFindings: NonNullable<InterfaceOptions['otherFindings']>;
  readonly #conditions = new Conditions<ConditionType>();
  readonly #attachments: Attachments;
  readonly responders: Responders;
  readonly isManaged: DeviceFacts['isManaged'];
  readonly device: DeviceFacts['device'];
  readonly metered: DeviceFacts['metered'];
  readonly index: DeviceFacts['index'];
  readonly mirrored: DeviceFacts['mirrored'];
  readonly joinable: DeviceFacts['joinable'];
  readonly health: DeviceFacts['health'];
  /** Devices that carried a mark at the start which no record knew. */
  #markedDevices: Link[] = [];
  #watching = false;
  #stopping = false;

  constructor(
    { limits, policy, log, dataPlane, mirrors, metering, changed, told, linkOf, underlay, otherFindings }: InterfaceOptions,
    store: Store<Record>,
    now: () => number,
  ) {
    this.#log = log;
    this.#now = now;
    this.#store = store;
    this.nodeUid = store.nodeUid;
    this.#otherFindings = otherFindings ?? (() => ({ corruptFiles: [], badRecords: [] }));
    this.#once = new Once(store);
    this.#broadcast = interfaceBroadcast(randomUUID().slice(0, 8), limits.watchers, told);
    const attachments = new Attachments({ dataPlane, mirrors, metering, changed, entries: () => registry.sorted(), now });
    this.#attachments = attachments;
    const registry = new Registry(
      this.#broadcast,
      () => attachments.touch(),
      (record) => attachments.mirror(record),
    );
    this.#registry = registry;
    this.#links = new Links(
      (alias) => this.#resourceOf(alias),
      (event: LinkEvent) => this.#broadcast.publish({ $case: 'linkEvent', value: event }),
    );
    this.#namespaces = new Namespaces({
      link: (namespace, link, removed) => this.#linkChanged(namespace, link, removed),
      object: (namespace, index) => this.#touchIndex(namespace, index),
      lost: (namespace) => this.#lost(namespace),
    });
    const engine = new Engine(this.#namespaces, log, now);
    this.#engine = engine;
    const turns = this.#turns;
    this.#reconciler = new Reconciler({
      engine,
      turns,
      log,
      now,
      alive: (entry) => registry.holds(entry),
      judge: (entry) => attachments.judge(entry),
      publish: (entry, actual, steps) => registry.tell('modified', entry, actual, steps),
    });
    this.#queries = new Queries({ registry, engine, broadcast: this.#broadcast, links: this.#links, attachments });
    this.#changes = new Changes({
      registry,
      engine,
      reconciler: this.#reconciler,
      turns,
      store,
      policy,
      mostInterfaces: limits.interfaces,
      linkOf: linkOf ?? (() => undefined),
      underlay: underlay ?? (() => []),
      log,
      now,
    });
    this.#scan = new Scan({ registry, engine, reconciler: this.#reconciler, namespaces: this.#namespaces, links: this.#links, store, log });
    const facts = deviceFacts(registry, engine, (name) => this.#changes.isLeaving(name));
    ({ isManaged: this.isManaged, device: this.device, metered: this.metered } = facts);
    ({ index: this.index, mirrored: this.mirrored, joinable: this.joinable, health: this.health } = facts);
    this.responders = responders({
      registry,
      attachments,
      once: this.#once,
      changes: this.#changes,
      closed: () => this.#open(),
    });
  }

  async start(): Promise<void> {
    const { corruptFiles, badRecords } = this.#store.findings;
    if (corruptFiles.length > 0 || badRecords.length > 0)
      this.#log.error(
        { corrupt_files: corruptFiles, bad_records: badRecords },
        'state is not intact; running degraded, no device is removed because of it',
      );
    const entries = await recover({
      engine: this.#engine,
      reconciler: this.#reconciler,
      store: this.#store,
      log: this.#log,
      now: this.#now,
    });
    for (const entry of entries) this.#registry.add(entry);
    const links = this.#engine.kernel('').links();
    this.#links.replace(links);
    this.#markedDevices = links.filter((link) => link.alias.startsWith(MARK) && this.#registry.byAlias(link.alias) === undefined);
    this.#watching = true;
    this.#attachments.start();
    // What changed while we recovered was heard before the entries were known.
    for (const entry of entries) this.#reconciler.touch(entry);
    this.#scan.start();
  }

  laneChanged(): void {
    for (const entry of this.#registry.all()) if (this.#attachments.hasNews(entry)) this.#reconciler.touch(entry);
  }

  endWatches(): void {
    this.#broadcast.end();
  }

  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#scan.stop();
    this.#reconciler.stop();
    await this.#turns.idle();
    for (const entry of [...this.#registry.all()]) {
      if (!entry.spec.ephemeral) {
        entry.forget();
        continue;
      }
      await this.#changes.discard(entry).catch((error: unknown) => {
        this.#log.error({ interface: entry.name, err: String(error) }, 'ephemeral interface not removed; the next start does it');
      });
    }
    this.#attachments.stop();
    this.#changes.stop();
    this.#namespaces.close();
    this.#store.close();
  }

  count(): number {
    return this.#registry.size;
  }

  create: Interfaces['create'] = (request) =>
    this.#open() ?? this.#once.run('create', request, CreateInterfaceRequest, Interface, (replay) => this.#changes.create(request, replay));

  update: Interfaces['update'] = (request) =>
    this.#open() ??
    this.#once.run('update', request, UpdateInterfaceRequest, Interface, async (replay) => this.#changes.update(request, replay));

  delete: Interfaces['delete'] = (request) =>
    this.#open() ??
    this.#once.run('delete', request, DeleteInterfaceRequest, DeleteInterfaceResponse, (replay) => this.#changes.delete(request, replay));

  adopt: Interfaces['adopt'] = (request) =>
    this.#open() ?? this.#once.run('adopt', request, AdoptInterfaceRequest, Interface, (replay) => this.#changes.adopt(request, replay));

  addAddress: Interfaces['addAddress'] = (request) =>
    this.#open() ??
    this.#once.run('addAddress', request, AddAddressRequest, Interface, async (replay) =>
      this.#changes.edit(addingAddress(request), replay),
    );

  removeAddress: Interfaces['removeAddress'] = (request) =>
    this.#open() ??
    this.#once.run('removeAddress', request, RemoveAddressRequest, Interface, async (replay) =>
      this.#changes.edit(removingAddress(request), replay),
    );

  addRoute: Interfaces['addRoute'] = (request) =>
    this.#open() ??
    this.#once.run('addRoute', request, AddRouteRequest, Interface, async (replay) => this.#changes.edit(addingRoute(request), replay));

  removeRoute: Interfaces['removeRoute'] = (request) =>
    this.#open() ??
    this.#once.run('removeRoute', request, RemoveRouteRequest, Interface, async (replay) =>
      this.#changes.edit(removingRoute(request), replay),
    );

  get: Interfaces['get'] = async (request) => this.#queries.get(request);

  list: Interfaces['list'] = async (request, isVisible) => this.#queries.list(request, isVisible);

  watch: Interfaces['watch'] = (request, signal, isVisible) => this.#queries.watch(request, signal, isVisible);

  conditions(): Condition[] {
    const amiss = [...this.#registry.all()].filter((entry) => !entry.conditions.isTrue('Ready')).map((entry) => entry.name);
    const unknown = this.#markedDevices.filter(({ alias }) => this.#registry.byAlias(alias) === undefined).map(({ name }) => name);
    const { corruptFiles, badRecords } = this.#store.findings;
    const others = this.#otherFindings();
    const findings = { corruptFiles: [...corruptFiles, ...others.corruptFiles], badRecords: [...badRecords, ...others.badRecords] };
    const facts = { findings, amiss, unknown, watching: this.#watching };
    return judgeNode(this.#conditions, facts, this.#now());
  }

  netlinkCounters(): NetlinkCounters {
    const { requests, notifications, overruns, interruptedDumps, errors } = this.#namespaces.counts();
    return {
      errors: BigInt(errors),
      requests: BigInt(requests),
      notifications: BigInt(notifications),
      overruns: BigInt(overruns),
      interruptedDumps: BigInt(interruptedDumps),
      repairs: BigInt(this.#reconciler.repairs),
    };
  }

  reconciling(): Pick<Reconciler, 'repairs' | 'failures' | 'lastSuccessMs'> {
    return this.#reconciler;
  }

  /** A rejection when the agent is stopping. */
  #open(): Promise<never> | undefined {
    if (!this.#stopping) return undefined;
    return Promise.reject(new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', 'the agent is stopping', { retryAfterMs: 1000 }));
  }

  #resourceOf(alias: string): string {
    const entry = this.#registry.byAlias(alias);
    return entry === undefined ? '' : resourceName(entry.name);
  }

  #linkChanged(namespace: string, link: Link, removed: boolean): void {
    if (namespace === '' && this.#watching) this.#links.note(link, removed);
    const entry = this.#registry.get(link.name);
    if (entry?.namespace === namespace) this.#reconciler.touch(entry);
    this.#touchIndex(namespace, link.index);
    // A bridge that comes may be one that a TAP waits for.
    if (link.kind === 'bridge')
      for (const port of this.#registry.all())
        if (port.namespace === namespace && port.spec.controller === link.name) this.#reconciler.touch(port);
  }

  #touchIndex(namespace: string, index: number): void {
    const entry = this.#registry.byIndex(namespace, index);
    if (entry !== undefined) this.#reconciler.touch(entry);
  }

  /** Notifications were lost: everything of the namespace is looked at anew. */
  #lost(namespace: string): void {
    if (this.#stopping) return;
    this.#log.warn({ namespace }, 'kernel notifications lost; reading everything anew');
    setImmediate(() => void this.#scan.look(namespace));
  }
}
