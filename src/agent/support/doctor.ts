// The doctor, asked about an agent that runs: where this one looks is known, whatever files and variables say by now.

import type { Config } from '../config.ts';
import type { Check } from '../doctor.ts';

/** All checks. The doctor is loaded when it is asked. Never throws. */
export async function diagnoseRunning(config: Config): Promise<Check[]> {
  const { diagnose } = await import('../doctor.ts');
  const { listen, stateDir, runtimeDir, insecureLoopback, nats } = config;
  return diagnose({
    listen,
    stateDir,
    runtimeDir,
    insecureLoopback,
    nats,
    natsCreds: config.natsCredsFile,
    natsNkey: config.natsNkeyFile,
    natsTlsCa: config.natsTlsCaFile,
    natsTlsCert: config.natsTlsCertFile,
    natsTlsKey: config.natsTlsKeyFile,
    policy: config.policyFile,
  });
}
