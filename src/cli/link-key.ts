// Keys of wireguard links on the command line: 32 bytes, base64, in files or on standard input, as `wg` reads and writes them. They are
// never arguments: every user of a machine can read those. The private key of `keygen` is made here, and leaves only to where it is told.

import { createPrivateKey, createPublicKey, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { EXIT, UsageError } from './exit-code.ts';
import { parseKey } from './link-peer.ts';
import { message, print, printDocument } from './output.ts';
import type { Settings } from './settings.ts';

const KEY_BYTES = 32;
const HOW = 'taplane link keygen or wg genkey writes one';
/** RFC 8410: what stands before the 32 bytes in DER. */
const PRIVATE_DER = Buffer.from('302e020100300506032b656e04220420', 'hex');
const PUBLIC_DER_BYTES = 12;

/** Reads keys for one command; standard input holds one of them at most. */
export class KeyFiles {
  #fromStdin: string | undefined;

  /** `flag` names it in errors: `--private-key`. `path` may be `-`. Warns when others may read the file. Throws UsageError. */
  async read(flag: string, path: string): Promise<Buffer> {
    if (parseKey(path))
      throw new UsageError(
        `${flag}: expected a file, not the key itself, which every user could see in ps; write it to a file, or give - and pipe it in`,
      );
    const source = path === '-' ? await this.#stdin(flag) : await readSecret(flag, path);
    return keyOf(source, flag, path === '-' ? 'standard input' : path);
  }

  async #stdin(flag: string): Promise<string> {
    if (this.#fromStdin !== undefined)
      throw new UsageError(`${flag}: standard input is read for ${this.#fromStdin} already; put one key into a file`);
    this.#fromStdin = flag;
    return await text(process.stdin);
  }
}

async function readSecret(flag: string, path: string): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { mode } = await file.stat();
    if ((mode & 0o077) !== 0) message(`warning: others may read ${path}: chmod 600 ${path}`);
    return await file.readFile('utf8');
  } catch (error) {
    throw new UsageError(`${flag}: read ${path}: ${(error as Error).message}`);
  }
}

function keyOf(source: string, flag: string, from: string): Buffer {
  const key = parseKey(source.trim());
  if (key === undefined) throw new UsageError(`${flag}: ${from} holds no key: expected 44 characters of base64, as ${HOW}`);
  return key;
}

/** A private key as `wg genkey` makes it, clamped (RFC 7748 section 5). */
function newPrivateKey(): Buffer {
  const { privateKey } = generateKeyPairSync('x25519');
  const key = privateKey.export({ format: 'der', type: 'pkcs8' }).subarray(-KEY_BYTES);
  key[0] = (key[0] ?? 0) & 248;
  key[31] = ((key[31] ?? 0) & 127) | 64;
  return key;
}

/** Copies. */
export function publicKeyOf(privateKey: Uint8Array): Buffer {
  const der = Buffer.concat([PRIVATE_DER, privateKey]);
  const key = createPublicKey(createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }));
  return Buffer.from(key.export({ format: 'der', type: 'spki' }).subarray(PUBLIC_DER_BYTES));
}

export interface KeygenOptions {
  out?: string;
  force?: boolean;
  preshared?: boolean;
}

/** With `out` the secret goes there and the public key to stdout; without, the secret to stdout and the public key to stderr. */
export async function keygen({ out, force = false, preshared = false }: KeygenOptions, settings: Settings): Promise<void> {
  if (force && out === undefined) throw new UsageError('--force replaces the file of --out: give that too');
  const secret = preshared ? randomBytes(KEY_BYTES) : newPrivateKey();
  const publicKey = preshared ? '' : publicKeyOf(secret).toString('base64');
  const line = `${secret.toString('base64')}\n`;
  if (out === undefined) {
    print(line);
    if (publicKey) message(`public key: ${publicKey}`);
    return;
  }
  await writeSecret(out, line, force);
  if (settings.output === 'json' || settings.output === 'yaml')
    return printDocument(settings.output, { file: out, ...(publicKey && { publicKey }) });
  if (publicKey) print(`${publicKey}\n`);
  message(`wrote ${out}, for its owner alone`);
}

export async function pubkey(path: string | undefined, settings: Settings): Promise<void> {
  const key = path === undefined || path === '-' ? await text(process.stdin) : await readSecret('pubkey', path);
  const publicKey = publicKeyOf(keyOf(key, 'pubkey', path ?? 'standard input')).toString('base64');
  if (settings.output === 'json' || settings.output === 'yaml') return printDocument(settings.output, { publicKey });
  print(`${publicKey}\n`);
}

/** Whole or not at all, and never readable by others, not even for a moment: what is replaced may have had another mode. */
async function writeSecret(path: string, content: string, force: boolean): Promise<void> {
  const target = force ? join(dirname(path), `.taplane-${randomUUID()}`) : path;
  try {
    await using file = await open(target, 'wx', 0o600);
    await file.chmod(0o600);
    await file.writeFile(content);
    await file.sync();
    if (force) await rename(target, path);
  } catch (error) {
    if (force) await rm(target, { force: true });
    const { code, message: cause } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST')
      throw new UsageError(`--out: ${path} is there already; choose another name, or --force to lose the key in it`, EXIT.alreadyExists);
    throw new UsageError(`--out: write ${path}: ${cause}`);
  }
}
