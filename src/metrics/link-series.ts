// Series of links and their peers. Counts are those of the lane: they begin anew with it, and end with the link.

import { capped, OTHERS } from './cap.ts';
import { counter, gauge, type Labels, type Sample, type Series, tally } from './series.ts';
import type { LinkFacts, NodeSnapshot, PeerFacts, TrafficFacts } from './snapshot.ts';

const PROTOCOLS = ['frames', 'vxlan', 'wireguard'] as const;
const STATES = ['unknown', 'waiting', 'connecting', 'up'] as const;
const KINDS: Labels[] = PROTOCOLS.flatMap((protocol) => STATES.map((state) => ({ protocol, state })));
const PEER_KINDS: Labels[] = PROTOCOLS.flatMap((protocol) => ['up', 'down'].map((state) => ({ protocol, state })));

interface NamedPeer extends PeerFacts {
  labels: Labels;
  protocol: string;
}

const flattened = new WeakMap<NodeSnapshot, NamedPeer[]>();

/** All peers of all links, each with labels that no other has. */
function peersOf(snapshot: NodeSnapshot): NamedPeer[] {
  const known = flattened.get(snapshot);
  if (known !== undefined) return known;
  const peers = snapshot.links.flatMap(({ name: link, protocol, peers }) => {
    const counts = new Map<string, number>();
    // Those that a peer bears already go first: somebody may be called `a#2`.
    const taken = new Set(peers.map(({ name }) => name));
    return peers.map((peer) => {
      let count = (counts.get(peer.name) ?? 0) + 1;
      while (count > 1 && taken.has(`${peer.name}#${count}`)) count++;
      counts.set(peer.name, count);
      return { ...peer, protocol, labels: { link, peer: count === 1 ? peer.name : `${peer.name}#${count}` } };
    });
  });
  flattened.set(snapshot, peers);
  return peers;
}

const linkLabels = ({ name }: LinkFacts): Labels => ({ link: name });

function ofLink(name: string, help: string, amountOf: (traffic: TrafficFacts) => number): Series {
  const read = ({ links, perInterface }: NodeSnapshot) =>
    capped(links, perInterface, linkLabels, ({ traffic }) => amountOf(traffic), { link: OTHERS });
  return counter(name, help, read, ['link']);
}

const PEER_OTHERS: Labels = { link: OTHERS, peer: OTHERS };

function ofPeer(make: typeof gauge, name: string, help: string, amountOf: (peer: NamedPeer) => number | undefined): Series {
  const others = make === counter ? PEER_OTHERS : undefined;
  const read = (snapshot: NodeSnapshot) => capped(peersOf(snapshot), snapshot.perInterface, ({ labels }) => labels, amountOf, others);
  return make(name, help, read, ['link', 'peer']);
}

function* drops({ links, perInterface }: NodeSnapshot): Generator<Sample> {
  for (const { name, drops: counts } of links.slice(0, perInterface))
    for (const [reason, value] of Object.entries(counts)) yield { labels: { link: name, reason }, value };
  const rest = new Map<string, number>();
  for (const { drops: counts } of links.slice(perInterface))
    for (const [reason, value] of Object.entries(counts)) rest.set(reason, (rest.get(reason) ?? 0) + value);
  for (const [reason, value] of rest) yield { labels: { link: OTHERS, reason }, value };
}

export const LINK_SERIES: readonly Series[] = [
  gauge(
    'links',
    'Links by protocol and state; `unknown`: the lane has not answered.',
    ({ links }) => tally(links, KINDS, ({ protocol, state }) => ({ protocol, state })),
    ['protocol', 'state'],
  ),
  gauge('links_limit', 'Most links that may exist.', ({ limits }) => limits.links),
  gauge(
    'link_peers',
    'Peers of links by protocol and state.',
    (snapshot) => tally(peersOf(snapshot), PEER_KINDS, ({ protocol, up }) => ({ protocol, state: up ? 'up' : 'down' })),
    ['protocol', 'state'],
  ),
  gauge(
    'link_up',
    'At least one peer of the link is up (1) or none is (0).',
    ({ links, perInterface }) => capped(links, perInterface, linkLabels, ({ state }) => Number(state === 'up')),
    ['link'],
  ),
  ofLink('link_received_packets_total', 'Inner packets that came from peers of the link.', ({ receivedPackets }) => receivedPackets),
  ofLink('link_received_bytes_total', 'Bytes of these packets.', ({ receivedBytes }) => receivedBytes),
  ofLink('link_sent_packets_total', 'Inner packets sent to peers of the link.', ({ sentPackets }) => sentPackets),
  ofLink('link_sent_bytes_total', 'Bytes of these packets.', ({ sentBytes }) => sentBytes),
  counter('link_dropped_packets_total', 'Packets of the link that went nowhere, by reason (`LinkDrops.Reason`).', drops, [
    'link',
    'reason',
  ]),
  ofPeer(gauge, 'link_peer_up', 'The peer answers (1) or not (0).', ({ up }) => Number(up)),
  ofPeer(counter, 'link_peer_received_bytes_total', 'Inner bytes that came from the peer.', ({ traffic }) => traffic.receivedBytes),
  ofPeer(counter, 'link_peer_sent_bytes_total', 'Inner bytes sent to the peer.', ({ traffic }) => traffic.sentBytes),
  ofPeer(counter, 'link_peer_handshakes_total', 'Handshakes completed with the peer, of wireguard.', ({ handshakes }) => handshakes),
  ofPeer(
    gauge,
    'link_peer_last_handshake_timestamp_seconds',
    'When the last handshake was completed, or the connection made; 0: never.',
    ({ lastHandshakeSeconds }) => lastHandshakeSeconds,
  ),
  ofPeer(
    gauge,
    'link_peer_round_trip_seconds',
    'Round trip of the last probe that was answered.',
    ({ roundTripSeconds }) => roundTripSeconds,
  ),
  ofPeer(gauge, 'link_peer_loss_ratio', 'Share of the last 64 probes that were not answered.', ({ loss }) => loss),
];
