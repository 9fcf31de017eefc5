import { describe, expect, it } from 'vitest';
import { ResponderSpec_Kind as Kind, ResponderSpec } from '../../src/gen/taplane/v1/interface.ts';
import { InjectRejection_Reason as Rejected } from '../../src/gen/taplane/v1/packet.ts';
import { Responder } from '../../src/lane/responder.ts';
import { random } from '../harness/random.ts';
import { ethernet, hex, icmp, icmpv6, ipv4, ipv6, PEER_V4, PEER_V6 } from '../packet/requests.ts';

const UID = '0192f0c1-0000-7000-8000-000000000009';
/** `printf 'UID responder' | sha256sum` begins with 6db78a9be7d5; the lowest two bits of the first byte become those of a local address. */
const DEFAULT_MAC = hex('6eb78a9be7d5');
const ALL = 'ffffffffffff';

const PING_V4 = ipv4({ protocol: 1, payload: icmp(hex('0800 0000 0001 0001')) });
const PING_V6 = ipv6({ next: 58, payload: icmpv6(hex('8000 0000 0001 0001')) });
const UDP = ipv4({ protocol: 17, payload: hex('9c40 0035 0008 0000') });
const ARP = ethernet('0806', hex('0001 0800 06 04 0001 020000000001 0a000001 000000000000 0a000002'), '', ALL);
const GROUP = 'ff0200000000000000000001ff000002';
const SOLICITATION = ethernet(
  '86dd',
  ipv6({
    next: 58,
    hopLimit: 255,
    destination: GROUP,
    payload: icmpv6(hex(`8700 0000 00000000 ${PEER_V6}`), undefined, GROUP),
  }),
  '',
  '3333ff000002',
);

function made(fields: Partial<ResponderSpec>, { link = false, outcome = (): Rejected => Rejected.UNSPECIFIED } = {}) {
  const sent: Buffer[] = [];
  const write = (bytes: Buffer, start: number, length: number): Rejected => {
    sent.push(Buffer.from(bytes.subarray(start, start + length)));
    return outcome();
  };
  const responder = new Responder(ResponderSpec.create({ id: 'r', ...fields }), { ethernet: link, uid: UID, write });
  const show = (...frames: Buffer[]) => {
    for (const frame of frames) responder.take(Buffer.concat([hex('eeee'), frame, hex('ee')]), 2, frame.length);
    responder.flush();
    return sent;
  };
  const counts = () => {
    const { id, received, answered, failed } = responder.counts();
    return [id, received, answered, failed];
  };
  return { show, counts };
}

describe('each kind answers what is its own, and counts', () => {
  const frames = [PING_V4, PING_V6, UDP];
  const onLink = [...[PING_V4, UDP].map((packet) => ethernet('0800', packet)), ethernet('86dd', PING_V6), ARP, SOLICITATION];
  it.each<[string, Partial<ResponderSpec>, boolean, Buffer[], bigint, number[]]>([
    ['echo', { kind: Kind.ICMP_ECHO }, false, frames, 2n, [28, 48]],
    ['echo on a TAP', { kind: Kind.ICMP_ECHO }, true, onLink, 2n, [42, 62]],
    ['ARP', { kind: Kind.ARP, addresses: ['10.0.0.2'] }, true, onLink, 1n, [42]],
    ['ND', { kind: Kind.ND, addresses: ['fd00::2'] }, true, onLink, 1n, [86]],
    ['a sink', { kind: Kind.SINK }, false, frames, 3n, []],
    ['reflect', { kind: Kind.REFLECT }, false, frames, 3n, [28, 48, 28]],
    ['reflect on a TAP', { kind: Kind.REFLECT }, true, onLink, 3n, [42, 42, 62]],
    ['ARP of a TUN', { kind: Kind.ARP, addresses: ['0.0.0.0/0'] }, false, [ARP.subarray(14), ARP], 0n, []],
    ['ND of a TUN', { kind: Kind.ND, addresses: ['::/0'] }, false, [SOLICITATION.subarray(14), SOLICITATION], 0n, []],
    ['a kind that is not known', { kind: 99 as Kind }, false, frames, 0n, []],
  ])('%s', (_, fields, link, shown, answered, lengths) => {
    const { show, counts } = made(fields, { link });
    expect(show(...shown).map((frame) => frame.length)).toEqual(lengths);
    expect(counts()).toEqual(['r', BigInt(shown.length), answered, 0n]);
  });
});

it('an answer that the kernel does not take is failed, not answered', () => {
  const outcomes = [Rejected.UNSPECIFIED, Rejected.INTERFACE_DOWN, Rejected.NO_DEVICE];
  const { show, counts } = made({ kind: Kind.ICMP_ECHO }, { outcome: () => outcomes.shift() as Rejected });
  expect(show(PING_V4, PING_V4, PING_V4, UDP)).toHaveLength(3);
  expect(counts()).toEqual(['r', 4n, 1n, 2n]);
});

describe('addresses', () => {
  it.each<[string, string[], number]>([
    ['none: all', [], 2],
    ['a host', ['10.0.0.2'], 1],
    ['a prefix', ['10.0.0.0/30', 'fd00::/8'], 2],
    ['in any spelling of IPv6', ['FD00:0::0002/128'], 1],
    ['of others', ['10.0.0.3', 'fd00::/128'], 0],
    [
      'that are none are ignored, and do not mean all',
      ['x', '', '10.2', '10.0.0.0/33', '10.0.0.2/', '10.0.0.2/32/32', '0x0a000002', 'fd00::2%eth0'],
      0,
    ],
    ['that are none do not spoil the others', ['10.0.0.2/-1', 'fd00::2'], 1],
  ])('%s', (_, addresses, answers) => {
    expect(made({ kind: Kind.ICMP_ECHO, addresses }).show(PING_V4, PING_V6)).toHaveLength(answers);
    expect(made({ kind: Kind.REFLECT, addresses }).show(PING_V4, PING_V6)).toHaveLength(answers);
  });

  it('ARP and ND without any answer for nobody', () => {
    expect(made({ kind: Kind.ARP }, { link: true }).show(ARP)).toEqual([]);
    expect(made({ kind: Kind.ND }, { link: true }).show(SOLICITATION)).toEqual([]);
  });
});

describe('the MAC address', () => {
  const given = (macAddress: string, kind: Kind = Kind.ARP) => {
    const [answer] = made({ kind, macAddress, addresses: ['10.0.0.2', 'fd00::2'] }, { link: true }).show(
      kind === Kind.ARP ? ARP : SOLICITATION,
    );
    return answer as Buffer;
  };
  it('is the one of the spec', () => {
    expect(given('02:aa:BB:cc:dd:ee').subarray(6, 12)).toEqual(hex('02aabbccddee'));
    expect(given('02:aa:bb:cc:dd:ee', Kind.ND).subarray(-6)).toEqual(hex('02aabbccddee'));
  });

  it.each(['', 'x', '02:aa:bb:cc:dd', '02-aa-bb-cc-dd-ee'])('else, as for %j, follows from the uid', (text) => {
    expect(given(text).subarray(22, 28)).toEqual(DEFAULT_MAC);
    expect(given(text, Kind.ND).subarray(-6)).toEqual(DEFAULT_MAC);
  });
});

it('answers the longest packets', () => {
  const data = Buffer.from(random('longest').bytes(65_507));
  const request = ethernet(
    '0800',
    ipv4({ protocol: 1, payload: icmp(Buffer.concat([hex('0800 0000 0001 0001'), data])) }),
    '88a8 0001 8100 0002',
  );
  const [reply] = made({ kind: Kind.ICMP_ECHO, addresses: ['10.0.0.2'] }, { link: true }).show(request);
  expect(reply).toHaveLength(65_557);
  expect(reply?.subarray(-65_507).equals(data)).toBe(true);
  const big = ipv6({ next: 58, payload: icmpv6(Buffer.concat([hex('8000 0000 0001 0001'), data.subarray(0, 65_487)])) });
  expect(made({ kind: Kind.REFLECT }).show(big)[0]).toHaveLength(65_535);
});

it('whatever comes, no kind throws, and every frame is counted', () => {
  const dice = random('responders');
  for (const kind of [Kind.ICMP_ECHO, Kind.ARP, Kind.ND, Kind.SINK, Kind.REFLECT]) {
    for (const link of [false, true]) {
      const { show, counts } = made({ kind, addresses: kind === Kind.SINK ? [] : ['0.0.0.0/0', '::/0'] }, { link });
      const frames = Array.from({ length: 500 }, () => Buffer.from(dice.bytes(dice.integer(0, 100))));
      show(...frames, Buffer.alloc(65_549), hex(PEER_V4));
      expect(counts()[1]).toBe(502n);
    }
  }
});
