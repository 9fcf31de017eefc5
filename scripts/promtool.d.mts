// What the tests see of promtool.mjs.

/** What starts promtool: its name where it is in the PATH, else the path of the one that was fetched; undefined without any. */
export function promtoolCommand(): string | undefined;
/** Fetches it where there is none. Answers why there is none afterwards, or undefined. */
export function fetchPromtool(say: (text: string) => void): string | undefined;
