// The shipped units: as systemd itself reads and judges them where it is at hand, and that agent, lane and code agree.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '..', '..');
const UNITS = join(ROOT, 'deploy', 'systemd');
/** Of 10; at 5 systemd begins to call a service exposed. A daemon that configures the network of the host cannot have less than 2.2. */
const EXPOSURE_MOST = 25;

function settings(name: string): [string, string][] {
  const lines = readFileSync(join(UNITS, name), 'utf8').split('\n');
  return lines.filter((line) => /^\w+=/.test(line)).map((line) => [line.slice(0, line.indexOf('=')), line.slice(line.indexOf('=') + 1)]);
}
const valuesOf = (name: string, key: string): string[] => settings(name).flatMap(([one, value]) => (one === key ? [value] : []));

test('systemd takes them, and finds little exposed', ({ skip }) => {
  if (spawnSync('systemd-analyze', ['--version']).status !== 0) skip('no systemd-analyze here');
  const folder = mkdtempSync(join(tmpdir(), 'taplane-units-'));
  try {
    for (const name of readdirSync(UNITS)) {
      const text = readFileSync(join(UNITS, name), 'utf8').replaceAll('/usr/local/bin/taplane', join(ROOT, 'bin', 'taplane'));
      writeFileSync(join(folder, name), text);
    }
    const verified = spawnSync('systemd-analyze', ['verify', '--man=no', './taplane.service', './taplane-lane@0.service'], {
      cwd: folder,
      encoding: 'utf8',
    });
    // What other units of this machine are told of is not ours.
    expect(verified.stderr.split('\n').filter((line) => line.includes('taplane'))).toEqual([]);
    for (const name of ['taplane.service', 'taplane-lane@.service']) {
      const judged = spawnSync(
        'systemd-analyze',
        ['security', '--offline=true', `--threshold=${EXPOSURE_MOST}`, '--no-pager', `./${name}`],
        {
          cwd: folder,
          encoding: 'utf8',
        },
      );
      expect([name, judged.status, judged.stdout.split('\n').filter((line) => line.includes('exposure'))]).toMatchObject([name, 0, [{}]]);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test('both give the same rights, those of the chart and no others, and meet at one socket', () => {
  const [agent, lane] = ['taplane.service', 'taplane-lane@.service'] as const;
  for (const name of [agent, lane]) {
    for (const key of ['AmbientCapabilities', 'CapabilityBoundingSet']) expect(valuesOf(name, key)).toEqual(['CAP_NET_ADMIN CAP_NET_RAW']);
    expect(valuesOf(name, 'DeviceAllow')).toEqual(['/dev/net/tun rw']);
    // The runtime directory outlives each of them.
    expect(valuesOf(name, 'RuntimeDirectoryPreserve')).toEqual(['yes']);
    expect(valuesOf(name, 'Type')).toEqual(['notify']);
    // Keys of links are in their memory.
    expect(valuesOf(name, 'LimitCORE')).toEqual(['0']);
    // Both are tried for ever: with systemd's own limit the fifth quick failure is the last.
    expect([valuesOf(name, 'Restart'), valuesOf(name, 'StartLimitIntervalSec')]).toEqual([['always'], ['0']]);
  }
  const hardening = (name: string) =>
    settings(name).filter(([key]) => /^(Protect|Restrict|Private|System|Lock|NoNew|Device|Remove|User|Group|UMask|Runtime)/.test(key));
  expect(hardening(agent).filter(([key]) => key !== 'RuntimeDirectoryMode')).toEqual(
    hardening(lane).filter(([key]) => key !== 'RuntimeDirectoryMode'),
  );
  expect(valuesOf(lane, 'ExecStart')).toEqual(['/usr/local/bin/taplane lane --socket /run/taplane/lane-%i.sock --stay']);
  expect(valuesOf(agent, 'ExecReload')).toEqual(['/bin/kill -HUP $MAINPID']);
  expect(valuesOf(agent, 'Environment')).toEqual(['TAPLANE_LANE_MODE=external']);
  expect(valuesOf(agent, 'RuntimeDirectory')).toEqual(['taplane']);
});
