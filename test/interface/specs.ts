// Specs of tests: a sound one of each mode, and any sound one by fast-check. Generated text is deliberately not canonical.

import fc from 'fast-check';
import {
  Address,
  InterfaceSpec,
  InterfaceSpec_Mode,
  ResponderSpec,
  ResponderSpec_Kind,
  Route,
} from '../../src/gen/taplane/v1/interface.ts';
import { RESPONDER_WORDS } from '../../src/interface/responder-rules.ts';

export const allowAll = { allowDefaultRoutes: true };
export const strict = { allowDefaultRoutes: false };

export function tun(fields: Partial<InterfaceSpec> = {}): InterfaceSpec {
  return { ...InterfaceSpec.fromPartial({ mode: InterfaceSpec_Mode.TUN }), ...fields };
}

export function tap(fields: Partial<InterfaceSpec> = {}): InterfaceSpec {
  return tun({ mode: InterfaceSpec_Mode.TAP, ...fields });
}

export function address(cidr: string, fields: Partial<Address> = {}): Address {
  return Address.fromPartial({ cidr, ...fields });
}

export function route(destination: string, fields: Partial<Route> = {}): Route {
  return Route.fromPartial({ destination, ...fields });
}

/** Its id is the word of its kind. */
export function responder(kind: ResponderSpec_Kind, addresses: string[] = [], fields: Partial<ResponderSpec> = {}): ResponderSpec {
  return ResponderSpec.fromPartial({ id: RESPONDER_WORDS.get(kind) ?? '', kind, addresses, ...fields });
}

export const mac = (last: number): string => `02:00:00:00:00:${last.toString(16).padStart(2, '0')}`;

const byte = fc.integer({ min: 1, max: 254 });
/** An address in one of a few subnets, IPv6 in capitals and with zeros that RFC 5952 leaves out. */
const anyAddress = fc.oneof(
  fc.tuple(fc.constantFrom(1, 2), byte, fc.constantFrom(16, 24, 32)).map(([net, host, length]) => `10.0.${net}.${host}/${length}`),
  fc
    .tuple(fc.constantFrom('A', 'B'), byte, fc.constantFrom(48, 64))
    .map(([net, host, length]) => `FD00:0:0:${net}::00${host.toString(16).toUpperCase().padStart(2, '0')}/${length}`),
);
/** Some IPv4 addresses have a far end. */
const anyPeer = fc
  .tuple(anyAddress, fc.constantFrom('', '', '10.8.0.1', '10.8.0.2/24'))
  .map(([cidr, peer]) => address(cidr, { peer: cidr.includes(':') ? '' : peer }));
const anyRoute = fc.oneof(
  fc
    .record({
      net: byte,
      metric: fc.nat(2),
      gateway: fc.constantFrom('', '10.0.1.77'),
      mtu: fc.constantFrom(0, 1300),
      table: fc.constantFrom(0, 1000),
    })
    .map(({ net, ...rest }) => route(`10.9.${net}.0/24`, rest)),
  fc
    .record({ net: byte, metric: fc.integer({ min: 1, max: 3 }), gateway: fc.constantFrom('', 'FD00:0:0:A::99') })
    .map(({ net, ...rest }) => route(`2001:DB8:${net.toString(16)}::/48`, rest)),
);

const unique = <T>(items: fc.Arbitrary<T>, key: (item: T) => string) => fc.uniqueArray(items, { maxLength: 5, selector: key });
const host = (cidr: string) => cidr.slice(0, cidr.indexOf('/')).toLowerCase();

/** Any sound spec of a mode. */
export function anySpec(mode: 'tun' | 'tap'): fc.Arbitrary<InterfaceSpec> {
  return fc
    .record({
      up: fc.boolean(),
      mtu: fc.constantFrom(undefined, 1280, 1400, 9000),
      txQueueLength: fc.constantFrom(undefined, 0, 77),
      addresses: unique(anyPeer, ({ cidr }) => host(cidr)),
      routes: unique(anyRoute, (item) => `${item.destination} ${item.table} ${item.metric}`.toLowerCase()),
      neighbours: unique(byte, String).map((hosts) =>
        mode === 'tap' ? hosts.map((last) => ({ address: `10.0.1.${last}`, macAddress: mac(last).toUpperCase() })) : [],
      ),
      sysctls: fc.dictionary(fc.constantFrom('ipv4/forwarding', 'ipv4/rp_filter', 'ipv6/accept_ra'), fc.constantFrom('0', '1', '01', '-0')),
      owner: fc.constantFrom('', '1000'),
      controller: fc.constantFrom('', ...(mode === 'tap' ? ['br0'] : [])),
      macAddress: fc.constantFrom('', ...(mode === 'tap' ? ['02:AA:BB:CC:DD:EE'] : [])),
      responders: fc.constantFrom<ResponderSpec[]>(
        [],
        [responder(ResponderSpec_Kind.ICMP_ECHO, ['10.0.0.1', 'FD00:0::/64'])],
        ...(mode === 'tap' ? [[responder(ResponderSpec_Kind.ARP, ['10.0.0.0/24'], { macAddress: '02:AA:BB:CC:DD:EF' })]] : []),
      ),
      packetMirror: fc.constantFrom(undefined, { filter: 'udp port 53', snapLength: 96, sampling: 2 }),
    })
    .map((fields) => (mode === 'tap' ? tap(fields) : tun(fields)));
}
