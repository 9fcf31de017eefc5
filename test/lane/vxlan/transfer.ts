// Random bytes over one TCP connection between two namespaces, and their SHA-256 at both ends.

import type { Namespace } from '../../harness/namespace.ts';

const PYTHON = '/usr/bin/python3';

const RECEIVE = `
import hashlib, socket, sys
server = socket.socket(socket.AF_INET6 if ':' in sys.argv[1] else socket.AF_INET)
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind((sys.argv[1], int(sys.argv[2])))
server.listen()
print('listening', flush=True)
connection, _ = server.accept()
digest = hashlib.sha256()
while data := connection.recv(1 << 16):
    digest.update(data)
print(digest.hexdigest())
`;

const SEND = `
import hashlib, os, socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), 20)
digest = hashlib.sha256()
for _ in range(int(sys.argv[3])):
    data = os.urandom(1 << 20)
    digest.update(data)
    connection.sendall(data)
connection.close()
print(digest.hexdigest())
`;

/** Sends `mebibytes` to `address` of `to`; answers both digests, which should be one. */
export async function transfer(
  from: Namespace,
  to: Namespace,
  address: string,
  port: number,
  mebibytes: number,
): Promise<[string, string]> {
  await using receiver = to.spawn([PYTHON, '-c', RECEIVE, address, String(port)]);
  await receiver.until(({ stdout }) => stdout.includes('listening'), 'the receiver');
  const sent = await from.exec([PYTHON, '-c', SEND, address, String(port), String(mebibytes)], { timeoutMs: 60_000 });
  if (sent.code !== 0) throw new Error(`send to ${address}: ${sent.stderr}`);
  const { stdout } = await receiver.ended;
  return [sent.stdout.trim(), stdout.replace('listening', '').trim()];
}
