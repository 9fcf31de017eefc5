// The policy of a running agent: which one is in force, and its successor when the file changes.
//
//   file fine --open--> in force --file changed, fine--> the new one in force, told in the log
//                          |  ^---file mended-----------------------------.
//                          '--file changed, bad or gone--> the old one stays in force, told in the log and in `status`
//
// A stream that the new one no longer allows ends at once. A bad file at the start is an error. The file is looked at every two seconds (a new mtime,
// size, mode, owner or inode, so that a link that is turned to another file counts as well) and at SIGHUP. Nothing of a call waits for that.

import { type BigIntStats, statSync } from 'node:fs';
import { type AuthorizedCall, type Authorizer, authorizer } from '../access/authorize.ts';
import { type Caller, callerName } from '../access/caller.ts';
import { OpenStreams } from '../access/open-streams.ts';
import { TaplaneError } from '../errors.ts';
import { Caller_Kind, type Caller as CallerAnswer, type PolicyStatus } from '../gen/taplane/v1/node_service.ts';
import { timestamp } from '../resource/timestamp.ts';
import type { ConfigProblem } from './config/error.ts';
import type { Log } from './log.ts';
import { type PolicyFile, readPolicyFile } from './policy/file.ts';

const LOOK_MS = 2_000;

export interface NodePolicy extends Authorizer {
  /** See `Gate`: `end` is called when a policy no longer allows a stream. The answer forgets it. */
  stays(call: AuthorizedCall, end: (error: TaplaneError) => void): () => void;
  /** How often the file could not be taken while it was looked at again. */
  failures(): number;
  /** Undefined without a file. */
  status(): PolicyStatus | undefined;
  /** Answer of `GetCaller`. */
  describe(caller: Caller): CallerAnswer;
  close(): void;
}

export interface PolicyNeeds {
  /** Absolute path; empty for none. */
  file: string;
  log: Log;
  /** Told after each change of what is in force, and of what is wrong with a file that is not taken. */
  changed?: (message: string) => void;
  /** Milliseconds since 1970. */
  now?: () => number;
}

/** Throws FAILED_PRECONDITION (`POLICY_INVALID`) for a file that cannot be taken. */
export function openPolicy({ file, log, changed = () => {}, now = Date.now }: PolicyNeeds): NodePolicy {
  let inForce: PolicyFile | undefined;
  let loadedAt = 0;
  let problem: { text: string; at: number } | undefined;
  let seen = '';
  let failures = 0;
  const decisions = authorizer(() => inForce?.policy);
  const streams = new OpenStreams(decisions);

  const load = (): void => {
    const found = readPolicyFile(file, { inForce: true });
    if (found.policy !== undefined) {
      const isNew = found.version !== inForce?.version;
      inForce = found;
      problem = undefined;
      // Read again also when the text is the same: groups may have other members.
      loadedAt = now();
      const { version, roles, identities } = found;
      if (isNew) log.info({ file, version, roles, identities }, 'policy in force');
      if (isNew) changed(`policy ${version} in force`);
      streams.check();
      return;
    }
    const text = tellProblems(found.problems);
    if (inForce === undefined)
      throw new TaplaneError('FAILED_PRECONDITION', 'POLICY_INVALID', `read policy: ${text}`, { metadata: { file } });
    if (problem?.text !== text) {
      log.warn({ file, in_force: inForce.version, problems: text }, 'policy file is not taken, the one before stays in force');
      changed(`policy file is not taken: ${text}`);
    }
    problem = { text, at: now() };
    failures += 1;
  };
  const look = (): void => {
    const looks = looksOf(file);
    if (looks === seen) return;
    seen = looks;
    load();
  };
  const again = (): void => {
    seen = looksOf(file);
    load();
  };

  let timer: NodeJS.Timeout | undefined;
  if (file !== '') {
    again();
    timer = setInterval(look, LOOK_MS);
    timer.unref();
    process.on('SIGHUP', again);
  }
  return {
    ...decisions,
    stays: (call, end) => streams.add(call, end),
    failures: () => failures,
    status() {
      if (inForce === undefined) return undefined;
      const { version, roles, identities } = inForce;
      return {
        file,
        version,
        loadTime: timestamp(loadedAt),
        error: problem?.text ?? '',
        errorTime: problem && timestamp(problem.at),
        roles,
        identities,
      };
    },
    describe: (caller) => ({
      name: callerName(caller),
      kind: KINDS[caller.kind],
      roles: decisions.rolesOf(caller),
      policyInForce: inForce !== undefined,
    }),
    close() {
      clearInterval(timer);
      process.off('SIGHUP', again);
    },
  };
}

const KINDS = { unix: Caller_Kind.UNIX, tls: Caller_Kind.TLS, loopback: Caller_Kind.LOOPBACK } as const;

function looksOf(file: string): string {
  try {
    const { mtimeNs, ino, size, mode, uid, gid }: BigIntStats = statSync(file, { bigint: true });
    return `${mtimeNs} ${ino} ${size} ${mode} ${uid} ${gid}`;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'gone';
  }
}

/** A line for each: where, what, and what to write instead. */
function tellProblems(problems: readonly ConfigProblem[]): string {
  return problems.map(({ source, field, cause, cure }) => `${[source, field].filter(Boolean).join(': ')}: ${cause}; ${cure}`).join('\n');
}
