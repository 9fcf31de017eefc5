// The agent's configuration: defaults < file (`--config`, TAPLANE_CONFIG) < environment (TAPLANE_*) < flags.
//
// Each layer is checked by the same schema, so a bad value is reported where it stands, and all problems are reported at once.
// Unknown keys of a file are refused. Unknown TAPLANE_* variables are not: Kubernetes injects TAPLANE_SERVICE_HOST and the like
// into every pod beside a service of that name. No message and no print-out repeats the credentials of a NATS address.

import { hostname } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { redactNats } from '../nats/url.ts';
import { type AuditConfig, mergeAudit } from './config/audit.ts';
import { readEnvironment } from './config/env.ts';
import { ConfigError, type ConfigProblem } from './config/error.ts';
import { readConfigFile } from './config/file.ts';
import { type AgentFlags, flagOf, readFlags } from './config/flags.ts';
import { checkFlows, type FlowsConfig, mergeFlows } from './config/flows.ts';
import { checkListen } from './config/listen.ts';
import { checkMetrics, type MetricsConfig, mergeMetrics } from './config/metrics.ts';
import { checkNats, mergeNatsFiles, type NatsFilesConfig } from './config/nats.ts';
import { checkLayer, type Layer } from './config/schema.ts';
import { checkTls, hasTls, mergeTls, type TlsConfig } from './config/tls.ts';
import { readPolicyFile } from './policy/file.ts';

/** What the command line may say; everything left out comes from the layers below. */
export interface AgentOptions extends AgentFlags {
  config?: string;
  /** Stop once everything is read and decided, and print it. */
  checkConfig?: boolean;
  /** How to print it; YAML when not given. */
  output?: 'json';
}

export interface Config extends NatsFilesConfig {
  /** `unix:/absolute/path` or `HOST:PORT`. */
  listen: string[];
  /** Durable: the store, an embedded NATS server's files. */
  stateDir: string;
  /** Gone after a reboot: sockets. */
  runtimeDir: string;
  node: string;
  cluster: string;
  /** `off`, `embedded`, or the address of a server; may hold credentials. */
  nats: string;
  flows: FlowsConfig;
  audit: AuditConfig;
  /** Probes and scrapes. */
  metrics: MetricsConfig;
  /** Plaintext TCP on loopback addresses is allowed. */
  insecureLoopback: boolean;
  /** Of TCP; paths are empty where there is none. */
  tls: TlsConfig;
  /** Callers over TLS may ask for the descriptors of the API; all others always may. */
  reflection: boolean;
  logLevel: 'debug' | 'info' | 'warn' | 'error';
  /** Data-plane processes. */
  lanes: number;
  /** `external`: something else runs the data-plane processes, and the agent only speaks to their sockets in `runtimeDir`. */
  laneMode: 'spawn' | 'external';
  limits: {
    interfaces: number;
    links: number;
    watchers: number;
    messageBytes: number;
    streamsPerConnection: number;
    connections: number;
    connectionsPerClient: number;
  };
  /** Absolute path of who may do what; empty for none. */
  policyFile: string;
  policy: { allowDefaultRoutes: boolean; allowNodeRoutes: boolean };
}

const LIMITS: Config['limits'] = {
  interfaces: 4096,
  links: 1024,
  watchers: 256,
  messageBytes: 4 * 1024 * 1024,
  streamsPerConnection: 100,
  connections: 256,
  connectionsPerClient: 64,
};

/** Reads all layers. Throws ConfigError with every problem of every layer. */
export function loadConfig(options: AgentOptions = {}, env: NodeJS.ProcessEnv = process.env): Config {
  const problems: ConfigProblem[] = [];
  const path = options.config ?? env.TAPLANE_CONFIG;
  const { config: _config, checkConfig: _checkConfig, output: _output, ...flags } = options;

  const file = path ? readConfigFile(path) : { value: {}, problems: [], locate: () => '' };
  const environment = readEnvironment(env);
  problems.push(...file.problems);
  const layers = [
    checkLayer(file.value, (keys) => ({ source: `${path}${file.locate(keys)}`, field: keys.join('.') }), problems),
    checkLayer(environment.value, (keys) => ({ source: 'environment', field: environment.variable(keys) }), problems),
    checkLayer(readFlags(flags), (keys) => ({ source: 'command line', field: flagOf(keys) }), problems),
  ];
  const config = merge(layers);
  // What holds between fields is only worth saying when each field is sound.
  if (problems.length === 0)
    problems.push(
      ...checkTls(config.tls),
      ...checkListen(config.listen, config.insecureLoopback, hasTls(config.tls)),
      ...checkNats(config),
      ...checkFlows(config.flows),
      ...checkMetrics(config.metrics),
    );
  if (problems.length === 0 && config.policyFile !== '') problems.push(...readPolicyFile(config.policyFile, { inForce: true }).problems);
  if (problems.length > 0)
    throw new ConfigError(problems.sort((a, b) => rank(a) - rank(b) || a.source.localeCompare(b.source, 'en', { numeric: true })));
  return config;
}

/** The effective configuration as a file that `--config` would take, without credentials. */
export function printConfig(config: Config, format?: 'json'): string {
  const shown = { ...config, nats: redactNats(config.nats) };
  return format === 'json' ? `${JSON.stringify(shown, null, 2)}\n` : stringify(shown);
}

function merge(layers: Layer[]): Config {
  const all: Layer = Object.assign({}, ...layers);
  const runtimeDir = all.runtimeDir ?? '/run/taplane';
  return {
    listen: all.listen ?? [`unix:${join(runtimeDir, 'agent.sock')}`],
    stateDir: all.stateDir ?? '/var/lib/taplane',
    runtimeDir,
    node: all.node ?? hostname(),
    cluster: all.cluster ?? 'default',
    nats: all.nats ?? 'off',
    ...mergeNatsFiles(all),
    flows: mergeFlows(layers.map((layer) => layer.flows)),
    audit: mergeAudit(layers.map((layer) => layer.audit)),
    metrics: mergeMetrics(layers.map((layer) => layer.metrics)),
    insecureLoopback: all.insecureLoopback ?? false,
    tls: mergeTls(layers.map((layer) => layer.tls)),
    reflection: all.reflection ?? false,
    logLevel: all.logLevel ?? 'info',
    lanes: all.lanes ?? 1,
    laneMode: all.laneMode ?? 'spawn',
    policyFile: all.policyFile ?? '',
    policy: Object.assign({ allowDefaultRoutes: false, allowNodeRoutes: false }, ...layers.map((layer) => layer.policy)),
    limits: Object.assign({}, LIMITS, ...layers.map((layer) => layer.limits)),
  };
}

/** Files first, line by line, then the layers above them. */
function rank({ source }: ConfigProblem): number {
  return ['environment', 'command line', 'effective configuration'].indexOf(source);
}
