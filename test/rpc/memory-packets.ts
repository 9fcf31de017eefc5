// A data plane that is not there, for tests of other services.

import { TaplaneError } from '../../src/errors.ts';
import type { Packets } from '../../src/rpc/packet-service.ts';

export const noPackets: Packets = {
  async open() {
    throw new TaplaneError('UNAVAILABLE', 'LANE_UNAVAILABLE', 'there is no data plane in this test');
  },
};
