// Which fields of a record an answer holds: a field mask over `Flow`, as one function. Pure.

import type { FieldViolation } from '../errors.ts';
import { Flow } from '../gen/taplane/v1/flow.ts';

const MAX_PATHS = 64;
/** Fields that are messages, whose own fields may be named too: `forward.bytes`. */
const NESTED: Record<string, readonly string[]> = {
  ethernet: ['source', 'destination', 'ethertype', 'vlan'],
  icmp: ['type', 'code'],
  forward: ['packets', 'bytes', 'total_packets', 'total_bytes'],
  reverse: ['packets', 'bytes', 'total_packets', 'total_bytes'],
};
const FIELDS: ReadonlySet<string> = new Set([
  ...Object.keys(Flow.create()).map(snake),
  ...Object.entries(NESTED).flatMap(([message, names]) => names.map((name) => `${message}.${name}`)),
]);

export type FlowMask = (flow: Flow) => Flow;

/** Without paths all fields; `sequence` always. Names of Flow in the manner of the .proto file. Unknown paths go to `violations`. */
export function compileMask(paths: readonly string[] | undefined, violations: FieldViolation[]): FlowMask {
  if (paths === undefined || paths.length === 0) return (flow) => flow;
  if (paths.length > MAX_PATHS) violations.push({ field: 'field_mask', description: `holds ${paths.length} paths; at most ${MAX_PATHS}` });
  const whole: (keyof Flow)[] = ['sequence'];
  const parts = new Map<keyof Flow, string[]>();
  for (const [index, path] of paths.slice(0, MAX_PATHS).entries()) {
    if (!FIELDS.has(path)) {
      violations.push({ field: `field_mask.paths[${index}]`, description: `${JSON.stringify(path.slice(0, 60))} is no field of a record` });
      continue;
    }
    const [name, part] = path.split('.').map(camel) as [keyof Flow, string | undefined];
    if (part === undefined) whole.push(name);
    else parts.set(name, [...(parts.get(name) ?? []), part]);
  }
  return (flow) => {
    const filled: Record<string, unknown> = {};
    for (const [name, names] of parts) {
      const message = flow[name] as unknown as Record<string, unknown> | undefined;
      if (message !== undefined) filled[name] = Object.fromEntries(names.map((part) => [part, message[part]]));
    }
    for (const name of whole) filled[name] = flow[name];
    return Flow.fromPartial(filled as Partial<Flow>);
  };
}

function snake(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

function camel(name: string): string {
  return name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}
