// Short ways to ask for interfaces in end-to-end tests.

import { type InterfaceSpec, InterfaceSpec_Mode } from '../../src/gen/taplane/v1/interface.ts';
import { CreateInterfaceRequest, DeleteInterfaceRequest, UpdateInterfaceRequest } from '../../src/gen/taplane/v1/interface_service.ts';

type Deep<T> = T extends (infer I)[] ? Deep<I>[] : T extends object ? { [K in keyof T]?: Deep<T[K]> } : T;
export type PartialSpec = Deep<InterfaceSpec>;

export const { TUN, TAP } = InterfaceSpec_Mode;

export function creation(
  interfaceId: string,
  spec: PartialSpec,
  more: { requestId?: string; validateOnly?: boolean } = {},
): CreateInterfaceRequest {
  return CreateInterfaceRequest.fromPartial({ interfaceId, interface: { spec: spec as object }, ...more });
}

export function updating(
  name: string,
  spec: PartialSpec,
  updateMask: string[] = [],
  more: { validateOnly?: boolean } = {},
): UpdateInterfaceRequest {
  return UpdateInterfaceRequest.fromPartial({ interface: { name: `interfaces/${name}`, spec: spec as object }, updateMask, ...more });
}

export function deletion(name: string, more: { validateOnly?: boolean } = {}): DeleteInterfaceRequest {
  return DeleteInterfaceRequest.fromPartial({ name: `interfaces/${name}`, ...more });
}
