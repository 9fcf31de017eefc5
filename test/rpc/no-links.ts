// The contract of links where there are none, for tests of the wire.

import { TaplaneError } from '../../src/errors.ts';
import type { Links } from '../../src/link/contract.ts';

const none = (): TaplaneError => new TaplaneError('NOT_FOUND', 'LINK_NOT_FOUND', 'there are no links');
const refuse = async (): Promise<never> => {
  throw none();
};
// biome-ignore lint/correctness/useYield: nothing is ever told
const refuseStream = async function* (): AsyncGenerator<never> {
  throw none();
};

export const noLinks: Links = {
  create: refuse,
  get: refuse,
  list: refuse,
  update: refuse,
  delete: refuse,
  watch: refuseStream,
  probe: refuseStream,
};
