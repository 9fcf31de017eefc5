// Exit codes, and what a failure says on stderr: what, the reason, every bad field on a line of its own, one next step.

import { styleText } from 'node:util';
import { type Failure, isLockedOut, nextStep } from './next-step.ts';

export const EXIT = { ok: 0, failure: 1, usage: 2, notFound: 3, alreadyExists: 4, refused: 5, unavailable: 6, interrupted: 130 } as const;

export const EXIT_CODE_HELP = `Exit codes:
  0  done                        4  already exists
  1  failed                      5  not permitted, or a precondition is missing
  2  wrong usage or bad input    6  agent unavailable, or timed out
  3  not found                 130  interrupted`;

/** A mistake on the command line that the parser cannot see; `exitCode` where what it names is not there, or is there already. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
  readonly exitCode: number;

  constructor(message: string, exitCode: number = EXIT.usage) {
    super(message);
    this.exitCode = exitCode;
  }
}

const CODES: Record<string, number> = {
  INVALID_ARGUMENT: EXIT.usage,
  OUT_OF_RANGE: EXIT.usage,
  NOT_FOUND: EXIT.notFound,
  ALREADY_EXISTS: EXIT.alreadyExists,
  PERMISSION_DENIED: EXIT.refused,
  UNAUTHENTICATED: EXIT.refused,
  FAILED_PRECONDITION: EXIT.refused,
  ABORTED: EXIT.refused,
  UNAVAILABLE: EXIT.unavailable,
  DEADLINE_EXCEEDED: EXIT.unavailable,
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return error.exitCode;
  if (!isFailure(error)) return EXIT.failure;
  return isLockedOut(error) ? EXIT.refused : (CODES[error.code] ?? EXIT.failure);
}

/** The lines for stderr, with a line feed at the end. */
export function explain(error: unknown): string {
  const label = styleText('red', 'error:', { stream: process.stderr });
  if (!isFailure(error)) return `${label} ${error instanceof Error ? error.message : String(error)}\n`;
  const lines = [`${label} ${error.message}`];
  if (error.reason) lines.push(`reason: ${error.reason}`);
  // One bad field, or one missing precondition, has mostly been told by the message; of several each has its line.
  const told = (text: string) => error.fields.length + error.preconditions.length === 1 && error.message.includes(text);
  for (const { field, description } of error.fields) if (!told(`${field}: ${description}`)) lines.push(`  ${field}: ${description}`);
  for (const { type, subject, description } of error.preconditions)
    if (!told(description)) lines.push(`  ${type} ${subject}: ${description}`);
  const next = nextStep(error);
  if (next) lines.push(`next: ${next}`);
  return `${lines.join('\n')}\n`;
}

function isFailure(error: unknown): error is Failure {
  return error instanceof Error && 'reason' in error && 'fields' in error && 'preconditions' in error && 'code' in error;
}
