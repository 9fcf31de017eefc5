// Compares a request of ours with what iproute2 sent for the same job: type, flags and fixed header must be equal, the attributes
// too, in any order. `ours` names attributes that only we send, as hex.

import { expect } from 'vitest';
import { readAttributes } from '../../../src/sys/netlink/attribute.ts';
import { decode, encode, type Request } from '../../../src/sys/netlink/message.ts';

export function expectSameRequest(request: Request, recorded: Buffer, headerBytes: number, ours: Record<number, string> = {}): void {
  const parts = (datagram: Buffer) => {
    const [message] = decode(datagram);
    if (message === undefined) throw new Error('no message');
    const attributes = [...readAttributes(message.payload, headerBytes)].map(([type, value]): [number, string] => [
      type,
      value.toString('hex'),
    ]);
    return {
      type: message.type,
      flags: message.flags,
      header: message.payload.subarray(0, headerBytes).toString('hex'),
      attributes: Object.fromEntries(attributes),
    };
  };
  const expected = parts(recorded);
  Object.assign(expected.attributes, ours);
  expect(parts(encode(request, 1))).toEqual(expected);
}
