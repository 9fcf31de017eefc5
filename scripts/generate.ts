// `npm run generate`: makes src/gen anew from proto/.

import { writeGeneratedCode } from './generated-code.ts';

await writeGeneratedCode();
