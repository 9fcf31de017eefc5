// Capabilities: what the agent may ask of the kernel, and what becomes impossible without each.

import { existsSync, readFileSync } from 'node:fs';
import { effectiveCapabilities } from '../../sys/capability.ts';
import { type Check, fail, pass, warn } from './check.ts';

export interface Privileges {
  capabilities: string[];
  uid: number;
  container: boolean;
  /** File that runs us, for setcap(8). */
  executable: string;
}

export function readPrivileges(container: boolean): Privileges {
  return { capabilities: effectiveCapabilities(), uid: process.geteuid?.() ?? -1, container, executable: process.execPath };
}

export function judgePrivileges({ capabilities, uid, container, executable }: Privileges): Check[] {
  const has = (capability: string) => capabilities.includes(capability);
  const grant = (capability: string) => {
    const short = capability.replace('CAP_', '');
    if (container)
      return `${uid === 0 ? '' : 'run as root; where root lacks it too, '}add it to the container: securityContext.capabilities.add: [${short}] and runAsUser: 0 (the chart does both), or docker/podman --cap-add ${short}`;
    if (uid !== 0)
      return `run as root; or AmbientCapabilities=${capability} in the systemd unit; or setcap ${capability.toLowerCase()}+ep ${executable}`;
    return `this root was stripped of it: add ${capability} to CapabilityBoundingSet= of the systemd unit, or start outside the sandbox that took it`;
  };
  return [
    has('CAP_NET_ADMIN')
      ? pass('cap-net-admin', 'CAP_NET_ADMIN: devices, addresses and routes can be changed')
      : fail('cap-net-admin', 'CAP_NET_ADMIN is missing: no device can be created', grant('CAP_NET_ADMIN')),
    has('CAP_NET_RAW')
      ? pass('cap-net-raw', 'CAP_NET_RAW: traffic can be captured and metered')
      : warn(
          'cap-net-raw',
          'CAP_NET_RAW is missing: traffic cannot be captured or metered, so there are no flow records; all else works',
          `${grant('CAP_NET_RAW')}; or do without flows: --no-flows`,
        ),
    // Not having it is the better default: only interfaces in other network namespaces need it.
    pass(
      'cap-sys-admin',
      has('CAP_SYS_ADMIN')
        ? 'CAP_SYS_ADMIN: other network namespaces can be entered'
        : 'without CAP_SYS_ADMIN: interfaces in other network namespaces are refused, all else works',
    ),
  ];
}

/** A guess from the marks that docker, podman and Kubernetes leave; only the wording of cures rests on it. */
export function inContainer(env: NodeJS.ProcessEnv = process.env): boolean {
  if (env.KUBERNETES_SERVICE_HOST || existsSync('/.dockerenv') || existsSync('/run/.containerenv')) return true;
  try {
    return /kubepods|docker|containerd|libpod/.test(readFileSync('/proc/1/cgroup', 'utf8'));
  } catch {
    return false;
  }
}
