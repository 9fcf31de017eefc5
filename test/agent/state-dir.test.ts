import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { lockRuntimeDir } from '../../src/agent/runtime-dir.ts';
import { flockPids, openStateDir, programOf } from '../../src/agent/state-dir.ts';
import type { TaplaneError } from '../../src/errors.ts';

let base: string;
beforeEach(() => {
  base = mkdtempSync(join(tmpdir(), 'taplane-state-'));
});
afterEach(() => rmSync(base, { recursive: true, force: true }));

function refused(path: string): TaplaneError {
  try {
    openStateDir(path).release();
  } catch (error) {
    const refusal = error as TaplaneError;
    expect(refusal.code).toBe('FAILED_PRECONDITION');
    expect(refusal.preconditions[0]?.description.length).toBeGreaterThan(10);
    return refusal;
  }
  throw new Error('was taken');
}

describe('state directory', () => {
  test('is made for us alone, with its parents', () => {
    const path = join(base, 'a', 'b');
    const dir = openStateDir(path);
    expect(statSync(path).mode & 0o777).toBe(0o700);
    dir.release();
    expect(existsSync(path)).toBe(true);
  });

  test('is held by one agent, whose pid is named; free again after release', () => {
    const dir = openStateDir(join(base, 's'));
    const refusal = refused(join(base, 's'));
    expect(refusal.reason).toBe('STATE_DIR_LOCKED');
    expect(refusal.message).toContain(`pid ${process.pid} (`);
    dir.release();
    openStateDir(join(base, 's')).release();
  });

  test('is free after the holder was killed -9', async () => {
    const path = join(base, 's');
    const module = JSON.stringify(join(import.meta.dirname, '../../src/agent/state-dir.ts'));
    const child = spawn(
      process.execPath,
      [
        '--input-type=module',
        '-e',
        `(await import(${module})).openStateDir(${JSON.stringify(path)}); console.log('held'); setInterval(() => {}, 1000)`,
      ],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
    await once(child.stdout as NodeJS.ReadableStream, 'data');
    expect(refused(path).message).toContain(`pid ${child.pid} (`);
    child.kill('SIGKILL');
    await once(child, 'exit');
    openStateDir(path).release();
  });

  test('a child process does not inherit the lock', async () => {
    const dir = openStateDir(join(base, 's'));
    const child = spawn('sleep', ['30']);
    dir.release();
    openStateDir(join(base, 's')).release();
    child.kill();
    await once(child, 'exit');
  });

  test.each([0o770, 0o707, 0o1777])('is refused when others may write to it: %o', (mode) => {
    const path = join(base, 's');
    mkdirSync(path);
    chmodSync(path, mode);
    expect(refused(path).reason).toBe('STATE_DIR_UNSAFE');
  });

  test.skipIf(process.getuid?.() !== 0)('is refused when it belongs to somebody else (needs root)', () => {
    const path = join(base, 's');
    mkdirSync(path, { mode: 0o700 });
    chownSync(path, 65534, 65534);
    expect(refused(path).message).toContain('owned by uid 65534');
  });

  test('a file in its place, or on the way, is refused', () => {
    writeFileSync(join(base, 'file'), '');
    expect(refused(join(base, 'file')).message).toContain('not a directory');
    expect(refused(join(base, 'file', 'below')).reason).toBe('STATE_DIR_UNUSABLE');
  });

  test('a lock that is a symbolic link is not followed', () => {
    const path = join(base, 's');
    mkdirSync(path, { mode: 0o700 });
    symlinkSync(join(base, 'elsewhere'), join(path, 'lock'));
    expect(refused(path).reason).toBe('STATE_DIR_UNUSABLE');
    expect(existsSync(join(base, 'elsewhere'))).toBe(false);
  });

  test.skipIf(process.getuid?.() !== 0)('a read-only file system is named (needs root)', () => {
    const module = JSON.stringify(join(import.meta.dirname, '../../src/agent/state-dir.ts'));
    const script = `import(${module}).then(({ openStateDir }) => openStateDir('${base}/s')).catch((e) => console.log(e.reason, e.preconditions[0].description))`;
    const command = `mount -t tmpfs -o ro none ${base} && exec ${process.execPath} --input-type=module -e "$0"`;
    const { stdout, stderr } = spawnSync('unshare', ['-m', 'sh', '-c', command, script], { encoding: 'utf8' });
    expect(stdout + stderr).toMatch(/STATE_DIR_UNUSABLE .*read-only/);
  });
});

test('a runtime directory where others could put a lane of theirs is refused', () => {
  const path = join(base, 'run');
  lockRuntimeDir(path).release();
  const refusal = (reason: RegExp, cure: RegExp): void => {
    expect(() => lockRuntimeDir(path)).toThrow(
      expect.objectContaining({
        reason: 'RUNTIME_DIR_UNSAFE',
        message: expect.stringMatching(reason),
        preconditions: [expect.objectContaining({ description: expect.stringMatching(cure) })],
      }),
    );
  };
  chmodSync(path, 0o1777);
  refusal(/others may write to it \(mode 1777\)/, /^give a directory of its own with --runtime-dir, such as .*run\/taplane$/);
  chmodSync(path, 0o777);
  refusal(/mode 777/, /chmod 750/);
  chmodSync(path, 0o770);
  if (process.getuid?.() !== 0) return;
  lockRuntimeDir(path).release();
  chownSync(path, 0, 4242);
  refusal(/mode 770/, /chmod 750/);
  chownSync(path, 4242, 0);
  refusal(/owned by uid 4242, the agent runs as uid 0/, /chown 0/);
});

test('lock table', () => {
  const table = `1: POSIX  ADVISORY  WRITE 1 fe:00:77 0 EOF
2: FLOCK  ADVISORY  WRITE 812 fe:00:77 0 EOF
2: -> FLOCK  ADVISORY  WRITE 813 fe:00:77 0 EOF
3: FLOCK  ADVISORY  READ 814 fe:00:77 0 EOF
4: FLOCK  ADVISORY  WRITE 815 fe:00:78 0 EOF
`;
  expect(flockPids(table, 77)).toEqual([812]);
});

test('program of a command line', () => {
  expect(programOf('taplane agent --state-dir /s\0\0')).toBe('taplane agent');
  expect(programOf('/usr/bin/node\0/opt/taplane/dist/main.js\0agent\0')).toBe('taplane agent');
  expect(programOf('/usr/bin/node\0-e\0agent\0')).toBe('node');
  expect(programOf('')).toBe('unknown');
});
