// An interface or a link as a file: YAML or JSON in the JSON form of the API, as `taplane interface get NAME -o yaml` prints it. A key
// that the API does not know is an error, not a silence: a misspelt `mtu` must not become a default.

import { readFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { parse } from 'yaml';
import {
  Address,
  FlowMetering,
  Interface,
  InterfaceSpec,
  Neighbour,
  PacketMirror,
  ResponderSpec,
  Route,
} from '../gen/taplane/v1/interface.ts';
import { Link, LinkPeer, LinkSpec, TlsSpec, VxlanSpec, WireguardSpec } from '../gen/taplane/v1/link.ts';
import { UsageError } from './exit-code.ts';

interface Shape {
  fields: string[];
  children: Record<string, Shape>;
}

const shape = (message: object, children: Record<string, Shape> = {}): Shape => ({ fields: Object.keys(message), children });
const SHAPE = shape(Interface.create(), {
  spec: shape(InterfaceSpec.create(), {
    addresses: shape(Address.create()),
    routes: shape(Route.create()),
    neighbours: shape(Neighbour.create()),
    flowMetering: shape(FlowMetering.create()),
    responders: shape(ResponderSpec.create()),
    packetMirror: shape(PacketMirror.create()),
  }),
});
const LINK_SHAPE = shape(Link.create(), {
  spec: shape(LinkSpec.create(), {
    peers: shape(LinkPeer.create()),
    wireguard: shape(WireguardSpec.create()),
    vxlan: shape(VxlanSpec.create()),
    tls: shape(TlsSpec.create()),
  }),
});
/** Filled in by the agent: read over, so that what was printed can be fed back. */
const OUTPUT_ONLY = ['status', 'plan', 'uid', 'createTime', 'updateTime', 'generation'];

/** `path` may be `-` for stdin. Throws UsageError. */
export async function readManifest(path: string): Promise<Interface> {
  return await read(path, SHAPE, (document) => {
    const message = Interface.fromJSON(document);
    const { spec } = message;
    const strange = [
      spec?.mode,
      spec?.carrier,
      spec?.drift,
      ...[...(spec?.addresses ?? []), ...(spec?.routes ?? [])].map((item) => item.scope),
      ...(spec?.responders ?? []).map(({ kind }) => kind),
    ];
    if (strange.includes(-1))
      return fail(path, 'an enumeration has an unknown value; they read MODE_TUN, CARRIER_KEEP, DRIFT_REPAIR, SCOPE_LINK, KIND_ARP');
    return message;
  });
}

/** As `readManifest`, of a link. */
export async function readLinkManifest(path: string): Promise<Link> {
  return await read(path, LINK_SHAPE, (document) => {
    const message = Link.fromJSON(document);
    if (([message.spec?.protocol, message.spec?.transport] as (number | undefined)[]).includes(-1))
      return fail(path, 'an enumeration has an unknown value; they read PROTOCOL_WIREGUARD, TRANSPORT_UDP');
    return message;
  });
}

async function read<Message>(path: string, known: Shape, decode: (document: Record<string, unknown>) => Message): Promise<Message> {
  const source = path === '-' ? await text(process.stdin) : await readFile(path, 'utf8').catch((error: Error) => fail(path, error.message));
  let document: unknown;
  try {
    document = parse(source);
  } catch (error) {
    return fail(path, (error as Error).message);
  }
  if (!isObject(document)) return fail(path, 'expected one object with spec and labels');
  const kept = Object.fromEntries(Object.entries(document).filter(([key]) => !OUTPUT_ONLY.includes(camel(key))));
  const unknown = unknownKeys(kept, known, '');
  if (unknown.length > 0) {
    const tooHigh = unknown.filter((key) => known.children['spec']?.fields.includes(camel(key)));
    return fail(
      path,
      `unknown fields: ${unknown.join(', ')}${tooHigh.length > 0 ? `; below spec: is the place of ${tooHigh.join(', ')}` : ''}`,
    );
  }
  try {
    return decode(kept);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    return fail(path, (error as Error).message);
  }
}

function unknownKeys(value: unknown, { fields, children }: Shape, path: string): string[] {
  if (Array.isArray(value)) return value.flatMap((item, index) => unknownKeys(item, { fields, children }, `${path}[${index}]`));
  if (!isObject(value)) return value === null || value === undefined ? [] : [`${path} (expected an object)`];
  return Object.entries(value).flatMap(([key, inner]) => {
    const name = camel(key);
    const at = path ? `${path}.${key}` : key;
    if (!fields.includes(name)) return [at];
    const child = children[name];
    return child ? unknownKeys(inner, child, at) : [];
  });
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function camel(key: string): string {
  return key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function fail(path: string, cause: string): never {
  throw new UsageError(`read ${path === '-' ? 'standard input' : path}: ${cause}`);
}
