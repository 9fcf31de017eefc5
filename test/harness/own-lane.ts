// A lane of the test's own, which nobody else tells what to do: it joins devices, or meters them and gives its records as they are.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Attachment, Attachment_Kind, type Device, FlowsAck, StreamSetup } from '../../src/gen/taplane/lane/v1/lane_service.ts';
import { FlowBatch } from '../../src/gen/taplane/v1/flow.ts';
import { openPipe } from '../../src/lane/client.ts';
import { packetSocketOf } from '../../src/lane/place.ts';
import { connectLane } from '../../src/rpc/lane-client.ts';
import type { Agent } from './agent.ts';
import type { Namespace } from './namespace.ts';
import { Child } from './process.ts';

const OPEN_MS = 10_000;
const TAPLANE = join(import.meta.dirname, '..', '..', 'bin', 'taplane');

export type DevicePartial = Partial<Device> & Pick<Device, 'uid' | 'interface'>;

export class OwnLane implements AsyncDisposable {
  readonly socket: string;
  readonly #child: Child;
  readonly #client: ReturnType<typeof connectLane>;

  private constructor(socket: string, child: Child) {
    this.socket = socket;
    this.#child = child;
    this.#client = connectLane(socket, 5000);
  }

  /** In the folder of an agent, which takes its socket away in the end. */
  static async start(agent: Agent, ns: Namespace): Promise<OwnLane> {
    const socket = join(agent.folder, 'own.sock');
    const child = new Child(['ip', 'netns', 'exec', ns.name, TAPLANE, 'lane', '--socket', socket]);
    await child.until(({ stderr }) => stderr.includes('lane ready'), 'the lane');
    return new OwnLane(socket, child);
  }

  /** Declares what it has to hold, all of it, and waits until it does: rings are opened beside. Throws when it cannot. */
  async hold(...wanted: (Partial<Omit<Attachment, 'device' | 'peer'>> & { device: DevicePartial; peer?: DevicePartial })[]): Promise<void> {
    const whole = (device: DevicePartial): Device => ({
      networkNamespace: '',
      tap: false,
      multiQueue: false,
      packetInfo: false,
      vnetHeader: false,
      queues: 1,
      ...device,
    });
    let { attachments } = await this.#client.setAttachments(
      wanted.map(({ device, peer, kind = Attachment_Kind.PATCH, ...rest }) => ({
        responders: [],
        meter: undefined,
        link: undefined,
        kind,
        ...rest,
        device: whole(device),
        peer: peer && whole(peer),
      })),
      true,
    );
    const isOpening = () => attachments.some(({ attached, reason }) => !attached && reason === '');
    for (const deadline = performance.now() + OPEN_MS; isOpening() && performance.now() < deadline; ) {
      await sleep(10);
      ({ attachments } = await this.#client.getLane());
    }
    for (const { attached, reason } of attachments) if (!attached) throw new Error(`own lane: not attached: ${reason}`);
  }

  /** Its records from now on, with what may not be seen of them elsewhere: numbers of batches, and the account. */
  flows(take: (batch: FlowBatch) => void): Disposable {
    let batches = 0n;
    const pipe = openPipe(packetSocketOf(this.socket), StreamSetup.fromPartial({ flows: {} }), {
      batch(bytes, release) {
        take(FlowBatch.decode(Buffer.from(bytes)));
        release();
        pipe.send(Buffer.from(FlowsAck.encode({ batches: ++batches }).finish()));
      },
      end() {},
      failed() {},
      room() {},
    });
    return { [Symbol.dispose]: () => pipe.destroy() };
  }

  /** Tells it to end; resolves when it has. */
  async end(): Promise<void> {
    process.kill(this.#child.pid, 'SIGTERM');
    await this.#child.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#client.close();
    await this.#child[Symbol.asyncDispose]();
  }
}
