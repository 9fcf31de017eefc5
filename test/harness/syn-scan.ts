// A scan for the flow table: SYN packets of which no two are of one flow, written into one buffer, so that millions cost no memory.

import { addresses, ip, link, TUN_WIRE, tcp, type Wire } from './frame-layers.ts';
import { random } from './random.ts';

/** What tells the packets apart: 15 bits of the source port, 16 of the source address. */
const FLOWS_MOST = 2 ** 31;
/** Network for measurements (RFC 2544) that the sources are of. */
const SOURCE_NET = 0xc612;
const LOW_PORT = 0x8000;

/**
 * `count` SYN packets of IPv4, at most 2^31, from 198.18.0.0/16 to port 443 of the node, each with another source address or port; in an
 * order that the seed chooses, the same for the same seed. It gives the same buffer each time, changed: send or copy it before the next.
 */
export function* synScan(count: number, seed: number, wire: Wire = TUN_WIRE): Generator<Buffer, void, void> {
  if (!Number.isInteger(count) || count < 0 || count > FLOWS_MOST) throw new RangeError(`syn scan: ${count} is not within 0 to 2^31`);
  const any = random('syn-scan', seed);
  // Modulo 2^31 an odd factor gives every number once.
  const factor = any.integer(0, 2 ** 30 - 1) * 2 + 1;
  const offset = any.integer(0, FLOWS_MOST - 1);

  const ends = addresses(wire, 'inbound', 4);
  ends.writeUInt16BE(SOURCE_NET, 0);
  ends.writeUInt16BE(0, 2);
  const segment = tcp(ends, [0, 443], { sequence: 1, acknowledgment: 0, flags: 2 });
  const frame = link(wire, 'inbound', 0x0800, ip({ ends, protocol: 6, payload: segment }));
  const ipAt = frame.length - 40;
  const tcpAt = frame.length - 20;
  // Sums of all but what changes: the checksums say what they are.
  const ipSum = ~frame.readUInt16BE(ipAt + 10) & 0xffff;
  const tcpSum = ~frame.readUInt16BE(tcpAt + 16) & 0xffff;
  for (let index = 0; index < count; index++) {
    const number = (Math.imul(index, factor) + offset) & 0x7fffffff;
    const host = number & 0xffff;
    const port = LOW_PORT | (number >>> 16);
    frame.writeUInt16BE(host, ipAt + 14);
    frame.writeUInt16BE(port, tcpAt);
    frame.writeUInt16BE(complement(ipSum + host), ipAt + 10);
    frame.writeUInt16BE(complement(tcpSum + host + port), tcpAt + 16);
    yield frame;
  }
}

/** The checksum of a sum of at most four words. */
function complement(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return ~((once & 0xffff) + (once >>> 16)) & 0xffff;
}
