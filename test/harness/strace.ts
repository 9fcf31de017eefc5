// Faults at an exact system call of a running process, by strace. Both functions return to their caller only once strace has attached
// to every thread, and take strace away again in every case.
//
// Attaching to an agent takes 5 to 30 ms; while attached, every system call of the process is slower, traced or not.

import { Child, endsWithin } from './process.ts';

export interface Trace {
  /** Calls in the order strace saw them, such as `ioctl(18, TUNSETIFF, 0x7ffc...) = 0`. */
  calls: { thread: number; syscall: string; text: string }[];
  /** The most that any one thread made of each call: what `killAt` counts, since strace injects per thread. */
  counts: Record<string, number>;
}

/** Records the calls of `syscalls` (a set for `strace -e trace=`, such as `ioctl,sendto`) that `pid` makes while `during` runs. */
export async function countSyscalls(pid: number, syscalls: string, during: () => Promise<unknown>): Promise<Trace> {
  await using strace = await attach(pid, ['-e', `trace=${syscalls}`]);
  await during();
  await detach(strace);
  return traceOf(strace.stderr);
}

export interface ArmedKill extends AsyncDisposable {
  /** True once the process has died of the fault; false when it has not after `timeoutMs`, or died of something else. */
  fired(timeoutMs?: number): Promise<boolean>;
  /** What was seen so far; the last call is the one that was never made. */
  trace(): Trace;
}

/** Kills `pid` with SIGKILL as one of its threads enters its `n`th call of `syscall`, counted from now; that call is not made. */
export async function killAt(pid: number, syscall: string, n: number): Promise<ArmedKill> {
  const strace = await attach(pid, ['-e', `trace=${syscall}`, '-e', `inject=${syscall}:signal=SIGKILL:when=${n}`]);
  return {
    async fired(timeoutMs = 0) {
      // strace ends with the process that it traces.
      if (!(await endsWithin(strace, timeoutMs))) return false;
      return (
        strace.stderr.includes('+++ killed by SIGKILL +++') && Object.values(traceOf(strace.stderr).counts).some((count) => count >= n)
      );
    },
    trace: () => traceOf(strace.stderr),
    async [Symbol.asyncDispose]() {
      await detach(strace);
    },
  };
}

export interface ArmedFailure extends AsyncDisposable {
  /** Takes the fault away and answers how many calls were made to fail. */
  release(): Promise<number>;
}

/** Makes calls of `syscall` by `pid` fail with `error` (such as ENOSPC); `when` as strace has it: `3` the third, `3+` from then on. */
export async function failAt(pid: number, syscall: string, error: string, when: string): Promise<ArmedFailure> {
  const strace = await attach(pid, ['-e', `trace=${syscall}`, '-e', `inject=${syscall}:error=${error}:when=${when}`]);
  return {
    async release() {
      await detach(strace);
      return strace.stderr.split('\n').filter((line) => line.endsWith('(INJECTED)')).length;
    },
    async [Symbol.asyncDispose]() {
      await detach(strace);
    },
  };
}

/** strace says so when it has attached to every thread. */
async function attach(pid: number, expressions: string[]): Promise<Child> {
  const strace = new Child(['strace', '-f', '-p', String(pid), ...expressions]);
  try {
    await strace.until((child) => new RegExp(`Process ${pid} attached`).test(child.stderr), 'attaching');
  } catch (error) {
    await strace[Symbol.asyncDispose]();
    throw error;
  }
  return strace;
}

/** SIGINT makes strace let go of the process and write out what it has; a killed strace might leave the process stopped. */
async function detach(strace: Child): Promise<void> {
  if (strace.isRunning) strace.kill('SIGINT');
  if (!(await endsWithin(strace, 20_000))) await strace[Symbol.asyncDispose]();
}

const CALL = /^(?:\[pid\s+(\d+)\] )?(?:<\.\.\. )?([a-z_0-9]+)(?:\(| resumed>)/;

/** `[pid N]` stands before a line only while more than one thread is traced. An unfinished call counts when it begins. */
export function traceOf(log: string): Trace {
  const calls: Trace['calls'] = [];
  const counts = new Map<string, number>();
  for (const line of log.split('\n')) {
    const match = CALL.exec(line);
    if (!match || line.includes('<... ')) continue;
    const [, thread = '0', syscall = ''] = match;
    calls.push({ thread: Number(thread), syscall, text: line.replace(/^\[pid\s+\d+\] /, '') });
    const key = `${thread} ${syscall}`;
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  const highest: Record<string, number> = {};
  for (const [key, count] of counts) {
    const syscall = key.slice(key.indexOf(' ') + 1);
    highest[syscall] = Math.max(highest[syscall] ?? 0, count);
  }
  return { calls, counts: highest };
}
