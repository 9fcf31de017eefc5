// A process that misuses HTTP/2 in every known way, with frames of its own: `node hostile-peer.ts SOCKET CONNECTIONS AT-ONCE`. Prints how many of the
// connections of each kind the server closed.

import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';
import {
  CONTINUATION,
  callHeaders,
  DATA,
  END_HEADERS,
  END_STREAM,
  frame,
  HEADERS,
  literal,
  PING,
  PREFACE,
  RST_STREAM,
  SETTINGS,
  WINDOW_UPDATE,
} from '../harness/http2-frames.ts';

const [path = '', total = '0', atOnce = '1'] = process.argv.slice(2);
/** How long a connection stays when it is done; of one that the server should end, at most. */
const LINGER_MS = 200;
const PATIENCE_MS = 10_000;

const LIST = '/taplane.v1.InterfaceService/ListInterfaces';
const WATCH = '/taplane.v1.InterfaceService/WatchInterfaces';
function message(payload: Buffer, compressed = 0, length = payload.length): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt8(compressed, 0);
  head.writeUInt32BE(length, 1);
  return Buffer.concat([head, payload]);
}

const many = (count: number, one: (index: number) => Buffer) => Buffer.concat(Array.from({ length: count }, (_, index) => one(index)));
const odd = (index: number) => 2 * index + 1;
const bomb = message(gzipSync(Buffer.alloc(16 * 1024 * 1024)), 1);
const dataFrames = (stream: number, bytes: Buffer) =>
  many(Math.ceil(bytes.length / 16_384), (n) => frame(DATA, 0, stream, bytes.subarray(n * 16_384, (n + 1) * 16_384)));

/** What a connection sends; `deaf` ones read nothing of the answers. */
const KINDS: [name: string, deaf: boolean, bytes: () => Buffer][] = [
  [
    'rapid reset',
    false,
    () =>
      many(1500, (n) =>
        Buffer.concat([
          frame(HEADERS, END_HEADERS, odd(n), callHeaders(WATCH)),
          frame(DATA, END_STREAM, odd(n), message(Buffer.alloc(0))),
          frame(RST_STREAM, 0, odd(n), [0, 0, 0, 8]),
        ]),
      ),
  ],
  [
    'continuation flood',
    false,
    () =>
      Buffer.concat([frame(HEADERS, 0, 1, callHeaders(LIST)), many(200, () => frame(CONTINUATION, 0, 1, literal('x', 'y'.repeat(100))))]),
  ],
  [
    'empty continuations',
    false,
    () => Buffer.concat([frame(HEADERS, 0, 1, callHeaders(LIST)), many(5000, () => frame(CONTINUATION, 0, 1))]),
  ],
  ['settings flood', true, () => many(4000, () => frame(SETTINGS, 0, 0, [0, 4, 0, 1, 0, 0]))],
  ['ping flood', true, () => many(4000, () => frame(PING, 0, 0, Buffer.alloc(8)))],
  ['ping flood, heard', false, () => many(8000, () => frame(PING, 0, 0, Buffer.alloc(8)))],
  ['window updates', false, () => many(4000, () => frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 1]))],
  [
    'one byte at a time',
    false,
    () =>
      Buffer.concat([
        frame(HEADERS, END_HEADERS, 1, callHeaders(LIST)),
        frame(DATA, 0, 1, message(Buffer.alloc(0), 0, 1_000_000)),
        many(4000, () => frame(DATA, 0, 1, [0x0a])),
      ]),
  ],
  ['empty data', false, () => Buffer.concat([frame(HEADERS, END_HEADERS, 1, callHeaders(LIST)), many(4000, () => frame(DATA, 0, 1))])],
  [
    'compression bomb',
    false,
    () =>
      many(3, (n) =>
        Buffer.concat([frame(HEADERS, END_HEADERS, odd(n), callHeaders(LIST, ['grpc-encoding', 'gzip'])), dataFrames(odd(n), bomb)]),
      ),
  ],
  [
    'fat headers',
    false,
    () => frame(HEADERS, END_HEADERS, 1, Buffer.concat([callHeaders(LIST), many(100, (n) => literal(`x-${n}`, 'z'.repeat(120)))])),
  ],
  ['slow headers', false, () => frame(HEADERS, 0, 1, callHeaders(LIST))],
  ['silence', true, () => Buffer.alloc(0)],
  ['noise', false, () => Buffer.from(Array.from({ length: 4096 }, (_, n) => (n * 193 + 7) % 256))],
];

/** What the server ends by itself. */
const ENDED = ['rapid reset', 'continuation flood', 'empty continuations', 'one byte at a time', 'noise'];

function once(deaf: boolean, bytes: Buffer, halfOpen: boolean, lingerMs: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ path, allowHalfOpen: true }, () => {
      socket.write(PREFACE);
      socket.write(bytes);
      if (halfOpen) socket.end();
    });
    let closed = false;
    if (deaf) socket.pause();
    else socket.resume();
    socket.on('error', () => (closed = true));
    socket.on('end', () => {
      closed = true;
      socket.destroy();
    });
    const timer = setTimeout(() => socket.destroy(), lingerMs);
    socket.on('close', () => {
      clearTimeout(timer);
      resolve(closed);
    });
  });
}

const made = KINDS.map(([name, deaf, bytes]) => ({ name, deaf, bytes: bytes() }));
const closed: Record<string, number> = {};
let next = 0;
await Promise.all(
  Array.from({ length: Number(atOnce) }, async () => {
    while (next < Number(total)) {
      const index = next++;
      const { name, deaf, bytes } = made[index % made.length] as (typeof made)[number];
      const wasClosed = await once(deaf, bytes, index % 5 === 3, ENDED.includes(name) ? PATIENCE_MS : LINGER_MS);
      closed[name] = (closed[name] ?? 0) + Number(wasClosed);
    }
  }),
);
process.stdout.write(`${JSON.stringify(closed)}\n`);
