// InterfaceService on the wire: names each method of the interface room, and nothing else.

import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js';
import { InterfaceServiceService as service } from '../gen/taplane/v1/interface_service.ts';
import type { Interfaces } from '../interface/contract.ts';
import { type HandlerNeeds, rawMethod, serverStream, unary } from './handlers.ts';

export const INTERFACE_SERVICE = 'taplane.v1.InterfaceService';

export function interfaceService(
  interfaces: Interfaces,
  needs: HandlerNeeds,
): { definition: ServiceDefinition; handlers: UntypedServiceImplementation } {
  return {
    definition: Object.fromEntries(Object.entries(service).map(([name, method]) => [name, rawMethod(method)])),
    handlers: {
      createInterface: unary(service.createInterface, needs, (request) => interfaces.create(request)),
      getInterface: unary(service.getInterface, needs, (request) => interfaces.get(request)),
      listInterfaces: unary(service.listInterfaces, needs, (request, { scope }) => interfaces.list(request, scope.interface)),
      updateInterface: unary(service.updateInterface, needs, (request) => interfaces.update(request)),
      deleteInterface: unary(service.deleteInterface, needs, (request) => interfaces.delete(request)),
      watchInterfaces: serverStream(service.watchInterfaces, needs, (request, { signal, scope }) =>
        interfaces.watch(request, signal, scope.interface),
      ),
      addAddress: unary(service.addAddress, needs, (request) => interfaces.addAddress(request)),
      removeAddress: unary(service.removeAddress, needs, (request) => interfaces.removeAddress(request)),
      addRoute: unary(service.addRoute, needs, (request) => interfaces.addRoute(request)),
      removeRoute: unary(service.removeRoute, needs, (request) => interfaces.removeRoute(request)),
      adoptInterface: unary(service.adoptInterface, needs, (request) => interfaces.adopt(request)),
    },
  };
}
