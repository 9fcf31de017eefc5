// What link probe does: each reply as ping tells it, then a summary. Ctrl-C ends it.

import { ProbeLinkRequest, ProbeLinkResponse, type ProbeReply, type ProbeResult } from '../gen/taplane/v1/link_service.ts';
import { firstAnswer } from './first-answer.ts';
import { interruption } from './interruption.ts';
import { linkId, linkName, milliseconds, percent } from './link-view.ts';
import { print } from './output.ts';
import { type Settings, withClient } from './settings.ts';
import { printable } from './table.ts';

export interface ProbeOptions {
  peer?: string;
  count?: number;
  interval?: number;
  mtu?: boolean;
  throughput?: number;
}

/** Resolves with whether anything came back, which is what a script wants to know. */
export async function probe(name: string, options: ProbeOptions, settings: Settings): Promise<boolean> {
  const request = ProbeLinkRequest.fromPartial({
    name: linkName(name),
    peer: options.peer ?? '',
    count: options.count ?? 0,
    intervalMs: options.interval ?? 0,
    pathMtu: options.mtu === true,
    throughputSeconds: options.throughput ?? 0,
  });
  const write = await writer(name, settings);
  using stop = interruption();
  using first = firstAnswer(`probe ${linkId(name)}`, settings, stop.stop);
  let isAnswered = false;
  await withClient(settings, async ({ links }) => {
    for await (const answer of links.probe(request, stop.signal)) {
      first.came();
      const { progress } = answer;
      isAnswered ||= progress?.$case === 'reply' ? !progress.value.lost : (progress?.value.received ?? 0) > 0;
      write(answer);
    }
  });
  await first.check();
  return isAnswered;
}

async function writer(name: string, { output }: Settings): Promise<(answer: ProbeLinkResponse) => void> {
  if (output === 'json') return (answer) => print(`${JSON.stringify(ProbeLinkResponse.toJSON(answer))}\n`);
  if (output === 'name') return () => {};
  if (output === 'yaml') {
    const { stringify } = await import('yaml');
    return (answer) => print(`---\n${stringify(ProbeLinkResponse.toJSON(answer))}`);
  }
  return ({ progress }) => {
    if (progress?.$case === 'reply') print(replyLine(name, progress.value));
    if (progress?.$case === 'result') print(resultText(progress.value));
  };
}

function replyLine(name: string, { sequence, lost, roundTrip, bytes }: ProbeReply): string {
  const told = lost || !roundTrip ? `seq=${sequence} lost` : `${bytes} bytes: seq=${sequence} time=${milliseconds(roundTrip)}`;
  return `${printable(linkId(name))}: ${told}\n`;
}

function resultText(result: ProbeResult): string {
  const { name, peer, sent, received, roundTripMin, roundTripMedian, roundTripP99, pathMtu, twoEnded, peerReceived } = result;
  const lines = [
    `--- ${linkId(name)} to ${peer} ---`,
    `${sent} sent, ${received} received, ${percent(sent > 0 ? 1 - received / sent : 0)} loss`,
  ];
  // Which way the lost ones went, only the other end can tell.
  if (twoEnded)
    lines.push(
      `the peer received ${peerReceived}: ${sent - peerReceived} lost on the way there, ${peerReceived - received} on the way back`,
    );
  if (roundTripMin && roundTripMedian && roundTripP99 && received > 0)
    lines.push(`round trip min/median/p99 ${[roundTripMin, roundTripMedian, roundTripP99].map(milliseconds).join(' / ')}`);
  if (pathMtu > 0) lines.push(`largest packet that passes: ${pathMtu} bytes`);
  if (result.throughputOut > 0) lines.push(`to the peer   ${bitRate(result.throughputOut)}, ${percent(result.lossOut)} lost`);
  if (result.throughputIn > 0) lines.push(`from the peer ${bitRate(result.throughputIn)}, ${percent(result.lossIn)} lost`);
  return lines.map((line) => `${printable(line)}\n`).join('');
}

/** Powers of 1000, as rates of networks are told. */
function bitRate(bitsPerSecond: number): string {
  const units = ['bit/s', 'kbit/s', 'Mbit/s', 'Gbit/s'];
  const unit = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(1, bitsPerSecond)) / 3)));
  const value = bitsPerSecond / 1000 ** unit;
  return `${value < 100 ? value.toPrecision(3) : value.toFixed(0)} ${units[unit]}`;
}
