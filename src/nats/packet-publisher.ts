// Publishes batches of packets to core NATS. Bounded: at most `PENDING_MOST` bytes wait in the client library for the server; what comes
// beyond, or while there is no connection, is refused, and the caller counts it. Never waits.

import type { NatsConnection } from '@nats-io/transport-node';

const PENDING_MOST = 4 * 1024 * 1024;
/** Room in the server's limit for subject and headers. */
const OVERHEAD_BYTES = 1024;

export type Refusal = 'no-connection' | 'no-room' | 'too-large';

export interface PacketPublisher {
  /** Hands a message to the connection (*transfers*: the library keeps it until it is sent), or says why not. Never throws. */
  publish(subject: string, payload: Uint8Array): Refusal | undefined;
}

/** `connection` answers with the open one, another after each reconnection. */
export function packetPublisher(connection: () => NatsConnection | undefined): PacketPublisher {
  let current: NatsConnection | undefined;
  let pending = 0;
  let flushing = false;
  /** The server has answered: what was published before is with it. */
  const flush = (): void => {
    if (flushing || current === undefined) return;
    flushing = true;
    const flushed = current;
    const bytes = pending;
    const settled = (): void => {
      if (flushed !== current) return;
      flushing = false;
      pending -= bytes;
      if (pending > 0) flush();
    };
    flushed.flush().then(settled, settled);
  };
  return {
    publish(subject, payload) {
      const open = connection();
      if (open !== current) {
        current = open;
        pending = 0;
        flushing = false;
      }
      if (open === undefined || open.isClosed()) return 'no-connection';
      const most = open.info?.max_payload ?? 1024 * 1024;
      if (payload.length + OVERHEAD_BYTES > most) return 'too-large';
      if (pending + payload.length > PENDING_MOST) return 'no-room';
      try {
        open.publish(subject, payload);
      } catch {
        return 'no-connection';
      }
      pending += payload.length;
      flush();
      return undefined;
    },
  };
}
