// Classic BPF (linux/filter.h): checks a program as the kernel does before it takes one, and runs it over captured bytes (*borrows*).
// Jumps only go forward, so every program that loads ends after at most as many steps as it has instructions. Pure.
//
// Where kernel and libpcap differ, this follows libpcap's bpf_filter(): a load whose index register is 2^31 or more is out of range,
// and a shift by 32 or more gives 0. Ancillary loads (negative offsets) are refused: they ask for what is not in the bytes.

/** Most instructions of a program (BPF_MAXINSNS). */
export const MAX_INSTRUCTIONS = 4096;
const INSTRUCTION_BYTES = 8;
const SCRATCH_WORDS = 16;

// linux/bpf_common.h: class, mode of a load, operation and source of the others.
const [LD, LDX, ST, STX, ALU, JMP, RET] = [0, 1, 2, 3, 4, 5, 6] as const;
const [ABS, IND, MEM, MSH] = [0x20, 0x40, 0x60, 0xa0] as const;
const [DIV, LSH, RSH, MOD] = [0x30, 0x60, 0x70, 0x90] as const;
const [JA, X] = [0x00, 0x08] as const;

// Every operation there is, in the order of the cases of runBpf: V8 makes a table of jumps only of plain numbers that lie close together.
const OPERATIONS = [
  0x28, 0x15, 0x30, 0x20, 0xb1, 0x48, 0x50, 0x40, 0x06, 0x16, 0x05, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, 0x00, 0x60, 0x80, 0x01, 0x61,
  0x81, 0x02, 0x03, 0x07, 0x87, 0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x94, 0x9c, 0x44, 0x4c, 0x54, 0x5c, 0xa4, 0xac, 0x64, 0x6c,
  0x74, 0x7c, 0x84,
];
const caseOf = new Map(OPERATIONS.map((code, index) => [code, index]));

/** A program that the kernel would not take; the message names the instruction, counted from 0. */
export class BadProgram extends Error {
  override readonly name = 'BadProgram';
}

/** A checked program. Only `runBpf` looks inside; it never changes, so any number of readers may share it. */
export interface BpfProgram {
  /** Instructions. */
  readonly length: number;
  /** Cases of runBpf. */
  readonly cases: Uint8Array;
  /** Constants as 32-bit integers; unsigned where they are offsets, which are below 2^31. */
  readonly constants: Int32Array;
  /** Index of the instruction before the next when a jump is taken, and when not. */
  readonly taken: Uint16Array;
  readonly passed: Uint16Array;
}

/**
 * Checks an array of `struct sock_filter` (8 bytes each: code u16, jt u8, jf u8, k u32, little-endian) and *copies* it into a program.
 * Throws BadProgram for what sk_chk_filter() of net/core/filter.c refuses, and for negative offsets.
 */
export function loadBpf(instructions: Uint8Array): BpfProgram {
  const length = instructions.length / INSTRUCTION_BYTES;
  if (!Number.isInteger(length))
    throw new BadProgram(`load filter: ${instructions.length} bytes are not a multiple of ${INSTRUCTION_BYTES}`);
  if (length === 0) throw new BadProgram('load filter: it has no instruction');
  if (length > MAX_INSTRUCTIONS) throw new BadProgram(`load filter: ${length} instructions, at most ${MAX_INSTRUCTIONS}`);
  const view = new DataView(instructions.buffer, instructions.byteOffset, instructions.length);
  const program = {
    length,
    cases: new Uint8Array(length),
    constants: new Int32Array(length),
    taken: new Uint16Array(length),
    passed: new Uint16Array(length),
  };
  for (let at = 0; at < length; at += 1) {
    const code = view.getUint16(at * INSTRUCTION_BYTES, true);
    const k = view.getUint32(at * INSTRUCTION_BYTES + 4, true);
    const wrong = objection(code, k);
    if (wrong !== undefined) throw new BadProgram(`load filter: instruction ${at}: ${wrong}`);
    program.cases[at] = caseOf.get(code) as number;
    program.constants[at] = k;
    if ((code & 7) !== JMP) continue;
    const always = code === (JMP | JA);
    const taken = at + (always ? k : view.getUint8(at * INSTRUCTION_BYTES + 2));
    const passed = at + (always ? k : view.getUint8(at * INSTRUCTION_BYTES + 3));
    if (Math.max(taken, passed) + 1 >= length) throw new BadProgram(`load filter: instruction ${at}: jumps out of the program`);
    program.taken[at] = taken;
    program.passed[at] = passed;
  }
  if ((codeOf(program, length - 1) & 7) !== RET) throw new BadProgram(`load filter: instruction ${length - 1}: the last returns nothing`);
  checkScratch(program);
  return program;
}

function codeOf({ cases }: BpfProgram, at: number): number {
  return OPERATIONS[cases[at] as number] as number;
}

/** What is wrong with one instruction by itself. */
function objection(code: number, k: number): string | undefined {
  if (!caseOf.has(code)) return `no such operation 0x${code.toString(16)}`;
  const [kind, mode, operation] = [code & 7, code & 0xe0, code & 0xf0];
  const offset = (kind === LD && (mode === ABS || mode === IND)) || (kind === LDX && mode === MSH);
  if (offset && k >= 2 ** 31) return `offset ${k - 2 ** 32} is not in the packet`;
  const scratch = kind === ST || kind === STX || ((kind === LD || kind === LDX) && mode === MEM);
  if (scratch && k >= SCRATCH_WORDS) return `scratch word ${k}, there are ${SCRATCH_WORDS}`;
  if (kind !== ALU || (code & X) !== 0) return undefined;
  if ((operation === DIV || operation === MOD) && k === 0) return 'divides by zero';
  if ((operation === LSH || operation === RSH) && k >= 32) return `shifts by ${k} bits`;
  return undefined;
}

/** Every scratch word is stored before it is loaded, on every path; so a run sees nothing of the run before it. */
function checkScratch(program: BpfProgram): void {
  const { length, constants, taken, passed } = program;
  const storedAt = new Uint16Array(length).fill(0xffff);
  let stored = 0;
  for (let at = 0; at < length; at += 1) {
    stored &= storedAt[at] as number;
    const code = codeOf(program, at);
    const word = 1 << (constants[at] as number);
    if (code === ST || code === STX) stored |= word;
    if ((code === (LD | MEM) || code === (LDX | MEM)) && (stored & word) === 0) {
      throw new BadProgram(`load filter: instruction ${at}: loads scratch word ${constants[at]} that nothing has stored`);
    }
    if ((code & 7) !== JMP) continue;
    for (const before of [taken[at] as number, passed[at] as number]) storedAt[before + 1] = (storedAt[before + 1] as number) & stored;
    // What follows a jump is reached only by jumps. The kernel does not say so of what follows a return; nor does this.
    stored = 0xffff;
  }
}

const scratch = new Int32Array(SCRATCH_WORDS);

const half = (bytes: Uint8Array, at: number) => ((bytes[at] as number) << 8) | (bytes[at + 1] as number);
const word = (bytes: Uint8Array, at: number) => (half(bytes, at) << 16) | half(bytes, at + 2);

/**
 * Runs a program over `bytes[start, start + captured)` (*borrows*), a packet of `wireLength` bytes of which `captured` were kept; the
 * range lies within `bytes`. Answers how many bytes of it are accepted, 0 to 2^32 - 1: 0 for none, and more than it has for all.
 * A load beyond the captured bytes and a division by zero answer 0. Never throws, allocates nothing.
 */
export function runBpf(program: BpfProgram, bytes: Uint8Array, start: number, captured: number, wireLength: number): number {
  const { cases, constants, taken, passed } = program;
  // Registers hold 32 bits as signed integers; `>>> 0` where the sign would matter.
  let a = 0;
  let x = 0;
  for (let at = 0; ; at += 1) {
    const k = constants[at] as number;
    switch (cases[at]) {
      case 0: // ldh [k]
        if (k > captured - 2) return 0;
        a = half(bytes, start + k);
        break;
      case 1: // jeq #k
        at = (a === k ? taken[at] : passed[at]) as number;
        break;
      case 2: // ldb [k]
        if (k >= captured) return 0;
        a = bytes[start + k] as number;
        break;
      case 3: // ld [k]
        if (k > captured - 4) return 0;
        a = word(bytes, start + k);
        break;
      case 4: // ldxb 4*([k]&0xf)
        if (k >= captured) return 0;
        x = ((bytes[start + k] as number) & 15) << 2;
        break;
      case 5: // ldh [x + k]
        if (x < 0 || x + k > captured - 2) return 0;
        a = half(bytes, start + x + k);
        break;
      case 6: // ldb [x + k]
        if (x < 0 || x + k >= captured) return 0;
        a = bytes[start + x + k] as number;
        break;
      case 7: // ld [x + k]
        if (x < 0 || x + k > captured - 4) return 0;
        a = word(bytes, start + x + k);
        break;
      case 8: // ret #k
        return k >>> 0;
      case 9: // ret a
        return a >>> 0;
      case 10: // ja
        at = taken[at] as number;
        break;
      case 11: // jeq x
        at = (a === x ? taken[at] : passed[at]) as number;
        break;
      case 12: // jgt #k
        at = (a >>> 0 > k >>> 0 ? taken[at] : passed[at]) as number;
        break;
      case 13: // jgt x
        at = (a >>> 0 > x >>> 0 ? taken[at] : passed[at]) as number;
        break;
      case 14: // jge #k
        at = (a >>> 0 >= k >>> 0 ? taken[at] : passed[at]) as number;
        break;
      case 15: // jge x
        at = (a >>> 0 >= x >>> 0 ? taken[at] : passed[at]) as number;
        break;
      case 16: // jset #k
        at = ((a & k) !== 0 ? taken[at] : passed[at]) as number;
        break;
      case 17: // jset x
        at = ((a & x) !== 0 ? taken[at] : passed[at]) as number;
        break;
      case 18: // ld #k
        a = k;
        break;
      case 19: // ld M[k]
        a = scratch[k] as number;
        break;
      case 20: // ld len
        a = wireLength | 0;
        break;
      case 21: // ldx #k
        x = k;
        break;
      case 22: // ldx M[k]
        x = scratch[k] as number;
        break;
      case 23: // ldx len
        x = wireLength | 0;
        break;
      case 24: // st M[k]
        scratch[k] = a;
        break;
      case 25: // stx M[k]
        scratch[k] = x;
        break;
      case 26: // tax
        x = a;
        break;
      case 27: // txa
        a = x;
        break;
      case 28: // add #k
        a = (a + k) | 0;
        break;
      case 29: // add x
        a = (a + x) | 0;
        break;
      case 30: // sub #k
        a = (a - k) | 0;
        break;
      case 31: // sub x
        a = (a - x) | 0;
        break;
      case 32: // mul #k
        a = Math.imul(a, k);
        break;
      case 33: // mul x
        a = Math.imul(a, x);
        break;
      case 34: // div #k
        a = ((a >>> 0) / (k >>> 0)) | 0;
        break;
      case 35: // div x
        if (x === 0) return 0;
        a = ((a >>> 0) / (x >>> 0)) | 0;
        break;
      case 36: // mod #k
        a = ((a >>> 0) % (k >>> 0)) | 0;
        break;
      case 37: // mod x
        if (x === 0) return 0;
        a = ((a >>> 0) % (x >>> 0)) | 0;
        break;
      case 38: // or #k
        a |= k;
        break;
      case 39: // or x
        a |= x;
        break;
      case 40: // and #k
        a &= k;
        break;
      case 41: // and x
        a &= x;
        break;
      case 42: // xor #k
        a ^= k;
        break;
      case 43: // xor x
        a ^= x;
        break;
      case 44: // lsh #k
        a <<= k;
        break;
      case 45: // lsh x
        a = x >>> 0 > 31 ? 0 : a << x;
        break;
      case 46: // rsh #k
        a = (a >>> k) | 0;
        break;
      case 47: // rsh x
        a = x >>> 0 > 31 ? 0 : (a >>> x) | 0;
        break;
      case 48: // neg
        a = -a | 0;
        break;
    }
  }
}
