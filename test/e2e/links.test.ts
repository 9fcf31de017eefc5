// Links over gRPC with a real agent and a real lane: what is asked for is there, is told, and goes; what may not be is refused by name.

import { randomUUID } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DeleteInterfaceRequest, ListInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import { type Link, LinkStatus_State as State } from '../../src/gen/taplane/v1/link.ts';
import { ListLinksRequest, ProbeLinkRequest, WatchLinksRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { connectLane } from '../../src/rpc/lane-client.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { SOON } from '../harness/bound.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { framesUdp, linking, relinking, somebody, unlinking, VXLAN, wireguard } from '../link/links.ts';
import { creation, deletion, TAP, TUN, updating } from './specs.ts';

let ns: Namespace;
let agent: Agent;
const client = () => agent.client();
const get = (id: string): Promise<Link> => client().links.get({ name: `links/${id}` });
const condition = ({ status }: Link, type: string) => status?.conditions.find((one) => one.type === type);

beforeAll(async () => {
  ns = createNamespace();
  agent = await startAgent({ namespace: ns, env: { TAPLANE_LIMITS_LINKS: '3', TAPLANE_POLICY_ALLOW_NODE_ROUTES: 'true' } });
  for (const name of ['tun0', 'tun1', 'tun2', 'tun3'])
    await client().interfaces.create(
      creation(name, { mode: TUN, up: true, addresses: [{ cidr: `10.0.${name.at(-1)}.1/24` }], vnetHeader: name === 'tun1' }),
    );
  await client().interfaces.create(creation('tap0', { mode: TAP, up: true }));
});
afterAll(async () => {
  await agent[Symbol.asyncDispose]();
  ns[Symbol.dispose]();
});

it('a link lives: made, read, listed, changed, watched, deleted', async () => {
  const { links } = client();
  const abort = new AbortController();
  const heard: [string, string][] = [];
  const watching = (async () => {
    for await (const { event } of links.watch(WatchLinksRequest.fromPartial({}), abort.signal))
      heard.push([event?.$case ?? '', event?.$case === 'synced' ? '' : (event?.value.name ?? '')]);
  })();
  await expect.poll(() => heard.length, SOON).toBe(1);

  const made = await links.create(linking('west', framesUdp('tun0'), { labels: { to: 'b' } }));
  expect(made).toMatchObject({
    name: 'links/west',
    generation: 1n,
    labels: { to: 'b' },
    spec: { transport: 1, interface: 'interfaces/tun0' },
  });
  await expect.poll(async () => (await get('west')).status?.state, SOON).toBe(State.CONNECTING);
  const running = await get('west');
  expect(running.status).toMatchObject({ observedGeneration: 1n, peers: [{ endpoint: '127.0.0.1:9', up: false }] });
  expect(running.status?.listen).toMatch(/:\d+$/);
  const truths = ['Ready', 'Encrypted', 'Offloaded', 'UnderlaySafe'].map((type) => condition(running, type)?.status);
  expect(truths).toEqual([1, 2, 2, 1]);

  await links.create(linking('east', wireguard('tun1', [{ publicKey: somebody() }])));
  const list = (more: object) => links.list(ListLinksRequest.fromPartial(more)).then((answer) => answer.links.map(({ name }) => name));
  expect(await list({})).toEqual(['links/east', 'links/west']);
  expect(await list({ labelSelector: { to: 'b' } })).toEqual(['links/west']);
  expect(await list({ interface: 'interfaces/tun1' })).toEqual(['links/east']);
  expect(await list({ interface: 'interfaces/none' })).toEqual([]);
  const first = await links.list(ListLinksRequest.fromPartial({ pageSize: 1 }));
  expect(await list({ pageSize: 1, pageToken: first.nextPageToken })).toEqual(['links/west']);
  const east = await get('east');
  expect(['Ready', 'Encrypted', 'Offloaded'].map((type) => condition(east, type)?.status)).toEqual([1, 1, 1]);

  const changed = await links.update(relinking('west', framesUdp('tun0', 10, { mtu: 1300 }), ['spec.peers', 'spec.mtu']));
  expect(changed).toMatchObject({ generation: 2n, labels: { to: 'b' }, spec: { mtu: 1300 }, status: { observedGeneration: 2n } });
  expect(changed.etag).not.toBe(made.etag);
  expect(changed.status?.peers[0]?.endpoint).toBe('127.0.0.1:10');
  expect((await client().node.getNode()).linkCount).toBe(2);

  await links.delete(unlinking('west'));
  await links.delete(unlinking('east'));
  await expect(get('west')).rejects.toMatchObject({ code: 'NOT_FOUND', reason: 'LINK_NOT_FOUND' });
  await expect.poll(() => heard.filter(([kind]) => kind === 'deleted').length, SOON).toBe(2);
  abort.abort();
  await watching;
  const ofWest = heard.filter(([, name]) => name === 'links/west').map(([kind]) => kind);
  expect([ofWest[0], ofWest.at(-1), heard[0]?.[0]]).toEqual(['added', 'deleted', 'synced']);
  expect(ofWest).toContain('modified');
});

it('a watch goes on from a token, and for one link alone', async () => {
  const { links } = client();
  const take = async (request: object, count: number): Promise<{ kinds: string[]; token: string }> => {
    const abort = new AbortController();
    const kinds: string[] = [];
    let token = '';
    for await (const { event, resumeToken } of links.watch(WatchLinksRequest.fromPartial(request), abort.signal)) {
      kinds.push(`${event?.$case}${event?.$case === 'synced' ? '' : ` ${event?.value.name}`}`);
      token = resumeToken;
      if (kinds.length === count) break;
    }
    return { kinds, token };
  };
  const { token } = await take({}, 1);
  await links.create(linking('one', framesUdp('tun0')));
  await links.create(linking('two', framesUdp('tun1')));
  expect((await take({ resumeToken: token }, 1)).kinds).toEqual(['added links/one']);
  expect((await take({ name: 'links/two' }, 2)).kinds).toEqual(['added links/two', 'synced']);
  await links.delete(unlinking('one'));
  await links.delete(unlinking('two'));
  const abort = new AbortController();
  await expect(
    links
      .watch(WatchLinksRequest.fromPartial({ resumeToken: 'other.1' }), abort.signal)
      [Symbol.asyncIterator]()
      .next(),
  ).rejects.toMatchObject({
    code: 'OUT_OF_RANGE',
  });
});

it('a request id has one effect and one answer; validate_only has none', async () => {
  const { links } = client();
  const before = (await links.list(ListLinksRequest.fromPartial({}))).links;
  const tried = await links.create(linking('dry', wireguard('tun0'), { validateOnly: true }));
  expect(tried).toMatchObject({ uid: '', etag: '', name: 'links/dry' });
  expect(tried.status?.publicKey).toHaveLength(0);
  await expect(links.create(linking('dry', wireguard('tap0'), { validateOnly: true }))).rejects.toMatchObject({ reason: 'WRONG_MODE' });
  expect((await links.list(ListLinksRequest.fromPartial({}))).links).toEqual(before);

  const requestId = randomUUID();
  const request = linking('once', wireguard('tun0'), { requestId });
  const [one, two] = await Promise.all([links.create(request), links.create(request)]);
  expect([two, await links.create(request)]).toEqual([one, one]);
  await expect(links.create(linking('twice', wireguard('tun0'), { requestId }))).rejects.toMatchObject({ reason: 'REQUEST_ID_REUSED' });
  await expect(links.create(linking('once', wireguard('tun0')))).rejects.toMatchObject({ code: 'ALREADY_EXISTS', reason: 'LINK_EXISTS' });
  // Its key was made once.
  expect((await get('once')).status?.publicKey).toEqual(one.status?.publicKey);

  const dry = await links.update(relinking('once', { mtu: 1300 }, undefined, { validateOnly: true }));
  expect([dry.spec?.mtu, (await get('once')).spec?.mtu]).toEqual([1300, 0]);
  await links.delete(unlinking('once', { validateOnly: true }));
  const again = randomUUID();
  await links.delete(unlinking('once', { requestId: again }));
  await expect(links.delete(unlinking('once'))).rejects.toMatchObject({ code: 'NOT_FOUND' });
  expect(await links.delete(unlinking('once', { requestId: again }))).toEqual({});
  expect(await links.delete(unlinking('once', { allowMissing: true }))).toEqual({});
});

it('versions, masks, and what cannot change', async () => {
  const { links } = client();
  const key = somebody();
  const made = await links.update(
    relinking('west', wireguard('tun0', [{ publicKey: key, keepalive: 5 }]), undefined, { allowMissing: true }),
  );
  expect(made).toMatchObject({ name: 'links/west', generation: 1n });
  const updated = await links.update(relinking('west', { mtu: 1280 }, ['spec.mtu'], { etag: made.etag }));
  expect(updated.spec).toMatchObject({ mtu: 1280, peers: [{ keepalive: 5 }] });
  for (const call of [
    links.update(relinking('west', { mtu: 1290 }, [], { etag: made.etag })),
    links.delete(unlinking('west', { etag: made.etag })),
  ])
    await expect(call).rejects.toMatchObject({ code: 'ABORTED', reason: 'ETAG_MISMATCH' });
  const same = await links.update(relinking('west', { mtu: 1280 }));
  expect([same.etag, same.generation]).toEqual([updated.etag, updated.generation]);
  const labelled = await links.update(relinking('west', {}, ['labels'], { labels: { a: 'b' } }));
  expect([labelled.labels, labelled.generation, labelled.etag === same.etag]).toEqual([{ a: 'b' }, 2n, false]);
  await expect(links.update(relinking('west', { interface: 'interfaces/tun1' }, ['spec.interface']))).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    fields: [{ field: 'link.spec.interface' }],
  });
  await expect(links.update(relinking('west', {}, ['spec.nonsense']))).rejects.toMatchObject({
    fields: [{ field: 'update_mask.paths[0]' }],
  });
  // The whole of it, but for the key that nobody but the agent knows.
  const whole = await links.update(relinking('west', wireguard('tun0'), ['*']));
  expect([whole.spec?.peers, whole.spec?.mtu, whole.labels, whole.status?.publicKey]).toEqual([[], 0, {}, made.status?.publicKey]);
  await links.delete(unlinking('west'));
});

it('a declaration that is meant for another process is refused by the lane, and changes nothing', async () => {
  const lane = connectLane(join(agent.runtimeDir, 'lane-0.sock'), 5000);
  const { pid, instance, attachments } = await lane.getLane();
  // By number, as lanes before instances are told, and by instance: a lane in a container of its own is always the same number.
  for (const other of [
    { pid: pid + 1, instance: '' },
    { pid, instance: instance.replace(/./g, '0') },
  ])
    await expect(lane.setAttachments([], true, undefined, other)).rejects.toMatchObject({ code: 9 });
  expect((await lane.getLane()).attachments.length).toBe(attachments.length);
  expect(attachments.length).toBeGreaterThan(0);
  lane.close();
});

describe('what is refused', () => {
  it('by name: interface, mode, a second link, the limit', async () => {
    const { links } = client();
    await expect(links.create(linking('x', framesUdp('none')))).rejects.toMatchObject({ code: 'NOT_FOUND', reason: 'INTERFACE_NOT_FOUND' });
    const vxlan = { interface: 'interfaces/tun0', protocol: VXLAN, vxlan: { vni: 1 } };
    await expect(links.create(linking('x', vxlan))).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'WRONG_MODE' });
    await links.create(linking('a', framesUdp('tun0')));
    await expect(links.create(linking('b', framesUdp('tun0')))).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      reason: 'INTERFACE_HAS_LINK',
      metadata: { link: 'links/a' },
    });
    // Two at once: one of them.
    const two = await Promise.allSettled(['b', 'c'].map((id) => links.create(linking(id, framesUdp('tun1')))));
    expect(two.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    await links.create(linking('d', framesUdp('tun2')));
    await expect(links.create(linking('e', framesUdp('tun3')))).rejects.toMatchObject({
      code: 'RESOURCE_EXHAUSTED',
      reason: 'TOO_MANY_LINKS',
    });
    for (const { name } of (await links.list(ListLinksRequest.fromPartial({}))).links)
      await links.delete(unlinking(name.slice('links/'.length)));
  });

  it('every violation at once, with its path', async () => {
    const error = await client()
      .links.create(linking('Bad', { interface: 'tun0', protocol: 3, listen: 'x', peers: [{ endpoint: 'y' }] }, { labels: { ' ': '' } }))
      .catch((reason) => reason);
    expect(error).toMatchObject({ code: 'INVALID_ARGUMENT', reason: 'INVALID_FIELDS' });
    const fields = error.fields.map(({ field }: { field: string }) => field);
    expect(fields).toEqual([
      'link_id',
      'link.spec.interface',
      'link.spec.listen',
      'link.spec.peers[0].endpoint',
      'link.spec.peers[0].public_key',
      'link.labels[" "]',
    ]);
  });

  it('a route through itself; one that comes later is told', async () => {
    const { links, interfaces } = client();
    const inside = framesUdp('tun0', 9, { peers: [{ endpoint: '10.0.0.2:9' }] });
    await expect(links.create(linking('loop', inside))).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      reason: 'ROUTE_THROUGH_ITSELF',
      metadata: { field: 'link.spec.peers[0].endpoint' },
    });
    await links.create(linking('loop', { ...inside, socketMark: 7 }));
    await expect(links.update(relinking('loop', {}, ['spec.socket_mark']))).rejects.toMatchObject({ reason: 'ROUTE_THROUGH_ITSELF' });
    await links.delete(unlinking('loop'));
    await links.create(linking('loop', { ...inside, peers: [{ endpoint: '10.9.0.2:9' }] }));
    expect(condition(await get('loop'), 'UnderlaySafe')?.status).toBe(1);
    await interfaces.update(updating('tun0', { routes: [{ destination: '10.9.0.0/16' }] }, ['spec.routes']));
    await expect
      .poll(async () => condition(await get('loop'), 'UnderlaySafe'), SOON)
      .toMatchObject({ status: 2, reason: 'RouteThroughItself' });
    await interfaces.update(updating('tun0', {}, ['spec.routes']));
    await expect.poll(async () => condition(await get('loop'), 'UnderlaySafe')?.status, SOON).toBe(1);
    await links.delete(unlinking('loop'));
  });

  it('the deletion of an interface that a link joins', async () => {
    const { links, interfaces } = client();
    await links.create(linking('west', framesUdp('tun3')));
    for (const more of [{}, { validateOnly: true }])
      await expect(interfaces.delete(deletion('tun3', more))).rejects.toMatchObject({
        code: 'FAILED_PRECONDITION',
        reason: 'INTERFACE_HAS_LINK',
        metadata: { link: 'links/west' },
      });
    // One that is on its way out takes no link: either comes first, and the other is refused.
    await links.delete(unlinking('west'));
    const won: string[] = [];
    for (let round = 0; round < 10; round++) {
      const make = () => links.create(linking('race', framesUdp('tun3')));
      const remove = () => interfaces.delete(DeleteInterfaceRequest.fromPartial({ name: 'interfaces/tun3' }));
      const both = round % 2 === 0 ? [make(), remove()] : [remove(), make()];
      const [made, gone] = await Promise.allSettled(round % 2 === 0 ? both : both.reverse());
      if (made === undefined || gone === undefined) throw new Error('two were asked');
      won.push(made.status);
      expect([made.status, gone.status].sort(), `round ${round}`).toEqual(['fulfilled', 'rejected']);
      if (made.status === 'fulfilled') await links.delete(unlinking('race'));
      else await interfaces.create(creation('tun3', { mode: TUN, up: true }));
    }
    expect(new Set(won).size).toBe(2);
    const { interfaces: all } = await interfaces.list(ListInterfacesRequest.fromPartial({}));
    expect(all.map(({ name }) => name)).toContain('interfaces/tun3');
  });

  it('probes: of nobody, of a peer that is none, of what cannot be asked, and two at once', async () => {
    const { links } = client();
    await links.create(linking('west', framesUdp('tun0')));
    await expect.poll(async () => condition(await get('west'), 'Ready')?.status, SOON).toBe(1);
    const probe = (more: object): Promise<unknown> =>
      links
        .probe(ProbeLinkRequest.fromPartial({ name: 'links/west', ...more }), new AbortController().signal)
        [Symbol.asyncIterator]()
        .next();
    await expect(probe({ name: 'links/none' })).rejects.toMatchObject({ code: 'NOT_FOUND', reason: 'LINK_NOT_FOUND' });
    await expect(probe({ peer: '192.0.2.1:1' })).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason: 'PEER_NOT_FOUND' });
    await expect(probe({ count: 1001, intervalMs: 10_001, throughputSeconds: 61 })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      fields: [{ field: 'count' }, { field: 'interval_ms' }, { field: 'throughput_seconds' }],
    });
    // Nobody is there to answer: the round trips are lost, one by one.
    const ending = new AbortController();
    const ask = ProbeLinkRequest.fromPartial({ name: 'links/west', count: 100 });
    const first = links.probe(ask, ending.signal)[Symbol.asyncIterator]();
    expect((await first.next()).value.progress).toMatchObject({ $case: 'reply', value: { sequence: 1, lost: true } });
    await expect(probe({})).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'PROBE_UNDER_WAY' });
    ending.abort();
    // A client that goes away sets it free.
    await expect
      .poll(
        () =>
          probe({}).then(
            () => 'asked',
            (error) => error.reason,
          ),
        SOON,
      )
      .toBe('asked');
    await links.delete(unlinking('west'));
  });
});
