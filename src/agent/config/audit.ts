// The section `audit` of the configuration: its schema, defaults and cures.

import { z } from 'zod';
import { count } from './fields.ts';

export interface AuditConfig {
  /** Every change is written down, and none is made that cannot be. */
  enabled: boolean;
  /** Of one file, in bytes; then the next is begun. */
  maxBytes: number;
  /** How many files are kept. */
  files: number;
}

export const auditSchema = z.strictObject({
  enabled: z.boolean().optional(),
  maxBytes: count(65_536, 1_073_741_824).optional(),
  files: count(2, 1000).optional(),
});

export const auditCures: Record<string, string> = {
  audit: 'write a mapping, such as `files: 16`',
  'audit.enabled': 'write true or false',
  'audit.maxBytes': 'write a whole number of bytes from 65536 to 1073741824',
  'audit.files': 'write a whole number from 2 to 1000',
};

/** The layers over the defaults, the last one wins field by field. */
export function mergeAudit(layers: (z.infer<typeof auditSchema> | undefined)[]): AuditConfig {
  return Object.assign({ enabled: true, maxBytes: 8_388_608, files: 8 }, ...layers);
}
