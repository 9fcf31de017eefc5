// One connection of frames over TCP: bytes of the stream to frames for the device, and back. Ends with its socket.

import type { TrafficCount } from '../link/counts.ts';
import { Deframer } from './deframer.ts';
import type { FrameEnds } from './frame-ends.ts';
import type { Stream } from './stream.ts';
import { StreamSender } from './stream-sender.ts';

export class Connection {
  readonly remote: string;
  readonly sender: StreamSender;
  readonly traffic: TrafficCount;
  /** On the monotonic clock. */
  readonly since: number;
  heardAt: number;
  readonly #stream: Stream;
  readonly #deframer: Deframer;

  /** Takes over the stream. `ended` is called once, unless it was closed here. */
  constructor(stream: Stream, remote: string, ends: FrameEnds, traffic: TrafficCount, ended: (connection: Connection) => void) {
    const { inward, counts, now } = ends;
    const { socket } = stream;
    this.remote = remote;
    this.traffic = traffic;
    this.since = now();
    this.heardAt = Number.NEGATIVE_INFINITY;
    this.#stream = stream;
    this.#deframer = new Deframer(inward.take);
    this.sender = new StreamSender(socket, [counts, traffic]);
    const take = (bytes: Buffer, length: number) => {
      this.heardAt = now();
      this.#deframer.add(bytes, length);
    };
    stream.listen(take, () => inward.flush());
    // A half of a connection carries no link.
    socket.on('end', () => socket.destroy());
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      this.sender.close();
      ended(this);
    });
  }

  close(): void {
    this.#deframer.stop();
    this.sender.close();
    this.#stream.socket.destroy();
  }
}
