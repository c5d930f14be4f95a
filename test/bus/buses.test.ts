import { afterEach, describe, expect, it } from 'vitest';
import type { Bus } from '../../src/bus/index.js';
import { Access } from '../../src/memory/address-space.js';
import { allocateRegion, pinRegion } from '../../src/memory/region.js';
import { BAR0_BYTES, ContextState, FunctionRequest, FunctionState, Reg } from '../../src/spec/index.js';
import { thrown } from '../driver/rig.js';
import { BUSES, EMBEDDED, MiniDriver, tick } from './rig.js';

const opened: Bus[] = [];
afterEach(() => Promise.all(opened.splice(0).map((bus) => bus.close())));

function opening<B extends Bus>(open: (options?: string) => Promise<B>): (options?: string) => Promise<B> {
  return async (options) => {
    const bus = await open(options);
    opened.push(bus);
    return bus;
  };
}

describe.each(BUSES)('a bus: $name', ({ open }) => {
  const start = opening(open);

  describe('registers', () => {
    it('ref §2.2: reads and writes 64 bits', async () => {
      const bus = await start();
      expect(bus.readRegister(Reg.VERSION)).toBe(0x10000n);
      bus.writeRegister(Reg.ERR_WRT, 0xfedc_ba98_7654_3210n);
      expect(bus.readRegister(Reg.ERR_WRT)).toBe(0xfedc_ba98_7654_3210n);
      bus.writeRegister(Reg.STS0, 0xffn);
      expect(bus.readRegister(Reg.STS0)).toBe(0n);
      expect(bus.readRegister(0x40000)).toBe(0n);
    });

    it('options of the URI show up in the capabilities', async () => {
      const bus = await start('maxContext=7&sfunc=0x801&dbStride=1');
      expect(bus.readRegister(Reg.CAP0) & 0xffffn).toBe(0x801n);
      expect((bus.readRegister(Reg.CAP1) >> 16n) & 0xffffn).toBe(7n);
      expect(bus.doorbellBytes).toBe(0x10000);
      expect(bus.vectors).toBe(10);
    });

    it.each([-8, 0.5, BAR0_BYTES - 7, BAR0_BYTES, Number.NaN, 2 ** 60])('refuses offset %s', async (offset) => {
      const bus = await start();
      expect(thrown(() => bus.readRegister(offset)).code).toBe('ERR_SDXI_ARGUMENT');
      expect(thrown(() => bus.writeRegister(offset, 0n)).code).toBe('ERR_SDXI_ARGUMENT');
    });

    it.each([-1n, 2n ** 64n, 5 as unknown as bigint])('refuses value %s', async (value) => {
      const bus = await start();
      expect(thrown(() => bus.writeRegister(Reg.ERR_WRT, value)).code).toBe('ERR_SDXI_ARGUMENT');
    });

    it('S-100: a write that is not aligned reaches the function, which drops it', async () => {
      const bus = await start();
      bus.writeRegister(Reg.ERR_WRT + 4, 5n);
      expect(bus.readRegister(Reg.ERR_WRT)).toBe(0n);
      expect(bus.readRegister(Reg.ERR_WRT + 8)).toBe(0n);
    });
  });

  describe('doorbells', () => {
    it('refuses offsets beyond BAR 2 and values that are no index', async () => {
      const bus = await start();
      for (const offset of [-4096, bus.doorbellBytes, 0.5, Number.NaN, 2 ** 60]) {
        expect(thrown(() => bus.writeDoorbell(offset, 0)).code).toBe('ERR_SDXI_ARGUMENT');
      }
      for (const value of [-1, 0.5, Number.NaN, 2 ** 53]) {
        expect(thrown(() => bus.writeDoorbell(0, value)).code).toBe('ERR_SDXI_ARGUMENT');
      }
    });
  });

  describe('memory', () => {
    it('moves bytes between regions, allocated and pinned at odd addresses', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      const source = pinRegion(new Uint8Array(100_003).subarray(3).fill(7));
      const destination = allocateRegion(100_000);
      bus.map({ iova: source.address, region: source, access: Access.READ });
      bus.map({ iova: 0x7_0000_0000, region: destination, access: Access.WRITE });
      const index = driver.copy(source.address, 0x7_0000_0000, 100_000);
      driver.doorbell();
      await bus.wait(() => driver.readIndex === index, { what: 'copy', timeoutMs: 2000 });
      expect(destination.bytes.subarray(0, 100_000).every((byte) => byte === 7)).toBe(true);
    });

    it('parts of a region may lie anywhere', async () => {
      const bus = await start();
      const region = allocateRegion(8 * 4096);
      const map = (page: number) =>
        bus.map({ iova: 0x100_0000 + page * 0x10_0000, region, offset: page * 4096, byteLength: 4096, access: Access.READ });
      for (let page = 0; page < 8; page++) map(page);
      expect(thrown(() => map(3))).toMatchObject({ code: 'ERR_SDXI_MAPPING' });
    });

    it('S-102: after unmap() the function reaches nothing there any more', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      const region = allocateRegion(2 * 4096);
      bus.map({ iova: 0x5000_0000, region, access: Access.READ_WRITE });
      bus.unmap(0x5000_0000, 2 * 4096);
      bus.unmap(0x5000_0000, 2 * 4096);
      bus.unmap(0x9000_0000, 4096);
      driver.copy(driver.scratch, 0x5000_0000, 64);
      driver.doorbell();
      await bus.wait(() => driver.contextState === ContextState.ERR_FN, { what: 'error', timeoutMs: 2000 });
    });

    it('a range takes all mappings in it, and does not cut one', async () => {
      const bus = await start();
      const region = allocateRegion(4 * 4096);
      const map = (page: number) =>
        bus.map({ iova: 0x5000_0000 + page * 4096, region, offset: page * 4096, byteLength: 4096, access: Access.READ });
      for (let page = 0; page < 4; page++) map(page);
      expect(thrown(() => bus.unmap(0x5000_0000 - 4096, 4096 * 2 + 64))).toMatchObject({ code: 'ERR_SDXI_MAPPING' });
      bus.unmap(0x5000_0000 - 4096, 4096 * 3);
      map(0);
      map(1);
      expect(thrown(() => map(2))).toMatchObject({ code: 'ERR_SDXI_MAPPING' });
    });

    it.each([
      ['an address that is not congruent', { iova: 0x5000_0040 }],
      ['an address beyond 2^53', { iova: 2 ** 53 }],
      ['a range that wraps', { iova: 2 ** 53 - 4096, byteLength: 8192 }],
      ['a negative address', { iova: -4096 }],
      ['more than the region', { byteLength: 3 * 4096 }],
      ['nothing', { byteLength: 0 }],
      ['a part beyond the region', { offset: 8192, byteLength: 4096 }],
      ['no access', { access: 0 as Access }],
      ['a PASID of 21 bits', { pasid: 0x10_0000 }],
      ['what is mapped already', { iova: 0x6000_0000 }],
    ])('refuses to map %s, and stays usable', async (_, wrong) => {
      const bus = await start();
      const region = allocateRegion(2 * 4096);
      bus.map({ iova: 0x6000_0000, region, access: Access.READ });
      const error = thrown(() => bus.map({ iova: 0x5000_0000, region, access: Access.READ, ...wrong }));
      expect(error).toMatchObject({ code: 'ERR_SDXI_MAPPING', hint: expect.any(String) });
      bus.map({ iova: 0x5000_0000, region, access: Access.READ });
    });

    it('refuses memory that has been taken away', async () => {
      const bus = await start();
      const region = Object.create(allocateRegion(4096), { attached: { value: false } });
      expect(thrown(() => bus.map({ iova: region.address, region, access: Access.READ }))).toMatchObject({ code: 'ERR_SDXI_DETACHED' });
    });
  });

  describe('interrupts', () => {
    it('a vector counts its deliveries', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      for (let i = 0; i < 3; i++) driver.interrupt(3);
      driver.interrupt(4);
      driver.doorbell();
      await bus.wait(() => bus.interruptCount(4) === 1, { what: 'interrupt', timeoutMs: 2000, vector: 4 });
      expect(bus.interruptCount(3)).toBe(3);
      expect(bus.interruptPending(3)).toBe(false);
    });

    it('S-94: a masked vector wakes nobody until it is unmasked, and then once', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      bus.maskInterrupt(3);
      driver.interrupt(3);
      const index = driver.interrupt(3);
      driver.doorbell();
      await bus.wait(() => driver.readIndex === index, { what: 'work', timeoutMs: 2000 });
      await bus.wait(() => bus.interruptPending(3), { what: 'the interrupt', timeoutMs: 2000 });
      expect(bus.interruptCount(3)).toBe(0);
      const woken = bus.wait(() => bus.interruptCount(3) > 0, { what: 'interrupt', timeoutMs: 5000, vector: 3, mode: 'interrupt' });
      let done = false;
      void woken.then(() => {
        done = true;
      });
      await tick(30);
      expect(done).toBe(false);
      bus.unmaskInterrupt(3);
      await woken;
      expect([bus.interruptCount(3), bus.interruptPending(3)]).toEqual([1, false]);
      bus.unmaskInterrupt(3);
      bus.maskInterrupt(3);
      expect([bus.interruptCount(3), bus.interruptPending(3)]).toEqual([1, false]);
    });

    it('refuses vectors that do not exist', async () => {
      const bus = await start('vectors=4');
      for (const vector of [-1, 4, 0.5, Number.NaN]) {
        for (const use of ['interruptCount', 'maskInterrupt', 'unmaskInterrupt', 'interruptPending'] as const) {
          expect(thrown(() => bus[use](vector)).code).toBe('ERR_SDXI_ARGUMENT');
        }
        await expect(bus.wait(() => true, { what: 'x', timeoutMs: 1, vector })).rejects.toMatchObject({ code: 'ERR_SDXI_ARGUMENT' });
      }
    });
  });

  describe('waiting', () => {
    const modes = ['adaptive', 'polled', 'interrupt'] as const;

    it.each(modes)('%s: resolves when the condition holds', async (mode) => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      for (let i = 0; i < 50; i++) {
        const index = driver.interrupt(2);
        driver.doorbell();
        await bus.wait(() => driver.readIndex === index, { what: 'work', timeoutMs: 2000, vector: 2, mode });
      }
      await bus.wait(() => bus.interruptCount(2) >= 50, { what: 'the last interrupt', timeoutMs: 2000 });
      expect(bus.interruptCount(2)).toBe(50);
    });

    it('an interrupt that never comes only delays', async () => {
      const bus = await start();
      let holds = false;
      setTimeout(() => {
        holds = true;
      }, 30);
      await bus.wait(() => holds, { what: 'x', timeoutMs: 5000, vector: 1, mode: 'interrupt' });
    });

    it('many waits at once', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      const waits = Array.from({ length: 200 }, () => {
        const index = driver.interrupt(1);
        return bus.wait(() => driver.readIndex >= index, { what: 'work', timeoutMs: 5000, vector: 1 });
      });
      driver.doorbell();
      await Promise.all(waits);
    });

    it.each(modes)('%s: rejects at the deadline, after one last look', async (mode) => {
      const bus = await start();
      const error = await bus.wait(() => false, { what: 'nothing', timeoutMs: 30, vector: 1, mode }).catch((e) => e);
      expect(error).toMatchObject({ name: 'TimeoutError', code: 'ERR_SDXI_TIMEOUT', message: 'nothing: no answer within 30 ms' });
      const before = performance.now();
      let late = false;
      // Holds only for who looks after the deadline.
      await bus.wait(() => (late ||= performance.now() >= before + 30), { what: 'late', timeoutMs: 30, vector: 1, mode });
      await expect(bus.wait(() => false, { what: 'x', timeoutMs: 0, mode })).rejects.toMatchObject({ code: 'ERR_SDXI_TIMEOUT' });
      await bus.wait(() => true, { what: 'x', timeoutMs: 0, mode });
    });

    it.each(modes)('%s: rejects when its signal aborts, before or while it waits', async (mode) => {
      const bus = await start();
      const controller = new AbortController();
      const wait = () => bus.wait(() => false, { what: 'work', timeoutMs: 10_000, signal: controller.signal, vector: 1, mode });
      const first = wait();
      setTimeout(() => controller.abort(new Error('enough')), 20);
      const error = await first.catch((e) => e);
      expect(error).toMatchObject({ name: 'AbortError', code: 'ERR_SDXI_ABORTED' });
      expect(error.cause).toBe(controller.signal.reason);
      await expect(wait()).rejects.toMatchObject({ code: 'ERR_SDXI_ABORTED' });
    });

    it('leaves no listener behind', async () => {
      const bus = await start();
      const { signal } = new AbortController();
      let listeners = 0;
      const add = signal.addEventListener.bind(signal);
      const remove = signal.removeEventListener.bind(signal);
      signal.addEventListener = (...args: Parameters<typeof add>) => {
        listeners++;
        add(...args);
      };
      signal.removeEventListener = (...args: Parameters<typeof remove>) => {
        listeners--;
        remove(...args);
      };
      for (let i = 0; i < 5; i++) {
        await bus.wait(() => false, { what: 'x', timeoutMs: 5, signal, vector: 1, mode: 'interrupt' }).catch(() => {});
      }
      expect(listeners).toBe(0);
    });

    it('an error of the condition goes to the caller', async () => {
      const bus = await start();
      let looks = 0;
      const failing = () => {
        if (++looks > 5) throw new Error('broken condition');
        return false;
      };
      await expect(bus.wait(failing, { what: 'x', timeoutMs: 1000, vector: 1 })).rejects.toThrow('broken condition');
    });

    it('refuses durations and modes that do not exist', async () => {
      const bus = await start();
      for (const wrong of [{ timeoutMs: -1 }, { timeoutMs: Number.NaN }, { timeoutMs: '5' }, { mode: 'hopeful' }]) {
        await expect(bus.wait(() => true, { what: 'x', timeoutMs: 1, ...wrong } as never)).rejects.toMatchObject({
          code: 'ERR_SDXI_ARGUMENT',
        });
      }
    });

    it('spin() says whether the condition holds', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      const index = driver.nop();
      driver.doorbell();
      expect(bus.spin(() => driver.readIndex === index, 2000)).toBe(true);
      expect(bus.spin(() => false, 2)).toBe(false);
    });
  });

  it('S-46, S-107: reset() is a function-level reset, and unmasks', async () => {
    const bus = await start();
    const driver = new MiniDriver(bus);
    bus.maskInterrupt(1);
    const index = driver.interrupt(1);
    driver.doorbell();
    await bus.wait(() => driver.readIndex === index, { what: 'work', timeoutMs: 2000 });
    bus.reset();
    expect(bus.readRegister(Reg.STS0)).toBe(BigInt(FunctionState.STOP));
    expect(bus.readRegister(Reg.CXT_L2)).toBe(0n);
    expect(bus.interruptPending(1)).toBe(false);
    bus.unmaskInterrupt(1);
    expect(bus.interruptCount(1)).toBe(0);
    expect(driver.contextState).toBe(ContextState.RUN);
  });

  describe('closing', () => {
    it('is idempotent, and everything after it throws ClosedError', async () => {
      const bus = await start();
      const region = allocateRegion(4096);
      const twice = [bus.close(), bus.close()];
      await Promise.all(twice);
      await bus.close();
      const uses: (() => unknown)[] = [
        () => bus.readRegister(0),
        () => bus.writeRegister(0, 0n),
        () => bus.writeDoorbell(0, 0),
        () => bus.writeDoorbell(8, 0),
        () => bus.map({ iova: region.address, region, access: Access.READ }),
        () => bus.unmap(region.address, 4096),
        () => bus.interruptCount(0),
        () => bus.maskInterrupt(0),
        () => bus.unmaskInterrupt(0),
        () => bus.interruptPending(0),
        () => bus.spin(() => true, 1),
        () => bus.reset(),
      ];
      for (const use of uses) expect(thrown(use)).toMatchObject({ name: 'ClosedError', code: 'ERR_SDXI_CLOSED' });
      await expect(bus.wait(() => true, { what: 'x', timeoutMs: 1 })).rejects.toMatchObject({ code: 'ERR_SDXI_CLOSED' });
    });

    it.each(['adaptive', 'polled', 'interrupt'] as const)('rejects pending waits (%s)', async (mode) => {
      const bus = await start();
      const wait = bus.wait(() => false, { what: 'x', timeoutMs: 10_000, vector: 1, mode });
      const rejected = expect(wait).rejects.toMatchObject({ code: 'ERR_SDXI_CLOSED' });
      await tick(10);
      await bus.close();
      await rejected;
    });

    it('ends in the middle of work', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      const region = allocateRegion(128 * 2 ** 20);
      bus.map({ iova: 0x1_0000_0000, region, access: Access.READ_WRITE });
      for (let i = 0; i < 200; i++) driver.copy(0x1_0000_0000, 0x1_0400_0000, 64 * 2 ** 20);
      driver.doorbell();
      const wait = bus.wait(() => false, { what: 'x', timeoutMs: 10_000 });
      const rejected = expect(wait).rejects.toMatchObject({ code: 'ERR_SDXI_CLOSED' });
      await tick(5);
      await bus.close();
      await rejected;
    });

    it('await using closes it', async () => {
      const bus = await start();
      await (bus as Bus & AsyncDisposable)[Symbol.asyncDispose]();
      expect(thrown(() => bus.readRegister(0)).code).toBe('ERR_SDXI_CLOSED');
    });
  });
});

describe.each(EMBEDDED)('a function of this process: $name', ({ open }) => {
  const start = opening(open);

  describe('what it counts', () => {
    it.each([
      ['maxContext=7', [0, 3, 7]],
      ['maxContext=63', [0, 31, 32, 63]],
      ['maxContext=2000&dbStride=3', [0, 31, 32, 1023, 1024, 2000]],
      ['maxContext=65535', [0, 1, 31, 32, 4095, 4096, 65534, 65535]],
    ])('%s: each context that rings is heard once', async (options, contexts) => {
      const bus = await start(options);
      const stride = 4096 * 2 ** Number(/dbStride=(\d)/.exec(options)?.[1] ?? 0);
      bus.writeRegister(Reg.CTL0, BigInt(FunctionRequest.ACTIVE));
      bus.spin(() => bus.readRegister(Reg.STS0) === BigInt(FunctionState.ACTIVE), 1000);
      for (const context of contexts) bus.writeDoorbell(context * stride, 1);
      // Each of them fails to load (there are no tables): one error a context.
      expect(bus.spin(() => bus.counters().errors === contexts.length, 1000)).toBe(true);
      expect(bus.counters()).toMatchObject({ doorbells: contexts.length, doorbellsDropped: 0 });
    });

    it('S-10: a doorbell before a register write is seen before it, one after it after it', async () => {
      const bus = await start();
      for (let round = 0; round < 200; round++) {
        bus.writeRegister(Reg.CTL0, BigInt(FunctionRequest.ACTIVE));
        bus.spin(() => bus.readRegister(Reg.STS0) === BigInt(FunctionState.ACTIVE), 1000);
        const before = bus.counters();
        bus.writeDoorbell(5 * 4096, round);
        bus.writeRegister(Reg.CTL0, BigInt(FunctionRequest.STOP_HD));
        bus.spin(() => bus.readRegister(Reg.STS0) === BigInt(FunctionState.STOP), 1000);
        expect(bus.counters()).toMatchObject({ doorbells: before.doorbells + 1, doorbellsDropped: before.doorbellsDropped });
        bus.writeDoorbell(5 * 4096, round);
        bus.writeRegister(Reg.ERR_RD, 0n);
        expect(bus.counters()).toMatchObject({ doorbells: before.doorbells + 2, doorbellsDropped: before.doorbellsDropped + 1 });
      }
    });

    it('S-100: a write beside a doorbell reaches the function, which drops and counts it', async () => {
      const bus = await start();
      bus.writeDoorbell(8, 1);
      bus.writeDoorbell(4096 + 4, 1);
      expect(bus.counters()).toMatchObject({ writesDropped: 2, doorbells: 0 });
    });

    it('a doorbell of a context that does not exist is dropped by the function', async () => {
      const bus = await start('maxContext=3');
      bus.writeDoorbell(4 * 4096, 1);
      expect(bus.counters()).toMatchObject({ doorbells: 1, doorbellsDropped: 1 });
    });

    it('S-100: a register write that is not aligned', async () => {
      const bus = await start();
      bus.writeRegister(Reg.ERR_WRT + 4, 5n);
      expect(bus.counters().writesDropped).toBe(1);
    });

    it('bytes that have been moved', async () => {
      const bus = await start();
      const driver = new MiniDriver(bus);
      const index = driver.copy(driver.scratch, driver.scratch + 4096, 1000);
      driver.doorbell();
      await bus.wait(() => driver.readIndex === index, { what: 'copy', timeoutMs: 2000 });
      expect(bus.counters().bytes).toBe(1000);
    });
  });

  it('parts of a region may lie anywhere, of each PASID as well', async () => {
    const bus = await start();
    const region = allocateRegion(8 * 4096);
    for (let page = 0; page < 8; page++) {
      bus.map({ iova: 0x100_0000 + page * 0x10_0000, region, offset: page * 4096, byteLength: 4096, access: Access.READ_WRITE });
      bus.map({ iova: 0x100_0000, region, offset: page * 4096, byteLength: 4096, access: Access.READ, pasid: page });
    }
    expect(
      thrown(() => bus.map({ iova: 0x100_0000, region, offset: 4096, byteLength: 4096, access: Access.READ, pasid: 3 })),
    ).toMatchObject({ code: 'ERR_SDXI_MAPPING' });
  });
});
