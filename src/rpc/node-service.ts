// NodeService on the wire.

import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { type Node, NodeServiceService as service } from '../gen/taplane/v1/node_service.ts';
import { type HandlerNeeds, rawMethod, unary } from './handlers.ts';

export const NODE_SERVICE = 'taplane.v1.NodeService';

/** What the service needs of the agent. */
export interface NodeFacts {
  getNode(): Promise<Node>;
}

export function nodeService(
  node: NodeFacts,
  needs: HandlerNeeds,
): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: { getNode: rawMethod(service.getNode) },
    handlers: { getNode: unary(service.getNode, needs, () => node.getNode()) },
  };
}
