/** The driver keeps what the specification asks of it, so that functions with other choices (ref §14.3) serve it as well. */
import { describe, expect, it } from 'vitest';
import type { Context, DmaBuffer, SdxiDriver } from '../../src/driver/index.js';
import { Prng } from '../../src/prng.js';
import { CXT_CTL, encodeNop, NO_CSB } from '../../src/spec/index.js';
import { BUSES, driverFixture, rejection } from './rig.js';

const CHOICES = [
  'cache=start',
  'cache=sticky',
  'readIndex=early',
  'reorder=on&seed=5',
  'strictReserved=on',
  'pollInvalid=on',
  'qos=on',
  'cache=sticky&readIndex=early&reorder=on&seed=3&strictReserved=on&pollInvalid=on&qos=on',
];
const BYTES = 2 ** 18;

describe.each(BUSES)('a function with other choices, over $name', ({ open }) => {
  const start = driverFixture();

  /** Batches of random copies from one half of a buffer to the other, several in flight; the bytes are compared. */
  async function work(driver: SdxiDriver, context: Context, random: Prng): Promise<void> {
    const buffer = driver.allocate(2 * BYTES);
    random.fill(buffer.bytes.subarray(0, BYTES));
    const expected = Buffer.from(buffer.bytes);
    const done: Promise<unknown>[] = [];
    for (let at = BYTES; at < 2 * BYTES - 9000; ) {
      const count = 1 + random.below(12);
      const batch = context.begin(count);
      for (let i = 0; i < count; i++) {
        const size = 1 + random.below(700);
        const from = random.below(BYTES - size);
        batch.copy(size, buffer.iova + from, buffer.iova + at);
        expected.copyWithin(at, from, from + size);
        at += size + random.below(20);
      }
      done.push(batch.submit().done);
      if (done.length === 8) await Promise.all(done.splice(0));
    }
    await Promise.all(done);
    expect(buffer.bytes.equals(expected)).toBe(true);
  }

  it.each(CHOICES)('ref §14.3 %s: contexts come and go under the same numbers, and every byte is right', async (choice) => {
    const driver = await start(await open(choice));
    const random = new Prng(1);
    for (let round = 0; round < 3; round++) {
      // With and without a vector of its own: key 0 is not the same then (F-12).
      const contexts = [
        await driver.createContext({ vector: round !== 1, qos: round }),
        await driver.createContext({ ringEntries: 1024 + round }),
      ];
      for (const context of contexts) await work(driver, context, random);
      await Promise.all(contexts.map((context) => work(driver, context, random)));
      for (const context of contexts) await context.close();
    }
    expect(driver.bus.interruptCount(0)).toBe(0);
  });

  it.each(CHOICES)('ref §14.3 %s: a failing batch breaks nothing but itself', async (choice) => {
    const driver = await start(await open(choice));
    const context = await driver.createContext();
    const batch = context.begin(1);
    batch.copy(64, 4096, 8192); // mapped for nobody
    await rejection(batch.submit().done);
    await work(driver, context, new Prng(2));
  });

  it('F-12 cache=sticky: a context made anew with another vector raises that one', async () => {
    const driver = await start(await open('cache=sticky'));
    const options = { completion: 'interrupt' } as const;
    const old = [await driver.createContext(options), await driver.createContext(options)];
    for (const context of old) await work(driver, context, new Prng(3));
    expect(old.map(({ number, shape }) => [number, shape.vector])).toEqual([
      [1, 1],
      [2, 2],
    ]);
    for (const context of old) await context.close();
    await driver.createContext({ vector: false });
    const context = await driver.createContext(options);
    expect([context.number, context.shape.vector]).toEqual([2, 1]);
    const before = [1, 2].map((vector) => driver.bus.interruptCount(vector));
    await work(driver, context, new Prng(4));
    await driver.admin.updateFunction(); // the last INTR follows what completes its batch
    expect(driver.bus.interruptCount(1)).toBeGreaterThan(before[0]);
    expect(driver.bus.interruptCount(2)).toBe(before[1]);
  });

  it('ref §6.2 pollInvalid=on: a descriptor that is published without a doorbell is found by a sleeping engine', async () => {
    const driver = await start(await open('pollInvalid=on'));
    const context = await driver.createContext({ vector: false });
    const { ring } = context;
    const first = ring.reserve(1);
    ring.ringDoorbell(first + 1);
    await driver.bus.wait(() => false, { what: 'nothing', timeoutMs: 30 }).catch(() => {});
    expect(context.readIndex()).toBe(0);
    encodeNop(ring.u32, ring.slotWord(first), 0, NO_CSB);
    ring.publish(first, 1);
    await driver.bus.wait(() => context.readIndex() === 1, { what: 'the late descriptor', timeoutMs: 5000 });
  });

  it('S-45 qos stands in CXT_CTL', async () => {
    const driver = await start(await open());
    const { memory } = (await driver.createContext({ qos: 3 })) as unknown as { memory: { control: DmaBuffer } };
    expect(CXT_CTL.decode(memory.control.bytes.subarray(0, CXT_CTL.byteLength))).toMatchObject({ vl: 1, qos: 3 });
    expect((await rejection(driver.createContext({ qos: 4 }))).code).toBe('ERR_SDXI_ARGUMENT');
  });
});
