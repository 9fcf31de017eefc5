// A sender for the benchmarks: UDP datagrams of one size to an address, many in one system call, at a rate or as fast as it goes. Runs as a
// process of its own: `udp-flood.ts ADDRESS SECONDS PAYLOAD PER_SECOND GSO FLOWS`; prints how many datagrams it sent. FLOWS are so many
// ports that it sends to in turn, from 9 on.

import koffi from 'koffi';

const [address = '', seconds = '1', payload = '100', perSecond = '0', gso = '0', flows = '1'] = process.argv.slice(2);
const AF_INET = 2;
const SOCK_DGRAM = 2;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const MESSAGES = 32;
const libc = koffi.load(null);
const socket = libc.func('int socket(int domain, int type, int protocol)');
const connect = libc.func('int connect(int fd, const void *address, uint length)');
const setsockopt = libc.func('int setsockopt(int fd, int level, int name, const void *value, uint length)');
const sendmmsg = libc.func('int sendmmsg(int fd, void *messages, uint count, int flags)');

const size = Number(payload);
const segments = Number(gso) > 0 ? Math.min(Number(gso), Math.floor(65_000 / size)) : 1;
const fd = socket(AF_INET, SOCK_DGRAM, 0);
const to = Buffer.alloc(16);
to.writeUInt16LE(AF_INET, 0);
to.writeUInt16BE(9, 2);
for (const [index, part] of address.split('.').entries()) to[4 + index] = Number(part);
if (connect(fd, to, 16) < 0) throw new Error(`connect: errno ${koffi.errno()}`);
if (segments > 1) {
  const value = Buffer.alloc(4);
  value.writeInt32LE(size);
  if (setsockopt(fd, SOL_UDP, UDP_SEGMENT, value, 4) < 0) throw new Error(`UDP_SEGMENT: errno ${koffi.errno()}`);
}
// What structures point to must stay: one object holds it all.
const blocks = Math.max(1, Math.ceil(Number(flows) / MESSAGES));
const held = {
  bytes: Buffer.alloc(size * segments, 0x5a),
  vector: Buffer.alloc(16),
  names: Buffer.alloc(16 * MESSAGES * blocks),
  messages: Buffer.alloc(64 * MESSAGES * blocks),
};
held.vector.writeBigUInt64LE(BigInt(koffi.address(held.bytes)), 0);
held.vector.writeBigUInt64LE(BigInt(held.bytes.length), 8);
for (let index = 0; index < MESSAGES * blocks; index++) {
  if (Number(flows) > 1) {
    to.copy(held.names, 16 * index);
    held.names.writeUInt16BE(9 + (index % Number(flows)), 16 * index + 2);
    held.messages.writeBigUInt64LE(BigInt(koffi.address(held.names)) + BigInt(16 * index), 64 * index);
    held.messages.writeUInt32LE(16, 64 * index + 8);
  }
  held.messages.writeBigUInt64LE(BigInt(koffi.address(held.vector)), 64 * index + 16);
  held.messages.writeBigUInt64LE(1n, 64 * index + 24);
}
const batch = segments > 1 ? 1 : MESSAGES;
const rate = Number(perSecond);
const begun = performance.now();
const end = begun + Number(seconds) * 1000;
const sleeper = new Int32Array(new SharedArrayBuffer(4));
let sent = 0;
let block = 0;
for (let now = begun; now < end; now = performance.now()) {
  const due = rate === 0 ? Number.POSITIVE_INFINITY : ((now - begun) / 1000) * rate;
  if (sent >= due) {
    Atomics.wait(sleeper, 0, 0, 0.5);
    continue;
  }
  const done = sendmmsg(fd, held.messages.subarray(64 * MESSAGES * block), batch, 0);
  block = (block + 1) % blocks;
  if (done > 0) sent += done * segments;
}
console.log(JSON.stringify({ sent, perSecond: sent / ((performance.now() - begun) / 1000), held: held.bytes.length }));
