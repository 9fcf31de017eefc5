// FlowService on the wire: names each method of the flows, and nothing else.

import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Flows } from '../flow/contract.ts';
import { FlowServiceService as service } from '../gen/taplane/v1/flow_service.ts';
import { type HandlerNeeds, rawMethod, serverStream, unary } from './handlers.ts';

export const FLOW_SERVICE = 'taplane.v1.FlowService';

export function flowService(flows: Flows, needs: HandlerNeeds): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: Object.fromEntries(Object.entries(service).map(([name, method]) => [name, rawMethod(method)])),
    handlers: {
      observeFlows: serverStream(service.observeFlows, needs, (request, { signal, scope }) =>
        flows.observe(request, signal, scope.interface),
      ),
      getFlowStats: unary(service.getFlowStats, needs, async (_, { scope }) => flows.stats(scope.interface)),
    },
  };
}
