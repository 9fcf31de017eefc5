// When a packet of a replay is due. Pure: time is what the packets and the caller say.

export interface Moment {
  seconds: number;
  nanos: number;
}

/** Milliseconds after the begin of the replay. Called for each packet, in order. */
export type Pace = (packet: Moment) => number;

/** So many packets a second, in even steps, over all rounds. */
export function steadyPace(packetsPerSecond: number): Pace {
  let index = 0;
  return () => (index++ * 1000) / packetsPerSecond;
}

/** As they were captured, `factor` times as fast. Packets out of order are due at once. */
export function capturedPace(factor: number): Pace & { nextRound(): void } {
  let first: Moment | undefined;
  let startMs = 0;
  let dueMs = 0;
  const pace = (packet: Moment): number => {
    first ??= packet;
    const passedMs = (packet.seconds - first.seconds) * 1000 + (packet.nanos - first.nanos) / 1e6;
    dueMs = Math.max(dueMs, startMs + passedMs / factor);
    return dueMs;
  };
  return Object.assign(pace, {
    nextRound() {
      first = undefined;
      startMs = dueMs;
    },
  });
}

/** Never waits. */
export const topSpeed: Pace = () => 0;
