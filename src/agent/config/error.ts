// Every problem of a configuration at once, each with where it stands, what is wrong, and what to write instead.

export interface ConfigProblem {
  /** File with line and column, `environment`, or `command line`. */
  source: string;
  /** Path in the file, name of the variable, or flag; empty for the source as a whole. */
  field: string;
  cause: string;
  cure: string;
}

export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly ConfigProblem[];

  constructor(problems: ConfigProblem[]) {
    const lines = problems.map(
      ({ source, field, cause, cure }) => `  ${[source, field].filter(Boolean).join(': ')}: ${cause}\n    ${cure}`,
    );
    super(`read configuration: ${problems.length} ${problems.length === 1 ? 'problem' : 'problems'}\n${lines.join('\n')}`);
    this.problems = problems;
  }
}
