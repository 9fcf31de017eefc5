// The agent as the harness holds it: its life, its folders, and what is said when it does not start.

import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { startAgent } from './agent.ts';
import { createNamespace } from './namespace.ts';
import { runningChildren } from './process.ts';

describe('an agent of the harness', () => {
  it('runs in its namespace, answers client and command line, stops cleanly, starts again after kill -9, and leaves nothing', async () => {
    await using ns = createNamespace();
    let folder: string;
    {
      await using agent = await startAgent({ namespace: ns });
      folder = agent.folder;
      console.log(`ready after ${agent.readyMs.toFixed(0)} ms`);
      expect(ns.run('ip', 'netns', 'identify', String(agent.pid)).trim()).toBe(ns.name);
      expect((await agent.client().node.getNode()).version).toMatch(/^\d+\.\d+\.\d+/);
      expect(await agent.cli(['version'])).toMatchObject({ code: 0, stderr: '' });
      expect(agent.rss()).toBeGreaterThan(10e6);
      expect(agent.fds()).toBeGreaterThan(3);

      const first = agent.pid;
      await agent.kill9();
      expect(existsSync(`/proc/${first}`)).toBe(false);
      expect(existsSync(agent.stateDir)).toBe(true);
      await agent.restart();
      expect(agent.pid).not.toBe(first);
      await agent.restart();
      expect((await agent.stop()).code).toBe(0);
    }
    expect(existsSync(folder)).toBe(false);
    expect(runningChildren()).toEqual([]);
  });

  it('that does not start says why, and leaves nothing', async () => {
    await expect(startAgent({ args: ['--nats', 'not-an-address'] })).rejects.toThrow(/wait for the ready line: it ended\n[\s\S]*nats/);
    expect(runningChildren()).toEqual([]);
  });

  it('that is not ready in time says what it said until then', async () => {
    await expect(startAgent({ readyTimeoutMs: 1 })).rejects.toThrow(/not within 1 ms/);
    expect(runningChildren()).toEqual([]);
  });
});
