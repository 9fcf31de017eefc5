// The responders of interfaces as a resource of their own. They live in the specs of their interfaces, and every change goes the way of
// a change of the spec: in the turn of the interface, on disk before it is answered, once for a request id.

import { invalidFields, TaplaneError } from '../errors.ts';
import { Attachment_Kind, type AttachmentState } from '../gen/taplane/lane/v1/lane_service.ts';
import { InterfaceSpec_Mode, ResponderSpec } from '../gen/taplane/v1/interface.ts';
import {
  CreateResponderRequest,
  DeleteResponderRequest,
  DeleteResponderResponse,
  Responder,
  type ResponderStatus,
} from '../gen/taplane/v1/responder_service.ts';
import type { Once } from '../resource/once.ts';
import { page } from '../resource/page.ts';
import { Report } from '../resource/report.ts';
import type { Attachments } from './attachments.ts';
import { prepareResponder } from './canonical.ts';
import type { Changes, Remember } from './changes.ts';
import type { Responders } from './contract.ts';
import type { Edit } from './edits.ts';
import { interfaceId, resourceName } from './name.ts';
import type { Registry } from './registry.ts';
import { RESPONDER_WORDS, responderIdProblem, responderRule } from './responder-rules.ts';

const MIDDLE = '/responders/';
const ALL = 'interfaces/-';

export interface ResponderNeeds {
  registry: Pick<Registry, 'need' | 'get' | 'sorted'>;
  attachments: Pick<Attachments, 'state'>;
  once: Pick<Once, 'run'>;
  changes: Pick<Changes, 'edit' | 'answered'>;
  /** A rejection when the agent is stopping. */
  closed(): Promise<never> | undefined;
}

/** Interface and id in `interfaces/{interface}/responders/{responder}`. Throws INVALID_ARGUMENT on `name`. */
export function responderId(name: string): { parent: string; id: string } {
  const at = name.indexOf(MIDDLE);
  if (at < 0) throw invalidFields([{ field: 'name', description: 'must have the form interfaces/{interface}/responders/{responder}' }]);
  const id = name.slice(at + MIDDLE.length);
  const parent = interfaceId(name.slice(0, at));
  const problem = responderIdProblem(id);
  if (problem !== undefined) throw invalidFields([{ field: 'name', description: `the id of the responder ${problem}` }]);
  return { parent, id };
}

/** The contract on top of the interfaces. */
export function responders({ registry, attachments, once, changes, closed }: ResponderNeeds): Responders {
  const show = (uid: string, parent: string, spec: ResponderSpec): Responder => ({
    name: `${resourceName(parent)}${MIDDLE}${spec.id}`,
    spec,
    status: statusOf(attachments.state(uid, Attachment_Kind.RESPONDERS), spec.id),
  });

  async function create(request: CreateResponderRequest, remember: Remember<Responder>): Promise<Responder> {
    const { edit, id } = adding(request);
    const shown = (one: { uid: string; spec: { responders: ResponderSpec[] } | undefined }): Responder =>
      show(one.uid, edit.name, one.spec?.responders.find((item) => item.id === id) ?? ResponderSpec.create({ id }));
    return shown(await changes.edit(edit, (one) => remember(shown(one))));
  }

  async function remove(request: DeleteResponderRequest, remember: Remember<DeleteResponderResponse>): Promise<DeleteResponderResponse> {
    const edit = removing(request);
    if (request.allowMissing && registry.get(edit.name) === undefined) return changes.answered({}, remember);
    await changes.edit(edit, () => remember({}));
    return {};
  }

  return {
    create: (request) =>
      closed() ?? once.run('createResponder', request, CreateResponderRequest, Responder, async (replay) => create(request, replay)),
    delete: (request) =>
      closed() ??
      once.run('deleteResponder', request, DeleteResponderRequest, DeleteResponderResponse, async (replay) => remove(request, replay)),
    async get({ name }) {
      const { parent, id } = responderId(name);
      const { record } = registry.need(parent);
      const found = record.spec.responders.find((item) => item.id === id);
      if (found === undefined) throw missing('read', parent, id);
      return show(record.uid, parent, found);
    },
    async list(request, isVisible = () => true) {
      const entries = request.parent === ALL ? registry.sorted() : [registry.need(interfaceId(request.parent, 'parent'))];
      const visible = entries.filter(({ name }) => isVisible(name));
      const all = visible.flatMap(({ name, record }) => record.spec.responders.map((spec) => ({ uid: record.uid, parent: name, spec })));
      // NUL sorts before everything that names hold, so that the keys are in the order of the interfaces.
      const keyed = all.map((item) => ({ ...item, key: `${item.parent}\0${item.spec.id}` })).sort((a, b) => (a.key < b.key ? -1 : 1));
      const { items, nextPageToken } = page(request, keyed, ({ key }) => key);
      return { responders: items.map(({ uid, parent, spec }) => show(uid, parent, spec)), nextPageToken };
    },
  };
}

/** The edit that adds a responder, and the id that it gets. */
function adding(request: CreateResponderRequest): { edit: Edit; id: string } {
  const name = interfaceId(request.parent, 'parent');
  const given = request.responder?.spec;
  if (given === undefined) throw invalidFields([{ field: 'responder.spec', description: 'must be given' }]);
  const id = request.responderId || given.id || (RESPONDER_WORDS.get(given.kind) ?? '');
  const problem = responderIdProblem(id);
  if (request.responderId !== '' && problem !== undefined) throw invalidFields([{ field: 'responder_id', description: problem }]);
  if (given.id !== '' && given.id !== id)
    throw invalidFields([{ field: 'responder.spec.id', description: `must be empty or the same as responder_id, '${id}'` }]);
  const verb = `add responder ${id} to interface ${name}`;
  const edit: Edit = {
    name,
    verb,
    etag: '',
    validateOnly: request.validateOnly,
    path: 'spec',
    edit({ spec, labels }) {
      const report = new Report('responder.spec');
      // Only for want of a kind is there no id, and the kind is what is to be told.
      responderRule({ ...given, id: id || 'none' }, spec.mode === InterfaceSpec_Mode.TAP, report);
      if (report.violations.length > 0) throw invalidFields(report.violations);
      if (spec.responders.some((item) => item.id === id))
        throw new TaplaneError('ALREADY_EXISTS', 'RESPONDER_EXISTS', `${verb}: it has one of this id`, {
          metadata: { interface: name, responder: id },
        });
      return { spec: { ...spec, responders: [...spec.responders, prepareResponder({ ...given, id })] }, labels };
    },
  };
  return { edit, id };
}

function removing(request: DeleteResponderRequest): Edit {
  const { parent: name, id } = responderId(request.name);
  return {
    name,
    verb: `remove responder ${id} from interface ${name}`,
    etag: '',
    validateOnly: request.validateOnly,
    path: 'spec',
    edit({ spec, labels }) {
      const left = spec.responders.filter((item) => item.id !== id);
      if (left.length === spec.responders.length && !request.allowMissing) throw missing('remove', name, id);
      return { spec: { ...spec, responders: left }, labels };
    },
  };
}

function missing(verb: string, parent: string, id: string): TaplaneError {
  return new TaplaneError('NOT_FOUND', 'RESPONDER_NOT_FOUND', `${verb} responder ${id} of interface ${parent}: there is none of this id`, {
    metadata: { interface: parent, responder: id },
  });
}

/** What the data plane says of one responder. It counts in the order of what it was told, which may be older than the spec. */
function statusOf(state: AttachmentState, id: string): ResponderStatus {
  const counts = state.responders.find((item) => item.id === id);
  const { received = 0n, answered = 0n, failed = 0n } = counts ?? {};
  const attached = state.attached && counts !== undefined;
  const reason = state.attached && !attached ? 'the data-plane process has not taken it up yet' : state.reason;
  return { attached, reason, received, answered, failed };
}
