// Ends of an underlay path as text: `192.0.2.1:51820`, `[2001:db8::1]:51820`, and `:51820` for every address. Pure.

import { formatIp, type Ip, parseIp } from '../resource/inet.ts';

export interface Endpoint {
  /** Undefined for every address. */
  ip: Ip | undefined;
  port: number;
}

const PORT_MOST = 65_535;

/** Undefined for other text: host names, zones, missing brackets, odd spellings of IPv4. */
export function parseEndpoint(text: string): Endpoint | undefined {
  const colon = text.lastIndexOf(':');
  const digits = text.slice(colon + 1);
  if (colon < 0 || !/^(0|[1-9]\d{0,4})$/.test(digits) || Number(digits) > PORT_MOST) return undefined;
  const host = text.slice(0, colon);
  const port = Number(digits);
  if (host === '') return { ip: undefined, port };
  const isBracketed = host.startsWith('[') && host.endsWith(']');
  const ip = parseIp(isBracketed ? host.slice(1, -1) : host);
  if (ip === undefined || isBracketed !== (ip.bytes.length === 16)) return undefined;
  return { ip, port };
}

/** As `parseEndpoint` reads it, IPv6 as in RFC 5952. */
export function formatEndpoint({ ip, port }: Endpoint): string {
  if (ip === undefined) return `:${port}`;
  const host = formatIp(ip.bytes);
  return ip.bytes.length === 16 ? `[${host}]:${port}` : `${host}:${port}`;
}
