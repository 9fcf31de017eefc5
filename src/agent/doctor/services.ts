// The programs around: an agent that answers on its socket, a nats-server when an embedded one is wanted.

import { connect } from 'node:net';
import { parseListenAddress } from '../../rpc/listen-address.ts';
import { type Check, pass, warn } from './check.ts';

const CONNECT_MS = 1_000;

/** errno name of a connection attempt, `TIMEOUT`, or empty when somebody answered. A plain connect: no call is made. */
export function dial(server: string): Promise<string> {
  let address: ReturnType<typeof parseListenAddress>;
  try {
    address = parseListenAddress(server);
  } catch {
    return Promise.resolve('EINVAL');
  }
  return new Promise((resolve) => {
    const socket = address.kind === 'unix' ? connect(address.path) : connect(address.port, address.host);
    const end = (answer: string) => {
      socket.destroy();
      resolve(answer);
    };
    socket.setTimeout(CONNECT_MS, () => end('TIMEOUT'));
    socket.once('connect', () => end(''));
    socket.once('error', (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  });
}

export function judgeAgent(server: string, error: string): Check {
  const name = 'agent-socket';
  const start = 'start one: taplane agent, or systemctl start taplane; or name its address with --server or TAPLANE_SERVER';
  switch (error) {
    case '':
      return pass(name, `an agent answers at ${server}`);
    case 'ENOENT':
      return warn(name, `no agent at ${server}`, start);
    case 'ECONNREFUSED':
      return warn(
        name,
        `nobody answers at ${server}: the agent that made this socket is gone`,
        `${start}; the next start removes the old socket`,
      );
    case 'EACCES':
    case 'EPERM':
      return warn(name, `${server} does not let this user in`, 'run as root, or as a member of the group that owns the socket');
    case 'EINVAL':
      return warn(name, `${JSON.stringify(server)} is not an address`, 'write unix:PATH or HOST:PORT');
    default:
      return warn(name, `${server}: ${error}`, start);
  }
}

export function judgeNats(mode: string, binary: string | undefined): Check[] {
  if (mode !== 'embedded') return [];
  if (binary) return [pass('nats-server', binary)];
  return [
    warn(
      'nats-server',
      'the embedded NATS server is wanted, and there is no nats-server on the PATH',
      'apt-get install nats-server, or put the binary on the PATH, or give --nats URL or --nats off',
    ),
  ];
}
