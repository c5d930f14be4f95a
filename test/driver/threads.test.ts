import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { EmbeddedBus } from '../../src/bus/index.js';
import type { RingShare } from '../../src/driver/index.js';
import { driverFixture } from './rig.js';

interface Job {
  ring: RingShare;
  embedded: unknown;
  count: number;
  batch: number;
  value: number;
  table: number;
}

/** Starts a producer thread; resolves when it has published all. */
function produce(job: Job): Promise<{ full: number }> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(fileURLToPath(new URL('./producer.mjs', import.meta.url)), { workerData: job });
    worker.once('message', resolve);
    worker.once('error', reject);
  });
}

describe('ref §6.1: two producers without a lock', () => {
  const start = driverFixture();

  it('in threads of their own, over many laps of one ring: every descriptor runs exactly once', async () => {
    const bus = await EmbeddedBus.open('embedded:');
    const driver = await start(bus);
    const context = await driver.createContext({ ringEntries: 1024 });
    const count = 40_000;
    const table = driver.allocate(2 * count * 4);
    const common = { ring: context.ring.share(), embedded: bus.share(), count };
    const producers = [
      produce({ ...common, batch: 7, value: 1, table: table.iova }),
      produce({ ...common, batch: 32, value: 1_000_001, table: table.iova + count * 4 }),
    ];
    // This thread produces, too.
    let own = 0;
    for (const done = Promise.all(producers).then(() => true); !(await Promise.race([done, new Promise((r) => setTimeout(r, 1))])); ) {
      try {
        const batch = context.begin(3);
        batch.nop();
        await batch.submit().done;
        own += 3;
      } catch (error) {
        // The others have filled the ring.
        expect(error).toMatchObject({ code: 'ERR_SDXI_BUSY' });
      }
    }
    // A soft stop leaves in the ring what the function has not taken yet.
    const total = 2 * count + own;
    await bus.wait(() => context.readIndex() === total, { what: 'the last descriptor', timeoutMs: 10_000 });
    await context.stop();
    expect(context.readIndex()).toBe(total);
    expect(context.writeIndex()).toBe(2 * count + own);
    const wrong: number[] = [];
    for (let i = 0; i < count; i++) {
      if (table.u32[i] !== 1 + i || table.u32[count + i] !== 1_000_001 + i) wrong.push(i);
    }
    expect(wrong).toEqual([]);
  });
});
