import { afterEach, describe, expect, it } from 'vitest';
import { type ConformanceReport, runConformance } from '../../src/conform/index.js';
import { RawBus } from '../serve/raw-bus.js';
import { type Rig, startServer } from '../serve/rig.js';

let rig: Rig | undefined;
afterEach(async () => {
  await rig?.close();
  rig = undefined;
});

/**
 * They let a moment pass after a doorbell and store into the slot then. The function's look at it takes messages here, which this process
 * answers when it gets the processor: on a busy machine that is after the store, and the function is right to take the slot.
 */
const LATE_LOOK = ['doorbells.inside-stride', 'ring.no-poll'];

function check(report: ConformanceReport, excused: readonly string[] = []): void {
  const failed = report.checks.filter(({ status, id }) => status === 'failed' && !excused.includes(id));
  expect(failed.map(({ id, reason }) => `${id}: ${reason}`)).toEqual([]);
  expect(report.passed).toBeGreaterThan(400);
}

/** Copies of 256 MiB by messages would take more than the second that a check waits. */
const MESSAGES = { maxBuffer: 6 };
const LIMITS = { strict: true, totalTimeoutMs: 180_000 };
/** Each descriptor is a dozen round trips there, and some checks have thousands. */
const PATIENT = { ...LIMITS, timeoutMs: 5000 };

describe('the conformance suite on a served function', () => {
  it.each([{ mapDoorbells: false }, { mapDoorbells: true }])('vfio-user:, doorbells mapped: $mapDoorbells', async ({ mapDoorbells }) => {
    rig = await startServer({ config: { maxContext: 127 }, mapDoorbells });
    check(await runConformance(`vfio-user:${rig.server.sockets[0]}`, LIMITS));
  });

  it('vfio-user:?shareMemory=0, where all memory is reached by messages', async () => {
    rig = await startServer({ config: { maxContext: 127, ...MESSAGES } });
    check(await runConformance(`vfio-user:${rig.server.sockets[0]}?shareMemory=0`, PATIENT), LATE_LOOK);
  });

  it.each([{ descriptors: true }, { descriptors: false }])(
    'the messages alone, memory with descriptors: $descriptors',
    async ({ descriptors }) => {
      rig = await startServer({ config: { maxContext: 127, ...(descriptors ? {} : MESSAGES) } });
      const bus = new RawBus(rig.connect(), { descriptors });
      check(await runConformance(bus, descriptors ? LIMITS : PATIENT), descriptors ? [] : LATE_LOOK);
      await bus.close();
    },
  );
});
