// What audit verify does: the agent reads its log, or this process reads the files.

import { VerifyAuditLogResponse } from '../gen/taplane/v1/audit_service.ts';
import { EXIT, UsageError } from './exit-code.ts';
import { message, print, printDocument } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { printable } from './table.ts';

/** Answers the exit code. Throws UsageError for a file that cannot be read. */
export async function verify(file: string | undefined, settings: Settings): Promise<number> {
  const verdict = file === undefined ? await withClient(settings, ({ audit }) => audit.verify()) : await offline(file);
  const { output } = settings;
  if (output === 'json' || output === 'yaml') await printDocument(output, VerifyAuditLogResponse.toJSON(verdict));
  else if (output === 'name') print(`${verdict.lastHash}\n`);
  else print(facts(verdict));
  const { firstBreak } = verdict;
  if (firstBreak === undefined) return EXIT.ok;
  const where = firstBreak.line > 0 ? `${firstBreak.file}, line ${firstBreak.line}` : firstBreak.file;
  message(`error: the log is not as it was written: record ${firstBreak.sequence} (${where}): ${printable(firstBreak.message)}`);
  return EXIT.failure;
}

async function offline(file: string): Promise<VerifyAuditLogResponse> {
  const [{ verifyPath }, { verdictMessage }] = await Promise.all([import('../audit/verify.ts'), import('../audit/wire.ts')]);
  try {
    return verdictMessage(verifyPath(file));
  } catch (error) {
    throw new UsageError(`read ${file}: ${(error as Error).message}`);
  }
}

function facts(verdict: VerifyAuditLogResponse): string {
  const { intact, chain, firstSequence, lastSequence, lastHash, recordCount, fileCount } = verdict;
  const lines: [string, string][] = [
    ['Intact', intact ? 'yes' : 'no'],
    ['Log', chain],
    [
      'Records',
      recordCount === 0n
        ? '0'
        : `${recordCount}, from ${firstSequence} to ${lastSequence}, in ${fileCount} ${fileCount === 1 ? 'file' : 'files'}`,
    ],
    ['Last hash', lastHash],
  ];
  return lines
    .filter(([, value]) => value !== '')
    .map(([key, value]) => `${`${key}:`.padEnd(14)}${printable(value)}\n`)
    .join('');
}
