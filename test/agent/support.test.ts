// The pieces of a support bundle: an archive that tar reads, and text without secrets.

import { spawnSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import { loadConfig } from '../../src/agent/config.ts';
import { First } from '../../src/agent/support/kernel.ts';
import { redact } from '../../src/agent/support/redact.ts';
import { tar } from '../../src/agent/support/tar.ts';
import { type SupportNeeds, supportBundles } from '../../src/agent/support.ts';

describe('tar', () => {
  test('is read by tar, byte for byte', () => {
    const files = [0, 1, 511, 512, 513, 100_000].map((bytes) => ({ name: `folder/${bytes}`, content: Buffer.alloc(bytes, bytes % 251) }));
    const archive = tar(files, 1_700_000_000);
    const listed = spawnSync('tar', ['tvf', '-', '--utc'], { input: archive, encoding: 'utf8' });
    expect([listed.status, listed.stderr]).toEqual([0, '']);
    expect(listed.stdout.split('\n').filter(Boolean)).toHaveLength(files.length);
    expect(listed.stdout).toMatch(/^-rw------- root\/root +0 2023-11-14 22:13 folder\/0$/m);
    for (const { name, content } of files) {
      const { stdout } = spawnSync('tar', ['xOf', '-', name], { input: archive });
      expect(stdout.equals(content), name).toBe(true);
    }
  });

  test('refuses a name that it cannot hold', () => {
    expect(() => tar([{ name: 'x'.repeat(101), content: Buffer.alloc(0) }], 0)).toThrow(RangeError);
  });
});

describe('a bundle', () => {
  test('comes whatever fails, and says what did', async () => {
    const fails = (): never => {
      throw new Error('EMFILE: password=Hush1');
    };
    const needs = Object.fromEntries(
      ['getNode', 'checks', 'scrape', 'logTail', 'eventTail', 'diagnose'].map((name) => [name, fails]),
    ) as unknown as SupportNeeds;
    const list = { list: fails };
    // A folder that cannot be listed.
    const config = loadConfig({ runtimeDir: '/proc/version', stateDir: '/nonexistent' }, {});
    const bundle = supportBundles({ ...needs, config, version: '0', interfaces: list, links: list, flows: { stats: fails } });
    const pieces: Buffer[] = [];
    for await (const piece of bundle(new AbortController().signal)) pieces.push(piece);
    const input = Buffer.concat(pieces);
    const { stdout } = spawnSync('tar', ['xzOf', '-', 'taplane/about.json'], { input, encoding: 'utf8' });
    const { parts } = JSON.parse(stdout) as { parts: { name: string; bytes: number; error?: string }[] };
    expect(parts.find(({ name }) => name === 'lanes')?.error).toMatch(/ENOTDIR/);
    expect(parts.filter(({ error }) => error === 'EMFILE: password="[redacted]"')).toHaveLength(9);
    for (const name of ['config.yaml', 'netlink/links.json', 'process/status.txt'])
      expect(parts.find((one) => one.name === name)?.bytes).toBeGreaterThan(0);
  });

  test('has the first of a table, and the number of the others', () => {
    const first = new First(2);
    const read = first.of((payload) => payload.length);
    expect([1, 2, 3, 4].map((length) => read(Buffer.alloc(length)))).toEqual([1, 2, undefined, undefined]);
    expect(first.beyond).toBe(2);
    // The kernel has called that dump inconsistent: it is read again.
    first.begin();
    expect([5, 6, 7].map((length) => read(Buffer.alloc(length)))).toEqual([5, 6, undefined]);
    expect(first.beyond).toBe(1);
  });
});

describe('redact', () => {
  const SEED = `SU${'A2B3C4D5'.repeat(7)}`;
  const JWT = `eyJ${'a'.repeat(20)}.${'b'.repeat(40)}.${'c-_'.repeat(20)}`;
  test.each([
    ['nats://user:Hush1@host:4222 and tls://Hush2@host', ['Hush1', 'Hush2']],
    ['{"err":"dial nats://u:Hush1@h: refused"}', ['Hush1']],
    ['password: Hush1\nnext: kept', ['Hush1']],
    ['{"password":"Hu\\"sh1","name":"kept"}', ['sh1']],
    ['natsPassword=Hush1 privateKey: Hush2, preshared_key = "Hush3"', ['Hush1', 'Hush2', 'Hush3']],
    [`seed ${SEED} and ${JWT}`, [SEED, JWT]],
    ['{"err":"got {\\"password\\":\\"Hush1\\",\\"auth_token\\": \\"Hush2\\",\\"name\\":\\"kept\\"}"}', ['Hush1', 'Hush2']],
    ['CONNECT {"user":"kept","pass":"Hush1"}', ['Hush1']],
    ['Authorization: Bearer Hush1\r\n"authorization":"Basic SHVzaDI=", kept', ['Hush1', 'SHVzaDI']],
    [
      `-----BEGIN NATS USER JWT-----\n${JWT}\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\n${SEED}\n------END USER NKEY SEED------`,
      [SEED, JWT],
    ],
    ['-----BEGIN PRIVATE KEY-----\nHush1\nHush2\n-----END PRIVATE KEY-----\nkept', ['Hush1', 'Hush2']],
    ['"-----BEGIN EC PRIVATE KEY-----\\nHush1\\n-----END EC PRIVATE KEY-----"', ['Hush1']],
  ])('%s', (text, secrets) => {
    const clean = redact(text);
    for (const secret of secrets) expect(clean).not.toContain(secret);
    if (text.includes('kept')) expect(clean).toContain('kept');
  });

  test('known secrets go wherever they stand; short ones are no secrets', () => {
    expect(redact('xHush1x ab', ['Hush1', 'ab'])).toBe('x[redacted]x ab');
  });

  test('leaves what is none', () => {
    const text = '{"publicKey":"AAAA","address":"10.0.0.1/24","natsTlsKeyFile":"/etc/key.pem","url":"nats://host:4222","mail":"a@b"}';
    expect(redact(text)).toBe(text);
  });

  test('takes no time for text that is made to take it', () => {
    const began = performance.now();
    for (const text of [
      'token'.repeat(40_000),
      `password="${'\\'.repeat(200_000)}`,
      `a://${'b'.repeat(200_000)}`,
      '-----BEGIN PRIVATE KEY-----'.repeat(8_000),
      '\\"token\\":\\"'.repeat(20_000),
      `\\"pass\\":\\"${'\\a'.repeat(100_000)}`,
      'authorization: '.repeat(20_000),
    ])
      redact(text);
    expect(performance.now() - began).toBeLessThan(5_000);
  });
});
