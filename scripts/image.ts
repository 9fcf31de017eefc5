// `node scripts/image.ts FOLDER`: lays out in FOLDER everything that is in the image, from / on: Node, the libraries that it and libpcap need, the
// compiled program, the packages that it uses, certificates of authorities, what must be there to be mounted on, licences and a bill of
// materials. There is no shell, no package manager and nothing that development needs. The Dockerfile calls this, and so does a test that starts
// the result. Wants `npm ci` done before, and Debian's libpcap0.8 and ca-certificates; downloads nothing.

import { chmodSync, cpSync, existsSync, mkdirSync, readdirSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { DESCRIPTORS } from './generated-code.ts';
import { ROOT, runTool } from './run-tool.ts';

/** As `bin/taplane` starts it; the Dockerfile has the same words. */
const LAUNCHER = `#!/usr/local/bin/node --disable-warning=ExperimentalWarning
// The command line, for those who look into a container: kubectl exec POD -- taplane node status
import('/taplane/dist/main.js');
`;
const PASSWD = 'root:x:0:0:root:/root:/nonexistent\ntaplane:x:65532:65532:taplane:/nonexistent:/nonexistent\n';
const GROUP = 'root:x:0:\ntaplane:x:65532:\n';
const MOUNTED = ['proc', 'sys', 'dev', 'etc/taplane', 'run/taplane', 'var/lib/taplane', 'tmp'];
/** Inside; the Dockerfile names it too. */
const NODE_COMPILE_CACHE = '/taplane/compiled';
const CERTIFICATES = '/etc/ssl/certs/ca-certificates.crt';
/** Of a package: what runs, and what its licence wants to be kept. */
const UNUSED = /\.(map|md|markdown|d\.[cm]?ts|ts|h|hh|cc|cpp|c|lib)$/i;

interface LockedPackage {
  version?: string;
  dev?: boolean;
  license?: string;
}

/** Only declarations for compilers. */
const DECLARATIONS = /node_modules\/(@types\/.*|undici-types)$/;

/** Packages of a lock file, by their paths, that are used when Taplane runs. Pure. */
export function usedPackages(lock: { packages: Record<string, LockedPackage> }): string[] {
  return Object.entries(lock.packages).flatMap(([path, { dev }]) => (path === '' || dev === true || DECLARATIONS.test(path) ? [] : [path]));
}

/** `node_modules/a/node_modules/@b/c` is `@b/c`. */
function nameOf(path: string): string {
  return path.slice(path.lastIndexOf('node_modules/') + 'node_modules/'.length);
}

/** Paths of the shared libraries in what ldd(1) prints. Pure. */
export function librariesOf(ldd: string): string[] {
  return [...ldd.matchAll(/^\s+(?:\S+ => )?(\/\S+) \(0x/gm)].map((match) => match[1] as string);
}

/** Bytes of all files below a folder. */
export function sizeOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true }).reduce(
    (sum, entry) => sum + (entry.isFile() ? statSync(join(entry.parentPath, entry.name)).size : 0),
    0,
  );
}

/** Lays the image out in a folder that is empty or not there. Throws an Error that says what is missing. */
export async function layOut(target: string): Promise<void> {
  if (existsSync(target) && readdirSync(target).length > 0) throw new Error(`${target} is not empty`);
  const into = (path: string): string => {
    const full = join(target, path);
    mkdirSync(dirname(full), { recursive: true });
    return full;
  };
  for (const folder of MOUNTED) mkdirSync(join(target, folder), { recursive: true });
  chmodSync(join(target, 'tmp'), 0o1777);
  for (const folder of ['run/taplane', 'var/lib/taplane']) chmodSync(join(target, folder), 0o700);

  await tool('tsc', '--project', join(ROOT, 'tsconfig.build.json'), '--outDir', into('taplane/dist'));
  cpSync(join(ROOT, 'src', 'gen', DESCRIPTORS), into(`taplane/dist/gen/${DESCRIPTORS}`));
  for (const file of ['package.json', 'LICENSE']) cpSync(join(ROOT, file), into(`taplane/${file}`));

  const lock = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8')) as { packages: Record<string, LockedPackage> };
  const packages = usedPackages(lock).filter((path) => existsSync(join(ROOT, path)));
  for (const path of packages) copyPackage(join(ROOT, path), into(`taplane/${path}`));
  if (!packages.some((path) => path.startsWith('node_modules/@koromix/'))) throw new Error('koffi has no library for this kind of machine');

  cpSync(realpathSync(process.execPath), into('usr/local/bin/node'));
  writeFileSync(into('usr/local/bin/taplane'), LAUNCHER, { mode: 0o755 });
  const libraries = await neededLibraries(packages);
  for (const path of libraries) cpSync(realpathSync(path), into(path));
  const debian = await debianPackages(libraries);
  for (const { name } of debian) {
    const copyright = `/usr/share/doc/${name}/copyright`;
    if (existsSync(copyright)) cpSync(copyright, into(copyright));
  }

  if (!existsSync(CERTIFICATES)) throw new Error(`${CERTIFICATES} is missing: apt-get install ca-certificates`);
  cpSync(realpathSync(CERTIFICATES), into(CERTIFICATES));
  writeFileSync(into('etc/passwd'), PASSWD);
  writeFileSync(into('etc/group'), GROUP);
  writeFileSync(into('etc/nsswitch.conf'), 'passwd: files\ngroup: files\nhosts: files dns\n');
  await compileAhead(target);
  writeFileSync(
    into('taplane/sbom.cdx.json'),
    await billOfMaterials(
      packages.map((path) => `${nameOf(path)}@${lock.packages[path]?.version}`),
      debian,
    ),
  );
}

/**
 * Code as V8 has compiled it, which nobody can write there later: with it a lane that died is back sooner. It depends on where the files lie and on
 * the flags of Node, so it is made inside, as root; without root the image works without.
 */
async function compileAhead(target: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const script = `for (const room of ['cli/program', 'agent/command', 'agent/lane-command', 'agent/doctor']) await import('/taplane/dist/' + room + '.js');`;
  const words = ['--max-semi-space-size=4', '--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', script];
  const { code, output } = await runTool('chroot', [target, '/usr/local/bin/node', ...words], { env: { NODE_COMPILE_CACHE } });
  if (code !== 0) throw new Error(`load the program inside ${target}: ${output}`);
}

/** Without what no process opens. A package below it is copied by itself. */
function copyPackage(from: string, to: string): void {
  cpSync(from, to, {
    recursive: true,
    filter: (path) =>
      path === from || (basename(path) !== 'node_modules' && (/licen[cs]e|notice/i.test(path) || !UNUSED.test(basename(path)))),
  });
}

/** Of Node, of koffi's library and of libpcap, with libpcap itself and the loader. */
async function neededLibraries(packages: string[]): Promise<string[]> {
  const { output } = await runTool('/sbin/ldconfig', ['-p']);
  const pcap = /=> (\S*\/libpcap\.so\.(?:0\.8|1))$/m.exec(output)?.[1];
  if (pcap === undefined) throw new Error('libpcap is missing: apt-get install libpcap0.8');
  const native = packages.flatMap((path) =>
    readdirSync(join(ROOT, path), { recursive: true, encoding: 'utf8' })
      .filter((name) => name.endsWith('.node') && !name.includes('node_modules'))
      .map((name) => join(ROOT, path, name)),
  );
  const found = new Set([pcap]);
  // koffi may bring a library for musl beside the one for glibc: ldd cannot read that one.
  for (const file of [process.execPath, pcap, ...native])
    for (const library of librariesOf((await runTool('ldd', [file])).output)) if (existsSync(library)) found.add(library);
  return [...found].sort();
}

interface DebianPackage {
  name: string;
  version: string;
}

/** Which packages of Debian the files come from; none on other systems. */
async function debianPackages(files: string[]): Promise<DebianPackage[]> {
  const paths = files.flatMap((path) => [path, realpathSync(path), realpathSync(path).replace(/^\/usr/, '')]);
  const owners = (await runTool('dpkg-query', ['--search', ...new Set(paths)])).output;
  const names = new Set([...owners.matchAll(/^([a-z0-9][a-z0-9+.-]*)(?::\w+)?: \//gm)].map((match) => match[1] as string));
  if (names.size === 0) return [];
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query fills it in
  const shown = (await runTool('dpkg-query', ['--show', '--showformat', '${Package} ${Version}\\n', ...names, 'ca-certificates'])).output;
  return [...shown.matchAll(/^(\S+) (\S+)$/gm)].map((match) => ({ name: match[1] as string, version: match[2] as string }));
}

/** CycloneDX: what npm knows of the packages, and Node and Debian's libraries beside. */
async function billOfMaterials(present: string[], debian: DebianPackage[]): Promise<string> {
  const text = await tool('npm', 'sbom', '--omit=dev', '--package-lock-only', '--sbom-format=cyclonedx', '--sbom-type=application');
  const bill = JSON.parse(text.slice(text.indexOf('{'))) as { components: { type: string; name: string; version: string; purl: string }[] };
  // npm names those of other kinds of machines too, which are not here.
  bill.components = bill.components.filter(({ name, version }) => present.includes(`${name}@${version}`));
  const { node } = process.versions;
  bill.components.push({ type: 'platform', name: 'node', version: node, purl: `pkg:generic/node@${node}` });
  for (const { name, version } of debian)
    bill.components.push({ type: 'library', name, version, purl: `pkg:deb/debian/${name}@${encodeURIComponent(version)}` });
  return `${JSON.stringify(bill, null, 2)}\n`;
}

async function tool(command: string, ...args: string[]): Promise<string> {
  const { code, output } = await runTool(command, args);
  if (code !== 0) throw new Error(`${command}: code ${code}: ${output}`);
  return output;
}

if (import.meta.main) {
  const [target, ...more] = process.argv.slice(2);
  if (target === undefined || more.length > 0) throw new Error('usage: node scripts/image.ts FOLDER');
  await layOut(target);
  console.log(`${target}: ${(sizeOf(target) / 1e6).toFixed(1)} MB`);
}
