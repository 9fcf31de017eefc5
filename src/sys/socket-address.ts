// Addresses of IP sockets as text and as `struct sockaddr_in6` (linux/in6.h), which serves both families: IPv4 is written mapped, ::ffff:a.b.c.d.
// Pure.

/** 28 bytes of sockaddr_in6. Compared byte by byte; never changed once made. */
export type SocketAddress = Buffer;

export const SOCKET_ADDRESS_BYTES = 28;

/** From `192.0.2.1:51820`, `[2001:db8::1]:51820` or `:51820` (any address). Undefined for other text, scope ids and host names too. */
export function parseSocketAddress(text: string): SocketAddress | undefined {
  throw new Error(`not built yet: ${text}`);
}

/** As `parseSocketAddress` reads it; IPv4 without mapping. */
export function formatSocketAddress(address: SocketAddress): string {
  throw new Error(`not built yet: ${address.length}`);
}
