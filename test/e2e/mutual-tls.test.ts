// TCP with certificates on both sides, as a user sets it up: flags of the agent, the command line as client, and a foreign client in Python.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { connect } from '../../src/rpc/client.ts';
import { startAgent } from '../harness/agent.ts';
import { Certificates } from '../harness/certificates.ts';
import { run } from '../harness/process.ts';
import { pythonStubs } from '../harness/python-stubs.ts';

const CALL = `
import grpc
from taplane.v1 import node_service_pb2, node_service_pb2_grpc
read = lambda path: open(path, 'rb').read()
target, ca, key, certificate = sys.argv[1:5]
def call(credentials):
    node = node_service_pb2_grpc.NodeServiceStub(grpc.secure_channel(target, credentials)).GetNode(node_service_pb2.GetNodeRequest(), timeout=30)
    return [(c.type, c.status == 1) for c in node.conditions if c.type == 'TlsCertificate']
print(call(grpc.ssl_channel_credentials(read(ca), read(key), read(certificate))))
try:
    call(grpc.ssl_channel_credentials(read(ca)))
except grpc.RpcError as error:
    print(error.code().name)
`;

it('is served to those with a certificate, from the command line and from Python', async () => {
  using certificates = new Certificates();
  const ca = certificates.authority('ca');
  const server = certificates.issue('ca', 'server', 'DNS:localhost,IP:127.0.0.1', 90);
  const client = certificates.issue('ca', 'client', 'URI:spiffe://cluster.local/controller');
  const policy = join(certificates.folder, 'policy.yaml');
  const identity = '{ spiffe: "spiffe://cluster.local/controller", roles: [reader] }';
  writeFileSync(policy, `version: 1\nroles: { reader: { methods: [read] } }\nidentities: [${identity}]\n`, { mode: 0o600 });
  const tls = ['--tls-cert', server.certificateFile, '--tls-key', server.privateKeyFile, '--tls-client-ca', ca, '--policy', policy];
  await using agent = await startAgent({ args: ['--listen', '127.0.0.1:0', '--metrics-listen', '127.0.0.1:0', ...tls] });
  const [address = ''] = JSON.parse(agent.log.split('\n').find((line) => line.includes('"ready"')) ?? '{}').addresses as string[];
  expect(address).toMatch(/^127\.0\.0\.1:\d+$/);

  const taplane = (...args: string[]) => run(['bin/taplane', '--server', address, ...args, 'node', 'status', '-o', 'json']);
  const known = ['--server-ca', ca, '--client-cert', client.certificateFile, '--client-key', client.privateKeyFile];
  const [good, bare] = await Promise.all([taplane(...known), taplane('--server-ca', ca)]);
  expect(good).toMatchObject({ code: 0, stderr: '' });
  expect(JSON.parse(good.stdout)).toMatchObject({
    conditions: expect.arrayContaining([expect.objectContaining({ type: 'TlsCertificate' })]),
  });
  expect(bare).toMatchObject({ code: 6, stderr: expect.stringContaining('it wants a certificate of the client') });
  expect(bare.stderr).toContain('--client-cert FILE --client-key FILE');

  // What a scraper sees of it: all conditions of the node, also those that interfaces do not make.
  const [scraped = ''] = agent.log.split('\n').filter((line) => line.includes('"http listening"'));
  const page = await (await fetch(`http://${JSON.parse(scraped).address}/metrics`)).text();
  for (const type of ['Ready', 'AuditWritten', 'AuditIntact', 'TlsCertificate'])
    expect(page).toContain(`taplane_node_condition{type="${type}"} 1\n`);
  for (const what of ['certificates', 'policy']) {
    expect(page).toContain(`taplane_reload_ok{what="${what}"} 1\n`);
    expect(page).toContain(`taplane_reload_failures_total{what="${what}"} 0\n`);
  }
  const [, ends = '0'] = /^taplane_tls_certificate_not_after_timestamp_seconds (\d+)$/m.exec(page) ?? [];
  expect(Number(ends) - Date.now() / 1000).toBeGreaterThan(89 * 86_400);

  const alike = certificates.issue('ca', 'alike', 'URI:spiffe://cluster.local/controller-2');
  const files = { caFile: ca, certFile: alike.certificateFile, keyFile: alike.privateKeyFile };
  await using stranger = connect(address, { timeoutMs: 30_000, tls: files });
  await expect(stranger.node.getNode()).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });

  using stubs = await pythonStubs();
  const python = await run(stubs.program('call.py', CALL, address, ca, client.privateKeyFile, client.certificateFile));
  expect(python.stdout.trim().split('\n')).toEqual(["[('TlsCertificate', True)]", 'UNAVAILABLE']);
});
