// Finds programs on the PATH, without a shell, and tells whether `setpriv` can tie a child's life to ours.

import { execFile } from 'node:child_process';
import { accessSync, constants, statSync } from 'node:fs';
import { delimiter, join } from 'node:path';

/** Absolute path of an executable file of that name, or undefined. sbin is searched too: Debian puts nats-server there. */
export function executable(name: string, path: string | undefined = process.env.PATH): string | undefined {
  const searched = path === process.env.PATH ? `${path ?? ''}${delimiter}/usr/local/sbin${delimiter}/usr/sbin` : path;
  for (const dir of (searched ?? '').split(delimiter)) {
    if (!dir.startsWith('/')) continue;
    const candidate = join(dir, name);
    try {
      accessSync(candidate, constants.X_OK);
      if (statSync(candidate).isFile()) return candidate;
    } catch {
      // Not here; the next directory may have it.
    }
  }
  return undefined;
}

/** Path of a `setpriv` that knows --pdeathsig (util-linux 2.33; busybox has a setpriv that does not). */
export async function supportsParentDeathSignal(path?: string): Promise<string | undefined> {
  const setpriv = executable('setpriv', path);
  if (!setpriv) return undefined;
  return new Promise((resolve) => {
    execFile(setpriv, ['--pdeathsig', 'TERM', '--', setpriv, '--version'], { timeout: 5_000 }, (error) =>
      resolve(error ? undefined : setpriv),
    );
  });
}
