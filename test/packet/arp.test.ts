import { describe, expect, it } from 'vitest';
import { arpReply } from '../../src/packet/arp.ts';
import { PrefixSet } from '../../src/packet/prefix-set.ts';
import { type Answer, answerTo, ethernet, fuzz, hex } from './requests.ts';

const MAC = hex('02aabbccddee');
const ALL = 'ffffffffffff';
const set = new PrefixSet([
  { bytes: hex('0a000002'), length: 32 },
  { bytes: hex('c0000200'), length: 24 },
]);
const everything = new PrefixSet([{ bytes: hex('00000000'), length: 0 }]);
const arp =
  (addresses = set): Answer =>
  (bytes, start, length, out) =>
    arpReply(bytes, start, length, addresses, MAC, out);

const HEADER = '0001 0800 06 04 0001';
const body = (text: string, header = HEADER) => hex(`${header} ${text}`);
const REQUEST = ethernet('0806', body('020000000001 0a000001 000000000000 0a000002'), '', ALL);

describe('a request is replied to', () => {
  it.each<[string, Buffer, string]>([
    [
      'by broadcast',
      REQUEST,
      `020000000001 02aabbccddee 0806
       0001 0800 06 04 0002          # reply
       02aabbccddee 0a000002         # sender: the address asked for
       020000000001 0a000001         # target: who asked`,
    ],
    [
      'by unicast, with what it believes',
      ethernet('0806', body('020000000001 0a000001 02aabbccddee c0000263')),
      '020000000001 02aabbccddee 0806 0001 0800 06 04 0002 02aabbccddee c0000263 020000000001 0a000001',
    ],
    [
      'with padding',
      Buffer.concat([REQUEST, Buffer.alloc(18)]),
      '020000000001 02aabbccddee 0806 0001 0800 06 04 0002 02aabbccddee 0a000002 020000000001 0a000001',
    ],
    [
      'in two VLANs',
      ethernet('0806', body('020000000001 0a000001 000000000000 0a000002'), '88a8 0007 8100 e005', ALL),
      '020000000001 02aabbccddee 88a8 0007 8100 e005 0806 0001 0800 06 04 0002 02aabbccddee 0a000002 020000000001 0a000001',
    ],
    [
      'that probes (RFC 5227)',
      ethernet('0806', body('020000000001 00000000 000000000000 0a000002'), '', ALL),
      '020000000001 02aabbccddee 0806 0001 0800 06 04 0002 02aabbccddee 0a000002 020000000001 00000000',
    ],
    [
      'through a proxy: back to it, for who asked',
      ethernet('0806', body('020000000009 0a000001 000000000000 0a000002'), '', ALL),
      '020000000001 02aabbccddee 0806 0001 0800 06 04 0002 02aabbccddee 0a000002 020000000009 0a000001',
    ],
  ])('%s', (_, request, reply) => expect(answerTo(arp(), request)).toEqual(hex(reply)));
});

describe('no reply', () => {
  const WHO = '020000000001 0a000001 000000000000 0a000002';
  it.each<[string, Buffer]>([
    ['to an announcement', ethernet('0806', body('020000000001 0a000002 000000000000 0a000002'), '', ALL)],
    ['to a reply', ethernet('0806', body(WHO, '0001 0800 06 04 0002'))],
    ['to a reverse request', ethernet('0806', body(WHO, '0001 0800 06 04 0003'))],
    ['for other hardware', ethernet('0806', body(WHO, '0006 0800 06 04 0001'))],
    ['for another protocol', ethernet('0806', body(WHO, '0001 86dd 06 04 0001'))],
    ['for other lengths of MAC', ethernet('0806', body(WHO, '0001 0800 08 04 0001'))],
    ['for other lengths of IP', ethernet('0806', body(WHO, '0001 0800 06 10 0001'))],
    ['for an address that is not its own', ethernet('0806', body('020000000001 0a000001 000000000000 0a000003'), '', ALL)],
    ['for multicast', ethernet('0806', body('020000000001 0a000001 000000000000 e0000001'), '', ALL)],
    ['for broadcast', ethernet('0806', body('020000000001 0a000001 000000000000 ffffffff'), '', ALL)],
    ['for 0.0.0.0', ethernet('0806', body('020000000001 0a000001 000000000000 00000000'), '', ALL)],
    ['to multicast', ethernet('0806', body('020000000001 e0000001 000000000000 0a000002'), '', ALL)],
    ['to broadcast', ethernet('0806', body('020000000001 ffffffff 000000000000 0a000002'), '', ALL)],
    ['to a group as sender', ethernet('0806', body('030000000001 0a000001 000000000000 0a000002'), '', ALL)],
    ['to a group on the link', ethernet('0806', body(WHO), '', ALL, '030000000001')],
    ['to another EtherType', ethernet('0800', body(WHO), '', ALL)],
    ['to a frame that is cut off', REQUEST.subarray(0, -1)],
    ['to a link header only', REQUEST.subarray(0, 14)],
    ['to nothing', Buffer.alloc(0)],
  ])('%s', (what, request) => {
    expect(answerTo(arp(what.startsWith('for an address') ? set : everything), request)).toBeUndefined();
  });

  it('where there is no room', () => {
    expect(answerTo(arp(), REQUEST, 41)).toBeUndefined();
    expect(answerTo(arp(), REQUEST, 42)).toHaveLength(42);
  });
});

it('whatever comes, nothing is thrown, nothing read or written beyond', () => {
  const tagged = ethernet('0806', body('020000000001 0a000001 000000000000 0a000002'), '8100 e005', ALL);
  fuzz(arp(everything), [REQUEST, tagged], 40_000, 'arp');
});
