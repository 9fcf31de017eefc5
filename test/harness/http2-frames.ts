// Frames of HTTP/2 byte by byte, for clients that misuse it.

// RFC 9113 6.
export const DATA = 0;
export const HEADERS = 1;
export const RST_STREAM = 3;
export const SETTINGS = 4;
export const PING = 6;
export const WINDOW_UPDATE = 8;
export const CONTINUATION = 9;
export const END_STREAM = 1;
export const END_HEADERS = 4;

/** RFC 9113 4.1 */
export function frame(type: number, flags: number, stream: number, payload: Buffer | number[] = []): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head.writeUInt8(type, 3);
  head.writeUInt8(flags, 4);
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, Buffer.from(payload)]);
}

/** What a client begins with, its settings included. */
export const PREFACE = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame(SETTINGS, 0, 0)]);

/** A header as RFC 7541 6.2.2 has it: a literal without indexing, not compressed; both texts shorter than 127 bytes. */
export function literal(name: string, value: string): Buffer {
  const text = (word: string) => Buffer.concat([Buffer.from([word.length]), Buffer.from(word)]);
  return Buffer.concat([Buffer.from([0]), text(name), text(value)]);
}

/** The headers of a call of gRPC: POST, http, and these. */
export function callHeaders(path: string, ...more: [name: string, value: string][]): Buffer {
  const fields: [string, string][] = [
    [':path', path],
    [':authority', 'taplane'],
    ['content-type', 'application/grpc'],
    ['te', 'trailers'],
    ...more,
  ];
  return Buffer.concat([Buffer.from([0x83, 0x86]), ...fields.map(([name, value]) => literal(name, value))]);
}
