// What the link room offers to the wire. Messages are those of the API; every failure is a TaplaneError.
//
// Order: one change at a time for each link, in the order of arrival; different links side by side.
// Durability: a promise of a mutating call resolves once the intent is on disk and the data plane was told, or would not be told within a
// second; when it rejects, nothing has changed. `signal` only ends streaming. No answer and no event holds a private or preshared key.

import type { Link } from '../gen/taplane/v1/link.ts';
import type {
  CreateLinkRequest,
  DeleteLinkRequest,
  DeleteLinkResponse,
  GetLinkRequest,
  ListLinksRequest,
  ListLinksResponse,
  ProbeLinkRequest,
  ProbeLinkResponse,
  UpdateLinkRequest,
  WatchLinksRequest,
  WatchLinksResponse,
} from '../gen/taplane/v1/link_service.ts';

/** What depends on what a link was before, for the link with an id. */
export interface LinkRights {
  /** Take whoever connects, from now on or at another address. */
  anyPeer(id: string): boolean;
  /** Another mark or device of its sockets. */
  underlay(id: string): boolean;
}

export interface Links {
  create(request: CreateLinkRequest): Promise<Link>;
  get(request: GetLinkRequest): Promise<Link>;
  /** `isVisible` is asked for each link by id; what it denies is not told of. */
  list(request: ListLinksRequest, isVisible?: (id: string) => boolean): Promise<ListLinksResponse>;
  /** PERMISSION_DENIED when `rights` do not allow what the link becomes. */
  update(request: UpdateLinkRequest, rights?: LinkRights): Promise<Link>;
  delete(request: DeleteLinkRequest): Promise<DeleteLinkResponse>;
  /** Endless until `signal` aborts. Bounded: a reader that falls behind too far is ended with RESOURCE_EXHAUSTED and may resume. */
  watch(request: WatchLinksRequest, signal: AbortSignal, isVisible?: (id: string) => boolean): AsyncIterable<WatchLinksResponse>;
  /** Ends after the result. */
  probe(request: ProbeLinkRequest, signal: AbortSignal): AsyncIterable<ProbeLinkResponse>;
}
