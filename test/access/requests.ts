// For each method of the API requests that touch what is one's own, and such that touch one thing that is not. Written by hand and not from the
// rules: what is `needs` and `foreign` here is what a person says of the request.

import { Interface, type InterfaceSpec } from '../../src/gen/taplane/v1/interface.ts';
import {
  AddAddressRequest,
  AddRouteRequest,
  AdoptInterfaceRequest,
  CreateInterfaceRequest,
  UpdateInterfaceRequest,
} from '../../src/gen/taplane/v1/interface_service.ts';
import type { LinkSpec } from '../../src/gen/taplane/v1/link.ts';
import { CreateLinkRequest, UpdateLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { CapturePacketsRequest, type StreamOpen_Mode, StreamPacketsRequest } from '../../src/gen/taplane/v1/packet_service.ts';

export interface Case {
  label: string;
  request: unknown;
  /** Why it is out of reach of who may touch only their own; undefined when it is their own. */
  foreign?: string;
  /** What of `may` it takes. */
  needs?: string;
  /** Another method that it takes. */
  alsoCalls?: string;
}

type Patch<T> = T extends Uint8Array | bigint
  ? T
  : T extends (infer Item)[]
    ? Patch<Item>[]
    : T extends object
      ? { [Key in keyof T]?: Patch<T[Key]> }
      : T;

/** Own things: interfaces and links `own-*`, bridge `br-own`, namespace `self` and `own-ns`, 10.1.0.0/16, fd01::/32, routes 10.2.0.0/16, peers 192.0.2.0/24. */
type SpecPatch = Patch<InterfaceSpec>;

const SPECS: [label: string, spec: SpecPatch, foreign?: string, needs?: string][] = [
  ['plain', {}],
  ['own address', { addresses: [{ cidr: '10.1.2.3/24' }, { cidr: 'fd01::5/64' }] }],
  ['foreign address', { addresses: [{ cidr: '10.1.2.3/24' }, { cidr: '10.9.0.1/24' }] }, 'ADDRESS_DENIED'],
  ['address within own routes', { addresses: [{ cidr: '10.2.0.1/24' }] }, 'ADDRESS_DENIED'],
  ['own address whose prefix is wider', { addresses: [{ cidr: '10.1.2.3/8' }] }, 'ADDRESS_DENIED'],
  ['foreign address, IPv6', { addresses: [{ cidr: 'fd02::1/64' }] }, 'ADDRESS_DENIED'],
  ['IPv4 in IPv6 clothes', { addresses: [{ cidr: '::ffff:10.1.2.3/128' }] }, 'ADDRESS_DENIED'],
  ['no address', { addresses: [{ cidr: 'nonsense' }] }, 'ADDRESS_DENIED'],
  ['own peer address', { addresses: [{ cidr: '10.1.2.3/32', peer: '10.2.0.1/32' }] }],
  ['foreign peer address', { addresses: [{ cidr: '10.1.2.3/32', peer: '10.9.0.0/16' }] }, 'ROUTE_DENIED'],
  ['own route', { routes: [{ destination: '10.2.128.0/17' }] }],
  ['foreign route', { routes: [{ destination: '10.2.0.0/16' }, { destination: '10.3.0.0/16' }] }, 'ROUTE_DENIED'],
  ['default route', { routes: [{ destination: '0.0.0.0/0' }] }, 'ROUTE_DENIED'],
  ['route to own addresses', { routes: [{ destination: '10.1.0.0/16' }] }, 'ROUTE_DENIED'],
  ['own namespace', { networkNamespace: 'own-ns' }],
  ['foreign namespace', { networkNamespace: 'other' }, 'NAMESPACE_DENIED'],
  ['namespace by path', { networkNamespace: '/proc/1/ns/net' }, 'NAMESPACE_DENIED'],
  ['namespace that is called self', { networkNamespace: 'self' }, 'NAMESPACE_DENIED'],
  ['own bridge', { controller: 'br-own' }],
  ['foreign bridge', { controller: 'br0' }, 'BRIDGE_DENIED'],
  ['owner', { owner: 'root' }, undefined, 'owner'],
  ['group', { group: '0' }, undefined, 'owner'],
  ['sysctls', { sysctls: { 'ipv4/proxy_arp': '1' } }, undefined, 'sysctls'],
  ['mirror', { packetMirror: {} }, undefined, 'mirror'],
  ['metering off', { flowMetering: { disabled: true } }, undefined, 'metering'],
  ['metering', { flowMetering: { sampling: 2 } }],
];

type LinkPatch = Patch<LinkSpec>;

const LINKS: [label: string, spec: LinkPatch, foreign?: string, needs?: string][] = [
  ['plain', {}],
  ['foreign interface', { interface: 'interfaces/other0' }, 'INTERFACE_DENIED'],
  ['own peer', { peers: [{ endpoint: '192.0.2.9:51820', allowedPrefixes: ['10.1.4.0/24', '10.2.0.0/16'] }] }],
  ['peer that is waited for', { peers: [{ endpoint: '' }] }],
  ['foreign peer', { peers: [{ endpoint: '192.0.2.9:51820' }, { endpoint: '198.51.100.1:51820' }] }, 'PEER_DENIED'],
  ['foreign peer, IPv6', { peers: [{ endpoint: '[2001:db8::1]:51820' }] }, 'PEER_DENIED'],
  ['peer by name', { peers: [{ endpoint: 'example.com:51820' }] }, 'PEER_DENIED'],
  ['peer without port', { peers: [{ endpoint: '192.0.2.9' }] }, 'PEER_DENIED'],
  ['foreign inner prefix', { peers: [{ endpoint: '192.0.2.9:1', allowedPrefixes: ['10.0.0.0/8'] }] }, 'ROUTE_DENIED'],
  ['server for anybody', { protocol: 1, transport: 2, listen: ':4000' }, 'PEER_DENIED'],
  ['server with TLS', { protocol: 1, transport: 2, listen: ':4000', tls: {} }, undefined, 'tls-files'],
  ['mark', { socketMark: 1 }, undefined, 'underlay'],
  ['device', { bindDevice: 'eth0' }, undefined, 'underlay'],
];

const byName = (prefix: string, suffix = ''): Case[] => [
  { label: 'own', request: { name: `${prefix}own-0${suffix}` } },
  { label: 'foreign', request: { name: `${prefix}other0${suffix}` }, foreign: 'DENIED' },
  { label: 'not there', request: { name: `${prefix}nowhere${suffix}` }, foreign: 'DENIED' },
  { label: 'no name', request: { name: '' }, foreign: 'DENIED' },
  { label: 'own by its end', request: { name: `${prefix}x-own-0${suffix}` }, foreign: 'DENIED' },
  { label: 'twice the collection', request: { name: `${prefix}${prefix}own-0${suffix}` }, foreign: 'DENIED' },
];
const all = (request: unknown = {}): Case[] => [{ label: 'all', request }];
const CREATE_INTERFACE = '/taplane.v1.InterfaceService/CreateInterface';
const CREATE_LINK = '/taplane.v1.LinkService/CreateLink';

export const CASES: Record<string, Case[]> = {
  [CREATE_INTERFACE]: [
    ...SPECS.map(([label, spec, foreign, needs]) =>
      made(label, foreign, needs, CreateInterfaceRequest.fromPartial({ interfaceId: 'own-0', interface: { spec } })),
    ),
    made('numbered', undefined, undefined, CreateInterfaceRequest.fromPartial({ interfaceId: 'own-%d', interface: { spec: {} } })),
    made('number before', 'INTERFACE_DENIED', undefined, CreateInterfaceRequest.fromPartial({ interfaceId: '%down-0' })),
    made('foreign', 'INTERFACE_DENIED', undefined, CreateInterfaceRequest.fromPartial({ interfaceId: 'other0', interface: { spec: {} } })),
    made('empty', 'INTERFACE_DENIED', undefined, CreateInterfaceRequest.fromPartial({})),
  ],
  '/taplane.v1.InterfaceService/GetInterface': byName('interfaces/'),
  '/taplane.v1.InterfaceService/ListInterfaces': all(),
  '/taplane.v1.InterfaceService/UpdateInterface': [
    ...SPECS.map(([label, spec, foreign, needs]) => {
      const wanted = Interface.fromPartial({ name: 'interfaces/own-0', spec });
      return made(label, foreign, needs, UpdateInterfaceRequest.fromPartial({ interface: wanted, updateMask: ['labels'] }));
    }),
    made('foreign', 'INTERFACE_DENIED', undefined, UpdateInterfaceRequest.fromPartial({ interface: { name: 'interfaces/other0' } })),
    made('empty', 'INTERFACE_DENIED', undefined, UpdateInterfaceRequest.fromPartial({})),
    {
      ...made(
        'or create',
        undefined,
        undefined,
        UpdateInterfaceRequest.fromPartial({ interface: { name: 'interfaces/own-0' }, allowMissing: true }),
      ),
      alsoCalls: CREATE_INTERFACE,
    },
  ],
  '/taplane.v1.InterfaceService/DeleteInterface': byName('interfaces/'),
  '/taplane.v1.InterfaceService/WatchInterfaces': [
    ...all({ name: '' }),
    ...byName('interfaces/').filter(({ label }) => label !== 'no name'),
  ],
  '/taplane.v1.InterfaceService/AddAddress': [
    ...byName('interfaces/'),
    made(
      'own address',
      undefined,
      undefined,
      AddAddressRequest.fromPartial({ name: 'interfaces/own-0', address: { cidr: '10.1.0.1/16' } }),
    ),
    made(
      'foreign',
      'ADDRESS_DENIED',
      undefined,
      AddAddressRequest.fromPartial({ name: 'interfaces/own-0', address: { cidr: '10.0.0.1/8' } }),
    ),
  ],
  '/taplane.v1.InterfaceService/RemoveAddress': byName('interfaces/'),
  '/taplane.v1.InterfaceService/AddRoute': [
    ...byName('interfaces/'),
    made(
      'own route',
      undefined,
      undefined,
      AddRouteRequest.fromPartial({ name: 'interfaces/own-0', route: { destination: '10.2.0.0/16' } }),
    ),
    made('foreign', 'ROUTE_DENIED', undefined, AddRouteRequest.fromPartial({ name: 'interfaces/own-0', route: { destination: '::/0' } })),
  ],
  '/taplane.v1.InterfaceService/RemoveRoute': byName('interfaces/'),
  '/taplane.v1.InterfaceService/AdoptInterface': [
    made('own', undefined, undefined, AdoptInterfaceRequest.fromPartial({ interfaceId: 'own-7' })),
    made('foreign', 'INTERFACE_DENIED', undefined, AdoptInterfaceRequest.fromPartial({ interfaceId: 'eth0' })),
    made('elsewhere', 'NAMESPACE_DENIED', undefined, AdoptInterfaceRequest.fromPartial({ interfaceId: 'own-7', networkNamespace: 'x' })),
  ],
  '/taplane.v1.ResponderService/CreateResponder': [
    { label: 'own', request: { parent: 'interfaces/own-0' } },
    { label: 'foreign', request: { parent: 'interfaces/other0' }, foreign: 'INTERFACE_DENIED' },
  ],
  '/taplane.v1.ResponderService/GetResponder': byName('interfaces/', '/responders/own-0'),
  '/taplane.v1.ResponderService/ListResponders': [
    ...all({ parent: 'interfaces/-' }),
    { label: 'own', request: { parent: 'interfaces/own-0' } },
    { label: 'foreign', request: { parent: 'interfaces/other0' }, foreign: 'INTERFACE_DENIED' },
  ],
  '/taplane.v1.ResponderService/DeleteResponder': byName('interfaces/', '/responders/own-0'),
  [CREATE_LINK]: [
    ...LINKS.map(([label, spec, foreign, needs]) =>
      made(
        label,
        foreign,
        needs,
        CreateLinkRequest.fromPartial({ linkId: 'own-0', link: { spec: { interface: 'interfaces/own-0', ...spec } } }),
      ),
    ),
    made(
      'foreign',
      'LINK_DENIED',
      undefined,
      CreateLinkRequest.fromPartial({ linkId: 'other', link: { spec: { interface: 'interfaces/own-0' } } }),
    ),
  ],
  '/taplane.v1.LinkService/GetLink': byName('links/'),
  '/taplane.v1.LinkService/ListLinks': all(),
  '/taplane.v1.LinkService/UpdateLink': [
    ...LINKS.map(([label, spec, foreign, needs]) =>
      made(label, foreign, needs, UpdateLinkRequest.fromPartial({ link: { name: 'links/own-0', spec } })),
    ),
    made('foreign', 'LINK_DENIED', undefined, UpdateLinkRequest.fromPartial({ link: { name: 'links/other' } })),
    {
      ...made(
        'or create',
        undefined,
        undefined,
        UpdateLinkRequest.fromPartial({ link: { name: 'links/own-0', spec: { interface: 'interfaces/own-0' } }, allowMissing: true }),
      ),
      alsoCalls: CREATE_LINK,
    },
  ],
  '/taplane.v1.LinkService/DeleteLink': byName('links/'),
  '/taplane.v1.LinkService/WatchLinks': [...all({ name: '' }), ...byName('links/').filter(({ label }) => label !== 'no name')],
  '/taplane.v1.LinkService/ProbeLink': byName('links/'),
  '/taplane.v1.PacketService/StreamPackets': [
    ...(['stream', 'stream', 'capture', 'inject'] as const).map((needs, mode) =>
      made(
        `mode ${mode}`,
        undefined,
        needs,
        StreamPacketsRequest.fromPartial({ open: { interface: 'interfaces/own-0', mode: mode as StreamOpen_Mode } }),
      ),
    ),
    made(
      'unknown mode',
      undefined,
      'stream',
      StreamPacketsRequest.fromPartial({ open: { interface: 'interfaces/own-0', mode: 9 as never } }),
    ),
    made('foreign', 'INTERFACE_DENIED', 'capture', StreamPacketsRequest.fromPartial({ open: { interface: 'interfaces/other0', mode: 2 } })),
    { label: 'not opened', request: StreamPacketsRequest.fromPartial({}) },
  ],
  '/taplane.v1.PacketService/CapturePackets': [
    made('own', undefined, 'capture', CapturePacketsRequest.fromPartial({ interface: 'interfaces/own-0' })),
    made('foreign', 'INTERFACE_DENIED', 'capture', CapturePacketsRequest.fromPartial({ interface: 'interfaces/other0' })),
  ],
  '/taplane.v1.FlowService/ObserveFlows': all({ allow: [{ interface: ['other0'] }], deny: [] }),
  '/taplane.v1.FlowService/GetFlowStats': all(),
  '/taplane.v1.NodeService/GetNode': all(),
  '/taplane.v1.NodeService/GetCaller': all(),
  '/taplane.v1.AuditService/ListAuditRecords': all(),
  '/taplane.v1.AuditService/VerifyAuditLog': all(),
  '/taplane.v1.NodeService/SetLogLevel': [made('the log of all', 'INTERFACE_DENIED', undefined, { level: 1 })],
  '/taplane.v1.NodeService/CollectSupportBundle': [made('everything on the node', 'INTERFACE_DENIED', undefined, {})],
};

function made(label: string, foreign: string | undefined, needs: string | undefined, request: unknown): Case {
  return { label, request, ...(foreign !== undefined && { foreign }), ...(needs !== undefined && { needs }) };
}
