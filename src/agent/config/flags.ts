// The command line as a layer of the configuration. Most flags are called as their field; some are shorter, and some reach into a section.

export interface AgentFlags {
  listen?: string[];
  stateDir?: string;
  runtimeDir?: string;
  node?: string;
  cluster?: string;
  nats?: string;
  natsCreds?: string;
  natsNkey?: string;
  natsTlsCa?: string;
  natsTlsCert?: string;
  natsTlsKey?: string;
  /** False with --no-flows. */
  flows?: boolean;
  ipfix?: string;
  metricsListen?: string;
  insecureLoopback?: boolean;
  tlsCert?: string;
  tlsKey?: string;
  tlsClientCa?: string;
  policy?: string;
  logLevel?: string;
  lanes?: number;
  laneMode?: string;
}

/** Path of the field for each flag that is not called as its field. */
const RENAMED: Record<string, string[]> = {
  natsCreds: ['natsCredsFile'],
  natsNkey: ['natsNkeyFile'],
  natsTlsCa: ['natsTlsCaFile'],
  natsTlsCert: ['natsTlsCertFile'],
  natsTlsKey: ['natsTlsKeyFile'],
  tlsCert: ['tls', 'certFile'],
  tlsKey: ['tls', 'keyFile'],
  tlsClientCa: ['tls', 'clientCaFile'],
  flows: ['flows', 'enabled'],
  policy: ['policyFile'],
  ipfix: ['flows', 'ipfix'],
  metricsListen: ['metrics', 'listen'],
};

/** What the flags say; those left out say nothing. */
export function readFlags(flags: AgentFlags): Record<string, unknown> {
  const value: Record<string, unknown> = {};
  for (const [flag, said] of Object.entries(flags)) {
    if (said === undefined) continue;
    const [outer, inner] = (RENAMED[flag] ?? [flag]) as [string, string?];
    value[outer] = inner === undefined ? said : { ...(value[outer] as object | undefined), [inner]: said };
  }
  return value;
}

/** The flag that a field came from. */
export function flagOf(keys: PropertyKey[]): string {
  const path = keys.filter((key) => typeof key === 'string');
  const renamed = Object.entries(RENAMED).find(([, field]) => field.join('.') === path.join('.'))?.[0];
  if (renamed === 'flows') return '--no-flows';
  return `--${(renamed ?? path[0] ?? '').replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}
