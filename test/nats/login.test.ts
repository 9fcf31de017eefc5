// Logins to a real nats-server: TLS both ways, passwords, tokens, nkeys, credentials, permissions, rotation, refusal. After each test:
// no secret in log or status.

import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { jetstream, jetstreamManager } from '@nats-io/jetstream';
import type { NatsConnection } from '@nats-io/transport-node';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { NatsStatus_State as State } from '../../src/gen/taplane/v1/node_service.ts';
import { connectNats, type NatsLink } from '../../src/nats/connection.ts';
import { inboxPrefix, type NatsFiles, natsConnectionOptions } from '../../src/nats/login.ts';
import { parseNatsUrl } from '../../src/nats/url.ts';
import { type Authority, authority, nkeyUser, operator } from './identities.ts';
import { eventually, freePort, natsBinary, type RealNats, startNats } from './real-nats.ts';

const dir = mkdtempSync(join(tmpdir(), 'taplane-nats-auth-'));
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const lines: string[] = [];
const write = (fields: object, message: string) => void lines.push(`${message} ${JSON.stringify(fields)}`);
const log = { debug: write, info: write, warn: write };
const secrets: string[] = [];
let link: NatsLink | undefined;
let real: RealNats | undefined;
let files = 0;

afterEach(async () => {
  const seen = lines.join('\n') + JSON.stringify(link?.status(), (_, value) => String(value));
  await link?.close();
  await real?.stop();
  link = real = undefined;
  for (const secret of secrets) expect(seen).not.toContain(secret);
  lines.length = secrets.length = 0;
});

function secret(text: string): string {
  secrets.push(...text.split('\n').filter((line) => line.length > 5 && !line.includes('---') && !line.includes(' ')));
  return text;
}
function file(text: string, mode = 0o600): string {
  const path = join(dir, `${++files}`);
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}
async function serve(configuration: string, port: number, ...args: string[]): Promise<void> {
  real = await startNats(port, '-c', file(configuration), ...args);
}
function open(mode: string, paths: NatsFiles = {}, node = 'n1'): NatsLink {
  link = connectNats({ mode, name: 'taplane/test', node, stateDir: dir, log, files: paths });
  return link;
}
const says = () => JSON.stringify(link?.status(), (_, value) => String(value));
const connected = (withinMs?: number) => eventually(() => link?.status().state === State.CONNECTED, `connected: ${says()}`, withinMs);
const reason = (pattern: RegExp) => eventually(() => pattern.test(link?.status().reason ?? ''), `reason ${pattern}: ${says()}`);
const tries = (count: number) => eventually(() => lines.filter((line) => line.startsWith('nats not connected')).length >= count, 'tries');

describe.skipIf(!natsBinary)('with a real nats-server (needs one in the PATH)', () => {
  describe('TLS', () => {
    let ours: Authority;
    let strangers: Authority;
    let server: { cert: string; key: string };
    let agent: { cert: string; key: string };
    beforeAll(() => {
      ours = authority(dir, 'ours');
      strangers = authority(dir, 'strangers');
      server = ours.sign('server');
      agent = ours.sign('agent');
    });
    const tls = () => ['--tlsverify', '--tlscert', server.cert, '--tlskey', server.key, '--tlscacert', ours.ca];

    test.each(['127.0.0.1', 'localhost'])(
      'both sides show certificates, by the name %s',
      async (host) => {
        const port = await freePort();
        real = await startNats(port, ...tls());
        open(`tls://${host}:${port}`, { tlsCa: ours.ca, tlsCert: agent.cert, tlsKey: agent.key });
        await connected();
        expect(link?.status().server).toBe(`tls://${host}:${port}`);
      },
      60_000,
    );

    test.each([
      ['IP:127.0.0.1', '127.0.0.1', true],
      ['IP:127.0.0.1', 'localhost', false],
      ['DNS:localhost', '127.0.0.1', false],
      ['DNS:localhost', 'localhost', true],
      ['IP:192.0.2.1', '127.0.0.1', false],
      ['DNS:nats.example', 'localhost', false],
    ])('a certificate for %s is taken at %s: %s', async (names, host, taken) => {
      const port = await freePort();
      const { cert, key } = ours.sign('named', names);
      real = await startNats(port, '--tls', '--tlscert', cert, '--tlskey', key);
      open(`tls://${host}:${port}`, { tlsCa: ours.ca });
      if (taken) await connected();
      else await reason(/does not match certificate/);
    });

    test('files make TLS required, also with nats://', async () => {
      const port = await freePort();
      real = await startNats(port);
      open(`nats://127.0.0.1:${port}`, { tlsCa: ours.ca });
      await reason(/does not support 'tls'/);
      await real.stop();
      real = await startNats(port, '--tls', '--tlscert', server.cert, '--tlskey', server.key);
      await connected(40_000);
      expect(link?.status().server).toBe(`tls://127.0.0.1:${port}`);
    }, 60_000);

    test('a server that another authority signed is refused, and said so', async () => {
      const port = await freePort();
      real = await startNats(port, ...tls());
      open(`tls://127.0.0.1:${port}`, { tlsCa: strangers.ca, tlsCert: agent.cert, tlsKey: agent.key });
      await reason(/certificate/);
      await tries(3);
      expect(link?.status().state).toBe(State.CONNECTING);
    }, 60_000);

    test('an agent without certificate is refused by the server, and its own file mends it without a restart', async () => {
      const port = await freePort();
      real = await startNats(port, ...tls());
      const stranger = strangers.sign('stranger');
      const [cert, key] = [file(''), file('')];
      const copy = (from: { cert: string; key: string }) =>
        execFileSync('sh', ['-c', `cat ${from.cert} >${cert}; cat ${from.key} >${key}`]);
      copy(stranger);
      open(`tls://127.0.0.1:${port}`, { tlsCa: ours.ca, tlsCert: cert, tlsKey: key });
      await reason(/certificate|alert|reset|closed/i);
      copy(agent);
      await connected(40_000);
    }, 60_000);

    test('files that are not what they should be are named, with the cause', async () => {
      const locked = file('');
      execFileSync('openssl', ['ec', '-in', agent.key, '-aes256', '-passout', 'pass:hunter2', '-out', locked], { stdio: 'ignore' });
      const at = parseNatsUrl('tls://127.0.0.1:1');
      const refusal = (paths: NatsFiles) =>
        natsConnectionOptions(at, { name: 'x', files: paths }).then(
          () => 'taken',
          (error: Error) => error.message,
        );
      const { cert, key } = agent;
      const nothing = file('nothing\n');
      expect(await refusal({ tlsCa: nothing })).toBe(`read NATS CA ${nothing}: is no PEM certificate`);
      expect(await refusal({ tlsCa: '/nonexistent' })).toBe('read NATS CA /nonexistent: ENOENT');
      expect(await refusal({ tlsCa: dir })).toBe(`read NATS CA ${dir}: is no regular file`);
      expect(await refusal({ tlsCert: nothing, tlsKey: key })).toBe(`read NATS certificate ${nothing}: is no PEM certificate`);
      expect(await refusal({ tlsCert: cert, tlsKey: nothing })).toBe(`read NATS key ${nothing}: is no PEM private key`);
      expect(await refusal({ tlsCert: cert, tlsKey: server.key })).toBe(`read NATS key ${server.key}: is not the key of ${cert}`);
      expect(await refusal({ tlsCert: cert, tlsKey: locked })).toMatch(/has a passphrase/);
      expect(await refusal({ creds: nothing })).toBe(`read NATS credentials ${nothing}: holds no JWT of a user`);
      expect(await refusal({ nkey: nothing })).toBe(`read NATS nkey ${nothing}: holds no seed of a user (SU...)`);
      expect(await refusal({ creds: file('x'.repeat(1024 * 1024 + 1)) })).toMatch(/larger than 1 MiB/);
      const pipe = join(dir, 'pipe');
      execFileSync('mkfifo', [pipe]);
      expect(await refusal({ creds: pipe })).toBe(`read NATS credentials ${pipe}: is no regular file`);
    });
  });

  test('user and password, and a token, out of the address', async () => {
    const port = await freePort();
    real = await startNats(port, '--user', 'u', '--pass', secret('hunter2hunter2'));
    open(`nats://u:hunter2hunter2@127.0.0.1:${port}`);
    await connected();
    await link?.close();
    await real.stop();
    real = await startNats(port, '--auth', secret('tokentoken'));
    open(`nats://tokentoken@127.0.0.1:${port}`);
    await connected();
  }, 60_000);

  test('nkey; a file that every user can read is told of once', async () => {
    const port = await freePort();
    const { publicKey, seed } = nkeyUser();
    await serve(`authorization { users: [ { nkey: ${publicKey} } ] }`, port);
    const nkey = file(`# for agents\n${secret(seed)}\n`, 0o644);
    open(`nats://127.0.0.1:${port}`, { nkey });
    await connected();
    await real?.stop();
    await eventually(() => link?.status().state === State.CONNECTING, 'lost');
    await tries(2);
    expect(lines.filter((line) => line.startsWith('file with a secret can be read by every user'))).toHaveLength(1);
    expect(lines.join()).toContain(`chmod o-rwx ${nkey}`);
  }, 60_000);

  test('a file that others cannot read is no reason to warn', async () => {
    const port = await freePort();
    const { publicKey, seed } = nkeyUser();
    await serve(`authorization { users: [ { nkey: ${publicKey} } ] }`, port);
    open(`nats://127.0.0.1:${port}`, { nkey: file(secret(seed), 0o640) });
    await connected();
    expect(lines.join()).not.toContain('file with a secret');
  }, 60_000);

  test('credentials: what is rotated is used at the next dial, with CR LF and with words around', async () => {
    const [port, monitor] = [await freePort(), await freePort()];
    const trusted = operator();
    await serve(trusted.configuration, port, '-m', String(monitor));
    const [first, second] = [trusted.user('first'), trusted.user('second')];
    const creds = file(secret(first.creds));
    open(`nats://127.0.0.1:${port}`, { creds });
    await connected();
    const loggedIn = async () => {
      const answer = await fetch(`http://127.0.0.1:${monitor}/connz?auth=1`);
      return ((await answer.json()) as { connections: { authorized_user: string }[] }).connections.map((one) => one.authorized_user);
    };
    expect((await loggedIn()).join()).toContain(first.publicKey);
    writeFileSync(creds, secret(second.creds).replaceAll('\n', '\r\n'));
    await real?.stop();
    await eventually(() => link?.status().state === State.CONNECTING, 'lost');
    await serve(trusted.configuration, port, '-m', String(monitor));
    await connected(40_000);
    expect((await loggedIn()).join()).toContain(second.publicKey);
  }, 90_000);

  test('credentials that are refused, missing or expired are retried for ever, and the right ones need no restart', async () => {
    const port = await freePort();
    const trusted = operator();
    await serve(trusted.configuration, port);
    const creds = file(secret(operator().user('stranger').creds));
    open(`nats://127.0.0.1:${port}`, { creds });
    await reason(/authorization violation/i);
    await tries(3);
    rmSync(creds);
    await reason(/^read NATS credentials .*: ENOENT$/);
    writeFileSync(creds, secret(trusted.user('late', 8).creds));
    await connected(40_000);
    // The server ends a login that has expired; by then the file holds another.
    await eventually(() => link?.status().state === State.CONNECTING, 'expired', 30_000);
    writeFileSync(creds, secret(trusted.user('fresh').creds));
    await connected(40_000);
  }, 120_000);

  test('the permissions that docs/nats.md asks for are enough, and no other node can read the answers', async () => {
    const port = await freePort();
    const publish = [
      'taplane.v1.default.n1.>',
      '$JS.API.INFO',
      '$JS.API.STREAM.NAMES',
      ...['INFO', 'CREATE', 'MSG.GET'].flatMap((verb) =>
        ['TAPLANE_FLOWS', 'TAPLANE_EVENTS'].map((stream) => `$JS.API.STREAM.${verb}.${stream}`),
      ),
    ];
    const permissions = (inbox: string) => JSON.stringify({ publish, subscribe: [inbox] });
    await serve(
      `jetstream { store_dir: ${JSON.stringify(join(dir, 'js'))} }
       authorization { users: [
         { user: n1, password: ${secret('passwordofn1')}, permissions: ${permissions('_INBOX_n1.>')} },
         { user: n2, password: ${secret('passwordofn2')}, permissions: ${permissions('_INBOX_n2.>')} } ] }`,
      port,
    );
    open(`nats://n1:passwordofn1@127.0.0.1:${port}`);
    await connected();
    const connection = link?.connection() as NatsConnection;
    const manager = await jetstreamManager(connection);
    await manager.streams.add({ name: 'TAPLANE_FLOWS', subjects: ['taplane.v1.*.*.flow.>'] });
    expect((await manager.streams.info('TAPLANE_FLOWS')).state.messages).toBe(0);
    await expect(manager.streams.find('taplane.v1.default.n1.flow.tun0')).resolves.toBe('TAPLANE_FLOWS');
    const ack = await jetstream(connection).publish('taplane.v1.default.n1.flow.tun0', new Uint8Array([1]), { msgID: 'e:1' });
    expect(ack.seq).toBe(1);
    expect((await manager.streams.getMessage('TAPLANE_FLOWS', { seq: 1 }))?.subject).toBe('taplane.v1.default.n1.flow.tun0');
    // Everything else is refused: other nodes, other answers, the end of a stream.
    await expect(jetstream(connection).publish('taplane.v1.default.n2.flow.tun0')).rejects.toThrow();
    await expect(manager.streams.delete('TAPLANE_FLOWS')).rejects.toThrow();
    await link?.close();
    open(`nats://n2:passwordofn2@127.0.0.1:${port}`, {}, 'n1');
    await connected();
    await expect(jetstreamManager(link?.connection() as NatsConnection)).rejects.toThrow();
  }, 90_000);
});

test('inboxes of nodes never meet', () => {
  expect([inboxPrefix('n1'), inboxPrefix('a.b'), inboxPrefix('*')]).toEqual(['_INBOX_n1', '_INBOX_a=2Eb', '_INBOX_=2A']);
});
