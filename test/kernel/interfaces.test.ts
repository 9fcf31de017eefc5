// Interfaces of a real agent on a real kernel: bridges, owners, what others made, changes that the kernel makes hard.

import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { InterfaceSpec_Drift, InterfaceSpec_Mode } from '../../src/gen/taplane/v1/interface.ts';
import * as truth from '../harness/truth.ts';
import { type Managed, manage, reasonOf, TAP, TUN, until } from './managed.ts';

let managed: Managed;
beforeAll(async () => {
  managed = await manage();
});
afterAll(() => managed[Symbol.asyncDispose]());

const address = (cidr: string, more: object = {}) => ({ cidr, ...more });

describe('a bridge', () => {
  it('is joined, changed and left; one that is not there is named', async () => {
    const { ns } = managed;
    for (const name of ['br0', 'br1']) ns.ip(`link add ${name} type bridge`);
    await managed.create('b0', { mode: TAP, controller: 'br0', up: true });
    expect(truth.link(ns, 'b0')?.master).toBe('br0');
    await managed.update('b0', { controller: 'br1' }, ['spec.controller']);
    expect(truth.link(ns, 'b0')?.master).toBe('br1');
    ns.ip('link set b0 nomaster');
    await until(() => truth.link(ns, 'b0')?.master === 'br1', 'repair of the bridge');
    await managed.update('b0', {}, ['spec.controller']);
    expect(truth.link(ns, 'b0')?.master).toBeUndefined();
    expect(await reasonOf(managed.update('b0', { controller: 'no' }, ['spec.controller']))).toBe('BRIDGE_MISSING');
    expect(await reasonOf(managed.update('b0', { controller: 'lo' }, ['spec.controller']))).toBe('BRIDGE_MISSING');
    expect((await managed.get('b0')).spec?.controller).toBe('');
  });

  it('that goes is told, is not fought over while it is away, and is joined when it is back', async () => {
    const { ns } = managed;
    ns.ip('link add br2 type bridge');
    await managed.create('b1', { mode: TAP, controller: 'br2', addresses: [address('10.11.0.1/24')] });
    ns.ip('link del br2');
    ns.ip('link del b1');
    await until(async () => (await managed.condition('b1', 'Ready'))?.reason === 'BRIDGE_MISSING', 'the condition');
    await new Promise((resolve) => setTimeout(resolve, 2500));
    // 0.25 s, doubled each time: four tries by now, each making the device and taking it back.
    expect(await managed.condition('b1', 'Contended')).toBeUndefined();
    ns.ip('link add br2 type bridge');
    await until(() => truth.link(ns, 'b1')?.master === 'br2', 'joining the new bridge');
    expect(truth.cidrs(ns, 'b1')).toContain('10.11.0.1/24');
    await until(async () => (await managed.condition('b1', 'Ready'))?.status === 1, 'being ready');
  });
});

describe('owner and group', () => {
  it('change in place; while another program holds the device, the refusal names it', async () => {
    const { ns } = managed;
    // Holders are looked for by name over all namespaces: a name that no other test has.
    const name = `o${process.pid}`;
    await managed.create(name, { mode: TUN, owner: '1234', group: '5677' });
    await managed.update(name, { owner: '1235', group: '5678' }, ['spec.owner', 'spec.group']);
    expect(truth.link(ns, name)?.linkinfo?.info_data).toMatchObject({ user: 1235, group: 5678 });
    await using holder = ns.spawn([
      'perl',
      '-e',
      `open(F, "+<", "/dev/net/tun") or die; my $r = pack("a16 S x22", "${name}", 0x1001); ioctl(F, 0x400454ca, $r) or die $!; $| = 1; print "held\n"; sleep 100`,
    ]);
    await holder.until(({ stdout }) => stdout.includes('held'), 'the queue');
    const refused = managed.update(name, { owner: '7' }, ['spec.owner']);
    await expect(refused).rejects.toMatchObject({
      code: 'FAILED_PRECONDITION',
      reason: 'DEVICE_BUSY',
      message: expect.stringContaining(`pid ${holder.pid} (perl)`),
    });
    expect((await managed.get(name)).spec?.owner).toBe('1235');
    expect((await managed.get(name)).status?.holders).toMatchObject([{ pid: holder.pid, command: 'perl', queues: 1 }]);
    await holder[Symbol.asyncDispose]();
    await managed.update(name, { owner: '7' }, ['spec.owner']);
    expect(await reasonOf(managed.update(name, {}, ['spec.owner']))).toBe('INVALID_FIELDS');
  });
});

describe('a device of others', () => {
  it.each([
    ['a0', 'tun', 'mode tun'],
    ['a1', 'tap', 'mode tap user 1234 group 5678 multi_queue vnet_hdr'],
    ['a2', 'tun', 'mode tun pi'],
  ])('%s by ip tuntap is adopted as it is, with addresses and routes, and repaired from then on', async (name, mode, flags) => {
    const { ns } = managed;
    const net = `10.2${name.slice(1)}`;
    ns.ip(`tuntap add dev ${name} ${flags}`);
    ns.ip(`link set ${name} mtu 1400 txqueuelen 77 up`);
    for (const item of [`${net}.0.1/24`, `${net}.0.2/24`, `${net}.9.1 peer ${net}.9.2/32`, `fd0${name.slice(1)}::1/64`])
      ns.ip(`address add ${item} dev ${name}`);
    ns.ip(`route add ${net}.128.0/17 via ${net}.0.9 dev ${name} metric 7`);
    // Multicast neighbours come and go with the mood of the kernel.
    const snapshot = () => truth.snapshot(ns, { except: (device) => device !== name }).replace(/^neighbour .*NOARP.*\n/gm, '');
    const before = snapshot();
    const { spec, plan, status } = await managed.adopt(name);
    expect(plan.map(({ command }) => command)).toEqual([expect.stringMatching(`^ip link set dev ${name} alias taplane:`)]);
    expect(spec).toMatchObject({
      mode: mode === 'tap' ? InterfaceSpec_Mode.TAP : InterfaceSpec_Mode.TUN,
      mtu: 1400,
      txQueueLength: 77,
      up: true,
      owner: flags.includes('user') ? '1234' : '',
      multiQueue: flags.includes('multi'),
      packetInfo: flags.includes('pi'),
      vnetHeader: flags.includes('vnet'),
    });
    expect(status?.state).toBe(1);
    const ours = /"ifalias":"taplane:[^"]*",/;
    expect(snapshot().replace(ours, '')).toBe(before);
    ns.ip(`address del ${net}.0.2/24 dev ${name}`);
    ns.ip(`route del ${net}.128.0/17 dev ${name}`);
    await until(
      () => truth.cidrs(ns, name).includes(`${net}.0.2/24`) && truth.routes(ns, name).some((route) => route.metric === 7),
      'repair',
    );
    expect(await reasonOf(managed.adopt(name))).toBe('INTERFACE_EXISTS');
  });

  it('by openvpn --mktun is adopted; others are refused with the reason', async () => {
    const { ns } = managed;
    ns.run('openvpn', '--mktun', '--dev', 'ov0', '--dev-type', 'tap');
    expect((await managed.adopt('ov0')).spec?.mode).toBe(TAP);
    ns.ip('link add va type veth peer name vb');
    expect([await reasonOf(managed.adopt('va')), await reasonOf(managed.adopt('no-such'))]).toEqual(['NOT_ADOPTABLE', 'DEVICE_NOT_FOUND']);
    expect(await reasonOf(managed.create('va', { mode: TUN }))).toBe('NAME_TAKEN');
    expect(await managed.delete('ov0')).toEqual(['ip link del dev ov0']);
    expect(ns.has('ov0')).toBe(false);
  });
});

describe('changes that the kernel makes hard', () => {
  const cidrs = (name: string) =>
    truth
      .cidrs(managed.ns, name)
      .filter((cidr) => !cidr.startsWith('fe80'))
      .sort();

  it.each<[string, string[], string[]]>([
    ['IPv6 prefix length', ['fd10::1/64'], ['fd10::1/48']],
    ['IPv4 prefix length', ['10.30.0.1/24'], ['10.30.0.1/16']],
    ['a primary address goes, its secondaries stay', ['10.31.0.1/24', '10.31.0.2/24', '10.31.0.3/24'], ['10.31.0.3/24', '10.31.0.2/24']],
    ['all addresses go', ['10.32.0.1/24', '10.32.0.2/24', 'fd11::1/64'], []],
  ])('%s', async (_, first, second) => {
    await managed.create('h0', { mode: TUN, up: true, addresses: first.map((cidr) => address(cidr)) });
    expect(cidrs('h0')).toEqual([...first].sort());
    await managed.update('h0', { addresses: second.map((cidr) => address(cidr)) }, ['spec.addresses']);
    expect(cidrs('h0')).toEqual([...second].sort());
    await managed.delete('h0');
  });

  it('the peer of a point-to-point address, within its subnet', async () => {
    await managed.create('h1', {
      mode: TUN,
      up: true,
      addresses: [address('10.33.0.1', { peer: '10.34.0.2/24' })],
      routes: [{ destination: '10.35.0.0/16' }],
    });
    await managed.update('h1', { addresses: [address('10.33.0.1', { peer: '10.34.0.3/24' })] }, ['spec.addresses']);
    expect(truth.addresses(managed.ns, 'h1')).toEqual(
      expect.arrayContaining([expect.objectContaining({ local: '10.33.0.1', address: '10.34.0.3' })]),
    );
    expect(truth.routes(managed.ns, 'h1').map(({ dst }) => dst)).toContain('10.35.0.0/16');
  });

  it('down and up again: addresses stay, routes come back', async () => {
    await managed.create('h2', {
      mode: TUN,
      up: true,
      addresses: [address('10.36.0.1/24'), address('fd12::1/64')],
      routes: [{ destination: '10.37.0.0/16' }, { destination: 'fd13::/48' }],
    });
    const routes = () =>
      truth
        .routes(managed.ns, 'h2')
        .filter(({ protocol }) => protocol === '76')
        .map(({ dst }) => dst)
        .sort();
    await managed.update('h2', {}, ['spec.up']);
    expect([cidrs('h2'), routes()]).toEqual([['10.36.0.1/24', 'fd12::1/64'], []]);
    await managed.update('h2', { up: true }, ['spec.up']);
    expect([cidrs('h2'), routes()]).toEqual([
      ['10.36.0.1/24', 'fd12::1/64'],
      ['10.37.0.0/16', 'fd13::/48'],
    ]);
  });

  it('an MTU below 1280 takes IPv6 away, one above gives it back with its settings', async () => {
    await managed.create('h3', { mode: TUN, mtu: 1000, up: true });
    const sysctls = { 'ipv6/accept_ra': '0' };
    await managed.update('h3', { mtu: 1400, sysctls, addresses: [address('fd14::1/64')] }, ['spec.mtu', 'spec.sysctls', 'spec.addresses']);
    expect([truth.sysctl(managed.ns, 'net/ipv6/conf/h3/accept_ra'), cidrs('h3')]).toEqual(['0', ['fd14::1/64']]);
    managed.ns.ip('link set h3 mtu 1000');
    await until(() => cidrs('h3').includes('fd14::1/64') && truth.sysctl(managed.ns, 'net/ipv6/conf/h3/accept_ra') === '0', 'repair');
  });

  it('one that fails in its last step leaves everything as it was, with drift that is only reported too', async () => {
    const { ns } = managed;
    const addresses = ['10.38.0.1/24', '10.38.0.2/24', 'fd15::1/64'].map((cidr) => address(cidr));
    await managed.create('h4', {
      mode: TUN,
      up: true,
      drift: InterfaceSpec_Drift.REPORT,
      addresses,
      routes: [{ destination: '10.39.0.0/16' }],
    });
    const picture = () => [
      cidrs('h4'),
      truth
        .routes(ns, 'h4')
        .flatMap(({ dst, table }) => (table === 'local' ? [] : [`${dst} ${table}`]))
        .sort(),
      truth.link(ns, 'h4')?.mtu,
    ];
    const before = picture();
    const bad = {
      mtu: 1300,
      addresses: [address('10.38.0.2/24'), address('10.40.0.1/24')],
      routes: [{ destination: '10.41.0.0/16', gateway: '172.16.0.1' }],
    };
    expect(await reasonOf(managed.update('h4', bad, ['spec.mtu', 'spec.addresses', 'spec.routes']))).toBe('GATEWAY_UNREACHABLE');
    expect(picture()).toEqual(before);
    expect(await managed.condition('h4', 'Drifted')).toBeUndefined();
  });

  it('one that fails after the link went down brings back the routes that the kernel dropped', async () => {
    const { ns } = managed;
    const spec = { up: true, addresses: [address('10.42.0.1/24')], routes: [{ destination: '10.43.0.0/16' }] };
    await managed.create('h5', { mode: TUN, drift: InterfaceSpec_Drift.REPORT, ...spec });
    truth.writeSysctl(ns, 'net/ipv6/conf/h5/disable_ipv6', '1');
    const refused = managed.update('h5', { addresses: [...spec.addresses, address('fd16::1/64')] }, ['spec.up', 'spec.addresses']);
    expect(await reasonOf(refused)).not.toBe('none');
    expect(truth.link(ns, 'h5')?.flags).toContain('UP');
    expect(truth.routes(ns, 'h5').map(({ dst }) => dst)).toContain('10.43.0.0/16');
    expect(cidrs('h5')).toEqual(['10.42.0.1/24']);
  });
});
