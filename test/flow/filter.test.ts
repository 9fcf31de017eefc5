import { isIP } from 'node:net';
import fc from 'fast-check';
import ipaddr from 'ipaddr.js';
import { describe, expect, test } from 'vitest';
import type { TaplaneError } from '../../src/errors.ts';
import { type BatchFields, compileFilters } from '../../src/flow/filter.ts';
import { glob } from '../../src/flow/glob.ts';
import type { Flow } from '../../src/gen/taplane/v1/flow.ts';
import { FlowFilter } from '../../src/gen/taplane/v1/flow_service.ts';
import { parseAddress, parsePrefix } from '../../src/packet/address-text.ts';
import { flow, someFlow } from './flow-values.ts';

const tap0: BatchFields = { interface: 'tap0', node: 'n1', labels: { tenant: 'blue', empty: '' } };
const filters = (...partial: Partial<FlowFilter>[]) => partial.map((one) => FlowFilter.fromPartial(one));
const told = (allow: Partial<FlowFilter>[], deny: Partial<FlowFilter>[], one: Flow, batch = tap0) =>
  compileFilters(filters(...allow), filters(...deny))(batch)?.(one) ?? false;
const ethernet = { source: Buffer.from('020000000001', 'hex'), destination: Buffer.from('0200000000ff', 'hex'), ethertype: 0x806, vlan: 7 };
const v6 = {
  sourceAddress: Buffer.from('20010db8000000000000000000000001', 'hex'),
  destinationAddress: Buffer.from('20010db8000000000000000000000002', 'hex'),
};

describe('each field', () => {
  test.each<[string, Partial<FlowFilter>, Partial<Flow>, boolean]>([
    ['ip, of the source', { ip: ['10.0.0.1'] }, {}, true],
    ['ip, of the destination', { ip: ['10.0.0.2'] }, {}, true],
    ['ip, one of several', { ip: ['1.1.1.1', '::/0', '10.0.0.0/30'] }, {}, true],
    ['ip, none', { ip: ['10.0.0.3', '10.0.1.0/24'] }, {}, false],
    ['ip, all of IPv4', { ip: ['0.0.0.0/0'] }, {}, true],
    ['ip, all of IPv6', { ip: ['::/0'] }, {}, false],
    ['ip, IPv6', { ip: ['2001:db8::/64'] }, v6, true],
    ['ip, of what is no IP', { ip: ['0.0.0.0/0', '::/0'] }, { sourceAddress: Buffer.alloc(0), destinationAddress: Buffer.alloc(0) }, false],
    ['source_ip', { sourceIp: ['10.0.0.1'] }, {}, true],
    ['source_ip, not the destination', { sourceIp: ['10.0.0.2'] }, {}, false],
    ['destination_ip', { destinationIp: ['10.0.0.2'] }, {}, true],
    ['destination_ip, not the source', { destinationIp: ['10.0.0.1'] }, {}, false],
    ['port, of the source', { port: [40_000] }, {}, true],
    ['port, of the destination', { port: [1, 80] }, {}, true],
    ['port, none', { port: [81] }, {}, false],
    ['source_port', { sourcePort: [40_000] }, {}, true],
    ['source_port, not the destination', { sourcePort: [80] }, {}, false],
    ['destination_port', { destinationPort: [80] }, {}, true],
    ['destination_port, not the source', { destinationPort: [40_000] }, {}, false],
    ['protocol', { protocol: [17, 6] }, {}, true],
    ['protocol, another', { protocol: [17] }, {}, false],
    ['protocol 0 of what is no IP', { protocol: [0] }, { protocol: 0, sourceAddress: Buffer.alloc(0) }, false],
    ['tcp_flags, all bits of one', { tcpFlags: [4, 18] }, { tcpFlags: 26 }, true],
    ['tcp_flags, of the reverse', { tcpFlags: [18] }, { tcpFlags: 2, reverseTcpFlags: 18 }, true],
    ['tcp_flags, spread over both', { tcpFlags: [18] }, { tcpFlags: 2, reverseTcpFlags: 16 }, false],
    ['link', { link: ['a', 'b'] }, { link: 'b' }, true],
    ['link, another', { link: ['a'] }, { link: 'b' }, false],
    ['direction', { direction: [2] }, {}, true],
    ['direction, the other', { direction: [1] }, {}, false],
    ['ethertype', { ethertype: [0x806] }, { ethernet }, true],
    ['ethertype, not by the address where there is a header', { ethertype: [0x800] }, { ethernet }, false],
    ['ethertype of IPv4 on a TUN', { ethertype: [0x800] }, {}, true],
    ['ethertype of IPv6 on a TUN', { ethertype: [0x86dd] }, v6, true],
    ['ethertype, not of the other version', { ethertype: [0x86dd] }, {}, false],
    ['mac_address, of the source', { macAddress: ['02:00:00:00:00:01'] }, { ethernet }, true],
    ['mac_address, of the destination', { macAddress: ['02:00:00:00:00:FF'] }, { ethernet }, true],
    ['mac_address, none', { macAddress: ['02:00:00:00:00:02'] }, { ethernet }, false],
    ['mac_address on a TUN', { macAddress: ['00:00:00:00:00:00'] }, {}, false],
    ['vlan', { vlan: [7] }, { ethernet }, true],
    ['vlan, without a tag', { vlan: [0] }, { ethernet }, false],
    ['vlan 0', { vlan: [0] }, {}, true],
    ['event', { event: [1, 3] }, { event: 3 }, true],
    ['event, another', { event: [2] }, {}, false],
    ['interface', { interface: ['tap0'] }, {}, true],
    ['interface, by its resource name and a pattern', { interface: ['interfaces/ta*'] }, {}, true],
    ['interface, another', { interface: ['tap', 'tap00', 'tun*'] }, {}, false],
    ['label, with its value', { label: ['tenant=blue'] }, {}, true],
    ['label, without', { label: ['tenant'] }, {}, true],
    ['label, empty', { label: ['empty='] }, {}, true],
    ['label, another value', { label: ['tenant=red'] }, {}, false],
    ['label, not what every object has', { label: ['toString', '__proto__'] }, {}, false],
    ['node', { node: ['n2', 'n1'] }, {}, true],
    ['node, another', { node: ['n2'] }, {}, false],
    ['all fields must match', { ip: ['10.0.0.1'], port: [80], interface: ['tap0'], event: [1] }, {}, true],
    ['one that does not is enough', { ip: ['10.0.0.1'], port: [81], interface: ['tap0'] }, {}, false],
    ['nothing given', {}, {}, true],
  ])('%s', (_, filter, partial, expected) => {
    expect(told([filter], [], flow(partial))).toBe(expected);
    expect(told([], [filter], flow(partial))).toBe(!expected);
  });
});

test('one of the allowed is enough, and denied goes before allowed', () => {
  expect(told([{ port: [1] }, { port: [80] }], [], flow())).toBe(true);
  expect(told([{ port: [80] }], [{ port: [1] }, { protocol: [6] }], flow())).toBe(false);
  expect(told([], [], flow())).toBe(true);
});

test('batches of which no record can match need not be read', () => {
  const test = (allow: Partial<FlowFilter>[], deny: Partial<FlowFilter>[] = []) =>
    compileFilters(filters(...allow), filters(...deny))(tap0);
  expect(test([{ interface: ['tun0'], port: [80] }, { node: ['n2'] }])).toBeUndefined();
  expect(test([], [{ label: ['tenant'] }])).toBeUndefined();
  expect(test([], [{ label: ['tenant'], port: [80] }])).toBeTypeOf('function');
  expect(test([{ interface: ['tun0'] }, { interface: ['tap0'] }])).toBeTypeOf('function');
});

test('an overflow record is no flow', () => {
  const overflow = flow({
    event: 4,
    sourceAddress: Buffer.alloc(0),
    destinationAddress: Buffer.alloc(0),
    sourcePort: 0,
    destinationPort: 0,
  });
  for (const filter of [{ port: [0] }, { vlan: [0] }, { direction: [2 as const] }, { tcpFlags: [2] }])
    expect(told([filter], [], overflow)).toBe(false);
  for (const filter of [{ event: [4 as const] }, { interface: ['tap0'] }, {}]) expect(told([filter], [], overflow)).toBe(true);
});

test('agrees with a model', () => {
  const few = <Value>(values: fc.Arbitrary<Value>) =>
    fc.oneof({ weight: 3, arbitrary: fc.constant([]) }, fc.array(values, { maxLength: 2 })) as fc.Arbitrary<Value[]>;
  const prefix = fc.constantFrom('10.0.0.0/8', '0.0.0.0/0', '127.0.0.1', '::/0', '128.0.0.0/1', 'ff00::/8', '::/1', '1.2.10.0/23');
  const someFilter = fc.record({
    ip: few(prefix),
    sourceIp: few(prefix),
    destinationIp: few(prefix),
    port: few(fc.constantFrom(0, 53, 80)),
    sourcePort: few(fc.constantFrom(0, 53, 80)),
    destinationPort: few(fc.constantFrom(0, 53, 80)),
    protocol: few(fc.constantFrom(0, 1, 6)),
    tcpFlags: few(fc.constantFrom(1, 2, 18)),
    direction: few(fc.constantFrom(1, 2) as fc.Arbitrary<1>),
    ethertype: few(fc.constantFrom(0x800, 0x806, 0x86dd)),
    vlan: few(fc.constantFrom(0, 1)),
    event: few(fc.constantFrom(1, 2, 3, 4) as fc.Arbitrary<1>),
    link: few(fc.constantFrom('a', 'b')),
    label: few(fc.constantFrom('tenant', 'tenant=red', 'other')),
  });
  fc.assert(
    fc.property(fc.array(someFilter, { maxLength: 3 }), fc.array(someFilter, { maxLength: 2 }), someFlow, (allow, deny, one) => {
      const expected = (allow.length === 0 || allow.some((filter) => model(filter, one))) && !deny.some((filter) => model(filter, one));
      expect(told(allow, deny, one)).toBe(expected);
    }),
    { numRuns: 3000 },
  );
});

/** The words of flow_service.proto, one after the other. */
function model(filter: Partial<FlowFilter>, one: Flow): boolean {
  const inside = (bytes: Buffer, text: string) => {
    if (bytes.length === 0) return false;
    const address = ipaddr.fromByteArray([...bytes]);
    const [network, length] = ipaddr.parseCIDR(text.includes('/') ? text : `${text}/32`);
    return address.kind() === network.kind() && address.match(network, length);
  };
  const any = <Value>(values: readonly Value[] | undefined, holds: (value: Value) => boolean) =>
    values === undefined || values.length === 0 || values.some(holds);
  const isFlow = one.event !== 4;
  const ethertype = one.ethernet ? one.ethernet.ethertype : { 0: -1, 4: 0x800, 16: 0x86dd }[one.sourceAddress.length];
  return (
    any(filter.ip, (text) => isFlow && (inside(one.sourceAddress, text) || inside(one.destinationAddress, text))) &&
    any(filter.sourceIp, (text) => isFlow && inside(one.sourceAddress, text)) &&
    any(filter.destinationIp, (text) => isFlow && inside(one.destinationAddress, text)) &&
    any(filter.port, (port) => isFlow && (one.sourcePort === port || one.destinationPort === port)) &&
    any(filter.sourcePort, (port) => isFlow && one.sourcePort === port) &&
    any(filter.destinationPort, (port) => isFlow && one.destinationPort === port) &&
    any(filter.protocol, (number) => isFlow && one.sourceAddress.length > 0 && one.protocol === number) &&
    any(filter.tcpFlags, (bits) => isFlow && [one.tcpFlags, one.reverseTcpFlags].some((flags) => (flags & bits) === bits)) &&
    any(filter.direction, (direction) => isFlow && one.direction === direction) &&
    any(filter.ethertype, (type) => isFlow && ethertype === type) &&
    any(filter.vlan, (vlan) => isFlow && (one.ethernet?.vlan ?? 0) === vlan) &&
    any(filter.event, (event) => one.event === event) &&
    any(filter.link, (link) => isFlow && one.link === link) &&
    any(filter.label, (label) => label === 'tenant')
  );
}

test('every violation is told at once, under its path', () => {
  const wrong = filters(
    { ip: ['10.0.0.1', 'x', '10.0.0.0/33'], port: [65_536], tcpFlags: [0], macAddress: ['02:00'] },
    { event: [0, 9 as 1], direction: [0], label: ['=x'], interface: [''], vlan: [4095], ethertype: [65_536], protocol: [256] },
  );
  const many = filters({ port: Array.from({ length: 257 }, (_, port) => port) });
  const fieldsOf = (allow: FlowFilter[], deny: FlowFilter[] = []) => {
    try {
      compileFilters(allow, deny);
    } catch (error) {
      return (error as TaplaneError).fields.map(({ field }) => field);
    }
    return [];
  };
  expect(fieldsOf(wrong, many)).toEqual([
    'allow[0].ip[1]',
    'allow[0].ip[2]',
    'allow[0].port[0]',
    'allow[0].tcp_flags[0]',
    'allow[0].mac_address[0]',
    'allow[1].interface[0]',
    'allow[1].label[0]',
    'allow[1].protocol[0]',
    'allow[1].direction[0]',
    'allow[1].event[0]',
    'allow[1].event[1]',
    'allow[1].ethertype[0]',
    'allow[1].vlan[0]',
    'deny[0].port',
  ]);
  const each = Array.from({ length: 65 }, () => FlowFilter.create());
  expect(fieldsOf([], each)).toEqual(['deny']);
  expect(fieldsOf(each.slice(1), filters({ port: [0, 65_535], ip: Array(256).fill('::1') }))).toEqual([]);
  const full = (count: number) => filters(...Array.from({ length: count }, () => ({ ip: Array<string>(256).fill('::1') })));
  expect(fieldsOf(full(16), [])).toEqual([]);
  expect(fieldsOf(full(16), filters({ port: [1] }))).toEqual(['allow']);
});

const canonical = (ipv6: string) => new URL(`http://[${ipv6}]`).hostname;

test('addresses are read as Node reads them', () => {
  const pieces = fc.constantFrom('0', '1', '10', '255', '256', '01', 'ff', 'ffff', '12345', ':', '::', '.', '1.2.3.4', ' ', '%a', '');
  const text = fc.oneof(
    fc.ipV4(),
    fc.ipV6(),
    fc.array(pieces, { maxLength: 9 }).map((parts) => parts.join('')),
  );
  fc.assert(
    fc.property(text, (address) => {
      const bytes = parseAddress(address);
      const zoned = address.includes('%');
      expect(bytes?.length ?? 0).toBe(zoned ? 0 : ({ 0: 0, 4: 4, 6: 16 }[isIP(address)] as number));
      if (bytes?.length === 4) expect(bytes.join('.')).toBe(address);
      // ipaddr.js takes ::1.2.3.4 for ::ffff:1.2.3.4.
      if (bytes?.length === 16)
        expect(
          canonical(
            Buffer.from(bytes)
              .toString('hex')
              .replace(/.{4}(?=.)/g, '$&:'),
          ),
        ).toBe(canonical(address));
    }),
    { numRuns: 5000 },
  );
  for (const no of ['10.0.0.0/', '10.0.0.0/-1', '10.0.0.0/8/8', '::/129', '/8', '10.0.0.0/1e1'])
    expect(parsePrefix(no), no).toBeUndefined();
});

test('patterns match as regular expressions would, without taking for ever', () => {
  const letters = fc.array(fc.constantFrom('a', 'b', '*'), { maxLength: 8 }).map((list) => list.join(''));
  fc.assert(
    fc.property(letters, letters, (pattern, name) => {
      expect(glob(pattern)(name)).toBe(new RegExp(`^${pattern.replaceAll('*', '.*')}$`.replace(/\.\*(\.\*)+/g, '.*')).test(name));
    }),
    { numRuns: 3000 },
  );
  expect(glob('*a'.repeat(200))(`${'a'.repeat(199)}b`)).toBe(false);
});
