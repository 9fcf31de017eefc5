// What the doctor says: one line a check, and for all that is not well a cure that can be carried out.

export interface Check {
  /** Stable, in kebab-case. */
  name: string;
  status: 'pass' | 'warn' | 'fail';
  /** What was found. */
  detail: string;
  /** What to do about it; empty for a pass. */
  cure: string;
}

export function pass(name: string, detail: string): Check {
  return { name, status: 'pass', detail, cure: '' };
}

/** The agent runs, but something will not work or will work worse. */
export function warn(name: string, detail: string, cure: string): Check {
  return { name, status: 'warn', detail, cure };
}

/** The agent does not start, or cannot do its work. */
export function fail(name: string, detail: string, cure: string): Check {
  return { name, status: 'fail', detail, cure };
}
