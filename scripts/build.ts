// `npm run build`: compiles src/ to dist/, which is what the package and the image carry.

import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { DESCRIPTORS } from './generated-code.ts';
import { ROOT, runTool } from './run-tool.ts';

const target = join(ROOT, 'dist');
// What is no longer in src must not live on in the package.
await rm(target, { recursive: true, force: true });
const { code, output } = await runTool('tsc', ['--project', 'tsconfig.build.json']);
process.stdout.write(output);
if (code === 0) await copyFile(join(ROOT, 'src', 'gen', DESCRIPTORS), join(target, 'gen', DESCRIPTORS));
process.exitCode = code;
