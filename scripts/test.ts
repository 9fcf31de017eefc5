// `npm test`: everything that can show a fault, one line each, and a count as the very last line. `--no-root` (`npm run check`) leaves
// out the tests that need root. Any other argument is a filter for vitest, and then only vitest runs: `npm test -- test/sys`.
// Ends with a code other than 0 when anything failed, when vitest crashed, and when no test ran at all.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findDrift } from './generated-code.ts';
import { removeLeftovers } from './leftovers.ts';
import { ROOT, runTool, type ToolResult } from './run-tool.ts';
import type { VitestReport } from './vitest-report.ts';

const SLOW_MS = 10_000;

const args = process.argv.slice(2);
const noRoot = args.includes('--no-root');
const filters = args.filter((arg) => arg !== '--no-root');

const count = { passed: 0, failed: 0, skipped: 0 };
const rows: string[] = [];

// Ctrl-C reaches vitest too; what it leaves is still removed, and what it found still counted.
process.on('SIGINT', () => {});

for (const leftover of removeLeftovers()) console.log(`removed what an earlier run left: ${leftover}`);

if (filters.length === 0) {
  await step('type check', () => runTool('tsc', ['--pretty', 'false']));
  await step('lint and format', () => runTool('biome', ['check', '--error-on-warnings', '--max-diagnostics=50', '.']));
  await step('buf lint', () => runTool('buf', ['lint']));
  await step('buf format', () => runTool('buf', ['format', 'proto', '--diff', '--exit-code']));
  await step('generated code', async () => {
    const drift = await findDrift();
    const cure = 'run `npm run generate` and commit what it changes\n';
    return { code: drift.length, output: drift.length > 0 ? `${drift.join('\n')}\n${cure}` : '' };
  });
}
await vitest();
await step('nothing left behind', async () => {
  const found = removeLeftovers();
  return { code: found.length, output: found.map((line) => `${line}\n`).join('') };
});

console.log(`\n${rows.join('\n')}\n`);
console.log(`${count.passed} passed, ${count.failed} failed, ${count.skipped} skipped`);
if (count.failed > 0) process.exitCode = 1;

/** A check of its own; counts as one test, and says what is wrong only when something is. */
async function step(name: string, run: () => Promise<ToolResult>): Promise<void> {
  const start = performance.now();
  const { code, output } = await run().catch((error: Error) => ({ code: 1, output: `${error.message}\n` }));
  const row = `${code === 0 ? 'ok  ' : 'FAIL'} ${name.padEnd(20)} ${seconds(performance.now() - start)}`;
  if (code === 0) count.passed += 1;
  else count.failed += 1;
  rows.push(row);
  console.log(row);
  if (code !== 0) console.log(output.replace(/^/gm, '     ').trimEnd());
}

async function vitest(): Promise<void> {
  const start = performance.now();
  const folder = await mkdtemp(join(tmpdir(), 'taplane-report-'));
  const path = join(folder, 'report.json');
  const { code } = await runTool(process.execPath, [join(ROOT, 'node_modules/vitest/vitest.mjs'), 'run', ...filters], {
    inherit: true,
    env: { TAPLANE_TEST_REPORT: path, ...(noRoot ? { TAPLANE_TEST_NO_ROOT: '1' } : {}) },
  });
  const report = await readReport(path);
  await rm(folder, { recursive: true, force: true });

  // What `-t` did not choose is no skipped test.
  if (filters.includes('-t')) report.tests = report.tests.filter((test) => test.state !== 'skipped');
  const of = (state: string) => report.tests.filter((test) => test.state === state);
  const [passed, skipped] = [of('passed'), of('skipped')];
  const failed = report.tests.filter((test) => test.state === 'failed' || test.state === 'pending');
  if (report.interrupted) report.errors.push('vitest was interrupted');
  if (report.tests.length === 0) report.errors.push('no test ran');
  if (code !== 0 && failed.length + report.errors.length === 0) report.errors.push(`vitest ended with code ${code}`);
  count.passed += passed.length;
  count.failed += failed.length + report.errors.length;
  count.skipped += skipped.length;

  const bad = failed.length + report.errors.length;
  rows.push(
    `${bad === 0 ? 'ok  ' : 'FAIL'} ${'vitest'.padEnd(20)} ${seconds(performance.now() - start)}   ${passed.length} passed, ${bad} failed, ${skipped.length} skipped`,
  );
  for (const test of failed) rows.push(`     failed: ${test.file}: ${test.name}`);
  for (const error of report.errors) rows.push(`     error: ${error}`);
  for (const test of skipped) rows.push(`     skipped: ${test.file}: ${test.name}: ${test.note}`);
  const slow = report.tests.filter((test) => test.durationMs > SLOW_MS).sort((a, b) => b.durationMs - a.durationMs);
  for (const test of slow) rows.push(`     took ${seconds(test.durationMs)}: ${test.file}: ${test.name}`);
}

async function readReport(path: string): Promise<VitestReport> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as VitestReport;
  } catch {
    return { tests: [], errors: ['vitest ended without a report'], interrupted: false };
  }
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1).padStart(6)} s`;
}
