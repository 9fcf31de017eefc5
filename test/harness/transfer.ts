// Bytes over TCP from one namespace to another, compared at the end.

import { createHash } from 'node:crypto';
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Namespace } from './namespace.ts';
import { random } from './random.ts';

let last = 0;

/** Sends `bytes` random bytes to `address` of `to`, where they are read and summed. Throws when they are not the same. Answers the milliseconds. */
export async function transfer(from: Namespace, to: Namespace, address: string, bytes: number): Promise<number> {
  last++;
  const block = Buffer.from(random(`transfer ${last}`).bytes(65_536));
  const content = Buffer.alloc(bytes);
  for (let at = 0; at < bytes; at += block.length) {
    block.writeUInt32LE(at, 0);
    block.copy(content, at);
  }
  const file = join(tmpdir(), `tpl-${process.pid}-transfer-${last}`);
  writeFileSync(file, content);
  const port = 20_000 + (last % 10_000);
  const [family, target] = address.includes(':') ? ['TCP6', `[${address}]`] : ['TCP4', address];
  await using sink = to.spawn(['sh', '-c', `socat -u ${family}-LISTEN:${port},reuseaddr STDOUT | sha256sum`]);
  try {
    const startMs = performance.now();
    const sent = await from.exec(['socat', '-u', `FILE:${file}`, `${family}:${target}:${port},retry=100,interval=0.1`]);
    if (sent.code !== 0) throw new Error(`send to ${target}: ${sent.stderr}`);
    const { stdout } = await sink.ended;
    const took = performance.now() - startMs;
    const wanted = createHash('sha256').update(content).digest('hex');
    if (!stdout.startsWith(wanted)) throw new Error(`${bytes} bytes to ${target}: other bytes came: ${stdout}`);
    return took;
  } finally {
    rmSync(file, { force: true });
  }
}
