// nats-server in a namespace, and a client of it that knows nothing of Taplane: a TCP socket in Python that speaks the text protocol.
// What comes is told as it is on the wire, headers included.

import type { Stored } from '../flow/stream-reader.ts';
import type { Namespace } from './namespace.ts';
import type { Child } from './process.ts';

export const NATS_PORT = 4222;
const PYTHON = '/usr/bin/python3';

export interface Server {
  address?: string;
  port?: number;
  user?: string;
  password?: string;
}

/** A line for each message: its subject, its headers as they are, and its payload in base64. */
const CLIENT = `
import base64, json, os, socket, sys
address, port, user, password, command = sys.argv[1:6]
rest = sys.argv[6:]
s = socket.create_connection((address, int(port)), 20)
f = s.makefile('rb')
options = {'verbose': False, 'pedantic': True, 'headers': True}
if user: options.update(user=user, **{'pass': password})
def say(text): s.sendall(text.encode())
def messages():
    while True:
        words = f.readline().split()
        if not words: sys.exit('the server closed the connection')
        kind = words[0]
        if kind in (b'MSG', b'HMSG'):
            head = int(words[-2]) if kind == b'HMSG' else 0
            body = f.read(int(words[-1]))
            f.read(2)
            yield kind.decode(), words[1].decode(), words[2].decode(), body[:head].decode(), body[head:]
        elif kind == b'PING': say('PONG\\r\\n')
        elif kind == b'PONG': print('ready', flush=True)
        elif kind == b'-ERR': sys.exit(b' '.join(words).decode())
def tell(kind, subject, headers, payload):
    print(json.dumps({'kind': kind, 'subject': subject, 'headers': headers, 'payload': base64.b64encode(payload).decode()}), flush=True)
say('CONNECT %s\\r\\n' % json.dumps(options))
came = messages()
early = []
# Of this run alone: the consumer of an earlier reader lives on for some seconds, and delivers to whoever listens.
own = os.urandom(8).hex()
answer, deliver = '_answer.' + own, '_deliver.' + own
def call(api, body):
    text = json.dumps(body)
    say('PUB $JS.API.%s %s %d\\r\\n%s\\r\\n' % (api, answer, len(text), text))
    for kind, subject, sid, headers, payload in came:
        # Without JetStream nobody hears: 503.
        if sid == '1': return json.loads(payload) if payload else {'error': {'description': headers.split('\\r\\n')[0]}}
        # A consumer may deliver before its creation is answered.
        early.append((kind, subject, headers, payload))
if command == 'subscribe':
    s.settimeout(None)
    say('SUB %s 1\\r\\nPING\\r\\n' % rest[0])
    for kind, subject, sid, headers, payload in came: tell(kind, subject, headers, payload)
elif command == 'call':
    say('SUB %s 1\\r\\n' % answer)
    print(json.dumps(call(rest[0], json.loads(rest[1]))))
elif command == 'stream':
    say('SUB %s 1\\r\\nSUB %s 2\\r\\n' % (answer, deliver))
    info = call('STREAM.INFO.' + rest[0], {})
    if 'error' in info: sys.exit(json.dumps(info['error']))
    left = info['state']['messages']
    config = {'deliver_subject': deliver, 'deliver_policy': 'all', 'ack_policy': 'none', 'replay_policy': 'instant'}
    made = call('CONSUMER.CREATE.' + rest[0], {'stream_name': rest[0], 'config': config})
    if 'error' in made: sys.exit(json.dumps(made['error']))
    for message in early: tell(*message)
    left -= len(early)
    while left > 0:
        try: kind, subject, sid, headers, payload = next(came)
        except TimeoutError: sys.exit('%d messages do not come of %s' % (left, json.dumps(info)))
        tell(kind, subject, headers, payload)
        left -= 1
`;

export interface RawMessage extends Stored {
  kind: 'MSG' | 'HMSG';
  /** As it is on the wire: `NATS/1.0`, lines, an empty one. */
  headerText: string;
}

function client(server: Server, ...command: string[]): string[] {
  const { address = '127.0.0.1', port = NATS_PORT, user = '', password = '' } = server;
  return [PYTHON, '-u', '-c', CLIENT, address, String(port), user, password, ...command];
}

function parse(stdout: string): RawMessage[] {
  // The last line may not be whole yet.
  const lines = stdout.split('\n').slice(0, -1);
  return lines.filter((line) => line.startsWith('{')).map(message);
}

function message(line: string): RawMessage {
  const { kind, subject, headers, payload } = JSON.parse(line) as Record<string, string>;
  const fields = (headers ?? '').split('\r\n').slice(1).filter(Boolean);
  return {
    kind: kind as RawMessage['kind'],
    subject: subject ?? '',
    headerText: headers ?? '',
    headers: Object.fromEntries(fields.map((field) => [field.slice(0, field.indexOf(':')), field.slice(field.indexOf(':') + 1).trim()])),
    payload: Buffer.from(payload ?? '', 'base64'),
  };
}

export interface Subscriber extends AsyncDisposable {
  messages(): RawMessage[];
  /** Waits for it to have heard what `found` wants. */
  until<Found>(found: (messages: RawMessage[]) => Found | undefined | false, what: string): Promise<Found>;
}

/** Hears all that is published from now on. Throws when the server refuses. */
export async function subscribe(ns: Namespace, subject: string, server: Server = {}): Promise<Subscriber> {
  const child = ns.spawn(client(server, 'subscribe', subject));
  await child.until(({ stdout }) => stdout.includes('ready'), `the subscription of ${subject}`, 20_000);
  return {
    messages: () => parse(child.stdout),
    until: (found, what) => child.until(({ stdout }) => found(parse(stdout)), what, 30_000),
    [Symbol.asyncDispose]: () => child[Symbol.asyncDispose](),
  };
}

/** All messages of a stream, in order. Throws when there is no such stream. */
export async function readStream(ns: Namespace, stream: string, server: Server = {}): Promise<RawMessage[]> {
  const { code, stdout, stderr } = await ns.exec(client(server, 'stream', stream));
  if (code !== 0) throw new Error(`read ${stream}: ${stderr}`);
  return parse(stdout);
}

/** Asks an API of JetStream, such as `STREAM.DELETE.NAME`. */
export async function jetStreamCall(ns: Namespace, api: string, body: object = {}, server: Server = {}): Promise<Record<string, unknown>> {
  const { code, stdout, stderr } = await ns.exec(client(server, 'call', api, JSON.stringify(body)));
  if (code !== 0) throw new Error(`call ${api}: ${stderr}`);
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Record<string, unknown>;
}

export interface ServerOptions {
  binary: string;
  /** Where it listens; 127.0.0.1 without. */
  address?: string;
  /** Folder for JetStream; without one there is none. */
  store?: string;
  more?: string[];
}

/** Resolves once it takes connections. */
export async function startServer(ns: Namespace, { binary, address = '127.0.0.1', store, more = [] }: ServerOptions): Promise<Child> {
  const jetStream = store === undefined ? [] : ['-js', '-sd', store];
  const server = ns.spawn([binary, '-a', address, '-p', String(NATS_PORT), ...jetStream, ...more]);
  await server.until(({ stderr }) => stderr.includes('Server is ready'), 'nats-server', 30_000);
  return server;
}
