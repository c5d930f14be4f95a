import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AbortError, SdxiError } from '../../errors.js';
import { open } from '../../mover/index.js';
import { describeFunction, provokeError, runDmatest, watchEventLoop } from './behaviour.js';
import { fillMemory, migratePages, moveFile } from './movement.js';
import type { Stage, StepResult } from './step.js';

const STEPS: readonly { name: string; run: (stage: Stage) => Promise<StepResult> }[] = [
  { name: 'function', run: describeFunction },
  { name: 'dmatest', run: runDmatest },
  { name: 'file', run: moveFile },
  { name: 'fill', run: fillMemory },
  { name: 'pages', run: migratePages },
  { name: 'error', run: provokeError },
  { name: 'event-loop', run: watchEventLoop },
];

export interface DemoOptions {
  uri: string;
  /** File to move; default the running node binary. */
  file?: string;
  /** Flips one bit of the data of the file, or of a guard in the dmatest, to show that the demo sees it. */
  corrupt?: 'data' | 'guard';
  signal?: AbortSignal;
  onStep?: (step: StepResult) => void;
}

export interface DemoReport {
  /** Every step is. */
  ok: boolean;
  /** What was brought up. */
  function: unknown;
  steps: StepResult[];
}

/** A step that throws has failed; the next ones are made all the same. */
async function attempt(name: string, run: (stage: Stage) => Promise<StepResult>, stage: Stage): Promise<StepResult> {
  try {
    return await run(stage);
  } catch (error) {
    if (error instanceof AbortError) throw error;
    const message = error instanceof Error ? error.message : String(error);
    return { name, ok: false, what: 'failed', remark: message, details: { error: error instanceof SdxiError ? error.toJSON() : message } };
  }
}

/**
 * Brings a function up and shows what it does, step by step, each beside the CPU's own copy where bytes move.
 * @throws SdxiError when the function cannot be brought up; AbortError. A step that fails is reported, not thrown.
 */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { uri, file = process.execPath, corrupt, signal, onStep } = options;
  const mover = await open(uri);
  const directory = await mkdtemp(join(tmpdir(), 'sdxi-demo-'));
  try {
    const [brought] = mover.functions;
    const [about] = mover.info().functions as unknown[];
    const stage: Stage = { mover, driver: brought.driver, file, directory, corrupt, signal };
    const steps: StepResult[] = [];
    for (const { name, run } of STEPS) {
      if (signal?.aborted) throw new AbortError('demo', { cause: signal.reason });
      const step = await attempt(name, run, stage);
      steps.push(step);
      onStep?.(step);
    }
    return { ok: steps.every((step) => step.ok), function: about, steps };
  } finally {
    await rm(directory, { recursive: true, force: true });
    await mover.close();
  }
}
