// "Too big" (RFC 792 type 3 code 4 with RFC 1191's MTU; RFC 4443 type 2): tells the sender of a packet what the path takes. Pure.

/**
 * Writes into `out` the answer to the packet `bytes[start, start + length)` (behind an Ethernet header with `ethernet`, which is turned round),
 * which is larger than `mtu`. `source4` and `source6`, of 4 and 16 bytes, are whom it comes from; undefined: the packet's own destination.
 * Answers its length; 0 for what gets no answer: IPv4 without DF, fragments but the first, ICMP errors, multicast.
 */
export function tooBig(
  bytes: Buffer,
  start: number,
  length: number,
  ethernet: boolean,
  mtu: number,
  source4: Uint8Array | undefined,
  source6: Uint8Array | undefined,
  out: Buffer,
): number {
  throw new Error(`not built yet: ${bytes.length} ${start} ${length} ${ethernet} ${mtu} ${source4} ${source6} ${out.length}`);
}
