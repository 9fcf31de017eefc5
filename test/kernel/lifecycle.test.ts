// Many devices made and removed: nothing is left in the kernel, in our fd table or in memory. Who holds a queue is told right.

import { readdirSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Kernel } from '../../src/interface/kernel.ts';
import * as libc from '../../src/sys/libc.ts';
import { Namespace as Inside } from '../../src/sys/namespace.ts';
import { queueHolders } from '../../src/sys/queue-holders.ts';
import { attachTun, createTun, type TunDevice } from '../../src/sys/tun.ts';
import { bound } from '../harness/bound.ts';
import { createNamespace, type Namespace } from '../harness/namespace.ts';
import { link } from '../harness/truth.ts';

/** More for a soak. */
const CYCLES = Number(process.env['TAPLANE_CYCLES'] ?? bound(1000, 200));
/** What an allocator keeps for later is in the resident memory too. */
const RSS_MOST = bound(24, 96) * 1024 * 1024;
const HEAP_MOST = 4 * 1024 * 1024;
const device = (name: string): TunDevice => ({ name, mode: 'tap', multiQueue: true, packetInfo: false, vnetHeader: false });
const fds = () => readdirSync('/proc/self/fd').length;
setFlagsFromString('--expose-gc');
const collect = runInNewContext('gc') as () => void;
/** What is reachable: objects and buffers. */
function heapBytes(): number {
  collect();
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

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

describe(`${CYCLES} devices`, () => {
  it('made, marked and removed one after the other leave no device, no fd and no memory', { timeout: 120_000 + CYCLES * 200 }, () => {
    const own = new Inside(ns.path);
    const kernel = new Kernel(own, { link() {}, object() {}, overrun() {}, failed() {} });
    const cycle = (n: number) => {
      const index = kernel.apply([{ kind: 'create-link', device: device(`c${n}`), alias: 'taplane:test' }], 0);
      kernel.apply([{ kind: 'delete-link', name: `c${n}` }], index);
      kernel.drain();
    };
    for (let n = 0; n < 100; n++) cycle(n);
    const [fdsBefore, heapBefore, rssBefore] = [fds(), heapBytes(), process.memoryUsage.rss()];
    const begun = performance.now();
    for (let n = 0; n < CYCLES; n++) cycle(n);
    const each = (performance.now() - begun) / CYCLES;
    const heapGrown = heapBytes() - heapBefore;
    const grown = process.memoryUsage.rss() - rssBefore;
    const [heapMiB, rssMiB] = [heapGrown, grown].map((bytes) => (bytes / 1024 / 1024).toFixed(1));
    console.log(`${each.toFixed(2)} ms a cycle; heap ${heapMiB} MiB more, resident ${rssMiB} MiB more`);
    expect(fds()).toBe(fdsBefore);
    expect(heapGrown).toBeLessThan(HEAP_MOST);
    expect(grown).toBeLessThan(RSS_MOST);
    expect(ns.ip('-j link')).toHaveLength(1);
    kernel.close();
  });

  it('that cannot be finished leave none either', { timeout: 120_000 }, () => {
    const before = fds();
    for (let n = 0; n < CYCLES / 8; n++) {
      expect(() =>
        inside.run(() =>
          createTun(device('half'), () => {
            throw new Error('no');
          }),
        ),
      ).toThrow('no');
    }
    expect(fds()).toBe(before);
    expect(ns.ip('-j link')).toHaveLength(1);
  });
});

describe('holders of queues', () => {
  // They are looked for by name over all namespaces: names that no other test has.
  const [held, free] = [`h${process.pid}a`, `h${process.pid}b`];

  it('are those that ip tuntap names, with how many queues each has', async () => {
    for (const name of [held, free]) inside.run(() => createTun(device(name), () => {}));
    const mine = [0, 1, 2].map(() => inside.run(() => attachTun(held, device(held))));
    const flags = 0x1000 | 0x100 | 2;
    await using other = ns.spawn([
      'perl',
      '-e',
      `open(F, "+<", "/dev/net/tun") or die; my $r = pack("a16 S x22", "${held}", ${flags}); ioctl(F, 0x400454ca, $r) or die $!; $| = 1; print "held\\n"; sleep 100`,
    ]);
    await other.until(({ stdout }) => stdout.includes('held'), 'the queue');
    const holders = queueHolders().get(held) ?? [];
    expect(holders.find(({ pid }) => pid === process.pid)?.queues).toBe(3);
    expect(holders.find(({ pid }) => pid === other.pid)).toEqual({ pid: other.pid, command: 'perl', queues: 1 });
    // The JSON of iproute2 6.1 is not valid here; its text is.
    const named = new RegExp(`${held}:.*\\n\\s+Attached to processes:(.*)`).exec(ns.run('ip', '-d', 'tuntap'))?.[1] ?? '';
    expect(named).toContain(`perl(${other.pid})`);
    expect(holders.reduce((sum, { queues }) => sum + queues, 0)).toBe(link(ns, held)?.linkinfo?.info_data?.numqueues);
    expect(queueHolders().has(free)).toBe(false);
    for (const fd of mine) libc.close(fd);
    await other[Symbol.asyncDispose]();
    expect(queueHolders().has(held)).toBe(false);
  });

  it('that come and go while we look do no harm', async () => {
    await using churn = ns.spawn(['sh', '-c', 'while :; do /bin/true; done']);
    for (let count = 0; count < 20; count++) {
      queueHolders();
      await sleep(1);
    }
    expect(churn.isRunning).toBe(true);
  });
});
