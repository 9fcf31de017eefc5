// The examples are what a stranger would write: they know the protos, and the packages of gRPC and NATS, and nothing else of this tree.

import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { importsOf } from './harness/architecture.ts';

const FOLDER = join(import.meta.dirname, '../examples/controller');
const text = (name: string) => readFileSync(join(FOLDER, name), 'utf8');
const OPEN = /^(node:[\w/]+|@grpc\/grpc-js|@nats-io\/transport-node|\.\.\/\.\.\/src\/gen\/taplane\/v1\/\w+\.ts)$/;

it('import generated code and no other of ours', () => {
  const imports = importsOf(text('controller.ts')).map(({ specifier }) => specifier);
  expect(imports.length).toBeGreaterThan(8);
  expect(imports.filter((specifier) => !OPEN.test(specifier))).toEqual([]);
  expect(OPEN.test('../../src/rpc/client.ts')).toBe(false);
});

it('stay what can be read at one sitting', () => {
  const lines = (name: string) => text(name).split('\n').length - 1;
  expect(lines('controller.ts')).toBeLessThanOrEqual(200);
  expect(lines('controller.py')).toBeLessThanOrEqual(150);
  expect(readdirSync(FOLDER).sort()).toEqual(['README.md', 'controller.py', 'controller.ts']);
});

it('parse', () => {
  const checked = spawnSync('/usr/bin/python3', ['-c', 'import ast, sys; ast.parse(sys.stdin.read())'], { input: text('controller.py') });
  // Where there is no such Python nothing is shown; the tests that run it say so.
  if (!checked.error) expect(String(checked.stderr)).toBe('');
});
