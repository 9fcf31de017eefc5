// Columns as kubectl prints them: upper-case heads, three blanks between, no borders, nothing at the end of a line. Pure.

export interface Column<Row> {
  head: string;
  /** Only with `-o wide`. */
  wide?: boolean;
  cell(row: Row): string;
}

/** An empty cell reads `-`, so that every line has the same number of words for awk. Control characters are made visible. */
export function table<Row>(columns: readonly Column<Row>[], rows: readonly Row[], wide: boolean): string {
  const shown = columns.filter((column) => wide || !column.wide);
  const cells = [shown.map((column) => column.head), ...rows.map((row) => shown.map((column) => printable(column.cell(row)) || '-'))];
  const widths = shown.map((_, index) => Math.max(...cells.map((line) => line[index]?.length ?? 0)));
  return cells
    .map(
      (line) =>
        `${line
          .map((cell, index) => cell.padEnd(widths[index] ?? 0))
          .join('   ')
          .trimEnd()}\n`,
    )
    .join('');
}

/** Text of others, such as the name of a process, must not steer the terminal. */
export function printable(text: string): string {
  return text.replace(/\p{Cc}/gu, (character) => `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`);
}
