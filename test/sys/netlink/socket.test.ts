// The request socket against a kernel that lies. The wire stands where the system calls are; all above it is the real thing.

import { describe, expect, it } from 'vitest';
import { readAddress } from '../../../src/sys/netlink/address.ts';
import { readLink } from '../../../src/sys/netlink/link.ts';
import { decode } from '../../../src/sys/netlink/message.ts';
import { Netlink, type Wire } from '../../../src/sys/netlink/socket.ts';
import { SysError } from '../../../src/sys/sys-error.ts';
import { bound } from '../../harness/bound.ts';
import { captured } from './captured.ts';

const ERROR = 2;
const DONE = 3;
const NEWLINK = 16;
const NEWADDR = 20;
const MULTI = 0x2;
const INTERRUPTED = 0x10;
const request = { type: 18, flags: 0x300, payload: Buffer.alloc(16) };
const linkBody = decode(captured.LINK)[0]?.payload ?? Buffer.alloc(0);
const addressBody = decode(captured.ADDRESSES)[1]?.payload ?? Buffer.alloc(0);

interface Said {
  datagram: Buffer;
  port: number;
}

function message(type: number, sequence: number, payload: Buffer = Buffer.alloc(4), flags = MULTI): Buffer {
  const bytes = Buffer.alloc(16 + ((payload.length + 3) & ~3));
  bytes.writeUInt32LE(16 + payload.length, 0);
  bytes.writeUInt16LE(type, 4);
  bytes.writeUInt16LE(flags, 6);
  bytes.writeUInt32LE(sequence, 8);
  bytes.set(payload, 16);
  return bytes;
}

function errno(value: number): Buffer {
  const bytes = Buffer.alloc(20);
  bytes.writeInt32LE(-value);
  return bytes;
}

/** A wire whose kernel answers each request with what `answer` makes of its sequence number and of how many came before it. */
function kernel(answer: (sequence: number, before: number) => (Buffer | Said)[] | Generator<Buffer | Said>): Wire & { sent: number } {
  let waiting: Iterator<Buffer | Said> = [].values();
  return {
    sent: 0,
    send(datagram) {
      waiting = answer(datagram.readUInt32LE(8), this.sent)[Symbol.iterator]();
      this.sent += 1;
    },
    receive() {
      const { value, done } = waiting.next();
      if (done === true) return undefined;
      return Buffer.isBuffer(value) ? { datagram: value, port: 0 } : value;
    },
    close() {},
  };
}

function failure(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof SysError) return error.message;
    throw error;
  }
  return 'no error';
}

describe('a request', () => {
  it('ends with its ack, or with the error in the words of the kernel', () => {
    new Netlink(kernel((sequence) => [message(ERROR, sequence, errno(0))])).request('set link', request);
    const words = Buffer.from(captured.UNREACHABLE);
    const refusing = new Netlink(
      kernel((sequence) => {
        words.writeUInt32LE(sequence, 8);
        return [words];
      }),
    );
    expect(failure(() => refusing.request('RTM_NEWROUTE', request))).toBe('RTM_NEWROUTE: ENETUNREACH: Nexthop has invalid gateway');
  });

  it('does not believe another port, nor an answer to an earlier request', () => {
    const netlink = new Netlink(
      kernel((sequence) => [
        { datagram: message(ERROR, sequence, errno(1)), port: 4711 },
        message(ERROR, sequence - 1, errno(12)),
        message(ERROR, sequence, errno(0)),
      ]),
    );
    expect(failure(() => netlink.request('set link', request))).toBe('no error');
    const forged = new Netlink(kernel((sequence) => [{ datagram: message(ERROR, sequence, errno(0)), port: 4711 }]));
    expect(failure(() => forged.request('set link', request))).toBe('set link: ETIMEDOUT: no answer from the kernel');
  });

  it('ends when the kernel is silent, and when it never stops', () => {
    expect(failure(() => new Netlink(kernel(() => [])).request('set link', request))).toContain('ETIMEDOUT');
    const endless = kernel(function* (sequence) {
      for (;;) yield message(NEWLINK, sequence, linkBody);
    });
    const begun = performance.now();
    expect(failure(() => new Netlink(endless).request('set link', request))).toBe('set link: EBADMSG: endless answer');
    expect(performance.now() - begun).toBeLessThan(bound(5_000, 15_000));
  });

  it('for one object is answered by the first that can be read, or fails', () => {
    const found = new Netlink(kernel((sequence) => [message(NEWLINK, sequence, Buffer.alloc(3)), message(NEWLINK, sequence, linkBody)]));
    expect(found.get('read link', request, readLink)).toMatchObject({ name: 'tap0', index: 2 });
    const missing = new Netlink(kernel((sequence) => [message(ERROR, sequence, errno(19))]));
    expect(failure(() => missing.get('read link', request, readLink))).toBe('read link: ENODEV');
    const ackOnly = new Netlink(kernel((sequence) => [message(ERROR, sequence, errno(0))]));
    expect(failure(() => ackOnly.get('read link', request, readLink))).toBe('read link: EBADMSG');
  });
});

describe('a dump', () => {
  it('goes over several datagrams, and leaves out what is broken', () => {
    const netlink = new Netlink(
      kernel((sequence) => [
        Buffer.concat([message(NEWADDR, sequence, addressBody), message(NEWADDR, sequence, Buffer.alloc(2))]),
        message(NEWADDR, sequence, addressBody),
        message(DONE, sequence),
      ]),
    );
    expect(netlink.dump('list', request, readAddress)).toHaveLength(2);
  });

  it('that the kernel calls inconsistent is read again, and what was read is not used', () => {
    const wire = kernel((sequence, before) => {
      const flags = before < 3 ? MULTI | INTERRUPTED : MULTI;
      return [
        message(NEWADDR, sequence, addressBody, flags),
        ...(before < 3 ? [message(NEWADDR, sequence, addressBody)] : []),
        message(DONE, sequence),
      ];
    });
    const netlink = new Netlink(wire);
    let room = 1;
    const one = (payload: Buffer) => (room-- > 0 ? readAddress(payload) : undefined);
    expect(netlink.dump('list', request, one, () => (room = 1))).toHaveLength(1);
    expect(wire.sent).toBe(4);
    expect(netlink.counts).toEqual({ requests: 4, interruptedDumps: 3, errors: 0 });
  });

  it('is read at most ten times, also when only its end is marked', () => {
    const wire = kernel((sequence) => [
      message(NEWADDR, sequence, addressBody),
      message(DONE, sequence, Buffer.alloc(4), MULTI | INTERRUPTED),
    ]);
    expect(failure(() => new Netlink(wire).dump('list', request, readAddress))).toBe(
      'list: EINTR: the table changed during each of 10 reads',
    );
    expect(wire.sent).toBe(10);
  });

  it('fails with an error in its middle or in its end, and the socket works after', () => {
    const netlink = new Netlink(
      kernel((sequence, before) => {
        if (before === 0) return [message(NEWADDR, sequence, addressBody), message(ERROR, sequence, errno(12)), message(DONE, sequence)];
        if (before === 1) return [message(NEWADDR, sequence, addressBody), message(DONE, sequence, errno(22))];
        return [message(DONE, sequence - 1), message(NEWADDR, sequence, addressBody), message(DONE, sequence)];
      }),
    );
    expect(failure(() => netlink.dump('list', request, readAddress))).toBe('list: ENOMEM');
    expect(failure(() => netlink.dump('list', request, readAddress))).toBe('list: EINVAL');
    expect(netlink.dump('list', request, readAddress)).toHaveLength(1);
  });

  it('without an end times out; an endless one is ended', () => {
    expect(
      failure(() => new Netlink(kernel((sequence) => [message(NEWADDR, sequence, addressBody)])).dump('list', request, readAddress)),
    ).toContain('ETIMEDOUT');
    const endless = kernel(function* (sequence) {
      for (;;) yield message(NEWADDR, sequence, addressBody);
    });
    expect(failure(() => new Netlink(endless).dump('list', request, readAddress))).toBe('list: EBADMSG: endless answer');
  });
});
