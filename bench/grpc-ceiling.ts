// What grpc-js can carry at most: a server that writes ready messages of one size as fast as it may, over a unix socket, to a client that
// counts them. `grpc-ceiling.ts serve PATH SIZE` is the server, a process of its own.

import { rmSync } from 'node:fs';
import { Client, credentials, Server, ServerCredentials, type ServerWritableStream } from '@grpc/grpc-js';

const same = (bytes: Buffer): Buffer => bytes;
const PATH = '/bench.Ceiling/Stream';

export interface Counted {
  messages: number;
  bytes: number;
  seconds: number;
}

/** Reads a stream of raw messages for a time, after a warm-up. */
export async function countMessages(call: NodeJS.EventEmitter & { cancel(): void }, warmUpMs: number, forMs: number): Promise<Counted> {
  let messages = 0;
  let bytes = 0;
  call.on('data', (message: Buffer) => {
    messages++;
    bytes += message.length;
  });
  call.on('error', () => {});
  await new Promise((resolve) => setTimeout(resolve, warmUpMs));
  const before = { messages, bytes, at: performance.now() };
  await new Promise((resolve) => setTimeout(resolve, forMs));
  const counted = { messages: messages - before.messages, bytes: bytes - before.bytes, seconds: (performance.now() - before.at) / 1000 };
  return counted;
}

/** Gbit/s of what was counted. */
export function gigabits({ bytes, seconds }: Counted): number {
  return (bytes * 8) / seconds / 1e9;
}

export function openCeiling(path: string): { call: ReturnType<Client['makeServerStreamRequest']>; close(): void } {
  const client = new Client(`unix:${path}`, credentials.createInsecure(), { 'grpc.default_authority': 'bench' });
  return { call: client.makeServerStreamRequest(PATH, same, same, Buffer.alloc(0)), close: () => client.close() };
}

if (process.argv[2] === 'serve') {
  const [, , , path = '', size = '16384'] = process.argv;
  const message = Buffer.alloc(Number(size), 0x5a);
  const server = new Server();
  const method = {
    path: PATH,
    requestStream: false,
    responseStream: true,
    requestSerialize: same,
    requestDeserialize: same,
    responseSerialize: same,
    responseDeserialize: same,
  };
  server.addService(
    { stream: method },
    {
      stream: (call: ServerWritableStream<Buffer, Buffer>) => {
        const pump = (): void => {
          while (!call.cancelled && call.write(message));
          if (!call.cancelled) call.once('drain', pump);
        };
        pump();
      },
    },
  );
  rmSync(path, { force: true });
  server.bindAsync(`unix:${path}`, ServerCredentials.createInsecure(), (error) => {
    if (error) throw error;
    console.log('ready');
  });
}
