import { type ChildProcess, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { vi } from 'vitest';
import { main } from '../../src/cli/main.js';

const BIN = fileURLToPath(new URL('../../bin/sdxi.js', import.meta.url));
/** A command that hangs fails its test, not the suite. Commands that take longer say so. */
const LIMIT_MS = 18_000;

export interface RunResult {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  env?: NodeJS.ProcessEnv;
  input?: string;
  limitMs?: number;
  /** Called with the process once it runs. */
  onStart?: (child: ChildProcess) => void;
}

/** Runs `sdxi` as a user does, without a terminal. */
export function sdxi(args: string[], { env, input, limitMs = LIMIT_MS, onStart }: RunOptions = {}): Promise<RunResult> {
  return new Promise((resolve, reject) => {
    const { NO_COLOR: _no, FORCE_COLOR: _force, ...inherited } = process.env;
    const child = spawn(process.execPath, [BIN, ...args], { env: { ...inherited, ...env }, timeout: limitMs, killSignal: 'SIGKILL' });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
    child.stdin.end(input ?? '');
    onStart?.(child);
  });
}

/** The same with `--json`: what was printed, parsed. */
export async function sdxiJson<T>(args: string[], options?: RunOptions): Promise<RunResult & { json: T }> {
  const result = await sdxi([...args, '--json'], options);
  return { ...result, json: JSON.parse(result.stdout) as T };
}

/** Sends SIGINT once the process has DMA memory, which it gets after its handlers, and a moment to be in the middle of its work. */
export async function interrupt(child: ChildProcess): Promise<void> {
  // A process that is gone already has no maps left; then there is nobody to interrupt.
  while (child.exitCode === null && !readFileSync(`/proc/${child.pid}/maps`, 'utf8').includes('memfd:sdxi')) await pause(20);
  await pause(500);
  child.kill('SIGINT');
}

/** Runs the command in this process: a tenth of the time, and the same but for signals, colours and standard input. */
export async function here(args: string[]): Promise<Omit<RunResult, 'signal'>> {
  const printed = { stdout: '', stderr: '' };
  const capture = (stream: 'stdout' | 'stderr') =>
    vi.spyOn(process[stream], 'write').mockImplementation((text) => {
      printed[stream] += text;
      return true;
    });
  const spies = [capture('stdout'), capture('stderr')];
  try {
    const code = await main(args);
    return { code, ...printed };
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

/** The same with `--json`. */
export async function hereJson<T>(args: string[]): Promise<Omit<RunResult, 'signal'> & { json: T }> {
  const result = await here([...args, '--json']);
  return { ...result, json: JSON.parse(result.stdout) as T };
}

/** What every command prints when it fails in `--json` mode. */
export interface FailureJson {
  ok: false;
  error: { code: string; message: string; hint?: string };
}
