// Short ways to ask for links in tests.

import { type LinkSpec, LinkSpec_Protocol as Protocol, LinkSpec_Transport as Transport } from '../../src/gen/taplane/v1/link.ts';
import { CreateLinkRequest, DeleteLinkRequest, UpdateLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { makePrivateKey, publicKeyOf } from '../../src/link/keys.ts';

type Deep<T> = T extends Uint8Array ? T : T extends (infer I)[] ? Deep<I>[] : T extends object ? { [K in keyof T]?: Deep<T[K]> } : T;
export type PartialLink = Deep<LinkSpec>;

export const { FRAMES, VXLAN, WIREGUARD } = Protocol;
export const { TCP, UDP } = Transport;

/** A public key of nobody. */
export function somebody(): Buffer {
  return publicKeyOf(makePrivateKey());
}

export function linking(
  linkId: string,
  spec: PartialLink,
  more: { requestId?: string; validateOnly?: boolean; labels?: Record<string, string> } = {},
): CreateLinkRequest {
  const { labels = {}, ...rest } = more;
  return CreateLinkRequest.fromPartial({ linkId, link: { spec: spec as object, labels }, ...rest });
}

export function relinking(
  id: string,
  spec: PartialLink,
  updateMask: string[] | undefined = undefined,
  more: { requestId?: string; validateOnly?: boolean; allowMissing?: boolean; etag?: string; labels?: Record<string, string> } = {},
): UpdateLinkRequest {
  const { labels = {}, etag = '', ...rest } = more;
  return UpdateLinkRequest.fromPartial({ link: { name: `links/${id}`, spec: spec as object, labels, etag }, updateMask, ...rest });
}

export function unlinking(
  id: string,
  more: { requestId?: string; validateOnly?: boolean; allowMissing?: boolean; etag?: string } = {},
): DeleteLinkRequest {
  return DeleteLinkRequest.fromPartial({ name: `links/${id}`, ...more });
}

/** Frames over UDP to a port of loopback where nobody is. */
export function framesUdp(interfaceName: string, port = 9, more: PartialLink = {}): PartialLink {
  return { interface: `interfaces/${interfaceName}`, protocol: FRAMES, peers: [{ endpoint: `127.0.0.1:${port}` }], ...more };
}

export function wireguard(interfaceName: string, peers: PartialLink['peers'] = [], more: PartialLink = {}): PartialLink {
  return { interface: `interfaces/${interfaceName}`, protocol: WIREGUARD, listen: '127.0.0.1:0', peers: peers as [], ...more };
}
