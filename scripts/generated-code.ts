// What buf makes of proto/: ts-proto code, the descriptors that reflection serves, and the reference in docs/. It is made in a scratch folder first, so that
// a failing generator leaves src/gen alone, and so that writing it and checking it for drift are the same work.

import { cp, glob, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { apiReference } from './api-reference.ts';
import { ROOT, runTool } from './run-tool.ts';

const GENERATED = join(ROOT, 'src', 'gen');
const REFERENCE = join('docs', 'api.md');
export const DESCRIPTORS = 'descriptors.binpb';

/** Calls `use` with a folder that holds what src/gen should hold. Throws with the generator's own words. */
async function withFreshCode<Result>(use: (folder: string) => Promise<Result>): Promise<Result> {
  const scratch = await mkdtemp(join(tmpdir(), 'taplane-generate-'));
  try {
    const folder = join(scratch, 'src', 'gen');
    await buf('generate', '-o', scratch);
    await buf('build', 'proto', '--exclude-path', 'proto/taplane/lane', '--as-file-descriptor-set', '-o', join(folder, DESCRIPTORS));
    return await use(folder);
  } finally {
    await rm(scratch, { recursive: true, force: true });
  }
}

/** Replaces src/gen and docs/api.md. */
export async function writeGeneratedCode(): Promise<void> {
  await withFreshCode(async (folder) => {
    await rm(GENERATED, { recursive: true, force: true });
    await cp(folder, GENERATED, { recursive: true });
    await writeFile(join(ROOT, REFERENCE), await referenceOf(folder));
  });
}

/** One line for each of these files that is not what the generator makes now; none when all is well. */
export async function findDrift(): Promise<string[]> {
  return withFreshCode(async (folder) => {
    const names = new Set([...(await filesOf(folder)), ...(await filesOf(GENERATED))]);
    const drift: string[] = [];
    for (const name of [...names].sort()) {
      const [fresh, kept] = await Promise.all([contentOf(join(folder, name)), contentOf(join(GENERATED, name))]);
      if (!kept) drift.push(`src/gen/${name}: not there`);
      else if (!fresh) drift.push(`src/gen/${name}: no proto file makes it any more`);
      else if (!fresh.equals(kept)) drift.push(`src/gen/${name}: ${firstDifference(kept, fresh)}`);
    }
    const reference = Buffer.from(await referenceOf(folder));
    const kept = await contentOf(join(ROOT, REFERENCE));
    if (!kept?.equals(reference)) drift.push(`${REFERENCE}: ${kept ? firstDifference(kept, reference) : 'not there'}`);
    return drift;
  });
}

async function referenceOf(folder: string): Promise<string> {
  return apiReference(await readFile(join(folder, DESCRIPTORS)));
}

async function buf(...args: string[]): Promise<void> {
  const { code, output } = await runTool('buf', args);
  if (code !== 0) throw new Error(`buf ${args[0]} ended with code ${code}:\n${output}`);
}

async function filesOf(folder: string): Promise<string[]> {
  const names: string[] = [];
  for await (const entry of glob('**/*', { cwd: folder, withFileTypes: true })) {
    if (entry.isFile()) names.push(join(entry.parentPath, entry.name).slice(folder.length + 1));
  }
  return names;
}

async function contentOf(path: string): Promise<Buffer | undefined> {
  return readFile(path).catch(() => undefined);
}

function firstDifference(kept: Buffer, fresh: Buffer): string {
  const [ours, theirs] = [kept.toString().split('\n'), fresh.toString().split('\n')];
  const line = ours.findIndex((text, index) => text !== theirs[index]);
  return line < 0 ? 'is shorter than it should be' : `differs first in line ${line + 1}`;
}
