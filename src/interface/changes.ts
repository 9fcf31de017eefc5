// Changing interfaces. Every change: check -> intent on disk -> kernel -> outcome on disk, together with the answer to the request
// id -> watchers -> answer. Dying or failing between the two writes means that the change never was.

import { invalidFields, TaplaneError } from '../errors.ts';
import type { Interface, InterfaceSpec } from '../gen/taplane/v1/interface.ts';
import type {
  AdoptInterfaceRequest,
  CreateInterfaceRequest,
  DeleteInterfaceRequest,
  DeleteInterfaceResponse,
  UpdateInterfaceRequest,
} from '../gen/taplane/v1/interface_service.ts';
import { checkEtag } from '../resource/etag.ts';
import { formatMac } from '../resource/inet.ts';
import { labelProblems } from '../resource/labels.ts';
import type { Log } from '../resource/log.ts';
import type { Replay, Store } from '../resource/store.ts';
import type { Turns } from '../resource/turns.ts';
import { applyMask } from '../resource/update-mask.ts';
import { adoptedSpec, adoptionProblem } from './adopt.ts';
import { prepare } from './canonical.ts';
import { type Desired, stableMac } from './desired.ts';
import type { Edit } from './edits.ts';
import type { Converged, Engine, Outcome } from './engine.ts';
import { Entry } from './entry.ts';
import { explain } from './failure.ts';
import { interfaceId, numberedName } from './name.ts';
import { checkNodeRoutes, type Underlay } from './node-routes.ts';
import type { Policy } from './object-rules.ts';
import { type Actual, nothing, plan } from './plan.ts';
import { checkAddressesFree, checkBridge, checkIds, withHolder } from './preconditions.ts';
import type { Reconciler } from './reconciler.ts';
import { etagOf, type Record } from './record.ts';
import type { Registry } from './registry.ts';
import { Removal } from './removal.ts';
import { newRecord, nextRecord, restoreSpec } from './revision.ts';
import { Settlement } from './settlement.ts';
import { idProblems, immutableProblems, specProblems } from './spec.ts';
import { SPEC_FIELDS } from './spec-fields.ts';

/** Makes what has to be committed along with a change, so that the same request gets the same answer. */
export type Remember<A> = (answer: A) => Replay | undefined;

export interface ChangeNeeds {
  registry: Registry;
  engine: Engine;
  reconciler: Reconciler;
  turns: Turns;
  store: Store<Record>;
  policy: Policy;
  mostInterfaces: number;
  /** The link that joins an interface, `links/{link}`; undefined for none. */
  linkOf: (id: string) => string | undefined;
  /** Where the peers of links are whose packets follow the routes of the node. */
  underlay: () => Iterable<Underlay>;
  log: Log;
  now: () => number;
}

export class Changes {
  readonly #needs: ChangeNeeds;
  /** Names that creations under way have taken. */
  readonly #reserved = new Set<string>();
  readonly #settlement: Settlement;
  readonly #removal: Removal;

  constructor(needs: ChangeNeeds) {
    this.#needs = needs;
    this.#settlement = new Settlement(needs);
    this.#removal = new Removal(needs);
  }

  async create(request: CreateInterfaceRequest, remember: Remember<Interface>): Promise<Interface> {
    const { policy, registry, engine } = this.#needs;
    const asked = request.interface?.spec;
    const labels = request.interface?.labels ?? {};
    const violations = [
      ...idProblems(request.interfaceId, true),
      ...(asked === undefined ? [{ field: 'interface.spec', description: 'must be given' }] : specProblems(asked, policy)),
      ...labelProblems(labels, 'interface.labels'),
    ];
    if (asked === undefined || violations.length > 0) throw invalidFields(violations);
    const spec = prepare(asked);
    checkIds(spec);
    const verb = `create interface ${request.interfaceId}`;
    return this.#named(request.interfaceId, spec, verb, async (name) => {
      const entry = new Entry(newRecord(name, spec, labels, this.#needs.now()), this.#needs.now());
      return this.#explained(verb, async () => {
        const desired = engine.desired(entry.record);
        const kernel = engine.kernel(entry.namespace);
        // NAME_TAKEN when the name belongs to somebody else.
        engine.find(entry);
        checkAddressesFree(kernel, entry.name, desired, undefined);
        this.#checkNodeRoutes(entry, desired, undefined);
        checkBridge(kernel, desired);
        if (request.validateOnly) return withoutUid(registry.view(entry, nothing, plan(desired, nothing)));
        return this.#begin(entry, desired, remember);
      });
    });
  }

  async adopt(request: AdoptInterfaceRequest, remember: Remember<Interface>): Promise<Interface> {
    const { engine, registry, store } = this.#needs;
    const settlement = this.#settlement;
    const violations = [...idProblems(request.interfaceId, false), ...labelProblems(request.labels, 'labels')];
    if (violations.length > 0) throw invalidFields(violations);
    const verb = `adopt interface ${request.interfaceId}`;
    return this.#turn(request.interfaceId, verb, async () => {
      if (registry.get(request.interfaceId) !== undefined) {
        throw new TaplaneError('ALREADY_EXISTS', 'INTERFACE_EXISTS', `${verb}: it is managed already`, {
          metadata: { interface: request.interfaceId },
        });
      }
      this.#checkLimit(verb);
      this.#checkPending(request.interfaceId, verb);
      const kernel = engine.kernel(request.networkNamespace);
      const link = kernel.link(request.interfaceId);
      if (link === undefined) throw new TaplaneError('NOT_FOUND', 'DEVICE_NOT_FOUND', `${verb}: there is no such device`);
      const owner = registry.byAlias(link.alias);
      if (owner !== undefined) {
        throw new TaplaneError('ALREADY_EXISTS', 'INTERFACE_EXISTS', `${verb}: it is the device of interface ${owner.name}`, {
          metadata: { interface: owner.name },
        });
      }
      const actual = kernel.observe(link, []);
      const problem = adoptionProblem(actual, request.takeOver);
      if (problem !== undefined) {
        throw new TaplaneError('FAILED_PRECONDITION', 'NOT_ADOPTABLE', `${verb}: it ${problem}`, {
          preconditions: [{ type: 'DEVICE', subject: request.interfaceId, description: problem }],
        });
      }
      const entry = new Entry(
        newRecord(request.interfaceId, prepare(adoptedSpec(actual, request.networkNamespace)), request.labels, this.#needs.now()),
        this.#needs.now(),
      );
      const desired = engine.desired(entry.record);
      const steps = plan(desired, actual);
      if (request.validateOnly) return withoutUid(registry.view(entry, actual, steps));
      await store.commit({ put: { ...entry.record, phase: 'adopting', aliasBefore: link.alias } });
      let outcome: Outcome;
      try {
        registry.expect(entry);
        engine.mark(entry, link);
        outcome = engine.converge(entry, desired);
        await settlement.finish(entry, entry.record, remember(this.#answer(entry, { actual: outcome.actual, steps })), () => {});
      } catch (error) {
        await settlement.undone(entry, () => engine.release(entry, link.alias));
        throw error;
      }
      return settlement.admit(entry, { actual: outcome.actual, steps });
    });
  }

  update(request: UpdateInterfaceRequest, remember: Remember<Interface>): Promise<Interface> {
    const patch = request.interface;
    if (patch === undefined) return Promise.reject(invalidFields([{ field: 'interface', description: 'must be given' }]));
    const name = interfaceId(patch.name, 'interface.name');
    if (request.allowMissing && this.#needs.registry.get(name) === undefined) {
      return this.create(
        { interfaceId: name, interface: patch, requestId: request.requestId, validateOnly: request.validateOnly },
        remember,
      );
    }
    const edit = (before: Record): { spec: InterfaceSpec; labels: Interface['labels'] } => {
      const updated = applyMask(SPEC_FIELDS, before, { spec: patch.spec, labels: patch.labels }, request.updateMask);
      if (updated.violations.length > 0) throw invalidFields(updated.violations);
      return updated;
    };
    return this.edit(
      { name, verb: `update interface ${name}`, etag: patch.etag, validateOnly: request.validateOnly, edit, path: 'interface.spec' },
      remember,
    );
  }

  /** Changes the intent of an interface and makes it so. */
  edit(change: Edit, remember: Remember<Interface>): Promise<Interface> {
    const { registry, engine, policy, reconciler, store } = this.#needs;
    const settlement = this.#settlement;
    return this.#turn(change.name, change.verb, async () => {
      const entry = registry.need(change.name);
      const before = entry.record;
      checkEtag(etagOf(before), change.etag, change.verb);
      const asked = change.edit(before);
      const violations = [
        ...specProblems(asked.spec, policy, change.path, before.spec),
        ...labelProblems(asked.labels, 'interface.labels'),
      ];
      if (violations.length === 0) violations.push(...immutableProblems(before.spec, asked.spec, change.path));
      if (violations.length > 0) throw invalidFields(violations);
      const spec = prepare(asked.spec);
      checkIds(spec, change.path);
      const after = nextRecord(before, spec, asked.labels, this.#needs.now());
      const beforeDesired = engine.desired(before);
      const desired = engine.desired(after);
      // The settings of both specs, so that each can be taken back.
      const actual = this.#observeFor(entry, spec);
      const kernel = engine.kernel(entry.namespace);
      checkAddressesFree(kernel, entry.name, desired, actual);
      this.#checkNodeRoutes(entry, desired, beforeDesired, change.path);
      checkBridge(kernel, desired);
      const steps = plan(desired, actual, beforeDesired);
      if (change.validateOnly) return registry.view(entry, actual, steps, after);
      const unchanged = after.generation === before.generation && etagOf(after) === etagOf(before);
      if (unchanged && steps.length === 0) return this.#settlement.answered(registry.view(entry, actual), remember);
      const restore = restoreSpec(before.spec, spec, actual);
      const restoreDesired = engine.desired(before, restore);
      await store.commit({ put: { ...after, phase: 'updating', before: { record: before, restore } } });
      let outcome: Converged;
      try {
        // Somebody may have taken an address while we wrote.
        checkAddressesFree(kernel, entry.name, desired, actual);
        outcome = engine.converge(entry, desired, beforeDesired, undefined, restoreDesired);
        const replay = remember(registry.view(entry, outcome.actual, outcome.steps, after));
        await settlement.finish(entry, after, replay, () => outcome.takeBack());
      } catch (error) {
        await store.commit({ put: before }).catch(() => {
          // The record says `updating`: the next start takes the update back, as it is taken back now.
        });
        reconciler.touch(entry);
        throw error;
      }
      entry.record = after;
      reconciler.ready(entry);
      reconciler.watchSysctls(entry);
      registry.tell('modified', entry, outcome.actual, outcome.steps);
      return registry.view(entry, outcome.actual, outcome.steps);
    });
  }

  async delete(request: DeleteInterfaceRequest, remember: Remember<DeleteInterfaceResponse>): Promise<DeleteInterfaceResponse> {
    const name = interfaceId(request.name);
    const verb = `delete interface ${name}`;
    return this.#turn(name, verb, async () => {
      const entry = request.allowMissing ? this.#needs.registry.get(name) : this.#needs.registry.need(name);
      if (entry === undefined) return this.#settlement.answered({ plan: [] }, remember);
      return this.#removal.remove(entry, request, verb, remember);
    });
  }

  /** Whether the deletion of this interface is under way. */
  isLeaving(name: string): boolean {
    return this.#removal.isLeaving(name);
  }

  /** An answer that changes nothing, remembered for its request id. */
  answered<A>(answer: A, remember: Remember<A>): Promise<A> {
    return this.#settlement.answered(answer, remember);
  }

  /** Removes an interface without a client: an ephemeral one when the agent ends. */
  discard(entry: Entry): Promise<void> {
    return this.#needs.turns.run(entry.name, () => this.#removal.discard(entry));
  }

  async #begin(entry: Entry, desired: Desired, remember: Remember<Interface>): Promise<Interface> {
    const { store, engine, registry } = this.#needs;
    const settlement = this.#settlement;
    await store.commit({ put: { ...entry.record, phase: 'creating' } });
    let outcome: Outcome;
    try {
      registry.expect(entry);
      // Somebody may have taken an address while we wrote.
      checkAddressesFree(engine.kernel(entry.namespace), entry.name, desired, undefined);
      outcome = engine.converge(entry, desired);
      await settlement.finish(entry, entry.record, remember(this.#answer(entry, outcome)), () => engine.remove(entry));
    } catch (error) {
      await settlement.undone(entry, () => engine.remove(entry));
      throw error;
    }
    return settlement.admit(entry, outcome);
  }

  /** What a client is told of an interface that is about to be managed. */
  #answer(entry: Entry, outcome: Outcome): Interface {
    this.#needs.reconciler.ready(entry);
    return this.#needs.registry.view(entry, outcome.actual, outcome.steps);
  }

  /** Runs `operation` in the turn of the name that `pattern` gets. */
  async #named(pattern: string, spec: InterfaceSpec, verb: string, operation: (name: string) => Promise<Interface>): Promise<Interface> {
    const { registry, engine } = this.#needs;
    this.#checkLimit(verb);
    const name = await this.#explained(verb, async () => {
      const kernel = engine.kernel(spec.networkNamespace);
      return numberedName(
        pattern,
        (candidate) =>
          registry.get(candidate) !== undefined ||
          this.#reserved.has(candidate) ||
          this.#settlement.isPending(candidate) ||
          kernel.link(candidate) !== undefined,
      );
    });
    const numbered = name !== pattern;
    if (numbered) this.#reserved.add(name);
    try {
      return await this.#needs.turns.run(name, async () => {
        if (registry.get(name) !== undefined) {
          throw new TaplaneError('ALREADY_EXISTS', 'INTERFACE_EXISTS', `${verb}: there is an interface of this name`, {
            metadata: { interface: name, uid: registry.need(name).record.uid },
          });
        }
        this.#checkPending(name, verb);
        this.#reserved.add(name);
        return operation(name);
      });
    } finally {
      this.#reserved.delete(name);
    }
  }

  /** Lets go of nothing more: the agent stops. */
  stop(): void {
    this.#settlement.stop();
  }

  #checkNodeRoutes(entry: Entry, desired: Desired, before: Desired | undefined, path = 'interface.spec'): void {
    const { engine, policy, underlay } = this.#needs;
    if (policy.allowNodeRoutes === true) return;
    const kernel = engine.kernel(entry.namespace);
    // The sockets of links are in the agent's own namespace.
    const peers = entry.namespace === '' ? [...underlay()] : [];
    checkNodeRoutes({ name: entry.name, desired, before, connected: () => kernel.connected(), peers, path });
  }

  #checkPending(name: string, verb: string): void {
    if (!this.#settlement.isPending(name)) return;
    throw new TaplaneError('UNAVAILABLE', 'NAME_BUSY', `${verb}: the device of a creation that failed is still being removed`, {
      retryAfterMs: 500,
    });
  }

  #checkLimit(verb: string): void {
    const { registry, mostInterfaces } = this.#needs;
    if (registry.size + this.#reserved.size + this.#settlement.pending < mostInterfaces) return;
    const message = `${verb}: the agent manages ${mostInterfaces} interfaces already; raise limits.interfaces`;
    throw new TaplaneError('RESOURCE_EXHAUSTED', 'TOO_MANY_INTERFACES', message, { metadata: { limit: String(mostInterfaces) } });
  }

  #turn<T>(name: string, verb: string, operation: () => Promise<T>): Promise<T> {
    return this.#needs.turns.run(name, () => this.#explained(verb, operation));
  }

  /** Failures of the kernel in the words of the API, with the holder of a busy device. */
  async #explained<T>(verb: string, operation: () => Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (error) {
      const failure = explain(error, verb);
      if (failure.reason !== 'DEVICE_BUSY' && failure.reason !== 'NAME_TAKEN') throw failure;
      throw withHolder(failure, verb.split(' ').at(-1) ?? '');
    }
  }

  #observeFor(entry: Entry, spec: InterfaceSpec): Actual {
    const actual = this.#needs.engine.observe(entry);
    if (actual.link === undefined) return actual;
    const keys = [...new Set([...Object.keys(entry.spec.sysctls), ...Object.keys(spec.sysctls)])];
    return { ...actual, sysctls: this.#needs.engine.kernel(entry.namespace).sysctls(actual.link.name, keys) };
  }
}

/** The answer to `validate_only` before there is a uid: what follows from one cannot be known (AIP-163). */
function withoutUid(shown: Interface): Interface {
  const mac = formatMac(stableMac(shown.uid));
  const unknown = (command: string): string => command.replaceAll(shown.uid, '<uid>').replaceAll(mac, '<mac>');
  return { ...shown, uid: '', etag: '', plan: shown.plan.map((step) => ({ ...step, command: unknown(step.command) })) };
}
