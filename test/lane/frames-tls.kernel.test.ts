// Frames over TLS: both ends show who they are, and only who should be there is.

import { chmodSync, copyFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import type { Device } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import {
  LinkSpec_Protocol as Protocol,
  LinkDrops_Reason as Reason,
  LinkStatus_State as State,
  type TlsSpec,
  LinkSpec_Transport as Transport,
} from '../../src/gen/taplane/v1/link.ts';
import { bound } from '../harness/bound.ts';
import { Certificates, type Identity } from '../harness/certificates.ts';
import { dropped, LinkLane, linkDevice } from '../harness/link-lane.ts';
import { createCable, createNamespace } from '../harness/namespace.ts';
import { transferBothWays } from '../harness/passage.ts';
import { untilAnswers } from '../harness/ping.ts';

const MEBIBYTES = bound(64, 2);
const FRAMES = { protocol: Protocol.FRAMES, transport: Transport.TCP };

it('joins who can show who they are, and nobody else', async () => {
  await using near = createNamespace();
  await using far = createNamespace();
  createCable({ namespace: near, device: 'e0', address: '10.97.0.1/24' }, { namespace: far, device: 'e0', address: '10.97.0.2/24' });
  using certificates = new Certificates();
  const caFile = certificates.authority('ca');
  const otherCa = certificates.authority('other');
  const near1 = certificates.issue('ca', 'near', 'DNS:near.example,IP:10.97.0.1');
  const far1 = certificates.issue('ca', 'far', 'URI:spiffe://example/far');
  const stranger = certificates.issue('other', 'stranger', 'URI:spiffe://example/far,DNS:near.example');
  const expired = certificates.issue('ca', 'expired', 'URI:spiffe://example/far,DNS:near.example', -1);

  await using server = await LinkLane.start(near);
  await using client = await LinkLane.start(far);
  const t0 = linkDevice(near, 't0', { addresses: ['10.98.0.1/24'] });
  const t1 = linkDevice(far, 't1', { addresses: ['10.98.0.2/24'] });
  const serve = (device: Device, identity: Identity, more: Partial<TlsSpec> = {}) =>
    server.hold({
      device,
      spec: { ...FRAMES, listen: '10.97.0.1:55555', tls: { ...identity, caFile, peerName: 'spiffe://example/far', ...more } },
    });
  const dial = (device: Device, identity: Identity, more: Partial<TlsSpec> = {}) =>
    client.hold({
      device,
      spec: { ...FRAMES, peers: [{ endpoint: '10.97.0.1:55555' }], tls: { ...identity, caFile, peerName: 'near.example', ...more } },
    });
  const refused = async (why: RegExp): Promise<void> => {
    const status = await server.until(({ reason }) => why.test(reason));
    expect(status.reason).toMatch(/^waiting for a connection; refused 10\.97\.0\.2:\d+: TLS: /);
    expect(status.state).toBe(State.CONNECTING);
    expect(dropped(status, Reason.UNAUTHENTICATED)).toBeGreaterThan(0);
    expect(status.traffic?.receivedPackets).toBe(0n);
  };
  const unwilling = async (why: RegExp): Promise<void> => {
    const { reason } = await client.until((status) => why.test(status.reason));
    expect(reason).toMatch(/^connecting to 10\.97\.0\.1:55555: TLS: .*, next try in \d+ ms$/);
  };

  // An end that is not who it should be.
  await serve(t0, near1);
  await dial(t1, stranger);
  await refused(/self-signed|SELF_SIGNED|unable to|UNABLE_TO/);
  await dial(t1, expired);
  await refused(/CERT_HAS_EXPIRED/);
  await dial(t1, near1);
  await refused(/the certificate is not of spiffe:\/\/example\/far: DNS:near\.example/);
  await dial(t1, far1, { peerName: 'far.example' });
  await unwilling(/the certificate is not of far\.example/);
  // A wildcard and an address are no names.
  await dial(t1, far1, { peerName: '10.97.0.1' });
  await unwilling(/the certificate is not of 10\.97\.0\.1/);
  await dial(t1, far1, { caFile: otherCa });
  await unwilling(/self-signed|SELF_SIGNED|unable to|UNABLE_TO/);
  await serve(t0, stranger);
  await dial(t1, far1);
  await unwilling(/self-signed|SELF_SIGNED|unable to|UNABLE_TO/);
  await serve(t0, expired);
  await unwilling(/certificate has expired/);

  // What speaks no TLS, an older one, or shows nothing.
  await serve(t0, near1);
  await client.hold();
  await far.exec(['sh', '-c', 'printf "GET / HTTP/1.0\\r\\n\\r\\n" | socat - TCP4:10.97.0.1:55555']);
  await refused(/http request|wrong version/);
  await far.exec(['openssl', 's_client', '-connect', '10.97.0.1:55555', '-tls1_2'], { input: '' });
  await refused(/unsupported protocol|protocol version/);
  await far.exec(['openssl', 's_client', '-connect', '10.97.0.1:55555', '-tls1_3'], { input: '' });
  await refused(/showed no certificate/);

  // A key that others may read.
  chmodSync(far1.privateKeyFile, 0o644);
  await dial(t1, far1);
  await unwilling(/far\.key: its mode is 0644: others may use it: chmod 600/);
  await dial(t1, { ...far1, privateKeyFile: '/dev/zero' });
  await unwilling(/\/dev\/zero: no file/);
  expect((await client.status()).state).toBe(State.CONNECTING);
  chmodSync(far1.privateKeyFile, 0o600);

  // Both as they should be, and many beside who say nothing.
  const silent = `import socket, time
held = [socket.create_connection(('10.97.0.1', 55555)) for _ in range(20)]
print('open', flush=True)
time.sleep(60)`;
  await client.hold();
  await using crowd = far.spawn(['/usr/bin/python3', '-c', silent]);
  await crowd.until(({ stdout }) => stdout.includes('open'), 'a crowd');
  await server.until((status) => dropped(status, Reason.RATE_LIMITED) >= 4);
  await dial(t1, far1);
  await server.untilUp();
  await client.untilUp();
  await untilAnswers(near, '10.98.0.2');
  await transferBothWays(near, far, '10.98.0.2', MEBIBYTES);
  await transferBothWays(far, near, '10.98.0.1', MEBIBYTES);
  expect((await client.status()).traffic?.sentPackets).toBe((await server.status()).traffic?.receivedPackets);

  // New files of another authority: what is connected stays, the next connection is theirs.
  const before = (await server.status()).peers[0]?.endpoint;
  const near2 = certificates.issue('other', 'near-2', 'DNS:near.example');
  const far2 = certificates.issue('other', 'far-2', 'URI:spiffe://example/far');
  copyFileSync(otherCa, caFile);
  for (const [from, to] of [
    [near2, near1],
    [far2, far1],
  ] as const) {
    copyFileSync(from.certificateFile, to.certificateFile);
    copyFileSync(from.privateKeyFile, to.privateKeyFile);
  }
  await untilAnswers(near, '10.98.0.2');
  expect((await server.status()).peers[0]?.endpoint).toBe(before);
  near.run('ss', '-K', 'dst', '10.97.0.2');
  await server.until(({ peers }) => peers[0]?.up === true && peers[0].endpoint !== before);
  await untilAnswers(near, '10.98.0.2');
});
