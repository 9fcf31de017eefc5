// What fields of a configuration may hold, as pieces of a schema: an absolute path, a name, a count within bounds.

import { z } from 'zod';

/** Absolute, at most 4096 bytes (PATH_MAX, linux/limits.h). */
export const absolutePath = z
  .string()
  .refine((path) => path.startsWith('/') && !path.includes('\0'), 'is not an absolute path')
  .refine((path) => path.length <= 4096, 'is longer than 4096 bytes');

export const name = z
  .string()
  .refine((text) => /^[\x21-\x7e]{1,253}$/.test(text), 'must be 1 to 253 printable ASCII characters without blanks');

/** A whole number from `min` to `max`. */
export const count = (min: number, max: number) => z.int().refine((n) => n >= min && n <= max, `must be ${min} to ${max}`);

/** A text that `problemOf` finds nothing wrong with. */
export const checked = (problemOf: (text: string) => string | undefined) =>
  z.string().superRefine((text, context) => {
    const problem = problemOf(text);
    if (problem !== undefined) context.addIssue(problem);
  });
