// Per-interface settings under /proc/sys/net (ip-sysctl.rst). They are those of the network namespace of the calling thread.

import { type FSWatcher, readFileSync, watch, writeFileSync } from 'node:fs';
import os from 'node:os';
import { SysError } from './sys-error.ts';

/** File of a setting; `key` is `family/name`. The interface name is a path component: the caller has checked it. */
function sysctlPath(interfaceName: string, key: string): string {
  const [family, setting] = key.split('/');
  return `/proc/sys/net/${family}/conf/${interfaceName}/${setting}`;
}

function asSysError(call: string, error: unknown): SysError {
  const code = (error as NodeJS.ErrnoException).code ?? 'EIO';
  return new SysError(call, os.constants.errno[code as keyof typeof os.constants.errno] ?? 5);
}

/** Value of a setting as the kernel prints it; undefined when there is no such setting. Throws SysError. */
export function readSysctl(interfaceName: string, key: string): string | undefined {
  try {
    return readFileSync(sysctlPath(interfaceName, key), 'utf8').trim();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw asSysError(`read ${sysctlPath(interfaceName, key)}`, error);
  }
}

/** Sets a setting. Throws SysError: EROFS where /proc/sys is read-only. */
export function writeSysctl(interfaceName: string, key: string, value: string): void {
  const path = sysctlPath(interfaceName, key);
  try {
    writeFileSync(path, `${value}\n`);
  } catch (error) {
    throw asSysError(`write ${path}`, error);
  }
}

/** Calls `changed` when somebody writes the setting; undefined when it cannot be watched. */
export function watchSysctl(interfaceName: string, key: string, changed: () => void): FSWatcher | undefined {
  try {
    const watcher = watch(sysctlPath(interfaceName, key), { persistent: false }, changed);
    watcher.on('error', () => watcher.close());
    return watcher;
  } catch {
    return undefined;
  }
}
