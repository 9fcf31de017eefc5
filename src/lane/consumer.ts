// The seam between a device and what works on its frames: subscriptions, responders. A consumer is offered every frame, in order.
//
//   port: queue of the device --strip headers, cut super-frames--> consumer.take ... consumer.take --> consumer.flush
//
// Consumers never wait and never throw: what they cannot keep they drop and count.

import type { InjectRejection_Reason } from '../gen/taplane/v1/packet.ts';

export interface Consumer {
  /**
   * A whole frame that the node sent: `bytes[start, start + length)`, without packet information and virtio header. Valid until this
   * returns, and may be changed meanwhile by nobody (*borrows*).
   */
  take(bytes: Buffer, start: number, length: number): void;
  /** Nothing more is there at the moment: what was put together may go. */
  flush(): void;
}

/**
 * Sends a whole frame into the device: `bytes[start, start + length)`, without headers (*borrows*). Answers 0 when the kernel took it, else
 * why not. Never throws.
 */
export type WriteFrame = (bytes: Buffer, start: number, length: number) => InjectRejection_Reason;
