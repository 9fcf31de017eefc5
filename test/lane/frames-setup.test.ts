// What the tunnels of frames read before they begin: names of certificates, back-off, MTU, sources.

import { describe, expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { LinkSpec, LinkSpec_Transport as Transport } from '../../src/gen/taplane/v1/link.ts';
import { backOffMs } from '../../src/lane/frames/back-off.ts';
import { bearsName } from '../../src/lane/frames/certificate-name.ts';
import { fixedPart, linkMtu } from '../../src/lane/frames/frames-setup.ts';
import { source6Of } from '../../src/lane/link/outgoing.ts';

it.each([
  ['DNS:a.example, URI:spiffe://x/a, IP Address:192.0.2.1', 'a.example', true],
  ['DNS:a.example, URI:spiffe://x/a', 'A.EXAMPLE', true],
  ['DNS:a.example, URI:spiffe://x/a', 'spiffe://x/a', true],
  ['DNS:a.example, URI:spiffe://x/a', 'spiffe://x/A', false],
  ['DNS:a.example', 'example', false],
  ['DNS:*.example', 'a.example', false],
  ['IP Address:192.0.2.1', '192.0.2.1', false],
  ['email:a.example', 'a.example', false],
  // What one name holds is not another name.
  ['DNS:"x, DNS:a.example"', 'a.example', false],
  ['URI:"spiffe://x, URI:spiffe://y"', 'spiffe://y', false],
  ['URI:"spiffe://x, y", DNS:b', 'spiffe://x, y', true],
  ['URI:"spiffe://x\\", DNS:a.example, URI:\\"', 'a.example', false],
  ['URI:"\\x, DNS:a.example', 'a.example', false],
  ['', 'a.example', false],
  [undefined, 'a.example', false],
])('%s bears %s: %s', (text, name, answer) => {
  expect(bearsName(text, name)).toBe(answer);
});

it('waits twice as long each time, up to 5 s, spread by a fifth', () => {
  expect([1, 2, 3, 4, 5, 6, 7, 8, 1000].map((failures) => backOffMs(failures, 0.5))).toEqual([
    100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000,
  ]);
  expect([backOffMs(1, 0), backOffMs(1, 0.999_999)]).toEqual([80, 120]);
  expect([backOffMs(99, 0), backOffMs(99, 0.999_999)]).toEqual([4000, 5000]);
});

describe('the MTU of a link', () => {
  const udp = LinkSpec.fromPartial({ transport: Transport.UDP });
  it.each([
    ['UDP over IPv4', udp, false, false, 1472],
    ['UDP over IPv6', udp, false, true, 1452],
    ['UDP over IPv4, of a TAP', udp, true, false, 1458],
    ['TCP', LinkSpec.fromPartial({ transport: Transport.TCP }), true, false, 1500],
    ['as asked for', { ...udp, mtu: 9000 }, true, true, 9000],
    ['no more than a frame may have', { ...udp, mtu: 65_535 }, true, true, 65_465],
  ])('%s', (_, spec, ethernet, ipv6, mtu) => expect(linkMtu(spec, ethernet, ipv6)).toBe(mtu));
});

it('answers "too big" over IPv6 from an address of the interface, rather not a link-local one', () => {
  const source = source6Of(['fe80::1/64', '10.0.0.1/24', '2001:db8::1/64']);
  expect(source).toEqual(Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1));
  expect(source6Of(['fe80::1/64'])?.[15]).toBe(1);
  expect(source6Of(['nonsense', '10.0.0.1/24'])).toBeUndefined();
});

it('begins anew for another socket, and not for another MTU', () => {
  const setup = LinkSetup.fromPartial({ uid: 'u', spec: { listen: ':1', mtu: 1400 } });
  const with_ = (spec: Partial<LinkSpec>) => fixedPart({ ...setup, spec: { ...LinkSpec.fromPartial({}), ...setup.spec, ...spec } });
  expect(with_({ mtu: 1300, peers: [] })).toBe(fixedPart(setup));
  for (const spec of [{ listen: ':2' }, { socketMark: 1 }, { bindDevice: 'e0' }, { transport: Transport.TCP }])
    expect(with_(spec)).not.toBe(fixedPart(setup));
});
