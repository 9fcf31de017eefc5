// TCP with certificates on both sides, over real sockets: who gets in, as whom, and what the others are told.

import { chmodSync, chownSync, readFileSync } from 'node:fs';
import { connect as connectTcp } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { Client, credentials } from '@grpc/grpc-js';
import { afterAll, describe, expect, test } from 'vitest';
import type { Caller } from '../../src/access/caller.ts';
import { type ClientError, type ClientTls, connect } from '../../src/rpc/client.ts';
import { clientCredentials } from '../../src/rpc/tls-client.ts';
import type { Identity } from '../harness/certificates.ts';
import { eventually, type Served, served } from './served.ts';
import { TlsCertificates } from './tls-certificates.ts';

const certificates = new TlsCertificates();
afterAll(() => certificates[Symbol.dispose]());
const ca = certificates.authority('ca');
certificates.authority('other');
const serverIdentity = certificates.issue('ca', 'server', 'DNS:localhost,IP:127.0.0.1');
const files = { certFile: serverIdentity.certificateFile, keyFile: serverIdentity.privateKeyFile, clientCaFile: ca };
const good = certificates.client('ca', 'good', 'subjectAltName=URI:spiffe://cluster.local/ns/a/sa/b,DNS:B.example');

const asClient = (identity?: Identity, more: ClientTls = {}): ClientTls => ({
  caFile: ca,
  certFile: identity?.certificateFile,
  keyFile: identity?.privateKeyFile,
  ...more,
});

interface Secured extends Served {
  tls: string;
  callers: Caller[];
}

async function secured(more: Parameters<typeof served>[0] = {}): Promise<Secured> {
  const callers: Caller[] = [];
  const gate = { authorize: ({ caller }: { caller: Caller }) => void callers.push(caller) };
  const agent = await served({ listen: ['127.0.0.1:0'], tls: files, gate, ...more });
  return Object.assign(agent, { tls: agent.server.addresses[0] ?? '', callers });
}

/** What a call answers: nothing when it is well, else the error. */
async function call(address: string, tls?: ClientTls): Promise<ClientError | undefined> {
  try {
    await using client = connect(address, { timeoutMs: 15_000, tls });
    await client.node.getNode();
    return undefined;
  } catch (error) {
    return error as ClientError;
  }
}

test('a caller is who its certificate says, exactly', async () => {
  await using agent = await secured();
  expect(await call(agent.tls, asClient(good))).toBeUndefined();
  const alike = certificates.client('ca', 'alike', 'subjectAltName=URI:spiffe://cluster.local/ns/a/sa/b-evil');
  expect(await call(agent.tls, asClient(alike))).toBeUndefined();
  expect(agent.callers).toMatchObject([
    {
      kind: 'tls',
      uris: ['spiffe://cluster.local/ns/a/sa/b'],
      dnsNames: ['b.example'],
      address: expect.stringMatching(/^127\.0\.0\.1:\d+$/),
    },
    { kind: 'tls', uris: ['spiffe://cluster.local/ns/a/sa/b-evil'], dnsNames: [] },
  ]);
  expect(agent.callers[0]).toHaveProperty('fingerprint', expect.stringMatching(/^[0-9a-f]{64}$/));
  await eventually(() => agent.server.connections().open.tls === 0);
  expect(agent.server.connections()).toMatchObject({ accepted: { tls: 2, unix: 0 }, handshaking: 0 });
});

describe('are not let in', () => {
  const SAN = 'subjectAltName=URI:spiffe://cluster.local/admin';
  const cases: [what: string, identity: () => Identity | undefined, refused: string, cause: RegExp][] = [
    ['no certificate', () => undefined, 'no_certificate', /it wants a certificate of the client/],
    ['expired', () => certificates.client('ca', 'expired', SAN, { from: -3, until: -1 }), 'expired_certificate', /which has expired at/],
    ['not yet valid', () => certificates.client('ca', 'early', SAN, { from: 1 }), 'expired_certificate', /which is not valid before/],
    [
      'of another authority',
      () => certificates.client('other', 'foreign', SAN),
      'untrusted_certificate',
      /does not accept the client certificate/,
    ],
    [
      'self-signed',
      () => ({ certificateFile: `${certificates.folder}/other.pem`, privateKeyFile: `${certificates.folder}/other.key` }),
      'untrusted_certificate',
      /does not accept the client certificate/,
    ],
    [
      'for servers only',
      () => certificates.client('ca', 'purpose', `${SAN}\nextendedKeyUsage=serverAuth`),
      'untrusted_certificate',
      /does not accept the client certificate/,
    ],
    [
      'a common name alone',
      () => certificates.client('ca', 'name', 'basicConstraints=CA:FALSE'),
      'no_identity',
      /neither a URI nor a DNS name/,
    ],
    [
      'an address alone',
      () => certificates.client('ca', 'ip', 'subjectAltName=IP:10.0.0.1,email:a@b.c'),
      'no_identity',
      /neither a URI nor a DNS name/,
    ],
    [
      'a pattern alone',
      () => certificates.client('ca', 'pattern', 'subjectAltName=DNS:*.example'),
      'no_identity',
      /neither a URI nor a DNS name/,
    ],
    [
      'two SPIFFE IDs',
      () => certificates.client('ca', 'two', 'subjectAltName=URI:spiffe://cluster.local/a,URI:spiffe://cluster.local/admin'),
      'no_identity',
      /more than one SPIFFE ID/,
    ],
    [
      'a name within a name',
      () => certificates.client('ca', 'quoted', 'subjectAltName=@names\n[names]\nDNS.1=a.example, URI:spiffe://cluster.local/admin'),
      'no_identity',
      /characters that no such name has/,
    ],
    [
      'a crooked SPIFFE ID',
      () => certificates.client('ca', 'dots', 'subjectAltName=URI:spiffe://cluster.local/x/../admin'),
      'no_identity',
      /SPIFFE ID is malformed/,
    ],
  ];
  test.each(cases)('%s', async (_, identity, refused, cause) => {
    await using agent = await secured();
    const error = await call(agent.tls, asClient(identity()));
    expect(error).toMatchObject({ code: 'UNAVAILABLE', reason: 'TLS_FAILED', message: expect.stringMatching(cause) });
    expect(error?.preconditions[0]?.description).not.toBe('');
    expect(agent.callers).toEqual([]);
    await eventually(() => agent.server.connections().refused[refused as 'no_identity'] > 0);
    expect(agent.server.connections()).toMatchObject({ accepted: { tls: 0 }, open: { tls: 0 } });
    expect(await call(agent.tls, asClient(good))).toBeUndefined();
  });
});

test('a client says why it does not come together with an agent, and what to do', async () => {
  await using agent = await secured();
  await using open = await served({ listen: ['127.0.0.1:0'], insecureLoopback: true });
  const old = certificates.issue('ca', 'old', 'DNS:localhost,IP:127.0.0.1', -1);
  await using expired = await secured({ tls: { ...files, certFile: old.certificateFile, keyFile: old.privateKeyFile } });
  const cases: [string, ClientTls | undefined, RegExp, RegExp][] = [
    [agent.tls, asClient(good, { caFile: `${certificates.folder}/other.pem` }), /not signed by whom we trust/, /--server-ca/],
    [agent.tls, asClient(good, { serverName: 'elsewhere' }), /for another name/, /--server-name/],
    [agent.tls, undefined, /may want TLS/, /--server-ca/],
    [open.server.addresses[0] ?? '', asClient(good), /does not speak TLS/, /leave out/],
    [expired.tls, asClient(good), /has expired/, /renewed/],
    [agent.tls, asClient(undefined), /wants a certificate of the client/, /--client-cert FILE/],
  ];
  for (const [address, tls, cause, cure] of cases) {
    const error = await call(address, tls);
    expect(error).toMatchObject({ code: 'UNAVAILABLE', reason: 'TLS_FAILED', message: expect.stringMatching(cause) });
    expect(error?.preconditions).toMatchObject([{ description: expect.stringMatching(cure) }]);
  }
  for (const [tls, cause] of [
    [asClient(good, { keyFile: undefined }), /--client-cert is of no use alone/],
    [asClient(good, { caFile: '/nonexistent/file' }), /ENOENT/],
    [asClient(good, { caFile: good.privateKeyFile }), /no certificate in PEM/],
    [asClient(good, { keyFile: serverIdentity.privateKeyFile }), /is not the key of/],
  ] as const)
    expect(await call(agent.tls, tls)).toMatchObject({ reason: 'TLS_FILE_UNUSABLE', message: expect.stringMatching(cause) });
  expect(await call(agent.tls.replace('127.0.0.1', 'localhost'), asClient(good))).toBeUndefined();
});

test('only TLS 1.3 is spoken, with h2, and no session is resumed', async () => {
  await using agent = await secured();
  const [host, port] = agent.tls.split(':');
  const identity = { cert: readFileSync(good.certificateFile), key: readFileSync(good.privateKeyFile), ca: readFileSync(ca) };
  const dial = (options: object) =>
    new Promise<{ error: string; reused: boolean; session: Buffer | undefined; said: number }>((resolve) => {
      let [error, reused, said, session] = ['', false, 0, undefined as Buffer | undefined];
      const socket = connectTls(
        { host, port: Number(port), servername: 'localhost', ALPNProtocols: ['h2'], ...identity, ...options },
        () => {
          reused = socket.isSessionReused();
        },
      );
      socket.on('session', (ticket) => (session = ticket)).on('error', ({ message }) => (error = message));
      socket.on('data', (bytes) => {
        said += bytes.length;
        setTimeout(() => socket.destroy(), 50);
      });
      socket.on('close', () => resolve({ error, reused, session, said }));
    });
  const first = await dial({});
  expect(first.said).toBeGreaterThan(0);
  expect((await dial({ session: first.session })).reused).toBe(false);
  expect((await dial({ maxVersion: 'TLSv1.2' })).error).toMatch(/protocol version/);
  expect((await dial({ ALPNProtocols: ['http/1.1'] })).error).toMatch(/no application protocol/);
  expect((await dial({ ALPNProtocols: undefined })).said).toBe(0);
  expect(agent.server.connections().refused.tls_version).toBe(1);
});

test('handshakes are few at a time and short, and those of one address do not keep others out', async () => {
  await using agent = await secured({ limits: { maxHandshakesPerAddress: 4, handshakeTimeoutMs: 600 } });
  const port = Number(agent.tls.split(':')[1]);
  const silent = () => {
    const socket = connectTcp({ host: '127.0.0.1', port, localAddress: '127.0.0.2' });
    socket.on('error', () => {});
    // A byte now and then begins no new time.
    const drip = setInterval(() => socket.write('\x16'), 100);
    return new Promise<void>((resolve) => socket.on('close', () => resolve(clearInterval(drip))));
  };
  const begun = performance.now();
  const closed = Promise.all(Array.from({ length: 10 }, silent));
  await eventually(() => agent.server.connections().refused.address_handshakes === 6);
  expect(await call(agent.tls, asClient(good))).toBeUndefined();
  await closed;
  expect(performance.now() - begun).toBeLessThan(20_000);
  const { refused, handshaking } = agent.server.connections();
  expect(handshaking).toBe(0);
  expect(refused.handshake_timeout + refused.not_tls + refused.handshake_failed).toBe(4);
});

test('health is for every caller; reflection over TLS only where it is asked for', async () => {
  const ask = (address: string, path: string, request: Buffer, secure = credentials.createInsecure()) =>
    new Promise<number>((resolve) => {
      const client = new Client(address, secure);
      const same = (bytes: Buffer) => bytes;
      const stream = client.makeBidiStreamRequest(path, same, same, { deadline: Date.now() + 15_000 });
      stream.on('data', () => {}).on('error', () => {});
      stream.on('status', ({ code }) => {
        client.close();
        resolve(code);
      });
      stream.end(request);
    });
  const [check, reflect] = ['/grpc.health.v1.Health/Check', '/grpc.reflection.v1.ServerReflection/ServerReflectionInfo'];
  // ServerReflectionRequest.list_services of reflection.proto.
  const list = Buffer.from([0x3a, 1, 0x2a]);
  const secure = () => clientCredentials(asClient(good), '127.0.0.1');
  await using agent = await secured({ listen: ['127.0.0.1:0'] });
  expect(await ask(agent.tls, check, Buffer.alloc(0), secure())).toBe(0);
  expect(await ask(agent.tls, reflect, list, secure())).toBe(12);
  await using open = await secured({ reflection: true });
  expect(await ask(open.tls, reflect, list, secure())).toBe(0);
  await using loopback = await served({ listen: ['127.0.0.1:0'], insecureLoopback: true, tls: files });
  expect(await ask(loopback.server.addresses[0] ?? '', reflect, list)).toBe(0);
});

test('a key that others may read, or that is of another certificate, is refused at the start', async () => {
  const lax = certificates.issue('ca', 'lax', 'DNS:localhost');
  const start = (tls: Partial<typeof files>) =>
    secured({ tls: { ...files, ...tls } }).then(
      (agent) => agent[Symbol.asyncDispose](),
      (error) => error,
    );
  chmodSync(lax.privateKeyFile, 0o644);
  expect(await start({ certFile: lax.certificateFile, keyFile: lax.privateKeyFile })).toMatchObject({
    code: 'FAILED_PRECONDITION',
    reason: 'TLS_FILE_UNUSABLE',
    message: expect.stringContaining('its mode is 0644: others may use it'),
    preconditions: [{ description: `chmod 600 ${lax.privateKeyFile}` }],
  });
  chmodSync(lax.privateKeyFile, 0o440);
  expect(await start({ certFile: lax.certificateFile, keyFile: lax.privateKeyFile })).toBeUndefined();
  if (process.getuid?.() === 0) {
    chownSync(lax.privateKeyFile, 0, 54321);
    expect(await start({ keyFile: lax.privateKeyFile })).toMatchObject({ message: expect.stringContaining('group 54321 is not ours') });
    chownSync(lax.privateKeyFile, 0, process.getgid?.() ?? 0);
  }
  expect(await start({ keyFile: lax.privateKeyFile })).toMatchObject({ message: expect.stringContaining('is not the key of') });
  expect(await start({ clientCaFile: '/nonexistent/file' })).toMatchObject({ message: expect.stringContaining('ENOENT') });
});
