// Programs in Python that know of Taplane what its protos say and nothing else: Debian's python3-grpcio, with stubs that `protoc` makes.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { run } from './process.ts';

const PYTHON = '/usr/bin/python3';
const ROOT = join(import.meta.dirname, '..', '..');
const PROTOS = join(ROOT, 'proto');

export class PythonStubs implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), 'tpl-python-'));

  /** The command that runs a program with the stubs on its path. It begins with `import sys`; its arguments are from `sys.argv[1]` on. */
  program(name: string, source: string, ...args: string[]): string[] {
    const file = join(this.folder, name);
    // protoc makes `google/rpc`, which must not hide the `google` of Debian's protobuf.
    const google = `import google\ngoogle.__path__.append(${JSON.stringify(join(this.folder, 'google'))})\n`;
    writeFileSync(file, `import sys\nsys.path.insert(0, ${JSON.stringify(this.folder)})\n${google}${source}`);
    return [PYTHON, file, ...args];
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

/** Stubs of every service of the API, and of the details of errors. Throws with what protoc says. */
export async function pythonStubs(): Promise<PythonStubs> {
  const stubs = new PythonStubs();
  const google = join(ROOT, 'node_modules', 'google-proto-files');
  const own = join(PROTOS, 'taplane', 'v1');
  const made = await run([
    'protoc',
    `-I${PROTOS}`,
    `-I${google}`,
    `--python_out=${stubs.folder}`,
    `--grpc_python_out=${stubs.folder}`,
    '--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin',
    ...readdirSync(own).map((name) => join(own, name)),
    ...['status', 'error_details'].map((name) => join(google, 'google', 'rpc', `${name}.proto`)),
  ]);
  if (made.code === 0 && made.stderr === '') return stubs;
  stubs[Symbol.dispose]();
  throw new Error(`make stubs for Python: code ${made.code}: ${made.stderr}`);
}
