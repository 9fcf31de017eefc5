// A tunnel of frames that cannot be had leaves nothing behind: its link makes it again four times a second, for as long as that lasts.

import { createSocket } from 'node:dgram';
import { readdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { type LinkPeer, LinkSpec, LinkSpec_Protocol as Protocol, LinkSpec_Transport as Transport } from '../../src/gen/taplane/v1/link.ts';
import { openFrames } from '../../src/lane/frames/frames.ts';

/** Longer than what probes wait between two looks at their peers. */
const TICK_MS = 500;
const TRIES = 20;

async function takenPorts(): Promise<{ tcp: string; udp: string; [Symbol.dispose](): void }> {
  const [server, socket] = [createServer(), createSocket('udp4')];
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  await new Promise<void>((resolve) => socket.bind(0, '127.0.0.1', resolve));
  return {
    tcp: `127.0.0.1:${(server.address() as { port: number }).port}`,
    udp: `127.0.0.1:${socket.address().port}`,
    [Symbol.dispose]() {
      server.close();
      socket.close();
    },
  };
}

it('leaves no timer and no descriptor behind, whyever it could not be had', async () => {
  using taken = await takenPorts();
  const peers = [{ endpoint: '127.0.0.1:9' }];
  const cases: (Partial<Omit<LinkSpec, 'peers'>> & { peers?: Partial<LinkPeer>[] })[] = [
    { transport: Transport.UDP, listen: taken.udp, peers },
    { transport: Transport.UDP, listen: '127.0.0.1:0' },
    { transport: Transport.TCP, listen: taken.tcp },
    { transport: Transport.TCP, listen: '127.0.0.1:0', peers: [{ endpoint: 'nowhere' }] },
    { transport: Transport.TCP },
  ];
  let looks = 0;
  const now = () => {
    looks++;
    return performance.now();
  };
  const device = { ethernet: false, offload: true, write: () => 0 as const };
  const before = readdirSync('/proc/self/fd').length;
  for (const spec of cases) {
    const setup = LinkSetup.fromPartial({ uid: 'link', spec: LinkSpec.fromPartial({ protocol: Protocol.FRAMES, ...spec }) });
    for (let count = 0; count < TRIES; count++) expect(() => openFrames(setup, { device, now })).toThrow();
  }
  expect(readdirSync('/proc/self/fd')).toHaveLength(before);
  looks = 0;
  await sleep(TICK_MS);
  expect(looks).toBe(0);
});
