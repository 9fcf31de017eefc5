// Address of a collector: `host:port`, where host is a name, an IPv4 address or an IPv6 address in brackets. Pure.

export interface CollectorAddress {
  /** Without brackets. */
  host: string;
  /** 1 to 65535. */
  port: number;
}

/** Throws an Error that says what is wrong. */
export function parseCollector(text: string): CollectorAddress {
  const match = /^(?:\[([0-9a-fA-F:.]+(?:%[\w.-]+)?)\]|([\w.-]+)):(\d{1,5})$/.exec(text);
  const host = match?.[1] ?? match?.[2] ?? '';
  const port = Number(match?.[3]);
  if (!match) throw new Error(`collector ${text}: is not host:port, with an IPv6 address in brackets`);
  if (port < 1 || port > 65535) throw new Error(`collector ${text}: port ${port} is not 1 to 65535`);
  return { host, port };
}
