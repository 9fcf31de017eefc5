// Certificates made by `openssl`, as somebody would who sets up TLS by hand.

import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runSync } from './process.ts';

const KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];

/** Paths of the files of one end. */
export interface Identity {
  certificateFile: string;
  privateKeyFile: string;
}

/** A folder of authorities and what they vouch for; disposing takes it away. */
export class Certificates implements Disposable {
  readonly folder = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-certificates-`));

  /** Makes an authority; answers its certificate. */
  authority(name: string): string {
    const { certificateFile, privateKeyFile } = this.#files(name);
    runSync('openssl', 'req', '-x509', ...KEY, '-keyout', privateKeyFile, '-out', certificateFile, '-days', '2', '-subj', `/CN=${name}`);
    return certificateFile;
  }

  /** Has `authority` vouch for the names, such as `DNS:a.example,URI:spiffe://a/b`; expired with `days` below 0. */
  issue(authority: string, file: string, names: string, days = 2): Identity {
    const by = this.#files(authority);
    const identity = this.#files(file);
    const [request, extensions] = [join(this.folder, `${file}.csr`), join(this.folder, `${file}.ext`)];
    writeFileSync(extensions, `subjectAltName=${names}\n`);
    runSync('openssl', 'req', ...KEY, '-keyout', identity.privateKeyFile, '-out', request, '-subj', '/CN=not to be looked at');
    const signed = [
      '-CA',
      by.certificateFile,
      '-CAkey',
      by.privateKeyFile,
      '-CAcreateserial',
      '-days',
      String(days),
      '-extfile',
      extensions,
    ];
    runSync('openssl', 'x509', '-req', '-in', request, ...signed, '-out', identity.certificateFile);
    chmodSync(identity.privateKeyFile, 0o600);
    return identity;
  }

  #files(name: string): Identity {
    return { certificateFile: join(this.folder, `${name}.pem`), privateKeyFile: join(this.folder, `${name}.key`) };
  }

  [Symbol.dispose](): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}
