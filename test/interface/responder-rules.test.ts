import { describe, expect, it } from 'vitest';
import { type InterfaceSpec, PacketMirror, ResponderSpec, ResponderSpec_Kind } from '../../src/gen/taplane/v1/interface.ts';
import { prepare } from '../../src/interface/canonical.ts';
import { desire } from '../../src/interface/desired.ts';
import { etagOf } from '../../src/interface/record.ts';
import { RESPONDER_WORDS, responderIdProblem } from '../../src/interface/responder-rules.ts';
import { newRecord, nextRecord } from '../../src/interface/revision.ts';
import { specProblems } from '../../src/interface/spec.ts';
import { mac, responder, strict, tap, tun } from './specs.ts';

const { ICMP_ECHO, ARP, ND, SINK, REFLECT } = ResponderSpec_Kind;
const fieldsOf = (spec: InterfaceSpec): string[] => specProblems(spec, strict, 'spec').map(({ field }) => field.replace(/^spec\./, ''));
const mirror = (fields: Partial<PacketMirror>) => PacketMirror.fromPartial(fields);

describe('responders that may be asked for', () => {
  it.each<[string, InterfaceSpec]>([
    ['none', tun()],
    ['an echo of all addresses on a TUN', tun({ responders: [responder(ICMP_ECHO)] })],
    ['an echo of both families', tun({ responders: [responder(ICMP_ECHO, ['10.0.0.1', 'fd00::/64'])] })],
    ['a sink and a mirror of packets', tun({ responders: [responder(SINK), responder(REFLECT, ['10.0.0.0/8'])] })],
    ['ARP and ND of a TAP', tap({ responders: [responder(ARP, ['10.0.0.0/24']), responder(ND, ['fd00::1'], { macAddress: mac(1) })] })],
    ['everything of a family', tap({ responders: [responder(ARP, ['0.0.0.0/0']), responder(ND, ['::/0'])] })],
    ['256 addresses', tun({ responders: [responder(ICMP_ECHO, manyAddresses(256))] })],
    ['16 of them', tun({ responders: Array.from({ length: 16 }, (_, n) => responder(SINK, [], { id: `sink-${n}` })) })],
    ['an id of 63 bytes', tun({ responders: [responder(SINK, [], { id: 'a'.repeat(63) })] })],
    ['a mirror by default', tun({ packetMirror: mirror({}) })],
    [
      'a mirror at the ends of its ranges',
      tun({ packetMirror: mirror({ filter: 'x'.repeat(2048), snapLength: 65_549, sampling: 0xffffffff }) }),
    ],
  ])('%s', (_, spec) => expect(specProblems(spec, strict)).toEqual([]));
});

describe('responders that are refused, by field', () => {
  it.each<[string, InterfaceSpec, string[]]>([
    ['17 of them', tun({ responders: Array.from({ length: 17 }, (_, n) => responder(SINK, [], { id: `s${n}` })) }), ['responders']],
    ['no id', tun({ responders: [responder(SINK, [], { id: '' })] }), ['responders[0].id']],
    ['an id of 64 bytes', tun({ responders: [responder(SINK, [], { id: 'a'.repeat(64) })] }), ['responders[0].id']],
    ['the same id twice', tun({ responders: [responder(SINK), responder(ICMP_ECHO, [], { id: 'sink' })] }), ['responders[1].id']],
    ['no kind', tun({ responders: [responder(0, [], { id: 'a' })] }), ['responders[0].kind']],
    ['an unknown kind', tun({ responders: [responder(99 as never, [], { id: 'a' })] }), ['responders[0].kind']],
    ['an unrecognized kind', tun({ responders: [responder(-1 as never, [], { id: 'a' })] }), ['responders[0].kind']],
    ['ARP of a TUN', tun({ responders: [responder(ARP, ['10.0.0.1'])] }), ['responders[0].kind']],
    ['ND of a TUN', tun({ responders: [responder(ND, ['fd00::1'])] }), ['responders[0].kind']],
    [
      'ARP and ND for nothing',
      tap({ responders: [responder(ARP), responder(ND)] }),
      ['responders[0].addresses', 'responders[1].addresses'],
    ],
    ['ARP for IPv6', tap({ responders: [responder(ARP, ['10.0.0.1', 'fd00::1'])] }), ['responders[0].addresses[1]']],
    ['ND for IPv4', tap({ responders: [responder(ND, ['10.0.0.1'])] }), ['responders[0].addresses[0]']],
    ['a sink for an address', tun({ responders: [responder(SINK, ['10.0.0.1'])] }), ['responders[0].addresses']],
    ['257 addresses', tun({ responders: [responder(ICMP_ECHO, manyAddresses(257))] }), ['responders[0].addresses']],
    ['junk', tun({ responders: [responder(ICMP_ECHO, ['x', '', '10.0.0.1/33'])] }), [0, 1, 2].map((n) => `responders[0].addresses[${n}]`)],
    ['host bits', tun({ responders: [responder(REFLECT, ['10.0.0.1/24'])] }), ['responders[0].addresses[0]']],
    ['multicast', tap({ responders: [responder(ND, ['ff02::1'])] }), ['responders[0].addresses[0]']],
    ['IPv4 in IPv6', tun({ responders: [responder(ICMP_ECHO, ['::ffff:10.0.0.1'])] }), ['responders[0].addresses[0]']],
    ['the same twice', tun({ responders: [responder(ICMP_ECHO, ['FD00::1', 'fd00:0::1/128'])] }), ['responders[0].addresses[1]']],
    [
      'MAC addresses that are none',
      tap({
        responders: [responder(ARP, ['10.0.0.1'], { macAddress: '01:00:5e:00:00:01' }), responder(ND, ['fd00::1'], { macAddress: 'x' })],
      }),
      ['responders[0].mac_address', 'responders[1].mac_address'],
    ],
    [
      'a MAC address of those that give none',
      tap({ responders: [ICMP_ECHO, SINK, REFLECT].map((kind) => responder(kind, [], { macAddress: mac(1) })) }),
      [0, 1, 2].map((n) => `responders[${n}].mac_address`),
    ],
    ['a filter of 2049 bytes', tun({ packetMirror: mirror({ filter: 'x'.repeat(2049) }) }), ['packet_mirror.filter']],
    ['a filter on two lines', tun({ packetMirror: mirror({ filter: 'udp\nor tcp' }) }), ['packet_mirror.filter']],
    ['a filter beyond ASCII', tun({ packetMirror: mirror({ filter: 'host ü' }) }), ['packet_mirror.filter']],
    ['a filter with NUL and DEL', tun({ packetMirror: mirror({ filter: 'udp\0' }) }), ['packet_mirror.filter']],
    ['a filter with DEL', tun({ packetMirror: mirror({ filter: 'udp\x7f' }) }), ['packet_mirror.filter']],
    ['65550 bytes of a frame', tun({ packetMirror: mirror({ snapLength: 65_550 }) }), ['packet_mirror.snap_length']],
  ])('%s', (_, spec, expected) => expect(fieldsOf(spec)).toEqual(expected));

  it.each(['a', 'icmp-echo', 'z9-', 'a-0'])('the id %j is one', (id) => expect(responderIdProblem(id)).toBeUndefined());
  it.each(['', 'A', '0a', '-a', 'a_b', 'a.b', 'a/b', 'a ', 'ä', 'a\n'])('the id %j is none', (id) =>
    expect(responderIdProblem(id)).toBeDefined(),
  );

  it('are quoted no further than fits a line', () => {
    const [first] = specProblems(tun({ responders: [responder(ICMP_ECHO, ['x'.repeat(100_000)])] }), strict);
    expect(first?.description.length).toBeLessThan(200);
  });
});

describe('a spec with responders and a mirror', () => {
  const plain = tap();
  const full = tap({
    responders: [responder(ND, ['FD00:0::1', 'fd00:0:0:1::/64'], { macAddress: '02:AA:BB:CC:DD:EE' })],
    packetMirror: mirror({ filter: 'udp' }),
  });

  it('is written canonically', () => {
    expect(prepare(full).responders).toEqual([
      ResponderSpec.fromPartial({ id: 'nd', kind: ND, addresses: ['fd00::1/128', 'fd00:0:0:1::/64'], macAddress: '02:aa:bb:cc:dd:ee' }),
    ]);
  });

  it('asks the same of the kernel as without, and is another generation with another etag', () => {
    const context = { name: 'tap0', uid: 'u', owner: undefined, group: undefined, ageSeconds: () => 0 };
    expect(desire(prepare(full), context)).toEqual(desire(prepare(plain), context));
    const first = newRecord('tap0', prepare(plain), {}, 1);
    for (const spec of [full, tap({ packetMirror: mirror({}) }), tap({ responders: [responder(SINK)] })]) {
      const next = nextRecord(first, prepare(spec), {}, 2);
      expect(next.generation).toBe(2);
      expect(etagOf(next)).not.toBe(etagOf(first));
      expect(nextRecord(next, prepare(spec), {}, 3).generation).toBe(2);
    }
  });
});

it('every kind has a word that is a sound id', () => {
  for (const kind of Object.values(ResponderSpec_Kind).filter((value) => value > 0))
    expect(responderIdProblem(RESPONDER_WORDS.get(kind) ?? '')).toBeUndefined();
});

function manyAddresses(count: number): string[] {
  return Array.from({ length: count }, (_, n) => `10.0.${n >> 8}.${n & 255}`);
}
