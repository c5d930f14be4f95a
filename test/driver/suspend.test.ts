/** Suspending a driver and going on: here, or with another driver over the same memory. Ref §3.5, §10. */
import { describe, expect, it } from 'vitest';
import type { Bus, InlineBus } from '../../src/bus/index.js';
import { type Context, type DriverSnapshot, type Region, SdxiDriver, Submission } from '../../src/driver/index.js';
import { AdminOp, AtomicOp, ContextState, DescriptorType, encodeAtomic, FunctionState, Reg } from '../../src/spec/index.js';
import { closing, driverFixture, EMBEDDED, rejection, thrown, turn, wrap } from './rig.js';

const { RUN, STOP_FN, STOP_SW } = ContextState;
const PIECE = 2 ** 16;

describe.each(EMBEDDED)('suspend and resume over $name (ref §10)', ({ name, open }) => {
  const start = driverFixture();
  const inline = name === 'inline';

  interface Load {
    driver: SdxiDriver;
    contexts: Context[];
    submissions: Submission[];
    /** DMA addresses of counters, 8 bytes each. */
    counters: number;
    count: number;
    release(): void;
  }

  /** An inline function works whenever somebody waits for work: not before the test lets it, and then as far as the test says. */
  function atLeisure(bus: Bus): { bus: Bus; release: () => void } {
    let release = () => {};
    const released = new Promise<void>((resolve) => {
      release = resolve;
    });
    const wait: Bus['wait'] = async (condition, options) => {
      if (/^work of context [1-9]/.test(options.what)) await released;
      await bus.wait(condition, options);
    };
    return { bus: inline ? wrap(bus, { wait }) : bus, release };
  }

  /** Descriptors that add 1 to a counter of their own, and large copies between them; each pair is a batch. */
  async function loaded({ contexts: number = 3, pairs = 200, change = (bus: Bus) => bus } = {}): Promise<Load> {
    const { bus, release } = atLeisure(await open());
    const driver = await start(change(bus), { adminTimeoutMs: 5000 });
    const buffer = driver.allocate(2 * PIECE);
    const counters = driver.allocate(number * pairs * 16).iova;
    const contexts: Context[] = [];
    const submissions: Submission[] = [];
    for (let c = 0; c < number; c++) contexts.push(await driver.createContext());
    for (const [c, context] of contexts.entries()) {
      for (let n = 0; n < pairs; n++) {
        const at = counters + 16 * (c * pairs + n);
        const batch = context.begin(2, { bytes: PIECE });
        batch.write((u32, word, flags, csb) => encodeAtomic(u32, word, flags, csb, AtomicOp.UADD, 8, 0, at, 0, at + 8, 1, 0, 0, 0));
        batch.copy(PIECE, buffer.iova, buffer.iova + PIECE);
        submissions.push(batch.submit());
      }
    }
    if (pairs > 9) (bus as Partial<InlineBus>).step?.(50);
    else release();
    return { driver, contexts, submissions, counters, count: number * pairs, release };
  }

  const counts = (driver: SdxiDriver, { counters, count }: Load) => {
    const { bytes } = driver.bufferAt(counters);
    return Array.from({ length: count }, (_, i) => bytes.readBigUInt64LE(16 * i));
  };

  it('ref §10 everything in the rings completes after the resume, exactly once', async () => {
    const load = await loaded();
    const { driver, contexts, submissions, release } = load;
    const snapshot = await driver.suspend();
    release();
    expect(driver.state()).toBe(FunctionState.STOP);
    expect(driver.suspended).toBe(true);
    const pending = submissions.filter(({ settled }) => !settled).length;
    if (inline) expect(pending).toBeGreaterThan(0);
    for (const context of contexts) expect(context.state()).toBe(STOP_FN);
    expect(snapshot.contexts.map(({ number, readIndex }) => [number, readIndex]).slice(1)).toEqual(
      contexts.map((context) => [context.number, context.readIndex()]),
    );
    const before = contexts.map((context) => context.readIndex());
    for (let i = 0; i < 5; i++) await turn();
    expect(contexts.map((context) => context.readIndex())).toEqual(before);
    await driver.resume();
    await Promise.all(submissions.map(({ done }) => done));
    expect(counts(driver, load).every((count) => count === 1n)).toBe(true);
    expect([driver.state(), driver.suspended, ...contexts.map((context) => context.state())]).toEqual([2, false, RUN, RUN, RUN]);
    expect(driver.errorLog.history).toEqual([]);
  });

  it('ref §10 another driver goes on with the same memory: contexts, keys and rings are where they were', async () => {
    const load = await loaded();
    const { driver, contexts } = load;
    const key = contexts[1].akeys.allocate({ intr_num: 1, iv: 1 });
    const used = counts(driver, load).length;
    const json = JSON.stringify(await driver.suspend());
    const pending = contexts.map((context) => context.writeIndex() - context.readIndex());
    const { regions } = driver;
    await driver.close();
    const other = closing(await SdxiDriver.resume(await open(), json, { memory: regions, adminTimeoutMs: 5000 }));
    expect([...other.contexts.keys()]).toEqual([0, 1, 2, 3]);
    const successors = [1, 2, 3].map((number) => other.contexts.get(number) as Context);
    expect(successors.map(({ inherited }) => inherited.length > 0)).toEqual(pending.map((count) => count > 0));
    for (const { inherited } of successors) for (const { submission } of inherited) await submission.done;
    await Promise.all(successors.map((context) => context.idle()));
    expect(counts(other, load)).toEqual(Array(used).fill(1n));
    // What is taken stays taken, what is new finds its place.
    expect(successors[1].akeys.allocate({})).toBe(key + 1);
    const fresh = other.allocate(4096);
    const spans = JSON.parse(json).memory.flatMap(({ iova, pieces }: DriverSnapshot['memory'][number]) =>
      (pieces ?? []).map(([at, length]) => [iova + at, iova + at + length]),
    );
    expect(spans.filter(([first, end]: number[]) => first < fresh.iova + 4096 && fresh.iova < end)).toEqual([]);
    const context = await other.createContext();
    expect(context.number).toBe(4);
    expect(new Set(successors.map(({ shape }) => shape.vector)).has(context.shape.vector)).toBe(false);
    const batch = context.begin(1);
    batch.copy(4096, fresh.iova, other.allocate(4096).iova);
    await batch.submit().done;
    expect(other.errorLog.history).toEqual([]);
  });

  it('S-86 a hard suspension abandons what is in execution, says so, and keeps the rest', async () => {
    const load = await loaded();
    const { driver, contexts, submissions, release } = load;
    await driver.suspend({ hard: true });
    release();
    const reads = new Map(contexts.map((context) => [context.number, context.readIndex()]));
    if (inline) expect(contexts.map((context) => context.readIndex() < context.writeIndex())).toEqual([true, true, true]);
    const results = Promise.allSettled(submissions.map(({ done }) => done));
    await driver.resume();
    const rejected = (await results).filter((result) => result.status === 'rejected').map(({ reason }) => reason);
    expect(rejected.length).toBeLessThanOrEqual(contexts.length);
    for (const { code, fields } of rejected) expect([code, fields.index + 1]).toEqual(['ERR_SDXI_CONTEXT', reads.get(fields.context)]);
    // At most once, and all that Read_Index had not passed.
    const found = counts(driver, load);
    expect(found.every((count) => count <= 1n)).toBe(true);
    expect(found.filter((count) => count === 0n).length).toBeLessThanOrEqual(rejected.length);
    for (const context of contexts) expect(context.state()).toBe(RUN);
  });

  // An engine thread cannot be stopped at a chosen turn.
  it.each(inline ? ['', 'reorder=on&seed=1', 'reorder=on&readIndex=early&seed=9'] : [])(
    'S-86 %s: who resolves after a hard stop has been done as a whole',
    async (options) => {
      for (let turns = 1; turns < 16; turns++) {
        const { bus, release } = atLeisure(await open(options));
        const driver = await start(bus);
        const context = await driver.createContext({ vector: false });
        const [data, target] = [driver.allocate(8 * PIECE), driver.allocate(8 * PIECE)];
        data.bytes.fill(1);
        const batch = context.begin(8);
        // Several of them in one batch, as those of a mover are.
        const submissions = Array.from({ length: 8 }, (_, i) => {
          const submission = new Submission();
          batch.copy(PIECE, data.iova + i * PIECE, target.iova + i * PIECE);
          batch.cut(submission);
          return submission;
        });
        batch.submit();
        for (const submission of submissions) submission.seal();
        (bus as InlineBus).step(turns);
        await driver.suspend({ hard: true });
        release();
        const results = Promise.allSettled(submissions.map(({ done }) => done));
        await driver.resume();
        for (const [i, { status }] of (await results).entries()) {
          const whole = target.bytes.subarray(i * PIECE, (i + 1) * PIECE).equals(data.bytes.subarray(0, PIECE));
          if (status === 'fulfilled') expect([turns, i, whole]).toEqual([turns, i, true]);
        }
        await driver.close();
      }
    },
  );

  it('while it is suspended nothing new is taken, and errors say what to do', async () => {
    const { driver, contexts, release } = await loaded();
    await driver.suspend();
    release();
    const refused = { code: 'ERR_SDXI_STATE', message: expect.stringContaining('is suspended'), hint: expect.stringContaining('resume') };
    expect(thrown(() => contexts[0].begin(1))).toMatchObject(refused);
    for (const attempt of [
      driver.createContext(),
      driver.stop(),
      contexts[0].stop(),
      contexts[0].start(),
      contexts[0].close(),
      contexts[0].updateKey(0, {}),
      contexts[0].recover(),
      driver.admin.sync({ filter: 0 }),
    ]) {
      expect(await rejection(attempt)).toMatchObject(refused);
    }
    // Twice is once, and memory may be had.
    expect((await driver.suspend()).contexts.length).toBe(4);
    driver.allocate(64).free();
    await driver.resume();
    expect(await rejection(driver.resume())).toMatchObject({ code: 'ERR_SDXI_STATE', message: expect.stringContaining('not suspended') });
    await Promise.all(contexts.map((context) => context.idle()));
  });

  it('a batch that was begun and not submitted, a stopped driver, a closed one, and an argument that is none', async () => {
    const { driver, contexts } = await loaded({ pairs: 1 });
    const batch = contexts[0].begin(1);
    expect(await rejection(driver.suspend())).toMatchObject({ code: 'ERR_SDXI_STATE', message: expect.stringContaining('not submitted') });
    expect(driver.suspended).toBe(false);
    await batch.submit().done;
    expect((await rejection(driver.suspend({ timeoutMs: -1 }))).code).toBe('ERR_SDXI_ARGUMENT');
    await driver.stop();
    expect(await rejection(driver.suspend())).toMatchObject({ code: 'ERR_SDXI_STATE', hint: expect.stringContaining('recover') });
    await driver.recover();
    await driver.suspend();
    await driver.close();
    for (const attempt of [driver.suspend(), driver.resume()]) expect((await rejection(attempt)).code).toBe('ERR_SDXI_CLOSED');
  });

  it('time stands still for what was under way, and signals do not', async () => {
    const { driver, contexts, submissions, release } = await loaded({ contexts: 1, pairs: 100 });
    const timed = contexts[0].limit(submissions[98], { timeoutMs: 2000 });
    const controller = new AbortController();
    const aborted = rejection(contexts[0].limit(submissions[99], { signal: controller.signal }));
    aborted.catch(() => {}); // it may be done already
    const snapshot = await driver.suspend();
    release();
    const now = performance.now;
    performance.now = () => now.call(performance) + 60_000;
    try {
      await turn();
      if (!submissions[99].settled) {
        controller.abort();
        expect((await aborted).code).toBe('ERR_SDXI_ABORTED');
        // What was taken back is not in the next snapshot.
        const work = (state: DriverSnapshot) => state.contexts[1].work.reduce((sum, { segments }) => sum + segments.length, 0);
        expect(work(await driver.suspend())).toBe(work(snapshot) - 1);
      }
      await driver.resume();
      await timed;
    } finally {
      performance.now = now;
    }
    await contexts[0].idle();
  });

  it('contexts that were stopped stay stopped, and CXT_START wakes them with all that they had', async () => {
    const { driver, contexts } = await loaded({ pairs: 1 });
    await Promise.all(contexts.map((context) => context.idle()));
    await contexts[1].stop();
    const batch = contexts[1].begin(1);
    batch.nop();
    const submission = batch.submit();
    await driver.suspend();
    await driver.resume();
    expect([contexts[0].state(), contexts[1].state(), submission.settled]).toEqual([RUN, STOP_SW, false]);
    const json = JSON.stringify(await driver.suspend());
    const other = closing(await SdxiDriver.resume(await open(), json, { memory: driver.regions }));
    const successor = other.contexts.get(2) as Context;
    expect(successor.state()).toBe(STOP_SW);
    await successor.start();
    await successor.inherited[0].submission.done;
    expect([successor.state(), successor.readIndex()]).toEqual([RUN, successor.writeIndex()]);
  });

  it('a context that has failed and was not looked at rejects whom it concerns, after the resume too', async () => {
    const { driver, contexts } = await loaded({ contexts: 1, pairs: 1 });
    await contexts[0].idle();
    const bad = contexts[0].begin(1);
    bad.copy(64, 0x10, driver.allocate(64).iova);
    const good = contexts[0].begin(1);
    good.nop();
    const [failing, after] = [bad.submit(), good.submit()];
    const results = Promise.allSettled([failing.done, after.done]);
    const json = JSON.stringify(await driver.suspend());
    const saved = JSON.parse(json).contexts[1];
    await driver.resume();
    expect(await results).toMatchObject([{ status: 'rejected', reason: { code: 'ERR_SDXI_TRANSLATION' } }, { status: 'fulfilled' }]);
    expect(contexts[0].state()).toBe(RUN);
    expect([STOP_FN, ContextState.ERR_FN, RUN]).toContain(saved.state);
  });

  it('ref §4.3 a context with a PASID of its own finds its memory where it goes', async () => {
    const driver = await start(await open());
    const context = await driver.createContext({ pasid: 5, vector: false });
    const [from, to] = [driver.allocate(64), driver.allocate(64)];
    from.bytes.fill(9);
    await context.stop();
    const batch = context.begin(1);
    batch.copy(64, from.iova, to.iova);
    batch.submit();
    const snapshot = await driver.suspend();
    const other = closing(await SdxiDriver.resume(await open(), snapshot, { memory: driver.regions }));
    const successor = other.contexts.get(1) as Context;
    expect(successor.shape).toMatchObject({ pasid: 5, vector: undefined });
    await successor.start();
    await successor.inherited[0].submission.done;
    expect(other.bufferAt(to.iova).bytes[63]).toBe(9);
  });

  it('ref §10 jump start of context 0, then CXT_START.RS for those in STOP_FN, neighbours by one descriptor', async () => {
    const driver = await start(await open());
    const contexts: Context[] = [];
    for (let n = 0; n < 6; n++) contexts.push(await driver.createContext());
    await contexts[2].stop();
    await driver.suspend();
    const admin = driver.contexts.get(0) as Context;
    const first = admin.readIndex();
    await driver.resume();
    const states = contexts.map((context) => context.state());
    expect([admin.readIndex() - first, ...states]).toEqual([2, RUN, RUN, STOP_SW, RUN, RUN, RUN]);
    const slots = [first, first + 1].map((index) => {
      const bytes = Buffer.from(admin.ring.u32.buffer, admin.ring.u32.byteOffset + admin.ring.slotWord(index) * 4, 64);
      const operation = bytes.readUInt16LE(2) * 256 + bytes[1];
      return [operation, bytes.readUInt16LE(8), bytes.readUInt16LE(10)];
    });
    const started = DescriptorType.ADMIN * 256 + AdminOp.CXT_START_RS;
    expect(slots).toEqual([
      [started, 1, 2],
      [started, 4, 6],
    ]);
  });

  // What the driver makes of it is the same on every bus.
  if (!inline) return;

  it('a context that waits for its recovery waits for it elsewhere too', async () => {
    const driver = await start(await open());
    const context = await driver.createContext({ autoRecover: false });
    const bad = context.begin(1);
    bad.copy(64, 0x10, driver.allocate(64).iova);
    const good = context.begin(1);
    good.nop();
    const failing = rejection(bad.submit().done);
    good.submit();
    expect((await failing).code).toBe('ERR_SDXI_TRANSLATION');
    const snapshot = await driver.suspend();
    expect(snapshot.contexts[1]).toMatchObject({ state: ContextState.ERR_FN, down: true, stopped: false });
    const other = closing(await SdxiDriver.resume(await open(), snapshot, { memory: driver.regions }));
    const successor = other.contexts.get(1) as Context;
    const [{ submission }] = successor.inherited;
    for (let i = 0; i < 5; i++) await turn();
    expect([submission.settled, successor.state()]).toEqual([false, ContextState.ERR_FN]);
    await successor.recover();
    await submission.done;
    expect(successor.state()).toBe(RUN);
  });

  it('S-87 a soft stop that takes too long goes on: resuming waits for it', async () => {
    let slow = false;
    const { driver, submissions } = await loaded({
      contexts: 1,
      pairs: 2,
      change: (bus) =>
        wrap(bus, {
          readRegister: (offset) => {
            const value = bus.readRegister(offset);
            return slow && offset === Reg.STS0 && value === 0n ? 3n : value;
          },
        }),
    });
    slow = true;
    expect(await rejection(driver.suspend({ timeoutMs: 30 }))).toMatchObject({ code: 'ERR_SDXI_TIMEOUT' });
    expect(driver.suspended).toBe(true);
    slow = false;
    await driver.resume();
    await Promise.all(submissions.map(({ done }) => done));
  });

  it('a signal that has fired changes nothing; one that fires during a slow stop leaves the rest to resume', async () => {
    let slow = false;
    const { driver, contexts } = await loaded({
      pairs: 1,
      change: (bus) =>
        wrap(bus, {
          readRegister: (offset) => {
            const value = bus.readRegister(offset);
            return slow && offset === Reg.STS0 && value === 0n ? 3n : value;
          },
        }),
    });
    const signal = AbortSignal.abort();
    expect((await rejection(driver.suspend({ signal }))).code).toBe('ERR_SDXI_ABORTED');
    expect([driver.suspended, driver.state()]).toEqual([false, FunctionState.ACTIVE]);
    slow = true;
    const controller = new AbortController();
    const suspending = rejection(driver.suspend({ signal: controller.signal }));
    setTimeout(() => controller.abort(), 5);
    expect((await suspending).code).toBe('ERR_SDXI_ABORTED');
    slow = false;
    expect((await rejection(driver.resume({ signal }))).code).toBe('ERR_SDXI_ABORTED');
    await driver.resume();
    await Promise.all(contexts.map((context) => context.idle()));
  });

  it('a function that was used meanwhile is not taken for the same; recover brings it back', async () => {
    const { driver, contexts } = await loaded({ pairs: 1 });
    await driver.suspend();
    driver.bus.writeRegister(Reg.CXT_L2, 0x5000n);
    expect(await rejection(driver.resume())).toMatchObject({ code: 'ERR_SDXI_STATE', hint: expect.stringContaining('recover') });
    await driver.recover();
    expect(driver.suspended).toBe(false);
    const batch = contexts[0].begin(1);
    batch.nop();
    await batch.submit().done;
  });

  it('a bus that cannot save its function: suspend refuses before anything stops, resume before anything begins', async () => {
    const { driver } = await loaded({ pairs: 1, change: (bus) => wrap(bus, { snapshot: undefined } as Partial<Bus>) });
    expect(await rejection(driver.suspend())).toMatchObject({ code: 'ERR_SDXI_UNSUPPORTED' });
    expect(driver.state()).toBe(FunctionState.ACTIVE);
    const able = await loaded({ pairs: 1 });
    const snapshot = await able.driver.suspend();
    const foreign = wrap(await open(), { restore: undefined } as Partial<Bus>);
    const refused = SdxiDriver.resume(foreign, snapshot, { memory: able.driver.regions });
    expect((await rejection(refused)).code).toBe('ERR_SDXI_UNSUPPORTED');
    expect(thrown(() => foreign.readRegister(0)).code).toBe('ERR_SDXI_CLOSED');
  });

  it('memory that is missing, of another size, of another moment, and another kind of function are refused', async () => {
    const { driver, contexts } = await loaded({ pairs: 1 });
    const snapshot = await driver.suspend();
    const { regions } = driver;
    const before = regions.map(({ bytes }) => Buffer.from(bytes));
    const attempt = async (memory: Region[], options = '') => await rejection(SdxiDriver.resume(await open(options), snapshot, { memory }));
    expect(await attempt([])).toMatchObject({ code: 'ERR_SDXI_ARGUMENT', message: expect.stringContaining('memory 0') });
    expect(await attempt(undefined as unknown as Region[])).toMatchObject({ hint: expect.stringContaining('openRegion') });
    expect(await attempt([{ ...regions[0], byteLength: 4096 } as Region])).toMatchObject({
      message: expect.stringContaining('4096 bytes'),
    });
    expect(await attempt(regions, 'maxContext=7')).toMatchObject({ code: 'ERR_SDXI_STATE', message: expect.stringContaining('CAP1') });
    expect(await attempt(regions, 'vectors=2')).toMatchObject({ hint: expect.stringContaining('vectors') });
    const busy = await open();
    busy.writeRegister(Reg.CTL0, 3n);
    expect(await rejection(SdxiDriver.resume(busy, snapshot, { memory: regions }))).toMatchObject({
      code: 'ERR_SDXI_STATE',
      message: expect.stringContaining('not stopped cannot be restored'),
    });
    regions.forEach(({ bytes }, i) => {
      expect(before[i].equals(bytes)).toBe(true);
    });
    await driver.resume();
    const batch = contexts[0].begin(1);
    batch.nop();
    await batch.submit().done;
    await driver.suspend();
    expect(await attempt(regions)).toMatchObject({
      code: 'ERR_SDXI_STATE',
      message: expect.stringMatching(/not that of the snapshot: Read_Index of context [01]/),
    });
  });
});
