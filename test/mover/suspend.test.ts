/** A mover that is suspended for a while: nothing that was under way is lost. Ref §10. */
import { describe, expect, it } from 'vitest';
import { type Bus, EmbeddedBus } from '../../src/bus/index.js';
import { IovaSpace, SdxiDriver } from '../../src/driver/index.js';
import { Channel } from '../../src/mover/channel.js';
import { Mover } from '../../src/mover/index.js';
import { MemoryTable } from '../../src/mover/memory.js';
import { FunctionState } from '../../src/spec/index.js';
import { closing, wrap } from '../driver/rig.js';
import { EMBEDDED, moverFixture, pattern, rejection, turn } from './rig.js';

const MIB = 2 ** 20;

describe.each(EMBEDDED)('suspend and resume over $name (ref §10)', ({ uri }) => {
  const start = moverFixture();

  it('ref §10 what is in flight and what is queued finishes after the resume, on all functions', async () => {
    const mover = await start(uri, { functions: 2, ringEntries: 1024 });
    const [from, to] = [mover.alloc(8 * MIB), mover.alloc(8 * MIB)];
    pattern(from);
    let settled = 0;
    const each = 2048;
    const copies = Array.from({ length: (8 * MIB) / each }, async (_, i) => {
      await mover.copy(from.subarray(i * each, (i + 1) * each), to.subarray(i * each, (i + 1) * each));
      settled++;
    });
    await mover.suspend();
    expect(mover.suspended).toBe(true);
    for (const { driver } of mover.functions) expect(driver.state()).toBe(FunctionState.STOP);
    await turn();
    const before = settled;
    for (let i = 0; i < 5; i++) await turn();
    expect(settled).toBe(before);
    await mover.resume();
    await Promise.all(copies);
    expect(to.equals(from)).toBe(true);
    expect(mover.stats()).toMatchObject({ errors: 0, inFlight: 0, queued: 0 });
  });

  it('work that is begun meanwhile waits; its timeout and its signal count as ever, those of earlier work do not', async () => {
    const mover = await start(uri);
    const [from, to] = [mover.alloc(MIB), mover.alloc(MIB)];
    pattern(from);
    const parts = [0, 1, 2, 3].map((i) => [from.subarray(i * 1000, i * 1000 + 1000), to.subarray(i * 1000, i * 1000 + 1000)] as const);
    const earlier = mover.copy(...parts[0], { timeoutMs: 5000 });
    await mover.suspend();
    const now = performance.now;
    performance.now = () => now.call(performance) + 60_000;
    try {
      const controller = new AbortController();
      const waiting = mover.copy(...parts[1]);
      const late = rejection(mover.copy(...parts[2], { timeoutMs: 20 }));
      const aborted = rejection(mover.copy(...parts[3], { signal: controller.signal }));
      controller.abort();
      expect((await aborted).code).toBe('ERR_SDXI_ABORTED');
      expect((await late).code).toBe('ERR_SDXI_TIMEOUT');
      await mover.resume();
      await Promise.all([earlier, waiting]);
    } finally {
      performance.now = now;
    }
    expect(to.subarray(0, 2000).equals(from.subarray(0, 2000))).toBe(true);
    expect(to.subarray(2000, 4000).every((byte) => byte === 0)).toBe(true);
  });

  it('memory comes and goes while it is suspended', async () => {
    const mover = await start(uri);
    const old = mover.alloc(32 * MIB);
    await mover.suspend();
    mover.free(old);
    const mine = new Uint8Array(100_000);
    const registration = mover.register(mine);
    const target = mover.alloc(100_000);
    mine.fill(3);
    const copy = mover.copy(mine, target);
    await mover.resume();
    await copy;
    expect(target.every((byte) => byte === 3)).toBe(true);
    await registration.close();
  });

  it('closing a suspended mover takes back what is under way', async () => {
    const mover = await start(uri);
    const [from, to] = [mover.alloc(MIB), mover.alloc(MIB)];
    await mover.suspend();
    const copy = rejection(mover.copy(from, to));
    await mover.close();
    expect((await copy).code).toBe('ERR_SDXI_CLOSED');
    expect((await rejection(mover.suspend())).code).toBe('ERR_SDXI_CLOSED');
  });

  it('twice is once; resuming what runs, and options that do not exist, are errors', async () => {
    const mover = await start(uri);
    expect(await rejection(mover.resume())).toMatchObject({ code: 'ERR_SDXI_STATE', hint: expect.stringContaining('suspend') });
    await Promise.all([mover.suspend(), mover.suspend()]);
    await mover.resume();
    expect(mover.suspended).toBe(false);
    expect((await rejection(mover.suspend({ soft: true } as object))).code).toBe('ERR_SDXI_ARGUMENT');
    expect((await rejection(mover.resume({ timeoutMs: -1 }))).code).toBe('ERR_SDXI_ARGUMENT');
    expect((await rejection(mover.suspend({ signal: AbortSignal.abort() }))).code).toBe('ERR_SDXI_ABORTED');
    expect(mover.suspended).toBe(false);
    await mover.copy(mover.alloc(8), mover.alloc(8));
  });
});

it('when one function cannot be suspended, none is, and work goes on', async () => {
  const iovas = new IovaSpace();
  const buses: Bus[] = [await EmbeddedBus.open('embedded:'), await EmbeddedBus.open('embedded:')];
  buses[1] = wrap(buses[1], { snapshot: undefined } as Partial<Bus>);
  const drivers: SdxiDriver[] = [];
  const channels: Channel[] = [];
  for (const bus of buses) {
    const driver = await SdxiDriver.open(bus, { iovas });
    drivers.push(driver);
    channels.push(new Channel(driver, await driver.createContext()));
  }
  const mover = closing(new Mover(channels, new MemoryTable(drivers, iovas), 1000));
  const [from, to] = [mover.alloc(4 * MIB), mover.alloc(4 * MIB)];
  pattern(from);
  const copy = mover.copy(from, to);
  expect((await rejection(mover.suspend())).code).toBe('ERR_SDXI_UNSUPPORTED');
  expect([mover.suspended, ...drivers.map((driver) => driver.state())]).toEqual([false, 2, 2]);
  await copy;
  expect(to.equals(from)).toBe(true);
});
