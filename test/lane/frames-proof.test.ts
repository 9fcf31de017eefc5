// A client that is about to show who it is, over TLS on the loopback, while its link is told of another peer.

import { readFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { expect, it } from 'vitest';
import { LinkSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  LinkSpec,
  LinkSpec_Protocol as Protocol,
  LinkDrops_Reason as Reason,
  LinkStatus_State as State,
  LinkSpec_Transport as Transport,
} from '../../src/gen/taplane/v1/link.ts';
import { FramesOverTcp } from '../../src/lane/frames/frames-tcp.ts';
import { SOON } from '../harness/bound.ts';
import { Certificates } from '../harness/certificates.ts';

it('is let in only if it may still be there when it has', async () => {
  using certificates = new Certificates();
  const caFile = certificates.authority('ca');
  const near = certificates.issue('ca', 'near', 'DNS:near.example');
  const far = certificates.issue('ca', 'far', 'DNS:far.example');
  const setupOf = (peer: string) =>
    LinkSetup.fromPartial({
      uid: 'link',
      spec: LinkSpec.fromPartial({
        protocol: Protocol.FRAMES,
        transport: Transport.TCP,
        listen: '127.0.0.1:0',
        peers: [{ endpoint: peer }],
        tls: { ...near, caFile, peerName: 'far.example' },
      }),
    });
  const device = { ethernet: false, offload: false, write: () => 0 as const };
  const tunnel = new FramesOverTcp(setupOf('127.0.0.1:1'), { device, now: () => performance.now() });
  const port = Number(tunnel.state().listen.split(':')[1]);
  const prove = (socket: Socket) =>
    connect({
      socket,
      cert: readFileSync(far.certificateFile),
      key: readFileSync(far.privateKeyFile),
      ca: readFileSync(caFile),
      checkServerIdentity: () => undefined,
    }).on('error', () => {});
  const dial = async (): Promise<Socket> => {
    const socket = new Socket().on('error', () => {});
    await new Promise<void>((resolve) => socket.connect({ port, host: '127.0.0.1' }, resolve));
    // Until it is accepted: nothing tells.
    await sleep(100);
    return socket;
  };
  const sockets = [await dial(), await dial()] as const;
  try {
    expect(tunnel.again(setupOf('127.0.0.2:1'))).toBe(true);
    prove(sockets[0]);
    await expect.poll(() => tunnel.state().drops, SOON).toEqual([{ reason: Reason.STRANGER, packets: 1n }]);
    expect(tunnel.state().state).toBe(State.CONNECTING);
    expect(tunnel.state().reason).toMatch(/refused 127\.0\.0\.1:\d+: comes from another address$/);
    // And one that may be there again.
    expect(tunnel.again(setupOf('127.0.0.1:1'))).toBe(true);
    prove(sockets[1]);
    await expect.poll(() => tunnel.state().state, SOON).toBe(State.UP);
  } finally {
    tunnel.close();
    for (const socket of sockets) socket.destroy();
  }
});
