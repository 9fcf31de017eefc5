// The connection on which the agent gets the flow records of a lane and says what it has on disk. One at a time: a new one, of a new agent,
// takes the place of the one before.

import type { Socket } from 'node:net';
import { FlowsAck } from '../gen/taplane/lane/v1/lane_service.ts';
import type { FlowOutbox } from './flow-outbox.ts';
import { KIND_BATCH, message } from './framing.ts';

export class FlowConnections {
  readonly #outbox: FlowOutbox;
  #current: Socket | undefined;

  constructor(outbox: FlowOutbox) {
    this.#outbox = outbox;
  }

  /** Sends what waits on this socket. Answers what takes the acknowledgements that come on it; it throws on one that makes no sense. */
  open(socket: Socket): (payload: Uint8Array) => void {
    const before = this.#current;
    this.#current = socket;
    before?.destroy();
    let acknowledged = 0;
    this.#outbox.connect((bytes) => {
      if (!socket.destroyed) socket.write(message(KIND_BATCH, bytes));
    });
    socket.once('close', () => {
      if (this.#current !== socket) return;
      this.#current = undefined;
      this.#outbox.disconnect();
    });
    return (payload) => {
      // What the one before still says is not about what this one was sent.
      if (this.#current !== socket) return;
      const { batches } = FlowsAck.decode(payload);
      const count = Number(batches) - acknowledged;
      if (count < 0 || !this.#outbox.acknowledge(count))
        throw new RangeError(`flow connection: ${batches} batches acknowledged, fewer were sent`);
      acknowledged += count;
    };
  }
}
