// tcpdump's filter expressions, compiled by libpcap: words in, classic BPF out. The library is loaded at the first use and is not needed
// before. Nothing is opened and nobody is asked: names of hosts are refused (filter-words.ts), everything libpcap gives is freed.
//
// libpcap runs on the thread of the caller: most expressions take well under a millisecond.

import { objectionTo } from './filter-words.ts';
import { copyMemory, openLibrary } from './libc.ts';

const NAMES = ['libpcap.so.0.8', 'libpcap.so.1', 'libpcap.so'];
/** Earlier ones take some of the keywords of filter-words.ts for names of hosts. */
const LEAST_VERSION = [1, 9];
const CACHED = 64;

const OPTIMIZE = 1;
/** PCAP_NETMASK_UNKNOWN: `ip broadcast` is then refused. */
const NETMASK_UNKNOWN = 0xffffffff;
/** MAXIMUM_SNAPLEN, for packets as long as they are. */
const WHOLE = 262144;
const INSTRUCTION_BYTES = 8;
/** BPF_MAXINSNS. */
const MAX_INSTRUCTIONS = 4096;

/** LINKTYPE_ETHERNET and LINKTYPE_RAW as files name them (tcpdump.org/linktypes), and libpcap on Linux: DLT_EN10MB, DLT_RAW. */
export type FilterLinkType = 1 | 101;
const dltByLinkType = { 1: 1, 101: 12 } as const;

/** An expression that is not accepted; `reason` in libpcap's words where it was libpcap. */
export class FilterError extends Error {
  override readonly name = 'FilterError';
  readonly reason: string;

  constructor(reason: string) {
    super(`compile filter: ${reason}`);
    this.reason = reason;
  }
}

/** There is no libpcap that can be used. */
export class LibpcapMissing extends Error {
  override readonly name = 'LibpcapMissing';
}

interface Libpcap {
  version: string;
  openDead(dlt: number, snapLength: number): bigint | null;
  compile(pcap: bigint, program: Uint8Array, expression: string): number;
  errorOf(pcap: bigint): string;
  freeCode(program: Uint8Array): void;
  close(pcap: bigint): void;
}

let loaded: Libpcap | undefined;

/** Loads it once; a library that is missing is looked for again at the next call. */
function load(): Libpcap | undefined {
  if (loaded) return loaded;
  const library = openLibrary(NAMES);
  if (!library) return undefined;
  const compile = library.declare('int pcap_compile(void *pcap, void *program, const char *expression, int optimize, uint32_t netmask)');
  loaded = {
    version: String(library.declare('const char *pcap_lib_version()')()),
    openDead: library.declare('void *pcap_open_dead(int linkType, int snapLength)') as Libpcap['openDead'],
    compile: (pcap, program, expression) => compile(pcap, program, expression, OPTIMIZE, NETMASK_UNKNOWN) as number,
    errorOf: library.declare('const char *pcap_geterr(void *pcap)') as Libpcap['errorOf'],
    freeCode: library.declare('void pcap_freecode(void *program)') as Libpcap['freeCode'],
    close: library.declare('void pcap_close(void *pcap)') as Libpcap['close'],
  };
  return loaded;
}

/** What libpcap calls itself, such as `libpcap version 1.10.3 (with TPACKET_V3)`; undefined when there is none. */
export function libpcapVersion(): string | undefined {
  return load()?.version;
}

function usable(): Libpcap {
  const libpcap = load();
  if (!libpcap) throw new LibpcapMissing(`load libpcap: none of ${NAMES.join(', ')} is there`);
  const [major = 0, minor = 0] = /(\d+)\.(\d+)/.exec(libpcap.version)?.slice(1).map(Number) ?? [];
  const [leastMajor = 0, leastMinor = 0] = LEAST_VERSION;
  if (major < leastMajor || (major === leastMajor && minor < leastMinor)) {
    throw new LibpcapMissing(`load libpcap: ${libpcap.version} is older than ${LEAST_VERSION.join('.')}`);
  }
  return libpcap;
}

/** The programs that were asked for last, in the order of their use. */
const cache = new Map<string, Uint8Array>();

/**
 * Compiles an expression of pcap-filter(7), at most 2048 bytes of ASCII, for packets that begin with an Ethernet (1) or an IP header (101).
 * Answers an array of `struct sock_filter` that is the caller's; it accepts with `snapLength` (0 for whole packets). The empty expression
 * accepts everything. Throws FilterError, LibpcapMissing.
 */
export function compileFilter(expression: string, linkType: FilterLinkType, snapLength: number): Uint8Array {
  const key = `${linkType} ${snapLength} ${expression}`;
  const known = cache.get(key);
  if (known) cache.delete(key);
  const bytes = known ?? compile(expression, linkType, snapLength === 0 ? WHOLE : snapLength);
  cache.set(key, bytes);
  for (const oldest of cache.keys()) {
    if (cache.size <= CACHED) break;
    cache.delete(oldest);
  }
  return bytes.slice();
}

function compile(expression: string, linkType: FilterLinkType, snapLength: number): Uint8Array {
  const objection = objectionTo(expression);
  if (objection !== undefined) throw new FilterError(objection);
  const libpcap = usable();
  const pcap = libpcap.openDead(dltByLinkType[linkType], snapLength);
  if (pcap === null) throw new FilterError('pcap_open_dead: out of memory');
  try {
    // struct bpf_program: u32 count, 4 bytes of padding, pointer to the instructions. libpcap leaves it empty when it fails.
    const program = Buffer.alloc(16);
    try {
      if (libpcap.compile(pcap, program, expression) !== 0) throw new FilterError(libpcap.errorOf(pcap));
      const count = program.readUInt32LE(0);
      if (count > MAX_INSTRUCTIONS) throw new FilterError(`it needs ${count} instructions, at most ${MAX_INSTRUCTIONS}`);
      return copyMemory(program.readBigUInt64LE(8), count * INSTRUCTION_BYTES);
    } finally {
      libpcap.freeCode(program);
    }
  } finally {
    libpcap.close(pcap);
  }
}
