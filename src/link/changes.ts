// Changing links. Every change: check -> intent on disk, together with the answer to the request id -> watchers -> data plane -> answer. There is one
// write, so that dying in the middle means that the change was or was not, and nothing between.

import { type FieldViolation, invalidFields, TaplaneError } from '../errors.ts';
import { type Link, LinkSpec, LinkStatus } from '../gen/taplane/v1/link.ts';
import type { CreateLinkRequest, DeleteLinkRequest, DeleteLinkResponse, UpdateLinkRequest } from '../gen/taplane/v1/link_service.ts';
import { checkEtag } from '../resource/etag.ts';
import { labelProblems } from '../resource/labels.ts';
import type { Replay, Store } from '../resource/store.ts';
import type { Turns } from '../resource/turns.ts';
import { applyMask, type SpecFields, specFields } from '../resource/update-mask.ts';
import { takesAnybody } from './anybody.ts';
import type { LinkRights } from './contract.ts';
import { Entry } from './entry.ts';
import { type Joined, wrongMode } from './joined.ts';
import { idProblems, joinedId, linkId, linkName } from './name.ts';
import { prepare, withSecretsOf } from './prepared.ts';
import { etagOf, type LinkRecord, newRecord, nextRecord } from './record.ts';
import { interfaceOf, type Registry } from './registry.ts';
import { immutableProblems, joinedProblems, specProblems } from './spec.ts';
import { viewOf } from './status.ts';
import { loopOf } from './underlay.ts';

/** How long an answer waits for the first word of the data plane. */
const WORD_MS = 1000;

/** Makes what has to be committed along with a change, so that the same request gets the same answer. */
export type Remember<A> = (answer: A) => Replay | undefined;

const LINK_FIELDS: SpecFields<LinkSpec> = specFields(LinkSpec.fromPartial({}), ['wireguard', 'vxlan', 'tls']);

const EVERY_RIGHT: LinkRights = { anyPeer: () => true, underlay: () => true };

export interface ChangeNeeds {
  registry: Registry;
  turns: Turns;
  store: Store<LinkRecord>;
  joined(id: string): Joined | undefined;
  /** What the data plane should run has changed. */
  changed(): void;
  mostLinks: number;
  now(): number;
}

export class Changes {
  readonly #needs: ChangeNeeds;

  constructor(needs: ChangeNeeds) {
    this.#needs = needs;
  }

  async create(request: CreateLinkRequest, remember: Remember<Link>): Promise<Link> {
    const asked = request.link?.spec;
    const labels = request.link?.labels ?? {};
    const violations = [
      ...idProblems(request.linkId),
      ...(asked === undefined ? [{ field: 'link.spec', description: 'must be given' }] : specProblems(asked)),
      ...labelProblems(labels, 'link.labels'),
    ];
    if (asked === undefined || violations.length > 0) throw invalidFields(violations);
    const id = request.linkId;
    const verb = `create link ${id}`;
    const { registry, turns, store, now } = this.#needs;
    const made = await turns.run(id, async () => {
      if (registry.get(id) !== undefined)
        throw new TaplaneError('ALREADY_EXISTS', 'LINK_EXISTS', `${verb}: there is a link of this name`, {
          metadata: { link: id, uid: registry.need(id).record.uid },
        });
      const interfaceId = joinedId(asked.interface) ?? '';
      this.#checkJoin(asked, interfaceId, verb);
      this.#checkLimit(verb);
      const entry = new Entry(newRecord(id, prepare(asked), labels, now()));
      if (request.validateOnly) return withoutUid(registry.view(entry), asked);
      const free = registry.reserve(interfaceId, id);
      try {
        const replay = request.requestId === '' ? undefined : remember(registry.view(entry));
        await store.commit({ put: entry.record, ...(replay === undefined ? {} : { replay }) });
        registry.add(entry);
      } finally {
        free();
      }
      registry.tell('added', entry);
      return entry;
    });
    return made instanceof Entry ? this.#answer(made, remember) : made;
  }

  update(request: UpdateLinkRequest, remember: Remember<Link>, rights: LinkRights = EVERY_RIGHT): Promise<Link> {
    const patch = request.link;
    if (patch === undefined) return Promise.reject(invalidFields([{ field: 'link', description: 'must be given' }]));
    const id = linkId(patch.name, 'link.name');
    if (request.allowMissing && this.#needs.registry.get(id) === undefined) {
      const { requestId, validateOnly } = request;
      return this.create({ linkId: id, link: patch, requestId, validateOnly }, remember);
    }
    return this.#update(id, patch, request, remember, rights);
  }

  async delete(request: DeleteLinkRequest, remember: Remember<DeleteLinkResponse>): Promise<DeleteLinkResponse> {
    const { registry, turns, store, changed } = this.#needs;
    const id = linkId(request.name);
    return turns.run(id, async () => {
      const entry = request.allowMissing ? registry.get(id) : registry.need(id);
      if (entry !== undefined) checkEtag(etagOf(entry.record), request.etag, `delete link ${id}`);
      if (request.validateOnly) return {};
      const replay = remember({});
      if (entry === undefined) {
        if (replay !== undefined) await store.commit({ replay });
        return {};
      }
      await store.commit({ remove: id, ...(replay === undefined ? {} : { replay }) });
      registry.tell('deleted', entry);
      registry.drop(entry);
      changed();
      return {};
    });
  }

  async #update(id: string, patch: Link, request: UpdateLinkRequest, remember: Remember<Link>, rights: LinkRights): Promise<Link> {
    const { registry, turns, store, now } = this.#needs;
    const verb = `update link ${id}`;
    const changed = await turns.run(id, async () => {
      const entry = registry.need(id);
      const before = entry.record;
      checkEtag(etagOf(before), patch.etag, verb);
      const updated = applyMask(LINK_FIELDS, before, { spec: patch.spec, labels: patch.labels }, request.updateMask);
      if (updated.violations.length > 0) throw invalidFields(updated.violations);
      const asked = withSecretsOf(before.spec, updated.spec);
      const violations: FieldViolation[] = [...specProblems(asked), ...labelProblems(updated.labels, 'link.labels')];
      if (violations.length === 0) violations.push(...immutableProblems(before.spec, asked));
      if (violations.length > 0) throw invalidFields(violations);
      checkRights(id, before.spec, asked, rights);
      // An interface that is not there keeps nobody from changing the link that waits for it.
      if (this.#needs.joined(interfaceOf(entry)) !== undefined) this.#checkJoin(asked, interfaceOf(entry), verb, id);
      const after = nextRecord(before, prepare(asked), updated.labels, now());
      const isSame = etagOf(after) === etagOf(before);
      const shown = (record: LinkRecord): Link => viewOf(record, registry.view(entry).status ?? LinkStatus.fromPartial({}));
      if (request.validateOnly) return shown(after);
      const replay = request.requestId === '' ? undefined : remember(shown(isSame ? before : after));
      if (!isSame || replay !== undefined)
        await store.commit({ ...(isSame ? {} : { put: after }), ...(replay === undefined ? {} : { replay }) });
      if (isSame) return shown(before);
      entry.record = after;
      registry.tell('modified', entry);
      return entry;
    });
    return changed instanceof Entry ? this.#answer(changed, remember) : changed;
  }

  /** What must be true of the interface. Throws TaplaneError. */
  #checkJoin(spec: LinkSpec, interfaceId: string, verb: string, self?: string): void {
    const { registry, joined: find } = this.#needs;
    const joined = find(interfaceId);
    if (joined === undefined) {
      const metadata = { interface: interfaceId };
      throw new TaplaneError('NOT_FOUND', 'INTERFACE_NOT_FOUND', `${verb}: ${spec.interface} is not managed by this agent`, { metadata });
    }
    const other = registry.on(interfaceId);
    if (other !== undefined && other !== self)
      throw refused('INTERFACE_HAS_LINK', `${verb}: ${linkName(other)} joins ${spec.interface} already`, 'LINK', linkName(other), {
        interface: interfaceId,
        link: linkName(other),
      });
    const mode = wrongMode(spec.protocol, joined);
    if (mode !== undefined) throw refused('WRONG_MODE', `${verb}: ${mode}`, 'INTERFACE', spec.interface, { interface: interfaceId });
    const violations = joinedProblems(spec, joined);
    if (violations.length > 0) throw invalidFields(violations);
    const loop = loopOf(spec, joined.spec);
    if (loop === undefined) return;
    const field = `link.spec.peers[${loop.peer}].endpoint`;
    const cause = `${loop.through} of ${spec.interface} covers ${loop.endpoint}`;
    const cure = 'give socket_mark or bind_device, which keep the outer packets off it, or take a narrower route';
    throw refused('ROUTE_THROUGH_ITSELF', `${verb}: ${field}: ${cause}; ${cure}`, 'ROUTE', loop.through, {
      endpoint: loop.endpoint,
      field,
    });
  }

  #checkLimit(verb: string): void {
    const { registry, mostLinks } = this.#needs;
    if (registry.size < mostLinks) return;
    const message = `${verb}: there are ${mostLinks} links already; raise limits.links`;
    throw new TaplaneError('RESOURCE_EXHAUSTED', 'TOO_MANY_LINKS', message, { metadata: { limit: String(mostLinks) } });
  }

  /** Tells the data plane, waits for its first word, and answers; the same again for the same request id. */
  async #answer(entry: Entry, remember: Remember<Link>): Promise<Link> {
    const { registry, store, changed } = this.#needs;
    const { generation } = entry.record;
    changed();
    if (!registry.isHindered(entry)) await firstWord(entry, generation);
    const answer = registry.view(entry);
    const replay = remember(answer);
    // What was remembered with the change is right too, and only knows less.
    if (replay !== undefined) await store.commit({ replay }).catch(() => {});
    return answer;
  }
}

/** Resolves when the data plane has spoken of this generation, when the link is gone, or after a while. */
function firstWord(entry: Entry, generation: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const heard = (status: LinkStatus | undefined): void => {
    if (status === undefined || status.observedGeneration >= BigInt(generation)) resolve();
  };
  const timer = setTimeout(resolve, WORD_MS);
  entry.waiting.add(heard);
  return promise.finally(() => {
    clearTimeout(timer);
    entry.waiting.delete(heard);
  });
}

function refused(reason: string, message: string, type: string, subject: string, metadata: Record<string, string>): TaplaneError {
  return new TaplaneError('FAILED_PRECONDITION', reason, message, { preconditions: [{ type, subject, description: message }], metadata });
}

/** The answer to `validate_only` before there is a uid: what follows from it, or from a key that is yet to be made, cannot be known (AIP-163). */
function withoutUid(shown: Link, asked: LinkSpec): Link {
  const isKeyGiven = asked.wireguard !== undefined && asked.wireguard.privateKey.length > 0;
  const status = shown.status && (isKeyGiven ? shown.status : { ...shown.status, publicKey: Buffer.alloc(0) });
  return { ...shown, uid: '', etag: '', status };
}

function checkRights(id: string, before: LinkSpec, after: LinkSpec, rights: LinkRights): void {
  // Also at another address, where others can reach it.
  const isOpened = takesAnybody(after) && !(takesAnybody(before) && after.listen === before.listen);
  if (isOpened && !rights.anyPeer(id)) {
    const cause = `'${after.listen}' without TLS would take whoever connects, which no role of the caller allows`;
    throw denied(id, 'PEER_DENIED', 'link.spec.listen', cause, 'keep tls, or be given the peers 0.0.0.0/0 and ::/0');
  }
  const field = after.socketMark !== before.socketMark ? 'socket_mark' : after.bindDevice !== before.bindDevice ? 'bind_device' : undefined;
  if (field !== undefined && !rights.underlay(id))
    throw denied(
      id,
      'USE_DENIED',
      `link.spec.${field}`,
      'no role of the caller allows to change it',
      'leave it as it is, or be given may: [underlay]',
    );
}

function denied(id: string, reason: string, field: string, cause: string, cure: string): TaplaneError {
  return new TaplaneError('PERMISSION_DENIED', reason, `update link ${id}: ${field}: ${cause}`, {
    fields: [{ field, description: `${cause}; ${cure}` }],
  });
}
