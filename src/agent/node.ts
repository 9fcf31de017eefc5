// The answer of GetNode: what this node and its agent are and can do. What cannot change is read once.

import { existsSync } from 'node:fs';
import os from 'node:os';
import type { ExportStats } from '../gen/taplane/v1/flow_service.ts';
import type { Condition } from '../gen/taplane/v1/interface.ts';
import type { KernelFeatures, Lane, NatsStatus, NetlinkCounters } from '../gen/taplane/v1/node_service.ts';
import { timestamp } from '../resource/timestamp.ts';
import type { NodeFacts } from '../rpc/node-service.ts';
import { effectiveCapabilities } from '../sys/capability.ts';
import { tunFeatures } from '../sys/tun.ts';
import type { Config } from './config.ts';
import type { NodePolicy } from './policy.ts';
import { agentVersion } from './version.ts';

/** The parts of a running agent that the answer needs. */
export interface NodeNeeds {
  config: Config;
  interfaces: { nodeUid: string; count(): number; conditions(): Condition[]; netlinkCounters(): NetlinkCounters };
  links: { count(): number };
  /** More conditions than interfaces make. */
  conditions?: () => Condition[];
  nats: { status(): NatsStatus };
  lanes: { describe(): Lane[]; conditions(): Condition[] };
  /** What goes to NATS; absent without NATS. */
  export?: () => ExportStats | undefined;
  /** Who may do what. */
  policy: Pick<NodePolicy, 'status' | 'describe'>;
  /** Milliseconds from the start of the process to the first answered call; undefined before that. */
  startupMs(): number | undefined;
}

/** A function that reads what changes at each call. */
export function nodeFacts(needs: NodeNeeds): Required<Pick<NodeFacts, 'getNode' | 'describe'>> {
  const startTime = timestamp(performance.timeOrigin);
  const capabilities = effectiveCapabilities();
  return {
    async getNode() {
      const { config, interfaces } = needs;
      return {
        name: config.node,
        cluster: config.cluster,
        uid: interfaces.nodeUid,
        version: agentVersion,
        nodeVersion: process.versions.node,
        kernelRelease: os.release(),
        architecture: os.machine(),
        pid: process.pid,
        startTime,
        startupDuration: duration(needs.startupMs()),
        kernelFeatures: kernelFeatures(),
        capabilities,
        lanes: needs.lanes.describe(),
        limits: config.limits,
        nats: needs.nats.status(),
        conditions: [...interfaces.conditions(), ...needs.lanes.conditions(), ...(needs.conditions?.() ?? [])],
        interfaceCount: interfaces.count(),
        netlink: interfaces.netlinkCounters(),
        export: needs.export?.(),
        linkCount: needs.links.count(),
        policy: needs.policy.status(),
      };
    },
    describe: (caller) => needs.policy.describe(caller),
  };
}

/** Read anew each time: a device node may appear, a module may be loaded. */
function kernelFeatures(): KernelFeatures {
  let tunFlags: string[] = [];
  let tunDevice = false;
  try {
    tunFlags = tunFeatures();
    tunDevice = true;
  } catch {
    // The doctor says why; here it is a plain no.
  }
  return { tunDevice, tunFlags, strictChecking: strictChecking(os.release()), ipv6: existsSync('/proc/net/if_inet6') };
}

/** NETLINK_GET_STRICT_CHK is there since Linux 4.20. Pure. */
export function strictChecking(release: string): boolean {
  const [major = 0, minor = 0] = release.split('.').map((part) => Number.parseInt(part, 10));
  return major > 4 || (major === 4 && minor >= 20);
}

function duration(ms: number | undefined): { seconds: bigint; nanos: number } | undefined {
  if (ms === undefined) return undefined;
  return { seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1_000_000) };
}
