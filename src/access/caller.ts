// Who is on the other end of a connection. It is found out once, when the connection is accepted and before a byte of HTTP/2 is read, and does
// not change for as long as it lasts.

export type Caller = UnixCaller | TlsCaller | LoopbackCaller;

/** Over a unix socket: what the kernel says of the process that connected (SO_PEERCRED, unix(7)). */
export interface UnixCaller {
  readonly kind: 'unix';
  readonly uid: number;
  readonly gid: number;
  /** Of the process at the moment it connected; only for people, since the kernel gives numbers again. */
  readonly pid: number;
}

/** Over TCP with a certificate that one of our authorities has signed. */
export interface TlsCaller {
  readonly kind: 'tls';
  /** URIs among the subject alternative names, such as `spiffe://cluster.local/ns/net/sa/controller`; as they stand there. */
  readonly uris: readonly string[];
  /** DNS names among the subject alternative names, lower case. */
  readonly dnsNames: readonly string[];
  /** SHA-256 of the certificate, lower-case hexadecimal. */
  readonly fingerprint: string;
  /** HOST:PORT of the client. */
  readonly address: string;
}

/** Over plaintext TCP on loopback, which was asked for: any local user. */
export interface LoopbackCaller {
  readonly kind: 'loopback';
  /** HOST:PORT of the client. */
  readonly address: string;
}

/** One name for logs, the audit log and metrics: `uid:0`, the first URI, `dns:NAME`, or `loopback`. */
export function callerName(caller: Caller): string {
  switch (caller.kind) {
    case 'unix':
      return `uid:${caller.uid}`;
    case 'tls':
      return caller.uris[0] ?? `dns:${caller.dnsNames[0] ?? ''}`;
    case 'loopback':
      return 'loopback';
  }
}
