// Keeps the source tree as docs/ describes it. Each rule is run over the tree, and over a bad sample: a rule that cannot fail is none.

import { readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  checkLockFile,
  checkNoShellingOut,
  checkPackages,
  checkPortable,
  checkPure,
  checkRooms,
  checkShape,
  FLOORS,
  importsOf,
  PACKAGES,
  ROOMS,
  type SourceFile,
} from './harness/architecture.ts';

const ROOT = join(import.meta.dirname, '..');
const NOT_OURS = new Set(['node_modules', 'dist', '.git', '.cache']);

function readTree(folder: string, ending: RegExp): SourceFile[] {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return NOT_OURS.has(entry.name) ? [] : readTree(path, ending);
    return ending.test(entry.name) ? [{ path: relative(ROOT, path), text: readFileSync(path, 'utf8') }] : [];
  });
}

const source = readTree(join(ROOT, 'src'), /\.ts$/);
const file = (path: string, text: string): SourceFile[] => [{ path, text }];

describe('imports', () => {
  it('are found in all their forms, and not in comments', () => {
    const text = [
      "import { a } from './a.ts';",
      "import type { B } from './b.ts';",
      'import {\n  c,\n  type C,\n} from "./c.ts";',
      "import './d.ts';",
      "export { e } from './e.ts';",
      "const f = await import('./f.ts');",
      "// import { no } from './comment.ts';",
      "/* import { no } from './comment.ts'; */",
      "const text = 'from nowhere';",
    ].join('\n');
    expect(importsOf(text).map(({ specifier, lazy }) => `${specifier}${lazy ? '?' : ''}`)).toEqual([
      './a.ts',
      './b.ts',
      './c.ts',
      './d.ts',
      './e.ts',
      './f.ts?',
    ]);
  });

  it('are found in this tree at all', () => {
    expect(source.flatMap(({ text }) => importsOf(text)).length).toBeGreaterThan(50);
  });
});

describe('rooms', () => {
  it('import only what the table allows', () => {
    expect(checkRooms(source)).toEqual([]);
  });

  it.each([
    ['src/packet/parse.ts', "import { x } from '../sys/libc.ts';", 'packet may not statically import sys/libc'],
    ['src/sys/tun.ts', "import { TaplaneError } from '../errors.ts';", 'sys may not statically import errors'],
    ['src/interface/manager.ts', "import { x } from '../rpc/status.ts';", 'interface may not statically import rpc/status'],
    ['src/flow/spool.ts', "const x = await import('../sys/libc.ts');", 'flow may not import sys/libc'],
    ['src/cli/table.ts', "import { x } from '../rpc/server.ts';", 'cli may not statically import rpc/server'],
    ['src/main.ts', "import { startAgent } from './agent/agent.ts';", 'main may not statically import agent/agent'],
    ['src/agent/agent.ts', "import { x } from '../cli/table.ts';", 'agent may not statically import cli/table'],
    ['src/rpc/link-service.ts', "import { x } from '../lane/queue.ts';", 'rpc may not statically import lane/queue'],
    ['src/rpc/server.ts', "import { x } from '../../test/harness/random.ts';", 'outside of src'],
    ['src/wings/a.ts', '', 'wings is no room of this tree'],
  ])('%s is caught', (path, text, violation) => {
    expect(checkRooms(file(path, text))).toEqual([expect.stringContaining(violation)]);
  });

  it.each([
    ['src/main.ts', "import { run } from './cli/program.ts';\nconst { startAgent } = await import('./agent/agent.ts');"],
    ['src/cli/interface.ts', "import { connect } from '../rpc/client.ts';\nimport './table.ts';"],
    ['src/rpc/lanes.ts', "import { x } from '../lane/client.ts';"],
  ])('%s is open', (path, text) => {
    expect(checkRooms(file(path, text))).toEqual([]);
  });

  it('form no cycle: what a room may import can never come back to it', () => {
    const reach = (room: string, seen = new Set<string>()): Set<string> => {
      for (const entry of ROOMS[room] ?? []) {
        const next = entry.replace(/[/?].*$/, '');
        if (!seen.has(next)) reach(next, seen.add(next));
      }
      return seen;
    };
    for (const room of Object.keys(ROOMS)) expect(reach(room), room).not.toContain(room);
  });
});

describe('outside packages', () => {
  it('each have one room', () => {
    expect(checkPackages(source)).toEqual([]);
  });

  it('cover every dependency of the package', () => {
    const { dependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { dependencies: Record<string, string> };
    const homeless = Object.keys(dependencies).filter((name) => !PACKAGES.some(([pattern]) => pattern.test(name)));
    expect(homeless).toEqual([]);
  });

  it.each([
    ['src/sys/tun.ts', "import koffi from 'koffi';"],
    ['src/agent/agent.ts', "import { Command } from 'commander';"],
    ['src/interface/manager.ts', "import { status } from '@grpc/grpc-js';"],
    ['src/interface/spec.ts', "import { z } from 'zod';"],
    ['src/interface/manager.ts', "import { DatabaseSync } from 'node:sqlite';"],
    ['src/flow/publisher.ts', "import { connect } from '@nats-io/transport-node';"],
    ['src/rpc/server.ts', "import { pino } from 'pino';"],
    ['src/sys/tun.ts', "import ipaddr from 'ipaddr.js';"],
    ['src/rpc/server.ts', "import { x } from 'left-pad';"],
    ['src/rpc/server.ts', "import { x } from 'fs';"],
  ])('%s may not say %s', (path, text) => {
    expect(checkPackages(file(path, text))).toHaveLength(1);
  });
});

describe('pure files', () => {
  it('touch no system', () => {
    expect(checkPure(source)).toEqual([]);
  });

  it.each([
    ['src/packet/ethernet.ts', "import { readFileSync } from 'node:fs';"],
    ['src/interface/plan.ts', "import { spawn } from 'node:child_process';"],
    ['src/sys/netlink/link.ts', "import { call } from '../libc.ts';"],
    ['src/sys/netlink/route.ts', "import { open } from './socket.ts';"],
  ])('%s may not say %s', (path, text) => {
    expect(checkPure(file(path, text))).toHaveLength(1);
  });
});

describe('shape', () => {
  it('is small, named files with named exports, each beginning with its contract', () => {
    expect(checkShape(source)).toEqual([]);
  });

  it.each([
    ['src/rpc/server.ts', `// Serves.\n${'x();\n'.repeat(400)}`, '401 lines'],
    ['src/rpc/utils/a.ts', '// Does.\n', 'utils names no thing'],
    ['src/rpc/helpers.ts', '// Does.\n', 'helpers.ts names no thing'],
    ['src/rpc/a.ts', '// Does.\nexport default 1;\n', 'default export'],
    ['src/rpc/a.ts', "// Does.\nexport * from './b.ts';\n", 'exports *'],
    ['src/rpc/a.ts', 'export const a = 1;\n', 'does not begin with'],
  ])('%s: a bad sample is caught', (path, text, violation) => {
    expect(checkShape(file(path, text))).toEqual([expect.stringContaining(violation)]);
  });
});

describe('the kernel', () => {
  it('is not spoken to through command-line tools', () => {
    expect(checkNoShellingOut(source)).toEqual([]);
  });

  it.each(["spawn('ip', ['link'])", 'execFileSync("/sbin/tc")', 'execSync(`bridge link`)'])('%s is caught', (text) => {
    expect(checkNoShellingOut(file('src/sys/a.ts', text))).toHaveLength(1);
  });
});

describe('lock file', () => {
  const entry = (name: string, version: string) => ({ [`node_modules/${name}`]: { version } });
  const good = {
    '': { engines: { node: '>=24.17.0' } },
    ...Object.assign({}, ...Object.entries(FLOORS).map(([name, floors]) => entry(name, Object.values(floors)[0] ?? ''))),
  };

  it('is whole, above the floors, and not tied to where packages were fetched from', () => {
    expect(checkLockFile(JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')))).toEqual([]);
    expect(checkLockFile({ packages: good })).toEqual([]);
  });

  it('is caught below each floor, with a foreign major version, and without one of these packages', () => {
    for (const name of Object.keys(FLOORS)) {
      for (const version of ['0.0.1', `${Object.keys(FLOORS[name] ?? {})[0]}.0.0`, '99.0.0']) {
        const bad = { ...good, ...entry(`x/node_modules/${name}`, version) };
        expect(checkLockFile({ packages: bad }), `${name} ${version}`).toEqual([expect.stringContaining('below its floor')]);
      }
      const { [`node_modules/${name}`]: _, ...without } = good;
      expect(checkLockFile({ packages: without })).toEqual([`package-lock.json: ${name} is not there`]);
    }
  });

  it('is caught with a place recorded, a platform missing, an engine too old', () => {
    const tied = { ...good, 'node_modules/a': { version: '1.0.0', resolved: 'https://packages.example.net/a.tgz' } };
    expect(checkLockFile({ packages: tied })).toEqual(['package-lock.json: node_modules/a is tied to packages.example.net']);
    const partial = { ...good, 'node_modules/a': { version: '1.0.0', optionalDependencies: { 'a-arm': '1.0.0' } } };
    expect(checkLockFile({ packages: partial })).toEqual(['package-lock.json: node_modules/a is without a-arm: npm ci refuses that']);
    const old = { ...good, '': { engines: { node: '>=22.0.0' } } };
    expect(checkLockFile({ packages: old })).toEqual([expect.stringContaining('engines.node >=22.0.0')]);
  });
});

describe('the repository', () => {
  const endings = /(^[^.]+|\.(ts|mjs|js|json|md|ya?ml|proto|sh|tpl|txt)|^\.[a-z]+(ignore|rc)?)$/;

  it('speaks of no single machine', () => {
    expect(checkPortable(readTree(ROOT, endings))).toEqual([]);
  });

  it.each([`see ${'/'}work/x`, `cd ${'/'}home/me`, `https://${'registry'}.example.org/a`])('%s is caught', (text) => {
    expect(checkPortable(file('docs/a.md', text))).toHaveLength(1);
  });

  it('takes no address of an API or a file of the system for one', () => {
    expect(checkPortable(file('docs/a.md', 'interfaces/tap0 /etc/taplane /run/netns/work/x docs/home/a 10.0.0.0/8'))).toEqual([]);
  });
});
