// The contents of the image, laid out as the Dockerfile does it, and started from there as the chart starts them: root changed and not to be
// written, the chart's capabilities, the shipped seccomp profile.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { layOut, sizeOf } from '../../scripts/image.ts';
import { LinkSpec_Protocol } from '../../src/gen/taplane/v1/link.ts';
import { CreateLinkRequest } from '../../src/gen/taplane/v1/link_service.ts';
import { creation, TUN } from '../e2e/specs.ts';
import { SOON, whenStrict } from '../harness/bound.ts';
import { SECCOMP_PROFILE } from '../harness/confined.ts';
import { ConfinedNode } from '../harness/confined-node.ts';
import { memoryOf } from '../harness/memory.ts';
import { createNamespace } from '../harness/namespace.ts';
import { run } from '../harness/process.ts';

const MOST_BYTES = 250e6;
const MOST_IDLE_BYTES = 160e6;
const IDLE_MS = 30_000;
const START = ['/usr/local/bin/node', '--max-semi-space-size=4', '--disable-warning=ExperimentalWarning', '/taplane/dist/main.js'];

whenStrict('the image: small, without a shell, and all that an agent and a lane need for an interface and a link', async () => {
  const root = mkdtempSync(join(tmpdir(), `tpl-${process.pid}-`));
  try {
    await layOut(root);
    const bytes = sizeOf(root);
    console.log(`image contents: ${(bytes / 1e6).toFixed(1)} MB`);
    expect(bytes).toBeLessThan(MOST_BYTES);
    const files = readdirSync(root, { recursive: true, encoding: 'utf8' });
    expect(files.filter((file) => /(^|\/)(sh|bash|dash|busybox|env|npm|apt|perl|python3?)$/.test(file))).toEqual([]);
    const bill = JSON.parse(readFileSync(join(root, 'taplane/sbom.cdx.json'), 'utf8')) as { components: { name: string }[] };
    for (const name of ['koffi', 'node', 'libpcap0.8']) expect(bill.components.map((component) => component.name)).toContain(name);

    const told = await run(['chroot', root, '/usr/local/bin/taplane', '--version']);
    expect(told).toMatchObject({ code: 0, stderr: '' });

    await using ns = createNamespace();
    await using node = new ConfinedNode(ns, { root, seccomp: SECCOMP_PROFILE }, START, { NODE_COMPILE_CACHE: '/taplane/compiled' });
    const agent = await node.startAgent();
    const lane = await node.startLane();
    await node.client.interfaces.create(creation('tun0', { mode: TUN, up: true, vnetHeader: true, addresses: [{ cidr: '10.96.0.1/24' }] }));
    const spec = { interface: 'interfaces/tun0', protocol: LinkSpec_Protocol.WIREGUARD, listen: ':51820' };
    await node.client.links.create(CreateLinkRequest.fromPartial({ linkId: 'wg0', link: { spec } }));
    const isUp = async (): Promise<unknown> =>
      (await node.client.node.getNode()).lanes.map(({ attachments, meters }) => [attachments, meters]);
    await expect.poll(isUp, SOON).toEqual([[1, 1]]);
    // libpcap is found: a filter compiles.
    const capture = await node.cli('capture', 'tun0', '--filter', 'udp port 53', '-w', '/dev/null', '--duration', '200ms');
    expect(capture).toMatchObject({ code: 0 });
    // After both gave back what their start needed. The image has a Node.js of its own, so what these two share nobody else does: counted once.
    await sleep(IDLE_MS);
    const idle = [agent, lane].map((part) => ({ resident: memoryOf(node.pidOf(part), 'Rss'), share: memoryOf(node.pidOf(part), 'Pss') }));
    const total = idle.reduce((sum, { share }) => sum + share, 0);
    const each = idle.map(({ resident }) => (resident / 1e6).toFixed(0)).join(' and ');
    console.log(`idle memory: agent and lane ${each} MB resident, ${(total / 1e6).toFixed(0)} MB with shared pages once`);
    expect(total).toBeLessThan(MOST_IDLE_BYTES);
    for (const part of [agent, lane]) expect((await node.terminate(part)).code).toBe(0);
    expect(existsSync(join(root, 'var/lib/taplane/state.db'))).toBe(true);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
});
