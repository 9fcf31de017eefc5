import { describe, expect, it } from 'vitest';
import { attribute, nestedAttribute, stringAttribute, u8Attribute, u32Attribute } from '../../../src/sys/netlink/attribute.ts';
import { deleteLink, dumpLinks, getLink, readLink, setLink } from '../../../src/sys/netlink/link.ts';
import { decode } from '../../../src/sys/netlink/message.ts';
import { captured } from './captured.ts';
import { bytes } from './hex.ts';
import { expectSameRequest } from './same-request.ts';

const HEADER = 16;
const payloadOf = (datagram: Buffer) => decode(datagram)[0]?.payload ?? Buffer.alloc(0);

describe('reading links', () => {
  it('reads the TAP that ip -d link showed', () => {
    expect(readLink(payloadOf(captured.LINK))).toEqual({
      index: 2,
      name: 'tap0',
      flags: 0x1003,
      up: true,
      carrier: false,
      operState: 2,
      mtu: 1400,
      txQueueLength: 77,
      address: bytes('020000000001'),
      alias: 'hello',
      controller: 0,
      kind: 'tun',
      tun: { mode: 'tap', owner: 1000, group: undefined, packetInfo: false, vnetHeader: false, persistent: true, multiQueue: false },
      counters: { rxPackets: 0n, txPackets: 0n, rxBytes: 0n, txBytes: 0n, rxErrors: 0n, txErrors: 0n, rxDropped: 0n, txDropped: 1n },
      carrierChanges: 1,
    });
  });

  it('reads a TUN with every flag, and uid 0 is an owner', () => {
    const data = [
      u8Attribute(3, 1),
      u32Attribute(1, 0),
      u32Attribute(2, 0),
      u8Attribute(4, 1),
      u8Attribute(5, 1),
      u8Attribute(6, 0),
      u8Attribute(7, 1),
    ];
    const info = nestedAttribute(18, [stringAttribute(1, 'tun'), nestedAttribute(2, data)]);
    expect(readLink(Buffer.concat([Buffer.alloc(HEADER), info]))?.tun).toEqual({
      mode: 'tun',
      owner: 0,
      group: 0,
      packetInfo: true,
      vnetHeader: true,
      persistent: false,
      multiQueue: true,
    });
  });

  it('takes tun data of another driver for none of ours', () => {
    const info = nestedAttribute(18, [stringAttribute(1, 'veth'), nestedAttribute(2, [u8Attribute(3, 1)])]);
    expect(readLink(Buffer.concat([Buffer.alloc(HEADER), info]))).toMatchObject({ kind: 'veth', tun: undefined });
  });

  it('does not share the receive buffer', () => {
    const payload = Buffer.from(payloadOf(captured.LINK));
    const link = readLink(payload);
    payload.fill(0xff);
    expect(link?.address).toEqual(bytes('020000000001'));
    expect(link?.name).toBe('tap0');
  });

  it('reads counters whole or not at all, and nothing from a cut header', () => {
    const short = Buffer.concat([Buffer.alloc(HEADER), attribute(23, Buffer.alloc(63))]);
    expect(readLink(short)?.counters).toBeUndefined();
    expect(readLink(Buffer.alloc(HEADER - 1))).toBeUndefined();
  });
});

describe('asking for and changing links', () => {
  it.each([
    [
      'address 02:00:00:00:00:01',
      setLink(2, { address: bytes('020000000001') }),
      '2c000000 1000 0500 f153026b 00000000  00000000 02000000 00000000 00000000  0a00 0100 020000000001 0000',
    ],
    [
      'mtu 1400',
      setLink(2, { mtu: 1400 }),
      '28000000 1000 0500 f053026b 00000000  00000000 02000000 00000000 00000000  0800 0400 78050000',
    ],
    ['up', setLink(2, { up: true }), '20000000 1000 0500 f053026b 00000000  00000000 02000000 01000000 01000000'],
    [
      'txqueuelen 77',
      setLink(2, { txQueueLength: 77 }),
      '28000000 1000 0500 f053026b 00000000  00000000 02000000 00000000 00000000  0800 0d00 4d000000',
    ],
  ])('ip link set dev tap0 %s', (_, request, recorded) => {
    expectSameRequest(request, bytes(recorded), HEADER);
  });

  it('takes a link down by flag and mask, and removes an alias by an empty one', () => {
    expect(setLink(2, { up: false }).payload).toEqual(bytes('00000000 02000000 00000000 01000000'));
    expect(setLink(2, { alias: '' }).payload).toEqual(bytes('00000000 02000000 00000000 00000000  0500 1400 00 000000'));
    expect(setLink(2, { alias: 'hello' }).payload.subarray(HEADER)).toEqual(bytes('0a00 1400 68656c6c6f 00 0000'));
    expect(setLink(2, { controller: 0 }).payload.subarray(HEADER)).toEqual(bytes('0800 0a00 00000000'));
  });

  it('deletes by index, gets by index or name, lists all', () => {
    expectSameRequest(deleteLink(2), bytes('20000000 1100 0500 f153026b 00000000  00000000 02000000 00000000 00000000'), HEADER);
    expect(getLink({ index: 2 })).toEqual({ type: 18, flags: 0, payload: bytes('00000000 02000000 00000000 00000000') });
    expect(getLink({ name: 'tap0' }).payload).toEqual(bytes('00000000 00000000 00000000 00000000  0900 0300 74617030 00 000000'));
    expect(dumpLinks()).toEqual({ type: 18, flags: 0x300, payload: Buffer.alloc(HEADER) });
  });
});
