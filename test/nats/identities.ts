// Who is who for a nats-server in tests: a certificate authority with what it signs (openssl), and an operator with accounts and users
// as JWTs, made here since the tool that makes them, nsc, is in no distribution.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { nkeys } from '@nats-io/transport-node';

export interface Authority {
  ca: string;
  /** Makes `<name>.pem` and `<name>-key.pem` for the alternative names, 127.0.0.1 and localhost where none are given; answers their paths. */
  sign(name: string, alternatives?: string): { cert: string; key: string };
}

const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: ['ignore', 'pipe', 'pipe'] });
const ELLIPTIC = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** A certificate authority of its own in `dir`. */
export function authority(dir: string, name: string): Authority {
  const path = (file: string) => join(dir, file);
  const [ca, caKey] = [path(`${name}.pem`), path(`${name}-key.pem`)];
  openssl('req', '-x509', ...ELLIPTIC, '-keyout', caKey, '-out', ca, '-subj', `/CN=${name}`, '-days', '2');
  return {
    ca,
    sign(subject, alternatives = 'IP:127.0.0.1,DNS:localhost') {
      const [cert, key, request, extensions] = ['.pem', '-key.pem', '.csr', '.ext'].map((end) => path(`${subject}${end}`)) as [
        string,
        string,
        string,
        string,
      ];
      openssl('req', '-new', ...ELLIPTIC, '-keyout', key, '-out', request, '-subj', `/CN=${subject}`);
      writeFileSync(extensions, `subjectAltName=${alternatives}\n`);
      const sign = ['-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-days', '2', '-extfile', extensions];
      openssl('x509', '-req', '-in', request, '-out', cert, ...sign);
      return { cert, key };
    },
  };
}

type KeyPair = ReturnType<typeof nkeys.createUser>;

export interface User {
  publicKey: string;
  /** The seed alone. */
  seed: string;
  /** A credentials file. */
  creds: string;
}

/** Lines for the configuration of a server that trusts this operator, and users of its account. */
export interface Operator {
  configuration: string;
  user(name: string, expiresInSeconds?: number): User;
}

export function operator(): Operator {
  const self = nkeys.createOperator();
  const system = nkeys.createAccount();
  const account = nkeys.createAccount();
  const text = (key: KeyPair) => key.getPublicKey();
  const none = { subs: -1, conn: -1, leaf: -1, imports: -1, exports: -1, data: -1, payload: -1, wildcards: true };
  const own = (key: KeyPair, name: string) => claims(self, text(key), name, { type: 'account', version: 2, limits: none });
  const operatorClaims = claims(self, text(self), 'operator', { type: 'operator', version: 2, system_account: text(system) });
  return {
    configuration: [
      `operator: ${operatorClaims}`,
      `system_account: ${text(system)}`,
      'resolver: MEMORY',
      `resolver_preload: { ${text(system)}: ${own(system, 'SYS')}, ${text(account)}: ${own(account, 'agents')} }`,
    ].join('\n'),
    user(name, expiresInSeconds) {
      const key = nkeys.createUser();
      const jwt = claims(account, text(key), name, { type: 'user', version: 2, subs: -1, data: -1, payload: -1 }, expiresInSeconds);
      const seed = new TextDecoder().decode(key.getSeed());
      const creds = `-----BEGIN NATS USER JWT-----\n${jwt}\n------END NATS USER JWT------\n\nkeep it secret\n\n-----BEGIN USER NKEY SEED-----\n${seed}\n------END USER NKEY SEED------\n`;
      return { publicKey: text(key), seed, creds };
    },
  };
}

/** A user without JWT, for `authorization { users: [{ nkey: ... }] }`. */
export function nkeyUser(): { publicKey: string; seed: string } {
  const key = nkeys.createUser();
  return { publicKey: key.getPublicKey(), seed: new TextDecoder().decode(key.getSeed()) };
}

/** RFC 7519 with the algorithm of NATS: Ed25519 over header and claims. */
function claims(issuer: KeyPair, subject: string, name: string, nats: object, expiresInSeconds?: number): string {
  const now = Math.floor(Date.now() / 1000);
  const body = { iat: now, iss: issuer.getPublicKey(), sub: subject, name, nats, ...(expiresInSeconds && { exp: now + expiresInSeconds }) };
  const jti = createHash('sha256').update(JSON.stringify(body)).digest('base64url');
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ typ: 'JWT', alg: 'ed25519-nkey' })}.${part({ ...body, jti })}`;
  return `${signed}.${Buffer.from(issuer.sign(Buffer.from(signed))).toString('base64url')}`;
}
