// A vitest reporter that writes what a summary needs and the built-in JSON report leaves out: why a test was skipped, errors outside
// of any test, and files that never finished. Written only at the end of a run: no file means that vitest itself died.

import { writeFile } from 'node:fs/promises';
import { relative } from 'node:path';
import type { SerializedError } from 'vitest';
import type { Reporter, TestModule, TestRunEndReason } from 'vitest/node';

export interface VitestReport {
  tests: ReportedTest[];
  /** Errors that no test owns: while loading a file, in a worker, after the tests. */
  errors: string[];
  interrupted: boolean;
}

export interface ReportedTest {
  file: string;
  name: string;
  state: 'passed' | 'failed' | 'skipped' | 'pending';
  /** Why it was skipped. */
  note: string | undefined;
  durationMs: number;
}

export class VitestReportWriter implements Reporter {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async onTestRunEnd(modules: readonly TestModule[], unhandled: readonly SerializedError[], reason: TestRunEndReason): Promise<void> {
    const report: VitestReport = { tests: [], errors: [], interrupted: reason === 'interrupted' };
    for (const module of modules) {
      const file = relative(process.cwd(), module.moduleId);
      for (const error of module.errors()) report.errors.push(`${file}: ${error.message}`);
      if (module.state() === 'pending' || module.state() === 'queued') report.errors.push(`${file}: did not finish`);
      for (const suite of module.children.allSuites()) {
        for (const error of suite.errors()) report.errors.push(`${file}: ${suite.fullName}: ${error.message}`);
      }
      for (const test of module.children.allTests()) {
        const result = test.result();
        const note = result.state === 'skipped' ? (result.note ?? `${test.options.mode ?? 'skip'} without a reason`) : undefined;
        report.tests.push({ file, name: test.fullName, state: result.state, note, durationMs: test.diagnostic()?.duration ?? 0 });
      }
    }
    for (const error of unhandled) report.errors.push(`${error.name ?? 'Error'}: ${error.message}`);
    await writeFile(this.#path, JSON.stringify(report));
  }
}
