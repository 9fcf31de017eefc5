import { afterEach, expect, test, vi } from 'vitest';
import { Device, MeterSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { wallNs } from '../../src/lane/clock.ts';
import { Meters } from '../../src/lane/meters.ts';
import { SOON } from '../harness/bound.ts';

afterEach(() => {
  vi.restoreAllMocks();
});

test('batches are told with the time of a clock that was set, also when nothing but meters looks at it', async () => {
  const meters = new Meters();
  try {
    meters.open(Device.fromPartial({ uid: 'u', interface: 'gone0' }), MeterSetup.fromPartial({}));
    const honest = Date.now;
    vi.spyOn(Date, 'now').mockImplementation(() => honest() - 3_600_000);
    await expect.poll(() => Math.abs(Number(wallNs() / 1_000_000n) - Date.now()), SOON).toBeLessThan(1000);
  } finally {
    await meters.close();
  }
});
