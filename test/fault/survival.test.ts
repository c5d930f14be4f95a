/** Our own driver under each fault that can be provoked: the right error or none, no byte where none belongs, and a close that ends. Ref §12. */
import { afterEach, describe, expect, it } from 'vitest';
import { openBus } from '../../src/bus/index.js';
import { type Context, SdxiDriver } from '../../src/driver/index.js';
import { SdxiError } from '../../src/errors.js';

const PIECE = 256;
const COPIES = 40;
const GUARD = 0xee;
/** Where it is run into; elsewhere it must not be, however busy the machine is. */
const SHORT_MS = 60;
const LONG_MS = 5000;

/** What may come of it; `none`: everything is as without the fault. */
type Outcome = 'none' | RegExp;

/** Times are small, so that the tests are short; where a fault has its moment in the opening, that fails. */
const CASES: [plan: string, outcome: Outcome, at?: 'open' | 'close'][] = [
  ['F-1:ms=15,every=7', 'none'],
  ['F-2:every=7', /DATA_ACCESS/],
  ['F-3:every=7', /DATA_ACCESS/],
  ['F-4:ms=15,every=9,context=1', 'none'],
  ['F-5:context=1', 'none'],
  ['F-7', 'none'],
  ['F-8:ms=1', /TIMEOUT/, 'open'],
  ['F-9', 'none', 'close'],
  ['F-10:ms=20', 'none'],
  ['F-11', 'none'],
  ['F-12', 'none'],
  ['F-13', /TIMEOUT/, 'open'],
  ['F-14', /FUNCTION|TIMEOUT/, 'open'],
  ['F-15', 'none'],
  ['F-16', 'none'],
  ['F-19:every=5', 'none'],
  ['F-21', 'none'],
  ['F-22:ms=15', 'none'],
  ['F-23', 'none'],
  ['F-24', 'none'],
  ['F-25', 'none'],
  ['F-26', 'none'],
  ['F-27', 'none'],
  ['F-28', 'none'],
  ['F-29', 'none'],
  ['F-31:every=1;F-2:every=9', /CONTEXT|DATA_ACCESS/],
  ['F-32:value=0;F-2:every=9', /CONTEXT|DATA_ACCESS/],
  ['F-32:value=1;F-2:every=9', /CONTEXT|DATA_ACCESS/],
  ['F-32:value=2;F-2:every=9', /CONTEXT|DATA_ACCESS/],
  ['F-33:context=1,after=5', /RING|CONTEXT|TIMEOUT/],
  ['F-34', /FUNCTION/, 'open'],
  ['F-35:context=1', /TIMEOUT|CONTEXT/],
  ['F-37', 'none'],
  ['F-38', 'none'],
  ['F-39', 'none'],
  ['F-43:ms=50,count=1,context=1', 'none'],
  ['F-44:value=2', 'none'],
  ['F-44:every=3', 'none'],
  ['F-45', 'none'],
  ['F-46', /CONTEXT|VALIDATION|FUNCTION/, 'open'],
  ['F-47:every=9', /FUNCTION|CONTEXT/],
  ['F-48:every=7', /DATA_ACCESS/],
  ['F-49:after=5', /FUNCTION|UNSUPPORTED/, 'open'],
];

const open: SdxiDriver[] = [];

afterEach(async () => {
  for (const driver of open.splice(0)) await driver.close();
});

async function bringUp(plan: string, timeoutMs: number): Promise<{ driver: SdxiDriver; context: Context }> {
  const bus = await openBus('embedded:?inline=1', { faults: plan });
  const driver = await SdxiDriver.open(bus, { adminTimeoutMs: timeoutMs, timeoutMs });
  open.push(driver);
  return { driver, context: await driver.createContext({ completion: 'interrupt' }) };
}

/** Copies of pieces with guards between. @returns codes of the errors that came */
async function load(driver: SdxiDriver, context: Context): Promise<string[]> {
  const source = driver.allocate(COPIES * PIECE, 4096);
  const target = driver.allocate(COPIES * PIECE * 2, 4096);
  for (let i = 0; i < source.bytes.length; i++) source.bytes[i] = i % 251;
  target.bytes.fill(GUARD);
  const codes: string[] = [];
  const done = new Array<boolean>(COPIES).fill(false);
  for (let n = 0; n < COPIES; n++) {
    try {
      const batch = context.begin(1);
      batch.copy(PIECE, source.iova + n * PIECE, target.iova + 2 * n * PIECE);
      await context.limit(batch.submit());
      done[n] = true;
    } catch (error) {
      expect(error).toBeInstanceOf(SdxiError);
      codes.push((error as SdxiError).code);
      if (driver.running) await context.recover().catch((late: SdxiError) => codes.push(late.code));
    }
  }
  for (let n = 0; n < COPIES; n++) {
    const piece = target.bytes.subarray(2 * n * PIECE, (2 * n + 1) * PIECE);
    const guard = target.bytes.subarray((2 * n + 1) * PIECE, (2 * n + 2) * PIECE);
    expect(guard.every((byte) => byte === GUARD)).toBe(true);
    if (done[n]) expect(piece.equals(source.bytes.subarray(n * PIECE, (n + 1) * PIECE))).toBe(true);
  }
  return codes;
}

describe('our own driver under each fault', () => {
  it.each(CASES)('%s', async (plan, outcome, at) => {
    const runsOut = at === 'close' || (outcome !== 'none' && outcome.test('TIMEOUT'));
    let codes: string[] = [];
    try {
      const { driver, context } = await bringUp(plan, runsOut ? SHORT_MS : LONG_MS);
      codes = await load(driver, context);
    } catch (error) {
      if (!(error instanceof SdxiError) || at !== 'open') throw error;
      codes.push(error.code);
    }
    if (outcome === 'none') expect(codes).toEqual([]);
    else {
      expect(codes.length).toBeGreaterThan(0);
      for (const code of codes) expect(code).toMatch(outcome);
    }
    for (const driver of open.splice(0)) await driver.close();
  });

  it('and goes on as if nothing had been when the fault is over', async () => {
    const { driver, context } = await bringUp('F-2:every=3;F-44:every=2', LONG_MS);
    expect((await load(driver, context)).length).toBeGreaterThan(5);
    (driver.bus as unknown as { setFaults(text: string): void }).setFaults('');
    expect(await load(driver, context)).toEqual([]);
  });

  const setFaults = ({ bus }: SdxiDriver, text: string) => (bus as unknown as { setFaults(text: string): void }).setFaults(text);
  const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

  it('F-1 a signal that comes after the time-out changes nothing: not the block of later work, not its promise', async () => {
    const { driver, context } = await bringUp('', LONG_MS);
    setFaults(driver, 'F-1:ms=120,count=1,context=1');
    const source = driver.allocate(4096, 4096);
    const batch = context.begin(1);
    batch.copy(64, source.iova, source.iova + 2048);
    await expect(context.limit(batch.submit(), { timeoutMs: 20 })).rejects.toMatchObject({ code: 'ERR_SDXI_TIMEOUT' });
    await context.recover();
    for (let round = 0; round < 8; round++) {
      expect(await load(driver, context)).toEqual([]);
      await pause(25);
    }
  });

  it('F-4 work that was issued and is held back does not run once its context was closed', async () => {
    const { driver, context } = await bringUp('', LONG_MS);
    setFaults(driver, 'F-4:ms=60,context=1');
    const memory = driver.allocate(4096, 4096);
    memory.bytes.fill(7, 0, 64);
    const batch = context.begin(1);
    batch.copy(64, memory.iova, memory.iova + 2048);
    const work = batch.submit().done;
    await context.close();
    await expect(work).rejects.toMatchObject({ code: 'ERR_SDXI_CLOSED' });
    await pause(90);
    expect(memory.bytes.subarray(2048, 2112).every((byte) => byte === 0)).toBe(true);
  });

  it('F-5 a ring that looks full is an error at once, not a wait for ever', async () => {
    const { driver, context } = await bringUp('F-5:context=1', LONG_MS);
    const codes = new Set<string>();
    for (let round = 0; round < 60 && codes.size === 0; round++) for (const code of await load(driver, context)) codes.add(code);
    expect([...codes]).toEqual(['ERR_SDXI_BUSY']);
  });

  it('F-13 a context that cannot be stopped keeps its memory until the function has stopped', async () => {
    const { driver, context } = await bringUp('', SHORT_MS);
    setFaults(driver, 'F-13');
    await expect(context.close()).rejects.toMatchObject({ code: 'ERR_SDXI_TIMEOUT' });
    await driver.close();
    open.splice(0);
  });

  it('F-25 the error log lies in its memory whichever way the function counts: 200 errors, each with its record', async () => {
    const { driver, context } = await bringUp('F-25', LONG_MS);
    const guard = driver.allocate(64 * 1024, 4096);
    guard.bytes.fill(GUARD);
    setFaults(driver, 'F-25;F-2');
    for (let round = 0; round < 5; round++) {
      const codes = await load(driver, context);
      expect(new Set(codes)).toEqual(new Set(['ERR_SDXI_DATA_ACCESS']));
    }
    expect(guard.bytes.every((byte) => byte === GUARD)).toBe(true);
    expect(driver.errorLog.lost).toEqual({ overflows: 0, writeErrors: 0, invalid: 0 });
  });

  it('F-24 the last of 200 contexts works', async () => {
    const { driver } = await bringUp('F-24', LONG_MS);
    let last: Context | undefined;
    for (let n = 0; n < 200; n++) last = await driver.createContext({ vector: false });
    expect(last?.number).toBe(201);
    expect(await load(driver, last as Context)).toEqual([]);
  });

  it('F-49 a device that goes while a driver has it: an error that says so, and a close that ends', async () => {
    const { driver, context } = await bringUp('', SHORT_MS);
    setFaults(driver, 'F-49');
    expect(driver.state()).toBe(7);
    await expect(context.stop()).resolves.toBeUndefined();
    await driver.close();
    open.splice(0);
  });
});
