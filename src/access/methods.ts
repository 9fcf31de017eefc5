// Every method of the API: whether it changes something, and what it asks to touch. The table is typed by the generated services: a method that
// does not stand here does not compile.

import type { AuditServiceService } from '../gen/taplane/v1/audit_service.ts';
import type { FlowServiceService } from '../gen/taplane/v1/flow_service.ts';
import type { InterfaceServiceService } from '../gen/taplane/v1/interface_service.ts';
import type { LinkServiceService } from '../gen/taplane/v1/link_service.ts';
import type { NodeServiceService } from '../gen/taplane/v1/node_service.ts';
import type { PacketServiceService } from '../gen/taplane/v1/packet_service.ts';
import type { ResponderServiceService } from '../gen/taplane/v1/responder_service.ts';
import {
  addressDemands,
  captureDemands,
  creating,
  type Demand,
  ifNamed,
  interfaceDemand,
  interfaceDemands,
  linkDemand,
  linkDemands,
  namespaceDemand,
  nodeDemands,
  routeDemand,
  streamDemands,
} from './demands.ts';

/** What a method does to what it names: `read` tells, `write` changes something or puts packets into a device, or speaks for the node. */
export type Access = 'read' | 'write';

export interface MethodRule<Request = unknown> {
  readonly access: Access;
  /** Open to every caller, whatever the policy: it tells them of themselves alone. */
  readonly everybody?: boolean;
  /** Tells who did what: the patterns `*` and `read` do not mean it, a role has to name it or its service. */
  readonly sensitive?: boolean;
  /** Its demands are the same whatever is asked: they read nothing of the request. */
  readonly fixed?: boolean;
  /** What the request touches; lists and watches without a name touch nothing, their answers hold what the caller may see. */
  demands(request: Request): Demand[];
}

type Methods<Service> = Service[keyof Service];
type Method =
  | Methods<typeof InterfaceServiceService>
  | Methods<typeof ResponderServiceService>
  | Methods<typeof LinkServiceService>
  | Methods<typeof PacketServiceService>
  | Methods<typeof FlowServiceService>
  | Methods<typeof NodeServiceService>
  | Methods<typeof AuditServiceService>;
type RequestOf<Path> = Extract<Method, { path: Path }> extends { requestDeserialize(value: Buffer): infer Request } ? Request : never;
type Table = { readonly [Path in Method['path']]: MethodRule<RequestOf<Path>> };

const nothing = (): Demand[] => [];
/** Touches nothing by name. Only for what tells of the caller alone, or leaves out of its answers what the caller may not see. */
const read = { access: 'read', demands: nothing } as const;
const sensitive = { access: 'read', sensitive: true, fixed: true, demands: nodeDemands } as const;
const named = ({ name }: { name: string }): Demand[] => [interfaceDemand(name, 'name')];
const linkNamed = ({ name }: { name: string }): Demand[] => [linkDemand(name, 'name')];

/** Of the whole node: only for a role that may touch every interface and every link, whatever it is called, and may what is of the node. */
const whole = {
  access: 'write',
  fixed: true,
  demands: (): Demand[] => [interfaceDemand('%d', 'node'), linkDemand('%d', 'node'), ...nodeDemands()],
} as const;

const table: Table = {
  '/taplane.v1.InterfaceService/CreateInterface': {
    access: 'write',
    demands: ({ interfaceId, interface: wanted }) => [
      interfaceDemand(interfaceId, 'interface_id'),
      ...interfaceDemands(wanted ?? { spec: undefined }, true),
    ],
  },
  '/taplane.v1.InterfaceService/GetInterface': { access: 'read', demands: named },
  '/taplane.v1.InterfaceService/ListInterfaces': read,
  '/taplane.v1.InterfaceService/UpdateInterface': {
    access: 'write',
    demands: ({ interface: wanted, allowMissing }) => [
      interfaceDemand(wanted?.name ?? '', 'interface.name'),
      ...creating(allowMissing, '/taplane.v1.InterfaceService/CreateInterface'),
      ...interfaceDemands(wanted ?? { spec: undefined }, allowMissing),
    ],
  },
  '/taplane.v1.InterfaceService/DeleteInterface': { access: 'write', demands: named },
  '/taplane.v1.InterfaceService/WatchInterfaces': { access: 'read', demands: ({ name }) => ifNamed(interfaceDemand, name, 'name') },
  '/taplane.v1.InterfaceService/AddAddress': {
    access: 'write',
    demands: ({ name, address }) => [interfaceDemand(name, 'name'), ...(address ? addressDemands(address, 'address') : [])],
  },
  '/taplane.v1.InterfaceService/RemoveAddress': { access: 'write', demands: named },
  '/taplane.v1.InterfaceService/AddRoute': {
    access: 'write',
    demands: ({ name, route }) => [interfaceDemand(name, 'name'), ...(route ? [routeDemand(route, 'route')] : [])],
  },
  '/taplane.v1.InterfaceService/RemoveRoute': { access: 'write', demands: named },
  '/taplane.v1.InterfaceService/AdoptInterface': {
    access: 'write',
    demands: ({ interfaceId, networkNamespace }) => [
      interfaceDemand(interfaceId, 'interface_id'),
      namespaceDemand(networkNamespace, 'network_namespace'),
    ],
  },
  '/taplane.v1.ResponderService/CreateResponder': { access: 'write', demands: ({ parent }) => [interfaceDemand(parent, 'parent')] },
  '/taplane.v1.ResponderService/GetResponder': { access: 'read', demands: named },
  '/taplane.v1.ResponderService/ListResponders': { access: 'read', demands: ({ parent }) => ifNamed(interfaceDemand, parent, 'parent') },
  '/taplane.v1.ResponderService/DeleteResponder': { access: 'write', demands: named },
  '/taplane.v1.LinkService/CreateLink': {
    access: 'write',
    demands: ({ linkId, link }) => [linkDemand(linkId, 'link_id'), ...linkDemands(link ?? { spec: undefined }, true)],
  },
  '/taplane.v1.LinkService/GetLink': { access: 'read', demands: linkNamed },
  '/taplane.v1.LinkService/ListLinks': read,
  '/taplane.v1.LinkService/UpdateLink': {
    access: 'write',
    demands: ({ link, allowMissing }) => [
      linkDemand(link?.name ?? '', 'link.name'),
      ...creating(allowMissing, '/taplane.v1.LinkService/CreateLink'),
      ...linkDemands(link ?? { spec: undefined }, allowMissing),
    ],
  },
  '/taplane.v1.LinkService/DeleteLink': { access: 'write', demands: linkNamed },
  '/taplane.v1.LinkService/WatchLinks': { access: 'read', demands: ({ name }) => ifNamed(linkDemand, name, 'name') },
  '/taplane.v1.LinkService/ProbeLink': { access: 'write', demands: linkNamed },
  '/taplane.v1.PacketService/StreamPackets': { access: 'write', demands: ({ open }) => streamDemands(open) },
  '/taplane.v1.PacketService/CapturePackets': { access: 'read', demands: captureDemands },
  '/taplane.v1.FlowService/ObserveFlows': read,
  '/taplane.v1.FlowService/GetFlowStats': read,
  '/taplane.v1.NodeService/GetNode': read,
  '/taplane.v1.NodeService/GetCaller': { access: 'read', everybody: true, demands: nothing },
  '/taplane.v1.AuditService/ListAuditRecords': sensitive,
  '/taplane.v1.AuditService/VerifyAuditLog': sensitive,
  '/taplane.v1.NodeService/SetLogLevel': whole,
  '/taplane.v1.NodeService/CollectSupportBundle': whole,
};

/** By full path, as gRPC has it. The request of each is the decoded message of its method. */
export const METHODS: Readonly<Record<string, MethodRule>> = table as Readonly<Record<string, MethodRule<never>>> as Readonly<
  Record<string, MethodRule>
>;

const PACKAGE = '/taplane.v1.';

/** `InterfaceService/CreateInterface`, as policies and messages have it. */
export function shortName(path: string): string {
  return path.startsWith(PACKAGE) ? path.slice(PACKAGE.length) : path;
}

/**
 * The paths that a pattern of a policy means: `*`, `read`, `write`, `InterfaceService/*`, or `InterfaceService/GetInterface`. Empty for one
 * that means none, which is a mistake.
 */
export function methodsOf(pattern: string): string[] {
  const paths = Object.keys(METHODS);
  const plain = paths.filter((path) => METHODS[path]?.sensitive !== true);
  if (pattern === '*') return plain;
  if (pattern === 'read' || pattern === 'write') return plain.filter((path) => METHODS[path]?.access === pattern);
  if (pattern.endsWith('/*')) return paths.filter((path) => shortName(path).startsWith(pattern.slice(0, -1)));
  return paths.filter((path) => shortName(path) === pattern);
}
