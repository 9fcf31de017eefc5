// The shape of one configuration layer, every field optional, and for each field what to write instead of a bad value.

import { z } from 'zod';
import { parseNatsUrl } from '../flow/nats-url.ts';
import type { ConfigProblem } from './config-error.ts';
import { listenProblem } from './config-listen.ts';

const directory = z
  .string()
  .refine((path) => path.startsWith('/') && !path.includes('\0'), 'is not an absolute path')
  .refine((path) => path.length <= 4096, 'is longer than 4096 bytes');
const name = z.string().refine((text) => /^[\x21-\x7e]{1,253}$/.test(text), 'must be 1 to 253 printable ASCII characters without blanks');
const count = (min: number, max: number) => z.int().refine((n) => n >= min && n <= max, `must be ${min} to ${max}`);
const say = (context: { addIssue(text: string): void }, problem: string | undefined) => problem !== undefined && context.addIssue(problem);

const layer = z.strictObject({
  listen: z
    .array(z.string().superRefine((text, context) => void say(context, listenProblem(text))))
    .min(1, 'is empty')
    .optional(),
  stateDir: directory.optional(),
  runtimeDir: directory.optional(),
  node: name.optional(),
  cluster: name.optional(),
  nats: z
    .string()
    .superRefine((text, context) => void say(context, natsProblem(text)))
    .optional(),
  insecureLoopback: z.boolean().optional(),
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).optional(),
  lanes: count(1, 64).optional(),
  policy: z.strictObject({ allowDefaultRoutes: z.boolean().optional() }).optional(),
  limits: z
    .strictObject({
      interfaces: count(1, 65_536).optional(),
      watchers: count(1, 65_536).optional(),
      messageBytes: count(65_536, 67_108_864).optional(),
      streamsPerConnection: count(1, 10_000).optional(),
    })
    .optional(),
});

export type Layer = z.infer<typeof layer>;

/** Paths of all scalar fields, for the environment. */
export const fieldPaths: string[][] = Object.entries(layer.shape).flatMap(([key, schema]) => {
  const inner = schema.unwrap();
  return inner instanceof z.ZodObject ? Object.keys(inner.shape).map((child) => [key, child]) : [[key]];
});

const cures: Record<string, string> = {
  '': 'write keys and values, such as `nats: off`',
  listen: 'write a list of unix:/absolute/path or HOST:PORT, such as [unix:/run/taplane/agent.sock]',
  stateDir: 'write an absolute path, such as /var/lib/taplane',
  runtimeDir: 'write an absolute path, such as /run/taplane',
  node: 'write the name of this node, such as its host name',
  cluster: 'write the name of the cluster, such as default',
  nats: 'write off, embedded, or an address such as nats://user:password@host:4222 or tls://host:4222',
  insecureLoopback: 'write true or false',
  logLevel: 'write debug, info, warn or error',
  lanes: 'write a whole number from 1 to 64',
  policy: 'write a mapping with the key allowDefaultRoutes',
  'policy.allowDefaultRoutes': 'write true or false',
  limits: 'write a mapping of limits, such as `interfaces: 4096`',
  'limits.interfaces': 'write a whole number from 1 to 65536',
  'limits.watchers': 'write a whole number from 1 to 65536',
  'limits.messageBytes': 'write a number of bytes from 65536 to 67108864',
  'limits.streamsPerConnection': 'write a whole number from 1 to 10000',
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
  if (path.length === 0) return Object.keys(layer.shape);
  return fieldPaths.filter((field) => field[0] === path[0] && field.length > 1).map((field) => field[1] as string);
}

/** `Invalid input: expected number, received string` reads better behind a field name without its first words. */
function phrase(message: string): string {
  return message.replace(/^Invalid (input|option): /, '');
}

function natsProblem(text: string): string | undefined {
  if (text === 'off' || text === 'embedded') return undefined;
  try {
    parseNatsUrl(text);
    return undefined;
  } catch (error) {
    return (error as Error).message;
  }
}
