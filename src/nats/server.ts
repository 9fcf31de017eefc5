// The embedded NATS server: a `nats-server` of the PATH as a child process, on 127.0.0.1 and a free port, with a password of
// its own and JetStream under `<stateDir>/nats`. Whoever calls holds the lock of the state directory, so one server at most
// belongs to these files.
//
// Life: spawn -> runs -> (dies -> back-off -> spawn)* -> stop. Nothing here throws after `startNatsServer` has returned.
// The kernel ends the server when the agent dies (PR_SET_PDEATHSIG); where that is missing, the next start ends the old one.

import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { executable, supportsParentDeathSignal } from './binary.ts';

/** Fields first, then the message. */
export interface NatsLog {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export interface NatsServer {
  /** Where it listens now; the port changes only when another program took it meanwhile. */
  address(): { server: string; user: string; pass: string };
  /** Holds the address with the login, as a URL, for clients of the agent's own user; written anew at each start of the process. */
  urlFile: string;
  /** Why it does not run, empty while it does. */
  reason(): string;
  /** Resolves when the process is gone and its files of the moment are removed. */
  stop(): Promise<void>;
}

export interface NatsServerOptions {
  stateDir: string;
  log: NatsLog;
  /** Search path for the binary. */
  path?: string;
}

const USER = 'taplane';
/** In the folder `nats` of the state directory. */
const URL_FILE = 'client.url';
const RESTART_MIN_MS = 200;
const RESTART_MAX_MS = 30_000;
/** A server that ran this long is healthy: the back-off starts anew. */
const HEALTHY_MS = 10_000;
const STOP_MS = 4_000;

/** Starts it, or returns why it cannot be. */
export async function startNatsServer(options: NatsServerOptions): Promise<NatsServer | { missing: string }> {
  const binary = executable('nats-server', options.path);
  if (!binary) {
    return { missing: 'no nats-server on the PATH: install it (Debian: apt-get install nats-server), or give --nats URL or --nats off' };
  }
  const { log } = options;
  const dir = join(options.stateDir, 'nats');
  const configFile = join(dir, 'server.conf');
  const pidFile = join(dir, 'server.pid');
  const urlFile = join(dir, URL_FILE);
  const pass = randomBytes(18).toString('base64url');
  const guard = await supportsParentDeathSignal(options.path);
  mkdirSync(join(dir, 'store'), { recursive: true, mode: 0o700 });
  await endStale(pidFile, configFile, log);

  let port = await freePort().catch(() => 0);
  let child: ChildProcess | undefined;
  let reason = 'starting';
  let stopping = false;
  let backoffMs = RESTART_MIN_MS;
  const wake = new AbortController();

  async function runOnce(): Promise<void> {
    port ||= await freePort();
    writeFileSync(configFile, configuration(port, pass, join(dir, 'store')), { mode: 0o600 });
    writeFileSync(urlFile, `nats://${USER}:${pass}@127.0.0.1:${port}\n`, { mode: 0o600 });
    if (stopping) return;
    const argv = [binary as string, '-c', configFile];
    // Its own session, so that Ctrl-C in a terminal reaches the agent alone, which then stops it in order.
    const started = spawn(guard ?? (argv.shift() as string), guard ? ['--pdeathsig', 'TERM', '--', ...argv] : argv, {
      cwd: dir,
      detached: true,
      stdio: ['ignore', 'ignore', 'pipe'],
    });
    child = started;
    const startedAt = performance.now();
    let lastComplaint = '';
    const lines = createInterface({ input: started.stderr as NodeJS.ReadableStream });
    lines.on('line', (line) => {
      if (/\[(ERR|FTL)\]|^nats-server:/.test(line)) lastComplaint = complaint(line);
      log.debug({ line }, 'nats server says');
    });
    const ended = new Promise<string>((resolve) => {
      started.once('error', (error) => resolve(error.message));
      started.once('close', (code, signal) => resolve(signal ? `killed by ${signal}` : `exit code ${code}`));
    });
    if (started.pid !== undefined) {
      writeFileSync(pidFile, `${started.pid}\n`, { mode: 0o600 });
      reason = '';
      log.info({ pid: started.pid, port }, 'nats server started');
    }
    const how = await ended;
    child = undefined;
    if (stopping) return;
    reason = `nats-server ended: ${lastComplaint || how}`;
    const ranMs = performance.now() - startedAt;
    if (ranMs > HEALTHY_MS) backoffMs = RESTART_MIN_MS;
    // It never came up: perhaps somebody took the port between the choice and the bind.
    if (ranMs < 1_000 && /address already in use|listen/i.test(lastComplaint)) port = 0;
    log.warn({ reason, retry_ms: backoffMs }, 'nats server ended');
  }

  async function supervise(): Promise<void> {
    while (!stopping) {
      try {
        await runOnce();
      } catch (error) {
        reason = `nats-server not started: ${(error as Error).message}`;
        log.warn({ reason, retry_ms: backoffMs }, 'nats server not started');
      }
      if (stopping) break;
      await sleep(backoffMs, undefined, { signal: wake.signal }).catch(() => undefined);
      backoffMs = Math.min(backoffMs * 2, RESTART_MAX_MS);
    }
  }
  const supervision = supervise();

  return {
    address: () => ({ server: `127.0.0.1:${port}`, user: USER, pass }),
    urlFile,
    reason: () => reason,
    async stop() {
      stopping = true;
      wake.abort();
      child?.kill('SIGTERM');
      const force = setTimeout(() => child?.kill('SIGKILL'), STOP_MS);
      await supervision;
      clearTimeout(force);
      rmSync(pidFile, { force: true });
      rmSync(configFile, { force: true });
      rmSync(urlFile, { force: true });
    },
  };
}

/** Only keys that nats-server 2.9 knows. Values are ours, but the path is quoted as JSON, which the format accepts. */
function configuration(port: number, pass: string, store: string): string {
  return [
    `listen: "127.0.0.1:${port}"`,
    'server_name: "taplane-embedded"',
    `authorization { user: "${USER}", password: "${pass}" }`,
    `jetstream { store_dir: ${JSON.stringify(store)}, max_memory_store: 64MB, max_file_store: 1GB }`,
    '',
  ].join('\n');
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const probe = createServer();
    probe.once('error', reject);
    probe.listen(0, '127.0.0.1', () => {
      const address = probe.address();
      probe.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}

/** Ends a server that an agent left behind. The pid counts only when its command line names our configuration: pids are reused. */
async function endStale(pidFile: string, configFile: string, log: NatsLog): Promise<void> {
  const pid = Number(readText(pidFile));
  const isOurs = () => Number.isInteger(pid) && pid > 1 && readText(`/proc/${pid}/cmdline`).split('\0').includes(configFile);
  if (!isOurs()) return;
  log.warn({ pid }, 'nats server of an earlier agent found, stopping it');
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    try {
      process.kill(pid, signal);
    } catch {
      return;
    }
    for (let waitedMs = 0; waitedMs < STOP_MS; waitedMs += 50) {
      if (!isOurs()) return;
      await sleep(50);
    }
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** `[812] 2026/01/01 00:00:00.000000 [FTL] Error listening ...` without pid and time. */
function complaint(line: string): string {
  return line
    .replace(/^\[\d+\] \S+ \S+ \[(ERR|FTL)\] /, '')
    .replace(/^nats-server: /, '')
    .slice(0, 300);
}
