// The composition root: what an agent is made of, opened top to bottom and stopped bottom to top. Above the line nothing is
// touched; below it every part that opens says how it closes, so that a start that fails half-way leaves nothing open.
// Devices are not "open": they stay, whatever becomes of the agent. Only ephemeral ones end with an orderly stop.

import { openFlows } from '../flow/flows.ts';
import { connectNats } from '../flow/nats.ts';
import { packetPublisher } from '../flow/packet-publisher.ts';
import { FlowRing } from '../flow/ring.ts';
import { Attachment_Kind } from '../gen/taplane/lane/v1/lane_service.ts';
import type { InterfaceFlowStats } from '../gen/taplane/v1/flow_service.ts';
import { type InterfaceManager, openInterfaces } from '../interface/manager.ts';
import { HEALTH_SERVICES, startServer } from '../rpc/server.ts';
import { ClosingStack } from './closing-stack.ts';
import type { Config } from './config.ts';
import { natsFiles } from './config-nats.ts';
import { type FlowIntake, flowIntake } from './flow-intake.ts';
import { Lanes } from './lanes.ts';
import type { Log } from './log.ts';
import { packetMirrors } from './mirrors.ts';
import { agentVersion, nodeFacts } from './node.ts';
import { agentPackets } from './packets.ts';
import { lockRuntimeDir } from './runtime-dir.ts';
import { openStateDir } from './state-dir.ts';

export interface Agent {
  /** As configured, with the ports that were taken. */
  addresses: readonly string[];
  /** Closes everything, in reverse. Resolves within STOP_MS, false when something had to be left behind. Twice is once. */
  stop(): Promise<boolean>;
}

/** How long calls may go on after the stop has begun. */
const GRACE_MS = 3_000;
/** How long one part may take to close; together at most STOP_MS. */
const PART_STOP_MS = 5_500;
export const STOP_MS = 10_000;

/** Opens everything. Throws with everything closed again. */
export async function startAgent(config: Config, log: Log): Promise<Agent> {
  const parts = new ClosingStack(log, PART_STOP_MS);
  let startupMs: number | undefined;
  try {
    // ---- Above this line: read and decide. Below: touch the machine. ------------------------------------------------------

    const stateDir = openStateDir(config.stateDir);
    parts.add('state directory', async () => stateDir.release());
    const runtimeDir = lockRuntimeDir(config.runtimeDir);
    parts.add('runtime directory', async () => runtimeDir.release());

    const nats = connectNats({
      mode: config.nats,
      name: `taplane/${config.node}`,
      node: config.node,
      files: natsFiles(config),
      stateDir: config.stateDir,
      log,
    });
    parts.add('nats', () => nats.close());

    const { lanes: count } = config;
    const lanes = new Lanes({ runtimeDir: config.runtimeDir, count, log, changed: () => interfaces.laneChanged() });
    parts.add('lanes', () => lanes.stop());

    const { cluster, node: nodeName } = config;
    const publisher = packetPublisher(() => nats.connection());
    const off = config.nats === 'off';
    const mirrors = packetMirrors({ lanes, publisher, cluster, node: nodeName, off, log, changed: () => interfaces.laneChanged() });
    parts.add('mirrors', async () => mirrors.stop());

    const { stateDir: directory, limits: most, policy } = config;
    const changed = (): void => {
      packets.interfacesChanged();
      mirrors.set(interfaces.mirrored());
    };
    const interfaces: InterfaceManager = await openInterfaces({
      stateDir: directory,
      limits: most,
      policy,
      log,
      dataPlane: lanes,
      mirrors,
      metering: { cluster, node: nodeName, activeTimeout: 60, idleTimeout: 15, sampling: 1, tableEntries: 65_536 },
      changed,
    });
    const packets = agentPackets({
      lanes,
      device: (name, field) => interfaces.device(name, field),
      isManaged: (uid) => interfaces.isManaged(uid),
    });
    const ring = new FlowRing();
    const intake = flowIntake({ lanes, ring, exporter: undefined, log });
    parts.add('flow intake', () => intake.stop(GRACE_MS));
    const flows = openFlows({ ring, interfaces: () => meteredStats(interfaces, intake, lanes) });
    parts.add('observers', async () => flows.end());
    parts.add('interfaces', () => interfaces.stop());
    await interfaces.start();

    const node = nodeFacts({ config, interfaces, nats, lanes: () => lanes.describe(), startupMs: () => startupMs });
    const limits = { maxConcurrentStreams: config.limits.streamsPerConnection, maxMessageBytes: config.limits.messageBytes };
    const { listen, insecureLoopback } = config;
    const { responders } = interfaces;
    const server = await startServer({ listen, insecureLoopback, interfaces, responders, packets, flows, node, log, limits });
    parts.add('server', () => server.stop(GRACE_MS));
    parts.add('watches', async () => interfaces.endWatches());
    for (const service of HEALTH_SERVICES) server.setServing(service, true);

    startupMs = Math.round(performance.now());
    log.info({ startup_ms: startupMs, addresses: server.addresses, version: agentVersion, pid: process.pid }, 'ready');
    return { addresses: server.addresses, stop: () => parts.close(STOP_MS) };
  } catch (error) {
    await parts.close(STOP_MS);
    throw error;
  }
}

/** Of each metered interface: what its lane says, and what its meter has last told. */
function meteredStats(interfaces: InterfaceManager, intake: FlowIntake, lanes: Lanes): InterfaceFlowStats[] {
  return interfaces.metered().map(({ uid, name }) => {
    const state = lanes.attachment(uid, Attachment_Kind.METER);
    const { epoch = '', totals, records = 0n } = intake.said(uid) ?? {};
    const reason = state === undefined ? 'the data-plane process has not answered yet' : state.reason;
    return { interface: name, active: state?.attached ?? false, reason, epoch, totals, records };
  });
}
