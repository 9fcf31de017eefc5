// An agent with links in memory, for tests of the link commands: the real service on a unix socket, and what it was asked.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Server, ServerCredentials, type ServerUnaryCall, type ServerWritableStream, type sendUnaryData } from '@grpc/grpc-js';
import { vi } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { Link, LinkStatus } from '../../src/gen/taplane/v1/link.ts';
import {
  type CreateLinkRequest,
  type DeleteLinkRequest,
  type GetLinkRequest,
  LinkServiceService,
  type ListLinksRequest,
  type ProbeLinkResponse,
  type UpdateLinkRequest,
  type WatchLinksRequest,
  WatchLinksResponse,
} from '../../src/gen/taplane/v1/link_service.ts';
import { toServiceError } from '../../src/rpc/status.ts';

// A command line is several processes: on a busy machine a second each.
vi.setConfig({ testTimeout: 120_000 });

export interface LinkAgent extends AsyncDisposable {
  address: string;
  directory: string;
  links: Map<string, Link>;
  /** What was asked, by the name of the method, in turn. */
  calls<Request>(method: string): Request[];
  /** What the status of a new link is but for its state. */
  statusOfNew: Partial<LinkStatus>;
  /** What a watch tells after the snapshot. */
  events: WatchLinksResponse[];
  /** What a probe answers. */
  probes: ProbeLinkResponse[];
  /** Refuses the next call of a method. */
  refuse(method: string, error: TaplaneError): void;
}

const NOW = () => ({ seconds: BigInt(Math.floor(Date.now() / 1000) - 5), nanos: 0 });

export async function linkAgent(): Promise<LinkAgent> {
  const directory = await mkdtemp(join(tmpdir(), 'taplane-cli-'));
  const links = new Map<string, Link>();
  const asked: { method: string; request: unknown }[] = [];
  const refusals = new Map<string, TaplaneError>();
  const events: WatchLinksResponse[] = [];
  const probes: ProbeLinkResponse[] = [];

  const note = (method: string, request: unknown) => {
    asked.push({ method, request });
    const refusal = refusals.get(method);
    refusals.delete(method);
    if (refusal) throw refusal;
  };
  const found = (name: string): Link => {
    const one = links.get(name);
    if (!one) throw new TaplaneError('NOT_FOUND', 'LINK_NOT_FOUND', `read ${name}: there is no such link`);
    return one;
  };
  const unary =
    <Request, Response>(method: string, answer: (request: Request) => Response) =>
    ({ request }: ServerUnaryCall<Request, Response>, reply: sendUnaryData<Response>) => {
      try {
        note(method, request);
        reply(null, answer(request));
      } catch (error) {
        reply(toServiceError(error as TaplaneError));
      }
    };
  const kept = (link: Link, validateOnly: boolean): Link => {
    if (!validateOnly) links.set(link.name, link);
    return link;
  };

  const server = new Server();
  server.addService(LinkServiceService, {
    createLink: unary('create', ({ linkId, link, validateOnly }: CreateLinkRequest) => {
      const name = `links/${linkId}`;
      if (links.has(name)) throw new TaplaneError('ALREADY_EXISTS', 'LINK_EXISTS', `create ${name}: it is there already`);
      const status = LinkStatus.fromPartial({ state: 2, listen: '0.0.0.0:51820', mtu: 1420, ...agent.statusOfNew });
      return kept(Link.fromPartial({ ...link, name, etag: '"1"', createTime: NOW(), generation: 1n, status }), validateOnly);
    }),
    getLink: unary('get', ({ name }: GetLinkRequest) => found(name)),
    listLinks: unary('list', ({ interface: of, labelSelector }: ListLinksRequest) => {
      const fits = ({ spec, labels }: Link) =>
        (of === '' || spec?.interface === of) && Object.entries(labelSelector).every(([key, value]) => labels[key] === value);
      return { links: [...links.values()].filter(fits), nextPageToken: '' };
    }),
    updateLink: unary('update', ({ link, updateMask, validateOnly }: UpdateLinkRequest) => {
      const before = found(link?.name ?? '');
      if (link?.etag && link.etag !== before.etag) throw new TaplaneError('ABORTED', 'ETAG_MISMATCH', 'update: it was changed meanwhile');
      // biome-ignore lint/suspicious/noExplicitAny: fields by their names
      const spec: any = { ...before.spec };
      const { spec: given } = link ?? {};
      for (const path of updateMask ?? []) {
        const field = path.replace(/^spec\./, '').replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
        if (path.startsWith('spec.')) spec[field] = given?.[field as keyof typeof given];
      }
      const labels = updateMask?.includes('labels') ? link?.labels : before.labels;
      const etag = `"${Number(before.etag.slice(1, -1)) + 1}"`;
      return kept(Link.fromPartial({ ...before, spec, labels, etag }), validateOnly);
    }),
    deleteLink: unary('delete', ({ name, allowMissing, validateOnly }: DeleteLinkRequest) => {
      if (!allowMissing) found(name);
      if (!validateOnly) links.delete(name);
      return {};
    }),
    watchLinks(call: ServerWritableStream<WatchLinksRequest, WatchLinksResponse>) {
      note('watch', call.request);
      const { name, resumeToken } = call.request;
      if (resumeToken === '') {
        for (const one of links.values())
          if (name === '' || name === one.name) call.write(WatchLinksResponse.fromPartial({ event: { $case: 'added', value: one } }));
        call.write(WatchLinksResponse.fromPartial({ event: { $case: 'synced', value: {} }, resumeToken: '1' }));
      }
      for (const event of events) call.write(event);
    },
    probeLink(call: ServerWritableStream<unknown, ProbeLinkResponse>) {
      try {
        note('probe', call.request);
        for (const answer of probes) call.write(answer);
        call.end();
      } catch (error) {
        call.emit('error', toServiceError(error as TaplaneError));
      }
    },
  });
  const address = `unix:${join(directory, 'agent.sock')}`;
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(address, ServerCredentials.createInsecure(), (error) => (error ? reject(error) : resolve())),
  );
  const agent: LinkAgent = {
    address,
    directory,
    statusOfNew: {},
    links,
    calls: <Request>(method: string) => asked.filter((call) => call.method === method).map(({ request }) => request as Request),
    events,
    probes,
    refuse: (method, error) => void refusals.set(method, error),
    async [Symbol.asyncDispose]() {
      server.forceShutdown();
      await rm(directory, { recursive: true, force: true });
    },
  };
  return agent;
}
