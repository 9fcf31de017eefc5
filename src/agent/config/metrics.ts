// The section `metrics` of the configuration: where probes and scrapes are answered. In the clear and without a login, so loopback alone unless
// `allowRemote` says that the network around is trusted.

import { z } from 'zod';
import { parseListenAddress } from '../../rpc/listen-address.ts';
import type { ConfigProblem } from './error.ts';
import { checked, count } from './fields.ts';

export interface MetricsConfig {
  /** `HOST:PORT`, or `off`. */
  listen: string;
  /** Addresses beyond loopback are allowed. */
  allowRemote: boolean;
  /** How many interfaces, links and peers have series of their own, each. */
  perInterface: number;
}

export const metricsSchema = z.strictObject({
  listen: checked(listenProblem).optional(),
  allowRemote: z.boolean().optional(),
  perInterface: count(0, 10_000).optional(),
});

export type MetricsLayer = z.infer<typeof metricsSchema>;

export const metricsCures: Record<string, string> = {
  metrics: 'write a mapping, such as `listen: 127.0.0.1:9464`',
  'metrics.listen': 'write off, or HOST:PORT such as 127.0.0.1:9464',
  'metrics.allowRemote': 'write true or false',
  'metrics.perInterface': 'write a whole number from 0 to 10000',
};

/** The layers over the defaults, the last one wins field by field. */
export function mergeMetrics(layers: (MetricsLayer | undefined)[]): MetricsConfig {
  return Object.assign({ listen: '127.0.0.1:9464', allowRemote: false, perInterface: 1000 }, ...layers);
}

/** What no single field shows. */
export function checkMetrics({ listen, allowRemote }: MetricsConfig): ConfigProblem[] {
  if (listen === 'off' || allowRemote) return [];
  const address = parseListenAddress(listen);
  if (address.kind === 'tcp' && address.loopback) return [];
  return [
    {
      source: 'effective configuration',
      field: 'metrics.listen',
      cause: `${listen}: everyone who reaches it could read the names of interfaces, links and peers`,
      cure: 'listen on 127.0.0.1, or accept it with metrics.allowRemote: true',
    },
  ];
}

function listenProblem(text: string): string | undefined {
  if (text === 'off') return undefined;
  try {
    return parseListenAddress(text).kind === 'tcp' ? undefined : `${JSON.stringify(text)} is no HOST:PORT`;
  } catch (error) {
    return (error as Error).message.replace(/^read address /, '');
  }
}
