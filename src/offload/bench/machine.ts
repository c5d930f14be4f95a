import { availableParallelism, cpus, totalmem } from 'node:os';

/** What numbers must be read with: they mean nothing without it. */
export interface Machine {
  cpu: string;
  /** Processors that this process may use. */
  cores: number;
  memoryBytes: number;
  platform: string;
  arch: string;
  node: string;
}

export function thisMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cores: availableParallelism(),
    memoryBytes: totalmem(),
    platform: process.platform,
    arch: process.arch,
    node: process.version,
  };
}

/** The value in the middle; of an even number of values the lower of the two. */
export function median(values: readonly number[] | Float64Array): number {
  return percentile(values, 50);
}

/** The value that `percent` of all values do not exceed. */
export function percentile(values: readonly number[] | Float64Array, percent: number): number {
  const sorted = Float64Array.from(values).sort();
  return sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? Number.NaN;
}
