// A path that takes less from one moment to the next, and tells nobody: what passes through a link goes on.

import { expect, it } from 'vitest';
import { bound, SOON } from '../harness/bound.ts';
import type { Namespace } from '../harness/namespace.ts';
import { transferBothWays } from '../harness/passage.ts';
import { createUnderlay } from '../harness/underlay.ts';
import { type Kind, openPair } from './link-ends.ts';

const MEBIBYTES = bound(100, 10);
const SHRUNK = 1280;

// Side by side: most of the time they wait for something to be missed.
it.concurrent.each<[Kind, 4 | 6]>([
  ['wireguard', 4],
  ['wireguard', 6],
  ['frames-tcp', 4],
])(
  `%s over a path of IPv%i that shrinks carries ${MEBIBYTES} MiB each way without a stall over 10 s`,
  { timeout: 240_000 },
  async (kind, outer) => {
    await using net = createUnderlay({ hosts: 2 });
    const [near, far] = await openPair(net, kind, { outer });
    await using _near = near;
    await using _far = far;
    net.filterTooBig(true);
    const before = await transferBothWays(near.namespace, far.namespace, far.inner4, 1);
    const passing = transferBothWays(near.namespace, far.namespace, far.inner4, MEBIBYTES, {
      port: 7010,
      pauseMs: Math.ceil(1000 / MEBIBYTES),
    });
    const received = async () => Number((await far.status()).traffic?.receivedBytes ?? 0n);
    const begun = await received();
    await expect.poll(received, { ...SOON, interval: 5 }).toBeGreaterThan(begun + 2 ** 20);
    net.setPathMtu(SHRUNK);
    const { ms, stallMs } = await passing;
    expect(hindered(net.router)).toBeGreaterThan(0);
    console.log(
      `${kind}: ${MEBIBYTES} MiB each way in ${Math.round(ms)} ms, longest stall ${Math.round(stallMs)} ms (1 MiB before: ${Math.round(before.ms)} ms)`,
    );
    expect(stallMs).toBeLessThan(10_000);
    // What is on its way now fits: as fast as before, or nearly.
    const after = await transferBothWays(near.namespace, far.namespace, far.inner4, 1, { port: 7011 });
    console.log(`${kind}: 1 MiB each way after that in ${Math.round(after.ms)} ms, longest stall ${Math.round(after.stallMs)} ms`);
    expect(after.stallMs).toBeLessThan(3000);
  },
);

/** Packets that the router could not pass on as they were. */
function hindered(router: Namespace): number {
  const [names = '', values = ''] = router.run('grep', '^Ip:', '/proc/net/snmp').split('\n');
  const of = (name: string) => Number(values.split(' ')[names.split(' ').indexOf(name)]);
  const six = /^Ip6FragFails\s+(\d+)/m.exec(router.run('cat', '/proc/net/snmp6'))?.[1];
  return of('FragOKs') + of('FragFails') + Number(six);
}
