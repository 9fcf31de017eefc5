// The programs around: an agent that answers on its socket, a nats-server when an embedded one is wanted, the login to another.

import { connect } from 'node:net';
import { type NatsFiles, natsConnectionOptions } from '../../nats/login.ts';
import { parseNatsUrl } from '../../nats/url.ts';
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

/** What the files with the login to NATS are like. */
export interface NatsLoginReading {
  /** Some are given. */
  wanted: boolean;
  /** Why they are of no use, with the name of the file; empty when they are. */
  error: string;
  /** Files with a secret that every user of the node can read. */
  exposed: string[];
}

/** Reads them as the agent does for each connection; dials nobody. */
export async function readNatsLogin(mode: string, files: NatsFiles): Promise<NatsLoginReading> {
  const reading: NatsLoginReading = { wanted: Object.values(files).some(Boolean), error: '', exposed: [] };
  if (!reading.wanted || mode === 'off' || mode === 'embedded') return { ...reading, wanted: false };
  try {
    await natsConnectionOptions(parseNatsUrl(mode), { name: 'doctor', files, exposed: (path) => void reading.exposed.push(path) });
  } catch (error) {
    reading.error = (error as Error).message;
  }
  return reading;
}

export function judgeNatsLogin({ wanted, error, exposed }: NatsLoginReading): Check[] {
  const name = 'nats-login';
  if (!wanted) return [];
  if (error !== '')
    return [
      warn(
        name,
        error,
        'put the file there, readable for the user of the agent: it is read anew for each connection; without it nothing is published',
      ),
    ];
  if (exposed.length > 0) return [warn(name, `every user of the node can read ${exposed.join(', ')}`, `chmod o-rwx ${exposed.join(' ')}`)];
  return [pass(name, 'the files for the login to NATS can be read')];
}
