// Writes a support bundle to a file of mode 0600 that was not there before; when it cannot be had whole, nothing stays.

import { type FileHandle, open, rm } from 'node:fs/promises';
import { UsageError } from './exit-code.ts';
import { message, printed } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { byteSize } from './size.ts';

/** Collecting takes longer than an answer. */
const COLLECT_MS = 120_000;

export async function writeBundle(path: string | undefined, settings: Settings): Promise<void> {
  if (path === '-' && process.stdout.isTTY)
    throw new UsageError('standard output is a terminal: give a file with -w, or a pipe such as: taplane support-bundle -w - | tar tz');
  await withClient({ ...settings, timeout: Math.max(settings.timeout, COLLECT_MS) }, async ({ node }) => {
    const stop = AbortSignal.timeout(COLLECT_MS);
    if (path === '-') {
      for await (const { chunk } of node.supportBundle(stop)) await printed(chunk);
      return;
    }
    const file = path ?? `taplane-support-${(await node.getNode()).name.replaceAll(/[^\w.-]/g, '_')}-${stampOf(new Date())}.tar.gz`;
    let handle: FileHandle | undefined;
    let bytes = 0;
    try {
      for await (const { chunk } of node.supportBundle(stop)) {
        // With the first piece: a refusal leaves no empty file.
        handle ??= await create(file);
        await handle.write(chunk);
        bytes += chunk.length;
      }
      if (stop.aborted) throw new Error(`collect support bundle: not there after ${COLLECT_MS / 1000} s`);
      await handle?.close();
    } catch (error) {
      if (handle !== undefined) {
        await handle.close().catch(() => undefined);
        await rm(file, { force: true });
      }
      throw error;
    }
    message(`${file}: ${byteSize(bytes)}; it names interfaces, addresses and peers, but holds no keys`);
  });
}

async function create(file: string): Promise<FileHandle> {
  try {
    return await open(file, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') throw new UsageError(`${file} is there already: give another name with -w`);
    throw new UsageError(`write the bundle to ${file}: ${(error as NodeJS.ErrnoException).code}; give another place with -w`);
  }
}

/** `20260102T030405` */
function stampOf(date: Date): string {
  return date.toISOString().slice(0, 19).replaceAll(/[-:]/g, '');
}
