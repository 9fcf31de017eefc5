// AuditService on the wire.

import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import {
  type ListAuditRecordsRequest,
  type ListAuditRecordsResponse,
  AuditServiceService as service,
  type VerifyAuditLogResponse,
} from '../gen/taplane/v1/audit_service.ts';
import { type HandlerNeeds, rawMethod, unary } from './handlers.ts';

export const AUDIT_SERVICE = 'taplane.v1.AuditService';

/** What the service needs of the audit log. `signal` aborts when nobody waits for the answer any more. */
export interface AuditRecords {
  /** Throws TaplaneError. */
  list(request: ListAuditRecordsRequest, signal: AbortSignal): Promise<ListAuditRecordsResponse>;
  /** Throws TaplaneError. */
  verify(signal: AbortSignal): Promise<VerifyAuditLogResponse>;
}

export function auditService(
  audit: AuditRecords,
  needs: HandlerNeeds,
): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: { listAuditRecords: rawMethod(service.listAuditRecords), verifyAuditLog: rawMethod(service.verifyAuditLog) },
    handlers: {
      listAuditRecords: unary(service.listAuditRecords, needs, (request, { signal }) => audit.list(request, signal)),
      verifyAuditLog: unary(service.verifyAuditLog, needs, (_, { signal }) => audit.verify(signal)),
    },
  };
}
