import { expect, it } from 'vitest';
import { ProbeLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import type { Link } from '../../src/lane/link/link.ts';
import { probe } from '../../src/lane/link/probe.ts';

const ask = (link: object | undefined): unknown =>
  probe('uid', link as Link | undefined, ProbeLinkRequest.fromPartial({ name: 'links/a' }), new AbortController().signal);
const refusal = (reason: string): object => expect.objectContaining({ code: 'FAILED_PRECONDITION', reason });

it('a link that is not there, one without a tunnel, and one whose tunnel has no probes are told apart', () => {
  expect(() => ask(undefined)).toThrow(refusal('LINK_NOT_READY'));
  expect(() => ask({ tunnel: undefined })).toThrow(refusal('LINK_NOT_READY'));
  expect(() => ask({ tunnel: {} })).toThrow(refusal('PROBE_NOT_SUPPORTED'));
  expect(ask({ tunnel: { probe: (request: ProbeLinkRequest) => request.name } })).toBe('links/a');
});
