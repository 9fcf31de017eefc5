// The witnesses must be right before they are believed: each piece of the harness is shown to see what it is there to see.

import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { removeLeftovers } from '../../scripts/leftovers.ts';
import { bound, SOON } from './bound.ts';
import { watchKernel } from './ip-monitor.ts';
import { createCable, createNamespace, namespacesOf } from './namespace.ts';
import { Child, run, runningChildren, runSync } from './process.ts';
import { countSyscalls, killAt, traceOf } from './strace.ts';
import { cidrs, link, neighbours, routes, snapshot, sysctl, tuntaps, writeSysctl } from './truth.ts';

/** Writes a line again and again, from one thread. Starts no process: strace cannot let go of one that waits in vfork(2). */
const WRITER = ['perl', '-e', '$| = 1; print "begun\n"; while (1) { print "x\n"; select(undef, undef, undef, 0.01) }'];

async function startWriter(): Promise<Child> {
  const child = new Child(WRITER);
  await child.until(({ stdout }) => stdout.includes('begun'), 'its first word');
  return child;
}

describe('namespace', () => {
  it('is fresh, has loopback up, is listed as left behind until it is disposed, and may be disposed twice', () => {
    const ns = createNamespace();
    expect(ns.name).toMatch(new RegExp(`^tpl-${process.pid}-\\d+$`));
    expect(namespacesOf(process.pid)).toContain(ns.name);
    expect((ns.ip('-j link') as { ifname: string }[]).map((entry) => entry.ifname)).toEqual(['lo']);
    expect(link(ns, 'lo')?.flags).toContain('UP');
    ns[Symbol.dispose]();
    ns[Symbol.dispose]();
    expect(namespacesOf(process.pid)).not.toContain(ns.name);
  });

  it('runs commands inside, with its own /sys, and tells what a failing one said', async () => {
    await using ns = createNamespace();
    ns.ip('tuntap add dev t0 mode tun');
    expect(ns.has('t0')).toBe(true);
    expect(ns.run('ls', '/sys/class/net').split('\n')).toContain('t0');
    expect(() => ns.ip('link set dev nope up')).toThrow(/link set dev nope up: code 1: .*nope/);
    expect(await ns.exec(['sh', '-c', 'cat; exit 3'], { input: 'in' })).toMatchObject({ code: 3, stdout: 'in' });
  });

  it('is joined to another by a cable that carries packets of both families', async () => {
    await using a = createNamespace();
    await using b = createNamespace();
    createCable({ namespace: a, device: 'east', address: '192.0.2.1/24' }, { namespace: b, device: 'west', address: '192.0.2.2/24' });
    createCable({ namespace: a, device: 'up', address: 'fd00::1/64' }, { namespace: b, device: 'down', address: 'fd00::2/64' });
    expect((await a.exec(['ping', '-c1', '-W10', '192.0.2.2'])).code).toBe(0);
    expect((await a.exec(['ping', '-c1', '-W10', 'fd00::2'])).code).toBe(0);
  });
});

describe('leftovers', () => {
  it('are what a dead test process made: namespace, process, mount and folder; what a living one made stays', async () => {
    await using living = createNamespace();
    // A process that ends at once and whose number is in no use any more.
    const dead = await run(['sh', '-c', 'echo $$']);
    const name = `tpl-${dead.stdout.trim()}-1`;
    runSync('ip', 'netns', 'add', name);
    const folder = join(tmpdir(), `${name}-disk`);
    mkdirSync(folder);
    runSync('mount', '-t', 'tmpfs', 'tmpfs', folder);
    await using lost = new Child(['ip', 'netns', 'exec', name, 'sleep', '1000']);
    await expect.poll(() => readFileSync(`/proc/${lost.pid}/cmdline`, 'utf8'), SOON).toBe('sleep\x001000\0');
    const found = removeLeftovers();
    expect(found).toContain(`process ${lost.pid}: sleep 1000`);
    expect(found).toContain(`network namespace ${name}`);
    expect(found).toContain(`mount ${folder}`);
    expect(existsSync(folder)).toBe(false);
    expect((await lost.ended).signal).toBe('SIGKILL');
    expect(namespacesOf(process.pid)).toEqual([living.name]);
    expect(removeLeftovers()).toEqual([]);
  });
});

describe('process', () => {
  it('forgets no child, and a wait says what was heard instead', async () => {
    const child = new Child(['sh', '-c', 'echo first; exec sleep 1000']);
    expect(runningChildren()).toContain(child.command);
    await child.until(({ stdout }) => stdout.includes('first'), 'the first');
    await expect(child.until(({ stdout }) => stdout.includes('second'), 'a second word', 200)).rejects.toThrow(/not within 200 ms\nfirst/);
    await child[Symbol.asyncDispose]();
    expect(runningChildren()).not.toContain(child.command);
    await expect(child.until(() => false, 'nothing')).rejects.toThrow('it ended');
    expect(await run(['/no/such/program'])).toMatchObject({ code: 127 });
  });
});

describe('truth', () => {
  it('reads links, tuntap flags, addresses, routes, neighbours and sysctls', async () => {
    await using ns = createNamespace();
    ns.ip('tuntap add dev t0 mode tap multi_queue vnet_hdr user 1000');
    ns.ip('address add 192.0.2.1/24 dev t0');
    ns.ip('link set t0 up');
    ns.ip('route add 198.51.100.0/24 via 192.0.2.9 dev t0 metric 7');
    ns.ip('neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev t0 nud permanent');
    writeSysctl(ns, 'net/ipv4/conf/t0/forwarding', '1');

    expect(link(ns, 't0')?.linkinfo?.info_data).toMatchObject({ type: 'tap', multi_queue: true, vnet_hdr: true, persist: true });
    expect(tuntaps(ns)).toMatchObject([{ ifname: 't0', flags: ['tap', 'multi_queue', 'vnet_hdr', 'persist'], user: 1000 }]);
    expect(cidrs(ns, 't0')).toContain('192.0.2.1/24');
    expect(routes(ns, 't0')).toContainEqual(
      expect.objectContaining({ dst: '198.51.100.0/24', gateway: '192.0.2.9', metric: 7, table: 'main' }),
    );
    expect(neighbours(ns, 't0')).toContainEqual(
      expect.objectContaining({ dst: '192.0.2.9', lladdr: '02:00:00:00:00:09', state: ['PERMANENT'] }),
    );
    expect(sysctl(ns, 'net/ipv4/conf/t0/forwarding')).toBe('1');
    expect(link(ns, 'nope')).toBeUndefined();
  });

  it('takes byte-equal snapshots of what did not change, differing ones of what did, and looks away where told to', async () => {
    await using ns = createNamespace();
    ns.ip('tuntap add dev foreign mode tun');
    ns.ip('address add 192.0.2.1/24 dev foreign');
    const before = snapshot(ns);
    expect(before).toContain('192.0.2.1');
    ns.ip('tuntap add dev ours mode tun');
    ns.ip('address add 203.0.113.1/24 dev ours');
    ns.ip('link set ours up');
    const ignoring = { except: (device: string) => device === 'ours' };
    expect(snapshot(ns, ignoring)).toBe(before);
    expect(snapshot(ns)).not.toBe(before);

    const changes = [
      'address add 192.0.2.7/24 dev foreign',
      'link set foreign up',
      'route add 198.51.100.0/24 dev foreign',
      'link set foreign mtu 1400',
    ];
    let last = before;
    for (const change of [...changes, 'neighbour add 192.0.2.8 dev foreign nud permanent']) {
      ns.ip(change);
      const now = snapshot(ns, ignoring);
      expect(now, change).not.toBe(last);
      last = now;
    }
  });
});

describe('ip monitor', () => {
  it('sees each kind of change in order, with its time, and nothing that came before it listened', async () => {
    await using ns = createNamespace();
    ns.ip('tuntap add dev before mode tun');
    await using watch = await watchKernel(ns);
    const begun = Date.now();
    ns.ip('tuntap add dev t0 mode tap');
    ns.ip('link set t0 up');
    ns.ip('address add 192.0.2.1/24 dev t0');
    ns.ip('route add 198.51.100.0/24 dev t0');
    ns.ip('route add unreachable 203.0.113.0/24');
    ns.ip('neighbour add 192.0.2.9 lladdr 02:00:00:00:00:09 dev t0');
    ns.ip('link delete t0');
    const events = await watch.settle();

    expect(events.filter((event) => event.device === 'before')).toEqual([]);
    expect(events[0]).toMatchObject({ kind: 'link', deleted: false, device: 't0' });
    expect(events.at(-1)).toMatchObject({ kind: 'link', deleted: true, device: 't0' });
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'address', deleted: false, device: 't0', text: expect.stringContaining('192.0.2.1/24') }),
    );
    expect(events).toContainEqual(
      expect.objectContaining({ kind: 'route', deleted: false, device: 't0', text: expect.stringContaining('198.51.100.0/24') }),
    );
    expect(events).toContainEqual(expect.objectContaining({ kind: 'route', device: undefined, text: 'unreachable 203.0.113.0/24' }));
    expect(events).toContainEqual(expect.objectContaining({ kind: 'neighbour', deleted: false, device: 't0' }));
    for (const event of events) {
      expect(event.at).toBeGreaterThanOrEqual(begun - 1);
      expect(event.at).toBeLessThanOrEqual(Date.now() + 1);
    }

    watch.clear();
    expect(await watch.settle()).toEqual([]);
    const coming = watch.next((event) => event.device === 't1');
    ns.ip('tuntap add dev t1 mode tun');
    expect(await coming).toMatchObject({ kind: 'link', device: 't1' });
  });
});

describe('strace', () => {
  it('counts what a running process calls, and lets it go unharmed', async () => {
    await using writer = await startWriter();
    const { counts, calls } = await countSyscalls(writer.pid, 'write,dup2', () => {
      const heard = writer.stdout.length;
      return writer.until(({ stdout }) => stdout.length >= heard + 6, 'three lines');
    });
    expect(counts['write']).toBeGreaterThanOrEqual(2);
    expect(calls.find((call) => call.syscall === 'write')?.text).toMatch(/^write\(1, "x\\n", 2\)/);
    await sleep(50);
    expect(writer.isRunning).toBe(true);
    expect(readFileSync(`/proc/${writer.pid}/status`, 'utf8')).toMatch(/^TracerPid:\s+0$/m);
  });

  it('kills at exactly the n-th call, before it is made, and tells that it fired', async () => {
    await using ns = createNamespace();
    const file = `/tmp/tpl-${process.pid}-writes`;
    await using writer = ns.spawn([
      'sh',
      '-c',
      `: > ${file}; echo begun; read go; for i in 1 2 3 4 5; do echo $i >> ${file}; done; sleep 1000`,
    ]);
    await writer.until(({ stdout }) => stdout.includes('begun'), 'its first word');
    await using armed = await killAt(writer.pid, 'write', 3);
    writer.stdin.write('go\n');
    expect(await armed.fired(20_000)).toBe(true);
    expect((await writer.ended).signal).toBe('SIGKILL');
    expect(runSync('cat', file)).toBe('1\n2\n');
    runSync('rm', file);
  });

  it('kills a Node process of many threads, attaching in well under a second', async () => {
    await using node = new Child([
      process.execPath,
      '-e',
      "console.log('begun'); setInterval(() => require('fs').readFileSync('/dev/null'), 5)",
    ]);
    await node.until(({ stdout }) => stdout.includes('begun'), 'its first word');
    const threads = readdirSync(`/proc/${node.pid}/task`).length;
    const begun = performance.now();
    await using armed = await killAt(node.pid, 'openat', 10);
    const attachMs = performance.now() - begun;
    console.log(`strace attached to ${threads} threads in ${attachMs.toFixed(0)} ms`);
    expect(await armed.fired(20_000)).toBe(true);
    expect(armed.trace().counts['openat']).toBe(10);
    expect((await node.ended).signal).toBe('SIGKILL');
    expect(attachMs).toBeLessThan(bound(1_000, 10_000));
  });

  it('tells that the fault did not fire: call never made, or death of another cause', async () => {
    await using unharmed = await startWriter();
    {
      await using armed = await killAt(unharmed.pid, 'socket', 1);
      expect(await armed.fired(100)).toBe(false);
    }
    expect(unharmed.isRunning).toBe(true);
    await using armed = await killAt(unharmed.pid, 'socket', 1);
    unharmed.kill('SIGKILL');
    await unharmed.ended;
    expect(await armed.fired(20_000)).toBe(false);
    await expect(killAt(unharmed.pid, 'write', 1)).rejects.toThrow(/attaching: it ended/);
  });

  it('reads its log line by line, threads apart, unfinished calls once', () => {
    const log = [
      'strace: Process 7 attached with 2 threads',
      '[pid     7] ioctl(18, TUNSETIFF, 0x7ffc) = 0',
      '[pid     8] write(5, "a", 1 <unfinished ...>',
      '[pid     7] write(5, "b", 1) = 1',
      '[pid     8] <... write resumed>) = 1',
      '[pid     8] write(5, "c", 1) = ?',
      '[pid     8] +++ killed by SIGKILL +++',
    ].join('\n');
    const { calls, counts } = traceOf(log);
    expect(calls.map((call) => `${call.thread} ${call.syscall}`)).toEqual(['7 ioctl', '8 write', '7 write', '8 write']);
    expect(counts).toEqual({ ioctl: 1, write: 2 });
  });
});
