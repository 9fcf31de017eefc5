// Pages of a list in the order of a key (AIP-158). The token is the key of the last item that was given, so that items which come and go
// meanwhile neither hide others nor show them twice. Pure.

import { invalidFields } from '../errors.ts';

const PAGE_DEFAULT = 500;
const PAGE_MOST = 1000;
const KEY_MOST = 128;

/** One page of `items`, which are in the order of `key`; no key is empty. Throws INVALID_ARGUMENT for a bad size or token. */
export function page<T>(
  request: { pageSize: number; pageToken: string },
  items: readonly T[],
  key: (item: T) => string,
): { items: T[]; nextPageToken: string } {
  if (request.pageSize < 0) throw invalidFields([{ field: 'page_size', description: `must not be negative, got ${request.pageSize}` }]);
  const size = request.pageSize === 0 ? PAGE_DEFAULT : Math.min(request.pageSize, PAGE_MOST);
  const after = readToken(request.pageToken);
  const left = items.filter((item) => key(item) > after);
  const shown = left.slice(0, size);
  const last = shown.at(-1);
  return {
    items: shown,
    nextPageToken: left.length > size && last !== undefined ? Buffer.from(key(last)).toString('base64url') : '',
  };
}

function readToken(token: string): string {
  if (token === '') return '';
  const key = Buffer.from(token, 'base64url').toString('utf8');
  if (Buffer.from(key).toString('base64url') === token && key.length <= KEY_MOST) return key;
  throw invalidFields([{ field: 'page_token', description: 'is not a token of this service' }]);
}
