import { afterEach, describe, expect, it, vi } from 'vitest';
import type { EmbeddedBus } from '../../src/bus/index.js';
import { SdxiError } from '../../src/errors.js';
import { type BatchItem, type Mover, open } from '../../src/mover/index.js';
import { moverFixture, rejection, thrown, turn } from './rig.js';

const MIB = 2 ** 20;
/** Whatever a program without types may pass. */
const any = (value: unknown) => value as never;

afterEach(() => {
  vi.restoreAllMocks();
});

describe('arguments that cannot be right', () => {
  const start = moverFixture();

  it('are refused with cause and hint, and leave nothing behind that close() would wait for', async () => {
    const mover = await start('embedded:?inline=1');
    const [a, b] = [mover.alloc(64), mover.alloc(64)];
    const word = a.subarray(0, 8);
    const registration = mover.register(Buffer.alloc(5000));
    const calls: (() => unknown)[] = [
      ...[null, 5, 'x'].map((options) => () => mover.copy(a, b, any(options))),
      ...[Number.NaN, -1, '1', 1n, null, Symbol('ms')].map((timeoutMs) => () => mover.copy(a, b, { timeoutMs: any(timeoutMs) })),
      ...[{}, 5, null, () => {}].map((signal) => () => mover.fill(a, 1, { signal: any(signal) })),
      ...[undefined, null, 5, 'copy', {}].map((items) => () => mover.batch(any(items))),
      ...[undefined, null, 5, { op: 5 }].map((item) => () => mover.batch([any(item)])),
      ...[undefined, 5, Symbol('op')].map((name) => () => mover.atomic(any(name), word, { operand: 1 })),
      ...[undefined, null, {}, { operand: 'x' }].map((operands) => () => mover.atomic('uadd', word, any(operands))),
      ...[undefined, null, '5', 0, 2 ** 31 + 1, Symbol('n')].map((bytes) => () => mover.alloc(any(bytes))),
      ...[null, 5].map((options) => () => mover.alloc(8, any(options))),
      ...[null, 5].map((options) => () => mover.register(Buffer.alloc(5000), any(options))),
      ...[undefined, null, 5, {}, b.subarray(1)].map((view) => () => mover.free(any(view))),
      ...[null, { timeoutMs: Number.NaN }, { timeoutMs: -1 }].map((options) => () => registration.close(any(options))),
    ];
    for (const call of calls) {
      const error = await (async () => call())().then(
        () => undefined,
        (reason: unknown) => reason,
      );
      expect(error, call.toString()).toMatchObject({ code: 'ERR_SDXI_ARGUMENT', hint: expect.stringMatching(/./) });
    }
    await registration.close();
    await mover.close();
    expect((await rejection(mover.copy(a, b))).code).toBe('ERR_SDXI_CLOSED');
  });

  it('of open() are refused before a function is left behind', async () => {
    for (const [uri, options] of [
      [5, {}],
      [null, {}],
      [{}, {}],
      ['embedded:', null],
      ['embedded:', { functions: 1n }],
      ['embedded:', { functions: Number.NaN }],
      ['embedded:', { ringEntries: '5' }],
      ['embedded:', { completion: 'soon' }],
      ['embedded:', { timeoutMs: Number.NaN }],
      ['embedded:', { adminTimeoutMs: 1n }],
      ['embedded:', { signal: {} }],
      ['embedded:', { bus: 5 }],
      ['embedded:', { functons: 2 }],
    ]) {
      const error = await rejection(open(any(uri), any(options)));
      expect(error).toBeInstanceOf(SdxiError);
      expect(error.hint).toMatch(/./);
    }
    expect((await rejection(open('embedded:', { signal: AbortSignal.abort() }))).code).toBe('ERR_SDXI_ABORTED');
  });
});

describe('misspelt options, and items of a batch', () => {
  it('an option that does not exist is refused, with those that do', async () => {
    const mover = await open('embedded:?inline=1');
    const [a, b] = [mover.alloc(8), mover.alloc(8)];
    const error = await rejection(mover.copy(a, b, any({ timeout: 5 })));
    expect([error.code, error.fields.option, error.hint]).toEqual([
      'ERR_SDXI_ARGUMENT',
      'timeout',
      'they are: signal, timeoutMs, function',
    ]);
    expect(() => mover.alloc(8, any({ align: 8 }))).toThrow(/align/);
    await mover.close();
  });

  it('an item of a batch that is refused is named, and nothing of the batch is done', async () => {
    const mover = await open('embedded:?inline=1');
    const buffer = mover.alloc(64);
    const fill = { op: 'fill' as const, destination: buffer, value: 1 };
    for (const bad of [{ ...fill, value: 256 }, { ...fill, destination: Buffer.alloc(5) }, any({ op: 'move' }), any(null)]) {
      const error = await rejection(mover.batch([fill, fill, bad, fill]));
      expect(error.message).toMatch(/^item 2 of the batch: /);
      expect(error.toJSON()).toMatchObject({ item: 2 });
    }
    expect(buffer.every((byte) => byte === 0)).toBe(true);
    await mover.close();
  });

  it('timeoutMs 0 gives nothing time, and frees the memory all the same', async () => {
    const mover = await open('embedded:');
    const buffer = mover.alloc(64 * 2 ** 20);
    expect((await rejection(mover.fill(buffer, 1, { timeoutMs: 0 }))).code).toBe('ERR_SDXI_TIMEOUT');
    await mover.fill(buffer, 2);
    expect(buffer.at(-1)).toBe(2);
    await mover.close();
  });
});

describe('atomic operands that cannot be right', () => {
  it('cmpswap without a value to compare with, and values wider than the target', async () => {
    const mover = await open('embedded:?inline=1');
    const target = mover.alloc(8);
    expect((await rejection(mover.atomic('cmpswap', target, { operand: 1n }))).code).toBe('ERR_SDXI_ARGUMENT');
    expect((await rejection(mover.atomic('uadd', target.subarray(0, 4), { operand: 2n ** 32n }))).code).toBe('ERR_SDXI_ARGUMENT');
    expect(await mover.atomic('uadd', target.subarray(0, 4), { operand: -1n })).toBe(0n); // the same bits as 2^32 - 1
    expect(target.readUInt32LE()).toBe(0xffff_ffff);
    await mover.close();
  });
});

describe('functions that go away', () => {
  const start = moverFixture();
  const busOf = (mover: Mover) => mover.functions[0].driver.bus as EmbeddedBus;

  it('an engine that died while nothing was in flight rejects the next work at once', async () => {
    const mover = await start();
    const buffer = mover.alloc(4096);
    await mover.fill(buffer, 1);
    await busOf(mover).terminate();
    expect((await rejection(mover.fill(buffer, 2))).code).toBe('ERR_SDXI_BUS_LOST');
    expect((await rejection(mover.fill(buffer, 3))).code).toBe('ERR_SDXI_BUS_LOST');
  });

  it.each([
    ['an engine that dies', ['ERR_SDXI_BUS_LOST'], (bus: EmbeddedBus) => bus.terminate()],
    // What had not been submitted when it was brought back may succeed.
    ['a reset from outside', ['ERR_SDXI_FUNCTION', 'done'], async (bus: EmbeddedBus) => bus.reset()],
  ])('%s also settles what waits for room in the ring, long before its timeout', async (_, outcomes, end) => {
    const mover = await start('embedded:', { ringEntries: 1024 });
    const buffer = mover.alloc(MIB);
    const items: BatchItem[] = Array.from({ length: 1500 }, () => ({ op: 'fill', destination: buffer, value: 1 }));
    const work = Array.from({ length: 4 }, () =>
      mover.batch(items).then(
        () => 'done',
        (error: SdxiError) => error.code,
      ),
    );
    await turn();
    expect(mover.stats().queued).toBeGreaterThan(0);
    await end(busOf(mover));
    const started = performance.now();
    for (const outcome of await Promise.all(work)) expect(outcomes).toContain(outcome);
    expect(performance.now() - started).toBeLessThan(10_000);
  });

  it('a reset of an idle function is noticed by the next work, and brought back without being asked', async () => {
    const mover = await start();
    const buffer = mover.alloc(4096);
    await mover.fill(buffer, 1);
    busOf(mover).reset();
    expect((await rejection(mover.fill(buffer, 2))).code).toBe('ERR_SDXI_FUNCTION');
    await mover.fill(buffer, 3);
    expect(buffer[4095]).toBe(3);
  });
});

describe('waiting', () => {
  const start = moverFixture();

  it('for work in flight, a registration is closed with a timeout beyond those of timers', async () => {
    const mover = await start();
    const user = Buffer.alloc(256 * MIB);
    for (const timeoutMs of [2 ** 31, Number.POSITIVE_INFINITY]) {
      const registration = mover.register(user);
      const work = mover.fill(user, 7);
      await registration.close({ timeoutMs });
      await work;
    }
    expect(user[user.length - 1]).toBe(7);
  });

  it('for room in the ring costs one look in each turn of the event loop, however many wait', async () => {
    const mover = await start('embedded:', { ringEntries: 1024 });
    const [{ context }] = mover.functions;
    const buffer = mover.alloc(4096);
    await mover.fill(buffer, 1);
    await context.stop();
    // Another producer has filled the ring.
    const first = context.ring.reserve(1024);
    const work: Promise<void>[] = [];
    for (let i = 0; i < 20; i++) {
      work.push(mover.fill(buffer.subarray(i, i + 1), 2));
      await turn();
    }
    const looks = vi.spyOn(globalThis, 'setImmediate');
    for (let i = 0; i < 10; i++) await turn();
    expect(looks.mock.calls.length).toBeLessThanOrEqual(10 + 11);
    for (let i = 0; i < 1024; i++) context.ring.overwrite(first + i, 'none');
    context.ring.ringDoorbell(first + 1024);
    await context.start();
    await Promise.all(work);
    expect(buffer[19]).toBe(2);
  });
});

it('a mover that is closed is not moved by anything', async () => {
  const mover = await open('embedded:?inline=1');
  await Promise.all([mover.close(), mover.close({ abort: true }), mover.close(any(null))]);
  expect(thrown(() => mover.alloc(1)).code).toBe('ERR_SDXI_CLOSED');
  expect(thrown(() => mover.register(Buffer.alloc(1))).code).toBe('ERR_SDXI_CLOSED');
});
