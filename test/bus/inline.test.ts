import { describe, expect, it } from 'vitest';
import { InlineBus } from '../../src/bus/index.js';
import { Reg } from '../../src/spec/index.js';
import { MiniDriver, tick } from './rig.js';

describe('an inline bus', () => {
  it('does nothing by itself; step() decides', async () => {
    const bus = new InlineBus();
    const driver = new MiniDriver(bus);
    for (let i = 0; i < 3; i++) driver.nop();
    driver.doorbell();
    await tick(5);
    expect(driver.readIndex).toBe(0);
    expect(bus.step(1)).toBe(1);
    expect(bus.step(100)).toBeGreaterThan(0);
    while (bus.step() > 0);
    expect(driver.readIndex).toBe(3);
    expect(bus.counters().descriptors).toBe(3);
    expect(bus.fn.counters.descriptors).toBe(3);
  });

  it('runs inside wait(), which lets the event loop turn when the function is idle', async () => {
    const bus = new InlineBus();
    const driver = new MiniDriver(bus);
    let index = -1;
    const wait = bus.wait(() => driver.readIndex === index, { what: 'work', timeoutMs: 2000 });
    await tick(5);
    index = driver.nop();
    driver.doorbell();
    await wait;
  });

  it('lets the event loop turn while there is much to do', async () => {
    const bus = new InlineBus();
    const driver = new MiniDriver(bus);
    let turns = 0;
    const timer = setInterval(() => {
      turns++;
      for (let i = 0; i < 500; i++) driver.nop();
      driver.doorbell();
    }, 0);
    await bus.wait(() => turns >= 5, { what: 'turns of the event loop', timeoutMs: 2000 });
    clearInterval(timer);
  });

  it('sees every access through its tracer', () => {
    const seen: unknown[] = [];
    const note =
      (name: string) =>
      (...args: unknown[]) =>
        seen.push([name, ...args]);
    const names = [
      'registerRead',
      'registerWrite',
      'doorbell',
      'functionState',
      'contextState',
      'descriptor',
      'completion',
      'interrupt',
      'errorRecord',
    ];
    const tracer = Object.fromEntries(names.map((name) => [name, note(name)])) as never;
    const bus = new InlineBus('embedded:?inline=1', { tracer });
    bus.writeRegister(Reg.ERR_RD, 0n);
    bus.writeDoorbell(4096, 5);
    expect(seen).toEqual([
      ['registerWrite', Reg.ERR_RD, 8, 0n],
      ['doorbell', 1, 5],
    ]);
  });
});
