// The rules of the source tree as pure functions: text in, one line for each violation out. `test/architecture.test.ts` feeds them the
// tree, and small bad samples to show that each can fail. docs/ says why the rooms are cut as they are; this file is what keeps it so.

import { posix } from 'node:path';

/** Path from the root of the repository, with `/`, and content. */
export interface SourceFile {
  path: string;
  text: string;
}

export interface Import {
  specifier: string;
  /** `await import()`: loaded only when it is needed. */
  lazy: boolean;
}

/** What each room may import of the others: a room, or one file of it without its ending; `?` after it: only lazily. */
export const ROOMS: Record<string, string[]> = {
  main: ['cli', 'agent?', 'lane?'],
  cli: [
    'gen',
    'rpc/client',
    'rpc/status',
    'packet/pcapng',
    'packet/capture-reader',
    'flow/filter',
    'flow/nats-observer?',
    'audit/verify?',
    'audit/wire?',
    'sys/make-directory',
  ],
  agent: [
    'metrics',
    'tracing',
    'rpc',
    'access',
    'audit',
    'interface',
    'link',
    'resource',
    'flow',
    'nats',
    'lane',
    'packet',
    'sys',
    'gen',
    'errors',
  ],
  rpc: ['tracing', 'gen', 'access', 'interface', 'link', 'flow', 'lane/client', 'sys/secret-file', 'sys/make-directory', 'errors'],
  interface: ['tracing', 'gen', 'resource', 'sys', 'errors'],
  link: ['gen', 'resource', 'errors'],
  access: ['gen', 'resource/inet', 'link/anybody', 'flow/glob', 'errors'],
  audit: ['gen', 'access', 'errors'],
  resource: ['gen', 'errors'],
  flow: ['tracing', 'gen', 'nats', 'packet', 'resource/store-version', 'errors'],
  nats: ['gen', 'errors'],
  lane: ['gen', 'sys', 'packet', 'errors'],
  packet: [],
  metrics: [],
  tracing: [],
  sys: [],
  gen: [],
  errors: [],
};

/** An outside package, and the only places that import it: folders, files, or patterns of them. */
export const PACKAGES: [name: RegExp, places: RegExp][] = [
  [/^koffi$/, /^src\/sys\/libc\.ts$/],
  [/^commander$/, /^src\/cli\//],
  [/^@grpc\//, /^src\/(rpc|gen)\//],
  [/^grpc-health-check$/, /^src\/rpc\//],
  [/^@bufbuild\/protobuf/, /^src\/(gen|rpc)\//],
  [/^zod$/, /^src\/agent\//],
  [/^yaml$/, /^src\/(agent|cli)\//],
  [/^pino$/, /^src\/agent\//],
  [/^prom-client$/, /^src\/metrics\//],
  [/^@opentelemetry\/api$/, /^src\/tracing\//],
  [/^@noble\//, /^src\/lane\/wireguard\//],
  [/^ipaddr\.js$/, /^src\/(resource|cli|lane)\//],
  [/^@nats-io\//, /^src\/nats\//],
  [/^node:sqlite$/, /^src\/(resource\/store|flow\/spool)[\w-]*\.ts$/],
];

/** They take bytes or messages and return bytes or messages. */
export const PURE =
  /^src\/(packet\/.*|access\/.*|metrics\/(?!exposition).*|interface\/(plan|spec|text)|link\/(anybody|spec|prepared|underlay)|resource\/(inet|page|update-mask|labels|report|conditions|timestamp)|flow\/(batch-gaps|batch-head|filter|flow-mask|gap|glob|goflow|ipfix|ipfix-template|one-way)|nats\/(subject|url)|sys\/netlink\/(attribute|message|link|address|route|neighbour|netconf|describe))\.ts$/;

/** They touch the system. */
const IMPURE =
  /^(node:(fs|net|child_process|dgram|dns|http2?|https|tls|os|worker_threads|sqlite|cluster|timers|process)(\/.*)?|koffi|@grpc\/.*|@nats-io\/.*)$/;

const MAX_LINES = 400;
const VAGUE = /^(utils?|helpers?|common|types|models|misc|shared)(\.ts)?$/;

const isGenerated = (path: string) => path.startsWith('src/gen/');

/** Every static import, re-export and `import()` of a file. Written for the way this tree is formatted. */
export function importsOf(text: string): Import[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/(^|\s)\/\/.*$/gm, '');
  const imports: Import[] = [];
  for (const match of code.matchAll(/^\s*(?:import|export)\b(?:[^'"`;()]*?\bfrom\s*)?\s*['"]([^'"]+)['"]/gm)) {
    imports.push({ specifier: match[1] ?? '', lazy: false });
  }
  for (const match of code.matchAll(/\b(?:import|require|getBuiltinModule)\(\s*['"`]([^'"`]+)['"`]/g)) {
    imports.push({ specifier: match[1] ?? '', lazy: true });
  }
  return imports;
}

/** `src/rpc/client.ts` is `{ room: 'rpc', file: 'rpc/client' }`. */
function placeOf(path: string): { room: string; file: string } {
  const file = path.replace(/^src\//, '').replace(/\.(ts|binpb)$/, '');
  return { room: file.split('/')[0] ?? '', file };
}

export function checkRooms(files: SourceFile[]): string[] {
  const violations: string[] = [];
  for (const { path, text } of files) {
    const { room } = placeOf(path);
    const allowed = ROOMS[room];
    if (!allowed) {
      violations.push(`${path}: ${room} is no room of this tree`);
      continue;
    }
    for (const { specifier, lazy } of importsOf(text)) {
      if (!specifier.startsWith('.')) continue;
      const target = posix.join(posix.dirname(path), specifier);
      const to = placeOf(target);
      const isOpen = (entry: string) =>
        entry === to.room || entry === to.file || (lazy && (entry === `${to.room}?` || entry === `${to.file}?`));
      if (!target.startsWith('src/')) violations.push(`${path}: imports ${specifier}, which is outside of src`);
      else if (to.room !== room && !allowed.some(isOpen)) {
        violations.push(`${path}: ${room} may not ${lazy ? '' : 'statically '}import ${to.file}`);
      }
    }
  }
  return violations;
}

export function checkPackages(files: SourceFile[]): string[] {
  const violations: string[] = [];
  for (const { path, text } of files) {
    for (const { specifier } of importsOf(text)) {
      if (specifier.startsWith('.')) continue;
      const rule = PACKAGES.find(([name]) => name.test(specifier));
      if (rule && !rule[1].test(path)) violations.push(`${path}: ${specifier} belongs to ${rule[1].source}`);
      if (!rule && !specifier.startsWith('node:')) violations.push(`${path}: ${specifier} has no room of its own`);
    }
  }
  return violations;
}

export function checkPure(files: SourceFile[]): string[] {
  const isPure = new Set(files.filter(({ path }) => PURE.test(path)).map(({ path }) => path));
  const violations: string[] = [];
  for (const { path, text } of files.filter((file) => isPure.has(file.path))) {
    for (const { specifier } of importsOf(text)) {
      const target = specifier.startsWith('.') ? posix.join(posix.dirname(path), specifier) : specifier;
      if (IMPURE.test(target) || /^src\/sys\/(libc|tun|namespace|sysctl|lock)\.ts$/.test(target) || /\/socket\.ts$/.test(target)) {
        violations.push(`${path}: is pure and may not import ${specifier}`);
      }
    }
  }
  return violations;
}

/** Size, names and exports. */
export function checkShape(files: SourceFile[]): string[] {
  const violations: string[] = [];
  for (const { path, text } of files.filter((file) => !isGenerated(file.path))) {
    const lines = text.split('\n').length - 1;
    if (lines > MAX_LINES) violations.push(`${path}: ${lines} lines; split it by owner at ${MAX_LINES}`);
    const vague = path.split('/').find((part) => VAGUE.test(part));
    if (vague) violations.push(`${path}: ${vague} names no thing`);
    if (/^export (default\b|\{[^}]*\bas default\b)/m.test(text)) violations.push(`${path}: has a default export`);
    if (/^export \*/m.test(text)) violations.push(`${path}: exports *`);
    if (!/^(#!.*\n)?\/\/ \S/.test(text)) violations.push(`${path}: does not begin with what it owns and promises`);
  }
  return violations;
}

/** The kernel is spoken to, not its command-line tools. */
export function checkNoShellingOut(files: SourceFile[]): string[] {
  const call =
    /\b(?:exec|execFile|spawn|execSync|execFileSync|spawnSync)\(\s*['"`](?:\S*\/)?(ip|tc|bridge|ifconfig|route|sysctl|nsenter)\b/;
  return files.flatMap(({ path, text }) => {
    const match = call.exec(text);
    return match ? [`${path}: shells out to ${match[1]}`] : [];
  });
}

interface LockFile {
  packages: Record<
    string,
    { version?: string; resolved?: string; engines?: { node?: string }; optionalDependencies?: Record<string, string> }
  >;
}

/** Below these there are known faults that Taplane would inherit: by major version, the least that is accepted; others are refused. */
export const FLOORS: Record<string, Record<number, string>> = {
  '@grpc/grpc-js': { 1: '1.14.4' },
  protobufjs: { 7: '7.6.1', 8: '8.6.5' },
  koffi: { 3: '3.3.4' },
  node: { 24: '24.17.0' },
};

export function checkLockFile(lock: LockFile): string[] {
  const violations: string[] = [];
  const seen = new Set<string>();
  const nameOf = (path: string) => path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
  const names = new Set(Object.keys(lock.packages).map(nameOf));
  for (const [path, { version = '', resolved, optionalDependencies = {} }] of Object.entries(lock.packages)) {
    const name = nameOf(path);
    // npm writes such a lock file when the package of some platform cannot be fetched, and then refuses to install from it.
    const absent = Object.keys(optionalDependencies).filter((optional) => !names.has(optional));
    if (absent.length > 0) violations.push(`package-lock.json: ${path} is without ${absent.join(', ')}: npm ci refuses that`);
    if (resolved) violations.push(`package-lock.json: ${path} is tied to ${new URL(resolved).host}`);
    const floors = path === '' ? undefined : FLOORS[name];
    if (!floors) continue;
    seen.add(name);
    const floor = floors[Number(version.split('.')[0])];
    if (!floor || isBelow(version, floor))
      violations.push(`package-lock.json: ${path} ${version} is below its floor ${floor ?? Object.values(floors).join(', ')}`);
  }
  for (const name of Object.keys(FLOORS)) if (!seen.has(name)) violations.push(`package-lock.json: ${name} is not there`);
  const engine = lock.packages['']?.engines?.node ?? '';
  if (!engine.startsWith('>=') || isBelow(engine.slice(2).trim(), '24.17.0'))
    violations.push(`package.json: engines.node ${engine} is below 24.17.0`);
  return violations;
}

function isBelow(version: string, floor: string): boolean {
  const [a, b] = [version.split('.').map(Number), floor.split('.').map(Number)];
  const index = b.findIndex((part, i) => part !== a[i]);
  return index >= 0 && !((a[index] ?? 0) > (b[index] ?? 0));
}

/** Folders that only the machine of some developer has, and hosts that packages or images were once fetched from. */
export function checkPortable(files: SourceFile[]): string[] {
  const folder = new RegExp(`(?<![\\w.:~/-])/(${['work', 'farm', 'home', 'Users', 'workspace'].join('|')})/[\\w.-]`);
  const host = /(?:\bregistry|\/\/(?:npm|mirror|artifactory|nexus|proxy))\.[a-z0-9-]+\.[a-z]{2,}\b/i;
  return files.flatMap(({ path, text }) =>
    text.split('\n').flatMap((line, index) => {
      const found = folder.exec(line) ?? host.exec(line);
      return found ? [`${path}:${index + 1}: ${found[0]} is of one machine only`] : [];
    }),
  );
}
