// /dev/net/tun: there, the right device, and openable. Each way to fail has its own cure, since each has its own cause.

import { closeSync, constants, openSync, readFileSync, type Stats, statSync } from 'node:fs';
import { TUN_DEVICE } from '../../sys/tun.ts';
import { type Check, fail, pass } from './check.ts';

export interface TunReading {
  /** errno name of stat, empty when the file is there. */
  statError: string;
  characterDevice: boolean;
  major: number;
  minor: number;
  mode: number;
  /** errno name of open, empty when it opened. */
  openError: string;
  /** The driver is in the kernel (/proc/misc). */
  driver: boolean;
  /** We seem to run in a container. */
  container: boolean;
  root: boolean;
}

export function readTun(container: boolean): TunReading {
  const reading: TunReading = {
    statError: '',
    characterDevice: false,
    major: 0,
    minor: 0,
    mode: 0,
    openError: '',
    driver: hasDriver(),
    container,
    root: process.geteuid?.() === 0,
  };
  let stats: Stats;
  try {
    stats = statSync(TUN_DEVICE);
  } catch (error) {
    return { ...reading, statError: code(error) };
  }
  // makedev(3) of glibc, without the high bits that no misc device uses.
  const device = {
    characterDevice: stats.isCharacterDevice(),
    major: (stats.rdev >> 8) & 0xfff,
    minor: stats.rdev & 0xff,
    mode: stats.mode & 0o7777,
  };
  if (!device.characterDevice) return { ...reading, ...device };
  try {
    closeSync(openSync(TUN_DEVICE, constants.O_RDWR | constants.O_NONBLOCK));
  } catch (error) {
    return { ...reading, ...device, openError: code(error) };
  }
  return { ...reading, ...device };
}

const MAKE_NODE = 'mkdir -p /dev/net && mknod /dev/net/tun c 10 200 && chmod 666 /dev/net/tun';
const LOAD = 'modprobe tun (and echo tun > /etc/modules-load.d/tun.conf, so that it is there after a reboot)';
const GIVE_TO_CONTAINER =
  'give the device to the container: docker/podman --device /dev/net/tun; in Kubernetes a hostPath volume of type CharDevice for /dev/net/tun, or a device plugin (chart value deviceResource)';

export function judgeTun(reading: TunReading): Check[] {
  const name = 'tun-device';
  const { statError, openError, container } = reading;
  if (statError !== '') {
    const load = reading.driver ? '' : `${container ? 'on the node: ' : ''}${LOAD}, then, if it is still missing, `;
    const make = container ? `${GIVE_TO_CONTAINER}; where the container may make device nodes: ${MAKE_NODE}` : MAKE_NODE;
    return [fail(name, `${TUN_DEVICE} cannot be reached: ${statError}`, load + make)];
  }
  if (!reading.characterDevice)
    return [fail(name, `${TUN_DEVICE} is not a character device`, container ? GIVE_TO_CONTAINER : `remove it, then ${MAKE_NODE}`)];
  if (reading.major !== 10 || reading.minor !== 200) {
    return [
      fail(
        name,
        `${TUN_DEVICE} is device ${reading.major}:${reading.minor}, not 10:200`,
        container ? GIVE_TO_CONTAINER : `rm ${TUN_DEVICE}; ${MAKE_NODE}`,
      ),
    ];
  }
  switch (openError) {
    case '':
      return [pass(name, `${TUN_DEVICE} opens`)];
    case 'EPERM':
    case 'EACCES':
      return [denied(name, reading)];
    case 'ENODEV':
    case 'ENXIO':
      return [
        fail(
          name,
          `${TUN_DEVICE} is there, its driver is not (${openError})`,
          container ? `on the node: ${LOAD}` : `${LOAD}; if there is no such module, use a kernel built with CONFIG_TUN`,
        ),
      ];
    default:
      return [fail(name, `open ${TUN_DEVICE}: ${openError}`, 'look at dmesg and at the limits of this process (ulimit -a)')];
  }
}

/** EPERM with the file mode in our favour is the device controller of the cgroup; EACCES is the mode, or a mount with nodev. */
function denied(name: string, { openError, mode, root, container }: TunReading): Check {
  const modeAllows = root || (mode & 0o006) === 0o006;
  if (!modeAllows)
    return fail(
      name,
      `open ${TUN_DEVICE}: ${openError}: mode ${mode.toString(8)} does not let this user in`,
      `run as root, or chmod 666 ${TUN_DEVICE} (creating devices still needs CAP_NET_ADMIN)`,
    );
  if (openError === 'EACCES')
    return fail(
      name,
      `open ${TUN_DEVICE}: EACCES: the file system it lies on does not allow devices (mount option nodev)`,
      container ? GIVE_TO_CONTAINER : 'mount -o remount,dev /dev, or make the node on a devtmpfs',
    );
  return fail(
    name,
    `open ${TUN_DEVICE}: ${openError}: ${container ? 'the container runtime' : 'a device rule of the cgroup'} denies the device`,
    `runc 1.2.0 to 1.2.3 dropped the default rule for this device: update runc to 1.2.4 or newer. Otherwise ${GIVE_TO_CONTAINER}; under systemd DeviceAllow=/dev/net/tun rw`,
  );
}

/** ` 200 tun` in /proc/misc: loaded or built in. */
function hasDriver(): boolean {
  try {
    return /^\s*200 tun$/m.test(readFileSync('/proc/misc', 'utf8'));
  } catch {
    return false;
  }
}

function code(error: unknown): string {
  return (error as NodeJS.ErrnoException).code ?? String(error);
}
