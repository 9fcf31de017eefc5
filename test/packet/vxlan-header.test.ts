import { expect, it } from 'vitest';
import { readVxlanHeader, VNI_MOST, writeVxlanHeader } from '../../src/packet/vxlan-header.ts';

const FRAME = '0200000000020200000000010806';

it('is as RFC 7348 has it', () => {
  const bytes = Buffer.alloc(12, 0xee);
  writeVxlanHeader(bytes, 2, 0x123456);
  expect(bytes.toString('hex')).toBe('eeee0800000012345600eeee');
  writeVxlanHeader(bytes, 2, VNI_MOST);
  expect(bytes.toString('hex')).toBe('eeee08000000ffffff00eeee');
});

it('is read by its VNI; reserved bits are ignored', () => {
  const read = (hex: string, vni = 42) => readVxlanHeader(Buffer.from(hex, 'hex'), 0, hex.length / 2, vni);
  expect(read(`0800000000002a00${FRAME}`)).toBeUndefined();
  expect(read(`ffffffff00002aff${FRAME}`)).toBeUndefined();
  expect(read(`0000000000002a00${FRAME}`)).toBe('no-vni');
  expect(read(`f700000000002a00${FRAME}`)).toBe('no-vni');
  expect(read(`0800000000002b00${FRAME}`)).toBe('other-vni');
  expect(read(`0800000001002a00${FRAME}`)).toBe('other-vni');
  expect(read(`0800000000002a00${FRAME.slice(2)}`)).toBe('short');
  expect(read('')).toBe('short');
});

it('is not written where there is no room', () => {
  const bytes = Buffer.alloc(8);
  for (const at of [-1, 1, 8]) writeVxlanHeader(bytes, at, 1);
  expect(bytes).toEqual(Buffer.alloc(8));
});
