// The two doors to the network configuration: sysctl files and netlink.

import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import os from 'node:os';
import { type Check, fail, pass, warn } from './check.ts';

export interface KernelReading {
  /** errno name of a write check on a file of /proc/sys/net, empty when it may be written. */
  sysctlError: string;
  /** What kept netlink from answering, empty when it did. */
  netlinkError: string;
  ipv6: boolean;
  container: boolean;
}

const SYSCTL = '/proc/sys/net/ipv4/conf/default/forwarding';

export function readKernel(container: boolean): KernelReading {
  return { sysctlError: sysctlError(), netlinkError: netlinkError(), ipv6: existsSync('/proc/net/if_inet6'), container };
}

export function judgeKernel({ sysctlError: sysctl, netlinkError: netlink, ipv6, container }: KernelReading): Check[] {
  return [
    sysctl === ''
      ? pass('sysctl', '/proc/sys/net can be written')
      : warn(
          'sysctl',
          sysctl === 'EROFS'
            ? '/proc/sys is mounted read-only: per-interface sysctls cannot be set'
            : `/proc/sys/net cannot be written: ${sysctl}`,
          sysctl === 'EROFS'
            ? container
              ? 'mount /proc/sys/net writable into the container (hostPath /proc/sys/net), or run it with procMount: Unmasked; interfaces without sysctls work as it is'
              : 'mount -o remount,rw /proc/sys; under systemd ProtectKernelTunables=no'
            : 'run as root, or set no sysctls in interface specs',
        ),
    netlink === ''
      ? pass('netlink', 'rtnetlink answers')
      : fail(
          'netlink',
          `rtnetlink does not answer: ${netlink}`,
          'allow AF_NETLINK: RestrictAddressFamilies= of the systemd unit must name it, and the seccomp profile of the container must let it through',
        ),
    pass('ipv6', ipv6 ? 'the kernel has IPv6' : 'the kernel has no IPv6: IPv6 addresses will be refused'),
  ];
}

function sysctlError(): string {
  try {
    accessSync(SYSCTL, constants.W_OK);
    return '';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/** getifaddrs(3) asks rtnetlink for all links and addresses. */
function netlinkError(): string {
  try {
    os.networkInterfaces();
    return '';
  } catch (error) {
    return (error as Error).message;
  }
}

/** The network namespace has devices that sysfs does not show, or the other way round: sysfs belongs to another namespace. Pure. */
export function sysfsIsForeign(procNames: string[], sysfsNames: string[]): boolean {
  return procNames.length > 0 && [...procNames].sort().join() !== [...sysfsNames].sort().join();
}

/** Names under /sys/class/net; bonding adds a file that is no device. */
export function sysfsNames(): string[] {
  try {
    return readdirSync('/sys/class/net').filter((name) => name !== 'bonding_masters');
  } catch {
    return [];
  }
}
