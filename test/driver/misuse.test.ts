import { describe, expect, it } from 'vitest';
import { type Context, type DmaBuffer, SdxiDriver } from '../../src/driver/index.js';
import { Arena } from '../../src/memory/arena.js';
import { BUSES, closing, driverFixture, rejection, thrown } from './rig.js';

const any = (value: unknown) => value as never;

describe.each(BUSES)('misuse over $name', ({ open }) => {
  const start = driverFixture();
  let driver: SdxiDriver;
  let context: Context;
  let memory: DmaBuffer;
  const setUp = async () => {
    driver = await start(await open());
    context = await driver.createContext();
    memory = driver.allocate(8192);
  };
  const works = async (on = context) => {
    const batch = on.begin(1);
    batch.copy(64, memory.iova, memory.iova + 4096);
    await on.limit(batch.submit());
  };

  it('a range that is none unmaps nothing', async () => {
    await setUp();
    for (const [iova, length] of [
      [0, undefined],
      [0, Number.NaN],
      [Number.NaN, 4096],
      [0, Number.POSITIVE_INFINITY],
      [-4096, 4096],
    ]) {
      expect(thrown(() => driver.bus.unmap(any(iova), any(length))).code).toBe('ERR_SDXI_ARGUMENT');
    }
    await works();
  });

  it('a spin without an end, a wait for nothing and a map of nothing are refused', async () => {
    await setUp();
    const { bus } = driver;
    for (const ms of [undefined, Number.NaN, -1, '5']) expect(thrown(() => bus.spin(() => false, any(ms))).code).toBe('ERR_SDXI_ARGUMENT');
    expect(thrown(() => bus.spin(any(undefined), 1)).code).toBe('ERR_SDXI_ARGUMENT');
    expect((await rejection(bus.wait(any(undefined), { what: 'x', timeoutMs: 1 }))).code).toBe('ERR_SDXI_ARGUMENT');
    expect((await rejection(bus.wait(() => false, any(undefined)))).code).toBe('ERR_SDXI_ARGUMENT');
    expect((await rejection(bus.wait(() => false, { what: 'x', timeoutMs: 1, signal: any({}) }))).code).toBe('ERR_SDXI_ARGUMENT');
    for (const request of [undefined, {}, { iova: 0, region: {} }])
      expect(thrown(() => bus.map(any(request))).code).toBe('ERR_SDXI_ARGUMENT');
  });

  it('limits that are none are refused before anything is submitted or stopped', async () => {
    await setUp();
    for (const options of [null, 5, { timeoutMs: Number.NaN }, { signal: {} }]) {
      expect((await rejection(driver.createContext(any(options)))).code).toBe('ERR_SDXI_ARGUMENT');
      expect((await rejection(driver.recover(any(options)))).code).toBe('ERR_SDXI_ARGUMENT');
    }
    for (const options of [{ timeoutMs: Number.NaN }, { signal: {} }]) {
      expect((await rejection(driver.stop(any(options)))).code).toBe('ERR_SDXI_ARGUMENT');
      expect((await rejection(context.stop(any(options)))).code).toBe('ERR_SDXI_ARGUMENT');
      const submission = context.begin(1).submit();
      expect(thrown(() => context.limit(submission, any(options))).code).toBe('ERR_SDXI_ARGUMENT');
      await submission.done;
    }
    expect(driver.contexts.size).toBe(2);
    await works();
  });

  it('a driver takes only what it can use, and closes the bus that it refuses to drive', async () => {
    expect((await rejection(SdxiDriver.open(any(undefined)))).code).toBe('ERR_SDXI_ARGUMENT');
    for (const options of [
      null,
      { adminTimeoutMs: Number.NaN },
      { timeoutMs: 1n },
      { iovas: {} },
      { name: 5 },
      { limits: 5 },
      { signal: {} },
    ]) {
      const bus = closing(await open());
      expect((await rejection(SdxiDriver.open(bus, any(options)))).code).toBe('ERR_SDXI_ARGUMENT');
      expect(thrown(() => bus.readRegister(0)).code).toBe('ERR_SDXI_CLOSED');
    }
  });

  it('context 0 cannot be stopped or closed: nothing could bring it back', async () => {
    await setUp();
    const zero = driver.contexts.get(0) as Context;
    expect((await rejection(zero.stop())).code).toBe('ERR_SDXI_STATE');
    expect((await rejection(zero.close())).code).toBe('ERR_SDXI_STATE');
    await (await driver.createContext()).close();
  });

  it('more administrative operations than the ring of context 0 holds wait for each other', async () => {
    await setUp();
    await Promise.all(Array.from({ length: 700 }, (_, i) => context.updateKey(1 + (i % 200), {}, { timeoutMs: 20_000 })));
    await works();
  });

  it('contexts and their driver may be closed at once, and more than once', async () => {
    await setUp();
    const other = await driver.createContext();
    await Promise.all([context.close(), other.close(), driver.close(), context.close(), driver.close()]);
    await context.close();
  });

  it('whoever kept something of a closed context cannot write into the memory of the next one', async () => {
    await setUp();
    const held = context.begin(3);
    const { akeys, ring } = context;
    await context.close();
    const next = await driver.createContext();
    held.copy(64, memory.iova, memory.iova + 4096);
    expect(next.ring.u32.every((word) => word === 0)).toBe(true);
    expect(thrown(() => ring.tryReserve(1)).code).toBe('ERR_SDXI_CLOSED');
    expect(thrown(() => akeys.allocate({})).code).toBe('ERR_SDXI_CLOSED');
    expect(next.writeIndex()).toBe(0);
    await works(next);
  });

  it('a number of pairs that is none claims no room', async () => {
    await setUp();
    const [from, to] = [Float64Array.of(memory.iova), Float64Array.of(memory.iova + 4096)];
    const batch = context.begin(2);
    for (const [first, count] of [
      [0, -1],
      [-1, 1],
      [0, 0.5],
      [Number.NaN, 1],
    ]) {
      expect(thrown(() => batch.copyPairs(from, to, 64, first, count)).code).toBe('ERR_SDXI_ARGUMENT');
    }
    batch.copyPairs(from, to, 64);
    await batch.submit().done;
  });
});

it('an arena closes the files of memory that it gives up, and leaves the bytes', () => {
  const arena = new Arena();
  const { region } = arena.allocate(100);
  expect(region.file?.fd).toBeGreaterThan(0);
  arena.close();
  expect(region.file).toBeUndefined();
  region.bytes[0] = 1;
  region.closeFile?.();
});
