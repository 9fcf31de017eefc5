// From frames of the wire to super-frames, as the kernel's GRO would make them: consecutive segments of one TCP connection, and datagrams of
// one size of one UDP flow, over IPv4 and IPv6, become one frame with a virtio header. What does not fit goes as it is, in the order in
// which it came, flow by flow. Checksums are verified before a frame is joined: a wrong one passes as it is. Pure but for its memory.
//
//   frame --joinable--> open flow --full, pushed, or one that does not fit--> write
//     '--anything else--> its flow is written first, then the frame itself

import { type FlowSegment, flowSegment, isPushed, isSegmentRight, readFlowSegment } from './flow-segment.ts';
import { OpenFlow, type WriteSuper } from './open-flow.ts';
import { VNET_HEADER_BYTES } from './vnet-header.ts';

export type { WriteSuper } from './open-flow.ts';

export interface Coalescer {
  /** A frame (*copies*). */
  add(bytes: Buffer, start: number, length: number): void;
  /** Nothing more comes at the moment: gives away all that it holds. */
  flush(): void;
}

/** At once, each with 64 KiB, which it takes when it is first needed. */
const FLOWS_MOST = 8;
const FRAME_MOST = 65_535 + 22;

/**
 * `ethernet`: frames of a TAP. `offload`: false gives every frame at once, behind an empty header. `write` does not call `add` or `flush`. Frames
 * longer than an IP packet can be with Ethernet and two tags are passed over: no device takes them.
 */
export function coalescer(options: { ethernet: boolean; offload: boolean; write: WriteSuper }): Coalescer {
  const { ethernet, offload, write } = options;
  const flows = Array.from({ length: offload ? FLOWS_MOST : 0 }, () => new OpenFlow());
  const segment: FlowSegment = flowSegment();
  /** An empty virtio header, and a frame that goes as it is. */
  let plain: Buffer | undefined;
  let turn = 0;

  function pass(bytes: Buffer, start: number, length: number): void {
    plain ??= Buffer.alloc(VNET_HEADER_BYTES + FRAME_MOST);
    bytes.copy(plain, VNET_HEADER_BYTES, start, start + length);
    write(plain, 0, VNET_HEADER_BYTES + length);
  }

  /** The flow that was opened first, of those that hold something. */
  function oldest(): OpenFlow | undefined {
    let found: OpenFlow | undefined;
    for (let index = 0; index < flows.length; index++) {
      const flow = flows[index] as OpenFlow;
      if (flow.count > 0 && (found === undefined || flow.turn < found.turn)) found = flow;
    }
    return found;
  }

  function flush(): void {
    for (let flow = oldest(); flow !== undefined; flow = oldest()) flow.close(write);
  }

  function flowOf(bytes: Buffer): OpenFlow | undefined {
    for (let index = 0; index < flows.length; index++) {
      const flow = flows[index] as OpenFlow;
      if (flow.count > 0 && flow.isOf(bytes, segment)) return flow;
    }
    return undefined;
  }

  function free(): OpenFlow {
    for (let index = 0; index < flows.length; index++) {
      const flow = flows[index] as OpenFlow;
      if (flow.count === 0) return flow;
    }
    const flow = oldest() as OpenFlow;
    flow.close(write);
    return flow;
  }

  return {
    flush,
    add(bytes, start, length) {
      if (length <= 0 || length > FRAME_MOST) return;
      const kind = offload ? readFlowSegment(bytes, start, length, ethernet, segment) : 'apart';
      if (kind !== 'segment') {
        if (kind === 'unclear') flush();
        pass(bytes, start, length);
        return;
      }
      const flow = flowOf(bytes);
      if (flow !== undefined) {
        if (segment.joinable && flow.takes(bytes, segment) && flow.join(bytes, segment)) {
          if (flow.isFull) flow.close(write);
          return;
        }
        flow.close(write);
      }
      // Nothing would follow what its sender has pushed.
      if (!segment.joinable || isPushed(bytes, segment) || !isSegmentRight(bytes, segment)) pass(bytes, start, length);
      else (flow ?? free()).open(bytes, segment, turn++);
    },
  };
}
