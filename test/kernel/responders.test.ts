// Responders and packet mirrors in the specs of a real agent: what is kept, told and conditioned. Whether frames are answered is for the
// tests of the lane.

import { randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Condition_Status, InterfaceSpec_Drift, ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { WatchInterfacesRequest, type WatchInterfacesResponse } from '../../src/gen/taplane/v1/interface_service.ts';
import { CapturePacketsRequest } from '../../src/gen/taplane/v1/packet_service.ts';
import { CreateResponderRequest, DeleteResponderRequest } from '../../src/gen/taplane/v1/responder_service.ts';
import * as truth from '../harness/truth.ts';
import { type Managed, manage, reasonOf, TAP, TUN, until } from './managed.ts';

const { ICMP_ECHO, ARP, SINK } = ResponderSpec_Kind;
let managed: Managed;
beforeAll(async () => {
  managed = await manage();
});
afterAll(async () => {
  // The lane outlives its agent, which is the point of it; here nothing may.
  const { lanes } = await managed.agent.client().node.getNode();
  await managed[Symbol.asyncDispose]();
  for (const { pid } of lanes) if (pid > 1 && existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGKILL');
});

const api = () => managed.agent.client().responders;
const creation = (parent: string, kind: ResponderSpec_Kind, more: object = {}) =>
  CreateResponderRequest.fromPartial({ parent: `interfaces/${parent}`, responder: { spec: { kind } }, ...more });
const deletion = (name: string, more: object = {}) =>
  DeleteResponderRequest.fromPartial({ name: `interfaces/${name.replace(' ', '/responders/')}`, ...more });

describe('a responder', () => {
  it('is part of the spec: another generation and etag, a change of no device', async () => {
    const made = await managed.create('r0', { mode: TAP, up: true });
    const device = truth.link(managed.ns, 'r0');
    const arp = { kind: ARP, addresses: ['10.0.0.0/24', '10.1.0.1'], macAddress: '02:AA:00:00:00:01' };
    expect(await api().create(creation('r0', ARP, { responder: { spec: arp } }))).toMatchObject({
      name: 'interfaces/r0/responders/arp',
      spec: { id: 'arp', addresses: ['10.0.0.0/24', '10.1.0.1/32'], macAddress: '02:aa:00:00:00:01' },
    });
    await api().create(creation('r0', SINK, { responderId: 'hole' }));
    const after = await managed.get('r0');
    expect([made.generation, after.generation]).toEqual([1n, 3n]);
    expect(after.etag).not.toBe(made.etag);
    expect(after.spec?.responders.map(({ id }) => id)).toEqual(['arp', 'hole']);
    expect(truth.link(managed.ns, 'r0')?.ifindex).toBe(device?.ifindex);
    expect((await api().list({ parent: 'interfaces/-', pageSize: 1, pageToken: '' })).responders.map(({ name }) => name)).toEqual([
      'interfaces/r0/responders/arp',
    ]);
    await api().delete(deletion('r0 arp'));
    expect((await managed.get('r0')).spec?.responders.map(({ id }) => id)).toEqual(['hole']);
  });

  it('is told by a condition, from the change that asks for it to the one that does not', async () => {
    await managed.create('r1', { mode: TUN });
    expect(await managed.condition('r1', 'Responding')).toBeUndefined();
    await managed.update('r1', { responders: [{ id: 'echo', kind: ICMP_ECHO, addresses: [] }] }, ['spec.responders']);
    expect(await managed.condition('r1', 'Responding')).toBeDefined();
    await managed.update('r1', {}, ['spec.responders']);
    expect(await managed.condition('r1', 'Responding')).toBeUndefined();
  });

  it('holds the queue of its device, by the name of what it is, and lets it go', async () => {
    await managed.create('r5', { mode: TUN, up: true, responders: [{ id: 'sink', kind: SINK, addresses: [] }] });
    await until(async () => (await managed.condition('r5', 'Responding'))?.reason === 'Attached', 'the responder');
    const { lanes } = await managed.agent.client().node.getNode();
    const { status } = await managed.get('r5');
    expect(status?.carrier).toBe(true);
    expect(status?.holders).toMatchObject([{ pid: lanes[0]?.pid, queues: 1, attachment: 'responder' }]);
    expect((await api().get({ name: 'interfaces/r5/responders/sink' })).status?.attached).toBe(true);
    await api().delete(deletion('r5 sink'));
    await until(async () => (await managed.get('r5')).status?.carrier === false, 'the end of the carrier');
  });

  it('has one effect for a request id, also over kill -9', async () => {
    await managed.create('r2', { mode: TUN });
    const requestId = randomUUID();
    const first = await api().create(creation('r2', SINK, { requestId }));
    await managed.agent.kill9();
    await managed.agent.restart();
    expect((await managed.get('r2')).spec?.responders.map(({ id }) => id)).toEqual(['sink']);
    await api().delete(deletion('r2 sink'));
    expect(await api().create(creation('r2', SINK, { requestId }))).toEqual(first);
    expect((await managed.get('r2')).spec?.responders).toEqual([]);
  });

  it('is refused where it does not fit, with the field; a look changes nothing', async () => {
    await managed.create('r3', { mode: TUN });
    await expect(api().create(creation('r3', ARP, { responder: { spec: { kind: ARP, addresses: ['10.0.0.1'] } } }))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: [{ field: 'responder.spec.kind' }],
    });
    expect(await api().create(creation('r3', SINK, { validateOnly: true }))).toMatchObject({ name: 'interfaces/r3/responders/sink' });
    expect((await managed.get('r3')).generation).toBe(1n);
    expect(await reasonOf(api().delete(deletion('r3 sink')))).toBe('RESPONDER_NOT_FOUND');
    expect(await api().delete(deletion('r3 sink', { allowMissing: true }))).toEqual({});
    expect(await reasonOf(api().create(creation('none', SINK)))).toBe('INTERFACE_NOT_FOUND');
    const both = await Promise.allSettled([api().create(creation('r3', SINK)), api().create(creation('r3', SINK))]);
    expect(both.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  });

  it('is told to watchers of its interface', async () => {
    await managed.create('r4', { mode: TUN });
    const abort = new AbortController();
    const request = WatchInterfacesRequest.fromPartial({ name: 'interfaces/r4' });
    const seen: WatchInterfacesResponse[] = [];
    const watching = (async () => {
      for await (const event of managed.agent.client().interfaces.watch(request, abort.signal)) seen.push(event);
    })();
    await until(() => seen.some(({ event }) => event?.$case === 'synced'), 'the snapshot');
    await api().create(creation('r4', SINK));
    const told = () => seen.some(({ event }) => event?.$case === 'modified' && event.value.spec?.responders[0]?.id === 'sink');
    await until(told, 'the event');
    abort.abort();
    await watching;
  });
});

describe('a packet mirror', () => {
  it('comes and goes by its presence, and a condition says whether it copies', async () => {
    await managed.create('m0', { mode: TUN, packetMirror: { filter: 'udp port 53', snapLength: 96, sampling: 2 } });
    expect(await managed.condition('m0', 'Mirroring')).toMatchObject({ status: Condition_Status.FALSE, reason: 'NotCopying' });
    await managed.update('m0', { packetMirror: {} }, ['spec.packet_mirror']);
    expect((await managed.get('m0')).spec?.packetMirror).toEqual({ filter: '', snapLength: 0, sampling: 0 });
    await managed.update('m0', { up: true }, []);
    expect((await managed.get('m0')).spec?.packetMirror).toBeDefined();
    const { generation, plan } = await managed.update('m0', {}, ['spec.packet_mirror']);
    expect([generation, plan]).toEqual([4n, []]);
    expect((await managed.get('m0')).spec?.packetMirror).toBeUndefined();
    expect(await managed.condition('m0', 'Mirroring')).toBeUndefined();
  });
});

it('an interface without a device, of another name or of none is told apart where its packets are asked for', async () => {
  const refusal = async (name: string): Promise<object> => {
    const abort = AbortSignal.timeout(5000);
    try {
      for await (const _ of managed.agent.client().packets.capture(CapturePacketsRequest.fromPartial({ interface: name }), abort)) break;
    } catch (error) {
      return error as object;
    }
    return {};
  };
  await managed.create('d0', { mode: TUN, drift: InterfaceSpec_Drift.REPORT });
  managed.ns.ip('link del d0');
  expect(await refusal('interfaces/d0')).toMatchObject({
    code: 'FAILED_PRECONDITION',
    reason: 'DEVICE_MISSING',
    preconditions: [{ type: 'DEVICE', subject: 'd0' }],
  });
  expect(await refusal('interfaces/nope')).toMatchObject({ code: 'NOT_FOUND', reason: 'INTERFACE_NOT_FOUND' });
  expect(await refusal('d0')).toMatchObject({ code: 'INVALID_ARGUMENT', fields: [{ field: 'interface' }] });
});
