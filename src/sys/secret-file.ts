// When a file is fit to hold a secret, for all who read one: it belongs to root or to us, and nobody but its owner and a group of ours gets at it. The rule is
// about the file that is read, wherever a symbolic link has led: Kubernetes mounts secrets behind such links. Names a file, never what is in it.

import type { Stats } from 'node:fs';

/** Who we are, for the judgement of owners and groups. */
export interface Self {
  uid: number;
  groups: readonly number[];
}

export interface SecretProblem {
  /** What is exposed: a path, or where it was said. */
  subject: string;
  cause: string;
  cure: string;
}

/** Effective user, and all groups of this process. */
export function ourselves(): Self {
  return { uid: process.geteuid?.() ?? 0, groups: [process.getegid?.() ?? 0, ...(process.getgroups?.() ?? [])] };
}

/** What makes a file unfit for a secret, or undefined. Owned by root or by us; mode 0600, or 0640 where the group is one of ours. */
export function secretFileProblem(
  path: string,
  { mode, uid, gid }: Pick<Stats, 'mode' | 'uid' | 'gid'>,
  self: Self = ourselves(),
): SecretProblem | undefined {
  const octal = (mode & 0o777).toString(8).padStart(4, '0');
  const problem = (cause: string, cure: string): SecretProblem => ({ subject: path, cause, cure });
  if (uid !== 0 && uid !== self.uid)
    return problem(`belongs to uid ${uid}, who may read it and change it`, `chown ${self.uid} ${path} && chmod 600 ${path}`);
  if ((mode & 0o037) !== 0) return problem(`its mode is ${octal}: others may use it`, `chmod 600 ${path}`);
  if ((mode & 0o040) !== 0 && !self.groups.includes(gid))
    return problem(`its mode is ${octal}, and group ${gid} is not ours`, `chmod 600 ${path}, or chgrp it to a group of the agent`);
  return undefined;
}
