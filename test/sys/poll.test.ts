// Polling what is not there any more: in a process of its own, since libuv's word on it is the end of the process.

import { expect, it } from 'vitest';
import { run } from '../harness/process.ts';

const LIBC = JSON.stringify(new URL('../../src/sys/libc.ts', import.meta.url).href);

/** What a program says that has a socket `fd` of UDP. */
async function said(program: string): Promise<string> {
  const script = `import * as libc from ${LIBC};
const fd = libc.socket(2, 2 | libc.SOCK_NONBLOCK, 0);
${program}
console.log('alive');`;
  const { stdout } = await run([process.execPath, '--input-type=module-typescript', '--no-warnings', '-e', script]);
  return stdout.trim();
}

it('says EBADF of a descriptor that is closed', async () => {
  for (const call of ['pollReadable', 'pollReadableOn', 'pollWritable', 'pollError'])
    expect(await said(`libc.close(fd); try { libc.${call}(fd, () => {}); } catch (error) { console.log(error.message); }`), call).toBe(
      'poll: EBADF\nalive',
    );
});

it('goes on no more once it was closed, however often', async () => {
  expect(await said('const poll = libc.pollReadableOn(fd, () => {}); poll.close(); poll.again(); poll.close(); poll.again();')).toBe(
    'alive',
  );
});
