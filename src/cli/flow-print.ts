// Batches of flow records on stdout, in the asked form; resolves when the reader has taken them.

import type { FlowBatch } from '../gen/taplane/v1/flow.ts';
import { UsageError } from './exit-code.ts';
import { Columns, compactLines, dictionaryLines, flowDocument, type SeenFlow, TABLE_HEADS, tableCells } from './flow-text.ts';
import { printed } from './output.ts';
import type { Settings } from './settings.ts';
import { printable } from './table.ts';

export type FlowPrinter = (batch: FlowBatch) => Promise<void>;

export async function flowPrinter(
  { output }: Pick<Settings, 'output'>,
  fields: readonly string[],
  showNode: boolean,
): Promise<FlowPrinter> {
  const form = await formOf(output, fields, showNode);
  return async (batch) => {
    if (batch.flows.length > 0) await printed(batch.flows.map((flow) => form({ batch, flow })).join(''));
  };
}

async function formOf(output: Settings['output'], fields: readonly string[], showNode: boolean): Promise<(seen: SeenFlow) => string> {
  if (output === 'json') return (seen) => `${JSON.stringify(flowDocument(seen))}\n`;
  if (output === 'dict') return (seen) => `${dictionaryLines(flowDocument(seen))}\n`;
  if (output === 'table') return tableRows(fields);
  if (output === 'name') throw new UsageError('flow records have no names: use -o compact, table, dict, json or yaml');
  if (output === 'yaml') {
    const { stringify } = await import('yaml');
    return (seen) => `---\n${stringify(flowDocument(seen), { keepUndefined: false })}`;
  }
  if (fields.length > 0) throw new UsageError('a line holds what it holds: with --fields use -o table, dict, json or yaml');
  const line = compactLines(showNode);
  if (output !== 'wide') return (seen) => `${line(seen)}\n`;
  return (seen) => `${line(seen)}\n             ${printable(`${seen.flow.communityId || '-'} ${seen.flow.flowId} ${seen.batch.node}`)}\n`;
}

/** Heads with the first row. Rows of a stream cannot know how wide those behind them are: columns grow. */
function tableRows(fields: readonly string[]): (seen: SeenFlow) => string {
  const heads = fields.length > 0 ? fields.map((field) => field.toUpperCase()) : TABLE_HEADS;
  const columns = new Columns(fields.length > 0 ? heads.map(({ length }) => Math.max(length, 15)) : [12, 9, 3, 8, 5, 21, 21, 5, 7, 5]);
  const row = (cells: readonly string[]): string =>
    `${cells
      .map((cell, index) => columns.pad(index, printable(cell) || '-'))
      .join('   ')
      .trimEnd()}\n`;
  let isFirst = true;
  return (seen) => {
    const cells = fields.length > 0 ? fieldCells(seen, fields) : tableCells(seen);
    const text = `${isFirst ? row(heads) : ''}${row(cells)}`;
    isFirst = false;
    return text;
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
