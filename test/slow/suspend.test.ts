/** Suspended over and over again, at whatever moment: nothing is lost, and nothing happens twice. Ref §10. */
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { EmbeddedBus } from '../../src/bus/index.js';
import { type Context, SdxiDriver } from '../../src/driver/index.js';
import { Prng } from '../../src/prng.js';
import { AtomicOp, encodeAtomic } from '../../src/spec/index.js';
import { closing } from '../driver/rig.js';
import { moverFixture, pattern } from '../mover/rig.js';

const MIB = 2 ** 20;
const OPTIONS = ['', 'cache=sticky', 'readIndex=early', 'reorder=on&seed=2', 'pollInvalid=on&qos=on'];

describe('a mover that is suspended 100 times under load', () => {
  const start = moverFixture();

  it.each(OPTIONS)('ref §10 embedded:?%s', async (options) => {
    const mover = await start(`embedded:?${options}`, { functions: 2, ringEntries: 1024 });
    const random = new Prng(3);
    let over = false;
    const traffic = Array.from({ length: 6 }, async (_, lane) => {
      const [from, to] = [mover.alloc(MIB), mover.alloc(MIB)];
      pattern(from, lane);
      for (let n = 0; !over; n++) {
        const size = 1 + random.below(n % 7 === 0 ? MIB : 4000);
        to.fill(n & 0xff, 0, Math.min(MIB, size + 64));
        const guard = to[size];
        await mover.copy(from.subarray(0, size), to.subarray(0, size));
        if (!to.subarray(0, size).equals(from.subarray(0, size)) || to[size] !== guard) throw new Error(`lane ${lane}: copy ${n} is wrong`);
      }
    });
    for (let cycle = 0; cycle < 100; cycle++) {
      await pause(random.below(4));
      await mover.suspend();
      if (cycle % 3 === 0) await pause(random.below(3));
      await mover.resume();
    }
    over = true;
    await Promise.all(traffic);
    expect(mover.stats()).toMatchObject({ errors: 0, inFlight: 0, queued: 0 });
  });
});

describe('a driver that moves on 20 times', () => {
  it.each(OPTIONS)('ref §10 every descriptor of deep rings runs once: embedded:?%s', async (options) => {
    const contexts = 6;
    const each = 900;
    const open = () => EmbeddedBus.open(`embedded:?${options}`);
    const patient = { adminTimeoutMs: 10_000 };
    let driver = await SdxiDriver.open(await open(), patient);
    const counters = driver.allocate(contexts * each * 16).iova;
    const data = driver.allocate(2 * MIB).iova;
    for (let c = 0; c < contexts; c++) {
      const context = await driver.createContext({ completion: c % 2 === 0 ? 'adaptive' : 'interrupt', ringEntries: 4096 });
      for (let n = 0; n < each; n++) {
        const at = counters + 16 * (c * each + n);
        const batch = context.begin(2, { bytes: 300_000 });
        batch.write((u32, word, flags, csb) => encodeAtomic(u32, word, flags, csb, AtomicOp.UADD, 8, 0, at, 0, at + 8, 1, 0, 0, 0));
        batch.copy(300_000, data, data + MIB);
        batch.submit();
      }
    }
    let moved = 0;
    for (let hop = 0; hop < 20; hop++) {
      await pause(5);
      const json = JSON.stringify(await driver.suspend());
      const { regions } = driver;
      await driver.close();
      driver = await SdxiDriver.resume(await open(), json, { memory: regions, ...patient });
      for (const context of driver.contexts.values()) moved += context.inherited.length;
    }
    const all = [...driver.contexts.values()] as Context[];
    for (const { inherited } of all) for (const { submission } of inherited) await submission.done;
    expect(moved).toBeGreaterThan(0);
    closing(driver);
    const { bytes } = driver.bufferAt(counters);
    const wrong = Array.from({ length: contexts * each }, (_, i) => bytes.readBigUInt64LE(16 * i)).filter((count) => count !== 1n);
    expect(wrong).toEqual([]);
    expect(driver.errorLog.history).toEqual([]);
  });
});
