// What the interface room offers to the wire. Messages are those of the API; every failure is a TaplaneError.
//
// Order: one operation at a time for each interface, in the order of arrival; different interfaces run side by side.
// Durability: a promise of a mutating call resolves once the intent is on disk and the kernel does it; when it rejects, nothing
// has changed. `signal` only ends waiting and streaming: a change that has begun is finished.

import type { Interface } from '../gen/taplane/v1/interface.ts';
import type {
  AddAddressRequest,
  AddRouteRequest,
  AdoptInterfaceRequest,
  CreateInterfaceRequest,
  DeleteInterfaceRequest,
  DeleteInterfaceResponse,
  GetInterfaceRequest,
  ListInterfacesRequest,
  ListInterfacesResponse,
  RemoveAddressRequest,
  RemoveRouteRequest,
  UpdateInterfaceRequest,
  WatchInterfacesRequest,
  WatchInterfacesResponse,
} from '../gen/taplane/v1/interface_service.ts';
import type {
  CreateResponderRequest,
  DeleteResponderRequest,
  DeleteResponderResponse,
  GetResponderRequest,
  ListRespondersRequest,
  ListRespondersResponse,
  Responder,
} from '../gen/taplane/v1/responder_service.ts';

export interface Interfaces {
  create(request: CreateInterfaceRequest): Promise<Interface>;
  get(request: GetInterfaceRequest): Promise<Interface>;
  /** `isVisible` is asked for each interface by id, and for each device of the node by its kernel name; what it denies is not told of. */
  list(request: ListInterfacesRequest, isVisible?: (id: string) => boolean): Promise<ListInterfacesResponse>;
  update(request: UpdateInterfaceRequest): Promise<Interface>;
  delete(request: DeleteInterfaceRequest): Promise<DeleteInterfaceResponse>;
  /** Endless until `signal` aborts. Bounded: a reader that falls behind too far is ended with RESOURCE_EXHAUSTED and may resume. */
  watch(request: WatchInterfacesRequest, signal: AbortSignal, isVisible?: (id: string) => boolean): AsyncIterable<WatchInterfacesResponse>;
  addAddress(request: AddAddressRequest): Promise<Interface>;
  removeAddress(request: RemoveAddressRequest): Promise<Interface>;
  addRoute(request: AddRouteRequest): Promise<Interface>;
  removeRoute(request: RemoveRouteRequest): Promise<Interface>;
  adopt(request: AdoptInterfaceRequest): Promise<Interface>;
}

/** The responders of interfaces, as edits of the specs of their interfaces. */
export interface Responders {
  create(request: CreateResponderRequest): Promise<Responder>;
  get(request: GetResponderRequest): Promise<Responder>;
  /** Of interfaces that `isVisible` denies nothing is told. */
  list(request: ListRespondersRequest, isVisible?: (id: string) => boolean): Promise<ListRespondersResponse>;
  delete(request: DeleteResponderRequest): Promise<DeleteResponderResponse>;
}
