import { describe, expect, it } from 'vitest';
import { decode } from '../../../src/sys/netlink/message.ts';
import { deleteNeighbour, dumpNeighbours, type LinkNeighbour, readNeighbour, setNeighbour } from '../../../src/sys/netlink/neighbour.ts';
import { captured } from './captured.ts';
import { bytes } from './hex.ts';
import { expectSameRequest } from './same-request.ts';

const HEADER = 12;

const permanent: LinkNeighbour = {
  index: 2,
  family: 2,
  address: bytes('0a000002'),
  hardwareAddress: bytes('020000000002'),
  state: 0x80,
  protocol: 76,
};

describe('neighbours', () => {
  it('are read as ip neigh showed them', () => {
    expect(decode(captured.NEIGHBOURS).flatMap(({ type, payload }) => (type === 28 ? [readNeighbour(payload)] : []))).toEqual([
      permanent,
      {
        ...permanent,
        family: 10,
        address: bytes('ff020000000000000000000000000016'),
        hardwareAddress: bytes('333300000016'),
        state: 0x40,
        protocol: 0,
      },
    ]);
  });

  it.each([
    ['a cut header', '02 000000 02000000 8000 00'],
    ['no address', '02 000000 02000000 8000 00 00'],
    ['an address of another size', '02 000000 02000000 8000 00 00  1400 0100 fd000000000000000000000000000001'],
    [
      'an entry of a forwarding table, which may have an IP address',
      '07 000000 02000000 8000 00 00  0800 0100 0a000002  0a00 0200 020000000002 0000',
    ],
  ])('are not read from %s', (_, text) => {
    expect(readNeighbour(bytes(text))).toBeUndefined();
  });

  it('are set and removed as ip neigh does it', () => {
    // ip neigh replace 10.0.0.2 lladdr 02:00:00:00:00:02 dev tap0 nud permanent protocol 76
    const replace =
      '38000000 1c00 0505 f253026b 00000000  02 000000 02000000 8000 00 00  0500 0c00 4c 000000  0800 0100 0a000002  0a00 0200 020000000002 0000';
    expectSameRequest(setNeighbour(permanent), bytes(replace), HEADER);
    expect(deleteNeighbour(permanent)).toEqual({ type: 29, flags: 4, payload: bytes('02 000000 02000000 0000 00 00  0800 0100 0a000002') });
  });

  it('are listed as ip does it', () => {
    const recorded = '24000000 1e00 0103 f153026b 00000000  00 000000 00000000 0000 00 00  0800 0800 02000000';
    expectSameRequest(dumpNeighbours(2), bytes(recorded), HEADER);
    expect(dumpNeighbours(0).payload).toEqual(Buffer.alloc(HEADER));
  });
});
