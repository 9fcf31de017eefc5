// The calls that change one address or one route, as edits of the whole spec. Pure.

import { type FieldViolation, invalidFields, TaplaneError } from '../errors.ts';
import type { Address, Interface, InterfaceSpec, Route } from '../gen/taplane/v1/interface.ts';
import type { AddAddressRequest, AddRouteRequest, RemoveAddressRequest, RemoveRouteRequest } from '../gen/taplane/v1/interface_service.ts';
import { parsePrefix } from '../resource/inet.ts';
import { addressKey, prepareAddress, prepareRoute, routeKey } from './canonical.ts';
import { interfaceId } from './name.ts';
import type { Record } from './record.ts';

/** A change of what is asked of an interface that is there. */
export interface Edit {
  name: string;
  /** For messages, such as `update interface tap0`. */
  verb: string;
  /** The version that is meant; '' for any. */
  etag: string;
  validateOnly: boolean;
  /** The new intent. Throws TaplaneError. */
  edit(before: Record): { spec: InterfaceSpec; labels: Interface['labels'] };
  /** Path of the spec in the request, for violations. */
  path: string;
}

function need<T>(value: T | undefined, field: string): T {
  if (value === undefined) throw invalidFields([{ field, description: 'must be given' }]);
  return value;
}

function readable(text: string, field: string): void {
  const violations: FieldViolation[] =
    parsePrefix(text) === undefined ? [{ field, description: `must be a prefix, got '${text.slice(0, 64)}'` }] : [];
  if (violations.length > 0) throw invalidFields(violations);
}

function edit(request: { name: string; validateOnly: boolean }, verb: string, change: (spec: InterfaceSpec) => InterfaceSpec): Edit {
  const name = interfaceId(request.name);
  return {
    name,
    verb: `${verb} interface ${name}`,
    etag: '',
    validateOnly: request.validateOnly,
    path: 'spec',
    edit: ({ spec, labels }) => ({ spec: change(spec), labels }),
  };
}

/** The same address again replaces itself: its lifetime starts anew. */
export function addingAddress(request: AddAddressRequest): Edit {
  const address: Address = need(request.address, 'address');
  readable(address.cidr, 'address.cidr');
  const key = addressKey(address);
  return edit(request, 'add address to', (spec) => {
    const addresses = [...spec.addresses];
    const at = addresses.findIndex((item) => addressKey(item) === key);
    if (at < 0) addresses.push(prepareAddress(address));
    else addresses[at] = prepareAddress(address);
    return { ...spec, addresses };
  });
}

export function removingAddress(request: RemoveAddressRequest): Edit {
  const address: Address = need(request.address, 'address');
  readable(address.cidr, 'address.cidr');
  const key = addressKey(address);
  return edit(request, 'remove address from', (spec) => {
    const addresses = spec.addresses.filter((item) => addressKey(item) !== key);
    if (addresses.length === spec.addresses.length)
      throw new TaplaneError(
        'NOT_FOUND',
        'ADDRESS_NOT_FOUND',
        `remove address ${address.cidr} from ${request.name}: its spec does not have it`,
      );
    return { ...spec, addresses };
  });
}

/** A route of the same destination, table and metric is replaced. */
export function addingRoute(request: AddRouteRequest): Edit {
  const route: Route = need(request.route, 'route');
  readable(route.destination, 'route.destination');
  const key = routeKey(route);
  return edit(request, 'add route to', (spec) => {
    const routes = [...spec.routes];
    const at = routes.findIndex((item) => routeKey(item) === key);
    if (at < 0) routes.push(prepareRoute(route));
    else routes[at] = prepareRoute(route);
    return { ...spec, routes };
  });
}

/** Told by destination, table, metric and, when given, gateway. */
export function removingRoute(request: RemoveRouteRequest): Edit {
  const route: Route = need(request.route, 'route');
  readable(route.destination, 'route.destination');
  const wanted = prepareRoute(route);
  return edit(request, 'remove route from', (spec) => {
    const routes = spec.routes.filter(
      (item) => !(routeKey(item) === routeKey(wanted) && (wanted.gateway === '' || wanted.gateway === item.gateway)),
    );
    if (routes.length === spec.routes.length)
      throw new TaplaneError(
        'NOT_FOUND',
        'ROUTE_NOT_FOUND',
        `remove route ${route.destination} from ${request.name}: its spec does not have it`,
      );
    return { ...spec, routes };
  });
}
