// Reads a policy file: YAML, shape, names of roles, users and groups, all problems at once, each with its line. Messages repeat names of keys and
// roles, never other text of the file.

import { createHash } from 'node:crypto';
import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats } from 'node:fs';
import { isMap, isNode, LineCounter, parseDocument } from 'yaml';
import { compilePolicy, type Identity, type Policy, type PolicySpec } from '../../access/policy.ts';
import { ourselves } from '../../sys/secret-file.ts';
import type { ConfigProblem } from '../config/error.ts';
import { type Accounts, readAccounts } from './accounts.ts';
import { type IdentityDocument, type PolicyDocument, policyCure, policySchema } from './schema.ts';

const MAX_BYTES = 1024 * 1024;
/** Problems that are told; a file that is another's has one in each line. */
const MOST_PROBLEMS = 50;

export interface PolicyFile {
  /** Undefined when there are problems. */
  policy: Policy | undefined;
  problems: ConfigProblem[];
  /** The first 12 hexadecimal digits of the SHA-256 of the text; empty when it could not be read. */
  version: string;
  roles: number;
  identities: number;
}

/** What an agent is to follow must be in the hands of root or of the agent: whoever else may write it may give themselves every role. */
function writers({ mode, uid, gid }: Stats, path: string): [cause: string, cure: string] | undefined {
  const { uid: own } = ourselves();
  if (uid !== 0 && uid !== own) return [`belongs to uid ${uid}, who may change it`, `chown ${own} ${path}`];
  return (mode & 0o020) !== 0 && gid !== 0 ? [`may be written by group ${gid}`, `chmod g-w ${path}`] : undefined;
}

/** Never throws. With `inForce` it is for an agent to follow, else only to be judged: then its owner and group do not matter. */
export function readPolicyFile(path: string, { inForce = false } = {}): PolicyFile {
  const bad = (cause: string, cure: string): PolicyFile => ({
    policy: undefined,
    problems: [{ source: path, field: '', cause, cure }],
    version: '',
    roles: 0,
    identities: 0,
  });
  let fd: number | undefined;
  try {
    // O_NONBLOCK: what is no file must not hold the agent up. What is judged is what is read, whatever takes its place meanwhile.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stat = fstatSync(fd);
    if (!stat.isFile() && !stat.isDirectory()) return bad('is no file', 'give the right file with --policy');
    if (stat.size > MAX_BYTES) return bad('is larger than 1 MiB', 'give the right file with --policy');
    if ((stat.mode & 0o002) !== 0) return bad('may be written by everybody', `chmod o-w ${path}`);
    const others = inForce ? writers(stat, path) : undefined;
    if (others !== undefined) return bad(...others);
    return parsePolicy(readFileSync(fd, 'utf8'), path, readAccounts());
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code ?? 'not a readable file';
    return bad(`cannot be read: ${code}`, 'name an existing file that can be read; an agent without --policy has none');
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

/** `source` stands before the line in problems. Reads the text alone. */
export function parsePolicy(text: string, source: string, accounts: Accounts): PolicyFile {
  const version = createHash('sha256').update(text).digest('hex').slice(0, 12);
  const problems: ConfigProblem[] = [];
  const say = (where: string, path: readonly PropertyKey[], cause: string, cure: string): void => {
    problems.push({ source: `${source}${where}`, field: fieldOf(path), cause, cure });
  };
  const failed = (): PolicyFile => {
    const more = problems.length - MOST_PROBLEMS;
    const told = problems.sort((a, b) => a.source.localeCompare(b.source, 'en', { numeric: true })).slice(0, MOST_PROBLEMS);
    if (more > 0) told.push({ source, field: '', cause: `has ${more} more problems`, cure: 'mend these first' });
    return { policy: undefined, problems: told, version, roles: 0, identities: 0 };
  };

  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const at = (offset: number): string => {
    const { line, col } = lines.linePos(offset);
    return `:${line}:${col}`;
  };
  for (const { pos, code } of document.errors)
    say(at(pos[0]), [], `is not YAML: ${code.toLowerCase().replaceAll('_', ' ')}`, 'mend the line; indent with blanks');
  if (problems.length > 0) return failed();
  let value: unknown;
  try {
    value = document.toJS({ maxAliasCount: 20 });
  } catch {
    say('', [], 'repeats aliases too often', 'write the values out');
    return failed();
  }
  /** The place of a key or an item of a list, or of the nearest thing around it. */
  const locate = (path: readonly PropertyKey[]): string => {
    for (let depth = path.length; depth >= 0; depth--) {
      const parent = depth < 2 ? document.contents : document.getIn(path.slice(0, depth - 1), true);
      const pair = depth > 0 && isMap(parent) ? parent.items.find(({ key }) => String(key) === String(path[depth - 1])) : undefined;
      const node = pair?.key ?? (depth === 0 ? document.contents : document.getIn(path.slice(0, depth), true));
      if (isNode(node) && node.range) return at(node.range[0]);
    }
    return '';
  };
  const parsed = policySchema.safeParse(value ?? {});
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      if (issue.code === 'unrecognized_keys')
        for (const key of issue.keys) say(locate([...issue.path, key]), [...issue.path, key], 'is not a known key', policyCure(issue.path));
      else if (issue.code === 'invalid_key')
        say(locate(issue.path), issue.path, issue.issues[0]?.message ?? issue.message, policyCure(['roles']));
      else say(locate(issue.path), issue.path, issue.message.replace(/^Invalid (input|option): /, ''), policyCure(issue.path));
    }
    return failed();
  }
  const { roles, identities } = parsed.data;
  const given = identities.map((identity, index) => {
    identity.roles.forEach((name, which) => {
      const path = ['identities', index, 'roles', which];
      if (!Object.hasOwn(roles, name))
        say(locate(path), path, `there is no role '${name.slice(0, 64)}'`, `known here: ${Object.keys(roles).join(', ') || 'none'}`);
    });
    const who = identityOf(identity, accounts);
    if (typeof who !== 'string') return { who, roles: identity.roles };
    say(
      locate(['identities', index, who]),
      ['identities', index, who],
      'is not known on this node',
      policyCure(['identities', index, who]),
    );
    return { who: { kind: 'uid', uid: -1 } as const, roles: [] };
  });
  if (problems.length > 0) return failed();
  const policy = compilePolicy(specOf(parsed.data, given));
  return { policy, problems: [], version, roles: policy.roles.length, identities: identities.length };
}

function specOf({ roles }: PolicyDocument, identities: PolicySpec['identities']): PolicySpec {
  return { roles, identities };
}

/** The key whose name the node does not know, where that is so. */
function identityOf(given: IdentityDocument, accounts: Accounts): Identity | 'user' | 'group' {
  const { uid = given.user === undefined ? undefined : accounts.uid(given.user) } = given;
  if (uid !== undefined) return { kind: 'uid', uid };
  if (given.user !== undefined) return 'user';
  const { gid = given.group === undefined ? undefined : accounts.gid(given.group) } = given;
  if (gid !== undefined) return { kind: 'gid', gid, members: accounts.members(gid) };
  if (given.group !== undefined) return 'group';
  if (given.spiffe !== undefined) return { kind: 'spiffe', uri: given.spiffe };
  if (given.dns !== undefined) return { kind: 'dns', name: given.dns };
  return { kind: 'loopback' };
}

/** `roles.tenant-a.addresses[0]` */
function fieldOf(path: readonly PropertyKey[]): string {
  return path.map((key, index) => (typeof key === 'number' ? `[${key}]` : `${index === 0 ? '' : '.'}${String(key)}`)).join('');
}
