// Two TUNs in two namespaces, joined by a lane with offloads, against a bare veth pair in the same run: one TCP stream of iperf3. While the
// lane is saturated, an agent beside it, and the lane itself, are asked again and again: how long do they take to answer?

import { join } from 'node:path';
import type { Device } from '../src/gen/taplane/lane/v1/lane_service.ts';
import { Attachment_Kind } from '../src/gen/taplane/lane/v1/lane_service.ts';
import { ListInterfacesRequest } from '../src/gen/taplane/v1/interface_service.ts';
import { connectLane } from '../src/rpc/lane-client.ts';
import { creation, TUN } from '../test/e2e/specs.ts';
import { type Agent, startAgent } from '../test/harness/agent.ts';
import { stopLanes } from '../test/harness/lanes.ts';
import { createCable, createNamespace, type Namespace } from '../test/harness/namespace.ts';
import { percentile, summary } from '../test/harness/percentile.ts';
import { Child } from '../test/harness/process.ts';

const ROUNDS = Number(process.env['TAPLANE_ROUNDS'] ?? 5);
const SECONDS = 4;
const ROOT = join(import.meta.dirname, '..');

export async function lanePatchBench(): Promise<string[]> {
  await using home = createNamespace();
  await using a = createNamespace();
  await using b = createNamespace();
  await using agent = await startAgent({ namespace: home });
  try {
    createCable({ namespace: a, device: 'v0', address: '10.95.0.1/24' }, { namespace: b, device: 'v1', address: '10.95.0.2/24' });
    const device = await makeDevice(agent, 'p0', a, '10.96.0.1/24');
    const peer = await makeDevice(agent, 'p1', b, '10.96.0.2/24');
    await using lane = await startLane(agent, home);
    await lane.attach(device, peer);
    const client = agent.client();
    const ratios: number[] = [];
    const agentMs: number[] = [];
    const laneMs: number[] = [];
    const lines: string[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      const veth = await iperf(a, b, '10.95.0.2');
      const patch = await iperf(a, b, '10.96.0.2');
      // Once more with others asking, which costs the same two cores.
      const stop = { now: false };
      const asking = Promise.all([
        ask(() => client.interfaces.list(ListInterfacesRequest.fromPartial({})), stop, agentMs),
        ask(() => lane.attach(device, peer), stop, laneMs),
      ]);
      await iperf(a, b, '10.96.0.2');
      stop.now = true;
      await asking;
      ratios.push(patch / veth);
      lines.push(`patch ${patch.toFixed(2)} Gbit/s, veth ${veth.toFixed(2)} Gbit/s, ratio ${(patch / veth).toFixed(2)}`);
    }
    ratios.sort((one, other) => one - other);
    return [
      ...lines,
      `median ratio to the bare veth: ${(ratios[ratios.length >> 1] ?? 0).toFixed(2)}`,
      `unary calls meanwhile: agent ${summary(agentMs)}; lane ${summary(laneMs)}; p99 bound 25 ms ${percentile(agentMs, 99) < 25 ? 'kept' : 'not kept'}`,
    ];
  } finally {
    await stopLanes(agent);
  }
}

async function makeDevice(agent: Agent, name: string, ns: Namespace, cidr: string): Promise<Device> {
  const spec = { mode: TUN, up: true, vnetHeader: true, networkNamespace: ns.path, addresses: [{ cidr }] };
  const { uid } = await agent.client().interfaces.create(creation(name, spec));
  return { uid, interface: name, networkNamespace: ns.path, tap: false, multiQueue: false, packetInfo: false, vnetHeader: true, queues: 1 };
}

/** A lane of its own, which nobody tells what to do but this program. */
async function startLane(agent: Agent, ns: Namespace) {
  const socket = join(agent.folder, 'patch.sock');
  const child = new Child(['ip', 'netns', 'exec', ns.name, join(ROOT, 'bin', 'taplane'), 'lane', '--socket', socket]);
  await child.until(({ stderr }) => stderr.includes('lane ready'), 'the lane');
  const client = connectLane(socket, 5000);
  const attach = (device: Device, peer: Device) =>
    client.setAttachments([{ kind: Attachment_Kind.PATCH, device, peer, responders: [], meter: undefined, link: undefined }], true);
  return {
    attach: async (device: Device, peer: Device) => {
      const { attachments } = await attach(device, peer);
      if (attachments[0]?.attached !== true) throw new Error(`the patch is not attached: ${attachments[0]?.reason}`);
    },
    async [Symbol.asyncDispose]() {
      client.close();
      await child[Symbol.asyncDispose]();
    },
  };
}

/** Gbit/s of one TCP stream. */
async function iperf(from: Namespace, to: Namespace, address: string): Promise<number> {
  await using server = to.spawn(['iperf3', '--forceflush', '-s', '-1', '-B', address]);
  await server.until(({ stdout }) => stdout.includes('listening'), 'iperf3 to listen');
  const client = await from.exec(['iperf3', '-J', '-t', String(SECONDS), '-O', '1', '-c', address]);
  const report = JSON.parse(client.stdout) as { end: { sum_received: { bits_per_second: number } }; error?: string };
  if (report.error !== undefined) throw new Error(`iperf3: ${report.error}`);
  return report.end.sum_received.bits_per_second / 1e9;
}

async function ask(call: () => Promise<unknown>, stop: { now: boolean }, into: number[]): Promise<void> {
  while (!stop.now) {
    const begun = performance.now();
    await call();
    into.push(performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
