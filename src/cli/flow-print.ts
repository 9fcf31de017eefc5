// Batches of flow records on stdout, in the asked form; resolves when the reader has taken them.

import type { FlowBatch } from '../gen/taplane/v1/flow.ts';
import { UsageError } from './exit-code.ts';
import { Columns, compactLines, dictionaryLines, flowDocument, type SeenFlow, TABLE_HEADS, tableCells } from './flow-text.ts';
import { printed } from './output.ts';
import type { Settings } from './settings.ts';
import { printable } from './table.ts';

/** What is printed together is aligned together. */
export type FlowPrinter = (batches: readonly FlowBatch[]) => Promise<void>;

export async function flowPrinter(
  { output }: Pick<Settings, 'output'>,
  fields: readonly string[],
  showNode: boolean,
): Promise<FlowPrinter> {
  const form = await formOf(output, fields, showNode);
  let head = form.head;
  return async (batches) => {
    const seen = batches.flatMap((batch) => batch.flows.map((flow) => ({ batch, flow })));
    if (seen.length === 0) return;
    // Columns grow to the widest word so far: a first pass widens them for all lines of the second.
    if (form.hasColumns) seen.forEach(form.text);
    const texts = seen.map(form.text);
    await printed(`${head?.() ?? ''}${texts.join('')}`);
    head = undefined;
  };
}

interface Form {
  text(seen: SeenFlow): string;
  /** Stands once above all, as wide as the columns are by then. */
  head?(): string;
  hasColumns?: boolean;
}

async function formOf(output: Settings['output'], fields: readonly string[], showNode: boolean): Promise<Form> {
  if (output === 'json') return { text: (seen) => `${JSON.stringify(flowDocument(seen))}\n` };
  if (output === 'dict') return { text: (seen) => `${dictionaryLines(flowDocument(seen))}\n` };
  if (output === 'table') return tableRows(fields);
  if (output === 'name') throw new UsageError('flow records have no names: use -o compact, table, dict, json or yaml');
  if (output === 'yaml') {
    const { stringify } = await import('yaml');
    return { text: (seen) => `---\n${stringify(flowDocument(seen), { keepUndefined: false })}` };
  }
  if (fields.length > 0) throw new UsageError('a line holds what it holds: with --fields use -o table, dict, json or yaml');
  const line = compactLines(showNode);
  const ids = ({ flow, batch }: SeenFlow) => `             ${printable(`${flow.communityId || '-'} ${flow.flowId} ${batch.node}`)}\n`;
  return { text: (seen) => `${line(seen)}\n${output === 'wide' ? ids(seen) : ''}`, hasColumns: true };
}

/** Rows of a stream cannot know how wide those behind them are: columns grow. */
function tableRows(fields: readonly string[]): Form {
  const heads = fields.length > 0 ? fields.map((field) => field.toUpperCase()) : TABLE_HEADS;
  const columns = new Columns(fields.length > 0 ? heads.map(({ length }) => Math.max(length, 15)) : [12, 9, 3, 8, 5, 21, 21, 5, 7, 5]);
  const row = (cells: readonly string[]): string =>
    `${cells
      .map((cell, index) => columns.pad(index, printable(cell) || '-'))
      .join('   ')
      .trimEnd()}\n`;
  return {
    text: (seen) => row(fields.length > 0 ? fieldCells(seen, fields) : tableCells(seen)),
    head: () => row(heads),
    hasColumns: true,
  };
}

function fieldCells(seen: SeenFlow, fields: readonly string[]): string[] {
  const document = flowDocument(seen);
  return fields.map((field) => {
    const path = field.split('.').map((part) => part.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()));
    const value = path.reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], document);
    if (value === undefined) return '';
    return typeof value === 'object' ? JSON.stringify(value) : String(value);
  });
}
