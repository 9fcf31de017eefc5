// The user's own labels of a resource: what they may be, and selecting by them. Pure.

import type { FieldViolation } from '../errors.ts';
import { Report } from './report.ts';

const LABELS_MOST = 64;

/** Violations of labels. */
export function labelProblems(labels: Record<string, string>, path: string): FieldViolation[] {
  const report = new Report(path);
  const entries = Object.entries(labels);
  if (entries.length > LABELS_MOST) report.say(`at most ${LABELS_MOST} labels, got ${entries.length}`);
  for (const [key, value] of entries) {
    const at = report.at(`[${JSON.stringify(key.slice(0, 63))}]`);
    if (!/^[A-Za-z0-9]([A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?$/.test(key))
      at.say("a key has 1 to 63 letters, digits, '.', '_', '/' or '-', a letter or digit at both ends");
    if (Buffer.byteLength(value) > 255) at.say('a value has at most 255 bytes');
    // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
    if (/[\u0000-\u001f\u007f]/.test(value)) at.say('a value must not hold control characters');
  }
  return report.violations;
}

/** Selects the resources whose labels have all of `wanted`. */
export function selects(wanted: Readonly<Record<string, string>>, labels: Readonly<Record<string, string>>): boolean {
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(labels, key) && labels[key] === value);
}
