// All series that an agent exports, and the table of them in the documentation. Pure.

import { INTERFACE_SERIES } from './interface-series.ts';
import { LINK_SERIES } from './link-series.ts';
import { NODE_SERIES } from './node-series.ts';
import type { Series } from './series.ts';

export const SERIES: readonly Series[] = [...NODE_SERIES, ...INTERFACE_SERIES, ...LINK_SERIES];

/** As docs/observability.md has it, in Markdown. */
export function seriesTable(series: readonly Series[] = SERIES): string {
  const rows = series.map(
    ({ name, kind, labels, help }) => `| \`${name}\` | ${kind} | ${labels.map((label) => `\`${label}\``).join(', ')} | ${help} |`,
  );
  return ['| series | type | labels | |', '| --- | --- | --- | --- |', ...rows].join('\n');
}
