// The contract of responders in memory, for tests of the wire and of the command line. Knows no interfaces: every parent is there.

import { invalidFields, TaplaneError } from '../../src/errors.ts';
import { Responder } from '../../src/gen/taplane/v1/responder_service.ts';
import type { Responders } from '../../src/interface/contract.ts';

export interface MemoryResponders extends Responders {
  /** Every request, by method, in order. */
  readonly calls: { method: string; request: unknown }[];
}

const WORDS = ['', 'icmp-echo', 'arp', 'nd', 'sink', 'reflect'];

export function memoryResponders(): MemoryResponders {
  const stored = new Map<string, Responder>();
  const calls: MemoryResponders['calls'] = [];
  const note = (method: string, request: unknown) => calls.push({ method, request });
  const found = (name: string): Responder => {
    const one = stored.get(name);
    if (one === undefined) throw new TaplaneError('NOT_FOUND', 'RESPONDER_NOT_FOUND', `read ${name}: there is no such responder`);
    return one;
  };
  return {
    calls,
    async create(request) {
      note('create', request);
      const spec = request.responder?.spec;
      if (spec === undefined) throw invalidFields([{ field: 'responder.spec', description: 'must be given' }]);
      const id = request.responderId || (WORDS[spec.kind] ?? '');
      const name = `${request.parent}/responders/${id}`;
      if (stored.has(name)) throw new TaplaneError('ALREADY_EXISTS', 'RESPONDER_EXISTS', `create ${name}: it is there already`);
      const status = { attached: true, reason: '', received: 7n, answered: 5n, failed: 2n };
      const made = Responder.create({ name, spec: { ...spec, id }, status });
      if (!request.validateOnly) stored.set(name, made);
      return made;
    },
    async get(request) {
      note('get', request);
      return found(request.name);
    },
    async list(request) {
      note('list', request);
      const all = [...stored.values()].filter(({ name }) => request.parent === 'interfaces/-' || name.startsWith(`${request.parent}/`));
      const start = Number(request.pageToken || 0);
      const end = start + (request.pageSize || 500);
      return { responders: all.slice(start, end), nextPageToken: end < all.length ? String(end) : '' };
    },
    async delete(request) {
      note('delete', request);
      if (!request.allowMissing) found(request.name);
      if (!request.validateOnly) stored.delete(request.name);
      return {};
    },
  };
}
