// Runs one tool of the project to its end. Tools of node_modules/.bin are found by name, and they find each other: buf starts
// the ts-proto plugin, which wants the same Node as we.

import { spawn } from 'node:child_process';
import { delimiter, dirname, join } from 'node:path';

export const ROOT = dirname(import.meta.dirname);

export interface ToolResult {
  /** Exit code; 128 plus the signal number is not imitated: a signal or a failed start is code 1 and named in the output. */
  code: number;
  /** Standard output and error, interleaved as they came. Empty with `inherit`. */
  output: string;
}

export interface ToolOptions {
  /** Let the tool write to our own standard output and error. */
  inherit?: boolean;
  env?: Record<string, string>;
}

export function runTool(command: string, args: string[], options: ToolOptions = {}): Promise<ToolResult> {
  const path = [join(ROOT, 'node_modules', '.bin'), process.env['PATH'] ?? ''].join(delimiter);
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: ROOT,
      env: { ...process.env, ...options.env, PATH: path },
      stdio: options.inherit ? ['ignore', 'inherit', 'inherit'] : ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    child.on('error', (error) => resolve({ code: 1, output: `${output}${error.message}\n` }));
    child.on('close', (code, signal) => {
      resolve({ code: code ?? 1, output: signal ? `${output}${command} was ended by ${signal}\n` : output });
    });
  });
}
