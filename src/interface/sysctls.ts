// Kernel settings of an interface that a client may set, with their ranges (Documentation/networking/ip-sysctl.rst). Pure.
// Left out on purpose: what opens the node to its neighbours (route_localnet, accept_source_route, bootp_relay), what is not per
// device, and promote_secondaries, which plans turn on when they need it.

const flag: [number, number] = [0, 1];

const allowed: Record<string, [low: number, high: number]> = {
  'ipv4/accept_local': flag,
  'ipv4/arp_accept': [0, 2],
  'ipv4/arp_announce': [0, 2],
  'ipv4/arp_filter': flag,
  'ipv4/arp_ignore': [0, 8],
  'ipv4/arp_notify': flag,
  'ipv4/forwarding': flag,
  'ipv4/ignore_routes_with_linkdown': flag,
  'ipv4/log_martians': flag,
  'ipv4/proxy_arp': flag,
  'ipv4/proxy_arp_pvlan': flag,
  'ipv4/rp_filter': [0, 2],
  'ipv4/secure_redirects': flag,
  'ipv4/send_redirects': flag,
  'ipv4/src_valid_mark': flag,
  'ipv6/accept_dad': [0, 2],
  'ipv6/accept_ra': [0, 2],
  'ipv6/accept_redirects': flag,
  'ipv6/addr_gen_mode': [0, 3],
  'ipv6/autoconf': flag,
  'ipv6/dad_transmits': [0, 255],
  'ipv6/disable_ipv6': flag,
  'ipv6/forwarding': flag,
  'ipv6/ignore_routes_with_linkdown': flag,
  'ipv6/keep_addr_on_down': [-1, 1],
  'ipv6/proxy_ndp': flag,
  'ipv6/router_solicitations': [-1, 255],
};

/** Keys that may be set, sorted. */
export const sysctlKeys: readonly string[] = Object.keys(allowed).sort();

/** Why a setting is refused; undefined when it is fine. */
export function sysctlProblem(key: string, value: string): string | undefined {
  const range = Object.hasOwn(allowed, key) ? allowed[key] : undefined;
  if (range === undefined) return `unknown setting '${key}'; known are ${sysctlKeys.join(', ')}`;
  if (!/^-?\d{1,9}$/.test(value)) return `must be a decimal number, got '${value}'`;
  const number = Number(value);
  return number < range[0] || number > range[1] ? `must be ${range[0]} to ${range[1]}, got ${value}` : undefined;
}
