// Where an agent may listen: a unix socket, TCP with TLS, or plaintext TCP on loopback behind an explicit flag. Pure text; the server checks again.

import { formatAddress, parseListenAddress } from '../../rpc/listen-address.ts';
import type { ConfigProblem } from './error.ts';

/** What is wrong with one address, or undefined. */
export function listenProblem(text: string): string | undefined {
  try {
    const address = parseListenAddress(text);
    // A daemon's working directory is nobody's business.
    return address.kind === 'unix' && !address.path.startsWith('/') ? `${JSON.stringify(text)} does not hold an absolute path` : undefined;
  } catch (error) {
    return (error as Error).message.replace(/^read address /, '');
  }
}

/** What no single address shows: TCP wants TLS, or loopback and a flag, and no address stands there twice. */
export function checkListen(listen: string[], insecureLoopback: boolean, hasTls: boolean): ConfigProblem[] {
  const problems: ConfigProblem[] = [];
  const seen = new Set<string>();
  for (const text of listen) {
    const say = (cause: string, cure: string) =>
      problems.push({ source: 'effective configuration', field: 'listen', cause: `${text}: ${cause}`, cure });
    const address = parseListenAddress(text);
    const canonical = formatAddress(address);
    const anyPort = address.kind === 'tcp' && address.port === 0;
    if (seen.has(canonical) && !anyPort) say('stands there twice', 'remove one of them');
    seen.add(canonical);
    if (address.kind === 'unix' || hasTls) continue;
    if (!address.loopback) {
      say(
        'TCP beyond loopback would be open to everyone',
        'give certificates with tls (--tls-cert, --tls-key, --tls-client-ca), or listen on a unix socket',
      );
    } else if (!insecureLoopback) {
      say(
        'plaintext TCP lets every local user in',
        'listen on a unix socket, or give certificates with tls, or accept it with --insecure-loopback',
      );
    }
  }
  return problems;
}
