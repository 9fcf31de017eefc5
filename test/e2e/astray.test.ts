// Steps that could go astray: a name, a mark or a namespace that has become another's while we held on to it.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { InterfaceSpec_Drift } from '../../src/gen/taplane/v1/interface.ts';
import { startAgent } from '../harness/agent.ts';
import { SOON } from '../harness/bound.ts';
import { createNamespace } from '../harness/namespace.ts';
import { failAt, killAt } from '../harness/strace.ts';
import { link, sysctl, writeSysctl } from '../harness/truth.ts';
import { creation, deletion, TAP, TUN, updating } from './specs.ts';

it('does not write a setting or an owner to a foreign device that took the name of ours', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { interfaces } = agent.client();
  await interfaces.create(creation('tap0', { mode: TAP, sysctls: { 'ipv4/forwarding': '1' } }));
  // Not repaired between the two commands.
  process.kill(agent.pid, 'SIGSTOP');
  ns.ip('link set tap0 name moved');
  ns.ip('tuntap add dev tap0 mode tap');
  ns.ip('link set tap0 alias FOREIGN');
  writeSysctl(ns, 'net/ipv4/conf/tap0/forwarding', '0');
  writeSysctl(ns, 'net/ipv4/conf/moved/forwarding', '0');
  process.kill(agent.pid, 'SIGCONT');
  const reason = async () =>
    (await interfaces.get({ name: 'interfaces/tap0' })).status?.conditions.find(({ type }) => type === 'Ready')?.reason;
  await expect.poll(reason, SOON).not.toBe('AsSpecified');
  expect(sysctl(ns, 'net/ipv4/conf/tap0/forwarding')).toBe('0');
  expect(link(ns, 'tap0')).toMatchObject({ ifalias: 'FOREIGN' });
  // When the name is free again, ours gets it back with all it should have.
  ns.ip('link del tap0');
  await expect.poll(() => link(ns, 'tap0')?.ifalias ?? '', SOON).toMatch(/^taplane:/);
  await expect.poll(() => sysctl(ns, 'net/ipv4/conf/tap0/forwarding'), SOON).toBe('1');
  expect(link(ns, 'moved')).toBeUndefined();
});

it('leaves a bridge alone that carries a copy of our mark, at start and at delete', async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const { uid } = await agent.client().interfaces.create(creation('old0', { mode: TAP, drift: InterfaceSpec_Drift.REPAIR }));
  await agent.stop();
  ns.ip('link del old0');
  ns.ip('link add name br7 type bridge');
  ns.ip(`link set br7 alias taplane:${uid}`);
  await agent.start();
  expect(link(ns, 'br7')).toMatchObject({ linkinfo: { info_kind: 'bridge' } });
  expect(link(ns, 'old0')?.ifalias).toBe(`taplane:${uid}`);
  await agent.client().interfaces.delete(deletion('old0'));
  expect(link(ns, 'br7')?.ifalias).toBe(`taplane:${uid}`);
});

it('takes an owner and a default back that an update cut off by a kill had changed, also when something else cannot be', async () => {
  await using ns = createNamespace();
  ns.ip('link add name br0 type bridge');
  await using agent = await startAgent({ namespace: ns, env: { UV_THREADPOOL_SIZE: '1' } });
  await agent.client().interfaces.create(creation('o0', { mode: TAP, up: true, controller: 'br0' }));
  const change = updating('o0', { owner: '1234', mtu: 1400, sysctls: { 'ipv4/forwarding': '1' } });
  // The setting is the last step: killed as its file is opened, owner and MTU are changed and nothing is committed.
  for (let n = 1; link(ns, 'o0')?.mtu !== 1400; n++) {
    expect(n).toBeLessThan(20);
    const client = agent.client();
    await client.node.getNode();
    await using kill = await killAt(agent.pid, 'openat', n);
    await client.interfaces.update(change).catch(() => {});
    expect(await kill.fired(20_000), `openat ${n}`).toBe(true);
    await agent.ended();
    if (link(ns, 'o0')?.mtu !== 1400) await agent.start();
  }
  expect(link(ns, 'o0')).toMatchObject({ mtu: 1400, linkinfo: { info_data: { user: 1234 } } });
  ns.ip('link del br0');
  await agent.start();
  expect(link(ns, 'o0')).toMatchObject({ mtu: 1500, linkinfo: { info_data: { user: 'root' } } });
  expect(sysctl(ns, 'net/ipv4/conf/o0/forwarding')).toBe('0');
  const { status, spec } = await agent.client().interfaces.get({ name: 'interfaces/o0' });
  expect(spec).toMatchObject({ owner: '', mtu: undefined, sysctls: {} });
  expect(status?.conditions.find(({ type }) => type === 'Ready')?.reason).toBe('BRIDGE_MISSING');
});

it('does not forget an interface because an earlier creation of its name is still being cleaned up', { timeout: 300_000 }, async () => {
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const spec = { mode: TUN, addresses: [{ cidr: '10.88.0.1/24' }] };
  let busy = 0;
  for (let n = 6; n < 16; n++) {
    const { interfaces } = agent.client();
    await interfaces.create(creation('warm', spec));
    await interfaces.delete(deletion('warm'));
    // The way back fails too: the device stays until the retry.
    await using fault = await failAt(agent.pid, 'sendto', 'ENOBUFS', `${n}+`);
    const attempt = (): Promise<string> =>
      interfaces.create(creation('c0', spec)).then(
        () => 'made',
        (error: { reason: string }) => error.reason,
      );
    const first = await attempt();
    // While nothing can be cleaned up the name stays taken, so that the retry is really waited for.
    if (first !== 'made' && (await attempt()) === 'NAME_BUSY') busy++;
    await fault.release();
    await expect.poll(attempt, { ...SOON, message: String(n) }).toMatch(/^made$|^INTERFACE_EXISTS$/);
    // Longer than the first retry.
    await sleep(600);
    await agent.kill9();
    await agent.restart();
    expect((await agent.client().interfaces.get({ name: 'interfaces/c0' })).status?.ifindex).toBe(link(ns, 'c0')?.ifindex);
    await agent.client().interfaces.delete(deletion('c0'));
    expect(link(ns, 'c0')).toBeUndefined();
  }
  // Void unless a retry was really waited for.
  expect(busy).toBeGreaterThan(0);
});
