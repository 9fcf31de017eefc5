// A client in another language, with no code of ours: Debian's python3-grpcio with stubs that `protoc` makes
// from the protos alone.

import { expect, it } from 'vitest';
import { startAgent } from '../harness/agent.ts';
import { createNamespace } from '../harness/namespace.ts';
import { pythonStubs } from '../harness/python-stubs.ts';
import { links } from '../harness/truth.ts';

const TOUR = `
import threading, grpc
from google.rpc import status_pb2, error_details_pb2
from taplane.v1 import interface_pb2, interface_service_pb2 as messages, interface_service_pb2_grpc as stubs, node_service_pb2, node_service_pb2_grpc

channel = grpc.insecure_channel(sys.argv[1])
interfaces = stubs.InterfaceServiceStub(channel)
node = node_service_pb2_grpc.NodeServiceStub(channel).GetNode(node_service_pb2.GetNodeRequest())
print('node', node.version)

heard = []
watch = interfaces.WatchInterfaces(messages.WatchInterfacesRequest())
synced = threading.Event()
def listen():
    try:
        for message in watch:
            heard.append(message.WhichOneof('event'))
            if heard[-1] == 'synced': synced.set()
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.CANCELLED, error
thread = threading.Thread(target=listen)
thread.start()
assert synced.wait(30)

spec = interface_pb2.InterfaceSpec(mode=interface_pb2.InterfaceSpec.MODE_TUN, up=True, mtu=1400, addresses=[interface_pb2.Address(cidr='10.44.0.1/24')])
made = interfaces.CreateInterface(messages.CreateInterfaceRequest(interface_id='py%d', interface=interface_pb2.Interface(spec=spec, labels={'from': 'python'})))
print('created', made.name, made.status.effective_mtu, made.status.addresses[0].cidr)
got = interfaces.GetInterface(messages.GetInterfaceRequest(name=made.name))
assert got.uid == made.uid
print('listed', [item.name for item in interfaces.ListInterfaces(messages.ListInterfacesRequest(label_selector={'from': 'python'})).interfaces])
try:
    interfaces.CreateInterface(messages.CreateInterfaceRequest(interface_id='lo', interface=interface_pb2.Interface(spec=interface_pb2.InterfaceSpec(mtu=1))))
except grpc.RpcError as error:
    rich = status_pb2.Status.FromString(dict(error.trailing_metadata())['grpc-status-details-bin'])
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in rich.details:
        detail.Unpack(info) or detail.Unpack(bad)
    print('refused', error.code().name, info.domain, info.reason, sorted(item.field for item in bad.field_violations))
input()
interfaces.DeleteInterface(messages.DeleteInterfaceRequest(name=made.name))
try:
    interfaces.GetInterface(messages.GetInterfaceRequest(name=made.name))
except grpc.RpcError as error:
    print('gone', error.code().name)
import time
end = time.time() + 30
while 'deleted' not in heard and time.time() < end: time.sleep(0.01)
watch.cancel()
thread.join()
print('heard', [kind for index, kind in enumerate(heard) if kind != 'modified'])
`;

it('is served: create, get, list, watch, rich errors, delete, with stubs made by protoc', async () => {
  using stubs = await pythonStubs();
  await using ns = createNamespace();
  await using agent = await startAgent({ namespace: ns });
  const python = ns.spawn(stubs.program('tour.py', TOUR, agent.server));
  await python.until((child) => child.stdout.includes('refused'), 'the refusal');
  expect(links(ns).find(({ ifname }) => ifname === 'py0')).toMatchObject({ mtu: 1400 });
  python.stdin.write('\n');
  const result = await python.ended;
  expect(result.stderr).toBe('');
  expect(result.stdout.trim().split('\n')).toEqual([
    expect.stringMatching(/^node \d+\.\d+\.\d+$/),
    'created interfaces/py0 1400 10.44.0.1/24',
    "listed ['interfaces/py0']",
    "refused INVALID_ARGUMENT taplane.dev INVALID_FIELDS ['interface.spec.mode', 'interface.spec.mtu', 'interface_id']",
    'gone NOT_FOUND',
    "heard ['synced', 'added', 'deleted']",
  ]);
  expect(links(ns).map(({ ifname }) => ifname)).toEqual(['lo']);
});
