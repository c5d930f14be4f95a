import { describe, expect, it } from 'vitest';
import { type Bus, EmbeddedBus, InlineBus } from '../../src/bus/index.js';
import type { Context, DmaBuffer, SdxiDriver } from '../../src/driver/index.js';
import { ContextState, FunctionState, Reg } from '../../src/spec/index.js';
import { BUSES, driverFixture, rejection, thrown, turn, wrap } from './rig.js';

const MIB = 2 ** 20;

describe.each(BUSES)('limits and recovery over $name', ({ open }) => {
  const start = driverFixture();
  let driver: SdxiDriver;
  let context: Context;
  let from: DmaBuffer;
  let to: DmaBuffer;
  const setUp = async (change: (bus: Bus) => Bus = (bus) => bus) => {
    driver = await start(change(await open()), { adminTimeoutMs: 1000 });
    context = await driver.createContext();
    from = driver.allocate(MIB);
    to = driver.allocate(MIB);
    from.bytes.fill(0x5a);
  };
  const copy = (size = 64, at = 0) => {
    const batch = context.begin(1, { bytes: size });
    batch.copy(size, from.iova, to.iova + at);
    return batch.submit();
  };
  const PIECE = 16 * MIB;
  /** Eight copies of 16 MiB each, the first of which has begun: enough that the last has not, however slow this thread is. */
  const eightLarge = async () => {
    const [source, target] = [driver.allocate(PIECE), driver.allocate(8 * PIECE)];
    source.bytes.fill(1);
    const submissions = Array.from({ length: 8 }, (_, i) => {
      const batch = context.begin(1, { bytes: PIECE });
      batch.copy(PIECE, source.iova, target.iova + i * PIECE);
      return batch.submit();
    });
    while (target.bytes[0] === 0) await turn();
    const piece = (i: number) => target.bytes.subarray(i * PIECE, (i + 1) * PIECE);
    return { submissions, source: source.bytes, piece };
  };

  it('an abort rejects when nothing can run any more: later bytes stay as they are, others go on', async () => {
    await setUp();
    const { submissions, source, piece } = await eightLarge();
    const controller = new AbortController();
    const aborted = rejection(context.limit(submissions[7], { signal: controller.signal }));
    const later = copy();
    controller.abort(new Error('enough'));
    expect(await aborted).toMatchObject({ code: 'ERR_SDXI_ABORTED', cause: { message: 'enough' } });
    piece(7).fill(2);
    await Promise.all(submissions.slice(0, 7).map(({ done }) => done));
    await later.done;
    expect(piece(7).equals(Buffer.alloc(PIECE, 2))).toBe(true);
    for (let i = 0; i < 7; i++) expect(piece(i).equals(source)).toBe(true);
    expect(context.state()).toBe(ContextState.RUN);
  });

  it('a signal that has fired before keeps a batch out of the ring; several at once are one stop', async () => {
    await setUp();
    await context.stop();
    const submissions = Array.from({ length: 20 }, (_, i) => copy(64, i * 64));
    const signal = AbortSignal.abort();
    const odd = submissions.filter((_, i) => i % 2 === 1).map((submission) => rejection(context.limit(submission, { signal })));
    for (const error of await Promise.all(odd)) expect(error.code).toBe('ERR_SDXI_ABORTED');
    await context.start();
    await Promise.all(submissions.filter((_, i) => i % 2 === 0).map(({ done }) => done));
    expect(submissions.map((_, i) => to.bytes[i * 64])).toEqual(submissions.map((_, i) => (i % 2 === 0 ? 0x5a : 0)));
  });

  it('F-1: work that takes too long rejects at its deadline, is taken back, and the context goes on', async () => {
    let deaf = false;
    await setUp((bus) =>
      wrap(bus, { writeDoorbell: (offset, value) => (deaf && offset > 0 ? undefined : bus.writeDoorbell(offset, value)) }),
    );
    await copy().done;
    deaf = true;
    const started = performance.now();
    const error = await rejection(context.limit(copy(64, 4096), { timeoutMs: 40 }));
    expect(error).toMatchObject({ code: 'ERR_SDXI_TIMEOUT', fields: { timeoutMs: 40 } });
    expect(performance.now() - started).toBeLessThan(1000);
    await context.idle();
    deaf = false;
    await copy(64, 8192).done;
    expect([to.bytes[4096], to.bytes[8192]]).toEqual([0, 0x5a]);
  });

  it('submitAndSpin ends at its deadline too', async () => {
    let deaf = false;
    await setUp((bus) =>
      wrap(bus, { writeDoorbell: (offset, value) => (deaf && offset > 0 ? undefined : bus.writeDoorbell(offset, value)) }),
    );
    await copy().done;
    deaf = true;
    const batch = context.begin(1);
    batch.copy(64, from.iova, to.iova + 4096);
    expect(thrown(() => batch.submitAndSpin(20)).code).toBe('ERR_SDXI_TIMEOUT');
    await context.idle();
    deaf = false;
    await copy(64, 8192).done;
    expect([to.bytes[4096], to.bytes[8192]]).toEqual([0, 0x5a]);
  });

  it('F-43: done exactly at the deadline counts as done', async () => {
    await setUp();
    const submission = copy();
    const limited = context.limit(submission, { timeoutMs: 15 });
    // The event loop is blocked until long after the deadline; the function has done its work meanwhile.
    const end = performance.now() + 60;
    while (performance.now() < end) if (driver.bus instanceof InlineBus) driver.bus.step();
    await limited;
  });

  it('a stopped function goes on with its work after recover()', async () => {
    await setUp();
    await context.stop();
    const waiting = copy();
    await context.start();
    await waiting.done;
    await driver.stop();
    expect(driver.state()).toBe(FunctionState.STOP);
    expect(context.state()).toBe(ContextState.STOP_FN);
    const pending = copy(64, 4096);
    await driver.recover();
    await pending.done;
    expect(driver.state()).toBe(FunctionState.ACTIVE);
    expect(to.bytes[4096]).toBe(0x5a);
  });

  it('a hard stop of the function rejects what it cut off; the rest goes on after recover()', async () => {
    await setUp();
    const { submissions, source, piece } = await eightLarge();
    const settled = Promise.allSettled(submissions.map(({ done }) => done));
    await driver.stop({ hard: true });
    await driver.recover();
    const results = await settled;
    const cut = results.flatMap((result, i) => (result.status === 'rejected' ? [i] : []));
    // On a thread of its own the function may just have been between two descriptors.
    expect(cut.length).toBeLessThanOrEqual(1);
    if (driver.bus instanceof InlineBus) expect(cut.length).toBe(1);
    for (const [i, result] of results.entries()) {
      // Each is followed by its interrupt.
      if (result.status === 'rejected') expect(result.reason).toMatchObject({ name: 'ContextError', fields: { context: 1, index: 2 * i } });
      else expect(piece(i).equals(source)).toBe(true);
    }
  });

  it('S-107: after a reset from outside recover() rejects what was lost and brings everything back', async () => {
    await setUp();
    const second = await driver.createContext({ ringEntries: 1500 });
    await copy().done;
    driver.bus.reset();
    const lost = rejection(copy(64, 4096).done);
    expect((await rejection(driver.createContext({ timeoutMs: 30 }))).code).toBe('ERR_SDXI_TIMEOUT');
    await driver.recover();
    expect(await lost).toMatchObject({ name: 'FunctionError', code: 'ERR_SDXI_FUNCTION' });
    await copy(64, 8192).done;
    context = second;
    await copy(64, 12288).done;
    expect([4096, 8192, 12288].map((at) => to.bytes[at])).toEqual([0, 0x5a, 0x5a]);
    await driver.createContext();
  });

  it('GSV_ERROR: work in flight rejects with FunctionError; recover() resets, activates and restarts the contexts', async () => {
    let failed = false;
    const requests: bigint[] = [];
    await setUp((bus) =>
      wrap(bus, {
        readRegister: (offset) => (failed && offset === Reg.STS0 ? BigInt(FunctionState.ERROR) : bus.readRegister(offset)),
        writeRegister: (offset, value) => {
          if (offset === Reg.CTL0) {
            requests.push(value & 3n);
            if ((value & 3n) === 0n) failed = false;
          }
          bus.writeRegister(offset, value);
        },
      }),
    );
    const failures: Error[] = [];
    driver.onFailure((error) => failures.push(error));
    // What a function does in ERROR (ref §3.3 rule 9): contexts end in STOP_FN, STS0 says ERROR.
    await driver.stop();
    (driver as unknown as { active: boolean }).active = true;
    context.tracker.paused = false;
    failed = true;
    requests.length = 0;
    const lost = [copy(), copy(64, 4096)].map(({ done }) => rejection(done));
    for (const error of await Promise.all(lost)) expect(error).toMatchObject({ code: 'ERR_SDXI_FUNCTION', fields: { state: 'ERROR' } });
    expect(failures.length).toBe(1);
    expect((await rejection(driver.createContext())).code).toBe('ERR_SDXI_FUNCTION');
    await driver.recover();
    expect(requests).toEqual([0n, 0n, 3n]);
    await copy(64, 8192).done;
    expect([to.bytes[0], to.bytes[4096], to.bytes[8192]]).toEqual([0, 0, 0x5a]);
  });
});

describe('an engine that dies', () => {
  it('every pending promise rejects, close() returns, later calls say what happened', async () => {
    const bus = await EmbeddedBus.open('embedded:');
    const { SdxiDriver } = await import('../../src/driver/index.js');
    const driver = await SdxiDriver.open(bus);
    const contexts = [await driver.createContext(), await driver.createContext({ completion: 'interrupt' })];
    const memory = [driver.allocate(256 * MIB), driver.allocate(256 * MIB)];
    const pending = contexts.flatMap((context) =>
      [256 * MIB, 64].map((size) => {
        const batch = context.begin(1, { bytes: size });
        batch.copy(size, memory[0].iova, memory[1].iova);
        return rejection(batch.submit().done);
      }),
    );
    await bus.terminate();
    for (const error of await Promise.all(pending)) expect(error.code).toBe('ERR_SDXI_BUS_LOST');
    expect(thrown(() => contexts[0].begin(1)).code).toBe('ERR_SDXI_BUS_LOST');
    expect((await rejection(driver.createContext())).code).toBe('ERR_SDXI_BUS_LOST');
    await driver.close();
  });

  it('an engine that hangs: work ends at its deadline, and close() returns', async () => {
    const { SdxiDriver } = await import('../../src/driver/index.js');
    const bus = await EmbeddedBus.open('embedded:');
    let hangs = false;
    const driver = await SdxiDriver.open(
      wrap(bus, {
        writeDoorbell: (offset, value) => (hangs ? undefined : bus.writeDoorbell(offset, value)),
        readRegister: (offset) => (hangs && offset === Reg.STS0 ? 2n : bus.readRegister(offset)),
      }),
      { adminTimeoutMs: 500 },
    );
    const context = await driver.createContext();
    const memory = driver.allocate(4096);
    hangs = true;
    const submit = () => {
      const batch = context.begin(1);
      batch.copy(64, memory.iova, memory.iova + 64);
      return batch.submit();
    };
    const pending = [rejection(context.limit(submit(), { timeoutMs: 30 })), rejection(submit().done)];
    const errors = await Promise.all(pending);
    expect(errors.map(({ code }) => code)).toEqual(['ERR_SDXI_TIMEOUT', 'ERR_SDXI_TIMEOUT']);
    await driver.close();
  });
});
