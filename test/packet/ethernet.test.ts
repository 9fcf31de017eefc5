import { describe, expect, it } from 'vitest';
import { etherType, isStation, linkHeaderBytes, writeLinkAnswer } from '../../src/packet/ethernet.ts';
import { hex } from './requests.ts';

const ADDRESSES = '020000000002 020000000001';

describe('the link header ends', () => {
  it.each<[string, string, number, number]>([
    ['at once, with nothing behind it', `${ADDRESSES} 0800`, 14, 0x0800],
    ['after a tag', `${ADDRESSES} 8100 0005 86dd`, 18, 0x86dd],
    ['after two', `${ADDRESSES} 88a8 0007 8100 0005 0806 00`, 22, 0x0806],
    ['not after three', `${ADDRESSES} 8100 0007 8100 0005 8100 0006 0800 00`, -1, 0],
    ['not in 13 bytes', `${ADDRESSES} 08`, -1, 0],
    ['not in a tag that is cut off', `${ADDRESSES} 8100 0005 08`, -1, 0],
    ['nowhere in nothing', '', -1, 0],
  ])('%s', (_, text, size, type) => {
    // What stands behind the frame would make it longer.
    const bytes = Buffer.concat([hex('ee'), hex(text), hex('0000000000000000')]);
    expect(linkHeaderBytes(bytes, 1, hex(text).length, true)).toBe(size);
    expect(linkHeaderBytes(bytes, 1, hex(text).length, false)).toBe(0);
    if (size > 0) expect(etherType(bytes, 1, size)).toBe(type);
  });
});

it('the answer goes back in the same VLANs', () => {
  const out = Buffer.alloc(24, 0xa5);
  writeLinkAnswer(hex(`ee ${ADDRESSES} 88a8 0007 8100 0005 0806 00`), 1, 22, out);
  expect(out).toEqual(hex('020000000001 020000000002 88a8 0007 8100 0005 0806 a5a5'));
  writeLinkAnswer(hex('ee'), 0, 0, out);
  expect(out.subarray(0, 6)).toEqual(hex('020000000001'));
});

it('the group bit tells a station', () => {
  expect(['02', '00', 'fe', '03', '01', 'ff'].map((text) => isStation(hex(text), 0))).toEqual([true, true, true, false, false, false]);
});
