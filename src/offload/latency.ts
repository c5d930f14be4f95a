import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout as pause } from 'node:timers/promises';

/** The event loop is asked this often whether it is late. */
const RESOLUTION_MS = 1;

/** How late the event loop was while something ran, in milliseconds. */
export interface LoopDelay {
  medianMs: number;
  p99Ms: number;
  maxMs: number;
  samples: number;
  /** How long it ran. */
  seconds: number;
}

/**
 * How much longer than it should a timer of 1 ms took to fire while `work` ran: what a request that arrives meanwhile would
 * have waited.
 */
export async function eventLoopDelay<T>(work: () => Promise<T>): Promise<{ result: T; delay: LoopDelay }> {
  const histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  histogram.enable();
  // The first firing starts the clock; without it a block right at the start would not be seen.
  await pause(3 * RESOLUTION_MS);
  const start = performance.now();
  const result = await work();
  const seconds = (performance.now() - start) / 1000;
  // The timer that was due during the last block fires, and is counted, only now.
  await pause(2 * RESOLUTION_MS);
  histogram.disable();
  // The histogram holds times from one firing to the next, in nanoseconds: the delay is what goes beyond the interval.
  const late = (ns: number) => Math.max(0, ns / 1e6 - RESOLUTION_MS);
  return {
    result,
    delay: {
      medianMs: late(histogram.percentile(50)),
      p99Ms: late(histogram.percentile(99)),
      maxMs: late(histogram.max),
      samples: histogram.count,
      seconds,
    },
  };
}
