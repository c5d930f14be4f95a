/** MSI-X: table, pending bits, and what becomes of an interrupt. S-93, S-94, S-119, S-121. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { At, BUS_MASTER, FUNCTION_MASK, MEMORY, MSIX_ENABLE, Rig } from './rig.js';

describe('BAR 4 (S-93)', () => {
  it('S-93 entries at 0: after reset all 0 but the mask bit', () => {
    const rig = new Rig().start();
    for (let vector = 0; vector < 66; vector++) {
      expect([rig.readTable(16 * vector, 8), rig.readTable(16 * vector + 8, 8)]).toEqual([0n, 1n << 32n]);
    }
  });

  it('S-93 address, data and mask bit can be written, the rest cannot', () => {
    const rig = new Rig().start();
    rig.writeTable(16, 16, (1n << 128n) - 1n);
    expect(rig.readTable(16, 8)).toBe(0xffff_ffff_ffff_fffcn);
    expect(rig.readTable(24, 8)).toBe(0x0000_0001_ffff_ffffn);
    expect([rig.readTable(0, 8), rig.readTable(32, 8)]).toEqual([0n, 0n]);
  });

  it('S-93 pending bits at 0x8000, a bit a vector; they are read only', () => {
    const rig = new Rig().start();
    rig.pci.raise(1);
    rig.pci.raise(65);
    expect([rig.readTable(0x8000, 8), rig.readTable(0x8008, 8)]).toEqual([2n, 2n]);
    rig.writeTable(0x8000, 8, 0n);
    rig.writeTable(0x8000, 8, 0xffff_ffffn);
    expect(rig.readTable(0x8000, 8)).toBe(2n);
  });

  it('S-123 bytes behind the table and the pending bits read 0; a read may cross from one to the other', () => {
    const rig = new Rig().start();
    rig.pci.raise(0);
    rig.writeTable(66 * 16, 4, 0xffff_ffff);
    expect(rig.readTable(66 * 16, 4)).toBe(0n);
    expect(rig.readTable(0x8010, 8)).toBe(0n);
    expect(rig.readTable(0x7ffe, 4)).toBe(0x1_0000n);
  });

  it('S-123 any size and alignment: a byte of a mask, a write over two entries', () => {
    const rig = new Rig().start();
    rig.writeTable(12, 1, 0);
    expect(rig.pci.msix.masked(0)).toBe(false);
    rig.writeTable(13, 3, 0xff_ffff);
    expect([rig.pci.msix.masked(0), rig.readTable(12, 4)]).toEqual([false, 0n]);
    rig.writeTable(10, 8, 0x8888_0000_0001_7777n);
    expect([rig.readTable(8, 4), rig.pci.msix.masked(0), rig.readTable(16, 4)]).toEqual([0x7777_0000n, true, 0x8888n]);
  });

  it.each([
    [-1, 1],
    [0xffff, 2],
    [0x10000, 1],
    [0.5, 4],
  ])('an access that leaves BAR 4 is refused, also while BARs do not answer: %d, %d bytes', (offset, bytes) => {
    for (const rig of [new Rig(), new Rig().start()]) {
      expect(() => rig.pci.readMsix(offset, new Uint8Array(bytes))).toThrow(/leaves its 65536 bytes/);
      expect(() => rig.pci.writeMsix(offset, new Uint8Array(bytes))).toThrow(/leaves its 65536 bytes/);
    }
  });
});

describe('what becomes of an interrupt (S-94, S-119)', () => {
  it('S-94 enabled, not masked, bus mastering on, a receiver: delivered', () => {
    const rig = new Rig().start();
    rig.pci.setReceiver(5, true);
    rig.pci.raise(5);
    expect([rig.delivered, rig.pci.counters]).toEqual([[5], { delivered: 1, pended: 0, dropped: 0 }]);
  });

  const DROPS: [string, (rig: Rig) => void][] = [
    ['MSI-X disabled', (rig) => rig.write(At.MSIX_CONTROL, 2, 0)],
    ['bus mastering off', (rig) => rig.write(At.COMMAND, 2, MEMORY)],
    ['no receiver', (rig) => rig.deaf.add(1)],
  ];
  it.each(DROPS)('S-94 %s: dropped and counted, and not made up for', (_why, spoil) => {
    const rig = new Rig().start();
    rig.setMask(1, false);
    spoil(rig);
    rig.pci.raise(1);
    expect(rig.pci.counters).toEqual({ delivered: 0, pended: 0, dropped: 1 });
    rig.deaf.clear();
    rig.start();
    expect([rig.pci.msix.pending(1), rig.delivered]).toEqual([false, []]);
  });

  const MASKS: [string, (rig: Rig) => void, (rig: Rig) => void][] = [
    ['its table entry', (rig) => rig.setMask(1, true), (rig) => rig.setMask(1, false)],
    [
      'the function mask',
      (rig) => rig.write(At.MSIX_CONTROL, 2, MSIX_ENABLE | FUNCTION_MASK),
      (rig) => rig.write(At.MSIX_CONTROL, 2, MSIX_ENABLE),
    ],
    ['SET_IRQS', (rig) => rig.pci.maskVector(1), (rig) => rig.pci.unmaskVector(1)],
    ['having no receiver yet', (rig) => rig.pci.setReceiver(1, false), (rig) => rig.pci.setReceiver(1, true)],
  ];
  it.each(MASKS)('S-94 masked by %s: pending, and delivered once when unmasked', (_how, mask, unmask) => {
    const rig = new Rig().start();
    rig.setMask(1, false);
    mask(rig);
    expect(rig.pci.msix.masked(1)).toBe(true);
    rig.pci.raise(1);
    rig.pci.raise(1);
    expect([rig.pci.msix.pending(1), rig.readTable(0x8000, 8), rig.delivered]).toEqual([true, 2n, []]);
    unmask(rig);
    expect([rig.pci.msix.pending(1), rig.readTable(0x8000, 8), rig.delivered]).toEqual([false, 0n, [1]]);
    expect(rig.pci.counters).toEqual({ delivered: 1, pended: 2, dropped: 0 });
  });

  it('S-119 a masked vector is pending also without bus mastering, and waits for it', () => {
    const rig = new Rig().start();
    rig.write(At.COMMAND, 2, MEMORY);
    rig.pci.raise(1);
    rig.pci.unmaskVector(1);
    expect([rig.pci.msix.pending(1), rig.delivered]).toEqual([true, []]);
    rig.write(At.COMMAND, 2, MEMORY | BUS_MASTER);
    expect(rig.journal.slice(-2)).toEqual(['busMaster true', 'deliver 1']);
  });

  it('S-119 under the function mask nothing goes out, whatever else is unmasked meanwhile', () => {
    const rig = new Rig().start();
    rig.write(At.MSIX_CONTROL, 2, MSIX_ENABLE | FUNCTION_MASK);
    rig.pci.raise(1);
    rig.pci.setReceiver(1, true);
    rig.setMask(2, false);
    expect([rig.pci.msix.pending(1), rig.delivered]).toEqual([true, []]);
    rig.write(At.MSIX_CONTROL, 2, MSIX_ENABLE);
    expect(rig.delivered).toEqual([1]);
  });

  it('S-119 with MSI-X disabled a masked vector is dropped', () => {
    const rig = new Rig();
    rig.pci.raise(1);
    expect([rig.pci.msix.pending(1), rig.pci.counters.dropped]).toEqual([false, 1]);
  });

  it('S-119 a pending message that finds no receiver is dropped', () => {
    const rig = new Rig().start();
    rig.deaf.add(1);
    rig.pci.raise(1);
    rig.pci.unmaskVector(1);
    expect([rig.pci.msix.pending(1), rig.pci.counters]).toEqual([false, { delivered: 0, pended: 1, dropped: 1 }]);
  });

  it('S-121 disabling MSI-X forgets what is pending', () => {
    const rig = new Rig().start();
    rig.pci.raise(1);
    rig.pci.raise(2);
    rig.write(At.MSIX_CONTROL, 2, 0);
    expect([rig.pci.msix.pending(1), rig.pci.counters.dropped]).toEqual([false, 2]);
    rig.write(At.MSIX_CONTROL, 2, MSIX_ENABLE);
    rig.pci.unmaskVector(1);
    expect(rig.delivered).toEqual([]);
  });

  it('S-94 the control word or SET_IRQS enables MSI-X; it is disabled when neither does', () => {
    const rig = new Rig();
    rig.write(At.COMMAND, 2, BUS_MASTER);
    rig.pci.setReceiver(1, true);
    expect(rig.pci.msix.enabled).toBe(false);
    rig.pci.enableMsix(true);
    rig.pci.raise(1);
    expect([rig.delivered, rig.read(At.MSIX_CONTROL, 2) & MSIX_ENABLE]).toEqual([[1], 0]);
    rig.write(At.MSIX_CONTROL, 2, MSIX_ENABLE);
    rig.pci.enableMsix(false);
    rig.pci.raise(1);
    expect(rig.delivered).toEqual([1, 1]);
    rig.write(At.MSIX_CONTROL, 2, 0);
    rig.pci.raise(1);
    expect([rig.delivered, rig.pci.msix.enabled]).toEqual([[1, 1], false]);
  });

  it('SET_IRQS works while BARs do not answer: it is not on the bus', () => {
    const rig = new Rig();
    rig.pci.setReceiver(1, true);
    expect(rig.pci.msix.masked(1)).toBe(false);
    rig.pci.setReceiver(1, false);
    expect(rig.pci.msix.masked(1)).toBe(true);
  });

  it.each([-1, 66, 1.5, Number.NaN])('a vector that the function has not is refused: %d', (vector) => {
    const { pci } = new Rig().start();
    for (const call of [
      () => pci.raise(vector),
      () => pci.setReceiver(vector, true),
      () => pci.maskVector(vector),
      () => pci.unmaskVector(vector),
      () => pci.msix.pending(vector),
      () => pci.msix.masked(vector),
    ]) {
      expect(call).toThrow(/there is no vector/);
    }
    expect(pci.counters).toEqual({ delivered: 0, pended: 0, dropped: 0 });
  });
});

/** The state machine again, one vector at a time and without bytes. */
class Model {
  enable = false;
  transport = false;
  functionMask = false;
  busMaster = false;
  asleep = false;
  masks = [true, true, true];
  pending = [false, false, false];
  deaf = [false, false, false];
  delivered = [0, 0, 0];
  pended = 0;
  dropped = 0;

  get on(): boolean {
    return this.enable || this.transport;
  }

  private arrive(v: number): void {
    if (this.deaf[v]) this.dropped++;
    else this.delivered[v]++;
  }

  raise(v: number): void {
    if (!this.on) this.dropped++;
    else if (this.masks[v] || this.functionMask) {
      this.pending[v] = true;
      this.pended++;
    } else if (!this.busMaster || this.asleep) this.dropped++;
    else this.arrive(v);
  }

  change(what: () => void): void {
    const before = this.on;
    what();
    for (let v = 0; v < 3; v++) {
      if (!this.pending[v]) continue;
      const forgotten = before && !this.on;
      const goes = this.on && !this.masks[v] && !this.functionMask && this.busMaster && !this.asleep;
      if (!forgotten && !goes) continue;
      this.pending[v] = false;
      if (goes) this.arrive(v);
      else this.dropped++;
    }
  }
}

type Step = { what: 'raise' | 'mask' | 'setIrqsMask' | 'receiver' | 'deaf'; vector: number; on: boolean } | { what: Switch; on: boolean };
type Switch = 'enable' | 'transport' | 'functionMask' | 'busMaster' | 'asleep';

function apply(rig: Rig, model: Model, step: Step): void {
  const { on } = step;
  const control = () => rig.write(At.MSIX_CONTROL, 2, (model.enable ? MSIX_ENABLE : 0) | (model.functionMask ? FUNCTION_MASK : 0));
  switch (step.what) {
    case 'raise':
      model.raise(step.vector);
      rig.pci.raise(step.vector);
      break;
    case 'deaf':
      model.deaf[step.vector] = on;
      if (on) rig.deaf.add(step.vector);
      else rig.deaf.delete(step.vector);
      break;
    case 'mask':
      if (!rig.pci.memoryDecoding) break;
      model.change(() => (model.masks[step.vector] = on));
      rig.setMask(step.vector, on);
      break;
    case 'setIrqsMask':
      model.change(() => (model.masks[step.vector] = on));
      if (on) rig.pci.maskVector(step.vector);
      else rig.pci.unmaskVector(step.vector);
      break;
    case 'receiver':
      model.change(() => (model.masks[step.vector] = !on));
      rig.pci.setReceiver(step.vector, on);
      break;
    case 'transport':
      model.change(() => (model.transport = on));
      rig.pci.enableMsix(on);
      break;
    case 'busMaster':
      model.change(() => (model.busMaster = on));
      rig.write(At.COMMAND, 2, MEMORY | (on ? BUS_MASTER : 0));
      break;
    case 'asleep':
      model.change(() => (model.asleep = on));
      rig.write(At.PMCSR, 2, on ? 3 : 0);
      break;
    default:
      model.change(() => (model[step.what] = on));
      control();
  }
}

describe('against a model', () => {
  const vector = fc.integer({ min: 0, max: 2 });
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 3, arbitrary: fc.record({ what: fc.constant('raise' as const), vector, on: fc.constant(true) }) },
    {
      weight: 3,
      arbitrary: fc.record({
        what: fc.constantFrom('mask' as const, 'setIrqsMask' as const, 'receiver' as const),
        vector,
        on: fc.boolean(),
      }),
    },
    { weight: 1, arbitrary: fc.record({ what: fc.constant('deaf' as const), vector, on: fc.boolean() }) },
    {
      weight: 3,
      arbitrary: fc.record({
        what: fc.constantFrom<Switch>('enable', 'transport', 'functionMask', 'busMaster', 'asleep'),
        on: fc.boolean(),
      }),
    },
  );

  it('S-94 S-119 S-121 nothing is lost, and nothing is delivered while it is masked or not allowed', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const rig = new Rig({ vectors: 3 });
        const model = new Model();
        rig.write(At.COMMAND, 2, MEMORY);
        for (const one of steps) {
          const calls = rig.delivered.length;
          apply(rig, model, one);
          for (const v of rig.delivered.slice(calls)) {
            expect([rig.pci.msix.masked(v), rig.pci.msix.enabled, rig.pci.busMastering]).toEqual([false, true, true]);
          }
          expect([0, 1, 2].map((v) => rig.pci.msix.pending(v))).toEqual(model.pending);
          const delivered = model.delivered.reduce((sum, n) => sum + n, 0);
          expect(rig.pci.counters).toEqual({ delivered, pended: model.pended, dropped: model.dropped });
        }
      }),
      { numRuns: 250 },
    );
  });
});
