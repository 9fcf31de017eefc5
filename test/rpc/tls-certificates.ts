// Certificates of clients, good and odd ones, from one key that is no secret: their authority is what counts.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Certificates, type Identity } from '../harness/certificates.ts';
import { runSync } from '../harness/process.ts';

/** A moment as openssl wants it: YYYYMMDDHHMMSSZ. */
const moment = (days: number) => `${new Date(Date.now() + days * 86_400_000).toISOString().replace(/[-:T]|\.\d+/g, '')}`;

export class TlsCertificates extends Certificates {
  #request = '';

  /** Signs `extensions`, lines of x509v3_config(5), as they are; valid `from` and `until` days from now. */
  client(authority: string, file: string, extensions: string, { from = -1, until = 2 } = {}): Identity {
    const at = (name: string) => join(this.folder, name);
    const identity = { certificateFile: at(`${file}.pem`), privateKeyFile: at('client.key') };
    if (this.#request === '') {
      this.#request = at('client.csr');
      const key = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-keyout', identity.privateKeyFile];
      runSync('openssl', 'req', '-new', ...key, '-out', this.#request, '-subj', '/CN=admin.example');
    }
    writeFileSync(at('index.txt'), '');
    writeFileSync(
      at('ca.cnf'),
      `[ca]\ndefault_ca=d\n[d]\ndatabase=${at('index.txt')}\nnew_certs_dir=${this.folder}\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\n[p]\ncommonName=supplied\n`,
    );
    writeFileSync(at('client.ext'), `${extensions}\n`);
    const signer = ['-cert', at(`${authority}.pem`), '-keyfile', at(`${authority}.key`), '-extfile', at('client.ext')];
    const validity = ['-startdate', moment(from), '-enddate', moment(until)];
    runSync(
      'openssl',
      'ca',
      '-batch',
      '-notext',
      '-config',
      at('ca.cnf'),
      ...signer,
      ...validity,
      '-in',
      this.#request,
      '-out',
      identity.certificateFile,
    );
    return identity;
  }
}
