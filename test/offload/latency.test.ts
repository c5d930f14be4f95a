import { describe, expect, it } from 'vitest';
import { eventLoopDelay } from '../../src/offload/latency.js';

/** Keeps the thread busy, as a large copy would. */
function block(ms: number): void {
  for (const end = performance.now() + ms; performance.now() < end; );
}

describe('event loop delay', () => {
  it('a block is seen as a whole, also when it is all there is: at the start, with no turn before and none behind', async () => {
    const { result, delay } = await eventLoopDelay(async () => {
      block(120);
      return 'done';
    });
    expect(result).toBe('done');
    expect(delay.maxMs).toBeGreaterThan(100);
    expect(delay.seconds).toBeGreaterThan(0.1);
    expect(delay.p99Ms).toBeLessThanOrEqual(delay.maxMs);
  });
});
