// The shipped seccomp profile in force, seen by a program that tries what it forbids. What Taplane itself needs under it is seen in
// test/e2e/external-lane.test.ts, and in the whole suite with TAPLANE_CONFINED=seccomp.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { confinedBy, SECCOMP_PROFILE } from '../harness/confined.ts';
import { run } from '../harness/process.ts';

// Numbers of x86-64 and arm64 (asm/unistd.h).
const TRY = `
import ctypes, errno, json, os, platform, socket
libc = ctypes.CDLL(None, use_errno=True)
at = 0 if platform.machine() == 'x86_64' else 1
NEWUSER, SIGCHLD = 0x10000000, 17
calls = {'ptrace': ((101, 117), 0, 0, 0, 0), 'bpf': ((321, 280), 0, 0, 0), 'mount': ((165, 40), 0, 0, 0, 0, 0), 'unshare': ((272, 97), NEWUSER),
  'clone of a user namespace': ((56, 220), NEWUSER | SIGCHLD, 0, 0, 0, 0), 'keyctl': ((250, 219), 0, 0), 'kexec_load': ((246, 104), 0, 0, 0, 0),
  'init_module': ((175, 105), 0, 0, 0), 'io_uring_setup': ((425, 425), 1, 0), 'memfd_create': ((319, 279), 0, 0), 'userfaultfd': ((323, 282), 0),
  'perf_event_open': ((298, 241), 0, 0, 0, 0, 0), 'setns of a mount namespace': ((308, 268), 0, 0x20000), 'process_vm_readv': ((310, 270), 0, 0, 0, 0, 0, 0),
  'TIOCSTI': ((16, 29), 0, 0x5412, 0), 'clone3': ((435, 435), 0, 0)}
told = {}
for name, ((number, *values)) in calls.items():
    ctypes.set_errno(0)
    told[name] = errno.errorcode.get(ctypes.get_errno() if libc.syscall(number[at], *values) < 0 else 0, 'none')
for name, (family, protocol) in {'AF_ALG': (38, 0), 'AF_VSOCK': (40, 0), 'netlink of audit': (16, 9), 'netlink of routes': (16, 0), 'AF_PACKET': (17, 0)}.items():
    try:
        socket.socket(family, socket.SOCK_SEQPACKET if family == 38 else socket.SOCK_RAW, protocol).close()
        told[name] = 'none'
    except OSError as error:
        told[name] = errno.errorcode[error.errno]
print(json.dumps(told))
`;

test('what a takeover would want is refused with EPERM', async () => {
  const folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  try {
    const confined = confinedBy({ writable: [folder], seccomp: SECCOMP_PROFILE });
    const { stdout, stderr } = await run([...confined, '/usr/bin/python3', '-c', TRY]);
    expect(stderr).toBe('');
    const { clone3, AF_PACKET: packet, 'netlink of routes': routes, ...others } = JSON.parse(stdout) as Record<string, string>;
    // glibc takes it for a kernel that is older, and uses clone.
    expect([clone3, packet, routes]).toEqual(['ENOSYS', 'none', 'none']);
    expect(Object.entries(others).filter(([, errno]) => errno !== 'EPERM')).toEqual([]);
    expect(Object.keys(others).length).toBe(18);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
