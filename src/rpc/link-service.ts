// LinkService on the wire: names each method of the links, and nothing else.

import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { LinkServiceService as service } from '../gen/taplane/v1/link_service.ts';
import type { Links } from '../link/contract.ts';
import { type HandlerNeeds, rawMethod, serverStream, unary } from './handlers.ts';

export const LINK_SERVICE = 'taplane.v1.LinkService';

export function linkService(links: Links, needs: HandlerNeeds): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: Object.fromEntries(Object.entries(service).map(([name, method]) => [name, rawMethod(method)])),
    handlers: {
      createLink: unary(service.createLink, needs, (request) => links.create(request)),
      getLink: unary(service.getLink, needs, (request) => links.get(request)),
      listLinks: unary(service.listLinks, needs, (request, { scope }) => links.list(request, scope.link)),
      updateLink: unary(service.updateLink, needs, (request, { scope }) => links.update(request, scope)),
      deleteLink: unary(service.deleteLink, needs, (request) => links.delete(request)),
      watchLinks: serverStream(service.watchLinks, needs, (request, { signal, scope }) => links.watch(request, signal, scope.link)),
      probeLink: serverStream(service.probeLink, needs, (request, { signal }) => links.probe(request, signal)),
    },
  };
}
