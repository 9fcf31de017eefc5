// The shape of a policy file, and for each key what to write instead of a bad value.

import { z } from 'zod';
import { USES } from '../../access/demands.ts';
import { methodsOf } from '../../access/methods.ts';
import { formatPrefix, networkOf, parsePrefix } from '../../resource/inet.ts';
import { checked, count } from '../config/fields.ts';

/** Entries of one list of a role. */
const LIST_MOST = 64;
const ROLES_MOST = 256;
const IDENTITIES_MOST = 4096;
const ID_MOST = 0xfffffffe;

/** What interfaces, links, bridges and namespaces may hold, and stars. */
const pattern = z.string().regex(/^[\w.*/-]{1,255}$/, 'is no pattern of names');
const patterns = (what: string) => z.array(pattern).max(LIST_MOST, `holds more than ${LIST_MOST}`).optional().describe(what);
const prefixes = (what: string) => z.array(checked(prefixProblem)).max(LIST_MOST, `holds more than ${LIST_MOST}`).optional().describe(what);
const text = z.string().regex(/^[\x21-\x7e]{1,2048}$/, 'must be 1 to 2048 printable ASCII characters without blanks');

function prefixProblem(given: string): string | undefined {
  if (given === '*') return undefined;
  const prefix = parsePrefix(given);
  if (prefix === undefined || !given.includes('/')) return 'is no prefix';
  const network = networkOf(prefix);
  return network.equals(prefix.bytes) ? undefined : `has host bits; did you mean ${formatPrefix(network, prefix.prefixLength)}?`;
}

const role = z.strictObject({
  methods: z
    .array(checked((given) => (methodsOf(given).length > 0 ? undefined : 'means no method of the API')))
    .min(1, 'is empty')
    .max(LIST_MOST, `holds more than ${LIST_MOST}`)
    .describe('*, read, write, Service/* or Service/Method'),
  interfaces: patterns('names of interfaces; * stands for any characters'),
  links: patterns('names of links; * stands for any characters'),
  bridges: patterns('bridges that a TAP may join'),
  namespaces: patterns("network namespaces, as in a spec; self is the agent's own, and all there is when nothing is given"),
  addresses: prefixes('prefixes that addresses must lie in, or *'),
  routes: prefixes('prefixes that destinations of routes must lie in, or *'),
  peers: prefixes('prefixes that endpoints of the peers of links must lie in, or *'),
  may: z
    .array(z.enum(['*', ...Object.keys(USES)]))
    .optional()
    .describe('what reaches beyond an interface'),
});

const KINDS = ['uid', 'user', 'gid', 'group', 'spiffe', 'dns', 'loopback'] as const;

const identity = z
  .strictObject({
    uid: count(0, ID_MOST).optional().describe('user of the process, by number'),
    user: text.optional().describe('user of the process, by its name in /etc/passwd'),
    gid: count(0, ID_MOST).optional().describe('group of the process, or one that its user is a member of in /etc/group, by number'),
    group: text.optional().describe('the same by name'),
    spiffe: z
      .string()
      .regex(/^spiffe:\/\/[\x21-\x7e]{1,2039}$/, 'is no SPIFFE URI')
      .optional()
      .describe('a URI of the certificate, exactly'),
    dns: z
      .string()
      .regex(/^[A-Za-z0-9.-]{1,253}$/, 'is no DNS name')
      .optional()
      .describe('a DNS name of the certificate, exactly'),
    loopback: z.literal(true).optional().describe('any local user over --insecure-loopback'),
    roles: z.array(z.string()).min(1, 'is empty').max(LIST_MOST, `holds more than ${LIST_MOST}`),
  })
  .superRefine((given, context) => {
    const kinds = KINDS.filter((kind) => given[kind] !== undefined);
    if (kinds.length !== 1) context.addIssue(kinds.length === 0 ? 'says not who it is' : `says who it is by ${kinds.join(' and ')}`);
  });

export const policySchema = z.strictObject({
  version: z.literal(1),
  roles: z
    .record(z.string().regex(/^[a-z0-9][a-z0-9-]{0,62}$/, 'is no name of a role'), role)
    .refine((roles) => Object.keys(roles).length <= ROLES_MOST, `holds more than ${ROLES_MOST}`),
  identities: z.array(identity).max(IDENTITIES_MOST, `holds more than ${IDENTITIES_MOST}`),
});

export type PolicyDocument = z.infer<typeof policySchema>;
export type IdentityDocument = PolicyDocument['identities'][number];

const CURES: Record<string, string> = {
  '': 'write version: 1, roles and identities',
  version: 'write 1',
  roles: 'write a mapping of names (lower-case letters, digits, -) to what the role may do',
  identities: 'write a list, such as `- uid: 0` with `roles: [operator]` below it',
  methods: 'write a list of read, write, *, InterfaceService/* or InterfaceService/GetInterface',
  interfaces: 'write a list of names, with * for any characters, such as [tenant-a-*]',
  links: 'write a list of names, with * for any characters, such as [tenant-a-*]',
  bridges: 'write a list of names, with * for any characters, such as [br-tenant-a]',
  namespaces: 'write a list of names under /run/netns, absolute paths, or self, with * for any characters',
  addresses: 'write a list of prefixes without host bits, such as [10.1.0.0/16], or ["*"]',
  routes: 'write a list of prefixes without host bits, such as [10.1.0.0/16], or ["*"]',
  peers: 'write a list of prefixes without host bits, such as [192.0.2.0/24], or ["*"]',
  may: `write a list of ${Object.keys(USES).join(', ')}, or ["*"]`,
  identity: `write one of ${KINDS.join(', ')}, and roles`,
  uid: `write a number from 0 to ${ID_MOST}`,
  user: 'write a name of /etc/passwd, or give the number with uid',
  gid: `write a number from 0 to ${ID_MOST}`,
  group: 'write a name of /etc/group, or give the number with gid',
  spiffe: 'write the URI as it stands in the certificate, such as spiffe://cluster.local/ns/net/sa/controller',
  dns: 'write the DNS name as it stands in the certificate, such as controller.net.svc; without *',
  loopback: 'write true, or leave the identity out',
};

/** What to write at a path of the file. */
export function policyCure(path: readonly PropertyKey[]): string {
  const keys = path.filter((key) => typeof key === 'string');
  if (path[0] === 'roles') return CURES[keys[2] ?? 'roles'] ?? (CURES['roles'] as string);
  if (path[0] === 'identities')
    return path.length === 1
      ? (CURES['identities'] as string)
      : keys[1] === 'roles'
        ? 'write a list of names of roles'
        : (CURES[keys[1] ?? 'identity'] as string);
  return CURES[keys[0] ?? ''] ?? (CURES[''] as string);
}

/** For editors: JSON Schema of the file. */
export function policyJsonSchema(): object {
  return z.toJSONSchema(policySchema, { io: 'input' });
}
