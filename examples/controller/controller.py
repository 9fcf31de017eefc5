#!/usr/bin/python3
"""The controller of controller.ts once more, in Python; README.md says how to make the stubs.

  PYTHONPATH=/tmp/stubs /usr/bin/python3 examples/controller/controller.py --nats nats://192.0.2.10:4222 [--on-demand] [--idle 60] \\
    --agent oslo=unix:/run/oslo/agent.sock,underlay=192.0.2.1 --agent rome=192.0.2.2:7070,underlay=192.0.2.2
"""

import argparse, json, re, signal, socket, threading, time, urllib.parse, uuid
import grpc
from taplane.v1 import event_pb2, flow_pb2, interface_pb2, interface_service_pb2, interface_service_pb2_grpc
from taplane.v1 import link_pb2, link_service_pb2, link_service_pb2_grpc, node_service_pb2, node_service_pb2_grpc

DEVICE, LINK, PORT, MTU, FLOW_S = 'mesh0', 'mesh', 51820, 1420, 150
parser = argparse.ArgumentParser()
for flag, kind in {'--agent': {'action': 'append', 'required': True, 'metavar': 'NAME=ADDRESS,underlay=IP'}, '--nats': {'default': ''},
                   '--on-demand': {'action': 'store_true'}, '--idle': {'type': float, 'default': 60}}.items():
    parser.add_argument(flag, **kind)
flags = parser.parse_args()
began, changed = time.monotonic(), threading.Event()
demands = {}  # flow id -> (numbers of its two hosts, until when it counts)


def say(who, what):
    print(f'{time.monotonic() - began:7.2f} {who:8} {what}', flush=True)


class Host:
    def __init__(self, number, text):
        self.name, address, underlay = re.fullmatch(r'([^=]+)=([^,]+),underlay=(.+)', text).groups()
        self.number, self.link, self.public_key = number, None, b''
        self.endpoint = f'[{underlay}]:{PORT}' if ':' in underlay else f'{underlay}:{PORT}'
        channel = grpc.insecure_channel(address, [('grpc.default_authority', self.name), ('grpc.max_reconnect_backoff_ms', 1000)])
        self.node = node_service_pb2_grpc.NodeServiceStub(channel)
        self.interfaces = interface_service_pb2_grpc.InterfaceServiceStub(channel)
        self.links = link_service_pb2_grpc.LinkServiceStub(channel)

    def ensure(self):
        """Interface and link are there; the agent makes the key, and tells only the public one."""
        addresses = [interface_pb2.Address(cidr=f'10.77.0.{self.number}/24'), interface_pb2.Address(cidr=f'fd77::{self.number}/64')]
        device = interface_pb2.InterfaceSpec(mode='MODE_TUN', up=True, vnet_header=True, mtu=MTU, addresses=addresses)
        link = link_pb2.LinkSpec(interface=f'interfaces/{DEVICE}', protocol='PROTOCOL_WIREGUARD', listen=self.endpoint)
        for what, call, request in [
            (DEVICE, self.interfaces.CreateInterface, interface_service_pb2.CreateInterfaceRequest(
                interface_id=DEVICE, interface=interface_pb2.Interface(spec=device), request_id=str(uuid.uuid4()))),
            (LINK, self.links.CreateLink, link_service_pb2.CreateLinkRequest(
                link_id=LINK, link=link_pb2.Link(spec=link), request_id=str(uuid.uuid4()))),
        ]:
            try:
                call(request, timeout=5)
                say(self.name, f'made {what}')
            except grpc.RpcError as error:
                if error.code() != grpc.StatusCode.ALREADY_EXISTS:
                    raise

    def follow(self):
        told = False
        while True:
            try:
                node = self.node.GetNode(node_service_pb2.GetNodeRequest(), timeout=5)
                say(self.name, f'is {node.name}, Taplane {node.version}, Linux {node.kernel_release}')
                self.ensure()
                told = False
                for answer in self.links.WatchLinks(link_service_pb2.WatchLinksRequest(name=f'links/{LINK}')):
                    kind = answer.WhichOneof('event')
                    if kind == 'deleted':
                        self.ensure()
                    elif kind in ('added', 'modified'):
                        self.tell(getattr(answer, kind))
            except grpc.RpcError as error:
                if not told:
                    say(self.name, f'away: {error.details()}')
                told = True
            self.link = None  # The key stays: the others keep their sessions with it.
            time.sleep(0.2)

    def tell(self, link):
        def words(one):
            up = ' '.join(peer.display_name for peer in one.status.peers if peer.up)
            return f'{link_pb2.LinkStatus.State.Name(one.status.state)[6:].lower()}, peers up: {up or "none"}'
        if link.status.state and (self.link is None or words(self.link) != words(link)):
            say(self.name, words(link))
        self.link, self.public_key = link, link.status.public_key or self.public_key
        changed.set()

    def repair(self):
        """Declared, compared, applied: the peers of this host."""
        text_of = lambda peer: f'{peer.endpoint} {peer.public_key} {peer.allowed_prefixes}'
        link, pairs = self.link, [pair for pair, _ in list(demands.values())]
        peers = [link_pb2.LinkPeer(display_name=other.name, endpoint=other.endpoint, public_key=other.public_key, keepalive=25,
                                   allowed_prefixes=[f'10.77.0.{other.number}/32', f'fd77::{other.number}/128'])
                 for other in hosts if other is not self and other.public_key and (not flags.on_demand or {self.number, other.number} in pairs)]
        if link is None or sorted(map(text_of, peers)) == sorted(map(text_of, link.spec.peers)):
            return
        wanted = link_pb2.Link(name=link.name, etag=link.etag, spec=link_pb2.LinkSpec(peers=peers))
        request = link_service_pb2.UpdateLinkRequest(link=wanted, update_mask={'paths': ['spec.peers']}, request_id=str(uuid.uuid4()))
        try:
            self.link = self.links.UpdateLink(request, timeout=5)
            say(self.name, f'its peers are now: {" ".join(peer.display_name for peer in peers) or "none"}')
        except grpc.RpcError as error:
            say(self.name, f'change its peers: {error.details()}')


def number_of(address):
    prefix = bytes([10, 77, 0]) if len(address) == 4 else b'\xfd\x77' + bytes(13)
    return address[-1] if address.startswith(prefix) else 0


def seen(flows):
    for flow in flows:
        pair = {number_of(flow.source_address), number_of(flow.destination_address)}
        if len(pair) == 2 and pair <= {host.number for host in hosts}:
            demands[flow.flow_id] = pair, time.monotonic() + (flags.idle if flow.event == flow_pb2.Flow.EVENT_END else FLOW_S)
            changed.set()


def listen():
    """Flows and events of all hosts, by the text protocol of NATS."""
    url = urllib.parse.urlparse(open(flags.nats).read().strip() if flags.nats.startswith('/') else flags.nats)
    options = {'verbose': False, 'headers': True, **({'user': url.username, 'pass': url.password} if url.username else {})}
    while flags.nats:
        try:
            with socket.create_connection((url.hostname, url.port or 4222)) as connection, connection.makefile('rb') as lines:
                connection.sendall(b'CONNECT %s\r\nSUB taplane.v1.*.*.flow.> 1\r\nSUB taplane.v1.*.*.event.> 2\r\n' % json.dumps(options).encode())
                while words := lines.readline().split():
                    if words[0] == b'PING':
                        connection.sendall(b'PONG\r\n')
                    if words[0] not in (b'MSG', b'HMSG'):
                        continue
                    data = lines.read(int(words[-1]) + 2)[int(words[-2]) if words[0] == b'HMSG' else 0:-2]
                    if words[2] == b'1':
                        seen(flow_pb2.FlowBatch.FromString(data).flows)
                    else:
                        event = event_pb2.Event.FromString(data)
                        say('nats', f'{event.node}: {event_pb2.Event.Kind.Name(event.kind)[5:].lower()} {event.resource} {event.message}'.rstrip())
        except OSError as error:
            say('nats', str(error))
        time.sleep(1)


signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends it without a traceback.
hosts = [Host(index + 1, text) for index, text in enumerate(flags.agent)]
for job in [listen, *(host.follow for host in hosts)]:
    threading.Thread(target=job, daemon=True).start()
while True:
    changed.wait(1)
    changed.clear()
    for flow_id in [flow_id for flow_id, (_, until) in list(demands.items()) if until < time.monotonic()]:
        del demands[flow_id]
    for host in hosts:
        host.repair()
