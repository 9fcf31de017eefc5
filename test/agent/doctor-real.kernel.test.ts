// The doctor on machines that really are ill: each case makes its own mount or network namespace, or gives rights away.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Check } from '../../src/agent/doctor/check.ts';
import { type DoctorOptions, diagnose } from '../../src/agent/doctor.ts';

const source = (path: string) => JSON.stringify(join(import.meta.dirname, '../../src', path));
let base: string;
beforeAll(() => {
  base = mkdtempSync(join(tmpdir(), 'taplane-doctor-'));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

/** Runs the doctor behind `shell`, which ends in "$@". */
function behind(shell: string, options: DoctorOptions = {}, before = ''): Check[] {
  const script = `${before}; const { diagnose } = await import(${source('agent/doctor.ts')}); console.log(JSON.stringify(await diagnose(${JSON.stringify(options)})));`;
  const { stdout, stderr } = spawnSync('sh', ['-ec', shell, 'sh', process.execPath, '--input-type=module', '-e', script], {
    encoding: 'utf8',
    cwd: base,
  });
  try {
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Check[];
  } catch {
    throw new Error(`no answer: ${stdout}${stderr}`);
  }
}
const named = (checks: Check[], name: string) => checks.find((check) => check.name === name);

describe('as root', () => {
  test.each<[string, string, string, Check['status'], RegExp]>([
    ['no /dev/net/tun', `exec unshare -m sh -ec 'mount -t tmpfs none /dev/net; exec "$@"' sh "$@"`, 'tun-device', 'fail', /ENOENT.*mknod/],
    [
      '/dev/net/tun is a file',
      `exec unshare -m sh -ec 'touch file; mount --bind file /dev/net/tun; exec "$@"' sh "$@"`,
      'tun-device',
      'fail',
      /not a character device/,
    ],
    [
      '/dev/net/tun is /dev/null',
      `exec unshare -m sh -ec 'mount --bind /dev/null /dev/net/tun; exec "$@"' sh "$@"`,
      'tun-device',
      'fail',
      /1:3/,
    ],
    [
      '/dev is mounted nodev',
      `exec unshare -m sh -ec 'mount -t tmpfs -o nodev none /dev/net; mknod /dev/net/tun c 10 200; exec "$@"' sh "$@"`,
      'tun-device',
      'fail',
      /nodev/,
    ],
    ['no CAP_NET_ADMIN', 'exec setpriv --bounding-set -net_admin "$@"', 'cap-net-admin', 'fail', /CapabilityBoundingSet|securityContext/],
    ['no CAP_NET_RAW', 'exec setpriv --bounding-set -net_raw "$@"', 'cap-net-raw', 'warn', /captured/],
    ['no CAP_SYS_ADMIN', 'exec setpriv --bounding-set -sys_admin "$@"', 'cap-sys-admin', 'pass', /^without/],
    [
      'read-only sysctls',
      `exec unshare -m sh -ec 'mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@"' sh "$@"`,
      'sysctl',
      'warn',
      /read-only/,
    ],
    ['few open files', 'ulimit -n 1000; exec "$@"', 'open-files', 'warn', /1000/],
  ])('%s', (_, shell, name, status, text) => {
    const check = named(behind(shell), name);
    expect(check).toMatchObject({ status });
    expect(`${check?.detail} ${check?.cure}`).toMatch(text);
  });

  // The device controller of cgroup v1 does what a container runtime does with eBPF on v2.
  const controller = '/sys/fs/cgroup/devices';
  test.skipIf(!existsSync(join(controller, 'devices.deny')) && !existsSync(join(controller, 'tasks')))(
    'a cgroup that denies the device, as a container runtime does (needs the devices controller)',
    () => {
      const group = join(controller, `taplane-doctor-${process.pid}`);
      mkdirSync(group);
      try {
        const check = named(
          behind(`echo 'c 10:200 rwm' > ${group}/devices.deny; echo $$ > ${group}/cgroup.procs; exec "$@"`),
          'tun-device',
        );
        expect(check?.detail).toMatch(/EPERM: (the container runtime|a device rule of the cgroup) denies/);
        expect(check?.cure).toMatch(/runc 1\.2\.0 to 1\.2\.3/);
      } finally {
        rmdirSync(group);
      }
    },
  );

  test('in a user without rights: the device node that only root may open, the capability, the directories', () => {
    const checks = behind(
      `exec unshare -m sh -ec 'mount -t tmpfs none /dev/net; mknod -m 600 /dev/net/tun c 10 200; chmod 755 .; exec setpriv --reuid 65534 --regid 65534 --clear-groups "$@"' sh "$@"`,
    );
    expect(named(checks, 'tun-device')?.detail).toMatch(/mode 600/);
    expect(named(checks, 'cap-net-admin')?.cure).toMatch(/setcap|securityContext/);
    expect(named(checks, 'state-dir')?.status).toBe('fail');
  });

  const inNamespace = (setup: string) =>
    `exec unshare -mn sh -ec 'mount -t sysfs none /sys; ip link set lo up; ${setup}; exec "$@"' sh "$@"`;

  test('an MTU that IPv6 does not live with', () => {
    const setup =
      'ip tuntap add small mode tun; ip link set small mtu 1000 up; ip tuntap add mine mode tap; ip link set mine mtu 1200 alias taplane:u1; ip tuntap add fine mode tun';
    const check = named(behind(inNamespace(setup)), 'ipv6-mtu');
    expect(check?.status).toBe('warn');
    expect(check?.detail).toMatch(/small has MTU 1000.*mine has MTU 1200|mine has MTU 1200.*small has MTU 1000/);
    expect(check?.detail).not.toContain('fine');
    expect(check?.cure).toContain('taplane interface update mine --mtu 1280');
  });

  test('a name that is taken: by what, and by whom', () => {
    const hold = `const { attachTun } = await import(${source('sys/tun.ts')}); attachTun('x0', { mode: 'tap', multiQueue: false, packetInfo: false, vnetHeader: false })`;
    const check = named(behind(inNamespace('ip tuntap add x0 mode tap; ip link set x0 alias "a lab"'), { interface: 'x0' }, hold), 'name');
    expect(check).toMatchObject({
      status: 'fail',
      detail: expect.stringMatching(/^x0 is taken: a tap device with alias "a lab", held open by pid \d+ \(/),
    });
    expect(named(behind(inNamespace('ip link add br7 type bridge'), { interface: 'br7' }), 'name')).toMatchObject({
      status: 'fail',
      detail: 'br7 is taken: a bridge device',
    });
    expect(named(behind(inNamespace('true'), { interface: 'x0' }), 'name')).toMatchObject({ status: 'pass' });
  });

  test('a sysfs of another namespace is not believed', () => {
    const checks = behind(`exec unshare -n sh -ec 'ip tuntap add odd0 mode tun; exec "$@"' sh "$@"`, { interface: 'odd0' });
    expect(named(checks, 'ipv6-mtu')?.detail).toMatch(/another network namespace/);
    expect(named(checks, 'name')).toMatchObject({ status: 'fail' });
  });
});

describe('directories, sockets, configuration', () => {
  test('a state directory open to all, quarantined state', async () => {
    const stateDir = join(base, 'open');
    mkdirSync(stateDir);
    expect(spawnSync('chmod', ['777', stateDir]).status).toBe(0);
    expect(named(await diagnose({ stateDir }), 'state-dir')).toMatchObject({ status: 'fail', cure: expect.stringMatching(/^chmod 700/) });
    spawnSync('chmod', ['700', stateDir]);
    writeFileSync(join(stateDir, 'state.db.corrupt-1'), '');
    const checks = await diagnose({ stateDir, runtimeDir: join(stateDir, 'state.db.corrupt-1', 'x') });
    expect(named(checks, 'state-dir')?.status).toBe('pass');
    expect(named(checks, 'quarantine')?.status).toBe('warn');
    expect(named(checks, 'runtime-dir')?.status).toBe('fail');
  });

  test('an agent that answers, that is dead, that never was', async () => {
    const path = join(base, 's.sock');
    const server = `unix:${path}`;
    expect(named(await diagnose({ server }), 'agent-socket')).toMatchObject({ status: 'warn', detail: expect.stringMatching(/^no agent/) });
    const holder = spawn(process.execPath, [
      '-e',
      `require('net').createServer().listen(${JSON.stringify(path)}, () => console.log('up'))`,
    ]);
    await once(holder.stdout, 'data');
    expect(named(await diagnose({ server }), 'agent-socket')).toMatchObject({ status: 'pass' });
    holder.kill('SIGKILL');
    await once(holder, 'exit');
    expect(named(await diagnose({ server }), 'agent-socket')).toMatchObject({ status: 'warn', detail: expect.stringMatching(/is gone/) });
  });

  test('an agent on TCP, and one whose address comes from the options', async () => {
    const tcp = createServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    const { port } = tcp.address() as { port: number };
    const checks = await diagnose({ server: `127.0.0.1:${port}` });
    expect(named(checks, 'agent-socket')?.status).toBe('pass');
    const note = `(by this machine's default configuration, not by that of the agent at 127.0.0.1:${port})`;
    for (const name of ['state-dir', 'quarantine', 'runtime-dir']) expect(named(checks, name)?.detail, name).toContain(note);
    expect(named(await diagnose({ server: 'unix:/nonexistent/s' }), 'state-dir')?.detail).not.toContain('not by that');
    expect(named(await diagnose({ runtimeDir: join(base, 'r') }), 'agent-socket')?.detail).toContain(join(base, 'r', 'agent.sock'));
    tcp.close();
  });

  test('a bad configuration is a finding, and the rest goes on', async () => {
    const checks = await diagnose({ logLevel: 'loud', nats: 'nonsense' });
    expect(named(checks, 'configuration')).toMatchObject({ status: 'fail', detail: expect.stringMatching(/and 1 more/) });
    expect(named(checks, 'tun-device')).toBeDefined();
  });
});
