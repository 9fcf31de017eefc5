// The methods of the API as the descriptors have them, read without any of the code under test.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { BinaryReader } from '@bufbuild/protobuf/wire';

const FILE = join(import.meta.dirname, '..', '..', 'src', 'gen', 'descriptors.binpb');

/** `/taplane.v1.NodeService/GetNode`, ... of the package `taplane.v1`. Numbers are those of descriptor.proto. */
export function describedMethods(): string[] {
  return fields(readFileSync(FILE))
    .filter(({ number }) => number === 1)
    .flatMap(({ bytes }) => {
      const file = fields(bytes);
      const name = text(file, 2);
      if (name !== 'taplane.v1') return [];
      return file
        .filter(({ number }) => number === 6)
        .flatMap(({ bytes: service }) =>
          fields(service)
            .filter(({ number }) => number === 2)
            .map(({ bytes: method }) => `/${name}.${text(fields(service), 1)}/${text(fields(method), 1)}`),
        );
    });
}

function fields(message: Uint8Array): { number: number; bytes: Uint8Array }[] {
  const reader = new BinaryReader(message);
  const found: { number: number; bytes: Uint8Array }[] = [];
  while (reader.pos < reader.len) {
    const tag = reader.uint32();
    if ((tag & 7) === 2) found.push({ number: tag >>> 3, bytes: reader.bytes() });
    else reader.skip(tag & 7);
  }
  return found;
}

function text(all: { number: number; bytes: Uint8Array }[], wanted: number): string {
  return Buffer.from(all.find(({ number }) => number === wanted)?.bytes ?? []).toString('utf8');
}
