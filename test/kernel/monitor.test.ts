// The socket that hears of changes: order, own changes, loss.

import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Kernel } from '../../src/interface/kernel.ts';
import { Namespace as Inside } from '../../src/sys/namespace.ts';
import { setLink } from '../../src/sys/netlink/link.ts';
import { Monitor, type MonitorListener } from '../../src/sys/netlink/monitor.ts';
import { Netlink } from '../../src/sys/netlink/socket.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import * as truth from '../harness/truth.ts';

let ns: Namespace;
let inside: Inside;
beforeAll(() => {
  ns = createNamespace();
  inside = new Inside(ns.path);
});
afterAll(() => {
  inside.close();
  ns[Symbol.dispose]();
});

interface Heard extends MonitorListener {
  links: string[];
  objects: number[];
  overruns: number;
  failures: Error[];
}

function ear(): Heard {
  const heard: Heard = {
    links: [],
    objects: [],
    overruns: 0,
    failures: [],
    link: (link, removed) => void heard.links.push(`${removed ? 'gone' : 'there'} ${link.name} ${link.mtu}`),
    object: (index) => void heard.objects.push(index),
    overrun: () => void heard.overruns++,
    failed: (error) => void heard.failures.push(error),
  };
  return heard;
}

const listen = (heard: Heard, queueBytes?: number) => inside.run(() => new Monitor(heard, queueBytes));
const settled = async (condition: () => boolean) => {
  for (const end = Date.now() + 20_000; !condition() && Date.now() < end; ) await sleep(5);
};

describe('the monitor', () => {
  it('hears links, addresses, routes and neighbours in order, by itself', async () => {
    const heard = ear();
    const monitor = listen(heard);
    ns.ip('tuntap add dev a0 mode tap');
    ns.ip('link set a0 mtu 1400 up');
    const index = truth.link(ns, 'a0')?.ifindex ?? 0;
    await settled(() => heard.links.includes('there a0 1400'));
    for (const change of ['address add 10.0.0.1/24', 'route add 10.1.0.0/16', 'neighbour add 10.0.0.9 lladdr 02:00:00:00:00:09']) {
      await sleep(20);
      heard.objects.length = 0;
      ns.ip(`${change} dev a0`);
      await settled(() => heard.objects.includes(index));
      expect(heard.objects, change).toContain(index);
    }
    ns.ip('link del a0');
    await settled(() => heard.links.at(-1) === 'gone a0 1400');
    expect(heard.links[0]).toBe('there a0 1500');
    expect(heard.links.at(-1)).toBe('gone a0 1400');
    expect([heard.overruns, heard.failures]).toEqual([0, []]);
    monitor.close();
    ns.ip('tuntap add dev unheard mode tun');
    await sleep(50);
    expect(heard.links.join()).not.toContain('unheard');
  });

  it('has heard of a request of ours when drain returns', () => {
    ns.ip('tuntap add dev a1 mode tun');
    const heard = ear();
    const kernel = new Kernel(new Inside(ns.path), heard);
    const { index = 0 } = kernel.link('a1') ?? {};
    for (let mtu = 1000; mtu < 1500; mtu++) {
      kernel.apply([{ kind: 'set-link', name: 'a1', change: { mtu } }], index);
      kernel.drain();
      expect(heard.links.at(-1)).toBe(`there a1 ${mtu}`);
    }
    kernel.close();
  });

  it('says when notifications were lost, goes on hearing after, and the last state can be read', async () => {
    ns.ip('tuntap add dev a2 mode tun');
    const heard = ear();
    const monitor = listen(heard, 4096);
    const netlink = inside.run(() => new Netlink());
    const index = truth.link(ns, 'a2')?.ifindex ?? 0;
    const rounds = 40;
    for (let round = 1; round <= rounds; round++) {
      // The event loop does not run meanwhile: the queue of a few kilobytes must run over.
      for (let n = 0; n < 50; n++) netlink.request('set mtu', setLink(index, { mtu: 1000 + n + round }));
      await settled(() => heard.overruns >= round);
      expect(heard.overruns).toBeGreaterThanOrEqual(round);
    }
    // What waits in the queue is read before the next message is the only one.
    for (let turns = 0, known = -1; turns < 5; turns = known === heard.links.length ? turns + 1 : 0) {
      known = heard.links.length;
      await sleep(5);
    }
    heard.links.length = 0;
    netlink.request('set mtu', setLink(index, { mtu: 1234 }));
    await settled(() => heard.links.length > 0);
    expect(heard.links).toEqual(['there a2 1234']);
    expect([monitor.overruns, heard.failures]).toEqual([heard.overruns, []]);
    netlink.close();
    monitor.close();
    monitor.close();
  });

  it('does not believe messages of other processes', async () => {
    const heard = ear();
    const monitor = listen(heard);
    // A process in the namespace sends what looks like a new link to the multicast group of links.
    const forge = `use Socket; socket(S, 16, 3, 0) or die; my $m = pack("LSSLL C x3 lLL SSa12", 48, 16, 0, 0, 0, 0, 99, 1, 0, 16, 3, "forged"); my $to = pack("SSLL", 16, 0, 0, 1); print defined send(S, $m, 0, $to) ? "sent" : "refused $!"`;
    expect(ns.run('perl', '-e', forge)).toMatch(/^(sent|refused)/);
    ns.ip('tuntap add dev a3 mode tun');
    await settled(() => heard.links.length > 0);
    expect(heard.links.join()).toContain('a3');
    expect(heard.links.join()).not.toContain('forged');
    monitor.close();
  });
});
