// What `--nats` may say, as pure text: `nats://` and `tls://` addresses, several with commas, credentials in the first.
// The client library drops credentials that stand in an address, so they are taken out here; `shown` is all that
// a log, a status or an error may ever see. An address may also stand in a file, which keeps a password off the command line.

export interface NatsAddress {
  /** `host:port` of each server, as the client library wants them. */
  servers: string[];
  user?: string;
  pass?: string;
  token?: string;
  /** TLS is required, not only used when the server offers it. */
  tls: boolean;
  /** The same address without credentials. */
  shown: string;
}

const DEFAULT_PORT = '4222';

/** Whether it is the path of a file: no address begins like one. */
export function isPath(text: string): boolean {
  return /^\.{0,2}\//.test(text);
}

/** Parses the address list; throws an Error whose message never repeats the input, since it may hold a password. */
export function parseNatsUrl(text: string): NatsAddress {
  const address: NatsAddress = { servers: [], tls: false, shown: '' };
  const shown: string[] = [];
  for (const [index, part] of text.split(',').entries()) {
    const url = parseOne(part.trim(), index);
    const server = `${url.hostname}:${url.port || DEFAULT_PORT}`;
    address.servers.push(server);
    shown.push(`${url.protocol}//${server}`);
    if (url.protocol === 'tls:') address.tls = true;
    if (url.username === '') continue;
    if (address.user !== undefined || address.token !== undefined) {
      throw new Error('only one of the addresses may hold credentials; they are used for all of them');
    }
    if (url.password === '') address.token = decodeURIComponent(url.username);
    else [address.user, address.pass] = [decodeURIComponent(url.username), decodeURIComponent(url.password)];
  }
  address.shown = shown.join(',');
  return address;
}

function parseOne(part: string, index: number): URL {
  const which = index === 0 ? 'the address' : `address ${index + 1}`;
  const scheme = /^(nats|tls):\/\//.exec(part);
  if (!scheme) throw new Error(`${which} does not begin with nats:// or tls://`);
  if (!URL.canParse(part)) throw new Error(`${which} is not a URL (percent-encode special characters in a password)`);
  const url = new URL(part);
  if (url.hostname === '') throw new Error(`${which} names no host`);
  if ((url.pathname !== '' && url.pathname !== '/') || url.search !== '' || url.hash !== '')
    throw new Error(`${which} has something after the port`);
  if (url.username === '' && url.password !== '') throw new Error(`${which} has a password but no user`);
  for (const secret of [url.username, url.password]) {
    if (/%(?![0-9a-fA-F]{2})/.test(secret)) throw new Error(`${which} has a % in its credentials that is not percent-encoding`);
  }
  return url;
}

/** The value of `nats` as it may be printed: credentials are gone, even from text that is not a valid address. */
export function redactNats(text: string): string {
  return text
    .split(/,(?=\s*\w+:\/\/)/)
    .map((part) => part.replace(/^(\s*\w+:\/\/)?.*@/s, '$1'))
    .join(',');
}
