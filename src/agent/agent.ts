// The composition root: what an agent is made of, opened top to bottom and stopped bottom to top. Above the line nothing is
// touched; below it every part that opens says how it closes, so that a start that fails half-way leaves nothing open.
// Devices are not "open": they stay, whatever becomes of the agent. Only ephemeral ones end with an orderly stop.

import { METHODS } from '../access/methods.ts';
import { type InterfaceManager, openInterfaces } from '../interface/manager.ts';
import { type LinkManager, openLinks } from '../link/manager.ts';
import { CallMeter } from '../metrics/call-counts.ts';
import { connectNats } from '../nats/connection.ts';
import { packetPublisher } from '../nats/packet-publisher.ts';
import { Conditions } from '../resource/conditions.ts';
import { AUDIT_SERVICE } from '../rpc/audit-service.ts';
import { OPEN_GATE } from '../rpc/gate.ts';
import { HEALTH_SERVICES, type RunningServer, startServer } from '../rpc/server.ts';
import { effectiveCapabilities } from '../sys/capability.ts';
import { peerCredentials } from '../sys/peer-credentials.ts';
import { nodeAudit } from './audit.ts';
import { ClosingStack } from './closing-stack.ts';
import { natsFiles } from './config/nats.ts';
import { hasTls } from './config/tls.ts';
import type { Config } from './config.ts';
import { Declarations } from './declarations.ts';
import { nodeEvents } from './events.ts';
import { exportConditions, laneFlowLimits, nodeExporter, nodeFlows, nodeMetering } from './flows.ts';
import { agentHttp } from './http-agent.ts';
import { isIntact, readiness } from './http-health.ts';
import { Lanes } from './lanes.ts';
import type { AgentLog } from './log.ts';
import { setLogLevel } from './log-level.ts';
import { agentMetrics, reloadsOf } from './metrics.ts';
import { packetMirrors } from './mirrors.ts';
import { nodeFacts } from './node.ts';
import { agentPackets } from './packets.ts';
import { openPolicy } from './policy.ts';
import { lockRuntimeDir } from './runtime-dir.ts';
import { openStateDir } from './state-dir.ts';
import { diagnoseRunning } from './support/doctor.ts';
import { RecentEvents } from './support/events.ts';
import { supportBundles } from './support.ts';
import { tlsCondition } from './tls-condition.ts';
import { agentVersion } from './version.ts';

export interface Agent {
  /** As configured, with the ports that were taken. */
  addresses: readonly string[];
  /** Closes everything, in reverse. Resolves within STOP_MS, false when something had to be left behind. Twice is once. */
  stop(): Promise<boolean>;
}

/** How long calls may go on after the stop has begun. */
const GRACE_MS = 3_000;
/** How long messages may still go to NATS when all else has stopped; what is left waits on disk. */
const EXPORT_GRACE_MS = 1_000;
/** How long one part may take to close; together at most STOP_MS. */
const PART_STOP_MS = 5_500;
export const STOP_MS = 10_000;

/** Opens everything. Throws with everything closed again. */
export async function startAgent(config: Config, log: AgentLog): Promise<Agent> {
  const parts = new ClosingStack(log, PART_STOP_MS);
  let startupMs: number | undefined;
  let isServing: boolean | undefined;
  try {
    // ---- Above this line: read and decide. Below: touch the machine. ------------------------------------------------------

    const stateDir = openStateDir(config.stateDir);
    parts.add('state directory', async () => stateDir.release());
    const runtimeDir = lockRuntimeDir(config.runtimeDir);
    parts.add('runtime directory', async () => runtimeDir.release());

    const http = await agentHttp(config.metrics, log);
    parts.add('http', () => http.stop());

    const nats = connectNats({
      mode: config.nats,
      name: `taplane/${config.node}`,
      node: config.node,
      files: natsFiles(config),
      stateDir: config.stateDir,
      log,
    });
    parts.add('nats', () => nats.close());

    const access = openPolicy({ file: config.policyFile, log });
    parts.add('policy', async () => access.close());

    const { cluster, node: nodeName } = config;
    const exporter = nodeExporter(config, nats, log);
    const spoolConditions = new Conditions<'FlowSpool'>();
    parts.add('exporter', async () => exporter?.close(EXPORT_GRACE_MS));
    const events = nodeEvents({ exporter, cluster, node: nodeName, log });
    parts.add('events', async () => events.close());

    let server: RunningServer | undefined;
    const auditWorks = (works: boolean): void => server?.setServing(AUDIT_SERVICE, works);
    const audit = nodeAudit({ config, exporter, log, rolesOf: ({ caller }) => access.rolesOf(caller), changed: auditWorks });
    parts.add('audit', () => audit.close());

    const recent = new RecentEvents();
    const { lanes: count } = config;
    const lanes = new Lanes({
      runtimeDir: config.runtimeDir,
      count,
      external: config.laneMode === 'external',
      log,
      changed: () => interfaces.laneChanged(),
      linksChanged: () => links.laneSaid(),
      complete: (attachments, lane) => links.withEpochs(attachments, lane),
      restarted(lane, why) {
        events.laneRestarted(lane, why);
        recent.note('lane-restarted', lane, why);
      },
      flowLimits: laneFlowLimits(config),
      logLevel: () => log.level,
    });
    // Stopped after the lanes: what they tell of at the end is still fetched.
    const recorded = nodeFlows({ config, lanes, interfaces: () => interfaces, exporter, log });
    parts.add('flows', () => recorded.stop(GRACE_MS));
    parts.add('lanes', () => lanes.stop());

    const publisher = packetPublisher(() => nats.connection());
    const off = config.nats === 'off';
    const mirrors = packetMirrors({ lanes, publisher, cluster, node: nodeName, off, log, changed: () => interfaces.laneChanged() });
    parts.add('mirrors', async () => mirrors.stop());

    const { stateDir: directory, limits: most, policy } = config;
    const declarations = new Declarations((attachments) => lanes.want(attachments));
    const links: LinkManager = openLinks({
      stateDir: directory,
      limits: most,
      log,
      joined: (id) => interfaces.joinable(id),
      want: (attachments) => declarations.fromLinks(attachments),
      attachment: (uid, kind) => lanes.attachment(uid, kind),
      ask: lanes.probe,
      told(event) {
        events.linkTold(event);
        recent.told(event);
      },
      probed: (result, link) => events.linkProbed(result, link),
    });
    // Stopped after the interfaces: the last declaration knows which of them are gone.
    parts.add('links', () => links.stop());

    const changed = (): void => {
      links.interfacesChanged();
      packets.interfacesChanged();
      mirrors.set(interfaces.mirrored());
    };
    const interfaces: InterfaceManager = await openInterfaces({
      stateDir: directory,
      limits: most,
      policy,
      log,
      dataPlane: {
        want: (attachments) => declarations.fromInterfaces(attachments),
        attachment: (uid, kind) => lanes.attachment(uid, kind),
        holding: (uid) => lanes.holding(uid),
      },
      mirrors,
      metering: nodeMetering(config),
      told(event) {
        events.told(event);
        recent.told(event);
      },
      linkOf: (id) => links.linkOf(id),
      underlay: () => links.underlay(),
      otherFindings: () => links.findings,
      changed,
    });
    const packets = agentPackets({
      lanes,
      device: (name, field) => interfaces.device(name, field),
      isManaged: (uid) => interfaces.isManaged(uid),
    });
    parts.add('interfaces', () => interfaces.stop());
    await interfaces.start();
    links.start();

    const tlsConditions = tlsCondition(() => server?.tls());
    const furtherConditions = () => [...audit.conditions(), ...exportConditions(exporter, spoolConditions), ...tlsConditions()];
    const node = nodeFacts({
      config,
      interfaces,
      links,
      nats,
      lanes,
      export: () => exporter?.stats(),
      conditions: furtherConditions,
      policy: access,
      startupMs: () => startupMs,
    });
    const { flows } = recorded;
    const calls = new CallMeter(Object.keys(METHODS));
    const checks = () =>
      readiness({ serving: isServing, storesOpen: true, intact: isIntact(interfaces.conditions()), lanes: lanes.describe() });
    const metrics = agentMetrics({
      config,
      interfaces,
      links,
      lanes,
      flows,
      nats,
      events,
      log,
      calls,
      checks,
      conditions: () => [...interfaces.conditions(), ...lanes.conditions(), ...furtherConditions()],
      reloads: () => reloadsOf(access, server?.tls()),
      tls: () => server?.tls(),
      connections: () => server?.connections(),
      audit: () => audit.facts(),
    });
    parts.add('metrics', async () => metrics.close());
    http.show({ checks, metrics });
    const supportBundle = supportBundles({
      config,
      version: agentVersion,
      getNode: node.getNode,
      interfaces,
      links,
      flows,
      checks,
      scrape: metrics.scrape,
      logTail: log.tail,
      eventTail: () => recent.lines(),
      diagnose: () => diagnoseRunning(config),
    });
    const limits = {
      maxConcurrentStreams: most.streamsPerConnection,
      maxMessageBytes: most.messageBytes,
      maxConnections: most.connections,
      maxConnectionsPerClient: most.connectionsPerClient,
    };
    const { listen, insecureLoopback, reflection } = config;
    const { responders } = interfaces;
    const { authorize, scopeOf, stays } = access;
    const serving = await startServer({
      listen,
      insecureLoopback,
      tls: hasTls(config.tls) ? config.tls : undefined,
      reflection,
      peerCredentials,
      interfaces,
      responders,
      links,
      packets,
      flows,
      audit: audit.records,
      node: { ...node, setLogLevel: (request) => setLogLevel(log, request), supportBundle },
      log,
      calls,
      limits,
      gate: audit.around({ ...OPEN_GATE, authorize, scopeOf, stays }),
    });
    server = serving;
    parts.add('server', () => serving.stop(GRACE_MS));
    parts.add('watches', async () => {
      // Before anything ends: whoever asks for health goes elsewhere, and nobody sees a stream end that was said to be served.
      for (const service of HEALTH_SERVICES) serving.setServing(service, false);
      isServing = false;
      events.agentStopping();
      interfaces.endWatches();
      links.endWatches();
      recorded.flows.end();
    });
    for (const service of HEALTH_SERVICES) serving.setServing(service, service !== AUDIT_SERVICE || audit.works);

    isServing = true;
    events.agentStarted();
    startupMs = Math.round(performance.now());
    log.info({ startup_ms: startupMs, addresses: serving.addresses, version: agentVersion, pid: process.pid }, 'ready');
    if (!effectiveCapabilities().includes('CAP_NET_ADMIN'))
      log.warn({ cure: 'run as root, or see what is missing: taplane doctor' }, 'without CAP_NET_ADMIN: no device can be made or changed');
    return { addresses: serving.addresses, stop: () => parts.close(STOP_MS) };
  } catch (error) {
    await parts.close(STOP_MS);
    throw error;
  }
}
