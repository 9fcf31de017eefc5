// `taplane agent`: from options to an exit code. 0 after SIGTERM or SIGINT, 1 when the agent did not start or fell, 2 for a bad
// configuration. An unexpected exception ends the process at once: the devices stay, the store is durable, and whoever
// supervises the agent starts it again, which is safer than going on with half a thought.

import { writeFileSync } from 'node:fs';
import { TaplaneError } from '../errors.ts';
import { startTracing } from '../tracing/span.ts';
import { type Agent, startAgent } from './agent.ts';
import { ConfigError } from './config/error.ts';
import { type AgentOptions, type Config, loadConfig, printConfig } from './config.ts';
import { keepMemoryOutOfCoreDumps } from './core-dumps.ts';
import { giveBackMemoryWhenIdle } from './idle-memory.ts';
import { type Log, openLog } from './log.ts';
import { notifier } from './notify.ts';
import { refuseExposedSecrets } from './secrets.ts';
import { agentVersion } from './version.ts';

const LINGER_MS = 500;
const IMPATIENT_MS = 1_000;

/** Resolves with the exit code of the process, when the agent has ended. */
export async function runAgent(options: AgentOptions): Promise<number> {
  let config: Config;
  try {
    config = loadConfig(options);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    process.stderr.write(`taplane: ${error.message}\n`);
    return 2;
  }
  if (options.checkConfig) {
    process.stdout.write(printConfig(config, options.output));
    return 0;
  }

  // What the agent writes is for its user alone; the socket is opened to its group where it is bound.
  process.umask(0o077);
  keepMemoryOutOfCoreDumps();
  nameProcess();
  const log = openLog(config.logLevel);
  dieOnSurprise(log);
  if (await startTracing(agentVersion)) log.info({}, 'spans go to the OpenTelemetry SDK that was loaded');
  // Before the start, so that a signal in the middle of it is not lost and does not leave half an agent.
  const stopSignal = nextSignal();
  let agent: Agent;
  try {
    refuseExposedSecrets(config, options.config ?? process.env.TAPLANE_CONFIG);
    agent = await startAgent(config, log);
  } catch (error) {
    log.error(startFailure(error), 'start failed');
    return 1;
  }
  giveBackMemoryWhenIdle();
  const manager = notifier(log);
  manager.ready();
  const signal = await stopSignal;
  manager.stopping();
  log.info({ signal }, 'stopping');
  const startedAt = performance.now();
  const clean = await agent.stop();
  log.info({ duration_ms: Math.round(performance.now() - startedAt) }, 'stopped');
  const code = clean ? 0 : 1;
  // A dial into a black hole or a part that was left behind may keep the event loop alive; an idle one ends before this fires.
  setTimeout(() => process.exit(code), LINGER_MS).unref();
  return code;
}

/** `taplane` with its arguments where ps shows them, and alone where the kernel has 15 bytes: in its log, in top, for pgrep -x. */
function nameProcess(): void {
  process.title = ['taplane', ...process.argv.slice(2)].join(' ');
  try {
    writeFileSync('/proc/self/comm', 'taplane');
  } catch {
    // Without /proc it is called by the first bytes of the title.
  }
}

/**
 * Resolves with the first signal. Repeated ones are expected and change nothing: the kernel sends PR_SET_PDEATHSIG once for each
 * thread of a dying parent, and npm passes on the Ctrl-C that the terminal has sent as well. Only a second Ctrl-C that comes
 * clearly later is somebody who does not want to wait. The listeners stay, since without one a signal would end the process.
 */
function nextSignal(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let firstAt: number | undefined;
    for (const name of stopSignals()) {
      process.on(name, () => {
        firstAt ??= performance.now();
        if (name === 'SIGINT' && performance.now() - firstAt > IMPATIENT_MS) process.exit(1);
        resolve(name);
      });
    }
  });
}

/** SIGHUP says that the terminal is closed, where there is one; without, that files are to be read again, which policies do. */
function stopSignals(): NodeJS.Signals[] {
  if (process.stderr.isTTY) return ['SIGTERM', 'SIGINT', 'SIGHUP'];
  process.on('SIGHUP', () => {});
  return ['SIGTERM', 'SIGINT'];
}

function dieOnSurprise(log: Log): void {
  const die = (error: unknown) => {
    log.error({ error }, 'unexpected error, ending; devices stay');
    process.exit(1);
  };
  process.once('uncaughtException', die);
  process.once('unhandledRejection', die);
}

/** One clear message: what, why, and the cure where there is one. Bugs, which are anything but a TaplaneError, bring their stack. */
function startFailure(error: unknown): object {
  if (!(error instanceof TaplaneError)) return { error };
  const cure = error.preconditions.map(({ description }) => description).join('; ');
  return { reason: error.reason, error: error.message, ...(cure ? { cure } : {}), details: error.metadata };
}
