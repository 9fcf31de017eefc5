// The image as far as it can be seen without building it: what goes in, and that the Dockerfile, the launcher and the package agree.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { librariesOf, usedPackages } from '../../scripts/image.ts';

const text = (path: string): string => readFileSync(join(import.meta.dirname, '..', '..', path), 'utf8');
const dockerfile = text('Dockerfile');
const manifest = JSON.parse(text('package.json')) as { version: string; dependencies: object; devDependencies: Record<string, string> };

test('packages that run go in, for both kinds of machines without building; those of development do not', () => {
  const lock = JSON.parse(text('package-lock.json')) as Parameters<typeof usedPackages>[0];
  const used = usedPackages(lock);
  expect(Object.keys(manifest.dependencies).filter((name) => !used.includes(`node_modules/${name}`))).toEqual([]);
  expect(Object.keys(manifest.devDependencies).filter((name) => used.includes(`node_modules/${name}`))).toEqual([]);
  for (const machine of ['x64', 'arm64']) expect(used).toContain(`node_modules/@koromix/koffi-linux-${machine}`);
});

test('libraries as ldd prints them', () => {
  const printed =
    '\tlinux-vdso.so.1 (0x00007ff)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x00007ff)\n\tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x00007ff)\n';
  expect(librariesOf(printed)).toEqual(['/lib/x86_64-linux-gnu/libm.so.6', '/lib64/ld-linux-x86-64.so.2']);
  expect(librariesOf('\tnot a dynamic executable\n')).toEqual([]);
});

test('the Dockerfile: pinned, from scratch, without a shell, the words of the launcher, the version and the Node of the package', () => {
  expect(dockerfile).toMatch(new RegExp(`^ARG BASE=node:${manifest.devDependencies['node']}-bookworm-slim$`, 'm'));
  expect(dockerfile).toMatch(new RegExp(`^ARG VERSION=${manifest.version}$`, 'm'));
  const [, last = ''] = dockerfile.split('\nFROM scratch\n');
  expect(last).not.toMatch(/^(RUN|SHELL|ADD) /m);
  for (const word of ['ENTRYPOINT', 'CMD']) expect(last).toMatch(new RegExp(`^${word} \\["`, 'm'));
  const entry = JSON.parse(/^ENTRYPOINT (.*)$/m.exec(last)?.[1] ?? '[]') as string[];
  const launched = /^exec "\$node" (.*) "\$main" "\$@"$/m.exec(text('bin/taplane'))?.[1];
  expect(entry.slice(1, -1).join(' ')).toBe(launched);
  expect(dockerfile).toContain('RUN node scripts/image.ts /image');
  const compiled = /^const NODE_COMPILE_CACHE = '(.*)';$/m.exec(text('scripts/image.ts'))?.[1];
  expect(last).toMatch(new RegExp(`^ENV .*NODE_COMPILE_CACHE=${compiled}$`, 'm'));
});

test('what the Dockerfile copies is let through by .dockerignore, and nothing else', () => {
  const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap((match) => (match[1] as string).split(' '));
  const through = [...text('.dockerignore').matchAll(/^!(\S+)$/gm)].map((match) => match[1] as string);
  expect(through.sort()).toEqual(copied.sort());
});
