// Where a lane listens. Pure.

/** The packet socket that belongs to the gRPC socket of a lane: `lane-0.sock` has `lane-0.packets`. */
export function packetSocketOf(socket: string): string {
  return `${socket.replace(/\.sock$/, '')}.packets`;
}
