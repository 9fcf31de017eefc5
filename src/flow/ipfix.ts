// Flow records as IPFIX messages (RFC 7011). Pure but for the sequence number, which an encoder counts on.
//
//   | version 10, 2 | length 2 | export time, s 4 | sequence number 4 | observation domain 4 | sets |     set: | id 2 | length 2 | records |
//
// A record becomes one data record for each direction that had packets, forward first, because most collectors read no reverse elements;
// with `biflow` one data record with both (RFC 5103). Counts are deltas, so that START, UPDATE and END all are sent and add up.
// octetDeltaCount is what is behind the Ethernet header, also for what is no IP: collectors that know no other count lose nothing.
// An overflow record has a template without addresses; its octets are all that the interface carried, since what they were is not known.

import type { FlowBatch } from '../gen/taplane/v1/flow.ts';
import { type IpfixRecord, type Template, templateOf, templates } from './ipfix-template.ts';
import { type InterfaceIndex, oneWays } from './one-way.ts';

export interface IpfixMessage {
  /** A whole message: the payload of one datagram. */
  bytes: Buffer;
  /** Data records in it. */
  records: number;
  /** Templates in it. */
  templates: number;
}

export interface IpfixEncoderOptions {
  /** 1 to 2^32 - 1; names the exporter among others behind the same address. */
  observationDomainId: number;
  interfaceIndex: InterfaceIndex;
  /** Both directions in one data record. */
  biflow?: boolean;
  /** Longest message, at least 512. */
  maxBytes?: number;
}

export interface IpfixEncoder {
  /**
   * Messages with all records of the batch, none when it has none with packets. `announce`: templates go before them.
   * `exportTimeMs` is since 1970. What it gives is to be sent in this order; what is not sent shows as a gap of the sequence number.
   * Throws for what is no batch, with nothing to send of it; the next one is unharmed.
   */
  encode(batch: FlowBatch, exportTimeMs: number, announce: boolean): IpfixMessage[];
}

/** With headers of UDP and IPv6 it leaves 52 bytes of an MTU of 1500 to tunnels on the way. */
export const MAX_MESSAGE_BYTES = 1400;

const VERSION = 10;
const MESSAGE_HEADER = 16;
const SET_HEADER = 4;
const TEMPLATE_SET = 2;

/** Starts with sequence number 0. */
export function ipfixEncoder({
  observationDomainId,
  interfaceIndex,
  biflow = false,
  maxBytes = MAX_MESSAGE_BYTES,
}: IpfixEncoderOptions): IpfixEncoder {
  const announced = templates(biflow);
  const out = Buffer.alloc(maxBytes);
  let messages: IpfixMessage[] = [];
  let sequence = 0;
  let end = MESSAGE_HEADER;
  let setStart = 0;
  let setId = 0;
  let records = 0;
  let templateCount = 0;

  function begin(): void {
    end = MESSAGE_HEADER;
    setId = 0;
    records = 0;
    templateCount = 0;
  }

  function closeSet(): void {
    if (setId !== 0) out.writeUInt16BE(end - setStart, setStart + 2);
    setId = 0;
  }

  function closeMessage(exportTimeMs: number): void {
    closeSet();
    if (end > MESSAGE_HEADER) {
      out.writeUInt16BE(VERSION, 0);
      out.writeUInt16BE(end, 2);
      out.writeUInt32BE(Math.floor(exportTimeMs / 1000) >>> 0, 4);
      // Data records before this message; templates do not count (RFC 7011 section 3.1).
      out.writeUInt32BE(sequence, 8);
      out.writeUInt32BE(observationDomainId >>> 0, 12);
      messages.push({ bytes: Buffer.from(out.subarray(0, end)), records, templates: templateCount });
      sequence = (sequence + records) >>> 0;
    }
    begin();
  }

  /** Makes room for `bytes` in a set `id`, and answers where. */
  function place(id: number, bytes: number, exportTimeMs: number): number {
    if (end + (id === setId ? 0 : SET_HEADER) + bytes > maxBytes) closeMessage(exportTimeMs);
    if (id !== setId) {
      closeSet();
      setStart = end;
      setId = id;
      out.writeUInt16BE(id, end);
      end += SET_HEADER;
    }
    const at = end;
    end += bytes;
    return at;
  }

  function write(record: IpfixRecord, exportTimeMs: number): void {
    const template: Template = templateOf(record);
    let at = place(template.id, template.recordBytes, exportTimeMs);
    for (const element of template.elements) {
      element.write(out, at, record);
      at += element.bytes;
    }
    records += 1;
  }

  return {
    encode(batch, exportTimeMs, announce) {
      // A batch before may have thrown in the middle of a record.
      messages = [];
      begin();
      const index = interfaceIndex(batch.interface);
      let isAnnounced = !announce;
      for (const flow of batch.flows) {
        const [first, second] = oneWays(flow, index);
        if (first === undefined) continue;
        if (!isAnnounced) {
          for (const { announcement } of announced) {
            out.set(announcement, place(TEMPLATE_SET, announcement.length, exportTimeMs));
            templateCount += 1;
          }
          isAnnounced = true;
        }
        if (biflow && second) write({ way: first, back: second }, exportTimeMs);
        else {
          write({ way: first }, exportTimeMs);
          if (second) write({ way: second }, exportTimeMs);
        }
      }
      closeMessage(exportTimeMs);
      return messages;
    },
  };
}
