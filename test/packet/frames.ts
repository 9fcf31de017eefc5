// Frames for tests, built by plain arithmetic that shares nothing with src/packet.

/** Checksum of RFC 1071 the plain way. */
export function slowChecksum(bytes: Uint8Array): number {
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 2) sum += (bytes[at] as number) * 256 + (at + 1 < bytes.length ? (bytes[at + 1] as number) : 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return 0xffff - sum;
}

function pseudo(ip: Buffer, protocol: number, l4: Buffer): Buffer {
  const v4 = (ip[0] ?? 0) >> 4 === 4;
  const addresses = v4 ? ip.subarray(12, 20) : ip.subarray(8, 40);
  const rest = Buffer.alloc(8);
  rest.writeUInt32BE(l4.length, 0);
  rest.writeUInt32BE(protocol, 4);
  return Buffer.concat([addresses, rest, l4]);
}

/** 0 when the transport checksum of an IP packet is right. */
export function l4ChecksumError(ip: Buffer, protocol: number, l4At: number): number {
  return slowChecksum(pseudo(ip, protocol, ip.subarray(l4At)));
}

export interface TcpShape {
  version: 4 | 6;
  payload: Buffer;
  sequence?: number;
  flags?: number;
  options?: Buffer;
  identification?: number;
}

/** An IP packet with TCP in which the checksum field holds the sum of the pseudo-header, as the kernel hands it to hardware. */
export function tcpPacket({
  version,
  payload,
  sequence = 1,
  flags = 0x10,
  options = Buffer.alloc(0),
  identification = 7,
}: TcpShape): Buffer {
  const tcp = Buffer.alloc(20 + options.length + payload.length);
  tcp.writeUInt16BE(40_000, 0);
  tcp.writeUInt16BE(443, 2);
  tcp.writeUInt32BE(sequence, 4);
  tcp.writeUInt32BE(99, 8);
  tcp[12] = ((20 + options.length) / 4) << 4;
  tcp[13] = flags;
  tcp.writeUInt16BE(501, 14);
  options.copy(tcp, 20);
  payload.copy(tcp, 20 + options.length);
  return withIp(version, 6, tcp, 16, identification);
}

/** The same with UDP. */
export function udpPacket(version: 4 | 6, payload: Buffer): Buffer {
  const udp = Buffer.alloc(8 + payload.length);
  udp.writeUInt16BE(40_000, 0);
  udp.writeUInt16BE(53, 2);
  udp.writeUInt16BE(Math.min(0xffff, udp.length), 4);
  payload.copy(udp, 8);
  return withIp(version, 17, udp, 6, 7);
}

function withIp(version: 4 | 6, protocol: number, l4: Buffer, field: number, identification: number): Buffer {
  const ip = Buffer.alloc(version === 4 ? 20 : 40);
  if (version === 4) {
    ip[0] = 0x45;
    ip.writeUInt16BE(Math.min(0xffff, 20 + l4.length), 2);
    ip.writeUInt16BE(identification, 4);
    ip[8] = 64;
    ip[9] = protocol;
    Buffer.from([10, 0, 0, 1, 10, 0, 0, 2]).copy(ip, 12);
    ip.writeUInt16BE(slowChecksum(ip), 10);
  } else {
    ip[0] = 0x60;
    ip.writeUInt16BE(Math.min(0xffff, l4.length), 4);
    ip[6] = protocol;
    ip[7] = 64;
    Buffer.from('fd000000000000000000000000000001fd000000000000000000000000000002', 'hex').copy(ip, 8);
  }
  const header = pseudo(ip, protocol, l4);
  l4.writeUInt16BE(~slowChecksum(header.subarray(0, header.length - l4.length)) & 0xffff, field);
  return Buffer.concat([ip, l4]);
}
