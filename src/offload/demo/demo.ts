import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { AbortError, SdxiError } from '../../errors.js';
import { open } from '../../mover/index.js';
import { describeFunction, provokeError, runDmatest, watchEventLoop } from './behaviour.js';
import { closeGroup, copyBetweenOthers, describeGroup, interruptAnother, openGroup, refuseEach } from './group.js';
import { fillMemory, migratePages, moveFile } from './movement.js';
import type { Stage, StepResult } from './step.js';

const STEPS = {
  function: describeFunction,
  dmatest: runDmatest,
  file: moveFile,
  fill: fillMemory,
  pages: migratePages,
  error: provokeError,
  'event-loop': watchEventLoop,
} satisfies Record<string, (stage: Stage) => Promise<StepResult>>;

export type DemoStep = keyof typeof STEPS;

/** All steps, in their order. */
export const DEMO_STEPS = Object.keys(STEPS) as DemoStep[];

/** Steps of the demo of a function group, in their order. */
const GROUP_STEPS = [
  ['group', describeGroup],
  ['three-party', copyBetweenOthers],
  ['interrupt', interruptAnother],
  ['refused', refuseEach],
] as const;

export interface DemoOptions {
  uri: string;
  /** File to move; default the running node binary. */
  file?: string;
  /** Steps to make; default all. */
  only?: readonly DemoStep[];
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
async function attempt(name: string, step: () => Promise<StepResult>): Promise<StepResult> {
  try {
    return await step();
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
  const { uri, file = process.execPath, only = DEMO_STEPS, corrupt, signal, onStep } = options;
  const mover = await open(uri);
  const directory = await mkdtemp(join(tmpdir(), 'sdxi-demo-'));
  try {
    const [brought] = mover.functions;
    const [about] = mover.info().functions as unknown[];
    const stage: Stage = { mover, driver: brought.driver, file, directory, corrupt, signal };
    const steps: StepResult[] = [];
    for (const name of DEMO_STEPS.filter((step) => only.includes(step))) {
      if (signal?.aborted) throw new AbortError('demo', { cause: signal.reason });
      const step = await attempt(name, () => STEPS[name](stage));
      steps.push(step);
      onStep?.(step);
    }
    return { ok: steps.every((step) => step.ok), function: about, steps };
  } finally {
    await rm(directory, { recursive: true, force: true });
    await mover.close();
  }
}

/**
 * Three functions of one group: a copy between two of them by the third, a remote interrupt, and each remote access that is refused.
 * @throws ArgumentError for a URI that is not `embedded:`; otherwise as {@link runDemo}
 */
export async function runGroupDemo({ uri, signal, onStep }: Pick<DemoOptions, 'uri' | 'signal' | 'onStep'>): Promise<DemoReport> {
  const stage = await openGroup(uri, signal);
  try {
    const steps: StepResult[] = [];
    for (const [name, make] of GROUP_STEPS) {
      if (signal?.aborted) throw new AbortError('demo', { cause: signal.reason });
      const step = await attempt(name, () => make(stage));
      steps.push(step);
      onStep?.(step);
    }
    return { ok: steps.every((step) => step.ok), function: steps[0].details, steps };
  } finally {
    await closeGroup(stage);
  }
}
