// The flags that say which packets are wanted, common to captures and streams, and the request that they become.

import { type Command, Option } from 'commander';
import { Direction, LinkType, type StreamOpened } from '../gen/taplane/v1/packet.ts';
import { CapturePacketsRequest, type CapturePacketsRequest_Format as Format } from '../gen/taplane/v1/packet_service.ts';
import { idOf, resourceName } from './interface-view.ts';
import { parseCount } from './literals.ts';
import { parseBytes } from './size.ts';

export interface PacketOptions {
  filter?: string;
  snapLength?: number;
  sampling?: number;
  direction?: keyof typeof DIRECTIONS;
  queue?: number;
  count?: number;
}

export interface CaptureLimits {
  bytes?: number;
  /** Milliseconds. */
  duration?: number;
}

const DIRECTIONS = { in: Direction.INBOUND, out: Direction.OUTBOUND, both: Direction.UNSPECIFIED } as const;

export function addPacketFlags(command: Command): Command {
  return command
    .option('--filter <expression>', 'only packets that match, in the language of pcap-filter(7)')
    .addOption(new Option('--snap-length <bytes>', 'bytes of a packet that are kept (default: all)').argParser(parseCount))
    .addOption(new Option('--sampling <n>', 'one matching packet in n (default: all)').argParser(parseCount))
    .addOption(new Option('--direction <direction>', 'seen from the node (default: both)').choices(Object.keys(DIRECTIONS)))
    .addOption(
      new Option('--queue <bytes>', 'what may wait for this client before the oldest is dropped (default: 4M)').argParser(parseBytes),
    )
    .addOption(new Option('--count <n>', 'end after so many packets').argParser(parseCount));
}

/** The fields that captures and streams share. */
export function packetFields(name: string, { filter = '', snapLength = 0, sampling = 0, direction = 'both', queue = 0 }: PacketOptions) {
  return { interface: resourceName(name), filter, snapLength, sampling, direction: DIRECTIONS[direction], queueBytes: queue };
}

/** Told on stderr when a capture or stream is attached: nothing that passes from now on is missed. */
export function attachedLine(verb: string, name: string, { linkType, snapLength }: Pick<StreamOpened, 'linkType' | 'snapLength'>): string {
  const kind = linkType === LinkType.ETHERNET ? 'Ethernet frames' : 'IP packets';
  return `${verb} ${idOf(name)}: ${kind}, ${snapLength} bytes of each at most; Ctrl-C ends`;
}

export function captureRequest(name: string, format: Format, options: PacketOptions & CaptureLimits): CapturePacketsRequest {
  const { count = 0, bytes = 0, duration } = options;
  return CapturePacketsRequest.fromPartial({
    ...packetFields(name, options),
    format,
    maxFrames: BigInt(count),
    maxBytes: BigInt(bytes),
    ...(duration !== undefined && {
      duration: { seconds: BigInt(Math.floor(duration / 1000)), nanos: Math.round((duration % 1000) * 1e6) },
    }),
  });
}
