// Violations of a request, collected under the paths of its fields. Pure.

import type { FieldViolation } from '../errors.ts';

/** Collects violations under a path. */
export class Report {
  readonly violations: FieldViolation[];
  readonly #path: string;

  constructor(path: string, violations: FieldViolation[] = []) {
    this.#path = path;
    this.violations = violations;
  }

  at(field: string): Report {
    return new Report(`${this.#path}${field.startsWith('[') ? '' : '.'}${field}`, this.violations);
  }

  say(description: string): void {
    this.violations.push({ field: this.#path, description });
  }
}

/** Whether an enum has this value. */
export const known = (values: Record<string, number>, value: number): boolean => value >= 0 && Object.values(values).includes(value);

/** Checks each of at most `most` items, and that no two have the same key. */
export function list<T>(items: T[], most: number, report: Report, key: (item: T) => string, check: (item: T, at: Report) => void): void {
  if (items.length > most) {
    report.say(`at most ${most}, got ${items.length}`);
    return;
  }
  const seen = new Map<string, number>();
  items.forEach((item, index) => {
    const at = report.at(`[${index}]`);
    check(item, at);
    const first = seen.get(key(item));
    if (first !== undefined) at.say(`is the same as number ${first}`);
    else seen.set(key(item), index);
  });
}
