// The sessions of README and docs, as somebody would type them, in namespaces that vanish with them.

import { expect, it } from 'vitest';
import { whenStrict } from '../harness/bound.ts';
import { docPages, runSession, shellBlocks } from '../harness/doc-blocks.ts';

const sessions = docPages().flatMap((page) => {
  const named = Map.groupBy(
    shellBlocks(page).filter(({ session }) => session !== undefined),
    ({ session }) => session as string,
  );
  return [...named].map(([name, blocks]) => ({ page, name, blocks }));
});
const isFirst = ({ page, name }: { page: string; name: string }): boolean => page === 'README.md' && name === 'tour';

it.each(sessions.filter(isFirst))('$page: $name', ({ blocks }) => succeeds(blocks));
whenStrict.each(sessions.filter((session) => !isFirst(session)))('$page: $name', ({ blocks }) => succeeds(blocks), 300_000);

async function succeeds(blocks: Parameters<typeof runSession>[0]): Promise<void> {
  const { code, stdout, stderr } = await runSession(blocks);
  expect(code, `${stdout.slice(-2000)}\n${stderr.slice(-3000)}`).toBe(0);
}
