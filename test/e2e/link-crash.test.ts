// kill -9 at random moments while links are made, changed and deleted: what was acknowledged is there, everything else is wholly there or wholly absent,
// and an answer that was given is given again for its request id.

import { randomUUID } from 'node:crypto';
import { expect, it } from 'vitest';
import type { Link } from '../../src/gen/taplane/v1/link.ts';
import type { CreateLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { ListLinksRequest } from '../../src/gen/taplane/v1/link_service.ts';
import type { TaplaneClient } from '../../src/rpc/client.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { createNamespace } from '../harness/namespace.ts';
import { random } from '../harness/random.ts';
import { linking, relinking, somebody, unlinking, wireguard } from '../link/links.ts';
import { creation, TUN } from './specs.ts';

/** More for a soak. */
const KILLS = Number(process.env['TAPLANE_KILLS'] ?? 5);
const NAMES = 6;

/** What a client may know of a link: its MTU; undefined for absent. Two while a change is under way. */
type Known = (number | undefined)[];

it(
  `loses nothing acknowledged and leaves nothing half made over ${KILLS} kills`,
  async () => {
    const dice = random('link-crash');
    await using ns = createNamespace();
    await using agent = await startAgent({ namespace: ns });
    const names = Array.from({ length: NAMES }, (_, index) => `l${index}`);
    for (const name of names) await agent.client().interfaces.create(creation(`tun-${name}`, { mode: TUN, up: true }));
    const known = new Map<string, Known>(names.map((name) => [name, [undefined]]));
    const created = new Map<string, { request: CreateLinkRequest; answer: Link }>();
    let acknowledged = 0;
    let inDoubt = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const client = agent.client();
      const stop = { now: false };
      const { promise: underWay, resolve: begun } = Promise.withResolvers<void>();
      const load = names.map((name) =>
        change(client, name, known, created, dice, stop, () => {
          acknowledged++;
          begun();
        }),
      );
      await underWay;
      await new Promise((resolve) => setTimeout(resolve, dice.uniform(0, 150)));
      const death = agent.kill9();
      stop.now = true;
      await Promise.all([death, ...load]);
      inDoubt += [...known.values()].filter((versions) => versions.length > 1).length;
      await agent.restart();
      await compare(agent, known, created);
    }
    console.log(`${KILLS} kills, ${acknowledged} acknowledged changes, ${inDoubt} cut off`);
    expect(acknowledged).toBeGreaterThan(KILLS);
  },
  120_000 + KILLS * 10_000,
);

async function change(
  client: TaplaneClient,
  name: string,
  known: Map<string, Known>,
  created: Map<string, { request: CreateLinkRequest; answer: Link }>,
  dice: ReturnType<typeof random>,
  stop: { now: boolean },
  done: () => void,
): Promise<void> {
  while (!stop.now) {
    const [now] = known.get(name) ?? [];
    const next = dice.integer(576, 1500);
    const after = now !== undefined && dice.integer(0, 2) === 0 ? undefined : next;
    known.set(name, [now, after]);
    try {
      if (now === undefined) {
        created.delete(name);
        const request = linking(name, wireguard(`tun-${name}`, [{ publicKey: somebody() }], { mtu: next }), { requestId: randomUUID() });
        const answer = await client.links.create(request);
        created.set(name, { request, answer });
      } else if (after === undefined) await client.links.delete(unlinking(name));
      else await client.links.update(relinking(name, { mtu: next }, ['spec.mtu']));
    } catch (error) {
      // Cut off by the kill: either state may be found. Anything else is a fault of the agent.
      const { code } = error as { code?: string };
      if (code !== 'UNAVAILABLE' && code !== 'CANCELLED') throw error;
      return;
    }
    known.set(name, [after]);
    done();
  }
}

async function compare(
  agent: Agent,
  known: Map<string, Known>,
  created: Map<string, { request: CreateLinkRequest; answer: Link }>,
): Promise<void> {
  const { links } = agent.client();
  const { links: all } = await links.list(ListLinksRequest.fromPartial({}));
  expect(all.filter(({ name }) => !known.has(name.slice('links/'.length)))).toEqual([]);
  for (const [name, versions] of known) {
    const found = all.find((one) => one.name === `links/${name}`);
    expect(versions, name).toContain(found?.spec?.mtu);
    known.set(name, [found?.spec?.mtu]);
    if (found !== undefined) expect([found.uid !== '', found.status?.publicKey.length, found.spec?.peers.length]).toEqual([true, 32, 1]);
    const made = created.get(name);
    if (made === undefined) continue;
    // Also where the link has changed or gone since.
    const again = await links.create(made.request);
    expect(again).toEqual(made.answer);
  }
}
