// ResponderService on the wire: names each method of the responders of the interface room, and nothing else.

import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { ResponderServiceService as service } from '../gen/taplane/v1/responder_service.ts';
import type { Responders } from '../interface/contract.ts';
import { type HandlerNeeds, rawMethod, unary } from './handlers.ts';

export const RESPONDER_SERVICE = 'taplane.v1.ResponderService';

export function responderService(
  responders: Responders,
  needs: HandlerNeeds,
): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: Object.fromEntries(Object.entries(service).map(([name, method]) => [name, rawMethod(method)])),
    handlers: {
      createResponder: unary(service.createResponder, needs, (request) => responders.create(request)),
      getResponder: unary(service.getResponder, needs, (request) => responders.get(request)),
      listResponders: unary(service.listResponders, needs, (request, { scope }) => responders.list(request, scope.interface)),
      deleteResponder: unary(service.deleteResponder, needs, (request) => responders.delete(request)),
    },
  };
}
