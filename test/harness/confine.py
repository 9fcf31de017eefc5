# Does to a command what a container runtime does right before it starts one: confine.py PROFILE ROOT CAPABILITIES COMMAND...
#   PROFILE       seccomp profile as container runtimes read it (JSON: defaultAction, syscalls), or empty for none. Calls that this kernel or
#                 libseccomp does not know are left out.
#   ROOT          folder that becomes the root, or empty. Nothing in it is needed but the command.
#   CAPABILITIES  with a root: mask in hex of those that are left. Without one they are the caller's business.

import ctypes, errno, json, os, platform, sys
import seccomp

PROFILE, ROOT, CAPABILITIES, *COMMAND = sys.argv[1:]
profile = json.load(open(PROFILE)) if PROFILE else None

def checked(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), what)

# linux/prctl.h, linux/capability.h
PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, VERSION_3 = 23, 24, 38, 0x20080522

def enter(root, mask):
    libc = ctypes.CDLL(None, use_errno=True)
    os.chroot(root)
    os.chdir('/')
    for number in range(64):
        if not mask >> number & 1 and libc.prctl(PR_CAPBSET_READ, number, 0, 0, 0) == 1:
            checked(libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0), 'PR_CAPBSET_DROP')
    head = (ctypes.c_uint32 * 2)(VERSION_3, 0)
    low, high = mask & 0xffffffff, mask >> 32
    checked(libc.capset(head, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)), 'capset')
    checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 'PR_SET_NO_NEW_PRIVS')

if ROOT:
    enter(ROOT, int(CAPABILITIES, 16))
if profile is None:
    os.execv(COMMAND[0], COMMAND)
actions = {
    'SCMP_ACT_ALLOW': seccomp.ALLOW,
    'SCMP_ACT_ERRNO': seccomp.ERRNO(profile.get('defaultErrnoRet', errno.EPERM)),
    'SCMP_ACT_LOG': seccomp.LOG,
}
compare = {'SCMP_CMP_EQ': seccomp.EQ, 'SCMP_CMP_NE': seccomp.NE, 'SCMP_CMP_LE': seccomp.LE, 'SCMP_CMP_GE': seccomp.GE}
architecture = {'x86_64': 'amd64', 'aarch64': 'arm64'}[platform.machine()]

def argument(rule):
    if rule['op'] == 'SCMP_CMP_MASKED_EQ':
        return seccomp.Arg(rule['index'], seccomp.MASKED_EQ, rule['value'], rule.get('valueTwo', 0))
    return seccomp.Arg(rule['index'], compare[rule['op']], rule['value'])

rules = seccomp.SyscallFilter(actions[profile['defaultAction']])
for group in profile['syscalls']:
    arches = group.get('includes', {}).get('arches')
    if arches and architecture not in arches:
        continue
    action = actions[group['action']]
    if 'errnoRet' in group:
        action = seccomp.ERRNO(group['errnoRet'])
    for name in group['names']:
        try:
            number = seccomp.resolve_syscall(seccomp.Arch(), name)
        except ValueError:
            continue
        if number < 0:
            continue
        rules.add_rule(action, number, *map(argument, group.get('args', [])))
rules.load()
os.execvp(COMMAND[0], COMMAND)
