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
