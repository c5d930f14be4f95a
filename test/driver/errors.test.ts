import { describe, expect, it } from 'vitest';
import { InlineBus, RecordingBus } from '../../src/bus/index.js';
import { Submission } from '../../src/driver/completions.js';
import { contextError } from '../../src/driver/errors.js';
import type { Context, DmaBuffer, SdxiDriver } from '../../src/driver/index.js';
import type { SdxiError } from '../../src/errors.js';
import { Access } from '../../src/memory/address-space.js';
import { allocateRegion } from '../../src/memory/region.js';
import { ContextState, ERRLOG_HD_ENT, ErrorStep, Reg, SubStep } from '../../src/spec/index.js';
import { BUSES, driverFixture, rejection, thrown, wrap } from './rig.js';

const NOWHERE = 0x10_0000;

describe('ref §8.2: from step and sub-step to an error', () => {
  const of = (step: number, subStep: number): SdxiError =>
    contextError({ function: 'sdxi0', context: 3, step, subStep, index: 42, operand: 1, address: 0x7000 });
  it.each([
    ['DSC_BUF', 'ATF', 'ERR_SDXI_TRANSLATION'],
    ['DSC_BUF', 'DAF', 'ERR_SDXI_DATA_ACCESS'],
    ['DSC_GEN', 'DVF', 'ERR_SDXI_VALIDATION'],
    ['DSC_GEN', 'ATF', 'ERR_SDXI_TRANSLATION'],
    ['DSC_GEN', 'DAF', 'ERR_SDXI_DATA_ACCESS'],
    ['DSC_CSB', 'ATF', 'ERR_SDXI_TRANSLATION'],
    ['DSC_CSB', 'DAF', 'ERR_SDXI_DATA_ACCESS'],
    ['DSC_CSB', 'DVF', 'ERR_SDXI_VALIDATION'],
    ['ATOMIC', 'ATF', 'ERR_SDXI_ATOMIC'],
    ['DSC_AKEY', 'DVF', 'ERR_SDXI_KEY'],
    ['DSC_AKEY', 'ATF', 'ERR_SDXI_KEY'],
    ['FN_RKEY', 'DVF', 'ERR_SDXI_KEY'],
    ['WRT_IDX', 'DVF', 'ERR_SDXI_RING'],
    ['WRT_IDX', 'ATF', 'ERR_SDXI_TRANSLATION'],
    ['CXT_STS', 'DVF', 'ERR_SDXI_CONTEXT'],
    ['CXT_STS', 'DAF', 'ERR_SDXI_DATA_ACCESS'],
    ['CXT_CTL', 'DVF', 'ERR_SDXI_CONTEXT'],
    ['CXT_L1', 'DVF', 'ERR_SDXI_CONTEXT'],
    ['CXT_L2', 'ATF', 'ERR_SDXI_TRANSLATION'],
    ['INT', 'OTHER', 'ERR_SDXI_FUNCTION'],
  ] as const)('%s/%s is %s', (step, subStep, code) => {
    const error = of(ErrorStep[step], SubStep[subStep]);
    expect(error).toMatchObject({
      name: 'ContextError',
      code,
      fields: { function: 'sdxi0', context: 3, index: 42, step, subStep, operand: 1, address: 0x7000 },
    });
    expect(error.hint).toBeTruthy();
  });

  it('every step and sub-step has a code, and JSON holds all fields', () => {
    for (const step of [0, ...Object.values(ErrorStep)]) {
      for (const subStep of Object.values(SubStep)) expect(of(step, subStep).code).toMatch(/^ERR_SDXI_/);
    }
    expect(JSON.parse(JSON.stringify(of(10, 1)))).toMatchObject({
      step: 'DSC_BUF',
      subStep: 'ATF',
      address: 0x7000,
      code: 'ERR_SDXI_TRANSLATION',
    });
  });
});

describe.each(BUSES)('errors of descriptors over $name', ({ open }) => {
  const start = driverFixture();
  let driver: SdxiDriver;
  let context: Context;
  let from: DmaBuffer;
  let to: DmaBuffer;
  const setUp = async (options = '') => {
    driver = await start(await open(options));
    context = await driver.createContext();
    from = driver.allocate(65536);
    to = driver.allocate(65536);
    from.bytes.fill(0x5a);
  };
  const copyTo = (address: number, size = 64) => {
    const batch = context.begin(1);
    batch.copy(size, from.iova, address);
    return batch.submit();
  };

  it('an unmapped destination in the middle of a batch: fields, nothing behind it runs, later batches do', async () => {
    await setUp();
    const batch = context.begin(6);
    batch.copy(64, from.iova, to.iova);
    batch.copy(64, from.iova, to.iova + 64);
    batch.copy(64, from.iova, NOWHERE + 8);
    batch.copy(64, from.iova, to.iova + 128);
    batch.copy(64, from.iova, to.iova + 192);
    batch.copy(64, from.iova, to.iova + 256);
    const failing = batch.submit();
    const later = copyTo(to.iova + 1024);
    expect(await rejection(failing.done)).toMatchObject({
      name: 'ContextError',
      code: 'ERR_SDXI_TRANSLATION',
      fields: { function: driver.name, context: 1, index: 2, step: 'DSC_BUF', subStep: 'ATF', operand: 1, address: NOWHERE + 8 },
    });
    await later.done;
    expect(to.bytes.subarray(0, 128).every((byte) => byte === 0x5a)).toBe(true);
    expect(to.bytes.subarray(128, 1024).every((byte) => byte === 0)).toBe(true);
    expect(to.bytes[1024]).toBe(0x5a);
    expect(context.state()).toBe(ContextState.RUN);
    expect(context.readIndex()).toBe(context.writeIndex());
    expect(driver.errorLog.history.map(({ name, context: number, index }) => [name, number, index])).toEqual([['DSC_BUF/ATF', 1, 2]]);
  });

  it.each([0, 3])('the first and the last descriptor of a batch may fail too: %i', async (bad) => {
    await setUp();
    const batch = context.begin(4);
    for (let i = 0; i < 4; i++) batch.copy(64, from.iova, i === bad ? NOWHERE : to.iova + i * 64);
    expect(await rejection(batch.submit().done)).toMatchObject({ fields: { index: bad } });
    await copyTo(to.iova + 4096).done;
  });

  it('of several submissions in one portion only the one that failed rejects', async () => {
    await setUp();
    const submissions = [new Submission(), new Submission(), new Submission()];
    const batch = context.begin(6);
    for (let i = 0; i < 6; i++) {
      batch.copy(64, from.iova, i === 2 ? NOWHERE : to.iova + i * 64);
      if (i % 2 === 1) batch.cut(submissions[(i - 1) / 2]);
    }
    batch.submit();
    for (const submission of submissions) submission.seal();
    const results = await Promise.allSettled(submissions.map(({ done }) => done));
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
    expect([0, 64, 192, 256, 320].map((at) => to.bytes[at])).toEqual([0x5a, 0x5a, 0, 0x5a, 0x5a]);
  });

  it('fifty failures in a row, each in its own submission, among work that succeeds', async () => {
    await setUp();
    const submissions = Array.from({ length: 150 }, (_, i) => copyTo(i % 3 === 1 ? NOWHERE : to.iova + i * 64));
    const results = await Promise.allSettled(submissions.map(({ done }) => done));
    expect(results.map(({ status }) => status)).toEqual(results.map((_, i) => (i % 3 === 1 ? 'rejected' : 'fulfilled')));
    results.forEach((result, i) => {
      if (result.status === 'rejected') expect(result.reason.fields).toMatchObject({ index: i, address: NOWHERE });
      else expect(to.bytes[i * 64]).toBe(0x5a);
    });
  });

  it('submitAndSpin throws the error, and the next one works without the event loop', async () => {
    await setUp();
    for (let i = 0; i < 3; i++) {
      const bad = context.begin(2);
      bad.copy(64, from.iova, NOWHERE);
      bad.copy(64, from.iova, to.iova);
      expect(thrown(() => bad.submitAndSpin())).toMatchObject({ code: 'ERR_SDXI_TRANSLATION', fields: { operand: 1 } });
      const good = context.begin(1);
      good.copy(64, from.iova, to.iova + 64);
      good.submitAndSpin();
      expect([to.bytes[0], to.bytes[64]]).toEqual([0, 0x5a]);
      to.bytes.fill(0);
    }
    await copyTo(to.iova).done;
  });

  it('source and destination, read and write permission, size and atomics each say what is wrong', async () => {
    await setUp('maxBuffer=0');
    const region = allocateRegion(4096);
    const readOnly = driver.map(region, Access.READ);
    const writeOnly = driver.map(allocateRegion(4096), Access.WRITE);
    const single = async (write: (batch: ReturnType<Context['begin']>) => void) => {
      const batch = context.begin(1);
      write(batch);
      return (await rejection(batch.submit().done)) as SdxiError;
    };
    const copy = (a: number, b: number) => single((batch) => batch.copy(16, a, b));
    expect(await copy(NOWHERE, to.iova)).toMatchObject({ code: 'ERR_SDXI_TRANSLATION', fields: { operand: 0, address: NOWHERE } });
    expect(await copy(from.iova, readOnly.iova)).toMatchObject({
      code: 'ERR_SDXI_DATA_ACCESS',
      fields: { operand: 1, address: readOnly.iova },
    });
    expect(await copy(writeOnly.iova, to.iova)).toMatchObject({ code: 'ERR_SDXI_DATA_ACCESS', fields: { operand: 0 } });
    const large = [driver.allocate(4 << 20), driver.allocate(4 << 20)];
    expect(await single((batch) => batch.copy((2 << 20) + 1, large[0].iova, large[1].iova))).toMatchObject({
      code: 'ERR_SDXI_VALIDATION',
      fields: { step: 'DSC_GEN' },
    });
    expect(await single((batch) => batch.atomic(2, 8, to.iova, NOWHERE, [1, 0]))).toMatchObject({
      code: 'ERR_SDXI_ATOMIC',
      fields: { operand: 1, address: NOWHERE },
    });
    await copyTo(to.iova).done;
  });

  it('closing a range takes the memory away: S-102', async () => {
    await setUp();
    const range = driver.map(allocateRegion(8192));
    await copyTo(range.iova).done;
    range.close();
    range.close();
    expect((await rejection(copyTo(range.iova).done)).code).toBe('ERR_SDXI_TRANSLATION');
    expect(driver.map(allocateRegion(4096)).iova).toBe(range.iova - (range.iova % 4096));
  });

  it('a context made with autoRecover: false stays in ERR_FN until it is told', async () => {
    await setUp();
    context = await driver.createContext({ autoRecover: false });
    const failing = rejection(copyTo(NOWHERE).done);
    const later = copyTo(to.iova);
    await failing;
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(context.state()).toBe(ContextState.ERR_FN);
    expect(later.settled).toBe(false);
    await context.recover();
    await later.done;
  });

  it('an administrative operation on a context that is not there fails, and context 0 goes on', async () => {
    await setUp();
    expect(await rejection(driver.admin.start(5))).toMatchObject({
      name: 'ContextError',
      code: 'ERR_SDXI_CONTEXT',
      fields: { context: 5, step: 'CXT_L1' },
    });
    expect(await rejection(driver.admin.start(9999))).toMatchObject({ code: 'ERR_SDXI_CONTEXT', fields: { context: 9999 } });
    await driver.admin.stop(5);
    await driver.admin.updateContexts(1, { l1: true });
    expect(driver.contexts.get(0)?.state()).toBe(ContextState.RUN);
  });

  it('an administrative descriptor that is malformed stops context 0, which is jump-started again', async () => {
    await setUp();
    const bad = driver.admin.run('bad', 1, (batch) =>
      batch.write((u32, word, flags, csb) => {
        u32.fill(0, word, word + 16);
        u32[word] = 0x0002_7f00 | flags;
        u32[word + 14] = csb >>> 0;
        u32[word + 15] = csb / 2 ** 32;
      }),
    );
    expect(await rejection(bad)).toMatchObject({ code: 'ERR_SDXI_VALIDATION', fields: { context: 0 } });
    await driver.admin.updateFunction();
    await copyTo(to.iova).done;
  });

  it('S-84: a damaged Write_Index fails the context, and what was in flight; a new context works', async () => {
    await setUp();
    await context.stop();
    const pending = rejection(copyTo(to.iova).done);
    damageWriteIndex(context);
    await context.start().catch(() => {});
    expect(await pending).toMatchObject({ code: 'ERR_SDXI_RING', fields: { step: 'WRT_IDX' } });
    context = await driver.createContext();
    await copyTo(to.iova).done;
  });
});

/** Adds more to Write_Index than the ring has slots. */
function damageWriteIndex(context: Context): void {
  const { writeIndex64 } = context.ring as unknown as { writeIndex64: BigInt64Array };
  writeIndex64[0] += 5000n;
}

describe('the error log', () => {
  const start = driverFixture();

  it('ref §8.6: the eleven steps, ERR_STS cleared before ERR_WRT is read', async () => {
    const bus = new RecordingBus(new InlineBus());
    const driver = await start(bus);
    await rejection(driver.admin.start(5));
    (bus.bus as InlineBus).step();
    bus.clear();
    expect(driver.errorLog.drain()).toEqual([]);
    expect(bus.records.map((record) => record.kind === 'readRegister' && record.offset)).toEqual([Reg.ERR_STS]);
    const batch = driver.contexts.get(0)?.begin(1);
    batch?.copy(8, NOWHERE, NOWHERE + 64);
    const failing = rejection((batch as NonNullable<typeof batch>).submit().done);
    (bus.bus as InlineBus).step();
    bus.clear();
    const records = driver.errorLog.drain();
    expect(records.length).toBe(1);
    expect(bus.records.map((record) => ('offset' in record ? [record.kind, record.offset] : record.kind))).toEqual([
      ['readRegister', Reg.ERR_STS],
      ['readRegister', Reg.ERR_RD],
      ['writeRegister', Reg.ERR_STS],
      ['readRegister', Reg.ERR_WRT],
      ['writeRegister', Reg.ERR_RD],
    ]);
    expect(bus.readRegister(Reg.ERR_RD)).toBe(2n);
    expect(ERRLOG_HD_ENT.decode(records[0].raw).step).toBe(ErrorStep.DSC_BUF);
    expect((await failing).code).toBe('ERR_SDXI_TRANSLATION');
  });

  it('a log that is off loses the record; state and Read_Index tell enough', async () => {
    const bus = new InlineBus();
    const driver = await start(bus);
    const context = await driver.createContext();
    const memory = driver.allocate(4096);
    driver.errorLog.disable();
    const batch = context.begin(3);
    batch.copy(8, memory.iova, memory.iova + 64);
    batch.copy(8, memory.iova, NOWHERE);
    batch.copy(8, memory.iova, memory.iova + 128);
    const error = await rejection(batch.submit().done);
    expect(error).toMatchObject({ name: 'ContextError', code: 'ERR_SDXI_CONTEXT', fields: { context: 1, index: 1 } });
    expect(error.fields.step).toBeUndefined();
    const next = context.begin(1);
    next.copy(8, memory.iova, memory.iova + 64);
    await next.submit().done;
  });

  it('F-31, F-32: flags of a broken log are cleared, records that are none are counted, ERR_WRT far ahead ends', async () => {
    const bus = new InlineBus();
    let status = 0xbn;
    let writes = 0;
    const driver = await start(
      wrap(bus, {
        readRegister: (offset) => {
          if (offset === Reg.ERR_STS) return status;
          return offset === Reg.ERR_WRT && writes === 2 ? 2n ** 40n : bus.readRegister(offset);
        },
        writeRegister: (offset, value) => {
          if (offset === Reg.ERR_STS && value === 0xbn && writes++ > 0) status = 0n;
          bus.writeRegister(offset, value);
        },
      }),
    );
    expect(driver.errorLog.drain()).toEqual([]);
    expect(driver.errorLog.lost).toEqual({ overflows: 1, writeErrors: 1, invalid: 64 });
    expect(driver.errorLog.drain()).toEqual([]);
  });

  it('row 11 of ref §13.6: more errors than the log holds: the rest is counted as lost', async () => {
    const bus = new InlineBus();
    const driver = await start(bus);
    const context = await driver.createContext({ autoRecover: false });
    const { fn } = bus;
    // Records nobody reads: a doorbell of a context without tables logs one each time it is loaded.
    for (let i = 0; i < 80; i++) {
      const batch = driver.contexts.get(0)?.begin(1) as NonNullable<ReturnType<Context['begin']>>;
      batch.write((u32, word, flags, csb) => {
        u32.fill(0, word, word + 16);
        u32[word] = 0x0002_0300 | flags;
        u32[word + 2] = 40 | (40 << 16);
        u32[word + 14] = csb >>> 0;
        u32[word + 15] = csb / 2 ** 32;
      });
      batch.submit().done.catch(() => {});
    }
    fn.step(10_000);
    expect(bus.readRegister(Reg.ERR_WRT)).toBe(64n);
    const listened: number[] = [];
    const stop = driver.errorLog.listen(({ context: number }) => listened.push(number as number));
    expect(driver.errorLog.drain().length).toBe(64);
    stop();
    expect(listened).toEqual(Array(64).fill(40));
    expect(driver.errorLog.lost).toMatchObject({ overflows: 1, invalid: 0 });
    expect(context.state()).toBe(ContextState.RUN);
  });
});
