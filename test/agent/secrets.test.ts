// Which secrets count as exposed: by mode, owner and group of real files, and by where a password was said.

import { chmodSync, chownSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { exposedSecrets } from '../../src/agent/secrets.ts';
import { secretFileProblem } from '../../src/sys/secret-file.ts';

const folder = mkdtempSync(join(tmpdir(), 'taplane-secrets-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const self = { uid: 500, groups: [500, 44] };
const none = { nats: 'off', natsCredsFile: '', natsNkeyFile: '', natsTlsKeyFile: '' };
const nobody = { argv: [], env: {}, self };

test.each<[string, number, number, number, RegExp | undefined]>([
  ['ours', 0o600, 500, 500, undefined],
  ["root's, read only, as a mounted Secret", 0o400, 0, 0, undefined],
  ['of a group of ours', 0o640, 0, 44, undefined],
  ['of a group that is not ours', 0o640, 500, 45, /0640, and group 45 is not ours/],
  ['for all to read', 0o644, 500, 500, /0644: others/],
  ['for the group to write', 0o660, 500, 500, /0660: others/],
  ['for others to write', 0o602, 0, 0, /0602: others/],
  ["another user's", 0o600, 501, 500, /belongs to uid 501/],
])('a file that is %s', (_, mode, uid, gid, cause) => {
  const problem = secretFileProblem('/k', { mode: 0o100000 | mode, uid, gid }, self);
  if (cause === undefined) expect(problem).toBeUndefined();
  else expect(problem).toMatchObject({ subject: '/k', cause: expect.stringMatching(cause), cure: expect.stringMatching(/chmod 600 \/k/) });
});

describe('of a configuration', () => {
  const secret = 'nats://u:hunter2@h:4222';
  const file = (name: string, mode: number): string => {
    const path = join(folder, name);
    writeFileSync(path, 'x');
    chmodSync(path, mode);
    return path;
  };
  const subjects = (...given: Parameters<typeof exposedSecrets>) => exposedSecrets(...given).map(({ subject }) => subject);

  test.each(['natsCredsFile', 'natsNkeyFile', 'natsTlsKeyFile'] as const)('%s', (field) => {
    const mine = { ...nobody, self: { uid: process.getuid?.() ?? 0, groups: [process.getgid?.() ?? 0] } };
    const open = file(field, 0o644);
    expect(subjects({ ...none, nats: 'nats://h', [field]: open }, undefined, mine)).toEqual([open]);
    expect(subjects({ ...none, nats: 'nats://h', [field]: file(`${field}-2`, 0o600) }, undefined, mine)).toEqual([]);
    expect(subjects({ ...none, nats: 'nats://h', [field]: join(folder, 'missing') }, undefined, mine)).toEqual([]);
  });

  test('a password in an address: on the command line, in the environment, in a file', () => {
    const config = { ...none, nats: secret };
    expect(subjects(config, undefined, { ...nobody, argv: ['agent', '--nats', secret] })).toEqual(['command line']);
    expect(subjects(config, undefined, { ...nobody, argv: ['agent', `--nats=${secret}`] })).toEqual(['command line']);
    expect(subjects(config, undefined, { ...nobody, env: { TAPLANE_NATS: ` ${secret}` } })).toEqual(['TAPLANE_NATS']);
    const path = file('agent.yaml', 0o644);
    expect(subjects(config, path, { ...nobody, self: { uid: process.getuid?.() ?? 0, groups: [] } })).toEqual([path]);
    // Without a secret in it a configuration may be read by all.
    expect(subjects({ ...none, nats: 'nats://h' }, path, nobody)).toEqual([]);
    expect(JSON.stringify(exposedSecrets(config, path, { ...nobody, argv: [secret] }))).not.toContain('hunter2');
  });

  test.skipIf(process.getuid?.() !== 0)("another user's file", () => {
    const path = file('theirs', 0o600);
    chownSync(path, 12345, 0);
    expect(subjects({ ...none, nats: 'nats://h', natsCredsFile: path }, undefined, nobody)).toEqual([path]);
  });
});
