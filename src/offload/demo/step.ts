import type { SdxiDriver } from '../../driver/index.js';
import type { Mover } from '../../mover/index.js';

/** What the steps of the demo share. */
export interface Stage {
  readonly mover: Mover;
  /** The function that the mover works with. */
  readonly driver: SdxiDriver;
  /** File that is moved. */
  readonly file: string;
  /** Directory for what the demo writes. */
  readonly directory: string;
  readonly corrupt?: 'data' | 'guard';
  readonly signal?: AbortSignal;
}

/** What a step has found out. Rates are bytes per second; the CPU's are of its own copy in the same run. */
export interface StepResult {
  name: string;
  /** The step did what it should, and every byte was looked at. */
  ok: boolean;
  /** What was done, for people. */
  what: string;
  bytes?: number;
  seconds?: number;
  bytesPerSecond?: number;
  cpuSeconds?: number;
  cpuBytesPerSecond?: number;
  /** Speed divided by the CPU's. */
  ratioToCpu?: number;
  /** Why it is not ok, or what is worth a remark. */
  remark?: string;
  details?: Record<string, unknown>;
}

/** The figures of a step that moved bytes, function and CPU. */
export function rates(bytes: number, seconds: number, cpuSeconds: number): Partial<StepResult> {
  return {
    bytes,
    seconds,
    bytesPerSecond: bytes / seconds,
    cpuSeconds,
    cpuBytesPerSecond: bytes / cpuSeconds,
    ratioToCpu: cpuSeconds / seconds,
  };
}

/** Seconds that something took. */
export async function timed(work: () => unknown): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}
