/** Saving the PCI shell and restoring it elsewhere. S-124. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { SdxiError } from '../../src/errors.js';
import type { PciState } from '../../src/pci/index.js';
import { checksum } from '../../src/pci/state.js';
import { At, BUS_MASTER, MEMORY, Rig } from './rig.js';

function used(): Rig {
  const rig = new Rig().start();
  rig.write(0x10, 8, 0x12_fff0_0000n);
  rig.write(0x18, 8, 0x13_0000_0000n);
  rig.write(0x3c, 1, 11);
  rig.writeTable(16, 16, 0x0000_0000_0000_4021_0000_0000_fee0_1000n);
  rig.pci.raise(0);
  rig.pci.raise(65);
  return rig;
}

const throughJson = (state: PciState) => JSON.parse(JSON.stringify(state)) as PciState;

function refusal(rig: Rig, state: unknown): SdxiError {
  try {
    rig.pci.restore(state as PciState);
  } catch (error) {
    return error as SdxiError;
  }
  throw new Error('it was taken');
}

describe('save and restore (S-124)', () => {
  it('S-124 everything that software has changed comes back in another function, by way of JSON', () => {
    const rig = used();
    const other = new Rig();
    other.pci.restore(throughJson(rig.pci.save()));
    expect(other.image()).toEqual(rig.image());
    expect([0, 1, 65].map((v) => [other.pci.msix.pending(v), other.pci.msix.masked(v)])).toEqual([
      [true, true],
      [false, false],
      [true, true],
    ]);
    expect(other.readTable(16, 16)).toBe(rig.readTable(16, 16));
    expect(other.journal).toEqual(['busMaster true']);
    expect(other.pci.save()).toEqual(rig.pci.save());
    other.pci.unmaskVector(65);
    expect(other.delivered).toEqual([65]);
  });

  it('S-124 power state and bus mastering come back, and the port is told of what changed', () => {
    const asleep = new Rig().start();
    asleep.write(At.PMCSR, 2, 3);
    const other = new Rig().start();
    other.pci.restore(asleep.pci.save());
    expect([other.pci.awake, other.journal]).toEqual([false, ['busMaster false']]);
  });

  it('S-124 after any writes: a state is taken by another function, which then saves the same', () => {
    const write = fc.tuple(fc.integer({ min: 0, max: 0x110 }), fc.uint8Array({ minLength: 1, maxLength: 8 }));
    fc.assert(
      fc.property(fc.array(write, { maxLength: 40, size: 'max' }), fc.array(fc.integer({ min: 0, max: 65 })), (writes, raised) => {
        const rig = new Rig().start();
        for (const [offset, bytes] of writes) rig.pci.writeConfig(offset, bytes);
        for (const vector of raised) rig.pci.raise(vector);
        const state = rig.pci.save();
        const other = new Rig();
        other.pci.restore(throughJson(state));
        expect(Buffer.compare(other.image(), rig.image())).toBe(0);
        expect(other.pci.save()).toEqual(state);
      }),
      { numRuns: 100 },
    );
  });

  it('S-124 S-122 the set-up of SET_IRQS stays that of the target: enabled, receivers, and their mask bits', () => {
    const rig = new Rig().start();
    rig.pci.raise(1);
    rig.pci.enableMsix(true);
    rig.pci.setReceiver(3, true);
    const other = new Rig();
    other.pci.setReceiver(1, true);
    other.pci.restore(rig.pci.save());
    expect([1, 2, 3].map((v) => other.pci.msix.masked(v))).toEqual([false, true, false]);
    // It was pending at the source, and here somebody waits for it.
    expect(other.delivered).toEqual([1]);
    other.write(At.MSIX_CONTROL, 2, 0);
    expect(other.pci.msix.enabled).toBe(false);
  });

  it('S-124 nothing stays of what the target was before', () => {
    const rig = new Rig().start();
    rig.pci.enableMsix(true);
    rig.write(At.MSIX_CONTROL, 2, 0);
    rig.pci.raise(1);
    const other = used();
    other.pci.restore(rig.pci.save());
    expect([0, 1, 65].map((v) => other.pci.msix.pending(v))).toEqual([false, true, false]);
    expect([other.image(), other.pci.counters.dropped]).toEqual([rig.image(), 0]);
  });

  it('S-124 what was pending while SET_IRQS alone had enabled MSI-X waits for SET_IRQS at the target', () => {
    const rig = new Rig();
    rig.write(At.COMMAND, 2, MEMORY | BUS_MASTER);
    rig.pci.enableMsix(true);
    rig.pci.raise(1);
    const other = new Rig();
    other.pci.restore(rig.pci.save());
    other.pci.setReceiver(1, true);
    expect(other.delivered).toEqual([]);
    other.pci.enableMsix(true);
    expect(other.delivered).toEqual([1]);
  });

  const good = used().pci.save();
  const BAD: [string, unknown][] = [
    ['nothing', undefined],
    ['null', null],
    ['a list', []],
    ['another format', { ...good, format: 'sdxi-function' }],
    ['another version', { ...good, version: 2 }],
    ['no checksum', { ...good, checksum: undefined }],
    ['a changed register', { ...good, registers: { ...good.registers, COMMAND: '0x0' } }],
    ['a changed table', { ...good, table: good.table.replace('0', '1') }],
    ['changed pending bits', { ...good, pending: [1] }],
    ['no registers', { ...good, registers: undefined }],
    ['bigints', { ...good, registers: { ...good.registers, COMMAND: 6n } }],
    ['no table', { ...good, table: 5 }],
    ['pending bits that are no list', { ...good, pending: {} }],
  ];
  it.each(BAD)('S-124 refused, with nothing changed: %s', (_what, state) => {
    const rig = used();
    const before = rig.pci.save();
    rig.journal.length = 0;
    expect(refusal(rig, state)).toMatchObject({ code: 'ERR_SDXI_STATE', hint: expect.any(String) });
    expect([rig.pci.save(), rig.journal]).toEqual([before, []]);
  });

  const BAD_CONTENT: [string, Partial<PciState>][] = [
    ['a register too many', { registers: { ...good.registers, VENDOR_ID: '0x1234' } }],
    ['a register too few', { registers: Object.fromEntries(Object.entries(good.registers).slice(1)) }],
    ['a register that is no number', { registers: { ...good.registers, COMMAND: '6' } }],
    ['a register too wide', { registers: { ...good.registers, COMMAND: '0x10006' } }],
    ['a read-only bit set', { registers: { ...good.registers, COMMAND: '0x7' } }],
    ['a read-only bit cleared', { registers: { ...good.registers, PMCSR: '0x0' } }],
    ['the bit that resets', { registers: { ...good.registers, DEVCTL: '0xa810' } }],
    ['a power state that is none', { registers: { ...good.registers, PMCSR: '0x9' } }],
    ['a table too short', { table: good.table.slice(2) }],
    ['a table with other characters', { table: `zz${good.table.slice(2)}` }],
    ['a table with a reserved bit', { table: `${good.table.slice(0, 26)}ff${good.table.slice(28)}` }],
    ['a vector too high', { pending: [66] }],
    ['a vector that is no integer', { pending: [0.5] }],
    ['a negative vector', { pending: [-1] }],
  ];
  it.each(BAD_CONTENT)('S-124 refused, though the checksum fits: %s', (_what, part) => {
    const rig = new Rig().start();
    const before = rig.pci.save();
    const state = { ...good, ...part };
    expect(refusal(rig, { ...state, checksum: checksum(state) })).toMatchObject({ code: 'ERR_SDXI_STATE', hint: expect.any(String) });
    expect([rig.pci.save(), rig.journal]).toEqual([before, []]);
  });

  it.each([
    ['vectors', new Rig({ vectors: 65 })],
    ['bar2Bytes', new Rig({ bar2Bytes: 0x80000 })],
    ['deviceId', new Rig({}, { deviceId: 1 })],
    ['serial', new Rig({}, { serial: 5n })],
  ])('S-124 refused: of a function with another %s', (name, rig) => {
    expect(refusal(rig, good).message).toContain(name);
  });
});
