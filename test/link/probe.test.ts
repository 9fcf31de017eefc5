// Probes before they come to a lane: who may be asked about, one at a time, and who hears the result.

import { expect, it } from 'vitest';
import { AttachmentState, Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { InterfaceSpec } from '../../src/gen/taplane/v1/interface.ts';
import { LinkSpec } from '../../src/gen/taplane/v1/link.ts';
import { ProbeLinkRequest, type ProbeLinkResponse, ProbeResult } from '../../src/gen/taplane/v1/link_service.ts';
import { Entry } from '../../src/link/entry.ts';
import { prepare } from '../../src/link/prepared.ts';
import { type AskLane, probeLink } from '../../src/link/probe.ts';
import { newRecord } from '../../src/link/record.ts';
import { LINKS, Registry } from '../../src/link/registry.ts';
import { Broadcast } from '../../src/resource/broadcast.ts';
import { type PartialLink, somebody, wireguard } from './links.ts';

const [one, two] = [somebody(), somebody()];
const peers: PartialLink['peers'] = [
  { publicKey: one, endpoint: '192.0.2.1:1', displayName: 'west' },
  { publicKey: two, endpoint: '192.0.2.2:1' },
];

function probing(spec: PartialLink, ask: AskLane, attached = true) {
  const record = newRecord('mesh', prepare(LinkSpec.fromPartial(spec as object)), {}, 0);
  const registry = new Registry({
    broadcast: new Broadcast(LINKS, 'e', 4),
    joined: () => ({ device: Device.fromPartial({ uid: 'if' }), spec: InterfaceSpec.fromPartial({}), isThere: true, mtu: 1420 }),
    attachment: (uid) => AttachmentState.fromPartial({ uid, attached, reason: 'why', linkUid: record.uid, link: { reason: 'why' } }),
    now: () => 0,
  });
  registry.add(new Entry(record));
  const results: ProbeResult[] = [];
  const run = (request: Partial<ProbeLinkRequest> = {}): AsyncGenerator<ProbeLinkResponse> =>
    probeLink(
      { registry, ask, probed: (result) => results.push(result) },
      ProbeLinkRequest.fromPartial({ name: 'links/mesh', peer: 'west', ...request }),
      new AbortController().signal,
    );
  return { run, results, uid: record.uid };
}

const measured: AskLane = async function* (_, { probe }) {
  yield { progress: { $case: 'reply', value: { sequence: 1, lost: false, roundTrip: undefined, bytes: 64 } } };
  yield { progress: { $case: 'result', value: ProbeResult.fromPartial({ name: 'forged', peer: probe.peer, sent: 1, received: 1 }) } };
  throw new Error('nobody asks further');
};

it('ends with the result, which is told once, under the name of the link', async () => {
  const asked: unknown[] = [];
  const { run, results, uid } = probing(wireguard('tun0', peers), (interfaceUid, what, signal) => {
    asked.push(interfaceUid, what.linkUid);
    return measured(interfaceUid, what, signal);
  });
  const kinds: (string | undefined)[] = [];
  for await (const { progress } of run()) kinds.push(progress?.$case);
  expect(kinds).toEqual(['reply', 'result']);
  expect(results).toMatchObject([{ name: 'links/mesh', peer: 'west', sent: 1, received: 1 }]);
  expect(asked).toEqual(['if', uid]);
});

it.each<[string, PartialLink, string, string | undefined]>([
  ['by display name', wireguard('tun0', peers), 'west', undefined],
  ['by endpoint', wireguard('tun0', peers), '192.0.2.2:1', undefined],
  ['by public key', wireguard('tun0', peers), two.toString('base64'), undefined],
  ['the only one', wireguard('tun0', peers?.slice(0, 1)), '', undefined],
  ['none of two', wireguard('tun0', peers), '', 'PEER_NOT_FOUND'],
  ['of none', wireguard('tun0'), '', 'PEER_NOT_FOUND'],
  ['a stranger', wireguard('tun0', peers), 'east', 'PEER_NOT_FOUND'],
])('a peer is named %s', async (_, spec, peer, reason) => {
  const first = probing(spec, measured).run({ peer }).next();
  if (reason === undefined) expect((await first).value?.progress.$case).toBe('reply');
  else await expect(first).rejects.toMatchObject({ code: 'FAILED_PRECONDITION', reason });
});

it('a link that is not attached is not ready', async () => {
  await expect(probing(wireguard('tun0', peers), measured, false).run().next()).rejects.toMatchObject({ reason: 'LINK_NOT_READY' });
});

it('one at a time; the next one may when it ended, failed or was given up', async () => {
  let fail = false;
  const { run } = probing(wireguard('tun0', peers), async function* (...args) {
    if (fail) throw new Error('broken');
    yield* measured(...args);
  });
  const first = run();
  await first.next();
  await expect(run().next()).rejects.toMatchObject({ code: 'RESOURCE_EXHAUSTED', reason: 'PROBE_UNDER_WAY' });
  await first.return(undefined);
  fail = true;
  await expect(run().next()).rejects.toThrow('broken');
  fail = false;
  for await (const _ of run());
  expect((await run().next()).done).toBe(false);
});
