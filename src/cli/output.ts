// Data goes to stdout in the asked format, messages to stderr. JSON and YAML are the proto3 JSON of the API.

import { type Column, printable, table } from './table.ts';

export const FORMATS = ['table', 'wide', 'json', 'yaml', 'name'] as const;
/** Forms of what comes line by line; only `flow observe` has them. */
export const LINE_FORMATS = ['compact', 'dict'] as const;
export type Format = (typeof FORMATS)[number] | (typeof LINE_FORMATS)[number];

/** One answer in all its forms. */
export interface Answer<Row> {
  columns: readonly Column<Row>[];
  rows: readonly Row[];
  /** Printed with `-o json` and `-o yaml`. */
  json: unknown;
  name(row: Row): string;
}

export async function printAnswer<Row>(format: Format, answer: Answer<Row>): Promise<void> {
  if (format === 'json' || format === 'yaml') return printDocument(format, answer.json);
  if (format === 'name') return print(answer.rows.map((row) => `${printable(answer.name(row))}\n`).join(''));
  if (answer.rows.length > 0) return print(table(answer.columns, answer.rows, format === 'wide'));
  message('nothing found');
}

export async function printDocument(format: 'json' | 'yaml', document: unknown): Promise<void> {
  if (format === 'json') return print(`${JSON.stringify(document, null, 2)}\n`);
  const { stringify } = await import('yaml');
  print(stringify(document));
}

export function print(text: string): void {
  process.stdout.write(text);
}

export function message(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** For what may be more than its reader takes at once: resolves when it has gone out, or nobody reads it any more. */
export function printed(data: string | Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    process.stdout.write(data, () => resolve());
  });
}

const leave = (): void => process.exit(0);
let whenClosed = leave;

/** A reader that has seen enough, such as `head`, is no failure. */
export function acceptClosedPipe(): void {
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    whenClosed();
  });
}

/** For a command that has to tidy up first: calls `then` instead of ending the process, until it is disposed of. */
export function atClosedPipe(then: () => void): Disposable {
  whenClosed = then;
  return {
    [Symbol.dispose]() {
      whenClosed = leave;
    },
  };
}
