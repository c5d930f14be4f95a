/** Limits that software chooses in CTL2 (ref §2.5), and the doorbell region (ref §2.13). */
import { describe, expect, it } from 'vitest';
import { ContextState, Reg } from '../../src/spec/index.js';
import { CSB, failed, provoke } from './expect.js';
import { atomic, copy, interrupt, nop, repcopy } from './ops.js';
import { LAYOUT, Rig } from './rig.js';

describe('CTL2: limits chosen by software (ref §2.5)', () => {
  it('O-5 CTL2 is written after ACTIVE, its max_cxt = count is clamped, and it reads back unclamped', () => {
    const rig = new Rig();
    rig.activate();
    rig.setReg(Reg.CTL2, 0x0000_0018_0040_800bn);
    expect(rig.reg(Reg.CTL2)).toBe(0x0000_0018_0040_800bn);
    rig.fn.ringDoorbell(63, 0);
    expect(rig.fn.counters.doorbellsDropped).toBe(0);
    rig.fn.ringDoorbell(64, 0);
    expect(rig.fn.counters.doorbellsDropped).toBe(1);
    const p = rig.running(1);
    const csb = rig.csb(p);
    rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 8, { csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('ref §2.5 a smaller max_cxt is in force at once', () => {
    const rig = new Rig();
    rig.activate();
    rig.setReg(Reg.CTL2, 0x0000_0018_0004_800bn);
    rig.fn.ringDoorbell(5, 0);
    expect(rig.fn.counters.doorbellsDropped).toBe(1);
    rig.fn.ringDoorbell(4, 0);
    expect(rig.fn.counters.doorbellsDropped).toBe(1);
  });

  it.each([
    ['atomic', (csb: number) => atomic(0x02, 8, LAYOUT.data, { csb })],
    ['interrupt', (csb: number) => interrupt(0, { csb })],
  ])('ref §2.5 a group taken out of opb_000_avl is gone for a context that runs: %s', (_title, encode) => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1);
    rig.akey(p, 0, { vl: 1, iv: 1 });
    const csb = rig.csb(p, 9);
    rig.run(p, encode(csb));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
    rig.setReg(Reg.CTL2, 0x003f_800bn);
    expect(provoke(rig, p, encode).csb).toBe(CSB.failed);
  });

  it.each([
    ['CAP1', { maxBuffer: 0 }, 11, undefined],
    ['CTL2', {}, 11, 0x0000_0018_003f_8000n],
    ['L1', {}, 0, undefined],
  ])(
    'O-24 S-42 max_buffer is the smallest of CAP1, CTL2 and L1, here that of %s: 2 MiB pass, one byte more does not',
    (_who, config, l1, ctl2) => {
      const rig = new Rig(config);
      rig.activate();
      if (ctl2 !== undefined) rig.setReg(Reg.CTL2, ctl2);
      const p = rig.running(1, { l1: { max_buffer: l1 } });
      const csb = rig.csb(p, 9);
      rig.run(p, repcopy(LAYOUT.data, LAYOUT.data + 4096, 2 ** 21, { csb }));
      expect(rig.hex(csb, 32)).toBe(CSB.done);
      expect(rig.readIndex(p)).toBe(1);
      const after = provoke(rig, p, (c) => repcopy(LAYOUT.data, LAYOUT.data + 4096, 2 ** 21 + 1, { csb: c }));
      expect(after.records).toEqual(failed({ step: 7, sub: 3, context: 1, index: 1 }).records);
    },
  );

  it('O-24 max_buffer = 15 in L1 is no error either', () => {
    const rig = new Rig();
    rig.activate();
    const p = rig.running(1, { l1: { max_buffer: 15 } });
    const csb = rig.csb(p);
    rig.run(p, copy(LAYOUT.data, LAYOUT.data + 64, 64, { csb }));
    expect(rig.hex(csb, 32)).toBe(CSB.done);
  });

  it('O-16 S-7 NOP, COPY and admin operations do not look at the bitmaps', () => {
    const rig = new Rig({ opGroups: 0 });
    const admin = rig.activate();
    rig.setReg(Reg.CTL2, 0x003f_800bn);
    const p = rig.running(1, { l1: { opb_000_enb: 0 } });
    const [a, b] = [rig.csb(p, 0), rig.csb(p, 1)];
    rig.run(p, nop({ csb: a }), copy(LAYOUT.data, LAYOUT.data + 64, 8, { csb: b }));
    const c = rig.csb(admin);
    rig.run(admin, nop({ csb: c }));
    expect([a, b, c].map((at) => rig.hex(at, 32))).toEqual([CSB.done, CSB.done, CSB.done]);
  });
});

describe('doorbells (ref §2.13)', () => {
  /** A context with one NOP that waits for its doorbell. */
  function waiting(config = {}) {
    const rig = new Rig(config);
    rig.activate();
    const p = rig.running(1);
    rig.write(p, 0, nop());
    rig.claim(p, 1);
    const rings = (offset: number, size: number) => {
      rig.fn.writeDoorbell(offset, size, 1n);
      rig.drain();
      return rig.readIndex(p) === 1;
    };
    return { rig, rings };
  }

  it('S-2 an 8-byte write at the start of a stride wakes the context; so does a 4-byte one', () => {
    expect(waiting().rings(0x1000, 8)).toBe(true);
    expect(waiting().rings(0x1000, 4)).toBe(true);
  });

  it('S-2 a 4-byte write at offset 4 is ignored and counted', () => {
    const { rig, rings } = waiting();
    expect(rings(0x1004, 4)).toBe(false);
    expect(rig.fn.counters.writesDropped).toBe(1);
  });

  it('S-2 with strictDoorbell only the 8-byte write counts', () => {
    const { rig, rings } = waiting({ strictDoorbell: 'on' });
    expect(rings(0x1000, 4)).toBe(false);
    expect(rig.fn.counters.writesDropped).toBe(1);
    expect(rings(0x1000, 8)).toBe(true);
  });

  it.each([
    [0x1008, 8],
    [0x1800, 8],
    [0x1001, 8],
    [0x1000, 1],
    [0x1000, 2],
    [0x1000, 16],
    [-0x1000, 8],
    [0x1000 + 0.5, 8],
  ])('S-100 a doorbell write at %s of %d bytes is dropped and counted', (offset, size) => {
    const { rig, rings } = waiting();
    expect(rings(offset, size)).toBe(false);
    expect(rig.fn.counters.writesDropped).toBe(1);
  });

  it.each([
    [0, 0x5000],
    [2, 0x14000],
    [7, 0x280000],
  ])('ref §13.3 the doorbell of context 5 with stride field %d lies at %s', (dbStride, offset) => {
    const rig = new Rig({ dbStride });
    rig.activate();
    const p = rig.prepare(5, { state: ContextState.RUN });
    rig.write(p, 0, nop());
    rig.claim(p, 1);
    rig.fn.writeDoorbell(offset, 8, 1n);
    rig.drain();
    expect(rig.readIndex(p)).toBe(1);
  });

  it.each([-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 40])('ref §2.13 a doorbell of "context" %d is ignored', (context) => {
    const rig = new Rig();
    rig.activate();
    rig.fn.ringDoorbell(context, 1);
    expect(rig.fn.step(1)).toBe(0);
    expect(rig.fn.counters).toMatchObject({ doorbellsDropped: 1, errors: 0 });
    expect(rig.fn.contexts().length).toBe(1);
  });

  it('ref §2.13 a doorbell above the effective max_cxt is ignored, wherever it lies', () => {
    const rig = new Rig();
    rig.activate();
    for (const offset of [64 * 4096, 0xffff * 4096, 2 ** 40]) rig.fn.writeDoorbell(offset, 8, 1n);
    expect(rig.fn.step(1)).toBe(0);
    expect(rig.fn.counters).toMatchObject({ doorbellsDropped: 3, errors: 0 });
  });
});
