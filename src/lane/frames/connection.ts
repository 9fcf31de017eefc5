// One connection of frames over TCP: bytes of the stream to frames for the device, and back. Ends with its socket.
//
// That it is there says little: with TLS 1.3 a client is done before the server has looked at its certificate (RFC 8446, section 2), and one end without TLS
// does not see that the other has it. So it is believed once something came, or when it has lasted for `believeAfterMs`.

import { LinkDrops_Reason as Drop } from '../../gen/taplane/v1/link.ts';
import type { TrafficCount } from '../link/counts.ts';
import { Deframer } from './deframer.ts';
import { isTls, SPEAKS_TLS } from './foreign-tls.ts';
import type { FrameEnds } from './frame-ends.ts';
import type { Stream } from './stream.ts';
import { StreamSender } from './stream-sender.ts';

/** A connection that is open. */
export interface Opened {
  stream: Stream;
  remote: string;
  /** So long it has to last to be believed, unless something comes before; 0: it is believed already. */
  believeAfterMs: number;
}

export class Connection {
  readonly remote: string;
  readonly sender: StreamSender;
  readonly traffic: TrafficCount;
  /** On the monotonic clock. */
  readonly since: number;
  heardAt: number;
  /** Why it has ended, where it is known. */
  misfit = '';
  readonly #believeAfterMs: number;
  readonly #now: () => number;
  readonly #stream: Stream;
  readonly #deframer: Deframer;

  /** Takes over the stream. `ended` is called once, unless it was closed here. */
  constructor({ stream, remote, believeAfterMs }: Opened, ends: FrameEnds, traffic: TrafficCount, ended: (connection: Connection) => void) {
    const { inward, counts, now } = ends;
    const { socket } = stream;
    this.remote = remote;
    this.traffic = traffic;
    this.since = now();
    this.heardAt = Number.NEGATIVE_INFINITY;
    this.#stream = stream;
    this.#believeAfterMs = believeAfterMs;
    this.#now = now;
    this.#deframer = new Deframer(inward.take);
    this.sender = new StreamSender(socket, [counts, traffic]);
    const take = (bytes: Buffer, length: number) => {
      if (!this.hasHeard && !stream.isEncrypted && isTls(bytes, length)) {
        counts.drop(Drop.MALFORMED);
        this.misfit = SPEAKS_TLS;
        this.#deframer.stop();
        socket.destroy(new Error(SPEAKS_TLS));
        return;
      }
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

  /** Something has come. */
  get hasHeard(): boolean {
    return Number.isFinite(this.heardAt);
  }

  /** The other end is who it should be, as far as one can know. */
  get isUp(): boolean {
    return this.misfit === '' && (this.hasHeard || this.#now() - this.since >= this.#believeAfterMs);
  }

  close(): void {
    this.#deframer.stop();
    this.sender.close();
    this.#stream.socket.destroy();
  }
}
