// Memory for flows, in pieces that meters take and give back. Bounded for all meters of a lane together: what one interface floods its table
// with is taken from nobody who has it already.

/** Flows of a piece; a power of two. */
export const PIECE_FLOWS = 128;
export const PIECE_SHIFT = 7;
/** 32-bit words of a flow, see flow-table.ts; even, so that its 64-bit counters are aligned. */
export const FLOW_WORDS = 42;

/** The same memory twice. */
export interface Piece {
  words: Int32Array;
  counters: Float64Array;
  /** Flows in it. */
  live: number;
  /** First free flow, -1 for none; the next stands in its first word. */
  free: number;
}

export class FlowPool {
  #most: number;
  #taken = 0;
  /** One is kept, for a table that goes up and down. */
  #spare: Piece | undefined;

  /** `entries` is rounded up to pieces. */
  constructor(entries: number) {
    this.#most = Math.ceil(entries / PIECE_FLOWS);
  }

  /** How many flows all tables may hold from now on; those that are there stay. */
  limit(entries: number): void {
    this.#most = Math.ceil(entries / PIECE_FLOWS);
  }

  /** Pieces in use. */
  get taken(): number {
    return this.#taken;
  }

  /** An empty piece, undefined when there is none left. */
  take(): Piece | undefined {
    if (this.#taken >= this.#most) return undefined;
    this.#taken++;
    const piece = this.#spare ?? newPiece();
    this.#spare = undefined;
    piece.live = 0;
    piece.free = 0;
    for (let flow = 0; flow < PIECE_FLOWS; flow++) piece.words[flow * FLOW_WORDS] = flow + 1 < PIECE_FLOWS ? flow + 1 : -1;
    return piece;
  }

  giveBack(piece: Piece): void {
    this.#taken--;
    piece.words.fill(0);
    this.#spare = piece;
  }
}

function newPiece(): Piece {
  const memory = new ArrayBuffer(PIECE_FLOWS * FLOW_WORDS * 4);
  return { words: new Int32Array(memory), counters: new Float64Array(memory), live: 0, free: 0 };
}
