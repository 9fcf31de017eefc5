// From frames of the wire to super-frames, as the kernel's GRO would make them: consecutive segments of one TCP connection, and datagrams of
// one size of one UDP flow, over IPv4 and IPv6, become one frame with a virtio header. What does not fit goes as it is, in the order in
// which it came, flow by flow. Checksums are verified before a frame is joined: a wrong one passes as it is. Pure but for its memory.

/** Takes `bytes[start, start + length)`: virtio header (10 bytes) and frame, valid until it returns (*borrows*). */
export type WriteSuper = (bytes: Buffer, start: number, length: number) => void;

export interface Coalescer {
  /** A frame (*copies*). */
  add(bytes: Buffer, start: number, length: number): void;
  /** Nothing more comes at the moment: gives away all that it holds. */
  flush(): void;
}

/** `ethernet`: frames of a TAP. `offload`: false gives every frame at once, behind an empty header. */
export function coalescer(options: { ethernet: boolean; offload: boolean; write: WriteSuper }): Coalescer {
  throw new Error(`not built yet: ${options.ethernet}`);
}
