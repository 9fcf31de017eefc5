// What the doctor says about each state of a machine: the judging halves, with readings that this machine need not have.

import { expect, test } from 'vitest';
import { deviceNames, judgeMtu, judgeName } from '../../src/agent/doctor/devices.ts';
import { judgeDirectory } from '../../src/agent/doctor/directories.ts';
import { judgeKernel, sysfsIsForeign } from '../../src/agent/doctor/kernel.ts';
import { judgeLibraries } from '../../src/agent/doctor/libraries.ts';
import { judgePlatform, softOpenFiles } from '../../src/agent/doctor/platform.ts';
import { judgePrivileges } from '../../src/agent/doctor/privileges.ts';
import { judgeAgent, judgeNats, judgeNatsLogin, readNatsLogin } from '../../src/agent/doctor/services.ts';
import { judgeTun, type TunReading } from '../../src/agent/doctor/tun.ts';
import type { Check } from '../../src/agent/doctor.ts';

const soundPlatform = { os: 'linux', node: '24.17.0', nowMs: Date.UTC(2026, 0), openFiles: 4096 };
const soundTun: TunReading = {
  statError: '',
  characterDevice: true,
  major: 10,
  minor: 200,
  mode: 0o666,
  openError: '',
  driver: true,
  container: false,
  root: true,
};
const soundKernel = { sysctlError: '', netlinkError: '', ipv6: true, container: false };
const rights = { capabilities: ['CAP_NET_ADMIN', 'CAP_NET_RAW'], uid: 0, container: false, executable: '/bin/node' };
const soundDirectory = {
  path: '/s',
  statError: '',
  stats: { isDirectory: () => true, uid: 0, mode: 0o40700 },
  writableAt: '/s',
  writeError: '',
  freeBytes: 1e9,
  entries: ['state.db'],
};
const device = { name: 'x0', kind: 'tun', mtu: 1500, alias: '' };
const directory = (more: object, strict = true) => judgeDirectory('state-dir', '--state-dir', { ...soundDirectory, ...more }, strict, 0);

test('a sound machine passes everything, and a pass needs no cure', async () => {
  const checks = [
    ...judgePlatform(soundPlatform),
    ...judgeTun(soundTun),
    ...judgePrivileges(rights),
    ...judgeKernel(soundKernel),
    ...judgeLibraries({ libpcap: 'libpcap version 1.10.3' }),
    ...judgeMtu({ devices: [device, { ...device, kind: 'loopback', mtu: 1000 }], ipv6: true, foreignSysfs: false }),
    ...directory({}),
    judgeAgent('unix:/x', ''),
    ...judgeNats('embedded', '/bin/nats-server'),
    ...judgeNats('off', undefined),
    ...judgeNatsLogin({ wanted: true, error: '', exposed: [] }),
    ...judgeNatsLogin(await readNatsLogin('off', { creds: '/nowhere' })),
  ];
  expect(checks.filter(({ status, cure }) => status !== 'pass' || cure !== '')).toEqual([]);
});

const bad: [string, Check[], Check['status'], RegExp, RegExp][] = [
  ['not Linux', judgePlatform({ ...soundPlatform, os: 'darwin' }), 'fail', /darwin/, /Linux/],
  ['old Node', judgePlatform({ ...soundPlatform, node: '24.16.9' }), 'fail', /24\.16\.9/, /24\.17\.0/],
  ['Node 20', judgePlatform({ ...soundPlatform, node: '20.20.2' }), 'fail', /20\.20/, /node_modules/],
  ['clock', judgePlatform({ ...soundPlatform, nowMs: 0 }), 'fail', /1970/, /timedatectl/],
  ['no libpcap', judgeLibraries({ libpcap: undefined }), 'warn', /filter are refused/, /libpcap0\.8/],
  ['open files', judgePlatform({ ...soundPlatform, openFiles: 1024 }), 'warn', /1024/, /LimitNOFILE/],
  [
    'no device, no module',
    judgeTun({ ...soundTun, statError: 'ENOENT', driver: false }),
    'fail',
    /ENOENT/,
    /^modprobe tun.*mknod \/dev\/net\/tun c 10 200/,
  ],
  ['no device', judgeTun({ ...soundTun, statError: 'ENOENT' }), 'fail', /ENOENT/, /^mkdir -p \/dev\/net && mknod/],
  [
    'no device in a container',
    judgeTun({ ...soundTun, statError: 'ENOENT', container: true, driver: false }),
    'fail',
    /ENOENT/,
    /on the node: modprobe.*--device \/dev\/net\/tun.*hostPath/,
  ],
  ['a file instead', judgeTun({ ...soundTun, characterDevice: false }), 'fail', /not a character device/, /mknod/],
  ['another device', judgeTun({ ...soundTun, major: 1, minor: 3 }), 'fail', /1:3/, /rm \/dev\/net\/tun/],
  [
    'the runtime denies',
    judgeTun({ ...soundTun, openError: 'EPERM', container: true }),
    'fail',
    /container runtime denies/,
    /runc 1\.2\.0 to 1\.2\.3.*device plugin/,
  ],
  ['a cgroup denies', judgeTun({ ...soundTun, openError: 'EPERM' }), 'fail', /cgroup/, /DeviceAllow/],
  ['nodev', judgeTun({ ...soundTun, openError: 'EACCES' }), 'fail', /nodev/, /remount,dev/],
  ['file mode', judgeTun({ ...soundTun, openError: 'EACCES', mode: 0o600, root: false }), 'fail', /mode 600/, /chmod 666/],
  ['module missing', judgeTun({ ...soundTun, openError: 'ENODEV', driver: false }), 'fail', /driver is not/, /modprobe tun/],
  [
    'module missing in a container',
    judgeTun({ ...soundTun, openError: 'ENXIO', container: true }),
    'fail',
    /ENXIO/,
    /on the node: modprobe/,
  ],
  ['something else', judgeTun({ ...soundTun, openError: 'EMFILE' }), 'fail', /EMFILE/, /ulimit/],
  [
    'no CAP_NET_ADMIN, user',
    judgePrivileges({ ...rights, capabilities: ['CAP_NET_RAW'], uid: 1000 }),
    'fail',
    /NET_ADMIN/,
    /AmbientCapabilities.*setcap cap_net_admin\+ep \/bin\/node/,
  ],
  [
    'no CAP_NET_ADMIN, container',
    judgePrivileges({ ...rights, capabilities: ['CAP_NET_RAW'], container: true }),
    'fail',
    /NET_ADMIN/,
    /securityContext\.capabilities\.add: \[NET_ADMIN\]/,
  ],
  [
    'no CAP_NET_ADMIN, stripped root',
    judgePrivileges({ ...rights, capabilities: ['CAP_NET_RAW'] }),
    'fail',
    /NET_ADMIN/,
    /CapabilityBoundingSet/,
  ],
  ['no CAP_NET_RAW', judgePrivileges({ ...rights, capabilities: ['CAP_NET_ADMIN'] }), 'warn', /NET_RAW/, /CAP_NET_RAW/],
  ['read-only sysctl', judgeKernel({ ...soundKernel, sysctlError: 'EROFS' }), 'warn', /read-only/, /remount,rw/],
  [
    'read-only sysctl in a container',
    judgeKernel({ ...soundKernel, sysctlError: 'EROFS', container: true }),
    'warn',
    /read-only/,
    /procMount/,
  ],
  ['sysctl of another', judgeKernel({ ...soundKernel, sysctlError: 'EACCES' }), 'warn', /EACCES/, /root/],
  ['no netlink', judgeKernel({ ...soundKernel, netlinkError: 'EAFNOSUPPORT' }), 'fail', /EAFNOSUPPORT/, /RestrictAddressFamilies/],
  [
    'small MTU',
    judgeMtu({ devices: [{ ...device, mtu: 1279 }], ipv6: true, foreignSysfs: false }),
    'warn',
    /x0 has MTU 1279/,
    /ip link set x0 mtu 1280/,
  ],
  [
    'small MTU of ours',
    judgeMtu({ devices: [{ ...device, mtu: 576, alias: 'taplane:1' }], ipv6: true, foreignSysfs: false }),
    'warn',
    /576/,
    /taplane interface update x0 --mtu 1280/,
  ],
  [
    'sysfs of another namespace',
    judgeMtu({ devices: [], ipv6: true, foreignSysfs: true }),
    'warn',
    /another network namespace/,
    /mount -t sysfs/,
  ],
  ['state of somebody else', directory({ stats: { isDirectory: () => true, uid: 5, mode: 0o40700 } }), 'fail', /uid 5/, /chown 0/],
  ['state open to all', directory({ stats: { isDirectory: () => true, uid: 0, mode: 0o40777 } }), 'fail', /777/, /chmod 700/],
  ['state is a file', directory({ stats: { isDirectory: () => false, uid: 0, mode: 0o100600 } }), 'fail', /not a directory/, /--state-dir/],
  [
    'runtime is a file',
    directory({ stats: { isDirectory: () => false, uid: 0, mode: 0o100600 } }, false),
    'fail',
    /not a directory/,
    /move the file away/,
  ],
  ['a file on the way', directory({ statError: 'ENOTDIR' }), 'fail', /ENOTDIR/, /a part of the path/],
  ['read-only state', directory({ writeError: 'EROFS' }), 'fail', /EROFS/, /writable volume/],
  ['unwritable state', directory({ writeError: 'EACCES' }), 'fail', /EACCES/, /root/],
  ['full disk', directory({ freeBytes: 1024 * 1024 }), 'warn', /1 MiB/, /free some space/],
  [
    'quarantine',
    directory({ entries: ['state.db', 'state.db.corrupt-2', 'state.db.corrupt-1'] }),
    'warn',
    /corrupt-1, state\.db\.corrupt-2/,
    /remove \/s\/state\.db\.corrupt-1 and the others/,
  ],
  ['no agent', [judgeAgent('unix:/x', 'ENOENT')], 'warn', /no agent/, /systemctl start/],
  ['dead agent', [judgeAgent('unix:/x', 'ECONNREFUSED')], 'warn', /gone/, /removes the old socket/],
  ['locked agent', [judgeAgent('unix:/x', 'EACCES')], 'warn', /user/, /group/],
  ['no address', [judgeAgent('x', 'EINVAL')], 'warn', /not an address/, /unix:PATH/],
  ['silent agent', [judgeAgent('unix:/x', 'TIMEOUT')], 'warn', /TIMEOUT/, /start one/],
  ['no nats-server', judgeNats('embedded', undefined), 'warn', /nats-server/, /apt-get install/],
  [
    'credentials for NATS that are not there',
    judgeNatsLogin(await readNatsLogin('nats://nats:4222', { creds: '/nowhere/nats.creds' })),
    'warn',
    /read NATS credentials \/nowhere\/nats\.creds: ENOENT/,
    /read anew for each connection/,
  ],
  [
    'credentials for NATS that everybody reads',
    judgeNatsLogin({ wanted: true, error: '', exposed: ['/etc/nats.creds'] }),
    'warn',
    /every user .* \/etc\/nats\.creds/,
    /^chmod o-rwx \/etc\/nats\.creds$/,
  ],
  [
    'a taken name',
    [judgeName('x0', [device], [{ pid: 812, command: 'qemu' }])],
    'fail',
    /x0 is taken: a tun device, held open by pid 812 \(qemu\)/,
    /taplane interface adopt x0/,
  ],
  [
    'a taken name, not ours to adopt',
    [judgeName('b', [{ ...device, name: 'b', kind: 'bridge', alias: 'lan' }], [])],
    'fail',
    /a bridge device with alias "lan"/,
    /another name/,
  ],
  [
    'a taken name of another kind',
    [judgeName('e', [{ ...device, name: 'e', kind: 'ethernet' }], [])],
    'fail',
    /: an ethernet device$/,
    /name/,
  ],
  ['no name at all', [judgeName('a/b', [], [])], 'fail', /cannot be the name/, /15 bytes/],
];
test.each(bad)('%s', (_, checks, status, detail, cure) => {
  const found = checks.filter((check) => check.status !== 'pass');
  expect(found).toHaveLength(1);
  expect(found[0]?.status).toBe(status);
  expect(found[0]?.detail).toMatch(detail);
  expect(found[0]?.cure).toMatch(cure);
});

test('who is not root hears first that root would do', () => {
  const cures = [
    ...judgePrivileges({ ...rights, capabilities: [], uid: 1000 }),
    ...judgePrivileges({ ...rights, capabilities: [], uid: 1000, container: true }),
    ...judgeTun({ ...soundTun, openError: 'EACCES', mode: 0o600, root: false }),
    ...judgeDirectory('state-dir', '--state-dir', soundDirectory, true, 1000),
    ...directory({ statError: 'EACCES' }),
    ...directory({ writeError: 'EACCES' }),
    judgeAgent('unix:/x', 'EACCES'),
  ].flatMap(({ status, cure }) => (status === 'pass' ? [] : [cure]));
  expect(cures).toHaveLength(9);
  for (const cure of cures) expect(cure).toMatch(/^run as root/);
});

test('names that are fine', () => {
  expect(judgeName('free', [device], [])).toMatchObject({ status: 'pass', detail: 'free is free' });
  expect(judgeName('x0', [{ ...device, alias: 'taplane:u1' }], [])).toMatchObject({ status: 'pass' });
});

test('small MTUs do not matter without IPv6', () => {
  expect(judgeMtu({ devices: [{ ...device, mtu: 576 }], ipv6: false, foreignSysfs: false })[0]?.status).toBe('pass');
});

test('what will be made is fine, and without CAP_SYS_ADMIN all is well', () => {
  expect(directory({ statError: 'ENOENT', stats: undefined, writableAt: '/', entries: [] }).map(({ status }) => status)).toEqual([
    'pass',
    'pass',
  ]);
  expect(judgePrivileges(rights).at(-1)).toMatchObject({
    name: 'cap-sys-admin',
    status: 'pass',
    detail: expect.stringMatching(/^without/),
  });
});

test('tables of /proc', () => {
  expect(softOpenFiles('Limit  Soft  Hard\nMax open files            1024                 524288               files     \n')).toBe(1024);
  expect(softOpenFiles('Max open files            unlimited            unlimited            files     \n')).toBe(Number.POSITIVE_INFINITY);
  expect(deviceNames('Inter-| x\n face | y\n    lo: 1 2\n veth@x:3 4\n')).toEqual(['lo', 'veth@x']);
  expect(sysfsIsForeign(['lo', 'a'], ['a', 'lo'])).toBe(false);
  expect(sysfsIsForeign(['lo'], ['lo', 'eth0'])).toBe(true);
});
