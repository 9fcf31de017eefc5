// A server of frames over TCP whose listening socket is closed from outside, as an administrator does who ends all that has to do with a port.

import { type AddressInfo, connect, createServer } from 'node:net';
import { expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  LinkSpec,
  LinkSpec_Protocol as Protocol,
  LinkStatus_State as State,
  LinkSpec_Transport as Transport,
} from '../../src/gen/taplane/v1/link.ts';
import { FramesOverTcp } from '../../src/lane/frames/frames-tcp.ts';
import { SOON } from '../harness/bound.ts';
import { run } from '../harness/process.ts';

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

it('listens again where it did', async () => {
  const port = await freePort();
  const setup = LinkSetup.fromPartial({
    uid: 'link',
    spec: LinkSpec.fromPartial({ protocol: Protocol.FRAMES, transport: Transport.TCP, listen: `127.0.0.1:${port}` }),
  });
  const device = { ethernet: false, offload: false, write: () => 0 as const };
  const tunnel = new FramesOverTcp(setup, { device, now: () => performance.now() });
  try {
    const listens = async () => (await run(['ss', '-H', '-l', '-t', '-n', `sport = :${port}`])).stdout.trim() !== '';
    for (let round = 0; round < 2; round++) {
      expect(await listens()).toBe(true);
      await run(['ss', '-K', '-l', '-t', '-n', `sport = :${port}`]);
      await expect.poll(() => tunnel.state().reason, SOON).toContain('accept: EINVAL');
      expect(await listens()).toBe(false);
      await expect.poll(() => tunnel.state().reason, SOON).toBe('waiting for a connection');
    }
    const socket = connect(port, '127.0.0.1');
    await expect.poll(() => tunnel.state().state, SOON).toBe(State.UP);
    socket.destroy();
  } finally {
    tunnel.close();
  }
});
