import { describe, expect, it } from 'vitest';
import { neighbourAdvertisement } from '../../src/packet/neighbour-discovery.ts';
import { PrefixSet } from '../../src/packet/prefix-set.ts';
import { l4ChecksumError } from './frames.ts';
import { type Answer, answerTo, ethernet, fuzz, hex, icmpv6, ipv6, NODE_V6, PEER_MAC, PEER_V6 } from './requests.ts';

const MAC = hex('02aabbccddee');
const GROUP = 'ff0200000000000000000001ff000002';
const GROUP_MAC = '3333ff000002';
const UNSPECIFIED = '00'.repeat(16);
const SOURCE_MAC = '0101 020000000001';
const set = new PrefixSet([{ bytes: hex(PEER_V6), length: 128 }]);
const everything = new PrefixSet([{ bytes: Buffer.alloc(16), length: 0 }]);
const nd =
  (addresses = set): Answer =>
  (bytes, start, length, out) =>
    neighbourAdvertisement(bytes, start, length, addresses, MAC, out);

interface Shape {
  source?: string;
  destination?: string;
  target?: string;
  options?: string;
  hopLimit?: number;
  head?: string;
  mac?: string;
}

function solicitation({
  source = NODE_V6,
  destination = GROUP,
  target = PEER_V6,
  options = SOURCE_MAC,
  hopLimit = 255,
  head = '8700 0000 00000000',
  mac = GROUP_MAC,
}: Shape): Buffer {
  const payload = icmpv6(hex(`${head} ${target} ${options}`), source, destination);
  return ethernet('86dd', ipv6({ next: 58, payload, source, destination, hopLimit }), '', mac);
}

const changed = (frame: Buffer, at: number, value: number) => {
  const copy = Buffer.from(frame);
  copy[at] = value;
  return copy;
};

describe('a solicitation is answered', () => {
  it('that the kernel sends to the group', () => {
    const request = hex(`
      3333ff000002 020000000001 86dd
      60000000 0020 3a ff                                                               # 32 bytes, ICMPv6, hop limit 255
      fe800000000000000000000000000001 ff0200000000000000000001ff000002                 # to the solicited-node group
      87 00 7c17 00000000 fd000000000000000000000000000002                              # solicitation of the target
      01 01 020000000001                                                                # source link-layer address`);
    const answer = hex(`
      020000000001 02aabbccddee 86dd
      60000000 0020 3a ff
      fd000000000000000000000000000002 fe800000000000000000000000000001
      88 00 80b6 60000000 fd000000000000000000000000000002                              # solicited, override
      02 01 02aabbccddee                                                                # target link-layer address`);
    expect(answerTo(nd(), request)).toEqual(answer);
    const tag = hex('8100 e005');
    const tagged = (frame: Buffer) => Buffer.concat([frame.subarray(0, 12), tag, frame.subarray(12)]);
    expect(answerTo(nd(), tagged(request))).toEqual(tagged(answer));
  });

  it('that asks whether the neighbour is still there', () => {
    const request = hex(`
      020000000002 020000000001 86dd 60000000 0018 3a ff
      fd000000000000000000000000000001 fd000000000000000000000000000002
      87 00 81a5 00000000 fd000000000000000000000000000002`);
    const answer = hex(`
      020000000001 02aabbccddee 86dd 60000000 0020 3a ff
      fd000000000000000000000000000002 fd000000000000000000000000000001
      88 00 8236 60000000 fd000000000000000000000000000002
      02 01 02aabbccddee`);
    expect(answerTo(nd(), request)).toEqual(answer);
  });

  it('of duplicate address detection, to all nodes', () => {
    const request = hex(`
      3333ff000002 020000000001 86dd 60000000 0018 3a ff
      00000000000000000000000000000000 ff0200000000000000000001ff000002                 # from nobody yet
      87 00 7da3 00000000 fd000000000000000000000000000002`);
    const answer = hex(`
      333300000001 02aabbccddee 86dd 60000000 0020 3a ff
      fd000000000000000000000000000002 ff020000000000000000000000000001
      88 00 c034 20000000 fd000000000000000000000000000002                              # override only
      02 01 02aabbccddee`);
    expect(answerTo(nd(), request)).toEqual(answer);
  });

  it('with a nonce (RFC 7527), and for any target of the prefix', () => {
    const nonce = solicitation({ source: UNSPECIFIED, options: '0e01 010203040506' });
    expect(answerTo(nd(), nonce)?.subarray(0, 6)).toEqual(hex('333300000001'));
    const other = solicitation({ target: '20010db8000000000000000000abcdef', destination: 'ff0200000000000000000001ffabcdef' });
    const answer = answerTo(nd(everything), other) as Buffer;
    expect(answer.subarray(22, 38)).toEqual(hex('20010db8000000000000000000abcdef'));
    expect(l4ChecksumError(answer.subarray(14), 58, 40)).toBe(0);
  });
});

describe('no answer', () => {
  const payload = icmpv6(hex(`8700 0000 00000000 ${PEER_V6}`), NODE_V6, GROUP);
  const inside = (next: number, extension: string) =>
    ethernet('86dd', ipv6({ next, payload: Buffer.concat([hex(extension), payload]), destination: GROUP, hopLimit: 255 }), '', GROUP_MAC);
  it.each<[string, Buffer]>([
    ['to one that was forwarded', solicitation({ hopLimit: 254 })],
    ['with a wrong checksum', changed(solicitation({}), 57, 1)],
    ['with a code', solicitation({ head: '8701 0000 00000000' })],
    ['to an advertisement', solicitation({ head: '8800 0000 00000000' })],
    ['to an echo request', solicitation({ head: '8000 0000 00000000' })],
    ['to 23 bytes', solicitation({ target: PEER_V6.slice(0, 30), options: '' })],
    ['to 23 bytes, with padding', Buffer.concat([solicitation({ target: PEER_V6.slice(0, 30), options: '' }), hex('02')])],
    ['with an option of no length', solicitation({ options: '0100 020000000001' })],
    ['with an option that is cut off', solicitation({ options: '0102 020000000001' })],
    ['with one byte of an option', solicitation({ options: '01' })],
    ['to detection with a MAC address', solicitation({ source: UNSPECIFIED })],
    ['to detection by unicast', solicitation({ source: UNSPECIFIED, destination: PEER_V6, options: '' })],
    ['for a group', solicitation({ target: GROUP })],
    ['for ::', solicitation({ target: UNSPECIFIED, destination: 'ff0200000000000000000001ff000000' })],
    ['from a group', solicitation({ source: 'ff020000000000000000000000000001' })],
    ['to who asks for itself', solicitation({ source: PEER_V6 })],
    ['to another group', solicitation({ destination: 'ff0200000000000000000001ff000003' })],
    ['to all nodes', solicitation({ destination: 'ff020000000000000000000000000001' })],
    ['to another host', solicitation({ destination: 'fd000000000000000000000000000003' })],
    ['behind a fragment header', inside(44, '3a 00 0000 0000beef')],
    ['behind options', inside(60, '3a 00 0104 00000000')],
    ['from a group on the link', Buffer.concat([hex(`${GROUP_MAC} 030000000001`), solicitation({}).subarray(12)])],
    ['with another EtherType', Buffer.concat([hex(`${PEER_MAC} 020000000001 0800`), solicitation({}).subarray(14)])],
    ['without Ethernet', solicitation({}).subarray(14)],
    ['to one that is cut off', solicitation({}).subarray(0, -1)],
    ['to nothing', Buffer.alloc(0)],
  ])('%s', (_, request) => expect(answerTo(nd(everything), request)).toBeUndefined());

  it('for an address that is not its own, nor where there is no room', () => {
    const other = { target: 'fd000000000000000001000000000002' };
    expect(answerTo(nd(everything), solicitation(other))).toBeDefined();
    expect(answerTo(nd(), solicitation(other))).toBeUndefined();
    expect(answerTo(nd(), solicitation({}), 85)).toBeUndefined();
    expect(answerTo(nd(), solicitation({}), 86)).toHaveLength(86);
  });
});

it('whatever comes, nothing is thrown, nothing read or written beyond', () => {
  const requests = [solicitation({}), solicitation({ source: UNSPECIFIED, options: '' }), solicitation({ destination: PEER_V6 })];
  fuzz(nd(everything), requests, 40_000, 'nd');
});
