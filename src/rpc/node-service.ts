// NodeService on the wire.

import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import type { Caller } from '../access/caller.ts';
import { TaplaneError } from '../errors.ts';
import {
  type Caller as CallerAnswer,
  type Node,
  type SetLogLevelRequest,
  type SetLogLevelResponse,
  NodeServiceService as service,
} from '../gen/taplane/v1/node_service.ts';
import { type HandlerNeeds, rawMethod, serverStream, unary } from './handlers.ts';

export const NODE_SERVICE = 'taplane.v1.NodeService';

/** What the service needs of the agent. */
export interface NodeFacts {
  getNode(): Promise<Node>;
  /** Who somebody is to the agent; absent where there is no policy to ask. */
  describe?(caller: Caller): CallerAnswer;
  /** Throws INVALID_ARGUMENT. */
  setLogLevel(request: SetLogLevelRequest): SetLogLevelResponse;
  /** One tar.gz in pieces of at most 256 KiB. Throws RESOURCE_EXHAUSTED while another is being made. */
  supportBundle(signal: AbortSignal): AsyncIterable<Buffer>;
}

export function nodeService(
  node: NodeFacts,
  needs: HandlerNeeds,
): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: Object.fromEntries(Object.entries(service).map(([name, method]) => [name, rawMethod(method)])),
    handlers: {
      getNode: unary(service.getNode, needs, async (_, { scope }) => {
        const found = await node.getNode();
        return scope.isLimited ? withoutOthers(found) : found;
      }),
      getCaller: unary(service.getCaller, needs, async (_, { peer }) => {
        const caller = needs.gate.callerOf(peer);
        if (caller === undefined || node.describe === undefined)
          throw new TaplaneError('UNIMPLEMENTED', 'NO_CALLERS', 'tell the caller: this server does not tell callers apart');
        return node.describe(caller);
      }),
      setLogLevel: unary(service.setLogLevel, needs, async (request) => node.setLogLevel(request)),
      collectSupportBundle: serverStream(service.collectSupportBundle, needs, async function* (_, { signal }) {
        for await (const chunk of node.supportBundle(signal)) yield { chunk };
      }),
    },
  };
}

/** Conditions and reasons name interfaces and links, and not only the caller's own. */
function withoutOthers(node: Node): Node {
  return {
    ...node,
    conditions: node.conditions.map((condition) => ({ ...condition, message: '' })),
    interfaceCount: 0,
    linkCount: 0,
    policy: node.policy && { ...node.policy, error: node.policy.error && 'the file is not as it should be; see the log of the agent' },
  };
}
