// A gRPC client of the packet service for tests, on the generated code alone. It checks the law at every message, and that numbers have no
// gap but where frames were dropped; `problems` holds what did not hold.

import { Client, type ClientDuplexStream, type ClientReadableStream, credentials, type ServiceError } from '@grpc/grpc-js';
import type { InjectTotals, PacketBatch, StreamOpened, StreamTotals } from '../../src/gen/taplane/v1/packet.ts';
import {
  CapturePacketsRequest,
  PacketServiceService as methods,
  type StreamOpen,
  StreamPacketsRequest,
} from '../../src/gen/taplane/v1/packet_service.ts';
import { decodeStatus } from '../../src/rpc/status.ts';

interface Span {
  seconds?: bigint;
  nanos?: number;
}
export type OpenPartial = Partial<Omit<StreamOpen, 'resumeTimeout'>> & { resumeTimeout?: Span };
export type CapturePartial = Partial<Omit<CapturePacketsRequest, 'duration'>> & { duration?: Span };

type Call = ClientDuplexStream<StreamPacketsRequest, PacketBatch> | ClientReadableStream<PacketBatch>;

export interface Received {
  sequence: number;
  data: Buffer;
  direction: number;
  originalLength: number;
}

export class PacketClient implements Disposable {
  readonly problems: string[] = [];
  /** Kept only with `keep`. */
  readonly frames: Received[] = [];
  pcapng: Buffer[] = [];
  opened: StreamOpened | undefined;
  totals: StreamTotals | undefined;
  injected: InjectTotals | undefined;
  received = 0;
  lost = new Map<number, number>();
  nextSequence = 1;
  messages = 0;
  error: ReturnType<typeof decodeStatus> | undefined;
  ended = false;
  onFrames: (frames: readonly Received[]) => void = () => {};
  readonly #client: Client;
  readonly #call: Call;
  readonly #keep: boolean;
  #lastId = 0n;
  #wake: (() => void)[] = [];

  private constructor(server: string, start: (client: Client) => Call, keep: boolean) {
    this.#keep = keep;
    this.#client = new Client(server, credentials.createInsecure(), {
      'grpc.default_authority': 'taplane',
      'grpc.use_local_subchannel_pool': 1,
      'grpc.max_receive_message_length': 8 * 1024 * 1024,
    });
    this.#call = start(this.#client);
    this.#call.on('data', (batch: PacketBatch) => {
      this.#take(batch);
      this.#changed();
    });
    this.#call.on('error', (error: ServiceError) => {
      this.error = decodeStatus(error);
      this.#changed();
    });
    this.#call.on('end', () => {
      this.ended = true;
      this.#changed();
    });
  }

  /** Opens a stream; `from` is an earlier one that this goes on after. */
  static stream(server: string, open: OpenPartial, { keep = true, from }: { keep?: boolean; from?: PacketClient } = {}): PacketClient {
    const resume = from === undefined ? {} : { resumeToken: from.opened?.resumeToken ?? '', resumeSequence: BigInt(from.nextSequence) };
    const client = new PacketClient(
      server,
      (grpc) => {
        const { path, requestSerialize, responseDeserialize } = methods.streamPackets;
        const call = grpc.makeBidiStreamRequest(path, requestSerialize, responseDeserialize);
        call.write(StreamPacketsRequest.fromPartial({ open: { ...open, ...resume } as object }));
        return call;
      },
      keep,
    );
    if (from !== undefined) client.nextSequence = from.nextSequence;
    return client;
  }

  static capture(server: string, request: CapturePartial, { keep = true } = {}): PacketClient {
    return new PacketClient(
      server,
      (grpc) => {
        const { path, requestSerialize, responseDeserialize } = methods.capturePackets;
        return grpc.makeServerStreamRequest(
          path,
          requestSerialize,
          responseDeserialize,
          CapturePacketsRequest.fromPartial(request as object),
        );
      },
      keep,
    );
  }

  /** Waits until it is attached. Throws what the agent answered instead. */
  async ready(): Promise<this> {
    await this.until(() => this.opened !== undefined || this.error !== undefined, 'the stream to open');
    if (this.opened === undefined) throw new Error(`${this.error?.code} ${this.error?.reason}: ${this.error?.message}`);
    return this;
  }

  /** Sends frames in; answers the number of the request. Waits for room. */
  async send(frames: readonly Uint8Array[]): Promise<bigint> {
    this.#lastId++;
    await this.#write({ frames: frames as Buffer[], injectId: this.#lastId });
    return this.#lastId;
  }

  /** Waits until the request with this number has been worked off. */
  async worked(id: bigint, timeoutMs = 30_000): Promise<InjectTotals> {
    await this.until(() => (this.injected?.lastInjectId ?? 0n) >= id || this.error !== undefined, `request ${id}`, timeoutMs);
    if (this.injected === undefined) throw new Error(`${this.error?.code}: ${this.error?.message}`);
    return this.injected;
  }

  acknowledge(): void {
    void this.#write({ acknowledge: BigInt(this.nextSequence) });
  }

  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    this.#call.resume();
  }

  /** Half-closes. */
  end(): void {
    (this.#call as ClientDuplexStream<StreamPacketsRequest, PacketBatch>).end();
  }

  cancel(): void {
    this.#call.cancel();
  }

  /** How many frames were told as lost. */
  get lostFrames(): number {
    return [...this.lost.values()].reduce((sum, count) => sum + count, 0);
  }

  async until(holds: () => boolean, what: string, timeoutMs = 15_000): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!holds()) {
      const left = deadline - performance.now();
      if (left <= 0)
        throw new Error(`wait for ${what}: not within ${timeoutMs} ms; received ${this.received}, error ${this.error?.message ?? 'none'}`);
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, 200));
        this.#wake.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  [Symbol.dispose](): void {
    this.#call.on('error', () => {});
    this.#call.cancel();
    this.#client.close();
  }

  #write(request: Partial<StreamPacketsRequest>): Promise<void> {
    const call = this.#call as ClientDuplexStream<StreamPacketsRequest, PacketBatch>;
    if (call.write(StreamPacketsRequest.fromPartial(request as object))) return Promise.resolve();
    return new Promise<void>((resolve) => {
      const done = (): void => {
        call.off('drain', done).off('close', done);
        resolve();
      };
      call.on('drain', done).on('close', done);
    });
  }

  #changed(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  #take(batch: PacketBatch): void {
    this.messages++;
    if (batch.opened !== undefined) this.opened = batch.opened;
    if (batch.pcapng.length > 0) this.pcapng.push(Buffer.from(batch.pcapng));
    for (const { reason, count } of batch.lost) this.lost.set(reason, (this.lost.get(reason) ?? 0) + Number(count));
    if (batch.frames.length > 0) {
      const first = Number(batch.firstSequence);
      if (first < this.nextSequence) this.problems.push(`frame ${first} came again or out of order; ${this.nextSequence} was expected`);
      const frames = batch.frames.map(({ data, direction, originalLength }, index) => ({
        sequence: first + index,
        data: Buffer.from(data),
        direction,
        originalLength,
      }));
      this.nextSequence = first + frames.length;
      this.received += frames.length;
      if (this.#keep) this.frames.push(...frames);
      this.onFrames(frames);
    }
    if (batch.injected !== undefined) this.injected = batch.injected;
    if (batch.totals !== undefined) this.#check(batch.totals);
  }

  #check(totals: StreamTotals): void {
    this.totals = totals;
    const dropped = totals.dropped.reduce((sum, { count }) => sum + count, 0n);
    const told = totals.delivered + totals.filtered + totals.sampledOut + dropped;
    if (told !== totals.offered) this.problems.push(`offered ${totals.offered}, but ${told} are told of`);
  }
}
