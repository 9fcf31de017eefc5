// For `node --import`: loads the tiny provider before the agent, as an operator loads an SDK.

import { tinyProvider } from './tiny-provider.ts';

tinyProvider();
