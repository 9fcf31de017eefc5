// The interfaces of a node: puts together records, kernel, reconciliation and watchers, and gives them a life. See `contract.ts` for
// what it promises to the wire.
//
//   open --> start (recover, then listen) --> ... --> stop (ephemeral interfaces go, the others stay)

import { randomUUID } from 'node:crypto';
import { TaplaneError } from '../errors.ts';
import { type Attachment, Attachment_Kind } from '../gen/taplane/lane/v1/lane_service.ts';
import { type Condition, Interface, InterfaceSpec_Carrier, InterfaceSpec_Mode } from '../gen/taplane/v1/interface.ts';
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
import type { Link } from '../sys/netlink/link.ts';
import { Broadcast } from './broadcast.ts';
import { Changes } from './changes.ts';
import { Conditions, type ConditionType } from './conditions.ts';
import type { Interfaces } from './contract.ts';
import { MARK } from './desired.ts';
import { addingAddress, addingRoute, removingAddress, removingRoute } from './edits.ts';
import { Engine } from './engine.ts';
import { type Entry, Turns } from './entry.ts';
import type { Snapshot } from './kernel.ts';
import { Links } from './links.ts';
import type { Log } from './log.ts';
import { resourceName } from './name.ts';
import { Namespaces } from './namespaces.ts';
import type { Policy } from './object-rules.ts';
import { Once } from './once.ts';
import { Queries } from './queries.ts';
import { Reconciler } from './reconciler.ts';
import { recover } from './recovery.ts';
import { Registry } from './registry.ts';
import { Store } from './store.ts';

const SCAN_MS = 30_000;
/** Interfaces looked at in a scan before the event loop gets its turn. */
const SCAN_BATCH = 32;

export interface InterfaceOptions {
  stateDir: string;
  limits: { interfaces: number; watchers: number };
  policy: Policy;
  log: Log;
  /** Absent where there is none: then no carrier is kept. */
  lane?: CarrierLane;
  /** Milliseconds since 1970. */
  clock?: () => number;
}

/** What keeps the carrier of interfaces: it is told all of them, and asked about each. */
export interface CarrierLane {
  want(attachments: Attachment[]): void;
  held(uid: string): { held: boolean; reason: string };
}

export interface InterfaceManager extends Interfaces {
  /** The lane holds more or less than before. */
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
}

/** Opens the state of a node. Touches the disk but not yet the kernel. Throws TaplaneError. */
export async function openInterfaces(options: InterfaceOptions): Promise<InterfaceManager> {
  const now = options.clock ?? Date.now;
  return new Manager(options, new Store(options.stateDir, now), now);
}

class Manager implements InterfaceManager {
  readonly nodeUid: string;
  readonly #log: Log;
  readonly #now: () => number;
  readonly #store: Store;
  readonly #once: Once;
  readonly #turns = new Turns();
  readonly #broadcast: Broadcast;
  readonly #registry: Registry;
  readonly #links: Links;
  readonly #namespaces: Namespaces;
  readonly #engine: Engine;
  readonly #reconciler: Reconciler;
  readonly #queries: Queries;
  readonly #changes: Changes;
  readonly #conditions = new Conditions();
  readonly #lane: CarrierLane | undefined;
  #parkingDue = false;
  /** What the lane was last told; nothing yet, so that it is told also that there is nothing. */
  #parkings = '';
  #scanTimer: NodeJS.Timeout | undefined;
  /** Devices that carried a mark at the start which no record knew. */
  #markedDevices: Link[] = [];
  #watching = false;
  #stopping = false;

  constructor({ limits, policy, log, lane }: InterfaceOptions, store: Store, now: () => number) {
    this.#lane = lane;
    this.#log = log;
    this.#now = now;
    this.#store = store;
    this.nodeUid = store.nodeUid;
    this.#once = new Once(store);
    this.#broadcast = new Broadcast(randomUUID().slice(0, 8), limits.watchers);
    const registry = new Registry(this.#broadcast, () => this.#park());
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
      kept: (uid) => lane?.held(uid),
      publish: (entry, actual, steps) => registry.tell('modified', entry, actual, steps),
    });
    this.#queries = new Queries({ registry, engine, broadcast: this.#broadcast, links: this.#links });
    this.#changes = new Changes({
      registry,
      engine,
      reconciler: this.#reconciler,
      turns,
      store,
      policy,
      mostInterfaces: limits.interfaces,
      log,
      now,
    });
  }

  async start(): Promise<void> {
    const { corruptFiles, badRecords } = this.#store.findings;
    if (corruptFiles.length > 0 || badRecords.length > 0)
      this.#log.error({ corruptFiles, badRecords }, 'state is not intact; running degraded, no device is removed because of it');
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
    this.#park();
    // What changed while we recovered was heard before the entries were known.
    for (const entry of entries) this.#reconciler.touch(entry);
    this.#scanTimer = setInterval(() => void this.#scan(), SCAN_MS);
    this.#scanTimer.unref();
  }

  laneChanged(): void {
    for (const entry of this.#registry.all()) if (entry.spec.carrier === InterfaceSpec_Carrier.KEEP) this.#reconciler.touch(entry);
  }

  /** Tells the lane whose carrier to keep, once for all that happens in this turn of the event loop. */
  #park(): void {
    if (this.#lane === undefined || this.#parkingDue || !this.#watching) return;
    this.#parkingDue = true;
    setImmediate(() => {
      this.#parkingDue = false;
      if (this.#stopping) return;
      const wanted = this.#registry.sorted().flatMap(parkingOf);
      const text = JSON.stringify(wanted);
      if (text !== this.#parkings) this.#lane?.want(wanted);
      this.#parkings = text;
    });
  }

  endWatches(): void {
    this.#broadcast.end();
  }

  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    clearInterval(this.#scanTimer);
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

  list: Interfaces['list'] = async (request) => this.#queries.list(request);

  watch: Interfaces['watch'] = (request, signal) => this.#queries.watch(request, signal);

  conditions(): Condition[] {
    const { corruptFiles, badRecords } = this.#store.findings;
    const intact = corruptFiles.length === 0 && badRecords.length === 0;
    const lost = [...corruptFiles, ...badRecords.map((name) => `record of ${name}`)].join(', ');
    const amiss = [...this.#registry.all()].filter((entry) => !entry.conditions.isTrue('Ready')).map((entry) => entry.name);
    const unknown = this.#markedDevices.filter(({ alias }) => this.#registry.byAlias(alias) === undefined).map(({ name }) => name);
    const now = this.#now();
    const set = (type: ConditionType, holds: boolean, reason: string, message: string): unknown =>
      this.#conditions.set(type, holds, reason, message, now);
    if (!intact) set('Ready', false, 'StateDamaged', 'the state is not intact');
    else if (amiss.length > 0) set('Ready', false, 'InterfacesNotReady', `not as specified: ${amiss.slice(0, 20).join(', ')}`);
    else set('Ready', true, 'AsSpecified', '');
    if (intact) set('StateIntact', true, 'Intact', '');
    else {
      const cure = 'no device was removed. Adopt or recreate the interfaces, then remove the files from the state directory';
      set('StateIntact', false, 'Quarantined', `unreadable and put aside: ${lost}; ${cure}`);
    }
    set('KernelWatch', this.#watching, this.#watching ? 'Listening' : 'NotListening', '');
    if (unknown.length === 0) this.#conditions.clear('UnknownDevices');
    else {
      const cure = 'make sure that no other agent manages them, then adopt them (take_over) or delete them by hand';
      set(
        'UnknownDevices',
        true,
        'ForeignMark',
        `devices with the mark of another agent or of lost state: ${unknown.slice(0, 20).join(', ')}; ${cure}`,
      );
    }
    return this.#conditions.list();
  }

  netlinkCounters(): NetlinkCounters {
    const { requests, notifications, overruns, interruptedDumps } = this.#namespaces.counts();
    return {
      requests: BigInt(requests),
      notifications: BigInt(notifications),
      overruns: BigInt(overruns),
      interruptedDumps: BigInt(interruptedDumps),
      repairs: BigInt(this.#reconciler.repairs),
    };
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
    setImmediate(() => void this.#scan(namespace));
  }

  /** Looks at every interface, of one namespace or of all, as a net under the notifications. */
  async #scan(only?: string): Promise<void> {
    if (this.#stopping) return;
    try {
      this.#store.prune();
      const inUse = new Set([...this.#registry.all()].map((entry) => entry.namespace));
      this.#namespaces.check((namespace) => inUse.has(namespace));
      if (only === undefined || only === '') this.#links.replace(this.#engine.kernel('').links());
      const entries = [...this.#registry.all()].filter((entry) => only === undefined || entry.namespace === only);
      for (let at = 0; at < entries.length && !this.#stopping; at += SCAN_BATCH) {
        this.#checkBatch(entries.slice(at, at + SCAN_BATCH));
        await new Promise((resolve) => setImmediate(resolve));
      }
    } catch (error) {
      this.#log.error({ err: String(error) }, 'scan failed; tried again later');
    }
  }

  #checkBatch(entries: Entry[]): void {
    const snapshots = new Map<string, Snapshot>();
    for (const entry of entries) {
      if (!this.#registry.holds(entry)) continue;
      try {
        const snapshot = snapshots.get(entry.namespace) ?? this.#engine.kernel(entry.namespace).snapshot();
        snapshots.set(entry.namespace, snapshot);
        this.#reconciler.check(entry, snapshot);
      } catch {
        this.#reconciler.touch(entry); // its look says why in the conditions
      }
    }
  }
}

/** The attachment that keeps the carrier of an interface; none where it is not asked for or there is no device. */
function parkingOf(entry: Entry): Attachment[] {
  const { spec, record } = entry;
  if (spec.carrier !== InterfaceSpec_Carrier.KEEP || entry.index === 0) return [];
  const { mode, multiQueue, packetInfo, vnetHeader, networkNamespace } = spec;
  const tap = mode === InterfaceSpec_Mode.TAP;
  return [
    { kind: Attachment_Kind.PARKING, uid: record.uid, interface: record.name, networkNamespace, tap, multiQueue, packetInfo, vnetHeader },
  ];
}
