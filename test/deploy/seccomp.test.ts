// The shipped seccomp profile as a file: in the form that container runtimes take, without what a takeover would want, with every ioctl of ours.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { SECCOMP_PROFILE } from '../harness/confined.ts';

interface Rule {
  names: string[];
  action: string;
  args?: { index: number; value: number; valueTwo?: number; op: string }[];
  errnoRet?: number;
}
const profile = JSON.parse(readFileSync(SECCOMP_PROFILE, 'utf8')) as { defaultAction: string; defaultErrnoRet: number; syscalls: Rule[] };
const allowed = profile.syscalls.filter(({ action }) => action === 'SCMP_ACT_ALLOW');

test('what is not named is refused with EPERM; keys are those of the OCI runtime specification', () => {
  expect([profile.defaultAction, profile.defaultErrnoRet]).toEqual(['SCMP_ACT_ERRNO', 1]);
  const keys = new Set(profile.syscalls.flatMap((rule) => Object.keys(rule)));
  // `comment` is passed over; `includes` would be too, and the rule would then hold always.
  expect([...keys].sort()).toEqual(['action', 'args', 'comment', 'errnoRet', 'names']);
});

test('nothing that a takeover would want', () => {
  const wanted =
    /^(mount|umount2?|move_mount|open_tree|fs\w+|unshare|pivot_root|chroot|ptrace|process_\w+|bpf|perf_event_open|keyctl|add_key|request_key|kexec\w*|(init|finit|delete)_module|userfaultfd|io_uring\w*|memfd_create|execveat|name_to_handle_at|open_by_handle_at|reboot|swapon|sethostname|iopl|ioperm|mknod(at)?|set(re|res|fs)?[ug]id|setgroups|capset|seccomp|acct|quotactl|syslog|(clock_)?settime\w*|adjtimex|modify_ldt)$/;
  expect(
    allowed.flatMap(({ names }) => names).filter((name) => wanted.test(name) && name !== 'fstat' && name !== 'fstatfs' && name !== 'fsync'),
  ).toEqual([]);
  // These only with the arguments that are named.
  for (const { names, args = [] } of allowed)
    if (names.some((name) => /^(socket|ioctl|clone|setns|prctl|personality)$/.test(name)))
      expect([names, args.length > 0]).toEqual([names, true]);
});

test('every ioctl of a TUN device that the program knows', () => {
  const source = readFileSync(join(import.meta.dirname, '..', '..', 'src', 'sys', 'tun.ts'), 'utf8');
  const numbers = [...source.matchAll(/^const TUN\w+ = (0x[0-9a-f]+);/gm)].map((match) => Number(match[1]));
  expect(numbers.length).toBeGreaterThan(8);
  const ioctls = allowed.filter(({ names }) => names.includes('ioctl')).map(({ args = [] }) => args[0]?.value);
  expect(numbers.filter((number) => !ioctls.includes(number))).toEqual([]);
});
