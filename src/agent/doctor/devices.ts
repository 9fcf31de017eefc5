// The network devices of this namespace, from /proc/net/dev and sysfs: MTUs that IPv6 does not live with, and who holds a name.

import { existsSync, readFileSync } from 'node:fs';
import { queueHolders } from '../../sys/queue-holders.ts';
import { type Check, fail, pass, warn } from './check.ts';
import { sysfsIsForeign, sysfsNames } from './kernel.ts';

export interface Device {
  name: string;
  /** What made it: tun, tap, bridge, veth-like `ethernet`, loopback, ... */
  kind: string;
  mtu: number;
  alias: string;
}

export interface DeviceReading {
  devices: Device[];
  /** IPv6 is wanted: the kernel has it and the administrator did not turn it off. */
  ipv6: boolean;
  /** /sys shows another network namespace, so only names are known. */
  foreignSysfs: boolean;
}

/** RFC 8200 section 5. The kernel takes IPv6 off a device below it, addresses and all (net/ipv6/addrconf.c). */
const IPV6_MINIMUM_MTU = 1280;
const OUR_ALIAS = 'taplane:';

export function readDevices(): DeviceReading {
  const names = deviceNames(text('/proc/net/dev'));
  const foreignSysfs = sysfsIsForeign(names, sysfsNames());
  const devices = names.map((name) => (foreignSysfs ? { name, kind: 'unknown', mtu: 0, alias: '' } : device(name)));
  const ipv6 = existsSync('/proc/net/if_inet6') && text('/proc/sys/net/ipv6/conf/all/disable_ipv6').trim() !== '1';
  return { devices, ipv6, foreignSysfs };
}

export function judgeMtu({ devices, ipv6, foreignSysfs }: DeviceReading): Check[] {
  if (!ipv6) return [pass('ipv6-mtu', 'IPv6 is off')];
  if (foreignSysfs)
    return [
      warn(
        'ipv6-mtu',
        '/sys shows the devices of another network namespace, so MTUs are unknown',
        'mount sysfs of this namespace: mount -t sysfs none /sys (ip netns exec does it)',
      ),
    ];
  const small = devices.filter(({ mtu, kind }) => mtu > 0 && mtu < IPV6_MINIMUM_MTU && kind !== 'loopback');
  if (small.length === 0) return [pass('ipv6-mtu', `no device has an MTU below ${IPV6_MINIMUM_MTU}`)];
  const ours = small.filter(({ alias }) => alias.startsWith(OUR_ALIAS)).map(({ name }) => name);
  const cure = [
    `raise the MTU to ${IPV6_MINIMUM_MTU} or more`,
    ours.length > 0
      ? `taplane interface update ${ours[0]} --mtu ${IPV6_MINIMUM_MTU}`
      : `ip link set ${small[0]?.name} mtu ${IPV6_MINIMUM_MTU}`,
    'or use IPv4 alone there',
  ]
    .join(': ')
    .replace(': or', ', or');
  return [
    warn(
      'ipv6-mtu',
      `${small.map(({ name, mtu }) => `${name} has MTU ${mtu}`).join(', ')}: below ${IPV6_MINIMUM_MTU} the kernel keeps no IPv6 address on a device`,
      cure,
    ),
  ];
}

/** What a name is good for: free, ours, or held, by what and by whom. */
export function nameClash(name: string): Check {
  return judgeName(name, readDevices().devices, queueHolders().get(name) ?? []);
}

export function judgeName(name: string, devices: Device[], holders: { pid: number; command: string }[]): Check {
  const check = 'name';
  // dev_valid_name(), net/core/dev.c
  if (name === '' || Buffer.byteLength(name) > 15 || name === '.' || name === '..' || /[/:\s\0]/.test(name)) {
    return fail(check, `${JSON.stringify(name)} cannot be the name of a device`, 'take 1 to 15 bytes without slash, colon or blank');
  }
  const held = devices.find((candidate) => candidate.name === name);
  if (!held) return pass(check, `${name} is free`);
  const aDevice = `${/^[aeiou]/i.test(held.kind) ? 'an' : 'a'} ${held.kind} device`;
  const who = holders.length > 0 ? `, held open by ${holders.map(({ pid, command }) => `pid ${pid} (${command})`).join(', ')}` : '';
  if (held.alias.startsWith(OUR_ALIAS)) return pass(check, `${name} is ${aDevice} that an agent manages (${held.alias})${who}`);
  const detail = `${name} is taken: ${aDevice}${held.alias ? ` with alias ${JSON.stringify(held.alias)}` : ''}${who}`;
  if (held.kind === 'tun' || held.kind === 'tap')
    return fail(
      check,
      detail,
      `take it over as it is (taplane interface adopt ${name}), or delete it (ip link delete ${name}), or choose another name`,
    );
  return fail(check, detail, 'choose another name, or tun%d to let the kernel number it');
}

/** Names of /proc/net/dev: two head lines, then `  eth0: 1 2 3`. Pure. */
export function deviceNames(table: string): string[] {
  return table
    .split('\n')
    .slice(2)
    .flatMap((line) => /^\s*(\S+):/.exec(line)?.[1] ?? []);
}

function device(name: string): Device {
  const at = `/sys/class/net/${name}`;
  return { name, kind: kind(at), mtu: Number(text(`${at}/mtu`)), alias: text(`${at}/ifalias`).trim() };
}

function kind(at: string): string {
  const flags = text(`${at}/tun_flags`).trim();
  // IFF_TUN is bit 0, linux/if_tun.h
  if (flags !== '') return (Number(flags) & 1) === 1 ? 'tun' : 'tap';
  const type = /^DEVTYPE=(.+)$/m.exec(text(`${at}/uevent`))?.[1];
  if (type) return type;
  // ARPHRD_LOOPBACK and ARPHRD_ETHER, linux/if_arp.h
  return { '772': 'loopback', '1': 'ethernet' }[text(`${at}/type`).trim()] ?? 'network';
}

function text(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
