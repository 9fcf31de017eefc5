// Where the process starts: the command line, with the agent behind it loaded only by the commands that are the agent.

import { run } from './cli/program.ts';

process.exitCode = await run(process.argv.slice(2), {
  runAgent: async (flags) => (await import('./agent/command.ts')).runAgent(flags),
  runLane: async (flags) => (await import('./agent/lane-command.ts')).runLane(flags),
  policy: () => import('./agent/policy-check.ts'),
  checkLane: async (flags) => (await import('./agent/lane-check.ts')).checkLane(flags),
  diagnose: async (flags) => (await import('./agent/doctor.ts')).diagnose(flags),
});
