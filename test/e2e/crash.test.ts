// kill -9 at random moments under a load of changes: what was acknowledged is there, everything else is wholly there or wholly
// absent, and the kernel has no device that the agent does not know.

import { expect, it } from 'vitest';
import type { Interface } from '../../src/gen/taplane/v1/interface.ts';
import { ListInterfacesRequest } from '../../src/gen/taplane/v1/interface_service.ts';
import type { TaplaneClient } from '../../src/rpc/client.ts';
import { type Agent, startAgent } from '../harness/agent.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { summary } from '../harness/percentile.ts';
import { random } from '../harness/random.ts';
import { links } from '../harness/truth.ts';
import { creation, deletion, TAP, TUN, updating } from './specs.ts';

/** More for a soak. */
const KILLS = Number(process.env['TAPLANE_KILLS'] ?? 12);
const NAMES = 12;

/** What a client may know of an interface: MTU and last octet of its address; undefined for absent. */
interface Version {
  mtu: number;
  octet: number;
}
/** The states that are possible: one when the last change was answered, two while it is under way. */
type Known = (Version | undefined)[];

it(
  `loses nothing acknowledged and leaves nothing half made over ${KILLS} kills`,
  async () => {
    const dice = random('crash');
    await using ns = createNamespace();
    await using agent = await startAgent({ namespace: ns });
    const known = new Map<string, Known>(Array.from({ length: NAMES }, (_, index) => [`c${index}`, [undefined]]));
    const recovery: number[] = [];
    let acknowledged = 0;
    let inDoubt = 0;
    for (let kill = 0; kill < KILLS; kill++) {
      const client = agent.client();
      const stop = { now: false };
      // The clock runs from the first acknowledged change: before that the agent is busy with being new.
      const { promise: underWay, resolve: begun } = Promise.withResolvers<void>();
      const load = [...known.keys()].map((name, index) =>
        change(client, name, index, known, dice, stop, () => {
          acknowledged++;
          begun();
        }),
      );
      await underWay;
      await new Promise((resolve) => setTimeout(resolve, dice.uniform(0, 60)));
      const death = agent.kill9();
      stop.now = true;
      await Promise.all([death, ...load]);
      inDoubt += [...known.values()].filter((versions) => versions.length > 1).length;
      await agent.restart();
      recovery.push(agent.readyMs);
      await compare(agent, ns, known);
    }
    console.log(
      `${KILLS} kills, ${acknowledged} acknowledged changes, ${inDoubt} cut off; start to ready with ${NAMES} interfaces: ${summary(recovery)}`,
    );
    // Void unless the kills really hit changes.
    expect(acknowledged).toBeGreaterThan(KILLS);
    expect(inDoubt).toBeGreaterThan(KILLS);
  },
  400_000 + KILLS * 2000,
);

async function change(
  client: TaplaneClient,
  name: string,
  index: number,
  known: Map<string, Known>,
  dice: ReturnType<typeof random>,
  stop: { now: boolean },
  done: () => void,
): Promise<void> {
  while (!stop.now) {
    const [now] = known.get(name) ?? [];
    const next: Version = { mtu: dice.integer(1300, 1500), octet: dice.integer(1, 250) };
    const asked = {
      mode: index % 2 === 0 ? TUN : TAP,
      up: true,
      mtu: next.mtu,
      addresses: [{ cidr: `10.50.${index}.${next.octet}/24` }],
      routes: [{ destination: `10.60.${index}.0/24` }],
    };
    const after = now === undefined ? next : dice.next() < 0.4 ? undefined : next;
    known.set(name, [now, after]);
    try {
      if (now === undefined) await client.interfaces.create(creation(name, asked));
      else if (after === undefined) await client.interfaces.delete(deletion(name));
      else await client.interfaces.update(updating(name, asked, ['spec.mtu', 'spec.addresses']));
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

/** Agent, kernel and what was acknowledged say the same. */
async function compare(agent: Agent, ns: Namespace, known: Map<string, Known>): Promise<void> {
  const { interfaces } = await agent.client().interfaces.list(ListInterfacesRequest.fromPartial({}));
  const told = new Map<string, Interface>(interfaces.map((item) => [item.name.slice('interfaces/'.length), item]));
  const devices = new Map(links(ns).map((item) => [item.ifname, item]));
  const allAddresses = new Map(
    (ns.ip('-j addr') as { ifname: string; addr_info: { family: string; local: string }[] }[]).map((item) => [item.ifname, item.addr_info]),
  );
  expect([...devices.keys()].filter((name) => name !== 'lo' && !told.has(name))).toEqual([]);
  for (const [name, versions] of known) {
    const item = told.get(name);
    const found =
      item?.spec === undefined
        ? undefined
        : { mtu: item.spec.mtu ?? 0, octet: Number(item.spec.addresses[0]?.cidr.split('.')[3]?.split('/')[0]) };
    expect(versions, `record of ${name}`).toContainEqual(found);
    const device = devices.get(name);
    const kernel =
      device === undefined
        ? undefined
        : {
            mtu: device.mtu,
            octet: Number(
              allAddresses
                .get(name)
                ?.find(({ family }) => family === 'inet')
                ?.local.split('.')[3],
            ),
          };
    expect(kernel, `device of ${name}`).toEqual(found);
    if (item !== undefined) {
      expect(device).toMatchObject({ ifalias: `taplane:${item.uid}` });
      expect(device?.flags).toContain('UP');
      expect(allAddresses.get(name)?.filter(({ family }) => family === 'inet')).toHaveLength(1);
    }
    known.set(name, [found]);
  }
}
