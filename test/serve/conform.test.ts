import { afterEach, describe, expect, it } from 'vitest';
import { runConformance } from '../../src/conform/index.js';
import { RawBus } from './raw-bus.js';
import { type Rig, startServer } from './rig.js';

let rig: Rig | undefined;
afterEach(async () => {
  await rig?.close();
  rig = undefined;
});

describe('the conformance suite over the messages of the protocol', () => {
  it.each([
    { descriptors: true, config: {}, what: 'memory with file descriptors' },
    // Copies of 256 MiB would take more than the second that a check waits.
    { descriptors: false, config: { maxBuffer: 6 }, what: 'memory that is reached by DMA_READ and DMA_WRITE' },
  ])('$what', { timeout: 200_000 }, async ({ descriptors, config }) => {
    rig = await startServer({ config: { maxContext: 127, ...config } });
    const bus = new RawBus(rig.connect(), { descriptors });
    const report = await runConformance(bus, { strict: true, totalTimeoutMs: 180_000 });
    const failures = report.checks.filter(({ status }) => status === 'failed').map(({ id, reason }) => `${id}: ${reason}`);
    expect(failures).toEqual([]);
    expect(report.passed).toBeGreaterThan(400);
    await bus.close();
  });
});
