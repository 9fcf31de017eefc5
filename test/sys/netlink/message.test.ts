import { describe, expect, it } from 'vitest';
import { decode, encode, readAck } from '../../../src/sys/netlink/message.ts';
import { captured } from './captured.ts';
import { bytes } from './hex.ts';

const ackOf = (datagram: Buffer) => decode(datagram).map(readAck);

describe('messages', () => {
  it('are written as ip writes them', () => {
    // ip link del tap0
    expect(encode({ type: 17, flags: 4, payload: bytes('00000000 02000000 00000000 00000000') }, 0x6b0253f1)).toEqual(
      bytes(`
        20000000                            // length 32
        1100 0500                           // RTM_DELLINK, NLM_F_REQUEST | NLM_F_ACK
        f153026b 00000000                   // sequence, port
        00000000 02000000 00000000 00000000 // struct ifinfomsg: index 2
      `),
    );
  });

  it('are read one after the other from one datagram', () => {
    const messages = decode(captured.NEIGHBOURS);
    expect(messages.map(({ type, flags, sequence, port }) => [type, flags, sequence, port])).toEqual([
      [28, 0x22, 0x6b0253f2, 0x685c],
      [28, 0x22, 0x6b0253f2, 0x685c],
      [3, 0x02, 0x6b0253f2, 0x685c],
    ]);
    expect(messages.map(({ payload }) => payload.length)).toEqual([68, 72, 4]);
  });

  it.each([
    ['a header that is cut', '10000000 0300 0200 01000000', 0],
    ['length 0', '00000000 0300 0200 01000000 00000000', 0],
    ['length 15, less than a header', '0f000000 0300 0200 01000000 00000000', 0],
    ['a length beyond the datagram', '14000000 0300 0200 01000000 00000000', 0],
    ['a length of 4 GiB', 'ffffffff 0300 0200 01000000 00000000', 0],
    ['a good one before a bad one is kept', '10000000 0300 0200 01000000 00000000  00000000 0300 0200 01000000 00000000', 1],
    [
      'a length that is not aligned: the next begins at the pad',
      '11000000 0300 0200 01000000 00000000 aa 000000 10000000 0300 0200 02000000 00000000',
      2,
    ],
  ])('%s', (_, text, count) => {
    expect(decode(bytes(text))).toHaveLength(count);
  });
});

describe('outcomes', () => {
  it('are acks: capped to the header of the request', () => {
    const ack = bytes(`
      24000000 0200 0001 f153026b 64680000 // NLMSG_ERROR, NLM_F_CAPPED
      00000000                             // no error
      20000000 1100 0500 f153026b 00000000 // header of the request
    `);
    expect(ackOf(ack)).toEqual([{ errno: 0, text: '', offset: 0 }]);
  });

  it('are errors that repeat the whole request, then say why', () => {
    expect(ackOf(captured.UNREACHABLE)).toEqual([{ errno: 101, text: 'Nexthop has invalid gateway', offset: 0 }]);
    expect(ackOf(captured.EXISTS)).toEqual([{ errno: 17, text: 'ipv4: Address already assigned', offset: 0 }]);
  });

  it('are errors that repeat the header alone, with the place of the fault', () => {
    const capped = bytes(`
      38000000 0200 0003 01000000 64680000 // NLMSG_ERROR, NLM_F_CAPPED | NLM_F_ACK_TLVS
      eaffffff                             // -EINVAL
      28000000 1000 0500 01000000 00000000 // header of a request of 40 bytes, of which nothing follows
        0c00 0100 62616420 6d747500        // NLMSGERR_ATTR_MSG "bad mtu"
        0800 0200 20000000                 // NLMSGERR_ATTR_OFFS 32
    `);
    expect(ackOf(capped)).toEqual([{ errno: 22, text: 'bad mtu', offset: 32 }]);
  });

  it('of a dump stand in its NLMSG_DONE', () => {
    expect(ackOf(bytes('14000000 0300 0200 01000000 00000000 00000000'))).toEqual([{ errno: 0, text: '', offset: 0 }]);
    expect(ackOf(bytes('14000000 0300 0200 01000000 00000000 f4ffffff'))).toEqual([{ errno: 12, text: '', offset: 0 }]);
    expect(ackOf(bytes('10000000 0300 0200 01000000 00000000'))).toEqual([{ errno: 0, text: '', offset: 0 }]);
    const withWords = bytes(`
      20000000 0300 0202 01000000 00000000 // NLMSG_DONE, NLM_F_MULTI | NLM_F_ACK_TLVS
      eaffffff                             // -EINVAL
        0b00 0100 62616420 697400 00       // NLMSGERR_ATTR_MSG "bad it"
    `);
    expect(ackOf(withWords)).toEqual([{ errno: 22, text: 'bad it', offset: 0 }]);
  });

  it('are EBADMSG when an error message says nothing', () => {
    expect(ackOf(bytes('10000000 0200 0000 01000000 00000000'))[0]?.errno).toBe(74);
    expect(ackOf(bytes('13000000 0200 0000 01000000 00000000 eaffff 00'))[0]?.errno).toBe(74);
  });

  it.each(['ffffff7f', 'ffffffff', '00000080', '00000000', 'fdffff7f'])(
    'survive a repeated request that claims the length %s',
    (length) => {
      const lying = bytes(`28000000 0200 0002 01000000 00000000 eaffffff ${length} 1000 0500 01000000 00000000 00000000`);
      expect(ackOf(lying)).toEqual([{ errno: 22, text: '', offset: 0 }]);
    },
  );
});
