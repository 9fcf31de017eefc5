// Server reflection v1 and v1alpha by @grpc/reflection, loaded with the descriptors when the first client asks: together they
// cost 80 ms at the start. The library is fed the files as buf built them, so that clients see our own files, comments included.

import { readFile } from 'node:fs/promises';
import { BinaryReader } from '@bufbuild/protobuf/wire';
import type { Server, ServerDuplexStream } from '@grpc/grpc-js';
import { TaplaneError } from '../errors.ts';
import { malformed, rawMethod } from './handlers.ts';
import type { ErrorExit } from './status.ts';

/** Made by `buf build -o src/gen/descriptors.binpb`; a FileDescriptorSet with its imports. */
const DESCRIPTORS = new URL('../gen/descriptors.binpb', import.meta.url);

type Respond = (request: Buffer) => Buffer;

interface ReflectionMethod {
  requestDeserialize(bytes: Buffer): unknown;
  responseSerialize(message: unknown): Buffer;
}

/** `allowed` says whether the caller on a connection, as grpc-js names it, may ask. */
export function addReflection(server: Server, exit: ErrorExit, allowed: (peer: string) => boolean): void {
  let loading: Promise<Map<string, Respond>> | undefined;
  for (const version of ['v1', 'v1alpha']) {
    const path = `/grpc.reflection.${version}.ServerReflection/ServerReflectionInfo`;
    const handler = (stream: ServerDuplexStream<Buffer, Buffer>) => {
      if (!allowed(stream.getPeer())) {
        stream.emit('error', exit(disabled(path), path));
        return;
      }
      loading ??= loadResponders();
      loading.then(
        (responders) => answerAll(stream, responders.get(path), path, exit),
        (error: unknown) => stream.emit('error', exit(error, path)),
      );
    };
    server.addService(
      { serverReflectionInfo: rawMethod({ path, requestStream: true, responseStream: true }) },
      { serverReflectionInfo: handler },
    );
  }
}

/** As if it were not there: clients then look for the descriptors elsewhere. */
function disabled(path: string): TaplaneError {
  const cure = 'set `reflection: true` in the configuration of the agent, or ask over its unix socket';
  return new TaplaneError('UNIMPLEMENTED', 'REFLECTION_DISABLED', `call ${path}: the API does not describe itself over TLS`, {
    preconditions: [{ type: 'STATE', subject: 'reflection', description: cure }],
  });
}

/** One answer for each question; a client that does not read its answers is not asked for more questions. */
function answerAll(stream: ServerDuplexStream<Buffer, Buffer>, respond: Respond | undefined, path: string, exit: ErrorExit): void {
  stream.on('data', (request: Buffer) => {
    try {
      if (respond && stream.write(respond(request))) return;
    } catch (cause) {
      stream.emit('error', exit(malformed(path, cause), path));
      return;
    }
    stream.pause();
    stream.once('drain', () => stream.resume());
  });
  stream.on('end', () => stream.end());
}

async function loadResponders(): Promise<Map<string, Respond>> {
  const [{ ReflectionService }, { service: health }, descriptors] = await Promise.all([
    import('@grpc/reflection'),
    import('grpc-health-check'),
    readFile(DESCRIPTORS),
  ]);
  const healthFiles = health['Check']?.requestType.fileDescriptorProtos ?? [];
  const files = { descriptors: { fileDescriptorProtos: [...filesOfSet(descriptors), ...healthFiles] } };
  const responders = new Map<string, Respond>();
  // The library only knows how to add itself to a server; its handler answers each message before it returns.
  const addService = (
    definition: Record<string, { path: string } & ReflectionMethod>,
    implementation: Record<string, (stream: object) => void>,
  ) => {
    for (const [name, method] of Object.entries(definition)) {
      responders.set(method.path, (request) => {
        let answer: unknown;
        let ask: ((message: unknown) => void) | undefined;
        const stream = {
          on(event: string, listener: () => void) {
            if (event === 'data') ask = listener;
          },
          write(message: unknown) {
            answer = message;
          },
        };
        (implementation[name] ?? implementation['ServerReflectionInfo'])?.(stream);
        ask?.(method.requestDeserialize(request));
        return method.responseSerialize(answer);
      });
    }
  };
  const reflection = new ReflectionService(files as unknown as ConstructorParameters<typeof ReflectionService>[0]);
  reflection.addToServer({ addService: addService as unknown as Server['addService'] });
  return responders;
}

/** The encoded files of a FileDescriptorSet (field 1 of descriptor.proto), as they are. */
function filesOfSet(set: Uint8Array): Buffer[] {
  const reader = new BinaryReader(set);
  const files: Buffer[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if (tag === 10) files.push(Buffer.from(reader.bytes()));
    else reader.skip(tag & 7);
  }
  return files;
}
