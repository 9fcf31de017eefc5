// The shape of one configuration layer, every field optional, and for each field what to write instead of a bad value.

import { z } from 'zod';
import { auditCures, auditSchema } from './audit.ts';
import type { ConfigProblem } from './error.ts';
import { absolutePath, checked, count, name } from './fields.ts';
import { flowsCures, flowsSchema } from './flows.ts';
import { listenProblem } from './listen.ts';
import { metricsCures, metricsSchema } from './metrics.ts';
import { natsCures, natsShape } from './nats.ts';
import { tlsCures, tlsSchema } from './tls.ts';

const layer = z.strictObject({
  listen: z.array(checked(listenProblem)).min(1, 'is empty').optional(),
  stateDir: absolutePath.optional(),
  runtimeDir: absolutePath.optional(),
  node: name.optional(),
  cluster: name.optional(),
  ...natsShape,
  flows: flowsSchema.optional(),
  audit: auditSchema.optional(),
  metrics: metricsSchema.optional(),
  insecureLoopback: z.boolean().optional(),
  tls: tlsSchema.optional(),
  reflection: z.boolean().optional(),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).optional(),
  lanes: count(1, 64).optional(),
  laneMode: z.enum(['spawn', 'external']).optional(),
  // Empty for none: what printConfig prints can be read again.
  policyFile: checked((path) => (path === '' ? undefined : absolutePath.safeParse(path).error?.issues[0]?.message)).optional(),
  policy: z.strictObject({ allowDefaultRoutes: z.boolean().optional(), allowNodeRoutes: z.boolean().optional() }).optional(),
  limits: z
    .strictObject({
      interfaces: count(1, 65_536).optional(),
      links: count(1, 65_536).optional(),
      watchers: count(1, 65_536).optional(),
      messageBytes: count(65_536, 67_108_864).optional(),
      streamsPerConnection: count(1, 10_000).optional(),
      connections: count(1, 65_536).optional(),
      connectionsPerClient: count(1, 65_536).optional(),
    })
    .optional(),
});

export type Layer = z.infer<typeof layer>;

/** A field that is no section, for the environment. */
export interface Field {
  path: string[];
  kind: 'text' | 'list' | 'boolean' | 'number';
}

export const fields: Field[] = fieldsOf(layer, []);

function fieldsOf(section: z.ZodObject, path: string[]): Field[] {
  return Object.entries(section.shape).flatMap(([key, schema]): Field[] => {
    const inner = schema instanceof z.ZodOptional ? schema.unwrap() : schema;
    const at = [...path, key];
    if (inner instanceof z.ZodObject) return fieldsOf(inner, at);
    if (inner instanceof z.ZodArray) return [{ path: at, kind: 'list' }];
    if (inner instanceof z.ZodBoolean) return [{ path: at, kind: 'boolean' }];
    return [{ path: at, kind: inner instanceof z.ZodNumber ? 'number' : 'text' }];
  });
}

const cures: Record<string, string> = {
  '': 'write keys and values, such as `nats: off`',
  listen: 'write a list of unix:/absolute/path or HOST:PORT, such as [unix:/run/taplane/agent.sock]',
  stateDir: 'write an absolute path, such as /var/lib/taplane',
  runtimeDir: 'write an absolute path, such as /run/taplane',
  node: 'write the name of this node, such as its host name',
  cluster: 'write the name of the cluster, such as default',
  ...natsCures,
  ...flowsCures,
  ...auditCures,
  ...metricsCures,
  insecureLoopback: 'write true or false',
  ...tlsCures,
  reflection: 'write true or false',
  logLevel: 'write debug, info, warn or error',
  lanes: 'write a whole number from 1 to 64',
  laneMode: 'write spawn, or external where a container or unit of its own runs each lane',
  policyFile: 'write the absolute path of a policy, such as /etc/taplane/policy.yaml',
  policy: 'write a mapping with the keys allowDefaultRoutes and allowNodeRoutes',
  'policy.allowDefaultRoutes': 'write true or false',
  'policy.allowNodeRoutes': 'write true or false',
  limits: 'write a mapping of limits, such as `interfaces: 4096`',
  'limits.interfaces': 'write a whole number from 1 to 65536',
  'limits.links': 'write a whole number from 1 to 65536',
  'limits.watchers': 'write a whole number from 1 to 65536',
  'limits.messageBytes': 'write a number of bytes from 65536 to 67108864',
  'limits.streamsPerConnection': 'write a whole number from 1 to 10000',
  'limits.connections': 'write a whole number from 1 to 65536',
  'limits.connectionsPerClient': 'write a whole number from 1 to 65536',
};

/** Checks one layer and adds what is wrong with it to `problems`; a layer with problems counts as empty. */
export function checkLayer(
  value: unknown,
  place: (keys: PropertyKey[]) => { source: string; field: string },
  problems: ConfigProblem[],
): Layer {
  const result = layer.safeParse(value);
  if (result.success) return result.data;
  for (const issue of result.error.issues) {
    if (issue.code === 'unrecognized_keys') {
      for (const key of issue.keys)
        problems.push({
          ...place([...issue.path, key]),
          cause: 'is not a known key',
          cure: `known here: ${knownKeys(issue.path).join(', ')}`,
        });
    } else {
      const path = issue.path.filter((key) => typeof key === 'string').join('.');
      problems.push({ ...place(issue.path), cause: phrase(issue.message), cure: cures[path] ?? (cures[''] as string) });
    }
  }
  return {};
}

function knownKeys(path: PropertyKey[]): string[] {
  const isBelow = (field: Field) => field.path.length > path.length && path.every((key, depth) => field.path[depth] === key);
  return [...new Set(fields.filter(isBelow).map((field) => field.path[path.length] as string))];
}

/** `Invalid input: expected number, received string` reads better behind a field name without its first words. */
function phrase(message: string): string {
  return message.replace(/^Invalid (input|option): /, '');
}
