import { describe, expect, it } from 'vitest';
import { EmbeddedBus } from '../../src/bus/index.js';
import { IovaSpace, SdxiDriver } from '../../src/driver/index.js';
import { Channel } from '../../src/mover/channel.js';
import { Mover, open } from '../../src/mover/index.js';
import { MemoryTable } from '../../src/mover/memory.js';
import { Plan } from '../../src/mover/plan.js';
import { wrap } from '../driver/rig.js';
import { moverFixture, pattern, rejection, turn, URIS } from './rig.js';

const MIB = 2 ** 20;

describe.each(URIS)('the flow of work over $name', ({ uri }) => {
  const start = moverFixture();

  it('one batch of ten times the depth of the ring', async () => {
    const mover = await start(uri, { ringEntries: 1024 });
    const [from, to] = [mover.alloc(10_240 * 64), mover.alloc(10_240 * 64)];
    pattern(from);
    const items = Array.from({ length: 10_240 }, (_, i) => ({
      op: 'copy' as const,
      source: from.subarray(i * 64, i * 64 + 64),
      destination: to.subarray((10_239 - i) * 64, (10_240 - i) * 64),
    }));
    expect(await mover.batch(items)).toEqual({ descriptors: 10_240, bytes: 655_360 });
    const wrong = items.filter(({ source, destination }) => !source.equals(destination));
    expect(wrong).toEqual([]);
    expect(mover.functions[0].context.readIndex()).toBeGreaterThanOrEqual(10_240);
  });

  it('several thousand callers at once share portions, first come, first served', async () => {
    const mover = await start(uri, { ringEntries: 1024 });
    const [from, to] = [mover.alloc(3000 * 64), mover.alloc(3000 * 64)];
    pattern(from);
    const order: number[] = [];
    await Promise.all(
      Array.from({ length: 3000 }, async (_, i) => {
        await mover.copy(from.subarray(i * 64, i * 64 + 64), to.subarray(i * 64, i * 64 + 64));
        order.push(i);
      }),
    );
    expect(to.equals(from)).toBe(true);
    expect(order).toEqual(Array.from({ length: 3000 }, (_, i) => i));
    expect(mover.stats()).toMatchObject({ requests: 3000, descriptors: 3000, inFlight: 0, queued: 0 });
    expect(mover.stats().doorbells).toBeLessThan(100);
  });

  it('small work behind a huge batch is neither lost nor ahead of it; the ring is never overfilled', async () => {
    const mover = await start(uri, { ringEntries: 1024 });
    const buffer = mover.alloc(MIB);
    const [{ context }] = mover.functions;
    let most = 0;
    const huge = mover.batch(
      Array.from({ length: 20_000 }, (_, i) => ({ op: 'fill' as const, destination: buffer.subarray(i * 8, i * 8 + 8), value: 1 })),
    );
    let hugeDone = false;
    void huge.then(() => {
      hugeDone = true;
    });
    const small = mover.fill(buffer.subarray(500_000, 500_100), 2).then(() => hugeDone);
    while (!hugeDone) {
      most = Math.max(most, context.inFlight.descriptors);
      await turn();
    }
    expect(await small).toBe(true);
    expect(most).toBeLessThanOrEqual(1024);
    expect(buffer.subarray(0, 160_000).every((byte) => byte === 1)).toBe(true);
  });

  it('an error rejects its own request; those in the same portion, before and after, are done', async () => {
    const mover = await start(uri);
    const buffer = mover.alloc(4096).fill(7);
    const readOnly = Buffer.alloc(4096);
    mover.register(readOnly, { access: 'read' });
    const results = await Promise.allSettled(
      Array.from({ length: 60 }, (_, i) => {
        const target = i % 10 === 5 ? readOnly : buffer;
        return mover.fill(target.subarray(i * 64, i * 64 + 64), 9);
      }),
    );
    expect(results.map(({ status }) => status)).toEqual(results.map((_, i) => (i % 10 === 5 ? 'rejected' : 'fulfilled')));
    for (const [i, result] of results.entries()) {
      if (result.status === 'rejected') {
        expect(result.reason).toMatchObject({
          name: 'ContextError',
          code: 'ERR_SDXI_DATA_ACCESS',
          fields: { context: 1, operand: 1, step: 'DSC_BUF' },
        });
      }
      expect(buffer[i * 64]).toBe(i % 10 === 5 ? 7 : 9);
    }
    expect(readOnly.every((byte) => byte === 0)).toBe(true);
    expect(mover.stats().errors).toBe(6);
    await mover.fill(buffer, 1);
  });

  it('an error in the middle of a batch larger than the ring: the rest of it never runs, the mover goes on', async () => {
    const mover = await start(uri, { ringEntries: 1024 });
    const buffer = mover.alloc(MIB);
    const readOnly = Buffer.alloc(64);
    mover.register(readOnly, { access: 'read' });
    const items = Array.from({ length: 8000 }, (_, i) => ({
      op: 'fill' as const,
      destination: i === 700 ? readOnly : buffer.subarray(i * 64, i * 64 + 64),
      value: 3,
    }));
    const after = mover.fill(buffer.subarray(900_000, 900_010), 4);
    expect((await rejection(mover.batch(items))).code).toBe('ERR_SDXI_DATA_ACCESS');
    await after;
    await mover.fill(buffer.subarray(900_000, 900_010), 5);
    expect(buffer[699 * 64]).toBe(3);
    expect(buffer.subarray(701 * 64, 900_000).every((byte) => byte === 0)).toBe(true);
    expect(mover.stats()).toMatchObject({ inFlight: 0, queued: 0 });
  });

  it('an abort ends a request in the queue, in the ring, or before it started', async () => {
    const mover = await start(uri, { ringEntries: 1024 });
    const buffer = mover.alloc(130 * MIB);
    const controllers = Array.from({ length: 3 }, () => new AbortController());
    const first = mover.fill(buffer, 1, { signal: controllers[0].signal });
    const second = mover.batch(
      Array.from({ length: 5000 }, (_, i) => ({ op: 'fill' as const, destination: buffer.subarray(i, i + 1), value: 2 })),
      { signal: controllers[1].signal },
    );
    const third = mover.fill(buffer.subarray(100, 200), 3);
    await turn();
    for (const controller of controllers) controller.abort();
    expect((await rejection(first)).code).toBe('ERR_SDXI_ABORTED');
    expect((await rejection(second)).code).toBe('ERR_SDXI_ABORTED');
    expect((await rejection(mover.fill(buffer, 4, { signal: controllers[2].signal }))).code).toBe('ERR_SDXI_ABORTED');
    await third;
    expect(buffer.subarray(100, 200).every((byte) => byte === 3)).toBe(true);
    // Nothing of the aborted ones comes late.
    buffer.fill(0);
    await mover.fill(buffer.subarray(0, 1), 9);
    expect(buffer.subarray(1).equals(Buffer.alloc(buffer.length - 1))).toBe(true);
  });

  it('a signal that never fires leaves no listeners behind', async () => {
    const mover = await start(uri);
    const buffer = mover.alloc(64);
    const { signal } = new AbortController();
    const counts = { added: 0, removed: 0 };
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = ((...args: Parameters<typeof addEventListener>) => {
      counts.added++;
      addEventListener.apply(signal, args);
    }) as typeof addEventListener;
    signal.removeEventListener = ((...args: Parameters<typeof removeEventListener>) => {
      counts.removed++;
      removeEventListener.apply(signal, args);
    }) as typeof removeEventListener;
    for (let i = 0; i < 10; i++) await mover.fill(buffer, i, { signal });
    expect(counts.added).toBeGreaterThan(0);
    expect(counts.removed).toBe(counts.added);
  });

  it('close waits for what is under way, refuses what comes after, and is idempotent', async () => {
    const mover = await start(uri);
    const [from, to] = [mover.alloc(32 * MIB).fill(6), mover.alloc(32 * MIB)];
    const work = mover.copy(from, to);
    const closed = mover.close();
    expect((await rejection(mover.copy(from, to))).code).toBe('ERR_SDXI_CLOSED');
    expect(() => mover.alloc(1)).toThrow(/closed/);
    expect(() => mover.register(Buffer.alloc(1))).toThrow(/closed/);
    mover.free(from);
    await closed;
    await mover.close();
    await work;
    expect(to[to.length - 1]).toBe(6);
    expect(from[0]).toBe(6);
  });

  it('close with abort rejects what is under way', async () => {
    const mover = await start(uri);
    const buffer = mover.alloc(512 * MIB);
    const work = [rejection(mover.fill(buffer, 1)), rejection(mover.fill(buffer, 2))];
    await turn();
    await mover.close({ abort: true });
    for (const error of await Promise.all(work)) expect(error.code).toBe('ERR_SDXI_CLOSED');
  });

  it('await using closes', async () => {
    const mover = await start(uri);
    await mover[Symbol.asyncDispose]();
    expect((await rejection(mover.fill(new Uint8Array(1), 0))).code).toBe('ERR_SDXI_CLOSED');
  });
});

describe('timeouts and lost functions', () => {
  const start = moverFixture();

  /** A mover over a bus that the test can make deaf. */
  async function deafMover(): Promise<{ mover: Mover; bus: EmbeddedBus; deaf: { on: boolean } }> {
    const bus = await EmbeddedBus.open('embedded:');
    const deaf = { on: false };
    const wrapped = wrap(bus, { writeDoorbell: (offset, value) => (deaf.on && offset > 0 ? undefined : bus.writeDoorbell(offset, value)) });
    const iovas = new IovaSpace();
    const driver = await SdxiDriver.open(wrapped, { adminTimeoutMs: 1000, iovas });
    const channel = new Channel(driver, await driver.createContext());
    return { mover: new Mover([channel], new MemoryTable([driver], iovas), 30_000), bus, deaf };
  }

  it('a timeout rejects at once; what was queued behind it goes on', async () => {
    const { mover, deaf } = await deafMover();
    const buffer = mover.alloc(4096);
    deaf.on = true;
    const started = performance.now();
    const late = rejection(mover.fill(buffer.subarray(0, 64), 1, { timeoutMs: 30 }));
    expect(await late).toMatchObject({ code: 'ERR_SDXI_TIMEOUT', fields: { timeoutMs: 30 } });
    expect(performance.now() - started).toBeLessThan(500);
    await mover.functions[0].context.idle();
    deaf.on = false;
    await mover.fill(buffer.subarray(64, 128), 2);
    expect([buffer[0], buffer[64]]).toEqual([0, 2]);
    await mover.close();
  });

  it('an engine thread that dies rejects everything, and close() returns', async () => {
    const { mover, bus } = await deafMover();
    const buffer = mover.alloc(512 * MIB);
    const user = Buffer.alloc(1000);
    const registration = mover.register(user);
    const work = [
      mover.fill(buffer, 1),
      mover.batch(Array.from({ length: 9000 }, (_, i) => ({ op: 'fill' as const, destination: buffer.subarray(i, i + 1), value: 2 }))),
      mover.fill(user, 3),
    ].map(rejection);
    await turn();
    await bus.terminate();
    for (const error of await Promise.all(work)) expect(error.code).toBe('ERR_SDXI_BUS_LOST');
    expect((await rejection(mover.fill(user, 1))).code).toBe('ERR_SDXI_BUS_LOST');
    await registration.close();
    await mover.close();
    expect(user.length).toBe(1000);
  });

  it('of two functions one dies: new work goes to the other', async () => {
    const mover = await open('embedded:', { functions: 2 });
    const source = mover.alloc(2 * MIB);
    const buffer = mover.alloc(2 * MIB);
    await mover.fill(source, 7);
    await (mover.functions[0].driver.bus as EmbeddedBus).terminate();
    // Whoever sends something there finds out.
    expect((await rejection(mover.fill(buffer, 9))).code).toBe('ERR_SDXI_BUS_LOST');
    for (let i = 0; i < 4; i++) {
      await mover.fill(buffer, 9);
      await mover.copy(source, buffer);
      expect(buffer.equals(source)).toBe(true);
    }
    await (mover.functions[1].driver.bus as EmbeddedBus).terminate();
    expect((await rejection(mover.fill(buffer, 1))).code).toBe('ERR_SDXI_BUS_LOST');
    await mover.close();
  });

  it('a function that was reset from outside is brought back', async () => {
    const { mover, bus } = await deafMover();
    const buffer = mover.alloc(4096);
    await mover.fill(buffer, 1);
    bus.reset();
    const [{ driver }] = mover.functions;
    const lost = rejection(mover.fill(buffer, 2));
    await turn();
    driver.functionStopped();
    expect((await lost).code).toBe('ERR_SDXI_FUNCTION');
    await mover.fill(buffer, 3);
    expect(buffer[0]).toBe(3);
    await mover.close();
  });

  it('a descriptor that cannot be encoded fails its own request; those beside it go out', async () => {
    const { mover } = await deafMover();
    const buffer = mover.alloc(4096);
    const { planner } = mover as unknown as { planner: { fill(work: { plan: Plan }): void } };
    const { fill } = planner;
    planner.fill = (work) => work.plan.copy(10, 2 ** 33, 2 ** 33 + 5);
    const bad = rejection(mover.fill(buffer, 1));
    planner.fill = fill;
    const good = mover.fill(buffer, 2);
    expect((await bad).code).toBe('ERR_SDXI_ENCODE');
    await good;
    expect(buffer[4095]).toBe(2);
    await mover.close();
  });

  it('a context that broke because its function was stuck works again when the function does', async () => {
    const bus = await EmbeddedBus.open('embedded:');
    let stuck = false;
    const wrapped = wrap(bus, { writeDoorbell: (offset, value) => (stuck ? undefined : bus.writeDoorbell(offset, value)) });
    const iovas = new IovaSpace();
    const driver = await SdxiDriver.open(wrapped, { adminTimeoutMs: 300, iovas });
    const mover = new Mover([new Channel(driver, await driver.createContext())], new MemoryTable([driver], iovas), 30_000);
    const buffer = mover.alloc(4096);
    stuck = true;
    expect((await rejection(mover.fill(buffer, 1, { timeoutMs: 10 }))).code).toBe('ERR_SDXI_TIMEOUT');
    // The stop that was to take the work back times out as well: the context is broken.
    while (!(mover.functions[0].context as unknown as { tracker: { broken?: Error } }).tracker.broken) await turn();
    stuck = false;
    expect((await rejection(mover.fill(buffer, 2))).code).toBe('ERR_SDXI_TIMEOUT');
    for (let done = false; !done; await turn()) {
      done = await mover.fill(buffer, 3).then(
        () => true,
        () => false,
      );
    }
    expect(buffer[0]).toBe(3);
    await mover.close();
  });

  it('bad options are refused before anything is opened', async () => {
    for (const [uri, options, code] of [
      ['embedded:?nonsense=1', {}, 'ERR_SDXI_ARGUMENT'],
      ['vfio:ffff:ff:1f.7', {}, 'ERR_SDXI_URI'],
      ['nowhere', {}, 'ERR_SDXI_URI'],
      ['embedded:', { functions: 0 }, 'ERR_SDXI_ARGUMENT'],
      ['embedded:', { functions: 65 }, 'ERR_SDXI_ARGUMENT'],
      ['embedded:', { ringEntries: 100 }, 'ERR_SDXI_ARGUMENT'],
      [[], {}, 'ERR_SDXI_ARGUMENT'],
    ] as const) {
      expect((await rejection(start(uri as string, options))).code).toBe(code);
    }
  });
});

describe('striping', () => {
  const start = moverFixture();

  it('large copies and batches run on all functions, and both counters move', async () => {
    const mover = await start('embedded:', { functions: 2 });
    const [from, to] = [mover.alloc(40 * MIB + 77), mover.alloc(40 * MIB + 77)];
    pattern(from.subarray(0, MIB));
    from.copyWithin(3 * MIB + 5, 0, MIB);
    await mover.copy(from, to);
    expect(to.equals(from)).toBe(true);
    let [first, second] = mover.stats().functions;
    expect(Math.min(first.bytes, second.bytes)).toBeGreaterThan(15 * MIB);
    await mover.batch(
      Array.from({ length: 1000 }, (_, i) => ({ op: 'fill' as const, destination: to.subarray(i * 64, i * 64 + 64), value: 8 })),
    );
    const before = [first.descriptors, second.descriptors];
    [first, second] = mover.stats().functions;
    expect([first.descriptors - before[0], second.descriptors - before[1]]).toEqual([500, 500]);
    expect(to.subarray(0, 64_000).every((byte) => byte === 8)).toBe(true);
    expect(mover.functions.map(({ name }) => name).length).toBe(2);
  });

  it('several URIs, and registered memory on all of them', async () => {
    const mover = await start(['embedded:', 'embedded:?inline=1&maxBuffer=0']);
    const user = Buffer.alloc(9 * MIB);
    const registration = mover.register(user);
    const from = mover.alloc(9 * MIB);
    pattern(from);
    await mover.copy(from, user);
    expect(user.equals(from)).toBe(true);
    const pattern4 = Buffer.from('abcd');
    await mover.fill(user.subarray(1), pattern4);
    for (let at = 0; at < 64; at++) expect(user[1 + at * 131_072]).toBe(pattern4[(at * 131_072) % 4]);
    await registration.close();
    expect(mover.functions.map(({ uri }) => uri)).toEqual(['embedded:', 'embedded:?inline=1&maxBuffer=0']);
  });

  it('an error on one function rejects the request after all parts have ended', async () => {
    const mover = await start('embedded:', { functions: 2 });
    const readOnly = Buffer.alloc(8 * MIB);
    mover.register(readOnly, { access: 'read' });
    const from = mover.alloc(8 * MIB);
    expect((await rejection(mover.copy(from, readOnly))).code).toBe('ERR_SDXI_DATA_ACCESS');
    await mover.copy(readOnly, from);
  });

  it('pieces are at least 256 KiB, cover everything once, and are shared fairly', () => {
    for (const [size, parts] of [
      [512 * 1024, 2],
      [511 * 1024, 2],
      [3 * MIB + 1, 3],
      [64 * MIB, 4],
      [100, 4],
    ]) {
      const plan = new Plan();
      plan.copy(size, 2 ** 33, 2 ** 34);
      const shares = plan.split(parts, 256 * 1024);
      expect(shares.reduce((sum, share) => sum + share.bytes, 0)).toBe(size);
      const sizes = shares.map(({ bytes }) => bytes);
      if (shares.length > 1) {
        expect(Math.min(...sizes)).toBeGreaterThanOrEqual(256 * 1024);
        expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(256 * 1024);
      }
      expect(shares.length).toBe(Math.max(1, Math.min(parts, Math.floor(size / (256 * 1024)))));
    }
  });
});
