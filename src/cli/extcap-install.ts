// The script in Wireshark's folder that calls this taplane. Only a script of ours is replaced or removed without being forced.

import { execFileSync } from 'node:child_process';
import { chmod, readFile, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeDirectory } from '../sys/make-directory.ts';
import { UsageError } from './exit-code.ts';
import { message, print } from './output.ts';

const MARK = '# Written by taplane extcap install.';
const BIN = fileURLToPath(new URL('../../bin/taplane', import.meta.url));

/** With `server` the script asks that agent; without, the one of TAPLANE_SERVER, or the usual one. */
export async function install({ directory, force, server }: { directory?: string; force?: boolean; server?: string }): Promise<void> {
  const folder = directory ?? personalFolder();
  const path = join(folder, 'taplane');
  const before = await content(path);
  if (before !== undefined && !before.includes(MARK) && !force)
    throw new UsageError(`install ${path}: a file of this name is there that is not ours; --force replaces it`);
  makeDirectory(folder, 0o755);
  await writeFile(path, script(BIN, server));
  await chmod(path, 0o755);
  print(`${path}\n`);
  message(`${before === undefined ? 'installed' : 'replaced'}: Wireshark and tshark call ${BIN} from now on`);
  if (server === undefined)
    message('it asks the agent of TAPLANE_SERVER, where Wireshark has that, else the usual one; --server names another');
  message('next: tshark -D lists taplane-... for each interface of a running agent; in Wireshark: Capture > Refresh Interfaces');
}

export async function uninstall({ directory }: { directory?: string }): Promise<void> {
  const path = join(directory ?? personalFolder(), 'taplane');
  const before = await content(path);
  if (before === undefined) return message(`nothing to remove: there is no ${path}`);
  if (!before.includes(MARK)) throw new UsageError(`remove ${path}: it is not ours`);
  await rm(path);
  message(`removed ${path}`);
}

/** Wireshark calls it without a sub-command. */
export function script(bin: string, server?: string): string {
  const quoted = (word: string): string => `'${word.replaceAll("'", "'\\''")}'`;
  return `#!/bin/sh\n${MARK}\nexec ${quoted(bin)} ${server === undefined ? '' : `--server ${quoted(server)} `}extcap "$@"\n`;
}

/** From what `tshark -G folders` says; undefined where it says nothing of a folder of the user's own. */
export function personalFolderOf(folders: string): string | undefined {
  const of = (head: RegExp): string | undefined => head.exec(folders)?.[1]?.trim();
  const personal = of(/^Personal Extcap path:\s*(\/.*)$/im);
  if (personal !== undefined) return personal;
  // Before 4.2 it is not listed, and lies beside the preferences.
  const configuration = of(/^Personal configuration:\s*(\/.*)$/im);
  return configuration === undefined ? undefined : join(configuration, 'extcap');
}

function personalFolder(): string {
  let folders = '';
  try {
    folders = execFileSync('tshark', ['-G', 'folders'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    // Not every machine that has Wireshark has tshark.
  }
  return personalFolderOf(folders) ?? join(homedir(), '.local/lib/wireshark/extcap');
}

async function content(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
