// What a container of the chart, or the shipped unit, gives to a process, and nothing else: capabilities, no way to new ones, a root that
// cannot be written, a /dev with one device, system calls of the shipped profile. Answers the words that stand before a command.
//
//   new Child([...confinedBy({ writable: [stateDir, runtimeDir] }), node, 'dist/main.js', 'agent'])

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export const CHART_CAPABILITIES = ['net_admin', 'net_raw'];
/** The shipped profile. */
export const SECCOMP_PROFILE = join(import.meta.dirname, '..', '..', 'deploy', 'seccomp', 'taplane.json');
/** With TAPLANE_CONFINED=1 every agent of a test is started so, with TAPLANE_CONFINED=seccomp under the shipped profile too. */
export const suiteConfinement = confinementOf(process.env['TAPLANE_CONFINED'] ?? '');

function confinementOf(word: string): Partial<Confinement> | undefined {
  return word === '' ? undefined : word === 'seccomp' ? { seccomp: SECCOMP_PROFILE } : {};
}

export interface Confinement {
  /** Folders that stay writable. */
  writable: string[];
  /** Names without `CAP_`, in lower case; default those of the chart. */
  capabilities?: string[];
  /** Default 0. Another user has the capabilities as ambient ones. */
  uid?: number;
  /** A pid namespace of its own, in which it is number 1, and a /proc that shows this one. */
  pidNamespace?: boolean;
  /** A profile as container runtimes read it. */
  seccomp?: string;
  /** A folder that becomes the root, as an image does; `writable` are then folders below it. */
  root?: string;
}

/** $1: folders that stay writable, one a line. Everything else is closed, file system by file system; /proc/sys/net is as it was. */
const CLOSE = `
set -e
mount -t tmpfs -o mode=755 dev /mnt
mkdir /mnt/net
mknod -m 666 /mnt/null c 1 3
mknod -m 666 /mnt/zero c 1 5
mknod -m 666 /mnt/urandom c 1 9
mknod -m 666 /mnt/net/tun c 10 200
writable=$1
isWritable() {
  while read -r folder; do
    case $1 in "$folder" | "$folder"/*) return 0 ;; esac
  done << FOLDERS
$writable
FOLDERS
  return 1
}
printf '%s\\n' "$writable" | while read -r folder; do mount --rbind "$folder" "$folder"; done
root=$2
if [ -n "$root" ]; then
  mount --rbind "$root" "$root"
  mount --rbind /proc "$root/proc"
  mount --rbind /sys "$root/sys"
fi
mount --rbind /mnt "$root/dev"
while read -r _ target type _; do
  case $type in proc | sysfs | nsfs | cgroup*) continue ;; esac
  case $target in /mnt/*) continue ;; esac
  if isWritable "$target"; then continue; fi
  mount -o remount,bind,ro "$target" 2> /dev/null || true
done < /proc/self/mounts
shift 2
exec "$@"
`;

/** Words to put before a command. Needs root. */
export function confinedBy(confinement: Confinement): string[] {
  const { writable, capabilities = CHART_CAPABILITIES, uid = 0, pidNamespace = false, seccomp, root = '' } = confinement;
  const only = ['-all', ...capabilities.map((name) => `+${name}`)].join(',');
  const ambient = uid === 0 ? '-all' : only;
  const user = uid === 0 ? [] : ['--reuid', String(uid), '--regid', String(uid), '--clear-groups'];
  const inheritable = uid === 0 ? '-all' : only;
  const confine = (mask: string): string[] => [PYTHON, join(import.meta.dirname, 'confine.py'), seccomp ?? '', root, mask];
  return [
    'unshare',
    ...['--mount', '--propagation', 'slave'],
    ...(pidNamespace ? ['--pid', '--fork', '--kill-child', '--mount-proc'] : []),
    ...['sh', '-c', CLOSE, 'sh', writable.join('\n'), root],
    // What comes after the change of the root has nothing of this machine.
    ...(root === ''
      ? ['setpriv', ...user, '--bounding-set', only, '--inh-caps', inheritable, '--ambient-caps', ambient, '--no-new-privs']
      : confine(maskOf(capabilities))),
    ...(root === '' && seccomp !== undefined ? confine('') : []),
  ];
}

/** linux/capability.h */
const NUMBERS: Record<string, number> = { net_admin: 12, net_raw: 13, sys_admin: 21 };

function maskOf(capabilities: string[]): string {
  return capabilities.reduce((mask, name) => mask | (1 << (NUMBERS[name] ?? 0)), 0).toString(16);
}

const PYTHON = '/usr/bin/python3';

/** What the kernel says of every thread of a process, by the words of /proc/PID/status; a thread that differs from the others makes a second entry. */
export function rightsOf(pid: number): Record<string, string>[] {
  const words = ['CapInh', 'CapPrm', 'CapEff', 'CapBnd', 'CapAmb', 'NoNewPrivs', 'Seccomp', 'Uid'];
  const seen = new Map<string, Record<string, string>>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const status = readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    const rights = Object.fromEntries(words.map((word) => [word, new RegExp(`^${word}:\\s*(\\S+)`, 'm').exec(status)?.[1] ?? '']));
    seen.set(JSON.stringify(rights), rights);
  }
  return [...seen.values()];
}

/** The process below an `unshare --fork`. */
export function childOf(pid: number): number {
  const child = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ')[0];
  if (!child) throw new Error(`pid ${pid} has no child`);
  return Number(child);
}
