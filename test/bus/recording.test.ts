import { describe, expect, it } from 'vitest';
import { type BusRecord, InlineBus, RecordingBus } from '../../src/bus/index.js';
import { Access } from '../../src/memory/address-space.js';
import { Reg } from '../../src/spec/index.js';
import { MiniDriver } from './rig.js';

describe('a recording bus', () => {
  it('writes down what its user does, in order, and passes it on', async () => {
    const seen: BusRecord[] = [];
    const bus = new RecordingBus(new InlineBus(), { onRecord: (record) => seen.push(record) });
    const driver = new MiniDriver(bus);
    expect(bus.records.map((record) => record.kind)).toEqual(['map', 'writeRegister', 'writeRegister', 'readRegister']);
    bus.clear();
    const index = driver.interrupt(3);
    driver.doorbell();
    bus.maskInterrupt(3);
    await bus.wait(() => driver.readIndex === index, { what: 'work', timeoutMs: 1000, vector: 3 });
    expect(bus.interruptPending(3)).toBe(true);
    bus.unmaskInterrupt(3);
    expect(bus.interruptCount(3)).toBe(1);
    bus.unmap(driver.base, driver.region.byteLength);
    expect(() => bus.unmap(driver.base, 64)).not.toThrow();
    bus.reset();
    await bus.close();
    expect(bus.records).toEqual([
      { kind: 'writeDoorbell', offset: 0, value: 1 },
      { kind: 'mask', vector: 3 },
      { kind: 'wait', what: 'work' },
      { kind: 'unmask', vector: 3 },
      { kind: 'unmap', iova: driver.base, byteLength: driver.region.byteLength, pasid: undefined },
      { kind: 'unmap', iova: driver.base, byteLength: 64, pasid: undefined },
      { kind: 'reset' },
      { kind: 'close' },
    ]);
    expect(seen.slice(0, 2)).toEqual([
      { kind: 'map', iova: driver.base, byteLength: driver.region.byteLength, access: Access.READ_WRITE, pasid: undefined },
      { kind: 'writeRegister', offset: Reg.CXT_L2, value: BigInt(driver.base) },
    ]);
    expect([bus.uri, bus.vectors, bus.doorbellBytes]).toEqual([bus.bus.uri, bus.bus.vectors, bus.bus.doorbellBytes]);
  });

  it('does not write down what failed', () => {
    const bus = new RecordingBus(new InlineBus());
    expect(() => bus.writeRegister(-8, 0n)).toThrow();
    expect(() => bus.writeDoorbell(-8, 0)).toThrow();
    expect(bus.records).toEqual([]);
  });

  it('keeps at most as many records as it was told to, the youngest', () => {
    const bus = new RecordingBus(new InlineBus(), { limit: 4 });
    for (let value = 0; value < 9; value++) bus.writeDoorbell(0, value);
    expect(bus.records.length).toBeLessThanOrEqual(4);
    expect(bus.records.at(-1)).toEqual({ kind: 'writeDoorbell', offset: 0, value: 8 });
    expect(bus.records.length + bus.dropped).toBe(9);
  });

  it('has the details and the advice of its bus', () => {
    const bus = Object.assign(new InlineBus(), { details: { registers: 'mapped' }, memoryAdvice: { chunkBytes: 4096 } });
    expect(new RecordingBus(bus)).toMatchObject({ details: bus.details, memoryAdvice: bus.memoryAdvice });
  });
});
