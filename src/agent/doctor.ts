// The doctor: what keeps an agent from running well on this node, and what to do about each. It changes nothing and needs no
// agent. Each group reads first and judges afterwards, so that every verdict can be seen in a test.

import { executable } from '../nats/binary.ts';
import { ConfigError } from './config/error.ts';
import { natsFiles } from './config/nats.ts';
import { hasTls } from './config/tls.ts';
import { type AgentOptions, type Config, loadConfig } from './config.ts';
import { type Check, fail, pass } from './doctor/check.ts';
import { judgeMtu, nameClash, readDevices } from './doctor/devices.ts';
import { judgeDirectory, readDirectory } from './doctor/directories.ts';
import { judgeKernel, readKernel } from './doctor/kernel.ts';
import { judgeLanes } from './doctor/lanes.ts';
import { judgeLibraries, readLibraries } from './doctor/libraries.ts';
import { judgePlatform, readPlatform } from './doctor/platform.ts';
import { inContainer, judgePrivileges, readPrivileges } from './doctor/privileges.ts';
import { dial, judgeAgent, judgeNats, judgeNatsLogin, readNatsLogin } from './doctor/services.ts';
import { judgeTls } from './doctor/tls.ts';
import { judgeTun, readTun } from './doctor/tun.ts';

export type { Check };
export { nameClash };

/** The agent's own options, so that the doctor looks where that agent would. */
export interface DoctorOptions extends AgentOptions {
  /** Address to look for an agent at; default the first that it would listen on. */
  server?: string;
  /** A device name somebody wants to use. */
  interface?: string;
}

/** All checks, in the order in which they build on each other. Never throws. */
export async function diagnose(options: DoctorOptions = {}): Promise<Check[]> {
  const { server, interface: wanted, ...agentOptions } = options;
  const checks = judgePlatform(readPlatform());
  // Elsewhere there is no /proc to read.
  if (process.platform !== 'linux') return checks;
  const container = inContainer();
  const { config, check } = readConfig(agentOptions);
  const uid = process.geteuid?.() ?? 0;
  const own = config.listen[0] ?? '';
  const address = server ?? own;
  const agent = await dial(address);
  const elsewhere = agent === '' && address !== own && options.stateDir === undefined;
  const told = (found: Check[]) =>
    elsewhere ? found.map((one) => ({ ...one, detail: `${one.detail} (${notOf(address, options)})` })) : found;
  checks.push(
    check,
    ...judgeTun(readTun(container)),
    ...judgePrivileges(readPrivileges(container)),
    ...judgeKernel(readKernel(container)),
    ...judgeLibraries(readLibraries()),
    ...judgeMtu(readDevices()),
    ...told(judgeDirectory('state-dir', '--state-dir', readDirectory(config.stateDir), true, uid)),
    ...told(judgeDirectory('runtime-dir', '--runtime-dir', readDirectory(config.runtimeDir), false, uid)),
    ...judgeNats(config.nats, executable('nats-server')),
    ...judgeNatsLogin(await readNatsLogin(config.nats, natsFiles(config))),
    ...judgeTls(hasTls(config.tls) ? config.tls : undefined, Date.now()),
    ...(await judgeLanes(config)),
    judgeAgent(address, agent),
  );
  if (wanted !== undefined) checks.push(nameClash(wanted));
  return checks;
}

/** Directories are those of an agent that would be started here; the one that answers may have been started with others. */
function notOf(address: string, { config = process.env.TAPLANE_CONFIG }: AgentOptions): string {
  return `by ${config ? config : "this machine's default configuration"}, not by that of the agent at ${address}`;
}

/** With a bad configuration the other checks go on with the defaults. */
function readConfig(options: AgentOptions): { config: Config; check: Check } {
  try {
    return {
      config: loadConfig(options),
      check: pass('configuration', options.config ?? process.env.TAPLANE_CONFIG ?? 'defaults, environment and flags'),
    };
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const [first] = error.problems;
    const more = error.problems.length > 1 ? ` (and ${error.problems.length - 1} more)` : '';
    const detail = [first?.source, first?.field, first?.cause].filter(Boolean).join(': ') + more;
    return {
      config: loadConfig({}, {}),
      check: fail('configuration', detail, `${first?.cure ?? ''}; taplane agent --check-config shows all problems`),
    };
  }
}
