// Exit codes, and what a failure says on stderr: what, the reason, every bad field on a line of its own, one next step.

import { styleText } from 'node:util';

export const EXIT = { ok: 0, failure: 1, usage: 2, notFound: 3, alreadyExists: 4, refused: 5, unavailable: 6, interrupted: 130 } as const;

export const EXIT_CODE_HELP = `Exit codes:
  0  done                        4  already exists
  1  failed                      5  not permitted, or a precondition is missing
  2  wrong usage or bad input    6  agent unavailable, or timed out
  3  not found                 130  interrupted`;

/** A mistake on the command line that the parser cannot see. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What ClientError and TaplaneError have in common. */
interface Failure {
  code: string;
  message: string;
  reason: string;
  fields: readonly { field: string; description: string }[];
  preconditions: readonly { type: string; subject: string; description: string }[];
  server?: string;
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

const NEXT: Record<string, string> = {
  INVALID_ARGUMENT: 'correct the input; --help shows what is accepted',
  OUT_OF_RANGE: 'start again without the resume token',
  NOT_FOUND: 'see what there is: taplane interface list',
  ALREADY_EXISTS: 'choose another name, change it: taplane interface update, or take over a foreign device: taplane interface adopt',
  PERMISSION_DENIED: 'ask who runs the agent for permission',
  UNAUTHENTICATED: 'ask who runs the agent for permission',
  FAILED_PRECONDITION: 'see what the node lacks: taplane doctor',
  ABORTED: 'it was changed meanwhile: read it again and repeat',
  RESOURCE_EXHAUSTED: 'see the limits of the agent: taplane node status',
  DEADLINE_EXCEEDED: 'give it more time: --timeout 60s; see whether the agent is well: taplane node status',
  UNIMPLEMENTED: 'the agent is older than this client: compare with taplane version',
  INTERNAL: 'look into the log of the agent for this id',
};

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage;
  return isFailure(error) ? (CODES[error.code] ?? EXIT.failure) : EXIT.failure;
}

/** The lines for stderr, with a line feed at the end. */
export function explain(error: unknown): string {
  const label = styleText('red', 'error:', { stream: process.stderr });
  if (!isFailure(error)) return `${label} ${error instanceof Error ? error.message : String(error)}\n`;
  const lines = [`${label} ${error.message}`];
  if (error.reason) lines.push(`reason: ${error.reason}`);
  for (const { field, description } of error.fields) lines.push(`  ${field}: ${description}`);
  for (const { type, subject, description } of error.preconditions) lines.push(`  ${type} ${subject}: ${description}`);
  const next = nextStep(error);
  if (next) lines.push(`next: ${next}`);
  return `${lines.join('\n')}\n`;
}

function nextStep({ code, message, server }: Failure): string | undefined {
  if (code !== 'UNAVAILABLE') return NEXT[code];
  const at = server ? ` (tried ${server})` : '';
  if (/EACCES|EPERM/.test(message)) return `run as root, or join the group of the socket`;
  if (/ECONNREFUSED|ENOENT|EAI_|ENOTFOUND/.test(message))
    return `start the agent: taplane agent; or say where it listens: --server or TAPLANE_SERVER`;
  return `try again; see whether the agent runs: taplane node status${at}`;
}

function isFailure(error: unknown): error is Failure {
  return error instanceof Error && 'reason' in error && 'fields' in error && 'preconditions' in error && 'code' in error;
}
