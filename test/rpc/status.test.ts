import { describe, expect, test } from 'vitest';
import { TaplaneError } from '../../src/errors.ts';
import { decodeStatus, errorExit, toServiceError } from '../../src/rpc/status.ts';

describe('status', () => {
  test('carries every detail there and back', () => {
    const error = new TaplaneError('RESOURCE_EXHAUSTED', 'TOO_MANY_INTERFACES', 'create interface tap9: limit', {
      fields: [
        { field: 'a.b', description: 'bad' },
        { field: 'c', description: 'worse' },
      ],
      preconditions: [{ type: 'CAPABILITY', subject: 'CAP_NET_ADMIN', description: 'run as root' }],
      metadata: { errno: 'ENOBUFS', step: 'link' },
      retryAfterMs: 1500,
    });
    expect(decodeStatus(toServiceError(error))).toEqual({
      code: 'RESOURCE_EXHAUSTED',
      message: 'create interface tap9: limit',
      reason: 'TOO_MANY_INTERFACES',
      fields: error.fields,
      preconditions: error.preconditions,
      metadata: error.metadata,
      retryAfterMs: 1500,
    });
  });

  test('tells nothing of an unknown error but an id, and logs it once', () => {
    const logged: object[] = [];
    const exit = errorExit({ error: (fields) => void logged.push(fields) }, () => 'id-1');
    const cause = new Error('ENOENT /root/secret');
    const decoded = decodeStatus(exit(cause, '/x/Y'));
    expect(decoded).toMatchObject({ code: 'INTERNAL', reason: 'INTERNAL', metadata: { errorId: 'id-1' } });
    expect(JSON.stringify(decoded)).not.toContain('secret');
    expect(logged).toEqual([{ error: cause, error_id: 'id-1', path: '/x/Y' }]);
  });

  test('fits into 8 KiB of headers, and counts what it left out', () => {
    const fields = Array.from({ length: 1000 }, (_, index) => ({
      field: `interface.spec.routes[${index}].destination`,
      description: 'é'.repeat(500),
    }));
    const error = toServiceError(
      new TaplaneError('INVALID_ARGUMENT', 'INVALID_FIELDS', 'ü'.repeat(5000), { fields, metadata: { a: 'x'.repeat(1e5) } }),
    );
    const headers = JSON.stringify(error.metadata.toHttp2Headers()).length + encodeURI(error.details).length;
    expect(headers).toBeLessThan(8192 - 512);
    const decoded = decodeStatus(error);
    expect(decoded.fields.length).toBeGreaterThan(0);
    expect(decoded.fields.length + Number(decoded.metadata['omittedViolations'])).toBe(1000);
  });

  test('survives huge metadata that cannot fit at all', () => {
    const metadata = Object.fromEntries(Array.from({ length: 1000 }, (_, index) => [`key${index}`, 'value']));
    expect(decodeStatus(toServiceError(new TaplaneError('ABORTED', 'X_Y', 'no', { metadata }))).reason).toBe('X_Y');
  });

  test('a lone surrogate does not throw out of grpc-js', () => {
    const error = toServiceError(new TaplaneError('NOT_FOUND', 'GONE', 'get \ud800: gone'));
    expect(() => encodeURI(error.details)).not.toThrow();
  });

  test('reads errors without details, and broken details', () => {
    const error = toServiceError(new TaplaneError('NOT_FOUND', 'GONE', 'gone'));
    error.metadata.set('grpc-status-details-bin', Buffer.from([0xff, 0xff, 0xff]));
    expect(decodeStatus(error)).toMatchObject({ code: 'NOT_FOUND', message: 'gone', reason: '' });
    error.metadata.remove('grpc-status-details-bin');
    expect(decodeStatus(error).reason).toBe('');
  });
});
