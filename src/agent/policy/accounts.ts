// Users and groups of the node as a policy needs them: numbers for names, and who is a member of a group. From /etc/passwd and /etc/group alone
// (passwd(5), group(5)), read with the policy: the kernel tells of a caller its user and one group, not the others that the process has.

import { readFileSync } from 'node:fs';

export interface Accounts {
  /** Undefined for a name that there is not. */
  uid(user: string): number | undefined;
  gid(group: string): number | undefined;
  /** Users with this group as their first or among their others, by number. */
  members(gid: number): number[];
}

/** Both texts as in the files; empty where there is none, as in small images: then numbers alone work. */
export function parseAccounts(passwd: string, group: string): Accounts {
  const rows = (text: string): string[][] => text.split('\n').map((line) => line.split(':'));
  const number = (text: string | undefined): number | undefined => (/^\d{1,10}$/.test(text ?? '') ? Number(text) : undefined);
  const users = rows(passwd).flatMap(([name = '', , uidText, gidText]) => {
    const [uid, gid] = [number(uidText), number(gidText)];
    return name === '' || uid === undefined || gid === undefined ? [] : [{ name, uid, gid }];
  });
  const groups = rows(group).flatMap(([name = '', , gidText, members = '']) => {
    const gid = number(gidText);
    return name === '' || gid === undefined ? [] : [{ name, gid, members: members.split(',').map((member) => member.trim()) }];
  });
  const uid = (user: string): number | undefined => users.find(({ name }) => name === user)?.uid;
  return {
    uid,
    gid: (wanted) => groups.find(({ name }) => name === wanted)?.gid,
    members: (gid) => [
      ...new Set([
        ...users.filter((user) => user.gid === gid).map((user) => user.uid),
        ...groups.filter((one) => one.gid === gid).flatMap(({ members }) => members.flatMap((name) => uid(name) ?? [])),
      ]),
    ],
  };
}

/** Of this machine, as they are now. A file that cannot be read has nobody in it. */
export function readAccounts(): Accounts {
  return parseAccounts(textOf('/etc/passwd'), textOf('/etc/group'));
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
