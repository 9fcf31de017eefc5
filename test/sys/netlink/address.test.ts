import { describe, expect, it } from 'vitest';
import { addAddress, deleteAddress, dumpAddresses, type LinkAddress, readAddress } from '../../../src/sys/netlink/address.ts';
import { attribute } from '../../../src/sys/netlink/attribute.ts';
import { decode } from '../../../src/sys/netlink/message.ts';
import { captured } from './captured.ts';
import { bytes } from './hex.ts';
import { expectSameRequest } from './same-request.ts';

const HEADER = 8;
const FOREVER = 0xffffffff;

const v4: LinkAddress = {
  index: 2,
  family: 2,
  prefixLength: 24,
  scope: 0,
  flags: 0,
  local: bytes('0a000001'),
  peer: undefined,
  validLifetime: FOREVER,
  protocol: 0,
};

describe('reading addresses', () => {
  it('reads those that ip addr showed: with a peer, plain, with a lifetime', () => {
    const permanent = 0x80;
    expect(decode(captured.ADDRESSES).map(({ payload }) => readAddress(payload))).toEqual([
      { ...v4, prefixLength: 32, local: bytes('0a090001'), peer: bytes('0a090002'), flags: permanent },
      { ...v4, flags: permanent },
      { ...v4, family: 10, prefixLength: 64, local: bytes('fd000000000000000000000000000001'), validLifetime: 3600, flags: 0x40 },
    ]);
  });

  it('takes the eight flag bits of the header where there are no more', () => {
    const payload = Buffer.concat([bytes('02 18 01 fd 02000000'), attribute(2, v4.local)]);
    expect(readAddress(payload)).toMatchObject({ flags: 1, scope: 253, local: v4.local, peer: undefined });
  });

  it.each([
    ['a cut header', '02 18 00 00 0200'],
    ['no address', '02 18 00 00 02000000'],
    ['an address of another size', '02 18 00 00 02000000  0700 0200 0a0000 00'],
    ['a peer of another size', '02 18 00 00 02000000  0800 0200 0a000001  0500 0100 0a 000000'],
    ['16 bytes under AF_INET', '02 18 00 00 02000000  1400 0200 fd000000000000000000000000000001'],
    ['another family', '07 18 00 00 02000000  0800 0200 0a000001'],
  ])('does not read %s', (_, text) => {
    expect(readAddress(bytes(text))).toBeUndefined();
  });
});

describe('changing addresses', () => {
  it.each([
    [
      'add 10.0.0.1/24',
      addAddress(v4),
      '28000000 1400 0506 f053026b 00000000  02 18 00 00 02000000  0800 0200 0a000001  0800 0100 0a000001',
    ],
    [
      'add 10.9.0.1 peer 10.9.0.2/32',
      addAddress({ ...v4, prefixLength: 32, local: bytes('0a090001'), peer: bytes('0a090002') }),
      '28000000 1400 0506 f053026b 00000000  02 20 00 00 02000000  0800 0200 0a090001  0800 0100 0a090002',
    ],
    [
      'add fd00::1/64 valid_lft 3600 preferred_lft 3600',
      addAddress({ ...v4, family: 10, prefixLength: 64, local: bytes('fd000000000000000000000000000001'), validLifetime: 3600 }),
      `54000000 1400 0506 f053026b 00000000  0a 40 00 00 02000000
       1400 0200 fd000000000000000000000000000001  1400 0100 fd000000000000000000000000000001
       1400 0600 100e0000 100e0000 00000000 00000000`,
    ],
    [
      'del 10.0.0.1/24',
      deleteAddress(v4),
      '28000000 1500 0500 f053026b 00000000  02 18 00 00 02000000  0800 0200 0a000001  0800 0100 0a000001',
    ],
  ])('ip addr %s dev tap0', (_, request, recorded) => {
    expectSameRequest(request, bytes(recorded), HEADER);
  });

  it('marks who adds, and replaces with the lifetime in any case', () => {
    expect(addAddress({ ...v4, protocol: 76 }).payload.subarray(-8)).toEqual(bytes('0500 0b00 4c 000000'));
    const replaced = addAddress(v4, true);
    expect(replaced.flags).toBe(0x4 | 0x400 | 0x100); // ACK, CREATE, REPLACE and no EXCL
    expect(replaced.payload.subarray(-20)).toEqual(bytes('1400 0600 ffffffff ffffffff 00000000 00000000'));
  });

  it('lists those of one link', () => {
    expect(dumpAddresses(2)).toEqual({ type: 22, flags: 0x300, payload: bytes('00 00 00 00 02000000') });
    expect(dumpAddresses(0, 10).payload).toEqual(bytes('0a 00 00 00 00000000'));
  });
});
