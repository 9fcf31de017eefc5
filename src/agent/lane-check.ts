// `taplane lane-check`: does the lane behind a socket answer? For whoever keeps a lane running apart from the agent, such as the kubelet: a lane that
// hangs still has its socket, and is to be started anew. Changes nothing, and is no agent to the lane.

import { TaplaneError } from '../errors.ts';
import { connectLane } from '../rpc/lane-client.ts';

/** Shorter than the patience of those who ask. */
const ANSWER_MS = 4000;

/** Asks once. Answers what is wrong, or undefined. */
export async function checkLane({ socket }: { socket: string }): Promise<string | undefined> {
  const client = connectLane(socket, ANSWER_MS);
  try {
    await client.getLane();
    return undefined;
  } catch (error) {
    const cause = error instanceof TaplaneError || error instanceof Error ? error.message : String(error);
    return `ask the lane at ${socket}: ${cause}`;
  } finally {
    client.close();
  }
}
