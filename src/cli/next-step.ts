// One thing to do after a failure: by its reason where that says enough, else by its code. Nothing is better than a detour: where
// the message or a precondition names the cure, there is no next step.

/** What ClientError and TaplaneError have in common. */
export interface Failure {
  code: string;
  message: string;
  reason: string;
  fields: readonly { field: string; description: string }[];
  preconditions: readonly { type: string; subject: string; description: string }[];
  metadata: Readonly<Record<string, string>>;
  server?: string;
}

const DOCTOR = 'see what the node lacks: taplane doctor';
const UPDATE = 'change it: taplane interface update';

const BY_REASON: Record<string, string | ((failure: Failure) => string | undefined)> = {
  CAPABILITY_MISSING: DOCTOR,
  AUDIT_NOT_WRITABLE: 'see what is wrong with its disk: taplane node status',
  TUN_DEVICE_UNAVAILABLE: DOCTOR,
  SYSCTL_READ_ONLY: DOCTOR,
  FILTER_INVALID: 'see the language: man pcap-filter',
  DEVICE_BUSY: ({ metadata }) => `only watch it: taplane capture ${metadata['interface'] ?? 'INTERFACE'}`,
  LANE_UNAVAILABLE: 'try again in a moment; see whether it runs: taplane node status',
  TOO_MANY_STREAMS: 'end other streams and captures first, or ask for less: --queue, --window',
  TOO_MANY_OBSERVERS: 'end another taplane flow observe or top; or observe through NATS: --nats URL',
  NATS_UNAVAILABLE: ({ message }) =>
    /authori[sz]ation|authentication|permissions? violation/i.test(message)
      ? 'log in as one who may subscribe: --nats-creds FILE, --nats-nkey FILE, or --nats nats://USER:PASSWORD@HOST:4222'
      : 'see whether it runs, and whether the address is right: --nats nats://HOST:4222',
  // The precondition names the file or flag; trying again changes nothing.
  TLS_FAILED: () => undefined,
  STREAM_MISSING: 'watch new records: --follow; or let a stream keep taplane.v1.*.*.flow.>',
  DEVICE_NOT_FOUND: 'see what there is: ip link',
  INTERFACE_EXISTS: ({ message }) => (message.startsWith('adopt') ? UPDATE : `choose another name, or ${UPDATE}`),
  RESPONDER_EXISTS: 'choose another: --id; or delete it first: taplane responder delete',
  RESPONDER_NOT_FOUND: 'see what there is: taplane responder list',
  LINK_EXISTS: 'choose another name, or change it: taplane link update',
  LINK_NOT_FOUND: 'see what there is: taplane link list',
  INTERFACE_HAS_LINK: ({ message, metadata }) => {
    const link = metadata['link']?.replace(/^links\//, '') ?? 'LINK';
    const instead = message.startsWith('delete') ? '' : `add peers to the one that is there: taplane link peer add ${link}; or `;
    return `${instead}delete the link first: taplane link delete ${link}`;
  },
  WRONG_MODE: 'take an interface of the other mode, or make one: taplane interface create --mode tap|tun',
  TOO_MANY_LINKS: 'delete links that are not needed, or raise limits.links of the agent',
  ROUTE_THROUGH_ITSELF: 'keep its packets off the route: --mark with a rule for it, or --bind-device DEVICE; or allow narrower prefixes',
  PEER_NOT_FOUND: 'name one of its peers: taplane link get; then --peer ENDPOINT, NAME or KEY',
  NO_PROBE_ADDRESS: 'say which inner address of the peer answers pings: probe=IP of its --peer',
  LINK_NOT_READY: 'see why: taplane link get',
  PROBE_RUNNING: 'wait until the probe that is under way has ended',
  PROBE_UNDER_WAY: 'wait until the probe that is under way has ended',
  DEVICE_MISSING: ({ metadata }) => `see why: taplane interface get ${metadata['interface'] ?? 'NAME'} -o yaml`,
  // The message says already what else to do, and of a TUN or TAP that it may be adopted.
  NAME_TAKEN: ({ metadata }) => (['tun', 'tap'].includes(metadata['kind'] ?? '') ? undefined : 'see what has it: ip -d link'),
};

/** What a bad field of a question for flows is called on the command line. */
const FLOW_FLAGS: Record<string, string> = {
  source_ip: 'from-ip',
  destination_ip: 'to-ip',
  source_port: 'from-port',
  destination_port: 'to-port',
  mac_address: 'mac',
  field_mask: 'fields',
};

function flowFlag({ fields }: Failure): string | undefined {
  const [, inFilter, mask] = /^(?:(?:allow|deny)\[\d+\]\.(\w+)|(field_mask))\b/.exec(fields[0]?.field ?? '') ?? [];
  const field = inFilter ?? mask;
  return field && `--${FLOW_FLAGS[field] ?? field.replaceAll('_', '-')}`;
}

/** What a bad field of a link is called on the command line; of a peer, the key within --peer. */
const LINK_FLAGS: Record<string, string> = {
  socket_mark: 'mark',
  wireguard: 'protocol',
  vxlan: 'protocol',
  tls: 'protocol',
  'wireguard.private_key': 'private-key',
  'vxlan.vni': 'vni',
  'vxlan.age_seconds': 'age',
  'vxlan.max_addresses': 'max-addresses',
  'vxlan.storm_limit': 'storm-limit',
  'tls.certificate_file': 'tls-cert',
  'tls.private_key_file': 'tls-key',
  'tls.ca_file': 'tls-ca',
  'tls.peer_name': 'tls-peer-name',
};
const PEER_KEYS: Record<string, string> = {
  allowed_prefixes: 'allowed',
  mac_addresses: 'mac',
  display_name: 'name',
  probe_address: 'probe',
};

function linkFlag({ fields }: Failure): string | undefined {
  const [, field = '', inPeer] = /^link\.spec\.((?:wireguard|vxlan|tls)\.\w+|\w+)(?:\[\d+\]\.(\w+))?/.exec(fields[0]?.field ?? '') ?? [];
  if (field === '') return undefined;
  if (field === 'peers') return inPeer === undefined ? '--peer' : `${(PEER_KEYS[inPeer] ?? inPeer).replaceAll('_', '-')} of --peer`;
  return `--${LINK_FLAGS[field] ?? field.replaceAll('_', '-')}`;
}

const BY_CODE: Record<string, string> = {
  INVALID_ARGUMENT: 'correct the input; --help shows what is accepted',
  OUT_OF_RANGE: 'start again without the resume token',
  NOT_FOUND: 'see what there is: taplane interface list',
  PERMISSION_DENIED: 'see which roles you have: taplane whoami; ask who runs the agent for one that allows it',
  UNAUTHENTICATED: 'ask who runs the agent for permission',
  ABORTED: 'it was changed meanwhile: read it again and repeat',
  RESOURCE_EXHAUSTED: 'see the limits of the agent: taplane node status',
  DEADLINE_EXCEEDED: 'give it more time: --timeout 60s; see whether the agent is well: taplane node status',
  UNIMPLEMENTED: 'the agent is older than this client: compare with taplane version',
  INTERNAL: 'look into the log of the agent for this id',
};

export function nextStep(failure: Failure): string | undefined {
  const { code, message, reason, server } = failure;
  if (isLockedOut(failure)) return 'run as root, or join the group of the socket';
  if (code === 'UNAVAILABLE' && !(reason in BY_REASON)) {
    if (reason === '' && /ECONNREFUSED|ENOENT|EAI_|ENOTFOUND/.test(message))
      return 'start the agent: taplane agent; or say where it listens: --server or TAPLANE_SERVER';
    return `try again; see whether the agent runs: taplane node status${server ? ` (tried ${server})` : ''}`;
  }
  if (failure.fields[0]?.description.startsWith('must be MODE_TUN')) return 'give --mode tun or --mode tap';
  const flag = flowFlag(failure) ?? (code === 'INVALID_ARGUMENT' ? linkFlag(failure) : undefined);
  if (flag !== undefined) return `correct ${flag}; --help shows what is accepted`;
  const step = BY_REASON[reason] ?? BY_CODE[code];
  return typeof step === 'function' ? step(failure) : step;
}

/** No agent said it, so it has no reason: the kernel does not let this user at the socket. */
export function isLockedOut({ code, message, reason }: Failure): boolean {
  return code === 'UNAVAILABLE' && reason === '' && /EACCES|EPERM/.test(message);
}
