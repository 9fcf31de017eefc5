// The responders of interfaces as a resource, over specs in memory: what is asked of an interface is real, the kernel is not there.

import { describe, expect, it } from 'vitest';
import { invalidFields, TaplaneError } from '../../src/errors.ts';
import { Attachment_Kind, type AttachmentState } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { Interface, type InterfaceSpec, ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { CreateResponderRequest, DeleteResponderRequest } from '../../src/gen/taplane/v1/responder_service.ts';
import { prepare } from '../../src/interface/canonical.ts';
import type { Edit } from '../../src/interface/edits.ts';
import { Entry } from '../../src/interface/entry.ts';
import { type ResponderNeeds, responders } from '../../src/interface/responders.ts';
import { newRecord, nextRecord } from '../../src/interface/revision.ts';
import { specProblems } from '../../src/interface/spec.ts';
import { Once } from '../../src/resource/once.ts';
import type { Replay } from '../../src/resource/store.ts';
import { responder, strict, tap, tun } from './specs.ts';

const { ICMP_ECHO, ARP, ND, SINK } = ResponderSpec_Kind;
const ID = '5c2b6a1e-3f5b-4f5e-9d58-6b1f0a2f7a10';

function room(specs: Record<string, InterfaceSpec>) {
  const entries = new Map(Object.entries(specs).map(([name, spec]) => [name, new Entry(newRecord(name, prepare(spec), {}, 0), 0)]));
  const replays = new Map<string, Replay>();
  const states = new Map<string, AttachmentState>();
  const edits: Edit[] = [];
  const need = (name: string): Entry => {
    const entry = entries.get(name);
    if (entry === undefined) throw new TaplaneError('NOT_FOUND', 'INTERFACE_NOT_FOUND', name);
    return entry;
  };
  const keep = (replay: Replay | undefined) => replay && replays.set(replay.requestId, replay);
  const changes: ResponderNeeds['changes'] = {
    async edit(change, remember) {
      edits.push(change);
      const entry = need(change.name);
      const { spec, labels } = change.edit(entry.record);
      const violations = specProblems(spec, strict, change.path);
      if (violations.length > 0) throw invalidFields(violations);
      const record = nextRecord(entry.record, prepare(spec), labels, 1);
      const shown = Interface.fromPartial({ name: `interfaces/${entry.name}`, uid: record.uid, spec: record.spec });
      if (change.validateOnly) return shown;
      keep(remember(shown));
      entry.record = record;
      return shown;
    },
    async answered(answer, remember) {
      keep(remember(answer));
      return answer;
    },
  };
  const state = (uid: string, kind: Attachment_Kind) =>
    states.get(uid) ?? { uid, kind, attached: false, reason: 'not heard', responders: [], link: undefined, linkUid: '' };
  const registry = {
    need,
    get: (name: string) => entries.get(name),
    sorted: () => [...entries.values()].sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
  const once = new Once({ recall: (id) => replays.get(id) });
  const api = responders({ registry, attachments: { state }, once, changes, closed: () => undefined });
  return { api, entries, states, edits, replays, ids: (name: string) => need(name).spec.responders.map(({ id }) => id) };
}

const creation = (parent: string, kind: ResponderSpec_Kind, more: object = {}, spec: object = {}) =>
  CreateResponderRequest.fromPartial({ parent: `interfaces/${parent}`, responder: { spec: { kind, ...spec } }, ...more });
const deletion = (name: string, more: object = {}) => DeleteResponderRequest.fromPartial({ name, ...more });
const failure = (promise: Promise<unknown>) =>
  promise.then(
    () => undefined,
    (error: TaplaneError) => ({ code: error.code, reason: error.reason, fields: error.fields.map(({ field }) => field) }),
  );

describe('create', () => {
  it('adds to the spec, canonically, and takes the kind for an id', async () => {
    const { api, ids, entries } = room({ t0: tap() });
    expect(await api.create(creation('t0', ARP, {}, { addresses: ['10.0.0.1'], macAddress: '02:AA:BB:CC:DD:EE' }))).toEqual({
      name: 'interfaces/t0/responders/arp',
      spec: { id: 'arp', kind: ARP, addresses: ['10.0.0.1/32'], macAddress: '02:aa:bb:cc:dd:ee' },
      status: { attached: false, reason: 'not heard', received: 0n, answered: 0n, failed: 0n },
    });
    await api.create(creation('t0', ICMP_ECHO));
    await api.create(creation('t0', SINK, { responderId: 'hole' }));
    await api.create(creation('t0', SINK, {}, { id: 'other' }));
    await api.create(creation('t0', SINK, { responderId: 'same' }, { id: 'same' }));
    expect(ids('t0')).toEqual(['arp', 'icmp-echo', 'hole', 'other', 'same']);
    expect(entries.get('t0')?.record.generation).toBe(6);
  });

  it.each<[string, CreateResponderRequest, object]>([
    ['no interface', creation('nope', SINK), { code: 'NOT_FOUND', reason: 'INTERFACE_NOT_FOUND' }],
    [
      'a parent that is none',
      CreateResponderRequest.fromPartial({ parent: 't0', responder: { spec: { kind: SINK } } }),
      { fields: ['parent'] },
    ],
    ['all interfaces', creation('-', SINK), { fields: ['parent'] }],
    ['no responder', CreateResponderRequest.fromPartial({ parent: 'interfaces/t0' }), { fields: ['responder.spec'] }],
    ['no kind', creation('t0', 0), { fields: ['responder.spec.kind'] }],
    ['an id that is none', creation('t0', SINK, { responderId: 'No' }), { fields: ['responder_id'] }],
    ['an id of the spec that is none', creation('t0', SINK, {}, { id: 'No' }), { fields: ['responder.spec.id'] }],
    ['two ids', creation('t0', SINK, { responderId: 'a' }, { id: 'b' }), { fields: ['responder.spec.id'] }],
    ['ARP on a TUN', creation('t0', ARP, {}, { addresses: ['10.0.0.1'] }), { fields: ['responder.spec.kind'] }],
    ['an address that is none', creation('t0', ICMP_ECHO, {}, { addresses: ['x'] }), { fields: ['responder.spec.addresses[0]'] }],
    ['a request id that is none', creation('t0', SINK, { requestId: 'x' }), { fields: ['request_id'] }],
    ['an id that is taken', creation('t0', ICMP_ECHO, { responderId: 'sink' }), { code: 'ALREADY_EXISTS', reason: 'RESPONDER_EXISTS' }],
  ])('%s is refused', async (_, request, expected) => {
    const { api, ids } = room({ t0: tun({ responders: [responder(SINK)] }) });
    expect(await failure(api.create(request))).toMatchObject(expected);
    expect(ids('t0')).toEqual(['sink']);
  });

  it('the seventeenth is refused', async () => {
    const { api, ids } = room({ t0: tun({ responders: Array.from({ length: 16 }, (_, n) => responder(SINK, [], { id: `s${n}` })) }) });
    expect(await failure(api.create(creation('t0', ICMP_ECHO)))).toMatchObject({ code: 'INVALID_ARGUMENT', fields: ['spec.responders'] });
    expect(ids('t0')).toHaveLength(16);
  });

  it('only checked when that is asked, and once for a request id', async () => {
    const { api, ids } = room({ t0: tun() });
    expect(await api.create(creation('t0', SINK, { validateOnly: true }))).toMatchObject({ name: 'interfaces/t0/responders/sink' });
    expect(ids('t0')).toEqual([]);
    const first = await api.create(creation('t0', SINK, { requestId: ID }));
    expect(await api.create(creation('t0', SINK, { requestId: ID }))).toEqual(first);
    expect(await failure(api.create(creation('t0', ICMP_ECHO, { requestId: ID })))).toMatchObject({ reason: 'REQUEST_ID_REUSED' });
    expect(ids('t0')).toEqual(['sink']);
  });
});

describe('get and list', () => {
  const specs = {
    a: tap({ responders: [responder(SINK), responder(ARP, ['10.0.0.1'])] }),
    'a-b': tun({ responders: [responder(ICMP_ECHO)] }),
    'a.b': tun(),
    b: tun({ responders: [responder(SINK)] }),
  };

  it('tell what the data plane says of each', async () => {
    const { api, entries, states } = room(specs);
    const uid = entries.get('a')?.record.uid ?? '';
    const responderCounts = [{ id: 'sink', received: 9n, answered: 8n, failed: 1n }];
    states.set(uid, {
      uid,
      kind: Attachment_Kind.RESPONDERS,
      attached: true,
      reason: '',
      responders: responderCounts,
      link: undefined,
      linkUid: '',
    });
    expect((await api.get({ name: 'interfaces/a/responders/sink' })).status).toEqual({
      attached: true,
      reason: '',
      received: 9n,
      answered: 8n,
      failed: 1n,
    });
    // Added a moment ago: the lane does not know it yet.
    expect((await api.get({ name: 'interfaces/a/responders/arp' })).status).toEqual({
      attached: false,
      reason: 'the data-plane process has not taken it up yet',
      received: 0n,
      answered: 0n,
      failed: 0n,
    });
    states.set(uid, {
      uid,
      kind: Attachment_Kind.RESPONDERS,
      attached: false,
      reason: 'busy',
      responders: responderCounts,
      link: undefined,
      linkUid: '',
    });
    expect((await api.get({ name: 'interfaces/a/responders/sink' })).status).toMatchObject({
      attached: false,
      reason: 'busy',
      received: 9n,
    });
  });

  it('in pages, by interface and id', async () => {
    const { api } = room(specs);
    const all = ['a/responders/arp', 'a/responders/sink', 'a-b/responders/icmp-echo', 'b/responders/sink'].map(
      (name) => `interfaces/${name}`,
    );
    const seen: string[] = [];
    let pageToken = '';
    do {
      const given = await api.list({ parent: 'interfaces/-', pageSize: 1, pageToken });
      seen.push(...given.responders.map(({ name }) => name));
      pageToken = given.nextPageToken;
    } while (pageToken !== '');
    expect(seen).toEqual(all);
    const list = async (parent: string) => (await api.list({ parent, pageSize: 0, pageToken: '' })).responders.map(({ name }) => name);
    expect(await list('interfaces/a')).toEqual(all.slice(0, 2));
    expect(await list('interfaces/a.b')).toEqual([]);
  });

  it.each<[string, (api: ReturnType<typeof room>['api']) => Promise<unknown>, object]>([
    ['no interface', (api) => api.get({ name: 'interfaces/nope/responders/sink' }), { reason: 'INTERFACE_NOT_FOUND' }],
    ['no responder', (api) => api.get({ name: 'interfaces/a/responders/nd' }), { code: 'NOT_FOUND', reason: 'RESPONDER_NOT_FOUND' }],
    ['a name without a responder', (api) => api.get({ name: 'interfaces/a' }), { code: 'INVALID_ARGUMENT', fields: ['name'] }],
    ['a name with a bad responder', (api) => api.get({ name: 'interfaces/a/responders/x/y' }), { fields: ['name'] }],
    ['a name with a bad interface', (api) => api.get({ name: 'a/responders/sink' }), { fields: ['name'] }],
    ['the list of no interface', (api) => api.list({ parent: 'interfaces/nope', pageSize: 0, pageToken: '' }), { code: 'NOT_FOUND' }],
    ['the list of nothing', (api) => api.list({ parent: '', pageSize: 0, pageToken: '' }), { fields: ['parent'] }],
    ['a negative page', (api) => api.list({ parent: 'interfaces/-', pageSize: -1, pageToken: '' }), { fields: ['page_size'] }],
    ['a strange token', (api) => api.list({ parent: 'interfaces/-', pageSize: 0, pageToken: '?' }), { fields: ['page_token'] }],
  ])('%s is refused', async (_, call, expected) => {
    expect(await failure(call(room(specs).api))).toMatchObject(expected);
  });
});

describe('delete', () => {
  const name = 'interfaces/t0/responders/sink';

  it('takes it out of the spec, and leaves the others', async () => {
    const { api, ids } = room({ t0: tap({ responders: [responder(SINK), responder(ND, ['fd00::1'])] }) });
    expect(await api.delete(deletion(name, { validateOnly: true }))).toEqual({});
    expect(ids('t0')).toEqual(['sink', 'nd']);
    expect(await api.delete(deletion(name))).toEqual({});
    expect(ids('t0')).toEqual(['nd']);
  });

  it('of what is not there is refused unless that is allowed', async () => {
    const { api } = room({ t0: tun() });
    expect(await failure(api.delete(deletion(name)))).toMatchObject({ code: 'NOT_FOUND', reason: 'RESPONDER_NOT_FOUND' });
    expect(await failure(api.delete(deletion('interfaces/t1/responders/sink')))).toMatchObject({ reason: 'INTERFACE_NOT_FOUND' });
    expect(await api.delete(deletion(name, { allowMissing: true }))).toEqual({});
    expect(await api.delete(deletion('interfaces/t1/responders/sink', { allowMissing: true }))).toEqual({});
    expect(await failure(api.delete(deletion('interfaces/t0', { allowMissing: true })))).toMatchObject({ fields: ['name'] });
  });

  it('has one effect for a request id, also where nothing was there', async () => {
    const { api, ids } = room({ t0: tun({ responders: [responder(SINK)] }) });
    await api.delete(deletion(name, { requestId: ID }));
    await api.create(creation('t0', SINK));
    await api.delete(deletion(name, { requestId: ID }));
    expect(ids('t0')).toEqual(['sink']);
    const other = { requestId: ID.replace('5', '6'), allowMissing: true };
    const { api: later, entries, replays } = room({});
    await later.delete(deletion(name, other));
    expect(replays.has(other.requestId)).toBe(true);
    expect(entries.size).toBe(0);
  });
});

it('an agent that stops takes no change', async () => {
  const gone = new TaplaneError('UNAVAILABLE', 'SHUTTING_DOWN', 'the agent is stopping');
  const needs = { registry: {}, attachments: {}, once: {}, changes: {}, closed: () => Promise.reject(gone) } as unknown as ResponderNeeds;
  const api = responders(needs);
  expect(await failure(api.create(creation('t0', SINK)))).toMatchObject({ reason: 'SHUTTING_DOWN' });
  expect(await failure(api.delete(deletion('interfaces/t0/responders/sink')))).toMatchObject({ reason: 'SHUTTING_DOWN' });
});
